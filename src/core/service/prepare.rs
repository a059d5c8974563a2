//! The target of a planned move prepares on its own host, while the master goes on serving.

use std::time::Duration;

use crate::catalog::At;
use crate::name::InstanceName;
use crate::observation::InstanceState;
use crate::position::Covering;
use crate::record::{Ask, MasterRecord, MasterState, Phase, RequestRecord, Stand};

use super::hold::HookState;
use super::tell::Place;
use super::{Cx, Service};

/// A copy that lacks nothing older than this keeps up, if it is so for [`WATCHED`] or what it lacks
/// is little.
const FRESH: Duration = Duration::from_secs(1);
const WATCHED: Duration = Duration::from_secs(2);
/// A request is answered so long before it runs out. Milliseconds.
const ANSWERED: i64 = 1000;

impl Service {
    /// The part of requests that other hosts than the holder's do: prepare as the target.
    pub(super) fn serve_requests(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        if at.record.state != MasterState::Serving {
            return;
        }
        let wanted = |ask: &Ask| matches!(ask, Ask::Switchover { .. });
        let Some((id, request)) = self.open_request(cx, &wanted) else { return };
        let Stand::Agreed { to } = &request.record.stand else { return };
        let Some(own) = self.own.get(to) else { return };
        // Only its own agent sees that at once; the service would wait for it without a master.
        if let Some(why) = own.state().and_then(holds_up) {
            let why = format!("replica {to}: {why}");
            self.stand(cx, &id, request, Stand::Refused(why));
            return;
        }
        if self.must_apply(cx, &id, request, to) {
            return;
        }
        let place = Place::Request(id.clone());
        match self.run_hook_at(cx, at, &place, Phase::BeforeSwitchover) {
            HookState::Ready => {
                self.stand(cx, &id, request, Stand::Prepared { to: to.clone() });
            }
            HookState::Waiting => self.doing = Some("running before-switchover hooks".to_owned()),
            HookState::Abort(why) => {
                let why = format!("a before-switchover hook said no: {why}");
                self.stand(cx, &id, request, Stand::Refused(why));
            }
        }
    }

    /// Has the target received more than it has applied, so that the service would wait for it
    /// without a master? That is waited for with the master, as long as a lag is allowed.
    fn must_apply(
        &mut self,
        cx: &mut Cx<'_>,
        id: &str,
        request: &At<RequestRecord>,
        to: &InstanceName,
    ) -> bool {
        if !self.looked_since(cx, id) {
            self.doing = Some(format!("looking at {to} before the switchover"));
            return true;
        }
        let asked = self.first_seen(cx, id);
        let waited = cx.now.time.since(asked);
        // Hooks have deadlines of their own; what they took does not count.
        let lagged = cx.now.time.since(asked.max(self.hook_ended));
        let Some(own) = self.own.get(to) else { return false };
        let Some(state) = own.state() else { return false };
        let Covering::Lacks(units) = state.applied.covers(&state.received) else { return false };
        // Few may be one that takes minutes, and many a moment's work: what counts is their age.
        let fresh = own.arrears.age(cx.now.wall) <= FRESH;
        if fresh && (waited >= WATCHED || units <= state.applied.near()) {
            return false;
        }
        let left = format!("{units} {} that it received", state.applied.unit());
        let late = cx.now.wall.0 + ANSWERED >= request.record.until.0;
        let patient = self.hook.is_some() || lagged < cx.settings.policy.max_lag;
        if late || !patient {
            let why = format!("replica {to} has not applied {left}; wait, and ask again");
            self.stand(cx, id, request, Stand::Refused(why));
        } else {
            own.observe_while(cx, to, waited);
            self.doing = Some(format!("waiting until {to} is closer: it must apply {left}"));
        }
        true
    }
}

/// Why a copy will never hold all of what it receives, as it stands.
fn holds_up(state: &InstanceState) -> Option<&str> {
    if state.applier_stopped {
        return Some("its applier is stopped, what it receives is not applied");
    }
    let filters = "it leaves out some of what it receives";
    state.filtered.then(|| state.trouble.as_deref().unwrap_or(filters))
}

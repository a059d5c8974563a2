//! An announced move: its fence, its deadline, and what is done when it does not come.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::observation::InstanceState;

use super::{
    AGAIN, At, Cause, Compare, Cx, Health, InstanceName, MasterRecord, MasterState, Op, Own,
    RequestRecord, Role, Service, Stand, Txn, put, request_key, story,
};

/// A look at an own instance that is older says nothing of now.
const LOOKED: Duration = Duration::from_secs(3);

impl Service {
    /// A move is announced: its fence, if one was asked for, and its deadline.
    pub(super) fn await_answer(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        fenced: bool,
        id: &str,
        asked: &At<RequestRecord>,
    ) {
        if fenced && matches!(asked.record.stand, Stand::Agreed { .. }) {
            self.close_holder(cx, at, id, asked);
        }
        let left = asked.record.until.0.saturating_sub(cx.now.wall.0);
        if left > 0 {
            self.doing = Some(format!("waiting for {} to say where it moved", asked.record.by));
            cx.out.wake(cx.now.time + Duration::from_millis(left.unsigned_abs()));
            return;
        }
        let holder = &at.record.holder.instance;
        let said = if cx.mine(&at.record.holder) {
            match self.unmoved(cx, at) {
                Ok(()) => return self.go_on(cx, at, Cause::Unanswered, Some((id, asked))),
                Err(why) => why,
            }
        } else {
            format!("the agent of {holder} did not say that it goes on")
        };
        cx.out.wake(cx.now.time + AGAIN);
        self.refuse(format!(
            "the move that {} announced was not answered in time: {said}; nobody is named; \
             `sengu hook generic after {} --new INSTANCE` names one that takes writes",
            asked.record.by, cx.name
        ));
    }

    /// The tool asked that the old one be closed.
    fn close_holder(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        id: &str,
        asked: &At<RequestRecord>,
    ) {
        let holder = &at.record.holder;
        if !cx.mine(holder) {
            self.doing = Some(format!("waiting for the agent of {} to fence it", holder.instance));
            return;
        }
        let name = holder.instance.clone();
        let Some(own) = self.own.get_mut(&name) else { return };
        let failed = own.fence_failed.clone();
        let closed = own.is_fenced() || own.gone(&holder.boot_id);
        if !closed && failed.is_none() {
            self.doing = Some(format!("fencing {name}"));
            own.start_fence(cx, &name, at.record.term, false);
            return;
        }
        let mut request = asked.record.clone();
        request.stand = Stand::Standing;
        request.warning = failed
            .filter(|_| !closed)
            .map(|error| format!("`{name}` could not be fenced: {error}; nobody is named"));
        let key = request_key(cx, id);
        let when = vec![Compare::Modified(key.clone(), asked.revision)];
        self.write(cx, Txn { when, then: vec![put(key, &request)], otherwise: Vec::new() });
    }

    /// Is everything as it was: the last holder stands, nobody else takes writes, and every copy
    /// was freshly seen on it?
    pub(super) fn unmoved(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) -> Result<(), String> {
        let holder = &at.record.holder;
        let names: Vec<InstanceName> = cx.view.instances.keys().cloned().collect();
        for name in names.iter().filter(|name| **name != holder.instance) {
            let record = &cx.view.instances[name].record;
            if let Some(own) = self.own.get(name) {
                if own.is_exited() {
                    continue;
                }
                let Some(state) = lately(cx, name, own) else {
                    return Err(format!("`{name}` was not seen lately"));
                };
                on_it(name, state.role, state.writable, state.source, holder.address)?;
                continue;
            }
            if !self.is_fresh(cx, record) {
                return Err(format!("the agent of `{name}` was not heard lately"));
            }
            match (&record.health, record.role) {
                (Health::Exited, _) => {}
                (Health::Up, Some(role)) => {
                    on_it(name, role, record.writable, record.source, holder.address)?;
                }
                _ => return Err(format!("`{name}` was not seen lately")),
            }
        }
        self.holder_unmoved(cx, at)
    }

    /// Does the last holder take writes, or is it closed by sengu's own fence and nothing else?
    fn holder_unmoved(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) -> Result<(), String> {
        let holder = &at.record.holder;
        let name = &holder.instance;
        let Some(own) = self.own.get_mut(name) else {
            return Err(format!("`{name}` is not configured here"));
        };
        let Some(state) = lately(cx, name, own) else {
            return Err(format!("`{name}` was not seen lately"));
        };
        if state.writable && state.role == Role::Master {
            return Ok(());
        }
        let elsewhere =
            |source: &SocketAddr| cx.view.instances.values().any(|at| at.record.address == *source);
        if let Some(source) = state.source.filter(elsewhere) {
            return Err(format!("`{name}` follows {source}"));
        }
        // What sengu did not close itself is not its to open.
        let fenced = matches!(&at.record.state, MasterState::Withdrawn { fenced: true, .. });
        if !fenced || own.boot_id.as_ref() != Some(&holder.boot_id) {
            return Err(format!("`{name}` takes no writes"));
        }
        if !own.is_fenced() {
            // The fence of an earlier life of this agent: asked for again, it is certain.
            own.start_fence(cx, name, at.record.term, false);
            return Err(format!("`{name}` is being fenced again, to be opened after"));
        }
        Ok(())
    }

    /// The last holder goes on, under a new term; the announced move ends with the same txn.
    pub(super) fn go_on(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        cause: Cause,
        asked: Option<(&str, &At<RequestRecord>)>,
    ) {
        let name = at.record.holder.instance.clone();
        let MasterState::Withdrawn { intent, .. } = &at.record.state else { return };
        let announced = self.awaited(cx, intent.as_deref());
        let (mut when, mut then): (Vec<Compare>, Vec<Op>) = (Vec::new(), Vec::new());
        let ending = asked.map(|(id, at)| (id.to_owned(), at)).into_iter().chain(announced);
        let mut seen = BTreeSet::new();
        for (id, request) in ending.filter(|(id, _)| seen.insert(id.clone())).collect::<Vec<_>>() {
            let mut ended = request.record.clone();
            let words = format!("`{name}` goes on (term {})", at.record.term.next());
            ended.stand = if cause == Cause::Unanswered {
                Stand::Refused(format!("not answered in time: {words}"))
            } else {
                Stand::Done(words)
            };
            let key = request_key(cx, &id);
            when.push(Compare::Modified(key.clone(), request.revision));
            then.push(put(key, &ended));
        }
        let story = story(cx, at, &name, cause.clone(), asked.map(|(_, at)| &at.record));
        let open = self.own.get(&name).is_some_and(Own::writable);
        let state = if open { MasterState::Serving } else { MasterState::Taken { cause } };
        self.start_term(cx, Some(at), &name, state, &story, when, then);
    }
}

/// What an own instance told within the last seconds; else it is asked now.
fn lately<'a>(cx: &mut Cx<'_>, name: &InstanceName, own: &'a Own) -> Option<&'a InstanceState> {
    let known = own
        .known
        .as_ref()
        .filter(|known| own.failing.is_none() && cx.now.time < known.sent + LOOKED);
    if known.is_none() {
        own.observe_while(cx, name, Duration::from_secs(1));
    }
    known.map(|known| &known.state)
}

/// Does a copy follow the last holder, and take no writes of its own?
fn on_it(
    name: &InstanceName,
    role: Role,
    writable: bool,
    source: Option<SocketAddr>,
    holder: SocketAddr,
) -> Result<(), String> {
    if writable {
        return Err(format!("`{name}` takes writes"));
    }
    match (role, source) {
        (Role::Replica, Some(source)) if source == holder => Ok(()),
        (_, Some(source)) => Err(format!("`{name}` follows {source}")),
        (_, None) => Err(format!("`{name}` follows nobody")),
    }
}

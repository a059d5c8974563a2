//! What people ask: adopt, release, switchover; and the end of every request.
//!
//! A request is a record. Its `stand` moves by txns that compare it, so that going on after a
//! crash, and two agents with the same thought, need no care of their own.

use std::time::Duration;

use crate::catalog::At;
use crate::event::Command;
use crate::kv::{Compare, Op, Txn};
use crate::name::InstanceName;
use crate::observation::{Role, Verdict};
use crate::policy::{Failover, Judge, Loss};
use crate::position::Covering;
use crate::record::{
    Ask, Cause, Health, InstanceRecord, Lag, MasterRecord, MasterState, RequestRecord, Stand,
};
use crate::sabotage::sabotaged;
use crate::time::Time;

use super::hold::request_key;
use super::own::Own;
use super::story::Story;
use super::{Cx, Service, put};

const READ_WITHIN: Duration = Duration::from_secs(1);
/// What cannot be done at once is refused only after this: links and looks settle. Milliseconds.
const SETTLE: i64 = 1500;

impl Service {
    /// The first request of a kind that still counts, with its id.
    pub(super) fn open_request<'a>(
        &self,
        cx: &Cx<'a>,
        wanted: &dyn Fn(&Ask) -> bool,
    ) -> Option<(String, &'a At<RequestRecord>)> {
        let term = cx.view.master.as_ref().map(|at| at.record.term);
        cx.view
            .requests
            .iter()
            .filter(|(_, at)| !at.record.stand.ended() && at.record.stand != Stand::Standing)
            .filter(|(_, at)| at.record.until > cx.now.wall)
            .filter(|(_, at)| at.record.term.is_none() || at.record.term == term)
            .find(|(_, at)| wanted(&at.record.ask))
            .map(|(id, at)| (id.clone(), at.as_ref()))
    }

    pub(super) fn failover_asked(&self, cx: &Cx<'_>, _at: &At<MasterRecord>) -> bool {
        self.open_request(cx, &|ask| matches!(ask, Ask::Failover { .. })).is_some()
    }

    /// Standing requests that ran out go; others that were not done in time are refused.
    pub(super) fn expire_requests(&mut self, cx: &mut Cx<'_>) {
        let term = cx.view.master.as_ref().map(|at| at.record.term);
        for (id, at) in &cx.view.requests {
            let request = &at.record;
            if request.stand.ended() {
                continue;
            }
            let key = request_key(cx, id);
            let moving = under_way(cx, id, request);
            let late = request.until <= cx.now.wall && !moving;
            let overtaken = request.term.is_some() && request.term < term && !moving;
            let op = if late && request.stand == Stand::Standing {
                Op::Delete(key.clone())
            } else if late || overtaken {
                let mut ended = request.clone();
                ended.stand = Stand::Refused(if late {
                    match self.before.first() {
                        Some(why) => format!("not done in time: {why}"),
                        None => "not done in time".to_owned(),
                    }
                } else if let Some(why) = failed_move(cx) {
                    why
                } else {
                    format!("overtaken: the service is in term {} now", term.unwrap_or_default())
                });
                put(key.clone(), &ended)
            } else {
                continue;
            };
            let when = vec![Compare::Modified(key, at.revision)];
            self.write(cx, Txn { when, then: vec![op], otherwise: Vec::new() });
            return;
        }
    }

    /// Moves a request on.
    pub(super) fn stand(
        &mut self,
        cx: &mut Cx<'_>,
        id: &str,
        at: &At<RequestRecord>,
        stand: Stand,
    ) {
        let mut request = at.record.clone();
        request.stand = stand;
        let key = request_key(cx, id);
        let when = vec![Compare::Modified(key.clone(), at.revision)];
        let then = vec![put(key, &request)];
        let written = self.write(cx, Txn { when, then, otherwise: Vec::new() });
        if let Stand::Refused(why) = &request.stand
            && written.is_some()
        {
            cx.out.say(cx.name, false, format!("refused: {why}"));
        }
    }

    pub(super) fn end_request_of(
        &mut self,
        cx: &mut Cx<'_>,
        wanted: &dyn Fn(&Ask) -> bool,
        stand: Stand,
    ) {
        if let Some((id, at)) = self.open_request(cx, wanted) {
            self.stand(cx, &id, at, stand);
        }
    }

    /// A new master serves: the requests that asked for it are done.
    pub(super) fn end_requests(&self, cx: &Cx<'_>, record: &MasterRecord, then: &mut Vec<Op>) {
        for (id, at) in &cx.view.requests {
            let request = &at.record;
            if request.stand.ended() || request.stand == Stand::Standing {
                continue;
            }
            let done = match &request.ask {
                Ask::Switchover { to } | Ask::Failover { to, .. } => {
                    request.term.map(crate::name::Term::next) == Some(record.term)
                        && to.as_ref().is_none_or(|to| *to == record.holder.instance)
                }
                Ask::Adopt { .. } => true,
                Ask::Release
                | Ask::Pause
                | Ask::Freeze
                | Ask::Drain { .. }
                | Ask::Before(_)
                | Ask::After { .. } => false,
            };
            if done {
                let mut ended = request.clone();
                let (who, term) = (&record.holder.instance, record.term);
                ended.stand = Stand::Done(format!("`{who}` is master (term {term})"));
                then.push(put(request_key(cx, id), &ended));
            }
        }
    }

    /// `sengu adopt`.
    pub(super) fn adoption(&mut self, cx: &mut Cx<'_>) {
        let Some((id, at)) = self.open_request(cx, &|ask| matches!(ask, Ask::Adopt { .. })) else {
            return;
        };
        let Ask::Adopt { master } = &at.record.ask else { return };
        if !self.looked_since(cx, &id) {
            self.doing = Some("looking at every instance before the adoption".to_owned());
            return;
        }
        // What is still being looked at is waited for, not held against anybody.
        let undecided = cx.view.instances.iter().find(|(_, at)| {
            let record = &at.record;
            record.health == Health::Up
                && [&record.starts_fenced, &record.killable, &record.replication]
                    .contains(&&Verdict::Unknown)
        });
        if let Some((name, _)) = undecided {
            self.doing = Some(format!("looking at how {name} starts"));
            cx.out.wake(cx.now.time + Duration::from_millis(250));
            return;
        }
        match adoptable(cx, master.as_ref()) {
            Ok((name, cold)) => {
                let ours = self.own.get(&name).is_some_and(|own| own.boot_id.is_some());
                if ours {
                    self.adopt(cx, &id, at, &name, cold);
                } else {
                    self.doing = Some(format!("waiting for the agent of {name} to adopt"));
                }
            }
            Err(wrong) => {
                self.doing = Some(format!("not adopted yet: {}", wrong.join("; ")));
                let settled = at.record.at.0 + SETTLE;
                let speaker = cx
                    .view
                    .instances
                    .keys()
                    .next()
                    .is_none_or(|first| self.own.contains_key(first));
                if speaker && cx.now.wall.0 >= settled {
                    self.stand(cx, &id, at, Stand::Refused(wrong.join("; ")));
                } else {
                    cx.out.wake(cx.now.time + Duration::from_millis(250));
                }
            }
        }
    }

    /// When this request was first seen here.
    pub(super) fn first_seen(&mut self, cx: &Cx<'_>, id: &str) -> Time {
        if let Some((seen, since)) = &self.asked_seen
            && seen == id
        {
            return *since;
        }
        self.asked_seen = Some((id.to_owned(), cx.now.time));
        cx.now.time
    }

    /// Was every instance here looked at since this request was first seen? What was seen before
    /// a person asked may have changed by the same person's hand.
    pub(super) fn looked_since(&mut self, cx: &mut Cx<'_>, id: &str) -> bool {
        let since = self.first_seen(cx, id);
        let mut all = true;
        for (name, own) in &self.own {
            if own.is_exited() {
                continue; // Its end was told; there is nothing to look at.
            }
            let answered = own.known.as_ref().is_some_and(|known| known.sent >= since);
            let failed = own.failing.is_some() && own.observed_at >= since;
            if !answered && !failed {
                own.observe(cx, name);
                all = false;
            }
        }
        all && self.publishing.is_none()
    }

    fn adopt(
        &mut self,
        cx: &mut Cx<'_>,
        id: &str,
        at: &At<RequestRecord>,
        name: &InstanceName,
        cold: bool,
    ) {
        let Some(own) = self.own.get(name) else { return };
        let Some(state) = own.state() else { return };
        let key = request_key(cx, id);
        let mut when = vec![Compare::Modified(key.clone(), at.revision)];
        let mut then = Vec::new();
        let mut story = Story::new(Cause::Adopted, None);
        story.loss = "nothing".to_owned();
        story.asked_by = Some(at.record.asker());
        for (other, record) in &cx.view.instances {
            let key = crate::record::key::instance(cx.name, other);
            when.push(Compare::Modified(key, record.revision));
        }
        let old = cx.view.master.as_ref();
        if cold {
            let state = MasterState::Taken { cause: Cause::Adopted };
            self.start_term(cx, old, name, state, &story, when, then);
            return;
        }
        if !state.writable {
            own.observe(cx, name);
            return;
        }
        let mut done = at.record.clone();
        done.stand = Stand::Done(format!("`{name}` is master, as it was"));
        then.push(put(key, &done));
        self.start_term(cx, old, name, MasterState::Serving, &story, when, then);
    }

    /// `sengu release`.
    pub(super) fn release(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let Some((id, asked)) = self.open_request(cx, &|ask| matches!(ask, Ask::Release)) else {
            return;
        };
        let may = match &at.record.state {
            MasterState::Serving => {
                let own = self.own.get(&at.record.holder.instance);
                let giving = cx.view.requests.values().any(|request| {
                    request.record.until > cx.now.wall
                        && matches!(request.record.stand, Stand::Prepared { .. })
                });
                cx.mine(&at.record.holder)
                    && !giving
                    && own.is_none_or(|own| !own.busy() && !own.is_fenced())
            }
            MasterState::Vacant { .. }
            | MasterState::Lapsed
            | MasterState::FenceFailed { .. }
            | MasterState::Withdrawn { .. } => true,
            // A taker that was taken out of the configuration is nobody's to open.
            MasterState::Taken { .. } => {
                let holder = &at.record.holder;
                cx.mine(holder) && !self.own.contains_key(&holder.instance)
            }
            MasterState::Giving { .. } | MasterState::Unmanaged => false,
        };
        if !may {
            self.doing = Some("waiting until the move under way ends before release".to_owned());
            return;
        }
        if self.parting(cx, at) {
            self.doing =
                Some("letting commits go on without acknowledgements before release".to_owned());
            return;
        }
        let mut record = at.record.clone();
        record.state = MasterState::Unmanaged;
        record.external = None;
        record.frozen = None;
        record.since = cx.now.wall;
        let key = request_key(cx, &id);
        let mut done = asked.record.clone();
        let as_it_was =
            matches!(at.record.state, MasterState::Serving | MasterState::Withdrawn { .. });
        done.stand = Stand::Done(if as_it_was {
            released(cx.settings.policy.loss).to_owned()
        } else {
            "released; no copy takes writes: open one by hand, or adopt again with `--master`"
                .to_owned()
        });
        let when = vec![Compare::Modified(key.clone(), asked.revision)];
        self.write_master(cx, Some(at), &record, when, vec![put(key, &done)]);
    }

    /// A switchover that this host's instance gives. `true`: it is past the point where the
    /// ordinary care of a serving master applies.
    pub(super) fn switching(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) -> bool {
        let wanted = |ask: &Ask| matches!(ask, Ask::Switchover { .. });
        let Some((id, request)) = self.open_request(cx, &wanted) else { return false };
        let Ask::Switchover { to } = &request.record.ask else { return false };
        match &request.record.stand {
            Stand::Asked => {
                if !self.looked_since(cx, &id) {
                    self.doing = Some("looking at every instance before the switchover".to_owned());
                    return false;
                }
                let target = self.target(cx, at, to.as_ref());
                match target.and_then(|to| self.unobstructed(cx, at).map(|()| to)) {
                    Ok(to) => self.stand(cx, &id, request, Stand::Agreed { to }),
                    // A link that is just being made, after the move before, is given its time.
                    Err(why) if cx.now.wall.0 < request.record.at.0 + SETTLE => {
                        self.doing = Some(format!("waiting for a target: {why}"));
                        self.asked_seen = None;
                        cx.out.wake(cx.now.time + Duration::from_millis(250));
                    }
                    Err(why) => self.stand(cx, &id, request, Stand::Refused(why)),
                }
                false
            }
            Stand::Agreed { to } => {
                self.doing = Some(format!("waiting for the host of {to} to prepare"));
                false
            }
            Stand::Prepared { to } => self.give(cx, at, &id, request, to),
            Stand::Standing | Stand::Done(_) | Stand::Refused(_) => false,
        }
    }

    /// Does nothing on the master stand in the way of a planned move?
    fn unobstructed(&self, cx: &Cx<'_>, at: &At<MasterRecord>) -> Result<(), String> {
        let holder = &at.record.holder.instance;
        let bound = cx.view.instances.get(holder).map(|at| &at.record.bound);
        if let Some(Verdict::Bad(why)) = bound {
            return Err(format!(
                "on `{holder}`: {why}: it could be fenced only by the end of its process, which \
                 is for a failover"
            ));
        }
        let obstacles = self.own.get(holder).and_then(Own::state).map(|state| &state.obstacles);
        match obstacles {
            Some(obstacles) if !obstacles.is_empty() => Err(format!(
                "on `{holder}`: {}; let it end, or end it, and ask again",
                obstacles.join("; ")
            )),
            _ => Ok(()),
        }
    }

    /// Fences the giver, reads its position twice, hands over.
    fn give(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        id: &str,
        request: &At<RequestRecord>,
        to: &InstanceName,
    ) -> bool {
        let name = at.record.holder.instance.clone();
        let paused = sabotaged!(PauseIsFence);
        if !paused && !self.own.get(&name).is_some_and(Own::is_fenced) {
            if let Err(why) = self.near(cx, &name, to) {
                self.doing = Some(why);
                return false;
            }
            let Some(own) = self.own.get_mut(&name) else { return false };
            if let Some(error) = own.fence_failed.take() {
                let why = format!("`{name}` could not be fenced ({error}); it goes on as master");
                self.stand(cx, id, request, Stand::Refused(why));
                return true;
            }
            self.doing = Some(format!("fencing {name}"));
            own.start_fence(cx, &name, at.record.term, false);
            return true;
        }
        let Some(own) = self.own.get_mut(&name) else { return false };
        self.doing = Some(format!("reading the final position of {name}"));
        if own.reads < 2 {
            if cx.now.time < own.retry_at {
                cx.out.wake(own.retry_at);
            } else if own.lane.is_none() {
                let command = if paused && own.reads == 0 {
                    Command::Pause { hold: Duration::from_millis(50) }
                } else {
                    Command::Read
                };
                own.command(cx, &name, at.record.term, command, READ_WITHIN);
            }
            return true;
        }
        let Some(state) = own.state() else { return true };
        let mut record = at.record.clone();
        record.state = MasterState::Giving {
            to: to.clone(),
            position: match own.trail.last() {
                Some(earlier) if sabotaged!(PositionBeforeFence) => earlier.clone(),
                _ => state.applied.clone(),
            },
            request: id.to_owned(),
        };
        record.since = cx.now.wall;
        let when = vec![Compare::Modified(request_key(cx, id), request.revision)];
        self.write_master(cx, Some(at), &record, when, Vec::new());
        true
    }

    /// Is the target so close that the rest arrives while the giver is fenced?
    fn near(&self, cx: &mut Cx<'_>, giver: &InstanceName, to: &InstanceName) -> Result<(), String> {
        let (Some(giver), Some(target)) = (self.own.get(giver), self.own.get(to)) else {
            return Ok(()); // On another host: its lag class was looked at.
        };
        let (Some(mine), Some(theirs)) = (giver.state(), target.state()) else {
            return Err(format!("waiting for a fresh look at {to}"));
        };
        match theirs.applied.covers(&mine.applied) {
            Covering::Covers(_) => Ok(()),
            Covering::Lacks(units) if units <= mine.applied.near() => Ok(()),
            Covering::Lacks(units) => {
                target.observe(cx, to);
                let unit = mine.applied.unit();
                Err(format!("waiting until {to} is closer: {units} {unit} behind"))
            }
            Covering::Incomparable => Err(format!("{to} does not have the master's history")),
        }
    }

    /// What [`Service::switching`] would agree to, without a request.
    pub(crate) fn would_switch(
        &self,
        cx: &Cx<'_>,
        asked: Option<&InstanceName>,
    ) -> Result<InstanceName, String> {
        let adopt = || format!("{0} is not adopted: run `sengu adopt {0}` first", cx.name);
        let at = cx.view.master.as_ref().ok_or_else(adopt)?;
        if super::external::is_external(cx, &at.record) {
            return Err(format!("another tool moves {}: ask that one", cx.name));
        }
        match &at.record.state {
            MasterState::Serving => {
                let target = self.target(cx, at, asked)?;
                self.unobstructed(cx, at).map(|()| target)
            }
            MasterState::Unmanaged => Err(adopt()),
            MasterState::Taken { .. } | MasterState::Giving { .. } => {
                Err("mastership is moving at this moment; wait until it is served".to_owned())
            }
            MasterState::Vacant { .. }
            | MasterState::Lapsed
            | MasterState::FenceFailed { .. }
            | MasterState::Withdrawn { .. } => {
                Err(format!("no master works; `sengu failover {}` chooses another", cx.name))
            }
        }
    }

    /// Whom to hand over to.
    fn target(
        &self,
        cx: &Cx<'_>,
        at: &At<MasterRecord>,
        asked: Option<&InstanceName>,
    ) -> Result<InstanceName, String> {
        let holder = &at.record.holder;
        if let Some(why) = cx.any_newer() {
            return Err(why);
        }
        if self.attempts_spent(cx, &at.record) {
            return Err("too many switchovers were undone lately; see `sengu history`".to_owned());
        }
        if let Some(asked) = asked {
            if *asked == holder.instance {
                return Err(format!("`{asked}` is the master already"));
            }
            if !cx.view.instances.contains_key(asked) {
                let known: Vec<&str> = cx.view.instances.keys().map(InstanceName::as_str).collect();
                return Err(format!("no instance `{asked}`; there are {}", known.join(", ")));
            }
        }
        let mut good: Vec<(bool, u32, bool, &InstanceName)> = Vec::new();
        let mut wrong = Vec::new();
        for (name, record) in &cx.view.instances {
            if *name == holder.instance || asked.is_some_and(|asked| asked != name) {
                continue;
            }
            match self.fit_target(cx, at, name, &record.record) {
                Ok(()) => {
                    let far = !cx.view.is_near(&holder.instance, &record.record);
                    // The service would wait for one that is behind.
                    good.push((record.record.lag == Lag::Some, record.record.priority, far, name));
                }
                Err(why) => wrong.push(why),
            }
        }
        good.sort();
        match good.first() {
            Some((.., name)) => Ok((*name).clone()),
            None if wrong.is_empty() => Err("there is no replica".to_owned()),
            None => Err(wrong.join("; ")),
        }
    }

    fn fit_target(
        &self,
        cx: &Cx<'_>,
        at: &At<MasterRecord>,
        name: &InstanceName,
        record: &InstanceRecord,
    ) -> Result<(), String> {
        let limit = cx.settings.policy.max_lag;
        if record.health != Health::Up {
            return Err(format!("replica {name}: {}", super::own::health_words(&record.health)));
        }
        if record.priority == 0 {
            return Err(format!("replica {name} has priority 0 (never promote)"));
        }
        if cx.view.drained(name) {
            return Err(format!(
                "replica {name} is drained: `sengu undrain {} {name}` ends that",
                cx.name
            ));
        }
        if let Some(why) = &record.quarantine {
            return Err(format!("replica {name} is quarantined: {why}"));
        }
        if let Verdict::Bad(why) = &record.replication {
            return Err(format!("replica {name}: {why}"));
        }
        if record.source != Some(at.record.holder.address) {
            return Err(format!("replica {name} does not follow `{}`", at.record.holder.instance));
        }
        if record.syncing {
            return Err(format!("replica {name} is being copied to; wait until it is in step"));
        }
        if let Some(why) = &record.trouble {
            return Err(format!("replica {name}: {why}"));
        }
        if !record.link_up {
            return Err(format!("replica {name} has no link to the master"));
        }
        if let Some(lag) = self.lag(cx, name)
            && lag > limit
        {
            return Err(format!(
                "replica {name} is {} s behind (limit {} s); wait, or raise max_lag for service {}",
                lag.as_secs(),
                limit.as_secs(),
                cx.name
            ));
        }
        if record.lag == Lag::Far {
            return Err(format!(
                "replica {name} is more than {} s behind; wait, or raise max_lag for service {}",
                limit.as_secs(),
                cx.name
            ));
        }
        Ok(())
    }
}

/// Is this request on its way: will how the move ends end it?
fn under_way(cx: &Cx<'_>, id: &str, request: &RequestRecord) -> bool {
    let Some(record) = cx.view.master.as_ref().map(|at| &at.record) else { return false };
    let moves = match &request.ask {
        Ask::Adopt { .. } => request.term.is_none(),
        Ask::Switchover { .. } | Ask::Failover { .. } => {
            request.term.map(crate::name::Term::next) == Some(record.term)
        }
        Ask::Release
        | Ask::Pause
        | Ask::Freeze
        | Ask::Drain { .. }
        | Ask::Before(_)
        | Ask::After { .. } => false,
    };
    match &record.state {
        MasterState::Withdrawn { intent, .. } => intent.as_deref() == Some(id),
        MasterState::Giving { request: giving, .. } => giving == id,
        MasterState::Taken { .. } => moves,
        MasterState::Serving
        | MasterState::Vacant { .. }
        | MasterState::Lapsed
        | MasterState::FenceFailed { .. }
        | MasterState::Unmanaged => false,
    }
}

/// What a release of a service with an open master did.
fn released(loss: Loss) -> &'static str {
    match loss {
        Loss::Bounded => "released: nothing was changed on the databases",
        Loss::None => {
            "released: commits wait for no acknowledgement any more; nothing else was changed on the \
             databases"
        }
    }
}

/// What became of the last move, if it was undone or failed.
fn failed_move(cx: &Cx<'_>) -> Option<String> {
    let record = &cx.view.master.as_ref()?.record;
    if let MasterState::Vacant { cause: Cause::PromotionFailed(why), .. } = &record.state {
        return Some(format!("the move failed: {why}"));
    }
    let history = &cx.view.history.get(&record.term)?.record;
    let Cause::SwitchoverUndone(why) = &history.cause else { return None };
    Some(format!("undone: {why}; `{}` goes on as master", history.to))
}

/// May the service be adopted, by which instance, and is it a cold start?
fn adoptable(
    cx: &Cx<'_>,
    named: Option<&InstanceName>,
) -> Result<(InstanceName, bool), Vec<String>> {
    let policy = &cx.settings.policy;
    let mut wrong: Vec<String> = cx.any_newer().into_iter().collect();
    let instances = &cx.view.instances;
    for (name, at) in instances {
        if at.record.health != Health::Up {
            wrong.push(format!("`{name}`: {}", super::own::health_words(&at.record.health)));
        }
        if policy.failover == Failover::Auto {
            unprepared(name, &at.record, &mut wrong);
        } else if policy.failover == Failover::Manual {
            held_against(name, &[&at.record.replication], &mut wrong);
        }
        if policy.loss == Loss::None {
            held_against(name, &[&at.record.lossless], &mut wrong);
        }
        if at.record.policy != *policy {
            wrong.push(format!("the policy on host {} differs from this one", at.record.host));
        }
        let ours = at.record.agent == cx.config.agent;
        if matches!(cx.config.judge, Judge::Alone { .. }) && !ours {
            wrong.push(format!(
                "`{name}` is on host {}: the embedded store is for one host",
                at.record.host
            ));
        }
        if matches!(cx.config.judge, Judge::Alone { .. }) {
            wrong.extend(followed_elsewhere(cx, name, &at.record));
        }
    }
    let master = match opened(cx, named, &mut wrong) {
        Opened::One(master) => Some(master),
        Opened::Cold(master) if wrong.is_empty() => return Ok((master.clone(), true)),
        Opened::Cold(_) | Opened::Unclear => None,
    };
    if let Some(master) = master {
        let address = instances[master].record.address;
        for (name, at) in instances.iter().filter(|(name, _)| *name != master) {
            if at.record.source != Some(address) || !at.record.link_up {
                wrong.push(follower(name, &at.record, master));
            }
        }
    }
    match master {
        Some(master) if wrong.is_empty() => Ok((master.clone(), false)),
        _ => Err(wrong),
    }
}

/// One judge per store, and this copy follows somebody that the store knows nothing of: that one
/// may be the master of another agent with a store of its own. What a fence points to is local.
fn followed_elsewhere(cx: &Cx<'_>, name: &InstanceName, record: &InstanceRecord) -> Option<String> {
    let source = record.source.filter(|source| !source.ip().is_loopback() || record.link_up)?;
    let known = cx.view.instances.values().any(|at| at.record.address == source);
    (!known).then(|| {
        format!(
            "`{name}` follows {source}, which is no instance of `{}` on this host: the embedded \
             store is for one host, and another agent may hold that one; use a shared store, or \
             end its replication by hand if nobody does",
            cx.name
        )
    })
}

/// Who takes writes.
enum Opened<'a> {
    /// Exactly one, and it is the one that was named, if one was.
    One(&'a InstanceName),
    /// Nobody, and a person named this one.
    Cold(&'a InstanceName),
    /// Anything else; it was said what.
    Unclear,
}

fn opened<'a>(cx: &Cx<'a>, named: Option<&InstanceName>, wrong: &mut Vec<String>) -> Opened<'a> {
    let instances = &cx.view.instances;
    let writable: Vec<&InstanceName> =
        instances.iter().filter(|(_, at)| at.record.writable).map(|(name, _)| name).collect();
    let known = named.and_then(|named| instances.get_key_value(named));
    match (writable.as_slice(), named) {
        ([one], None) => return Opened::One(one),
        ([one], Some(named)) if *one == named => return Opened::One(one),
        ([one], Some(named)) => wrong.push(format!("`{one}` takes writes, not `{named}`")),
        ([], Some(_)) if cx.settings.policy.failover == Failover::External => wrong.push(
            "no instance takes writes, and with `failover = \"external\"` sengu opens none: open \
             one with the tool that moves this service"
                .to_owned(),
        ),
        ([], Some(named)) => match known {
            Some((known, _)) => return Opened::Cold(known),
            None => wrong.push(format!("no instance `{named}`")),
        },
        ([], None) => wrong
            .push("no instance takes writes: name the one that shall, with `--master`".to_owned()),
        (many, _) => {
            let list: Vec<&str> = many.iter().map(|name| name.as_str()).collect();
            wrong.push(format!("{} take writes; exactly one must", list.join(" and ")));
        }
    }
    Opened::Unclear
}

fn follower(name: &InstanceName, record: &InstanceRecord, master: &InstanceName) -> String {
    match (record.role, record.source) {
        (Some(Role::Replica), Some(source)) if record.link_up => {
            format!("`{name}` follows {source}, not `{master}`")
        }
        (Some(Role::Replica), Some(source)) => {
            format!("`{name}` follows {source} and has no link to it")
        }
        _ => format!("`{name}` does not follow `{master}`"),
    }
}

/// starts-fenced, and a kill proven possible: what `auto` asks of each instance. Whom read-only
/// does not bind only that kill can fence.
pub(super) fn unprepared(name: &InstanceName, record: &InstanceRecord, wrong: &mut Vec<String>) {
    held_against(name, &[&record.starts_fenced, &record.killable, &record.replication], wrong);
    if let Verdict::Bad(why) = &record.bound
        && !(record.policy.kill && record.killable.is_good())
    {
        wrong.push(format!("`{name}`: {why}"));
    }
    if !record.policy.kill {
        wrong.push(format!(
            "`{name}`: `auto` needs a fence that always ends: set `kill = true`, or \
             `failover = \"manual\"`"
        ));
    }
}

fn held_against(name: &InstanceName, verdicts: &[&Verdict], wrong: &mut Vec<String>) {
    for verdict in verdicts {
        match verdict {
            Verdict::Good => {}
            Verdict::Bad(_) if sabotaged!(UnfencedFileAdopted, ExitWithoutFileCounts) => {}
            Verdict::Bad(why) => wrong.push(format!("`{name}`: {why}")),
            Verdict::Unknown => wrong.push(format!("`{name}`: not looked at yet")),
        }
    }
}

//! Another tool moves this service (`failover = "external"`): what is seen and told is published,
//! and nothing else is done.
//!
//! An announced move (`before`) withdraws the name and is waited for; its answer (`after`) is
//! believed once the instance that it names alone takes writes. Without a word of the tool the
//! roles alone move the name: exactly one that takes writes is named, of two none is. Nothing is
//! promoted here, no copy is pointed anywhere, and nothing is fenced unless the tool asked for it;
//! what was fenced so is opened again where the announced move did not come.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::catalog::At;
use crate::event::LookOutcome;
use crate::kv::{Compare, Op, Txn};
use crate::name::InstanceName;
use crate::observation::Role;
use crate::policy::{Failover, Judge};
use crate::record::{
    Announced, Ask, Cause, External, Health, InstanceRecord, MasterRecord, MasterState,
    RequestRecord, Stand,
};

use super::hold::request_key;
use super::own::Own;
use super::story::Story;
use super::{CLOSED_LOOKS, Cx, Service, put};

/// Looks in a row that show an instance open before it is named without a word of the tool.
const OPEN_LOOKS: u32 = 3;
/// How soon an instance that is waited for is looked at again.
const AGAIN: Duration = Duration::from_millis(250);
/// A look at an own instance that is older says nothing of now.
const LOOKED: Duration = Duration::from_secs(3);

/// Who takes writes as a master, as far as it is known at this moment.
type Claims = BTreeSet<InstanceName>;

/// Is this service another tool's to move, by its record or by its policy here?
pub(super) fn is_external(cx: &Cx<'_>, record: &MasterRecord) -> bool {
    record.external.is_some() || cx.settings.policy.failover == Failover::External
}

/// What a new term of such a service begins with.
pub(super) fn begin(cx: &Cx<'_>, last: Option<&MasterRecord>, cause: &Cause) -> Option<External> {
    let before = last.and_then(|last| last.external.as_ref());
    let intent = last.and_then(|last| match &last.state {
        MasterState::Withdrawn { intent, .. } => intent.clone(),
        _ => None,
    });
    (cx.settings.policy.failover == Failover::External).then(|| External {
        lease_ms: match cx.config.judge {
            Judge::Alone { .. } => None,
            Judge::Shared { lease, .. } => u64::try_from(lease.as_millis()).ok(),
        },
        told: *cause == Cause::Told,
        epoch: before.and_then(|before| before.epoch),
        unanswered: intent.filter(|_| *cause == Cause::Unanswered),
    })
}

/// What an instance's own words make of it: does it take writes as a master?
pub(super) fn claims(role: Option<Role>, writable: bool, health: &Health) -> bool {
    let answers = matches!(health, Health::Up | Health::Troubled(_));
    answers && writable && role == Some(Role::Master)
}

impl Service {
    /// Does what can be done for a service that another tool moves.
    pub(super) fn external(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        self.finish_hook(cx);
        self.release(cx, at);
        if !self.agree(cx, at) {
            return;
        }
        match &at.record.state {
            MasterState::Serving => {
                self.hear_before(cx, at, None);
                self.hear_after(cx, at);
                self.watch_named(cx, at);
            }
            MasterState::Withdrawn { cause, intent, fenced } => {
                let waited = self.awaited(cx, intent.as_deref());
                self.hear_before(cx, at, waited.as_ref());
                self.hear_after(cx, at);
                match waited {
                    Some((id, asked)) => self.await_answer(cx, at, *fenced, &id, asked),
                    None => self.name_the_one(cx, at, cause, *fenced),
                }
            }
            MasterState::Taken { .. } if cx.mine(&at.record.holder) => {
                let others = self.claimed(cx, at).is_none_or(|found| {
                    found.iter().any(|name| *name != at.record.holder.instance)
                });
                if others {
                    self.give_up(cx, at, "another instance takes writes");
                } else {
                    self.hold(cx, at);
                }
            }
            MasterState::Taken { .. } => {}
            MasterState::Vacant { .. }
            | MasterState::Lapsed
            | MasterState::Giving { .. }
            | MasterState::FenceFailed { .. } => self.refuse(format!(
                "the record is {} from a time when sengu moved this service: `sengu release {1}`, \
                 then `sengu adopt {1}`",
                at.record.state.word(),
                cx.name
            )),
            MasterState::Unmanaged => {}
        }
    }

    /// Do the record and the policy here say the same? If not, nothing is done, and that is said.
    fn agree(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) -> bool {
        let again = format!("`sengu release {0}`, then `sengu adopt {0}`", cx.name);
        match (&at.record.external, cx.settings.policy.failover) {
            (Some(_), Failover::External) => true,
            (Some(_), Failover::Auto | Failover::Manual) => {
                self.refuse(format!(
                    "term {} was begun under `failover = \"external\"`, and this host's file says \
                     otherwise: make the files of all hosts equal; {again}, puts sengu in charge",
                    at.record.term
                ));
                false
            }
            (None, _) => {
                self.refuse(format!(
                    "term {} was begun while sengu moved this service: {again}, leaves it to \
                     another tool",
                    at.record.term
                ));
                false
            }
        }
    }

    /// The announced move that is waited for, if it still stands.
    fn awaited<'a>(
        &self,
        cx: &Cx<'a>,
        intent: Option<&str>,
    ) -> Option<(String, &'a At<RequestRecord>)> {
        let id = intent?;
        let at = cx.view.requests.get(id).filter(|at| !at.record.stand.ended())?;
        Some((id.to_owned(), at))
    }

    /// `before`: withdraws the name, or says why not.
    fn hear_before(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        waited: Option<&(String, &At<RequestRecord>)>,
    ) {
        let Some((id, asked)) = self.open_request(cx, &|ask| matches!(ask, Ask::Before(_))) else {
            return;
        };
        let Ask::Before(announced) = &asked.record.ask else { return };
        if asked.record.stand != Stand::Asked {
            return;
        }
        if let Err(why) = acceptable(cx, &at.record, announced, waited) {
            self.stand(cx, &id, asked, Stand::Refused(why));
            return;
        }
        let mut record = at.record.clone();
        let was = matches!(&at.record.state, MasterState::Withdrawn { fenced: true, .. });
        record.state = MasterState::Withdrawn {
            cause: Cause::Announced,
            intent: Some(id.clone()),
            fenced: announced.fence || was,
        };
        record.since = cx.now.wall;
        if let (Some(external), Some(epoch)) = (&mut record.external, announced.epoch) {
            external.epoch = external.epoch.max(Some(epoch));
        }
        let mut request = asked.record.clone();
        // A fence that was asked for is still to come; without one it is in force.
        request.stand = if announced.fence {
            Stand::Agreed { to: at.record.holder.instance.clone() }
        } else {
            Stand::Standing
        };
        let key = request_key(cx, &id);
        let mut when = vec![Compare::Modified(key.clone(), asked.revision)];
        let mut then = vec![put(key, &request)];
        if let Some((old, over)) = waited {
            let key = request_key(cx, old);
            let mut ended = over.record.clone();
            ended.stand = Stand::Refused(format!("overtaken by {id}"));
            when.push(Compare::Modified(key.clone(), over.revision));
            then.push(put(key, &ended));
        }
        if self.write_master(cx, Some(at), &record, when, then).is_some() {
            let text = format!(
                "`{}` is withdrawn: {} announced a move",
                at.record.holder.instance, asked.record.by
            );
            cx.out.say(cx.name, false, text);
        }
    }

    /// `after`: the agent of the instance that it names looks, and publishes or refuses.
    fn hear_after(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let Some((id, asked)) = self.open_request(cx, &|ask| matches!(ask, Ask::After { .. }))
        else {
            return;
        };
        let Ask::After { to, epoch } = &asked.record.ask else { return };
        cx.out.wake(cx.now.time + AGAIN);
        if !self.own.contains_key(to) {
            self.doing = Some(format!("waiting for the agent of {to} to look at it"));
            return;
        }
        if let Err(why) = believable(cx, &at.record, to, *epoch) {
            self.stand(cx, &id, asked, Stand::Refused(why));
            return;
        }
        if paused(cx) {
            self.refuse(format!("paused: `sengu resume {}` lets the name move again", cx.name));
            return;
        }
        let serving = at.record.state == MasterState::Serving;
        if serving && at.record.holder.instance == *to {
            self.note_word(cx, at, &id, asked, *epoch);
            return;
        }
        if !self.looked_since(cx, &id) {
            self.doing = Some(format!("looking at {to}, which is told to be the new master"));
            return;
        }
        let Some(found) = self.claimed(cx, at) else { return };
        let others: Vec<&InstanceName> = found.iter().filter(|name| *name != to).collect();
        if let Some(other) = others.first() {
            self.refuse(format!(
                "`{to}` was told to be the new master, and `{other}` takes writes: nobody is named \
                 until it is closed"
            ));
        } else if !found.contains(to) {
            self.undo_for(cx, at, to, &id, asked);
        } else if serving {
            // Its own agent withdraws it as soon as that is certain; it is not named meanwhile.
            self.doing = Some(format!("waiting until {} is withdrawn", at.record.holder.instance));
        } else {
            self.publish_told(cx, at, to, &id, asked);
        }
    }

    /// The tool says that the one it had closed by sengu stays: its fence is undone.
    fn undo_for(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        to: &InstanceName,
        id: &str,
        asked: &At<RequestRecord>,
    ) {
        let fenced = matches!(&at.record.state, MasterState::Withdrawn { fenced: true, .. });
        if fenced && at.record.holder.instance == *to {
            match self.unmoved(cx, at) {
                Ok(()) => self.go_on(cx, at, Cause::Told, Some((id, asked))),
                Err(why) => self.refuse(format!("`{to}` is not opened again: {why}")),
            }
            return;
        }
        self.refuse(format!(
            "`{to}` was told to be the new master, and it takes no writes: sengu promotes nobody \
             here; open it, and say so again"
        ));
    }

    /// It is named already: the tool's word is noted once.
    fn note_word(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        id: &str,
        asked: &At<RequestRecord>,
        epoch: Option<u64>,
    ) {
        let holder = &at.record.holder.instance;
        let done = Stand::Done(format!("`{holder}` is master already (term {})", at.record.term));
        let mut record = at.record.clone();
        if let Some(external) = &mut record.external {
            external.told = true;
            external.epoch = external.epoch.max(epoch);
        }
        if record == at.record {
            self.stand(cx, id, asked, done);
            return;
        }
        let mut request = asked.record.clone();
        request.stand = done;
        request.warning = Some("nobody had announced it: it was seen before it was told".into());
        let key = request_key(cx, id);
        let when = vec![Compare::Modified(key.clone(), asked.revision)];
        self.write_master(cx, Some(at), &record, when, vec![put(key, &request)]);
    }

    /// Told, looked at, and alone: from now on it is named.
    fn publish_told(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        to: &InstanceName,
        id: &str,
        asked: &At<RequestRecord>,
    ) {
        let MasterState::Withdrawn { intent, .. } = &at.record.state else { return };
        let announced = self.awaited(cx, intent.as_deref());
        let mut done = asked.record.clone();
        let next = at.record.term.next();
        done.stand = Stand::Done(format!("`{to}` is master (term {next})"));
        if announced.is_none() {
            done.warning = Some("nobody had announced the move".to_owned());
        }
        let mut when = Vec::new();
        let mut then = Vec::new();
        for (id, at, stand) in std::iter::once((id.to_owned(), asked, None))
            .chain(announced.map(|(id, at)| (id, at, Some("the tool moved it"))))
        {
            let key = request_key(cx, &id);
            let mut ended = done.clone();
            if let Some(words) = stand {
                ended = at.record.clone();
                ended.stand = Stand::Done(format!("{words}: {to} is master (term {next})"));
            }
            when.push(Compare::Modified(key.clone(), at.revision));
            then.push(put(key, &ended));
        }
        let story = story(cx, at, to, Cause::Told, Some(&asked.record));
        let mut last = at.clone();
        if let (Some(external), Ask::After { epoch, .. }) =
            (&mut last.record.external, &asked.record.ask)
        {
            external.epoch = external.epoch.max(*epoch);
        }
        self.start_term(cx, Some(&last), to, MasterState::Serving, &story, when, then);
    }

    /// *Serving*: is it still true? Any agent that sees otherwise withdraws it.
    fn watch_named(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let holder = &at.record.holder;
        if cx.mine(holder) {
            let Some(own) = self.own.get(&holder.instance) else {
                self.refuse(format!(
                    "`{}` is named and not configured here any more: `sengu release {}`",
                    holder.instance, cx.name
                ));
                return;
            };
            if let Some(cause) = lost(own, &at.record) {
                self.withdraw(cx, at, cause);
                return;
            }
        }
        let Some(found) = self.claimed(cx, at) else { return };
        let here = |name: &&InstanceName| **name != holder.instance;
        let Some(other) = found.iter().find(here) else {
            if cx.mine(holder) {
                self.tell_after(cx, at);
            }
            return;
        };
        let holds = found.contains(&holder.instance);
        let told = at.record.external.as_ref().is_some_and(|external| external.told);
        if holds && told {
            self.refuse(format!(
                "`{other}` takes writes too; `{}` stays named, as the tool said: close `{other}`",
                holder.instance
            ));
        } else if holds {
            self.withdraw(cx, at, Cause::TwoWritable);
        } else if self.own.get(other).is_some_and(|own| own.opened >= OPEN_LOOKS) {
            let here = self.own.contains_key(&holder.instance);
            let known = cx.view.instances.get(&holder.instance);
            let heard = here || known.is_some_and(|at| self.is_fresh(cx, &at.record));
            self.withdraw(cx, at, if heard { Cause::NotWritable } else { Cause::Lapsed });
        } else {
            cx.out.wake(cx.now.time + AGAIN);
        }
    }

    fn withdraw(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, cause: Cause) {
        let mut record = at.record.clone();
        record.state = MasterState::Withdrawn { cause, intent: None, fenced: false };
        record.since = cx.now.wall;
        if self.write_master(cx, Some(at), &record, Vec::new(), Vec::new()).is_some() {
            let text = format!("`{}` is withdrawn: nobody is named", at.record.holder.instance);
            cx.out.say(cx.name, true, text);
        }
    }

    /// A move is announced: its fence, if one was asked for, and its deadline.
    fn await_answer(
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
    fn unmoved(&self, cx: &mut Cx<'_>, at: &At<MasterRecord>) -> Result<(), String> {
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
        let fenced = matches!(&at.record.state, MasterState::Withdrawn { fenced: true, .. });
        let Some(own) = self.own.get(&holder.instance) else {
            return Err(format!("`{}` is not configured here", holder.instance));
        };
        let open = lately(cx, &holder.instance, own);
        let open = open.is_some_and(|state| state.writable && state.role == Role::Master);
        // What sengu did not close itself is not its to open.
        if open || (fenced && own.is_fenced() && own.boot_id.as_ref() == Some(&holder.boot_id)) {
            Ok(())
        } else {
            Err(format!("`{}` takes no writes", holder.instance))
        }
    }

    /// The last holder goes on, under a new term; the announced move ends with the same txn.
    fn go_on(
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

    /// No move is announced: exactly one that takes writes is named.
    fn name_the_one(
        &mut self,
        cx: &mut Cx<'_>,
        at: &At<MasterRecord>,
        cause: &Cause,
        fenced: bool,
    ) {
        if paused(cx) {
            self.refuse(format!("paused: `sengu resume {}` lets the name move again", cx.name));
            return;
        }
        let Some(found) = self.claimed(cx, at) else { return };
        let mut all = found.iter();
        let (first, second) = (all.next(), all.next());
        match (first, second) {
            (Some(one), None) => {
                let Some(own) = self.own.get(one) else {
                    self.doing = Some(format!("waiting for the agent of {one} to publish it"));
                    return;
                };
                if own.opened < OPEN_LOOKS {
                    self.doing = Some(format!("watching whether {one} goes on taking writes"));
                    own.observe_while(cx, one, Duration::from_secs(1));
                    return;
                }
                let story = story(cx, at, one, Cause::Seen, None);
                let (none, nothing) = (Vec::new(), Vec::new());
                let one = one.clone();
                let serving = MasterState::Serving;
                self.start_term(cx, Some(at), &one, serving, &story, none, nothing);
            }
            (Some(one), Some(two)) => self.refuse(format!(
                "`{one}` and `{two}` take writes: nobody is named until only one does"
            )),
            (None, _) if fenced && cx.mine(&at.record.holder) && self.unmoved(cx, at).is_ok() => {
                self.go_on(cx, at, Cause::Unanswered, None);
            }
            (None, _) => {
                let why = match cause {
                    Cause::ProcessExited => "its process exited",
                    _ => "it takes no writes",
                };
                self.refuse(format!(
                    "`{}` was withdrawn ({why}), and no instance takes writes: the tool that moves \
                     this service must open one",
                    at.record.holder.instance
                ));
            }
        }
    }

    /// Who takes writes as a master; `None` while an address is still being looked at.
    fn claimed(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) -> Option<Claims> {
        let mut found = Claims::new();
        let mut waiting = None;
        for (name, instance) in &cx.view.instances {
            let record = &instance.record;
            let claim = if let Some(own) = self.own.get(name) {
                let role = own.state().map(|state| state.role);
                claims(role, own.writable(), &own.health())
            } else if self.is_fresh(cx, record) {
                claims(record.role, record.writable, &record.health)
            } else if record.writable || at.record.holder.instance == *name {
                // Its agent is silent: one look at its address tells.
                match self.look(cx, record.address) {
                    Some(LookOutcome::Writable) => true,
                    Some(LookOutcome::NotWritable | LookOutcome::Unknown) => false,
                    None => {
                        waiting = Some(name);
                        continue;
                    }
                }
            } else {
                false
            };
            if claim {
                found.insert(name.clone());
            }
        }
        match waiting {
            None => Some(found),
            Some(name) => {
                self.doing = Some(format!("looking at {name}, whose agent is silent"));
                None
            }
        }
    }

    /// Was the agent of an instance elsewhere heard within the lease?
    fn is_fresh(&self, cx: &Cx<'_>, record: &InstanceRecord) -> bool {
        let lease = cx.config.judge.lease();
        let beat = cx.catalog.beat(record.host.as_str());
        cx.trusted && beat.is_some_and(|beat| cx.now.time < beat.received + lease)
    }
}

/// What an own instance told within the last seconds; else it is asked now.
fn lately<'a>(
    cx: &mut Cx<'_>,
    name: &InstanceName,
    own: &'a Own,
) -> Option<&'a crate::observation::InstanceState> {
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
    source: Option<std::net::SocketAddr>,
    holder: std::net::SocketAddr,
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

/// Why the one that is named, and is here, is not the master any more.
fn lost(own: &Own, record: &MasterRecord) -> Option<Cause> {
    let other = own.boot_id.as_ref().is_some_and(|boot| *boot != record.holder.boot_id);
    if own.gone(&record.holder.boot_id) || other {
        return Some(Cause::ProcessExited);
    }
    let follows = own.state().is_some_and(|state| state.role == Role::Replica);
    (follows || own.closed >= CLOSED_LOOKS).then_some(Cause::NotWritable)
}

fn paused(cx: &Cx<'_>) -> bool {
    cx.view.standing().any(|ask| *ask == Ask::Pause)
}

/// May this announced move withdraw the name?
fn acceptable(
    cx: &Cx<'_>,
    record: &MasterRecord,
    announced: &Announced,
    waited: Option<&(String, &At<RequestRecord>)>,
) -> Result<(), String> {
    if paused(cx) {
        return Err(format!("paused: `sengu resume {}` lets the name move again", cx.name));
    }
    if let Some((_, asked)) = waited
        && asked.record.until > cx.now.wall
    {
        return Err(format!("another move is announced already, by {}", asked.record.by));
    }
    let (holder, term) = (&record.holder.instance, record.term);
    if let Some(from) = &announced.from
        && from != holder
    {
        return Err(format!("stale: `{from}` is not the master; `{holder}` is (term {term})"));
    }
    if announced.to.as_ref() == Some(holder) && record.state == MasterState::Serving {
        return Err(format!("stale: `{holder}` is the master already (term {term})"));
    }
    let last = record.external.as_ref().and_then(|external| external.epoch);
    match (announced.epoch, last) {
        (Some(epoch), Some(last)) if epoch <= last => {
            Err(format!("stale: epoch {epoch} is not above {last}, which was told already"))
        }
        _ => Ok(()),
    }
}

/// May the tool's word on a move that is done be believed at all?
fn believable(
    cx: &Cx<'_>,
    record: &MasterRecord,
    to: &InstanceName,
    epoch: Option<u64>,
) -> Result<(), String> {
    let (holder, term) = (&record.holder.instance, record.term);
    let external = record.external.as_ref();
    let last = external.and_then(|external| external.epoch);
    if let (Some(epoch), Some(last)) = (epoch, last)
        && epoch < last
    {
        return Err(format!("stale: epoch {epoch} is older than {last}, which was told already"));
    }
    let unanswered = external.and_then(|external| external.unanswered.as_ref());
    if let (Some(id), MasterState::Serving) = (unanswered, &record.state)
        && holder != to
        && epoch.is_none_or(|epoch| Some(epoch) <= last)
    {
        return Err(format!(
            "stale: the announced move {id} was not answered in time, and `{holder}` went on (term \
             {term}); close `{holder}`, and `{to}` is named once it alone takes writes \
             (`sengu explain {})`",
            cx.name
        ));
    }
    Ok(())
}

/// The story of a term that another tool began.
fn story(
    cx: &Cx<'_>,
    at: &At<MasterRecord>,
    to: &InstanceName,
    cause: Cause,
    asked: Option<&RequestRecord>,
) -> Story {
    let last = &at.record.holder;
    let same = last.instance == *to;
    let mut story = Story::new(cause, Some(last.instance.clone()));
    let life = cx.view.instances.get(to).and_then(|at| at.record.boot_id.clone());
    story.loss = if same && life.as_ref() == Some(&last.boot_id) {
        "nothing: the same copy goes on".to_owned()
    } else if same {
        "unknown: it was restarted".to_owned()
    } else {
        "unknown: another tool moved it".to_owned()
    };
    story.asked_by = asked.map(RequestRecord::asker);
    if matches!(at.record.state, MasterState::Withdrawn { .. }) {
        story.steps =
            vec![crate::record::Step { name: "withdrawn".to_owned(), at: at.record.since }];
    }
    story
}

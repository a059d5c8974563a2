//! Another tool moves this service (`failover = "external"`): what is seen and told is published,
//! and nothing else is done.
//!
//! An announced move (`before`) withdraws the name and is waited for; its answer (`after`) is
//! believed once the instance that it names alone takes writes. Without a word of the tool the
//! roles alone move the name: exactly one that takes writes is named, of two none is. Nothing is
//! promoted here, no copy is pointed anywhere, and nothing is fenced unless the tool asked for it;
//! what was fenced so is opened again where the announced move did not come.

mod announced;
mod word;

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
    RequestRecord, Stand, key,
};

use super::hold::request_key;
use super::own::Own;
use super::story::Story;
use super::{CLOSED_LOOKS, Cx, Service, put};

/// Looks in a row that show an instance open before it is named without a word of the tool.
const OPEN_LOOKS: u32 = 3;
/// How soon an instance that is waited for is looked at again.
const AGAIN: Duration = Duration::from_millis(250);

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
        MasterState::Unmanaged
        | MasterState::Vacant { .. }
        | MasterState::Taken { .. }
        | MasterState::Serving
        | MasterState::Giving { .. }
        | MasterState::Lapsed
        | MasterState::FenceFailed { .. } => None,
    });
    (cx.settings.policy.failover == Failover::External).then(|| External {
        lease_ms: match cx.config.judge {
            Judge::Alone { .. } => None,
            Judge::Shared { lease, .. } => u64::try_from(lease.as_millis()).ok(),
        },
        told: matches!(cause, Cause::Told | Cause::GivenUp),
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
                let others = self.claimed(cx, at, true).is_none_or(|found| {
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
        let Some(found) = self.claimed(cx, at, false) else { return };
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
        // What was seen here stands with it: else the holder's agent, which has not heard of the
        // other one yet, names its own again at once.
        let seen = self.own.keys().filter_map(|name| {
            let instance = self.instance_record(cx, name)?;
            Some(put(key::instance(cx.name, name), &instance))
        });
        let then: Vec<_> = seen.collect();
        if self.write_master(cx, Some(at), &record, Vec::new(), then).is_some() {
            let text = format!("`{}` is withdrawn: nobody is named", at.record.holder.instance);
            cx.out.say(cx.name, true, text);
        }
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
        let Some(found) = self.claimed(cx, at, true) else { return };
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
                let exited = *cause == Cause::ProcessExited;
                let why = if exited { "its process exited" } else { "it takes no writes" };
                self.refuse(format!(
                    "`{}` was withdrawn ({why}), and no instance takes writes: the tool that moves \
                     this service must open one",
                    at.record.holder.instance
                ));
            }
        }
    }

    /// Who takes writes as a master; `None` while an address is still being looked at. Of those
    /// whose agent is silent, `all` are looked at, or those that took writes when it was heard.
    fn claimed(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, all: bool) -> Option<Claims> {
        let mut found = Claims::new();
        let mut waiting = None;
        for (name, instance) in &cx.view.instances {
            let record = &instance.record;
            let claim = if let Some(own) = self.own.get(name) {
                let role = own.state().map(|state| state.role);
                claims(role, own.writable(), &own.health())
            } else if self.is_fresh(cx, record) {
                claims(record.role, record.writable, &record.health)
            } else if all || record.writable || at.record.holder.instance == *name {
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
    cx.view.held_back().is_some()
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

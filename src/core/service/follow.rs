//! Another instance serves: the copies here follow it, an old master only after it was judged.

use std::time::Duration;

use crate::candidate::shortened;
use crate::catalog::At;
use crate::event::{Action, Command};
use crate::lease::lapse_wait;
use crate::name::{BootId, InstanceName, ServiceName};
use crate::observation::InstanceState;
use crate::policy::Rejoin;
use crate::position::Position;
use crate::record::{Health, InstanceRecord, MasterRecord};
use crate::sabotage::sabotaged;

use super::own::Own;
use super::{Cx, Service};

const FOLLOW_WITHIN: Duration = Duration::from_secs(2);
/// A copy that has not got in step by then no longer holds up the next one.
const COPY_PATIENCE: Duration = Duration::from_secs(60);
/// One whose turn it is and that has not begun by then has no agent that would point it: the next
/// one goes.
const TURN_TAKEN: Duration = Duration::from_secs(10);
/// A copy that was told to follow a master that is well and has had no link to it for so long is
/// told again: the login that it was given may be out of date, its receiver may stand in a
/// connection that nobody answers.
const LINK_PATIENCE: Duration = Duration::from_secs(15);

/// So many failures in a row are told: the first ones may be of a server that still starts.
const UNPOINTED: u32 = 3;

impl Service {
    /// Points the copies here at the master.
    pub(super) fn follow(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let master = &at.record.holder;
        if sabotaged!(FollowForgotten) {
            return;
        }
        let names: Vec<InstanceName> =
            self.own.keys().filter(|name| **name != master.instance).cloned().collect();
        for name in names {
            self.tell_unpointed(at, &name);
            let full = match self.must_follow(cx, at, &name) {
                Must::Nothing => continue,
                Must::Follow { full } => full,
            };
            if full && let Some(other) = self.copying(cx, at, &name) {
                self.doing = Some(format!("{name} waits to copy until {other} is in step"));
                cx.out.wake(cx.now.time + Duration::from_millis(200));
                continue;
            }
            let Some(own) = self.own.get_mut(&name) else { continue };
            if cx.now.time < own.retry_at {
                cx.out.wake(own.retry_at);
                continue;
            }
            if self.hush(cx, at, &name) {
                continue;
            }
            let Some(own) = self.own.get_mut(&name) else { continue };
            let source = master.address;
            own.command(cx, &name, at.record.term, Command::Follow { source }, FOLLOW_WITHIN);
            let told = Some((at.record.term, source));
            if own.pointed != told {
                own.pointed = told; // Told again while something holds it up: said once.
                cx.out.say(cx.name, false, format!("`{name}` follows `{}`", master.instance));
            }
        }
    }

    /// Says why a copy does not follow, though it was told to several times.
    fn tell_unpointed(&mut self, at: &At<MasterRecord>, name: &InstanceName) {
        let master = &at.record.holder;
        let Some(own) = self.own.get(name) else { return };
        let follows = own.state().is_some_and(|state| state.source == Some(master.address));
        if let Some((term, UNPOINTED.., error)) = &own.unpointed
            && *term == at.record.term
            && !follows
        {
            let master = &master.instance;
            self.refuse(format!("`{name}` does not follow `{master}`: {error}; it is tried again"));
        }
    }

    fn must_follow(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, name: &InstanceName) -> Must {
        let master = &at.record.holder;
        let Some(own) = self.own.get_mut(name) else { return Must::Nothing };
        let Some(state) = own.state() else { return Must::Nothing };
        let (source, link_up, empty) = (state.source, state.link_up, state.never_synced);
        let denied = state.denied;
        let closed = !state.writable && !own.busy();
        let (held, applied) = (state.held().clone(), state.applied.clone());
        let proven = at.record.origins.last().is_some_and(|origin| held.part_of(origin));
        let transactions = !matches!(held, Position::Redis(_));
        let strays = if proven || (empty && !transactions) {
            None
        } else {
            self.strays(at, &held, &applied)
        };
        self.keep_strays(cx, name, strays.as_deref().filter(|_| transactions));
        if source == Some(master.address) {
            if !link_up {
                cx.out.wake(cx.now.time + Duration::from_millis(500));
            }
            // Told again it would be let in as soon as its master gave the last of its numbers to
            // something else, and the two would go apart unseen.
            let why = strays
                .filter(|_| transactions)
                .map(|strays| apart(&strays))
                .or_else(|| denied.then(|| ahead(cx.name, name, &master.instance)));
            let again = why.is_none() && closed && transactions && self.has_waited(cx, at, name);
            if let Some(own) = self.own.get_mut(name) {
                own.quarantine = why;
            }
            return if again { Must::Follow { full: empty } } else { Must::Nothing };
        }
        let Some(strays) = strays else {
            return if closed { Must::Follow { full: empty } } else { Must::Nothing };
        };
        if !closed {
            return Must::Nothing;
        }
        if !transactions && cx.settings.policy.rejoin == Rejoin::Resync {
            return Must::Follow { full: true };
        }
        let why = if transactions {
            apart(&strays)
        } else {
            format!(
                "its data ({held}) cannot be proven part of the master's: keep a copy of it if you \
                 need it, then set `rejoin = \"resync\"`"
            )
        };
        self.refuse(format!("`{name}` is quarantined: {why}"));
        if let Some(own) = self.own.get_mut(name) {
            own.quarantine = Some(why);
        }
        Must::Nothing
    }

    /// Has a copy of a master that is well been without its link for so long that it is told again?
    fn has_waited(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, name: &InstanceName) -> bool {
        let holder = &at.record.holder;
        let well = match self.own.get(&holder.instance) {
            Some(own) => own.state().is_some() && own.failing.is_none(),
            None => lapse_wait(&at.record.promise)
                .is_none_or(|wait| cx.now.time < cx.view.beat_received + wait / 2),
        };
        let Some(own) = self.own.get_mut(name) else { return false };
        // Who stopped an applier had a reason.
        let stands =
            |state: &InstanceState| state.link_up || state.syncing || state.applier_stopped;
        if !well || own.state().is_none_or(stands) {
            own.unlinked = None;
            return false;
        }
        let since = *own.unlinked.get_or_insert(cx.now.time);
        let waited = cx.now.time >= since + LINK_PATIENCE;
        if waited {
            own.pointed = None;
            own.unlinked = None;
        }
        waited
    }

    /// What a copy here holds that the master is not known to hold. A person may have applied on
    /// the master what only the copy had: the master's own position, where it is here, counts.
    ///
    /// What is received and not applied proves nothing of what came before it: a server in strict
    /// mode takes what it will never apply behind a transaction of its own.
    fn strays(&self, at: &At<MasterRecord>, held: &Position, applied: &Position) -> Option<String> {
        if matches!(held, Position::Redis(_)) {
            return Some(held.to_string());
        }
        let master = self.own.get(&at.record.holder.instance).and_then(Own::state);
        let has = |master: &InstanceState, of: &Position| master.held().has(of);
        if master.is_some_and(|master| has(master, held) && has(master, applied)) {
            return None;
        }
        let origins: Vec<Position> = at.record.origins.last().cloned().into_iter().collect();
        held.strays(&origins).or_else(|| Some(held.to_string()))
    }

    /// Has the shell keep the list of transactions that only this copy has, for a person.
    fn keep_strays(&mut self, cx: &mut Cx<'_>, name: &InstanceName, strays: Option<&str>) {
        let Some(own) = self.own.get_mut(name) else { return };
        if own.strays.as_deref() == strays {
            return;
        }
        own.strays = strays.map(str::to_owned);
        let (instance, strays) = (cx.id(name), own.strays.clone());
        cx.out.push(Action::Keep { instance, strays });
    }

    /// Another copy that is being made, or comes first by name and may still begin.
    fn copying(
        &mut self,
        cx: &Cx<'_>,
        at: &At<MasterRecord>,
        name: &InstanceName,
    ) -> Option<InstanceName> {
        let master = &at.record.holder;
        let patient = cx.now.time < cx.view.master_received + COPY_PATIENCE;
        let here = self.own.iter().find(|(other, own)| {
            *other != name
                && **other != master.instance
                && patient
                && (own.lane.is_some()
                    || own.state().is_some_and(|state| {
                        state.syncing || (state.source == Some(master.address) && !state.link_up)
                    }))
        });
        let here = here.map(|(other, _)| other.clone());
        let mut others = cx.view.instances.iter().filter(|(other, at)| {
            **other != *name
                && !self.own.contains_key(*other)
                && **other != master.instance
                && at.record.health == Health::Up
                && patient
        });
        let firsts = others.clone().filter(|(other, at)| {
            **other < *name && !at.record.link_up && at.record.quarantine.is_none()
        });
        let firsts: Vec<&InstanceName> = firsts.map(|(other, _)| other).collect();
        // One that never had a copy says `syncing` too: it waits, as this one does.
        let made =
            |record: &InstanceRecord| record.syncing && record.source == Some(master.address);
        let made = here
            .or_else(|| others.find(|(_, at)| made(&at.record)).map(|(other, _)| other.clone()));
        if made.is_some() {
            self.turn = None;
            return made;
        }
        self.first_in_turn(cx, &firsts)
    }

    /// The first of these, or the next one where it let its turn pass.
    fn first_in_turn(&mut self, cx: &Cx<'_>, firsts: &[&InstanceName]) -> Option<InstanceName> {
        let now = cx.now.time;
        let turn = self.turn.take().filter(|(_, since)| *since >= cx.view.master_received);
        let next = firsts.iter().find(|other| {
            turn.as_ref().is_none_or(|(last, since)| {
                **other > last || (**other == last && now < *since + TURN_TAKEN)
            })
        });
        let same = turn.clone().filter(|(last, _)| next.is_none_or(|next| *next == last));
        self.turn = same.or_else(|| next.map(|next| ((*next).clone(), now)));
        next.map(|next| (*next).clone())
    }

    /// A lapsed holder that came back and is fenced, or follows, or whose process is gone: its name
    /// leaves the list. Another process in its place proves nothing of the one that held.
    pub(super) fn prove_stopped(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let stopped = |own: &Own, boot_id: &BootId| {
            if own.gone(boot_id) {
                return !own.writable();
            }
            own.boot_id.as_ref() == Some(boot_id)
                && own.state().is_some_and(|state| {
                    !state.writable && (own.fenced.is_some() || state.source.is_some())
                })
        };
        for holder in &at.record.unproven {
            self.watch_holder(cx, holder);
        }
        let proven: Vec<&InstanceName> = at
            .record
            .unproven
            .iter()
            .filter(|holder| cx.mine(holder))
            .filter(|holder| {
                self.own.get(&holder.instance).is_some_and(|own| stopped(own, &holder.boot_id))
            })
            .map(|holder| &holder.instance)
            .collect();
        if proven.is_empty() {
            return;
        }
        let mut record = at.record.clone();
        record.unproven.retain(|holder| !proven.contains(&&holder.instance));
        self.write_master(cx, Some(at), &record, Vec::new(), Vec::new());
    }
}

/// Why a copy with transactions of its own is set apart, and both ways out.
fn apart(strays: &str) -> String {
    format!(
        "it has transactions that the master does not have: {}; apply them on the master, and it \
         follows by itself, or copy the master's data over it (the whole list stands in the \
         agent's data_dir, in `quarantine`)",
        shortened(strays)
    )
}

/// Numbers do not tell it: those that it has beyond its master's carry the master's own name.
fn ahead(service: &ServiceName, name: &InstanceName, master: &InstanceName) -> String {
    format!(
        "its master refuses it, because it has transactions that `{master}` lacks: `{master}` was \
         set back or emptied; copy the master's data over it, or, where its own data is what \
         counts, stop `{master}` and use `sengu failover {service} --to {name} --lossy`"
    )
}

enum Must {
    Nothing,
    Follow { full: bool },
}

//! Another instance serves: the copies here follow it, an old master only after it was judged.

use std::time::Duration;

use crate::catalog::At;
use crate::event::Command;
use crate::name::InstanceName;
use crate::policy::Rejoin;
use crate::record::{Health, MasterRecord};

use super::own::Own;
use super::{Cx, Service};

const FOLLOW_WITHIN: Duration = Duration::from_secs(2);
/// A copy that has not got in step by then no longer holds up the next one.
const COPY_PATIENCE: Duration = Duration::from_secs(60);

impl Service {
    /// Points the copies here at the master.
    pub(super) fn follow(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let master = &at.record.holder;
        let names: Vec<InstanceName> =
            self.own.keys().filter(|name| **name != master.instance).cloned().collect();
        for name in names {
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
            let source = master.address;
            own.command(cx, &name, at.record.term, Command::Follow { source }, FOLLOW_WITHIN);
            cx.out.say(cx.name, false, format!("`{name}` follows `{}`", master.instance));
        }
    }

    fn must_follow(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>, name: &InstanceName) -> Must {
        let master = &at.record.holder;
        let Some(own) = self.own.get_mut(name) else { return Must::Nothing };
        let Some(state) = own.state() else { return Must::Nothing };
        if state.source == Some(master.address) {
            if !state.link_up {
                cx.out.wake(cx.now.time + Duration::from_millis(500));
            }
            own.quarantine = None;
            return Must::Nothing;
        }
        if own.busy() || state.writable {
            return Must::Nothing;
        }
        let origin = at.record.origins.last();
        let proven = origin.is_some_and(|origin| state.held().part_of(origin));
        if proven || state.never_synced {
            return Must::Follow { full: state.never_synced };
        }
        if cx.settings.policy.rejoin == Rejoin::Ask {
            let why = format!(
                "its data ({}) cannot be proven part of the master's: keep a copy of it if you need \
                 it, then set `rejoin = \"resync\"`",
                state.applied
            );
            self.refuse(format!("`{name}` is quarantined: {why}"));
            if let Some(own) = self.own.get_mut(name) {
                own.quarantine = Some(why);
            }
            return Must::Nothing;
        }
        Must::Follow { full: true }
    }

    /// Another copy that is being made, or comes first by name.
    fn copying(
        &self,
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
        let elsewhere = cx.view.instances.iter().find(|(other, record)| {
            let record = &record.record;
            *other != name
                && !self.own.contains_key(*other)
                && **other != master.instance
                && record.health == Health::Up
                && patient
                // One that never had a copy says `syncing` too: it waits, as this one does.
                && (record.syncing && record.source == Some(master.address)
                    || (*other < name && !record.link_up && record.quarantine.is_none()))
        });
        here.map(|(other, _)| other.clone()).or_else(|| elsewhere.map(|(other, _)| other.clone()))
    }

    /// A lapsed holder that came back and is fenced, or follows: its name leaves the list.
    pub(super) fn prove_stopped(&mut self, cx: &mut Cx<'_>, at: &At<MasterRecord>) {
        let stopped = |own: &Own| {
            own.is_exited()
                || (own.state().is_some_and(|state| !state.writable)
                    && (own.fenced.is_some()
                        || own.state().is_some_and(|state| state.source.is_some())))
        };
        let proven: Vec<&InstanceName> = at
            .record
            .unproven
            .iter()
            .filter(|holder| cx.mine(holder))
            .filter(|holder| self.own.get(&holder.instance).is_some_and(stopped))
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

enum Must {
    Nothing,
    Follow { full: bool },
}

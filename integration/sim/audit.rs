//! Looks now and then at what no single event shows: how full queues and record lists are, and
//! whether somebody says why a service has no master.

use std::sync::Arc;

use sengu_core::kv::KeyValue;
use sengu_core::record::{Cause, HistoryRecord, MasterState};

use super::agent::service_name;
use super::fact::Fact;
use super::schedule::{Micros, SECOND};
use super::version::read;
use super::world::{Happening, World};

/// Between two audits.
const EVERY: Micros = 2 * SECOND;
/// What may stand in an agent's inbox, besides what a stopped loop has not read yet.
const INBOX: usize = 2_000;
/// Numbered actions of one agent under way.
const PENDING: usize = 60;
/// What the core keeps of terms (`history/S/TERM`).
const HISTORY: usize = 101;
/// Txns that an agent sends between two audits: beats, and what else changes.
const TXNS: usize = 120;
/// Ticks that an agent's core asks for between two audits, besides the regular ones.
const TICKS: usize = 200;
/// Commands that an agent sends to databases between two audits.
const COMMANDS: usize = 120;
/// Histories that a master record remembers.
const ORIGINS: usize = 16;
/// Records of one service besides history and requests: copies, their finals, the master.
const RECORDS: usize = 60;

impl World {
    /// Looks, and plans the next look.
    pub(crate) fn audit(&mut self) {
        self.plan(EVERY, Happening::Audit);
        let now = self.now;
        self.arrivals.retain(|_, arrives| *arrives + 60 * SECOND > now);
        for host in 0..self.agents.len() {
            let asked = std::mem::take(&mut self.agents[host].asked);
            self.tell(Fact::Size { what: "txns of one agent in 2 s", size: asked, bound: TXNS });
            let ticked = std::mem::take(&mut self.agents[host].ticked);
            let what = "ticks that one agent asked for in 2 s";
            self.tell(Fact::Size { what, size: ticked, bound: TICKS });
            let commanded = std::mem::take(&mut self.agents[host].commanded);
            let what = "commands of one agent in 2 s";
            self.tell(Fact::Size { what, size: commanded, bound: COMMANDS });
            let Some(life) = self.agents[host].life.as_ref() else { continue };
            let (inbox, pending) = (life.waiting_events(), life.pending.len());
            self.tell(Fact::Size { what: "events in an inbox", size: inbox, bound: INBOX });
            self.tell(Fact::Size { what: "actions under way", size: pending, bound: PENDING });
        }
        for service in 0..self.options.services {
            self.audit_service(service);
        }
    }

    fn audit_service(&mut self, service: usize) {
        let name = super::fact::SERVICES[service];
        let (mut history, mut others) = (0, 0);
        for entry in self.store.kv.entries() {
            let mut parts = entry.key.split('/');
            let (kind, of) = (parts.next().unwrap_or_default(), parts.next());
            if of == Some(name) {
                match kind {
                    "history" => history += 1,
                    "requests" => {}
                    _ => others += 1,
                }
            }
        }
        self.tell(Fact::Size { what: "terms in a history", size: history, bound: HISTORY });
        self.tell(Fact::Size { what: "records of a service", size: others, bound: RECORDS });
        let Some(record) = self.master(service) else { return };
        let origins = record.origins.len();
        self.tell(Fact::Size { what: "histories in a record", size: origins, bound: ORIGINS });
        let again = self.reopened(service);
        let most = usize::try_from(self.options.policy.max_attempts).unwrap_or(usize::MAX);
        self.tell(Fact::Size { what: "reopenings in a row", size: again, bound: most });
        let tries = record.unkept.len();
        self.tell(Fact::Size { what: "terms that ran out unopened", size: tries, bound: most });
        let settled = matches!(record.state, MasterState::Serving | MasterState::Unmanaged);
        let said = settled || self.explained(service).unwrap_or(true);
        self.tell(Fact::Explained { service, said });
    }

    /// How many of the newest terms of a service were its own holder's, again and again.
    fn reopened(&self, service: usize) -> usize {
        let prefix = format!("history/{}/", super::fact::SERVICES[service]);
        let history: Vec<_> = self.store.kv.prefixed(&prefix).collect();
        let again = |entry: &&&Arc<KeyValue>| {
            read::<HistoryRecord>(&entry.value).is_ok_and(|record| {
                matches!(record.cause, Cause::Reopened | Cause::SwitchoverUndone(_))
            })
        };
        history.iter().rev().take_while(again).count()
    }

    /// Does an agent that could act say something? `None`: there is no such agent.
    fn explained(&self, service: usize) -> Option<bool> {
        let name = service_name(service);
        let mut able = None;
        for host in 0..self.hosts() {
            let owns = self.on_host(host).iter().any(|db| {
                self.databases[*db].id.service == service
                    && !self.agents[host].forgotten.contains(&self.databases[*db].id)
            });
            let Some(life) = self.agents[host].life.as_ref().filter(|_| owns) else { continue };
            let hindered = life.stopped_until > self.now
                || life.stalled_until > self.now
                || !life.watching
                || !self.reaches_store(host);
            if hindered {
                continue;
            }
            let now = self.clock(host).now(self.now);
            let report = life.machine.report(now, &name);
            let said = report.is_some_and(|it| it.doing.is_some() || !it.refusals.is_empty());
            able = Some(able.unwrap_or(false) || said);
        }
        able
    }
}

//! What a story may ask about the world: records, what is named, what databases were told.

use std::sync::Arc;

use sengu_core::catalog::{Named, ServiceView};
use sengu_core::event::Command;
use sengu_core::explain::Explanation;
use sengu_core::name::Term;
use sengu_core::record::{
    Cause, HistoryRecord, InstanceRecord, MasterRecord, MasterState, Record, RequestRecord, Stand,
    key,
};
use sengu_core::sync::SyncRecord;
use sengu_core::time::{Now, Time, Wall};

use super::{BEGIN_WALL, Database, World, instance, service};

impl World {
    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        let past = i64::try_from(self.clock / 1000).expect("stories are short");
        Now { time: Time(self.clock), wall: Wall(BEGIN_WALL + past) }
    }

    /// What `explain` would show now.
    pub(crate) fn explain(&self) -> Explanation {
        self.machine.explain(self.now(), &service()).expect("the service is known")
    }

    /// An instance.
    pub(crate) fn database(&self, name: &str) -> &Database {
        self.databases.get(name).expect("stories know their instances")
    }

    /// An instance, if there is one of that name.
    pub(crate) fn known(&self, name: &str) -> Option<&Database> {
        self.databases.get(name)
    }

    /// An instance, to be changed behind the agent's back.
    pub(crate) fn database_mut(&mut self, name: &str) -> &mut Database {
        self.databases.get_mut(name).expect("stories know their instances")
    }

    /// The instances that take writes.
    pub(crate) fn open(&self) -> Vec<&str> {
        let open = self.databases.iter().filter(|(_, database)| database.open);
        open.map(|(name, _)| name.as_str()).collect()
    }

    /// The bytes that stand there.
    pub(crate) fn value(&self, key: &str) -> Arc<[u8]> {
        Arc::clone(&self.kv.get(key).expect("a record stands there").value)
    }

    /// Does the master record stand?
    pub(crate) fn has_master(&self) -> bool {
        self.kv.get(&key::master(&service())).is_some()
    }

    /// The master record.
    pub(crate) fn master(&self) -> MasterRecord {
        let entry = self.kv.get(&key::master(&service())).expect("there is a master record");
        MasterRecord::decode(&entry.value).expect("the agent writes what it can read")
    }

    /// The master record's state.
    pub(crate) fn state(&self) -> MasterState {
        self.master().state
    }

    /// Who holds, or last held, the term.
    pub(crate) fn holder(&self) -> String {
        self.master().holder.instance.to_string()
    }

    /// Which copies hold every acknowledged write.
    pub(crate) fn sync(&self) -> SyncRecord {
        let entry = self.kv.get(&key::sync(&service())).expect("`loss = \"none\"` has one");
        SyncRecord::decode(&entry.value).expect("the agent writes what it can read")
    }

    /// Is there a record of that?
    pub(crate) fn has_sync(&self) -> bool {
        self.kv.get(&key::sync(&service())).is_some()
    }

    /// How often the store was changed.
    pub(crate) fn revision(&self) -> u64 {
        self.kv.revision()
    }

    /// The record of an instance, if one stands.
    pub(crate) fn instance_record(&self, name: &str) -> Option<InstanceRecord> {
        let entry = self.kv.get(&key::instance(&service(), &instance(name)))?;
        Some(InstanceRecord::decode(&entry.value).expect("the agent writes what it can read"))
    }

    /// Why a term began.
    pub(crate) fn history_cause(&self, term: u64) -> Cause {
        self.history(term).cause
    }

    /// What the record of a term says.
    pub(crate) fn history(&self, term: u64) -> HistoryRecord {
        let entry = self.kv.get(&key::history(&service(), Term(term))).expect("it has a history");
        HistoryRecord::decode(&entry.value).expect("the agent writes what it can read")
    }

    /// A request.
    pub(crate) fn request(&self, id: &str) -> RequestRecord {
        let entry = self.kv.get(&key::request(&service(), id)).expect("it was asked");
        RequestRecord::decode(&entry.value).expect("the agent writes what it can read")
    }

    /// Where a request stands.
    pub(crate) fn stand(&self, id: &str) -> Stand {
        self.request(id).stand
    }

    /// Whom the outputs of this agent name as master.
    pub(crate) fn named(&self) -> Option<String> {
        match self.machine.catalog().master(&service(), self.now().time) {
            Named::Master(name, _) => Some(name.to_string()),
            Named::Withdrawn(_) => None,
        }
    }

    /// The service as this agent's outputs see it.
    pub(crate) fn view(&self) -> Arc<ServiceView> {
        self.machine.catalog().service(&service()).cloned().unwrap_or_default()
    }

    /// What the agent does not do, and why.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.machine.report(self.now(), &service()).expect("the agent knows it").refusals
    }

    /// What is wrong, as `status` says it.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.machine.report(self.now(), &service()).expect("the agent knows it").problems
    }

    /// What databases were told since the story forgot.
    pub(crate) fn commands(&self) -> &[(String, Command)] {
        &self.commands
    }

    /// Was this instance told to refuse writes?
    pub(crate) fn was_fenced(&self, name: &str) -> bool {
        let fence = |command: &Command| matches!(command, Command::Fence { .. });
        self.commands.iter().any(|(told, command)| told == name && fence(command))
    }

    /// How the world stands and how it came so, for a failed story.
    pub(crate) fn tell(&self) -> String {
        let Some(report) = self.machine.report(self.now(), &service()) else {
            return "the agent knows of no service".to_owned();
        };
        format!(
            "{}, term {}, held by {:?}\nrefusals: {:?}\ndoing: {:?}\n{}",
            report.state,
            report.term,
            report.holder,
            report.refusals,
            report.doing,
            self.log.join("\n")
        )
    }
}

//! What a story can ask of its world: who is master, who is named, who says what.

use sengu_core::catalog::Named;
use sengu_core::observation::SemiSync;
use sengu_core::record::{HistoryRecord, MasterState, RequestRecord, Stand};
use sengu_core::sync::SyncRecord;

use super::super::fact::{Id, SERVICES};
use super::super::version::read;
use super::super::words;
use super::super::world::World;

/// A statement about the world of a story, of its first service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    /// It holds the term, serves, and takes writes.
    Master(Id),
    /// No instance takes writes.
    NobodyOpen,
    /// It takes writes, or not.
    Open(Id, bool),
    /// Every running agent names this one; `None`: no agent names anybody.
    Named(Option<Id>),
    /// One host's agent names this one, or nobody.
    NamedBy(usize, Option<Id>),
    /// One host's hosts file names this one, or nobody.
    File(usize, Option<Id>),
    /// It follows that one, linked.
    Follows(Id, Id),
    /// Its process runs, or not.
    Runs(Id, bool),
    /// The record's term.
    Term(u64),
    /// The record's state.
    State(String),
    /// Some agent says this.
    Says(String),
    /// The newest request was refused with these words.
    Refused(String),
    /// The newest request was done.
    Done,
    /// What a term's history says was lost.
    Loss(u64, String),
    /// `sync/S` says that every acknowledged write is on more copies than the master.
    InSync(bool),
    /// There is no `sync/S`.
    NoSync,
    /// Its commits wait for acknowledgements, or for none.
    Waits(Id, bool),
    /// It acknowledges what it receives, or nothing.
    Acknowledges(Id, bool),
    /// Every acknowledged write is on the open instance.
    Kept,
    /// No agent ended a process.
    NothingKilled,
}

impl Check {
    /// Reads one.
    ///
    /// # Errors
    /// What could stand there.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let id = words::id_of;
        match words.as_slice() {
            [who, "is", "master"] => Ok(Self::Master(id(who)?)),
            ["nobody", "takes", "writes"] => Ok(Self::NobodyOpen),
            [who, "takes", "writes"] => Ok(Self::Open(id(who)?, true)),
            [who, "takes", "no", "writes"] => Ok(Self::Open(id(who)?, false)),
            ["nobody", "is", "named"] => Ok(Self::Named(None)),
            [who, "is", "named"] => Ok(Self::Named(Some(id(who)?))),
            ["file", "of", host, "names", "nobody"] => Ok(Self::File(words::host_of(host)?, None)),
            ["file", "of", host, "names", who] => {
                Ok(Self::File(words::host_of(host)?, Some(id(who)?)))
            }
            [host, "names", "nobody"] => Ok(Self::NamedBy(words::host_of(host)?, None)),
            [host, "names", who] => Ok(Self::NamedBy(words::host_of(host)?, Some(id(who)?))),
            [who, "follows", whom] => Ok(Self::Follows(id(who)?, id(whom)?)),
            [who, "runs"] => Ok(Self::Runs(id(who)?, true)),
            [who, "is", "gone"] => Ok(Self::Runs(id(who)?, false)),
            ["term", number] => {
                let number = number.parse().map_err(|_| format!("`{number}` is no term"))?;
                Ok(Self::Term(number))
            }
            ["the", "record", "is", state] => Ok(Self::State((*state).to_owned())),
            ["somebody", "says", ..] => Ok(Self::Says(after(text, "says"))),
            ["the", "request", "is", "refused", ..] => Ok(Self::Refused(after(text, "refused"))),
            ["the", "request", "is", "done"] => Ok(Self::Done),
            ["loss", "of", "term", number, "is", ..] => {
                let term = number.parse().map_err(|_| format!("`{number}` is no term"))?;
                Ok(Self::Loss(term, after(text, " is")))
            }
            ["copies", "are", "in", "sync"] => Ok(Self::InSync(true)),
            ["no", "copy", "is", "in", "sync"] => Ok(Self::InSync(false)),
            ["nothing", "is", "said", "of", "copies", "in", "sync"] => Ok(Self::NoSync),
            ["commits", "of", who, "wait"] => Ok(Self::Waits(id(who)?, true)),
            ["commits", "of", who, "wait", "for", "nobody"] => Ok(Self::Waits(id(who)?, false)),
            [who, "acknowledges"] => Ok(Self::Acknowledges(id(who)?, true)),
            [who, "acknowledges", "nothing"] => Ok(Self::Acknowledges(id(who)?, false)),
            ["no", "write", "is", "lost"] => Ok(Self::Kept),
            ["nothing", "was", "killed"] => Ok(Self::NothingKilled),
            _ => Err(format!(
                "`{text}` cannot be looked at: `r1 is master`, `r1 takes [no] writes`, `nobody \
                 takes writes`, `r1 is named`, `nobody is named`, `h1 names r1`, `file of h1 names \
                 r1`, `r1 follows r2`, `r1 runs`, `r1 is gone`, `term 2`, `the record is vacant`, \
                 `somebody says …`, `the request is done`, `the request is refused …`, `loss of \
                 term 2 is …`, `no write is lost`, `copies are in sync`, `no copy is in sync`, \
                 `nothing is said of copies in sync`, `commits of r1 wait [for nobody]`, `r2 \
                 acknowledges [nothing]`, `nothing was killed`"
            )),
        }
    }

    /// Is it so?
    ///
    /// # Errors
    /// What is so instead.
    pub(crate) fn look(&self, world: &World) -> Result<(), String> {
        let so = |is: bool, instead: String| if is { Ok(()) } else { Err(instead) };
        match self {
            Self::Master(id) => {
                let Some(record) = world.master(0) else { return Err("there is no record".into()) };
                let holds = record.holder.instance == id.name();
                let serves = record.state == MasterState::Serving;
                let open = world.databases[world.index_of(*id)].writable();
                so(
                    holds && serves && open,
                    format!(
                        "term {} of {} is {}, {id} takes writes: {open}",
                        record.term,
                        record.holder.instance,
                        record.state.word()
                    ),
                )
            }
            Self::NobodyOpen => {
                let open: Vec<String> = open(world).iter().map(Id::to_string).collect();
                so(open.is_empty(), format!("{} takes writes", open.join(" and ")))
            }
            Self::Open(id, wanted) => {
                let open = world.databases[world.index_of(*id)].writable();
                so(open == *wanted, format!("{id} takes writes: {open}"))
            }
            Self::Named(wanted) => (0..world.hosts())
                .filter(|host| world.agents[*host].life.is_some())
                .try_for_each(|host| named_by(world, host, *wanted)),
            Self::NamedBy(host, wanted) => named_by(world, *host, *wanted),
            Self::File(host, wanted) => {
                let found = world.read_file(*host, 0).map(|db| world.databases[db].id);
                so(found == *wanted, format!("the file of h{} names {found:?}", host + 1))
            }
            Self::Follows(id, of) => {
                let process = world.databases[world.index_of(*id)].process.as_ref();
                let address = world.databases[world.index_of(*of)].address;
                let linked =
                    process.is_some_and(|it| it.source == Some(address) && it.link.is_up());
                so(linked, format!("{id} does not follow {of}"))
            }
            Self::Runs(id, wanted) => {
                let runs = world.databases[world.index_of(*id)].process.is_some();
                so(runs == *wanted, format!("{id} runs: {runs}"))
            }
            other => other.look_at_records(world),
        }
    }

    fn look_at_records(&self, world: &World) -> Result<(), String> {
        let so = |is: bool, instead: String| if is { Ok(()) } else { Err(instead) };
        let record = world.master(0);
        match self {
            Self::Term(wanted) => {
                let term = record.map_or(0, |record| record.term.0);
                so(term == *wanted, format!("the term is {term}"))
            }
            Self::State(wanted) => {
                let word = record.map_or("absent", |record| record.state.word());
                so(word == wanted, format!("the record is {word}"))
            }
            Self::Says(text) => {
                let said = sayings(world);
                let found = said.iter().any(|line| line.contains(text.as_str()));
                so(found, format!("what is said is: {}", said.join(" | ")))
            }
            Self::Refused(text) => {
                let stand = newest_request(world);
                let found = matches!(&stand, Some(Stand::Refused(why)) if why.contains(text));
                so(found, format!("the newest request: {stand:?}"))
            }
            Self::Done => {
                let stand = newest_request(world);
                so(matches!(stand, Some(Stand::Done(_))), format!("the newest request: {stand:?}"))
            }
            Self::Loss(term, text) => {
                let key = format!("history/{}/{term:012}", SERVICES[0]);
                let entry = world.store.kv.get(&key);
                let history = entry.and_then(|it| read::<HistoryRecord>(&it.value).ok());
                let loss = history.map(|history| history.loss).unwrap_or_default();
                so(loss.contains(text.as_str()), format!("loss of term {term}: {loss:?}"))
            }
            Self::InSync(wanted) => {
                let entry = world.store.kv.get("sync/foo");
                let sync = entry.and_then(|it| read::<SyncRecord>(&it.value).ok());
                let complete = sync.as_ref().is_some_and(|sync| sync.complete);
                so(complete == *wanted, format!("sync/foo is {sync:?}"))
            }
            Self::NoSync => {
                let stands = world.store.kv.get("sync/foo").is_some();
                so(!stands, "sync/foo stands".to_owned())
            }
            Self::Waits(id, wanted) => {
                let waits = semi_sync(world, *id).is_some_and(|semi| semi.awaits > 0);
                so(waits == *wanted, format!("commits of {id} wait: {waits}"))
            }
            Self::Acknowledges(id, wanted) => {
                let does = semi_sync(world, *id).is_some_and(|semi| semi.acknowledges);
                so(does == *wanted, format!("{id} acknowledges: {does}"))
            }
            Self::Kept => {
                let lost = world.lost_writes();
                so(lost == 0, format!("{lost} acknowledged writes are not on the open instance"))
            }
            Self::NothingKilled => {
                so(world.kills == 0, format!("{} process(es) were killed", world.kills))
            }
            _ => Ok(()),
        }
    }
}

fn semi_sync(world: &World, id: Id) -> Option<SemiSync> {
    world.state_of(world.index_of(id)).and_then(|(state, _)| state.semi_sync)
}

fn after(text: &str, word: &str) -> String {
    text.split_once(word).map_or("", |(_, rest)| rest).trim().to_owned()
}

fn open(world: &World) -> Vec<Id> {
    world.databases.iter().filter(|it| it.writable()).map(|it| it.id).collect()
}

fn named_by(world: &World, host: usize, wanted: Option<Id>) -> Result<(), String> {
    let found = world.name_at(host, 0);
    if found == wanted {
        return Ok(());
    }
    let found = found.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
    Err(format!("h{} names {found}", host + 1))
}

/// What all agents say of the service: what they do, what they refuse, what is wrong.
fn sayings(world: &World) -> Vec<String> {
    let mut said = Vec::new();
    for host in 0..world.hosts() {
        let now = world.clock(host).now(world.now);
        let Some(life) = world.agents[host].life.as_ref() else { continue };
        if let Some(report) = life.machine.report(now, &world.names[0]) {
            said.extend(report.doing);
            said.extend(report.refusals);
            said.extend(report.problems);
        }
    }
    said.sort();
    said.dedup();
    said
}

fn newest_request(world: &World) -> Option<Stand> {
    let newest = world
        .store
        .kv
        .entries()
        .filter(|entry| entry.key.starts_with("requests/foo/"))
        .max_by_key(|entry| entry.created)?;
    read::<RequestRecord>(&newest.value).ok().map(|record| record.stand)
}

impl World {
    /// Whom a host's agent names now.
    pub(crate) fn name_at(&self, host: usize, service: usize) -> Option<Id> {
        let life = self.agents[host].life.as_ref()?;
        let local = self.clock(host).local(self.now);
        match life.machine.catalog().master(&self.names[service], local) {
            Named::Master(instance, _) => Id::named(service, instance),
            Named::Withdrawn(_) => None,
        }
    }

    /// Acknowledged writes of the first service that the open instance does not hold.
    pub(crate) fn lost_writes(&self) -> usize {
        let open = self.of_service(0).into_iter().find(|db| self.databases[*db].writable());
        let process = open.and_then(|db| self.databases[db].process.as_ref());
        let holds: std::collections::BTreeSet<u64> =
            process.map(|it| it.copy.data.iter().copied().collect()).unwrap_or_default();
        self.acknowledged.iter().filter(|serial| !holds.contains(serial)).count()
    }
}

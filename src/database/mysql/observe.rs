//! Looking at a server without changing it: the role probe, and the look at another instance.
//!
//! The probe keeps one standing connection. An answer that comes late does not close it, so a
//! stopped server is not buried under new ones; what the process does is told beside. All that
//! counts comes in one round trip.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sengu_core::event::LookOutcome;
use sengu_core::observation::{self, Answer, Observation, Settings, Verdict};
use tokio::time::{Instant, timeout_at};

use super::connection::{Row, Session};
use super::fault::{Fault, code};
use super::features::Features;
use super::state::{Told, question, read};
use super::{Shared, lock, obstacles, upkeep, verdicts};
use crate::process::Process;

/// Unanswered probes on the standing connection before it is replaced.
const MAX_LATE: u32 = 8;

/// A name server may take this much of a probe, no more.
const SIDE_WAIT: Duration = Duration::from_millis(100);

/// What can be asked is learned again so often.
const LEARN_AGAIN: Duration = Duration::from_secs(30);

/// The name of a connection that only looks.
const LOOK_NAME: &str = "sengu-look";

/// The connection of the role probe.
#[derive(Default)]
pub(super) struct Standing {
    session: Option<(Session, Features)>,
    learned: Option<Instant>,
    late: u32,
    /// What the source's signs of life last looked like, and since when.
    heard: Option<(String, Instant)>,
}

/// The role probe.
pub(super) async fn observe(shared: &Arc<Shared>, within: Duration) -> Observation {
    let deadline = Instant::now() + within;
    match ask(shared, deadline).await {
        Ok((mut told, session)) => {
            resolve(shared, &mut told, deadline).await;
            told.state.settings = settings(shared, session.process().as_deref());
            if let Some(process) = session.process().filter(|_| told.events) {
                shared.make(process.boot_id(), |made| made.events_on = true);
            }
            upkeep::spawn(shared);
            verdicts::spawn(shared);
            seen(session.process(), Answer::State(told.state))
        }
        Err(fault) => {
            let process = shared.lives.process_unasked();
            let answer = fault.answer();
            // Somebody answered, so it was not the one that has exited.
            seen(process.filter(|process| !(answer.alive() && process.is_gone())), answer)
        }
    }
}

/// A direct look at another instance, or at this one, with the same credentials.
pub(super) async fn look(
    shared: &Arc<Shared>,
    address: SocketAddr,
    within: Duration,
) -> LookOutcome {
    let deadline = Instant::now() + within;
    let asked = async {
        let session = shared.dialer.open(address, LOOK_NAME, deadline).await?;
        ask_state(&session, &Features::default(), deadline).await
    };
    match asked.await {
        Ok(told) if told.state.writable => LookOutcome::Writable,
        Ok(_) => LookOutcome::NotWritable,
        Err(_) => LookOutcome::Unknown,
    }
}

/// Asks for the state alone.
pub(super) async fn ask_state(
    session: &Session,
    features: &Features,
    deadline: Instant,
) -> Result<Told, Fault> {
    let sql = question(session.server(), features).join("; ");
    let mut sets = session.ask(&sql, deadline).await?.into_iter();
    let mut told = read(session.server(), features, &mut sets)?;
    told.state.never_synced = !told.state.writable && has_nothing(session, &told, deadline).await?;
    Ok(told)
}

fn seen(process: Option<Arc<Process>>, answer: Answer) -> Observation {
    Observation {
        boot_id: process.as_ref().map(|process| process.boot_id().clone()),
        answer,
        process: process.map_or(observation::Process::Unknown, |process| process.activity()),
    }
}

async fn ask(shared: &Shared, deadline: Instant) -> Result<(Told, Session), Fault> {
    let Ok(mut standing) = timeout_at(deadline, shared.standing.lock()).await else {
        return Err(Fault::Silent);
    };
    loop {
        if standing.late >= MAX_LATE {
            standing.drop_session(shared);
        }
        let kept = standing.session.clone().filter(|(session, _)| session.may_live());
        let (session, features, reused) = match kept {
            Some((session, features)) => (session, features, true),
            None => {
                standing.drop_session(shared);
                let (session, features) = dial(shared, deadline).await?;
                standing.keep(shared, session.clone(), features.clone());
                (session, features, false)
            }
        };
        let mut statements = question(session.server(), &features);
        statements.extend(obstacles::question(&features));
        match session.ask(&statements.join("; "), deadline).await {
            Ok(sets) => {
                standing.late = 0;
                let mut told = complete(&session, &features, sets, deadline).await?;
                standing.hear(&mut told);
                standing.learn_again(shared, &session, deadline).await;
                return Ok((told, session));
            }
            Err(Fault::Silent) => {
                standing.late += 1;
                return Err(Fault::Silent);
            }
            // A plugin or a privilege has gone: what can be asked is learned again.
            Err(Fault::Server { code: code::UNKNOWN_VARIABLE | code::ACCESS_DENIED, .. })
                if reused =>
            {
                standing.drop_session(shared);
            }
            Err(fault) => {
                standing.drop_session(shared);
                // It may have been closed since the last probe: that says nothing of now.
                if !(reused && matches!(fault, Fault::Broken(_))) {
                    return Err(fault);
                }
            }
        }
    }
}

/// Opens the standing connection; its process is whoever listens behind it.
async fn dial(shared: &Shared, deadline: Instant) -> Result<(Session, Features), Fault> {
    let session = shared.dialer.open(shared.address, LOOK_NAME, deadline).await?;
    let features = Features::learn(&session, deadline).await?;
    if let Ok(process) = shared.lives.listener() {
        session.leads_to(process);
    }
    shared.remembered().spare = session.server().spare_address(shared.address);
    Ok((session, features))
}

async fn complete(
    session: &Session,
    features: &Features,
    sets: Vec<Vec<Row>>,
    deadline: Instant,
) -> Result<Told, Fault> {
    let mut sets = sets.into_iter();
    let mut told = read(session.server(), features, &mut sets)?;
    told.state.obstacles = obstacles::read(features, &mut sets);
    told.state.never_synced = !told.state.writable && has_nothing(session, &told, deadline).await?;
    Ok(told)
}

/// Does it hold nothing that anybody could want: no transaction, and no schema of anybody?
async fn has_nothing(session: &Session, told: &Told, deadline: Instant) -> Result<bool, Fault> {
    use sengu_core::position::Position;
    let empty = match &told.state.received {
        Position::Mysql(position) => position.set.is_empty(),
        Position::Mariadb(position) => position.state.is_empty(),
        Position::Redis(_) => false,
    };
    if !empty {
        return Ok(false);
    }
    let schemas = "SELECT COUNT(*) AS n FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN \
                   ('information_schema', 'mysql', 'performance_schema', 'sys')";
    let count = |row: Option<Row>| row.and_then(|mut row| row.remove("n")?);
    if count(session.row(schemas, deadline).await?).as_deref() != Some("0") {
        return Ok(false);
    }
    // An account sees only schemas that it has privileges on; all tables it sees by `PROCESS`.
    let list = if session.server().is_mariadb() { "INNODB_SYS_TABLES" } else { "INNODB_TABLES" };
    let tables = format!(
        "SELECT COUNT(*) AS n FROM information_schema.{list} WHERE NAME LIKE '%/%' \
         AND NAME NOT LIKE 'mysql/%' AND NAME NOT LIKE 'sys/%'"
    );
    match session.row(&tables, deadline).await {
        Ok(row) => Ok(count(row).as_deref() == Some("0")),
        Err(Fault::Server { .. }) => Ok(true),
        Err(fault) => Err(fault),
    }
}

impl Standing {
    fn keep(&mut self, shared: &Shared, session: Session, features: Features) {
        *lock(&shared.looking) = Some(session.id());
        shared.remembered().semi_sync = Some(features.semi_sync);
        self.session = Some((session, features));
        self.learned = Some(Instant::now());
        self.late = 0;
    }

    fn drop_session(&mut self, shared: &Shared) {
        *lock(&shared.looking) = None;
        self.session = None;
        self.late = 0;
    }

    /// How long the source has been silent: since its signs of life last moved on.
    fn hear(&mut self, told: &mut Told) {
        if told.channel.is_none() {
            self.heard = None;
            return;
        }
        let now = Instant::now();
        let since = match self.heard.take() {
            Some((heard, since)) if heard == told.heard => since,
            _ => now,
        };
        self.heard = Some((told.heard.clone(), since));
        told.state.silent_for = Some(now - since);
    }

    /// A plugin may have been loaded since.
    async fn learn_again(&mut self, shared: &Shared, session: &Session, deadline: Instant) {
        let due = self.learned.is_none_or(|learned| learned.elapsed() > LEARN_AGAIN);
        if due && let Ok(features) = Features::learn(session, deadline).await {
            self.keep(shared, session.clone(), features);
        }
    }
}

/// A source that the server names by a host name: its address, as last resolved.
async fn resolve(shared: &Shared, told: &mut Told, deadline: Instant) {
    let Some(channel) = told.channel.as_ref().filter(|channel| channel.follows()) else { return };
    if told.state.source.is_some() {
        return;
    }
    let name = channel.host.clone();
    let wait = (Instant::now() + SIDE_WAIT).min(deadline);
    let looked_up = timeout_at(wait, tokio::net::lookup_host(name.clone())).await;
    if let Ok(Ok(mut addresses)) = looked_up
        && let Some(address) = addresses.next()
    {
        shared.remembered().resolved = Some((name.clone(), address));
    }
    let remembered = shared.remembered();
    let known = remembered.resolved.as_ref().filter(|known| known.0 == name);
    told.state.source = known.map(|known| known.1);
}

/// What is known without a look at a disk: for the answers of commands, too, which have no time
/// for one and must not unsay what was found.
pub(super) fn settings(shared: &Shared, process: Option<&Process>) -> Settings {
    let mut settings = shared.remembered().settings.clone();
    settings.killable = match process.map(|process| (process, process.killable())) {
        Some((_, Ok(()))) => Verdict::Good,
        Some((process, Err(error))) => Verdict::Bad(format!(
            "process {} of {} cannot be signalled ({error}): run the agent as root",
            process.pid(),
            shared.name
        )),
        None => match shared.lives.listener() {
            Ok(_) => Verdict::Unknown,
            Err(error) => Verdict::Bad(error.to_string()),
        },
    };
    settings
}

//! The contract of [`Database`], as scenarios over real servers: every driver passes all.
//!
//! A driver's tests supply a [`Bench`] that starts servers; `contract!` makes a test of each
//! scenario. What only one family of databases has (scripts, pauses) is tested beside its driver.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use sengu_core::event::{Command, ControlOutcome, LookOutcome};
use sengu_core::name::BootId;
use sengu_core::observation::{Answer, InstanceState, Observation, Process, Role, Verdict};
use sengu_core::position::Covering;
use tokio::time::{Instant, sleep, timeout};

use super::Database;

/// A probe's time.
pub(crate) const PROBE: Duration = Duration::from_secs(1);

/// A command's time.
pub(crate) const COMMAND: Duration = Duration::from_secs(3);

/// Until something that was set going is seen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// No scenario takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// How a server starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// Takes writes at once.
    Open,
    /// Fenced by its own file.
    Fenced,
    /// A copy of this one.
    ReplicaOf(SocketAddr),
}

/// Starts real servers and gives each a driver.
pub(crate) trait Bench {
    /// What it starts.
    type Server: Server;
    /// Starts a server and waits until it takes connections.
    async fn start(&self, start: Start) -> Self::Server;
    /// A driver for that server that logs in with a wrong password.
    fn wrong_login(&self, server: &Self::Server) -> Box<dyn Database>;
    /// The passwords in use, none of which may ever be shown.
    fn passwords(&self) -> Vec<String>;
    /// How long the kernel may take to end one of its processes: a large one takes longer.
    fn exit_takes(&self) -> Duration;
    /// What a server with no master to follow reads back as while it is fenced.
    fn fenced_role(&self) -> Role;
}

/// A running server; ended when dropped.
pub(crate) trait Server {
    /// A client that keeps one connection.
    type Client: Client;
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// Its process.
    fn pid(&self) -> u32;
    /// Its driver.
    fn database(&self) -> &dyn Database;
    /// Connects a client.
    async fn client(&self) -> Self::Client;
    /// Starts another life on the same address and data, the old one having ended.
    async fn start_again(&mut self);
    /// Sends its process a signal.
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), signal).expect("signalled");
    }
    /// Stops its process, until none of its threads runs: on a busy machine some go on for a while
    /// after the signal was sent.
    async fn stop(&self) {
        self.signal(Signal::STOP);
        let stopped = async {
            while !stands_still(self.pid()) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, stopped).await.expect("it stops");
    }
}

/// Is every thread of a process stopped? (`/proc/PID/task/TID/stat`, proc_pid_stat(5))
fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process").flatten();
    threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok()).all(
        |stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['T', 'Z', 'X'])),
    )
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The server said that it is done.
    Acknowledged,
    /// The server said no.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// A client, bounded in all it does; connects again by itself.
pub(crate) trait Client {
    /// Writes a key.
    async fn write(&mut self, key: &str) -> Written;
    /// Is that key there?
    async fn has(&mut self, key: &str) -> bool;
}

/// Makes a test of each scenario for the bench that the expression gives; with an attribute of
/// all of them behind it (`ignore = "…"`).
macro_rules! contract {
    ($bench:expr $(, $attribute:meta)?) => {
        contract!(@all [$($attribute)?] $bench =>
            roles_and_links_are_observed,
            a_dead_server_is_gone_and_its_exit_is_told_at_once,
            another_life_has_another_boot_id,
            a_stopped_server_is_silent_and_stopped,
            a_wrong_password_is_no_death_and_never_shown,
            a_look_tells_who_takes_writes,
            a_start_is_judged_by_the_servers_own_file,
            a_fence_stops_connected_writers,
            a_fence_kills_a_stopped_server,
            a_fence_that_may_not_kill_says_that_it_failed,
            a_fence_of_a_dead_server_tells_its_exit,
            a_detached_copy_keeps_data_and_position,
            a_promotion_asks_for_the_judged_life,
            a_copy_follows_a_promoted_one,
            a_rehearsal_of_a_good_server_passes,
        );
    };
    (@all $attribute:tt $bench:expr => $($scenario:ident,)*) => {
        $(contract!(@one $attribute $bench => $scenario);)*
    };
    (@one [$($attribute:meta)?] $bench:expr => $scenario:ident) => {
        #[tokio::test]
        $(#[$attribute])?
        async fn $scenario() {
            $crate::database::suite::bounded($crate::database::suite::$scenario(&$bench)).await;
        }
    };
}
pub(crate) use contract;

/// A scenario that does not come to its end fails under its own name, before its suite does.
pub(crate) async fn bounded(scenario: impl Future<Output = ()>) {
    timeout(LIMIT, scenario).await.expect("it comes to its end");
}

/// Looks until it is as wished.
pub(crate) async fn observed(
    database: &dyn Database,
    wish: impl Fn(&Observation) -> bool,
) -> Observation {
    let until = Instant::now() + PATIENCE;
    loop {
        let seen = database.observe(PROBE).await;
        if wish(&seen) {
            return seen;
        }
        assert!(Instant::now() < until, "never seen as wished; last seen {seen:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Looks until its state is as wished.
pub(crate) async fn state(
    database: &dyn Database,
    wish: impl Fn(&InstanceState) -> bool,
) -> InstanceState {
    let seen = observed(database, |seen| seen.answer.state().is_some_and(&wish)).await;
    seen.answer.state().cloned().expect("just seen")
}

/// The life of a server that answers.
pub(crate) async fn life(database: &dyn Database) -> BootId {
    observed(database, |seen| seen.answer.state().is_some()).await.boot_id.expect("local")
}

/// The state that a command that must succeed reads back.
pub(crate) async fn done(database: &dyn Database, command: Command) -> InstanceState {
    match database.control(command.clone(), COMMAND).await {
        ControlOutcome::Done { state, .. } => state,
        other => panic!("{command:?}: {other:?}"),
    }
}

/// A master and a copy of it in step.
async fn pair<B: Bench>(bench: &B) -> (B::Server, B::Server) {
    let master = bench.start(Start::Open).await;
    let replica = bench.start(Start::ReplicaOf(master.address())).await;
    state(replica.database(), |state| state.link_up).await;
    (master, replica)
}

async fn in_step<B: Bench>(master: &B::Server, replica: &B::Server) {
    let until = Instant::now() + PATIENCE;
    loop {
        let ahead = state(master.database(), |_| true).await.applied;
        let behind = state(replica.database(), |_| true).await.applied;
        if behind.covers(&ahead) == Covering::Covers(0) {
            return;
        }
        assert!(Instant::now() < until, "never in step: {ahead} and {behind}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn roles_and_links_are_observed<B: Bench>(bench: &B) {
    let (master, replica) = pair(bench).await;
    assert_eq!(master.client().await.write("a").await, Written::Acknowledged);
    in_step::<B>(&master, &replica).await;
    let seen = observed(master.database(), |_| true).await;
    let told = seen.answer.state().expect("answers");
    assert!(told.role == Role::Master && told.writable && told.source.is_none());
    assert!(!told.version.is_empty() && !told.never_synced);
    assert!(matches!(seen.process, Process::Running | Process::Sleeping), "{:?}", seen.process);
    assert!(seen.boot_id.expect("local").0.contains(&format!(":{}:", master.pid())));
    let copy = state(replica.database(), |state| state.link_up).await;
    assert!(copy.role == Role::Replica && !copy.writable && !copy.syncing && !copy.never_synced);
    assert_eq!(copy.source, Some(master.address()));
    assert!(copy.silent_for.is_some());
    drop(master);
    let copy = state(replica.database(), |state| !state.link_up).await;
    assert!(!copy.never_synced && !copy.writable, "{copy:?}");

    let empty = bench.start(Start::Fenced).await;
    let copy = state(empty.database(), |_| true).await;
    assert!(copy.never_synced && !copy.writable && copy.role == bench.fenced_role(), "{copy:?}");
}

pub(crate) async fn a_dead_server_is_gone_and_its_exit_is_told_at_once<B: Bench>(bench: &B) {
    let mut fastest = PATIENCE;
    // The machine may be busy with something else: the best of three counts.
    for _ in 0..3 {
        let server = bench.start(Start::Open).await;
        let early = timeout(Duration::from_millis(20), server.database().exited()).await;
        assert!(early.is_err(), "told an exit before any process was seen");
        let boot_id = life(server.database()).await;
        let told = async {
            let told = timeout(PATIENCE, server.database().exited()).await.expect("told");
            (told, Instant::now())
        };
        let killed = async {
            server.signal(Signal::KILL);
            Instant::now()
        };
        let ((told, at), killed) = tokio::join!(told, killed);
        assert_eq!(told, boot_id);
        fastest = fastest.min(at - killed);
        let seen = server.database().observe(PROBE).await;
        assert_eq!(seen.answer, Answer::Refused);
        assert_eq!((seen.process, seen.boot_id), (Process::Gone, Some(boot_id)));
    }
    assert!(fastest < bench.exit_takes(), "took {fastest:?}");
}

pub(crate) async fn another_life_has_another_boot_id<B: Bench>(bench: &B) {
    let mut server = bench.start(Start::Open).await;
    let first = life(server.database()).await;
    server.signal(Signal::KILL);
    assert_eq!(timeout(PATIENCE, server.database().exited()).await.expect("told"), first);
    server.start_again().await;
    let second = life(server.database()).await;
    assert_ne!(first, second);
    let again = timeout(Duration::from_millis(50), server.database().exited()).await;
    assert!(again.is_err(), "told an exit twice: {again:?}");
    server.signal(Signal::KILL);
    assert_eq!(timeout(PATIENCE, server.database().exited()).await.expect("told"), second);
}

pub(crate) async fn a_stopped_server_is_silent_and_stopped<B: Bench>(bench: &B) {
    let server = bench.start(Start::Open).await;
    let boot_id = life(server.database()).await;
    server.stop().await;
    let within = Duration::from_millis(200);
    for _ in 0..12 {
        let began = Instant::now();
        let seen = server.database().observe(within).await;
        assert!(began.elapsed() < 4 * within, "a probe took {:?}", began.elapsed());
        assert_eq!(seen.answer, Answer::Silent);
        assert_eq!((seen.process, seen.boot_id.as_ref()), (Process::Stopped, Some(&boot_id)));
    }
    server.signal(Signal::CONT);
    assert_eq!(life(server.database()).await, boot_id);
}

pub(crate) async fn a_wrong_password_is_no_death_and_never_shown<B: Bench>(bench: &B) {
    let server = bench.start(Start::Open).await;
    let database = bench.wrong_login(&server);
    let seen = database.observe(PROBE).await;
    assert!(matches!(seen.answer, Answer::AuthFailed(_)), "{seen:?}");
    assert!(seen.answer.alive() && seen.boot_id.is_some(), "{seen:?}");
    let rehearsed = database.rehearse().await.expect_err("cannot log in");
    let read = database.control(Command::Read, COMMAND).await;
    assert!(matches!(read, ControlOutcome::Failed { untouched: true, .. }), "{read:?}");
    let fence = database.control(Command::Fence { kill: false }, COMMAND).await;
    assert!(matches!(fence, ControlOutcome::Failed { .. }), "{fence:?}");
    let shown = format!("{seen:?} {rehearsed} {read:?} {fence:?}");
    for password in bench.passwords() {
        assert!(!shown.contains(&password), "a password stands in {shown}");
    }
}

pub(crate) async fn a_look_tells_who_takes_writes<B: Bench>(bench: &B) {
    let (master, replica) = pair(bench).await;
    let look = |address| replica.database().look(address, PROBE);
    assert_eq!(look(master.address()).await, LookOutcome::Writable);
    assert_eq!(look(replica.address()).await, LookOutcome::NotWritable);
    done(master.database(), Command::Fence { kill: false }).await;
    assert_eq!(look(master.address()).await, LookOutcome::NotWritable);
    let address = master.address();
    drop(master);
    assert_eq!(look(address).await, LookOutcome::Unknown);
}

pub(crate) async fn a_start_is_judged_by_the_servers_own_file<B: Bench>(bench: &B) {
    let open = bench.start(Start::Open).await;
    let fenced = bench.start(Start::Fenced).await;
    let judged = |state: &InstanceState| {
        let settings = &state.settings;
        settings.killable.is_good() && settings.starts_fenced != Verdict::Unknown
    };
    let settings = state(open.database(), judged).await.settings;
    let shown = format!("{:?}", settings.starts_fenced);
    assert!(shown.contains("Bad") && shown.contains("starts fenced"), "{shown}");
    state(fenced.database(), |state| state.settings.starts_fenced.is_good()).await;
    // What it is made at run time changes nothing in how it starts.
    let boot_id = life(fenced.database()).await;
    let promoted = done(fenced.database(), Command::Promote { boot_id }).await;
    assert!(promoted.writable);
    state(fenced.database(), |state| state.writable && state.settings.starts_fenced.is_good())
        .await;
}

pub(crate) async fn a_fence_stops_connected_writers<B: Bench>(bench: &B) {
    let (master, replica) = pair(bench).await;
    let boot_id = life(master.database()).await;
    master.database().rehearse().await.expect("all rungs are possible");
    let fenced = std::cell::Cell::new(false);
    let writers = (0..4).map(|writer| {
        let (master, fenced) = (&master, &fenced);
        async move {
            let mut client = master.client().await;
            let (mut before, mut refused) = (0, 0);
            for round in 0.. {
                let late = fenced.get();
                match client.write(&format!("{writer}-{round}")).await {
                    Written::Acknowledged if late => panic!("a write after the fence"),
                    Written::Acknowledged => before += 1,
                    Written::Refused if late => refused += 1,
                    Written::Refused | Written::Unknown => {}
                }
                if refused == 20 {
                    break;
                }
            }
            assert!(before > 0, "it never wrote");
        }
    });
    let fence = async {
        sleep(Duration::from_millis(100)).await;
        let outcome = master.database().control(Command::Fence { kill: false }, COMMAND).await;
        fenced.set(true);
        outcome
    };
    let all = async { tokio::join!(futures_util::future::join_all(writers), fence).1 };
    let outcome = timeout(PATIENCE, all).await.expect("in time");
    let ControlOutcome::Done { boot_id: answered, state } = outcome else {
        panic!("not fenced: {outcome:?}");
    };
    assert_eq!(answered, boot_id);
    assert!(!state.writable && state.role == bench.fenced_role());
    // Everything that it acknowledged is in the position that it read back.
    in_step::<B>(&master, &replica).await;
    let again = done(master.database(), Command::Fence { kill: true }).await;
    assert_eq!(again.applied, state.applied, "a second fence changes nothing");
}

pub(crate) async fn a_fence_kills_a_stopped_server<B: Bench>(bench: &B) {
    let server = bench.start(Start::Open).await;
    let boot_id = life(server.database()).await;
    server.database().rehearse().await.expect("all rungs are possible");
    let mut client = server.client().await;
    server.stop().await;
    let (written, outcome) = tokio::join!(client.write("queued"), async {
        sleep(Duration::from_millis(20)).await;
        server.database().control(Command::Fence { kill: true }, COMMAND).await
    });
    assert_eq!(outcome, ControlOutcome::Exited { boot_id: Some(boot_id) });
    assert_eq!(written, Written::Unknown, "a queued write was acknowledged");
}

pub(crate) async fn a_fence_that_may_not_kill_says_that_it_failed<B: Bench>(bench: &B) {
    let server = bench.start(Start::Open).await;
    life(server.database()).await;
    server.stop().await;
    let within = Duration::from_millis(400);
    let began = Instant::now();
    let outcome = server.database().control(Command::Fence { kill: false }, within).await;
    assert!(began.elapsed() < 3 * within, "took {:?}", began.elapsed());
    assert!(matches!(outcome, ControlOutcome::Failed { untouched: false, .. }), "{outcome:?}");
    server.signal(Signal::CONT);
    let state = done(server.database(), Command::Fence { kill: false }).await;
    assert!(!state.writable);
}

pub(crate) async fn a_fence_of_a_dead_server_tells_its_exit<B: Bench>(bench: &B) {
    let mut server = bench.start(Start::Open).await;
    let boot_id = life(server.database()).await;
    server.signal(Signal::KILL);
    server.database().exited().await;
    for kill in [false, true] {
        let outcome = server.database().control(Command::Fence { kill }, COMMAND).await;
        assert_eq!(outcome, ControlOutcome::Exited { boot_id: Some(boot_id.clone()) });
    }
    // Another life in its place is fenced for what it is.
    server.start_again().await;
    let outcome = server.database().control(Command::Fence { kill: false }, COMMAND).await;
    let ControlOutcome::Done { boot_id: answered, state } = outcome else {
        panic!("not fenced: {outcome:?}");
    };
    assert!(answered != boot_id && !state.writable);
}

pub(crate) async fn a_detached_copy_keeps_data_and_position<B: Bench>(bench: &B) {
    let (master, replica) = pair(bench).await;
    let mut client = master.client().await;
    for key in 0..50 {
        assert_eq!(client.write(&format!("kept-{key}")).await, Written::Acknowledged);
    }
    in_step::<B>(&master, &replica).await;
    let before = state(replica.database(), |_| true).await;
    let detached = done(replica.database(), Command::Detach).await;
    assert!(!detached.link_up && !detached.writable && detached.role == Role::Replica);
    assert_eq!(detached.received, detached.applied, "a final position");
    assert!(matches!(detached.applied.covers(&before.applied), Covering::Covers(_)));
    assert_eq!(client.write("missed").await, Written::Acknowledged);
    assert_eq!(done(replica.database(), Command::Detach).await.applied, detached.applied);
    let mut reader = replica.client().await;
    assert!(reader.has("kept-49").await && !reader.has("missed").await);
    assert_eq!(done(replica.database(), Command::Read).await.applied, detached.applied);
}

pub(crate) async fn a_promotion_asks_for_the_judged_life<B: Bench>(bench: &B) {
    let server = bench.start(Start::Fenced).await;
    let boot_id = life(server.database()).await;
    let other = BootId(format!("{boot_id}0").into());
    let wrong = server.database().control(Command::Promote { boot_id: other }, COMMAND).await;
    assert!(matches!(&wrong, ControlOutcome::Failed { untouched: true, .. }), "{wrong:?}");
    assert_eq!(server.client().await.write("early").await, Written::Refused);
    let promoted = done(server.database(), Command::Promote { boot_id: boot_id.clone() }).await;
    assert!(promoted.role == Role::Master && promoted.writable);
    assert_eq!(server.client().await.write("now").await, Written::Acknowledged);
    done(server.database(), Command::Fence { kill: false }).await;
    done(server.database(), Command::Promote { boot_id: boot_id.clone() }).await;
    server.signal(Signal::KILL);
    server.database().exited().await;
    let dead = server.database().control(Command::Promote { boot_id }, COMMAND).await;
    assert!(matches!(&dead, ControlOutcome::Failed { untouched: true, .. }), "{dead:?}");
}

pub(crate) async fn a_copy_follows_a_promoted_one<B: Bench>(bench: &B) {
    let (old, new) = pair(bench).await;
    let third = bench.start(Start::ReplicaOf(old.address())).await;
    state(third.database(), |state| state.link_up).await;
    assert_eq!(old.client().await.write("first").await, Written::Acknowledged);
    in_step::<B>(&old, &new).await;
    in_step::<B>(&old, &third).await;
    let fenced = done(old.database(), Command::Fence { kill: false }).await;
    for copy in [&new, &third] {
        let detached = done(copy.database(), Command::Detach).await;
        assert!(matches!(detached.applied.covers(&fenced.applied), Covering::Covers(_)));
    }
    let boot_id = life(new.database()).await;
    let promoted = done(new.database(), Command::Promote { boot_id }).await;
    assert!(matches!(promoted.applied.covers(&fenced.applied), Covering::Covers(_)));
    for copy in [&third, &old] {
        let source = new.address();
        let following = done(copy.database(), Command::Follow { source }).await;
        assert!(following.source == Some(source) && !following.writable);
        state(copy.database(), |state| state.link_up).await;
    }
    assert_eq!(new.client().await.write("second").await, Written::Acknowledged);
    in_step::<B>(&new, &old).await;
    in_step::<B>(&new, &third).await;
    let mut reader = old.client().await;
    assert!(reader.has("first").await && reader.has("second").await);
    assert_eq!(reader.write("third").await, Written::Refused);
}

pub(crate) async fn a_rehearsal_of_a_good_server_passes<B: Bench>(bench: &B) {
    let server = bench.start(Start::Open).await;
    server.database().rehearse().await.expect("all rungs are possible");
    // And nothing was changed by it.
    assert_eq!(server.client().await.write("still").await, Written::Acknowledged);
    server.signal(Signal::KILL);
    life_ended(server.database()).await;
    let error = server.database().rehearse().await.expect_err("nobody there");
    assert!(error.contains(&server.address().to_string()), "{error}");
}

async fn life_ended(database: &dyn Database) {
    observed(database, |seen| seen.answer == Answer::Refused).await;
}

//! What each command does to a server, statement by statement.
//!
//! Nothing that a copy received is ever thrown away: a receiver is restarted, re-pointed or
//! forgotten only when everything that it received is applied. A promotion does first what can be
//! undone and forgets its source last; if that fails, it closes the server again.

use std::net::SocketAddr;

use sengu_core::event::Command;
use sengu_core::observation::Role;
use tokio::time::sleep;

use super::control::{Failure, LOOK_PAUSE, Work};
use super::fault::code;
use super::server::{Source, Threads};
use super::state::{Channel, Receiver, Told};
use super::{applier, semi_sync, sessions};

/// Carries a command out and tells how the server reads back.
pub(super) async fn carry_out(work: &Work<'_>, command: &Command) -> Result<Told, Failure> {
    match command {
        Command::Detach => detach(work).await,
        Command::Promote { .. } => promote(work).await,
        Command::Follow { source } => follow(work, *source).await,
        Command::Acknowledge { on } => semi_sync::acknowledge(work, *on).await,
        Command::Await { count } => semi_sync::wait_for(work, *count).await,
        // Writes are held back only to shorten a wait, and these servers have no pause that ends
        // by itself: a lock would stay if the agent died.
        Command::Pause { .. } | Command::Unpause | Command::Read => work.state().await,
        Command::Fence { .. } => {
            Err(Failure::untouched("a fence does not go over the control connection"))
        }
    }
}

/// Stops receiving, running or retrying; keeps what was received.
async fn detach(work: &Work<'_>) -> Result<Told, Failure> {
    only_one_source(work)?;
    if work.before.state.writable && work.before.state.role == Role::Replica {
        close(work).await?;
    }
    let Some(channel) = &work.before.channel else { return work.state().await };
    work.begin();
    stop_receiver(work, channel).await
}

/// Stops the receiver, and believes it when it stands.
pub(super) async fn stop_receiver(work: &Work<'_>, channel: &Channel) -> Result<Told, Failure> {
    if channel.receiver != Receiver::Stopped {
        work.exec(&work.session.server().stop(&channel.name, Threads::Receiver)).await?;
    }
    loop {
        let told = work.state().await?;
        match &told.channel {
            Some(channel) if channel.receiver != Receiver::Stopped => sleep(LOOK_PAUSE).await,
            _ => return Ok(told),
        }
    }
}

fn only_one_source(work: &Work<'_>) -> Result<(), Failure> {
    match work.before.channels {
        0 | 1 => Ok(()),
        count => Err(Failure::untouched(format!(
            "it replicates from {count} sources: only one is supported"
        ))),
    }
}

/// Takes writes.
async fn promote(work: &Work<'_>) -> Result<Told, Failure> {
    only_one_source(work)?;
    applier::check(work, &work.before)?;
    let server = work.session.server();
    if let Some(channel) = &work.before.channel {
        let told = stop_receiver(work, channel).await?;
        applier::applied(work, told).await?;
        applier::stop(work, channel).await?;
    }
    // Commits must not hang before it is known whom they could wait for.
    let told_to_wait = work.shared.made(work.process.boot_id()).awaits.unwrap_or(0);
    if told_to_wait == 0 {
        semi_sync::do_not_wait(work).await?;
    }
    work.begin();
    let opened = open(work).await;
    match opened {
        Ok(told) => Ok(told),
        Err(failure) => {
            // Half a promotion is none: it is closed again, whatever that answers.
            let closed = work.try_exec(&server.close()).await;
            let again = if matches!(closed, Ok(Ok(()))) { "closed again" } else { "still open" };
            Err(Failure::unsure(format!("{}; {again}", failure.error)))
        }
    }
}

/// Opens a server that received nothing more and applied everything, and forgets its source.
async fn open(work: &Work<'_>) -> Result<Told, Failure> {
    let server = work.session.server();
    for statement in server.open() {
        work.exec(statement).await?;
    }
    if work.before.offline {
        work.exec("SET GLOBAL offline_mode=0").await?;
        work.shared.make(work.process.boot_id(), |made| made.offline = false);
    }
    let told = work.state().await?;
    if !told.state.writable {
        return Err(work.failure("it reads back as refusing writes"));
    }
    if let Some(channel) = &work.before.channel {
        work.exec(&server.forget(&channel.name)).await?;
    }
    let boot_id = work.process.boot_id();
    if server.is_mariadb() && !told.events && work.shared.events_are_due(boot_id) {
        work.exec("SET GLOBAL event_scheduler=ON").await?;
        work.shared.make(boot_id, |made| made.events_off = false);
    }
    let told = work.state().await?;
    if told.state.role != Role::Master || !told.state.writable {
        return Err(work.failure(&reads_back(&told)));
    }
    if work.process.is_gone() {
        return Err(work.failure("its process has exited"));
    }
    Ok(told)
}

/// Refuses writes and replicates from there.
async fn follow(work: &Work<'_>, source: SocketAddr) -> Result<Told, Failure> {
    only_one_source(work)?;
    let server = work.session.server();
    if !work.before.closed {
        close(work).await?;
    }
    stop_waiting(work).await?;
    let before = &work.before;
    let name = before.channel.as_ref().map_or("", |channel| channel.name.as_str());
    if before.channel.as_ref().is_some_and(|channel| goes_on(channel, source)) {
        go_on(work, name).await?;
        return expect_source(work, source).await;
    }
    applier::check(work, before)?;
    let told = match &before.channel {
        Some(channel) => stop_receiver(work, channel).await?,
        None => work.state().await?,
    };
    applier::applied(work, told).await?;
    work.begin();
    if let Some(channel) = &before.channel {
        applier::stop(work, channel).await?;
    }
    let demoted = before.state.role == Role::Master;
    if demoted && let Some(statement) = server.before_demotion() {
        work.exec(statement).await?;
    }
    let login = work.shared.replication.as_ref();
    let login = login.map(|login| (login.user.as_str(), login.password.as_str()));
    let new = Source { address: source, login, tls: work.shared.tls };
    name_source(work, &server.change_source(name, &new, demoted)).await?;
    work.exec(&server.start(name, Threads::Both)).await?;
    expect_source(work, source).await
}

/// MariaDB keeps its source in a file of its own. One that was killed while that was written knows
/// of no source, and takes none before what is left of the file is forgotten.
async fn name_source(work: &Work<'_>, statement: &str) -> Result<(), Failure> {
    let server = work.session.server();
    let Err(fault) = work.try_exec(statement).await? else { return Ok(()) };
    let half = fault.is(code::NO_MASTER_INFO) && work.before.channel.is_none();
    if !(half && server.is_mariadb()) {
        return Err(work.failure(&fault.to_string()));
    }
    work.exec(&server.forget("")).await?;
    work.exec(statement).await
}

/// What a copy applies waits for nobody: else its applier would stand as soon as nobody
/// acknowledges to it.
async fn stop_waiting(work: &Work<'_>) -> Result<(), Failure> {
    let Some(semi) = work.before.state.semi_sync else { return Ok(()) };
    let commits_wait = semi.awaits > 0 && semi.waiting > 0;
    if commits_wait && work.before.state.role == Role::Master {
        // It would acknowledge what no copy has.
        return Err(work.failure(&format!(
            "{} commits still wait for an acknowledgement of a copy",
            semi.waiting
        )));
    }
    semi_sync::do_not_wait(work).await?;
    work.shared.make(work.process.boot_id(), |made| made.awaits = None);
    Ok(())
}

/// Starts what stands of a channel that is set up as it should be. A receiver that has not come
/// further than its attempt to connect begins anew.
async fn go_on(work: &Work<'_>, name: &str) -> Result<(), Failure> {
    let state = &work.before.state;
    if state.link_up {
        return Ok(());
    }
    let server = work.session.server();
    let receiver = work.before.channel.as_ref().map(|channel| channel.receiver);
    if server.is_mariadb() && receiver != Some(Receiver::Running) && state.applier_stopped {
        applier::check(work, &work.before)?;
    }
    work.begin();
    if receiver == Some(Receiver::Connecting) {
        work.exec(&server.stop(name, Threads::Receiver)).await?;
    }
    work.exec(&server.start(name, Threads::Both)).await
}

/// Is it set up for just this source, by transaction ids, with a login that was let in?
fn goes_on(channel: &Channel, source: SocketAddr) -> bool {
    // Access denied: the login that it was set up with is no good any more.
    channel.address() == Some(source) && channel.by_gtid && channel.receiver_error != 1045
}

async fn expect_source(work: &Work<'_>, source: SocketAddr) -> Result<Told, Failure> {
    let told = work.state().await?;
    if told.state.source != Some(source) || told.state.writable {
        return Err(work.failure(&reads_back(&told)));
    }
    Ok(told)
}

/// Refuses writes, and ends whoever could still write.
async fn close(work: &Work<'_>) -> Result<(), Failure> {
    work.exec(&work.session.server().close()).await?;
    let told = work.state().await?;
    if told.state.writable {
        return Err(work.failure("it reads back as taking writes"));
    }
    if !work.before.state.writable {
        return Ok(());
    }
    let own = work.shared.own_sessions(&work.session);
    let failed = |fault: super::fault::Fault| {
        work.failure(&format!("the sessions of its clients could not be ended: {fault}"))
    };
    let others = sessions::clients(&work.session, &own, work.deadline).await.map_err(failed)?;
    let ids: Vec<u64> = others.iter().map(|other| other.id).collect();
    sessions::end(&work.session, &ids, work.deadline).await.map_err(failed)
}

fn reads_back(told: &Told) -> String {
    let state = &told.state;
    let source = state.source.map_or_else(|| "nobody".to_owned(), |source| source.to_string());
    let writes = if state.writable { "takes writes" } else { "takes none" };
    let trouble = state.trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("it reads back as a {} of {source} that {writes}{trouble}", state.role)
}

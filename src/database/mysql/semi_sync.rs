//! Semi-synchronous replication, both sides: whether a copy acknowledges, and for how many
//! acknowledgements a master's commits wait.
//!
//! A master that waits never falls back: its time-out is set to the longest there is, and it
//! waits before others can see the commit. To stop waiting releases the commits that wait, as
//! acknowledged; only the core decides that. A copy counts as acknowledging no more only when its
//! receiver runs without, or not at all.

use super::applier::applied;
use super::change::stop_receiver;
use super::control::{Failure, Work};
use super::server::Threads;
use super::state::{Channel, Receiver, Told};

/// The longest time-out that both servers take: milliseconds.
const FOR_EVER: u64 = u64::MAX;

/// As a copy: acknowledges from now on, or no more.
pub(super) async fn acknowledge(work: &Work<'_>, on: bool) -> Result<Told, Failure> {
    let Some(side) = work.features().semi_sync.replica else {
        return if on {
            Err(Failure::untouched(
                "it cannot acknowledge: load the plugin of semi-synchronous replication",
            ))
        } else {
            work.state().await
        };
    };
    let told = acknowledges(work.before.clone());
    if told.is_some_and(|acknowledges| acknowledges == on) && set_to(work, on) {
        return work.state().await;
    }
    work.begin();
    let value = u8::from(on);
    work.exec(&format!("SET GLOBAL rpl_semi_sync_{side}_enabled={value}")).await?;
    let told = work.state().await?;
    let channel = told.channel.clone().filter(|channel| channel.receiver != Receiver::Stopped);
    let Some(channel) = channel else {
        return if on {
            Err(work.failure("its receiver does not run; it will acknowledge when it does"))
        } else {
            Ok(told)
        };
    };
    restart_receiver(work, &told, &channel).await?;
    loop {
        let told = work.state().await?;
        if acknowledges(told.clone()) == Some(on) {
            return Ok(told);
        }
        if work.is_short_of(super::control::LOOK_PAUSE * 4) {
            return Err(work.failure("its receiver does not run with the new setting yet"));
        }
        tokio::time::sleep(super::control::LOOK_PAUSE).await;
    }
}

/// A receiver takes the setting over when it starts.
///
/// MySQL keeps what it received. MariaDB throws it away when it starts a receiver while its applier
/// stands, so there all of it is applied first.
async fn restart_receiver(work: &Work<'_>, told: &Told, channel: &Channel) -> Result<(), Failure> {
    let server = work.session.server();
    let start = server.start(&channel.name, Threads::Receiver);
    if !server.is_mariadb() {
        stop_receiver(work, channel).await?;
        return work.exec(&start).await;
    }
    if told.state.applier_stopped {
        return Err(work.failure("its applier does not run, so its receiver is not started anew"));
    }
    let told = stop_receiver(work, channel).await?;
    let ready = applied(work, told).await;
    let told = work.state().await?;
    if told.state.applier_stopped {
        return Err(work.failure("its applier has stopped, so its receiver stays stopped"));
    }
    work.exec(&start).await?;
    ready.map(|_| ())
}

fn acknowledges(told: Told) -> Option<bool> {
    told.state.semi_sync.map(|semi| semi.acknowledges)
}

/// Was the variable on, too? A receiver that does not run acknowledges nothing either way.
fn set_to(work: &Work<'_>, on: bool) -> bool {
    work.before.acknowledges_set == on
}

/// As a master: each commit waits for so many acknowledgements; 0: for none.
pub(super) async fn wait_for(work: &Work<'_>, count: u32) -> Result<Told, Failure> {
    let names = work.features().semi_sync;
    let Some(side) = names.source else {
        return if count == 0 {
            work.state().await
        } else {
            Err(Failure::untouched(
                "commits cannot wait for copies: load the plugin of semi-synchronous replication",
            ))
        };
    };
    let server = work.session.server();
    if server.is_mariadb() && count > 1 {
        return Err(Failure::untouched(format!(
            "commits cannot wait for {count} copies: mariadb waits for one"
        )));
    }
    work.begin();
    if count == 0 {
        do_not_wait(work).await?;
    } else {
        work.exec(&format!("SET GLOBAL rpl_semi_sync_{side}_timeout={FOR_EVER}")).await?;
        work.exec(&format!("SET GLOBAL rpl_semi_sync_{side}_wait_point=AFTER_SYNC")).await?;
        if let Some(variable) = names.lonely_variable() {
            work.exec(&format!("SET GLOBAL {variable}=1")).await?;
        }
        if let Some(variable) = names.count_variable().filter(|_| !server.is_mariadb()) {
            work.exec(&format!("SET GLOBAL {variable}={count}")).await?;
        }
        work.exec(&format!("SET GLOBAL rpl_semi_sync_{side}_enabled=1")).await?;
    }
    let told = work.state().await?;
    let awaits = told.state.semi_sync.map_or(0, |semi| semi.awaits);
    if awaits != count {
        return Err(work.failure(&format!("it reads back as waiting for {awaits} copies")));
    }
    work.shared.make(work.process.boot_id(), |made| made.awaits = Some(count));
    Ok(told)
}

/// Commits wait for nobody.
pub(super) async fn do_not_wait(work: &Work<'_>) -> Result<(), Failure> {
    let Some(side) = work.features().semi_sync.source else { return Ok(()) };
    work.exec(&format!("SET GLOBAL rpl_semi_sync_{side}_enabled=0")).await
}

//! Faults that are played by name, around the one that is master: each of those that are drawn, and
//! some that happen together.
//!
//! A name says what happens to the master, unless it says to whom.

use std::time::Duration;

use super::fault::{Deed, Fault};

/// What is staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Staged {
    /// Its process is killed, and started again later.
    Kill,
    /// A supervisor starts it again at once.
    KillAndRestart,
    /// A supervisor starts it again after 3 s.
    KillAndRestartLate,
    /// It comes back with nothing.
    KillAndEmpty,
    /// It comes back with its data of some seconds before.
    RollBack,
    /// It and both copies are killed at once.
    KillAll,
    /// A copy stands still while it is killed.
    KillWhileACopyHangs,
    /// A copy is killed with it.
    KillWithACopy,
    /// A member of the store stands still while it is killed.
    KillWhileAMemberHangs,
    /// It stands still, and wakes when another one serves.
    Hang,
    /// It stands still for less than counts as hung.
    Blink,
    /// Its disk is full.
    FillDisk,
    /// Its disk hangs.
    HangDisk,
    /// Its disk is slow.
    SlowDisk,
    /// Its host is cut off.
    Isolate,
    /// Nothing of its host reaches the others.
    Mute,
    /// Nothing of a copy's host reaches its host.
    HalfOpen,
    /// Nothing passes between its host and a copy's.
    Cut,
    /// Nothing passes between the hosts of both copies.
    CutCopies,
    /// Nothing passes between it and other hosts, and all else between them does.
    CutReplication,
    /// Everything from and to its host is late.
    Delay,
    /// A quarter of the packets from and to its host is lost.
    Drop,
    /// Little passes from and to its host.
    Slow,
    /// A copy's host is cut off.
    IsolateACopy,
    /// Its agent is killed and started again.
    KillAgent,
    /// Its agent stands still for a moment.
    HangAgent,
    /// Its host is cut off, and its agent is started again.
    RestartCutOff,
    /// The store's member on its host is killed.
    KillStore,
    /// The store's member on its host stands still.
    HangStore,
    /// All members of the store are killed.
    KillWholeStore,
    /// A person moves it.
    Switchover,
    /// A person moves it while a copy stands still.
    SwitchoverWhileACopyHangs,
    /// A person moves it while its host is late.
    SwitchoverWhileItsHostIsLate,
    /// A person moves it again and again, more often than its record keeps.
    SwitchoverAgainAndAgain,
    /// A person opens a copy.
    OpenByHand,
    /// It is killed, and then the agent that runs the hook after that failover, in the hook.
    KillAgentInAHook,
}

/// More moves than a record keeps histories of masters.
const OFTEN: usize = 20;

impl Staged {
    /// What happens, for so many hosts and the place of the master's.
    #[must_use]
    pub fn deeds(self, hosts: usize, master: usize) -> Vec<Deed> {
        let (next, last) = ((master + 1) % hosts, (master + hosts - 1) % hosts);
        let millis = match self {
            Self::KillAndRestart | Self::KillAndEmpty | Self::RollBack => 1_000,
            Self::Switchover | Self::SwitchoverAgainAndAgain => 1_000,
            Self::Blink | Self::HangAgent => 1_500,
            Self::KillAgent => 500,
            Self::OpenByHand => 2_000,
            Self::Hang | Self::KillWholeStore => 14_000,
            Self::Kill | Self::KillAll | Self::KillWithACopy => 8_000,
            _ => 10_000,
        };
        let faults = match self {
            Self::Kill => vec![Fault::Kill(master)],
            Self::KillAndRestart => vec![Fault::KillAndRestart(master)],
            Self::KillAndRestartLate => vec![Fault::KillAndRestartLate(master, 3_000)],
            Self::KillAndEmpty => vec![Fault::KillAndEmpty(master)],
            Self::RollBack => vec![Fault::RollBack(master)],
            Self::KillAll => (0..hosts).map(Fault::Kill).collect(),
            Self::KillWhileACopyHangs => vec![Fault::Hang(next), Fault::Kill(master)],
            Self::KillWithACopy => vec![Fault::Kill(next), Fault::Kill(master)],
            Self::KillWhileAMemberHangs => vec![Fault::HangStore(next), Fault::Kill(master)],
            Self::Hang => vec![Fault::Hang(master)],
            Self::Blink => vec![Fault::Blink(master)],
            Self::FillDisk => vec![Fault::FillDisk(master)],
            Self::HangDisk => vec![Fault::HangDisk(master)],
            Self::SlowDisk => vec![Fault::SlowDisk(master)],
            Self::Isolate => vec![Fault::Isolate(master)],
            Self::Mute => vec![Fault::Mute(master)],
            Self::HalfOpen => vec![Fault::HalfOpen(next, master)],
            Self::Cut => vec![Fault::Cut(master, next)],
            Self::CutCopies => vec![Fault::Cut(next, last)],
            Self::CutReplication => vec![Fault::CutReplication(master)],
            Self::Delay => vec![Fault::Delay(master, 200)],
            Self::Drop => vec![Fault::Drop(master, 250)],
            Self::Slow => vec![Fault::Slow(master, 50)],
            Self::IsolateACopy => vec![Fault::Isolate(next)],
            Self::KillAgent => vec![Fault::KillAgent(master)],
            Self::HangAgent => vec![Fault::HangAgent(master)],
            Self::RestartCutOff => vec![Fault::RestartCutOff(master)],
            Self::KillStore => vec![Fault::KillStore(master)],
            Self::HangStore => vec![Fault::HangStore(master)],
            Self::KillWholeStore => (0..hosts).map(Fault::KillStore).collect(),
            Self::Switchover => vec![Fault::Switchover(master)],
            Self::SwitchoverWhileACopyHangs => vec![Fault::Hang(next), Fault::Switchover(master)],
            Self::SwitchoverWhileItsHostIsLate => {
                vec![Fault::Delay(master, 100), Fault::Switchover(master)]
            }
            Self::SwitchoverAgainAndAgain => vec![Fault::Switchover(master); OFTEN],
            Self::OpenByHand => vec![Fault::OpenByHand(next)],
            Self::KillAgentInAHook => vec![Fault::KillAgentInAHook(master)],
        };
        let lasts = Duration::from_millis(millis);
        faults.into_iter().map(|fault| Deed { fault, lasts }).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn what_is_staged_is_around_the_master_and_within_bounds() {
        for staged in Staged::value_variants() {
            let deeds = staged.deeds(3, 2);
            assert!(!deeds.is_empty(), "{staged:?}");
            assert!(deeds.iter().all(|it| it.lasts <= Duration::from_secs(14)), "{staged:?}");
            let everywhere = deeds.len() == 3;
            assert_eq!(deeds == staged.deeds(3, 1), everywhere, "{staged:?} is around the master");
        }
    }
}

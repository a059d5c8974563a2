//! Faults on real servers, and schedules of them drawn from a seed.
//!
//! Pure: the same seed is the same schedule on every machine; what happens then is not. An agent
//! is away only for much less than a lease: an agent that stays dead beside its database is a
//! limit that is documented, and nothing to be found here.

use std::fmt;
use std::time::Duration;

use super::staged::Staged;
use crate::sim::random::Random;

/// What happens to a host, by its place in the cluster from 0 on, or to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The database is killed, and started again at the end.
    Kill(usize),
    /// The database is killed, and a supervisor starts it again at once.
    KillAndRestart(usize),
    /// The database is killed, and a supervisor starts it again after so many milliseconds.
    KillAndRestartLate(usize, u16),
    /// The database is killed, and started again at the end with nothing.
    KillAndEmpty(usize),
    /// The database is killed, and started again at the end with its data of some seconds before.
    RollBack(usize),
    /// The disk of the database is full.
    FillDisk(usize),
    /// The disk of the database hangs.
    HangDisk(usize),
    /// The disk of the database is slow.
    SlowDisk(usize),
    /// The database stands still.
    Hang(usize),
    /// The agent is killed and started again.
    KillAgent(usize),
    /// The agent stands still for a moment.
    HangAgent(usize),
    /// The member of the store is killed, and started again at the end.
    KillStore(usize),
    /// The member of the store stands still.
    HangStore(usize),
    /// The host is cut off.
    Isolate(usize),
    /// Nothing of this host reaches the others, and all of theirs reaches it.
    Mute(usize),
    /// Nothing passes from the one to the other, and all the other way.
    HalfOpen(usize, usize),
    /// Nothing passes between the two.
    Cut(usize, usize),
    /// Everything from and to the host is late by so many milliseconds.
    Delay(usize, u16),
    /// So many of a thousand packets from and to the host are lost.
    Drop(usize, u16),
    /// So many kilobytes a second pass from and to the host.
    Slow(usize, u16),
    /// A person asks for a switchover on this host.
    Switchover(usize),
    /// The host is cut off, and its agent is killed and started again at once.
    RestartCutOff(usize),
    /// A person lets a copy take writes, and nobody writes to it.
    OpenByHand(usize),
    /// The database stands still for much less than counts as hung. Never drawn among others: it
    /// is harmless.
    Blink(usize),
    /// Nothing passes between its database and other hosts, and all else does, agents and store
    /// first of all. Never drawn among others: it is harmless.
    CutReplication(usize),
    /// The database is killed, and started again at the end; the agent that runs the hook after
    /// that failover is killed while it runs, and started again. Never drawn among others.
    KillAgentInAHook(usize),
}

impl Fault {
    /// Does it give nobody a reason to move mastership?
    #[must_use]
    pub const fn harmless(self) -> bool {
        matches!(self, Self::Blink(_) | Self::CutReplication(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |at: &usize| at + 1;
        match self {
            Self::Kill(at) => write!(to, "the database of host {} is killed", host(at)),
            Self::KillAndRestart(at) => {
                write!(to, "the database of host {} is killed and restarted at once", host(at))
            }
            Self::KillAndEmpty(at) => {
                write!(to, "the database of host {} is killed and comes back empty", host(at))
            }
            Self::KillAndRestartLate(at, millis) => {
                let host = host(at);
                write!(to, "the database of host {host} is killed and restarted after {millis} ms")
            }
            Self::RollBack(at) => {
                write!(to, "the database of host {} is killed and comes back rolled back", host(at))
            }
            Self::FillDisk(at) => write!(to, "the disk of host {} is full", host(at)),
            Self::HangDisk(at) => write!(to, "the disk of host {} hangs", host(at)),
            Self::SlowDisk(at) => write!(to, "the disk of host {} is slow", host(at)),
            Self::Hang(at) => write!(to, "the database of host {} stands still", host(at)),
            Self::KillAgent(at) => write!(to, "the agent of host {} is killed", host(at)),
            Self::HangAgent(at) => write!(to, "the agent of host {} stands still", host(at)),
            Self::KillStore(at) => write!(to, "the store of host {} is killed", host(at)),
            Self::HangStore(at) => write!(to, "the store of host {} stands still", host(at)),
            Self::Isolate(at) => write!(to, "host {} is cut off", host(at)),
            Self::Mute(at) => write!(to, "nothing comes from host {}", host(at)),
            Self::HalfOpen(from, at) => {
                write!(to, "nothing passes from host {} to {}", host(from), host(at))
            }
            Self::Cut(one, other) => {
                write!(to, "nothing passes between hosts {} and {}", host(one), host(other))
            }
            Self::Delay(at, millis) => write!(to, "host {} is {millis} ms away", host(at)),
            Self::Drop(at, loss) => write!(to, "host {} loses {loss} of 1000 packets", host(at)),
            Self::Slow(at, rate) => write!(to, "host {} has {rate} kB/s", host(at)),
            Self::Switchover(at) => write!(to, "a switchover is asked for on host {}", host(at)),
            Self::RestartCutOff(at) => {
                write!(to, "host {} is cut off and its agent is started again", host(at))
            }
            Self::OpenByHand(at) => write!(to, "the copy of host {} is opened by hand", host(at)),
            Self::Blink(at) => write!(to, "the database of host {} blinks", host(at)),
            Self::CutReplication(at) => {
                write!(to, "nothing reaches the database of host {} from others", host(at))
            }
            Self::KillAgentInAHook(at) => write!(
                to,
                "the database of host {} is killed, and the agent that runs the hook",
                host(at)
            ),
        }
    }
}

/// A fault with its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deed {
    /// What.
    pub fault: Fault,
    /// How long it lasts.
    pub lasts: Duration,
}

/// An episode: its deeds happen together, each for its own time, and all is mended after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The seed and the number that it is drawn from.
    pub seed: (u64, u32),
    /// One or two.
    pub deeds: Vec<Deed>,
}

impl Schedule {
    /// The episode with this number of a seed, for so many hosts; `master` is the place of the
    /// one that most faults of a kind that needs a victim go to.
    #[must_use]
    pub fn draw(seed: u64, number: u32, hosts: usize, master: usize) -> Self {
        let mut random = Random::stream(seed, &format!("episode {number}"));
        let mut deeds = vec![deed(&mut random, hosts, master)];
        if random.permille(300) {
            let second = deed(&mut random, hosts, master);
            if !alike(deeds[0].fault, second.fault) {
                deeds.push(second);
            }
        }
        Self { seed: (seed, number), deeds }
    }
}

impl Schedule {
    /// The same faults each time, around the one that is master.
    #[must_use]
    pub fn only(seed: u64, number: u32, only: Staged, hosts: usize, master: usize) -> Self {
        Self { seed: (seed, number), deeds: only.deeds(hosts, master) }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "seed {} episode {}:", self.seed.0, self.seed.1)?;
        for Deed { fault, lasts } in &self.deeds {
            write!(to, " {fault} for {} ms;", lasts.as_millis())?;
        }
        Ok(())
    }
}

/// Do both want the same process or the same kind of link?
fn alike(one: Fault, other: Fault) -> bool {
    let kind = |fault: Fault| match fault {
        Fault::Kill(_)
        | Fault::KillAndRestart(_)
        | Fault::KillAndRestartLate(..)
        | Fault::KillAndEmpty(_)
        | Fault::RollBack(_)
        | Fault::FillDisk(_)
        | Fault::HangDisk(_)
        | Fault::SlowDisk(_)
        | Fault::OpenByHand(_)
        | Fault::Hang(_)
        | Fault::KillAgentInAHook(_)
        | Fault::Blink(_) => 0,
        // A command waits for its agent, and nothing else happens meanwhile.
        Fault::KillAgent(_)
        | Fault::HangAgent(_)
        | Fault::Switchover(_)
        | Fault::RestartCutOff(_) => 1,
        Fault::KillStore(_) | Fault::HangStore(_) => 2,
        _ => 3,
    };
    kind(one) == kind(other)
}

fn deed(random: &mut Random, hosts: usize, master: usize) -> Deed {
    // Half of all faults hit the master.
    let host = if random.permille(500) { master } else { random.index(hosts) };
    let other = (host + 1 + random.index(hosts - 1)) % hosts;
    let mut amount =
        |low: u64, high: u64| u16::try_from(random.between(low, high)).unwrap_or(u16::MAX);
    let (millis, loss, rate) = (amount(5, 400), amount(5, 300), amount(20, 500));
    let pause = amount(100, 6000);
    let fault = match random.below(23) {
        0 => Fault::Kill(host),
        1 => Fault::KillAndRestart(host),
        2 => Fault::KillAndEmpty(host),
        3 => Fault::Hang(host),
        4 => Fault::KillAgent(host),
        5 => Fault::HangAgent(host),
        6 => Fault::KillStore(host),
        7 => Fault::HangStore(host),
        8 => Fault::Isolate(host),
        9 => Fault::Mute(host),
        10 => Fault::HalfOpen(host, other),
        11 => Fault::Cut(host, other),
        12 => Fault::Delay(host, millis),
        13 => Fault::Drop(host, loss),
        14 => Fault::Slow(host, rate),
        15 => Fault::RestartCutOff(host),
        16 => Fault::KillAndRestartLate(host, pause),
        17 => Fault::RollBack(host),
        18 => Fault::FillDisk(host),
        19 => Fault::HangDisk(host),
        20 => Fault::SlowDisk(host),
        21 => Fault::OpenByHand((master + other.abs_diff(host).max(1)) % hosts),
        _ => Fault::Switchover(host),
    };
    let lasts = match fault {
        Fault::KillAgent(_) | Fault::HangAgent(_) => random.between(50, 1500),
        _ => random.between(300, 14_000),
    };
    Deed { fault, lasts: Duration::from_millis(lasts) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_is_a_schedule() {
        let draw = |number| Schedule::draw(7, number, 3, 1);
        let all: Vec<Schedule> = (0..400).map(draw).collect();
        assert_eq!(all, (0..400).map(draw).collect::<Vec<_>>());
        let kinds: BTreeSet<String> = all
            .iter()
            .flat_map(|schedule| &schedule.deeds)
            .map(|deed| format!("{:?}", deed.fault).split('(').next().unwrap_or("").to_owned())
            .collect();
        assert_eq!(kinds.len(), 23, "{kinds:?}");
        for deed in all.iter().flat_map(|schedule| &schedule.deeds) {
            assert!(deed.lasts <= Duration::from_secs(14), "{deed:?}");
            if let Fault::HalfOpen(one, other) | Fault::Cut(one, other) = deed.fault {
                assert_ne!(one, other);
            }
            if let Fault::KillAgent(_) | Fault::HangAgent(_) = deed.fault {
                assert!(deed.lasts <= Duration::from_millis(1500), "{deed:?}");
            }
        }
    }
}

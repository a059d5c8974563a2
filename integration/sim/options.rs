//! What a seed draws: the world's size, its policies and clocks, and which faults it will meet.
//!
//! Printed at the start of each trace. The faults of one run are a random subset (swarm testing):
//! a run with few kinds of fault gets deeper into each than a run with all of them.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use sengu_core::policy::{Failover, Judge, Policy, Rejoin};
use sengu_core::record::Phase;

use super::random::Random;
use super::schedule::{MILLI, Micros, SECOND};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The store answers nobody for 1 to 3 s.
    Election,
    /// The store is slow for a while.
    SlowStore,
    /// A host cannot reach the store.
    CutStore,
    /// A host's watch runs late, although its requests are answered.
    LateWatch,
    /// A host's watch is lost and everything is read again.
    LostWatch,
    /// Two hosts cannot reach each other's databases.
    CutReplication,
    /// A database process is killed; its supervisor starts it again, or not.
    KillDatabase,
    /// A database process ends slowly: the listener goes first, the sessions later.
    EndDatabase,
    /// A database process is stopped and continued.
    StopDatabase,
    /// A database runs a script that has written.
    BusyDatabase,
    /// A full copy takes long.
    SlowCopy,
    /// An agent is killed and started again within less than its lease.
    KillAgent,
    /// An agent's loop hangs; its fence thread does not.
    StallAgent,
    /// A host loses its power and comes back later.
    KillHost,
    /// A wall clock is set.
    JumpClock,
    /// Limit: an agent is killed and stays away.
    LoseAgent,
    /// Limit: an agent is stopped by a signal, its fence thread too.
    StopAgent,
}

impl Fault {
    const SHARED: [Self; 14] = [
        Self::Election,
        Self::SlowStore,
        Self::CutStore,
        Self::LateWatch,
        Self::LostWatch,
        Self::CutReplication,
        Self::KillDatabase,
        Self::EndDatabase,
        Self::StopDatabase,
        Self::BusyDatabase,
        Self::SlowCopy,
        Self::KillAgent,
        Self::StallAgent,
        Self::KillHost,
    ];
    const ALONE: [Self; 8] = [
        Self::SlowStore,
        Self::KillDatabase,
        Self::EndDatabase,
        Self::StopDatabase,
        Self::BusyDatabase,
        Self::SlowCopy,
        Self::KillAgent,
        Self::StallAgent,
    ];
}

/// Everything that a seed decides before the world begins.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Hosts with databases; 1 with a store of its own, or 2 to 5 that share one.
    pub(crate) hosts: usize,
    /// Instances of each service.
    pub(crate) instances: usize,
    /// Hosts with an agent and no database.
    pub(crate) watchers: usize,
    /// Services.
    pub(crate) services: usize,
    /// Who judges, with lease and fence budget.
    pub(crate) judge: Judge,
    /// The policy of all services.
    pub(crate) policy: Policy,
    /// Probes: interval and timeout.
    pub(crate) probe: (Duration, Duration),
    /// How fast clocks may run, in parts per million off.
    pub(crate) drift: u64,
    /// The kinds of fault of this run.
    pub(crate) faults: BTreeSet<Fault>,
    /// Between two faults: at least, at most.
    pub(crate) gap: (Micros, Micros),
    /// How long faults go on.
    pub(crate) storm: Micros,
    /// Requests to the store that are lost, in a thousand.
    pub(crate) lost_requests: u64,
    /// Answers of the store that are lost, in a thousand.
    pub(crate) lost_replies: u64,
    /// Instance number whose own file does not start it fenced.
    pub(crate) unfenced: Option<usize>,
    /// The instances' priorities.
    pub(crate) priorities: Vec<u32>,
    /// Phases with a hook.
    pub(crate) hooks: BTreeSet<Phase>,
    /// A person asks for switchovers, failovers, pauses and drains.
    pub(crate) person: bool,
    /// Clients that follow the name, that are pinned to an address, that keep one for a while.
    pub(crate) clients: (usize, usize, usize),
    /// Between two writes of a client: at least, at most.
    pub(crate) pace: (Micros, Micros),
}

impl Options {
    /// Draws them.
    #[must_use]
    pub fn draw(seed: u64, limits: bool) -> Self {
        let random = &mut Random::stream(seed, "options");
        let alone = random.permille(300);
        let hosts = if alone { 1 } else { usize_of(random.between(2, 5)) };
        let instances = if alone { 3 } else { hosts };
        let judge = Self::draw_judge(random, alone);
        let mut kinds: Vec<Fault> =
            if alone { Fault::ALONE.to_vec() } else { Fault::SHARED.to_vec() };
        let share = random.pick(&[0, 100, 250, 250, 500, 900]);
        kinds.retain(|_| random.permille(share));
        if !alone && random.permille(50) {
            kinds.push(Fault::JumpClock);
        }
        if limits {
            kinds.extend([Fault::LoseAgent, Fault::StopAgent]);
        }
        let gap = random.pick(&[
            (SECOND / 5, 3 * SECOND),
            (SECOND, 8 * SECOND),
            (4 * SECOND, 20 * SECOND),
        ]);
        Self {
            seed,
            hosts,
            instances,
            watchers: if alone { 0 } else { usize_of(random.below(2)) },
            services: if random.permille(200) { 2 } else { 1 },
            judge,
            policy: Self::draw_policy(random),
            probe: random.pick(&[
                (Duration::from_millis(1000), Duration::from_millis(500)),
                (Duration::from_millis(500), Duration::from_millis(300)),
                (Duration::from_millis(200), Duration::from_millis(200)),
            ]),
            drift: random.pick(&[0, 200, 10_000]),
            faults: kinds.into_iter().collect(),
            gap,
            storm: random.between(15, 60) * SECOND,
            lost_requests: random.pick(&[0, 0, 10, 100]),
            lost_replies: random.pick(&[0, 0, 10, 100]),
            unfenced: random.permille(60).then(|| random.index(instances)),
            priorities: Self::draw_priorities(random, instances),
            hooks: Phase::ALL.into_iter().filter(|_| random.permille(250)).collect(),
            person: random.permille(600),
            clients: (usize_of(random.between(1, 2)), instances, 1),
            pace: random.pick(&[(20 * MILLI, 60 * MILLI), (50 * MILLI, 300 * MILLI)]),
        }
    }

    /// A small world without faults, clients of all kinds: where stories are told.
    pub(crate) fn story(seed: u64, alone: bool) -> Self {
        let lease = Duration::from_secs(2);
        Self {
            seed,
            hosts: if alone { 1 } else { 3 },
            instances: 3,
            watchers: 0,
            services: 1,
            judge: if alone {
                Judge::Alone { lease }
            } else {
                Judge::Shared { lease, fence: Duration::from_millis(400) }
            },
            policy: Policy {
                failover: Failover::Auto,
                candidate_wait: Duration::from_millis(500),
                hung_after: Duration::from_secs(2),
                cooldown_failovers: 1000,
                ..Policy::default()
            },
            probe: (Duration::from_millis(200), Duration::from_millis(200)),
            drift: 200,
            faults: BTreeSet::new(),
            gap: (SECOND, SECOND),
            storm: 0,
            lost_requests: 0,
            lost_replies: 0,
            unfenced: None,
            priorities: vec![10; 3],
            hooks: BTreeSet::from([Phase::BeforeFailover, Phase::AfterSwitchover]),
            person: false,
            clients: (1, 3, 1),
            pace: (20 * MILLI, 60 * MILLI),
        }
    }

    /// One store on the one host?
    pub(crate) fn alone(&self) -> bool {
        matches!(self.judge, Judge::Alone { .. })
    }

    /// The fence budget; what a fence is given where nobody promises one.
    pub(crate) fn fence(&self) -> Duration {
        match self.judge {
            Judge::Alone { .. } => Duration::from_secs(1),
            Judge::Shared { fence, .. } => fence,
        }
    }

    fn draw_judge(random: &mut Random, alone: bool) -> Judge {
        let lease = Duration::from_secs(random.pick(&[2, 3, 4, 6, 6]));
        if alone {
            return Judge::Alone { lease };
        }
        let fence = Duration::from_millis(random.between(300, 900)).min(lease / 4);
        Judge::Shared { lease, fence }
    }

    /// Some are never promoted, but never all but one.
    fn draw_priorities(random: &mut Random, instances: usize) -> Vec<u32> {
        let mut drawn: Vec<u32> =
            (0..instances).map(|_| random.pick(&[10, 10, 10, 20, 0])).collect();
        for priority in drawn.iter_mut().take(2) {
            *priority = (*priority).max(10);
        }
        drawn
    }

    fn draw_policy(random: &mut Random) -> Policy {
        Policy {
            failover: if random.permille(850) { Failover::Auto } else { Failover::Manual },
            rejoin: if random.permille(850) { Rejoin::Resync } else { Rejoin::Ask },
            kill: random.permille(950),
            max_lag: Duration::from_secs(10),
            hung_after: Duration::from_millis(random.between(2000, 5000)),
            candidate_wait: Duration::from_millis(random.between(300, 2000)),
            cooldown_failovers: 1000,
            cooldown_window: Duration::from_secs(600),
            max_attempts: 5,
            ..Policy::default()
        }
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# seed {}: {} host(s) with databases, {} without, {} service(s) of {} instances",
            self.seed, self.hosts, self.watchers, self.services, self.instances
        )?;
        writeln!(f, "# judge {:?}, fence {:?}, probe {:?}", self.judge, self.fence(), self.probe)?;
        writeln!(f, "# policy {:?}", self.policy)?;
        writeln!(
            f,
            "# priorities {:?}, not started fenced {:?}, hooks {:?}, drift {} ppm",
            self.priorities, self.unfenced, self.hooks, self.drift
        )?;
        writeln!(
            f,
            "# faults {:?} every {} to {} ms for {} s, lost {}‰ of requests and {}‰ of answers",
            self.faults,
            self.gap.0 / MILLI,
            self.gap.1 / MILLI,
            self.storm / SECOND,
            self.lost_requests,
            self.lost_replies
        )?;
        write!(
            f,
            "# clients (following, pinned, cached) {:?} each {} to {} ms, person {}",
            self.clients,
            self.pace.0 / MILLI,
            self.pace.1 / MILLI,
            self.person
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_draws_one_world_and_all_kinds_come_up() {
        let first = Options::draw(5, false).to_string();
        assert_eq!(first, Options::draw(5, false).to_string());
        let drawn: BTreeSet<Fault> =
            (0..200).flat_map(|seed| Options::draw(seed, false).faults).collect();
        for fault in Fault::SHARED {
            assert!(drawn.contains(&fault), "{fault:?} was never drawn");
        }
        assert!(!drawn.contains(&Fault::LoseAgent), "limits are off");
    }
}

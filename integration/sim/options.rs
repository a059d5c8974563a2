//! What a seed draws first: the world's size, its policies, clocks, clients, and its ending.
//!
//! Printed at the start of each trace. What will happen in that world is drawn in `storm.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use sengu_core::policy::{DatabaseKind, Failover, Judge, Loss, Policy, Rejoin};
use sengu_core::record::Phase;

use super::random::Random;
use super::schedule::{MILLI, Micros, SECOND};
use super::sql::Family;

/// What a world is left with when its storm is over, and must come to rest with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything is mended.
    Mended,
    /// The host of the master cannot reach the store, for ever.
    MasterCut,
    /// The agent of a host without the term is dead, for ever.
    AgentDead,
    /// A copy without the term is gone, for ever.
    CopyGone,
    /// The store elects once a minute: nothing may be fenced or moved.
    Elections,
}

/// A drawn world lives so long at least.
pub(crate) const LIFE: Micros = 300 * SECOND;

/// Everything that a seed decides before the world begins, but its deeds.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Hosts with databases; 1 with a store of its own, or 2 to 5 that share one.
    pub(crate) hosts: usize,
    /// Instances of each service.
    pub(crate) instances: usize,
    /// Members of the store, on the first hosts; 0: it stands apart.
    pub(crate) members: usize,
    /// Hosts with an agent and no database.
    pub(crate) watchers: usize,
    /// Services.
    pub(crate) services: usize,
    /// Who judges, with lease and fence budget.
    pub(crate) judge: Judge,
    /// Which database it is.
    pub(crate) family: Family,
    /// The policy of all services.
    pub(crate) policy: Policy,
    /// Probes: interval and timeout.
    pub(crate) probe: (Duration, Duration),
    /// How fast clocks may run, in parts per million off.
    pub(crate) drift: u64,
    /// Hosts whose file has a lease of its own.
    pub(crate) leases: BTreeMap<usize, Duration>,
    /// A full copy may take long.
    pub(crate) slow_copies: bool,
    /// Hooks that say no, in a thousand.
    pub(crate) aborting_hooks: u64,
    /// How long the storm of faults lasts, and after what follows the ending is judged.
    pub(crate) storm: Micros,
    /// How long it lives at least: what is left of it after the ending is quiet.
    pub(crate) life: Micros,
    /// What is left broken when the storm is over.
    pub(crate) ending: Ending,
    /// Requests to the store that are lost, in a thousand.
    pub(crate) lost_requests: u64,
    /// Answers of the store that are lost, in a thousand.
    pub(crate) lost_replies: u64,
    /// The number of the instance that is master when sengu comes; else chance decides.
    pub(crate) first_master: Option<usize>,
    /// Instance number whose own file does not start it fenced.
    pub(crate) unfenced: Option<usize>,
    /// The instances' priorities.
    pub(crate) priorities: Vec<u32>,
    /// Phases with a hook.
    pub(crate) hooks: BTreeSet<Phase>,
    /// Clients that follow the name, that are pinned to an address, that keep one for a while,
    /// that read a hosts file.
    pub(crate) clients: (usize, usize, usize, usize),
    /// Between two writes of a client: at least, at most.
    pub(crate) pace: (Micros, Micros),
}

impl Options {
    /// Draws them.
    #[must_use]
    pub(crate) fn draw(seed: u64) -> Self {
        let random = &mut Random::stream(seed, "options");
        let alone = random.permille(300);
        let hosts = if alone { 1 } else { random.pick(&[2, 2, 3, 3, 3, 3, 4, 5]) };
        let instances = if alone { 3 } else { hosts };
        let judge = Self::draw_judge(random, alone);
        let ending = Self::draw_ending(random, alone, judge.lease());
        let family = random.pick(&[Family::Redis, Family::Redis, Family::Mysql, Family::Mariadb]);
        let mut drawn = Self {
            seed,
            hosts,
            instances,
            members: 0,
            watchers: if alone { 0 } else { usize_of(random.below(2)) },
            services: if random.permille(200) { 2 } else { 1 },
            judge,
            family,
            policy: Self::draw_policy(random, family, instances),
            probe: random.pick(&[
                (Duration::from_millis(1000), Duration::from_millis(500)),
                (Duration::from_millis(1000), Duration::from_millis(500)),
                (Duration::from_millis(1000), Duration::from_millis(500)),
                (Duration::from_millis(500), Duration::from_millis(300)),
                (Duration::from_millis(200), Duration::from_millis(200)),
            ]),
            drift: random.pick(&[0, 200, 10_000]),
            leases: Self::draw_leases(random, hosts, alone),
            slow_copies: random.permille(400),
            aborting_hooks: random.pick(&[0, 30, 30, 300]),
            storm: LIFE - if ending == Ending::Elections { 200 } else { 20 } * SECOND,
            life: LIFE,
            ending,
            lost_requests: random.pick(&[0, 0, 10, 100]),
            lost_replies: random.pick(&[0, 0, 10, 100]),
            first_master: None,
            unfenced: random.permille(20).then(|| random.index(instances)),
            priorities: Self::draw_priorities(random, instances),
            hooks: Phase::ALL.into_iter().filter(|_| random.permille(250)).collect(),
            clients: (usize_of(random.between(1, 2)), instances, 1, usize_of(random.below(2))),
            pace: random.pick(&[(30 * MILLI, 120 * MILLI), (80 * MILLI, 400 * MILLI)]),
        };
        if !alone && drawn.hosts + drawn.watchers >= 3 && random.permille(500) {
            drawn.members = 3;
        }
        drawn
    }

    /// A small world without faults, clients of all kinds: where stories are told.
    pub(crate) fn story(seed: u64, alone: bool) -> Self {
        let lease = Duration::from_secs(2);
        Self {
            seed,
            hosts: if alone { 1 } else { 3 },
            instances: 3,
            members: 0,
            watchers: 0,
            services: 1,
            judge: if alone {
                Judge::Alone { lease }
            } else {
                Judge::Shared { lease, fence: Duration::from_millis(400) }
            },
            family: Family::Redis,
            policy: Policy {
                failover: Failover::Auto,
                candidate_wait: Duration::from_millis(500),
                hung_after: Duration::from_secs(2),
                cooldown_failovers: 1000,
                ..Policy::default()
            },
            probe: (Duration::from_millis(200), Duration::from_millis(200)),
            drift: 200,
            leases: BTreeMap::new(),
            slow_copies: false,
            aborting_hooks: 0,
            storm: 0,
            life: 0,
            ending: Ending::Mended,
            lost_requests: 0,
            lost_replies: 0,
            first_master: None,
            unfenced: None,
            priorities: vec![10; 3],
            hooks: BTreeSet::from([Phase::BeforeFailover, Phase::AfterSwitchover]),
            clients: (1, 3, 1, 0),
            pace: (20 * MILLI, 60 * MILLI),
        }
    }

    /// The world of a scenario that says nothing else: three hosts, everything ready for `auto`,
    /// `r1` is the first master.
    pub(crate) fn scenario() -> Self {
        let lease = Duration::from_secs(4);
        Self {
            judge: Judge::Shared { lease, fence: Duration::from_millis(500) },
            hooks: BTreeSet::new(),
            first_master: Some(0),
            clients: (1, 3, 1, 1),
            ..Self::story(1, false)
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

    /// Is this an instance whose own file never starts it fenced?
    pub(crate) fn stays_open(&self, id: super::fact::Id) -> bool {
        self.unfenced == Some(id.number)
    }

    /// The database, as a configuration says it.
    pub(crate) fn kind(&self) -> DatabaseKind {
        match self.family {
            Family::Redis => DatabaseKind::Redis,
            Family::Mysql | Family::Mariadb => DatabaseKind::Mysql,
        }
    }

    /// The lease in one host's file.
    pub(crate) fn judge_of(&self, host: usize) -> Judge {
        match (self.judge, self.leases.get(&host)) {
            (Judge::Shared { fence, .. }, Some(lease)) => Judge::Shared { lease: *lease, fence },
            (judge, _) => judge,
        }
    }

    fn draw_leases(random: &mut Random, hosts: usize, alone: bool) -> BTreeMap<usize, Duration> {
        let host = random.index(hosts);
        let lease = Duration::from_secs(random.between(4, 8));
        if !alone && random.permille(80) {
            BTreeMap::from([(host, lease)])
        } else {
            BTreeMap::new()
        }
    }

    fn draw_ending(random: &mut Random, alone: bool, lease: Duration) -> Ending {
        let drawn = random.pick(&[
            Ending::Mended,
            Ending::Mended,
            Ending::MasterCut,
            Ending::AgentDead,
            Ending::CopyGone,
            Ending::Elections,
        ]);
        match drawn {
            Ending::Mended | Ending::CopyGone => drawn,
            _ if alone => Ending::Mended,
            Ending::Elections if lease < Duration::from_secs(6) => Ending::Mended,
            _ => drawn,
        }
    }

    fn draw_judge(random: &mut Random, alone: bool) -> Judge {
        let lease = Duration::from_secs(random.pick(&[2, 3, 4, 4, 6, 6, 6, 6]));
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

    fn draw_policy(random: &mut Random, family: Family, instances: usize) -> Policy {
        let none = family != Family::Redis && random.permille(600);
        let acks = if instances > 3 { 1 + u32::from(random.permille(300)) } else { 1 };
        Policy {
            loss: if none { Loss::None } else { Loss::Bounded },
            acks,
            failover: if random.permille(850) { Failover::Auto } else { Failover::Manual },
            rejoin: if random.permille(850) { Rejoin::Resync } else { Rejoin::Ask },
            kill: random.permille(950),
            max_lag: Duration::from_secs(10),
            hung_after: Duration::from_millis(random.between(2000, 5000)),
            candidate_wait: Duration::from_millis(random.between(300, 2000)),
            cooldown_failovers: 1000,
            cooldown_window: Duration::from_secs(600),
            max_attempts: 5,
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
        writeln!(f, "# {:?}, policy {:?}", self.family, self.policy)?;
        writeln!(
            f,
            "# priorities {:?}, not started fenced {:?}, hooks {:?}, drift {} ppm",
            self.priorities, self.unfenced, self.hooks, self.drift
        )?;
        writeln!(
            f,
            "# {} members of the store; storm of {} s, then {:?}; lost {}‰ of requests and {}‰ of answers; leases of their \
             own {:?}, slow copies {}, hooks that say no {}‰",
            self.members,
            self.storm / SECOND,
            self.ending,
            self.lost_requests,
            self.lost_replies,
            self.leases,
            self.slow_copies,
            self.aborting_hooks
        )?;
        write!(
            f,
            "# clients (following, pinned, cached, by file) {:?} each {} to {} ms",
            self.clients,
            self.pace.0 / MILLI,
            self.pace.1 / MILLI
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_draws_one_world() {
        assert_eq!(Options::draw(5).to_string(), Options::draw(5).to_string());
        assert_ne!(Options::draw(5).to_string(), Options::draw(6).to_string());
    }
}

//! What must hold in every schedule: one rule per file, named by its slug.
//!
//! Each is a small state machine over facts, so that its own tests can feed it a good and a bad
//! history by hand. None of them reads an agent's mind: they judge what the databases and the
//! store did. A breach that the trace explains by a documented limit (an agent dead or stopped
//! while its database ran) is told apart from one that nothing explains.

mod all_bounded;
mod detach_then_final;
mod emptied_never_wins;
mod failed_once;
mod fence_in_time;
mod fields_survive;
mod hook_once;
mod lives;
mod loss_is_said;
mod named_is_serving;
mod no_needless_move;
mod nothing_older_runs;
mod one_giver;
mod planned_loses_nothing;
mod proven_before_promoted;
mod refusals_are_said;
mod starts_fenced;
mod veto_stands;
mod w;
mod watched;

use super::fact::{Fact, Layout};
use super::schedule::Micros;

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breach {
    /// The documented limit that explains it, if one does.
    pub(crate) limit: Option<&'static str>,
    /// What happened.
    pub(crate) text: String,
}

impl Breach {
    /// Nothing explains it.
    fn firm(text: String) -> Self {
        Self { limit: None, text }
    }
}

/// The facts that come all the time: most rules need not see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Often {
    Moment,
    Named,
    Received,
    Acknowledged,
    Beat,
    BeatAcknowledged,
    Size,
    Explained,
}

impl Often {
    const ALL: [Self; 8] = [
        Self::Moment,
        Self::Named,
        Self::Received,
        Self::Acknowledged,
        Self::Beat,
        Self::BeatAcknowledged,
        Self::Size,
        Self::Explained,
    ];

    /// Which of them it is.
    fn of(fact: &Fact) -> Option<Self> {
        Some(match fact {
            Fact::Moment => Self::Moment,
            Fact::Named { .. } => Self::Named,
            Fact::Received { .. } => Self::Received,
            Fact::Acknowledged { .. } => Self::Acknowledged,
            Fact::Beat { .. } => Self::Beat,
            Fact::BeatAcknowledged { .. } => Self::BeatAcknowledged,
            Fact::Size { .. } => Self::Size,
            Fact::Explained { .. } => Self::Explained,
            _ => return None,
        })
    }
}

/// One rule.
pub(crate) trait Invariant {
    /// Its name, as the file's.
    fn slug(&self) -> &'static str;

    /// Which of the facts that come all the time it is to be shown; it is shown all others.
    fn minds(&self) -> &'static [Often] {
        &[]
    }

    /// Takes one fact.
    ///
    /// # Errors
    /// What broke, if this fact broke it.
    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach>;
}

/// A breach, of which rule, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule's slug.
    pub slug: &'static str,
    /// When, in microseconds of virtual time.
    pub at: u64,
    /// What happened.
    pub text: String,
}

/// All rules, over one world.
pub(crate) struct Judges {
    rules: Vec<Box<dyn Invariant>>,
    /// The rules that mind each of [`Often::ALL`].
    often: [Vec<usize>; 8],
    /// The first firm breach.
    pub(crate) violation: Option<Violation>,
    /// How often each limit explained a breach.
    pub(crate) limits: Vec<(&'static str, Violation)>,
    /// The one that judges nothing, to see what then goes unseen.
    muted: Option<String>,
}

impl Judges {
    /// All rules, for a world that looks so.
    pub(crate) fn new(layout: &Layout) -> Self {
        let rules: Vec<Box<dyn Invariant>> = vec![
            Box::new(w::W::new(layout)),
            Box::new(one_giver::OneGiver::new(layout)),
            Box::new(fence_in_time::FenceInTime::new(layout)),
            Box::new(starts_fenced::StartsFenced::new(layout)),
            Box::new(named_is_serving::NamedIsServing::new(layout)),
            Box::new(proven_before_promoted::ProvenBeforePromoted::new(layout)),
            Box::new(detach_then_final::DetachThenFinal::new(layout)),
            Box::new(nothing_older_runs::NothingOlderRuns::default()),
            Box::new(planned_loses_nothing::PlannedLosesNothing::default()),
            Box::new(loss_is_said::LossIsSaid::default()),
            Box::new(hook_once::HookOnce::default()),
            Box::new(no_needless_move::NoNeedlessMove::new(layout)),
            Box::new(veto_stands::VetoStands::new(layout)),
            Box::new(emptied_never_wins::EmptiedNeverWins::default()),
            Box::new(failed_once::FailedOnce::default()),
            Box::new(refusals_are_said::RefusalsAreSaid::default()),
            Box::new(all_bounded::AllBounded),
            Box::new(fields_survive::FieldsSurvive),
        ];
        let often = Often::ALL.map(|often| {
            (0..rules.len()).filter(|rule| rules[*rule].minds().contains(&often)).collect()
        });
        Self { rules, often, violation: None, limits: Vec::new(), muted: None }
    }

    /// All rules begin again, knowing nothing; what broke before stays known.
    pub(crate) fn begin_anew(&mut self, layout: &Layout) {
        let fresh = Self::new(layout);
        self.rules = fresh.rules;
    }

    /// Lets one rule judge nothing.
    #[cfg(feature = "sabotage")]
    pub(crate) fn mute(&mut self, slug: Option<&str>) {
        self.muted = slug.map(str::to_owned);
    }

    /// A rule did not hold: the first is kept.
    pub(crate) fn breach(&mut self, violation: Violation) {
        if self.muted.as_deref() != Some(violation.slug) {
            self.violation = self.violation.take().or(Some(violation));
        }
    }

    /// Shows a fact to every rule that minds it.
    pub(crate) fn take(&mut self, at: Micros, fact: &Fact) {
        match Often::of(fact) {
            Some(often) => {
                for index in 0..self.often[often as usize].len() {
                    let rule = self.often[often as usize][index];
                    self.show(rule, at, fact);
                }
            }
            None => (0..self.rules.len()).for_each(|rule| self.show(rule, at, fact)),
        }
    }

    fn show(&mut self, rule: usize, at: Micros, fact: &Fact) {
        let rule = &mut self.rules[rule];
        let Err(breach) = rule.take(at, fact) else { return };
        let violation = Violation { slug: rule.slug(), at, text: breach.text };
        match breach.limit {
            Some(limit) => self.limits.push((limit, violation)),
            None => self.breach(violation),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! What the rules' own tests share: a short way to write a history.

    use std::rc::Rc;

    use sengu_core::name::{BootId, HostName, InstanceName, Term};
    use sengu_core::record::{Holder, MasterRecord, MasterState, Promise};
    use sengu_core::time::Wall;

    use super::super::fact::{Fact, Id, Layout};
    use super::super::schedule::{MILLI, Micros, SECOND};
    use super::{Breach, Invariant};

    /// Instance number `n` of the first service.
    pub(crate) fn r(n: usize) -> Id {
        Id { service: 0, number: n - 1 }
    }

    /// Three hosts with one instance each, a lease of 4 s.
    pub(crate) fn layout() -> Layout {
        Layout {
            hosts: (0..3).map(|n| (Id { service: 0, number: n }, n)).collect(),
            lease: 4 * SECOND,
            files: std::collections::BTreeSet::from([r(3)]),
            quiet: true,
            fence: SECOND / 2,
            look: SECOND,
            patience: 3 * SECOND,
        }
    }

    /// `master/foo` as a fact.
    pub(crate) fn master(term: u64, n: usize, state: MasterState) -> Fact {
        Fact::Master { service: 0, record: Some(Rc::new(record(term, n, state))) }
    }

    /// A master record that promises to fence within 4 s.
    pub(crate) fn record(term: u64, n: usize, state: MasterState) -> MasterRecord {
        MasterRecord {
            format: 1,
            term: Term(term),
            state,
            holder: Holder {
                instance: InstanceName::new(&format!("r{n}")).expect("a label"),
                host: HostName::new(&format!("h{n}")).expect("a label"),
                agent: format!("agent-{n}"),
                boot_id: BootId(format!("boot-{n}").into()),
                address: format!("10.0.0.{n}:6379").parse().expect("an address"),
            },
            promise: Promise::Fence { lease_ms: 4000 },
            unproven: Vec::new(),
            origins: Vec::new(),
            failed: Vec::new(),
            unkept: Vec::new(),
            failovers: Vec::new(),
            external: None,
            frozen: None,
            since: Wall(0),
            unknown: serde_json::Map::new(),
        }
    }

    /// Feeds a history (times in milliseconds) and returns the first breach.
    pub(crate) fn feed(
        mut rule: impl Invariant,
        history: impl IntoIterator<Item = (Micros, Fact)>,
    ) -> Result<(), Breach> {
        history.into_iter().try_for_each(|(at, fact)| rule.take(at * MILLI, &fact))
    }
}

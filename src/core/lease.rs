//! Lease arithmetic, and the lane of one agent's beats.
//!
//! A deadline counts from the *send* of the last acknowledged beat, on the holder's clock; a taker
//! waits 1.03 leases from the *receipt* of the last one, on its own. Rates are assumed within 1 %
//! of true, so the taker's wait always outlasts the holder's. Nothing here reads the store's
//! timers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::ActionId;
use crate::kv::Revision;
use crate::name::{InstanceName, ServiceName, Term};
use crate::policy::Judge;
use crate::record::Promise;
use crate::sabotage::sabotaged;
use crate::time::Time;

/// How often a holder's agent beats.
#[must_use]
pub fn beat_interval(lease: Duration) -> Duration {
    lease / 8
}

/// How long a txn with a beat may take before its outcome counts as unknown: less than the time to
/// the next one, which tells what came of it.
#[must_use]
pub(crate) fn beat_within(lease: Duration) -> Duration {
    beat_interval(lease) * 3 / 4
}

/// How long a taker must see no beat: 1.03 × the promised lease (two clocks 1 % off in opposite
/// ways make 1.0202). `None`: the term never lapses.
#[must_use]
pub fn lapse_wait(promise: &Promise) -> Option<Duration> {
    match promise {
        Promise::None => None,
        Promise::Fence { lease_ms } => {
            let share = if sabotaged!(LapseTooEarly) { 960 } else { 1030 };
            Some(Duration::from_micros(lease_ms * share))
        }
    }
}

/// Until when a term that an agent finds at its start counts as kept, before a beat of this life is
/// acknowledged. `last`: when the beat that the others saw last was sent, on this host's clock; the
/// same process of the database still runs, so the host was not booted since.
pub(crate) fn first_deadline(
    now: Time,
    last: Option<Time>,
    lease: Duration,
    fence: Duration,
) -> Time {
    let half = now + lease / 2;
    match last {
        // Written by a version that did not say.
        None => half,
        Some(sent) if sent <= now && now + fence < sent + lease => half.min(sent + lease),
        // It counts as lapsed, or soon will: the next beat is acknowledged, or it is fenced.
        Some(_) => now + fence + beat_interval(lease),
    }
}

/// The lease that was promised; `None`: nothing was.
#[must_use]
pub fn lease_of(promise: &Promise) -> Option<Duration> {
    match promise {
        Promise::None => None,
        Promise::Fence { lease_ms } => Some(Duration::from_millis(*lease_ms)),
    }
}

/// What a holder under this judge promises.
#[must_use]
pub fn promise(judge: Judge) -> Promise {
    match judge {
        Judge::Alone { .. } => Promise::None,
        Judge::Shared { lease, .. } => {
            Promise::Fence { lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX) }
        }
    }
}

/// A term that this agent keeps, and until when it counts as kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kept {
    pub(crate) term: Term,
    /// Send of the last acknowledged beat, plus the lease.
    pub(crate) deadline: Time,
    /// A beat naming it was acknowledged in this life of the agent.
    pub(crate) acknowledged: bool,
}

/// The one writer of this host's beat.
#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Beats {
    /// The beat, or the take that carries one, which is under way.
    pub(crate) busy: Option<ActionId>,
    /// Revision of the last beat known; 0: none.
    pub(crate) revision: Revision,
    pub(crate) counter: u64,
    pub(crate) next: Time,
    /// Did this life of the agent write the last beat?
    pub(crate) own: bool,
    pub(crate) kept: BTreeMap<ServiceName, Kept>,
    /// Adoptions under way, or whose outcome is unknown: their instances take writes already, so
    /// their fences are armed first.
    pub(crate) taking: BTreeMap<ServiceName, (InstanceName, Kept)>,
    /// The terms for which a beat was sent out of turn, once.
    hurried: BTreeMap<ServiceName, Term>,
    /// What the beat under way names.
    pub(crate) naming: BTreeMap<ServiceName, Term>,
    /// The vetoes in the last beat.
    pub(crate) vetoes: BTreeMap<ServiceName, Term>,
}

impl Beats {
    /// A beat naming this term, sent then, was acknowledged and its record read back.
    pub(crate) fn extend(
        &mut self,
        service: &ServiceName,
        term: Term,
        sent: Time,
        lease: Duration,
    ) {
        let deadline = sent + lease;
        let fresh = Kept { term, deadline, acknowledged: true };
        let kept = self.kept.entry(service.clone()).or_insert(fresh);
        if kept.term == term && kept.acknowledged {
            kept.deadline = kept.deadline.max(deadline);
        } else {
            *kept = fresh;
        }
    }

    /// This instance may be the holder of this term from now on. Asking again extends nothing:
    /// the first txn may have been the one that counts.
    pub(crate) fn take(
        &mut self,
        service: &ServiceName,
        instance: &InstanceName,
        term: Term,
        deadline: Time,
    ) {
        let earlier = self.taking.get(service).filter(|(_, kept)| kept.term == term);
        let deadline = earlier.map_or(deadline, |(_, kept)| kept.deadline.min(deadline));
        let kept = Kept { term, deadline, acknowledged: false };
        self.taking.insert(service.clone(), (instance.clone(), kept));
    }

    /// A shorter lease may be what the others go by from now on.
    pub(crate) fn shorten(&mut self, service: &ServiceName, term: Term, deadline: Time) {
        let fresh = Kept { term, deadline, acknowledged: false };
        let kept = self.kept.entry(service.clone()).or_insert(fresh);
        if kept.term == term {
            kept.deadline = kept.deadline.min(deadline);
        } else {
            *kept = fresh;
        }
    }

    /// A term that no beat of this life has kept yet is fenced by then.
    pub(crate) fn expect(&mut self, service: &ServiceName, term: Term, deadline: Time) {
        let fresh = Kept { term, deadline, acknowledged: false };
        let kept = self.kept.entry(service.clone()).or_insert(fresh);
        if kept.term != term {
            *kept = fresh;
        }
    }

    /// Was a beat naming this term acknowledged?
    pub(crate) fn acknowledged(&self, service: &ServiceName, term: Term) -> bool {
        self.kept.get(service).is_some_and(|kept| kept.term == term && kept.acknowledged)
    }

    /// May a beat for this term be sent out of turn?
    pub(crate) fn hurry(&self, service: &ServiceName, term: Term) -> bool {
        self.hurried.get(service) != Some(&term)
    }

    /// It was.
    pub(crate) fn hurried(&mut self, naming: &BTreeMap<ServiceName, Term>) {
        self.hurried.clone_from(naming);
    }

    /// Until when this term counts as kept.
    pub(crate) fn deadline(&self, service: &ServiceName, term: Term) -> Option<Time> {
        self.kept.get(service).filter(|kept| kept.term == term).map(|kept| kept.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taker_outwaits_the_holder_at_the_worst_drift() {
        for lease_ms in [1_000u64, 6_000, 60_000] {
            let promise = Promise::Fence { lease_ms };
            let wait = lapse_wait(&promise).expect("it promised").as_secs_f64();
            // The taker's clock runs 1 % fast, the holder's 1 % slow.
            let true_wait = wait / 1.01;
            let true_lease = lease_ms as f64 / 1000.0 / 0.99;
            assert!(true_wait > true_lease, "{true_wait} < {true_lease}");
        }
        assert_eq!(lapse_wait(&Promise::None), None);
    }

    #[test]
    fn a_late_acknowledgement_never_shortens() {
        let service = ServiceName::new("s").expect("good");
        let lease = Duration::from_secs(6);
        let mut beats = Beats::default();
        beats.extend(&service, Term(3), Time(2_000_000), lease);
        beats.extend(&service, Term(3), Time(1_000_000), lease);
        assert_eq!(beats.deadline(&service, Term(3)), Some(Time(8_000_000)));
        assert_eq!(beats.deadline(&service, Term(2)), None);
    }

    #[test]
    fn a_new_life_counts_from_the_last_beat_of_the_old_one() {
        let (lease, fence) = (Duration::from_secs(6), Duration::from_millis(500));
        let now = Time(100_000_000);
        let until = |last| first_deadline(now, last, lease, fence);
        assert_eq!(until(None), now + Duration::from_secs(3), "an older version did not say");
        assert_eq!(until(Some(now)), now + Duration::from_secs(3));
        let late = now - Duration::from_secs(5);
        assert_eq!(until(Some(late)), now + Duration::from_secs(1), "the others count from there");
        let short = now + fence + lease / 8;
        for lost in [now - Duration::from_secs(7), now + Duration::from_secs(1)] {
            assert_eq!(until(Some(lost)), short, "one beat must be acknowledged");
        }
    }
}

//! **no-needless-move**: no process is killed that is well, and no term ends while its holder is
//! well and watched.
//!
//! *Well* is what the world knows: the holder's process runs and obeys, its host has power, its
//! agent runs and reaches the store. A term that ends so must have been asked for by a person, or
//! something must have hindered the holder within the lease and its agent's patience before. What
//! a person's hand closed is not well until it takes writes again, however long a pause lasts.
//!
//! *Hung* is what looks can see: at the moment at which its end was decided, the process stood
//! still for long, or had for long and woke less than one look before. Between two looks it may
//! wake and stand still again, and nobody knows. How long the fence then takes, and when the store
//! hears of it, does not count. One that was fenced before it hung needs no further fence: then the
//! moment is that at which the record was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sengu_core::record::{Cause, MasterRecord, MasterState};

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::{MILLI, Micros};
use super::lives::Lives;
use super::{Breach, Invariant};

/// When each host and instance was last hindered, and the records.
pub(crate) struct NoNeedlessMove {
    layout: Layout,
    hosts: BTreeMap<usize, Micros>,
    instances: BTreeMap<Id, Micros>,
    /// Hindered now, whenever it began.
    down: BTreeSet<usize>,
    cut: BTreeSet<usize>,
    /// Their agents were set back to a version that cannot read their own beats, so they can keep
    /// no term: nobody may write over a newer format.
    outdated: BTreeSet<usize>,
    stopped: BTreeSet<Id>,
    lives: Lives,
    /// Closed by a person's hand.
    closed: BTreeSet<Id>,
    /// When a person's hand last touched it.
    hands: BTreeMap<Id, Micros>,
    records: BTreeMap<usize, Rc<MasterRecord>>,
    /// When the term of each record began: the process that runs then has it.
    began: BTreeMap<usize, Micros>,
    /// When the record that the store has just been given was sent.
    sent: Option<Micros>,
}

impl NoNeedlessMove {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            hosts: BTreeMap::new(),
            instances: BTreeMap::new(),
            down: BTreeSet::new(),
            cut: BTreeSet::new(),
            outdated: BTreeSet::new(),
            stopped: BTreeSet::new(),
            lives: Lives::default(),
            closed: BTreeSet::new(),
            hands: BTreeMap::new(),
            records: BTreeMap::new(),
            began: BTreeMap::new(),
            sent: None,
        }
    }

    fn note(&mut self, at: Micros, fact: &Fact) {
        match *fact {
            Fact::Agent { host, running } => self.runs(at, host, running),
            Fact::Guest { host, paused } => self.runs(at, host, !paused),
            Fact::Reach { host, reach } => {
                if reach {
                    self.cut.remove(&host)
                } else {
                    self.cut.insert(host)
                };
                later(&mut self.hosts, host, at);
            }
            Fact::Reads { host, reads: false } => {
                self.outdated.insert(host);
            }
            Fact::Reads { host, reads: true } if self.outdated.remove(&host) => {
                later(&mut self.hosts, host, at);
            }
            Fact::Stalled { host, span } => {
                later(&mut self.hosts, host, at + span);
            }
            Fact::Hindered { host: Some(host), until, .. } => {
                later(&mut self.hosts, host, until.max(at));
            }
            Fact::Hindered { host: None, instance: None, until } => {
                for host in self.layout.hosts.values() {
                    later(&mut self.hosts, *host, until);
                }
            }
            Fact::Hindered { instance: Some(instance), until, .. } => {
                later(&mut self.instances, instance, until);
            }
            Fact::Stopped { instance, stopped } => {
                if stopped {
                    self.stopped.insert(instance);
                    self.lives.stands_still(at, instance, self.layout.look);
                } else {
                    self.stopped.remove(&instance);
                    self.lives.goes_on(at, instance);
                }
                later(&mut self.instances, instance, at);
            }
            Fact::Exited { instance } | Fact::Started { instance, .. } => {
                self.stopped.remove(&instance);
                if matches!(fact, Fact::Exited { .. }) {
                    self.lives.exited(at, instance);
                } else {
                    self.lives.started(at, instance);
                }
                later(&mut self.instances, instance, at);
            }
            Fact::Hand { instance, .. } => {
                self.hands.insert(instance, at);
                later(&mut self.instances, instance, at);
            }
            Fact::Writable { instance, writable, .. } => {
                if !writable && self.hands.get(&instance) == Some(&at) {
                    self.closed.insert(instance);
                } else if self.closed.remove(&instance) {
                    later(&mut self.instances, instance, at);
                }
            }
            Fact::Fenced { instance, decided } => self.lives.fenced(decided, instance),
            Fact::Sent { at } => self.sent = Some(at),
            _ => {}
        }
    }

    /// A host's agent runs from now on, or does not.
    fn runs(&mut self, at: Micros, host: usize, running: bool) {
        if running {
            self.down.remove(&host);
        } else {
            self.down.insert(host);
        }
        later(&mut self.hosts, host, at);
    }

    /// A process that was ended because it hung: did it stand still for long?
    fn hung(&self, at: Micros, service: usize, new: &MasterRecord) -> Result<(), Breach> {
        let MasterState::Vacant { cause: Cause::Hung, .. } = new.state else { return Ok(()) };
        let Some(holder) = Id::named(service, &new.holder.instance) else { return Ok(()) };
        let began = self.began.get(&service).copied().unwrap_or(0);
        self.lives.hung(holder, began, self.sent.unwrap_or(at), self.layout.look).map_err(|stood| {
            let stood = stood / MILLI;
            let what = "was ended as hung, and its process had stood still for";
            Breach::firm(format!("{holder} {what} {stood} ms"))
        })
    }

    /// The store has another master record.
    fn record(&mut self, at: Micros, service: usize, new: &Rc<MasterRecord>) {
        let old = self.records.insert(service, Rc::clone(new));
        if old.is_none_or(|old| old.term != new.term) {
            self.began.insert(service, at);
        }
    }

    /// How long ago anything last hindered it or its host; 0: now.
    fn quiet_for(&self, at: Micros, id: Id) -> Micros {
        let Some(host) = self.layout.hosts.get(&id) else { return 0 };
        let lamed = self.stopped.contains(&id) || self.closed.contains(&id);
        let mute = self.cut.contains(host) || self.outdated.contains(host);
        if self.down.contains(host) || mute || lamed {
            return 0;
        }
        let last = self.hosts.get(host).max(self.instances.get(&id)).copied().unwrap_or(0);
        at.saturating_sub(last)
    }

    fn ended(&self, at: Micros, service: usize, new: &MasterRecord) -> Result<(), Breach> {
        let Some(old) = self.records.get(&service) else { return Ok(()) };
        let served = old.state == MasterState::Serving && new.state != MasterState::Serving;
        let planned = match &new.state {
            MasterState::Giving { .. }
            | MasterState::Withdrawn { .. }
            | MasterState::Unmanaged
            | MasterState::Serving => true,
            MasterState::Vacant { cause, .. } | MasterState::Taken { cause } => {
                matches!(cause, Cause::Requested | Cause::SwitchoverUndone(_))
            }
            MasterState::Lapsed | MasterState::FenceFailed { .. } => false,
        };
        let Some(holder) = Id::named(service, &old.holder.instance) else { return Ok(()) };
        let quiet = self.quiet_for(at, holder);
        let long = 2 * self.layout.lease + self.layout.patience;
        if !self.layout.quiet || !served || planned || quiet < long {
            return Ok(());
        }
        Err(Breach::firm(format!(
            "term {} of {holder} became {} although nothing had hindered it for {} ms",
            old.term,
            new.state.word(),
            quiet / MILLI
        )))
    }
}

/// What hindered something until a time does so still, whatever else comes and goes before.
fn later<K: Ord>(times: &mut BTreeMap<K, Micros>, key: K, at: Micros) {
    let last = times.entry(key).or_insert(0);
    *last = at.max(*last);
}

impl Invariant for NoNeedlessMove {
    fn slug(&self) -> &'static str {
        "no-needless-move"
    }

    fn take(&mut self, at: Micros, fact: &Fact) -> Result<(), Breach> {
        self.note(at, fact);
        match fact {
            Fact::Killed { instance, well: true } => {
                Err(Breach::firm(format!("{instance} was killed although it was well")))
            }
            Fact::Master { service, record: Some(record) } => {
                let judged =
                    self.ended(at, *service, record).and_then(|()| self.hung(at, *service, record));
                self.record(at, *service, record);
                judged
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{feed, layout, master, r};
    use super::*;
    use sengu_core::name::Term;
    use sengu_core::record::Proof;
    use sengu_core::time::Wall;

    fn check(history: impl IntoIterator<Item = (Micros, Fact)>) -> Result<(), Breach> {
        feed(NoNeedlessMove::new(&layout()), history)
    }

    #[test]
    fn a_move_with_a_reason_holds() {
        let serving = || master(1, 1, MasterState::Serving);
        let lapsed = || master(1, 1, MasterState::Lapsed);
        let cut = Fact::Reach { host: 0, reach: false };
        assert_eq!(check([(0, serving()), (50_000, cut), (60_000, lapsed())]), Ok(()));
        let exit = Fact::Exited { instance: r(1) };
        assert_eq!(check([(0, serving()), (50_000, exit), (52_000, lapsed())]), Ok(()));
    }

    #[test]
    fn one_that_cannot_read_its_own_beat_keeps_no_term() {
        let serving = || master(1, 1, MasterState::Serving);
        let lapsed = || master(1, 1, MasterState::Lapsed);
        let reads = |reads| Fact::Reads { host: 0, reads };
        assert_eq!(check([(0, serving()), (9_000, reads(false)), (60_000, lapsed())]), Ok(()));
        let again = [(0, serving()), (9_000, reads(false)), (10_000, reads(true))];
        assert!(check(again.into_iter().chain([(60_000, lapsed())])).is_err(), "well again");
        assert!(check([(0, serving()), (9_000, reads(true)), (60_000, lapsed())]).is_err());
    }

    #[test]
    fn a_move_out_of_nothing_breaks_it() {
        let serving = master(1, 1, MasterState::Serving);
        let lapsed = master(1, 1, MasterState::Lapsed);
        assert!(check([(0, serving), (60_000, lapsed)]).is_err());
    }

    const EXITED_HUNG: MasterState = MasterState::Vacant {
        proof: Proof::Exited,
        cause: Cause::Hung,
        noticed: Wall(0),
        seen: None,
    };

    /// It stands still at these times, its end is decided then, and the store hears of it later.
    fn hung(stands: &[(Micros, Micros)], decided: Micros) -> Result<(), Breach> {
        let stopped = |stopped| Fact::Stopped { instance: r(1), stopped };
        let mut history = vec![(0, master(1, 1, MasterState::Serving))];
        for (since, end) in stands {
            history.extend([(*since, stopped(true)), (*end, stopped(false))]);
        }
        let fenced = Fact::Fenced { instance: r(1), decided: decided * MILLI };
        history.extend([(decided + 1_000, fenced), (decided + 6_000, master(1, 1, EXITED_HUNG))]);
        history.sort_by_key(|(at, _)| *at);
        check(history)
    }

    #[test]
    fn one_that_stood_still_may_be_ended_until_a_look_could_tell_that_it_woke() {
        assert_eq!(hung(&[(50_000, 60_000)], 53_000), Ok(()));
        assert_eq!(hung(&[(50_000, 53_000)], 53_900), Ok(()));
        assert_eq!(hung(&[(50_000, 53_000), (53_300, 60_000)], 53_900), Ok(()));
        assert!(hung(&[(50_000, 53_000)], 54_100).is_err(), "a look came between");
        assert!(hung(&[(50_000, 51_500)], 51_400).is_err(), "not for long");
        assert!(hung(&[(50_000, 51_500), (52_600, 60_000)], 53_500).is_err(), "it was awake");
    }

    #[test]
    fn what_was_fenced_before_is_judged_by_when_its_record_was_sent() {
        let history = |sent: Micros| {
            let stopped = |stopped| Fact::Stopped { instance: r(1), stopped };
            [
                (0, master(1, 1, MasterState::Serving)),
                (40_000, Fact::Fenced { instance: r(1), decided: 39_000 * MILLI }),
                (50_000, stopped(true)),
                (54_000, stopped(false)),
                (60_000, Fact::Sent { at: sent * MILLI }),
                (60_000, master(1, 1, EXITED_HUNG)),
            ]
        };
        assert_eq!(check(history(53_000)), Ok(()));
        assert!(check(history(51_000)).is_err(), "not for long");
        assert!(check(history(59_000)).is_err(), "awake for long when it was sent");
    }

    /// The master stands still and is ended at 54 s; the next process starts at 56 s and stands
    /// still from 58 s on. Fences are told of with their decisions, then the vacancy.
    fn next_process(stood: Micros, fences: &[(Micros, Micros)]) -> Result<(), Breach> {
        let stopped = |stopped| Fact::Stopped { instance: r(1), stopped };
        let mut history = vec![
            (0, master(1, 1, MasterState::Serving)),
            (stood, stopped(true)),
            (54_000, Fact::Exited { instance: r(1) }),
            (56_000, Fact::Started { instance: r(1), open: false }),
            (58_000, stopped(true)),
            (66_000, master(1, 1, EXITED_HUNG)),
        ];
        for (told, decided) in fences {
            let decided = decided * MILLI;
            history.push((*told, Fact::Fenced { instance: r(1), decided }));
        }
        history.sort_by_key(|(at, _)| *at);
        check(history)
    }

    #[test]
    fn only_the_process_that_had_the_term_counts() {
        assert_eq!(next_process(50_000, &[(54_001, 53_000)]), Ok(()));
        assert_eq!(next_process(50_000, &[(54_001, 53_000), (58_000, 55_000)]), Ok(()), "nothing");
        assert_eq!(next_process(50_000, &[(60_000, 53_000)]), Ok(()), "told of late");
        assert_eq!(next_process(50_000, &[]), Ok(()), "its end came first");
        assert!(next_process(50_000, &[(60_000, 51_000)]).is_err(), "not for long");
        assert!(next_process(53_000, &[]).is_err(), "nor until its end");
        let next = [(54_001, 53_500), (65_000, 64_000)];
        assert!(next_process(53_000, &next).is_err(), "the next one hung, not the master");
    }

    #[test]
    fn a_server_that_hangs_again_in_a_later_life_may_be_ended_again() {
        let stopped = |stopped| Fact::Stopped { instance: r(1), stopped };
        let fenced = |decided: Micros| Fact::Fenced { instance: r(1), decided: decided * MILLI };
        let history = |decided: Micros| {
            [
                (0, master(1, 1, MasterState::Serving)),
                (50_000, stopped(true)),
                (54_000, Fact::Exited { instance: r(1) }),
                (54_001, fenced(53_000)),
                (55_000, master(1, 1, EXITED_HUNG)),
                (56_000, Fact::Started { instance: r(1), open: false }),
                (57_000, master(2, 1, MasterState::Serving)),
                (80_000, stopped(true)),
                (decided + 1_000, fenced(decided)),
                (90_000, Fact::Exited { instance: r(1) }),
                (91_000, Fact::Started { instance: r(1), open: false }),
                (92_000, master(2, 1, EXITED_HUNG)),
            ]
        };
        assert_eq!(check(history(83_000)), Ok(()));
        assert!(check(history(81_000)).is_err(), "not for long");
    }

    #[test]
    fn what_a_hand_closed_is_not_well_until_it_takes_writes_again() {
        let serving = || master(1, 1, MasterState::Serving);
        let lapsed = || master(1, 1, MasterState::Lapsed);
        let hand = Fact::Hand { instance: r(1), open: false };
        let writable = |writable| Fact::Writable { instance: r(1), term: Term(1), writable };
        let closed = [(0, serving()), (9_000, hand), (9_000, writable(false)), (60_000, lapsed())];
        assert_eq!(check(closed.clone()), Ok(()));
        let mut open = closed.to_vec();
        open.insert(3, (10_000, writable(true)));
        assert!(check(open).is_err(), "well again, and for long");
        let mut fenced = closed.to_vec();
        fenced.insert(2, (9_000, writable(true)));
        fenced[3].0 = 9_001;
        assert!(check(fenced).is_err(), "nobody's hand closed it");
    }

    #[test]
    fn a_kill_without_a_hang_breaks_it() {
        let killed = |well| [(1, Fact::Killed { instance: r(1), well })];
        assert_eq!(check(killed(false)), Ok(()));
        assert!(check(killed(true)).is_err());
    }
}

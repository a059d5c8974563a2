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
//! hears of it, does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sengu_core::record::{Cause, MasterRecord, MasterState};

use super::super::fact::{Fact, Id, Layout};
use super::super::schedule::{MILLI, Micros};
use super::{Breach, Invariant};

/// No world counts less as hung; a clock may be one percent off.
const HUNG: Micros = 1_900 * MILLI;

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
    /// When each process was last stopped, and until when.
    stops: BTreeMap<Id, (Micros, Micros)>,
    /// The same of the process before.
    stops_before: BTreeMap<Id, (Micros, Micros)>,
    /// Until when each process last hung.
    hung: BTreeMap<Id, Micros>,
    /// When the last fence of each that is done was decided.
    fenced: BTreeMap<Id, Micros>,
    /// When each process last exited.
    exits: BTreeMap<Id, Micros>,
    /// Closed by a person's hand.
    closed: BTreeSet<Id>,
    /// When a person's hand last touched it.
    hands: BTreeMap<Id, Micros>,
    records: BTreeMap<usize, Rc<MasterRecord>>,
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
            stops: BTreeMap::new(),
            stops_before: BTreeMap::new(),
            hung: BTreeMap::new(),
            fenced: BTreeMap::new(),
            exits: BTreeMap::new(),
            closed: BTreeSet::new(),
            hands: BTreeMap::new(),
            records: BTreeMap::new(),
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
                    self.stands_still(at, instance);
                } else {
                    self.stopped.remove(&instance);
                    self.goes_on(at, instance);
                }
                later(&mut self.instances, instance, at);
            }
            Fact::Exited { instance } | Fact::Started { instance, .. } => {
                if matches!(fact, Fact::Exited { .. }) {
                    self.exits.insert(instance, at);
                }
                self.stopped.remove(&instance);
                self.goes_on(at, instance);
                if matches!(fact, Fact::Started { .. })
                    && let Some(stop) = self.stops.remove(&instance)
                {
                    self.stops_before.insert(instance, stop);
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
            Fact::Fenced { instance, decided } => self.fence(instance, decided),
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

    /// Stops with less than a look between them are one: nobody could see it awake.
    fn stands_still(&mut self, at: Micros, id: Id) {
        self.stopped.insert(id);
        let before = self.stops.get(&id).copied();
        let unseen = before.filter(|(_, end)| at < end.saturating_add(self.layout.look));
        self.stops.insert(id, (unseen.map_or(at, |(since, _)| since), Micros::MAX));
    }

    fn goes_on(&mut self, at: Micros, id: Id) {
        if let Some((since, end)) = self.stops.get_mut(&id) {
            *end = at.min(*end);
            if *end - *since >= HUNG {
                self.hung.insert(id, *end);
            }
        }
    }

    /// A fence is done. One that was decided after another had ended the process ended nothing of
    /// it: that end was decided before, however late the store hears of it.
    fn fence(&mut self, id: Id, decided: Micros) {
        let stops = [self.stops_before.get(&id), self.stops.get(&id)];
        let since = stops.into_iter().flatten().map(|(since, _)| *since).min();
        let since = since.unwrap_or(Micros::MAX);
        let before = self.fenced.get(&id).copied().filter(|before| *before >= since);
        let over = self
            .exits
            .get(&id)
            .is_some_and(|exit| before.is_some_and(|before| (before..decided).contains(exit)));
        if !over {
            self.fenced.insert(id, decided);
        }
    }

    /// A process that was ended because it hung: did it stand still for long?
    fn hung(&self, at: Micros, service: usize, new: &MasterRecord) -> Result<(), Breach> {
        let MasterState::Vacant { cause: Cause::Hung, .. } = new.state else { return Ok(()) };
        let Some(holder) = Id::named(service, &new.holder.instance) else { return Ok(()) };
        let decided = self.fenced.get(&holder).copied();
        // The store may hear of it when another process stands there, and stands still, too.
        let stops = [self.stops_before.get(&holder), self.stops.get(&holder)].into_iter().flatten();
        let moment = |since: Micros| decided.filter(|decided| *decided >= since).unwrap_or(at);
        let stood = |(since, end): &(Micros, Micros)| {
            let at = moment(*since);
            if at <= *end { at.saturating_sub(*since) } else { 0 }
        };
        let stood = stops.clone().map(stood).max().unwrap_or(0);
        let decided = stops.map(|(since, _)| moment(*since)).min().unwrap_or(at);
        let woke = self
            .hung
            .get(&holder)
            .is_some_and(|end| (*end..=*end + self.layout.look).contains(&decided));
        if stood >= HUNG || woke {
            return Ok(());
        }
        Err(Breach::firm(format!(
            "{holder} was ended as hung, and its process had stood still for {} ms",
            stood / MILLI
        )))
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
                self.records.insert(*service, Rc::clone(record));
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
    fn the_end_of_a_process_is_decided_once() {
        let stopped = |stopped| Fact::Stopped { instance: r(1), stopped };
        let fenced = |decided: Micros| Fact::Fenced { instance: r(1), decided: decided * MILLI };
        let exited = Fact::Exited { instance: r(1) };
        let history = |second: Fact| {
            [
                (0, master(1, 1, MasterState::Serving)),
                (50_000, stopped(true)),
                (54_000, exited.clone()),
                (54_001, fenced(53_000)),
                (58_000, second),
                (59_000, master(1, 1, EXITED_HUNG)),
            ]
        };
        assert_eq!(check(history(fenced(57_000))), Ok(()), "the later one ended nothing");
        let mut again = history(fenced(63_000)).to_vec();
        again.splice(4..4, [(60_000, stopped(true))]);
        again[5].0 = 64_000;
        again[6].0 = 65_000;
        assert_eq!(check(again.clone()), Ok(()), "it stood still again, and for long");
        again[4].0 = 62_500;
        assert!(check(again).is_err(), "it stood still again, and not for long");
    }

    #[test]
    fn the_end_of_a_process_may_be_heard_of_when_another_stands_still() {
        let stopped = |stopped| Fact::Stopped { instance: r(1), stopped };
        let history = |decided: Micros| {
            [
                (0, master(1, 1, MasterState::Serving)),
                (50_000, stopped(true)),
                (54_000, Fact::Exited { instance: r(1) }),
                (56_000, Fact::Started { instance: r(1), open: false }),
                (58_000, stopped(true)),
                (59_000, Fact::Fenced { instance: r(1), decided: decided * MILLI }),
                (59_500, master(1, 1, EXITED_HUNG)),
            ]
        };
        assert_eq!(check(history(53_000)), Ok(()));
        assert!(check(history(51_000)).is_err(), "not for long, neither of them");
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

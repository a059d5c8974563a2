//! Who takes over: the order of the copies, and for each that is passed over the reason why.
//!
//! Position first: the copy that holds the most wins, whatever its priority. Among equals the older
//! major version, then one that has little left to apply of what it received, then the lower
//! priority number (as Redis's `replica-priority`), then one in the zone of the last master, then
//! the name.
//! Two copies of which neither holds all that the other holds are a refusal that names both, never
//! a guess.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::name::InstanceName;
use crate::position::{Covering, Position};
use crate::record::Unfit;

/// One copy as the ranking sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// Its instance.
    pub instance: InstanceName,
    /// Its final position, or why there is none.
    pub position: Result<Position, Refusal>,
    /// Why it must not be promoted, if so.
    pub unfit: Option<Unfit>,
    /// It was in step with a master, or was it, in this life of its process.
    pub in_step: bool,
    /// Major version of its server, as far as known: an older one is preferred, since others of
    /// that version could not follow a newer one.
    pub major: Option<u32>,
    /// It has so much left to apply of what it received that its promotion would wait for that.
    pub applies: bool,
    /// The lower is preferred.
    pub priority: u32,
    /// It stands in the zone of the last master, where that has one.
    pub near: bool,
}

/// Why a copy is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Its own agent says so.
    Unfit(Unfit),
    /// It was tried in this incident and failed.
    Failed,
    /// It gave no final position in time.
    Silent,
    /// Its process has exited.
    Exited,
    /// It restarted after it gave its final position.
    Restarted,
    /// Its history was never that of a master that sengu held.
    UnknownHistory(String),
    /// It was restarted, and lacks what the last master began its term with.
    SetBack,
    /// `loss = "none"`: a later life of the last master, which lacks what that was last seen with.
    LacksSeen,
    /// `loss = "none"`: it stands where the last master stood, and is another server.
    Replaced,
    /// It holds these transactions, which no master wrote that sengu held.
    Strays(String),
    /// It and another each hold something that the other lacks, or cannot be compared.
    Incomparable(InstanceName),
    /// Another copy holds more.
    Behind(InstanceName),
    /// `loss = "none"`: it is not among those that hold every acknowledged write; only this one is
    /// known to.
    NotInSync(InstanceName),
    /// `loss = "none"`: so many final positions of copies in sync are here, and so many are needed.
    TooFewFinals(usize, usize),
    /// A person named another.
    NotAsked,
    /// It was not in step since its process started, and does not hold all that this one holds.
    Stale(InstanceName),
    /// `failover = "manual"`: only this one takes by itself.
    Manual(InstanceName),
    /// It was set back: it would write under numbers that these transactions of its own have.
    WouldRepeat(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfit(Unfit::Syncing) => f.write_str("a full copy onto it was under way"),
            Self::Unfit(Unfit::NeverSynced) => f.write_str("it never had a full copy"),
            Self::Unfit(Unfit::NeverPromote) => f.write_str("its priority is 0 (never promote)"),
            Self::Unfit(Unfit::Drained) => f.write_str("it is drained"),
            Self::Unfit(Unfit::ApplierStopped) => f.write_str(
                "its applier is stopped with received transactions not applied; mend that, or \
                     give them up with RESET REPLICA ALL, and start the server again",
            ),
            Self::Unfit(Unfit::Quarantined) => f.write_str("it is quarantined"),
            Self::Unfit(Unfit::Filtered) => {
                f.write_str("a replication filter leaves out some of what it receives")
            }
            Self::Failed => f.write_str("its promotion failed in this incident"),
            Self::Silent => f.write_str("it gave no final position in time"),
            Self::Exited => f.write_str("its process has exited"),
            Self::Restarted => f.write_str("it restarted after it gave its final position"),
            Self::UnknownHistory(id) => {
                let id = id.get(..8).unwrap_or(id);
                write!(f, "its history {id} belongs to no master that sengu held")
            }
            Self::SetBack => f.write_str(
                "it was restarted and lacks what the last master began its term with: its data was \
                 emptied or set back",
            ),
            Self::LacksSeen => f.write_str(
                "`loss = \"none\"`: it was restarted and lacks what it was last seen with as the \
                 master: its data was emptied, set back or replaced",
            ),
            Self::Replaced => f.write_str(
                "`loss = \"none\"`: its server_uuid is not that of the last master: its data was \
                 emptied or replaced, and what it acknowledged may be missing",
            ),
            Self::Strays(strays) => {
                write!(f, "it has transactions that no master wrote: {}", shortened(strays))
            }
            Self::Incomparable(other) => {
                write!(f, "its history and that of {other} cannot be compared")
            }
            Self::Behind(other) => write!(f, "{other} holds more"),
            Self::NotInSync(holder) => write!(
                f,
                "`loss = \"none\"`: it is not known to hold every acknowledged write; {holder} is"
            ),
            Self::TooFewFinals(have, need) => write!(
                f,
                "`loss = \"none\"`: {have} of the copies in sync told their final position, and \
                 {need} are needed to know the last acknowledged write"
            ),
            Self::NotAsked => f.write_str("another one was asked for"),
            Self::Stale(other) => write!(
                f,
                "it was never in step since its process started, and is not known to hold all that \
                 {other} holds"
            ),
            Self::WouldRepeat(lacks) => write!(
                f,
                "it was set back and lacks transactions of its own ({}): as the master it would \
                 give their numbers to others; start it with a new identity first (MySQL: remove \
                 auto.cnf from its data folder, MariaDB: another server_id)",
                shortened(lacks)
            ),
            Self::Manual(only) => {
                write!(f, "`failover = \"manual\"`: only {only} takes again by itself")
            }
        }
    }
}

/// A set of transactions can be long; a message is not.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranking {
    /// Best first.
    pub order: Vec<InstanceName>,
    /// Everyone else.
    pub refusals: BTreeMap<InstanceName, Refusal>,
}

/// Who is known to hold every acknowledged write, under `loss = "none"`.
#[derive(Debug, Clone)]
pub struct InSync<'a> {
    /// The master of the term: it had everything.
    pub holder: &'a InstanceName,
    /// What its agent last saw it have: a later life of it must have that too.
    pub seen: Option<&'a Position>,
    /// The copies that together hold everything; none: the holder alone does.
    pub copies: BTreeSet<&'a InstanceName>,
    /// So many final positions of them show the last acknowledged write.
    pub finals_needed: usize,
}

/// What counts in a ranking besides the copies.
#[derive(Debug, Clone, Default)]
pub struct Terms<'a> {
    /// The histories that masters held by sengu had; `None`: any will do (a single copy, or a
    /// person said so).
    pub histories: Option<&'a [Position]>,
    /// Copies that failed in this incident.
    pub failed: &'a [InstanceName],
    /// Only this one, whatever its place.
    pub asked: Option<&'a InstanceName>,
    /// Only this one takes by itself, and only if it covers every other copy.
    pub only: Option<&'a InstanceName>,
    /// `loss = "none"`: who holds everything.
    pub in_sync: Option<InSync<'a>>,
    /// The positions are of copies that still receive: one that is behind now would have caught up.
    pub live: bool,
    /// The service has one instance.
    pub single: bool,
    /// A person accepts a copy that cannot be compared, or lacks something.
    pub lossy: bool,
}

impl<'a> Terms<'a> {
    /// Where the histories of masters began, the newest last.
    fn origins(&self) -> &'a [Position] {
        self.histories.unwrap_or_default()
    }
}

/// Orders the copies.
#[must_use]
pub fn rank(copies: &[Copy], terms: &Terms<'_>) -> Ranking {
    let mut ranking = Ranking::default();
    // Every readable copy counts when asking who holds more; only the fit ones may win.
    let readable: Vec<(&Copy, &Position)> = copies
        .iter()
        .filter_map(|copy| copy.position.as_ref().ok().map(|position| (copy, position)))
        .filter(|(copy, position)| counts(copy, position, terms))
        .collect();
    let mut fit: Vec<(&Copy, &Position)> = Vec::new();
    for copy in copies {
        match judge(copy, &readable, copies, terms) {
            Ok(position) => fit.push((copy, position)),
            Err(refusal) => {
                ranking.refusals.insert(copy.instance.clone(), refusal);
            }
        }
    }
    fit.sort_by(|(a, at), (b, bt)| {
        bt.order_in(at, terms.origins())
            .unwrap_or(Ordering::Equal)
            .then(a.major.cmp(&b.major))
            .then(a.applies.cmp(&b.applies))
            .then(a.priority.cmp(&b.priority))
            .then(b.near.cmp(&a.near))
            .then(a.instance.cmp(&b.instance))
    });
    ranking.order = fit.into_iter().map(|(copy, _)| copy.instance.clone()).collect();
    ranking
}

/// May this copy's position hold others back? Half a copy, or one of an unknown history, may not.
fn counts(copy: &Copy, position: &Position, terms: &Terms<'_>) -> bool {
    let whole = !matches!(copy.unfit, Some(Unfit::Syncing | Unfit::NeverSynced));
    whole && known(position, terms.histories)
}

fn known(position: &Position, histories: Option<&[Position]>) -> bool {
    histories.is_none_or(|origins| position.strays(origins).is_none())
}

fn judge<'a>(
    copy: &'a Copy,
    readable: &[(&Copy, &Position)],
    copies: &[Copy],
    terms: &Terms<'_>,
) -> Result<&'a Position, Refusal> {
    let position = copy.position.as_ref().map_err(Clone::clone)?;
    if terms.failed.contains(&copy.instance) {
        return Err(Refusal::Failed);
    }
    // A person who names it, and accepts a loss, has looked at what sets it apart; and where there
    // is no other copy, an empty one is all there is.
    let forced = terms.lossy && terms.asked == Some(&copy.instance);
    if let Some(unfit) = copy.unfit {
        let passes = match unfit {
            Unfit::Quarantined | Unfit::Drained | Unfit::Filtered => forced,
            Unfit::NeverSynced => forced || terms.single,
            Unfit::Syncing | Unfit::NeverPromote | Unfit::ApplierStopped => false,
        };
        if !passes {
            return Err(Refusal::Unfit(unfit));
        }
    }
    if terms.asked.is_some_and(|asked| *asked != copy.instance) {
        return Err(Refusal::NotAsked);
    }
    if !terms.single {
        repeats_nothing(position, terms, copies)?;
    }
    if terms.lossy || (terms.single && terms.in_sync.is_none()) {
        return Ok(position);
    }
    if let Some(only) = terms.only {
        if *only != copy.instance {
            return Err(Refusal::Manual(only.clone()));
        }
        covers_all(copy, position, copies, terms)?;
    }
    if let Some(strays) = terms.histories.and_then(|origins| position.strays(origins)) {
        return Err(match position {
            Position::Redis(_) => Refusal::UnknownHistory(strays),
            Position::Mysql(_) | Position::Mariadb(_) => Refusal::Strays(strays),
        });
    }
    if let Some(in_sync) = &terms.in_sync {
        in_sync.admits(copy, position, readable, copies, terms)?;
    }
    for (other, theirs) in readable {
        if other.instance == copy.instance {
            continue;
        }
        match position.order_in(theirs, terms.origins()) {
            None => return Err(Refusal::Incomparable(other.instance.clone())),
            // One that failed, or must not be promoted, still holds what it holds: passing it
            // over loses that, which `loss = "bounded"` allows and the history says.
            Some(Ordering::Less)
                if terms.asked.is_some() || (terms.in_sync.is_some() && !terms.live) =>
            {
                return Err(Refusal::Behind(other.instance.clone()));
            }
            Some(Ordering::Less | Ordering::Equal | Ordering::Greater) => {}
        }
    }
    if !copy.in_step {
        covers_all(copy, position, copies, terms)?;
        holds_origin(position, terms)?;
    }
    Ok(position)
}

impl InSync<'_> {
    /// May this copy be the one that holds everything? That nobody holds more is asked beside.
    fn admits(
        &self,
        copy: &Copy,
        position: &Position,
        readable: &[(&Copy, &Position)],
        copies: &[Copy],
        terms: &Terms<'_>,
    ) -> Result<(), Refusal> {
        // The same life of the holder: whatever was acknowledged, it wrote.
        let holder = copies.iter().find(|other| other.instance == *self.holder && other.in_step);
        if let Some(wrote) = holder.and_then(|holder| holder.position.as_ref().ok())
            && position.has(wrote)
        {
            return Ok(());
        }
        if copy.instance == *self.holder {
            holds_origin(position, terms)?;
            // Where copies together have everything, they tell below what was acknowledged; of what
            // the master was seen with, nobody needs what waited for an acknowledgement.
            if self.copies.is_empty() {
                self.is_whole(position)?;
            }
        } else if !self.copies.contains(&copy.instance) {
            return Err(Refusal::NotInSync(self.holder.clone()));
        }
        // One whose position cannot be compared shows nothing: it may hold what this one lacks.
        // One that lost its data since shows nothing either.
        let told = readable.iter().filter(|(other, position)| {
            self.copies.contains(&other.instance)
                && (other.in_step || holds_origin(position, terms).is_ok())
        });
        let told = told.count();
        if told < self.finals_needed {
            return Err(Refusal::TooFewFinals(told, self.finals_needed));
        }
        Ok(())
    }

    /// A later life of the holder is the holder only with its data: it may have been emptied and
    /// filled again from a copy that lacks what was acknowledged.
    fn is_whole(&self, position: &Position) -> Result<(), Refusal> {
        match self.seen {
            Some(seen) if position.same_folder(seen) == Some(false) => Err(Refusal::Replaced),
            Some(seen) => match position.covers(seen) {
                Covering::Covers(_) => Ok(()),
                Covering::Lacks(_) | Covering::Incomparable => Err(Refusal::LacksSeen),
            },
            None => Ok(()),
        }
    }
}

/// emptied-never-wins: a server that was set back must not write under its old numbers, whatever a
/// person accepts: the copies would take its transactions for those that they have.
fn repeats_nothing(position: &Position, terms: &Terms<'_>, copies: &[Copy]) -> Result<(), Refusal> {
    let known = copies.iter().filter_map(|copy| copy.position.as_ref().ok());
    let known = known.chain(terms.histories.and_then(<[Position]>::last));
    match known.filter_map(|known| position.would_repeat(known)).next() {
        Some(lacks) => Err(Refusal::WouldRepeat(lacks)),
        None => Ok(()),
    }
}

/// emptied-never-wins, where all copies are empty or set back: one that was not in step in this
/// life must hold at least what the last master began its term with. (A Redis history that began
/// anew was refused before.)
fn holds_origin(position: &Position, terms: &Terms<'_>) -> Result<(), Refusal> {
    let origin = terms.histories.and_then(<[Position]>::last);
    match (position, origin) {
        (Position::Mysql(_) | Position::Mariadb(_), Some(origin)) if !position.has(origin) => {
            Err(Refusal::SetBack)
        }
        _ => Ok(()),
    }
}

/// emptied-never-wins: one that was not in step in this life must cover every other copy, and
/// what is not known is not covered.
fn covers_all(
    copy: &Copy,
    position: &Position,
    copies: &[Copy],
    terms: &Terms<'_>,
) -> Result<(), Refusal> {
    // Half a copy, or none, holds nothing that could be missed.
    let whole = |other: &&Copy| !matches!(other.unfit, Some(Unfit::Syncing | Unfit::NeverSynced));
    let others = copies.iter().filter(|other| other.instance != copy.instance);
    for other in others.filter(whole) {
        let Ok(theirs) = &other.position else {
            return Err(Refusal::Stale(other.instance.clone()));
        };
        match position.covers_in(theirs, terms.origins()) {
            Covering::Covers(_) => {}
            Covering::Lacks(_) => return Err(Refusal::Behind(other.instance.clone())),
            Covering::Incomparable => {
                return Err(Refusal::Incomparable(other.instance.clone()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::RedisPosition;

    const A: &str = "0000000a-0000-0000-0000-000000000000";
    const B: &str = "0000000b-0000-0000-0000-000000000000";
    const C: &str = "0000000c-0000-0000-0000-000000000000";

    /// What a MySQL server holds.
    fn at(server: &str, set: &str) -> Position {
        let set = set.parse().expect("a good set");
        Position::Mysql(crate::position::MysqlPosition { server: server.to_owned(), set })
    }

    fn copy(name: &str, id: &str, offset: u64, priority: u32) -> Copy {
        Copy {
            instance: InstanceName::new(name).expect("good"),
            position: Ok(Position::Redis(RedisPosition { id: id.into(), offset, second: None })),
            unfit: None,
            in_step: true,
            major: None,
            priority,
            applies: false,
            near: false,
        }
    }

    fn told(ranking: &Ranking) -> String {
        let order: Vec<&str> = ranking.order.iter().map(InstanceName::as_str).collect();
        let refused: Vec<String> =
            ranking.refusals.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        format!("{} | {}", order.join(" "), refused.join("; "))
    }

    fn check(copies: &[Copy], terms: &Terms<'_>, expect: &str) {
        assert_eq!(told(&rank(copies, terms)), expect);
        let mut reversed = copies.to_vec();
        reversed.reverse();
        assert_eq!(told(&rank(&reversed, terms)), expect, "the order of the input shows");
    }

    #[test]
    fn position_then_priority_then_zone_then_name() {
        let mut copies = [copy("a", "h", 9, 50), copy("b", "h", 9, 50), copy("c", "h", 9, 100)];
        copies[1].near = true;
        copies[2].near = true;
        check(&copies, &Terms::default(), "b a c | ");
        let copies = [copy("a", "h", 5, 1), copy("b", "h", 9, 100), copy("c", "h", 9, 50)];
        check(&copies, &Terms::default(), "c b a | ");
        let copies = [copy("b", "h", 5, 1), copy("a", "h", 5, 1)];
        check(&copies, &Terms::default(), "a b | ");
    }

    #[test]
    fn of_equals_one_that_need_not_apply_first_is_promoted_sooner() {
        let mut copies = [copy("a", "h", 9, 1), copy("b", "h", 9, 100), copy("c", "h", 8, 1)];
        copies[0].applies = true;
        check(&copies, &Terms::default(), "b a c | ");
        copies[1].major = Some(9);
        copies[0].major = Some(8);
        check(&copies, &Terms::default(), "a b c | ");
    }

    #[test]
    fn the_unfit_are_passed_over_with_the_reason() {
        let mut copies = vec![copy("a", "h", 9, 0), copy("b", "h", 5, 1), copy("c", "h", 7, 1)];
        copies[0].unfit = Some(Unfit::NeverPromote);
        copies[2].position = Err(Refusal::Silent);
        let expect =
            "b | a: its priority is 0 (never promote); c: it gave no final position in time";
        check(&copies, &Terms::default(), expect);
    }

    #[test]
    fn an_unknown_history_never_wins_and_never_holds_back() {
        let known = [Position::Redis(RedisPosition { id: "h".into(), offset: 0, second: None })];
        let copies = [copy("a", "emptied-master", 6_000_000, 1), copy("b", "h", 5, 1)];
        let terms = Terms { histories: Some(&known), ..Terms::default() };
        check(&copies, &terms, "b | a: its history emptied- belongs to no master that sengu held");
    }

    #[test]
    fn incomparable_is_a_refusal_naming_both() {
        let copies = [copy("a", "x", 5, 1), copy("b", "y", 5, 1)];
        let expect = " | a: its history and that of b cannot be compared; b: its history and that of a cannot be compared";
        check(&copies, &Terms::default(), expect);
    }

    #[test]
    fn one_that_was_not_in_step_must_cover_all_others() {
        let mut copies = [copy("a", "h", 9, 1), copy("b", "h", 5, 1)];
        copies[0].in_step = false;
        check(&copies, &Terms::default(), "a b | ");
        copies[1].position = Err(Refusal::Exited);
        let stale = " | a: it was never in step since its process started, and is not known to hold all that b holds; b: its process has exited";
        check(&copies, &Terms::default(), stale);
        let manual = InstanceName::new("a").expect("good");
        let copies = [copy("a", "h", 5, 1), copy("b", "h", 9, 1)];
        let terms = Terms { only: Some(&manual), ..Terms::default() };
        let expect = " | a: b holds more; b: `failover = \"manual\"`: only a takes again by itself";
        check(&copies, &terms, expect);
    }

    #[test]
    fn copies_that_are_all_emptied_are_not_taken_for_the_whole() {
        let origins = [at(A, &format!("{A}:1-9"))];
        let emptied = |name: &str, server: &str| Copy {
            instance: InstanceName::new(name).expect("good"),
            position: Ok(at(server, "")),
            unfit: None,
            in_step: false,
            major: None,
            priority: 1,
            applies: false,
            near: false,
        };
        let holder = InstanceName::new("a").expect("good");
        let in_sync =
            InSync { holder: &holder, seen: None, copies: BTreeSet::new(), finals_needed: 0 };
        let terms = Terms { histories: Some(&origins), in_sync: Some(in_sync), ..Terms::default() };
        let why = "it was restarted and lacks what the last master began its term with: its data \
                   was emptied or set back";
        check(&[emptied("a", B)], &terms, &format!(" | a: {why}"));
        let alone = Terms { single: true, ..terms };
        check(&[emptied("a", A)], &alone, &format!(" | a: {why}"));
    }

    #[test]
    fn a_later_life_of_one_that_was_alone_is_it_only_with_what_it_was_seen_with() {
        let told = |held: Position, seen: Option<Position>| {
            let back = Copy {
                instance: InstanceName::new("a").expect("good"),
                position: Ok(held.clone()),
                unfit: None,
                in_step: false,
                major: None,
                priority: 1,
                applies: false,
                near: false,
            };
            let holder = back.instance.clone();
            let copies = BTreeSet::new();
            let in_sync = InSync { holder: &holder, seen: seen.as_ref(), copies, finals_needed: 0 };
            let terms = Terms { in_sync: Some(in_sync), single: true, ..Terms::default() };
            rank(&[back], &terms).refusals.into_values().next()
        };
        let mysql = |server: &str, last: u64| at(server, &format!("{A}:1-{last}"));
        assert_eq!(told(mysql(A, 9), Some(mysql(A, 9))), None);
        assert_eq!(told(mysql(A, 5), None), None, "nobody saw it");
        assert_eq!(told(mysql(A, 8), Some(mysql(A, 9))), Some(Refusal::LacksSeen));
        assert_eq!(told(mysql(B, 9), Some(mysql(A, 9))), Some(Refusal::Replaced));
        let mariadb = |last: u64| {
            let state = format!("0-1-{last}").parse().expect("good");
            Position::Mariadb(crate::position::MariadbPosition { server: 1, state })
        };
        assert_eq!(told(mariadb(9), Some(mariadb(9))), None);
        assert_eq!(told(mariadb(8), Some(mariadb(9))), Some(Refusal::LacksSeen));
    }

    #[test]
    fn a_server_that_was_set_back_never_writes_under_its_old_numbers() {
        let copy = |name: &str, server: &str, set: &str| Copy {
            instance: InstanceName::new(name).expect("good"),
            position: Ok(at(server, set)),
            unfit: None,
            in_step: false,
            major: None,
            priority: 1,
            applies: false,
            near: false,
        };
        let origins = [at(A, &format!("{A}:1-9"))];
        let asked = InstanceName::new("a").expect("good");
        let terms = Terms {
            histories: Some(&origins),
            lossy: true,
            asked: Some(&asked),
            ..Terms::default()
        };
        let why = |from: u64, to: u64| {
            format!(
                " | a: it was set back and lacks transactions of its own ({A}:{from}-{to}): as the \
                 master it would give their numbers to others; start it with a new identity first \
                 (MySQL: remove auto.cnf from its data folder, MariaDB: another server_id)"
            )
        };
        check(&[copy("a", A, &format!("{A}:1-7"))], &terms, &why(8, 9));
        let copies = [copy("a", A, &format!("{A}:1-9")), copy("b", B, &format!("{A}:1-12"))];
        check(&copies, &terms, &format!("{}; b: another one was asked for", why(10, 12)));
        // With another identity the loss is a person's to accept.
        let copies = [copy("a", C, &format!("{A}:1-9")), copy("b", B, &format!("{A}:1-12"))];
        check(&copies, &terms, "a | b: another one was asked for");
    }

    #[test]
    fn a_person_may_name_one_and_accept_the_loss() {
        let copies = [copy("a", "h", 5, 1), copy("b", "h", 9, 1)];
        let asked = InstanceName::new("a").expect("good");
        let terms = Terms { asked: Some(&asked), ..Terms::default() };
        check(&copies, &terms, " | a: b holds more; b: another one was asked for");
        let terms = Terms { lossy: true, ..terms };
        check(&copies, &terms, "a | b: another one was asked for");
    }
}

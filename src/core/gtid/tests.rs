//! Set arithmetic against sets of single transactions, and the servers' own ways to write them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "c80aa942-71ca-11e1-9e33-9562c80aa942";

/// Each transaction by itself.
type Plain = BTreeSet<(usize, u64)>;

fn set(plain: &Plain) -> GtidSet {
    let sources = [A.to_owned(), B.to_owned(), format!("{A}:nightly")];
    let text: Vec<String> =
        plain.iter().map(|(source, number)| format!("{}:{number}", sources[*source])).collect();
    text.join(",").parse().expect("good")
}

fn plain() -> impl Strategy<Value = Plain> {
    prop::collection::btree_set((0_usize..3, 1_u64..12), 0..24)
}

fn state(plain: &BTreeSet<(u32, u32, u64)>) -> GtidState {
    let text: Vec<String> = plain.iter().map(|(d, s, n)| format!("{d}-{s}-{n}")).collect();
    text.join(",").parse().expect("good")
}

fn writers() -> impl Strategy<Value = BTreeSet<(u32, u32, u64)>> {
    prop::collection::btree_set((0_u32..2, 1_u32..4, 1_u64..9), 0..8)
}

proptest! {
    #[test]
    fn sets_do_what_sets_of_single_transactions_do(a in plain(), b in plain()) {
        let (x, y) = (set(&a), set(&b));
        prop_assert_eq!(x.union(&y), set(&a.union(&b).copied().collect()));
        prop_assert_eq!(x.minus(&y), set(&a.difference(&b).copied().collect()));
        prop_assert_eq!(x.contains(&y), b.is_subset(&a));
        prop_assert_eq!(x.count(), a.len() as u64);
        let of_b: Plain = a.iter().copied().filter(|(source, _)| *source == 1).collect();
        prop_assert_eq!(x.without_server(A), set(&of_b), "tags belong to their server");
    }

    #[test]
    fn what_is_written_reads_back_equal(a in plain(), w in writers()) {
        let x = set(&a);
        prop_assert_eq!(x.to_string().parse::<GtidSet>(), Ok(x));
        let s = state(&w);
        prop_assert_eq!(s.to_string().parse::<GtidState>(), Ok(s));
    }

    #[test]
    fn states_are_ordered_as_their_entries_are(a in writers(), b in writers()) {
        let (x, y) = (state(&a), state(&b));
        let both = x.union(&y);
        prop_assert!(both.contains(&x) && both.contains(&y));
        prop_assert!(x != y || x.contains(&y));
        prop_assert_eq!(x.contains(&y), y.count_beyond(&x) == 0);
        let shared = |domain: u32, number: u64| {
            x.last.iter().any(|(writer, mine)| {
                let theirs = y.last.get(writer).filter(|_| writer.0 == domain);
                theirs.is_some_and(|theirs| *theirs > number && *mine > number)
            })
        };
        let later = |domain: u32, number: u64| {
            x.last.iter().filter(|(writer, _)| writer.0 == domain).all(|(_, mine)| *mine > number)
        };
        let covered = y.last.iter().all(|(writer, number)| match x.last.get(writer) {
            Some(mine) => mine >= number,
            None => shared(writer.0, *number) && later(writer.0, *number),
        });
        prop_assert_eq!(x.contains(&y), covered);
        prop_assert_eq!(x.lacked_by(&y).is_empty(), y.contains(&x));
        let told = |(writer, number): (&(u32, u32), &u64)| {
            x.last.get(writer).is_some_and(|mine| mine >= number)
        };
        prop_assert_eq!(y.minus(&x).is_empty(), y.last.iter().all(told), "to the letter");
        prop_assert!(!y.minus(&x).is_empty() || x.contains(&y), "the letter is stricter");
    }
}

#[test]
fn mysql_sets_are_read_as_servers_write_them() {
    let text = format!("{A}:1-3:11:47-49,\n{}:1", B.to_uppercase());
    let read: GtidSet = text.parse().expect("good");
    assert_eq!(read.to_string(), format!("{A}:1-3:11:47-49,{B}:1"));
    assert_eq!(read.count(), 8);
    let tagged: GtidSet = format!("{A}:1-3:Nightly:1-2:5").parse().expect("good");
    assert_eq!(tagged.to_string(), format!("{A}:1-3,{A}:nightly:1-2:5"));
    assert_eq!(String::new().parse(), Ok(GtidSet::default()));
}

#[test]
fn two_servers_of_one_domain_are_two_histories() {
    let old: GtidState = "0-7201-12".parse().expect("good");
    let new: GtidState = "0-7201-11,0-7202-12".parse().expect("good");
    assert!(!new.contains(&old) && !old.contains(&new), "equal numbers, different transactions");
    assert_eq!(old.count_beyond(&new), 1);
    let two: GtidState = "0-1-10,5-1-3".parse().expect("good");
    let ahead: GtidState = "0-1-14,5-1-3".parse().expect("good");
    assert_eq!((ahead.count_beyond(&two), two.count_beyond(&ahead)), (4, 0));
}

#[test]
fn what_is_no_set_is_named() {
    for text in ["x", "3e11fa47:1", A, &format!("{A}:0"), &format!("{A}:5-2")] {
        let error = text.parse::<GtidSet>().expect_err("refused").to_string();
        assert!(error.contains("is no GTID set") && error.contains(text), "{error}");
    }
    for text in ["0-1", "0-1-2-3", "0-1-x", "0--1", "5000000000-1-1"] {
        let error = text.parse::<GtidState>().expect_err("refused").to_string();
        assert!(error.contains("is no GTID position") && error.contains(text), "{error}");
    }
    let long = "0-1-1,".repeat(60_000);
    assert!(long.parse::<GtidState>().expect_err("refused").to_string().len() < 200);
}

#[test]
fn a_copy_from_a_backup_has_what_came_before_its_last_transaction() {
    let state = |text: &str| text.parse::<GtidState>().expect("good");
    let (old, copied) = (state("0-1-98,0-2-510"), state("0-2-505"));
    assert!(old.contains(&copied));
    assert_eq!(old.lacked_by(&copied), state("0-2-510"), "not what the first writer wrote before");
    assert_eq!(old.minus(&copied), old, "it does not tell of the first writer");
    assert!(state("0-2-510").contains(&old), "it has come as far");
    assert!(state("0-2-520").contains(&old), "it has come further");
    // Nothing later is shared: nothing is known.
    assert_eq!(old.lacked_by(&state("0-3-600")), old);
    assert_eq!(state("0-1-600,0-2-510").lacked_by(&copied), state("0-1-600,0-2-510"));
    // It tells of somebody as early as that, so it would tell of this one too.
    assert_eq!(old.lacked_by(&state("0-2-505,0-4-7")), old);
    // In another domain a number says nothing.
    assert_eq!(state("0-1-98,1-2-510").lacked_by(&state("1-2-510")), state("0-1-98"));
    // A server that is known, and known to have written less, is no matter of a backup.
    assert_eq!(state("0-1-100,0-2-500").lacked_by(&state("0-1-98,0-2-500")), state("0-1-100"));
}

#[test]
fn a_server_that_was_set_back_would_use_its_numbers_again() {
    let state = |text: &str| text.parse::<GtidState>().expect("good");
    let others = state("0-1-100,1-1-7");
    assert_eq!(state("0-1-90,1-1-7").would_repeat(&others, 1), state("0-1-100"));
    assert_eq!(state("0-1-90,0-2-120,1-1-7").would_repeat(&others, 1), GtidState::default());
    assert_eq!(state("0-1-90,1-1-7").would_repeat(&others, 2), GtidState::default());
    let set = |text: &str| text.parse::<GtidSet>().expect("good");
    let all = set(&format!("{A}:1-9:nightly:1-3,{B}:4"));
    assert_eq!(all.of_server(A), set(&format!("{A}:1-9:nightly:1-3")));
    assert_eq!(all.of_server(A).union(&all.without_server(A)), all);
}

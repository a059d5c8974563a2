//! Forged histories that the checker must reject, each by the right verdict, and clean ones that
//! it must accept; for each bound one on either side of it.

use super::*;

const S: Micros = 1_000_000;
const MS: Micros = 1_000;

fn term(term: u64, holder: &str, began: Micros, planned: bool, loss: Loss) -> Term {
    let (taken, served) = (began + 200 * MS, Some(began + 400 * MS));
    Term { term, holder: holder.into(), began, taken, served, planned, forced: false, loss }
}

fn write(serial: u64, by: &str, at: Micros) -> Write {
    Write { id: ("client".into(), serial), by: by.into(), sent: at - 2 * MS, acked: at }
}

fn saw(output: &str, said: &str, asked: Micros, last: Micros) -> Sighting {
    let said = if said.is_empty() { vec![] } else { vec![said.to_owned()] };
    let (output, looks) = (output.to_owned(), 10);
    Sighting { output, said, term: None, asked, answered: asked + MS, last, looks }
}

fn life(instance: &str, from: Micros, until: Option<Micros>) -> Life {
    Life { instance: instance.into(), from, until }
}

fn hook(term: u64, phase: &str, host: &str) -> HookStart {
    HookStart { term, phase: phase.into(), host: host.into() }
}

/// `a` in term 1 until its process dies at 9.95 s, `b` in term 2, and by a switchover `a` again.
fn clean() -> History {
    let mut writes = Vec::new();
    let mut serial = 0;
    for (by, from, until) in [("a", 100, 9_900), ("b", 10_500, 19_900), ("a", 20_500, 30_000)] {
        for at in (from..until).step_by(100) {
            serial += 1;
            writes.push(write(serial, by, at * MS));
        }
    }
    let mut first = term(1, "a", -S, false, Loss::Nothing);
    first.began = -S;
    History {
        service: "foo".into(),
        lossless: false,
        bounds: Bounds {
            stale: S,
            overlap: 500 * MS,
            file: 2 * S,
            standstill: 5 * S,
            converge: 10 * S,
            histories: 16,
        },
        span: (0, 30 * S),
        terms: vec![
            first,
            term(2, "b", 10 * S, false, Loss::AtMost(300 * MS)),
            term(3, "a", 20 * S, true, Loss::Nothing),
        ],
        kept: writes.iter().map(|write| write.id.clone()).collect(),
        writes,
        logs: Default::default(),
        emptied: Default::default(),
        outputs: vec!["dns of 1".into()],
        sightings: vec![
            saw("dns of 1", "a", 50 * MS, 9_990 * MS),
            saw("dns of 1", "", 10 * S, 10_390 * MS),
            saw("dns of 1", "b", 10_410 * MS, 19_990 * MS),
            saw("dns of 1", "a", 20_410 * MS, 29_900 * MS),
        ],
        lives: vec![
            life("a", -2 * S, Some(9_950 * MS)),
            life("a", 12 * S, None),
            life("b", -2 * S, None),
        ],
        refusals: vec![],
        hooks: vec![hook(2, "after-failover", "h2")],
        histories: 3,
        faults: vec![Fault { at: 9_950 * MS, what: "a is killed".into(), harmless: false }],
        cut_off: vec![],
        starved: vec![],
        rest: Some(Rest { healed: 12 * S, steady: Some(21 * S), missing: String::new() }),
    }
}

/// The rules and words of all verdicts.
fn told(history: &History) -> Vec<String> {
    judge(history).verdicts.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn accepted(history: &History) {
    assert_eq!(told(history), Vec::<String>::new());
}

/// Rejected, first of all by this verdict.
#[track_caller]
fn rejected(history: &History, wanted: fn(&Verdict) -> bool, words: &str) {
    let verdicts = judge(history).verdicts;
    assert!(verdicts.iter().any(wanted), "{:#?}", told(history));
    assert!(verdicts.iter().all(wanted), "another verdict too: {:#?}", told(history));
    let said = told(history).iter().any(|text| text.contains(words));
    assert!(said, "no `{words}` in {:#?}", told(history));
}

fn forged(change: impl FnOnce(&mut History)) -> History {
    let mut history = clean();
    change(&mut history);
    history
}

fn put(history: &mut History, write: Write) {
    history.kept.insert(write.id.clone());
    history.writes.push(write);
}

/// Every write is in the log of both, by the one that acknowledged it.
fn logged(history: &mut History) {
    let commits = history.writes.iter().map(|write| Commit {
        id: write.id.clone(),
        origin: write.by.clone(),
        began: write.sent + MS,
    });
    let commits: Vec<Commit> = commits.collect();
    history.logs.insert("a".into(), commits.clone());
    history.logs.insert("b".into(), commits);
}

#[test]
fn a_clean_history_is_accepted_and_measured() {
    accepted(&clean());
    let report = judge(&clean());
    assert_eq!((report.moves, report.gone, report.looks), (2, 0, 40));
    assert_eq!(report.worst_gap, 700 * MS);
    assert_eq!(report.worst_staleness, 40 * MS);
    accepted(&forged(logged));
    // Named a moment before its second term is said to begin, it is not named by the first.
    let early = forged(|history| {
        history.sightings.push(saw("dns of 1", "a", 20_370 * MS, 20_390 * MS));
    });
    assert_eq!(judge(&early).worst_staleness, 40 * MS);
    // Nor by an answer that was asked for before that and came after it.
    let slow = forged(|history| {
        let asked = saw("dns of 1", "a", 20_300 * MS, 20_300 * MS);
        history.sightings.push(Sighting { answered: 20_420 * MS, ..asked });
    });
    accepted(&slow);
    assert_eq!(judge(&slow).worst_staleness, 40 * MS);
}

#[test]
fn a_history_that_shows_nothing_proves_nothing() {
    let none = |verdict: &Verdict| matches!(verdict, Verdict::NothingRecorded(_));
    rejected(&forged(|it| it.rest = None), none, "how it came to rest");
    let empty = forged(|it| it.writes.clear());
    assert!(judge(&empty).verdicts.iter().any(none));
    let empty = forged(|it| it.terms.clear());
    assert!(judge(&empty).verdicts.iter().any(none));
}

#[test]
fn an_older_master_that_acknowledges_after_a_newer_one_is_seen() {
    let two = |verdict: &Verdict| matches!(verdict, Verdict::TwoMasters { .. });
    // Sent 1 ms after the first acknowledgement of `b`, which came at 10.5 s.
    let late = forged(|it| put(it, write(9001, "a", 10_503 * MS)));
    rejected(&late, two, "in term 1 client 9001");
    rejected(&late, two, "by a) is after, in term 2, client 99 ");
    // Sent at that very moment: it may have been acknowledged before.
    accepted(&forged(|it| put(it, write(9001, "a", 10_502 * MS))));
    // A client that is told late of what was acknowledged in time.
    let mut slow = write(9001, "a", 10_900 * MS);
    slow.sent = 9_800 * MS;
    accepted(&forged(|it| put(it, slow)));
    // The taker of a planned move, too.
    let late = forged(|it| put(it, write(9001, "b", 20_600 * MS)));
    rejected(&late, two, "in term 2 client 9001");
}

#[test]
fn what_was_never_master_acknowledges_nothing() {
    let never = |verdict: &Verdict| matches!(verdict, Verdict::NeverMaster(_));
    rejected(&forged(|it| put(it, write(9001, "c", 5 * S))), never, "client 9001");
    // `b` before it has taken its term, at 10.2 s.
    rejected(&forged(|it| put(it, write(9001, "b", 10_199 * MS))), never, "by b");
    accepted(&forged(|it| put(it, write(9001, "b", 10_203 * MS))));
}

#[test]
fn a_late_statement_in_a_log_is_seen_though_no_client_was_told() {
    let late = |verdict: &Verdict| matches!(verdict, Verdict::LoggedLate { .. });
    let commit = |origin: &str, began: Micros| Commit {
        id: ("client".into(), 9001),
        origin: origin.into(),
        began,
    };
    let with = |commit: Commit| {
        forged(|it| {
            logged(it);
            it.logs.get_mut("a").expect("a log").push(commit);
        })
    };
    rejected(&with(commit("a", 10_501 * MS)), late, "a began client 9001");
    accepted(&with(commit("a", 10_500 * MS)));
}

#[test]
fn what_is_acknowledged_is_in_the_log_of_its_server() {
    let missing = |verdict: &Verdict| matches!(verdict, Verdict::NotInItsLog(_));
    let mut other = forged(logged);
    for log in other.logs.values_mut() {
        log[3].origin = "b".into();
    }
    rejected(&other, missing, "client 4");
    // A server that was emptied has no log of it.
    other.emptied.push(("a".into(), 9_950 * MS));
    accepted(&other);
}

#[test]
fn serials_are_used_once() {
    let twice = |verdict: &Verdict| matches!(verdict, Verdict::SerialTwice(_));
    rejected(&forged(|it| put(it, write(7, "a", 5 * S))), twice, "client wrote 7 twice");
}

#[test]
fn a_write_is_gone_only_where_a_term_says_so() {
    let lost = |verdict: &Verdict| matches!(verdict, Verdict::Lost { .. });
    let gone = |at: Micros| {
        forged(|it| {
            put(it, write(9001, if at < 10 * S { "a" } else { "b" }, at));
            it.kept.remove(&("client".to_owned(), 9001));
        })
    };
    // Term 2 says: at most the last 300 ms before 10 s; times are rounded by 2 ms.
    accepted(&gone(9_698 * MS));
    rejected(&gone(9_697 * MS), lost, "AtMost(300000)");
    // Term 3 was planned.
    rejected(&gone(19_900 * MS), lost, "(3, Nothing)");
    // Nothing came after.
    let mut last = gone(9_800 * MS);
    accepted(&last);
    let write = last.writes.last_mut().expect("it was put there");
    (write.by, write.sent, write.acked) = ("a".into(), 25 * S, 25 * S);
    rejected(&last, lost, "terms after it say []");
    // `loss = "none"` accepts no loss, whatever a term says, but what a person took upon himself.
    let mut lossless = gone(9_800 * MS);
    lossless.lossless = true;
    rejected(&lossless, lost, "client 9001");
    lossless.terms[1].forced = true;
    accepted(&lossless);
}

#[test]
fn what_was_emptied_copies_before_it_serves() {
    let won = |verdict: &Verdict| matches!(verdict, Verdict::EmptiedWon { .. });
    let emptied = |name: &str, at: Micros| forged(|it| it.emptied.push((name.to_owned(), at)));
    // `b` served after `a` had gone, or `a` while `b` came back; or it took no term any more.
    accepted(&emptied("a", 9_950 * MS));
    accepted(&emptied("b", 9_990 * MS));
    accepted(&emptied("b", 25 * S));
    // Nobody served between.
    let mut nobody = emptied("b", 10_001 * MS);
    rejected(&nobody, won, "b, emptied at 10.001000, took term 2");
    nobody.terms[1].forced = true;
    accepted(&nobody);
    let mut unserved = emptied("a", 9_950 * MS);
    unserved.terms[1].served = None;
    let told = told(&unserved);
    assert!(told.iter().any(|it| it.contains("a, emptied at 9.950000, took term 3")), "{told:?}");
}

#[test]
fn no_more_is_gone_than_was_said() {
    let misstated = |verdict: &Verdict| matches!(verdict, Verdict::LossMisstated { .. });
    let gone = |count: u64, loss: Loss| {
        forged(|it| {
            it.terms[1].loss = loss;
            for serial in 0..count {
                it.kept.remove(&("client".to_owned(), 90 + serial));
            }
        })
    };
    accepted(&gone(3, Loss::Transactions(3)));
    rejected(&gone(4, Loss::Transactions(3)), misstated, "term 2 says Transactions(3), and 4");
    accepted(&gone(3, Loss::Bytes(60)));
    rejected(&gone(3, Loss::Bytes(59)), misstated, "Bytes(59)");
    accepted(&gone(5, Loss::Unknown));
    let planned = |verdict: &Verdict| matches!(verdict, Verdict::PlannedMoveLost { .. });
    rejected(&forged(|it| it.terms[2].loss = Loss::Unknown), planned, "term 3 was planned");
}

#[test]
fn an_output_that_nobody_looked_at_proves_nothing() {
    let never = |verdict: &Verdict| matches!(verdict, Verdict::NeverLookedAt(_));
    rejected(&forged(|it| it.outputs.push("dns of 2".into())), never, "dns of 2 was never");
}

#[test]
fn two_in_one_answer_are_seen() {
    let two = |verdict: &Verdict| matches!(verdict, Verdict::TwoNamed(_));
    rejected(&forged(|it| it.sightings[0].said.push("b".into())), two, "a and b at");
}

#[test]
fn one_that_does_not_serve_is_named_no_longer_than_the_bound() {
    let wrong = |verdict: &Verdict| matches!(verdict, Verdict::NotServing { .. });
    // `a` ended at 9.95 s, `b` served from 10.4 s on: after 1 s and 0.5 s, the earlier counts.
    accepted(&forged(|it| it.sightings[0].last = 10_900 * MS));
    rejected(&forged(|it| it.sightings[0].last = 10_901 * MS), wrong, "dns of 1 named a");
    let unreplaced = |last: Micros| {
        forged(|it| {
            it.terms[1].served = Some(15 * S);
            it.writes.retain(|write| !(10 * S..15 * S).contains(&write.acked));
            it.sightings[2].asked = 15 * S;
            it.sightings[2].answered = 15 * S;
            it.sightings[0].last = last;
            it.bounds.standstill = 6 * S;
        })
    };
    accepted(&unreplaced(10_950 * MS));
    rejected(&unreplaced(10_951 * MS), wrong, "dns of 1 named a");
    // Before it served.
    let early = |answered: Micros| {
        forged(|it| {
            it.sightings[2].asked = 10 * S;
            it.sightings[2].answered = answered;
        })
    };
    accepted(&early(10_350 * MS));
    rejected(&early(10_349 * MS), wrong, "b had not served");
    rejected(&forged(|it| it.sightings[0].said = vec!["c".into()]), wrong, "c had not served");
    // A file may lag behind.
    let file = |last: Micros| {
        forged(|it| {
            it.outputs = vec!["hosts file".into()];
            it.sightings[0].output = "hosts file".into();
            it.sightings[0].last = last;
        })
    };
    accepted(&file(12_900 * MS));
    rejected(&file(12_901 * MS), wrong, "hosts file named a");
    // It served before and after, and not in between.
    let through = forged(|it| it.sightings[0].last = 25 * S);
    rejected(&through, wrong, "may have been named until");
}

#[test]
fn no_output_goes_back_to_an_earlier_term() {
    let back = |verdict: &Verdict| matches!(verdict, Verdict::WentBack { .. });
    let with = |last: u64| {
        forged(|it| {
            it.sightings[2].term = Some(2);
            it.sightings[3].term = Some(last);
        })
    };
    accepted(&with(3));
    rejected(&with(1), back, "went back from term 2 to Some(1)");
    // Another output may be behind.
    let mut other = with(1);
    other.sightings[3].output = "dns of 2".into();
    accepted(&other);
}

#[test]
fn standing_still_in_silence_is_seen() {
    let silent = |verdict: &Verdict| matches!(verdict, Verdict::SilentStandstill { .. });
    // Nobody writes from 12 s to 17 s and more.
    let still = |until: Micros| {
        forged(|it| it.writes.retain(|write| !(12_001 * MS..until).contains(&write.acked)))
    };
    accepted(&still(17 * S));
    let long = still(18 * S);
    rejected(&long, silent, "from 12.000000 to 18.000000");
    let refused = |from: Micros, until: Micros| {
        let mut history = long.clone();
        history.refusals.push(Refusal { from, until, words: "no copy fits".into() });
        history
    };
    accepted(&refused(16 * S, 18 * S));
    accepted(&refused(11 * S, 12 * S));
    rejected(&refused(17_001 * MS, 18 * S), silent, "nothing was said");
    rejected(&refused(10 * S, 11_999 * MS), silent, "nothing was said");
    let mut moved = long.clone();
    moved.terms[2].began = 16 * S;
    moved.sightings[2].last = 17 * S;
    accepted(&moved);
}

#[test]
fn a_hook_that_is_started_again_is_seen() {
    let twice = |verdict: &Verdict| matches!(verdict, Verdict::HookTwice(_));
    let again = |start: HookStart| forged(|it| it.hooks.push(start));
    accepted(&again(hook(3, "after-failover", "h2")));
    accepted(&again(hook(2, "before-failover", "h2")));
    rejected(&again(hook(2, "after-failover", "h1")), twice, "of term 2 was started again, on h1");
}

#[test]
fn a_record_that_grows_without_a_bound_is_seen() {
    let many = |verdict: &Verdict| matches!(verdict, Verdict::TooManyHistories { .. });
    accepted(&forged(|it| it.histories = 16));
    let unread = |verdict: &Verdict| matches!(verdict, Verdict::NothingRecorded(_));
    rejected(&forged(|it| it.histories = 0), unread, "no record of a history of a master");
    rejected(&forged(|it| it.histories = 17), many, "knows 17 histories, 16 at most");
}

#[test]
fn coming_to_rest_late_or_never_is_seen() {
    let late = |verdict: &Verdict| matches!(verdict, Verdict::NotConverged { .. });
    let rest = |steady| {
        let missing = "r2 does not follow".to_owned();
        forged(|it| it.rest = Some(Rest { healed: 12 * S, steady, missing }))
    };
    accepted(&rest(Some(22 * S)));
    rejected(&rest(Some(22 * S + 1)), late, "r2 does not follow");
    rejected(&rest(None), late, "took None");
}

/// 200 ms of it, seen by two, and some of it before and after what is judged.
#[test]
fn time_for_which_nobody_could_work_counts_for_nobody() {
    let starved = |from: Micros, history: &mut History| {
        history.starved = vec![
            (from, from + 150 * MS),
            (from + 100 * MS, from + 200 * MS),
            (-S, 0),
            (29 * S, 30 * S),
        ];
    };
    let late = |verdict: &Verdict| matches!(verdict, Verdict::NotConverged { .. });
    let rest = |at: Micros, steady: Micros| {
        forged(|it| {
            starved(at, it);
            it.rest = Some(Rest { healed: 12 * S, steady: Some(steady), missing: "r2".into() });
        })
    };
    accepted(&rest(20 * S, 22_200 * MS));
    rejected(&rest(20 * S, 22_200 * MS + 1), late, "r2");
    // Before the faults were over.
    rejected(&rest(11_800 * MS, 22_001 * MS), late, "r2");
    let silent = |verdict: &Verdict| matches!(verdict, Verdict::SilentStandstill { .. });
    let still = |at: Micros, until: Micros| {
        forged(|it| {
            starved(at, it);
            it.writes.retain(|write| !(12_001 * MS..until).contains(&write.acked));
        })
    };
    accepted(&still(14 * S, 17_200 * MS));
    rejected(&still(14 * S, 17_300 * MS), silent, "from 12.0");
    rejected(&still(17_200 * MS, 17_300 * MS), silent, "from 12.0");
    let wrong = |verdict: &Verdict| matches!(verdict, Verdict::NotServing { .. });
    let named = |at: Micros, last: Micros| {
        forged(|it| {
            starved(at, it);
            it.sightings[0].last = last;
        })
    };
    // `b` served from 10.4 s on, and 0.5 s are allowed.
    accepted(&named(10_500 * MS, 11_100 * MS));
    rejected(&named(10_500 * MS, 11_101 * MS), wrong, "dns of 1 named a");
    rejected(&named(10_950 * MS, 10_960 * MS), wrong, "dns of 1 named a");
}

#[test]
fn terms_that_make_no_sense_are_seen() {
    let wrong = |verdict: &Verdict| matches!(verdict, Verdict::TermsContradict { .. });
    rejected(&forged(|it| it.terms[2].term = 4), wrong, "the one before it is not in the history");
    let again = forged(|it| {
        let mut again = it.terms[2].clone();
        again.holder = "c".into();
        it.terms.push(again);
    });
    assert!(judge(&again).verdicts.iter().any(wrong), "{:#?}", told(&again));
    let early = forged(|it| it.terms[1].served = Some(10_199 * MS));
    assert!(judge(&early).verdicts.iter().any(wrong), "{:#?}", told(&early));
}

#[test]
fn a_move_after_what_is_harmless_is_needless() {
    let needless = |verdict: &Verdict| matches!(verdict, Verdict::NeedlessMove { .. });
    let harmless = forged(|history| history.faults[0].harmless = true);
    rejected(&harmless, needless, "term 2 began");
    accepted(&forged(|history| {
        history.faults[0].harmless = true;
        let what = "b is killed".to_owned();
        history.faults.push(Fault { at: 9_960 * MS, what, harmless: false });
    }));
    accepted(&forged(|history| {
        history.faults[0].harmless = true;
        history.faults[0].at = 10 * S + MS;
    }));
}

#[test]
fn an_agent_that_is_cut_off_goes_by_its_last_answer_for_a_lease() {
    let old = |verdict: &Verdict| matches!(verdict, Verdict::NotServing { .. });
    // Its host is not told that `b` serves since 10.4 s.
    let with = |outputs: &str, own: &str, at: i64| {
        forged(|history| {
            history.sightings[0].last = 10_930 * MS;
            history.sightings.remove(1);
            history.sightings[1].asked = 10_940 * MS;
            let cut = CutOff { outputs: outputs.into(), own: own.into(), at: at * MS };
            history.cut_off = vec![cut];
        })
    };
    accepted(&with("dns of 1", "c", 9_930));
    rejected(&with("dns of 1", "c", 9_929), old, "dns of 1 named a");
    // Too late to be the reason.
    rejected(&with("dns of 1", "c", 10_950), old, "dns of 1 named a");
    // Another agent's, and one that sees itself how the old master ends.
    rejected(&with("dns of 2", "c", 9_930), old, "dns of 1 named a");
    rejected(&with("dns of 1", "a", 9_930), old, "dns of 1 named a");
}

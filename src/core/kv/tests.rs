//! The machine against a naive model: a plain map, a plain log, and the rules as one would say
//! them. Then what the model does not know: bounds, leases, history.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Model {
    revision: u64,
    map: BTreeMap<String, (Vec<u8>, u64, u64, u64)>,
    log: Vec<(u64, String, Option<Vec<u8>>)>,
}

impl Model {
    fn apply(&mut self, txn: &Txn) -> TxnReply {
        let succeeded = txn.when.iter().all(|compare| match compare {
            Compare::Modified(key, wanted) => {
                self.map.get(&**key).map_or(*wanted == 0, |found| found.2 == *wanted)
            }
            Compare::Present(key) => self.map.contains_key(&**key),
            Compare::Value(key, value) => {
                self.map.get(&**key).is_some_and(|found| found.0 == value.to_vec())
            }
        });
        let next = self.revision + 1;
        let logged = self.log.len();
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        let results = ops.iter().map(|op| self.perform(op, next)).collect();
        if self.log.len() > logged {
            self.revision = next;
        }
        TxnReply { succeeded, revision: self.revision, results }
    }

    fn perform(&mut self, op: &Op, next: u64) -> OpResult {
        match op {
            Op::Put { key, value, .. } => {
                let (created, version) =
                    self.map.get(&**key).map_or((next, 1), |old| (old.1, old.3 + 1));
                self.map.insert(key.to_string(), (value.to_vec(), created, next, version));
                self.log.push((next, key.to_string(), Some(value.to_vec())));
                OpResult::Put
            }
            Op::Delete(key) => self.delete(next, |found| found == &**key),
            Op::DeletePrefix(prefix) => self.delete(next, |found| found.starts_with(&**prefix)),
            Op::Get(key) => self.read(|found| found == &**key),
            Op::GetPrefix(prefix) => self.read(|found| found.starts_with(&**prefix)),
        }
    }

    fn delete(&mut self, next: u64, hit: impl Fn(&str) -> bool) -> OpResult {
        let keys: Vec<_> = self.map.keys().filter(|key| hit(key)).cloned().collect();
        for key in &keys {
            self.map.remove(key);
            self.log.push((next, key.clone(), None));
        }
        OpResult::Deleted(keys.len() as u64)
    }

    fn read(&self, hit: impl Fn(&str) -> bool) -> OpResult {
        let hits = self.map.iter().filter(|(key, _)| hit(key));
        OpResult::Got(hits.map(|(key, found)| entry(key, found)).collect())
    }
}

fn entry(key: &str, found: &(Vec<u8>, u64, u64, u64)) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: found.0.clone().into(),
        created: found.1,
        modified: found.2,
        version: found.3,
        lease: 0,
    }
}

fn key() -> impl Strategy<Value = Key> {
    prop::sample::select(vec!["a", "a/", "a/b", "a/b/c", "a0", "b", "b/a", "ä", "a/\0"])
        .prop_map(Key::from)
}

fn value() -> impl Strategy<Value = Arc<[u8]>> {
    vec(0u8..3, 0..3).prop_map(Arc::from)
}

fn compare() -> impl Strategy<Value = Compare> {
    prop_oneof![
        (key(), 0u64..20).prop_map(|(key, revision)| Compare::Modified(key, revision)),
        key().prop_map(Compare::Present),
        (key(), value()).prop_map(|(key, value)| Compare::Value(key, value)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (key(), value()).prop_map(|(key, value)| Op::Put { key, value, lease: 0 }),
        2 => key().prop_map(Op::Delete),
        1 => key().prop_map(Op::DeletePrefix),
        1 => key().prop_map(Op::Get),
        1 => key().prop_map(Op::GetPrefix),
    ]
}

fn txn() -> impl Strategy<Value = Txn> {
    (vec(compare(), 0..2), vec(op(), 0..5), vec(op(), 0..3))
        .prop_map(|(when, then, otherwise)| Txn { when, then, otherwise })
}

/// Overlap, as one would say it: any two writes of which one covers the other's key.
fn writes_twice(ops: &[Op]) -> bool {
    let covers = |op: &Op, key: &str| match op {
        Op::Put { key: own, .. } | Op::Delete(own) => **own == *key,
        Op::DeletePrefix(own) => key.starts_with(&**own),
        Op::Get(_) | Op::GetPrefix(_) => false,
    };
    let written = |op: &Op| match op {
        Op::Put { key, .. } | Op::Delete(key) | Op::DeletePrefix(key) => Some(key.clone()),
        Op::Get(_) | Op::GetPrefix(_) => None,
    };
    ops.iter().enumerate().any(|(at, op)| {
        let others = ops.iter().enumerate().filter(|(other, _)| *other != at);
        others.filter_map(|(_, other)| written(other)).any(|key| covers(op, &key))
    })
}

fn fold(map: &mut BTreeMap<String, Vec<u8>>, change: &Change) {
    match &change.now {
        Some(now) => map.insert(change.key.to_string(), now.value.to_vec()),
        None => map.remove(&*change.key),
    };
}

proptest! {
    #[test]
    fn does_what_the_model_does(txns in vec(txn(), 1..40)) {
        let (mut kv, mut model) = (Kv::new(), Model::default());
        for txn in &txns {
            let before = kv.clone();
            let refused = writes_twice(&txn.then) || writes_twice(&txn.otherwise);
            match kv.apply(txn) {
                Ok(applied) => {
                    prop_assert!(!refused, "a double write passed");
                    prop_assert_eq!(&applied.reply, &model.apply(txn));
                    prop_assert_eq!(applied.reply.revision != before.revision(),
                        !applied.changes.is_empty());
                }
                Err(error) => {
                    prop_assert!(refused, "refused without reason: {}", error);
                    prop_assert!(kv.entries().eq(before.entries()));
                }
            }
        }
        let entries: Vec<_> = kv.entries().map(|e| (**e).clone()).collect();
        let expected: Vec<_> = model.map.iter().map(|(key, found)| entry(key, found)).collect();
        prop_assert_eq!(entries, expected);
        prop_assert_eq!(kv.bytes, Kv::restore(0, kv.entries().cloned()).bytes);
    }

    #[test]
    fn history_leads_from_any_revision_to_the_last(txns in vec(txn(), 1..40)) {
        let mut kv = Kv::new();
        let mut pictures = vec![BTreeMap::new()];
        for txn in &txns {
            if kv.apply(txn).is_ok_and(|applied| !applied.changes.is_empty()) {
                let entries = kv.entries();
                pictures.push(entries.map(|e| (e.key.to_string(), e.value.to_vec())).collect());
            }
        }
        prop_assert_eq!(pictures.len() as u64, kv.revision() + 1);
        let last = pictures[pictures.len() - 1].clone();
        for (after, picture) in pictures.iter_mut().enumerate() {
            let changes = kv.changes_since(after as u64).expect("nothing was compacted");
            changes.iter().for_each(|change| fold(picture, change));
            prop_assert_eq!(&*picture, &last);
        }
    }

    #[test]
    fn restored_goes_on_alike(first in vec(txn(), 1..20), second in vec(txn(), 1..20)) {
        let mut kv = Kv::new();
        for txn in &first {
            // A refused txn is as good as none here.
            let _ = kv.apply(txn);
        }
        let mut restored = Kv::restore(kv.revision(), kv.entries().cloned());
        for txn in &second {
            prop_assert_eq!(kv.apply(txn), restored.apply(txn));
        }
    }
}

fn put(key: &str, value: &[u8], lease: LeaseId) -> Txn {
    let op = Op::Put { key: key.into(), value: value.into(), lease };
    Txn { then: vec![op], ..Txn::default() }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_lease_takes_its_keys_with_it() {
    let mut kv = Kv::new();
    kv.grant(7, seconds(10), Time::ZERO).expect("free");
    kv.grant(8, seconds(10), Time::ZERO + seconds(1)).expect("free");
    for (key, lease) in [("a", 7), ("b", 7), ("c", 8), ("d", 0), ("e", 7)] {
        kv.apply(&put(key, b"1", lease)).expect("good");
    }
    // Written again without it, a key is let go; under another lease it goes with that one.
    kv.apply(&put("b", b"2", 0)).expect("good");
    kv.apply(&put("e", b"2", 8)).expect("good");
    assert_eq!(kv.next_expiry(), Some(Time::ZERO + seconds(10)));
    assert_eq!(kv.expire(Time::ZERO + seconds(9)), []);
    let gone = kv.expire(Time::ZERO + seconds(10));
    assert_eq!(gone, [Change { revision: 8, key: "a".into(), now: None }]);
    assert!(!kv.keep(7, Time::ZERO));
    assert!(kv.keep(8, Time::ZERO + seconds(10)));
    assert_eq!(kv.expire(Time::ZERO + seconds(19)), []);
    assert!(!kv.keep(8, Time::ZERO + seconds(20)), "its time is over, though it still stands");
    assert_eq!(kv.revoke(8).iter().map(|c| &*c.key).collect::<Vec<_>>(), ["c", "e"]);
    assert_eq!(kv.revoke(8), []);
    assert_eq!(kv.entries().map(|e| &*e.key).collect::<Vec<_>>(), ["b", "d"]);
    assert_eq!((kv.revision(), kv.next_expiry()), (9, None));
}

#[test]
fn restored_leases_find_their_keys() {
    let mut kv = Kv::new();
    kv.grant(7, seconds(5), Time::ZERO).expect("free");
    kv.apply(&put("a", b"1", 7)).expect("good");
    let mut restored = Kv::restore(kv.revision(), kv.entries().cloned());
    restored.grant(7, seconds(5), Time::ZERO + seconds(100)).expect("free");
    assert_eq!(restored.expire(Time::ZERO + seconds(105)).len(), 1);
    assert!(restored.is_empty());
}

#[test]
fn leases_have_bounds() {
    let mut kv = Kv::new();
    assert_eq!(kv.grant(0, seconds(5), Time::ZERO), Err(Refused::LeaseTaken(0)));
    for ttl in [Duration::from_millis(999), TTL_MAX + seconds(1)] {
        assert_eq!(kv.grant(1, ttl, Time::ZERO), Err(Refused::TtlOutOfBounds { ttl }));
    }
    kv.grant(1, seconds(5), Time::ZERO).expect("free");
    assert_eq!(kv.grant(1, seconds(5), Time::ZERO), Err(Refused::LeaseTaken(1)));
    assert_eq!(kv.apply(&put("a", b"", 2)), Err(Refused::LeaseUnknown(2)));
    for id in 2..=LEASES_MAX as u64 {
        kv.grant(id, seconds(5), Time::ZERO).expect("free");
    }
    assert_eq!(kv.grant(u64::MAX, seconds(5), Time::ZERO), Err(Refused::LeasesFull));
}

#[test]
fn txns_have_bounds() {
    let mut kv = Kv::new();
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    assert_eq!(kv.apply(&put("", b"", 0)), Err(Refused::KeyEmpty));
    assert!(matches!(kv.apply(&put(&long, b"", 0)), Err(Refused::KeyTooLong { .. })));
    kv.apply(&put(&long[1..], b"", 0)).expect("just short enough");
    let large = vec![b'x'; VALUE_BYTES_MAX + 1];
    assert!(matches!(kv.apply(&put("a", &large, 0)), Err(Refused::ValueTooLong { .. })));
    kv.apply(&put("a", &large[1..], 0)).expect("just small enough");
    let op = |at: usize| Op::Put { key: at.to_string().into(), value: [0; 12].into(), lease: 0 };
    let many = Txn { otherwise: (0..=LIST_MAX).map(op).collect(), ..Txn::default() };
    assert_eq!(kv.apply(&many), Err(Refused::ListTooLong { count: LIST_MAX + 1 }));
    let op = |at: usize| Op::Put { key: at.to_string().into(), value: large[1..].into(), lease: 0 };
    let wide = Txn { then: (0..3).map(op).collect(), ..Txn::default() };
    assert!(matches!(kv.apply(&wide), Err(Refused::TxnTooLarge { .. })));
    let everything = Txn { then: vec![Op::DeletePrefix("".into())], ..Txn::default() };
    assert_eq!(kv.apply(&everything), Err(Refused::KeyEmpty));
    assert_eq!((kv.revision(), kv.len()), (2, 2));
}

#[test]
fn a_full_store_still_deletes_and_shrinks() {
    let mut kv = Kv::new();
    let large: Arc<[u8]> = vec![b'x'; VALUE_BYTES_MAX].into();
    let fill = |kv: &mut Kv, at: usize| {
        let op = Op::Put { key: at.to_string().into(), value: large.clone(), lease: 0 };
        kv.apply(&Txn { then: vec![op], ..Txn::default() })
    };
    let mut count = 0;
    let refused = loop {
        match fill(&mut kv, count) {
            Ok(_) => count += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Refused::StoreFull { .. }), "{refused}");
    fill(&mut kv, 0).expect("the same size again");
    kv.apply(&put("1", b"small", 0)).expect("smaller than before");
    fill(&mut kv, count).expect("there is room again");
}

#[test]
fn history_is_bounded_and_ends_at_whole_revisions() {
    let mut kv = Kv::new();
    let two = |at: usize| {
        let op = |name: &str| Op::Put {
            key: format!("{name}{}", at % 50).into(),
            value: [0; 8].into(),
            lease: 0,
        };
        Txn { then: vec![op("a"), op("b")], ..Txn::default() }
    };
    for at in 0..bounds::HISTORY_MAX {
        kv.apply(&two(at)).expect("good");
    }
    let compacted = kv.changes_since(3).expect_err("too old");
    let kept = kv.changes_since(compacted.known).expect("the oldest known");
    assert_eq!(kept[0].revision, compacted.known + 1);
    assert_eq!(kept[1].revision, compacted.known + 1);
    assert_eq!(kept.len(), bounds::HISTORY_MAX);
    let large: Arc<[u8]> = vec![b'x'; VALUE_BYTES_MAX].into();
    for _ in 0..100 {
        kv.apply(&put("large", &large, 0)).expect("good");
    }
    assert!(kv.history_bytes <= bounds::HISTORY_BYTES_MAX);
    kv.compact(kv.revision());
    assert_eq!((kv.history.len(), kv.history_bytes), (0, 0));
    assert_eq!(kv.changes_since(kv.revision()), Ok(Vec::new()));
    assert!(kv.changes_since(kv.revision() - 1).is_err());
}

#[test]
fn reads_in_a_txn_see_its_writes() {
    let mut kv = Kv::new();
    let all = Op::GetPrefix("a".into());
    let one = Op::Put { key: "a1".into(), value: [1].into(), lease: 0 };
    let then = vec![all.clone(), one, all.clone(), Op::Delete("a2".into()), all];
    let applied = kv.apply(&Txn { then, ..Txn::default() }).expect("good");
    let seen: Vec<_> = applied
        .reply
        .results
        .iter()
        .filter_map(|result| match result {
            OpResult::Got(found) => Some(found.iter().map(|e| e.modified).collect::<Vec<_>>()),
            OpResult::Put | OpResult::Deleted(_) => None,
        })
        .collect();
    assert_eq!(seen, [vec![], vec![1], vec![1]]);
    assert_eq!(applied.reply.results[3], OpResult::Deleted(0));
}

//! The contract that every engine keeps, as one suite that runs on any of them.
//!
//! It assumes nothing of what the store holds already: each story works under a prefix of its
//! own, and revisions start anywhere. A broken promise panics and names itself. Nothing here
//! looks into an engine.

use std::sync::Arc;
use std::time::Duration;

use sengu_core::kv::{
    Compare, KEY_BYTES_MAX, Key, KeyValue, LIST_MAX, LeaseId, Op, OpResult, Revision,
    TXN_BYTES_MAX, Txn, TxnReply, VALUE_BYTES_MAX,
};

use super::{Batch, Store, StoreError, Watch};

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Writers that race.
const RACERS: usize = 16;

/// One story's part of the store.
struct Part<'a> {
    store: &'a dyn Store,
    prefix: String,
}

/// Runs every story, each on a store from `open` (which may be the same one each time).
///
/// # Panics
/// At the first promise that is not kept.
pub async fn run(open: impl Fn() -> Arc<dyn Store>) {
    writes_and_reads(&Part::new(&*open())).await;
    conditions(&Part::new(&*open())).await;
    revisions(&Part::new(&*open())).await;
    refuses_what_is_out_of_bounds(&Part::new(&*open())).await;
    watches_without_gap(&Part::new(&*open())).await;
    watches_from_an_old_revision(&Part::new(&*open())).await;
    one_of_many_wins(&open()).await;
    counts_every_increment(&open()).await;
    lease_ends_its_keys(&Part::new(&*open())).await;
    lease_is_kept(&Part::new(&*open())).await;
}

/// `forget` makes the store forget its first changes; a watch from before is then refused.
///
/// # Panics
/// If it is not.
pub async fn forgets_old_changes(store: &dyn Store, forget: impl Future<Output = ()>) {
    let part = Part::new(store);
    let first = part.put("a", "1").await.revision;
    forget.await;
    let refused = store.watch(first - 1).await.expect_err("changes that are forgotten");
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    let (now, _) = store.load().await.expect("a store that forgets still loads");
    let mut watch = store.watch(now).await.expect("a watch from now");
    part.put("a", "2").await;
    assert_eq!(part.next(&mut watch).await.changes.len(), 1);
}

/// More changes than the engines of this crate keep, for [`forgets_old_changes`].
///
/// # Panics
/// If a write fails.
pub async fn overrun(store: &dyn Store) {
    let part = Part::new(store);
    for _ in 0..80 {
        let ops = (0..LIST_MAX).map(|at| part.op(&at.to_string(), "x", 0)).collect();
        part.must(Txn { then: ops, ..Txn::default() }).await;
    }
}

impl<'a> Part<'a> {
    fn new(store: &'a dyn Store) -> Self {
        let random = getrandom::u64().expect("the system has random numbers");
        Self { store, prefix: format!("suite/{random:016x}/") }
    }

    fn key(&self, name: &str) -> Key {
        format!("{}{name}", self.prefix).into()
    }

    fn op(&self, name: &str, value: &str, lease: LeaseId) -> Op {
        Op::Put { key: self.key(name), value: value.as_bytes().into(), lease }
    }

    async fn must(&self, txn: Txn) -> TxnReply {
        self.store.txn(txn).await.expect("a good txn is done")
    }

    async fn put(&self, name: &str, value: &str) -> TxnReply {
        self.must(Txn { then: vec![self.op(name, value, 0)], ..Txn::default() }).await
    }

    async fn delete(&self, name: &str) -> TxnReply {
        self.must(Txn { then: vec![Op::Delete(self.key(name))], ..Txn::default() }).await
    }

    async fn all(&self) -> Vec<KeyValue> {
        let (_, entries) = self.store.load().await.expect("a store that loads");
        let own = entries.iter().filter(|entry| entry.key.starts_with(&self.prefix));
        own.map(|entry| (**entry).clone()).collect()
    }

    async fn names(&self) -> Vec<String> {
        self.all().await.iter().map(|entry| entry.key[self.prefix.len()..].to_owned()).collect()
    }

    /// The next batch that touches this part, and only what does.
    async fn next(&self, watch: &mut Watch) -> Batch {
        loop {
            let batch = tokio::time::timeout(PATIENCE, watch.recv()).await;
            let mut batch = batch.expect("a change within reason").expect("a watch that stands");
            batch.changes.retain(|change| change.key.starts_with(&self.prefix));
            if !batch.changes.is_empty() {
                return batch;
            }
        }
    }
}

async fn writes_and_reads(part: &Part<'_>) {
    let (a, b) = (part.key("a"), part.key("b"));
    let then = vec![
        Op::Get(a.clone()),
        part.op("a", "1", 0),
        part.op("ab", "2", 0),
        part.op("b", "3", 0),
        Op::GetPrefix(a.clone()),
        Op::Get(a.clone()),
    ];
    let reply = part.must(Txn { then, ..Txn::default() }).await;
    assert!(reply.succeeded, "no condition, so all of them hold");
    assert_eq!(reply.results.len(), 6);
    assert_eq!(reply.results[0], OpResult::Got(Vec::new()));
    assert_eq!(reply.results[1], OpResult::Put);
    let OpResult::Got(found) = &reply.results[4] else { panic!("a read is answered as a read") };
    let read: Vec<_> = found.iter().map(|e| (&*e.key, &*e.value)).collect();
    assert_eq!(
        read,
        [(&*a, &b"1"[..]), (&*part.key("ab"), &b"2"[..])],
        "in order, own writes seen"
    );
    assert_eq!(found[0].modified, reply.revision);
    assert_eq!(reply.results[5], OpResult::Got(vec![found[0].clone()]));
    assert_eq!(part.names().await, ["a", "ab", "b"], "loaded by key");
    let then = vec![Op::DeletePrefix(a), Op::Delete(part.key("c")), Op::Get(b)];
    let reply = part.must(Txn { then, ..Txn::default() }).await;
    assert_eq!(reply.results[..2], [OpResult::Deleted(2), OpResult::Deleted(0)]);
    assert_eq!(part.names().await, ["b"]);
}

async fn conditions(part: &Part<'_>) {
    let a = part.key("a");
    let written = part.put("a", "1").await.revision;
    let holds = [
        Compare::Modified(a.clone(), written),
        Compare::Modified(part.key("b"), 0),
        Compare::Present(a.clone()),
        Compare::Value(a.clone(), b"1"[..].into()),
    ];
    let fails = [
        Compare::Modified(a.clone(), written + 1),
        Compare::Modified(a.clone(), 0),
        Compare::Present(part.key("b")),
        Compare::Value(a.clone(), b"2"[..].into()),
        Compare::Value(part.key("b"), b""[..].into()),
    ];
    let ask = |when: Vec<Compare>| Txn { when, then: vec![], otherwise: vec![Op::Get(a.clone())] };
    for compare in &holds {
        let reply = part.must(ask(vec![compare.clone()])).await;
        assert!(reply.succeeded && reply.results.is_empty(), "{compare:?} must hold");
    }
    assert!(part.must(ask(holds.to_vec())).await.succeeded);
    for compare in &fails {
        let reply = part.must(ask(vec![holds[0].clone(), compare.clone()])).await;
        assert!(!reply.succeeded, "{compare:?} must not hold");
        assert_eq!(reply.results.len(), 1, "the other list is done");
    }
}

async fn revisions(part: &Part<'_>) {
    let first = part.put("a", "1").await.revision;
    let same = part.put("a", "1").await.revision;
    assert!(same > first, "a put changes something, even if the value is the same");
    let twice = Txn { then: vec![part.op("b", "1", 0), part.op("c", "1", 0)], ..Txn::default() };
    let both = part.must(twice).await.revision;
    let all = part.all().await;
    let a = &all[0];
    assert_eq!((a.created, a.modified, a.version, a.lease), (first, same, 2, 0));
    assert_eq!((all[1].modified, all[2].modified), (both, both), "one txn, one revision");
    part.delete("a").await;
    let again = part.put("a", "1").await.revision;
    let a = &part.all().await[0];
    assert_eq!((a.created, a.modified, a.version), (again, again, 1), "a new life");
    assert!(part.delete("none").await.revision >= again);
}

async fn refuses_what_is_out_of_bounds(part: &Part<'_>) {
    let put = |key: Key, bytes: usize| Op::Put { key, value: vec![b'x'; bytes].into(), lease: 0 };
    let a = part.key("a");
    let long = part.key(&"k".repeat(KEY_BYTES_MAX));
    let many = (0..=LIST_MAX).map(|at| part.op(&at.to_string(), "", 0)).collect();
    let wide = TXN_BYTES_MAX / VALUE_BYTES_MAX + 1;
    let wide = (0..wide).map(|at| put(part.key(&at.to_string()), VALUE_BYTES_MAX)).collect();
    let unknown_lease = 1 << 62;
    let lists = [
        vec![put("".into(), 1)],
        vec![put(long, 1)],
        vec![put(a.clone(), VALUE_BYTES_MAX + 1)],
        vec![put(a.clone(), 1), put(a.clone(), 2)],
        vec![put(a.clone(), 1), Op::Delete(a.clone())],
        vec![Op::DeletePrefix(part.prefix.as_str().into()), put(a.clone(), 1)],
        vec![part.op("a", "", unknown_lease)],
        many,
        wide,
    ];
    for then in lists {
        let shown = format!("{:.200}", format!("{then:?}"));
        let refused = part.store.txn(Txn { then, ..Txn::default() }).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{shown}: {refused:?}");
    }
    assert_eq!(part.names().await, [""; 0], "what is refused has changed nothing");
    let then = vec![put(a.clone(), VALUE_BYTES_MAX), Op::GetPrefix(a)];
    let reply = part.must(Txn { then, ..Txn::default() }).await;
    let OpResult::Got(found) = &reply.results[1] else { panic!("a read is answered as a read") };
    assert_eq!(found[0].value.len(), VALUE_BYTES_MAX);
    let refused = part.store.grant(Duration::from_secs(3600 * 24 * 365)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
}

async fn watches_without_gap(part: &Part<'_>) {
    let (before, _) = part.store.load().await.expect("a store that loads");
    let mut watch = part.store.watch(before).await.expect("a watch from now");
    let mut expected = Vec::new();
    for round in 0..20 {
        let then = vec![part.op("a", &round.to_string(), 0), part.op("b", "1", 0)];
        let put = part.must(Txn { then, ..Txn::default() }).await.revision;
        let gone = part.delete("b").await.revision;
        expected.push((put, vec![(part.key("a"), true), (part.key("b"), true)]));
        expected.push((gone, vec![(part.key("b"), false)]));
    }
    for (revision, changes) in expected {
        let batch = part.next(&mut watch).await;
        assert_eq!(batch.revision, revision, "in order, none left out");
        assert!(batch.changes.iter().all(|change| change.revision == revision));
        let seen: Vec<_> = batch.changes.iter().map(|c| (c.key.clone(), c.now.is_some())).collect();
        assert_eq!(seen, changes, "a revision comes whole");
    }
}

async fn watches_from_an_old_revision(part: &Part<'_>) {
    let first = part.put("a", "1").await.revision;
    part.put("a", "2").await;
    part.delete("a").await;
    let mut watch = part.store.watch(first).await.expect("a watch from the past");
    part.put("a", "3").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let batch = part.next(&mut watch).await;
        seen.extend(batch.changes.into_iter().map(|c| c.now.map(|now| now.value.to_vec())));
    }
    assert_eq!(seen, [Some(b"2".to_vec()), None, Some(b"3".to_vec())]);
}

async fn one_of_many_wins(store: &Arc<dyn Store>) {
    let part = Part::new(&**store);
    for _ in 0..10 {
        let before = part.put("a", "free").await.revision;
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let txn = Txn {
                    when: vec![Compare::Modified(part.key("a"), before)],
                    then: vec![part.op("a", &racer.to_string(), 0)],
                    otherwise: vec![Op::Get(part.key("a"))],
                };
                let store = store.clone();
                tokio::spawn(async move { store.txn(txn).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (racer, running) in racers.into_iter().enumerate() {
            let reply = running.await.expect("no panic").expect("a good txn is done");
            if reply.succeeded {
                winners.push(racer.to_string().into_bytes());
            }
        }
        assert_eq!(winners, [part.all().await[0].value.to_vec()], "exactly one, and it stands");
    }
}

async fn counts_every_increment(store: &Arc<dyn Store>) {
    let part = Part::new(&**store);
    part.put("count", "0").await;
    let key = part.key("count");
    let racers: Vec<_> = (0..RACERS)
        .map(|_| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { increment(&*store, &key).await })
        })
        .collect();
    let mut revisions = Vec::new();
    for racer in racers {
        revisions.push(racer.await.expect("no panic"));
    }
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), RACERS, "each write has a revision of its own");
    assert_eq!(part.all().await[0].value[..], *RACERS.to_string().as_bytes());
}

/// Reads and writes by comparison until it wins; each loss is another's win, so it ends.
async fn increment(store: &dyn Store, key: &Key) -> Revision {
    loop {
        let read = Txn { then: vec![Op::Get(key.clone())], ..Txn::default() };
        let reply = store.txn(read).await.expect("a read is done");
        let [OpResult::Got(found)] = &reply.results[..] else {
            panic!("a read is answered as a read")
        };
        let text = std::str::from_utf8(&found[0].value).expect("a number");
        let next = text.parse::<u64>().expect("a number") + 1;
        let value = next.to_string().into_bytes().into();
        let write = Txn {
            when: vec![Compare::Modified(key.clone(), found[0].modified)],
            then: vec![Op::Put { key: key.clone(), value, lease: 0 }],
            otherwise: Vec::new(),
        };
        let reply = store.txn(write).await.expect("a good txn is done");
        if reply.succeeded {
            return reply.revision;
        }
    }
}

async fn lease_ends_its_keys(part: &Part<'_>) {
    let wish = Duration::from_secs(1);
    let (short, granted) = part.store.grant(wish).await.expect("a lease");
    assert!(granted >= wish, "never shorter than asked");
    let (revoked, _) = part.store.grant(Duration::from_secs(600)).await.expect("a lease");
    assert_ne!(short, revoked);
    let then = vec![
        part.op("a", "1", short),
        part.op("b", "1", short),
        part.op("c", "1", revoked),
        part.op("d", "1", short),
    ];
    let put = part.must(Txn { then, ..Txn::default() }).await.revision;
    // Written again without it, a key is let go.
    let freed = part.put("d", "2").await.revision;
    assert_eq!(part.all().await[0].lease, short);
    let mut watch = part.store.watch(freed).await.expect("a watch");
    part.store.revoke(revoked).await.expect("a lease that stands is revoked");
    let batch = part.next(&mut watch).await;
    assert_eq!((&batch.changes[0].key, &batch.changes[0].now), (&part.key("c"), &None));
    let batch = part.next(&mut watch).await;
    let gone: Vec<_> = batch.changes.iter().map(|change| change.key.clone()).collect();
    assert_eq!(gone, [part.key("a"), part.key("b")], "together, at one revision");
    assert!(batch.revision > put && batch.changes.iter().all(|change| change.now.is_none()));
    assert_eq!(part.names().await, ["d"]);
    for lease in [short, revoked] {
        assert_eq!(part.store.keep(lease).await, Ok(false), "a lease that ended stays ended");
    }
    let late = Txn { then: vec![part.op("e", "1", short)], ..Txn::default() };
    assert!(matches!(part.store.txn(late).await, Err(StoreError::Refused(_))));
}

async fn lease_is_kept(part: &Part<'_>) {
    let (lease, granted) = part.store.grant(Duration::from_secs(1)).await.expect("a lease");
    let put = Txn { then: vec![part.op("a", "1", lease)], ..Txn::default() };
    let put = part.must(put).await.revision;
    for _ in 0..6 {
        tokio::time::sleep(granted / 3).await;
        assert_eq!(part.store.keep(lease).await, Ok(true), "kept in time");
    }
    assert_eq!(part.names().await, ["a"], "twice its time has passed");
    let mut watch = part.store.watch(put).await.expect("a watch");
    let batch = part.next(&mut watch).await;
    assert_eq!(batch.changes[0].now, None, "once it is kept no more, it ends");
}

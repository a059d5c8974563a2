//! Members that die, stop, come back empty-handed: what is answered is true, and what is not
//! known is said to be unknown.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sengu_core::kv::{Compare, Op, OpResult, Txn};

use super::bench::{Cluster, Release};
use super::compact;
use crate::config::EtcdConfig;
use crate::store::etcd::EtcdStore;
use crate::store::{Store, StoreError};

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.into(), value: value.as_bytes().into(), lease: 0 }
}

/// Adds one to a counter, by comparison; `None` if nobody knows.
async fn increment(store: &EtcdStore) -> Option<bool> {
    let read = Txn { then: vec![Op::Get("count".into())], ..Txn::default() };
    let reply = store.txn(read).await.ok()?;
    let OpResult::Got(found) = &reply.results[0] else { panic!("a read is answered as a read") };
    let text = std::str::from_utf8(&found[0].value).expect("a number");
    let next = (text.parse::<u64>().expect("a number") + 1).to_string();
    let write = Txn {
        when: vec![Compare::Modified("count".into(), found[0].modified)],
        then: vec![put("count", &next)],
        otherwise: vec![Op::Get("count".into())],
    };
    match store.txn(write).await {
        Ok(reply) => Some(reply.succeeded),
        Err(StoreError::Unknown(_)) => None,
        Err(error) => panic!("neither done nor unknown: {error}"),
    }
}

async fn counted(store: &EtcdStore) -> u64 {
    let (_, entries) = store.load().await.expect("it loads");
    let entry = entries.iter().find(|entry| &*entry.key == "count").expect("it is there");
    std::str::from_utf8(&entry.value).expect("a number").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_true_while_members_die_and_stop() {
    let mut cluster = Cluster::start(Release::New, 3).await;
    let store = Arc::new(cluster.store());
    store.txn(Txn { then: vec![put("count", "0")], ..Txn::default() }).await.expect("written");
    let (before, _) = store.load().await.expect("it loads");
    let mut watch = store.watch(before).await.expect("a watch");
    let (over, ended) = tokio::sync::watch::channel(false);
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let (mut done, mut unknown) = (0, 0);
            while !*ended.borrow() {
                match increment(&store).await {
                    Some(true) => done += 1,
                    // Nobody else writes: only what was unknown before can have come between.
                    Some(false) => assert!(unknown > 0, "a comparison failed that must hold"),
                    None => unknown += 1,
                }
            }
            (done, unknown)
        }
    });
    for at in 0..3 {
        cluster.kill(at);
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.restart(at);
        cluster.until_answers(&*store).await;
        cluster.stop(at, true);
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.stop(at, false);
        cluster.until_answers(&*store).await;
    }
    over.send(true).expect("the writer listens");
    let (done, unknown) = writer.await.expect("no panic");
    cluster.until_answers(&*store).await;
    let counted = counted(&store).await;
    assert!(done > 50, "it went on: {done}");
    assert!((done..=done + unknown).contains(&counted), "{counted}: {done} and {unknown} unknown");
    // The watch brought every value, each once and in order.
    let mut seen = Vec::new();
    while seen.last() != Some(&counted) {
        let batch = tokio::time::timeout(PATIENCE, watch.recv()).await.expect("in time");
        for change in batch.expect("the watch goes on").changes {
            let value = change.now.expect("never removed").value.to_vec();
            seen.push(String::from_utf8(value).expect("text").parse::<u64>().expect("a number"));
        }
    }
    assert_eq!(seen, (1..=counted).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_member_costs_nothing() {
    let mut cluster = Cluster::start(Release::New, 3).await;
    let store = cluster.store();
    store.txn(Txn { then: vec![put("count", "0")], ..Txn::default() }).await.expect("written");
    cluster.kill(2);
    cluster.until_answers(&store).await;
    for _ in 0..200 {
        assert_eq!(increment(&store).await, Some(true), "a dead member is not asked again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_member_holds_up_a_guarded_write_for_a_moment_only() {
    let cluster = Cluster::start(Release::New, 3).await;
    let store = cluster.store();
    store.txn(Txn { then: vec![put("count", "0")], ..Txn::default() }).await.expect("written");
    // The one that is asked first; unless it led, no election comes between.
    let current = store.shared.ring.current();
    assert_eq!(increment(&store).await, Some(true));
    cluster.stop(current, true);
    let began = Instant::now();
    assert_eq!(increment(&store).await, Some(true));
    let took = began.elapsed();
    cluster.stop(current, false);
    assert!(took < Duration::from_secs(4), "{took:?}: late, and an election at most");
    assert_eq!(counted(&store).await, 2, "done once");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_it_is_unavailable_and_nothing_else() {
    let mut cluster = Cluster::start(Release::New, 3).await;
    let store = cluster.store();
    let guarded = store.txn(Txn { then: vec![put("a", "0")], ..Txn::default() }).await;
    let revision = guarded.expect("written").revision;
    cluster.kill(0);
    cluster.kill(1);
    let began = Instant::now();
    let write = Txn {
        when: vec![Compare::Modified("a".into(), revision)],
        then: vec![put("a", "1")],
        otherwise: Vec::new(),
    };
    let outcomes = tokio::join!(
        store.txn(Txn::default()),
        store.txn(write),
        store.txn(Txn { then: vec![put("b", "1")], ..Txn::default() }),
    );
    for outcome in [outcomes.0, outcomes.1, outcomes.2] {
        assert!(matches!(outcome, Err(StoreError::Unknown(_))), "{outcome:?}");
    }
    let loaded = store.load().await;
    assert!(matches!(loaded, Err(StoreError::Unknown(_))), "{loaded:?}");
    assert!(began.elapsed() < Duration::from_secs(13), "bounded: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_listens_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let url = format!("http://{}", free.local_addr().expect("bound"));
    drop(free);
    let cluster = Cluster::launch(Release::New, 1, "http", |_| Vec::new());
    let config = EtcdConfig { endpoints: vec![url.clone()], ..cluster.config() };
    let store = EtcdStore::new(&config, super::LATE).expect("made");
    let error = store.load().await.expect_err("nobody is there");
    assert!(matches!(&error, StoreError::Unknown(why) if why.contains(&url)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_watch_is_helped_though_the_next_member_is_silent_too() {
    let cluster = Cluster::start(Release::New, 5).await;
    let store = cluster.store();
    store.shared.ring.good(0);
    let (now, _) = store.load().await.expect("it loads");
    store.shared.ring.good(0);
    let mut watch = store.watch(now).await.expect("a watch");
    let others = EtcdConfig { endpoints: cluster.urls[2..].to_vec(), ..cluster.config() };
    let others = EtcdStore::new(&others, super::LATE).expect("made");
    others.txn(Txn { then: vec![put("a", "0")], ..Txn::default() }).await.expect("written");
    let batch = tokio::time::timeout(PATIENCE, watch.recv()).await.expect("in time");
    assert_eq!(batch.expect("it stands").changes.len(), 1);
    for at in [0, 1] {
        cluster.stop(at, true);
    }
    cluster.until_answers(&others).await;
    let written = others.txn(Txn { then: vec![put("a", "1")], ..Txn::default() }).await;
    store.shared.ring.good(1);
    let answered = Instant::now();
    store.shared.answered(written.expect("written").revision);
    let batch = tokio::time::timeout(PATIENCE, watch.recv()).await.expect("in time");
    let took = answered.elapsed();
    for at in [0, 1] {
        cluster.stop(at, false);
    }
    assert_eq!(batch.expect("it stands").changes.len(), 1);
    assert!(took < Duration::from_millis(1500), "{took:?}: one was waited for after the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_past_is_compacted_while_it_is_cut_off_ends() {
    let mut cluster = Cluster::start(Release::New, 1).await;
    let store = cluster.store();
    let (now, _) = store.load().await.expect("it loads");
    let mut watch = store.watch(now).await.expect("a watch");
    store.txn(Txn { then: vec![put("a", "0")], ..Txn::default() }).await.expect("written");
    assert_eq!(watch.recv().await.expect("it stands").changes.len(), 1);
    // Its member goes; what is written before it can come back is forgotten at once.
    cluster.kill(0);
    cluster.restart(0);
    let other = cluster.store();
    cluster.until_answers(&other).await;
    for _ in 0..3 {
        other.txn(Txn { then: vec![put("a", "1")], ..Txn::default() }).await.expect("written");
        compact(&cluster, &other).await;
    }
    let mut values = BTreeSet::new();
    let ended = tokio::time::timeout(PATIENCE, async {
        while let Some(batch) = watch.recv().await {
            values.insert(batch.revision);
        }
    });
    // Either it had come back before, and misses nothing, or it ends.
    if ended.await.is_err() {
        assert_eq!(values.len(), 3, "a watch that goes on has left nothing out");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_found_in_the_history() {
    let cluster = Cluster::start(Release::New, 3).await;
    let store = cluster.store();
    let first = store.txn(Txn { then: vec![put("a", "0")], ..Txn::default() }).await;
    let revision = first.expect("written").revision;
    let txn = Txn {
        when: vec![Compare::Modified("a".into(), revision)],
        then: vec![Op::Delete("none".into()), put("a", "1"), Op::Get("a".into())],
        otherwise: Vec::new(),
    };
    let race = crate::store::etcd::write::trial(&store.shared, &txn).await.expect("told");
    assert!(race.succeeded);
    assert_eq!(race.results[..2], [OpResult::Deleted(0), OpResult::Put]);
    let OpResult::Got(found) = &race.results[2] else { panic!("a read is answered as a read") };
    assert_eq!((&*found[0].value, found[0].modified), (&b"1"[..], race.revision));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_set_back_is_not_believed_by_who_saw_more() {
    let mut cluster = Cluster::start(Release::Old, 1).await;
    let store = cluster.store();
    store.txn(Txn { then: vec![put("count", "0")], ..Txn::default() }).await.expect("written");
    let snapshot = cluster.folder.path().join("snapshot").display().to_string();
    cluster.tool(&["snapshot", "save", &snapshot]);
    for _ in 0..5 {
        assert_eq!(increment(&store).await, Some(true));
    }
    cluster.kill(0);
    cluster.set_back(0, &snapshot);
    cluster.restart(0);
    // Who saw nothing of what is gone cannot know.
    let other = cluster.store();
    cluster.until_answers(&other).await;
    assert_eq!(counted(&other).await, 0);
    let write = Txn { then: vec![put("b", "1")], ..Txn::default() };
    let outcomes = tokio::join!(store.txn(Txn::default()), store.txn(write), store.load());
    for told in [outcomes.0.map(drop), outcomes.1.map(drop), outcomes.2.map(drop)] {
        let refused =
            matches!(&told, Err(StoreError::Unknown(why)) if why.contains("restored from a copy"));
        assert!(refused, "{told:?}");
    }
    // Nor in the next life of its agent, which another prefix tells nothing.
    let seen = store.seen().expect("it answered");
    let (next, elsewhere) = (cluster.store(), cluster.store());
    next.recall(&seen);
    let mut moved = serde_json::to_value(&seen).expect("written");
    moved["prefix"] = "/another/".into();
    elsewhere.recall(&serde_json::from_value(moved).expect("read"));
    let told = next.load().await;
    let refused =
        matches!(&told, Err(StoreError::Unknown(why)) if why.contains("restored from a copy"));
    assert!(refused, "{told:?}");
    assert_eq!(next.seen(), Some(seen), "what is older adds nothing");
    elsewhere.load().await.expect("nothing was seen under this prefix");
    // Neither believes it when it has written as much again.
    for _ in 0..10 {
        assert_eq!(increment(&other).await, Some(true));
    }
    for told in [store.txn(Txn::default()).await, next.txn(Txn::default()).await] {
        assert!(matches!(&told, Err(StoreError::Unknown(_))), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_etcd_under_the_same_prefix_is_not_believed_by_a_later_life_of_the_agent() {
    let clusters = [Cluster::start(Release::New, 1).await, Cluster::start(Release::New, 1).await];
    let [first, other] = [clusters[0].store(), clusters[1].store()];
    assert_eq!(first.seen(), None);
    first.load().await.expect("read");
    other.recall(&first.seen().expect("it answered"));
    let told = other.load().await;
    let refused = matches!(&told, Err(StoreError::Unknown(why)) if why.contains("start them on a new `prefix`"));
    assert!(refused, "{told:?}");
}

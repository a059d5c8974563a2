//! The engine on real members of etcd.

mod bench;
mod faults;
mod secure;

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::Client;
use sengu_core::kv::{LIST_MAX, Op, Txn};

use self::bench::{Cluster, LATE, Release};
use super::*;
use crate::store::suite;

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_on_3_4() {
    contract(Release::Old, "3.4.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_on_3_5() {
    contract(Release::New, "3.5.").await;
}

async fn contract(release: Release, version: &str) {
    let cluster = Cluster::start(release, 3).await;
    let members = cluster.store().members().await;
    assert!(
        members.iter().all(|member| member.version.as_ref().is_ok_and(|v| v.starts_with(version))),
        "{members:?}"
    );
    suite::run(|| Arc::new(cluster.store())).await;
    let store = cluster.store();
    let forget = async {
        // What was written last is still kept.
        fill(&store, 1, 1).await;
        compact(&cluster, &store).await;
    };
    suite::forgets_old_changes(&store, forget).await;
}

/// Forgets everything before now, as an operator would.
async fn compact(cluster: &Cluster, store: &EtcdStore) {
    let (now, _) = store.load().await.expect("it loads");
    let mut client = Client::connect(&cluster.urls, None).await.expect("a client");
    let now = i64::try_from(now).expect("small");
    client.compact(now, None).await.expect("compacted");
}

/// Writes so many records of a size, many at once.
async fn fill(store: &EtcdStore, count: usize, bytes: usize) {
    let all: Vec<usize> = (0..count).collect();
    for some in all.chunks(LIST_MAX - 1) {
        let then = some.iter().map(|at| Op::Put {
            key: format!("instances/s{}/i{at}", at / 20).into(),
            value: vec![b'x'; bytes].into(),
            lease: 0,
        });
        let txn = Txn { then: then.collect(), ..Txn::default() };
        store.txn(txn).await.expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_instances_are_loaded_within_two_seconds() {
    let cluster = Cluster::start(Release::New, 3).await;
    let store = cluster.store();
    fill(&store, 10_000, 700).await;
    // A store that has no connection yet, as at the start of an agent.
    let store = cluster.store();
    let began = Instant::now();
    let (revision, entries) = store.load().await.expect("it loads");
    let took = began.elapsed();
    assert_eq!(entries.len(), 10_000);
    assert!(entries.is_sorted_by(|a, b| a.key < b.key), "by key, each once");
    assert!(entries.iter().all(|entry| entry.modified <= revision));
    assert!(took < Duration::from_secs(2), "{took:?}");
    println_took(took);
}

/// For who reads the output of the test.
#[allow(clippy::print_stderr)]
fn println_took(took: Duration) {
    eprintln!("10000 records were loaded in {} ms", took.as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_too_large_are_read_in_smaller_ones() {
    let cluster = Cluster::start(Release::New, 1).await;
    let store = cluster.store();
    // Together more than one answer may hold.
    for at in 0..150 {
        let key = format!("kv/large{at}").into();
        let value = vec![b'x'; 512 * 1024].into();
        let txn = Txn { then: vec![Op::Put { key, value, lease: 0 }], ..Txn::default() };
        store.txn(txn).await.expect("written");
    }
    assert_eq!(store.load().await.expect("it loads").1.len(), 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_of_sengu_on_one_etcd_do_not_see_each_other() {
    let cluster = Cluster::start(Release::New, 1).await;
    let one = cluster.store();
    let other = EtcdConfig { prefix: "/sengu/other/".to_owned(), ..cluster.config() };
    let other = EtcdStore::new(&other, LATE).expect("made");
    fill(&one, 10, 5).await;
    assert_eq!(other.load().await.expect("it loads").1, []);
    let (before, _) = one.load().await.expect("it loads");
    let mut watch = one.watch(before).await.expect("a watch");
    fill(&other, 10, 5).await;
    fill(&one, 3, 5).await;
    let batch = watch.recv().await.expect("a change");
    assert_eq!(batch.changes.len(), 3, "only its own");
    // What another cluster changes moves no revision of this one: a read is not waited for.
    fill(&other, 10, 5).await;
    let read = one.txn(Txn::default()).await.expect("read");
    assert_eq!(read.revision, batch.revision);
}

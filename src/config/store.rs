//! `[store]`: where records are kept, and the lease arithmetic that several hosts need.
//!
//! With etcd a holder fences itself when it cannot beat for the lease less the fence's budget. An
//! election of etcd must fit into that with beats before and after it, or each one would fence
//! every master: such a configuration is refused here.

use std::time::Duration;

use super::file::Table;
use super::meant::Setting;
use super::services::{secret, tls};
use super::{EtcdConfig, StoreConfig, keys};
use crate::duration::format;

/// The most members that are listed.
const ENDPOINTS_MAX: usize = 9;
/// The longest prefix: what is left of etcd's bound on a txn beside sengu's own.
const PREFIX_MAX: usize = 40;
/// The lease and the engine.
pub(super) fn read(top: &Table<'_>, setting: &Setting<'_>) -> (Duration, StoreConfig) {
    let usual = Duration::from_secs(6);
    let Some(store) = top.table("store", &keys::STORE) else {
        return (usual, StoreConfig::Embedded);
    };
    let kind = store.word("kind", &[("embedded", false), ("etcd", true)], |_| None);
    let bounds = Duration::from_secs(1)..=Duration::from_secs(60);
    let lease = store.duration("lease", bounds).map_or(usual, |found| found.value);
    let etcd = etcd(&store, setting, lease);
    let shared = kind.is_some_and(|kind| kind.value);
    if shared {
        check(&store, &etcd, lease);
    } else if !store.has("kind") && store.has("endpoints") {
        // An agent with a store of its own beside others that share one would be a second judge.
        let message = "`endpoints` is for etcd, and the store is embedded".to_owned();
        let help = "add `kind = \"etcd\"`, or leave the key out";
        store.note(&store.at, message, "in this table", Some(help));
    }
    store.finish();
    (lease, if shared { StoreConfig::Etcd(etcd) } else { StoreConfig::Embedded })
}

fn etcd(store: &Table<'_>, setting: &Setting<'_>, lease: Duration) -> EtcdConfig {
    let endpoints = store.each("endpoints", endpoint).unwrap_or_default();
    let prefix = store.parsed("prefix", |text| {
        let good = text.len() <= PREFIX_MAX
            && text.starts_with('/')
            && text.ends_with('/')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_".contains(&byte))
            && text.len() > 1;
        if good {
            Ok(text.to_owned())
        } else {
            Err(format!(
                "`prefix` begins and ends with `/` and has at most {PREFIX_MAX} letters, digits, \
                 `-`, `_` and `/`"
            ))
        }
    });
    let times = Duration::from_millis(50)..=Duration::from_secs(30);
    let election = store.duration("election", times.clone());
    let fence = store.duration("fence", Duration::from_millis(200)..=Duration::from_secs(30));
    let credentials = secret(store, setting, None);
    let encrypted = endpoints.iter().any(|found| found.value.starts_with("https://"));
    let files = store.table("tls", &keys::STORE_TLS).map(|table| tls(&table, setting));
    EtcdConfig {
        endpoints: endpoints.into_iter().map(|found| found.value).collect(),
        prefix: prefix.map_or_else(|| "/sengu/".to_owned(), |found| found.value),
        election: election.map_or(Duration::from_secs(1), |found| found.value),
        fence: fence.map_or(lease / 4, |found| found.value),
        credentials,
        tls: files.or_else(|| encrypted.then(Default::default)),
    }
}

/// `http://address:port` or `https://name:port`.
fn endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.trim_end_matches('/').rsplit_once(':'));
    let good = host.is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok()
    });
    if good {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("an endpoint is written as `http://10.0.0.11:2379` or `https://db1:2379`".to_owned())
    }
}

/// What only matters once the store is etcd.
fn check(store: &Table<'_>, etcd: &EtcdConfig, lease: Duration) {
    let note = |message: String, help: &str| store.note(&store.at, message, "here", Some(help));
    if !store.has("endpoints") {
        store.missing("endpoints");
    } else if etcd.endpoints.len() > ENDPOINTS_MAX {
        note(
            format!("`endpoints` names {} members", etcd.endpoints.len()),
            "name each member of etcd: three or five of them, at most nine",
        );
    }
    let https = etcd.endpoints.iter().filter(|url| url.starts_with("https://")).count();
    if https != 0 && https != etcd.endpoints.len() {
        note("some endpoints speak TLS and others do not".to_owned(), "use `https://` for all");
    }
    if https == 0 && etcd.tls.is_some() {
        note(
            "[store.tls] is there, and no endpoint begins with `https://`".to_owned(),
            "write the endpoints with `https://`, or leave [store.tls] out",
        );
    }
    if etcd.credentials.as_ref().is_some_and(|login| login.user.is_none()) {
        note(
            "etcd knows no login without a user".to_owned(),
            "write lines `user = …` and `password = …` in the secret",
        );
    }
    if let Some(why) = too_short(lease, etcd) {
        note(why, "make `lease` longer, or etcd's election shorter (`election` tells which it is)");
    }
}

/// Why no election of etcd fits into the lease: from the last beat before it (at worst a beat's
/// interval old) to the first after it (which is sent within another).
fn too_short(lease: Duration, etcd: &EtcdConfig) -> Option<String> {
    let needs = etcd.election * 2 + lease / 4 + etcd.fence;
    (lease < needs).then(|| {
        format!(
            "the lease of {} is too short: two of etcd's election time-outs ({}), two beats ({}) \
             and the fence ({}) take {}",
            format(lease),
            format(etcd.election),
            format(lease / 8),
            format(etcd.fence),
            format(needs),
        )
    })
}

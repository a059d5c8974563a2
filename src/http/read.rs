//! Reads, at once or blocking: run the view, and run it again when something that it is made of
//! has changed, until its index is above the reader's.
//!
//! A reader is woken by the view's bell, and by the clock at the moment when a name may be
//! withdrawn without any record changing. Beats ring the bell too; they are no part of any
//! view, so they cost a waiting reader one comparison.

use std::time::Duration;

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use sengu_core::catalog::Catalog;
use sengu_core::consul::Found;
use sengu_core::consul::directory::{Directory, KINDS};
use sengu_core::kv::{Op, Revision, Txn};
use sengu_core::time::Time;
use serde::Serialize;
use tokio::sync::SemaphorePermit;

use super::Shell;
use super::answer::{Meta, Trouble, json};
use super::query::{Blocking, Consistency, Params};
use super::server::{refused, stopped};
use crate::{clock, metrics};

/// What a view is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic<'a> {
    /// KV entries.
    Kv,
    /// What operators asked for.
    Requests,
    /// The stories of terms.
    History,
    /// Consul's sessions.
    Sessions,
    /// Nodes, services and checks; also changes by the clock.
    Directory,
    /// The entries of one service, by its name; of changes by the clock only those of its master
    /// and hosts.
    Service(&'a str),
    /// What is on one node, by its name or id.
    Node(&'a str),
}

impl Topic<'_> {
    /// Moves whenever a record that views of this topic are made of changes.
    fn stamp(self, catalog: &Catalog) -> Revision {
        let kinds: &[&str] = match self {
            Self::Kv => &["kv", "kvmeta", "sessions"],
            Self::Requests => &["requests"],
            Self::History => &["history"],
            Self::Sessions => &["sessions"],
            Self::Directory | Self::Service(_) | Self::Node(_) => &KINDS,
        };
        kinds.iter().map(|kind| catalog.changed(kind)).max().unwrap_or_default()
    }
}

/// Answers with a view as JSON, with the index headers.
pub(crate) async fn answer<T: Serialize>(
    shell: &Shell,
    uri: &Uri,
    topic: Topic<'_>,
    run: impl Fn(&Directory<'_>) -> Found<T>,
) -> Result<Response, Trouble> {
    let params = Params::of(uri)?;
    let (body, meta) = read(shell, &params, topic, run).await?;
    Ok(meta.on(json(StatusCode::OK, &body, params.has("pretty"))))
}

/// The same for what may be missing: 404 with an empty body, and the headers.
pub(crate) async fn answer_if_there<T: Serialize>(
    shell: &Shell,
    params: &Params,
    topic: Topic<'_>,
    run: impl Fn(&Directory<'_>) -> Found<Option<T>>,
) -> Result<Response, Trouble> {
    let (body, meta) = read(shell, params, topic, run).await?;
    Ok(meta.on(match body {
        Some(body) => json(StatusCode::OK, &body, params.has("pretty")),
        None => StatusCode::NOT_FOUND.into_response(),
    }))
}

/// Runs a view, and waits if the reader asked for that.
pub(crate) async fn read<T>(
    shell: &Shell,
    params: &Params,
    topic: Topic<'_>,
    run: impl Fn(&Directory<'_>) -> Found<T>,
) -> Result<(T, Meta), Trouble> {
    params.datacenter(&shell.context.place.datacenter)?;
    let blocking = params.blocking()?;
    let consistency = params.consistency()?;
    if consistency == Consistency::Consistent {
        catch_up(shell).await?;
    }
    let deadline = blocking.map(|blocking| clock::time() + blocking.wait(random()));
    let mut bell = shell.context.view.bell();
    let mut stopping = shell.stopping.clone();
    let mut started_at = None;
    loop {
        bell.mark_unchanged();
        let catalog = shell.catalog()?;
        let look = Look::take(shell, &catalog, topic);
        let found = run(&look.directory);
        let index = found.index.max(look.floor);
        let started_at = *started_at.get_or_insert(look.count);
        let meta = Meta { index, fresh: look.directory.fresh(), consistency };
        let (Some(Blocking { above, .. }), Some(deadline)) = (blocking, deadline) else {
            return Ok((found.body, meta));
        };
        let ended = clock::time() >= deadline || *stopping.borrow();
        if index > above || look.count != started_at || ended {
            return Ok((found.body, meta));
        }
        let seen = (topic.stamp(&catalog), look.count);
        drop(found);
        let _waiting = Waiting::begin(shell)?;
        // Until something that the view is made of has changed.
        let mut until = look.until;
        drop(catalog);
        loop {
            tokio::select! {
                _ = bell.changed() => {}
                () = sleep_until(until.map_or(deadline, |until| until.min(deadline))) => {}
                () = stopped(&mut stopping) => break,
            }
            let catalog = shell.catalog()?;
            let look = Look::take(shell, &catalog, topic);
            if (topic.stamp(&catalog), look.count) != seen || clock::time() >= deadline {
                break;
            }
            until = look.until;
        }
    }
}

/// Counts a reader that waits, for as long as it does.
struct Waiting<'a> {
    _seat: SemaphorePermit<'a>,
}

impl<'a> Waiting<'a> {
    /// Those who wait have seats of their own, fewer than there are connections: what is left is
    /// for those who do not.
    fn begin(shell: &'a Shell) -> Result<Self, Trouble> {
        let Ok(_seat) = shell.waits.try_acquire() else {
            refused("waiting");
            let words = "too many reads wait already; read without `index`, or try again later";
            return Err(Trouble::new(429, words));
        };
        metrics::get().http_waiting.inc();
        Ok(Self { _seat })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        metrics::get().http_waiting.dec();
    }
}

/// A directory at one moment, with what the clock does to it.
struct Look<'a> {
    directory: Directory<'a>,
    floor: Revision,
    count: u64,
    until: Option<Time>,
}

impl<'a> Look<'a> {
    fn take(shell: &'a Shell, catalog: &'a Catalog, topic: Topic<'_>) -> Self {
        let directory = Directory::new(catalog, clock::time(), &shell.context.place);
        match topic {
            Topic::Kv | Topic::Requests | Topic::History | Topic::Sessions => {
                Self { directory, floor: 0, count: 0, until: None }
            }
            Topic::Directory | Topic::Service(_) | Topic::Node(_) => {
                let bearing = match topic {
                    Topic::Service(name) => Some(directory.signs_of_service(name)),
                    Topic::Node(name) => Some(directory.signs_of_node(name)),
                    Topic::Directory
                    | Topic::Kv
                    | Topic::Requests
                    | Topic::History
                    | Topic::Sessions => None,
                };
                let signs = directory.signs();
                let (floor, count) = shell.clock_signs(signs, catalog.revision, bearing.as_ref());
                Self { directory, floor, count, until: directory.changes_at() }
            }
        }
    }
}

/// Waits until this agent's catalog has everything that was acknowledged before.
async fn catch_up(shell: &Shell) -> Result<(), Trouble> {
    let read = Txn { when: vec![], then: vec![Op::Get("kv/".into())], otherwise: vec![] };
    let reply = super::write::send(shell, read).await?;
    shell.reached(reply.revision).await
}

/// At least a little, so that a moment that was just missed cannot make a busy loop.
async fn sleep_until(at: Time) {
    clock::sleep_until(at.max(clock::time() + Duration::from_millis(10))).await;
}

fn random() -> u32 {
    // Without entropy the waits are merely less spread.
    getrandom::u32().unwrap_or_default()
}

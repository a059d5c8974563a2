//! Keys that nobody writes: `sengu/NAME/…`, made of the master records when they are asked for.
//!
//! `sengu/NAME/master` is the address that names point to now, `sengu/NAME/instance` who that is,
//! `sengu/NAME/term` its term. While nobody is named, the first two are missing, exactly as the
//! DNS name has no address. They are for tools that watch a key instead of a name; they appear
//! only when asked for by name or by a prefix that begins with `sengu/`, and no client may write
//! there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::directory::Directory;
use super::kv::Pair;
use super::{Found, Refusal};
use crate::catalog::{Named, ServiceView};
use crate::kv::Revision;
use crate::name::ServiceName;

/// What all of them begin with.
pub const ROOT: &str = "sengu/";

/// Is this name, or this prefix, one of theirs?
#[must_use]
pub fn is_here(name: &str) -> bool {
    name.starts_with(ROOT)
}

/// Refuses a write below [`ROOT`], and the removal of everything there.
///
/// # Errors
/// [`Refusal::Managed`] with the reason and the way out.
pub fn check_owner(name: &str) -> Result<(), Refusal> {
    if !is_here(name) {
        return Ok(());
    }
    Err(Refusal::Managed(format!(
        "{name:?} belongs to sengu: keys under {ROOT} follow the master records and are not \
         written; `sengu switchover` moves a master, and any other prefix is free"
    )))
}

/// All of them under a prefix, by key.
#[must_use]
pub fn under(directory: &Directory<'_>, prefix: &str) -> Found<Vec<Pair>> {
    let mut pairs = Vec::new();
    for (name, view) in directory.catalog().services() {
        let of_service = of(directory, name, view);
        pairs.extend(of_service.into_iter().filter(|pair| pair.key.starts_with(prefix)));
    }
    Found { index: directory.last(&["master", "instances"]), body: pairs }
}

/// One of them.
#[must_use]
pub fn get(directory: &Directory<'_>, key: &str) -> Found<Option<Pair>> {
    let found = under(directory, key);
    let body = found.body.into_iter().find(|pair| pair.key == key);
    let name = key.strip_prefix(ROOT).and_then(|rest| rest.split('/').next());
    let view = name.and_then(|name| directory.managed(name)).map(|(_, view)| view);
    // A service's own records, so that others do not wake its readers.
    Found { index: view.map_or(found.index, |view| index(directory, view)), body }
}

fn index(directory: &Directory<'_>, view: &ServiceView) -> Revision {
    view.changed.max(directory.catalog().loaded())
}

fn of(directory: &Directory<'_>, name: &ServiceName, view: &ServiceView) -> Vec<Pair> {
    let Some(at) = &view.master else { return Vec::new() };
    let index = index(directory, view);
    let pair = |last: &str, value: String| Pair {
        lock_index: 0,
        key: format!("{ROOT}{name}/{last}"),
        flags: 0,
        value: Some(STANDARD.encode(value)),
        create_index: at.revision.min(index),
        modify_index: index,
        session: None,
    };
    let mut pairs = Vec::new();
    if let Named::Master(instance, record) = directory.catalog().master(name, directory.now) {
        pairs.push(pair("instance", instance.to_string()));
        pairs.push(pair("master", record.address.to_string()));
    }
    pairs.push(pair("term", at.record.term.to_string()));
    pairs
}

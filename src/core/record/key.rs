//! The keys of the records: one function for each kind, so that no key is spelled twice.
//!
//! Names are checked before they come here; a key is `KIND/…`, as the store's listings show it.

use super::{HostName, InstanceName, Key, ServiceName, Term};

/// `master/S`.
#[must_use]
pub fn master(service: &ServiceName) -> Key {
    format!("master/{service}").into()
}
/// `beats/HOST`.
#[must_use]
pub fn beat(host: &HostName) -> Key {
    format!("beats/{host}").into()
}
/// `instances/S/I`.
#[must_use]
pub fn instance(service: &ServiceName, instance: &InstanceName) -> Key {
    format!("instances/{service}/{instance}").into()
}
/// `finals/S/TERM/I`.
#[must_use]
pub fn r#final(service: &ServiceName, term: Term, instance: &InstanceName) -> Key {
    format!("finals/{service}/{term}/{instance}").into()
}
/// `sync/S`.
#[must_use]
pub fn sync(service: &ServiceName) -> Key {
    format!("sync/{service}").into()
}
/// `requests/S/ID`.
#[must_use]
pub fn request(service: &ServiceName, id: &str) -> Key {
    format!("requests/{service}/{id}").into()
}
/// `history/S/TERM`, the term in 12 digits so that keys sort as terms do.
#[must_use]
pub fn history(service: &ServiceName, term: Term) -> Key {
    format!("history/{service}/{:012}", term.0).into()
}
/// `told/S/HOST`.
#[must_use]
pub fn told(service: &ServiceName, host: &HostName) -> Key {
    format!("told/{service}/{host}").into()
}
/// `nodes/HOST`.
#[must_use]
pub fn node(host: &str) -> Key {
    format!("nodes/{host}").into()
}

//! Store leases, for Consul's sessions. Mastership never hangs on one.
//!
//! Each request may be repeated: a lease's number is drawn here, so a grant whose answer got lost
//! is found again.

use std::time::Duration;

use etcd_client::LeaseGrantOptions;
use sengu_core::kv::{LeaseId, Refused, TTL_MAX, TTL_MIN};

use super::fault::Fault;
use super::space::signed;
use super::{Shared, WITHIN};
use crate::store::StoreError;

/// Gives a lease; at least for `ttl`.
pub(super) async fn grant(
    shared: &Shared,
    ttl: Duration,
) -> Result<(LeaseId, Duration), StoreError> {
    if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
        return Err(Refused::TtlOutOfBounds { ttl }.into());
    }
    let random = getrandom::u64().map_err(|error| StoreError::Refused(error.to_string()))?;
    let id = random >> 1;
    // etcd counts whole seconds.
    let seconds = signed(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0));
    let ask = |client: etcd_client::Client| async move {
        let options = LeaseGrantOptions::new().with_id(signed(id));
        let mut leases = client.lease_client();
        match leases.grant(seconds, Some(options)).await {
            Ok(granted) => Ok(granted.ttl()),
            Err(error) => match Fault::from(error) {
                Fault::Refused(why) if why.contains("already exists") => {
                    Ok(leases.time_to_live(signed(id), None).await?.granted_ttl())
                }
                fault => Err(fault),
            },
        }
    };
    let granted = shared.ring.ask(WITHIN, ask).await?;
    Ok((id, Duration::from_secs(u64::try_from(granted).unwrap_or_default()).max(ttl)))
}

/// Starts a lease's time anew; `false` if it is gone.
pub(super) async fn keep(shared: &Shared, lease: LeaseId) -> Result<bool, StoreError> {
    let ask = |client: etcd_client::Client| async move {
        match client.lease_client().keep_alive(signed(lease)).await {
            Ok(_) => Ok(true),
            // The client makes an error of a time to live of 0.
            Err(etcd_client::Error::LeaseKeepAliveError(why)) if why == "lease not found" => {
                Ok(false)
            }
            Err(error) => match Fault::from(error) {
                Fault::Refused(why) if why.contains("lease not found") => Ok(false),
                fault => Err(fault),
            },
        }
    };
    Ok(shared.ring.ask(WITHIN, ask).await?)
}

/// Ends a lease and its keys.
pub(super) async fn revoke(shared: &Shared, lease: LeaseId) -> Result<(), StoreError> {
    let ask = |client: etcd_client::Client| async move {
        match client.lease_client().revoke(signed(lease)).await {
            Ok(_) => Ok(()),
            Err(error) => match Fault::from(error) {
                Fault::Refused(why) if why.contains("lease not found") => Ok(()),
                fault => Err(fault),
            },
        }
    };
    Ok(shared.ring.ask(WITHIN, ask).await?)
}

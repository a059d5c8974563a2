//! Reads everything at one revision, a page at a time.
//!
//! The first page decides the revision, and the others are read as of it. A page whose records are
//! too large for one answer is read again in smaller ones. Bounded in bytes: what is loaded is kept
//! in memory.

use std::sync::Arc;

use etcd_client::GetOptions;
use sengu_core::kv::{KeyValue, Revision, STORE_BYTES_MAX};

use super::fault::Fault;
use super::space::{shared as entry, signed};
use super::{ANSWER_BYTES_MAX, Shared, WITHIN};
use crate::store::StoreError;

/// Records of a page.
const PAGE: i64 = 2000;
/// How often reading begins again because its revision was compacted away meanwhile.
const TRIES: usize = 3;

/// Everything, at one revision.
pub(super) async fn load(shared: &Shared) -> Result<(Revision, Vec<Arc<KeyValue>>), StoreError> {
    let mut tries = 1;
    loop {
        match pages(shared).await {
            Err(Fault::Compacted(_)) if tries < TRIES => tries += 1,
            loaded => return Ok(loaded?),
        }
    }
}

async fn pages(shared: &Shared) -> Result<(Revision, Vec<Arc<KeyValue>>), Fault> {
    let seen = shared.ring.seen();
    let end = after(shared.space.prefix().as_bytes());
    let mut from = shared.space.prefix().as_bytes().to_vec();
    let (mut revision, mut limit, mut bytes) = (0, PAGE, 0);
    let mut entries = Vec::new();
    loop {
        let (from_here, to) = (&from, &end);
        let ask = |client: etcd_client::Client| async move {
            let options = GetOptions::new()
                .with_range(to.clone())
                .with_limit(limit)
                .with_revision(signed(revision));
            let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
            let page = kv.get(from_here.clone(), Some(options)).await?;
            let told = shared.ring.note_after(page.header(), seen)?;
            Ok((told, page))
        };
        let (told, page) = match shared.ring.ask(WITHIN, ask).await {
            Err(Fault::TooLarge(_)) if limit > 1 => {
                limit = (limit / 8).max(1);
                continue;
            }
            answer => answer?,
        };
        if revision == 0 {
            revision = told;
        }
        for found in page.kvs() {
            bytes += found.key().len() + found.value().len();
            entries.extend(entry(&shared.space, found));
        }
        if bytes > STORE_BYTES_MAX {
            return Err(Fault::Refused(format!(
                "more than {STORE_BYTES_MAX} bytes stand under {}: delete some keys",
                shared.space.prefix()
            )));
        }
        match page.kvs().last() {
            Some(last) if page.more() => {
                from = last.key().to_vec();
                from.push(0);
            }
            _ => return Ok((revision, entries)),
        }
    }
}

/// The first key that does not begin so.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_end_of_a_prefix_is_behind_all_that_begins_so() {
        assert_eq!(super::after(b"/sengu/main/"), b"/sengu/main0");
        assert_eq!(super::after(b"a\xff"), b"b");
    }
}

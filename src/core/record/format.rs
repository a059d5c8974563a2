//! Formats of records: this version writes [`FORMAT`], and reads that and older ones.
//!
//! A newer one may mean something else by the same words: it is read as an error that says so,
//! and nothing here ever acts on such a record or writes over it.

use serde::Deserialize;

use super::FORMAT;
use crate::sabotage::sabotaged;

/// The format of a record that this version must neither act on nor write over: a newer one than
/// [`FORMAT`]. `None`: it is none, or no record at all.
#[must_use]
pub fn newer_format(bytes: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let head: Option<Head> = serde_json::from_slice(bytes).ok();
    head.map(|head| head.format).filter(|format| *format > FORMAT && !sabotaged!(NewerFormatRead))
}

pub(crate) fn newer(format: u32) -> String {
    format!(
        "it has format {format}, and this sengu knows up to {FORMAT}: run the newer one here, too"
    )
}

/// Says in which format each kind of record is written.
macro_rules! formatted {
    ($($record:ty),+ $(,)?) => {
        $(impl $crate::record::Record for $record {
            fn format(&self) -> u32 {
                self.format
            }
        })+
    };
}
pub(crate) use formatted;

//! The last look at each own instance, for everything that shows or checks it, so that no output
//! asks the database again.

use std::collections::BTreeMap;
use std::sync::Mutex;

use sengu_core::name::InstanceId;
use sengu_core::observation::Observation;
use sengu_core::time::Time;
use tokio::sync::watch;

/// Written by the probing loops, read by checks and pages.
#[derive(Debug)]
pub struct Board {
    seen: Mutex<BTreeMap<InstanceId, Seen>>,
    bell: watch::Sender<u64>,
}

/// One look, and when it began.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// When the look began.
    pub sent: Time,
    /// What was seen.
    pub observation: Observation,
}

impl Default for Board {
    fn default() -> Self {
        Self { seen: Mutex::default(), bell: watch::channel(0).0 }
    }
}

impl Board {
    /// Puts a look in place of the last.
    pub fn put(&self, instance: InstanceId, seen: Seen) {
        self.seen.lock().expect("nothing panics while it holds this").insert(instance, seen);
        self.bell.send_modify(|count| *count += 1);
    }

    /// The last look at an instance.
    #[must_use]
    pub fn get(&self, instance: &InstanceId) -> Option<Seen> {
        self.seen.lock().expect("nothing panics while it holds this").get(instance).cloned()
    }

    /// Rings at each look.
    #[must_use]
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }
}

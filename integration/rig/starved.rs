//! When this machine let nobody work: what a verdict about time has to allow for.
//!
//! A thread that wants nothing but to wake up in time notes by how much it did not, and another one
//! how long the disk took for a few bytes. Both are of the rig, beside what is judged, and no fault
//! that the rig makes touches them.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two wishes to wake up.
const STEP: Duration = Duration::from_millis(10);
/// Between two writes to the disk.
const WRITES: Duration = Duration::from_millis(200);
/// What is shorter is usual.
const LATE: Duration = Duration::from_millis(50);

/// From when until when.
type Span = (Instant, Instant);

/// Watches the machine until it is dropped.
#[derive(Debug)]
pub struct Starved {
    seen: Arc<Mutex<Vec<Span>>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Starved {
    /// Begins, with a file in this folder.
    ///
    /// # Panics
    /// If no file can be made there.
    #[must_use]
    #[track_caller]
    pub fn watch(folder: &Path) -> Self {
        let mut file = File::create(folder.join("starved")).expect("a file can be made");
        let (seen, over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let wakes = watch((&seen, &over), STEP, || ());
        let writes = watch((&seen, &over), WRITES, move || {
            // A disk that is full is as late as it is.
            let _ = file.write_all(b".").and_then(|()| file.sync_data());
        });
        Self { seen, over, threads: vec![wakes, writes] }
    }

    /// When nobody worked, so far; what is seen by both is there twice.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn watch(
    (seen, over): (&Arc<Mutex<Vec<Span>>>, &Arc<AtomicBool>),
    step: Duration,
    mut work: impl FnMut() + Send + 'static,
) -> JoinHandle<()> {
    let (seen, over) = (Arc::clone(seen), Arc::clone(over));
    thread::spawn(move || {
        while !over.load(Ordering::SeqCst) {
            let due = Instant::now() + step;
            thread::sleep(step);
            work();
            let now = Instant::now();
            if now.saturating_duration_since(due) > LATE {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((due, now));
            }
        }
    })
}

impl Drop for Starved {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

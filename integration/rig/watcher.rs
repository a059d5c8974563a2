//! Watches what a name answers, without a break, and keeps every change with its time.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::dns;

/// Between two questions.
const STEP: Duration = Duration::from_millis(2);

/// What a name answered from some moment on; none for no answer at all.
pub type Seen = (Instant, Option<Vec<IpAddr>>);

/// The watcher of one name.
#[derive(Debug)]
pub struct Watcher {
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts watching.
    #[must_use]
    pub fn start(server: SocketAddr, name: &str) -> Self {
        let (seen, over) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicBool>::default());
        let (into, ended, name) = (Arc::clone(&seen), Arc::clone(&over), name.to_owned());
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                let answer = dns::ask(server, &name, dns::A).ok().map(|answer| answer.addresses);
                let at = Instant::now();
                let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.last().is_none_or(|(_, last)| *last != answer) {
                    seen.push((at, answer));
                }
                drop(seen);
                thread::sleep(STEP);
            }
        });
        Self { seen, over, thread: Some(thread) }
    }

    /// Every change so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the name first answered exactly this address at or after some moment.
    #[must_use]
    pub fn named(&self, address: IpAddr, after: Instant) -> Option<Instant> {
        self.seen()
            .into_iter()
            .find(|(at, answer)| *at >= after && *answer == Some(vec![address]))
            .map(|(at, _)| at)
    }

    /// The addresses in the order in which they were named, without repetitions in a row.
    ///
    /// # Panics
    /// If two were ever named at once.
    #[must_use]
    #[track_caller]
    pub fn masters(&self) -> Vec<IpAddr> {
        let mut order = Vec::new();
        for (_, answer) in self.seen() {
            match answer.as_deref() {
                None | Some([]) => {}
                Some([one]) if order.last() == Some(one) => {}
                Some([one]) => order.push(*one),
                Some(many) => panic!("two masters were named: {many:?}"),
            }
        }
        order
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

//! What every output reads: the newest catalog, and a bell that rings when it changes.
//!
//! The agent's loop is the one writer. Readers take the picture without waiting and compare its
//! `valid_until` with the clock themselves, at the moment they answer.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sengu_core::catalog::{Catalog, Picture};
use sengu_core::kv::Revision;
use tokio::sync::watch;

/// Shared by the loop, which publishes, and all outputs, which read.
#[derive(Debug)]
pub struct View {
    picture: ArcSwap<Picture>,
    bell: watch::Sender<Revision>,
}

impl Default for View {
    fn default() -> Self {
        Self { picture: ArcSwap::from_pointee(Picture::Unknown), bell: watch::channel(0).0 }
    }
}

impl View {
    /// Puts a newer catalog in place of the last; rings only if its revision is new, or it is the
    /// first.
    pub fn publish(&self, catalog: Arc<Catalog>) {
        let revision = catalog.revision;
        let before = self.picture.swap(Arc::new(Picture::Known(catalog)));
        let first = matches!(*before, Picture::Unknown);
        self.bell.send_if_modified(|last| {
            let news = first || *last != revision;
            *last = revision;
            news
        });
    }

    /// The newest picture.
    #[must_use]
    pub fn picture(&self) -> Arc<Picture> {
        self.picture.load_full()
    }

    /// The newest catalog, if anything was ever read.
    #[must_use]
    pub fn catalog(&self) -> Option<Arc<Catalog>> {
        match &**self.picture.load() {
            Picture::Unknown => None,
            Picture::Known(catalog) => Some(Arc::clone(catalog)),
        }
    }

    /// Rings when the revision changes.
    #[must_use]
    pub fn bell(&self) -> watch::Receiver<Revision> {
        self.bell.subscribe()
    }

    /// Waits until the view has this revision: a client then reads what it wrote.
    pub async fn reached(&self, revision: Revision) {
        let mut bell = self.bell();
        // The sender lives in self, so this cannot fail.
        let _ = bell.wait_for(|have| *have >= revision).await;
    }
}

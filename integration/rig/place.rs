//! Where one test lives: a folder, and loopback addresses that no other test on this machine
//! uses at the same time.
//!
//! The claim is a listening socket on the last address of the block, so it ends with the test,
//! however that ends. Ports are then free to be the well-known ones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// The port of the socket that claims a block.
const CLAIM: u16 = 9;
/// Blocks of 256 addresses that are tried: 127.64.0.0 to 127.127.255.255.
const BLOCKS: u32 = 64 * 256;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder and a block of addresses.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
    block: (u8, u8),
    _claim: TcpListener,
}

impl Place {
    /// Claims a block and makes a folder.
    ///
    /// # Panics
    /// If there is no folder or no block to be had.
    #[must_use]
    pub fn claim() -> Self {
        Self::claim_in(&std::env::temp_dir())
    }

    /// The same, with the folder below this one.
    ///
    /// # Panics
    /// If there is no folder or no block to be had.
    #[must_use]
    pub fn claim_in(parent: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("sengu-rig-").tempdir_in(parent);
        let start = std::process::id().wrapping_mul(61);
        for _ in 0..BLOCKS {
            let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % BLOCKS;
            let [_, _, high, low] = number.to_be_bytes();
            let block = (64 + high, low);
            let guard = SocketAddr::from(([127, block.0, block.1, 254], CLAIM));
            if let Ok(claim) = TcpListener::bind(guard) {
                let folder = folder.expect("a folder for the test can be made");
                return Self { folder, block, _claim: claim };
            }
        }
        panic!("no block of loopback addresses is free");
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// One of the addresses: 1 to 250.
    #[must_use]
    pub fn address(&self, number: u8) -> IpAddr {
        Ipv4Addr::new(127, self.block.0, self.block.1, number).into()
    }

    /// A port there.
    #[must_use]
    pub fn socket(&self, number: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(number), port)
    }
}

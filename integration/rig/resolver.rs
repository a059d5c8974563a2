//! A resolver that one host has to itself, and that can die.
//!
//! A process that starts here sees a hosts file and a `resolv.conf` of its own, in a mount
//! namespace; the only name server there takes questions and never answers. As long as the
//! resolver lives, the hosts file knows every name; then it is emptied, and whoever asks waits for
//! the name server. Needs root.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;

use super::place::Place;

/// The address of the name server in its block.
const NUMBER: u8 = 111;

/// A resolver of one host.
#[derive(Debug)]
pub struct Resolver {
    hosts: PathBuf,
    file: PathBuf,
    names: String,
    server: UdpSocket,
}

impl Resolver {
    /// One that knows these names.
    ///
    /// # Panics
    /// If its files cannot be written, or its socket cannot be had.
    #[must_use]
    pub fn new(place: &Place, names: &[(String, IpAddr)]) -> Self {
        let server = UdpSocket::bind(place.socket(NUMBER, 53)).expect("a name server's port");
        server.set_nonblocking(true).expect("it can be asked without a wait");
        let file = place.path("resolv.conf");
        let text = format!("nameserver {}\n", place.address(NUMBER));
        fs::write(&file, text).expect("its configuration can be written");
        let lines = names.iter().map(|(name, address)| format!("{address} {name}\n"));
        let resolver = Self { hosts: place.path("hosts"), file, names: lines.collect(), server };
        resolver.revive();
        resolver
    }

    /// What stands before a command that asks this resolver: the command replaces it.
    #[must_use]
    pub fn before(&self) -> Vec<String> {
        let (hosts, file) = (self.hosts.display(), self.file.display());
        let script = format!(
            "mount --bind {hosts} /etc/hosts && mount --bind {file} /etc/resolv.conf && exec \"$@\""
        );
        ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    /// Nobody gets an answer any more.
    ///
    /// # Panics
    /// If its file cannot be written.
    pub fn die(&self) {
        // In place: what is mounted is the file, not its name.
        fs::write(&self.hosts, "127.0.0.1 localhost\n").expect("the hosts file can be written");
    }

    /// Every name is known.
    ///
    /// # Panics
    /// If its file cannot be written.
    pub fn revive(&self) {
        let text = format!("127.0.0.1 localhost\n{}", self.names);
        fs::write(&self.hosts, text).expect("the hosts file can be written");
    }

    /// How many questions came in vain since this was last asked.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        let mut question = [0; 512];
        std::iter::from_fn(|| self.server.recv(&mut question).ok()).count()
    }
}

//! What the configuration asks of the machine: its name, its addresses, files and variables.
//!
//! Behind a trait, so that reading a configuration is a function of the text and of this alone.
//! Nothing here sends a packet or asks a resolver.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::token::{self, Hash};

/// The longest secret file, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// A machine as the configuration sees it.
pub trait Machine {
    /// Its host name.
    fn name(&self) -> String;
    /// The address that it sends from by default; 127.0.0.1 if it has none.
    fn address(&self) -> IpAddr;
    /// Is this an address of it (loopback counts)?
    fn has(&self, address: IpAddr) -> bool;
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// The names of all environment variables; to find misspelled ones.
    fn variables(&self) -> Vec<String> {
        Vec::new()
    }
    /// Is there a file or folder?
    fn exists(&self, path: &Path) -> bool;
    /// The content of a secret file.
    ///
    /// # Errors
    /// Why it cannot be used, with the way out and without its content.
    fn secret(&self, path: &Path) -> Result<String, String>;
    /// The hashes of the tokens in a file.
    ///
    /// # Errors
    /// Why it cannot be used, with the way out and without its content.
    fn tokens(&self, path: &Path) -> Result<Vec<Hash>, String> {
        token::parse_file(&self.secret(path)?)
    }
}

/// Any machine: what depends on the one that the file is for is taken for good.
#[derive(Debug, Clone, Copy, Default)]
pub struct Elsewhere;

impl Machine for Elsewhere {
    fn name(&self) -> String {
        "host".to_owned()
    }

    fn address(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }

    fn has(&self, _: IpAddr) -> bool {
        true
    }

    fn variable(&self, name: &str) -> Option<String> {
        // Those of the file's own host are not those of this one.
        (!name.starts_with("SENGU_")).then(|| "user = not-read\npassword = not-read\n".to_owned())
    }

    fn exists(&self, _: &Path) -> bool {
        true
    }

    fn secret(&self, _: &Path) -> Result<String, String> {
        Ok("user = not-read\npassword = not-read\n".to_owned())
    }

    fn tokens(&self, path: &Path) -> Result<Vec<Hash>, String> {
        // Different for each file, as tokens are.
        Ok(vec![Hash::of(&path.display().to_string())])
    }
}

/// The machine that this process runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Here;

impl Machine for Here {
    fn name(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    fn address(&self) -> IpAddr {
        // Connecting a UDP socket chooses the route and sends nothing; the target is an address
        // that RFC 5737 keeps for documentation.
        let chosen = || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
            socket.local_addr()
        };
        chosen()
            .map(|address| address.ip())
            .ok()
            .filter(|address| !address.is_unspecified())
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn has(&self, address: IpAddr) -> bool {
        // The kernel binds to own addresses only.
        address.is_loopback() || UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn variables(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn secret(&self, path: &Path) -> Result<String, String> {
        let shown = path.display();
        let unreadable = |error: std::io::Error| format!("cannot read {shown}: {error}");
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        if !meta.is_file() {
            return Err(format!("{shown} is not a file"));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(format!(
                "{shown} can be read by others than its owner; run `chmod 600 {shown}`"
            ));
        }
        if meta.len() > MAX_SECRET {
            return Err(format!("{shown} is longer than {MAX_SECRET} bytes"));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn own_addresses_are_told_from_others() {
        assert!(Here.has(Ipv4Addr::new(127, 9, 9, 9).into()));
        assert!(Here.has(Here.address()));
        assert!(!Here.has(Ipv4Addr::new(192, 0, 2, 1).into()));
        assert!(!Here.name().is_empty());
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, "hunter2").expect("written");
        for mode in [0o640, 0o604, 0o644] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set");
            let error = Here.secret(&path).expect_err("refused");
            assert!(error.contains("chmod 600") && !error.contains("hunter2"), "{error}");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("set");
        assert_eq!(Here.secret(&path).expect("read"), "hunter2");
    }
}

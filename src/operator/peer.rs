//! Who is at the other end of the socket, as the system knows them.
//!
//! The user id is the kernel's (SO_PEERCRED); its name is looked up in the passwd file alone, so
//! that no directory service can hold up a verb in the middle of a fault.

use std::io::Read;
use std::path::Path;

use crate::http::answer::Trouble;
use crate::http::server::PeerUser;

/// Where users stand.
const PASSWD: &str = "/etc/passwd";
/// So much of it is read, in bytes.
const PASSWD_MAX: u64 = 1 << 20;

/// A user's name, or the number of one that has none here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User(pub(super) String);

/// Root, and the user that the agent itself runs as.
pub(super) fn admitted(peer: Option<PeerUser>, own: u32) -> Result<User, Trouble> {
    match peer {
        Some(PeerUser { uid, .. }) if uid == 0 || uid == own => {
            Ok(User(name_of(uid).unwrap_or_else(|| uid.to_string())))
        }
        Some(PeerUser { uid, .. }) => Err(Trouble::new(
            403,
            format!("user id {uid} may not use the operator's socket: run this as root"),
        )),
        None => Err(Trouble::new(403, "the other end of the socket cannot be told")),
    }
}

/// The name of a user id on this host, if it has one.
pub(super) fn name_of(uid: u32) -> Option<String> {
    name(Path::new(PASSWD), uid)
}

/// The name of a user id in a passwd file: `name:password:uid:…`.
fn name(passwd: &Path, uid: u32) -> Option<String> {
    let mut text = Vec::new();
    std::fs::File::open(passwd).ok()?.take(PASSWD_MAX).read_to_end(&mut text).ok()?;
    String::from_utf8_lossy(&text).lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        let good = (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic());
        (good && number.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_agents_own_user_are_admitted() {
        let own = 4_000_000_000;
        assert_eq!(admitted(Some(PeerUser { uid: 0, pid: None }), 0).expect("root").0, "root");
        assert_eq!(admitted(Some(PeerUser { uid: 0, pid: None }), own).expect("root").0, "root");
        assert_eq!(
            admitted(Some(PeerUser { uid: own, pid: None }), own).expect("own").0,
            "4000000000"
        );
        for peer in [Some(PeerUser { uid: 1000, pid: None }), None] {
            assert_eq!(admitted(peer, 0).expect_err("a stranger").status, 403);
        }
    }

    #[test]
    fn names_stand_in_the_passwd_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("passwd");
        std::fs::write(&file, "root:x:0:0::/root:/bin/sh\nbad\n:x:7:7\nanna:x:7:7:A:/h:/bin/sh\n")
            .expect("written");
        assert_eq!(name(&file, 0).as_deref(), Some("root"));
        assert_eq!(name(&file, 7).as_deref(), Some("anna"));
        assert_eq!(name(&file, 8), None);
        assert_eq!(name(&folder.path().join("absent"), 0), None);
    }
}

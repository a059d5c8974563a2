//! Users and groups by name, as the machine's own files list them.
//!
//! Only `/etc/passwd` and `/etc/group` are asked, and numbers are taken as they are: no program
//! that is about to run at a failover waits for a directory server. Groups beyond the primary one
//! are never given.

use std::fs;

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    /// The user.
    pub(crate) user: u32,
    /// The group: the one named, else the user's own; `None` for a number that is in no file.
    pub(crate) group: Option<u32>,
}

/// Why an account is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    /// No such user.
    #[error("there is no user {0:?} in /etc/passwd")]
    User(String),
    /// No such group.
    #[error("there is no group {0:?} in /etc/group")]
    Group(String),
}

impl Account {
    /// Reads `user` or `user:group`, names or numbers.
    ///
    /// # Errors
    /// [`Unknown`].
    pub(crate) fn find(text: &str) -> Result<Self, Unknown> {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        Self::among(text, &users, &groups)
    }

    fn among(text: &str, users: &str, groups: &str) -> Result<Self, Unknown> {
        let (name, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
        let line = row(users, name);
        let number = |at: usize| line.as_ref()?.get(at)?.parse::<u32>().ok();
        let user = name.parse().ok().or_else(|| number(2));
        let user = user.ok_or_else(|| Unknown::User(name.to_owned()))?;
        let group = match group {
            None => number(3),
            Some(group) => {
                let listed = || row(groups, group)?.get(2)?.parse().ok();
                let found: Option<u32> = group.parse().ok().or_else(listed);
                Some(found.ok_or_else(|| Unknown::Group(group.to_owned()))?)
            }
        };
        Ok(Self { user, group })
    }
}

/// The fields of the line that begins with a name; numbers are looked up by the third field.
fn row<'a>(file: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let rows = file.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut rows = rows.filter(|row| row.len() >= 3);
    rows.find(|row| row[0] == name || (row[2] == name && name.parse::<u32>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\nbad\n";
    const GROUPS: &str = "root:x:0:\nadm:x:4:syslog\n";

    fn find(text: &str) -> Result<(u32, Option<u32>), String> {
        let found = Account::among(text, USERS, GROUPS).map_err(|error| error.to_string())?;
        Ok((found.user, found.group))
    }

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(find("web"), Ok((33, Some(34))));
        assert_eq!(find("web:adm"), Ok((33, Some(4))));
        assert_eq!(find("33"), Ok((33, Some(34))));
        assert_eq!(find("4711"), Ok((4711, None)));
        assert_eq!(find("4711:99"), Ok((4711, Some(99))));
    }

    #[test]
    fn who_is_not_there_is_said() {
        assert_eq!(find("nobody"), Err("there is no user \"nobody\" in /etc/passwd".into()));
        assert_eq!(find("web:x"), Err("there is no group \"x\" in /etc/group".into()));
        assert!(find("").is_err());
    }
}

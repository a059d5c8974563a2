//! Tokens: what a client of the HTTP server shows to be let in, and what it may then do.
//!
//! A token is a long random text. Only its hash is kept, in memory and in files; the text is
//! printed once, when it is made. SHA-256 without salt is enough for what nobody can guess, and
//! nothing else is taken: a text that is short enough to be a password is refused. No token
//! stands in an error, a log line or Debug output.

use std::fmt;

use ring::digest;
use serde::{Deserialize, Serialize};
use subtle::{Choice, ConstantTimeEq};

/// What a hash begins with where it is written.
const PREFIX: &str = "sha256:";

/// What a token that sengu makes begins with, so that scanners for leaked secrets find it.
const MARK: &str = "sengu_";

/// The shortest token that is taken, in bytes; a UUID, as Consul's tokens are, has 36.
const SHORTEST: usize = 20;

/// The longest, in bytes.
pub const LONGEST: usize = 512;

/// Tokens of one name at most: the old one and the new one, while clients change over, and room.
const LINES: usize = 4;

/// What a token lets its bearer do; each has what those before it have.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at everything but secrets: catalog, keys, health, events, state.
    Read,
    /// Also change keys, sessions, registrations and checks.
    Write,
    /// Also what the operator's socket takes: switchover, pause, reload.
    Operate,
}

impl Scope {
    /// All of them, from the least.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Operate];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is kept of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// `sha256:` and 64 hexadecimal digits.
    ///
    /// # Errors
    /// What it should look like; never what was there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("a hash is written as `{PREFIX}` and 64 hexadecimal digits");
        let digits = text.strip_prefix(PREFIX).ok_or_else(wrong)?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }

    /// Are they the same? Takes as long whether they are or not.
    #[must_use]
    pub fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(not shown)")
    }
}

/// A new token: 256 random bits.
///
/// # Errors
/// The system gives no randomness.
pub fn new() -> Result<String, getrandom::Error> {
    use base64::Engine as _;
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    Ok(format!("{MARK}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random)))
}

/// Is this text fit to be a token?
///
/// # Errors
/// Why not; never the text.
pub fn check(text: &str) -> Result<(), String> {
    if text.len() < SHORTEST {
        return Err(format!(
            "a token has at least {SHORTEST} characters, so that nobody guesses it; `sengu token \
             new` makes one"
        ));
    }
    if text.len() > LONGEST {
        return Err(format!("a token has at most {LONGEST} characters"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is of letters, digits and signs, without spaces".to_owned());
    }
    Ok(())
}

/// What a file of tokens holds: on each line a hash, or a token itself; `#` begins a remark.
///
/// # Errors
/// What is wrong, by the number of the line; never what stands in it.
pub fn parse_file(content: &str) -> Result<Vec<Hash>, String> {
    let mut hashes: Vec<Hash> = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let read = if line.starts_with(PREFIX) {
            Hash::parse(line)
        } else {
            check(line).map(|()| Hash::of(line))
        };
        hashes.push(read.map_err(|why| format!("line {}: {why}", index + 1))?);
    }
    match hashes.len() {
        0 => Err("it holds no token; `sengu token new` makes one".to_owned()),
        count if count > LINES => Err(format!("it holds {count} tokens, more than {LINES}")),
        _ => Ok(hashes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_long_and_its_hash_is_read_back() {
        let (one, other) = (new().expect("random"), new().expect("random"));
        assert_ne!(one, other);
        assert!(one.starts_with("sengu_") && one.len() == 49, "{}", one.len());
        check(&one).expect("fit");
        let hash = Hash::of(&one);
        let read = Hash::parse(&hash.to_string()).expect("read");
        assert!(bool::from(read.matches(&hash)));
        assert!(!bool::from(read.matches(&Hash::of(&other))));
        assert!(!format!("{hash:?}").contains(&hash.to_string()[7..]));
    }

    #[test]
    fn the_hash_is_what_other_tools_make() {
        // printf %s abc | sha256sum
        assert_eq!(
            Hash::of("abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn files_hold_hashes_tokens_and_remarks() {
        let token = "0123456789abcdef0123";
        let content = format!("# grafana\n{}\n\n  {token}  \n", Hash::of("old"));
        let hashes = parse_file(&content).expect("read");
        assert_eq!(hashes, [Hash::of("old"), Hash::of(token)]);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_token() {
        for (content, words) in [
            ("", "holds no token"),
            ("# a\n", "holds no token"),
            ("hunter2", "line 1: a token has at least 20"),
            ("hunter2 hunter2 hunter2", "without spaces"),
            ("sha256:hunter2", "64 hexadecimal digits"),
            (&"hunter2hunter2hunter2hunter2\n".repeat(5), "5 tokens, more than 4"),
            (&"hunter2".repeat(100), "at most 512"),
        ] {
            let error = parse_file(content).expect_err("refused");
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn scopes_grow() {
        assert!(Scope::Read < Scope::Write && Scope::Write < Scope::Operate);
    }
}

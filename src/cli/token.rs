//! `sengu token`: makes tokens for the HTTP server. Works without an agent.
//!
//! A token is printed once; what is kept of it anywhere is its hash. It is never taken from the
//! command line, which everybody on a host can read.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sengu_core::name::HostName;
use serde_json::json;

use super::print;
use super::{Exit, Global};
use crate::token::{self, Hash, Scope};

/// Make tokens for the HTTP server
///
/// A token lets a program or a person use the HTTP server; beyond loopback nobody can without.
/// The configuration holds its hash, see docs/security.md.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print a new token, once, and the lines for the configuration
    New {
        /// Whose it is; stands in the audit
        name: HostName,
        /// What for
        #[arg(long, value_enum, default_value_t = Scope::Read)]
        scope: Scope,
        /// Write the token to this file, which only its owner can read, in place of printing it
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Print the hash of a token that comes on standard input
    Hash,
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    match &options.verb {
        Verb::New { name, scope, to } => new(global, name, *scope, to.as_deref()),
        Verb::Hash => hash(global),
    }
}

fn new(global: &Global, name: &HostName, scope: Scope, to: Option<&Path>) -> anyhow::Result<Exit> {
    let token = token::new().context("the system gives no random bits")?;
    let hash = Hash::of(&token);
    if let Some(path) = to {
        write(path, &token).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if global.json {
        let shown = to.is_none().then_some(&token);
        print::json(&json!({
            "name": name, "scope": scope, "token": shown, "file": to, "hash": hash.to_string(),
        }));
        return Ok(Exit::Done);
    }
    let lines = lines(name.as_str(), scope, &hash);
    let shown = match to {
        Some(path) => format!("# the token is in {}", path.display()),
        None => format!("# the token, shown this once; give it to who needs it:\n{token}\n"),
    };
    print::text(&format!(
        "{shown}\n# for {} of each agent that shall know it, then `sengu reload`:\n{lines}",
        global.config.display()
    ));
    Ok(Exit::Done)
}

fn lines(name: &str, scope: Scope, hash: &Hash) -> String {
    format!("[token.{name}]\nscope = \"{scope}\"\nhash = \"{hash}\"")
}

/// A file that was not there, for its owner alone.
fn write(path: &Path, token: &str) -> std::io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}

fn hash(global: &Global) -> anyhow::Result<Exit> {
    let mut text = String::new();
    let most = token::LONGEST as u64 + 16;
    std::io::stdin().lock().take(most).read_to_string(&mut text).context("standard input")?;
    let text = text.trim();
    token::check(text).map_err(|why| anyhow::anyhow!(why))?;
    let hash = Hash::of(text).to_string();
    if global.json {
        print::json(&json!({ "hash": hash }));
    } else {
        print::text(&hash);
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_lines_are_a_configuration() {
        let lines = lines("grafana", Scope::Read, &Hash::of("0123456789abcdef0123"));
        let config = crate::config::Config::parse(
            &format!("host = \"a\"\n{lines}"),
            Path::new("/etc/sengu/sengu.toml"),
            &crate::config::Elsewhere,
        );
        let tokens = config.expect("good").tokens;
        assert_eq!(tokens["grafana"].scope, Scope::Read);
        assert_eq!(tokens["grafana"].hashes, [Hash::of("0123456789abcdef0123")]);
    }

    #[test]
    fn a_token_file_is_for_its_owner_and_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        write(&path, "sengu_x").expect("written");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        write(&path, "sengu_y").expect_err("there already");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "sengu_x\n");
    }
}

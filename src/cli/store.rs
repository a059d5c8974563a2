//! `sengu store`: copies of the embedded store, and what an operator does with them; and the files
//! that an etcd for several hosts needs.
//!
//! Works on the files of `data_dir`, without the agent: `import` and `incarnate` while it is
//! stopped.

mod etcd;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write, stdin, stdout};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::print;
use super::{Exit, Global};
use crate::audit::{self, Deed, Via, Who};
use crate::store::archive;

/// Export, import, verify and revive the embedded store; set up an etcd
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The data folder, if not the one in the configuration file
    #[arg(long, value_name = "FOLDER", global = true)]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write all records as lines of JSON
    Export {
        /// To this file; else to standard output
        file: Option<PathBuf>,
    },
    /// Read what `export` wrote, into an empty store; needs `incarnate` after
    Import {
        /// From this file; else from standard input
        file: Option<PathBuf>,
    },
    /// Check the store's files and records
    Verify,
    /// Let a restored or imported store count: its records sort above all before it
    Incarnate,
    /// Write the configuration and units of an etcd for several hosts
    EtcdConfig(etcd::Options),
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    if let Verb::EtcdConfig(options) = &options.verb {
        print::note(&etcd::run(options)?);
        return Ok(Exit::Done);
    }
    let folder = match &options.data_dir {
        Some(folder) => folder.clone(),
        None => global.configuration()?.data_dir,
    };
    let told = carry_out(&folder, &options.verb);
    note(&folder, &options.verb, &told);
    // An export to standard output must hold nothing else.
    print::note(&told?);
    Ok(Exit::Done)
}

/// Who did what to the store, for the audit; a look changes nothing and is not written down.
fn note(folder: &Path, verb: &Verb, told: &anyhow::Result<String>) {
    let word = match verb {
        Verb::Export { .. } => "export",
        Verb::Import { .. } => "import",
        Verb::Incarnate => "incarnate",
        Verb::Verify | Verb::EtcdConfig(_) => return,
    };
    let (good, outcome) = match told {
        Ok(told) => (true, told.clone()),
        Err(error) => (false, format!("failed: {error:#}")),
    };
    // A folder that is no agent's is not made one by this.
    if !folder.is_dir() {
        return;
    }
    let deed = Deed {
        at: crate::clock::wall(),
        via: Via::Command,
        who: Who::own(),
        what: format!("store {word}"),
        good,
        outcome,
        ms: 0,
    };
    audit::note_alone(folder, deed);
}

fn carry_out(folder: &Path, verb: &Verb) -> anyhow::Result<String> {
    Ok(match verb {
        Verb::Export { file: None } => export(folder, &mut BufWriter::new(stdout().lock()))?,
        Verb::Export { file: Some(file) } => export(folder, &mut create(file)?)?,
        Verb::Import { file: None } => import(folder, &mut BufReader::new(stdin().lock()))?,
        Verb::Import { file: Some(file) } => {
            let input = File::open(file).with_context(|| format!("cannot read {}", file.display()));
            import(folder, &mut BufReader::new(input?))?
        }
        Verb::Verify => verify(folder)?,
        Verb::Incarnate => incarnate(folder)?,
        Verb::EtcdConfig(options) => etcd::run(options)?,
    })
}

/// A new file that only its owner can read: records may hold what others should not see.
fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    Ok(BufWriter::new(file.with_context(|| format!("cannot create {}", path.display()))?))
}

fn export(folder: &Path, out: &mut dyn Write) -> anyhow::Result<String> {
    let summary = archive::export(folder, out)?;
    Ok(format!("exported {} records at revision {}", summary.records, summary.revision))
}

fn import(folder: &Path, input: &mut dyn BufRead) -> anyhow::Result<String> {
    let summary = archive::import(folder, input)?;
    Ok(format!("imported {} records; they count after `sengu store incarnate`", summary.records))
}

/// A store with faults is told in full, and is a failure.
fn verify(folder: &Path) -> anyhow::Result<String> {
    let found = archive::verify(folder)?;
    let kinds: Vec<String> =
        found.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let summary = found.summary;
    let mut told = format!(
        "{} records at revision {}, incarnation {}: {}",
        summary.records,
        summary.revision,
        summary.incarnation,
        if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") }
    );
    if found.imported {
        told.push_str("; imported, and not yet counting: `sengu store incarnate`");
    }
    if found.problems.is_empty() {
        return Ok(told);
    }
    anyhow::bail!("{told}\n{}", found.problems.join("\n"))
}

fn incarnate(folder: &Path) -> anyhow::Result<String> {
    // One host, one store: no other agent has seen a newer one.
    let number = archive::incarnate(folder, 0)?;
    Ok(format!("the store counts from now on, as incarnation {number}"))
}

//! What operators are shown of each template: data for `status`, `doctor` and pages.

use std::path::PathBuf;

use sengu_core::time::Wall;
use serde::{Deserialize, Serialize};

/// One template at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TemplateStatus {
    /// The template.
    pub source: String,
    /// The file that it becomes.
    pub destination: PathBuf,
    /// When it was last rendered well, whether or not the file changed.
    pub rendered: Option<Wall>,
    /// When the file was last written.
    pub written: Option<Wall>,
    /// How often since this agent started.
    pub writes: u64,
    /// The file's size in bytes when it was last written or found equal.
    pub bytes: u64,
    /// When somebody else's change of what is sengu's was last put right.
    #[serde(default)]
    pub repaired: Option<Wall>,
    /// How often since this agent started.
    #[serde(default)]
    pub repairs: u64,
    /// Why the file is not as the catalog is now; the old one stays.
    pub error: Option<String>,
    /// When it is tried again although nothing changed.
    pub retry: Option<Wall>,
    /// Services whose master the file still names although it is withdrawn.
    pub stale: Vec<String>,
    /// Anything else to look at: what was left out, what cannot be watched or remembered.
    pub warnings: Vec<String>,
    /// The command, if there is one and it ever had to run.
    pub command: Option<CommandStatus>,
}

/// A template's command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandStatus {
    /// `waiting`, `running`, `done` or `failed`.
    pub state: String,
    /// Since when.
    pub at: Wall,
    /// How it failed, in words.
    pub error: Option<String>,
    /// The last of what it printed, at most 64 KiB.
    pub output: String,
    /// Runs for the present content.
    pub attempts: u64,
    /// When it is run again.
    pub retry: Option<Wall>,
}

//! Exit codes: part of what scripts may rely on, and so written down in `docs/commands.md`.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Done,
    /// Refused, or it failed.
    Failed,
    /// The command line made no sense.
    Usage,
    /// The agent could not be reached.
    Unreachable,
    /// It goes on; the command only stopped waiting.
    StillWaiting,
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Done, Self::Failed, Self::Usage, Self::Unreachable, Self::StillWaiting];

    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::StillWaiting => 4,
        }
    }

    /// What it means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done as asked",
            Self::Failed => "refused, or failed; the reason is on standard error",
            Self::Usage => "the command line is wrong",
            Self::Unreachable => "the agent cannot be reached",
            Self::StillWaiting => "still going on when `--wait` was over; see `sengu status`",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What `sengu check` exits with, as monitoring plugins do. The order is from good to bad: a
/// known fault outweighs not knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PluginExit {
    /// Passing.
    Ok,
    /// Warning.
    Warning,
    /// Nobody knows.
    Unknown,
    /// Critical.
    Critical,
}

impl PluginExit {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Warning, Self::Critical, Self::Unknown];

    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// The word that plugins print first.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// What it means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "every matching check passes",
            Self::Warning => "the worst is a warning",
            Self::Critical => "the worst is critical",
            Self::Unknown => "no such check, its last result is too old, or no agent",
        }
    }
}

impl From<PluginExit> for ExitCode {
    fn from(exit: PluginExit) -> Self {
        Self::from(exit.code())
    }
}

//! `sengu audit`: who asked for what, when, and how it ended. Reads the files of this host, so it
//! works without the agent, too.

use std::time::Duration;

use clap::Args;
use clap::ValueEnum;

use super::print::{self, Look};
use super::{Exit, Global};
use crate::audit::{self, FILES, Line, Tail, Via};

/// Between two looks at the files.
const LOOKS: Duration = Duration::from_millis(200);

/// By which way something was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// The operator's socket
    Socket,
    /// The HTTP server
    Http,
    /// A command that works without the agent
    Command,
}

impl Way {
    fn is(self, via: Via) -> bool {
        match self {
            Self::Socket => via == Via::Socket,
            Self::Http => via == Via::Http,
            Self::Command => via == Via::Command,
        }
    }
}

/// Show every change that a person or a tool asked for: who, from where, what, how it ended
///
/// The lines stand in the folder `audit` of `data_dir`, kept over restarts and bounded: at least
/// the newest 20000 of people and of tools each, as far as they fit 4 MiB. With --json they can be
/// kept elsewhere.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Go on as lines come; with --json one line each
    #[arg(long, short)]
    follow: bool,
    /// Only what came by this way
    #[arg(long, value_name = "WAY")]
    via: Option<Way>,
    /// Only what was refused or failed
    #[arg(long)]
    refused: bool,
    /// The newest so many lines
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: u32,
    /// The agent's data folder, if not the one in the configuration file
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<std::path::PathBuf>,
}

impl Options {
    fn wants(&self, line: &Line) -> bool {
        self.via.is_none_or(|way| way.is(line.via)) && !(self.refused && line.good)
    }
}

pub(super) fn run(global: &Global, options: &Options) -> anyhow::Result<Exit> {
    let data_dir = match &options.data_dir {
        Some(folder) => folder.clone(),
        None => crate::config::data_dir(&global.config),
    };
    let tails: Result<Vec<Tail>, _> =
        FILES.iter().map(|file| Tail::of(&audit::folder(&data_dir).join(file))).collect();
    let cannot = |error: std::io::Error| {
        anyhow::anyhow!("the audit in {} cannot be read: {error}", data_dir.display())
    };
    let tails = tails.map_err(cannot)?;
    let mut lines = audit::read(&data_dir).map_err(cannot)?;
    lines.retain(|line| options.wants(line));
    let most = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let lines = lines.split_off(lines.len().saturating_sub(most));
    let look = Look::of_stdout();
    if options.follow {
        lines.iter().for_each(|line| tell(global, line, &look));
        return follow(global, options, tails, &look);
    }
    if global.json {
        print::json(&lines);
    } else if lines.is_empty() {
        print::text("nothing was asked for yet");
    } else {
        let lines: Vec<String> = lines.iter().map(|line| shown(line, &look)).collect();
        print::text(&lines.join("\n"));
    }
    Ok(Exit::Done)
}

fn tell(global: &Global, line: &Line, look: &Look) {
    if global.json {
        print::line(line);
    } else {
        print::text(&shown(line, look));
    }
}

/// For ever, or until it is ended.
fn follow(
    global: &Global,
    options: &Options,
    mut tails: Vec<Tail>,
    look: &Look,
) -> anyhow::Result<Exit> {
    loop {
        let mut news = Vec::new();
        for tail in &mut tails {
            news.extend(tail.news()?);
        }
        news.sort_by_key(|line| line.at);
        news.iter().filter(|line| options.wants(line)).for_each(|line| tell(global, line, look));
        std::thread::sleep(LOOKS);
    }
}

/// One line.
fn shown(line: &Line, look: &Look) -> String {
    let outcome = if line.good { line.outcome.clone() } else { look.alarm(&line.outcome) };
    let lost = match line.lost {
        0 => String::new(),
        lost => format!(" ({lost} lines before this one were lost)"),
    };
    format!(
        "{}  {:7}  {}: {}: {outcome}{lost}",
        look.time(line.at),
        line.via.as_str(),
        line.who.words(),
        line.what
    )
}

#[cfg(test)]
mod tests {
    use sengu_core::time::Wall;

    use super::*;
    use crate::audit::Who;
    use crate::cli::print::tests::{NOW, look};

    #[test]
    fn a_line_says_who_what_and_how_it_ended() {
        let who = Who { user: Some("root".into()), uid: Some(0), pid: Some(9), ..Who::default() };
        let mut line = Line {
            number: 1,
            at: Wall(NOW.0),
            via: Via::Socket,
            who,
            what: "pause of foo by anna (root@db1): new switch".into(),
            good: true,
            outcome: "asked as pause".into(),
            ms: 2,
            lost: 0,
        };
        assert_eq!(
            shown(&line, &look(None)),
            "04:00:00  socket   root (pid 9): pause of foo by anna (root@db1): new switch: asked \
             as pause"
        );
        line.lost = 3;
        assert!(shown(&line, &look(None)).ends_with("(3 lines before this one were lost)"));
    }
}

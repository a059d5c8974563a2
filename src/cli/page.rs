//! `docs/commands.md`, printed from the command tree and the table of exit codes.

use clap::Command;

use super::exit::{Exit, PluginExit};

/// The whole page.
#[must_use]
pub(super) fn markdown() -> String {
    let mut text = String::from(
        "# Commands\n\n\
         <!-- Printed from `src/cli`; a test compares. -->\n\n\
         Commands ask the agent of this host over its unix socket, which only root may open, or \
         read files of this host.\n\
         With `--json` they print what programs can read; progress and errors go to standard \
         error.\n\
         `NO_COLOR` turns colours off. Times are those of the zone of this host.\n\n\
         ## Exit codes\n\n| code | meaning |\n|---|---|\n",
    );
    for exit in Exit::ALL {
        text += &format!("| {} | {} |\n", exit.code(), exit.meaning());
    }
    text += "\n`sengu check` exits as monitoring plugins do:\n\n| code | word | meaning |\n\
             |---|---|---|\n";
    for exit in PluginExit::ALL {
        text += &format!("| {} | {} | {} |\n", exit.code(), exit.word(), exit.meaning());
    }
    // Nothing of the environment that prints the page may stand in it.
    let mut command = super::command().term_width(90).disable_help_subcommand(true);
    command.build();
    section(&mut text, &command, "");
    text
}

fn section(text: &mut String, command: &Command, above: &str) {
    let name = format!("{above}{}", command.get_name());
    let help = command.clone().bin_name(&name).render_long_help().to_string();
    // Options of every command are told once.
    let own = help.split("\nEverywhere:").next().filter(|_| !above.is_empty()).unwrap_or(&help);
    let own: Vec<_> = own.lines().map(str::trim_end).collect();
    *text += &format!("\n## {name}\n\n```text\n{}\n```\n", own.join("\n").trim_end());
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        section(text, below, &format!("{name} "));
    }
}

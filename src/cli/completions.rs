//! `sengu completions`: completions for a shell.

use clap::Args;
use clap_complete::Shell;

use super::{Exit, print};

/// Print completions for a shell
///
/// For example `sengu completions bash > /etc/bash_completion.d/sengu`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(options: &Options) -> anyhow::Result<Exit> {
    print::bytes(&script(options.shell));
    Ok(Exit::Done)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "sengu", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).expect("text");
            assert!(script.contains("switchover"), "{shell}");
        }
    }
}

//! The table of keys as pages: the documented default configuration, and `docs/configuration.md`.

use super::keys::{Key, Preset, SECTIONS, Section};

/// Columns of comment lines.
const WIDTH: usize = 90;

/// The documented default configuration: a file that means the same as an empty one. Keys without
/// a fixed default, and tables that the operator names, stand there as examples behind `#`.
#[must_use]
pub fn defaults() -> String {
    let mut text = String::from(
        "# The configuration of sengu: every key with its meaning and its default.\n\
         # Lines that begin with `#` and a letter or bracket are examples; remove the `#` to use \
         one.\n",
    );
    for section in SECTIONS {
        let off = if section.repeats() { "#" } else { "" };
        text.push('\n');
        comment(&mut text, section.about);
        if !section.header.is_empty() {
            text += &format!("{off}{}\n", section.header);
        }
        for key in section.keys {
            text.push('\n');
            comment(&mut text, &format!("{}{}", key.meaning, without(key)));
            let off = if matches!(key.preset, Preset::Fixed(_)) { off } else { "#" };
            text += &format!("{off}{} = {}\n", key.name, key.example);
        }
    }
    text
}

fn without(key: &Key) -> String {
    match key.preset {
        Preset::Fixed(_) => String::new(),
        Preset::Found(words) => format!(" Default: {words}."),
        Preset::Required => " Required.".to_owned(),
    }
}

fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

/// `docs/configuration.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         <!-- Printed from `src/config/keys.rs`; a test compares. -->\n\n\
         The agent reads one TOML file, `/etc/sengu/sengu.toml` unless `--config` or \
         `SENGU_CONFIG` names another.\n\
         Every default works; a service needs a `kind` and at least one instance.\n\
         `sengu config` prints all of this as a file, `sengu config --check FILE` tells all \
         mistakes of one,\n\
         `sengu reload` makes a running agent read it again and prints what changed.\n\n\
         ## Several files, and variables\n\n\
         Beside `sengu.toml` may stand a folder `sengu.d`; its files `*.toml` are read in the \
         order of their names (64 at most, 1 MiB with the main one).\n\
         A key that stands again replaces the one before, tables are joined, `[[template]]` and \
         `[[hook]]` add to those before; relative paths\n\
         are relative to the folder of `sengu.toml`. Over all files go variables of the \
         environment, for keys of one value in tables that stand once:\n\
         `SENGU_HOST` for `host`, `SENGU_STORE__LEASE` for `lease` in `[store]`. A variable with two \
         underscores that is no key is a mistake.\n\
         Every mistake names its file or variable. `sengu config --check --elsewhere FILE` checks \
         a file for another machine, as a build does:\n\
         addresses, files and secrets are not looked at. `sengu config --schema` prints a JSON \
         Schema for editors.\n\n\
         ## Values\n\n\
         Durations are texts with units: `500ms`, `2s`, `1m30s`. Unknown keys are mistakes. \
         Secrets stand in files\n\
         of their own or in the environment, never in this file.\n",
    );
    for section in SECTIONS {
        text += &section_page(&section);
    }
    text
}

fn section_page(section: &Section) -> String {
    let title = match section.path {
        "" => "The top of the file".to_owned(),
        path if section.header.starts_with("[[") => format!("`[[{path}]]`"),
        path => format!("`[{path}]`"),
    };
    let mut text = format!("\n## {title}\n\n{}\n\n", section.about);
    text += "| key | default | meaning |\n|---|---|---|\n";
    for key in section.keys {
        let (preset, meaning) = match key.preset {
            Preset::Fixed(value) => (format!("`{value}`"), key.meaning.to_owned()),
            Preset::Found(words) => {
                (words.to_owned(), format!("{} As in `{}`.", key.meaning, key.example))
            }
            Preset::Required => {
                ("required".to_owned(), format!("{} As in `{}`.", key.meaning, key.example))
            }
        };
        text += &format!("| `{}` | {preset} | {meaning} |\n", key.name);
    }
    text
}

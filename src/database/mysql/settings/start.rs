//! Does a server start fenced by its own files? `super_read_only` on MySQL, `read_only` on
//! MariaDB; sengu opens it at run time and never writes the open state anywhere.
//!
//! What cannot be told for sure is *bad*, with the line to add and where. Reads nothing itself.

use sengu_core::observation::Verdict;

use super::super::server::Flavour;
use super::options::{Options, Setting};

/// Judges what a server starts with. `init` is the text of its `init_file`, if it has one.
pub(super) fn verdict(
    name: &str,
    flavour: Flavour,
    options: &Options,
    init: Option<&str>,
) -> Verdict {
    let mut wrong: Vec<String> = options.unclear.clone();
    let words = match flavour {
        Flavour::Mysql => Words { names: &["super_read_only", "super_r"], section: "mysqld" },
        Flavour::Mariadb => {
            Words { names: &["read_only", "read_o", "readonly"], section: "mariadb" }
        }
    };
    let line = format!("{}=ON", words.names[0]);
    let place = match &options.file {
        Some(file) => format!("`[{}]` in {file}", words.section),
        None => format!("`[{}]` in /etc/my.cnf, which it must read", words.section),
    };
    match options.last(words.names) {
        Some(set) if set.on() => {}
        Some(set) if set.persisted => wrong.push(unpersist(set, &line, &place)),
        Some(set) => wrong.push(format!("{} says `{}`: write `{line}`", set.place, set.shown())),
        None => wrong.push(format!("add the line `{line}` under {place}")),
    }
    // `SET GLOBAL read_only = OFF`, which a persisted value is, takes `super_read_only` with it.
    if flavour == Flavour::Mysql
        && let Some(set) = options.persisted("read_only").filter(|set| !set.on())
    {
        wrong.push(unpersist(set, &line, &place));
    }
    if init.is_some_and(|text| text.to_ascii_lowercase().contains("read_only")) {
        wrong.push("its `init_file` sets `read_only`: take that statement out".to_owned());
    }
    if wrong.is_empty() {
        return Verdict::Good;
    }
    Verdict::Bad(format!("{} (so that {name} starts fenced)", wrong.join("; ")))
}

struct Words {
    /// The variable, and what the server takes for it.
    names: &'static [&'static str],
    section: &'static str,
}

fn unpersist(set: &Setting, line: &str, place: &str) -> String {
    format!(
        "`{}` was persisted ({}): run `RESET PERSIST {};` and keep the line `{line}` under {place}",
        set.shown(),
        set.place,
        set.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::mysql::settings::options::{Start, read};

    /// The verdict on a server with this option file and these persisted variables.
    fn judged(flavour: Flavour, text: &str, persisted: &str, init: Option<&str>) -> Verdict {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("etc")).expect("made");
        std::fs::write(folder.path().join("etc/my.cnf"), text).expect("written");
        std::fs::write(folder.path().join("mysqld-auto.cnf"), persisted).expect("written");
        let options = read(&Start {
            root: folder.path(),
            arguments: &["mysqld".to_owned()],
            environment: &[],
            flavour,
            version: (9, 7),
            data_folder: Some("/"),
        });
        verdict("db1", flavour, &options, init)
    }

    fn persisted(name: &str, value: &str) -> String {
        format!(r#"{{"Version":2,"mysql_dynamic_variables":{{"{name}":{{"Value":"{value}"}}}}}}"#)
    }

    #[test]
    fn each_flavour_has_its_own_lock() {
        for (flavour, text) in [
            (Flavour::Mysql, "[mysqld]\nsuper-read-only\n"),
            (Flavour::Mysql, "[mysqld]\nsuper_read_only=OFF\n[mysqld-9.7]\nsuper_read_only=1\n"),
            (Flavour::Mariadb, "[mariadb]\nread_only=ON\n"),
            (Flavour::Mariadb, "[server]\nread-only=NO_LOCK_NO_ADMIN\n"),
        ] {
            assert_eq!(judged(flavour, text, "{}", None), Verdict::Good, "{text}");
        }
    }

    #[test]
    fn what_opens_it_is_named_with_the_way_out() {
        let fenced = "[mysqld]\nsuper_read_only=ON\n";
        let mysql = Flavour::Mysql;
        for (flavour, text, auto, init, part) in [
            (
                mysql,
                "",
                "{}",
                None,
                "add the line `super_read_only=ON` under `[mysqld]` in /etc/my",
            ),
            (mysql, "[mysqld]\nread_only=ON\n", "{}", None, "add the line `super_read_only=ON`"),
            (mysql, "[mysqld]\nsuper_read_only=yes\n", "{}", None, "line 2 of /etc/my.cnf says"),
            (mysql, fenced, "read_only", None, "run `RESET PERSIST read_only;`"),
            (mysql, fenced, "super_read_only", None, "run `RESET PERSIST super_read_only;`"),
            (mysql, fenced, "{}", Some("SET GLOBAL READ_ONLY=0;"), "its `init_file` sets"),
            (
                Flavour::Mariadb,
                "[mysqld]\n",
                "{}",
                None,
                "add the line `read_only=ON` under `[mari",
            ),
            (Flavour::Mariadb, "[mysqld]\nskip-read-only\n", "{}", None, "write `read_only=ON`"),
        ] {
            let auto = if auto == "{}" { auto.to_owned() } else { persisted(auto, "OFF") };
            let Verdict::Bad(text) = judged(flavour, text, &auto, init) else {
                panic!("not bad: {part}");
            };
            assert!(text.contains(part) && text.contains("db1"), "{text}");
        }
    }
}

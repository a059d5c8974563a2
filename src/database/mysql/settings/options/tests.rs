//! Option files as the servers read them: order, sections, includes, links, what is ignored.

use super::*;
use std::os::unix::fs::symlink;

/// A root with these files, and what a server that was started so reads in it.
fn options(files: &[(&str, &str)], start: impl FnOnce(&Path) -> Options) -> Options {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("has one")).expect("made");
        fs::write(&path, text).expect("written");
        let mode = if name.contains("open") { 0o666 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    }
    start(folder.path())
}

fn started(files: &[(&str, &str)], flavour: Flavour, arguments: &[&str]) -> Options {
    options(files, |root| {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        read(&Start {
            root,
            arguments: &arguments,
            environment: &["HOME=/home/db".to_owned(), "X=1".to_owned()],
            flavour,
            version: if flavour == Flavour::Mysql { (9, 7) } else { (10, 11) },
            data_folder: Some("/var/lib/mysql"),
        })
    })
}

fn value(options: &Options, name: &str) -> Option<String> {
    options.last(&[name]).map(|setting| setting.value.clone().unwrap_or_default())
}

#[test]
fn the_default_files_are_read_in_order_and_the_command_line_after_them() {
    let files = [
        ("/etc/my.cnf", "[mysqld]\nread-only = 1\nserver_id=1\nport=1\n"),
        ("/etc/mysql/my.cnf", "[mysqld]\nserver-id=2\nport=2\n"),
        ("/home/db/.my.cnf", "[mysqld]\nport=3\n"),
        ("/etc/absent/my.cnf", "[mysqld]\nport=9\n"),
    ];
    let read = started(&files, Flavour::Mysql, &["mysqld", "--port", "4", "--loose-x=y"]);
    assert_eq!(value(&read, "read_only").as_deref(), Some("1"));
    assert_eq!(value(&read, "server_id").as_deref(), Some("2"));
    assert_eq!(value(&read, "port").as_deref(), Some("4"));
    assert_eq!(value(&read, "x").as_deref(), Some("y"));
    assert_eq!(read.file.as_deref(), Some("/etc/my.cnf"));
    assert_eq!(read.unclear, [""; 0]);
    let place = read.last(&["server_id"]).map(|setting| setting.place.as_str());
    assert_eq!(place, Some("line 2 of /etc/mysql/my.cnf"));
}

#[test]
fn the_first_arguments_choose_the_files() {
    let files = [
        ("/etc/my.cnf", "[mysqld]\nport=1\na=1\n"),
        ("/opt/own.cnf", "[mysqld]\nport=2\n[mysqldtwo]\nport=3\n"),
    ];
    let port = |arguments: &[&str]| {
        let read = started(&files, Flavour::Mysql, arguments);
        (value(&read, "port"), value(&read, "a").is_some())
    };
    assert_eq!(port(&["mysqld", "--defaults-file=/opt/own.cnf"]), (Some("2".into()), false));
    assert_eq!(port(&["mysqld", "--defaults-extra-file=/opt/own.cnf"]), (Some("2".into()), true));
    assert_eq!(port(&["mysqld", "--no-defaults"]), (None, false));
    let two = ["mysqld", "--defaults-file=/opt/own.cnf", "--defaults-group-suffix=two"];
    assert_eq!(port(&two), (Some("3".into()), false));
    let late = ["mysqld", "--port=7", "--defaults-file=/opt/own.cnf"];
    assert_eq!(port(&late), (Some("7".into()), true), "only the first ones choose");
}

#[test]
fn sections_of_the_other_flavour_and_of_other_versions_do_not_count() {
    let text = "[mariadb]\na=1\n[mysqld-9.7]\nb=1\n[mysqld-8.4]\nc=1\n[mariadbd-10.11]\nd=1\n\
                [client]\ne=1\n[server]\nf=1\n[ mysqld ]\ng=1\n";
    let found = |flavour| {
        let read = started(&[("/etc/my.cnf", text)], flavour, &["mysqld"]);
        ["a", "b", "c", "d", "e", "f", "g"].map(|name| value(&read, name).is_some())
    };
    assert_eq!(found(Flavour::Mysql), [false, true, false, false, false, true, true]);
    assert_eq!(found(Flavour::Mariadb), [true, false, false, true, false, true, true]);
}

#[test]
fn values_are_read_as_the_servers_do() {
    let text = "[mysqld]\n a = 'x # y' # z\nb=\"q\"\nskip-c\n; no\ndisable_d\nenable-e\nf=\n\
                loose_g\nh = a\\sb\\\\c\n";
    let read = started(&[("/etc/my.cnf", text)], Flavour::Mariadb, &["mariadbd"]);
    for (name, wanted, on) in [
        ("a", "x # y", false),
        ("b", "q", false),
        ("c", "0", false),
        ("d", "0", false),
        ("e", "", true),
        ("g", "", true),
        ("h", "a b\\c", false),
    ] {
        assert_eq!(value(&read, name).as_deref(), Some(wanted), "{name}");
        assert_eq!(read.last(&[name]).map(Setting::on), Some(on), "{name}");
    }
    assert_eq!(read.last(&["f"]).map(Setting::on), Some(false), "an empty value is none");
}

#[test]
fn includes_are_followed_below_the_root_and_in_order() {
    let files = [
        ("/etc/alternatives/my.cnf", "[mysqld]\na=1\n!includedir /etc/mysql/conf.d/\nb=1\n"),
        ("/etc/mysql/conf.d/20.cnf", "[mysqld]\na=20\n"),
        ("/etc/mysql/conf.d/10.cnf", "[mysqld]\na=10\nb=10\n!include /etc/one\n"),
        ("/etc/mysql/conf.d/30.cnf.bak", "[mysqld]\na=30\n"),
        ("/etc/one", "[mysqld]\nc=1\n!include /etc/one\n"),
    ];
    let read = options(&files, |root| {
        symlink("/etc/alternatives/my.cnf", root.join("etc/mysql/my.cnf")).expect("linked");
        read(&Start {
            root,
            arguments: &["mysqld".to_owned()],
            environment: &[],
            flavour: Flavour::Mysql,
            version: (8, 0),
            data_folder: None,
        })
    });
    assert_eq!(value(&read, "a").as_deref(), Some("20"));
    assert_eq!(value(&read, "b").as_deref(), Some("1"));
    assert_eq!(value(&read, "c").as_deref(), Some("1"), "a loop ends");
    assert_eq!(read.unclear, [""; 0]);
}

#[test]
fn what_cannot_be_known_is_said() {
    for (files, arguments, part) in [
        (vec![], vec!["mysqld", "--defaults-file=/no.cnf"], "/no.cnf cannot be read"),
        (vec![], vec!["mysqld", "--defaults-file=own.cnf"], "without its folder (own.cnf)"),
        (
            vec![("/etc/my.cnf", "!include /etc/open.cnf\n"), ("/etc/open.cnf", "[mysqld]\na=1\n")],
            vec!["mysqld"],
            "everybody may write /etc/open.cnf",
        ),
        (vec![("/etc/my.cnf", "!includedir /etc/no.d\n")], vec!["mysqld"], "the folder /etc/no.d"),
        (vec![("/var/lib/mysql/mysqld-auto.cnf", "{")], vec!["mysqld"], "is not what it was"),
    ] {
        let read = started(&files, Flavour::Mysql, &arguments);
        assert!(read.unclear.concat().contains(part), "{part}: {:?}", read.unclear);
        assert_eq!(value(&read, "a"), None);
    }
}

#[test]
fn what_was_persisted_wins_in_either_layout() {
    let new = r#"{"Version":2,"mysql_dynamic_parse_early_variables":{"read_only":
        {"Value":"OFF","Metadata":{"Host":"localhost","User":"root","Timestamp":1}}}}"#;
    let old = r#"{"Version":1,"mysql_server":{"read_only":{"Value":"OFF","Metadata":{}},
        "mysql_server_static_options":{"relay_log_recovery":{"Value":"ON"}}}}"#;
    for json in [new, old] {
        let files =
            [("/etc/my.cnf", "[mysqld]\nread_only=ON\n"), ("/var/lib/mysql/mysqld-auto.cnf", json)];
        let read_by = |flavour, arguments: &[&str]| {
            let read = started(&files, flavour, arguments);
            (value(&read, "read_only"), read.persisted("read_only").is_some())
        };
        assert_eq!(read_by(Flavour::Mysql, &["mysqld"]), (Some("OFF".into()), true));
        let off = ["mysqld", "--persisted-globals-load=OFF"];
        assert_eq!(read_by(Flavour::Mysql, &off), (Some("ON".into()), false));
        assert_eq!(read_by(Flavour::Mariadb, &["mariadbd"]), (Some("ON".into()), false));
    }
}

//! Verdicts on servers as they would tell of themselves, one thing wrong at a time.

use super::*;
use crate::database::mysql::settings::accounts::Above;
use crate::database::mysql::settings::grants::Grants;

/// A server on which all is well.
pub(in super::super) fn good(flavour: Flavour) -> Facts {
    let mysql = [("gtid_mode", "ON"), ("enforce_gtid_consistency", "ON")];
    let mariadb = [("gtid_strict_mode", "ON"), ("replicate_do_db", "")];
    let (own, names, version) = match flavour {
        Flavour::Mysql => (mysql, ["log_replica_updates", "replica_net_timeout"], (9, 7, 4)),
        Flavour::Mariadb => (mariadb, ["log_slave_updates", "slave_net_timeout"], (10, 11, 19)),
    };
    let all = [
        ("log_bin", "ON"),
        ("server_id", "7"),
        ("sync_binlog", "1"),
        ("innodb_flush_log_at_trx_commit", "1"),
        (names[0], "ON"),
        (names[1], "4"),
    ];
    let variables = own.into_iter().chain(all);
    Facts {
        flavour,
        version,
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        channels: Vec::new(),
        filters: Default::default(),
        binlog: Row::new(),
        account: "'sengu'@'%'".into(),
        grants: Grants::read(["GRANT ALL PRIVILEGES ON *.* TO `sengu`@`%`"]),
        above: Some(Vec::new()),
    }
}

fn text_of(facts: &Facts) -> String {
    let name = "db1".parse().expect("a name");
    wrong(facts, None, &Subject { name: &name, replication_user: Some("repl") }).join("; ")
}

fn channel(columns: &[(&str, &str)]) -> Row {
    columns.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect()
}

#[test]
fn a_good_server_has_nothing_wrong() {
    for flavour in [Flavour::Mysql, Flavour::Mariadb] {
        assert_eq!(text_of(&good(flavour)), "");
    }
}

#[test]
fn each_variable_is_named_with_its_remedy() {
    for (flavour, name, value, part) in [
        (Flavour::Mysql, "gtid_mode", "OFF", "`gtid_mode` is OFF: write `gtid_mode=ON` under"),
        (Flavour::Mysql, "enforce_gtid_consistency", "WARN", "is WARN"),
        (Flavour::Mysql, "log_replica_updates", "OFF", "`log_replica_updates=ON` under `[mysqld]`"),
        (Flavour::Mysql, "sync_binlog", "0", "run `SET PERSIST sync_binlog = 1;`"),
        (Flavour::Mysql, "replica_net_timeout", "60", "SET PERSIST replica_net_timeout = 1;"),
        (Flavour::Mysql, "server_id", "0", "`server_id` is 0"),
        (Flavour::Mysql, "log_bin", "OFF", "write `log_bin=binlog` under `[mysqld]`"),
        (
            Flavour::Mariadb,
            "gtid_strict_mode",
            "OFF",
            "run `SET GLOBAL gtid_strict_mode = ON;` and",
        ),
        (
            Flavour::Mariadb,
            "slave_net_timeout",
            "60",
            "write `slave_net_timeout=4` under `[mariadb",
        ),
        (Flavour::Mariadb, "innodb_flush_log_at_trx_commit", "2", "is 2: run"),
        (Flavour::Mariadb, "replicate_do_db", "app", "SET GLOBAL replicate_do_db = '';"),
        (Flavour::Mariadb, "wsrep_on", "ON", "Galera"),
        (Flavour::Mysql, "event_scheduler", "ON", ""),
    ] {
        let mut facts = good(flavour);
        facts.variables.insert(name.into(), value.into());
        let text = text_of(&facts);
        assert!(text.contains(part) && !text.contains("; `"), "{name}: {text}");
        assert_eq!(text.is_empty(), part.is_empty(), "{name}: {text}");
    }
}

#[test]
fn what_a_fence_and_a_copy_need_is_asked_of_the_account() {
    let grants =
        |more: &str| Grants::read([format!("GRANT {more} ON *.* TO `sengu`@`%`").as_str()]);
    let mut facts = Facts { grants: grants("SUPER"), ..good(Flavour::Mariadb) };
    facts.variables.insert("event_scheduler".into(), "ON".into());
    assert!(!text_of(&facts).contains("event_scheduler"));
    facts.grants = grants("RELOAD");
    assert!(text_of(&facts).contains("run `GRANT SUPER ON *.* TO 'sengu'@'%';`"));
    let name = "db1".parse().expect("a name");
    let own = Subject { name: &name, replication_user: Some("sengu") };
    for (more, may) in [("RELOAD", false), ("REPLICATION SLAVE", true)] {
        facts.grants = grants(more);
        let said = wrong(&facts, None, &own).concat();
        assert_eq!(!said.contains("no account for replication"), may, "{said}");
    }
}

#[test]
fn sources_that_cannot_be_moved_are_told_apart() {
    let plain = |more: &[(&str, &str)]| {
        let mut row = channel(&[("source_host", "10.0.0.9"), ("auto_position", "1")]);
        row.extend(channel(more));
        row
    };
    for (channels, part) in [
        (vec![plain(&[])], ""),
        (vec![plain(&[("auto_position", "0")])], "by file and position: run `STOP REPLICA; CHANGE"),
        (vec![plain(&[("sql_delay", "3600")])], "SOURCE_DELAY = 0; START REPLICA;`"),
        (vec![plain(&[("channel_name", "x")])], ""),
        (vec![plain(&[]), plain(&[("channel_name", "x")])], "it follows 2 sources, `` (10.0.0.9)"),
        (vec![plain(&[("channel_name", "group_replication_applier")])], "group replication"),
        (
            vec![plain(&[("replicate_do_db", "a")])],
            "CHANGE REPLICATION FILTER REPLICATE_DO_DB = ()",
        ),
    ] {
        let facts = Facts { channels, ..good(Flavour::Mysql) };
        let text = text_of(&facts);
        assert!(text.contains(part) && text.is_empty() == part.is_empty(), "{part}: {text}");
    }
    let row = channel(&[("master_host", "10.0.0.9"), ("using_gtid", "No"), ("sql_delay", "5")]);
    let text = text_of(&Facts { channels: vec![row], ..good(Flavour::Mariadb) });
    assert!(text.contains("MASTER_USE_GTID = slave_pos; START SLAVE;"), "{text}");
    assert!(text.contains("MASTER_DELAY = 0"), "{text}");
}

#[test]
fn accounts_rights_and_the_replication_account_are_asked_for() {
    let name = "db1".parse().expect("a name");
    let above = Above {
        account: "'app'@'%'".into(),
        why: "SUPER".into(),
        revoke: "REVOKE SUPER ON *.* FROM 'app'@'%';".into(),
    };
    let facts = Facts {
        grants: Grants::default(),
        above: Some(vec![above; 7]),
        binlog: channel(&[("binlog_do_db", "app"), ("file", "binlog.000001")]),
        ..good(Flavour::Mariadb)
    };
    let subject = Subject { name: &name, replication_user: None };
    let text = wrong(&facts, None, &subject).join("\n");
    let bound = bound(&facts).expect("known").join("\n");
    for part in [
        "'app'@'%' writes in spite of `read_only` (SUPER): run `REVOKE SUPER ON",
        "so do 2 more accounts",
    ] {
        assert!(bound.contains(part), "{part}: {bound}");
    }
    for part in [
        "the account 'sengu'@'%' lacks rights: run `GRANT PROCESS, RELOAD,",
        "write `replication_user = …` and",
        "`binlog_do_db` leaves out databases",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

//! What semi-synchronous replication needs, one thing wrong at a time.

use super::*;
use crate::database::mysql::settings::grants::Grants;
use crate::database::mysql::settings::replication::tests::good;

fn lossless(flavour: Flavour, more: &[(&str, &str)]) -> Facts {
    let mut facts = good(flavour);
    let names = match flavour {
        Flavour::Mysql => ["source", "replica", "wait_no_replica"],
        Flavour::Mariadb => ["master", "slave", "wait_no_slave"],
    };
    let mut put = |name: String, value: &str| drop(facts.variables.insert(name, value.to_owned()));
    put(format!("rpl_semi_sync_{}_enabled", names[0]), "OFF");
    put(format!("rpl_semi_sync_{}_enabled", names[1]), "OFF");
    put(format!("rpl_semi_sync_{}_{}", names[0], names[2]), "ON");
    put(format!("rpl_semi_sync_{}_wait_point", names[0]), "AFTER_SYNC");
    put(format!("rpl_semi_sync_{}_timeout", names[0]), "10000");
    put("relay_log_recovery".into(), "OFF");
    put("sync_relay_log".into(), "1");
    for (name, value) in more {
        put((*name).into(), value);
    }
    facts
}

#[test]
fn both_naming_schemes_are_known_and_each_fault_has_its_remedy() {
    for (flavour, name, value, part) in [
        (Flavour::Mysql, "x", "", ""),
        (Flavour::Mariadb, "x", "", ""),
        (
            Flavour::Mysql,
            "rpl_semi_sync_source_wait_point",
            "AFTER_COMMIT",
            "SET PERSIST rpl_semi_sync_source_wait_point = 'AFTER_SYNC';",
        ),
        (
            Flavour::Mariadb,
            "rpl_semi_sync_master_wait_point",
            "AFTER_COMMIT",
            "write `rpl_semi_sync_master_wait_point=AFTER_SYNC` under `[mariadb]`",
        ),
        (Flavour::Mysql, "rpl_semi_sync_source_wait_no_replica", "OFF", "wait_no_replica = ON;"),
        (Flavour::Mysql, "sync_relay_log", "10000", "SET PERSIST sync_relay_log = 1;"),
        (Flavour::Mysql, "relay_log_recovery", "ON", "would throw away what it acknowledged"),
        (Flavour::Mysql, "relay_log_info_repository", "FILE", "relay_log_info_repository=TABLE"),
    ] {
        let text = wrong(&lossless(flavour, &[(name, value)]), None).join("; ");
        assert!(text.contains(part) && text.is_empty() == part.is_empty(), "{part}: {text}");
    }
}

#[test]
fn a_plugin_that_is_not_loaded_is_to_be_installed_by_its_own_name() {
    let text = wrong(&good(Flavour::Mysql), None).join("; ");
    assert!(text.contains("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so';"));
    assert!(text.contains("INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so';"));
    let old = Facts { version: (8, 0, 25), ..good(Flavour::Mysql) };
    let text = wrong(&old, None).join("; ");
    assert!(text.contains("rpl_semi_sync_slave SONAME 'semisync_slave.so'"), "{text}");
}

#[test]
fn a_short_wait_matters_only_if_sengu_may_not_lengthen_it() {
    let bare = Facts { grants: Grants::default(), ..lossless(Flavour::Mysql, &[]) };
    let text = wrong(&bare, None).join("; ");
    assert!(text.contains("rpl_semi_sync_source_timeout = 4294967295;"), "{text}");
}

//! The MySQL and MariaDB part of the rig, without an agent: what the other tests rely on.

use integration::rig::mysql::{Flavour, Setup, binlog};
use integration::rig::mysql_trio::MysqlSettings;
use integration::rig::{Mysql, MysqlTrio, Place, Writer, writer};

/// Two servers, the first open, the second following it.
fn pair(flavour: Flavour) -> (Place, Vec<Mysql>) {
    let place = Place::claim_in(&flavour.parent());
    let settings = MysqlSettings { count: 2, ..MysqlSettings::new(flavour) };
    let servers = MysqlTrio::servers(&place, &settings);
    servers[0].open();
    servers[1].follow(servers[0].address);
    (place, servers)
}

fn a_move_by_hand(flavour: Flavour) {
    let (_place, servers) = pair(flavour);
    let [old, new] = &servers[..] else { panic!("two servers") };
    let clients = [&servers[0], &servers[1]].map(|at| Writer::sql_pinned(&at.name, at.address));
    clients[0].until_acked_by(old.address, 20);
    old.close();
    new.until_has_all_of(old);
    new.tell(&["STOP REPLICA", "RESET REPLICA ALL"]);
    new.open();
    clients[1].until_acked_by(new.address, 20);
    old.follow(new.address);
    old.until_has_all_of(new);
    let [first, second] = clients.map(Writer::end);
    let acks: [(&str, &[_]); 2] = [("db1", &first), ("db2", &second)];
    let masters = [old.address, new.address];
    binlog::assert_one_master_at_a_time(&servers.iter().collect::<Vec<_>>(), &masters, &acks);
    assert_eq!(writer::lost(&first, &new.serials("db1")), [0_u64; 0]);
    assert!(binlog::commits(old).len() >= first.len() + second.len());
}

#[test]
fn the_rig_follows_a_move_of_mariadb() {
    a_move_by_hand(Flavour::MariaDb);
}

#[test]
fn the_rig_follows_a_move_of_mysql() {
    a_move_by_hand(Flavour::mysql());
}

/// Both are open: their logs must give that away, whatever the clients saw.
fn two_at_once(flavour: Flavour) {
    let (_place, servers) = pair(flavour);
    servers[1].tell(&["STOP REPLICA"]);
    servers[1].open();
    let clients = [&servers[0], &servers[1]].map(|at| Writer::sql_pinned(&at.name, at.address));
    for round in 1..=3 {
        for (client, server) in clients.iter().zip(&servers) {
            client.until_acked_by(server.address, 5 * round);
        }
    }
    drop(clients);
    let masters = [servers[0].address, servers[1].address];
    binlog::assert_one_master_at_a_time(&servers.iter().collect::<Vec<_>>(), &masters, &[]);
}

#[test]
#[should_panic(expected = "were masters")]
fn the_rig_sees_two_masters_of_mariadb() {
    two_at_once(Flavour::MariaDb);
}

#[test]
#[should_panic(expected = "were masters")]
fn the_rig_sees_two_masters_of_mysql() {
    two_at_once(Flavour::mysql());
}

/// The files keep a server fenced from its first moment, and semi-synchronous replication can be
/// switched on.
fn fenced_and_ready(flavour: Flavour) {
    let place = Place::claim_in(&flavour.parent());
    let setup = Setup { semisync: true, ..Setup::new(flavour) };
    let server = Mysql::start(place.folder(), "db1", 1, place.socket(1, 3306), &setup);
    let mut client = server.connect_as(integration::rig::mysql::CLIENT);
    let refused = client.run("INSERT INTO app.writes VALUES ('x', 1, 1, NOW(6))");
    assert!(matches!(refused, Err(integration::rig::mysql::Trouble::Refused { code: 1290, .. })));
    let variables: &[&str] = if server.flavour.is_mariadb() {
        &["rpl_semi_sync_master_enabled", "rpl_semi_sync_slave_enabled"]
    } else {
        &["rpl_semi_sync_source_enabled", "rpl_semi_sync_replica_enabled"]
    };
    for variable in variables {
        assert_eq!(server.variable(variable), "0", "{variable}");
        server.ask(&format!("SET GLOBAL {variable} = ON"));
    }
    server.restart();
    assert_eq!(server.variable("read_only"), "1");
    assert_eq!(server.executed(), "");
}

#[test]
fn servers_of_the_rig_start_fenced_and_ready_for_acknowledgements() {
    for flavour in Flavour::all() {
        fenced_and_ready(flavour);
    }
}

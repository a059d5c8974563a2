//! The accounts of the test servers, each with what it needs and no more, and the table that
//! the clients write to.

use super::flavour::Flavour;
use super::sql::Login;

/// The tests' own: may do everything, from this machine only, as every server has one.
pub const ADMIN: Login = Login { user: "root", password: "rig-password" };
/// The agent's.
pub const SENGU: Login = Login { user: "sengu", password: "sengu-password" };
/// The replicas'.
pub const REPLICATION: Login = Login { user: "repl", password: "repl-password" };
/// The clients'.
pub const CLIENT: Login = Login { user: "app", password: "app-password" };

const SENGU_ON_MARIADB: &str = "PROCESS, RELOAD, BINLOG MONITOR, SLAVE MONITOR, \
    REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN, \
    BINLOG ADMIN";
const SENGU_ON_MYSQL: &str = "PROCESS, RELOAD, REPLICATION CLIENT, SYSTEM_VARIABLES_ADMIN, \
    REPLICATION_SLAVE_ADMIN, CONNECTION_ADMIN, XA_RECOVER_ADMIN, SYSTEM_USER";

/// The statements that make all of it; one statement a line.
#[must_use]
pub fn sql(flavour: &Flavour) -> String {
    let how = match flavour {
        Flavour::MariaDb => "",
        Flavour::Mysql(_) => " WITH caching_sha2_password",
    };
    let create = |login: Login, host: &str| {
        let Login { user, password } = login;
        format!("CREATE USER '{user}'@'{host}' IDENTIFIED{how} BY '{password}';\n")
    };
    // While it is initialised, MariaDB takes no accounts before it is told to read them.
    let mut sql = String::from("FLUSH PRIVILEGES;\n");
    sql += "DROP USER IF EXISTS 'root'@'127.0.0.1';\n";
    sql += &create(ADMIN, "127.0.0.1");
    sql += "GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n";
    for login in [SENGU, REPLICATION, CLIENT] {
        sql += &create(login, "%");
    }
    sql += &format!("GRANT REPLICATION SLAVE ON *.* TO '{}'@'%';\n", REPLICATION.user);
    sql += &format!("GRANT ALL ON app.* TO '{}'@'%';\n", CLIENT.user);
    match flavour {
        Flavour::MariaDb => {
            // The server's first start makes one for the name of the machine, too.
            sql += "DELETE FROM mysql.global_priv WHERE User = 'root' \
                AND Host NOT IN ('localhost', '127.0.0.1', '::1');\n";
            sql += &format!("GRANT {SENGU_ON_MARIADB} ON *.* TO '{}'@'%';\n", SENGU.user);
            for table in ["global_priv", "roles_mapping"] {
                sql += &format!("GRANT SELECT ON mysql.{table} TO '{}'@'%';\n", SENGU.user);
            }
        }
        Flavour::Mysql(_) => {
            sql += &format!("GRANT {SENGU_ON_MYSQL} ON *.* TO '{}'@'%';\n", SENGU.user);
            sql += &format!("GRANT SELECT ON performance_schema.* TO '{}'@'%';\n", SENGU.user);
        }
    }
    sql += "CREATE DATABASE app;\n";
    sql += "CREATE TABLE app.writes (writer VARCHAR(64) NOT NULL, serial BIGINT UNSIGNED NOT \
        NULL, server INT UNSIGNED NOT NULL, at DATETIME(6) NOT NULL, PRIMARY KEY (writer, \
        serial)) ENGINE=InnoDB;\n";
    sql
}

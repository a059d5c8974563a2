//! The contract on real MySQL and MariaDB servers, and what only these have: commits that wait
//! for copies, locks, transactions, prepared branches, accounts above read-only.
//!
//! A missing server is a failure: `integration/servers` installs both.

mod bench;
mod fences;
mod moves;
mod semi_sync;
mod server;
mod tls;

mod mariadb {
    use super::bench::MysqlBench;
    use crate::database::suite::contract;

    contract!(MysqlBench::mariadb());
}

mod mysql {
    use super::bench::MysqlBench;
    use crate::database::suite::contract;

    contract!(MysqlBench::mysql());
}

/// Makes two tests of each function: with MariaDB, and with MySQL.
macro_rules! both {
    ($($scenario:ident,)*) => {
        mod mariadb {
            $(#[tokio::test]
            async fn $scenario() {
                super::super::bounded(super::$scenario(super::MysqlBench::mariadb())).await;
            })*
        }
        mod mysql {
            $(#[tokio::test]
            async fn $scenario() {
                super::super::bounded(super::$scenario(super::MysqlBench::mysql())).await;
            })*
        }
    };
}
use crate::database::suite::bounded;
use both;

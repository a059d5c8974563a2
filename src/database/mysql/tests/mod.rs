//! The contract on real MySQL and MariaDB servers, and what only these have: commits that wait
//! for copies, locks, transactions, prepared branches, accounts above read-only.
//!
//! A missing server is a failure: `integration/servers` installs both.

mod bench;
mod server;

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

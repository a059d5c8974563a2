//! The contract on real Redis and Valkey servers, and what only these have: scripts, pauses,
//! loading, full client tables, commands that wait in sockets.

mod bench;
mod faults;
mod fences;
mod tls;

mod redis {
    use super::bench::RedisBench;
    use crate::database::suite::contract;

    contract!(RedisBench::redis());
}

mod valkey {
    use super::bench::RedisBench;
    use crate::database::suite::contract;

    contract!(
        RedisBench::valkey(),
        ignore = "needs valkey-server in the path or named by SENGU_VALKEY"
    );
}

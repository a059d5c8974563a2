//! End to end: real servers, real agents, real clients, on loopback addresses.
//!
//! Each test has addresses and a folder of its own, ends everything that it started, and says in
//! its name what it shows.
#![expect(clippy::print_stdout, reason = "measurements, and the seeds of tests that failed")]

mod bad_input;
mod catalog;
mod checks;
mod crash;
mod disk;
mod etcd;
mod external;
mod failover;
mod files;
mod guard;
mod hooks;
mod hosts;
mod incidents;
mod isolation;
mod layout;
mod mysql;
mod mysql_rig;
mod operator;
mod security;
mod signals;
mod store;
mod storm;
mod switchover;
mod templates;
mod units;
mod verbs;

use std::time::Duration;

/// For what comes at once.
const SOON: Duration = Duration::from_secs(2);
/// For what takes looks, copies or programs.
const LATER: Duration = Duration::from_secs(10);

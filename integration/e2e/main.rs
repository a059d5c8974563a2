//! End to end: real servers, real agents, real clients, on loopback addresses.
//!
//! Each test has addresses and a folder of its own, ends everything that it started, and says in
//! its name what it shows.

mod failover;
mod switchover;

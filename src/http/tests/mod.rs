//! A real server on a loopback port, one file for each part of the dialect.

mod access;
mod agent;
mod blocking;
mod catalog;
mod events;
mod filter;
mod health;
mod kv;
mod limits;
mod session;
mod slow;
mod tls;

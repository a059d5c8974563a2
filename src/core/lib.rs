//! Every decision of sengu, and nothing else.
//!
//! The border is one function: [`machine::Machine::step`] takes the time and one
//! [`event::Event`] and returns the [`event::Action`]s that the shell carries out. The same
//! state and the same input give the same output, always: this crate has no IO, no async, no
//! clock, no randomness and no unordered maps (`clippy.toml` beside it bans them by name), so
//! that the simulator and the agent run the very same code.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod candidate;
pub mod catalog;
pub mod consul;
pub mod debounce;
pub mod dns;
pub mod event;
pub mod explain;
pub mod gtid;
pub mod health;
pub mod kv;
pub mod lease;
pub mod machine;
pub mod name;
pub mod observation;
pub mod policy;
pub mod position;
pub mod record;
pub mod report;
pub mod sabotage;
pub mod service;
pub mod sync;
pub mod time;
pub mod transition;

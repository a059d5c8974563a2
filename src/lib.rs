//! Sengu: publishes who is master of each replicated database, once, and moves mastership
//! safely. What decides is `sengu_core`; the modules here carry its actions out and turn its
//! catalog into DNS, HTTP, files and hooks.

pub mod agent;
pub mod audit;
pub mod board;
pub mod cli;
pub mod clock;
pub mod config;
mod crowd;
pub mod database;
pub mod dns;
pub mod duration;
pub mod guard;
pub mod hook;
pub mod http;
pub mod journal;
pub mod metrics;
pub mod notify;
pub mod operator;
pub mod probe;
pub mod process;
pub mod store;
pub mod template;
pub mod token;
pub mod view;

pub use sengu_core as core;

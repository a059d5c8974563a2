//! The simulator: the deciding code of sengu in a world that breaks.
//!
//! One seed decides everything: hosts, clocks, policies, faults, clients, the person. The world
//! holds model databases with a queue for each session, a store with elections and late watches,
//! and one real [`sengu_core::machine::Machine`] for each host. Invariants, one file each, judge
//! what the databases and the store did. The same seed gives the same story, always.

mod above;
mod action;
mod agent;
mod anew;
mod audit;
mod branch;
mod client;
mod clock;
mod converge;
mod coverage;
mod crash;
mod database;
mod deed;
mod describe;
mod driver;
mod fact;
mod fence;
mod invariants;
mod layout;
mod ledger;
mod member;
mod mend;
pub mod model;
mod more;
mod numbered;
mod options;
mod output;
mod person;
mod plan;
pub(crate) mod random;
mod replication;
mod run;
#[cfg(feature = "sabotage")]
pub mod sabotage;
mod scenario;
mod schedule;
mod shrink;
mod sql;
mod store;
mod storm;
mod story;
mod strike;
mod tool;
mod trace;
mod version;
mod words;
mod world;

pub use coverage::Coverage;
pub use deed::Deed;
pub use invariants::Violation;
pub use options::Options;
pub use plan::Plan;
pub use run::{Outcome, play, run};
pub use scenario::{Scenario, Told, crash_scenario, tell, tell_crash};
pub use shrink::{Less, Shrunk, shrink};
pub use story::{Crashes, Story, crash_everywhere, tell_lines};

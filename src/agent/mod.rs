//! The agent: event in, step, actions out.
//!
//! One task owns the machine (`turn.rs`). Everything that takes time runs beside it and comes
//! back as an event: the store (`storing.rs`), each instance (`instance.rs`), hooks. `run.rs`
//! puts the parts together; `releases.rs` knows what the members of etcd run. The loop never waits
//! for a database, a disk or a program.

pub(crate) mod fence;
pub mod identity;
pub mod instance;
mod opened;
mod quarantine;
mod releases;
pub mod run;
mod seen;
pub mod storing;
pub mod turn;

pub use releases::Flaw;
pub use run::run;

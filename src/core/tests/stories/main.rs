//! Stories: sequences of events that once went wrong, or could, told to the core by hand.
//!
//! Each is a test in a small [`world::World`]: one agent, a few instances as Redis behaves, and a
//! store that answers at once, in which nothing happens that the story does not tell. What may
//! happen in any order is the simulator's part; here stands who did what, when, and what must
//! hold after it. No story reads a clock, draws a number or starts anything.

mod adoption;
mod agent;
mod external;
mod failover;
mod format;
mod freeze;
mod hand_over;
mod histories;
mod in_sync;
mod later_life;
mod parting;
mod person;
mod rehearsal;
mod store;
mod transactions;
mod world;

//! The rig: real database servers, the real agent and clients, as child processes and threads of
//! a test, each test on loopback addresses of its own.
//!
//! Everything that a rig started ends with it, by process id; nothing else is ever touched. Every
//! wait is for an event and has a bound, and a wait that fails says what it waited for and shows
//! the end of the agent's log. Nothing here knows how sengu decides.

pub mod agent;
pub mod child;
pub mod cluster;
pub mod disk;
pub mod dns;
pub mod episode;
pub mod etcd;
pub mod fault;
pub mod hosts;
pub mod http;
pub mod isolation;
pub mod member;
pub mod mysql;
pub mod mysql_trio;
pub mod network;
pub mod place;
pub mod process;
pub mod recorder;
pub mod redis;
pub mod resolver;
pub mod resp;
pub mod scene;
pub mod soak;
pub mod staged;
pub mod starved;
pub mod tree;
pub mod trio;
pub mod uptime;
pub mod wait;
pub mod watcher;
pub mod writer;

pub use agent::{Agent, Told};
pub use disk::Disk;
pub use etcd::Etcd;
pub use mysql::Mysql;
pub use mysql_trio::{MysqlSettings, MysqlTrio};
pub use place::Place;
pub use process::{Process, Supervision};
pub use redis::{Flavour, Redis};
pub use resolver::Resolver;
pub use scene::{Scene, Server};
pub use trio::{Settings, Trio};
pub use wait::{soon, until};
pub use watcher::Watcher;
pub use writer::{Ack, Writer};

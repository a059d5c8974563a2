//! What the tests share: the rig that starts real servers, agents and clients on loopback
//! addresses, and the simulator. It holds no judgement of sengu's own.

pub mod checker;
#[cfg(feature = "servers")]
pub mod rig;
pub mod sim;

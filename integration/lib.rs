//! What the tests share: the rig that starts real servers, agents and clients on loopback
//! addresses. It holds no judgement of sengu's own; the tests beside it do that.

pub mod rig;

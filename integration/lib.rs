//! Rig and helpers of the tests.

pub mod sim;

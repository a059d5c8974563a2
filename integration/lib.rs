//! Rig and helpers of the tests.

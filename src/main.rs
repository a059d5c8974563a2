//! The sengu command.
fn main() {}

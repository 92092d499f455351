//! The bank's line client.

fn main() {}

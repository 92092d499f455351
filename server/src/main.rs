//! One branch of the bank.

fn main() {}

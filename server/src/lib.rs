//! One branch of the bank.

pub mod clock;

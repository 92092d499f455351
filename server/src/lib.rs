//! One branch of the bank, as a library for its program, its benchmarks and its tests.

pub mod bank;
pub mod clock;
pub mod dbs_exec;
pub mod error;
pub mod limits;
pub mod sms;

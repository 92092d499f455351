//! One branch of the bank, as a library for its program, its benchmarks and its tests.

pub mod allowance;
pub mod arguments;
pub mod audit;
pub mod backup;
pub mod bank;
pub mod branch;
pub mod clock;
pub mod commands;
pub mod config;
pub mod dbs_exec;
pub mod doors;
pub mod error;
pub mod idempotency;
pub mod key;
pub mod life;
pub mod limits;
pub mod listener;
pub mod lockout;
pub mod menu;
pub mod replication;
pub mod running_time;
pub mod sessions;
pub mod sms;
pub mod teaching;
pub mod tls_door;
pub mod transfer;

//! One branch of the bank, as a library for its program, its benchmarks and its tests.

pub mod allowance;
pub mod bank;
pub mod branch;
pub mod cli;
pub mod clock;
pub mod compat;
pub mod dbs_exec;
pub mod error;
pub mod idempotency;
pub mod key;
pub mod limits;
pub mod lockout;
pub mod logins;
pub mod menu;
pub mod net;
pub mod node;
pub mod peers;
pub mod replication;
pub mod running_time;
pub mod service;
pub mod service_manager;
pub mod shared_log;
pub mod sms;
pub mod teaching;
pub mod transfer;

//! A branch whose commit log is in a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test fails where it can't go on")]

mod disk;
mod failover;
mod local_files;
mod soak;
mod store;

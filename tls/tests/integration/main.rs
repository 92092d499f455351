//! TLS over real sockets, and the files that it reads.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod files;
mod tunnel;

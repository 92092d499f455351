//! The simulator's fixed bands of seeds, and the proofs that its judges can see.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod bank;
mod machines;
mod machines_sabotage;
mod put_back;

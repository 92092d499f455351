//! The two machines from outside: the rules by name, golden scripts, random inputs, and every state of small
//! configurations.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod golden;
mod model;
mod random;
mod rules;

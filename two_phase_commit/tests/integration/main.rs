//! The two machines from outside: the rules by name, what legs may be, golden scripts, random
//! inputs, and every state of small configurations.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod golden;
mod legs;
mod model;
mod random;
mod rules;

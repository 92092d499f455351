//! The built client, end to end, against a server that says what the test tells it to.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod command;
mod script;
mod server;
mod terminal;

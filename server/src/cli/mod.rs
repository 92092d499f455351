//! The command line: what was typed, what it resolves to, the commands on a database that is not running, and what they
//! print. Nothing here serves a client.

pub mod arguments;
mod audit;
pub mod backup;
pub mod commands;
pub mod config;
pub mod report;

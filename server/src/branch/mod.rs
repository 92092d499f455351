//! The branch protocol: framed JSON requests of clients, operators and other branches.
//!
//! - [`door`] moves frames between the socket and a session, as many at a time as have come;
//! - [`session`] answers them in order: what can share a commit does;
//! - [`access`] says who may ask for what;
//! - [`operation`], [`transfer`], [`report`] are the actions: on the ledger, between branches, and those that look;

pub mod access;
pub mod door;
pub mod operation;
pub mod report;
pub mod session;
pub mod transfer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::Address;
use protocol::proof::BranchKey;

use crate::bank::Bank;
use crate::listener::Clients;
use crate::replication::Replication;
use crate::transfer::Engine;

/// What every session of the branch protocol needs.
pub struct Context {
    /// The ledger's operations.
    pub bank: Arc<Bank>,
    /// The transfers between branches.
    pub engine: Arc<Engine>,
    /// Replicas, or the primary that this one follows.
    pub replication: Arc<Replication>,
    /// Everyone who is connected.
    pub clients: Arc<Clients>,
    /// The branch key.
    pub key: BranchKey,
    /// Whether anyone may do anything (`--open`).
    pub is_open: bool,
    /// How long a client may be silent.
    pub idle_timeout: Duration,
    /// Where this branch takes requests.
    pub address: Address,
    /// When the branch was started.
    pub started: Instant,
}

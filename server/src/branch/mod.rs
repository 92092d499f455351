//! The branch protocol: framed JSON requests of clients, operators and other branches.
//!
//! - [`connection`] moves frames between the socket and a session, as many at a time as have come; [`incoming`] and
//!   [`outgoing`] keep them in bounded memory;
//! - [`session`] answers them in order: what can share a commit does;
//! - `batch` carries many out in one commit;
//! - [`raw`] are the actions of two-phase commit for outside programs.

mod batch;
pub mod connection;
pub mod incoming;
pub mod outgoing;
pub mod raw;
pub mod session;

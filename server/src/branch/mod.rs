//! The branch protocol: framed JSON requests of clients, operators and other branches, over [`crate::service`].
//!
//! - [`connection`] moves frames between the socket and a session, as many at a time as have come; [`incoming`] and
//!   [`outgoing`] keep them in bounded memory, and `replies` those that another thread than the client's writes;
//! - [`session`] answers them in order: what can share a commit does; `dispatch` has what can't, and `batch` what comes
//!   as many in one;
//! - `requests` reads JSON, `answers` writes it: nothing else of the server speaks it on this wire.

mod answers;
mod batch;
pub mod connection;
mod dispatch;
pub mod incoming;
pub mod outgoing;
mod replies;
mod requests;
pub mod session;

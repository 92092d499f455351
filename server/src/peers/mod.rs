//! Other branches: where they are, how they find one another, and the persistent links to them.
//!
//! What is said over a link is for `transfer`, which hands in an [`links::Inbox`].

pub mod directory;
pub mod discovery;
pub mod links;
#[cfg(feature = "mdns")]
pub mod mdns;

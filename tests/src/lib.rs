//! The harness of the end-to-end tests: the built programs, started, talked to, killed and looked into.
//!
//! A [`Branch`] is a real `bank-server` on ports of its own choosing and a database in a folder of its own; it is
//! killed and waited for when it is dropped. A [`MenuConnection`] speaks the menu's lines over TCP;
//! [`Branch::client_script`] runs the real `bank-client`; a [`BranchConnection`] speaks the branch protocol. A [`Bank`]
//! is a folder with several branches that share a key, and the judge of their money; [`workload`] is what many clients
//! do there at once. [`audit`] asks the program's own auditor, [`Books`] looks into the database without it.
//!
//! Nothing here sleeps for a fixed time: what has to be waited for is a condition, with [`DEADLINE`] as its
//! end. Nothing uses a fixed port. A helper that fails panics, because that fails its test.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a helper of a test fails as the test does")]

mod bank;
mod books;
mod branch;
mod branch_connection;
mod bridge;
mod descriptors;
mod held_port;
mod menu_connection;
mod options;
mod program_log;
mod programs;
mod queues;
mod random;
mod replicas;
mod script;
mod terminal;
mod wait;
pub mod workload;

pub use bank::{Bank, SETTLED_WITHIN};
pub use books::{Audit, Books, audit, audit_output};
pub use branch::{Branch, StartFailure};
pub use branch_connection::{BranchConnection, Reply, figure, frame, request};
pub use bridge::{Bridge, EventStream, FORM, JSON, Request, Response, ServerEvent, SignedIn};
pub use descriptors::raise_descriptor_limit;
pub use held_port::HeldPort;
pub use menu_connection::{Ending, MenuConnection, Turn};
pub use options::Options;
pub use program_log::ProgramLog;
pub use programs::{clean_command, program, server_command};
pub use queues::{connect_narrow, has_unread_bytes, held_for, held_for_all};
pub use random::Random;
pub use replicas::{assert_same_rows, replica_options, shared_rows};
pub use script::{Transcript, client_command, run_client};
pub use terminal::{Terminal, open_terminal};
pub use wait::{DEADLINE, SetOnDrop, wait_for, wait_until, wait_until_within};

//! The menu: what customers and the administrator see at a line client.
//!
//! The dialogue is a pure machine. [`MenuSession`] takes lines in and returns lines; when it needs the bank it
//! returns a [`Request`] and is later handed the [`Reply`] or the [`Refusal`]. It performs no I/O, reads no
//! clock and knows no database, so a transcript in a test is the same dialogue that a customer has.
//!
//! ```text
//! client <--> Terminal (plain text, or the older client's format) <--> run <--> MenuSession
//!                                                                       |
//!                                                                       v  Request, Reply
//!                                                                     the bank
//! ```
//!
//! - [`session`]: the machine; [`question`] its forms, [`listing`] its pages, [`table`] their look.
//! - [`request`]: what is asked of the bank and what it answers, as plain data; [`receiver`], who is paid.
//! - [`texts`]: the menu files; `template` one of them, with its placeholders.
//! - [`terminal`]: the wire format; [`crate::compat`] is the older client's. [`mod@run`]: the loop that joins a session,
//!   its client and the bank; [`mod@dispatch`]: the way to the bank. [`connection`]: what serves a client.
//!
//! The rules of the bank (what an amount, a name or a password is) are not here: they are in `protocol` and
//! in [`crate::bank::customer`]. Text that this module makes up is ASCII, because the older client works
//! byte by byte; text that customers brought may be in any alphabet.

pub mod connection;
pub mod dispatch;
pub mod listing;
pub mod question;
pub mod receiver;
pub mod request;
pub mod run;
pub mod session;
pub mod table;
mod template;
pub mod terminal;
pub mod texts;

pub use receiver::{Receiver, ReceiverError};
pub use request::{LogInAs, NewCustomer, Refusal, Reply, Request, TypedPassword};
pub use run::{Ended, run};
pub use session::{Input, MenuSession, Next, Step};
pub use terminal::{Answered, PlainTerminal, Terminal};
pub use texts::{Texts, TextsError};

/// The rows of one page of a listing: what a terminal of 24 lines shows at once, with header and prompt.
pub const PAGE_ROWS: usize = 20;
/// The largest menu file, in bytes. A menu is shown on every turn, so it had better be much smaller.
pub const MENU_FILE_BYTES_MAX: u64 = 64 * 1024;

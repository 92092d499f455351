//! The menu: what customers and the administrator see at a line client.
//!
//! The dialogue is a pure machine. [`Session`] takes lines in and gives lines out; when it needs the bank it
//! gives a [`Request`] and is later handed the [`Reply`] or the [`Refusal`]. It performs no I/O, reads no
//! clock and knows no database, so a transcript in a test is the same dialogue that a customer has.
//!
//! ```text
//! client <--> Terminal (plain text, or the older client's format) <--> drive <--> Session
//!                                                                       |
//!                                                                       v  Request, Reply
//!                                                                     the bank
//! ```
//!
//! - [`session`]: the machine; [`question`] its forms, [`listing`] its pages, [`table`] their look.
//! - [`request`]: what is asked of the bank and what it answers, as plain data; [`receiver`], who is paid.
//! - [`texts`]: the menu files and their placeholders.
//! - [`terminal`] and [`lab_terminal`]: the two doors. [`mod@drive`]: the loop that joins all of it.
//!
//! The rules of the bank (what an amount, a name or a password is) are not here: they are in `protocol` and
//! in [`crate::bank::customer`]. Text that this module makes up is ASCII, because the older client works
//! byte by byte; text that customers brought may be in any alphabet.

pub mod door;
pub mod drive;
pub mod lab_terminal;
pub mod listing;
pub mod perform;
pub mod question;
pub mod receiver;
pub mod request;
pub mod session;
pub mod table;
pub mod terminal;
pub mod texts;

pub use drive::{Ended, drive};
pub use lab_terminal::LabTerminal;
pub use receiver::{Receiver, ReceiverError};
pub use request::{
    AccountRow, AccountView, AuditReport, BranchRow, Delivery, InDoubtRow, LogInAs, NewCustomer, Refusal, Reply,
    Request, SettledAs, TransactionRow, TypedPassword,
};
pub use session::{Input, Next, Session, Step};
pub use terminal::{Answered, PlainTerminal, Terminal};
pub use texts::{Texts, TextsError};

/// The rows of one page of a listing: what a terminal of 24 lines shows at once, with header and prompt.
pub const PAGE_ROWS: usize = 20;
/// The largest menu file, in bytes. A menu is shown on every turn, so it had better be much smaller.
pub const MENU_FILE_BYTES_MAX: u64 = 64 * 1024;
/// The most bytes of one turn to the older client: it reads as many at once, and has no framing.
pub const LAB_TURN_BYTES_MAX: usize = 1024;
/// How long the older client's door waits for one more digit of the key, in milliseconds. The owner of the
/// socket sets it as read timeout before [`LabTerminal::handshake`].
pub const LAB_KEY_TIMEOUT_MS: u64 = 200;
/// How many such waits go by without a first digit before the older client's door gives a newcomer up.
pub const LAB_KEY_WAITS_MAX: u32 = 50;

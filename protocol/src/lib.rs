//! What goes over the bank's wires, and the types that both ends agree on.
//!
//! This crate owns the text and JSON forms of money and identifiers, the lines of the menu protocol, and
//! the frames of the branch protocol. It opens no socket, starts no thread and reads no clock: everything
//! that moves bytes is generic over `Read` and `Write`, so the same code is driven by a socket, a pipe or
//! a byte slice in a test. The only file that it reads is the branch key's.
//!
//! - [`money`]: [`Money`], an amount in paise, and [`Total`], a sum of many amounts.
//! - [`address`]: [`Address`], host and port of a branch, and [`NamedAddress`].
//! - [`ids`]: [`AccountNum`], [`TxId`], [`BranchName`].
//! - [`epoch`]: [`Epoch`], which copy of a branch is the one that is written.
//! - [`menu_line`]: the directives that a menu server sends and the lines that a client answers.
//! - [`frame`]: length-prefixed frames, capped.
//! - [`actions`]: the table of actions: what each is called, who may ask for it, what it needs.
//! - [`request`], [`params`], [`answer`]: what is asked of a branch, and what it answers.
//! - [`network`]: whom a client's address stands for, where clients are counted by address.
//! - [`io_words`]: the operating system's errors for people.
//! - [`proof`]: challenge and response over the branch key; [`key_file`]: where that is.
//! - [`leg_sum`]: one number over what two branches have booked with one another.
//! - [`event`]: what a branch tells to those who watch it.
//! - [`teaching`]: what a branch started with `--teaching` lets a class do to it.
//! - [`connection`]: a client's side of a framed connection.

pub mod actions;
pub mod address;
pub mod answer;
pub mod connection;
pub mod epoch;
pub mod event;
pub mod frame;
pub mod ids;
pub mod io_words;
pub mod key_file;
pub mod leg_sum;
pub mod menu_line;
pub mod money;
pub mod network;
pub mod params;
mod peer_params;
pub mod proof;
pub mod request;
mod results;
pub mod teaching;

pub use address::{Address, AddressError, NamedAddress, bare_host};
pub use epoch::{Epoch, EpochOrder};
pub use ids::{AccountNum, BranchName, IdError, TxId};
pub use leg_sum::LegSum;
pub use money::{Money, MoneyError, Total};

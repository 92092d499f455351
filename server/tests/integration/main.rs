//! The server's library from outside: the dialogue of the menu, the page on security, the log of text messages.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod golden_session;
mod security_page;
mod sms_log_holds_no_secret;

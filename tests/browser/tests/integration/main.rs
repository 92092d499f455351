//! The dashboard in a real browser.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod dashboard;
mod kept;
mod lab;

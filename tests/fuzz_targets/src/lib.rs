//! What is fuzzed: one function of bytes for each reader of what strangers, peers and copies send.
//!
//! Each target takes any bytes and panics when the bank would do wrong: what it calls is the code of the programs, and
//! what it asserts holds whatever the bytes are. `tests/fuzz` runs the targets under libFuzzer; the test of this crate
//! gives them the seeds of `tests/fuzz/seeds`, among which is every input that was ever found to break something. Nothing
//! here waits for a clock, dials anybody or draws a number that the input or a counter doesn't give.
//!
//! - [`session`]: the branch port: frames, who may ask for what, every action, and the messages of a link, at a branch
//!   with a real database.
//! - [`menu`]: the dialogue of the menu behind the plain port; [`lab`]: the same behind the older client's.
//! - [`words`]: amounts, ids, names, addresses, and lines of the menu.
//! - [`machines`]: both machines of two branches, with a network that loses and doubles and disks that crash.
//! - [`replica`]: a statement log's groups, executed at a copy; [`stream`]: the frames in which they come.
//! - [`bridge`]: a request's parameters, cookies and headers at the HTTP bridge.
//! - [`events`]: events of branches, put in order and drawn.

pub mod bridge;
pub mod events;
pub mod lab;
pub mod machines;
pub mod menu;
pub mod replica;
pub mod session;
pub mod stream;
mod teller;
pub mod words;

/// One target.
pub type Target = fn(&[u8]);

/// All targets, by the names of their folders in `tests/fuzz/seeds`.
pub const TARGETS: [(&str, Target); 9] = [
    ("bridge", bridge::run),
    ("events", events::run),
    ("lab", lab::run),
    ("machines", machines::run),
    ("menu", menu::run),
    ("replica", replica::run),
    ("session", session::run),
    ("stream", stream::run),
    ("words", words::run),
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

//! One transfer between branches, message by message, told from the events of all branches and drawn.
//!
//! A [`Transfer`] puts the events into one line in which no cause comes after its effect (`order`). From it a [`Diagram`]
//! is made (`diagram`): what was sent is paired with what was received or lost, and the commit point is found; long rows
//! of resends that nobody heard are cut (`fold`). The diagram is drawn as a ladder for a terminal ([`text()`]) or for
//! Mermaid ([`mermaid()`]); [`shiviz()`] writes the events themselves.
//!
//! Everything here is a function of its arguments: whoever asks branches for their events does that elsewhere.
//! Branches keep the last some thousands of their events. What one has forgotten, or lost in a crash, is known only from
//! the other side, and the drawing says so.

mod diagram;
mod fold;
mod ladder;
mod mermaid;
mod order;
mod shiviz;
mod step;
mod words;

#[cfg(test)]
mod tests;

use protocol::TxId;
use protocol::answer::Run;
use protocol::event::Event;
use serde::{Deserialize, Serialize};

pub use diagram::{CLIENT, Diagram};
pub use ladder::{Glyphs, draw as text};
pub use mermaid::draw as mermaid;
pub use order::in_order;
pub use shiviz::write as shiviz;
pub use step::{Mark, Step, StepKind, Way};
pub use words::tell_event;

/// All that is known of a transfer.
///
/// - Its events are in order, each once.
#[derive(Clone, Debug, Serialize)]
pub struct Transfer {
    txid: TxId,
    outcome: Option<String>,
    #[serde(rename = "branches")]
    witnesses: Vec<Witness>,
    events: Vec<Event>,
}

impl Transfer {
    /// A transfer from what its branches remember, in whatever order, doubled or not.
    ///
    /// `outcome` is how it ended by a branch's books, where they were asked; `witnesses` are the branches that were.
    #[must_use]
    pub fn new(txid: TxId, outcome: Option<String>, witnesses: Vec<Witness>, events: Vec<Event>) -> Self {
        Self { txid, outcome, witnesses, events: in_order(events) }
    }

    /// The transfer's id.
    #[must_use]
    pub fn txid(&self) -> &TxId {
        &self.txid
    }

    /// How it ended by a branch's books, where they were asked.
    #[must_use]
    pub fn outcome(&self) -> Option<&str> {
        self.outcome.as_deref()
    }

    /// The branches that were asked.
    #[must_use]
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// What they remember of it, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

/// A branch that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Witness {
    /// Its name.
    pub branch: String,
    /// Its addresses, by which others may call it in their events.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// When it was started, in milliseconds since 1970; without a `run` by our clock, and then it remembers nothing from
    /// before.
    #[serde(default)]
    pub started_unix_ms: Option<u64>,
    /// Its run, as it tells it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// Why it said nothing.
    #[serde(default)]
    pub unreachable: Option<String>,
}

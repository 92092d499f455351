//! Scenarios for a class: a transfer between real branches is driven message by message, broken at the spot that the
//! lesson is about, and explained.
//!
//! A scenario (`scenarios`, one file each) is a list of beats: something is done and told, and where there is
//! something to think about, a question stands until the next step shows the answer. A [`Run`] walks through the
//! beats on a [`Bank`], which is whoever holds connections to the branches: the client, or the bridge.
//!
//! - Nothing that is told of money, states or messages is canned: it is read from the branches and compared with
//!   what the lesson claims. Where the two differ, the lesson says so and ends ([`State::error`]).
//! - However a run ends, it puts everything back: no step mode, no fault, no armed crash point, and its transfers
//!   are settled.
//! - The scenario of the older systems (`old_way`) runs their rules on files of its own, never on a branch.
//!
//! There is no socket and no thread in here. All calls block, for as long as `limits` says at most.

mod failure;
mod limits;
mod old_way;
pub mod order;
mod run;
mod scenarios;
mod scene;
mod table;

use std::borrow::Cow;
use std::sync::mpsc::Receiver;

use protocol::BranchName;
use protocol::event::Event;
use protocol::request::Action;
use protocol::teaching::Lease;
use serde::Serialize;
use serde_json::Value;

pub use failure::Failure;
pub use run::{Run, State};

/// What a scenario is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lesson {
    /// The name under which it is started.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What one learns, in one sentence.
    pub teaches: &'static str,
    /// How many beats it has.
    pub steps: usize,
}

/// Every scenario, in the order in which a course would show them.
#[must_use]
pub fn all() -> Vec<Lesson> {
    let lesson = |scenario: &&scenarios::Scenario| Lesson {
        name: scenario.name,
        title: scenario.title,
        teaches: scenario.teaches,
        steps: scenario.beats.len(),
    };
    scenarios::ALL.iter().map(lesson).collect()
}

/// A branch's answer to a request: its `result`, or why there is none.
pub type Answered = Result<Value, Failure>;

/// The parameters of an action of a lesson, under a lease if it sets something.
#[must_use]
pub fn leased<'p>(action: Action, params: &'p Value, lease: &Lease) -> Cow<'p, Value> {
    if !matches!(action, Action::StepMode | Action::Fault | Action::Crash) {
        return Cow::Borrowed(params);
    }
    let mut params = params.clone();
    params["lease"] = serde_json::json!(lease);
    Cow::Owned(params)
}

/// The action for which the parameters of a transfer are: one receiver, or several.
#[must_use]
pub fn transfer_action(params: &Value) -> Action {
    if params.get("legs").is_some() { Action::SplitTransfer } else { Action::InterBranchTransfer }
}

/// What a lesson needs of a bank.
pub trait Bank: Send {
    /// The branches that run with `--teaching` and answer, in a steady order. The first one pays, the second is paid, and
    /// so is the third in lessons that are about three.
    ///
    /// # Errors
    /// When not even the list of branches can be had.
    fn branches(&self) -> Result<Vec<BranchName>, Failure>;

    /// Sends one request with the branch key proved, and waits a bounded time for its `result`. What it sets at a branch
    /// is to end when this program is killed: it is held by a lease ([`leased`]), which the bank renews.
    ///
    /// # Errors
    /// The branch's refusal, or [`Failure::unreachable`].
    fn call(&self, branch: &BranchName, action: Action, params: &Value, request_id: Option<&str>) -> Answered;

    /// Sends a transfer with these parameters, of the action that [`transfer_action`] says, and returns without waiting. The answer, which may take ten
    /// minutes while messages wait, goes into the channel; a sender that is dropped without one means that the
    /// connection ended.
    fn begin(&self, branch: &BranchName, params: &Value) -> Receiver<Answered>;

    /// Starts a branch again that has crashed, or tells a person how; returns when it answers.
    ///
    /// # Errors
    /// One sentence, when it did not come back.
    fn restart(&self, branch: &BranchName) -> Result<(), String>;

    /// Whether the branch answers a connection made now.
    fn is_up(&self, branch: &BranchName) -> bool;

    /// Takes events of the older systems' scratch bank, to be kept and shown like those of branches.
    fn record(&self, events: Vec<Event>);
}

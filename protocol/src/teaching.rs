//! What a branch started with `--teaching` lets a class do to it: parameters and answers of its actions.
//!
//! - *Step*: every protocol message that comes to the branch waits until it is delivered, dropped, doubled or
//!   delayed; meanwhile the protocol's clock stands still and is moved by request ([`PassTime`]).
//! - *Faults*: the link to another branch is cut or slowed ([`Fault`]); the process kills itself, now or at a named
//!   point of a transfer ([`Crash`]).
//!
//! A branch that was not started so refuses all of these with the code `not_teaching`. This module holds types
//! alone; what they do is the branch's.

use serde::{Deserialize, Serialize};

use crate::{BranchName, TxId};

/// For how long a setting outlives the program that made it: until that program has not renewed it for `seconds`.
///
/// A program that drives a lesson may be killed in its middle; what it has set would hold the branch up for ever. What
/// is set without a lease stays until someone takes it back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Lease {
    /// Random text of the program's; one lease renews everything that it has set.
    pub holder: String,
    /// From now on, and anew with each renewal.
    pub seconds: u64,
}

/// Parameters of [`Action::Stage`](crate::request::Action::Stage).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Look {
    /// The lease that is renewed by this look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// Parameters of [`Action::StepMode`](crate::request::Action::StepMode).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct StepMode {
    /// Whether messages wait from now on. Turning it off delivers all that wait, in the order in which they came.
    pub on: bool,
    /// Until when at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// Parameters of [`Action::Step`](crate::request::Action::Step).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Step {
    /// The [`Waiting::number`] of the message.
    pub number: u64,
    /// What becomes of it.
    pub how: How,
    /// For how long it is delayed, in milliseconds of real time; only with [`How::Delay`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

/// What becomes of a waiting message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The branch receives it.
    Deliver,
    /// The branch never receives it.
    Drop,
    /// The branch receives it, and a copy goes on waiting.
    Duplicate,
    /// The branch receives it after a stated time.
    Delay,
}

/// Parameters of [`Action::PassTime`](crate::request::Action::PassTime).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PassTime {
    /// How far the protocol's clock goes on, in milliseconds: time-outs expire and messages are sent again.
    pub milliseconds: u64,
}

/// Parameters of [`Action::Fault`](crate::request::Action::Fault).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Fault {
    /// The branch at the other end of the link.
    pub peer: BranchName,
    /// What is done to the link.
    pub fault: LinkFault,
    /// How long each message from that branch takes, in milliseconds; only with [`LinkFault::Slow`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Until when at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// What is done to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkFault {
    /// Its connection is broken, and none is made or taken until it is healed.
    Cut,
    /// Messages that come over it are delivered late.
    Slow,
    /// It works as ever.
    Heal,
}

/// Parameters of [`Action::Crash`](crate::request::Action::Crash).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Crash {
    /// `now`, the name of a crash point, or `never`, which disarms the point that is armed. No answer comes to `now`.
    pub at: String,
    /// Until when at most the point is armed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// The answer to every one of the teaching actions: how the stage stands after it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Stage {
    /// Whether messages wait.
    pub step_mode: bool,
    /// The protocol's clock, in milliseconds since the branch was started, without the time that it stood still.
    pub protocol_clock_ms: u64,
    /// The messages that wait here, in the order in which they came.
    pub waiting: Vec<Waiting>,
    /// The links that are cut or slow.
    pub faults: Vec<Fault>,
    /// The crash point that is armed.
    pub crash_at: Option<String>,
    /// Every crash point's name, in the order in which a transfer passes them.
    pub crash_points: Vec<String>,
}

/// A message on its way to the branch that gives this answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Waiting {
    /// Its number at this branch since its start, from 1; a copy has its own.
    pub number: u64,
    /// The sender's id of it, as in its events: `Mumbai:17`.
    pub id: String,
    /// The branch that sent it.
    pub from: String,
    /// The branch to which it comes.
    pub to: String,
    /// Its name, such as `prepare`.
    pub message: String,
    /// All of it, for a person.
    pub text: String,
    /// The transfer that it belongs to.
    pub txid: TxId,
    /// When it is delivered by itself, in milliseconds since 1970: a delayed one, or one over a slow link.
    pub due_unix_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: serde::de::DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(json: &str) {
        let read: T = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
    }

    #[test]
    fn the_json_is_the_documented_one() {
        check::<StepMode>(r#"{"on":true}"#);
        check::<Step>(r#"{"number":3,"how":"deliver"}"#);
        check::<Step>(r#"{"number":3,"how":"delay","delay_ms":500}"#);
        check::<PassTime>(r#"{"milliseconds":1000}"#);
        check::<Fault>(r#"{"peer":"Delhi","fault":"cut"}"#);
        check::<Look>("{}");
        check::<StepMode>(r#"{"on":true,"lease":{"holder":"bridge-1","seconds":20}}"#);
        check::<Fault>(r#"{"peer":"Delhi","fault":"slow","delay_ms":700}"#);
        check::<Crash>(r#"{"at":"after-vote"}"#);
        check::<Stage>(
            r#"{"step_mode":true,"protocol_clock_ms":1200,"waiting":[{"number":1,"id":"Mumbai:17","from":"Mumbai","to":"Delhi","message":"prepare","text":"prepare 50.00","txid":"T","due_unix_ms":null}],"faults":[{"peer":"Pune","fault":"cut"}],"crash_at":null,"crash_points":["after-vote"]}"#,
        );
    }
}

//! Events of a branch: what it sent, received, recorded, decided and moved, each with a vector clock.
//!
//! A branch numbers its events from 1 and keeps the last of them; `watch` streams them, one [`Event`] as the
//! result of each answer. The clocks order events of different branches without trusting anybody's time of day.
//! This module owns the JSON form and the comparison of two clocks; it keeps no events and ticks no clock.
//!
//! Source of the order: C. J. Fidge, "Timestamps in Message-Passing Systems That Preserve the Partial Ordering"
//! (1988), and F. Mattern, "Virtual Time and Global States of Distributed Systems" (1989).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AccountNum, BranchName, Money, TxId};

/// How many events of each branch an event knows of, itself included.
pub type VectorClock = BTreeMap<BranchName, u64>;

/// Something that happened at a branch.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Event {
    /// Its number at its branch, from 1.
    pub number: u64,
    /// When, by the branch's own clock, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Where.
    pub branch: BranchName,
    /// The transfer that it belongs to, if to one.
    pub txid: Option<TxId>,
    /// What it knows of; its own branch's entry rises by one from event to event.
    pub clock: VectorClock,
    /// What happened.
    pub kind: EventKind,
}

impl Event {
    /// Whether this event can have caused `other`: it is known there, and is another event.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        let own = |event: &Self| event.clock.get(&event.branch).copied().unwrap_or(event.number);
        if self.branch == other.branch {
            return own(self) < own(other);
        }
        other.clock.get(&self.branch).is_some_and(|known| own(self) <= *known)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A message left for another branch.
    Sent {
        /// Where to: a branch's name, or `host:port` while the name is not known.
        to: String,
        /// Its name, such as `prepare`.
        message: String,
        /// All of it, for a person.
        text: String,
        /// The sending branch and the number of its event of sending, as `Mumbai:17`.
        id: String,
    },
    /// A message came from another branch.
    Received {
        /// Where from, as in `Sent`.
        from: String,
        /// Its name.
        message: String,
        /// All of it, for a person.
        text: String,
        /// The id that it was sent with.
        id: String,
    },
    /// A message on its way here was thrown away, for a lesson.
    Lost {
        /// Where from, as in `Sent`.
        from: String,
        /// Its name.
        message: String,
        /// All of it, for a person.
        text: String,
        /// The id that it was sent with.
        id: String,
    },
    /// A client asked for the transfer.
    Asked {
        /// What for, for a person.
        text: String,
    },
    /// A client was told how the transfer stands.
    Answered {
        /// What, for a person.
        text: String,
    },
    /// A record was made durable, or written to become so with the next that is.
    Recorded {
        /// Its name, such as `prepared`.
        record: String,
        /// Whether nothing that depends on it may be sent before it is on disk.
        forced: bool,
    },
    /// A party of the transfer changed its state.
    State {
        /// `coordinator` or `participant`.
        role: String,
        /// The state that it left.
        from: String,
        /// The state that it is in.
        to: String,
    },
    /// Money moved, or was set aside.
    Moved {
        /// Whose.
        account: AccountNum,
        /// How much.
        amount: Money,
        /// In which way.
        what: Movement,
    },
    /// Anything else that is worth telling.
    Note {
        /// One sentence.
        text: String,
    },
}

/// In which way money moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Movement {
    /// Held for a prepared withdrawal: still in the account, and not to be spent.
    Held,
    /// Taken out of the account.
    Debited,
    /// Put into the account.
    Credited,
    /// Held or reserved before, and free again.
    Released,
    /// Room for it was reserved, for a prepared deposit.
    Reserved,
}

impl Movement {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Debited => "debited",
            Self::Credited => "credited",
            Self::Released => "released",
            Self::Reserved => "reserved",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(branch: &str, number: u64, clock: &[(&str, u64)]) -> Event {
        let clock = clock.iter().map(|(name, count)| (name.parse().unwrap(), *count)).collect();
        let kind = EventKind::Note { text: String::new() };
        Event { number, at_unix_ms: 0, branch: branch.parse().unwrap(), txid: None, clock, kind }
    }

    #[test]
    fn the_json_is_the_documented_one() {
        for json in [
            r#"{"sent":{"to":"Delhi","message":"prepare","text":"prepare 50.00","id":"Mumbai:17"}}"#,
            r#"{"received":{"from":"Mumbai","message":"prepare","text":"prepare 50.00","id":"Mumbai:17"}}"#,
            r#"{"lost":{"from":"Mumbai","message":"prepare","text":"prepare 50.00","id":"Mumbai:17"}}"#,
            r#"{"asked":{"text":"50.00 from 1001 to Delhi/1002"}}"#,
            r#"{"answered":{"text":"transfer complete"}}"#,
            r#"{"recorded":{"record":"prepared","forced":true}}"#,
            r#"{"state":{"role":"participant","from":"active","to":"prepared"}}"#,
            r#"{"moved":{"account":"1001","amount":50.00,"what":"held"}}"#,
            r#"{"note":{"text":"back again"}}"#,
        ] {
            let text = format!(
                r#"{{"number":17,"at_unix_ms":5,"branch":"Mumbai","txid":"T","clock":{{"Delhi":4,"Mumbai":17}},"kind":{json}}}"#
            );
            let event: Event = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&event).unwrap(), text);
        }
        let without =
            r#"{"number":1,"at_unix_ms":0,"branch":"Pune","txid":null,"clock":{"Pune":1},"kind":{"note":{"text":""}}}"#;
        assert_eq!(serde_json::from_str::<Event>(without).unwrap().txid, None);
    }

    #[test]
    fn movements_are_named_as_on_the_wire() {
        for what in [Movement::Held, Movement::Debited, Movement::Credited, Movement::Released, Movement::Reserved] {
            assert_eq!(serde_json::to_string(&what).unwrap(), format!("{:?}", what.name()));
        }
    }

    #[test]
    fn clocks_tell_what_can_have_caused_what() {
        let sent = event("Mumbai", 3, &[("Mumbai", 3)]);
        let received = event("Delhi", 1, &[("Mumbai", 3), ("Delhi", 1)]);
        let later = event("Mumbai", 4, &[("Mumbai", 4)]);
        assert!(sent.is_before(&received) && sent.is_before(&later));
        assert!(!received.is_before(&sent) && !later.is_before(&sent) && !sent.is_before(&sent));
        assert!(!later.is_before(&received) && !received.is_before(&later), "at the same time");
    }
}

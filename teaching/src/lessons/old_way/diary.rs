//! What happens at the scratch bank, as events in the form of a real branch's: numbered, with vector clocks.
//!
//! Numbers begin at the wall clock's milliseconds, so that those of a later run are above those of an earlier one.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::event::{Event, EventKind, Movement, VectorClock};
use protocol::{AccountNum, BranchName, Money, TxId};

/// The events of all branches of the scratch bank.
pub struct Diary {
    first_number: u64,
    clocks: BTreeMap<BranchName, VectorClock>,
    events: Vec<Event>,
}

impl Diary {
    /// An empty one.
    pub fn new(first_number: u64) -> Self {
        Self { first_number, clocks: BTreeMap::new(), events: Vec::new() }
    }

    /// The number after which those of its events come.
    pub fn first_number(&self) -> u64 {
        self.first_number
    }

    /// A message that is sent and received.
    pub fn message(&mut self, from: &str, to: &str, txid: &TxId, message: &str, text: &str) {
        let (message, text) = (message.to_string(), text.to_string());
        let number = self.next_number(from);
        let id = format!("{from}:{number}");
        let sent = EventKind::Sent { to: to.into(), message: message.clone(), text: text.clone(), id: id.clone() };
        let senders = self.add(from, txid, sent, &VectorClock::new());
        let received = EventKind::Received { from: from.into(), message, text, id };
        self.add(to, txid, received, &senders);
    }

    /// A client asks.
    pub fn asked(&mut self, branch: &str, txid: &TxId, text: &str) {
        self.add(branch, txid, EventKind::Asked { text: text.into() }, &VectorClock::new());
    }

    /// A client is told.
    pub fn answered(&mut self, branch: &str, txid: &TxId, text: &str) {
        self.add(branch, txid, EventKind::Answered { text: text.into() }, &VectorClock::new());
    }

    /// A file was written. The older systems forced nothing.
    pub fn recorded(&mut self, branch: &str, txid: &TxId, record: &str) {
        self.add(branch, txid, EventKind::Recorded { record: record.into(), forced: false }, &VectorClock::new());
    }

    /// Money moved.
    pub fn moved(&mut self, branch: &str, txid: &TxId, account: &str, amount: Money, what: Movement) {
        let Ok(account) = account.parse::<AccountNum>() else { return };
        self.add(branch, txid, EventKind::Moved { account, amount, what }, &VectorClock::new());
    }

    /// Anything else.
    pub fn note(&mut self, branch: &str, txid: &TxId, text: &str) {
        self.add(branch, txid, EventKind::Note { text: text.into() }, &VectorClock::new());
    }

    /// What was added since the last time.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn next_number(&self, branch: &str) -> u64 {
        let last = self.clocks.iter().find(|(name, _)| name.as_str() == branch);
        last.and_then(|(name, clock)| clock.get(name)).copied().unwrap_or(self.first_number) + 1
    }

    fn add(&mut self, branch: &str, txid: &TxId, kind: EventKind, senders: &VectorClock) -> VectorClock {
        let number = self.next_number(branch);
        // The names are constants of this crate.
        let Ok(branch) = branch.parse::<BranchName>() else { return VectorClock::new() };
        let clock = self.clocks.entry(branch.clone()).or_default();
        for (name, known) in senders {
            let entry = clock.entry(name.clone()).or_default();
            *entry = (*entry).max(*known);
        }
        clock.insert(branch.clone(), number);
        let clock = clock.clone();
        let at_unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        // Each a millisecond after the one before at least, so that the time of day tells their order too.
        let after_last = self.events.last().map_or(0, |event| event.at_unix_ms + 1);
        let at_unix_ms = u64::try_from(at_unix_ms).unwrap_or(u64::MAX).max(after_last);
        self.events.push(Event { number, at_unix_ms, branch, txid: Some(txid.clone()), clock: clock.clone(), kind });
        clock
    }
}

//! What this branch has done lately: numbered events with vector clocks, kept in memory and streamed.
//! [`event_file`](super::event_file) keeps them over a restart.
//!
//! An event costs a short critical section and no text: it keeps what happened as data and becomes JSON only
//! for those who watch. The last [`EVENTS_KEPT`] stay in memory, fewer where they are long ([`EVENTS_BYTES`]); a watcher
//! that falls further behind misses some and sees that from the numbers. Numbers go on across restarts, because a vector
//! clock that ran backwards would put effects before their causes: a block of numbers is reserved on disk ahead of its
//! use.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use protocol::answer::Delivery;
use protocol::event::{Event, EventKind, Movement, VectorClock};
use protocol::{AccountNum, BranchName, Money, TxId};
use two_phase_commit::{Leg, Message, PartyState, PeerAddr, Record, Role, Transition, Vote};

use super::event_file::Remembered;
use super::terms::{Place, Receiver};
use crate::clock::unix_ms_now;
use crate::dbs_exec::{DbsExec, Query as _, params};
use crate::error;
use crate::limits::{EVENT_NUMBERS_RESERVED, EVENTS_BYTES, EVENTS_KEPT};

/// What is told of a transfer whose last events may be missing.
const BROKEN_OFF: &str =
    "its record of events broke off here, as it was killed: what it did in the last moments before may be missing";

/// What one branch's count in a clock takes, with its name.
const CLOCK_ENTRY_BYTES: usize = 64;

/// The branch's events.
pub struct Events {
    branch: BranchName,
    /// The number before the first of this run.
    before: u64,
    log: Mutex<Log>,
    grown: Condvar,
}

/// Invariants: `clock[branch]` is the last event's number, and `kept` ends with that event; `bytes` is the sum of the
/// sizes of what is kept.
struct Log {
    clock: VectorClock,
    kept: VecDeque<Arc<Kept>>,
    bytes: usize,
}

/// An event as it is kept: data, no text.
struct Kept {
    number: u64,
    at_unix_ms: i64,
    txid: TxId,
    clock: VectorClock,
    happened: Happened,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Happened {
    /// A message leaves for a peer.
    Sent {
        /// Where to.
        to: PeerAddr,
        /// What.
        message: Message,
    },
    /// A message has come.
    Received {
        /// Where from.
        from: PeerAddr,
        /// What.
        message: Message,
        /// The id that the sender gave it.
        id: String,
    },
    /// A message on its way here was thrown away, for a lesson.
    Lost {
        /// Where from.
        from: PeerAddr,
        /// What.
        message: Message,
        /// The id that the sender gave it.
        id: String,
    },
    /// A client asks for this transfer.
    Asked {
        /// Who pays.
        payer: AccountNum,
        /// Who is paid.
        receivers: Vec<Receiver>,
    },
    /// The client is told of the delivery, or of this error.
    Answered(Result<Delivery, String>),
    /// A record is durable.
    Recorded {
        /// Its name.
        record: &'static str,
        /// Whether it had to be, before anything was sent.
        forced: bool,
    },
    /// A transaction moved at one of the machines.
    State(Transition),
    /// Money was set aside or moved.
    Moved {
        /// Whose.
        account: AccountNum,
        /// How much.
        amount: Money,
        /// How.
        what: Movement,
    },
    /// Something else, in words.
    Note(String),
    /// What was told of an event before this start.
    Before(EventKind),
}

impl Log {
    fn push(&mut self, new: Kept) {
        self.bytes += new.bytes();
        // By bytes as well: a customer chooses how many receivers an event names. The newest is always kept.
        while (self.kept.len() >= EVENTS_KEPT || self.bytes > EVENTS_BYTES)
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
        self.kept.push_back(Arc::new(new));
    }
}

impl Kept {
    /// What it takes in memory, nearly: what is long about an event is its receivers, its legs or its text.
    fn bytes(&self) -> usize {
        let message_bytes = |message: &Message| match message {
            // The legs are shared with the transfer as long as that is under way; counted as if they were not.
            Message::Prepare(transfer) => transfer.legs.len() * size_of::<Leg>() + transfer.note.len(),
            Message::Vote { vote: Vote::No(refusal), .. } | Message::Rejected { refusal, .. } => refusal.text.len(),
            Message::Vote { vote: Vote::Yes, .. }
            | Message::Decision { .. }
            | Message::Acknowledged { .. }
            | Message::Inquiry { .. }
            | Message::Undecided { .. } => 0,
        };
        let happened_bytes = match &self.happened {
            Happened::Sent { message, .. } => message_bytes(message),
            Happened::Received { message, id, .. } | Happened::Lost { message, id, .. } => {
                message_bytes(message) + id.len()
            }
            Happened::Asked { receivers, .. } => receivers.len() * size_of::<Receiver>(),
            Happened::Answered(Err(text)) | Happened::Note(text) => text.len(),
            Happened::Before(kind) => told_bytes(kind),
            Happened::Answered(Ok(_)) | Happened::Recorded { .. } | Happened::State(_) | Happened::Moved { .. } => 0,
        };
        size_of::<Self>() + self.clock.len() * CLOCK_ENTRY_BYTES + happened_bytes
    }
}

/// What the texts of an event take in memory.
fn told_bytes(kind: &EventKind) -> usize {
    match kind {
        EventKind::Sent { to: other, message, text, id }
        | EventKind::Received { from: other, message, text, id }
        | EventKind::Lost { from: other, message, text, id } => other.len() + message.len() + text.len() + id.len(),
        EventKind::Asked { text } | EventKind::Answered { text } | EventKind::Note { text } => text.len(),
        EventKind::Recorded { record, .. } => record.len(),
        EventKind::State { role, from, to } => role.len() + from.len() + to.len(),
        EventKind::Moved { .. } => 0,
    }
}

/// The machine's name in an event.
const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Coordinator => "coordinator",
        Role::Participant => "participant",
    }
}

fn state_name(state: PartyState) -> String {
    state.to_string().to_lowercase()
}

impl Events {
    /// An empty log whose first event gets the number after `last_number`.
    #[must_use]
    pub fn new(branch: BranchName, last_number: u64) -> Self {
        let clock = VectorClock::from([(branch.clone(), last_number)]);
        let log = Log { clock, kept: VecDeque::new(), bytes: 0 };
        Self { branch, before: last_number, log: Mutex::new(log), grown: Condvar::new() }
    }

    /// A log that begins with what was kept over a restart. Of what broke off when the process was killed that is told,
    /// with the last numbers before `last_number`: no event of the life before has come so far.
    #[must_use]
    pub fn restored(branch: BranchName, last_number: u64, remembered: Remembered) -> Self {
        let events = Self::new(branch, last_number);
        let mut log = events.log.lock();
        let last = remembered.events.back().map(|event| (event.number, event.at_unix_ms, event.clock.clone()));
        for event in remembered.events {
            // Those of the branch itself are about a transfer, all of them.
            let Some(txid) = event.txid else { continue };
            let at_unix_ms = i64::try_from(event.at_unix_ms).unwrap_or(0);
            let happened = Happened::Before(event.kind);
            log.push(Kept { number: event.number, at_unix_ms, txid, clock: event.clock, happened });
        }
        if let Some((number, at_unix_ms, clock)) = last {
            let told = remembered.broken_off.len() as u64;
            // A number that is given twice would be worse than an end that is not told.
            let is_room = number + told <= last_number;
            let numbers = last_number.saturating_sub(told) + 1..;
            for (number, txid) in numbers.zip(remembered.broken_off).filter(|_| is_room) {
                let mut clock = clock.clone();
                clock.insert(events.branch.clone(), number);
                let at_unix_ms = i64::try_from(at_unix_ms).unwrap_or(0);
                log.push(Kept { number, at_unix_ms, txid, clock, happened: Happened::Note(BROKEN_OFF.into()) });
            }
            // What this branch knew of the others it still knows; of itself it knows that the whole block is used up.
            log.clock = clock;
            log.clock.insert(events.branch.clone(), last_number);
        }
        drop(log);
        events
    }

    /// The number before the first event of this run of the branch.
    #[must_use]
    pub fn before_this_run(&self) -> u64 {
        self.before
    }

    /// When the oldest event happened that is known, in Unix milliseconds.
    #[must_use]
    pub fn oldest_unix_ms(&self) -> Option<i64> {
        self.log.lock().kept.front().map(|kept| kept.at_unix_ms)
    }

    /// Adds an event. Returns its number and clock, which go with a message that is sent.
    pub fn add(&self, txid: &TxId, happened: Happened) -> (u64, VectorClock) {
        self.add_after(txid, happened, None)
    }

    /// Adds the event of receiving a message: everything that its sender knew comes before it.
    pub fn add_received(&self, txid: &TxId, happened: Happened, senders: &VectorClock) {
        self.add_after(txid, happened, Some(senders));
    }

    fn add_after(&self, txid: &TxId, happened: Happened, senders: Option<&VectorClock>) -> (u64, VectorClock) {
        // The clock is asked outside: every transfer of the branch comes through this lock.
        let at_unix_ms = unix_ms_now();
        let mut log = self.log.lock();
        for (name, count) in senders.into_iter().flatten() {
            // A sender may name any branch; the number of them is bounded by the frame it came in.
            let known = log.clock.entry(name.clone()).or_default();
            // What it says of this branch's own count can only be old, or of a copy that was put back since.
            if *name != self.branch {
                *known = (*known).max(*count);
            }
        }
        // Under the one lock: numbers are given in the order in which the events are kept.
        let number = log.clock.get(&self.branch).copied().unwrap_or(0) + 1;
        log.clock.insert(self.branch.clone(), number);
        let clock = log.clock.clone();
        log.push(Kept { number, at_unix_ms, txid: txid.clone(), clock: clock.clone(), happened });
        drop(log);
        self.grown.notify_all();
        (number, clock)
    }

    /// The number of the last event.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.log.lock().clock.get(&self.branch).copied().unwrap_or(0)
    }

    /// Events with numbers above `after`, up to `limit` of them, of one transaction if `txid` names one.
    #[must_use]
    pub fn since(&self, after: u64, txid: Option<&TxId>, limit: usize) -> Vec<Event> {
        // The texts are made outside of the lock, so that a watcher of a thousand events delays no transfer.
        let kept: Vec<Arc<Kept>> = {
            let log = self.log.lock();
            let first = log.kept.partition_point(|kept| kept.number <= after);
            let later = log.kept.range(first..);
            later.filter(|kept| txid.is_none_or(|txid| kept.txid == *txid)).take(limit).cloned().collect()
        };
        kept.iter().map(|kept| self.tell(kept)).collect()
    }

    /// Waits until there is an event after `after`, at most `wait`.
    pub fn wait_for(&self, after: u64, wait: Duration) {
        let deadline = Instant::now() + wait;
        let mut log = self.log.lock();
        while log.clock.get(&self.branch).copied().unwrap_or(0) <= after {
            if self.grown.wait_until(&mut log, deadline).timed_out() {
                return;
            }
        }
    }

    /// The id of the message that the event with this number sends.
    #[must_use]
    pub fn message_id(&self, number: u64) -> String {
        format!("{}:{number}", self.branch)
    }

    fn tell(&self, kept: &Kept) -> Event {
        let kind = match kept.happened.clone() {
            Happened::Sent { to, message } => EventKind::Sent {
                to: to.to_string(),
                message: message_name(&message).to_string(),
                text: message.to_string(),
                id: self.message_id(kept.number),
            },
            Happened::Received { from, message, id } => EventKind::Received {
                from: from.to_string(),
                message: message_name(&message).to_string(),
                text: message.to_string(),
                id,
            },
            Happened::Lost { from, message, id } => EventKind::Lost {
                from: from.to_string(),
                message: message_name(&message).to_string(),
                text: message.to_string(),
                id,
            },
            Happened::Asked { payer, receivers } => EventKind::Asked { text: asked_text(payer, &receivers) },
            Happened::Answered(answer) => EventKind::Answered { text: answered_text(answer) },
            Happened::Recorded { record, forced } => EventKind::Recorded { record: record.to_string(), forced },
            Happened::State(Transition { from, to }) => {
                EventKind::State { role: role_name(to.role()).to_string(), from: state_name(from), to: state_name(to) }
            }
            Happened::Moved { account, amount, what } => EventKind::Moved { account, amount, what },
            Happened::Note(text) => EventKind::Note { text },
            Happened::Before(kind) => kind,
        };
        Event {
            number: kept.number,
            at_unix_ms: u64::try_from(kept.at_unix_ms).unwrap_or(0),
            branch: self.branch.clone(),
            txid: Some(kept.txid.clone()),
            clock: kept.clock.clone(),
            kind,
        }
    }
}

/// `50.00 from 1001 to Delhi/1002, 10.00 from 1001 to 1003`.
fn asked_text(payer: AccountNum, receivers: &[Receiver]) -> String {
    let part = |receiver: &Receiver| match &receiver.place {
        Place::Here => format!("{} from {payer} to {}", receiver.amount, receiver.account),
        Place::There(branch) => format!("{} from {payer} to {branch}/{}", receiver.amount, receiver.account),
    };
    receivers.iter().map(part).collect::<Vec<_>>().join(", ")
}

fn answered_text(answer: Result<Delivery, String>) -> String {
    match answer {
        Ok(delivery) => format!("transfer_complete, delivery {}", delivery.as_str()),
        Err(error) => error,
    }
}

/// Whether this database has given numbers to events before.
///
/// # Errors
/// A database error.
pub fn has_numbered(dbs: &DbsExec) -> error::Result<bool> {
    let reserved = dbs
        .read(|reader| reader.query_opt("SELECT events_reserved FROM branch", params![], |row| row.get::<_, i64>(0)))?;
    Ok(reserved.is_some_and(|reserved| reserved > 0))
}

/// The end of the block of numbers that an event's number is in.
#[must_use]
pub fn end_of_block(number: u64) -> u64 {
    number.div_ceil(EVENT_NUMBERS_RESERVED) * EVENT_NUMBERS_RESERVED
}

/// Reserves the next block of event numbers on disk. Returns the number before its first.
///
/// # Errors
/// A database error.
pub fn reserve_numbers(dbs: &DbsExec, at_least: Option<u64>) -> error::Result<u64> {
    dbs.execute(move |tx| {
        let stored: Option<i64> = tx.query_opt("SELECT events_reserved FROM branch", params![], |row| row.get(0))?;
        // Also above what the file of events has seen: the database may have been put back to an older state.
        let from = u64::try_from(stored.unwrap_or(0)).unwrap_or(0).max(at_least.unwrap_or(0));
        let reserved = i64::try_from(from + EVENT_NUMBERS_RESERVED).unwrap_or(i64::MAX);
        tx.execute("UPDATE branch SET events_reserved = ?1", params![reserved])?;
        Ok(from)
    })
}

/// A message's name in a diagram.
#[must_use]
pub fn message_name(message: &Message) -> &'static str {
    match message {
        Message::Prepare(_) => "prepare",
        Message::Vote { vote: Vote::Yes, .. } => "vote yes",
        Message::Vote { vote: Vote::No(_), .. } => "vote no",
        Message::Decision { outcome: two_phase_commit::Outcome::Committed, .. } => "commit",
        Message::Decision { outcome: two_phase_commit::Outcome::Aborted, .. } => "abort",
        Message::Acknowledged { .. } => "acknowledged",
        Message::Inquiry { .. } => "inquiry",
        Message::Undecided { .. } => "undecided",
        Message::Rejected { .. } => "rejected",
    }
}

/// A record's name in a diagram.
#[must_use]
pub fn record_name(record: &Record) -> &'static str {
    match record {
        Record::Begun(_) => "begun",
        Record::Committed { .. } => "committed",
        Record::Aborted { .. } => "aborted",
        Record::Ended { .. } => "ended",
        Record::Prepared(_) => "prepared",
        Record::Settled { outcome: two_phase_commit::Outcome::Committed, .. } => "settled committed",
        Record::Settled { outcome: two_phase_commit::Outcome::Aborted, .. } => "settled aborted",
        Record::Contradicted { .. } => "contradicted",
        Record::Resolved { outcome: two_phase_commit::Outcome::Committed, .. } => "resolved committed",
        Record::Resolved { outcome: two_phase_commit::Outcome::Aborted, .. } => "resolved aborted",
        Record::Confirmed { .. } => "confirmed",
        Record::Mixed { .. } => "mixed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Happened {
        Happened::Note("x".into())
    }

    #[test]
    fn numbers_go_on_and_clocks_take_over_what_senders_knew() {
        let events = Events::new("Mumbai".parse().unwrap(), 41);
        let txid: TxId = "T".parse().unwrap();
        assert_eq!(events.add(&txid, note()).0, 42);
        let delhi: BranchName = "Delhi".parse().unwrap();
        let senders = VectorClock::from([(delhi.clone(), 7), ("Mumbai".parse().unwrap(), 9_999)]);
        events.add_received(&txid, note(), &senders);
        let (number, clock) = events.add(&txid, note());
        assert_eq!((number, clock[&delhi]), (44, 7), "nobody else moves the own count");
        assert_eq!(events.since(42, None, 10).len(), 2);
        assert!(events.since(0, Some(&"other".parse().unwrap()), 10).is_empty());
    }

    #[test]
    fn only_the_last_events_are_kept() {
        let events = Events::new("Mumbai".parse().unwrap(), 0);
        let txid: TxId = "T".parse().unwrap();
        for _ in 0..EVENTS_KEPT + 5 {
            events.add(&txid, note());
        }
        let kept = events.since(0, None, usize::MAX);
        assert_eq!((kept.len(), kept[0].number), (EVENTS_KEPT, 6));
    }

    #[test]
    fn long_events_are_bounded_by_their_bytes() {
        let events = Events::new("Mumbai".parse().unwrap(), 0);
        let txid: TxId = "T".parse().unwrap();
        let receiver = Receiver {
            place: Place::Here,
            account: AccountNum::new(1002).unwrap(),
            amount: Money::from_paise(1).unwrap(),
        };
        let asked = Happened::Asked { payer: AccountNum::new(1001).unwrap(), receivers: vec![receiver; 1_000] };
        let most = EVENTS_BYTES / (1_000 * size_of::<Receiver>());
        assert!(most < EVENTS_KEPT / 2);
        for _ in 0..most * 2 {
            events.add(&txid, asked.clone());
        }
        let kept = events.log.lock().kept.len();
        assert!(kept <= most && kept > most / 2, "{kept} of {most}");
        events.add(&txid, Happened::Note("x".repeat(EVENTS_BYTES + 1)));
        let kept = events.since(0, None, usize::MAX);
        assert_eq!((kept.len(), kept[0].number), (1, most as u64 * 2 + 1), "the newest is always there");
        events.add(&txid, note());
        assert_eq!(events.since(0, None, usize::MAX).len(), 1);
        let log = events.log.lock();
        assert_eq!(log.bytes, log.kept[0].bytes());
    }
}

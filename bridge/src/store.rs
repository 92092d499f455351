//! What has happened lately, for those who watch and those who come later: the branches' events in a ring, the same
//! by transfer, and the newest word on everything that only its newest word matters of.
//!
//! There is no queue per browser. Each reads from here, from the number it has read up to; one that stalls costs
//! nothing, and one that falls out of the ring is told how much it missed. Numbers rise without end, also from one
//! start of the bridge to the next, because they begin at the time of the start.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use protocol::TxId;
use protocol::event::Event;
use tokio::sync::watch;

use crate::limits::EVENTS_KEPT;

/// The store.
pub struct Store {
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
}

struct Inner {
    next: u64,
    ring: VecDeque<(u64, Arc<Happened>)>,
    by_transfer: HashMap<TxId, Transfer>,
    latest: BTreeMap<Topic, (u64, Arc<str>)>,
}

/// An event and its JSON as it came.
#[derive(Debug)]
pub struct Happened {
    /// The event.
    pub event: Event,
    /// Its JSON.
    pub json: Arc<str>,
}

/// The events of a transfer, in the order in which they came.
#[derive(Debug, Default)]
struct Transfer {
    /// When its first event happened, by its branch's clock, and the number under which it came.
    first: (u64, u64),
    events: VecDeque<Arc<Happened>>,
    /// How many of its first events are gone.
    gone: u64,
}

/// Things of which only the newest word matters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The bank's figures, for those who may see them.
    Bank,
    /// Which branches there are and whether they are up.
    BankReduced,
    /// What waits at a branch, by its name.
    Stage(String),
    /// The scenario that is shown.
    Scenario,
}

/// One message to a watcher.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its number.
    pub id: u64,
    /// Its type.
    pub kind: &'static str,
    /// Its JSON.
    pub json: Arc<str>,
}

/// What a watcher gets.
#[derive(Debug, Default)]
pub struct Batch {
    /// The messages, by rising numbers.
    pub messages: Vec<Message>,
    /// How many events were gone before this watcher came to them.
    pub missed: u64,
    /// Whether there is more at once.
    pub is_more: bool,
}

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// An administrator, or anyone at an open bridge.
    All,
    /// A customer: which branches there are.
    Reduced,
}

impl Topic {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Bank | Self::BankReduced => "bank",
            Self::Stage(_) => "stage",
            Self::Scenario => "scenario",
        }
    }

    fn is_for(&self, audience: Audience) -> bool {
        match (self, audience) {
            (Self::BankReduced, Audience::Reduced) => true,
            (Self::Bank | Self::Stage(_) | Self::Scenario, Audience::Reduced) => false,
            (Self::BankReduced, Audience::All) => false,
            (Self::Bank | Self::Stage(_) | Self::Scenario, Audience::All) => true,
        }
    }
}

impl Store {
    /// An empty store, whose numbers begin at the time of day.
    #[must_use]
    pub fn new() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A thousand messages a millisecond are more than there ever are, and a browser's numbers are exact so far.
        Self::starting_at(u64::try_from(since_1970.as_millis()).unwrap_or(0).saturating_mul(1_000))
    }

    fn starting_at(first: u64) -> Self {
        let inner =
            Inner { next: first + 1, ring: VecDeque::new(), by_transfer: HashMap::new(), latest: BTreeMap::new() };
        Self { inner: Mutex::new(inner), newest: watch::Sender::new(first) }
    }

    /// Takes events in the order in which they came, in one go.
    pub fn happened(&self, events: Vec<Happened>) {
        let mut inner = self.inner.lock();
        for event in events {
            inner.add(Arc::new(event));
        }
        let newest = inner.next - 1;
        drop(inner);
        self.newest.send_replace(newest);
    }

    /// Takes the newest word on a topic. One that is the same as before is no news.
    pub fn say(&self, topic: Topic, json: &str) {
        self.put(topic, json, false);
    }

    /// Takes the newest word on a topic, the same or not.
    pub fn say_again(&self, topic: Topic, json: &str) {
        self.put(topic, json, true);
    }

    fn put(&self, topic: Topic, json: &str, even_if_same: bool) {
        let mut inner = self.inner.lock();
        if !even_if_same && inner.latest.get(&topic).is_some_and(|(_, before)| **before == *json) {
            return;
        }
        let id = inner.next;
        inner.next += 1;
        inner.latest.insert(topic, (id, json.into()));
        drop(inner);
        self.newest.send_replace(id);
    }

    /// The newest word on a topic.
    #[must_use]
    pub fn latest(&self, topic: &Topic) -> Option<Arc<str>> {
        self.inner.lock().latest.get(topic).map(|(_, json)| Arc::clone(json))
    }

    /// The newest word on every topic.
    #[must_use]
    pub fn topics(&self, audience: Audience) -> Vec<Message> {
        let inner = self.inner.lock();
        let fit = inner.latest.iter().filter(|(topic, _)| topic.is_for(audience));
        fit.map(|(topic, (id, json))| Message { id: *id, kind: topic.kind(), json: Arc::clone(json) }).collect()
    }

    /// Wakes at each new number.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The number of the newest message.
    #[must_use]
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// What there is with numbers above `after`, at most `limit` messages of it.
    #[must_use]
    pub fn since(&self, after: u64, audience: Audience, limit: usize) -> Batch {
        let inner = self.inner.lock();
        let mut batch = Batch::default();
        let mut last = u64::MAX;
        if audience == Audience::All {
            let start = inner.ring.partition_point(|(id, _)| *id <= after);
            if start == 0 && inner.ring.len() == EVENTS_KEPT && after != 0 {
                // What was between is gone; topics have numbers too, so this is what it can be at most.
                batch.missed = inner.ring.front().map_or(0, |(id, _)| id.saturating_sub(after + 1));
            }
            let found = inner.ring.range(start..).take(limit);
            batch.messages.extend(found.map(|(id, happened)| Message {
                id: *id,
                kind: "happened",
                json: Arc::clone(&happened.json),
            }));
            batch.is_more = inner.ring.len() - start > batch.messages.len();
            if batch.is_more {
                last = batch.messages.last().map_or(after, |message| message.id);
            }
        }
        for (topic, (id, json)) in &inner.latest {
            if *id > after && *id <= last && topic.is_for(audience) {
                batch.messages.push(Message { id: *id, kind: topic.kind(), json: Arc::clone(json) });
            }
        }
        drop(inner);
        batch.messages.sort_by_key(|message| message.id);
        batch
    }

    /// How many events there are above a number.
    #[must_use]
    pub fn behind(&self, after: u64) -> usize {
        let inner = self.inner.lock();
        inner.ring.len() - inner.ring.partition_point(|(id, _)| *id <= after)
    }

    /// The newest transfers: each one's events in the order in which they came, and the newest first.
    #[must_use]
    pub fn transfers(&self, limit: usize) -> Vec<(TxId, Vec<Arc<Happened>>)> {
        let inner = self.inner.lock();
        let mut order: Vec<_> = inner.by_transfer.iter().map(|(txid, transfer)| (transfer.first, txid)).collect();
        order.sort_unstable_by(|one, other| other.cmp(one));
        order.truncate(limit);
        let events = |txid: &TxId| inner.by_transfer[txid].events.iter().cloned().collect();
        order.into_iter().map(|(_, txid)| (txid.clone(), events(txid))).collect()
    }

    /// The events of one transfer, and how many of its first ones are gone.
    #[must_use]
    pub fn transfer(&self, txid: &TxId) -> Option<(Vec<Arc<Happened>>, u64)> {
        let inner = self.inner.lock();
        let transfer = inner.by_transfer.get(txid)?;
        Some((transfer.events.iter().cloned().collect(), transfer.gone))
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn add(&mut self, happened: Arc<Happened>) {
        let id = self.next;
        self.next += 1;
        if let Some(txid) = &happened.event.txid {
            let transfer = self.by_transfer.entry(txid.clone()).or_default();
            // After a start each branch tells of all that it remembers, one after the other.
            let came = (happened.event.at_unix_ms, id);
            transfer.first = if transfer.events.is_empty() { came } else { transfer.first.min(came) };
            transfer.events.push_back(Arc::clone(&happened));
        }
        self.ring.push_back((id, happened));
        if self.ring.len() > EVENTS_KEPT
            && let Some((_, oldest)) = self.ring.pop_front()
            && let Some(txid) = &oldest.event.txid
            && let Some(transfer) = self.by_transfer.get_mut(txid)
        {
            transfer.events.pop_front();
            transfer.gone += 1;
            if transfer.events.is_empty() {
                self.by_transfer.remove(txid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::event::EventKind;

    use super::*;

    fn event(number: u64, txid: &str) -> Happened {
        let event = Event {
            number,
            at_unix_ms: number,
            branch: "Mumbai".parse().unwrap(),
            txid: Some(txid.parse().unwrap()),
            clock: [("Mumbai".parse().unwrap(), number)].into(),
            kind: EventKind::Note { text: String::new() },
        };
        Happened { json: serde_json::to_string(&event).unwrap().into(), event }
    }

    fn ids(batch: &Batch) -> Vec<u64> {
        batch.messages.iter().map(|message| message.id).collect()
    }

    #[test]
    fn a_watcher_goes_on_where_it_was() {
        let store = Store::starting_at(100);
        store.happened(vec![event(1, "A"), event(2, "A")]);
        store.say(Topic::Bank, "{}");
        store.say(Topic::Bank, "{}");
        store.happened(vec![event(3, "B")]);
        assert_eq!(ids(&store.since(0, Audience::All, 10)), [101, 102, 103, 104]);
        assert_eq!(ids(&store.since(102, Audience::All, 10)), [103, 104]);
        assert_eq!(store.newest(), 104);
        let first = store.since(0, Audience::All, 1);
        assert!(first.is_more);
        assert_eq!(ids(&first), [101], "the bank's figures wait for their turn");
        assert_eq!(store.behind(101), 2);
    }

    #[test]
    fn a_customer_gets_no_events() {
        let store = Store::starting_at(0);
        store.happened(vec![event(1, "A")]);
        store.say(Topic::Bank, "secret");
        store.say(Topic::Stage("Delhi".into()), "secret");
        store.say(Topic::BankReduced, "{}");
        let batch = store.since(0, Audience::Reduced, 10);
        assert_eq!(batch.messages.len(), 1);
        assert_eq!((&*batch.messages[0].json, batch.messages[0].kind), ("{}", "bank"));
    }

    #[test]
    fn the_ring_is_bounded_and_a_late_watcher_is_told() {
        let store = Store::starting_at(0);
        for number in 0..EVENTS_KEPT as u64 + 5 {
            store.happened(vec![event(number, if number < 10 { "old" } else { "new" })]);
        }
        let batch = store.since(2, Audience::All, 10);
        assert_eq!((batch.missed, batch.messages[0].id), (3, 6));
        assert_eq!(store.since(5, Audience::All, 10).missed, 0);
        assert_eq!(store.transfer(&"old".parse().unwrap()).map(|(events, gone)| (events.len(), gone)), Some((5, 5)));
        store.happened((0..5).map(|number| event(number, "new")).collect());
        assert!(store.transfer(&"old".parse().unwrap()).is_none());
        let transfers = store.transfers(9);
        assert_eq!(transfers.len(), 1);
        assert_eq!(transfers[0].1.len(), EVENTS_KEPT);
    }

    #[test]
    fn transfers_that_are_told_again_are_listed_by_when_they_happened() {
        let store = Store::starting_at(0);
        store.happened(vec![event(1, "A"), event(5, "C"), event(3, "B"), event(2, "C")]);
        let names: Vec<_> = store.transfers(9).iter().map(|(txid, _)| txid.to_string()).collect();
        assert_eq!(names, ["B", "C", "A"]);
    }

    #[test]
    fn transfers_are_listed_newest_first() {
        let store = Store::starting_at(0);
        store.happened(vec![event(1, "A"), event(2, "B"), event(3, "A"), event(4, "C")]);
        let names = |limit| store.transfers(limit).iter().map(|(txid, _)| txid.to_string()).collect::<Vec<_>>();
        assert_eq!(names(9), ["C", "B", "A"]);
        assert_eq!(names(2), ["C", "B"]);
        assert_eq!(store.transfer(&"A".parse().unwrap()).map(|(events, gone)| (events.len(), gone)), Some((2, 0)));
    }
}

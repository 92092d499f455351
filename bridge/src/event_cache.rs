//! What streams of events are sent, written once for all that stand at the same place.
//!
//! Two hundred browsers that follow what happens are all at the same number. The first that comes to it writes the
//! messages down; the others get the same bytes. What is kept is a few portions of the newest moments, so it is
//! bounded, and a portion is only ever a beginning of what there is after its number: whoever gets an older one goes
//! on from where it ends.

use std::collections::VecDeque;
use std::fmt::Write as _;

use axum::body::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limits::{PORTION_TIME, PORTIONS, STREAM_MESSAGES};
use crate::store::{Audience, Message, Store};

/// The portions that were made lately.
#[derive(Default)]
pub struct EventCache {
    cached: Mutex<VecDeque<Cached>>,
}

struct Cached {
    after: u64,
    audience: Audience,
    written: Instant,
    portion: Portion,
}

/// Messages as text, ready to be sent.
#[derive(Clone, Debug)]
pub struct Portion {
    /// The text; empty when there is nothing new.
    pub text: Bytes,
    /// The number with which it ends.
    pub last: u64,
    /// Whether it ends with the newest of the messages, when it was written.
    pub is_whole: bool,
    /// The newest number at that time.
    newest: u64,
}

impl EventCache {
    /// What there is with numbers above `after`, at most [`STREAM_MESSAGES`] of it.
    #[must_use]
    pub fn portion(&self, store: &Store, after: u64, audience: Audience) -> Portion {
        let mut cached = self.cached.lock();
        cached.retain(|one| one.written.elapsed() < PORTION_TIME);
        if let Some(same) = cached.iter().find(|one| one.after == after && one.audience == audience) {
            let mut portion = same.portion.clone();
            portion.is_whole &= portion.newest == store.newest();
            return portion;
        }
        let portion = write(store, after, audience);
        // Nothing is as quickly written as found, and would hide what comes next.
        if !portion.text.is_empty() {
            cached.truncate(PORTIONS - 1);
            cached.push_front(Cached { after, audience, written: Instant::now(), portion: portion.clone() });
        }
        portion
    }
}

fn write(store: &Store, after: u64, audience: Audience) -> Portion {
    let newest = store.newest();
    let batch = store.since(after, audience, STREAM_MESSAGES);
    let mut text = String::new();
    if batch.missed > 0 {
        push_missed(&mut text, batch.missed);
    }
    for message in &batch.messages {
        push(&mut text, message);
    }
    let last = batch.messages.last().map_or(after, |message| message.id);
    Portion { text: text.into(), last, is_whole: !batch.is_more, newest }
}

/// Adds a message.
pub fn push(text: &mut String, message: &Message) {
    // Writing into a string can't fail. JSON has no line breaks, so it is one line of data.
    let _ = write!(text, "id: {}\nevent: {}\ndata: {}\n\n", message.id, message.kind, message.json);
}

/// Adds that so many events were gone.
pub fn push_missed(text: &mut String, count: u64) {
    let _ = write!(text, "event: missed\ndata: {{\"count\":{count}}}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Topic;

    #[test]
    fn streams_at_the_same_place_share_their_bytes() {
        let (store, cache) = (Store::new(), EventCache::default());
        let after = store.newest();
        assert!(cache.portion(&store, after, Audience::All).text.is_empty());
        store.say(Topic::Bank, "{\"is\":1}");
        store.say(Topic::BankReduced, "{\"is\":2}");
        let one = cache.portion(&store, after, Audience::All);
        let other = cache.portion(&store, after, Audience::All);
        assert_eq!(one.text, format!("id: {}\nevent: bank\ndata: {{\"is\":1}}\n\n", after + 1).as_bytes());
        assert_eq!(one.text.as_ptr(), other.text.as_ptr());
        assert!(one.is_whole && other.is_whole);
        let customer = cache.portion(&store, after, Audience::Reduced);
        assert!(customer.text.ends_with(b"data: {\"is\":2}\n\n"), "{customer:?}");
    }

    #[test]
    fn an_older_portion_says_that_there_is_more() {
        let (store, cache) = (Store::new(), EventCache::default());
        let after = store.newest();
        store.say(Topic::Bank, "1");
        let first = cache.portion(&store, after, Audience::All);
        store.say(Topic::Scenario, "2");
        let found = cache.portion(&store, after, Audience::All);
        // Unless so much time has passed between the two that the portion was written anew, and is whole.
        assert_eq!(found.last == first.last, !found.is_whole);
        let rest = cache.portion(&store, first.last, Audience::All);
        assert!(rest.text.ends_with(b"data: 2\n\n") && rest.is_whole, "{rest:?}");
    }

    #[test]
    fn few_portions_are_kept() {
        let (store, cache) = (Store::new(), EventCache::default());
        let after = store.newest();
        store.say(Topic::Bank, "1");
        for back in 0..2 * PORTIONS as u64 {
            assert!(!cache.portion(&store, after - back, Audience::All).text.is_empty());
        }
        assert!(cache.cached.lock().len() <= PORTIONS);
    }
}

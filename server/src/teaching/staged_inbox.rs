//! The staged inbox: messages that have come to the branch and are not received yet.
//!
//! It owns their order and their numbers, which are given once and never again. It refuses more than
//! [`STAGED_MESSAGES`]. It knows nothing of links or machines: who takes a message from here delivers it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use protocol::teaching::Waiting;

use crate::clock::unix_ms_now;
use crate::limits::{STAGED_MESSAGES, STAGED_TEXT_BYTES};

/// The messages that wait. Invariant: a message has the number under which it is kept, and numbers rise in the order of coming.
#[derive(Debug)]
pub struct StagedInbox<M> {
    waiting: BTreeMap<u64, Staged<M>>,
    next_number: u64,
}

#[derive(Debug)]
struct Staged<M> {
    label: Waiting,
    message: M,
    due: Option<Due>,
}

/// When a message is delivered by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    at: Instant,
    at_unix_ms: u64,
}

impl Due {
    /// That long from now.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        let now_unix_ms = u64::try_from(unix_ms_now()).unwrap_or(0);
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Self { at: Instant::now() + delay, at_unix_ms: now_unix_ms.saturating_add(delay_ms) }
    }

    /// The same, or the other if that is later.
    #[must_use]
    pub fn not_before(self, other: Option<Self>) -> Self {
        other.filter(|other| other.at > self.at).unwrap_or(self)
    }
}

impl<M> StagedInbox<M> {
    /// Nothing waits, and the first message gets number 1.
    #[must_use]
    pub fn new() -> Self {
        Self { waiting: BTreeMap::new(), next_number: 1 }
    }

    /// Makes a message wait, without end or until it is due. Returns its number.
    ///
    /// # Errors
    /// The message, when too many wait.
    pub fn put(&mut self, mut label: Waiting, message: M, due: Option<Due>) -> Result<u64, M> {
        if self.waiting.len() >= STAGED_MESSAGES {
            return Err(message);
        }
        shorten(&mut label.text);
        Ok(self.keep(label, message, due))
    }

    /// Takes the message of this number.
    pub fn take(&mut self, number: u64) -> Option<M> {
        self.waiting.remove(&number).map(|staged| staged.message)
    }

    /// Returns the message of this number, and keeps a copy under a new one.
    pub fn duplicate(&mut self, number: u64) -> Option<M>
    where
        M: Clone,
    {
        let Staged { label, message, .. } = self.waiting.remove(&number)?;
        self.keep(label, message.clone(), None);
        Some(message)
    }

    /// Sets when a message is delivered by itself. `false` when there is none of this number.
    pub fn delay(&mut self, number: u64, due: Due) -> bool {
        let Some(staged) = self.waiting.get_mut(&number) else { return false };
        staged.set_due(Some(due));
        true
    }

    /// From now on nothing here is delivered by itself.
    pub fn wait_without_end(&mut self) {
        self.waiting.values_mut().for_each(|staged| staged.set_due(None));
    }

    /// Takes what is due by `now`, in the order of its time.
    pub fn take_due(&mut self, now: Instant) -> Vec<M> {
        self.take_where(|staged| staged.due.is_some_and(|due| due.at <= now))
    }

    /// Takes what a branch has sent and would be delivered by itself, in the order of its time.
    pub fn take_due_of(&mut self, from: &str) -> Vec<M> {
        self.take_where(|staged| staged.due.is_some() && staged.label.from == from)
    }

    /// Takes everything, in the order in which it came.
    pub fn take_all(&mut self) -> Vec<M> {
        std::mem::take(&mut self.waiting).into_values().map(|staged| staged.message).collect()
    }

    /// When the last message of a branch is due, so that a later one of it is not due earlier.
    #[must_use]
    pub fn last_due_of(&self, from: &str) -> Option<Due> {
        let of_peer = self.waiting.values().filter(|staged| staged.label.from == from);
        of_peer.filter_map(|staged| staged.due).max_by_key(|due| due.at)
    }

    /// What waits, in the order in which it came.
    #[must_use]
    pub fn list(&self) -> Vec<Waiting> {
        self.waiting.values().map(|staged| staged.label.clone()).collect()
    }

    fn keep(&mut self, mut label: Waiting, message: M, due: Option<Due>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        label.number = number;
        let mut staged = Staged { label, message, due: None };
        staged.set_due(due);
        self.waiting.insert(number, staged);
        number
    }

    fn take_where(&mut self, mut wanted: impl FnMut(&Staged<M>) -> bool) -> Vec<M> {
        let mut taken: Vec<_> = self.waiting.extract_if(.., |_, staged| wanted(staged)).collect();
        taken.sort_by_key(|(number, staged)| (staged.due.map(|due| due.at), *number));
        taken.into_iter().map(|(_, staged)| staged.message).collect()
    }
}

impl<M> Default for StagedInbox<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Staged<M> {
    fn set_due(&mut self, due: Option<Due>) {
        self.due = due;
        self.label.due_unix_ms = due.map(|due| due.at_unix_ms);
    }
}

/// A transfer to a hundred receivers has a long text; the answer that lists the stage has a longest one.
fn shorten(text: &mut String) {
    if text.len() > STAGED_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(STAGED_TEXT_BYTES));
        text.push('…');
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::teaching) fn label(from: &str) -> Waiting {
        Waiting {
            number: 0,
            id: format!("{from}:1"),
            from: from.into(),
            to: "Mumbai".into(),
            message: "prepare".into(),
            text: "prepare".into(),
            txid: "T".parse().unwrap(),
            due_unix_ms: None,
        }
    }

    fn inbox(messages: &[&'static str]) -> StagedInbox<&'static str> {
        let mut inbox = StagedInbox::new();
        for message in messages {
            inbox.put(label("Delhi"), *message, None).unwrap();
        }
        inbox
    }

    #[test]
    fn a_copy_has_its_own_number_and_the_same_id() {
        let mut inbox = inbox(&["one", "two"]);
        assert_eq!(inbox.duplicate(1), Some("one"));
        assert_eq!(inbox.take(1), None, "its number is gone");
        let list = inbox.list();
        assert_eq!(list.iter().map(|waiting| waiting.number).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(list[1].id, "Delhi:1");
        assert_eq!((inbox.take(3), inbox.take(2), inbox.take(2)), (Some("one"), Some("two"), None));
    }

    #[test]
    fn what_is_due_comes_by_time_and_the_rest_waits() {
        let mut inbox = inbox(&["one", "two", "three"]);
        let now = Instant::now();
        assert!(
            inbox.delay(1, Due::after(Duration::from_secs(2))) && inbox.delay(3, Due::after(Duration::from_secs(1)))
        );
        assert!(!inbox.delay(9, Due::after(Duration::ZERO)));
        assert!(inbox.take_due(now).is_empty() && inbox.list()[0].due_unix_ms.is_some());
        assert_eq!(inbox.take_due(now + Duration::from_secs(60)), ["three", "one"]);
        assert_eq!(inbox.take_all(), ["two"]);
    }

    #[test]
    fn a_later_message_of_a_branch_is_not_due_earlier() {
        let mut inbox = StagedInbox::new();
        let late = Due::after(Duration::from_secs(60));
        inbox.put(label("Delhi"), "one", Some(late)).unwrap();
        let second = Due::after(Duration::from_secs(1)).not_before(inbox.last_due_of("Delhi"));
        assert_eq!((second, inbox.last_due_of("Pune")), (late, None));
        inbox.wait_without_end();
        assert_eq!((inbox.last_due_of("Delhi"), inbox.list()[0].due_unix_ms), (None, None));
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let mut inbox = StagedInbox::new();
        let text = "₹".repeat(STAGED_TEXT_BYTES);
        inbox.put(Waiting { text, ..label("Delhi") }, "one", None).unwrap();
        let shown = inbox.list().remove(0).text;
        assert!(shown.len() <= STAGED_TEXT_BYTES + '…'.len_utf8() && shown.ends_with("₹…"), "{}", shown.len());
    }
}

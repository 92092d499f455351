//! The sender against an outbox in memory and a channel that the test answers by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::*;

/// What a test waits for at most.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits of a millisecond or two, so that a test of many retries is quick.
const QUICK: Pace = Pace {
    backoff_base_ms: 1,
    backoff_max_ms: 4,
    rest_max_ms: 4,
    failing_max_ms: limits::FAILING_MAX_MS,
    stop_grace_ms: limits::STOP_GRACE_MS,
};

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Waiting { due_unix_ms: i64 },
    Delivered,
    GivenUp { why: String },
}

struct Row {
    message: OutboxMessage,
    state: State,
    /// Each back-off asked for, in milliseconds from the time it was recorded.
    waits_ms: Vec<i64>,
}

#[derive(Default)]
struct Table {
    rows: BTreeMap<i64, Row>,
    delivered_failures_left: u32,
    reads_failures_left: u32,
    /// Reads of the outbox that found nothing more to do.
    idle_reads: u32,
}

#[derive(Clone, Default)]
struct MemoryOutbox(Arc<(Mutex<Table>, Condvar)>);

impl MemoryOutbox {
    fn add(&self, id: i64) {
        self.add_failing_since(id, None);
    }

    /// Its date is of long ago, or of long after: the sender does not look at it.
    fn add_failing_since(&self, id: i64, failing_since_unix_ms: Option<i64>) {
        let (phone, body) = ("9876543210".into(), format!("message {id}"));
        let created_unix_ms = if id % 2 == 0 { 0 } else { i64::MAX };
        let message = OutboxMessage { id, phone, body, created_unix_ms, attempts: 0, failing_since_unix_ms };
        let state = State::Waiting { due_unix_ms: self.now_unix_ms() };
        self.change(|table| table.rows.insert(id, Row { message, state, waits_ms: Vec::new() }));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let result = change(&mut self.0.0.lock());
        self.0.1.notify_all();
        result
    }

    fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Table) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let mut table = self.0.0.lock();
        while !is_so(&table) {
            assert!(!self.0.1.wait_until(&mut table, deadline).timed_out(), "waited in vain: {what}");
        }
    }

    fn wait_delivered(&self, id: i64) {
        self.wait_until("delivered", |table| table.rows[&id].state == State::Delivered);
    }
}

impl Outbox for MemoryOutbox {
    fn now_unix_ms(&self) -> i64 {
        crate::clock::unix_ms_now()
    }

    fn due(&mut self, limit: usize) -> Result<Vec<OutboxMessage>, OutboxError> {
        let now_unix_ms = self.now_unix_ms();
        self.change(|table| {
            if table.reads_failures_left > 0 {
                table.reads_failures_left -= 1;
                return Err(OutboxError::new("disk I/O error"));
            }
            let is_due = |row: &&Row| matches!(row.state, State::Waiting { due_unix_ms } if due_unix_ms <= now_unix_ms);
            Ok(table.rows.values().filter(is_due).take(limit).map(|row| row.message.clone()).collect())
        })
    }

    fn delivered(&mut self, id: i64) -> Result<(), OutboxError> {
        self.change(|table| {
            if table.delivered_failures_left > 0 {
                table.delivered_failures_left -= 1;
                return Err(OutboxError::new("disk full"));
            }
            table.rows.get_mut(&id).unwrap().state = State::Delivered;
            Ok(())
        })
    }

    fn retry_at(&mut self, id: i64, attempts: u32, at_unix_ms: i64, _why: &str) -> Result<(), OutboxError> {
        let now_unix_ms = self.now_unix_ms();
        self.change(|table| {
            let row = table.rows.get_mut(&id).unwrap();
            row.message.attempts = attempts;
            row.message.failing_since_unix_ms.get_or_insert(now_unix_ms);
            row.waits_ms.push(at_unix_ms - now_unix_ms);
            row.state = State::Waiting { due_unix_ms: at_unix_ms };
        });
        Ok(())
    }

    fn given_up(&mut self, id: i64, why: &str) -> Result<(), OutboxError> {
        self.change(|table| table.rows.get_mut(&id).unwrap().state = State::GivenUp { why: why.into() });
        Ok(())
    }

    fn next_due_unix_ms(&mut self) -> Result<Option<i64>, OutboxError> {
        self.change(|table| {
            let due_times = table.rows.values().filter_map(|row| match row.state {
                State::Waiting { due_unix_ms } => Some(due_unix_ms),
                State::Delivered | State::GivenUp { .. } => None,
            });
            let next = due_times.min();
            table.idle_reads += u32::from(next.is_none());
            Ok(next)
        })
    }
}

/// A channel that passes each message to the test and returns the test's answer.
struct HandChannel {
    asked: Sender<i64>,
    answers: Receiver<Result<(), SendError>>,
}

impl Channel for HandChannel {
    fn send(&mut self, message: &OutboxMessage) -> Result<(), SendError> {
        // A test that has seen enough drops its hand; what still comes is refused.
        self.asked.send(message.id).or_else(|_| transient(None))?;
        self.answers.recv().unwrap_or_else(|_| transient(None))
    }
}

struct Hand {
    asked: Receiver<i64>,
    answers: Sender<Result<(), SendError>>,
}

impl Hand {
    /// Waits for the next message, answers, and returns its id.
    fn answer(&self, answer: Result<(), SendError>) -> i64 {
        let id = self.asked.recv_timeout(DEADLINE).expect("a message comes");
        self.answers.send(answer).unwrap();
        id
    }
}

fn hand() -> (HandChannel, Hand) {
    let (asked, asks) = bounded(100);
    let (answers, answered) = bounded(100);
    (HandChannel { asked, answers: answered }, Hand { asked: asks, answers })
}

fn transient(retry_after_ms: Option<u64>) -> Result<(), SendError> {
    Err(SendError::Transient { why: "busy".into(), retry_after_ms })
}

fn permanent() -> Result<(), SendError> {
    Err(SendError::Permanent { why: "no such number".into() })
}

#[test]
fn messages_that_wait_at_the_start_go_out_in_order() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    let messages = limits::POLL_MESSAGES_MAX as i64 * 2 + 3;
    (1..=messages).for_each(|id| outbox.add(id));
    let sender = SmsSender::start(outbox.clone(), channel, QUICK).unwrap();
    for id in 1..=messages {
        assert_eq!(hand.answer(Ok(())), id);
    }
    outbox.wait_delivered(messages);
    sender.stop();
}

#[test]
fn a_wake_up_sends_a_new_message_at_once() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    let sender = SmsSender::start(outbox.clone(), channel, QUICK).unwrap();
    let started = Instant::now();
    for id in 1..=20 {
        outbox.wait_until("the sender found nothing to do", |table| table.idle_reads >= id as u32);
        outbox.add(id);
        sender.notifier().notify();
        assert_eq!(hand.answer(Ok(())), id);
    }
    assert!(started.elapsed() < Duration::from_millis(limits::SLEEP_MAX_MS / 2), "the sender slept");
    sender.stop();
}

#[test]
fn a_notifier_never_blocks_even_when_nobody_listens() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    outbox.add(1);
    let sender = SmsSender::start(outbox.clone(), channel, QUICK).unwrap();
    let notifier = sender.notifier();
    assert_eq!(hand.asked.recv_timeout(DEADLINE), Ok(1));
    (0..1000).for_each(|_| notifier.notify());
    hand.answers.send(Ok(())).unwrap();
    outbox.wait_delivered(1);
    sender.stop();
    notifier.notify();
}

#[test]
fn a_transient_error_is_tried_again_until_it_goes_through() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    outbox.add(1);
    let sender = SmsSender::start(outbox.clone(), channel, QUICK).unwrap();
    for _ in 0..20 {
        assert_eq!(hand.answer(transient(None)), 1);
    }
    assert_eq!(hand.answer(Ok(())), 1);
    outbox.wait_delivered(1);
    sender.stop();
    assert_eq!(outbox.change(|table| table.rows[&1].message.attempts), 20);
}

#[test]
fn backoff_doubles_up_to_its_cap_within_its_jitter() {
    let pace = Pace::default();
    let mut full_ms = limits::BACKOFF_BASE_MS;
    for failures in 1..=100 {
        assert_eq!(pace.backoff_ms(failures, 0), full_ms / 2, "failures {failures}");
        assert_eq!(pace.backoff_ms(failures, full_ms - full_ms / 2), full_ms, "failures {failures}");
        for random in [1, 12_345, u64::MAX / 3, u64::MAX] {
            let wait_ms = pace.backoff_ms(failures, random);
            assert!((full_ms / 2..=full_ms).contains(&wait_ms), "failures {failures}, random {random}: {wait_ms}");
        }
        full_ms = (full_ms * 2).min(limits::BACKOFF_MAX_MS);
    }
    assert_eq!(pace.backoff_ms(u32::MAX, 0), limits::BACKOFF_MAX_MS / 2);
}

#[test]
fn the_waits_of_a_message_grow_with_its_attempts() {
    let pace = Pace { backoff_base_ms: 8, backoff_max_ms: 1 << 20, rest_max_ms: 1, ..QUICK };
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    outbox.add(1);
    let sender = SmsSender::start(outbox.clone(), channel, pace).unwrap();
    for failures in 1..=6 {
        assert_eq!(hand.answer(transient(None)), 1);
        outbox.wait_until("the retry is recorded", |table| table.rows[&1].waits_ms.len() == failures);
    }
    let waits_ms = outbox.change(|table| table.rows[&1].waits_ms.clone());
    // The sixth wait is at least 128 ms, more than the first's 8 ms by far, even recorded late.
    assert!(waits_ms[0] <= 8 && waits_ms[5] > 64, "waits {waits_ms:?}");
    drop(hand);
    drop(sender);
}

#[test]
fn a_wait_that_was_asked_for_is_kept_within_bounds() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    outbox.add(1);
    outbox.add(2);
    let sender = SmsSender::start(outbox.clone(), channel, QUICK).unwrap();
    assert_eq!(hand.answer(transient(Some(120_000))), 1);
    assert_eq!(hand.answer(transient(Some(u64::MAX))), 2);
    outbox.wait_until("both retries are recorded", |table| table.rows.values().all(|row| row.waits_ms.len() == 1));
    sender.stop();
    let wait_ms = |id| outbox.change(|table| table.rows[&id].waits_ms[0]);
    assert!((60_000..=120_000).contains(&wait_ms(1)), "waits {}", wait_ms(1));
    let max_ms = limits::RETRY_AFTER_MAX_MS as i64;
    assert!((max_ms - 60_000..=max_ms).contains(&wait_ms(2)), "waits {}", wait_ms(2));
}

#[test]
fn a_permanent_error_is_given_up_and_the_next_message_goes_out() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    outbox.add(1);
    outbox.add(2);
    let sender = SmsSender::start(outbox.clone(), channel, Pace::default()).unwrap();
    assert_eq!(hand.answer(permanent()), 1);
    assert_eq!(hand.answer(Ok(())), 2);
    outbox.wait_delivered(2);
    sender.stop();
    let state = outbox.change(|table| table.rows[&1].state.clone());
    assert_eq!(state, State::GivenUp { why: "no such number".into() });
}

#[test]
fn a_message_that_always_fails_does_not_hold_up_the_others() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    (1..=5).for_each(|id| outbox.add(id));
    let sender = SmsSender::start(outbox.clone(), channel, QUICK).unwrap();
    let is_done = |table: &Table| (2..=5).all(|id| table.rows[&id].state == State::Delivered);
    while !outbox.change(|table| is_done(table)) {
        let Ok(id) = hand.asked.recv_timeout(DEADLINE) else { panic!("no message comes") };
        hand.answers.send(if id == 1 { transient(None) } else { Ok(()) }).unwrap();
        outbox.wait_until("recorded", |table| {
            if id == 1 { table.rows[&1].message.attempts > 0 } else { table.rows[&id].state == State::Delivered }
        });
    }
    drop(hand);
    drop(sender);
}

#[test]
fn a_message_that_has_failed_for_long_enough_is_given_up() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    outbox.add_failing_since(1, Some(outbox.now_unix_ms() - limits::FAILING_MAX_MS));
    outbox.add_failing_since(2, Some(outbox.now_unix_ms() - limits::FAILING_MAX_MS));
    let sender = SmsSender::start(outbox.clone(), channel, QUICK).unwrap();
    assert_eq!(hand.answer(transient(None)), 1);
    assert_eq!(hand.answer(Ok(())), 2);
    outbox.wait_delivered(2);
    sender.stop();
    let state = outbox.change(|table| table.rows[&1].state.clone());
    assert_eq!(state, State::GivenUp { why: "too old to try again: busy".into() });
}

#[test]
fn a_delivery_that_was_not_recorded_is_recorded_before_anything_else_is_sent() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    outbox.add(1);
    outbox.add(2);
    outbox.change(|table| table.delivered_failures_left = 3);
    let sender = SmsSender::start(outbox.clone(), channel, QUICK).unwrap();
    assert_eq!(hand.answer(Ok(())), 1);
    assert_eq!(hand.answer(Ok(())), 2, "the first is not sent twice");
    assert_eq!(outbox.change(|table| table.rows[&1].state.clone()), State::Delivered);
    outbox.wait_delivered(2);
    sender.stop();
}

#[test]
fn a_delivery_that_was_never_recorded_is_sent_again_by_the_next_sender() {
    let outbox = MemoryOutbox::default();
    outbox.add(1);
    outbox.change(|table| table.delivered_failures_left = u32::MAX);
    let (channel, first_hand) = hand();
    let sender = SmsSender::start(outbox.clone(), channel, QUICK).unwrap();
    assert_eq!(first_hand.answer(Ok(())), 1);
    outbox.wait_until("the record failed", |table| table.delivered_failures_left < u32::MAX);
    sender.stop();
    outbox.change(|table| table.delivered_failures_left = 0);
    let (channel, second_hand) = hand();
    let sender = SmsSender::start(outbox.clone(), channel, QUICK).unwrap();
    assert_eq!(second_hand.answer(Ok(())), 1);
    outbox.wait_delivered(1);
    sender.stop();
}

#[test]
fn an_outbox_that_cannot_be_read_is_asked_again() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    outbox.add(1);
    outbox.change(|table| table.reads_failures_left = 10);
    let sender = SmsSender::start(outbox.clone(), channel, QUICK).unwrap();
    assert_eq!(hand.answer(Ok(())), 1);
    outbox.wait_delivered(1);
    sender.stop();
}

#[test]
fn an_idle_sender_stops_at_once() {
    let (channel, _hand) = hand();
    let outbox = MemoryOutbox::default();
    let sender = SmsSender::start(outbox.clone(), channel, Pace::default()).unwrap();
    outbox.wait_until("the sender sleeps", |table| table.idle_reads > 0);
    let started = Instant::now();
    sender.stop();
    assert!(started.elapsed() < Duration::from_secs(1), "took {:?}", started.elapsed());
    assert_eq!(Arc::strong_count(&outbox.0), 1, "the sender still holds the outbox");
}

#[test]
fn a_stop_records_a_delivery_that_ends_in_time() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    outbox.add(1);
    outbox.add(2);
    let pace = Pace { stop_grace_ms: DEADLINE.as_millis() as u64, ..QUICK };
    let sender = SmsSender::start(outbox.clone(), channel, pace).unwrap();
    assert_eq!(hand.asked.recv_timeout(DEADLINE), Ok(1));
    let stopping = thread::spawn(move || sender.stop());
    hand.answers.send(Ok(())).unwrap();
    // The second may have been handed over before the stop was seen.
    hand.answers.send(Ok(())).unwrap();
    stopping.join().unwrap();
    assert_eq!(outbox.change(|table| table.rows[&1].state.clone()), State::Delivered);
}

#[test]
fn a_channel_that_hangs_does_not_hold_up_a_stop_and_its_message_stays() {
    let (channel, hand) = hand();
    let outbox = MemoryOutbox::default();
    outbox.add(1);
    let sender = SmsSender::start(outbox.clone(), channel, Pace { stop_grace_ms: 20, ..QUICK }).unwrap();
    assert_eq!(hand.asked.recv_timeout(DEADLINE), Ok(1));
    let started = Instant::now();
    sender.stop();
    assert!(started.elapsed() < Duration::from_secs(1), "took {:?}", started.elapsed());
    assert_eq!(Arc::strong_count(&outbox.0), 1, "the sender still holds the outbox");
    assert!(matches!(outbox.change(|table| table.rows[&1].state.clone()), State::Waiting { .. }));
    hand.answers.send(Ok(())).unwrap();
}

#[test]
fn a_channel_that_panics_ends_the_sender_and_leaves_the_messages() {
    struct Panicking;
    impl Channel for Panicking {
        fn send(&mut self, _message: &OutboxMessage) -> Result<(), SendError> {
            panic!("a channel's mistake, made on purpose by a test");
        }
    }
    let outbox = MemoryOutbox::default();
    outbox.add(1);
    let sender = SmsSender::start(outbox.clone(), Panicking, QUICK).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while Arc::strong_count(&outbox.0) > 1 {
        assert!(Instant::now() < deadline, "the sender goes on");
        thread::yield_now();
    }
    sender.stop();
    assert!(matches!(outbox.change(|table| table.rows[&1].state.clone()), State::Waiting { .. }));
}

//! The end of the replication log in memory: what replicas are sent, and how far they have made it durable.
//!
//! The writer publishes each group here after its commit. The threads that send it to replicas wait here for the next
//! one and usually find it in the *tail*, so that sending costs no read from the disk. They report what their replica
//! has made durable; with `--sync-replicas N` a group counts as *confirmed* once N replicas have it, and whoever has
//! an answer to send waits here for that.
//!
//! Invariants: the tail's rows are consecutive and end with the last published one; `confirmed` never goes back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::dbs_exec::commit_log::Confirmed;
use crate::dbs_exec::commit_log::group_log::{LogRow, Position};
use crate::limits::{LOG_TAIL_BYTES, SYNC_STEP_GROUPS};

/// What senders and those who wait for replicas share.
#[derive(Default)]
pub struct Feed {
    /// Replicas that must have a group before it is answered; 0 for none.
    needed: AtomicUsize,
    /// As many will be needed from the end of the start on.
    announced: AtomicUsize,
    state: Mutex<State>,
    grown: Condvar,
    confirmed: Condvar,
    /// What is done instead of sleeping, where no other thread would end the sleep.
    wait_hook: OnceLock<WaitHook>,
}

/// What is done where somebody would sleep.
pub type WaitHook = Box<dyn Fn(WaitEvent) + Send + Sync>;

/// A wait for replicas where nobody sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEvent {
    /// It begins: replicas are to take what is in the feed, as far as they can be reached.
    Begins,
    /// It was in vain, and would have lasted until the stop.
    InVain,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Position>,
    tail: VecDeque<Arc<LogRow>>,
    tail_bytes: usize,
    /// Connected replicas by their address.
    replicas: BTreeMap<String, Replica>,
    confirmed: i64,
    /// What was on disk before the waiting began: nothing is said before it is confirmed.
    start: i64,
    waiting: usize,
    stop_at: Option<Instant>,
    /// Nothing is sent to replicas any more.
    is_over: bool,
}

impl State {
    fn in_sync(&self) -> usize {
        self.replicas.values().filter(|replica| replica.is_in_sync).count()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Replica {
    connection: u64,
    acknowledged: i64,
    /// Whether it has once come close to the end of the log, so that waiting for it is short.
    is_in_sync: bool,
}

impl Feed {
    /// A feed whose last group is `last`.
    pub fn new(last: Option<Position>) -> Self {
        Self { state: Mutex::new(State { last, ..State::default() }), ..Self::default() }
    }

    /// From now on nobody sleeps here until replicas have something: `wait_hook` is called instead. For a
    /// simulation, where the replicas are in the same thread.
    pub fn set_wait_hook(&self, wait_hook: WaitHook) {
        // A second one would be the simulation's mistake, and the first one stays.
        let _ = self.wait_hook.set(wait_hook);
    }

    /// The last group.
    pub fn last(&self) -> Option<Position> {
        self.state.lock().last
    }

    /// Adds a committed group.
    pub fn publish(&self, row: Arc<LogRow>) {
        let mut state = self.state.lock();
        state.last = Some(row.position);
        state.tail_bytes += row.body.len();
        state.tail.push_back(row);
        // Replicas that keep up never need more than this; one that doesn't reads from the table. The newest row stays
        // however long it is, for it is what everybody asks for next.
        while state.tail_bytes > LOG_TAIL_BYTES && state.tail.len() > 1 {
            let oldest = state.tail.pop_front().map_or(0, |row| row.body.len());
            state.tail_bytes -= oldest;
        }
        drop(state);
        self.grown.notify_all();
    }

    /// Waits until there is a group after `sequence`, at most so long, or until nothing is sent any more.
    pub fn wait_for_more(&self, sequence: i64, wait: Duration) {
        let deadline = Instant::now() + wait;
        let mut state = self.state.lock();
        while state.last.is_none_or(|last| last.sequence <= sequence) && !state.is_over {
            if self.grown.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// Groups after `sequence`, up to about `bytes` of them; `None` when the tail does not reach back so far.
    pub fn after(&self, sequence: i64, bytes: usize) -> Option<Vec<Arc<LogRow>>> {
        let state = self.state.lock();
        if state.last.map_or(0, |last| last.sequence) <= sequence {
            return Some(Vec::new());
        }
        // Rows are consecutive, so a number is a place in the tail; one before its beginning is no place.
        let first = state.tail.front()?.position.sequence;
        let skip = usize::try_from(sequence + 1 - first).ok()?;
        let mut taken = 0;
        let rows = state.tail.range(skip..).take_while(|row| {
            // The first row always goes, also one that is longer than `bytes`: else its replica would wait for ever.
            let fits = taken < bytes;
            taken += row.body.len();
            fits
        });
        Some(rows.cloned().collect())
    }

    /// Demands that so many replicas have a group before it is answered, from now on.
    pub fn require(&self, needed: usize) {
        let mut state = self.state.lock();
        // What is on disk now may have been written just before a crash, and no replica may have it: nobody is told of it
        // until they do.
        state.start = state.last.map_or(0, |last| last.sequence);
        self.needed.store(needed, Ordering::SeqCst);
    }

    /// Says how many replicas will be demanded once the branch has started: what it writes for itself until then waits
    /// for none, and nothing leaves it meanwhile.
    pub fn announce(&self, needed: usize) {
        self.announced.store(needed, Ordering::SeqCst);
    }

    /// As [`Feed::wait_confirmed`], for what leaves the branch by another way than an answer, at any time.
    pub fn wait_safe(&self, sequence: i64, wait: Option<Duration>) -> Confirmed {
        // The start isn't over: nothing is demanded yet, and that is no licence to send.
        if self.needed() == 0 && self.announced.load(Ordering::SeqCst) > 0 {
            return Confirmed::NotInTime;
        }
        self.wait_confirmed(sequence, wait)
    }

    /// How many replicas must have a group before it is answered.
    pub fn needed(&self) -> usize {
        self.needed.load(Ordering::Relaxed)
    }

    /// Notes that a replica is connected and has the log up to `acknowledged`.
    pub fn connected(&self, address: &str, connection: u64, acknowledged: i64) {
        let mut state = self.state.lock();
        // In the place of an older connection of the same replica, which may not have ended yet. In sync it is only
        // once it has shown that it keeps up.
        state.replicas.insert(address.to_string(), Replica { connection, acknowledged, is_in_sync: false });
        drop(state);
        self.acknowledged(address, connection, acknowledged);
    }

    /// Notes that a replica has made the log durable up to `sequence`.
    pub fn acknowledged(&self, address: &str, connection: u64, sequence: i64) {
        let mut state = self.state.lock();
        let last = state.last.map_or(0, |last| last.sequence);
        // A replica that has connected anew may have lost what its last connection acknowledged (a restored disk), so what
        // the old connection's thread still brings doesn't count.
        let Some(replica) = state.replicas.get_mut(address).filter(|replica| replica.connection == connection) else {
            return;
        };
        replica.acknowledged = replica.acknowledged.max(sequence);
        replica.is_in_sync |= replica.acknowledged + SYNC_STEP_GROUPS >= last;
        let needed = self.needed();
        if needed == 0 {
            return;
        }
        // What the slowest of the `needed` furthest has, that many have. It never goes back when one of them leaves: they
        // have it on disk.
        let mut reached: Vec<i64> = state.replicas.values().map(|replica| replica.acknowledged).collect();
        reached.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(confirmed) = reached.get(needed - 1) {
            state.confirmed = state.confirmed.max(*confirmed);
        }
        drop(state);
        self.confirmed.notify_all();
    }

    /// Notes that a replica is gone, unless it has come back by another connection.
    pub fn disconnected(&self, address: &str, connection: u64) {
        let mut state = self.state.lock();
        if state.replicas.get(address).is_some_and(|replica| replica.connection == connection) {
            state.replicas.remove(address);
        }
    }

    /// Replicas that follow closely.
    pub fn in_sync(&self) -> usize {
        self.state.lock().in_sync()
    }

    /// Whether as many replicas follow as must have each write.
    pub fn has_enough(&self) -> bool {
        let needed = self.needed();
        needed == 0 || self.in_sync() >= needed
    }

    /// Waits until enough replicas follow, at most so long. `false` when there are too few.
    pub fn wait_for_replicas(&self, wait: Duration) -> bool {
        if let Some(wait_hook) = self.wait_hook.get() {
            wait_hook(WaitEvent::Begins);
            return self.has_enough();
        }
        let needed = self.needed();
        let deadline = Some(Instant::now() + wait);
        // At the stop nobody new begins to follow: what is missing then is missing.
        self.sleep_until(deadline, |state| state.in_sync() >= needed || state.stop_at.is_some());
        self.has_enough()
    }

    /// Waits until enough replicas have the log up to `sequence`; without a limit, until then or until the stop.
    pub fn wait_confirmed(&self, sequence: i64, wait: Option<Duration>) -> Confirmed {
        if self.needed() == 0 {
            return Confirmed::Yes;
        }
        if let Some(wait_hook) = self.wait_hook.get() {
            wait_hook(WaitEvent::Begins);
            if self.state.lock().confirmed >= sequence {
                return Confirmed::Yes;
            }
            if wait.is_some() {
                return Confirmed::NotInTime;
            }
            wait_hook(WaitEvent::InVain);
            return Confirmed::Stopping;
        }
        let deadline = wait.map(|wait| Instant::now() + wait);
        self.sleep_until(deadline, |state| state.confirmed >= sequence)
    }

    /// Sleeps until replicas have said so much that `is_reached`, until the deadline, or until the stop.
    fn sleep_until(&self, deadline: Option<Instant>, is_reached: impl Fn(&State) -> bool) -> Confirmed {
        let mut state = self.state.lock();
        loop {
            if is_reached(&state) {
                return Confirmed::Yes;
            }
            let end = match (deadline, state.stop_at) {
                (_, Some(stop_at)) if Instant::now() >= stop_at => return Confirmed::Stopping,
                (Some(deadline), _) if Instant::now() >= deadline => return Confirmed::NotInTime,
                (Some(deadline), Some(stop_at)) => Some(deadline.min(stop_at)),
                (deadline, stop_at) => deadline.or(stop_at),
            };
            state.waiting += 1;
            match end {
                Some(end) => drop(self.confirmed.wait_until(&mut state, end)),
                None => self.confirmed.wait(&mut state),
            }
            state.waiting -= 1;
        }
    }

    /// Whether what was on disk at the start is confirmed: before that, nothing may be promised to other branches
    /// that stands on it.
    pub fn is_start_confirmed(&self) -> bool {
        if self.needed() == 0 {
            return true;
        }
        let state = self.state.lock();
        state.confirmed >= state.start
    }

    /// How many wait for replicas at this moment.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting
    }

    /// Waits a moment for a replica to take what it was sent. `false` where it has taken all by then that it will: in a
    /// simulation, where nobody sleeps.
    pub fn let_replicas_go_on(&self, wait: Duration) -> bool {
        if let Some(wait_hook) = self.wait_hook.get() {
            wait_hook(WaitEvent::Begins);
            return false;
        }
        std::thread::sleep(wait);
        true
    }

    /// Ends all waiting for replicas after so long. They are sent what there is until [`Feed::end`].
    pub fn stop_within(&self, grace: Duration) {
        let mut state = self.state.lock();
        state.stop_at.get_or_insert(Instant::now() + grace);
        drop(state);
        self.confirmed.notify_all();
    }

    /// Whether the branch stops.
    pub fn is_stopping(&self) -> bool {
        self.state.lock().stop_at.is_some()
    }

    /// Nothing is sent any more.
    pub fn end(&self) {
        self.state.lock().is_over = true;
        self.grown.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    fn feed(rows: i64) -> Feed {
        let feed = Feed::new(None);
        for _ in 0..rows {
            let before = feed.last();
            feed.publish(Arc::new(LogRow::after(before.as_ref(), 1, 0, vec![0; 100])));
        }
        feed
    }

    #[test]
    fn the_tail_gives_what_comes_after_and_says_when_it_does_not_reach_back() {
        let numbers = |rows: Option<Vec<Arc<LogRow>>>| {
            rows.map(|rows| rows.iter().map(|row| row.position.sequence).collect::<Vec<_>>())
        };
        let feed = feed(5);
        assert_eq!(numbers(feed.after(2, 1_000)), Some(vec![3, 4, 5]));
        assert_eq!(numbers(feed.after(0, 150)), Some(vec![1, 2]));
        assert_eq!(numbers(feed.after(5, 1_000)), Some(vec![]));
        let later = Feed::new(feed.last());
        assert_eq!(numbers(later.after(4, 1_000)), None, "it stands on the disk alone");
        let before = later.last();
        later.publish(Arc::new(LogRow::after(before.as_ref(), 1, 0, vec![0; LOG_TAIL_BYTES])));
        let before = later.last();
        later.publish(Arc::new(LogRow::after(before.as_ref(), 1, 0, vec![0; 10])));
        assert_eq!(numbers(later.after(5, 1_000)), None);
        assert_eq!(numbers(later.after(6, 1_000)), Some(vec![7]));
    }

    #[test]
    fn a_group_is_confirmed_by_as_many_replicas_as_are_needed_and_stays_so() {
        let feed = feed(3);
        assert_eq!(feed.wait_confirmed(3, Some(SHORT)), Confirmed::Yes, "nobody is waited for");
        feed.announce(2);
        assert_eq!(feed.wait_safe(3, Some(SHORT)), Confirmed::NotInTime, "it has not begun");
        feed.require(2);
        assert!(!feed.wait_for_replicas(SHORT) && !feed.is_start_confirmed());
        feed.connected("a", 1, 3);
        assert_eq!(feed.wait_confirmed(3, Some(SHORT)), Confirmed::NotInTime);
        feed.connected("b", 2, 2);
        assert_eq!(feed.wait_confirmed(2, Some(SHORT)), Confirmed::Yes);
        assert_eq!(feed.wait_confirmed(3, Some(SHORT)), Confirmed::NotInTime);
        feed.acknowledged("b", 1, 3);
        assert!(!feed.is_start_confirmed(), "that was an earlier connection");
        feed.acknowledged("b", 2, 3);
        feed.disconnected("b", 2);
        assert!(feed.is_start_confirmed());
        assert_eq!(feed.wait_confirmed(3, Some(SHORT)), Confirmed::Yes);
        assert!(!feed.wait_for_replicas(SHORT), "one of two is left");
        feed.stop_within(Duration::ZERO);
        assert_eq!(feed.wait_confirmed(4, None), Confirmed::Stopping);
    }
}

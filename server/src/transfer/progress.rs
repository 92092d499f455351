//! Where a transfer stands, for the threads that wait to answer its client.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use protocol::TxId;
use two_phase_commit::{AbortReason, Decision};

use crate::error::Error;

/// One transfer that somebody waits for.
#[derive(Debug, Default)]
pub struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    decision: Option<Decision>,
    decided_at: Option<Instant>,
    is_delivered: bool,
    /// Nothing will come any more: the branch stops, or has another role from now on.
    is_over: bool,
}

/// How far a transfer came while somebody waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It is not decided.
    Nothing,
    /// It is decided; if committed, not every branch has acknowledged it.
    Decision(Decision),
    /// It is committed, and every branch has acknowledged it.
    Delivery,
}

impl Progress {
    /// Waits for the decision at most `decision_wait`, and from a commit on at most about `delivery_wait` for the
    /// acknowledgements; the latter not from before `from`.
    ///
    /// The sleeper is woken once, by the delivery or by an abort. That it was committed it sees when it looks
    /// by itself, every `delivery_wait`.
    #[must_use]
    pub fn wait(&self, decision_wait: Duration, delivery_wait: Duration, from: Option<Instant>) -> Reached {
        let give_up_at = Instant::now() + decision_wait;
        let mut state = self.state.lock();
        loop {
            // Delivery may be told before this thread has come to see the decision: then there is nothing more to wait
            // for.
            if state.is_delivered {
                return Reached::Delivery;
            }
            let now = Instant::now();
            // Nobody wakes a sleeper at the commit, since nearly always the delivery follows at once and would wake it
            // again. So it looks by itself, often enough to see a commit whose delivery doesn't come.
            let mut look_again_at = (now + delivery_wait).min(give_up_at);
            // While the protocol's time stood still no acknowledgement could come, so the wait for it counts from when
            // time went on.
            let decided_at = state.decided_at.max(from.filter(|_| state.decided_at.is_some()));
            match (&state.decision, decided_at) {
                // Nothing was moved, and nothing is to be delivered that the client should wait for.
                (Some(aborted @ Decision::Aborted(_)), _) => return Reached::Decision(aborted.clone()),
                // The money has moved, whatever happens. One silent branch must not keep the client waiting.
                (Some(Decision::Committed), Some(at)) if now >= at + delivery_wait => {
                    return Reached::Decision(Decision::Committed);
                }
                // It is committed and on disk; who delivers it is the next start, or the new primary.
                (Some(Decision::Committed), _) if state.is_over => return Reached::Decision(Decision::Committed),
                // Neither yes nor no may be said now: the client asks again under its request id.
                (None, _) if state.is_over || now >= give_up_at => return Reached::Nothing,
                // Committed a moment ago: the acknowledgements may still come in time for "done".
                (Some(Decision::Committed), Some(at)) => look_again_at = at + delivery_wait,
                (Some(Decision::Committed), None) | (None, _) => {}
            }
            self.changed.wait_until(&mut state, look_again_at);
        }
    }

    /// Waits for the delivery or an abort, whatever the time, at most `limit`.
    #[must_use]
    pub fn wait_for_end(&self, limit: Duration) -> Option<Reached> {
        let give_up_at = Instant::now() + limit;
        let mut state = self.state.lock();
        loop {
            if state.is_delivered {
                return Some(Reached::Delivery);
            }
            if let Some(aborted @ Decision::Aborted(_)) = &state.decision {
                return Some(Reached::Decision(aborted.clone()));
            }
            if state.is_over {
                return Some(state.decision.clone().map_or(Reached::Nothing, Reached::Decision));
            }
            // No end yet is no error here: the caller looks whether time still stands still, and comes back.
            if self.changed.wait_until(&mut state, give_up_at).timed_out() {
                return None;
            }
        }
    }
}

/// The transfers that somebody waits for. Dropping the last [`Waiter`] of one forgets it.
#[derive(Debug, Default)]
pub struct Waiters {
    watched: Mutex<HashMap<TxId, Watched>>,
    is_over: AtomicBool,
}

/// Invariant: `count` is above zero, and the number of [`Waiter`]s of this transfer.
#[derive(Debug, Default)]
struct Watched {
    progress: Arc<Progress>,
    count: usize,
}

impl Waiters {
    /// Waits for a transfer from now on. What happened before is not known here.
    pub fn watch(self: &Arc<Self>, txid: &TxId) -> Waiter {
        let mut all = self.watched.lock();
        let watched = all.entry(txid.clone()).or_default();
        watched.count += 1;
        // Under the lock that `end` holds too: whoever comes after it is not forgotten to be told.
        if self.is_over() {
            watched.progress.state.lock().is_over = true;
        }
        Waiter { waiters: Arc::clone(self), txid: txid.clone(), progress: Arc::clone(&watched.progress) }
    }

    /// Tells those who wait how a transfer was decided.
    pub fn decided(&self, txid: &TxId, decision: &Decision) {
        if let Some(progress) = self.find(txid) {
            let mut state = progress.state.lock();
            (state.decision, state.decided_at) = (Some(decision.clone()), Some(Instant::now()));
            drop(state);
            // A commit wakes nobody: see [`Progress::wait`].
            if matches!(decision, Decision::Aborted(_)) {
                progress.changed.notify_all();
            }
        }
    }

    /// Tells those who wait that a transfer is delivered.
    pub fn delivered(&self, txid: &TxId) {
        if let Some(progress) = self.find(txid) {
            progress.state.lock().is_delivered = true;
            progress.changed.notify_all();
        }
    }

    /// Tells those who wait, and who come to wait, that nothing more will be known here: the branch stops, or has
    /// another role from now on. Each is answered with what is known by now.
    pub fn end(&self) {
        let all = self.watched.lock();
        // Under the lock: nobody can begin to wait between this and the last of those who are told.
        self.is_over.store(true, Ordering::SeqCst);
        for watched in all.values() {
            watched.progress.state.lock().is_over = true;
            watched.progress.changed.notify_all();
        }
    }

    /// Whether [`Waiters::end`] was called.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn find(&self, txid: &TxId) -> Option<Arc<Progress>> {
        self.watched.lock().get(txid).map(|watched| Arc::clone(&watched.progress))
    }
}

/// Somebody's interest in a transfer.
#[derive(Debug)]
pub struct Waiter {
    waiters: Arc<Waiters>,
    txid: TxId,
    progress: Arc<Progress>,
}

impl std::ops::Deref for Waiter {
    type Target = Progress;
    fn deref(&self) -> &Progress {
        &self.progress
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut all = self.waiters.watched.lock();
        if let Some(watched) = all.get_mut(&self.txid) {
            watched.count -= 1;
            // Two clients may wait for one transfer: the one that began it, and the same one that has come back with
            // its request id.
            if watched.count == 0 {
                all.remove(&self.txid);
            }
        }
    }
}

/// Why a transfer was aborted, as an error for its client.
#[must_use]
pub fn aborted(reason: &AbortReason) -> Error {
    let (code, text) = match reason {
        // The error is that of a transfer inside the branch: whoever pays too much need not know which leg was refused.
        AbortReason::Refused { by: None, refusal } => (refusal.code.to_string(), refusal.text.to_string()),
        AbortReason::Refused { by: Some(peer), refusal } => {
            (refusal.code.to_string(), format!("branch {peer} refused: {}", refusal.text))
        }
        AbortReason::VoteTimeout { missing } => {
            let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
            ("vote_timeout".to_string(), format!("branch {} gave no vote in time; nothing was moved", names.join(", ")))
        }
        AbortReason::Unreachable { peer } => {
            ("branch_unreachable".to_string(), format!("branch {peer} cannot be reached; nothing was moved"))
        }
        AbortReason::Cancelled { text } => {
            ("transaction_aborted".to_string(), format!("the transfer was cancelled: {text}; nothing was moved"))
        }
        AbortReason::Restarted => (
            "transaction_aborted".to_string(),
            "the branch was restarted before the transfer was decided; nothing was moved".to_string(),
        ),
    };
    Error::Aborted { code, text }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    fn txid() -> TxId {
        "T".parse().unwrap()
    }

    #[test]
    fn a_delivery_and_an_abort_wake_those_who_wait() {
        let waiters: Arc<Waiters> = Arc::default();
        thread::scope(|scope| {
            let waiter = waiters.watch(&txid());
            let waiting = scope.spawn(move || waiter.wait(LONG, LONG, None));
            waiters.decided(&txid(), &Decision::Committed);
            waiters.delivered(&txid());
            assert_eq!(waiting.join().unwrap(), Reached::Delivery);
        });
        let waiter = waiters.watch(&txid());
        let aborted = Decision::Aborted(two_phase_commit::AbortReason::Restarted);
        waiters.decided(&txid(), &aborted);
        assert_eq!(waiter.wait(LONG, LONG, None), Reached::Decision(aborted));
    }

    #[test]
    fn a_transfer_is_forgotten_with_its_last_waiter_also_while_it_is_being_told() {
        for _ in 0..500 {
            let waiters: Arc<Waiters> = Arc::default();
            thread::scope(|scope| {
                let waiter = waiters.watch(&txid());
                scope.spawn(move || waiter.wait(LONG, LONG, None));
                waiters.delivered(&txid());
            });
            assert!(waiters.watched.lock().is_empty());
        }
    }

    #[test]
    fn the_end_wakes_everyone_with_what_is_known() {
        let waiters: Arc<Waiters> = Arc::default();
        thread::scope(|scope| {
            let (undecided, committed) = (waiters.watch(&txid()), waiters.watch(&"U".parse().unwrap()));
            waiters.decided(&"U".parse().unwrap(), &Decision::Committed);
            let undecided = scope.spawn(move || undecided.wait(LONG, LONG, None));
            let committed = scope.spawn(move || committed.wait(LONG, LONG, None));
            waiters.end();
            assert_eq!(undecided.join().unwrap(), Reached::Nothing);
            assert_eq!(committed.join().unwrap(), Reached::Decision(Decision::Committed));
        });
        assert_eq!(waiters.watch(&txid()).wait(LONG, LONG, None), Reached::Nothing, "who comes later does not wait");
        assert_eq!(waiters.watch(&txid()).wait_for_end(LONG), Some(Reached::Nothing));
    }

    #[test]
    fn waiting_ends_without_a_decision_and_without_a_delivery() {
        let waiters: Arc<Waiters> = Arc::default();
        let waiter = waiters.watch(&txid());
        assert_eq!(waiter.wait(SHORT, SHORT, None), Reached::Nothing);
        waiters.decided(&txid(), &Decision::Committed);
        assert_eq!(waiter.wait(LONG, SHORT, None), Reached::Decision(Decision::Committed));
        assert_eq!(waiter.wait_for_end(SHORT), None, "neither is an end");
        let before = Instant::now();
        assert_eq!(waiter.wait(LONG, SHORT, Some(before)), Reached::Decision(Decision::Committed));
        assert!(before.elapsed() >= SHORT, "what counts from later is waited for anew");
        waiters.delivered(&txid());
        assert_eq!(waiter.wait_for_end(LONG), Some(Reached::Delivery));
        drop(waiter);
        assert!(waiters.watched.lock().is_empty(), "nobody waits any more");
    }
}

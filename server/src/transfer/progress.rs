//! Where a transfer stands, for the threads that wait to answer its client.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use protocol::TxId;
use two_phase_commit::Decision;

/// One transfer that somebody waits for.
#[derive(Debug, Default)]
pub struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    decision: Option<Decision>,
    is_delivered: bool,
}

impl Progress {
    /// Waits for the decision, at most `wait`.
    #[must_use]
    pub fn decision(&self, wait: Duration) -> Option<Decision> {
        let deadline = Instant::now() + wait;
        let mut state = self.state.lock();
        while state.decision.is_none() {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.decision.clone()
    }

    /// Waits until every branch has acknowledged, at most `wait`. Whether they have.
    #[must_use]
    pub fn delivery(&self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut state = self.state.lock();
        while !state.is_delivered {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.is_delivered
    }
}

/// The transfers that somebody waits for. Dropping the last [`Waiter`] of one forgets it.
#[derive(Debug, Default)]
pub struct Board {
    posted: Mutex<HashMap<TxId, Arc<Progress>>>,
}

impl Board {
    /// Waits for a transfer from now on. What happened before is not known here.
    pub fn watch(self: &Arc<Self>, txid: &TxId) -> Waiter {
        let progress = Arc::clone(self.posted.lock().entry(txid.clone()).or_default());
        Waiter { board: Arc::clone(self), txid: txid.clone(), progress }
    }

    /// Tells those who wait how a transfer was decided.
    pub fn decided(&self, txid: &TxId, decision: &Decision) {
        self.change(txid, |state| state.decision = Some(decision.clone()));
    }

    /// Tells those who wait that a transfer is delivered.
    pub fn delivered(&self, txid: &TxId) {
        self.change(txid, |state| state.is_delivered = true);
    }

    fn change(&self, txid: &TxId, change: impl FnOnce(&mut State)) {
        let progress = self.posted.lock().get(txid).cloned();
        if let Some(progress) = progress {
            change(&mut progress.state.lock());
            progress.changed.notify_all();
        }
    }
}

/// Somebody's interest in a transfer.
#[derive(Debug)]
pub struct Waiter {
    board: Arc<Board>,
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
        let mut posted = self.board.posted.lock();
        // The board's own reference and this one: nobody else waits.
        if Arc::strong_count(&self.progress) <= 2 {
            posted.remove(&self.txid);
        }
    }
}

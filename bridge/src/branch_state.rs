//! The last known state of a branch: up or down, its status, its books, its stage. The threads that watch it write it.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use protocol::answer::{Audit, Run};
use serde::Deserialize as _;
use serde_json::Value;

/// What is known of a branch, for whoever asks; the threads that watch it write it.
#[derive(Default)]
pub struct BranchState {
    state: Mutex<Snapshot>,
    poked: Condvar,
    /// Rises whenever money of the branch may have moved.
    movements: AtomicU64,
}

/// A copy of what is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Whether it answered when it was last asked.
    pub is_up: bool,
    /// Its last `status`, kept when it goes down; none before the first.
    pub status: Option<Value>,
    /// Its last `audit`.
    pub audit: Option<LastAudit>,
    /// Its last stage as JSON, when it teaches and is up.
    pub stage: Option<String>,
    /// Whether it was asked already.
    pub was_asked: bool,
    is_poked: bool,
}

/// The books of a branch.
#[derive(Clone, Debug)]
pub struct LastAudit(pub Audit);

impl PartialEq for LastAudit {
    fn eq(&self, other: &Self) -> bool {
        let figures = |audit: &Self| {
            let Audit { ok, balances, in_transit, paid_in, paid_out, suspense, transactions, .. } = audit.0;
            (ok, balances, in_transit, paid_in, paid_out, suspense, transactions)
        };
        figures(self) == figures(other) && self.0.findings == other.0.findings && self.0.due == other.0.due
    }
}

impl BranchState {
    /// What is known.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.state.lock().clone()
    }

    /// Whether it answered when it was last asked.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state.lock().is_up
    }

    /// Whether it was started with `--teaching`.
    #[must_use]
    pub fn is_teaching(&self) -> bool {
        self.state.lock().is_teaching()
    }

    /// Takes a new status. Returns whether it was down before.
    pub fn answered(&self, status: Value) -> bool {
        let mut state = self.state.lock();
        let figure = |status: &Value| status.get("transactions").map(ToString::to_string);
        if state.status.as_ref().and_then(figure) != figure(&status) {
            self.movements.fetch_add(1, Ordering::Relaxed);
        }
        state.status = Some(status);
        state.was_asked = true;
        !std::mem::replace(&mut state.is_up, true)
    }

    /// It gave no answer. Returns whether it was up before, or was asked for the first time.
    pub fn silent(&self) -> bool {
        let mut state = self.state.lock();
        let is_first = !std::mem::replace(&mut state.was_asked, true);
        std::mem::replace(&mut state.is_up, false) || is_first
    }

    /// Takes its books.
    pub fn audited(&self, audit: Audit) {
        self.state.lock().audit = Some(LastAudit(audit));
    }

    /// Takes its stage. Returns whether that is another one than before.
    pub fn staged(&self, stage: Option<String>) -> bool {
        let mut state = self.state.lock();
        let is_new = state.stage != stage;
        state.stage = stage;
        is_new
    }

    /// A number that rises whenever money of the branch may have moved.
    #[must_use]
    pub fn movements(&self) -> u64 {
        self.movements.load(Ordering::Relaxed)
    }

    /// Money of the branch may have moved.
    pub fn moved(&self) {
        self.movements.fetch_add(1, Ordering::Relaxed);
    }

    /// Has the branch asked soon, because something happened.
    pub fn poke(&self) {
        self.state.lock().is_poked = true;
        self.poked.notify_all();
    }

    /// Waits for a poke, at most so long.
    pub fn wait(&self, limit: std::time::Duration) {
        let mut state = self.state.lock();
        if !state.is_poked {
            self.poked.wait_for(&mut state, limit);
        }
        state.is_poked = false;
    }
}

impl Snapshot {
    /// Whether it was started with `--teaching`, by its last status.
    #[must_use]
    pub fn is_teaching(&self) -> bool {
        self.status.as_ref().and_then(|status| status.get("teaching")).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether it is a copy that was replaced by another one, by its last status.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.status.as_ref().and_then(|status| status.get("role")).and_then(Value::as_str) == Some("fenced")
    }

    /// Its run, by its last status.
    #[must_use]
    pub fn run(&self) -> Option<Run> {
        Run::deserialize(self.status.as_ref()?.get("run")?).ok()
    }

    /// A counter of its last status.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u64> {
        self.status.as_ref().and_then(|status| status.get(name)).and_then(Value::as_u64)
    }
}

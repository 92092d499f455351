//! Who leads the next commit: the queue of waiting operations.
//!
//! A thread enters the queue with its *submission* (one or more operations). If nobody leads, it leads;
//! else it sleeps. The leader takes everything that waits, commits it in one SQLite transaction, and then
//! hands the lead to the first thread that came in the meantime *before* it wakes its own group. So there
//! is always exactly one leader while anything waits, no thread polls, and each sleeper is woken once:
//! with its results, or with the lead.
//!
//! ```text
//! thread A  enter ─ leads ─ [ commit A ]
//! thread B       enter ─ sleeps ········ lead! ─ [ commit B, C, D ]
//! thread C         enter ─ sleeps ······························ done
//! thread D            enter ─ sleeps ··························· done
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::tx::Tx;
use crate::error::{Error, Result};
use crate::limits::GROUP_OPERATIONS;

/// The submissions that wait for a commit, oldest first.
///
/// Invariants: `is_led` whenever `waiting` is not empty; `operations` is the sum of their lengths.
#[derive(Default)]
pub struct Queue {
    waiting: VecDeque<Arc<dyn Work>>,
    /// Submissions for which nobody waits: they go along with the next group.
    later: Vec<Arc<dyn Work>>,
    operations: usize,
    is_led: bool,
}

impl Queue {
    /// Adds a submission. `Ok(true)` tells the caller to lead now.
    ///
    /// # Errors
    /// [`Error::Busy`] when more than `limit` operations would wait.
    pub fn enter(&mut self, submission: Arc<dyn Work>, limit: usize) -> Result<bool> {
        // An empty queue takes a submission of any size: a large batch must be able to get in at all.
        if !self.waiting.is_empty() && self.operations + submission.len() > limit {
            return Err(Error::Busy);
        }
        self.operations += submission.len();
        self.waiting.push_back(submission);
        let leads = !self.is_led;
        self.is_led = true;
        Ok(leads)
    }

    /// Adds a submission for which nobody waits. Does not make anyone lead.
    pub fn add_for_later(&mut self, submission: Arc<dyn Work>) {
        self.later.push(submission);
    }

    /// Whether something waits for the next group to take it along.
    pub fn has_some_for_later(&self) -> bool {
        !self.later.is_empty()
    }

    /// Takes the oldest submissions, about as many as one commit should carry, and at least one; and all for
    /// which nobody waits, which come first: they were there before.
    pub fn take_group(&mut self) -> Vec<Arc<dyn Work>> {
        let mut group = Vec::new();
        let mut operations = 0;
        while let Some(next) = self.waiting.front() {
            if !group.is_empty() && operations + next.len() > GROUP_OPERATIONS {
                break;
            }
            operations += next.len();
            group.extend(self.waiting.pop_front());
        }
        assert!(!group.is_empty(), "a leader's own submission is the oldest one");
        self.operations -= operations;
        let mut taken = std::mem::take(&mut self.later);
        taken.append(&mut group);
        taken
    }

    /// Makes the oldest waiting submission's thread the leader, if any waits.
    pub fn hand_on(&mut self) {
        match self.waiting.front() {
            Some(next) => next.lead(),
            None => self.is_led = false,
        }
    }
}

/// A submission as the leader sees it, whatever its operations' type.
pub trait Work: Send + Sync {
    /// How many operations there are.
    fn len(&self) -> usize;
    /// Runs one operation and keeps its result. `false` when it failed.
    fn run(&self, index: usize, tx: &mut Tx<'_>) -> bool;
    /// Wakes the thread with its results, or with the failure of the whole group.
    fn settle(&self, outcome: Settled<'_>);
    /// Wakes the thread to lead.
    fn lead(&self);
}

/// What became of a group.
#[derive(Clone, Copy, Debug)]
pub enum Settled<'e> {
    /// It is durable, here and at as many replicas as are needed.
    Durable,
    /// It is durable here; replicas have not said so in time for all up to this number of the log.
    Unconfirmed(i64),
    /// Nothing of it was done, or nobody knows.
    Failed(&'e Error),
}

/// What a sleeping thread is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// To take the lead; its own submission is still in the queue, at the front.
    Lead,
    /// To take its results.
    Settled,
}

/// One caller's operations, their results, and the caller's place to sleep.
pub struct Submission<T, F> {
    len: usize,
    state: Mutex<State<T, F>>,
    woken: Condvar,
}

struct State<T, F> {
    operations: Vec<F>,
    results: Vec<Result<T>>,
    turn: Option<Turn>,
    /// Replicas are still to say that they have the log up to here.
    unconfirmed: Option<i64>,
}

impl<T, F> Submission<T, F> {
    /// A submission of at least one operation.
    pub fn new(operations: Vec<F>) -> Self {
        let len = operations.len();
        let results = (0..len).map(|_| Err(Error::Stopping)).collect();
        Self {
            len,
            state: Mutex::new(State { operations, results, turn: None, unconfirmed: None }),
            woken: Condvar::new(),
        }
    }

    /// Sleeps until there is something to do.
    pub fn wait(&self) -> Turn {
        let mut state = self.state.lock();
        loop {
            match state.turn.take() {
                Some(turn) => return turn,
                None => self.woken.wait(&mut state),
            }
        }
    }

    /// The results, once settled.
    pub fn take_results(&self) -> Vec<Result<T>> {
        std::mem::take(&mut self.state.lock().results)
    }

    /// Up to which number of the log replicas are still to confirm, once settled.
    pub fn unconfirmed(&self) -> Option<i64> {
        self.state.lock().unconfirmed
    }

    fn wake(&self, turn: Turn) {
        self.state.lock().turn = Some(turn);
        self.woken.notify_one();
    }
}

impl<T, F> Work for Submission<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Result<T> + Send,
{
    fn len(&self) -> usize {
        self.len
    }

    fn run(&self, index: usize, tx: &mut Tx<'_>) -> bool {
        let state = &mut *self.state.lock();
        let result = (state.operations[index])(tx);
        let succeeded = result.is_ok();
        state.results[index] = result;
        succeeded
    }

    fn settle(&self, outcome: Settled<'_>) {
        match outcome {
            Settled::Durable => {}
            Settled::Unconfirmed(sequence) => self.state.lock().unconfirmed = Some(sequence),
            Settled::Failed(error) => {
                for result in &mut self.state.lock().results {
                    *result = Err(error.clone());
                }
            }
        }
        self.wake(Turn::Settled);
    }

    fn lead(&self) {
        self.wake(Turn::Lead);
    }
}

//! What waits in the queue: one caller's operations with their results, and the caller's place to sleep.
//!
//! The leader sees a submission as [`Work`]: it runs its operations, and settles it when it is known what became of the
//! group. Its thread then wakes with the results, or, where it was handed in, what was said is done with them.

use parking_lot::{Condvar, Mutex};

use crate::allowance::Owner;
use crate::dbs_exec::tx::Tx;
use crate::error::{Error, Result};

/// A submission as the leader sees it, whatever its operations' type.
pub trait Work: Send + Sync {
    /// Whose it is.
    fn owner(&self) -> Owner;
    /// How many operations there are.
    fn len(&self) -> usize;
    /// How many requests it counts as.
    fn weight(&self) -> usize;
    /// Runs one operation and keeps its result. `false` when it failed.
    fn run(&self, index: usize, tx: &mut Tx<'_>) -> bool;
    /// Whether a thread waits for its results.
    fn is_awaited(&self) -> bool;
    /// Wakes the thread with its results, or with the failure of the whole group; or does with them what whoever handed
    /// it in has said.
    fn settle(&self, outcome: &Settled);
    /// Wakes the thread to lead.
    fn lead(&self);
}

/// What is to be done with the results of a submission that was handed in. It must not wait: the results of others are
/// behind it.
pub type Then<T> = Box<dyn FnOnce(Vec<Result<T>>) + Send>;

/// What became of a group.
#[derive(Clone, Debug)]
pub enum Settled {
    /// It is durable, here and at as many replicas as are needed.
    Durable,
    /// It is durable here; replicas have not said so in time for all up to this number of the log.
    Unconfirmed(i64),
    /// Nothing of it was done, or nobody knows.
    Failed(Error),
}

/// What a sleeping thread is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// To take the lead; its own submission is still in the queue, at the front.
    Lead,
    /// To take its results.
    Settled,
}

/// One caller's operations, their results, and the caller's place to sleep or its word on what is to be done with them.
pub struct Submission<T, F> {
    owner: Owner,
    len: usize,
    weight: usize,
    state: Mutex<State<T, F>>,
    woken: Condvar,
}

struct State<T, F> {
    operations: Vec<F>,
    results: Vec<Result<T>>,
    turn: Option<Turn>,
    /// Replicas are still to say that they have the log up to here.
    unconfirmed: Option<i64>,
    /// There when no thread waits.
    then: Option<Then<T>>,
}

impl<T, F> Submission<T, F> {
    /// A submission of at least one operation, which counts as so many requests.
    pub fn new(owner: Owner, weight: usize, operations: Vec<F>) -> Self {
        let len = operations.len();
        // What a caller finds who is woken without its operations having run: nothing of them was done.
        let results = (0..len).map(|_| Err(Error::Stopping)).collect();
        Self {
            owner,
            len,
            weight,
            state: Mutex::new(State { operations, results, turn: None, unconfirmed: None, then: None }),
            woken: Condvar::new(),
        }
    }

    /// The same, with what is to be done with the results.
    pub fn handed_in(owner: Owner, operations: Vec<F>, then: Then<T>) -> Self {
        let submission = Self::new(owner, operations.len(), operations);
        submission.state.lock().then = Some(then);
        submission
    }

    /// Takes back what was to be done with the results: the calling thread waits for them itself.
    pub fn take_back(&self) -> Option<Then<T>> {
        self.state.lock().then.take()
    }

    /// Sleeps until there is something to do.
    pub fn wait(&self) -> Turn {
        let mut state = self.state.lock();
        loop {
            // Looked at before each sleep: the leader may have been done before this thread got here.
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

    /// The same for a client: what is durable here may not be called refused, and not be called done before replicas
    /// have it. What was refused changed nothing, and stays refused.
    pub fn take_results_for_client(&self) -> Vec<Result<T>> {
        self.state.lock().results_for_client()
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

impl<T, F> State<T, F> {
    fn results_for_client(&mut self) -> Vec<Result<T>> {
        let results = std::mem::take(&mut self.results);
        match self.unconfirmed {
            None => results,
            // A refusal needs no replica: it changed nothing that could be lost.
            Some(_) => results.into_iter().map(|result| result.and(Err(Error::Unconfirmed))).collect(),
        }
    }
}

impl<T, F> Work for Submission<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Result<T> + Send,
{
    fn owner(&self) -> Owner {
        self.owner
    }

    fn len(&self) -> usize {
        self.len
    }

    fn weight(&self) -> usize {
        self.weight
    }

    fn run(&self, index: usize, tx: &mut Tx<'_>) -> bool {
        // A group that is executed twice overwrites the first run's results; nobody has seen them.
        let state = &mut *self.state.lock();
        let result = (state.operations[index])(tx);
        let succeeded = result.is_ok();
        state.results[index] = result;
        succeeded
    }

    fn is_awaited(&self) -> bool {
        self.state.lock().then.is_none()
    }

    fn settle(&self, outcome: &Settled) {
        let mut state = self.state.lock();
        match outcome {
            // The results of the run are the truth.
            Settled::Durable => {}
            // It is in the books here and may not be called refused: what the caller is told depends on who it is.
            Settled::Unconfirmed(sequence) => state.unconfirmed = Some(*sequence),
            // The group was rolled back as a whole: also what had succeeded in it did not happen.
            Settled::Failed(error) => {
                for result in &mut state.results {
                    *result = Err(error.clone());
                }
            }
        }
        match state.then.take() {
            Some(then) => {
                let results = state.results_for_client();
                // It writes to a socket: nobody is to wait for this lock meanwhile.
                drop(state);
                then(results);
            }
            None => {
                state.turn = Some(Turn::Settled);
                // Unlocked first, or the thread would wake only to wait for the lock.
                drop(state);
                self.woken.notify_one();
            }
        }
    }

    fn lead(&self) {
        self.wake(Turn::Lead);
    }
}

//! Submissions that no thread waits for: who commits them, and who does something with their results.
//!
//! A client's thread that slept until its operation is durable would be woken for nothing but to write one answer. So it
//! may hand its operation in ([`DbsExec::execute_then`]) and go back to reading from its client. Two threads stand in
//! for all that do so:
//!
//! - the *committer* leads when the submission that is next has no thread to wake. It leads as any other thread does,
//!   by `lead`'s own steps and with the writer's mutex, and keeps the lead until nothing waits: under load it never
//!   sleeps, and nobody is woken to lead;
//! - the thread `answers` takes finished groups in the order of their commits, waits for replicas where it has to, and
//!   does with each submission's results what was said ([`Then`](super::submission::Then)). What that is is not known here;
//!   it must not wait.
//!
//! Results of one owner come in the order in which it handed its submissions in, because groups do.
//!
//! Both threads start with the first submission that is handed in, and end when the database is closed or is dropped.
//! Where one of them is missing, whoever leads does its work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::dbs_exec::DbsExec;
use crate::dbs_exec::commit_log::{CommitLog, Confirmed};
use crate::dbs_exec::submission::{Settled, Work};
use crate::error::{Error, Result};
use crate::limits::{CLIENT_STACK_BYTES, FINISHED_GROUPS, SYNC_CONFIRM_WAIT};

/// A group that was committed, or was not.
pub struct Finished {
    works: Vec<Arc<dyn Work>>,
    /// The last row of the log that its clients may rely on.
    outcome: Result<i64>,
    at: Instant,
}

impl Finished {
    /// What became of a group just now.
    pub fn new(works: Vec<Arc<dyn Work>>, outcome: Result<i64>) -> Self {
        Self { works, outcome, at: Instant::now() }
    }

    /// Takes out those submissions that no thread waits for; none when there are none.
    pub fn take_unawaited(&mut self) -> Option<Self> {
        let unawaited: Vec<_> = self.works.extract_if(.., |work| !work.is_awaited()).collect();
        let is_some = !unawaited.is_empty();
        is_some.then(|| Self { works: unawaited, outcome: self.outcome.clone(), at: self.at })
    }

    /// Waits until everybody has the group who must, at most so long, and settles its submissions.
    pub fn settle(self, log: &dyn CommitLog, wait: Duration) {
        let settled = match self.outcome {
            Err(error) => Settled::Failed(error),
            Ok(sequence) => match log.wait_confirmed(sequence, Some(wait)) {
                Confirmed::Yes => Settled::Durable,
                Confirmed::NotInTime | Confirmed::Stopping => Settled::Unconfirmed(sequence),
            },
        };
        for work in self.works {
            // A panic while one client is answered ends that client's session alone.
            if catch_unwind(AssertUnwindSafe(|| work.settle(&settled))).is_err() {
                log::error!("a client could not be answered: its answer panicked");
            }
        }
    }
}

/// The two threads.
pub struct HandedIn {
    channels: Mutex<Option<Channels>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Clone)]
struct Channels {
    lead: Sender<()>,
    finished: Sender<Finished>,
}

impl HandedIn {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system has no thread left.
    pub fn start(dbs: Weak<DbsExec>, log: Arc<dyn CommitLog>) -> Result<Self> {
        // There is one lead, so there is one thing to say.
        let (lead, asked) = bounded(1);
        let (finished, to_answer) = bounded(FINISHED_GROUPS);
        let thread = |name: &str| std::thread::Builder::new().name(name.into()).stack_size(CLIENT_STACK_BYTES);
        let failed = |error| Error::Database(format!("there is no thread for the commits: {error}"));
        let committer = thread("committer").spawn(move || commit(&dbs, &asked)).map_err(failed)?;
        let answers = thread("answers").spawn(move || answer(log.as_ref(), &to_answer)).map_err(failed)?;
        Ok(Self {
            channels: Mutex::new(Some(Channels { lead, finished })),
            threads: Mutex::new(vec![committer, answers]),
        })
    }

    /// Has the committer lead. `false` when it is gone.
    pub fn lead(&self) -> bool {
        let channels = self.channels.lock().clone();
        channels.is_some_and(|channels| channels.lead.send(()).is_ok())
    }

    /// Has a group's submissions settled, after those that were given before. Gives the group back when nobody is there
    /// to do it.
    pub fn settle(&self, group: Finished) -> Option<Finished> {
        let channels = self.channels.lock().clone();
        match channels {
            Some(channels) => channels.finished.send(group).err().map(|unsent| unsent.0),
            None => Some(group),
        }
    }

    /// Ends both threads, once everything that was given to them is done.
    pub fn stop(&self) {
        drop(self.channels.lock().take());
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                log::error!("the thread that commits, or the one that answers, had panicked");
            }
        }
    }
}

fn commit(dbs: &Weak<DbsExec>, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        // Whoever asked holds the database, or did until now; what is left in the queue of one that is gone has nobody
        // to be told.
        let Some(dbs) = dbs.upgrade() else { return };
        dbs.lead_on();
    }
}

fn answer(log: &dyn CommitLog, to_answer: &Receiver<Finished>) {
    for group in to_answer {
        // Groups wait for replicas one after another, but the time of each counts from its own commit.
        let wait = SYNC_CONFIRM_WAIT.saturating_sub(group.at.elapsed());
        group.settle(log, wait);
    }
}

//! Threads that do the same again and again, for as long as what they work for is there.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::error::{Error, Result};

/// What one thread does again and again: its name, how long it waits in between, and its work.
pub type Repeated<T> = (&'static str, Duration, fn(&T) -> Again);

/// Threads that work again and again, until they are joined or what they work for is gone.
pub struct Threads {
    /// Nothing is ever sent: they end when this is dropped.
    stop: Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system has no thread left.
    pub fn start<T: Send + Sync + 'static>(worker: &Arc<T>, works: &[Repeated<T>]) -> Result<Self> {
        let (stop, stopped) = bounded(0);
        let mut threads = Vec::new();
        for (name, interval, work) in works.iter().copied() {
            // Weak: a thread must not keep alive what would end it.
            let (worker, stopped) = (Arc::downgrade(worker), stopped.clone());
            let thread = std::thread::Builder::new()
                .name(name.into())
                .spawn(move || repeat_until(&stopped, interval, &worker, work));
            threads
                .push(thread.map_err(|error| Error::Database(format!("there is no thread for the {name}: {error}")))?);
        }
        Ok(Self { stop, threads })
    }

    /// Ends them and waits for it.
    pub fn join(self) {
        drop(self.stop);
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a thread of the engine had panicked");
            }
        }
    }
}

/// When a thread does its work the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// After its interval.
    Later,
    /// At once: not all was done.
    AtOnce,
}

fn repeat_until<T>(stopped: &Receiver<()>, interval: Duration, worker: &Weak<T>, work: fn(&T) -> Again) {
    let mut next = Again::Later;
    loop {
        let wait = match next {
            Again::Later => interval,
            // It still looks whether it is to end.
            Again::AtOnce => Duration::ZERO,
        };
        match stopped.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(worker) = worker.upgrade() else { return };
        next = work(&worker);
    }
}

//! The engine's own threads: the machines' time, and the deleting of what is no longer needed.
//!
//! The ticker lets resends, time-outs and inquiries come due, and writes records that nobody waits for. The pruner
//! deletes rows of ended transfers and old answers, a little at a time. Neither decides anything, and both end with the
//! engine.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::engine::{Engine, StopOnPanic};
use super::{events, records};
use crate::dbs_exec::Tx;
use crate::error::{Error, Result};
use crate::idempotency;
use crate::limits::{EVENT_NUMBERS_RESERVED, FLUSH_TICKS, PRUNE_INTERVAL, PRUNE_ROWS, TICK};

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

impl Engine {
    /// Lets time pass, by threads of the engine's own.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system has no thread left.
    pub fn start_threads(self: &Arc<Self>) -> Result<()> {
        let works: [Repeated<Self>; 2] = [("ticker", TICK, Self::tick), ("pruner", PRUNE_INTERVAL, Self::prune)];
        *self.threads.lock() = Some(Threads::start(self, &works)?);
        Ok(())
    }

    /// Does what is due by now: the ticker's work.
    pub fn tick(&self) -> Again {
        let _guard = StopOnPanic(self);
        if !self.parts.host.is_paused() {
            self.tick_machines();
        }
        if ticks(self.parts.host.elapsed()).is_multiple_of(FLUSH_TICKS)
            && let Err(error) = self.parts.dbs.flush()
            && error != Error::Stopping
        {
            log::warn!("records that may be lost in a crash could not be written: {error}");
        }
        Again::Later
    }

    /// Does what is due by now, in the protocol's time.
    pub fn tick_machines(&self) {
        self.say_what_was_kept_back();
        let now = self.now();
        self.carry_out_quietly(self.ask_all(|site| site.tick(now)));
    }

    /// As soon as replicas have what was found at the start, those who were told nothing of it are.
    fn say_what_was_kept_back(&self) {
        let peers = {
            let mut kept_back = self.kept_back.lock();
            if kept_back.is_empty() || !self.parts.dbs.feed().is_start_confirmed() {
                return;
            }
            std::mem::take(&mut *kept_back)
        };
        log::info!("replicas have what was found at the start: {} branches are told", peers.len());
        let mut site = self.site.lock();
        peers.iter().for_each(|peer| site.reconnected(peer));
    }

    /// Deletes what is no longer needed, a little at a time, so that others wait for it only briefly; one batch after
    /// another, so that no pace is below that of what makes the dirt: the pruner's work.
    pub fn prune(&self) -> Again {
        let _guard = StopOnPanic(self);
        let is_expected =
            |error: &Error| matches!(error, Error::Stopping | Error::ReplicasMissing { .. } | Error::Unconfirmed);
        let dbs = &self.parts.dbs;
        if let Err(error) = self.parts.running_time.advance(dbs, self.parts.host.elapsed())
            && !is_expected(&error)
        {
            log::warn!("the running time could not be written: {error}");
        }
        if self.parts.host.is_paused() {
            // A message may be under way for longer than anything is kept for.
            return Again::Later;
        }
        let mut has_more = false;
        for prune in [idempotency::prune as fn(&mut Tx<'_>, usize) -> Result<usize>, records::prune] {
            match dbs.execute(move |tx| prune(tx, PRUNE_ROWS)) {
                Ok(deleted) => has_more |= deleted >= PRUNE_ROWS,
                Err(error) if is_expected(&error) => {}
                Err(error) => log::warn!("old records could not be pruned: {error}"),
            }
        }
        self.keep_event_numbers_reserved();
        if has_more { Again::AtOnce } else { Again::Later }
    }

    fn keep_event_numbers_reserved(&self) {
        let reserved = self.event_numbers_reserved.load(Ordering::Relaxed);
        if self.events.last_number() + EVENT_NUMBERS_RESERVED / 2 < reserved {
            return;
        }
        match events::reserve_numbers(&self.parts.dbs, Some(reserved)) {
            Ok(from) => self.event_numbers_reserved.store(from + EVENT_NUMBERS_RESERVED, Ordering::Relaxed),
            Err(error) => log::warn!("event numbers could not be reserved: {error}"),
        }
    }
}

/// A time in ticks.
pub(super) fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX)
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

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
use crate::teaching::Teaching;

/// The threads. They end when the sender is dropped.
pub(super) struct Threads {
    stop: Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Ends them and waits for it.
    pub(super) fn join(self) {
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
    /// [`Error::Database`] when the operating system gives no thread.
    pub fn start_threads(self: &Arc<Self>) -> Result<()> {
        // Nothing is ever sent: the threads wait for the sender to be dropped.
        let (stop, stopped) = bounded(0);
        let mut threads = Vec::new();
        for (name, interval, work) in
            [("ticker", TICK, Self::tick as fn(&Self) -> Again), ("pruner", PRUNE_INTERVAL, Self::prune)]
        {
            let (engine, stopped) = (Arc::downgrade(self), stopped.clone());
            let thread = std::thread::Builder::new()
                .name(name.into())
                .spawn(move || repeat_until(&stopped, interval, &engine, work));
            threads
                .push(thread.map_err(|error| Error::Database(format!("there is no thread for the {name}: {error}")))?);
        }
        *self.threads.lock() = Some(Threads { stop, threads });
        Ok(())
    }

    /// Does what is due by now: the ticker's work.
    pub fn tick(&self) -> Again {
        match &self.teaching {
            None => self.tick_machines(),
            Some(teaching) => {
                if let Ok(lesson) = self.lesson() {
                    lesson.end_leases();
                }
                self.deliver(teaching.take_due());
                // In step mode time passes by request alone.
                if !teaching.is_stepping() {
                    self.tick_machines();
                }
            }
        }
        if ticks(self.parts.host.elapsed()).is_multiple_of(FLUSH_TICKS)
            && let Err(error) = self.parts.dbs.flush()
            && error != Error::Stopping
        {
            log::warn!("records that may be lost in a crash could not be written: {error}");
        }
        Again::Later
    }

    /// Does what is due by now.
    pub(super) fn tick_machines(&self) {
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
        let is_expected =
            |error: &Error| matches!(error, Error::Stopping | Error::ReplicasMissing { .. } | Error::Unconfirmed);
        let dbs = &self.parts.dbs;
        if let Err(error) = self.parts.running_time.advance(dbs, self.parts.host.elapsed())
            && !is_expected(&error)
        {
            log::warn!("the running time could not be written: {error}");
        }
        if self.teaching.as_ref().is_some_and(Teaching::is_stepping) {
            // A message may wait on the stage for longer than any is under way.
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

fn repeat_until(stopped: &Receiver<()>, interval: Duration, engine: &Weak<Engine>, work: fn(&Engine) -> Again) {
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
        let Some(engine) = engine.upgrade() else { return };
        let guard = StopOnPanic(&engine);
        next = work(&engine);
        drop(guard);
    }
}

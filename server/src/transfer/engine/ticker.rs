//! The engine's own threads: the machines' time, and the deleting of what is no longer needed.
//!
//! The ticker lets resends, time-outs and inquiries come due, and writes records that nobody waits for. The pruner
//! deletes rows of ended transfers and old answers, a little at a time. A third writes events to their file. None of them
//! decides anything, and all end with the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Engine, StopOnPanic, ticks};
use crate::dbs_exec::Tx;
use crate::error::{Error, Result};
use crate::idempotency;
use crate::limits::{
    EVENT_FILE_PAUSE, EVENT_FILE_QUIET, EVENT_NUMBERS_RESERVED, FLUSH_TICKS, PRUNE_INTERVAL, PRUNE_ROWS, TICK,
};
use crate::transfer::threads::{Again, Repeated, Threads};
use crate::transfer::{events, records};

impl Engine {
    /// Lets time pass, by threads of the engine's own.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system has no thread left.
    pub fn start_threads(self: &Arc<Self>) -> Result<()> {
        let works: [Repeated<Self>; 3] = [
            ("ticker", TICK, Self::tick),
            ("pruner", PRUNE_INTERVAL, Self::prune),
            ("event-file", EVENT_FILE_PAUSE, Self::keep_events),
        ];
        *self.threads.lock() = Some(Threads::start(self, &works)?);
        Ok(())
    }

    /// Writes events to their file, as they happen and a little late: nobody waits for it.
    fn keep_events(&self) -> Again {
        if let Some(file) = &self.parts.event_file {
            self.events.wait_for(file.written(), EVENT_FILE_QUIET);
            file.write(&self.events, false);
        }
        Again::Later
    }

    /// Writes all events to their file that have happened, because the process ends.
    pub fn keep_all_events(&self) {
        if let Some(file) = &self.parts.event_file {
            file.write(&self.events, true);
        }
    }

    /// Does what is due by now: the ticker's work.
    pub fn tick(&self) -> Again {
        let _guard = StopOnPanic(self);
        if !self.parts.host.is_paused() {
            self.tick_machines();
        }
        // Records that nobody waits for go to the disk with the next commit. On a quiet branch there is none, so one is
        // made now and then.
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

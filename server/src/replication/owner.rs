//! The owner of a branch whose commit log is elsewhere: it says that it is there, keeps snapshots, and steps down.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Replication;
use super::snapshot::DeleteOnDrop;
use crate::error::Result;
use crate::limits::{LOG_GROUPS, OWNER_BEAT};
use crate::shared_log::{SharedLog, Trouble};

impl Replication {
    /// Beats until this process no longer owns the branch. A beat that is answered is also the proof by which reads
    /// are answered.
    pub(super) fn own(self: &Arc<Self>, shared: &Arc<SharedLog>) {
        let epoch = self.parts.dbs.copy_state().epoch.number;
        let mut is_silent = false;
        while !self.is_stopping() && !self.parts.dbs.is_closed() {
            let asked_at = Instant::now();
            if !shared.is_deposed() {
                match shared.store().beat(epoch) {
                    Ok(true) => {
                        shared.prove(asked_at);
                        is_silent = false;
                        self.note_members(shared);
                    }
                    Ok(false) => shared.depose(owner_address(shared)),
                    Err(Trouble(text)) => {
                        if !is_silent {
                            log::warn!("the commit log cannot be reached: {text}");
                        }
                        is_silent = true;
                    }
                }
            }
            if shared.is_deposed() {
                return self.step_down(shared);
            }
            shared.wait(OWNER_BEAT.saturating_sub(asked_at.elapsed()));
        }
    }

    /// Where the process ends, what waits for the store waits no longer. At a change of role it goes on.
    pub fn give_up_waiting(&self, is_change: bool) {
        if let Some(shared) = self.parts.shared_log.as_ref().filter(|_| !is_change) {
            shared.stop();
        }
    }

    /// Where the process has ended its work as the owner, it says so.
    pub fn leave(&self, is_change: bool) {
        if let Some(shared) = self.parts.shared_log.as_ref().filter(|_| self.is_primary() && !is_change)
            && !shared.is_deposed()
            && let Err(Trouble(text)) = shared.store().release(self.parts.dbs.copy_state().epoch.number)
        {
            log::warn!("the commit log could not be told that this process leaves: {text}");
        }
    }

    /// For `status`; that nobody answers is told by the beat.
    fn note_members(&self, shared: &SharedLog) {
        if let Ok(members) = shared.store().members() {
            *self.members.lock() = members;
        }
    }

    /// Makes this copy one that follows, durably, and opens it again as that.
    fn step_down(self: &Arc<Self>, shared: &SharedLog) {
        if self.claim_end().is_err() {
            return;
        }
        let address = owner_address(shared).unwrap_or_default();
        match self.parts.dbs.demote(&address) {
            Ok(()) => {
                log::warn!("this process no longer owns branch {}, and stands by", self.parts.dialler.branch);
                drop(self.change_role());
            }
            Err(error) => {
                self.ending.store(false, Ordering::SeqCst);
                log::error!("this process could not step down: {error}");
            }
        }
    }

    /// Keeps a snapshot in the store whenever the log behind the last one is long.
    pub(super) fn keep_snapshots(self: &Arc<Self>, shared: &Arc<SharedLog>) {
        let mut is_counted = false;
        while !self.is_stopping() && !self.parts.dbs.is_closed() && !shared.is_deposed() {
            if let Err(Trouble(text)) = self.keep_snapshot(shared, &mut is_counted) {
                log::warn!("no snapshot was kept in the commit log: {text}");
                shared.wait(OWNER_BEAT * 20);
            }
            shared.wait(OWNER_BEAT);
        }
    }

    fn keep_snapshot(&self, shared: &SharedLog, is_counted: &mut bool) -> Result<(), Trouble> {
        let view = shared.store().view()?;
        if !*is_counted {
            // What other owners have appended before.
            let bytes = shared.store().bytes_after(view.snapshot)?;
            shared.bytes_appended().store(bytes, Ordering::Relaxed);
            *is_counted = true;
        }
        let is_long = shared.bytes_appended().load(Ordering::Relaxed) >= self.parts.log_bytes
            || view.last - view.snapshot >= LOG_GROUPS;
        if !is_long {
            return Ok(());
        }
        let path = self.path_beside(".outgoing-log");
        let _deleted = DeleteOnDrop(path.clone());
        shared.bytes_appended().store(0, Ordering::Relaxed);
        let copied = self.parts.dbs.copy_to(&path, &|| self.is_stopping());
        let position = copied.map_err(|error| Trouble(error.to_string()))?;
        let Some(position) = position else { return Ok(()) };
        let epoch = self.parts.dbs.copy_state().epoch.number;
        if shared.store().keep_snapshot(epoch, &position, &path)? {
            log::info!("a snapshot of group {} is in the commit log", position.sequence);
        }
        Ok(())
    }
}

/// Where the owner is, if the store says so.
fn owner_address(shared: &SharedLog) -> Option<String> {
    let owner = shared.store().view().ok()?.owner?;
    (owner.id != shared.store().id() && !owner.id.is_empty()).then_some(owner.address)
}

//! What a leader does: it commits the group that is next, hands the lead on, and has the group's clients answered.
//!
//! Who leads when is told in `group.rs`, what the committer and the thread that answers are in `handed_in.rs`, and how
//! a group becomes one transaction in `writer.rs`.

use crate::dbs_exec::DbsExec;
use crate::dbs_exec::commit_log::CommitError;
use crate::dbs_exec::group::Next;
use crate::dbs_exec::handed_in::{Finished, HandedIn};
use crate::error::Error;
use crate::limits::SYNC_CONFIRM_WAIT;

impl DbsExec {
    /// Commits the group at the front of the queue, hands the lead on, and wakes the group.
    pub(super) fn lead(&self) {
        let mut group = self.commit_group();
        // Before the next group can be finished: each client's answers are in the order of its commits.
        if let Some(unawaited) = group.take_unawaited() {
            self.have_settled(unawaited);
        }
        // The next group starts before this one's clients wake up, and while this one's replicas are waited for: the
        // writer never waits for either.
        let next = self.queue.lock().hand_on();
        if next == Next::Unattended && !self.handed_in().is_some_and(HandedIn::lead) {
            self.lead_on();
        }
        group.settle(self.commit_log.as_ref(), SYNC_CONFIRM_WAIT);
    }

    /// Commits one group after another, until nothing waits: the committer's lead, which it hands on to nobody.
    pub(super) fn lead_on(&self) {
        loop {
            let group = self.commit_group();
            self.have_settled(group);
            if !self.queue.lock().keep_lead() {
                return;
            }
        }
    }

    /// Leaves a group to the thread that answers, or settles it here where there is none.
    fn have_settled(&self, group: Finished) {
        let left = match self.handed_in() {
            Some(handed_in) => handed_in.settle(group),
            None => Some(group),
        };
        if let Some(group) = left {
            group.settle(self.commit_log.as_ref(), SYNC_CONFIRM_WAIT);
        }
    }

    pub(super) fn handed_in(&self) -> Option<&HandedIn> {
        self.handed_in.get()?.as_ref()
    }

    /// Commits the group at the front of the queue.
    fn commit_group(&self) -> Finished {
        // Before the group is taken: whoever comes meanwhile goes along.
        self.wal_gate.wait_for_space();
        let group = self.queue.lock().take_group();
        let outcome = {
            let mut writer = self.writer.lock();
            // The next primary is to have all that is committed here: nothing is added before it has, or won't.
            while writer.is_handing_over {
                self.hand_over_ended.wait(&mut writer);
            }
            // With the mutex held: whoever ends all writing holds it, too, so nothing is written after that.
            if self.is_closed() {
                Err(CommitError::NotDurable(Error::Stopping))
            } else {
                let outcome = writer.commit_group(self.commit_log.as_ref(), &group);
                // Before the mutex is released: the next leader would commit onto what nobody knows.
                if let Err(CommitError::Unknown(text)) = &outcome {
                    self.stop_for(&mut writer, text);
                }
                self.checkpointer.note();
                outcome
            }
        };
        Finished::new(group, outcome.map_err(Error::from))
    }
}

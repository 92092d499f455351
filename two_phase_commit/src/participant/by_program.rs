//! What an outside program prepares (rules 10 and 11).
//!
//! A program prepares leg by leg and settles itself, or names a branch as the coordinator that is to be asked. A branch
//! commits only what it has prepared itself, so what a program prepared in its name can only ever be aborted.

use std::sync::Arc;

use super::answers::{contradict, not_prepared};
use super::entry::Entry;
use super::{Participant, ParticipantState};
use crate::output::Output;
use crate::record::Outcome;
use crate::transfer::{PeerAddr, Transfer};

impl Participant {
    /// The coordinator has committed a transfer of this id, and what is here under it was prepared by a program in its
    /// name. Beside that, the coordinator's own prepare would have been refused: so this is no part of what it committed,
    /// and never happens. Its own part is missing here, which it is told.
    pub(super) fn commit_without_program(&mut self, entry: Entry, from: &PeerAddr) -> Output {
        let txid = entry.txid.clone();
        let answer = contradict(&txid, from, not_prepared());
        match entry.state {
            // For the program's legs the outcome is an abort.
            ParticipantState::Prepared => self.settle(entry, Outcome::Aborted, None).and(answer),
            // A person has settled them; an abort is compared with that.
            ParticipantState::Settled(ours) if ours == Outcome::Aborted && entry.awaits_confirmation() => {
                self.confirm(entry, ours).and(answer)
            }
            ParticipantState::Settled(ours) if entry.awaits_confirmation() => {
                self.mix(entry, ours, Outcome::Aborted).and(answer)
            }
            ParticipantState::Settled(_) | ParticipantState::Mixed(_) => {
                self.keep(entry);
                answer
            }
            ParticipantState::Unknown
            | ParticipantState::Preparing
            | ParticipantState::Settling(_)
            | ParticipantState::Confirming(_)
            | ParticipantState::Mixing(_) => panic!("{txid} takes no decision in {:?}", entry.state),
        }
    }
}

/// The transfer as it is kept: with who asked for it, whatever the message says of that.
pub(super) fn asked_by(from: &PeerAddr, transfer: &Arc<Transfer>) -> Arc<Transfer> {
    let by_program = from.is_program();
    if transfer.by_program == by_program {
        return Arc::clone(transfer);
    }
    Arc::new(Transfer { by_program, ..Transfer::clone(transfer) })
}

//! What a participant finds in its log after a start (rule 7): what was prepared stays prepared, and asks.

use std::collections::BTreeMap;

use protocol::TxId;

use super::entry::Entry;
use super::{Participant, ParticipantState};
use crate::output::Output;
use crate::record::Record;

impl Participant {
    /// Reads the log and completes the recovery. Records of coordinators are passed over.
    ///
    /// # Panics
    /// When called twice: a second reading could contradict what was done since the first.
    #[must_use = "what is in doubt must ask"]
    pub fn recover(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<Output> {
        assert!(self.recovering, "a log is read once");
        self.recovering = false;
        let mut outputs = Vec::new();
        for (txid, mut entry) in read_log(records) {
            entry.since = self.now;
            // Whatever the coordinator said while this branch was down is lost, and it may have given up saying it.
            let output = if entry.may_ask() { entry.ask() } else { Output::new(&txid) };
            self.arm(&mut entry);
            self.keep(entry);
            if !output.is_empty() {
                outputs.push(output);
            }
        }
        outputs
    }
}

/// The entries as they were when the last of these records was durable.
fn read_log(records: impl IntoIterator<Item = Record>) -> BTreeMap<TxId, Entry> {
    let mut found = BTreeMap::new();
    for record in records {
        let txid = record.txid().clone();
        match record {
            // The vote may have left before the crash or not. It must be taken for given: the coordinator may have
            // committed on it.
            Record::Prepared(transfer) => {
                let entry = entry_of(&mut found, &txid);
                entry.state = ParticipantState::Prepared;
                entry.held = Some(transfer);
            }
            // Known, and on the disk. One that a person has settled asks again until its coordinator agrees.
            Record::Settled { outcome, by_hand, .. } => {
                let entry = entry_of(&mut found, &txid);
                entry.state = ParticipantState::Settled(outcome);
                entry.by_hand = by_hand.is_some();
            }
            Record::Confirmed { .. } => entry_of(&mut found, &txid).confirmed = true,
            Record::Mixed { ours, .. } => entry_of(&mut found, &txid).state = ParticipantState::Mixed(ours),
            // What this branch's coordinator wrote under an id takes nothing away from what stands under it here.
            Record::Begun(_)
            | Record::Committed { .. }
            | Record::Aborted { .. }
            | Record::Ended { .. }
            | Record::Contradicted { .. }
            | Record::Resolved { .. } => {}
        }
    }
    found
}

/// What the log has told of a transaction so far.
fn entry_of<'f>(found: &'f mut BTreeMap<TxId, Entry>, txid: &TxId) -> &'f mut Entry {
    found.entry(txid.clone()).or_insert_with(|| Entry::new(txid))
}

//! What a coordinator finds in its log after a start (rule 7): what was undecided aborts, what was decided is delivered.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::TxId;

use super::transaction::Transaction;
use super::{Coordinator, CoordinatorState};
use crate::output::{AbortReason, Output};
use crate::record::{Outcome, Record};
use crate::refusal::Refusal;
use crate::transfer::{PeerAddr, Transfer};

/// What the log says of one transaction: what it moves, where it goes on, and who has said that it can't follow.
struct Found {
    transfer: Arc<Transfer>,
    state: CoordinatorState,
    contradictions: Vec<(PeerAddr, Refusal)>,
}

impl Coordinator {
    /// Reads the log and completes the recovery. Records of participants are passed over, and so are transactions that
    /// ended in an abort.
    ///
    /// # Panics
    /// When called twice: a second reading could contradict what was done since the first.
    #[must_use = "recovered transactions must be finished"]
    pub fn recover(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<Output> {
        assert!(self.recovering, "a log is read once");
        self.recovering = false;
        let outputs = read_log(records).into_values().map(|found| self.resume(found));
        outputs.filter(|output| !output.is_empty()).collect()
    }

    fn resume(&mut self, Found { transfer, state, contradictions }: Found) -> Output {
        let txid = transfer.txid.clone();
        // A decision to commit proves that every participant voted yes; acknowledgements are not logged.
        let mut transaction = Transaction::new(transfer, state.is_committed());
        for (by, refusal) in contradictions {
            transaction.parties.entry(by).and_modify(|party| party.contradicted = Some(refusal));
        }
        match state {
            CoordinatorState::Aborting => {
                // This log may be older than what was decided. Whoever knows better is listened to for a while.
                transaction.retract_until = self.now + self.options.settled_retention_ticks;
                self.abort(transaction, AbortReason::Restarted)
            }
            CoordinatorState::Delivering | CoordinatorState::Retracting => {
                transaction.enter(state);
                let outcome = if state.is_committed() { Outcome::Committed } else { Outcome::Aborted };
                let output = self.tell_again(&mut transaction, outcome);
                self.keep(transaction);
                output
            }
            CoordinatorState::Ended => {
                transaction.parties.values_mut().for_each(|party| party.acknowledged = Some(false));
                self.end(transaction);
                Output::new(&txid)
            }
            CoordinatorState::Unknown
            | CoordinatorState::Beginning
            | CoordinatorState::Voting
            | CoordinatorState::Committing
            | CoordinatorState::Noting(_)
            | CoordinatorState::Resolving(_)
            | CoordinatorState::Ending => panic!("{txid} cannot be resumed in {state:?}"),
        }
    }
}

/// Where each transaction goes on after the last of these records.
fn read_log(records: impl IntoIterator<Item = Record>) -> BTreeMap<TxId, Found> {
    let mut found: BTreeMap<TxId, Found> = BTreeMap::new();
    for record in records {
        let txid = record.txid().clone();
        match record {
            // Without a decision after it, it was undecided, and nobody has been told a commit: it aborts.
            Record::Begun(transfer) => {
                let state = CoordinatorState::Aborting;
                found.insert(txid, Found { transfer, state, contradictions: Vec::new() });
            }
            Record::Committed { .. } => {
                found.entry(txid).and_modify(|found| found.state = CoordinatorState::Delivering);
            }
            Record::Ended { .. } => {
                found.entry(txid).and_modify(|found| found.state = CoordinatorState::Ended);
            }
            Record::Aborted { .. } => drop(found.remove(&txid)),
            // It is shown to people until one of them settles it, after every restart too.
            Record::Contradicted { transfer, ours, by, refusal } => {
                if ours == Outcome::Aborted {
                    // An abort has no other record left, and is told until it is settled.
                    let state = CoordinatorState::Retracting;
                    let aborted = Found { transfer, state, contradictions: Vec::new() };
                    found.entry(txid.clone()).or_insert(aborted).state = state;
                }
                found.entry(txid).and_modify(|found| found.contradictions.push((by, refusal)));
            }
            Record::Resolved { outcome: Outcome::Committed, .. } => {
                found.entry(txid).and_modify(|found| {
                    found.state = CoordinatorState::Ended;
                    found.contradictions.clear();
                });
            }
            Record::Resolved { outcome: Outcome::Aborted, .. } => drop(found.remove(&txid)),
            Record::Prepared(_) | Record::Settled { .. } | Record::Confirmed { .. } | Record::Mixed { .. } => {}
        }
    }
    found
}

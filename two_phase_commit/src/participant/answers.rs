//! A participant's answers that change nothing, and its reasons to refuse.

use protocol::TxId;

use crate::message::{Message, Vote};
use crate::output::{Notice, Output};
use crate::record::Outcome;
use crate::refusal::Refusal;
use crate::transfer::PeerAddr;

pub(super) fn vote_no(txid: &TxId, to: &PeerAddr, refusal: Refusal) -> Output {
    Output::new(txid).send(to, Message::Vote { txid: txid.clone(), vote: Vote::No(refusal) })
}

pub(super) fn acknowledge(txid: &TxId, to: &PeerAddr, outcome: Outcome, mixed: bool) -> Output {
    Output::new(txid).send(to, Message::Acknowledged { txid: txid.clone(), outcome, mixed })
}

/// Nothing is changed: the sender is told, without a word to the operator: it is the sender's mistake alone.
pub(super) fn reject(txid: &TxId, from: &PeerAddr, refusal: Refusal) -> Output {
    Output::new(txid).send(from, Message::Rejected { txid: txid.clone(), refusal })
}

/// Nothing is changed: the sender is told, and, when it is a branch, so is whoever reads the log. A program reads its
/// answer itself.
pub(super) fn contradict(txid: &TxId, from: &PeerAddr, refusal: Refusal) -> Output {
    // It has contradicted nobody's decision but its own, and what it mistook it reads in its answer.
    if from.is_program() {
        return reject(txid, from, refusal);
    }
    reject(txid, from, refusal.clone()).tell(Notice::Contradicted { txid: txid.clone(), by: from.clone(), refusal })
}

pub(super) fn aborted() -> Refusal {
    Refusal::new(Refusal::ABORTED, "the transaction was aborted before")
}

pub(super) fn settled() -> Refusal {
    Refusal::new(Refusal::SETTLED, "the transaction has ended before")
}

pub(super) fn not_prepared() -> Refusal {
    Refusal::new(Refusal::NOT_PREPARED, "no such transaction is prepared here")
}

pub(super) fn id_reused() -> Refusal {
    Refusal::new(Refusal::ID_REUSED, "the transaction's id was used before, with other legs")
}

pub(super) fn coordinated(by: &PeerAddr) -> Refusal {
    let text =
        format!("branch {by} coordinates this transaction: it alone decides, or a person by resolve with a reason");
    Refusal::new(Refusal::COORDINATED, text)
}

pub(super) fn not_the_askers(from: &PeerAddr) -> Refusal {
    Refusal::new(Refusal::MALFORMED, format!("a prepare of {from} must name {from} as the coordinator"))
}

pub(super) fn busy() -> Refusal {
    Refusal::new(Refusal::BUSY, "too many transfers are prepared here; try again shortly")
}

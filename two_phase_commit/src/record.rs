//! What a party writes to its log, so that a restart finds it.
//!
//! A record is *forced* when something that is sent after it would be a lie without it. The others only
//! save work after a restart: losing one costs a message, never money.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use protocol::TxId;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;
use crate::transfer::{PeerAddr, Transfer};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every leg happened.
    Committed,
    /// No leg happened.
    Aborted,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
        })
    }
}

/// One entry of the log. The first six are a coordinator's, the others a participant's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Record {
    /// The coordinator begins, with all legs. Forced before the first prepare, together with the hold:
    /// otherwise a crash would leave the hold without anyone who knows that it must be released.
    Begun(Arc<Transfer>),
    /// The coordinator decides to commit. Forced: **this is the commit point**.
    Committed {
        /// The transaction.
        txid: TxId,
    },
    /// The coordinator has aborted. Not forced: a log that has `Begun` alone means the same.
    Aborted {
        /// The transaction.
        txid: TxId,
    },
    /// Every participant has acknowledged. Not forced: without it a restart delivers once more.
    Ended {
        /// The transaction.
        txid: TxId,
        /// The participants that had been settled by hand the other way.
        mixed: BTreeSet<PeerAddr>,
    },
    /// A participant has said that it can't follow the decision. Forced: what is shown to people is in every audit too.
    Contradicted {
        /// What the transaction moves: an aborted one has no other record left.
        transfer: Arc<Transfer>,
        /// What was decided here.
        ours: Outcome,
        /// Who said it.
        by: PeerAddr,
        /// Why.
        refusal: Refusal,
    },
    /// A person has settled what the coordinator could not finish. Forced: it ends the delivery.
    Resolved {
        /// The transaction.
        txid: TxId,
        /// What the person said.
        outcome: Outcome,
        /// The person's reason.
        reason: Arc<str>,
    },
    /// The participant can commit, whatever happens. Forced before the yes vote. A later record with more
    /// legs for the same transaction takes this one's place.
    Prepared(Arc<Transfer>),
    /// The participant has learnt the outcome, or an operator has set it. Forced before the
    /// acknowledgement. Without a `Prepared` before it, it remembers an abort that came first.
    Settled {
        /// The transaction.
        txid: TxId,
        /// How it ended here.
        outcome: Outcome,
        /// The operator's reason, when settled by hand.
        by_hand: Option<Arc<str>>,
    },
    /// What was settled by hand is what the coordinator decided. Forced before the acknowledgement, after
    /// which the coordinator may forget: asked again, it would answer "aborted".
    Confirmed {
        /// The transaction.
        txid: TxId,
    },
    /// What was settled by hand and what the coordinator decided differ. Forced.
    Mixed {
        /// The transaction.
        txid: TxId,
        /// What the operator chose here. It stays so.
        ours: Outcome,
        /// What the coordinator decided.
        theirs: Outcome,
    },
}

impl Record {
    /// The transaction that the record is about.
    #[must_use]
    pub fn txid(&self) -> &TxId {
        match self {
            // Only these carry what the transaction moves: they are the first that the log has of it, or all that is
            // left.
            Self::Begun(transfer) | Self::Prepared(transfer) | Self::Contradicted { transfer, .. } => &transfer.txid,
            Self::Resolved { txid, .. }
            | Self::Committed { txid }
            | Self::Aborted { txid }
            | Self::Ended { txid, .. }
            | Self::Settled { txid, .. }
            | Self::Confirmed { txid }
            | Self::Mixed { txid, .. } => txid,
        }
    }

    /// Whether it must be durable before anything that its output tells or sends.
    ///
    /// A driver may confirm an output whose records are all unforced before it is on disk, provided that
    /// the disk keeps the order of writes.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        match self {
            // Before the prepares: its hold must be there when the votes come, and after a crash it says what to release.
            Self::Begun(_) => true,
            // Before the decision is told: a restart without it would abort what others have paid out.
            Self::Committed { .. } => true,
            // Before people see it: what they were shown must be there after a restart, until one of them settles it.
            Self::Contradicted { .. } => true,
            // Before the person is told that it is done: the books of two branches are made to agree on this word.
            Self::Resolved { .. } => true,
            // Before the vote: the coordinator commits on it, and can't know that it was forgotten.
            Self::Prepared(_) => true,
            // Before the acknowledgement, by which the coordinator may forget: nobody would be left to ask.
            Self::Settled { .. } | Self::Confirmed { .. } | Self::Mixed { .. } => true,
            // A restart finds `Begun` alone and aborts again; whoever asks meanwhile hears "aborted" in any case.
            Self::Aborted { .. } => false,
            // A restart delivers once more, to participants that answer a repeat as they answered the first.
            Self::Ended { .. } => false,
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun(transfer) => write!(f, "begun {transfer}"),
            Self::Committed { txid } => write!(f, "committed {txid}"),
            Self::Aborted { txid } => write!(f, "aborted {txid}"),
            Self::Ended { txid, mixed } => {
                write!(f, "ended {txid}")?;
                mixed.iter().try_for_each(|peer| write!(f, ", mixed at {peer}"))
            }
            Self::Contradicted { transfer, ours, by, refusal } => {
                write!(f, "contradicted {} by {by}: {ours} here, but {refusal}", transfer.txid)
            }
            Self::Resolved { txid, outcome, reason } => write!(f, "resolved {txid} {outcome} by hand ({reason})"),
            Self::Prepared(transfer) => {
                write!(f, "prepared {transfer}")?;
                match &transfer.coordinator {
                    Some(coordinator) => write!(f, " for {coordinator}"),
                    None => f.write_str(" without a coordinator"),
                }
            }
            Self::Settled { txid, outcome, by_hand } => {
                write!(f, "settled {txid} {outcome}")?;
                match by_hand {
                    Some(reason) => write!(f, " by hand ({reason})"),
                    None => Ok(()),
                }
            }
            Self::Confirmed { txid } => write!(f, "confirmed {txid}"),
            Self::Mixed { txid, ours, theirs } => write!(f, "mixed {txid}: {ours} here, {theirs} there"),
        }
    }
}

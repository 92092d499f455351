//! What the parties say to one another.
//!
//! Any message may be lost, doubled, delayed or overtaken. None relies on the one before it: each carries
//! the transaction's id, and a receiver that has heard it before answers the same again.

use std::fmt;
use std::sync::Arc;

use protocol::TxId;
use serde::{Deserialize, Serialize};

use crate::record::Outcome;
use crate::refusal::Refusal;
use crate::transfer::{PeerAddr, Transfer};

/// A participant's answer to a prepare.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vote {
    /// It can commit, whatever happens, and has given up the right to abort alone.
    Yes,
    /// It can't, and has kept nothing of it.
    No(Refusal),
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Coordinator to participant: can you do these legs?
    Prepare(Arc<Transfer>),
    /// Participant to coordinator: the answer.
    Vote {
        /// The transaction.
        txid: TxId,
        /// Yes or no.
        vote: Vote,
    },
    /// Coordinator to participant: this is how it ends. Also the answer to an inquiry.
    Decision {
        /// The transaction.
        txid: TxId,
        /// How it ends.
        outcome: Outcome,
    },
    /// Participant to coordinator: the outcome is durable here.
    Acknowledged {
        /// The transaction.
        txid: TxId,
        /// The outcome that was told.
        outcome: Outcome,
        /// Whether an operator had settled it the other way here, so that it stands in the books as mixed.
        mixed: bool,
    },
    /// Participant to coordinator: how did it end?
    Inquiry {
        /// The transaction.
        txid: TxId,
    },
    /// Coordinator to participant, answering an inquiry: it has not ended; ask again.
    Undecided {
        /// The transaction.
        txid: TxId,
    },
    /// Participant to whoever decided: this decision can't be followed here.
    ///
    /// A coordinator gets this when either side has lost what it wrote: it was restored from a backup, or a copy was
    /// promoted that lagged behind. An outside program gets it when it commits what it has not prepared, or what it
    /// aborted before, or decides what a branch coordinates.
    Rejected {
        /// The transaction.
        txid: TxId,
        /// Why.
        refusal: Refusal,
    },
}

/// Which machine of a branch a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// For [`crate::Coordinator::step`].
    Coordinator,
    /// For [`crate::Participant::step`].
    Participant,
}

impl Message {
    /// The transaction that the message is about.
    #[must_use]
    pub fn txid(&self) -> &TxId {
        match self {
            Self::Prepare(transfer) => &transfer.txid,
            Self::Vote { txid, .. }
            | Self::Decision { txid, .. }
            | Self::Acknowledged { txid, .. }
            | Self::Inquiry { txid }
            | Self::Undecided { txid }
            | Self::Rejected { txid, .. } => txid,
        }
    }

    /// The machine that the message is for.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            // A branch is coordinator and participant at once, of different transactions. The kind of message says
            // which is meant: what a coordinator says is for a participant, and the reverse.
            Self::Prepare(_) | Self::Decision { .. } | Self::Undecided { .. } => Role::Participant,
            Self::Vote { .. } | Self::Acknowledged { .. } | Self::Inquiry { .. } | Self::Rejected { .. } => {
                Role::Coordinator
            }
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare(transfer) => write!(f, "prepare {transfer}"),
            Self::Vote { txid, vote: Vote::Yes } => write!(f, "vote {txid} yes"),
            Self::Vote { txid, vote: Vote::No(refusal) } => write!(f, "vote {txid} no ({refusal})"),
            Self::Decision { txid, outcome } => write!(f, "decision {txid} {outcome}"),
            Self::Acknowledged { txid, outcome, mixed } => {
                write!(f, "acknowledged {txid} {outcome}{}", if *mixed { " (mixed)" } else { "" })
            }
            Self::Inquiry { txid } => write!(f, "inquiry {txid}"),
            Self::Undecided { txid } => write!(f, "undecided {txid}"),
            Self::Rejected { txid, refusal } => write!(f, "rejected {txid} ({refusal})"),
        }
    }
}

/// A message and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Envelope {
    /// Whom to send it to.
    pub to: PeerAddr,
    /// What to send.
    pub message: Message,
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.to, self.message)
    }
}

//! What a machine wants done after an input.
//!
//! An [`Output`] is about one transaction. Its records and ledger operations go into one local
//! transaction of the database; its messages and notices go out only after that is durable.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use protocol::TxId;

use crate::message::{Envelope, Message};
use crate::options::Tick;
use crate::record::{Outcome, Record};
use crate::refusal::Refusal;
use crate::transfer::{PeerAddr, Transfer};

/// What to make durable, then what to send and to tell.
#[must_use = "what a machine puts out must be written, confirmed and sent, or the protocol stops here"]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Output {
    /// The transaction that it is about.
    pub txid: TxId,
    /// What to write to the log.
    pub records: Vec<Record>,
    /// What to do to the accounts, in the same local transaction.
    pub ledger_ops: Vec<LedgerOp>,
    /// What to send, after that transaction is durable and confirmed.
    pub messages: Vec<Envelope>,
    /// What to tell the client, the log or the operator, after that transaction is durable and confirmed.
    pub notices: Vec<Notice>,
}

impl Output {
    /// Nothing to do.
    pub(crate) fn new(txid: &TxId) -> Self {
        Self { txid: txid.clone(), records: vec![], ledger_ops: vec![], messages: vec![], notices: vec![] }
    }

    /// Whether there is something to write. Such an output must be confirmed by `on_durable` or `on_hold_refused`.
    #[must_use]
    pub fn needs_write(&self) -> bool {
        !self.records.is_empty() || !self.ledger_ops.is_empty()
    }

    /// Whether the write must be durable before the confirmation. See [`Record::is_forced`].
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.records.iter().any(Record::is_forced)
    }

    /// Whether there is nothing to do at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.needs_write() && self.messages.is_empty() && self.notices.is_empty()
    }

    pub(crate) fn record(mut self, record: Record) -> Self {
        self.records.push(record);
        self
    }

    /// Adds a ledger operation, unless it has no leg here to work on.
    pub(crate) fn ledger(mut self, action: LedgerAction, transfer: &Arc<Transfer>) -> Self {
        // A coordinator may move money between other branches alone; then nothing is to be done to its own accounts.
        if transfer.local_legs().next().is_some() {
            self.ledger_ops.push(LedgerOp { action, transfer: Arc::clone(transfer) });
        }
        self
    }

    /// Adds the operation for legs elsewhere that ended otherwise than decided here.
    pub(crate) fn settle_elsewhere(mut self, ours: Outcome, elsewhere: &Arc<Transfer>) -> Self {
        // A branch that is only silent is taken to have done its part. If nobody was given up, no books differ.
        if !elsewhere.legs.is_empty() {
            let action = LedgerAction::SettleElsewhere { ours };
            self.ledger_ops.push(LedgerOp { action, transfer: Arc::clone(elsewhere) });
        }
        self
    }

    pub(crate) fn send(mut self, to: &PeerAddr, message: Message) -> Self {
        self.messages.push(Envelope { to: to.clone(), message });
        self
    }

    pub(crate) fn tell(mut self, notice: Notice) -> Self {
        self.notices.push(notice);
        self
    }

    /// Adds what a replayed input put out.
    pub(crate) fn and(mut self, other: Self) -> Self {
        // One output is one local transaction and one confirmation. A second transaction's write would never be
        // confirmed, and its inputs would wait for ever.
        assert_eq!(self.txid, other.txid, "outputs of two transactions cannot be one");
        self.records.extend(other.records);
        self.ledger_ops.extend(other.ledger_ops);
        self.messages.extend(other.messages);
        self.notices.extend(other.notices);
        self
    }
}

/// An operation on the accounts of this branch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LedgerOp {
    /// What to do.
    pub action: LedgerAction,
    /// The transaction as this party knows it. The operation is for its [`Transfer::local_legs`]; a
    /// coordinator's has the other branches' legs too, for the books. [`LedgerAction::SettleElsewhere`] is for those
    /// alone.
    pub transfer: Arc<Transfer>,
}

/// What to do with the local legs. Only [`LedgerAction::Hold`] may be refused by the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LedgerAction {
    /// Reserve: hold the money of a withdrawal; pin the account of a deposit open and reserve the room.
    /// Refused when that can't be done, or when the books already have a row for (txid, leg).
    Hold,
    /// Turn the holds into movements: one row for each (txid, leg), each once.
    Apply,
    /// Drop the holds.
    Release,
    /// Book the difference between what was settled by hand and what the coordinator decided on the
    /// suspense account; change no row that is there.
    Suspense {
        /// What stands in the books here.
        ours: Outcome,
        /// What stands in the books everywhere else.
        theirs: Outcome,
    },
    /// The coordinator's counterpart: the operation's legs, all at other branches, did not end there as it was decided
    /// here. Book them on the suspense account, so that what is due between the branches agrees; change no row.
    SettleElsewhere {
        /// What was decided, and stands in the books here.
        ours: Outcome,
    },
}

impl fmt::Display for LedgerOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            LedgerAction::Hold => f.write_str("hold")?,
            LedgerAction::Apply => f.write_str("apply")?,
            LedgerAction::Release => f.write_str("release")?,
            LedgerAction::Suspense { ours, theirs } => write!(f, "suspense ({ours} here, {theirs} there)")?,
            LedgerAction::SettleElsewhere { ours } => write!(f, "suspense ({ours} here, not there)")?,
        }
        write!(f, " {}", self.transfer.txid)?;
        // A coordinator's transfer has the legs of all branches. What is printed are those that the operation touches.
        let is_elsewhere = matches!(self.action, LedgerAction::SettleElsewhere { .. });
        let legs = self.transfer.legs.iter().filter(|leg| leg.branch.is_some() == is_elsewhere);
        legs.enumerate().try_for_each(|(position, leg)| {
            let separator = if position == 0 { ":" } else { ";" };
            write!(f, "{separator} {leg}")
        })
    }
}

/// How the coordinator decided, for the client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// Every leg happens.
    Committed,
    /// No leg happens.
    Aborted(AbortReason),
}

/// Why a coordinator aborted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AbortReason {
    /// A ledger refused.
    Refused {
        /// Whose; `None` for the coordinator's own.
        by: Option<PeerAddr>,
        /// What it said.
        refusal: Refusal,
    },
    /// Some votes did not come in time.
    VoteTimeout {
        /// Whose.
        missing: BTreeSet<PeerAddr>,
    },
    /// A participant that had not voted can't be reached.
    Unreachable {
        /// Which.
        peer: PeerAddr,
    },
    /// The driver gave it up before a decision, as at shutdown.
    Cancelled {
        /// Why, for a person.
        text: Arc<str>,
    },
    /// The coordinator was restarted before it had decided.
    Restarted,
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { by: None, refusal } => write!(f, "refused here, {refusal}"),
            Self::Refused { by: Some(peer), refusal } => write!(f, "refused by {peer}, {refusal}"),
            Self::VoteTimeout { missing } => {
                f.write_str("no vote in time")?;
                missing.iter().try_for_each(|peer| write!(f, " from {peer}"))
            }
            Self::Unreachable { peer } => write!(f, "{peer} cannot be reached"),
            Self::Cancelled { text } => write!(f, "cancelled, {text}"),
            Self::Restarted => f.write_str("the coordinator was restarted"),
        }
    }
}

/// Something that others will want to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notice {
    /// The coordinator has decided: the client can be answered.
    Decided {
        /// The transaction.
        txid: TxId,
        /// How.
        decision: Decision,
    },
    /// Every participant has acknowledged the commit: delivery is done.
    Delivered {
        /// The transaction.
        txid: TxId,
        /// The participants that had been settled by hand the other way.
        mixed: BTreeSet<PeerAddr>,
    },
    /// What was settled by hand agrees with the coordinator.
    Confirmed {
        /// The transaction.
        txid: TxId,
    },
    /// What was settled by hand and what the coordinator decided differ. An operator must look.
    Mixed {
        /// The transaction.
        txid: TxId,
        /// What stands in the books here.
        ours: Outcome,
        /// What the coordinator decided.
        theirs: Outcome,
    },
    /// Somebody broke the protocol: a decision came that differs from one that was followed or that was
    /// never voted for, or was rejected. Nothing was changed. It belongs in the log as a warning.
    Contradicted {
        /// The transaction.
        txid: TxId,
        /// Who said it.
        by: PeerAddr,
        /// What is wrong.
        refusal: Refusal,
    },
    /// The machine has no more need of the transaction. The driver may delete its log records, not its rows
    /// in the books, once `keep_until` has passed; nothing depends on when.
    Forgotten {
        /// The transaction.
        txid: TxId,
        /// Until when the disk must answer for it: later than now if it was forgotten early, for want of room.
        keep_until: Tick,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided { txid, decision: Decision::Committed } => write!(f, "decided {txid} committed"),
            Self::Decided { txid, decision: Decision::Aborted(reason) } => {
                write!(f, "decided {txid} aborted ({reason})")
            }
            Self::Delivered { txid, mixed } => {
                write!(f, "delivered {txid}")?;
                mixed.iter().try_for_each(|peer| write!(f, ", mixed at {peer}"))
            }
            Self::Confirmed { txid } => write!(f, "confirmed {txid}"),
            Self::Mixed { txid, ours, theirs } => write!(f, "mixed {txid}: {ours} here, {theirs} there"),
            Self::Contradicted { txid, by, refusal } => write!(f, "contradicted {txid} by {by} ({refusal})"),
            Self::Forgotten { txid, keep_until } => write!(f, "forgotten {txid}, keep until {keep_until}"),
        }
    }
}

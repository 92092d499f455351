//! The terms of a transfer: where its receivers are, what waits, what is known of it.

use protocol::{AccountNum, BranchName, Money};
use two_phase_commit::Outcome;

/// Where a receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this branch.
    Here,
    /// At another.
    There(BranchName),
}

/// One receiver of a transfer.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Where.
    pub place: Place,
    /// Which account.
    pub account: AccountNum,
    /// How much.
    pub amount: Money,
}

/// How many transfers wait for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Prepared here, and the outcome is not known.
    pub in_doubt: u64,
    /// Decided here, and not acknowledged by every branch.
    pub undelivered: u64,
    /// Those of the undelivered that another branch has said it can't follow: they wait for a person.
    pub contradicted: u64,
}

/// What is known of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxOutcome {
    /// It is or will be carried out, at every branch.
    Committed,
    /// It is not and won't be, at any branch.
    Aborted,
    /// It is under way.
    Undecided,
}

impl TxOutcome {
    /// The text of `tx_status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Undecided => "undecided",
        }
    }
}

impl From<Outcome> for TxOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Committed => Self::Committed,
            Outcome::Aborted => Self::Aborted,
        }
    }
}

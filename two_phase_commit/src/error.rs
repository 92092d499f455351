//! Why a transaction could not begin, and why a person's order to settle one was not carried out. Nothing was done.

use std::collections::BTreeSet;
use std::fmt;

use crate::record::Outcome;
use crate::transfer::{PeerAddr, TransferError};

/// Why a transaction could not begin. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginError {
    /// The legs make no sense.
    Transfer(TransferError),
    /// The id is that of a transaction in memory.
    IdInUse,
    /// The log has not been read yet.
    Recovering,
    /// Too many transactions are under way; later it may work.
    Busy,
}

impl fmt::Display for BeginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transfer(error) => error.fmt(f),
            Self::IdInUse => f.write_str("the transaction's id is in use"),
            Self::Recovering => f.write_str("the branch is recovering; try again shortly"),
            Self::Busy => f.write_str("too many transfers are under way; try again shortly"),
        }
    }
}

impl std::error::Error for BeginError {}

/// Why nothing was settled by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// No such transaction is in doubt here.
    Unknown,
    /// It is being written at this moment; look again.
    UnderWay,
    /// It has ended, and what has ended is not changed.
    Settled(Outcome),
    /// Votes are missing, so it can only be given up.
    NotVoted,
    /// It is committed, and these branches, which have not said that they can't follow, may have paid: it can't be
    /// taken back.
    MayBePaid(BTreeSet<PeerAddr>),
    /// The log has not been read yet.
    Recovering,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no such transaction is in doubt here"),
            Self::UnderWay => f.write_str("the transaction is being settled right now; look again"),
            Self::Settled(outcome) => write!(f, "the transaction is {outcome} already"),
            Self::NotVoted => f.write_str("not every branch has voted yes, so the transaction can only be aborted"),
            Self::MayBePaid(peers) => {
                f.write_str("the transaction is committed, and may have been carried out at")?;
                peers.iter().try_for_each(|peer| write!(f, " {peer}"))?;
                f.write_str(": settle it as committed, or wait until that branch answers")
            }
            Self::Recovering => f.write_str("the branch is recovering; try again shortly"),
        }
    }
}

impl std::error::Error for ResolveError {}

//! Where a transaction can stand at its coordinator, and the table of legal transitions.

use std::collections::BTreeSet;

use crate::record::Outcome;
use crate::transfer::PeerAddr;

/// Where a transaction stands at its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoordinatorState {
    /// Not in memory: never begun, aborted, or committed and forgotten. Asked about it: what the books say, and what
    /// they don't know is aborted (rules 5 and 12).
    Unknown,
    /// The begin record and the hold are on their way to the disk. Nothing has been sent.
    Beginning,
    /// The prepares are out. The coordinator may still abort.
    Voting,
    /// All voted yes, and the decision is on its way to the disk. Until it is there, nothing is decided.
    Committing,
    /// Someone refused or nobody answered, and the release is on its way to the disk.
    Aborting,
    /// Committed, for good. The decision is sent until all have acknowledged it.
    Delivering,
    /// All have acknowledged, and the end record is on its way to the disk.
    Ending,
    /// Over; remembered for a while, so that a late inquiry gets the right answer.
    Ended,
    /// Aborted at a restart. That is told until all have acknowledged it, or for a while: one who says that it was
    /// committed shows that this branch has lost what it had decided.
    Retracting,
    /// Decided so; a participant has said that it can't follow, and that is on its way to the disk (rule 14).
    Noting(Outcome),
    /// Decided so; a person has settled what can't be delivered, and that is on its way to the disk (rule 9).
    Resolving(Outcome),
}

impl CoordinatorState {
    /// Every legal transition. Those from `Unknown`, but for the first, are recovery's.
    pub const LEGAL: &[(Self, Self)] = &[
        (Self::Unknown, Self::Beginning),
        (Self::Beginning, Self::Unknown),    // the coordinator's own ledger refused
        (Self::Beginning, Self::Voting),     // rule 1
        (Self::Beginning, Self::Committing), // there is no one to ask
        (Self::Beginning, Self::Aborting),   // cancelled
        (Self::Voting, Self::Committing),    // rule 3: all voted yes
        (Self::Voting, Self::Aborting),      // rule 3: a no, a timeout, a lost link
        (Self::Committing, Self::Delivering),
        (Self::Committing, Self::Ended), // there is no one to tell
        (Self::Aborting, Self::Unknown), // rule 5: an abort is forgotten at once
        (Self::Delivering, Self::Ending),
        (Self::Ending, Self::Ended),
        (Self::Ended, Self::Unknown),
        (Self::Aborting, Self::Retracting), // rule 7: undecided at the crash
        (Self::Retracting, Self::Unknown),
        (Self::Delivering, Self::Noting(Outcome::Committed)), // rule 14
        (Self::Noting(Outcome::Committed), Self::Delivering),
        (Self::Retracting, Self::Noting(Outcome::Aborted)),
        (Self::Noting(Outcome::Aborted), Self::Retracting),
        (Self::Delivering, Self::Resolving(Outcome::Committed)), // rule 9
        (Self::Resolving(Outcome::Committed), Self::Ended),
        (Self::Retracting, Self::Resolving(Outcome::Aborted)),
        (Self::Resolving(Outcome::Aborted), Self::Unknown),
        (Self::Unknown, Self::Aborting),   // rule 7: undecided at the crash
        (Self::Unknown, Self::Delivering), // rule 7: decided at the crash
        (Self::Unknown, Self::Ended),
        (Self::Unknown, Self::Retracting), // rule 7: found contradicted
    ];

    /// Whether the table allows to go from here to `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        Self::LEGAL.contains(&(self, next))
    }

    pub(super) fn is_committed(self) -> bool {
        match self {
            // The commit record is on the disk in each of these, whatever is still to be done.
            Self::Delivering
            | Self::Ending
            | Self::Ended
            | Self::Noting(Outcome::Committed)
            | Self::Resolving(Outcome::Committed) => true,
            Self::Unknown
            | Self::Beginning
            | Self::Voting
            | Self::Committing
            | Self::Aborting
            | Self::Retracting
            | Self::Noting(Outcome::Aborted)
            | Self::Resolving(Outcome::Aborted) => false,
        }
    }
}

/// What the driver found on its disk about a transaction that [`crate::Coordinator::remembers`] not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Booked {
    /// Neither the log nor the books know it as one that was committed here.
    #[default]
    Nothing,
    /// It was committed here, with these participants: the books have its legs. One whose part a person has settled
    /// otherwise isn't among them.
    Committed(BTreeSet<PeerAddr>),
    /// The disk can't tell: somebody else who coordinated in this branch's name may have begun it.
    Unclear,
}

/// What a coordinator answers about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has ended so. One that is not in memory has ended aborted, unless the books know better (rules 5 and 12).
    Decided(Outcome),
    /// It is under way.
    Undecided,
    /// The log has not been read yet: nothing can be said.
    Recovering,
}

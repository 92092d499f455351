//! Where a transaction can stand at its coordinator, and the table of legal transitions.

use crate::record::Outcome;

/// Where a transaction stands at its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoordinatorState {
    /// Not in memory: never begun, aborted, or committed and forgotten. Asked about it: aborted.
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
        (Self::Unknown, Self::Aborting),   // rule 7: undecided at the crash
        (Self::Unknown, Self::Delivering), // rule 7: decided at the crash
        (Self::Unknown, Self::Ended),
    ];

    /// Whether the table allows to go from here to `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        Self::LEGAL.contains(&(self, next))
    }

    pub(super) fn is_committed(self) -> bool {
        match self {
            Self::Delivering | Self::Ending | Self::Ended => true,
            Self::Unknown | Self::Beginning | Self::Voting | Self::Committing | Self::Aborting => false,
        }
    }
}

/// What a coordinator answers about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has ended so. An unknown one has ended aborted: that is the presumption of rule 5.
    Decided(Outcome),
    /// It is under way.
    Undecided,
    /// The log has not been read yet: nothing can be said.
    Recovering,
}

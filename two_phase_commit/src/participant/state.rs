//! Where a transaction can stand at a participant, and the table of legal transitions.

use crate::record::Outcome;

/// Where a transaction stands at a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ParticipantState {
    /// Not in memory: never heard of, refused, or settled and forgotten.
    Unknown,
    /// The prepared record and the hold are on their way to the disk; there is no vote yet.
    Preparing,
    /// In doubt: voted yes, and the outcome is not known here.
    Prepared,
    /// The outcome is known and on its way to the disk.
    Settling(Outcome),
    /// The outcome is durable, and remembered for a while to answer repeats.
    Settled(Outcome),
    /// Settled by hand in this way; the coordinator agrees, and that is on its way to the disk.
    Confirming(Outcome),
    /// Settled by hand in this way; the coordinator says otherwise, and that is on its way to the disk.
    Mixing(Outcome),
    /// Settled by hand in this way and otherwise everywhere else. An operator must look.
    Mixed(Outcome),
}

impl ParticipantState {
    /// Every legal transition. There is none from one outcome to the other.
    pub const LEGAL: &[(Self, Self)] = &[
        (Self::Unknown, Self::Preparing),
        (Self::Preparing, Self::Unknown),  // rule 2: a refusal leaves nothing behind
        (Self::Preparing, Self::Prepared), // rule 2: the vote is yes
        (Self::Prepared, Self::Preparing), // one more leg for the same transaction
        (Self::Prepared, Self::Settling(Outcome::Committed)),
        (Self::Prepared, Self::Settling(Outcome::Aborted)),
        (Self::Unknown, Self::Settling(Outcome::Aborted)), // rule 8: an abort before its prepare
        (Self::Settling(Outcome::Committed), Self::Settled(Outcome::Committed)),
        (Self::Settling(Outcome::Aborted), Self::Settled(Outcome::Aborted)),
        (Self::Settled(Outcome::Committed), Self::Confirming(Outcome::Committed)), // rule 9
        (Self::Settled(Outcome::Aborted), Self::Confirming(Outcome::Aborted)),
        (Self::Confirming(Outcome::Committed), Self::Settled(Outcome::Committed)),
        (Self::Confirming(Outcome::Aborted), Self::Settled(Outcome::Aborted)),
        (Self::Settled(Outcome::Committed), Self::Mixing(Outcome::Committed)), // rule 9
        (Self::Settled(Outcome::Aborted), Self::Mixing(Outcome::Aborted)),
        (Self::Mixing(Outcome::Committed), Self::Mixed(Outcome::Committed)),
        (Self::Mixing(Outcome::Aborted), Self::Mixed(Outcome::Aborted)),
        (Self::Settled(Outcome::Committed), Self::Unknown),
        (Self::Settled(Outcome::Aborted), Self::Unknown),
        (Self::Mixed(Outcome::Committed), Self::Unknown),
        (Self::Mixed(Outcome::Aborted), Self::Unknown),
    ];

    /// Whether the table allows to go from here to `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        Self::LEGAL.contains(&(self, next))
    }

    pub(super) fn is_writing(self) -> bool {
        match self {
            // One write at a time for each transaction: whatever comes meanwhile waits, so writes can't overtake one
            // another.
            Self::Preparing | Self::Settling(_) | Self::Confirming(_) | Self::Mixing(_) => true,
            Self::Unknown | Self::Prepared | Self::Settled(_) | Self::Mixed(_) => false,
        }
    }
}

/// What the driver found on its disk about a transaction that [`crate::Participant::remembers`] not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisk {
    /// Nothing.
    Nothing,
    /// It ended so: there are rows in the books with its id, which stay, or a record of its abort, which stays
    /// until [`crate::Notice::Forgotten`] allows to delete it.
    Settled(Outcome),
    /// It was settled by hand one way and by its coordinator the other: the suspense account has it. That must
    /// be answered however late, since a coordinator that restarts delivers to all participants again.
    Mixed,
}

//! Epochs: which copy of a branch is the one that is written.
//!
//! The primaries of a branch are numbered, 1, 2, 3, …: each promotion of a replica begins the next epoch, and whoever
//! has heard of an epoch listens to none of a lower number. Two copies that can't hear one another may both be promoted
//! to the same number. So a promotion also draws an *id*; two of one number and different ids are a *conflict*, in
//! which neither is newer.
//!
//! The first epoch has no id, because no promotion began it. A program of an earlier version names none either: it
//! counts as the same as any of that number.

use std::cmp::Ordering;
use std::fmt;

/// An epoch of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number: how often a replica of the branch was promoted, and one. 0 where nothing was heard.
    pub number: i64,
    /// What was drawn at the promotion; empty where that is not known, or none was.
    pub id: String,
}

/// How one epoch stands to another of the same branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochOrder {
    /// It has a lower number.
    Older,
    /// It may be the same.
    Same,
    /// It has a higher number.
    Newer,
    /// It has the same number and is another: two copies were promoted side by side.
    Conflict,
}

impl Epoch {
    /// The longest id, in bytes.
    pub const ID_BYTES_MAX: usize = 64;
    /// The most by which a number that is heard may pass the highest that is known. A branch isn't promoted a million
    /// times; a number far above is a mistake or a lie, and believing it would leave no room above it.
    pub const STEP_MAX: i64 = 1_000_000;

    /// An epoch of this number and id.
    #[must_use]
    pub fn new(number: i64, id: &str) -> Self {
        Self { number, id: id.to_string() }
    }

    /// How this one stands to `other`.
    #[must_use]
    pub fn stands_to(&self, other: &Self) -> EpochOrder {
        match self.number.cmp(&other.number) {
            Ordering::Less => EpochOrder::Older,
            Ordering::Greater => EpochOrder::Newer,
            Ordering::Equal if self.id == other.id || self.id.is_empty() || other.id.is_empty() => EpochOrder::Same,
            Ordering::Equal => EpochOrder::Conflict,
        }
    }

    /// The later of two that don't contradict one another; of two that may be the same, the one whose id is known.
    #[must_use]
    pub fn or_later(self, other: Self) -> Self {
        match other.stands_to(&self) {
            EpochOrder::Newer => other,
            EpochOrder::Same if self.id.is_empty() => other,
            EpochOrder::Same | EpochOrder::Older | EpochOrder::Conflict => self,
        }
    }

    /// Whether somebody who knows of this one can believe that there is `other`.
    #[must_use]
    pub fn may_become(&self, other: &Self) -> bool {
        (0..=self.number.saturating_add(Self::STEP_MAX)).contains(&other.number)
            && other.id.len() <= Self::ID_BYTES_MAX
            && other.id.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }

    /// The number of the next one; none when there is no room above.
    #[must_use]
    pub fn next_number(&self) -> Option<i64> {
        self.number.checked_add(1)
    }
}

impl Default for Epoch {
    /// Nothing was heard.
    fn default() -> Self {
        Self::new(0, "")
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id.as_str() {
            "" => self.number.fmt(f),
            id => write!(f, "{} ({id})", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_one_number_and_different_ids_are_in_conflict_and_an_unknown_id_is_not() {
        let check = |one: (i64, &str), other: (i64, &str), expected: EpochOrder| {
            let (one, other) = (Epoch::new(one.0, one.1), Epoch::new(other.0, other.1));
            assert_eq!(one.stands_to(&other), expected, "{one} to {other}");
        };
        check((1, ""), (1, ""), EpochOrder::Same);
        check((2, "a"), (1, ""), EpochOrder::Newer);
        check((1, ""), (2, "a"), EpochOrder::Older);
        check((2, "a"), (2, "a"), EpochOrder::Same);
        check((2, "a"), (2, "b"), EpochOrder::Conflict);
        check((2, ""), (2, "b"), EpochOrder::Same);
        check((3, "a"), (2, "b"), EpochOrder::Newer);
    }

    #[test]
    fn the_later_one_is_kept_with_its_id() {
        let check = |one: (i64, &str), other: (i64, &str), expected: (i64, &str)| {
            let later = Epoch::new(one.0, one.1).or_later(Epoch::new(other.0, other.1));
            assert_eq!(later, Epoch::new(expected.0, expected.1));
        };
        check((2, "a"), (3, "b"), (3, "b"));
        check((3, "b"), (2, "a"), (3, "b"));
        check((2, ""), (2, "a"), (2, "a"));
        check((2, "a"), (2, ""), (2, "a"));
        check((2, "a"), (2, "b"), (2, "a"));
    }

    #[test]
    fn what_no_branch_can_have_reached_is_not_believed_and_leaves_room() {
        let first = Epoch::new(1, "");
        assert!(first.may_become(&Epoch::new(99, "")) && first.may_become(&Epoch::new(2, "0123456789abcdef")));
        for (number, id) in
            [(1 << 62, ""), (i64::MAX, ""), (-1, ""), (i64::MIN, ""), (2, "no id"), (2, &"a".repeat(65))]
        {
            assert!(!first.may_become(&Epoch::new(number, id)), "{number} {id}");
        }
        assert_eq!(Epoch::new(i64::MAX, "").next_number(), None);
        assert!(Epoch::new(i64::MAX, "").may_become(&Epoch::new(i64::MAX, "")));
    }
}

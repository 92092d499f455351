//! One number over all that a branch has booked with another, to compare both sides' books without reading them.
//!
//! Each payment between two branches changes what one owes the other: by its amount at the payer's branch, by the
//! same amount the other way at the receiver's. [`LegSum`] adds up these effects, each multiplied by a number that is
//! drawn, by SHA-256, from the payment's own id. So the sums of two branches that have booked the same payments add
//! up to zero, and what is missing at one of them, doubled, or of another amount shows, also where the amounts alone
//! would cancel out. The sum is over a set: neither order nor moment matters, and sums can be added.
//!
//! It finds mistakes. Who may choose ids at will could construct two sets with the same sum, with much computing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The weighted sum of payments' effects, modulo 2^128. Text form: 32 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegSum(u128);

impl LegSum {
    /// Of nothing, and of what both sides have booked alike.
    pub const ZERO: Self = Self(0);

    /// One row's part: it belongs to the payment `payment_number` of the transfer `txid`, and raises what the other
    /// branch owes by `effect_paise` (lowers it when negative).
    #[must_use]
    pub fn of_row(txid: &str, payment_number: i64, effect_paise: i128) -> Self {
        let mut hasher = Sha256::new();
        hasher.update((txid.len() as u64).to_be_bytes());
        hasher.update(txid.as_bytes());
        hasher.update(payment_number.to_be_bytes());
        let hash: [u8; 32] = hasher.finalize().into();
        let weight = hash.iter().take(16).fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
        // An odd weight is invertible: no effect but zero is lost.
        Self((weight | 1).wrapping_mul(effect_paise.cast_unsigned()))
    }

    /// Whether both sides agree.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

/// The number of the payment that a leg belongs to: leg 2k pays what leg 2k + 1 is paid, and the legs below zero, which
/// correct a leg that was settled by hand, belong to the payment of that leg.
#[must_use]
pub const fn payment_number(leg: i64) -> i64 {
    if leg < 0 { (-1 - leg) / 2 } else { leg / 2 }
}

impl std::ops::Add for LegSum {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl std::ops::Sub for LegSum {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

impl std::ops::AddAssign for LegSum {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for LegSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LegSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LegSum {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for LegSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LegSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_branches_that_booked_the_same_add_up_to_zero_in_any_order() {
        let rows = [("M-1", 0, 50), ("M-1", 2, 7), ("D-9", 0, -50)];
        let here: LegSum = rows
            .iter()
            .fold(LegSum::ZERO, |sum, (txid, leg, effect)| sum + LegSum::of_row(txid, payment_number(*leg), *effect));
        let there: LegSum = rows.iter().rev().fold(LegSum::ZERO, |sum, (txid, leg, effect)| {
            sum + LegSum::of_row(txid, payment_number(*leg + 1), -*effect)
        });
        assert!((here + there).is_zero());
        assert!(!here.is_zero(), "what cancels out by amount alone does not here");
        assert_eq!(here.to_string().parse(), Ok(here));
    }

    #[test]
    fn a_leg_a_correction_of_it_and_its_partner_belong_to_one_payment() {
        for (leg, expected) in [(0, 0), (1, 0), (2, 1), (3, 1), (-1, 0), (-2, 0), (-3, 1), (-4, 1)] {
            assert_eq!(payment_number(leg), expected, "leg {leg}");
        }
    }

    #[test]
    fn another_amount_or_payment_shows() {
        let sum = LegSum::of_row("M-1", 0, 50);
        for (txid, payment, effect) in [("M-1", 0, -49), ("M-1", 1, -50), ("M-2", 0, -50), ("M-1", 0, -100)] {
            assert!(!(sum + LegSum::of_row(txid, payment, effect)).is_zero(), "{txid} {payment} {effect}");
        }
    }
}

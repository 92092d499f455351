//! Money: whole paise in a checked newtype, never a float.
//!
//! This module owns the one text form of an amount (`1234.50`), the one JSON form (a number with exactly
//! two decimals), and the largest amount that the bank can hold. An amount is read digit for digit, from
//! text or from the raw text of a JSON number, so `0.1` is ten paise exactly and nothing is ever rounded.
//! All arithmetic is checked: a result below zero or above [`Money::MAX`] is `None`, not a wrong figure.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Paise in one rupee.
pub const PAISE_PER_RUPEE: i64 = 100;

/// An amount of money in paise.
///
/// Invariant: `0 <= paise <= Money::MAX_PAISE`. There is no negative money: what is owed is told by which
/// side of a movement an account stands on.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing: 0.00 Rs.
    pub const ZERO: Self = Self(0);
    /// The largest amount, in paise: 99,999,999,999,999.99 Rs.
    pub const MAX_PAISE: i64 = 9_999_999_999_999_999;
    /// The largest amount that an account can hold or a movement can carry.
    pub const MAX: Self = Self(Self::MAX_PAISE);

    /// An amount from paise; `None` outside `0..=MAX_PAISE`.
    #[must_use]
    pub const fn from_paise(amount_paise: i64) -> Option<Self> {
        if amount_paise < 0 || amount_paise > Self::MAX_PAISE { None } else { Some(Self(amount_paise)) }
    }

    /// A whole number of rupees; `None` above the largest amount.
    #[must_use]
    pub const fn from_rupees(amount_rupees: u32) -> Self {
        // The largest u32 is 4,294,967,295 Rs, far below the largest amount, so this cannot overflow.
        Self(amount_rupees as i64 * PAISE_PER_RUPEE)
    }

    /// The amount in paise.
    #[must_use]
    pub const fn paise(self) -> i64 {
        self.0
    }

    /// Whether this is 0.00 Rs.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` above [`Money::MAX`].
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::from_paise)
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(Self::from_paise)
    }

    /// Reads an amount as a person may type it: as [`FromStr`], or grouped by commas as amounts are printed, in threes
    /// (`1,234,567.50`) or in the Indian way (`12,34,567.50`). On the wire there are no commas.
    ///
    /// # Errors
    /// [`MoneyError::Grouping`] when the commas stand elsewhere: what looks like a slip is not guessed at. Otherwise as
    /// [`FromStr`].
    pub fn parse_typed(text: &str) -> Result<Self, MoneyError> {
        let (rupees, decimals) = text.split_once('.').map_or((text, None), |(rupees, rest)| (rupees, Some(rest)));
        let mut groups = rupees.split(',');
        let first = groups.next().unwrap_or_default();
        let others: Vec<&str> = groups.collect();
        let Some((last, middle)) = others.split_last() else { return text.parse() };
        let has = |group: &str, least: usize, most: usize| {
            (least..=most).contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_digit())
        };
        let in_threes = has(first, 1, 3) && middle.iter().all(|group| has(group, 3, 3));
        let in_the_indian_way = has(first, 1, 2) && middle.iter().all(|group| has(group, 2, 2));
        if !has(last, 3, 3) || !(in_threes || in_the_indian_way) {
            return Err(MoneyError::Grouping);
        }
        let digits = rupees.replace(',', "");
        decimals.map_or_else(|| digits.parse(), |decimals| format!("{digits}.{decimals}").parse())
    }

    /// Reads an amount that a person wants to move: as [`Money::parse_typed`], and zero is refused.
    ///
    /// # Errors
    /// [`MoneyError::Zero`] for any spelling of zero, otherwise as [`Money::parse_typed`].
    pub fn parse_typed_movement(text: &str) -> Result<Self, MoneyError> {
        Self::parse_typed(text)?.to_move()
    }

    /// Reads an amount that is to be moved: as [`FromStr`], and zero is refused.
    ///
    /// # Errors
    /// [`MoneyError::Zero`] for any spelling of zero, otherwise as [`FromStr`].
    pub fn parse_movement(text: &str) -> Result<Self, MoneyError> {
        text.parse::<Self>()?.to_move()
    }

    fn to_move(self) -> Result<Self, MoneyError> {
        if self.is_zero() { Err(MoneyError::Zero) } else { Ok(self) }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:02}", self.0 / PAISE_PER_RUPEE, self.0 % PAISE_PER_RUPEE))
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rs {}.{:02}", self.0 / PAISE_PER_RUPEE, self.0 % PAISE_PER_RUPEE)
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    /// Reads `digits`, `digits.d` or `digits.dd`.
    ///
    /// The order of the checks decides which complaint a text with several faults gets: the first that a
    /// person would see from the left.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        if text.is_empty() {
            return Err(MoneyError::Empty);
        }
        if text.starts_with(['+', '-']) {
            return Err(MoneyError::Sign);
        }
        if text.chars().any(char::is_whitespace) {
            return Err(MoneyError::Blank);
        }
        let (rupees, decimals) = match text.split_once('.') {
            Some((rupees, decimals)) => (rupees, Some(decimals)),
            None => (text, None),
        };
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(rupees) || !decimals.is_none_or(is_digits) {
            return Err(MoneyError::NotANumber);
        }
        let decimal_paise = match decimals.map(str::as_bytes) {
            None => 0,
            Some([tenths]) => i64::from(tenths - b'0') * 10,
            Some([tenths, hundredths]) => i64::from(tenths - b'0') * 10 + i64::from(hundredths - b'0'),
            Some(_) => return Err(MoneyError::TooManyDecimals),
        };
        let mut paise: i64 = 0;
        for digit in rupees.bytes() {
            // Stopping at the largest amount keeps the product below far inside an i64.
            paise = paise * 10 + i64::from(digit - b'0');
            if paise > Self::MAX_PAISE / PAISE_PER_RUPEE {
                return Err(MoneyError::TooLarge);
            }
        }
        Self::from_paise(paise * PAISE_PER_RUPEE + decimal_paise).ok_or(MoneyError::TooLarge)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        raw_number(self.to_string(), serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    /// Reads a JSON number or string, digit for digit. Works with `serde_json` only.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        parse_json_text(raw.get()).map_err(D::Error::custom)
    }
}

/// Reads an amount from the text of one JSON value, which must be a number or a string.
pub(crate) fn parse_json_text(json: &str) -> Result<Money, MoneyError> {
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(json).map_err(|_| MoneyError::NotANumber)?.parse(),
        Some(b'-' | b'0'..=b'9') => json.parse(),
        Some(_) | None => Err(MoneyError::NotANumber),
    }
}

fn raw_number<S: Serializer>(text: String, serializer: S) -> Result<S::Ok, S::Error> {
    RawValue::from_string(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// A sum of many amounts or the difference of two, in paise.
///
/// A million accounts at the largest balance overflow an `i64`, and a difference may be negative, so sums
/// over a branch or over the whole bank have this type of their own.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Total(i128);

impl Total {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// A total from paise.
    #[must_use]
    pub const fn from_paise(paise: i128) -> Self {
        Self(paise)
    }

    /// The total in paise.
    #[must_use]
    pub const fn paise(self) -> i128 {
        self.0
    }
}

impl std::ops::Add for Total {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl std::ops::Sub for Total {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl std::ops::AddAssign for Total {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl std::iter::Sum for Total {
    fn sum<I: Iterator<Item = Self>>(totals: I) -> Self {
        totals.fold(Self::ZERO, |sum, total| sum + total)
    }
}

impl From<Money> for Total {
    fn from(amount: Money) -> Self {
        Self(i128::from(amount.0))
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let paise = self.0.unsigned_abs();
        f.pad(&format!("{sign}{}.{:02}", paise / 100, paise % 100))
    }
}

impl fmt::Debug for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rs {self}")
    }
}

impl Serialize for Total {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        raw_number(self.to_string(), serializer)
    }
}

impl<'de> Deserialize<'de> for Total {
    /// Reads what [`Total`] writes: an optional minus sign and an amount with two decimals.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let (negative, digits) = match raw.get().strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, raw.get()),
        };
        let (rupees, decimals) = digits.split_once('.').unwrap_or((digits, "00"));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(rupees) || !is_digits(decimals) || decimals.len() != 2 {
            return Err(D::Error::custom(MoneyError::NotANumber));
        }
        // Read as one number of paise: no total that can be written is too large to be read.
        let sign = if negative { "-" } else { "" };
        let paise = format!("{sign}{rupees}{decimals}").parse();
        paise.map(Self).map_err(|_| D::Error::custom(MoneyError::TooLarge))
    }
}

/// Why a text is not an amount. Each message is one sentence that says what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyError {
    /// No text at all.
    Empty,
    /// A plus or minus sign in front.
    Sign,
    /// A blank inside or around the amount.
    Blank,
    /// Something that is neither a digit nor the one decimal point.
    NotANumber,
    /// Commas where no grouping has them.
    Grouping,
    /// More than two digits after the point.
    TooManyDecimals,
    /// More than [`Money::MAX`].
    TooLarge,
    /// Zero, where an amount to move is asked for.
    Zero,
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an amount is needed, such as 1234.50",
            Self::Sign => "an amount is written without a sign, such as 1234.50",
            Self::Blank => "an amount has no blanks in it; write it as 1234.50",
            Self::NotANumber => "that is not an amount; write digits, and at most two decimals, as in 1234.50",
            Self::Grouping => "the commas stand where no grouping has them; write 1,25,000.50, 125,000.50 or 125000.50",
            Self::TooManyDecimals => "an amount has at most two decimals, as in 1234.50",
            Self::TooLarge => "the largest amount is 99999999999999.99",
            Self::Zero => "the amount must be more than zero",
        })
    }
}

impl std::error::Error for MoneyError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<i64, MoneyError>) {
        assert_eq!(text.parse::<Money>().map(Money::paise), expected, "text {text:?}");
    }

    #[test]
    fn reads_digits_with_up_to_two_decimals() {
        check("0", Ok(0));
        check("1", Ok(100));
        check("0.1", Ok(10));
        check("0.01", Ok(1));
        check("1234.5", Ok(123_450));
        check("1234.50", Ok(123_450));
        check("007", Ok(700));
        check("99999999999999.99", Ok(Money::MAX_PAISE));
    }

    #[test]
    fn reads_what_is_typed_as_it_is_printed() {
        let check = |text: &str, expected| assert_eq!(Money::parse_typed(text).map(Money::paise), expected, "{text:?}");
        check("1234.50", Ok(123_450));
        check("1,234.50", Ok(123_450));
        check("1,00,000", Ok(10_000_000));
        check("100,000.5", Ok(10_000_050));
        check("12,34,567.89", Ok(123_456_789));
        check("1,234,567.89", Ok(123_456_789));
        check("9,99,99,99,99,99,999.99", Ok(Money::MAX_PAISE));
        check("99,999,999,999,999.99", Ok(Money::MAX_PAISE));
        for text in [
            "1,50",
            "1,2345",
            ",100",
            "100,",
            "1,,000",
            "1,00,00",
            "1,000,00",
            "1234,567",
            "1,00,000,000",
            "1,0 0,000",
            "1,000,00.50",
            "12,345,67",
            "123,45,678",
            "+1,000",
            "1,-00",
        ] {
            check(text, Err(MoneyError::Grouping));
        }
        check("1,000.5,0", Err(MoneyError::NotANumber));
        check("1,000.505", Err(MoneyError::TooManyDecimals));
        check("1,00,00,00,00,00,00,000", Err(MoneyError::TooLarge));
        assert_eq!(Money::parse_typed_movement("0,000.00"), Err(MoneyError::Zero));
    }

    #[test]
    fn refuses_every_other_spelling() {
        check("", Err(MoneyError::Empty));
        for text in ["+1", "-1", "-0", "-"] {
            check(text, Err(MoneyError::Sign));
        }
        for text in [" 1", "1 ", "1 000", "1\t0", "1\u{a0}0"] {
            check(text, Err(MoneyError::Blank));
        }
        for text in ["1e3", "NaN", "inf", "1,000", ".5", "5.", "1.2.3", "0x10", "१२", "1.-5", "Rs5", "."] {
            check(text, Err(MoneyError::NotANumber));
        }
        for text in ["1.234", "0.001", "1.000"] {
            check(text, Err(MoneyError::TooManyDecimals));
        }
        for text in ["100000000000000", "100000000000000.00", "99999999999999999999999999999999"] {
            check(text, Err(MoneyError::TooLarge));
        }
    }

    #[test]
    fn zero_cannot_be_moved() {
        for text in ["0", "0.0", "0.00", "000"] {
            assert_eq!(Money::parse_movement(text), Err(MoneyError::Zero), "text {text:?}");
        }
        assert_eq!(Money::parse_movement("0.01").map(Money::paise), Ok(1));
    }

    #[test]
    fn a_tenth_three_times_is_thirty_paise() {
        let tenth: Money = "0.1".parse().unwrap();
        let sum = tenth.checked_add(tenth).and_then(|two| two.checked_add(tenth)).unwrap();
        assert_eq!(sum.to_string(), "0.30");
    }

    #[test]
    fn json_is_a_number_with_two_decimals_and_reads_numbers_and_strings() {
        assert_eq!(serde_json::to_string(&Money(100_000)).unwrap(), "1000.00");
        for json in ["1000", "1000.0", "1000.00", "\"1000\"", "\"1000.00\""] {
            assert_eq!(serde_json::from_str::<Money>(json).unwrap(), Money(100_000), "json {json}");
        }
        for json in ["-1", "1e3", "1E2", "1.001", "true", "null", "[]", "{}", "\"\"", "\"1 \"", "1e999999"] {
            assert!(serde_json::from_str::<Money>(json).is_err(), "json {json}");
        }
    }

    #[test]
    fn an_amount_survives_a_json_value_digit_for_digit() {
        let value: serde_json::Value = serde_json::from_str("99999999999999.99").unwrap();
        assert_eq!(serde_json::from_value::<Money>(value).unwrap(), Money::MAX);
    }

    #[test]
    fn totals_may_be_negative_and_larger_than_any_amount() {
        let total = Total::from(Money::MAX) + Total::from(Money::MAX);
        assert_eq!(total.to_string(), "199999999999999.98");
        let debt = Total::ZERO - Total::from(Money(150));
        assert_eq!(serde_json::to_string(&debt).unwrap(), "-1.50");
        assert_eq!(serde_json::from_str::<Total>("-1.50").unwrap(), debt);
        assert_eq!(serde_json::from_str::<Total>("-0.50").unwrap(), Total::from_paise(-50));
        for total in [Total(i128::MAX), Total(i128::MIN), Total(i128::from(u64::MAX) * 1000)] {
            let text = serde_json::to_string(&total).unwrap();
            assert_eq!(serde_json::from_str::<Total>(&text).unwrap(), total, "{text}");
        }
        for text in
            ["1.+5", "+1.50", "--1.50", "1.5", "1.500", "1e3", "-", "9999999999999999999999999999999999999999.00"]
        {
            assert!(serde_json::from_str::<Total>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_that_parses_prints_back_the_same(text in "[0-9]{1,16}(\\.[0-9]{0,3})?") {
            if let Ok(amount) = text.parse::<Money>() {
                let printed = amount.to_string();
                prop_assert_eq!(printed.parse::<Money>(), Ok(amount));
                let (rupees, decimals) = text.split_once('.').unwrap_or((&text, ""));
                let trimmed = rupees.trim_start_matches('0');
                let rupees = if trimmed.is_empty() { "0" } else { trimmed };
                prop_assert_eq!(printed, format!("{rupees}.{decimals:0<2}"));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Money>();
            let _ = Money::parse_movement(&text);
            let _ = serde_json::from_str::<Money>(&text);
            let _ = serde_json::from_str::<Total>(&text);
        }

        #[test]
        fn json_round_trips(paise in 0..=Money::MAX_PAISE) {
            let json = serde_json::to_string(&Money(paise)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), Money(paise));
        }

        #[test]
        fn sums_never_leave_the_range(a in 0..=Money::MAX_PAISE, b in 0..=Money::MAX_PAISE) {
            let expected = Money::from_paise(a + b);
            prop_assert_eq!(Money(a).checked_add(Money(b)), expected);
            prop_assert_eq!(Money(a).checked_sub(Money(b)), Money::from_paise(a - b));
        }
    }
}

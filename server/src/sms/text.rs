//! The wording of the messages, one pure function per kind of movement.
//!
//! Every message names the customer's account by its last three digits, the amount, and when (UTC). Names
//! come from people: they are cut to [`NAME_SHOWN_CHARS_MAX`] characters, and characters that could break
//! the line or turn the reading direction are left out, so a name can't pose as another part of the
//! message. No balance is shown: a phone lies about openly.

use std::fmt;

use protocol::{AccountNum, Money};

use super::limits::NAME_SHOWN_CHARS_MAX;
use crate::clock::iso_utc;

/// The other side of a transfer, as far as this branch knows it.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// The account's number.
    pub account: AccountNum,
    /// The holder's name, when the account is at this branch.
    pub name: Option<&'a str>,
    /// The account's branch (`Delhi`, `127.0.0.1:9101`); `None` for this one.
    pub branch: Option<&'a str>,
}

impl fmt::Display for Party<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.map(shown).unwrap_or_default();
        if !name.is_empty() {
            write!(f, "{name}, ")?;
        }
        write!(f, "account {}", Masked(self.account))?;
        match self.branch {
            Some(branch) => write!(f, " at {}", shown(branch)),
            None => Ok(()),
        }
    }
}

/// To the payer of a transfer: the account was debited, and who was credited.
#[must_use]
pub fn debited(account: AccountNum, amount: Money, at_unix_ms: i64, credited: &Party<'_>) -> String {
    format!("{} Credited: {credited}.", movement(account, "debited by", amount, at_unix_ms))
}

/// To the receiver of a transfer: the account was credited, and by whom.
#[must_use]
pub fn credited(account: AccountNum, amount: Money, at_unix_ms: i64, payer: &Party<'_>) -> String {
    format!("{} Paid by: {payer}.", movement(account, "credited with", amount, at_unix_ms))
}

/// A deposit in cash.
#[must_use]
pub fn deposited(account: AccountNum, amount: Money, at_unix_ms: i64) -> String {
    format!("{} Deposited in cash.", movement(account, "credited with", amount, at_unix_ms))
}

/// A withdrawal in cash.
#[must_use]
pub fn withdrawn(account: AccountNum, amount: Money, at_unix_ms: i64) -> String {
    format!("{} Withdrawn in cash.", movement(account, "debited by", amount, at_unix_ms))
}

/// The opening of an account with its opening balance, which may be nothing.
#[must_use]
pub fn opened(account: AccountNum, opening_balance: Money, at_unix_ms: i64) -> String {
    let (account, at) = (Masked(account), iso_utc(at_unix_ms));
    format!("Your account {account} was opened on {at} and credited with Rs {opening_balance}.")
}

/// The closing of an account; the remaining balance, which may be nothing, was paid out.
#[must_use]
pub fn closed(account: AccountNum, paid_out: Money, at_unix_ms: i64) -> String {
    let (account, at) = (Masked(account), iso_utc(at_unix_ms));
    format!("Your account {account} was closed on {at}; the remaining Rs {paid_out} was paid out.")
}

/// What a person has moved out of suspense to the customer (or from them into it), after a transfer between branches
/// was settled by hand.
#[must_use]
pub fn settled(account: AccountNum, amount: Money, is_credit: bool, at_unix_ms: i64) -> String {
    let verb = if is_credit { "credited with" } else { "debited by" };
    format!("{} A transfer between branches was corrected.", movement(account, verb, amount, at_unix_ms))
}

fn movement(account: AccountNum, verb: &str, amount: Money, at_unix_ms: i64) -> String {
    format!("Your account {} was {verb} Rs {amount} on {}.", Masked(account), iso_utc(at_unix_ms))
}

/// An account number with all but its last three digits hidden: `XXX001`. The mask has one length, so it
/// doesn't tell how long the number is.
struct Masked(AccountNum);

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XXX{:03}", self.0.get() % 1000)
    }
}

/// A name as a message shows it: one line, of bounded length.
fn shown(name: &str) -> String {
    let is_shown = |c: &char| !c.is_control() && !is_line_or_direction_mark(*c);
    let mut chars = name.trim().chars().filter(is_shown);
    let mut shown: String = chars.by_ref().take(NAME_SHOWN_CHARS_MAX).collect();
    if chars.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// Unicode's line and paragraph separators and its marks of text direction. The joiners U+200C and U+200D
/// are not among them: Indian scripts need them.
fn is_line_or_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sms::limits::BODY_CHARS_MAX;

    const AT_UNIX_MS: i64 = 1_795_311_299_123;

    fn account(number: u64) -> AccountNum {
        AccountNum::new(number).unwrap()
    }

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn a_transfer_tells_payer_and_receiver() {
        let receiver = Party { account: account(1002), name: Some("Asha Rao"), branch: None };
        assert_eq!(
            debited(account(1001), money("50"), AT_UNIX_MS, &receiver),
            "Your account XXX001 was debited by Rs 50.00 on 2026-11-22T01:34:59.123Z. \
             Credited: Asha Rao, account XXX002."
        );
        let payer =
            Party { account: account(1001), name: Some("देवेन्द्र शर्मा"), branch: None };
        assert_eq!(
            credited(account(1002), money("0.05"), AT_UNIX_MS, &payer),
            "Your account XXX002 was credited with Rs 0.05 on 2026-11-22T01:34:59.123Z. \
             Paid by: देवेन्द्र शर्मा, account XXX001."
        );
    }

    #[test]
    fn a_party_at_another_branch_is_named_by_its_branch() {
        let party = Party { account: account(999_999_999_999_042), name: None, branch: Some("Delhi") };
        assert_eq!(party.to_string(), "account XXX042 at Delhi");
        let party = Party { account: account(7), name: Some(" "), branch: Some("127.0.0.1:9101") };
        assert_eq!(party.to_string(), "account XXX007 at 127.0.0.1:9101");
    }

    #[test]
    fn cash_openings_and_closings() {
        let at = "2026-11-22T01:34:59.123Z";
        let a = account(1003);
        assert_eq!(
            deposited(a, money("1234.5"), AT_UNIX_MS),
            format!("Your account XXX003 was credited with Rs 1234.50 on {at}. Deposited in cash.")
        );
        assert_eq!(
            withdrawn(a, money("1"), AT_UNIX_MS),
            format!("Your account XXX003 was debited by Rs 1.00 on {at}. Withdrawn in cash.")
        );
        assert_eq!(
            opened(a, money("100000"), AT_UNIX_MS),
            format!("Your account XXX003 was opened on {at} and credited with Rs 100000.00.")
        );
        assert_eq!(
            closed(a, Money::ZERO, AT_UNIX_MS),
            format!("Your account XXX003 was closed on {at}; the remaining Rs 0.00 was paid out.")
        );
    }

    #[test]
    fn a_name_cannot_break_the_line_or_turn_its_direction() {
        assert_eq!(shown(" A\nsha\u{202e}\u{2028} R\u{7}ao\t"), "Asha Rao");
        assert_eq!(shown("क्\u{200d}ष"), "क्\u{200d}ष");
    }

    #[test]
    fn the_longest_message_fits_and_a_long_name_is_cut_with_a_mark() {
        let long = "अ".repeat(10_000);
        let party = Party { account: account(AccountNum::MAX), name: Some(&long), branch: Some(&long) };
        let body = debited(account(AccountNum::MAX), Money::MAX, i64::MIN, &party);
        assert!(body.chars().count() <= BODY_CHARS_MAX, "{body}");
        assert_eq!(shown(&long).chars().count(), NAME_SHOWN_CHARS_MAX);
        assert!(shown(&long).ends_with('…'));
        let exact = "अ".repeat(NAME_SHOWN_CHARS_MAX);
        assert_eq!(shown(&exact), exact);
    }
}

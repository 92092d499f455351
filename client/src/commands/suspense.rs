//! `clear_suspense`: a person moves a difference out of suspense to whom it belongs.

use std::str::FromStr;

use clap::Args;
use protocol::answer::SuspenseCleared;
use protocol::request::{Action, ClearSuspense};
use protocol::{AccountNum, BranchName, IdError, Money, Total, TxId};

use crate::commands::context::Context;
use crate::error::{ClientError, ExitStatus};

pub(super) const EXAMPLES: &str = "\
Examples:
  bank-client audit
  bank-client clear_suspense Mumbai-17 1002 --reason \"the payment was hers: letter of 3 May\"
  bank-client clear_suspense Mumbai-17 cash --amount 20 --reason \"paid out at the counter\"
  bank-client clear_suspense Mumbai-17 1001 --not-booked-by Delhi --reason \"Delhi was restored from Monday\"

The audit names the transfers with a difference in suspense. A difference of too much money goes to the account, or is
paid out in cash; one of too little is taken from the account, or paid in. It is a transaction of its own, with the
reason; when nothing is in suspense any more, the audit is right again.";

/// Arguments of `clear_suspense`.
#[derive(Args, Debug)]
pub struct ClearArguments {
    /// The transfer, as the audit names it
    txid: TxId,
    /// The account that it goes to (or comes from, where money is lacking), or cash
    #[arg(value_name = "ACCOUNT|cash")]
    whom: Whom,
    /// How much of it, in rupees; all without it
    #[arg(long, value_name = "RUPEES", value_parser = Money::parse_movement, allow_negative_numbers = true)]
    amount: Option<Money>,
    /// This branch has not booked its side of the payment and never will, as audit --all says
    #[arg(long, value_name = "BRANCH")]
    not_booked_by: Option<BranchName>,
    /// Why; it is recorded
    #[arg(long, value_name = "REASON")]
    reason: String,
}

/// Where a difference goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Cash,
    Account(AccountNum),
}

impl FromStr for Whom {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("cash") { Ok(Self::Cash) } else { text.parse().map(Self::Account) }
    }
}

pub(super) fn clear(arguments: ClearArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let ClearArguments { txid, whom, amount, not_booked_by, reason } = arguments;
    let (account_no, cash) = match whom {
        Whom::Cash => (None, true),
        Whom::Account(account) => (Some(account), false),
    };
    let params = ClearSuspense { txid, account_no, cash, amount: amount.map(Into::into), not_booked_by, reason };
    context.order(Action::ClearSuspense, &params, |cleared: SuspenseCleared| tell(&cleared))
}

fn tell(cleared: &SuspenseCleared) -> String {
    let SuspenseCleared { transaction_id, txid, amount, from, to, left } = cleared;
    let mut text = format!(
        "Rs {amount} of transfer {txid} moved from {from} to {to}: transaction {transaction_id}, with the reason."
    );
    if *left != Total::ZERO {
        text.push_str(&format!(" Rs {left} of it is in suspense still."));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cleared_is_told_with_what_is_left() {
        let check = |left: &str, expected: &str| {
            let json = format!(
                r#"{{"transaction_id":9,"txid":"Mumbai-17","amount":50.00,"from":"suspense","to":"1002","left":{left}}}"#
            );
            assert_eq!(tell(&serde_json::from_str(&json).unwrap()), expected);
        };
        let moved = "Rs 50.00 of transfer Mumbai-17 moved from suspense to 1002: transaction 9, with the reason.";
        check("0.00", moved);
        check("20.00", &format!("{moved} Rs 20.00 of it is in suspense still."));
    }

    #[test]
    fn cash_is_no_account() {
        assert_eq!("Cash".parse(), Ok(Whom::Cash));
        assert_eq!("1002".parse(), Ok(Whom::Account(AccountNum::new(1002).unwrap())));
        assert!("cashier".parse::<Whom>().is_err());
    }
}

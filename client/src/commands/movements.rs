//! Cash: deposit and withdraw.

use clap::Args;
use protocol::Money;
use protocol::answer::NewBalance;
use protocol::request::{AccountAmount, Action};

use crate::commands::context::Context;
use crate::commands::values::{OneAccountArguments, required};
use crate::error::{ClientError, ExitStatus};

pub(super) const DEPOSIT_EXAMPLES: &str = "\
Examples:
  bank-client deposit 1001 100
  bank-client deposit --account_no 1001 --amount 100
  bank-client deposit 1001 0.10 --json";

pub(super) const WITHDRAW_EXAMPLES: &str = "\
Examples:
  bank-client withdraw 1001 5.50
  bank-client withdraw --account_no 1001 --amount 5.50";

/// An account and an amount, in this order or by the older flags.
#[derive(Args, Debug)]
pub struct AmountArguments {
    #[command(flatten)]
    account: OneAccountArguments,
    /// How much, in rupees
    #[arg(value_name = "AMOUNT", required_unless_present = "amount_flag", conflicts_with = "amount_flag",
          value_parser = Money::parse_typed_movement, allow_negative_numbers = true)]
    amount: Option<Money>,
    /// How much, by the older flag
    #[arg(long = "amount", id = "amount_flag", value_name = "AMOUNT", value_parser = Money::parse_typed_movement,
          allow_negative_numbers = true)]
    amount_flag: Option<Money>,
}

impl AmountArguments {
    fn read(&self) -> Result<(AccountAmount, Money), ClientError> {
        let account_no = self.account.account()?;
        let amount = required(self.amount.or(self.amount_flag), "an amount")?;
        Ok((AccountAmount { account_no, amount: amount.into() }, amount))
    }
}

pub(super) fn deposit(arguments: &AmountArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let (params, amount) = arguments.read()?;
    context.order(Action::Deposit, &params, |new: NewBalance| {
        format!("Deposited Rs {amount}. Account {} has Rs {}.", params.account_no, new.balance)
    })
}

pub(super) fn withdraw(arguments: &AmountArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let (params, amount) = arguments.read()?;
    context.order(Action::Withdraw, &params, |new: NewBalance| {
        format!("Withdrew Rs {amount}. Account {} has Rs {}.", params.account_no, new.balance)
    })
}

//! Accounts: balance, list, open, close.

use clap::{ArgAction, Args};
use protocol::answer::{AccountLine, Balance, Closed, Created};
use protocol::request::{Action, CreateAccount, ListAccounts, OneAccount};
use protocol::{AccountNum, Money, Total};

use crate::commands::context::Context;
use crate::commands::password;
use crate::commands::values::{OneAccountArguments, positive, required};
use crate::error::{ClientError, ExitStatus};
use crate::output::{counted, table};

pub(super) const BALANCE_EXAMPLES: &str = "\
Examples:
  bank-client balance 1001
  bank-client --host 127.0.0.1 --port 9100 balance --account_no 1001
  bank-client balance 1001 --json";

pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  bank-client accounts
  bank-client accounts --after 1500 --limit 20
  bank-client list_accounts --json";

pub(super) const CREATE_EXAMPLES: &str = "\
Examples:
  bank-client open \"Asha Rao\" --balance 100
  bank-client create_account --account_no 1005 --name Asha --balance 100
  bank-client open Ravi --phone_num 9876543210 --sms --password

An account that is opened without a password has no menu login until one is set (set_password).";

pub(super) const CLOSE_EXAMPLES: &str = "\
Examples:
  bank-client close 1003
  bank-client close_account --account_no 1003";

/// Arguments of `list_accounts`.
#[derive(Args, Debug)]
pub struct ListArguments {
    /// Only accounts with numbers above this one
    #[arg(long, value_name = "ACCOUNT")]
    after: Option<AccountNum>,
    /// At most so many; all of them without it
    #[arg(long, value_name = "NUMBER", value_parser = positive)]
    limit: Option<usize>,
}

/// Arguments of `create_account`.
#[derive(Args, Debug)]
pub struct CreateArguments {
    /// The customer's name; the first word is the first name
    #[arg(value_name = "NAME", required_unless_present = "name_flag", conflicts_with = "name_flag")]
    name: Option<String>,
    /// The customer's name, by the older flag
    #[arg(long = "name", id = "name_flag", value_name = "NAME")]
    name_flag: Option<String>,
    /// The number that the account is to have; the next free one without it
    #[arg(long = "account_no", alias = "account-no", value_name = "ACCOUNT")]
    account_no: Option<AccountNum>,
    /// What is paid in at the start
    #[arg(long, value_name = "AMOUNT", value_parser = Money::parse_typed, allow_negative_numbers = true)]
    balance: Option<Money>,
    /// The Aadhaar number, 12 digits
    #[arg(long = "aadhar_num", alias = "aadhar-num", value_name = "NUMBER")]
    aadhar_num: Option<String>,
    /// The phone number, 10 digits, an optional +91 in front
    #[arg(long = "phone_num", alias = "phone-num", value_name = "NUMBER")]
    phone_num: Option<String>,
    /// Send a text message after each movement
    #[arg(long)]
    sms: bool,
    /// Ask for a password of the menu login (one line of standard input when that is no terminal)
    #[arg(long, action = ArgAction::SetTrue)]
    password: bool,
}

pub(super) fn balance(arguments: &OneAccountArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let account_no = arguments.account()?;
    context.ask(Action::Balance, &OneAccount { account_no }, |balance| tell_balance(account_no, &balance))
}

fn tell_balance(account: AccountNum, balance: &Balance) -> String {
    let Balance { balance, available, name } = balance;
    if balance == available {
        format!("Account {account} ({name}) has Rs {balance}.")
    } else {
        format!("Account {account} ({name}) has Rs {balance}, of which Rs {available} can be spent.")
    }
}

pub(super) fn list(arguments: &ListArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let mut params = ListAccounts { after: arguments.after, limit: arguments.limit };
    let mut rows: Vec<AccountLine> = Vec::new();
    let mut count = 0;
    loop {
        let Some((page, next)) = context.page(Action::ListAccounts, &params)? else { return Ok(ExitStatus::Refused) };
        count += page.len();
        if !context.out.json {
            rows.extend(page);
        }
        params = ListAccounts { after: next, limit: arguments.limit.map(|limit| limit.saturating_sub(count)) };
        if params.after.is_none() || params.limit == Some(0) {
            break;
        }
    }
    if !context.out.json {
        context.out.text(&tell_accounts(&rows))?;
    }
    Ok(ExitStatus::AllDone)
}

fn tell_accounts(rows: &[AccountLine]) -> String {
    if rows.is_empty() {
        return "There are no accounts.".into();
    }
    let cells = rows
        .iter()
        .map(|row| [row.account_no.to_string(), row.name.clone(), row.balance.to_string(), row.held.to_string()]);
    let total: Total = rows.iter().map(|row| Total::from(row.balance)).sum();
    let shown = table(["Account", "Name", "Balance", "Held"], &[0, 2, 3], cells);
    format!("{shown}\n{}, Rs {total} in all", counted(rows.len(), "account", "accounts"))
}

pub(super) fn create(arguments: CreateArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let name = required(arguments.name.or(arguments.name_flag), "a name")?;
    let password = if arguments.password { Some(password::ask(context.input)?) } else { None };
    let params = CreateAccount {
        account_no: arguments.account_no,
        name: name.clone(),
        balance: arguments.balance.map(Into::into),
        aadhar_num: arguments.aadhar_num,
        phone_num: arguments.phone_num,
        sms: arguments.sms.then_some(true),
        password,
    };
    let balance = arguments.balance.unwrap_or(Money::ZERO);
    context.order(Action::CreateAccount, &params, |created: Created| {
        format!("Opened account {} for {name} with Rs {balance}.", created.account_no)
    })
}

pub(super) fn close(arguments: &OneAccountArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let account_no = arguments.account()?;
    context.order(Action::CloseAccount, &OneAccount { account_no }, |closed: Closed| {
        format!("Closed account {} and paid Rs {} out.", closed.account_no, closed.paid_out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_tells_what_can_be_spent_when_that_is_less() {
        let account = AccountNum::new(1001).unwrap();
        let check = |json: &str, expected: &str| {
            assert_eq!(tell_balance(account, &serde_json::from_str(json).unwrap()), expected);
        };
        check(r#"{"balance":1000.00,"available":1000.00,"name":"Asha"}"#, "Account 1001 (Asha) has Rs 1000.00.");
        check(
            r#"{"balance":1000.00,"available":950.00,"name":"Asha"}"#,
            "Account 1001 (Asha) has Rs 1000.00, of which Rs 950.00 can be spent.",
        );
    }

    #[test]
    fn accounts_stand_in_columns_with_their_sum() {
        let rows: Vec<AccountLine> = serde_json::from_str(
            r#"[{"account_no":"1001","name":"Asha Rao","balance":1000.00,"held":50.00},
                {"account_no":"20000","name":"रवि","balance":5.50,"held":0.00}]"#,
        )
        .unwrap();
        let expected = "\
Account  Name      Balance   Held
----------------------------------
   1001  Asha Rao  1000.00  50.00
  20000  रवि          5.50   0.00
2 accounts, Rs 1005.50 in all";
        assert_eq!(tell_accounts(&rows), expected);
        assert_eq!(tell_accounts(&[]), "There are no accounts.");
    }
}

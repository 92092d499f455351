//! Two-phase commit by hand: the raw actions for an outside program, what is in doubt, and settling it.

use clap::{Args, ValueEnum};
use protocol::answer::{Pending, TxStatus};
use protocol::request::{Action, OneTx, Prepare, Resolve};
use protocol::{AccountNum, Money, TxId};
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::commands::context::Context;
use crate::commands::values::required;
use crate::error::{ClientError, ExitStatus};
use crate::output::{age, counted, table};

pub(super) const PREPARE_EXAMPLES: &str = "\
Examples:
  bank-client prepare_withdraw T-1 1001 50
  bank-client --port 9101 prepare_deposit T-1 1002 50
  bank-client commit_withdraw T-1 && bank-client --port 9101 commit_deposit T-1

Whoever prepares decides: what is prepared without --coordinator stays so until it is committed, aborted or resolved.";

pub(super) const RESOLVE_EXAMPLES: &str = "\
Examples:
  bank-client pending
  bank-client resolve Mumbai-17 abort --reason \"Mumbai's disk is lost; its paper log says aborted\"

Only for what pending lists and time won't end: a transfer whose coordinator is gone for good (state prepared), one
whose receiver is (delivering, which can only be settled as committed), and one that another branch says it can't
follow (contradicted). It is recorded as settled by hand, and the difference, if there is one, stands on the suspense
account until clear_suspense moves it. docs/lost-promises.md shows one.";

/// A transaction.
#[derive(Args, Debug)]
pub struct TransactionArguments {
    /// The transaction's id
    #[arg(value_name = "TXID", required_unless_present = "txid_flag", conflicts_with = "txid_flag")]
    txid: Option<TxId>,
    /// The transaction's id, by flag
    #[arg(long = "txid", id = "txid_flag", value_name = "TXID")]
    txid_flag: Option<TxId>,
}

impl TransactionArguments {
    fn read(&self) -> Result<OneTx, ClientError> {
        let txid = required(self.txid.as_ref().or(self.txid_flag.as_ref()), "a transaction id")?;
        Ok(OneTx { txid: txid.clone() })
    }
}

/// Arguments of the prepares.
#[derive(Args, Debug)]
pub struct PrepareArguments {
    #[command(flatten)]
    transaction: TransactionArguments,
    /// The account
    #[arg(value_name = "ACCOUNT", required_unless_present = "account_no", conflicts_with = "account_no")]
    account: Option<AccountNum>,
    /// How much, in rupees
    #[arg(value_name = "AMOUNT", required_unless_present = "amount_flag", conflicts_with = "amount_flag",
          value_parser = Money::parse_typed_movement, allow_negative_numbers = true)]
    amount: Option<Money>,
    /// The account, by flag
    #[arg(long = "account_no", alias = "account-no", value_name = "ACCOUNT")]
    account_no: Option<AccountNum>,
    /// How much, by flag
    #[arg(long = "amount", id = "amount_flag", value_name = "AMOUNT", value_parser = Money::parse_typed_movement,
          allow_negative_numbers = true)]
    amount_flag: Option<Money>,
    /// Who decides: a branch's name or host:port; without it, you do
    #[arg(long, value_name = "BRANCH")]
    coordinator: Option<String>,
}

/// Arguments of `resolve`.
#[derive(Args, Debug)]
pub struct ResolveArguments {
    /// The transaction's id
    txid: TxId,
    /// How it is to end here
    outcome: OutcomeArgument,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// How a transfer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutcomeArgument {
    /// Carry it out.
    #[value(alias = "committed")]
    Commit,
    /// Give it up.
    #[value(alias = "aborted")]
    Abort,
}

impl OutcomeArgument {
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Commit => ("commit", "committed"),
            Self::Abort => ("abort", "aborted"),
        }
    }
}

pub(super) fn prepare(
    action: Action,
    arguments: &PrepareArguments,
    context: &mut Context<'_>,
) -> Result<ExitStatus, ClientError> {
    let OneTx { txid } = arguments.transaction.read()?;
    let account_no = required(arguments.account.or(arguments.account_no), "an account")?;
    let amount = required(arguments.amount.or(arguments.amount_flag), "an amount")?;
    let params =
        Prepare { txid: txid.clone(), account_no, amount: amount.into(), coordinator: arguments.coordinator.clone() };
    context.order(action, &params, |_: IgnoredAny| {
        format!("Prepared: the branch votes yes for Rs {amount} on account {account_no} in {txid}.")
    })
}

pub(super) fn settle(
    action: Action,
    arguments: &TransactionArguments,
    context: &mut Context<'_>,
) -> Result<ExitStatus, ClientError> {
    let params = arguments.read()?;
    let done = if matches!(action, Action::CommitWithdraw | Action::CommitDeposit) { "committed" } else { "aborted" };
    context.order(action, &params, |_: IgnoredAny| format!("Transfer {} is {done} here.", params.txid))
}

pub(super) fn status(arguments: &TransactionArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let params = arguments.read()?;
    context
        .ask(Action::TxStatus, &params, |status: TxStatus| format!("Transfer {} is {}.", params.txid, status.outcome))
}

/// Parameters of `list_pending`.
#[derive(Serialize)]
struct ListPending {
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<TxId>,
}

pub(super) fn list_pending(context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let mut rows: Vec<Pending> = Vec::new();
    let mut params = ListPending { after: None };
    loop {
        let Some((page, next)) = context.page(Action::ListPending, &params)? else { return Ok(ExitStatus::Refused) };
        rows.extend(page);
        params.after = next;
        if params.after.is_none() {
            break;
        }
    }
    if !context.out.json {
        context.out.text(&tell_pending(&rows))?;
    }
    Ok(ExitStatus::AllDone)
}

fn tell_pending(rows: &[Pending]) -> String {
    if rows.is_empty() {
        return "Nothing is in doubt, and every decision is delivered.".into();
    }
    let cells = rows.iter().map(|row| {
        let answers = match (&row.coordinator, row.coordinator_answers) {
            (None, _) => "",
            (Some(_), true) => "yes",
            (Some(_), false) => "no",
        };
        [
            row.txid.to_string(),
            row.state.clone(),
            row.legs.join("; "),
            row.coordinator.clone().unwrap_or_else(|| "outside".into()),
            answers.into(),
            age(row.age_seconds),
        ]
    });
    let shown = table(["Transfer", "State", "What it does here", "Coordinator", "Answers", "Age"], &[5], cells);
    let why: String = rows
        .iter()
        .filter_map(|row| Some(format!("\n{} is contradicted by {}", row.txid, row.why.as_ref()?)))
        .collect();
    format!("{shown}\n{}{why}", counted(rows.len(), "transfer", "transfers"))
}

pub(super) fn resolve(arguments: &ResolveArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let (outcome, done) = arguments.outcome.names();
    let txid = arguments.txid.clone();
    let params = Resolve { txid: txid.clone(), outcome: outcome.into(), reason: arguments.reason.clone() };
    context.order(Action::Resolve, &params, |_: IgnoredAny| {
        format!("Transfer {txid} is {done} here by hand. The reason is recorded.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_shows_who_decides_and_whether_that_answers() {
        let rows: Vec<Pending> = serde_json::from_str(
            r#"[{"txid":"Mumbai-1","state":"prepared","legs":["deposit 50.00 to 1002"],"coordinator":"Mumbai",
                 "coordinator_answers":false,"age_seconds":95},
                {"txid":"Mumbai-2","state":"contradicted","why":"Delhi: no such transaction is prepared here",
                 "legs":["withdraw 1.00 from 1001"],"coordinator":"Mumbai","coordinator_answers":true,"age_seconds":5},
                {"txid":"T-9","state":"prepared","legs":["withdraw 5.00 from 1001"],"coordinator":null,
                 "coordinator_answers":false,"age_seconds":7300}]"#,
        )
        .unwrap();
        let expected = "\
Transfer  State         What it does here        Coordinator  Answers        Age
---------------------------------------------------------------------------------
Mumbai-1  prepared      deposit 50.00 to 1002    Mumbai       no           1 min
Mumbai-2  contradicted  withdraw 1.00 from 1001  Mumbai       yes            5 s
T-9       prepared      withdraw 5.00 from 1001  outside      -        2 h 1 min
3 transfers
Mumbai-2 is contradicted by Delhi: no such transaction is prepared here";
        assert_eq!(tell_pending(&rows), expected);
        assert_eq!(tell_pending(&[]), "Nothing is in doubt, and every decision is delivered.");
    }
}

//! Transfers: within the branch, to another branch, from one payer to many.

use clap::Args;
use protocol::answer::{Delivery, InterBranchTransferred, LocalTransferred, SplitTransferred};
use protocol::request::{Action, InterBranchTransfer, LocalTransfer, SPLIT_LEGS_MAX, SplitLeg, SplitTransfer};
use protocol::{AccountNum, Address, BranchName, Money, TxId};

use crate::commands::context::Context;
use crate::commands::values::{Place, Receiver, SplitPart, required};
use crate::error::{ClientError, ExitStatus};
use crate::output::table;

pub(super) const TRANSFER_EXAMPLES: &str = "\
Examples:
  bank-client transfer 1001 1002 5                  within the branch
  bank-client transfer 1001 Delhi/1002 50           to the branch Delhi
  bank-client transfer 1001 127.0.0.1:9101/1002 50  to the branch at an address";

pub(super) const LOCAL_EXAMPLES: &str = "\
Examples:
  bank-client local_transfer 1001 1002 5
  bank-client local_transfer --src_account_no 1001 --dest_account_no 1002 --amount 5";

pub(super) const INTER_BRANCH_EXAMPLES: &str = "\
Examples:
  bank-client inter_branch_transfer --src_account_no 1001 --dest_branch Delhi --dest_account_no 1002 --amount 50
  bank-client inter_branch_transfer --src_account_no 1001 --dest_host 127.0.0.1 --dest_port 9101 \\
      --dest_account_no 1002 --amount 50";

pub(super) const SPLIT_EXAMPLES: &str = "\
Examples:
  bank-client split 1001 Delhi/1002=50 Pune/1001=25.50 1002=10

All receivers are paid or none is.";

/// Arguments of `transfer`.
#[derive(Args, Debug)]
pub struct TransferArguments {
    /// Who pays, at this branch
    #[arg(value_name = "FROM")]
    from: AccountNum,
    /// Who is paid: 1002, Delhi/1002 or 127.0.0.1:9101/1002
    #[arg(value_name = "TO")]
    to: Receiver,
    /// How much, in rupees
    #[arg(value_name = "AMOUNT", value_parser = Money::parse_typed_movement, allow_negative_numbers = true)]
    amount: Money,
}

/// Arguments of `local_transfer`.
#[derive(Args, Debug)]
pub struct LocalArguments {
    /// Who pays
    #[arg(value_name = "FROM", required_unless_present = "src_account_no", conflicts_with = "src_account_no")]
    from: Option<AccountNum>,
    /// Who is paid
    #[arg(value_name = "TO", required_unless_present = "dest_account_no", conflicts_with = "dest_account_no")]
    to: Option<AccountNum>,
    /// How much, in rupees
    #[arg(value_name = "AMOUNT", required_unless_present = "amount_flag", conflicts_with = "amount_flag",
          value_parser = Money::parse_typed_movement, allow_negative_numbers = true)]
    amount: Option<Money>,
    /// Who pays, by the older flag
    #[arg(long = "src_account_no", alias = "src-account-no", value_name = "ACCOUNT")]
    src_account_no: Option<AccountNum>,
    /// Who is paid, by the older flag
    #[arg(long = "dest_account_no", alias = "dest-account-no", value_name = "ACCOUNT")]
    dest_account_no: Option<AccountNum>,
    /// How much, by the older flag
    #[arg(long = "amount", id = "amount_flag", value_name = "AMOUNT", value_parser = Money::parse_typed_movement,
          allow_negative_numbers = true)]
    amount_flag: Option<Money>,
}

/// Arguments of `inter_branch_transfer`.
#[derive(Args, Debug)]
pub struct InterBranchArguments {
    /// Who pays, at this branch
    #[arg(long = "src_account_no", alias = "src-account-no", value_name = "ACCOUNT")]
    src_account_no: AccountNum,
    /// Who is paid, at the other branch
    #[arg(long = "dest_account_no", alias = "dest-account-no", value_name = "ACCOUNT")]
    dest_account_no: AccountNum,
    /// How much, in rupees
    #[arg(long, value_name = "AMOUNT", value_parser = Money::parse_typed_movement, allow_negative_numbers = true)]
    amount: Money,
    /// The other branch by name
    #[arg(long = "dest_branch", alias = "dest-branch", value_name = "NAME", required_unless_present = "dest_host",
          conflicts_with_all = ["dest_host", "dest_port"])]
    dest_branch: Option<BranchName>,
    /// The other branch's host
    #[arg(long = "dest_host", alias = "dest-host", value_name = "HOST", requires = "dest_port")]
    dest_host: Option<String>,
    /// The other branch's port
    #[arg(long = "dest_port", alias = "dest-port", value_name = "PORT", requires = "dest_host",
          value_parser = clap::value_parser!(u16).range(1..))]
    dest_port: Option<u16>,
}

/// Arguments of `split_transfer`.
#[derive(Args, Debug)]
pub struct SplitArguments {
    /// Who pays, at this branch
    #[arg(value_name = "FROM")]
    from: AccountNum,
    /// Who is paid how much, such as Delhi/1002=50
    #[arg(value_name = "TO=AMOUNT", required = true, num_args = 1..)]
    parts: Vec<SplitPart>,
}

pub(super) fn transfer(arguments: TransferArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let TransferArguments { from, to, amount } = arguments;
    let (dest_branch, address) = match to.place {
        Place::Here => return send_local(from, to.account, amount, context),
        Place::Named(name) => (Some(name), None),
        Place::At(address) => (None, Some(address)),
    };
    send_inter_branch(from, to.account, amount, dest_branch, address, context)
}

pub(super) fn local(arguments: &LocalArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let from = required(arguments.from.or(arguments.src_account_no), "the payer's account")?;
    let to = required(arguments.to.or(arguments.dest_account_no), "the receiver's account")?;
    let amount = required(arguments.amount.or(arguments.amount_flag), "an amount")?;
    send_local(from, to, amount, context)
}

pub(super) fn inter_branch(
    arguments: InterBranchArguments,
    context: &mut Context<'_>,
) -> Result<ExitStatus, ClientError> {
    let address = arguments.dest_host.zip(arguments.dest_port).map(|(host, port)| Address { host, port });
    let (from, to) = (arguments.src_account_no, arguments.dest_account_no);
    send_inter_branch(from, to, arguments.amount, arguments.dest_branch, address, context)
}

fn send_local(
    from: AccountNum,
    to: AccountNum,
    amount: Money,
    context: &mut Context<'_>,
) -> Result<ExitStatus, ClientError> {
    let params = LocalTransfer { src_account_no: from, dest_account_no: to, amount: amount.into() };
    context.order(Action::LocalTransfer, &params, |done| tell_local(&done))
}

fn tell_local(done: &LocalTransferred) -> String {
    let LocalTransferred { from, to, amount } = done;
    format!(
        "Transferred Rs {amount} from {} to {}. Account {} has Rs {}, account {} has Rs {}.",
        from.account, to.account, from.account, from.balance, to.account, to.balance
    )
}

fn send_inter_branch(
    from: AccountNum,
    to: AccountNum,
    amount: Money,
    dest_branch: Option<BranchName>,
    address: Option<Address>,
    context: &mut Context<'_>,
) -> Result<ExitStatus, ClientError> {
    let (dest_host, dest_port) = address.map(|address| (address.host, address.port)).unzip();
    let params = InterBranchTransfer {
        src_account_no: from,
        dest_account_no: to,
        amount: amount.into(),
        dest_branch,
        dest_host,
        dest_port,
    };
    context.order(Action::InterBranchTransfer, &params, |done| tell_inter_branch(&done))
}

fn tell_inter_branch(done: &InterBranchTransferred) -> String {
    let InterBranchTransferred { txid, amount, from, to, delivery, .. } = done;
    format!("Transferred Rs {amount} from {from} to {to}. {}", tell_delivery(txid, *delivery))
}

/// What is known about the other side, and how to see how it came about.
fn tell_delivery(txid: &TxId, delivery: Delivery) -> String {
    let delivered = if delivery == Delivery::Done {
        "It has arrived."
    } else {
        "It is decided and on its way: the other side has not said yet that it has it."
    };
    format!("{delivered}\nTransfer {txid}; 'bank-client trace {txid}' shows how it went.")
}

pub(super) fn split(arguments: &SplitArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    if arguments.parts.len() > SPLIT_LEGS_MAX {
        return Err(ClientError::Usage(format!("a split has at most {SPLIT_LEGS_MAX} receivers")));
    }
    let legs = arguments.parts.iter().map(SplitLeg::from).collect();
    let params = SplitTransfer { src_account_no: arguments.from, legs };
    context.order(Action::SplitTransfer, &params, |done| tell_split(&done))
}

fn tell_split(done: &SplitTransferred) -> String {
    let SplitTransferred { txid, amount, from, to, delivery, .. } = done;
    let rows = to.iter().map(|paid| [paid.to.clone(), paid.amount.to_string()]);
    let shown = table(["To", "Amount"], &[1], rows);
    format!("Transferred Rs {amount} from {from}.\n{shown}\n{}", tell_delivery(txid, *delivery))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_transfer_tells_both_balances() {
        let json =
            r#"{"from":{"account":"1001","balance":995.00},"to":{"account":"1002","balance":1005.00},"amount":5.00}"#;
        let expected =
            "Transferred Rs 5.00 from 1001 to 1002. Account 1001 has Rs 995.00, account 1002 has Rs 1005.00.";
        assert_eq!(tell_local(&serde_json::from_str(json).unwrap()), expected);
    }

    #[test]
    fn a_transfer_to_another_branch_tells_whether_it_has_arrived() {
        let tell = |delivery: &str| {
            let json = format!(
                r#"{{"status":"transfer_complete","txid":"Mumbai-1","amount":50.00,"from":"Mumbai:1001","to":"Delhi:1002","delivery":"{delivery}"}}"#
            );
            tell_inter_branch(&serde_json::from_str(&json).unwrap())
        };
        let expected = "Transferred Rs 50.00 from Mumbai:1001 to Delhi:1002. It has arrived.\n\
                        Transfer Mumbai-1; 'bank-client trace Mumbai-1' shows how it went.";
        assert_eq!(tell("done"), expected);
        assert!(tell("pending").contains("on its way"), "{}", tell("pending"));
    }

    #[test]
    fn a_split_tells_what_went_where() {
        let json = r#"{"status":"transfer_complete","txid":"M-2","amount":60.00,"from":"Mumbai:1001",
            "to":[{"to":"Delhi:1002","amount":50.00},{"to":"Mumbai:1002","amount":10.00}],"delivery":"done"}"#;
        let expected = "\
Transferred Rs 60.00 from Mumbai:1001.
To           Amount
--------------------
Delhi:1002    50.00
Mumbai:1002   10.00
It has arrived.
Transfer M-2; 'bank-client trace M-2' shows how it went.";
        assert_eq!(tell_split(&serde_json::from_str(json).unwrap()), expected);
    }
}

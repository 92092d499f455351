//! The branch's books and health: history, status, known branches, and how an audit of one branch is told.

use clap::Args;
use protocol::answer::{Audit, Branch, HistoryLine, Lag, Status};
use protocol::request::{Action, History};
use protocol::{AccountNum, Epoch};

use crate::commands::context::Context;
use crate::commands::replicas::tell_promotion;
use crate::commands::values::positive;
use crate::error::{ClientError, ExitStatus};
use crate::output::{age, counted, table};

pub(super) const HISTORY_EXAMPLES: &str = "\
Examples:
  bank-client history 1001
  bank-client history --limit 20
  bank-client get_logs --account_no 1001 --json";

/// Arguments of `history`.
#[derive(Args, Debug)]
pub struct HistoryArguments {
    /// Of this account; of the whole branch without it
    #[arg(value_name = "ACCOUNT", conflicts_with = "account_no")]
    account: Option<AccountNum>,
    /// Of this account, by the older flag
    #[arg(long = "account_no", alias = "account-no", value_name = "ACCOUNT")]
    account_no: Option<AccountNum>,
    /// Only transactions older than the one of this number
    #[arg(long, value_name = "NUMBER")]
    after: Option<i64>,
    /// At most so many; all of them without it
    #[arg(long, value_name = "NUMBER", value_parser = positive)]
    limit: Option<usize>,
}

pub(super) fn history(arguments: &HistoryArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let account_no = arguments.account.or(arguments.account_no);
    let mut params = History { account_no, after: arguments.after, limit: arguments.limit };
    let mut count = 0;
    // Each page is shown as it comes: a branch has millions of transactions.
    loop {
        let Some((page, next)) = context.page(Action::History, &params)? else { return Ok(ExitStatus::Refused) };
        params.after = next;
        if !context.out.json && (count == 0 || !page.is_empty()) {
            context.out.text(&tell_history(&page))?;
        }
        count += page.len();
        params.limit = arguments.limit.map(|limit| limit.saturating_sub(count));
        if params.after.is_none() || params.limit == Some(0) {
            break;
        }
    }
    if !context.out.json && count > 0 {
        context.out.text(&counted(count, "transaction", "transactions"))?;
    }
    Ok(ExitStatus::AllDone)
}

fn tell_history(rows: &[HistoryLine]) -> String {
    if rows.is_empty() {
        return "There are no transactions.".into();
    }
    let number = |row: &HistoryLine| row.transaction_id.to_string();
    if rows.iter().all(|row| row.txid.is_none()) {
        let cells = rows.iter().map(|row| {
            let HistoryLine { date, kind, from_account, to_account, amount, .. } = row;
            [number(row), date.clone(), kind.clone(), from_account.clone(), to_account.clone(), amount.to_string()]
        });
        return table(["No.", "Date", "Type", "From", "To", "Amount"], &[0, 5], cells);
    }
    let cells = rows.iter().map(|row| {
        let HistoryLine { date, from_account, to_account, amount, txid, peer, note, .. } = row;
        let kind = note.as_ref().map_or_else(|| row.kind.clone(), |note| format!("{}: {note}", row.kind));
        [
            number(row),
            date.clone(),
            kind,
            from_account.clone(),
            to_account.clone(),
            amount.to_string(),
            txid.as_ref().map(ToString::to_string).unwrap_or_default(),
            peer.clone().unwrap_or_default(),
        ]
    });
    table(["No.", "Date", "Type", "From", "To", "Amount", "Transfer", "Branch"], &[0, 5], cells)
}

pub(super) fn tell_status(status: &Status) -> String {
    let undelivered = match status.contradicted {
        0 => status.undelivered.to_string(),
        count => format!("{}, {count} contradicted: see pending", status.undelivered),
    };
    let rows = [
        ("Branch", status.name.clone()),
        ("Role", status.role.clone()),
        ("Accounts", status.accounts.to_string()),
        ("Transactions", status.transactions.to_string()),
        ("Clients", status.clients.to_string()),
        ("In doubt", status.in_doubt.to_string()),
        ("Undelivered", undelivered),
        ("Teaching", if status.teaching { "yes" } else { "no" }.to_string()),
        ("Running for", age(status.uptime_seconds)),
        ("Version", status.version.clone()),
    ];
    let mut lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:<13}{value}")).collect();
    lines.extend(tell_replication(status));
    lines.join("\n")
}

/// What there is to say of replicas, a line each.
fn tell_replication(status: &Status) -> Vec<String> {
    let Some(replication) = &status.replication else { return Vec::new() };
    let line = |name: &str, value: String| format!("{name:<13}{value}");
    let groups = |count: i64| counted(usize::try_from(count).unwrap_or_default(), "group", "groups");
    let tell_lag = |lag: &Lag| match (lag.sequence, lag.seconds) {
        (Some(sequence), seconds) => format!("{}, {} behind", groups(sequence), age(seconds.unwrap_or_default())),
        (None, Some(seconds)) => format!("unknown; it had all that it had heard of {} ago", age(seconds)),
        (None, None) => "unknown".to_string(),
    };
    let mut lines = vec![
        line(
            "Epoch",
            Epoch::new(status.epoch.unwrap_or_default(), status.epoch_id.as_deref().unwrap_or("")).to_string(),
        ),
        line("Replication", format!("{}, at group {}", replication.state, replication.sequence)),
    ];
    lines.extend(replication.primary.as_ref().map(|primary| line("Primary", primary.clone())));
    lines.extend(status.lag.as_ref().map(|lag| line("Lag", tell_lag(lag))));
    lines.extend(replication.trouble.as_ref().map(|trouble| line("Trouble", trouble.clone())));
    if replication.sync_replicas > 0 {
        lines.push(line("Waits for", format!("{} of its replicas before it answers", replication.sync_replicas)));
    }
    for replica in &replication.replicas {
        let lag = replica.lag.as_ref().map(|lag| format!(", {}", tell_lag(lag))).unwrap_or_default();
        lines.push(line("Replica", format!("{} {}{lag}", replica.address, replica.state)));
    }
    lines.extend(replication.promotion.as_ref().map(|promotion| line("Promoted", tell_promotion(promotion))));
    lines
}

pub(super) fn tell_branches(rows: &[Branch]) -> String {
    if rows.is_empty() {
        return "The branch knows of no branches.".into();
    }
    let cells = rows.iter().map(|row| [row.name.clone(), row.address.clone(), row.state.clone()]);
    table(["Branch", "Address", "State"], &[], cells)
}

pub(super) fn tell_audit(audit: &Audit) -> String {
    let figures = [
        ("Sum of all balances", audit.balances),
        ("Sent to other branches, net", audit.in_transit),
        ("Suspense", audit.suspense),
        ("Ever paid in", audit.paid_in),
        ("Ever paid out", audit.paid_out),
    ];
    let cells = figures.iter().map(|(figure, total)| [(*figure).to_string(), total.to_string()]);
    let mut text = table(["Books", "Rs"], &[1], cells);
    for finding in &audit.findings {
        text.push_str("\n! ");
        text.push_str(finding);
    }
    if let Some(head) = &audit.chain_head {
        text.push_str(&format!("\nHead of the chain: {}:{}", head.transaction_id, head.hash));
    }
    let rows = usize::try_from(audit.transactions).unwrap_or_default();
    text.push('\n');
    text.push_str(&verdict(audit.ok, audit.findings.len(), rows));
    text
}

/// The last line of an audit.
pub(super) fn verdict(is_ok: bool, findings: usize, transactions: usize) -> String {
    let transactions = counted(transactions, "transaction", "transactions");
    if is_ok {
        format!("The books are right: {transactions} checked.")
    } else {
        format!("THE BOOKS ARE NOT RIGHT: {} in {transactions}.", counted(findings, "finding", "findings"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_names_transfers_only_where_there_are_some() {
        let deposit = r#"{"transaction_id":7,"date":"2025-01-02T03:04:05Z","type":"deposit","from_account":"cash",
            "to_account":"1001","amount":5.00,"txid":null,"peer":null}"#;
        let transfer = r#"{"transaction_id":8,"date":"2025-01-02T03:04:06Z","type":"transfer_out","from_account":"1001",
            "to_account":"1002","amount":50.00,"txid":"Mumbai-1","peer":"Delhi"}"#;
        let rows = |json: String| serde_json::from_str::<Vec<HistoryLine>>(&json).unwrap();
        let expected = "\
No.  Date                  Type     From  To    Amount
-------------------------------------------------------
  7  2025-01-02T03:04:05Z  deposit  cash  1001    5.00";
        assert_eq!(tell_history(&rows(format!("[{deposit}]"))), expected);
        let expected = "\
No.  Date                  Type          From  To    Amount  Transfer  Branch
------------------------------------------------------------------------------
  8  2025-01-02T03:04:06Z  transfer_out  1001  1002   50.00  Mumbai-1  Delhi
  7  2025-01-02T03:04:05Z  deposit       cash  1001    5.00  -         -";
        assert_eq!(tell_history(&rows(format!("[{transfer},{deposit}]"))), expected);
    }

    #[test]
    fn an_audit_ends_with_its_verdict() {
        let right = r#"{"ok":true,"findings":[],"balances":1950.00,"in_transit":50.00,"paid_in":2000.00,"paid_out":0.00,
            "transactions":12}"#;
        let expected = "\
Books                             Rs
-------------------------------------
Sum of all balances          1950.00
Sent to other branches, net    50.00
Suspense                        0.00
Ever paid in                 2000.00
Ever paid out                   0.00
The books are right: 12 transactions checked.";
        assert_eq!(tell_audit(&serde_json::from_str(right).unwrap()), expected);
        let wrong = r#"{"ok":false,"findings":["account 1001 has too much"],"balances":1.00,"in_transit":-0.50,
            "paid_in":0.00,"paid_out":0.00}"#;
        let told = tell_audit(&serde_json::from_str(wrong).unwrap());
        assert!(told.ends_with("! account 1001 has too much\nTHE BOOKS ARE NOT RIGHT: 1 finding in 0 transactions."));
    }
}

//! Actions that look: lists, history, status, the audit, other branches.

use std::sync::Arc;

use protocol::TxId;
use protocol::answer::{Branch, HistoryLine, PasswordVersionOf, Status};
use protocol::request::{History, LIST_ROWS_DEFAULT, ListAccounts, PasswordVersions};
use serde::Serialize;

use super::Service;
use super::access::{Caller, check_account};
use super::audit;
use super::operations::to_json;
use crate::bank::{accounts, history};
use crate::clock::iso_utc;
use crate::dbs_exec::{CopyRole, Query as _, params};
use crate::error::Result;
use crate::limits::{ANSWER_LIST_BYTES, LIST_ROWS};
use crate::peers::directory::Directory;
use crate::transfer::Counts;
use two_phase_commit::PeerAddr;

/// A result, and where a list goes on: both as JSON.
pub type Listed = (String, Option<String>);

/// The open accounts.
///
/// # Errors
/// Trouble of the database.
pub fn list_accounts(service: &Service, params: &ListAccounts) -> Result<Listed> {
    // Older programs know no `next`: they get as many as one answer carries.
    let rows = params.limit.unwrap_or(LIST_ROWS).clamp(1, LIST_ROWS);
    let accounts = service.bank.dbs().read(|reader| accounts::list(reader, params.after, false, rows + 1))?;
    let lines: Vec<_> = accounts
        .iter()
        .map(|account| protocol::answer::AccountLine {
            account_no: account.number,
            name: account.name(),
            balance: account.balance,
            held: account.held,
        })
        .collect();
    Ok(list(&lines, rows, |line| to_json(&line.account_no)))
}

/// Transactions, newest first: of one account, or of the whole branch for those who may see it.
///
/// # Errors
/// [`crate::error::Error::NotAllowed`], or trouble of the database.
pub fn history(service: &Service, caller: Caller, params: &History) -> Result<Listed> {
    let account = match (params.account_no, caller) {
        (Some(account), _) => Some(account),
        (None, Caller::Customer(own)) => Some(own),
        (None, Caller::KeyHolder | Caller::Open | Caller::Anonymous) => None,
    };
    if let Some(account) = account {
        check_account(caller, account)?;
    }
    let rows = rows(params.limit);
    let transactions = service.bank.dbs().read(|reader| match account {
        Some(account) => {
            accounts::find(reader, account)?;
            history::of_account(reader, account, params.after, rows + 1)
        }
        None => history::all(reader, params.after, rows + 1),
    })?;
    let lines: Vec<_> = transactions
        .into_iter()
        .map(|transaction| HistoryLine {
            transaction_id: transaction.transaction_id,
            date: iso_utc(transaction.date_unix_ms),
            kind: transaction.kind,
            from_account: transaction.from,
            to_account: transaction.to,
            amount: transaction.amount,
            txid: transaction.txid.and_then(|txid| txid.parse::<TxId>().ok()),
            leg: transaction.leg,
            peer: transaction.peer,
            note: transaction.note,
        })
        .collect();
    Ok(list(&lines, rows, |line| line.transaction_id.to_string()))
}

/// Health and counters.
///
/// # Errors
/// Trouble of the database.
pub fn status(service: &Service) -> Result<String> {
    let replication = service.replication.status();
    let count = |sql: &'static str| {
        service.bank.dbs().read(|reader| Ok(reader.query_opt(sql, params![], |row| row.get::<_, i64>(0))?.unwrap_or(0)))
    };
    let accounts = count("SELECT count(*) FROM customers WHERE status = 'open'")?;
    // Rows are numbered without a gap.
    let transactions = count("SELECT max(transaction_id) FROM transactions UNION ALL SELECT 0 LIMIT 1").unwrap_or(0);
    let counts = match service.replication.role() {
        CopyRole::Primary => service.engine.counts(),
        // The two machines rest at a copy that is not written; their tables say it all the same.
        CopyRole::Replica | CopyRole::Fenced => {
            let in_doubt = count("SELECT count(*) FROM prepared WHERE state = 'prepared'")?;
            let undelivered = count(
                "SELECT count(*) FROM (SELECT txid FROM coordinated WHERE state = 'committed' UNION SELECT txid FROM contradicted)",
            )?;
            let contradicted = count("SELECT count(DISTINCT txid) FROM contradicted")?;
            Counts {
                in_doubt: in_doubt.unsigned_abs(),
                undelivered: undelivered.unsigned_abs(),
                contradicted: contradicted.unsigned_abs(),
            }
        }
    };
    Ok(to_json(&Status {
        name: service.bank.name().to_string(),
        role: service.replication.role().as_str().into(),
        accounts: u64::try_from(accounts).unwrap_or(0),
        clients: service.clients.count() as u64,
        in_doubt: counts.in_doubt,
        undelivered: counts.undelivered,
        contradicted: counts.contradicted,
        transactions: u64::try_from(transactions).unwrap_or(0),
        uptime_seconds: service.started.elapsed().as_secs(),
        teaching: service.engine.is_teaching(),
        version: env!("CARGO_PKG_VERSION").into(),
        epoch: replication.epoch.as_ref().map(|epoch| epoch.number),
        epoch_id: replication.epoch.map(|epoch| epoch.id).filter(|id| !id.is_empty()),
        lag: replication.lag,
        replication: replication.replication,
    }))
}

/// The books.
///
/// # Errors
/// Trouble of the database.
pub fn audit(service: &Service) -> Result<String> {
    service.bank.dbs().read(|reader| audit::audit(reader)).map(|audit| to_json(&audit))
}

/// Which passwords accounts have, for a program that keeps sessions of its own.
///
/// # Errors
/// Trouble of the database.
pub fn password_versions(service: &Service, params: &PasswordVersions) -> Result<String> {
    let versions = service.bank.dbs().read(|reader| {
        let versions = params.account_nos.iter().map(|account_no| {
            let version = accounts::password_version(reader, account_no.as_i64())?;
            let password_version = version.map(|version| version.to_string());
            Ok(PasswordVersionOf { account_no: *account_no, password_version })
        });
        versions.collect::<Result<Vec<_>>>()
    })?;
    Ok(to_json(&versions))
}

/// The known branches, this one first.
#[must_use]
pub fn branches(service: &Service) -> Vec<Branch> {
    let here =
        Branch { name: service.bank.name().to_string(), address: service.address.to_string(), state: "here".into() };
    let links = service.engine.links();
    let known = match service.replication.role() {
        CopyRole::Primary => links.directory().all(),
        // What its primary has learned since came with the tables.
        CopyRole::Replica | CopyRole::Fenced => {
            Directory::open(Arc::clone(service.bank.dbs())).map_or_else(|_| Vec::new(), |directory| directory.all())
        }
    };
    let others = known.into_iter().map(|(name, address)| {
        let state = match links.is_up(&PeerAddr::from(&name)) {
            Some(true) => "up",
            Some(false) => "down",
            None => "unknown",
        };
        Branch { name: name.to_string(), address: address.to_string(), state: state.into() }
    });
    std::iter::once(here).chain(others).collect()
}

/// Transfers in doubt here, and those under way from here.
///
/// # Errors
/// Trouble of the database.
pub fn pending(service: &Service, params: &PendingParams) -> Result<Listed> {
    let rows = rows(params.limit);
    let pending = service.engine.pending(params.after.as_ref(), rows + 1)?;
    Ok(list(&pending, rows, |row| to_json(&row.txid)))
}

/// Parameters of `list_pending`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingParams {
    /// Only ids after this one.
    #[serde(default)]
    after: Option<TxId>,
    /// At most so many.
    #[serde(default)]
    limit: Option<usize>,
}

fn rows(limit: Option<usize>) -> usize {
    limit.unwrap_or(LIST_ROWS_DEFAULT).clamp(1, LIST_ROWS)
}

/// The first `rows` of a list as JSON, or fewer where the answer would become too long; and where to go on
/// when something was left out.
fn list<T: Serialize>(found: &[T], rows: usize, place: impl Fn(&T) -> String) -> Listed {
    let mut json = String::from("[");
    let mut last = None;
    for row in found.iter().take(rows) {
        let row_json = to_json(row);
        if json.len() + row_json.len() > ANSWER_LIST_BYTES {
            break;
        }
        if last.is_some() {
            json.push(',');
        }
        json.push_str(&row_json);
        last = Some(row);
    }
    json.push(']');
    let shown = last.map_or(0, |last| found.iter().take_while(|row| !std::ptr::eq(*row, last)).count() + 1);
    let next = last.filter(|_| shown < found.len()).map(place);
    (json, next)
}

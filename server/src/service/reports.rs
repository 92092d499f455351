//! Actions that look: lists, history, status, the audit, other branches.

use std::sync::Arc;

use protocol::answer::{Audit, Branch, HistoryLine, PasswordVersionOf, Pending, Run, Status};
use protocol::request::LoginNum;
use protocol::{AccountNum, TxId};
use two_phase_commit::PeerAddr;

use super::{Service, audit};
use crate::bank::accounts::{self, Account};
use crate::bank::history::{self, Transaction};
use crate::clock::iso_utc;
use crate::dbs_exec::{CopyRole, Query as _, params};
use crate::error::Result;
use crate::peers::directory::Directory;
use crate::transfer::Counts;

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Its rows.
    pub rows: Vec<T>,
    /// Whether the list goes on behind them.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// The first `limit` of what was found by looking for one row more: that one shows whether the list goes on.
    fn of(mut found: Vec<T>, limit: usize) -> Self {
        let has_more = found.len() > limit;
        found.truncate(limit);
        Self { rows: found, has_more }
    }

    /// The same with its rows in another form.
    pub fn map<U>(self, row: impl Fn(T) -> U) -> Page<U> {
        Page { rows: self.rows.into_iter().map(row).collect(), has_more: self.has_more }
    }

    /// Where the list goes on, by its last row here.
    #[must_use]
    pub fn next<K>(&self, place: impl Fn(&T) -> K) -> Option<K> {
        self.rows.last().filter(|_| self.has_more).map(place)
    }
}

/// Accounts by ascending number: the open ones, or all.
///
/// # Errors
/// Failure of the database.
pub fn accounts(
    service: &Service,
    after: Option<AccountNum>,
    with_closed: bool,
    limit: usize,
) -> Result<Page<Account>> {
    let found = service.bank.dbs().read(|reader| accounts::list(reader, after, with_closed, limit + 1))?;
    Ok(Page::of(found, limit))
}

/// Transactions, newest first: of one account, or of the whole branch.
///
/// # Errors
/// [`crate::error::Error::NoSuchAccount`], or failure of the database.
pub fn history(
    service: &Service,
    account: Option<AccountNum>,
    before: Option<i64>,
    limit: usize,
) -> Result<Page<HistoryLine>> {
    let found = service.bank.dbs().read(|reader| match account {
        Some(account) => {
            // A closed account has a history; one that never was has none, and that is said instead of an empty list.
            accounts::find(reader, account)?;
            history::of_account(reader, account, before, limit + 1)
        }
        None => history::all(reader, before, limit + 1),
    })?;
    Ok(Page::of(found, limit).map(history_line))
}

fn history_line(transaction: Transaction) -> HistoryLine {
    HistoryLine {
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
    }
}

/// Health and counters.
///
/// # Errors
/// Failure of the database.
pub fn status(service: &Service) -> Result<Status> {
    let replication = service.replication.status();
    let count = |sql: &'static str| {
        service.bank.dbs().read(|reader| Ok(reader.query_opt(sql, params![], |row| row.get::<_, i64>(0))?.unwrap_or(0)))
    };
    let accounts = count("SELECT count(*) FROM accounts WHERE is_open")?;
    // Rows are numbered without a gap.
    let transactions = count("SELECT max(transaction_id) FROM transactions UNION ALL SELECT 0 LIMIT 1").unwrap_or(0);
    let counts = match service.replication.role() {
        // The machines know what is on its way to the disk at this moment, too.
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
    Ok(Status {
        name: service.bank.name().to_string(),
        role: service.replication.role().as_str().into(),
        accounts: u64::try_from(accounts).unwrap_or(0),
        clients: service.clients.count() as u64,
        in_doubt: counts.in_doubt,
        undelivered: counts.undelivered,
        contradicted: counts.contradicted,
        transactions: u64::try_from(transactions).unwrap_or(0),
        uptime_seconds: service.started.elapsed().as_secs(),
        run: Some(run(service)),
        teaching: service.lesson.is_some(),
        version: env!("CARGO_PKG_VERSION").into(),
        epoch: replication.epoch.as_ref().map(|epoch| epoch.number),
        epoch_id: replication.epoch.map(|epoch| epoch.id).filter(|id| !id.is_empty()),
        lag: replication.lag,
        replication: replication.replication,
    })
}

/// The run of the process, and how far back it remembers.
fn run(service: &Service) -> Run {
    let events = service.engine.events();
    let started_unix_ms = u64::try_from(service.started_unix_ms).unwrap_or(0);
    let oldest_unix_ms = events.oldest_unix_ms().and_then(|oldest| u64::try_from(oldest).ok());
    Run {
        started_unix_ms,
        after_event: events.before_this_run(),
        remembers_from_unix_ms: oldest_unix_ms.map_or(started_unix_ms, |oldest| oldest.min(started_unix_ms)),
    }
}

/// The books.
///
/// # Errors
/// Failure of the database.
pub fn audit(service: &Service) -> Result<Audit> {
    service.bank.dbs().read(|reader| audit::audit(reader))
}

/// Which passwords accounts have, for a program that keeps logins of its own.
///
/// # Errors
/// Failure of the database.
pub fn password_versions(service: &Service, account_nos: &[LoginNum]) -> Result<Vec<PasswordVersionOf>> {
    service.bank.dbs().read(|reader| {
        let versions = account_nos.iter().map(|account_no| {
            let version = accounts::password_version(reader, account_no.as_i64())?;
            let password_version = version.map(|version| version.to_string());
            Ok(PasswordVersionOf { account_no: *account_no, password_version })
        });
        versions.collect()
    })
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

/// Transfers in doubt here, and those under way from here, by ascending id.
///
/// # Errors
/// Failure of the database.
pub fn pending(service: &Service, after: Option<&TxId>, limit: usize) -> Result<Page<Pending>> {
    Ok(Page::of(service.engine.pending(after, limit + 1)?, limit))
}

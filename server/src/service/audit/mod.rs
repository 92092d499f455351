//! The audit: recomputes the books from the rows, and names everything that doesn't fit.
//!
//! It trusts nothing that is derived. From `transactions` alone it computes what each account must hold and
//! compares; it follows the hash chain from the first row; it checks that each row points to the one before it of its
//! two accounts and each account to its newest, so that a history shows every row of its account once and no other; that
//! the branch's own accounts and its customers balance, that every paisa that is held or expected is so because of a transfer under way, that the
//! records of transfers and the books say the same, and that the tables are those which the program made.
//! It reads one snapshot, so it is right also while the bank is working.
//!
//! What it can't see stands, with what it sees, in `docs/audits.md`.

mod customers;
mod own_accounts;
mod rows;
mod tables;
mod transfers;

use std::collections::BTreeMap;

use protocol::answer::{Audit, ChainHead as ChainHeadAnswer};
use protocol::proof::to_hex;
use protocol::{LegSum, Total};

use crate::dbs_exec::{CASH, ChainHead, Query, SUSPENSE, params};
use crate::error::Result;
use crate::limits::AUDIT_FINDINGS;

use own_accounts::OwnAccount;

/// How an audit is made.
#[derive(Default)]
pub struct Auditing<'p> {
    /// An end of the chain that somebody has kept: the row of that number must still have that hash.
    pub expected: Option<ChainHead>,
    /// Told now and then how many transactions are read, of how many.
    pub progress: Option<&'p mut dyn FnMut(u64, u64)>,
}

/// Audits the branch, as of the snapshot that `query` sees.
///
/// # Errors
/// [`crate::error::Error::Database`] when SQLite fails.
pub fn audit(query: &impl Query) -> Result<Audit> {
    audit_with(query, Auditing::default())
}

/// As [`audit`], with more to compare and somebody to tell.
///
/// # Errors
/// As [`audit`].
pub fn audit_with(query: &impl Query, auditing: Auditing<'_>) -> Result<Audit> {
    let mut auditor = Auditor { own_accounts: own_accounts::read(query)?, ..Auditor::default() };
    // First the rules: a trigger that is gone explains much of what comes after.
    tables::compare(query, &mut auditor.findings)?;
    // Every row once. It leaves the sums with which all that follows compares.
    auditor.follow_the_chain(query, auditing)?;
    // Before the customers: what transfers under way reserve is what customers may have held.
    auditor.compare_transfers(query)?;
    auditor.name_contradictions(query)?;
    auditor.compare_customers(query)?;
    auditor.compare_logins(query)?;
    auditor.compare_own_accounts();
    auditor.judge_suspense();
    let (branch, role, epoch) = whose(query)?;
    Ok(Audit { branch, role, epoch, ..auditor.report() })
}

/// Lets SQLite check its own file, page by page. For a database at rest: it reads the whole file.
///
/// # Errors
/// [`crate::error::Error::Database`] when SQLite fails.
pub fn check_file(query: &impl Query) -> Result<Vec<String>> {
    let complaints: Vec<String> = query.query_all("PRAGMA integrity_check", params![], |row| row.get(0))?;
    Ok(complaints.into_iter().filter(|complaint| complaint != "ok").collect())
}

/// Whose books these are, by the books themselves: branch, role and epoch of this copy.
fn whose(query: &impl Query) -> Result<(Option<String>, Option<String>, Option<i64>)> {
    let branch = query.query_opt("SELECT name FROM branch", params![], |row| row.get(0))?;
    let copy_state = query.query_opt("SELECT role, epoch FROM replication_standing", params![], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    })?;
    let (role, epoch) = copy_state.unzip();
    Ok((branch, role, epoch))
}

/// What doesn't fit, up to a bound.
#[derive(Default)]
struct Findings {
    sentences: Vec<String>,
    left_out: usize,
}

impl Findings {
    fn add(&mut self, finding: String) {
        // One changed row in the middle may make a finding of every account: a bound, and a count of the rest.
        if self.sentences.len() < AUDIT_FINDINGS {
            self.sentences.push(finding);
        } else {
            self.left_out += 1;
        }
    }
}

#[derive(Default)]
struct Auditor {
    findings: Findings,
    own_accounts: BTreeMap<i64, OwnAccount>,
    /// What has moved out of and into each account, in paise, by the rows.
    sums: BTreeMap<i64, Sums>,
    /// What transfers under way hold and expect, in paise, by account.
    reserved: BTreeMap<i64, Reserved>,
    /// What stands in suspense, in paise, by the transfer that it is of.
    suspense: BTreeMap<String, i128>,
    balances: Total,
    transactions: i64,
    head: Option<ChainHead>,
    /// What went to each other branch less what came from it, in paise, and the same weighted.
    due: BTreeMap<String, (i128, LegSum)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Reserved {
    held: i128,
    incoming: i128,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    debited: i128,
    credited: i128,
    /// The transaction that paid out what was there when the account was closed.
    closed_by: Option<i64>,
    /// The newest row so far: the next one has to point to it.
    newest: Option<i64>,
}

/// A row's number as it is told.
fn told_row(transaction: Option<i64>) -> String {
    transaction.map_or_else(|| "no transaction".into(), |number| format!("transaction {number}"))
}

impl Auditor {
    /// A difference in suspense is a finding until a person has moved it to whom it belongs.
    fn judge_suspense(&mut self) {
        for (txid, paise) in std::mem::take(&mut self.suspense) {
            if paise != 0 {
                self.findings.add(format!(
                    "Rs {} of transfer {txid} stands on the suspense account: it was settled by hand, and its other \
                     side was not settled so (clear_suspense moves it to whom it belongs)",
                    Total::from_paise(paise)
                ));
            }
        }
    }

    fn report(mut self) -> Audit {
        let Findings { mut sentences, left_out } = std::mem::take(&mut self.findings);
        if left_out > 0 {
            sentences.push(format!("and {left_out} more findings"));
        }
        let cash = self.sums.get(&CASH).copied().unwrap_or_default();
        let suspense = self.sums.get(&SUSPENSE).copied().unwrap_or_default();
        let head = self.head.unwrap_or(ChainHead::GENESIS);
        let due: BTreeMap<_, _> = self.due.iter().map(|(peer, due)| (peer.clone(), Total::from_paise(due.0))).collect();
        Audit {
            ok: sentences.is_empty(),
            findings: sentences,
            balances: self.balances,
            in_transit: due.values().copied().sum(),
            paid_in: Total::from_paise(cash.debited),
            paid_out: Total::from_paise(cash.credited),
            suspense: Total::from_paise(suspense.credited - suspense.debited),
            transactions: self.transactions,
            leg_sums: self.due.into_iter().map(|(peer, due)| (peer, due.1)).collect(),
            due,
            branch: None,
            role: None,
            epoch: None,
            chain_head: Some(ChainHeadAnswer { transaction_id: head.transaction_id, hash: to_hex(&head.hash) }),
        }
    }
}

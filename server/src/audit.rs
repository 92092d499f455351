//! The audit: recomputes the books from the rows, and names everything that doesn't fit.
//!
//! It trusts nothing that is derived. From `transactions` alone it computes what each account must hold and
//! compares; it follows the hash chain from the first row; it checks that the branch's own accounts and its
//! customers balance, and that every paisa that is held or expected is so because of a transfer under way.
//! It reads one snapshot, so it is right also while the bank is working.

use std::collections::BTreeMap;

use protocol::Total;
use protocol::answer::Audit;
use two_phase_commit::Side;

use crate::dbs_exec::{CASH, ChainHead, ChainedRow, Query, Row, SUSPENSE, TOTAL_CARRY, params};
use crate::error::Result;
use crate::limits::AUDIT_FINDINGS;
use crate::transfer::records;

/// Audits the branch, as of the snapshot that `query` sees.
///
/// # Errors
/// [`crate::error::Error::Database`] when SQLite fails.
pub fn audit(query: &impl Query) -> Result<Audit> {
    let mut auditor = Auditor::default();
    auditor.follow_the_chain(query)?;
    auditor.sum_up_reservations(query)?;
    auditor.compare_customers(query)?;
    auditor.compare_own_accounts(query)?;
    Ok(auditor.report())
}

/// Lets SQLite check its own file, page by page. For a database at rest: it reads the whole file.
///
/// # Errors
/// [`crate::error::Error::Database`] when SQLite fails.
pub fn check_file(query: &impl Query) -> Result<Vec<String>> {
    let complaints: Vec<String> = query.query_all("PRAGMA integrity_check", params![], |row| row.get(0))?;
    Ok(complaints.into_iter().filter(|complaint| complaint != "ok").collect())
}

#[derive(Default)]
struct Auditor {
    findings: Vec<String>,
    findings_left_out: usize,
    /// What has moved out of and into each account, in paise, by the rows.
    sums: BTreeMap<i64, Sums>,
    /// What transfers under way hold and expect, in paise, by account.
    reserved: BTreeMap<i64, Reserved>,
    balances: Total,
    transactions: i64,
    /// What went to each other branch less what came from it, in paise.
    due: BTreeMap<String, Total>,
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
}

impl Auditor {
    fn find(&mut self, finding: String) {
        if self.findings.len() < AUDIT_FINDINGS {
            self.findings.push(finding);
        } else {
            self.findings_left_out += 1;
        }
    }

    /// Reads every row once, in order: sums it up, and checks its hash against the row before.
    fn follow_the_chain(&mut self, query: &impl Query) -> Result<()> {
        let mut head = ChainHead::GENESIS;
        query.query_each(
            "SELECT transaction_id, from_account, to_account, amount, type, date, txid, leg, peer, hash
             FROM transactions ORDER BY transaction_id",
            params![],
            |row| {
                let chained = read_chained(row)?;
                let hash: [u8; 32] = row.get(9)?;
                if chained.transaction_id != head.transaction_id + 1 {
                    let (from, to) = (head.transaction_id + 1, chained.transaction_id - 1);
                    self.find(format!("transactions {from} to {to} are missing"));
                } else if head.after(&chained).hash != hash {
                    // What follows an altered row is chained to the hash that was stored, so one finding says it.
                    self.find(format!("transaction {} was altered: its hash does not fit", chained.transaction_id));
                }
                head = ChainHead { transaction_id: chained.transaction_id, hash };
                self.transactions += 1;
                let amount = i128::from(chained.amount_paise);
                self.sums.entry(chained.from_account).or_default().debited += amount;
                self.sums.entry(chained.to_account).or_default().credited += amount;
                Ok(())
            },
        )
    }

    /// What the transfers that are prepared here, or begun here and not decided, hold and expect.
    fn sum_up_reservations(&mut self, query: &impl Query) -> Result<()> {
        records::each_holding(query, |transfer| {
            for leg in transfer.local_legs() {
                let reserved = self.reserved.entry(leg.account.as_i64()).or_default();
                match leg.side {
                    Side::Withdraw => reserved.held += i128::from(leg.amount.paise()),
                    Side::Deposit => reserved.incoming += i128::from(leg.amount.paise()),
                }
            }
        })
    }

    fn compare_customers(&mut self, query: &impl Query) -> Result<()> {
        query.query_each("SELECT account_num, balance, held, incoming FROM customers", params![], |row| {
            let number: i64 = row.get(0)?;
            let (balance, held, incoming): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
            let sums = self.sums.remove(&number).unwrap_or_default();
            let computed = sums.credited - sums.debited;
            if computed != i128::from(balance) {
                self.find(format!(
                    "account {number} holds Rs {}, but its transactions make Rs {}",
                    Total::from_paise(i128::from(balance)),
                    Total::from_paise(computed)
                ));
            }
            let reserved = self.reserved.remove(&number).unwrap_or_default();
            for (what, stored, computed) in [("held", held, reserved.held), ("expected", incoming, reserved.incoming)] {
                if i128::from(stored) != computed {
                    self.find(format!(
                        "account {number} has Rs {} {what}, but the transfers under way make it Rs {}",
                        Total::from_paise(i128::from(stored)),
                        Total::from_paise(computed)
                    ));
                }
            }
            self.balances += Total::from_paise(i128::from(balance));
            Ok(())
        })?;
        for number in std::mem::take(&mut self.reserved).into_keys() {
            self.find(format!("a transfer under way reserves something at account {number}, which does not exist"));
        }
        Ok(())
    }

    fn compare_own_accounts(&mut self, query: &impl Query) -> Result<()> {
        let mut net = 0_i128;
        let sql = "SELECT account_num, name, debited_carry, debited, credited_carry, credited, peer FROM own_accounts";
        query.query_each(sql, params![], |row| {
            let (number, name): (i64, String) = (row.get(0)?, row.get(1)?);
            let counted = Sums { debited: wide(row.get(2)?, row.get(3)?), credited: wide(row.get(4)?, row.get(5)?) };
            let sums = self.sums.get(&number).copied().unwrap_or_default();
            for (side, counted, computed) in
                [("out of", counted.debited, sums.debited), ("into", counted.credited, sums.credited)]
            {
                if counted != computed {
                    self.find(format!(
                        "the books count Rs {} {side} {name}, but the transactions make Rs {}",
                        Total::from_paise(counted),
                        Total::from_paise(computed)
                    ));
                }
            }
            net += counted.debited - counted.credited;
            if let Some(peer) = row.get::<_, Option<String>>(6)? {
                self.due.insert(peer, Total::from_paise(sums.credited - sums.debited));
            }
            Ok(())
        })?;
        if self.balances.paise() != net {
            self.find(format!(
                "customers hold Rs {}, but Rs {} moved to them from the branch's own accounts",
                self.balances,
                Total::from_paise(net)
            ));
        }
        let strangers: Vec<i64> = self.sums.keys().copied().filter(|number| *number >= 0).collect();
        for number in strangers {
            self.find(format!("there are transactions of account {number}, which does not exist"));
        }
        Ok(())
    }

    fn report(mut self) -> Audit {
        let suspense = self.sums.get(&SUSPENSE).copied().unwrap_or_default();
        let suspense = Total::from_paise(suspense.credited - suspense.debited);
        if suspense != Total::ZERO {
            self.find(format!(
                "Rs {suspense} stands on the suspense account: a transfer was settled by hand, and its coordinator said otherwise"
            ));
        }
        if self.findings_left_out > 0 {
            self.findings.push(format!("and {} more findings", self.findings_left_out));
        }
        let cash = self.sums.get(&CASH).copied().unwrap_or_default();
        Audit {
            ok: self.findings.is_empty(),
            findings: self.findings,
            balances: self.balances,
            in_transit: self.due.values().copied().sum(),
            paid_in: Total::from_paise(cash.debited),
            paid_out: Total::from_paise(cash.credited),
            suspense,
            transactions: self.transactions,
            due: self.due,
        }
    }
}

/// A total of an own account, in paise.
fn wide(carry: i64, rest: i64) -> i128 {
    i128::from(carry) * i128::from(TOTAL_CARRY) + i128::from(rest)
}

fn read_chained<'r>(row: &'r Row<'_>) -> rusqlite::Result<ChainedRow<'r>> {
    Ok(ChainedRow {
        transaction_id: row.get(0)?,
        from_account: row.get(1)?,
        to_account: row.get(2)?,
        amount_paise: row.get(3)?,
        kind: row.get_ref(4)?.as_str()?,
        date_unix_ms: row.get(5)?,
        txid: row.get_ref(6)?.as_str_or_null()?,
        leg: row.get(7)?,
        peer: row.get_ref(8)?.as_str_or_null()?,
    })
}

//! The branch's own accounts: what they are, and whether their running totals are what the rows make.

use std::collections::BTreeMap;

use protocol::Total;

use super::{Auditor, Sums};
use crate::dbs_exec::{CASH, Query, SUSPENSE, TOTAL_CARRY, params};
use crate::error::Result;

/// What an own account is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The other side of what is paid in and out.
    Cash,
    /// Differences that were settled by hand.
    Suspense,
    /// What another branch owes.
    Due,
    /// Nothing that the program makes.
    Unknown,
}

/// A row of `own_accounts`.
#[derive(Debug)]
pub struct OwnAccount {
    number: i64,
    name: String,
    /// The branch, of an account that is due with one.
    pub peer: Option<String>,
    debited: i128,
    credited: i128,
}

impl OwnAccount {
    /// What it is for.
    #[must_use]
    pub fn role(&self) -> Role {
        match (self.number, &self.peer) {
            (CASH, None) => Role::Cash,
            (SUSPENSE, None) => Role::Suspense,
            // Known numbers with a peer, or others without one: made by hand.
            (CASH | SUSPENSE, Some(_)) | (_, None) => Role::Unknown,
            (_, Some(_)) => Role::Due,
        }
    }

    /// The name that the program gives to such an account.
    fn expected_name(&self) -> Option<String> {
        match self.role() {
            Role::Cash => Some("cash".into()),
            Role::Suspense => Some("suspense".into()),
            Role::Due => self.peer.as_ref().map(|peer| format!("due {peer}")),
            Role::Unknown => None,
        }
    }
}

/// All own accounts, by number.
///
/// # Errors
/// Failure of the database.
pub fn read(query: &impl Query) -> Result<BTreeMap<i64, OwnAccount>> {
    let mut found = BTreeMap::new();
    let sql = "SELECT account_num, name, debited_carry, debited, credited_carry, credited, peer FROM own_accounts";
    query.query_each(sql, params![], |row| {
        let number = row.get(0)?;
        let account = OwnAccount {
            number,
            name: row.get(1)?,
            debited: wide(row.get(2)?, row.get(3)?),
            credited: wide(row.get(4)?, row.get(5)?),
            peer: row.get(6)?,
        };
        found.insert(number, account);
        Ok(())
    })?;
    Ok(found)
}

impl Auditor {
    pub(super) fn compare_own_accounts(&mut self) {
        let mut net = 0_i128;
        for own in self.own_accounts.values() {
            let sums = self.sums.get(&own.number).copied().unwrap_or_default();
            for finding in judge(own, &sums) {
                self.findings.add(finding);
            }
            // Whatever customers hold has come out of one of these: every row has two sides.
            net += own.debited - own.credited;
        }
        // A due account is made when it is first needed; these two are there from the beginning.
        for (number, name) in [(CASH, "cash"), (SUSPENSE, "suspense")] {
            if !self.own_accounts.contains_key(&number) {
                self.findings.add(format!("the branch's own account {number}, {name}, is gone"));
            }
        }
        let is_gone = |number: &&i64| **number < 0 && !self.own_accounts.contains_key(*number);
        for number in self.sums.keys().filter(is_gone) {
            self.findings.add(format!("there are transactions of the branch's own account {number}, which is gone"));
        }
        if self.balances.paise() != net {
            self.findings.add(format!(
                "customers hold Rs {}, but Rs {} moved to them from the branch's own accounts",
                self.balances,
                Total::from_paise(net)
            ));
        }
    }
}

fn judge(own: &OwnAccount, sums: &Sums) -> Vec<String> {
    let OwnAccount { number, name, .. } = own;
    let mut findings = Vec::new();
    match own.expected_name() {
        None => findings.push(format!("there is an own account {number}, {name}, that the branch has no use for")),
        Some(expected) if expected != *name => {
            findings.push(format!("the branch's own account {number} is named {name}, and should be {expected}"));
        }
        Some(_) => {}
    }
    for (side, counted, computed) in [("out of", own.debited, sums.debited), ("into", own.credited, sums.credited)] {
        if counted != computed {
            findings.push(format!(
                "the books count Rs {} {side} {name}, but the transactions make Rs {}",
                Total::from_paise(counted),
                Total::from_paise(computed)
            ));
        }
    }
    findings
}

/// A running total, in paise.
fn wide(carry: i64, rest: i64) -> i128 {
    i128::from(carry) * i128::from(TOTAL_CARRY) + i128::from(rest)
}

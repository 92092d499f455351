//! Customers: each account against the rows, the transfers under way, its holder and its login.

use protocol::Total;

use super::{Auditor, Reserved, Sums, told_row};
use crate::dbs_exec::{Query, Row, params};
use crate::error::Result;

/// An account as it stands in the tables.
struct Stored {
    number: i64,
    balance: i64,
    held: i64,
    incoming: i64,
    is_open: bool,
    newest: Option<i64>,
    has_holder: bool,
    was_closed: bool,
}

impl Stored {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            balance: row.get(1)?,
            held: row.get(2)?,
            incoming: row.get(3)?,
            is_open: row.get(4)?,
            newest: row.get(5)?,
            has_holder: row.get(6)?,
            was_closed: row.get(7)?,
        })
    }
}

impl Auditor {
    pub(super) fn compare_customers(&mut self, query: &impl Query) -> Result<()> {
        // An account without a holder is to be found, too.
        let sql = "SELECT account_num, balance, held, incoming, is_open, newest_transaction,
                          first_name IS NOT NULL, closed_unix_ms IS NOT NULL
                   FROM accounts LEFT JOIN account_holders USING (account_num) ORDER BY account_num";
        query.query_each(sql, params![], |row| {
            let account = Stored::read(row)?;
            // Taken out, so that what is left at the end belongs to no account.
            let sums = self.sums.remove(&account.number).unwrap_or_default();
            let reserved = self.reserved.remove(&account.number).unwrap_or_default();
            self.compare_with_rows(&account, &sums);
            self.compare_with_holder(&account, &sums);
            self.compare_with_transfers(&account, reserved);
            self.balances += Total::from_paise(i128::from(account.balance));
            Ok(())
        })?;
        let holders = "SELECT account_num FROM account_holders
                       WHERE account_num NOT IN (SELECT account_num FROM accounts) ORDER BY account_num";
        query.query_each(holders, params![], |row| {
            let number: i64 = row.get(0)?;
            self.findings.add(format!("there is a holder of account {number}, which does not exist"));
            Ok(())
        })?;
        for number in std::mem::take(&mut self.reserved).into_keys() {
            self.findings
                .add(format!("a transfer under way reserves something at account {number}, which does not exist"));
        }
        // Below zero are the branch's own accounts, which are compared by themselves.
        let strangers: Vec<i64> = self.sums.keys().copied().filter(|number| *number >= 0).collect();
        for number in strangers {
            self.findings.add(format!("there are transactions of account {number}, which does not exist"));
        }
        Ok(())
    }

    /// What an account holds, and where its history begins.
    fn compare_with_rows(&mut self, account: &Stored, sums: &Sums) {
        let Stored { number, balance, newest, .. } = account;
        let computed = sums.credited - sums.debited;
        if computed != i128::from(*balance) {
            self.findings.add(format!(
                "account {number} holds Rs {}, but its transactions make Rs {}",
                Total::from_paise(i128::from(*balance)),
                Total::from_paise(computed)
            ));
        }
        if *newest != sums.newest {
            self.findings.add(format!(
                "the history of account {number} begins with {}, but its newest is {}",
                told_row(*newest),
                told_row(sums.newest)
            ));
        }
    }

    /// Whose it is, and whether it is open.
    fn compare_with_holder(&mut self, account: &Stored, sums: &Sums) {
        let number = account.number;
        if !account.has_holder {
            self.findings.add(format!("account {number} is nobody's: its holder is gone"));
            return;
        }
        match (account.is_open, account.was_closed, sums.closed_by) {
            // Somebody has opened it again behind the program's back: there is no such operation.
            (true, _, Some(transaction)) => {
                self.findings.add(format!("account {number} is open, but transaction {transaction} closed it"));
            }
            (true, true, None) => self.findings.add(format!("account {number} is open, and has a date of closing")),
            (false, false, _) => self.findings.add(format!("account {number} is closed without a date of closing")),
            // The two that the program makes.
            (true, false, None) | (false, true, _) => {}
        }
    }

    /// What is held and expected.
    fn compare_with_transfers(&mut self, account: &Stored, reserved: Reserved) {
        let number = account.number;
        for (what, stored, computed) in
            [("held", account.held, reserved.held), ("expected", account.incoming, reserved.incoming)]
        {
            if i128::from(stored) != computed {
                self.findings.add(format!(
                    "account {number} has Rs {} {what}, but the transfers under way make it Rs {}",
                    Total::from_paise(i128::from(stored)),
                    Total::from_paise(computed)
                ));
            }
        }
        if !account.is_open && reserved != Reserved::default() {
            self.findings.add(format!("a transfer under way reserves something at account {number}, which is closed"));
        }
    }

    /// Whoever can log in must be an open account's customer, or the administrator.
    pub(super) fn compare_logins(&mut self, query: &impl Query) -> Result<()> {
        let sql = "SELECT account_num, is_open FROM auth LEFT JOIN accounts USING (account_num)
                   WHERE account_num <> 0 AND is_open IS NOT 1 ORDER BY account_num";
        query.query_each(sql, params![], |row| {
            let (number, is_open): (i64, Option<bool>) = (row.get(0)?, row.get(1)?);
            let what = if is_open.is_some() { "is closed" } else { "does not exist" };
            self.findings.add(format!("there is a login for account {number}, which {what}"));
            Ok(())
        })
    }
}

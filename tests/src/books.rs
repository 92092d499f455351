//! Looking into a database: through the program's own audit, and past it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use crate::programs::server_command;

/// What `bank-server audit --json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Whether the books are clean.
    pub ok: bool,
    /// What doesn't fit.
    pub findings: Vec<String>,
    /// What all customers hold together, in rupees.
    pub balances: String,
    /// Rows of `transactions`.
    pub transactions: u64,
}

/// Audits a database at rest.
///
/// # Panics
/// When there was no audit, or when its exit status does not say what its text says.
#[must_use]
#[track_caller]
pub fn audit(database: &Path) -> Audit {
    let output = audit_output(database);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("no audit ({error}): {text} {}", String::from_utf8_lossy(&output.stderr)));
    let ok = json["ok"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!ok)), "the exit status of {json}");
    Audit {
        ok,
        findings: json["findings"].as_array().unwrap().iter().map(ToString::to_string).collect(),
        balances: json["balances"].to_string(),
        transactions: json["transactions"].as_u64().unwrap(),
    }
}

/// Runs `bank-server audit --json` on a database and gives all that comes of it.
#[must_use]
pub fn audit_output(database: &Path) -> Output {
    let mut command = server_command();
    command.args(["audit", "--json", "--db"]).arg(database).stdin(Stdio::null());
    command.output().unwrap()
}

impl Audit {
    /// Panics unless the books are clean.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.ok && self.findings.is_empty(), "{self:?}");
    }
}

/// A branch's tables, read and never written, past the program.
#[derive(Debug)]
pub struct Books(Connection);

impl Books {
    /// Opens a database for reading.
    #[must_use]
    #[track_caller]
    pub fn open(database: &Path) -> Self {
        Self(Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap())
    }

    /// One integer.
    #[must_use]
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        self.0.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// A column of text.
    #[must_use]
    #[track_caller]
    pub fn texts(&self, sql: &str) -> Vec<String> {
        let mut statement = self.0.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// An account's balance in paise.
    #[must_use]
    #[track_caller]
    pub fn balance_paise(&self, account: i64) -> i64 {
        self.number(&format!("SELECT balance FROM customers WHERE account_num = {account}"))
    }

    /// How often each amount, in paise, was deposited into an account.
    #[must_use]
    #[track_caller]
    pub fn deposits(&self, account: i64) -> BTreeMap<i64, i64> {
        let sql =
            "SELECT amount, count(*) FROM transactions WHERE type = 'deposit' AND to_account = ?1 GROUP BY amount";
        let mut statement = self.0.prepare(sql).unwrap();
        let rows = statement.query_map([account], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// How often each type, payer, receiver and amount, in paise, is in `transactions`.
    #[must_use]
    #[track_caller]
    pub fn movements(&self) -> BTreeMap<(String, i64, i64, i64), i64> {
        let sql = "SELECT type, from_account, to_account, amount, count(*) FROM transactions GROUP BY 1, 2, 3, 4";
        let mut statement = self.0.prepare(sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok(((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?), row.get(4)?));
        statement.query_map([], row).unwrap().map(Result::unwrap).collect()
    }

    /// Every row of every table, to be compared with another time's.
    #[must_use]
    #[track_caller]
    pub fn everything(&self) -> String {
        let mut all = String::new();
        for table in self.texts("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name") {
            let mut statement = self.0.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY 1")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let values: Vec<Value> = (0..columns).map(|column| row.get(column).unwrap()).collect();
                writeln!(all, "{table} {values:?}").unwrap();
            }
        }
        all
    }
}

//! Several branches of one bank, in one folder: they share its key.

use std::fs;
use std::path::Path;
use std::time::Duration;

use protocol::Total;
use protocol::answer::{Audit, Status};
use protocol::proof::BranchKey;
use serde_json::json;
use tempfile::TempDir;

use crate::branch::Branch;
use crate::options::Options;
use crate::wait::wait_until_within;

/// How long after the last branch is back nothing may be in doubt any more.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// A folder with the databases of a bank's branches, deleted when dropped.
#[derive(Debug)]
pub struct Bank {
    folder: TempDir,
}

impl Bank {
    /// A bank without a branch.
    #[must_use]
    pub fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("bank-test-").tempdir().unwrap() }
    }

    /// Starts a branch with the sample accounts.
    #[must_use]
    #[track_caller]
    pub fn branch(&self, name: &str) -> Branch {
        self.start(name, Options::named(name))
    }

    /// Starts a branch with the sample accounts that kills itself at a point of a transfer.
    #[must_use]
    #[track_caller]
    pub fn branch_that_crashes(&self, name: &str, point: &str) -> Branch {
        self.start(name, Options::named(name).crash_at(point))
    }

    /// Starts a branch on the database `file`.db.
    #[must_use]
    #[track_caller]
    pub fn start(&self, file: &str, options: Options) -> Branch {
        Branch::start(options.database(self.folder.path().join(format!("{file}.db"))))
    }

    /// The folder, with the databases and `bank.key`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The key that its branches share.
    #[must_use]
    #[track_caller]
    pub fn key(&self) -> BranchKey {
        fs::read_to_string(self.folder.path().join("bank.key")).unwrap().parse().unwrap()
    }

    /// Makes branches known to one another: each links to each by its address.
    #[track_caller]
    pub fn introduce(branches: &[&Branch]) {
        for one in branches {
            for other in branches.iter().filter(|other| other.port() != one.port()) {
                // The receiver does not exist, so nothing moves; but the two know each other from now on.
                let params = json!({"src_account_no": 1001, "dest_account_no": 999_999, "amount": "0.01",
                    "dest_host": "127.0.0.1", "dest_port": other.port()});
                one.connect().ask("inter_branch_transfer", params).refused("no_such_account");
            }
        }
    }

    /// Waits until nothing is in doubt or undelivered at any of these branches.
    ///
    /// # Panics
    /// After [`SETTLED_WITHIN`].
    #[track_caller]
    pub fn wait_until_settled(branches: &[&Branch]) {
        let mut connections: Vec<_> = branches.iter().map(|branch| branch.connect()).collect();
        let mut pending = String::new();
        let mut is_settled = || {
            pending.clear();
            for connection in &mut connections {
                let status: Status = connection.ask("status", json!({})).result();
                if status.in_doubt + status.undelivered > 0 {
                    pending += &connection.ask("list_pending", json!({})).text;
                }
            }
            pending.is_empty()
        };
        if !is_settled() {
            wait_until_within(SETTLED_WITHIN, "nothing is in doubt or undelivered", is_settled);
        }
    }

    /// Checks the money of the whole bank while it runs and nothing is under way: each branch's books, the identity
    /// of all of them, and what each pair owes one another. Gives the money in all branches.
    #[track_caller]
    pub fn assert_exact(branches: &[&Branch]) -> Total {
        let audits: Vec<(String, Audit)> = branches
            .iter()
            .map(|branch| {
                let mut connection = branch.connect();
                let status: Status = connection.ask("status", json!({})).result();
                (status.name, connection.ask("audit", json!({})).result())
            })
            .collect();
        let sum = |figure: fn(&Audit) -> Total| audits.iter().map(|(_, audit)| figure(audit)).sum::<Total>();
        for (name, audit) in &audits {
            assert!(audit.ok && audit.findings.is_empty(), "the books of {name}: {audit:?}");
            for (peer, due) in &audit.due {
                let there = audits.iter().find(|(name, _)| name == peer).map(|(_, audit)| &audit.due);
                let owed = there.unwrap_or_else(|| panic!("{name} has dealt with {peer}")).get(name);
                let owed = owed.copied().unwrap_or_default();
                assert_eq!(*due + owed, Total::ZERO, "{name} and {peer} disagree: {audits:?}");
            }
        }
        let balances = sum(|audit| audit.balances);
        assert_eq!(sum(|audit| audit.in_transit), Total::ZERO, "money is on its way: {audits:?}");
        let paid = sum(|audit| audit.paid_in) - sum(|audit| audit.paid_out);
        assert_eq!(balances, paid, "money was made or lost: {audits:?}");
        balances
    }
}

impl Default for Bank {
    fn default() -> Self {
        Self::new()
    }
}

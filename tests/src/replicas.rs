//! Copies of one branch: a primary and those that follow it.

use std::fmt::Write as _;
use std::path::Path;

use protocol::answer::Status;
use serde_json::{Value, json};

use crate::bank::Bank;
use crate::books::Books;
use crate::branch::Branch;
use crate::options::Options;
use crate::wait::wait_until;

impl Bank {
    /// Starts a replica of a branch on the database `file`.db, and waits until it follows.
    #[must_use]
    #[track_caller]
    pub fn replica_of(&self, primary: &Branch, file: &str) -> Branch {
        let name: Status = primary.connect().ask("status", json!({})).result();
        let replica = self.start(file, replica_options(&name.name, primary));
        replica.wait_until_following();
        replica
    }
}

/// The flags of a replica.
#[must_use]
pub fn replica_options(name: &str, primary: &Branch) -> Options {
    Options::bare().value("--name", name).value("--replica-of", format!("127.0.0.1:{}", primary.port()))
}

impl Branch {
    /// What it says of replication; nothing while it changes its role.
    #[must_use]
    pub fn replication(&self) -> Option<Value> {
        let mut connection = crate::branch_connection::BranchConnection::connect(self.port()).ok()?;
        let reply = connection.try_ask("status", json!({}), None).ok()?;
        Some(reply.json["result"].clone())
    }

    /// Waits until it has this role and this state.
    #[track_caller]
    pub fn wait_until_state(&self, role: &str, state: &str) {
        wait_until(&format!("the copy is {role}, {state}; the log:\n{}", self.log().text()), || {
            self.replication().is_some_and(|status| {
                status["role"] == role && (state.is_empty() || status["replication"]["state"] == state)
            })
        });
    }

    /// Waits until it follows its primary.
    #[track_caller]
    pub fn wait_until_following(&self) {
        self.wait_until_state("replica", "following");
    }

    /// Of a primary that has ended: promotes its replica, and has the old one follow it on its old file. Afterwards the
    /// two have changed places.
    #[track_caller]
    pub fn promote_instead(&mut self, replica: &mut Self, options: impl Fn(Options) -> Options) {
        let name = replica.replication().unwrap()["name"].as_str().unwrap().to_string();
        replica.connect().ask("promote", json!({"force": true})).ok();
        replica.wait_until_state("primary", "");
        let returned = options(replica_options(&name, replica)).database(self.database_path());
        let returned = Self::start(returned);
        let state = || returned.replication().map(|status| status["replication"]["state"].clone());
        wait_until("the old primary follows or says why not", || {
            state().is_some_and(|state| state == "following" || state == "diverged")
        });
        if state() == Some(json!("diverged")) {
            // It had written what nobody confirmed.
            returned.connect().ask("resync", json!({})).ok();
            returned.wait_until_following();
        }
        *self = std::mem::replace(replica, returned);
    }

    /// The last group of its log.
    #[must_use]
    pub fn sequence(&self) -> Option<i64> {
        self.replication()?["replication"]["sequence"].as_i64()
    }

    /// Waits until it has all that its primary has. Nothing may be written meanwhile but what a branch does by itself.
    #[track_caller]
    pub fn wait_until_caught_up(&self, primary: &Branch) {
        wait_until("the replica has caught up", || {
            let all = primary.sequence();
            all.is_some() && self.sequence() == all
        });
    }
}

/// Every row of every table that copies share. The running time is left out: a primary goes on writing it while one of
/// two copies is being looked at.
#[must_use]
#[track_caller]
pub fn shared_rows(database: &Path) -> String {
    let mut shared = String::new();
    let is_shared = |line: &&str| !line.starts_with("replication_") && !line.starts_with("running_time ");
    for line in Books::open(database).everything().lines().filter(is_shared) {
        writeln!(shared, "{line}").unwrap();
    }
    shared
}

/// Checks that two databases have the same rows, byte for byte.
#[track_caller]
pub fn assert_same_rows(one: &Path, other: &Path) {
    let (ours, theirs) = (shared_rows(one), shared_rows(other));
    if ours != theirs {
        let differing = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
        panic!("the copies differ: {differing:?}, {} and {} rows", ours.lines().count(), theirs.lines().count());
    }
}

//! The in-process ceiling: what the same database does without sockets, sessions and other threads.
//!
//! One thread hands the library's own transfers to its own `dbs_exec`, a fixed number of them in each
//! commit: the same schema, statements, hash chain and `synchronous=FULL` as a serving branch, through one
//! SQLite connection. A branch that reaches this number spends nothing on anything else.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bank_server::allowance::Owner;
use bank_server::bank::accounts::{self, Opening};
use bank_server::bank::movements::{self, Booking, Transferred};
use bank_server::bank::passwords::HashCost;
use bank_server::bank::{Bank, BankSettings};
use bank_server::clock::unix_ms_now;
use bank_server::dbs_exec::{DbsExec, Tx};
use protocol::{AccountNum, Money};

use crate::latency::Latencies;
use crate::measurement::Measurement;
use crate::random::Random;
use crate::workload::{AMOUNT, OPENING_BALANCE, account_num};

/// Accounts opened in one commit.
const OPENINGS_PER_COMMIT: u64 = 10_000;

/// A bank in this process, on a database of its own.
pub struct Ceiling {
    dbs: Arc<DbsExec>,
    accounts: u64,
    random: Random,
}

impl Ceiling {
    /// Makes the database in `folder`, with so many accounts.
    ///
    /// # Errors
    /// One sentence when the database can't be made.
    pub fn open(folder: &Path, accounts: u64) -> Result<Self, String> {
        let dbs = DbsExec::open(&folder.join("ceiling.db"), |_| {}).map_err(|error| error.to_string())?;
        let dbs = Arc::new(dbs);
        let name = "Ceiling".parse().expect("it is a branch name");
        let settings = BankSettings { name, opening_balance: OPENING_BALANCE, hash_cost: HashCost::OWASP };
        Bank::open(Arc::clone(&dbs), settings, None).map_err(|error| error.to_string())?;
        let ceiling = Self { dbs, accounts, random: Random::new(1) };
        for first in (0..accounts).step_by(OPENINGS_PER_COMMIT as usize) {
            ceiling.open_accounts(first..accounts.min(first + OPENINGS_PER_COMMIT))?;
        }
        Ok(ceiling)
    }

    /// Makes transfers for `warm_up` and then for `duration`, `per_commit` of them in each commit.
    ///
    /// # Errors
    /// One sentence when the database fails, or a transfer is refused.
    pub fn measure(&mut self, per_commit: usize, warm_up: Duration, duration: Duration) -> Result<Measurement, String> {
        self.transfer_until(per_commit, Instant::now() + warm_up, &mut Latencies::new())?;
        let mut latencies = Latencies::new();
        let start = Instant::now();
        let operations = self.transfer_until(per_commit, start + duration, &mut latencies)?;
        Ok(Measurement::new(operations, 0, None, start.elapsed(), &latencies))
    }

    fn transfer_until(&mut self, per_commit: usize, end: Instant, latencies: &mut Latencies) -> Result<u64, String> {
        let mut operations = 0;
        let mut begun = Instant::now();
        while begun < end {
            let group: Vec<_> = (0..per_commit).map(|_| self.transfer()).collect();
            let results = self.dbs.execute_for(Owner::Branch, group).map_err(|error| error.to_string())?;
            for result in results {
                result.map_err(|error| error.to_string())?;
                operations += 1;
            }
            let now = Instant::now();
            latencies.record(now - begun, per_commit as u64);
            begun = now;
        }
        Ok(operations)
    }

    /// One transfer between two accounts, drawn at random.
    fn transfer(&mut self) -> impl FnMut(&mut Tx<'_>) -> bank_server::error::Result<Transferred> + Send + use<> {
        let (from, to) = self.random.pair(self.accounts);
        let (from, to) = (number(from), number(to));
        let booking = Booking { date_unix_ms: unix_ms_now(), sms: false };
        move |tx| movements::transfer(tx, from, to, AMOUNT, &booking)
    }

    fn open_accounts(&self, indexes: std::ops::Range<u64>) -> Result<(), String> {
        let booking = Booking { date_unix_ms: unix_ms_now(), sms: false };
        let openings = indexes.map(|index| {
            let opening = opening(number(index), OPENING_BALANCE);
            move |tx: &mut Tx<'_>| accounts::open(tx, &opening, &booking)
        });
        for result in self.dbs.execute_for(Owner::Branch, openings.collect()).map_err(|error| error.to_string())? {
            result.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        self.dbs.close();
    }
}

fn number(index: u64) -> AccountNum {
    AccountNum::new(account_num(index)).expect("the workload's account numbers are in range")
}

fn opening(number: AccountNum, balance: Money) -> Opening {
    Opening {
        number: Some(number),
        first_name: "Bench".into(),
        last_name: String::new(),
        aadhaar: None,
        phone: None,
        sms: false,
        password_hash: None,
        opening_balance: balance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_made_and_the_books_stay_right() {
        let folder = tempfile::tempdir().unwrap();
        let mut ceiling = Ceiling::open(folder.path(), 10).unwrap();
        let measurement = ceiling.measure(8, Duration::ZERO, Duration::from_millis(20)).unwrap();
        assert!(measurement.operations >= 8 && measurement.operations.is_multiple_of(8), "{measurement:?}");
        let audit = ceiling.dbs.read(|reader| bank_server::service::audit::audit(reader)).unwrap();
        assert!(audit.ok, "{:?}", audit.findings);
    }
}

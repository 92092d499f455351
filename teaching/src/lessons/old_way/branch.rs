//! A branch as the older systems had it: balances in a file, and all else in memory.

#![expect(clippy::float_arithmetic, reason = "that money was counted with floats is what this shows")]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use protocol::{Money, TxId};

use crate::lessons::failure::Failure;

/// An amount in rupees as a floating-point number. Nothing of the real bank counts with it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rupees(f64);

impl Rupees {
    /// Nothing.
    pub const ZERO: Self = Self(0.0);

    /// The sum, as far as a float has it.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The difference, as far as a float has it.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }

    /// With a `+` in front of what is above zero.
    pub fn signed(self) -> String {
        if self.0 > 0.0 { format!("+{self}") } else { self.to_string() }
    }
}

impl From<Money> for Rupees {
    fn from(amount: Money) -> Self {
        let text = amount.to_string();
        // The text of an amount is always that of a float; the older systems read it so.
        Self(text.parse().unwrap_or(0.0))
    }
}

impl fmt::Display for Rupees {
    /// Every digit that the float has: rounding would hide what the lesson shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// What a branch remembers of a prepare.
#[derive(Clone, Debug)]
pub struct Prepared {
    account: &'static str,
    change: Rupees,
}

impl Prepared {
    /// Money that is to leave.
    pub fn withdrawal(account: &'static str, amount: Money) -> Self {
        Self { account, change: Rupees::ZERO.minus(Rupees::from(amount)) }
    }

    /// Money that is to come.
    pub fn deposit(account: &'static str, amount: Money) -> Self {
        Self { account, change: Rupees::from(amount) }
    }
}

/// A branch.
pub struct OldBranch {
    /// A line for each account: its number and its balance.
    file: PathBuf,
    /// Gone with the process.
    prepared: BTreeMap<TxId, Prepared>,
}

impl OldBranch {
    /// A new branch with these accounts, in a file of its name.
    pub fn create(folder: &Path, name: &str, accounts: &[(&str, Rupees)]) -> Result<Self, Failure> {
        let branch = Self::reopen_unchecked(folder, name);
        branch.write(&accounts.iter().map(|(account, balance)| ((*account).to_string(), balance.0)).collect())?;
        Ok(branch)
    }

    /// A branch as its file has it.
    pub fn reopen(folder: &Path, name: &str) -> Result<Self, Failure> {
        let branch = Self::reopen_unchecked(folder, name);
        branch.read().map(|_| branch)
    }

    fn reopen_unchecked(folder: &Path, name: &str) -> Self {
        Self { file: folder.join(format!("{name}.txt")), prepared: BTreeMap::new() }
    }

    /// How many transfers are prepared.
    pub fn prepared(&self) -> usize {
        self.prepared.len()
    }

    /// What an account has by the file.
    pub fn balance(&self, account: &str) -> Result<Rupees, Failure> {
        let balance = self.read()?.get(account).copied();
        balance.map(Rupees).ok_or_else(|| Failure::refused("no_such_account", format!("no account {account}")))
    }

    /// Looks whether the balance would do, and remembers the change. Nothing is reserved, nothing written.
    pub fn prepare(&mut self, txid: &TxId, prepared: Prepared) -> Result<(), Failure> {
        let balance = self.balance(prepared.account)?;
        if balance.plus(prepared.change) < Rupees::ZERO {
            return Err(Failure::refused("insufficient_funds", "insufficient funds"));
        }
        self.prepared.insert(txid.clone(), prepared);
        Ok(())
    }

    /// Changes the balance by what was prepared, without looking again.
    pub fn commit(&mut self, txid: &TxId) -> Result<(), Failure> {
        let unknown = || Failure::refused("unknown_transaction", format!("unknown transaction {txid}"));
        let Prepared { account, change } = self.prepared.remove(txid).ok_or_else(unknown)?;
        self.change(account, change)
    }

    /// Cash in, as often as it is asked for.
    pub fn deposit(&mut self, account: &str, amount: Money) -> Result<(), Failure> {
        self.change(account, Rupees::from(amount))
    }

    fn change(&self, account: &str, change: Rupees) -> Result<(), Failure> {
        let mut accounts = self.read()?;
        let Some(balance) = accounts.get_mut(account) else {
            return Err(Failure::refused("no_such_account", format!("no account {account}")));
        };
        *balance += change.0;
        self.write(&accounts)
    }

    fn read(&self) -> Result<BTreeMap<String, f64>, Failure> {
        let text = fs::read_to_string(&self.file).map_err(|error| self.failure(&error))?;
        let accounts = text.lines().map(|line| {
            let (account, balance) = line.split_once(' ').ok_or_else(|| self.failure(&"a line is no account"))?;
            Ok((account.to_string(), balance.parse().map_err(|error| self.failure(&error))?))
        });
        accounts.collect()
    }

    fn write(&self, accounts: &BTreeMap<String, f64>) -> Result<(), Failure> {
        let text: String = accounts.iter().map(|(account, balance)| format!("{account} {balance:?}\n")).collect();
        fs::write(&self.file, text).map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &impl fmt::Display) -> Failure {
        Failure::refused(Failure::SYSTEM, format!("the scratch file {} fails: {error}", self.file.display()))
    }
}

//! A branch's accounts in memory: balances, holds and rows, as the real ledger keeps them on disk.
//!
//! Amounts are signed here, so that a broken rule shows as a negative balance that the judge can see, and
//! not as a panic. A row is unique by (txid, leg); a second one for the same leg is refused loudly.

use std::collections::BTreeMap;

use protocol::{AccountNum, TxId};
use two_phase_commit::{LedgerAction, LedgerOp, Leg, Outcome, Refusal, Side};

/// The largest balance, small enough that the room for deposits runs out in some runs.
pub const BALANCE_MAX_PAISE: i64 = 40_000;

/// One account.
#[derive(Clone, Debug)]
pub struct Account {
    /// What is there.
    pub balance_paise: i64,
    /// How much of it is held by prepared withdrawals.
    pub held_paise: i64,
    /// The room that prepared deposits have reserved.
    pub reserved_paise: i64,
    /// How many prepared deposits pin it open.
    pub pins: u32,
    /// Whether it is open.
    pub is_open: bool,
}

/// One movement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The account.
    pub account: AccountNum,
    /// Which way.
    pub side: Side,
    /// How much.
    pub amount_paise: i64,
    /// Whether the other side is the cash box; otherwise it is another leg of the transfer.
    pub is_cash: bool,
}

/// What a client does at one branch alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cash {
    /// Pays in.
    Deposit {
        /// The account.
        account: AccountNum,
        /// How much.
        amount_paise: i64,
    },
    /// Takes out.
    Withdraw {
        /// The account.
        account: AccountNum,
        /// How much.
        amount_paise: i64,
    },
    /// Closes the account and takes out what is left.
    Close {
        /// The account.
        account: AccountNum,
    },
}

/// The accounts of a branch.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The accounts.
    pub accounts: BTreeMap<AccountNum, Account>,
    /// What is held, by transaction and leg.
    pub holds: BTreeMap<(TxId, u32), Leg>,
    /// What has moved, by transaction and leg.
    pub rows: BTreeMap<(TxId, u32), Row>,
    /// What was booked on the suspense account: what stands here and what stands elsewhere.
    pub suspense: BTreeMap<TxId, (Outcome, Outcome)>,
    /// A broken rule, for the proof that the judge sees it: a hold is checked but not kept.
    pub is_without_holds: bool,
}

impl Ledger {
    /// Opens an account with a balance.
    pub fn open(&mut self, account: AccountNum, balance_paise: i64) {
        let fresh = Account { balance_paise, held_paise: 0, reserved_paise: 0, pins: 0, is_open: true };
        self.accounts.insert(account, fresh);
    }

    /// Does one operation of a machine. Only a hold can be refused.
    ///
    /// # Errors
    /// The reason of a refusal; nothing was done.
    ///
    /// # Panics
    /// When a leg would move twice, which the real schema forbids.
    pub fn execute(&mut self, op: &LedgerOp) -> Result<(), Refusal> {
        let txid = &op.transfer.txid;
        match op.action {
            LedgerAction::Hold => return self.hold(txid, &op.transfer.local_legs().cloned().collect::<Vec<_>>()),
            LedgerAction::Apply => op.transfer.local_legs().for_each(|leg| {
                self.release(txid, leg);
                self.insert(txid, leg.index, leg.account, leg.side, leg.amount.paise(), false);
            }),
            LedgerAction::Release => op.transfer.local_legs().for_each(|leg| self.release(txid, leg)),
            LedgerAction::Suspense { ours, theirs } => {
                let booked = self.suspense.insert(txid.clone(), (ours, theirs));
                assert!(booked.is_none(), "{txid} is on the suspense account twice");
            }
            LedgerAction::SettleElsewhere { .. } => panic!("{txid} is contradicted, and no disk here loses anything"),
        }
        Ok(())
    }

    /// Does what a client asked for at this branch alone.
    ///
    /// # Errors
    /// The reason of a refusal; nothing was done.
    pub fn cash(&mut self, txid: &TxId, cash: &Cash) -> Result<(), Refusal> {
        match cash {
            Cash::Deposit { account, amount_paise } => {
                self.check_deposit(*account, *amount_paise)?;
                self.insert(txid, 0, *account, Side::Deposit, *amount_paise, true);
            }
            Cash::Withdraw { account, amount_paise } => {
                self.check_withdrawal(*account, *amount_paise)?;
                self.insert(txid, 0, *account, Side::Withdraw, *amount_paise, true);
            }
            Cash::Close { account } => {
                let found = self.find(*account)?;
                if found.held_paise > 0 || found.pins > 0 {
                    return Err(Refusal::new("account_in_use", "something is held"));
                }
                let left_paise = found.balance_paise;
                self.insert(txid, 0, *account, Side::Withdraw, left_paise, true);
                self.account_mut(*account).is_open = false;
            }
        }
        Ok(())
    }

    /// Whether a hold would be granted now.
    #[must_use]
    pub fn would_hold(&self, op: &LedgerOp) -> bool {
        self.clone().execute(op).is_ok()
    }

    fn hold(&mut self, txid: &TxId, legs: &[Leg]) -> Result<(), Refusal> {
        for (position, leg) in legs.iter().enumerate() {
            if let Err(refusal) = self.hold_leg(txid, leg) {
                legs.iter().take(position).for_each(|done| self.release(txid, done));
                return Err(refusal);
            }
        }
        Ok(())
    }

    fn hold_leg(&mut self, txid: &TxId, leg: &Leg) -> Result<(), Refusal> {
        let key = (txid.clone(), leg.index);
        if self.rows.contains_key(&key) || self.holds.contains_key(&key) {
            return Err(Refusal::new(Refusal::SETTLED, "the leg is in the books already"));
        }
        let amount_paise = leg.amount.paise();
        match leg.side {
            Side::Withdraw => self.check_withdrawal(leg.account, amount_paise)?,
            Side::Deposit => self.check_deposit(leg.account, amount_paise)?,
        }
        if self.is_without_holds {
            return Ok(());
        }
        let account = self.account_mut(leg.account);
        match leg.side {
            Side::Withdraw => account.held_paise += amount_paise,
            Side::Deposit => {
                account.reserved_paise += amount_paise;
                account.pins += 1;
            }
        }
        self.holds.insert(key, leg.clone());
        Ok(())
    }

    fn release(&mut self, txid: &TxId, leg: &Leg) {
        let Some(held) = self.holds.remove(&(txid.clone(), leg.index)) else {
            assert!(self.is_without_holds, "{txid} has no hold for {leg}");
            return;
        };
        let account = self.account_mut(held.account);
        match held.side {
            Side::Withdraw => account.held_paise -= held.amount.paise(),
            Side::Deposit => {
                account.reserved_paise -= held.amount.paise();
                account.pins -= 1;
            }
        }
    }

    fn insert(&mut self, txid: &TxId, leg: u32, account: AccountNum, side: Side, amount_paise: i64, is_cash: bool) {
        let row = Row { account, side, amount_paise, is_cash };
        let twice = self.rows.insert((txid.clone(), leg), row);
        assert!(twice.is_none(), "{txid} moves leg {leg} twice");
        let found = self.account_mut(account);
        match side {
            Side::Withdraw => found.balance_paise -= amount_paise,
            Side::Deposit => found.balance_paise += amount_paise,
        }
    }

    fn check_withdrawal(&self, account: AccountNum, amount_paise: i64) -> Result<(), Refusal> {
        let found = self.find(account)?;
        if found.balance_paise - found.held_paise < amount_paise {
            return Err(Refusal::new("insufficient_funds", "insufficient funds"));
        }
        Ok(())
    }

    fn check_deposit(&self, account: AccountNum, amount_paise: i64) -> Result<(), Refusal> {
        let found = self.find(account)?;
        if found.balance_paise + found.reserved_paise + amount_paise > BALANCE_MAX_PAISE {
            return Err(Refusal::new("balance_too_large", "the balance would be too large"));
        }
        Ok(())
    }

    fn find(&self, account: AccountNum) -> Result<&Account, Refusal> {
        let open = self.accounts.get(&account).filter(|found| found.is_open);
        open.ok_or_else(|| Refusal::new("account_closed", "the account is closed"))
    }

    fn account_mut(&mut self, account: AccountNum) -> &mut Account {
        self.accounts.get_mut(&account).expect("a leg that was held names an account")
    }
}

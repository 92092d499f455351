//! The rules of the two older systems, run on a scratch bank with real files in a folder of its own.
//!
//! What is wrong with them is kept on purpose, and is all there is to see here:
//! - amounts are floating-point numbers;
//! - a prepare looks at the balance and reserves nothing, and is kept in the memory of the process alone;
//! - there is no record of a decision: the two commits are made one after the other;
//! - a restart drops what was prepared;
//! - a request has no id, so one that is repeated is carried out twice.
//!
//! A crash is the loss of the process's memory: the branch is opened again from its file, and from nothing else.
//! `branch` holds these rules, `diary` writes down what happens as events like a real branch's, and this file plays
//! both branches and the client. No account of a real branch is touched.

mod branch;
mod diary;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::event::{Event, Movement};
use protocol::{Money, TxId};

use crate::lessons::failure::Failure;
use crate::lessons::table::table;

pub use branch::Rupees;
use branch::{OldBranch, Prepared};
use diary::Diary;

/// The paying branch.
const MUMBAI: &str = "Old-Mumbai";
/// The branch that is paid.
const DELHI: &str = "Old-Delhi";
/// Who pays, at the first branch.
const PAYER: &str = "1001";
/// Who is paid, at the second.
const RECEIVER: &str = "1002";
/// An account at the first branch that begins empty.
const EMPTY: &str = "1003";
/// What the other two hold at the beginning.
const OPENING: Money = Money::from_rupees(1_000);

/// The scratch bank.
pub struct OldWay {
    folder: Scratch,
    mumbai: OldBranch,
    delhi: OldBranch,
    diary: Diary,
    transfers: u32,
    /// What was paid in as cash by customers who meant it.
    paid_in: Rupees,
}

/// A transfer of the older kind that both branches have said yes to.
#[derive(Clone, Debug)]
pub struct OldTransfer {
    /// Its id.
    pub txid: TxId,
    amount: Money,
}

impl OldWay {
    /// Two branches in a new folder.
    ///
    /// # Errors
    /// The system's.
    pub fn open() -> Result<Self, Failure> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let folder = Scratch::make(&format!("bank-old-way-{}-{}", std::process::id(), since_1970.as_nanos()))?;
        let opening = Rupees::from(OPENING);
        let mumbai = OldBranch::create(&folder.0, MUMBAI, &[(PAYER, opening), (EMPTY, Rupees::ZERO)])?;
        let delhi = OldBranch::create(&folder.0, DELHI, &[(RECEIVER, opening)])?;
        let diary = Diary::new(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX));
        Ok(Self { folder, mumbai, delhi, diary, transfers: 0, paid_in: Rupees::ZERO })
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Prepares a transfer at both branches. Both look at what they have, and reserve nothing.
    ///
    /// # Errors
    /// When one refuses, which is not what the lesson shows.
    pub fn prepare(&mut self, amount: Money) -> Result<OldTransfer, Failure> {
        self.transfers += 1;
        let txid: TxId = format!("OldWay-{:x}-{}", self.diary.first_number(), self.transfers)
            .parse()
            .map_err(|error| Failure::refused(Failure::SYSTEM, format!("a scratch transfer has no id: {error}")))?;
        let text = format!("{amount} from {PAYER} to {DELHI}/{RECEIVER}");
        self.diary.asked(MUMBAI, &txid, &text);
        self.mumbai.prepare(&txid, Prepared::withdrawal(PAYER, amount))?;
        self.diary.note(MUMBAI, &txid, "prepared in memory alone; nothing is held");
        self.diary.message(MUMBAI, DELHI, &txid, "prepare", &format!("prepare deposit {amount} to {RECEIVER}"));
        self.delhi.prepare(&txid, Prepared::deposit(RECEIVER, amount))?;
        self.diary.note(DELHI, &txid, "prepared in memory alone");
        self.diary.message(DELHI, MUMBAI, &txid, "vote", "vote yes");
        Ok(OldTransfer { txid, amount })
    }

    /// The first of the two commits.
    ///
    /// # Errors
    /// When the branch refuses, which is not what the lesson shows.
    pub fn commit_payer(&mut self, transfer: &OldTransfer) -> Result<(), Failure> {
        self.mumbai.commit(&transfer.txid)?;
        self.diary.recorded(MUMBAI, &transfer.txid, "new balance");
        self.diary.moved(MUMBAI, &transfer.txid, PAYER, transfer.amount, Movement::Debited);
        Ok(())
    }

    /// The second of the two commits, and what the branch says to it: nothing, or why not.
    pub fn commit_receiver(&mut self, transfer: &OldTransfer) -> Option<String> {
        self.diary.message(MUMBAI, DELHI, &transfer.txid, "commit", "commit");
        match self.delhi.commit(&transfer.txid) {
            Ok(()) => {
                self.diary.recorded(DELHI, &transfer.txid, "new balance");
                self.diary.moved(DELHI, &transfer.txid, RECEIVER, transfer.amount, Movement::Credited);
                self.diary.message(DELHI, MUMBAI, &transfer.txid, "ok", "ok");
                self.diary.answered(MUMBAI, &transfer.txid, "transfer complete");
                None
            }
            Err(refusal) => {
                self.diary.message(DELHI, MUMBAI, &transfer.txid, "error", &format!("error: {refusal}"));
                self.diary.answered(MUMBAI, &transfer.txid, &format!("error: {refusal}"));
                Some(refusal.text)
            }
        }
    }

    /// The receiver's branch loses its memory and opens its file again. Gives how many transfers were prepared before
    /// and after.
    ///
    /// # Errors
    /// The system's.
    pub fn crash_receiver(&mut self, transfer: &OldTransfer) -> Result<(usize, usize), Failure> {
        let before = self.delhi.prepared();
        self.diary.note(DELHI, &transfer.txid, "crashes");
        self.delhi = OldBranch::reopen(&self.folder.0, DELHI)?;
        self.diary.note(DELHI, &transfer.txid, "is started again: nothing is prepared");
        Ok((before, self.delhi.prepared()))
    }

    /// A customer pays cash in once, gets no answer, and asks again. Gives the balance before and after.
    ///
    /// # Errors
    /// The system's.
    pub fn deposit_retried(&mut self, amount: Money) -> Result<(Rupees, Rupees), Failure> {
        let before = self.delhi.balance(RECEIVER)?;
        self.delhi.deposit(RECEIVER, amount)?;
        self.delhi.deposit(RECEIVER, amount)?;
        self.paid_in = self.paid_in.plus(Rupees::from(amount));
        Ok((before, self.delhi.balance(RECEIVER)?))
    }

    /// Pays the same amount into an empty account that many times. Gives its balance.
    ///
    /// # Errors
    /// The system's.
    pub fn deposit_often(&mut self, amount: Money, times: u32) -> Result<Rupees, Failure> {
        for _ in 0..times {
            self.mumbai.deposit(EMPTY, amount)?;
        }
        let sum = i64::from(times).checked_mul(amount.paise()).and_then(Money::from_paise);
        self.paid_in = self.paid_in.plus(sum.map_or(Rupees::ZERO, Rupees::from));
        self.mumbai.balance(EMPTY)
    }

    /// What the payer has.
    ///
    /// # Errors
    /// The system's.
    pub fn payer(&self) -> Result<Rupees, Failure> {
        self.mumbai.balance(PAYER)
    }

    /// All accounts as the files have them, before and now, with what is missing or too much. The last column is what
    /// should be there: what was there at the beginning, and what was paid in since.
    ///
    /// # Errors
    /// The system's.
    pub fn money_table(&self) -> Result<String, Failure> {
        let opening = Rupees::from(OPENING);
        let accounts = [
            (format!("{MUMBAI}/{PAYER}"), opening, self.mumbai.balance(PAYER)?),
            (format!("{DELHI}/{RECEIVER}"), opening, self.delhi.balance(RECEIVER)?),
            (format!("{MUMBAI}/{EMPTY}"), Rupees::ZERO, self.mumbai.balance(EMPTY)?),
        ];
        let sum = |figures: &mut dyn Iterator<Item = Rupees>| figures.fold(Rupees::ZERO, Rupees::plus);
        let before = sum(&mut accounts.iter().map(|(_, before, _)| *before));
        let now = sum(&mut accounts.iter().map(|(_, _, now)| *now));
        let should_be = before.plus(self.paid_in);
        let mut rows: Vec<[String; 3]> =
            accounts.iter().map(|(name, before, now)| [name.clone(), before.to_string(), now.to_string()]).collect();
        rows.push(["together".into(), before.to_string(), now.to_string()]);
        rows.push(["paid in since".into(), String::new(), self.paid_in.to_string()]);
        rows.push(["should be".into(), String::new(), should_be.to_string()]);
        rows.push(["made (+), lost (-)".into(), String::new(), now.minus(should_be).signed()]);
        Ok(table(["", "before", "now"], &rows))
    }

    /// What has happened since the last time.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.diary.take()
    }
}

/// A folder that is removed with the bank in it.
struct Scratch(PathBuf);

impl Scratch {
    fn make(name: &str) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).map_err(|error| {
            Failure::refused(Failure::SYSTEM, format!("no scratch folder can be made at {}: {error}", path.display()))
        })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is left to whoever cleans the folder of temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIFTY: Money = Money::from_rupees(50);

    #[test]
    fn a_crash_between_the_two_commits_loses_the_money() {
        let mut old = OldWay::open().unwrap();
        let transfer = old.prepare(FIFTY).unwrap();
        old.commit_payer(&transfer).unwrap();
        assert_eq!(old.crash_receiver(&transfer).unwrap(), (1, 0));
        assert!(old.commit_receiver(&transfer).is_some(), "a restart has dropped what was prepared");
        assert_eq!(
            (old.payer().unwrap().to_string(), old.delhi.balance(RECEIVER).unwrap().to_string()),
            ("950.0".into(), "1000.0".into())
        );
        assert!(old.money_table().unwrap().ends_with("-50.0"));
    }

    #[test]
    fn without_a_crash_nothing_is_lost() {
        let mut old = OldWay::open().unwrap();
        let transfer = old.prepare(FIFTY).unwrap();
        old.commit_payer(&transfer).unwrap();
        assert_eq!(old.commit_receiver(&transfer), None);
        assert!(old.money_table().unwrap().ends_with(" 0.0"));
    }

    #[test]
    fn the_same_money_is_spent_twice() {
        let mut old = OldWay::open().unwrap();
        let amount = Money::from_rupees(600);
        let (one, two) = (old.prepare(amount).unwrap(), old.prepare(amount).unwrap());
        for transfer in [&one, &two] {
            old.commit_payer(transfer).unwrap();
            assert_eq!(old.commit_receiver(transfer), None);
        }
        assert_eq!(old.payer().unwrap().to_string(), "-200.0");
    }

    #[test]
    fn a_retry_makes_money_and_small_change_is_not_exact() {
        let mut old = OldWay::open().unwrap();
        let (before, after) = old.deposit_retried(FIFTY).unwrap();
        assert_eq!(after.minus(before).to_string(), "100.0");
        assert_ne!(old.deposit_often("0.10".parse().unwrap(), 10).unwrap().to_string(), "1.0");
    }

    #[test]
    fn events_are_in_the_order_of_their_clocks_and_the_folder_goes() {
        let mut old = OldWay::open().unwrap();
        let folder = old.folder().to_path_buf();
        assert!(folder.join("Old-Mumbai.txt").exists());
        let transfer = old.prepare(FIFTY).unwrap();
        old.commit_payer(&transfer).unwrap();
        old.commit_receiver(&transfer);
        let events = old.take_events();
        assert!(old.take_events().is_empty());
        for (index, event) in events.iter().enumerate() {
            assert!(events[..index].iter().all(|earlier| !event.is_before(earlier)), "{event:?}");
            assert_eq!(event.txid.as_ref(), Some(&transfer.txid));
        }
        assert!(events[0].is_before(events.last().unwrap()), "the client's request causes its answer");
        drop(old);
        assert!(!folder.exists());
    }
}

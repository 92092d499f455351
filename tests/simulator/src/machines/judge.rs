//! The judge: an independent account of what was asked, what was told, and what stands on the disks.
//!
//! It looks at effects alone: clients' requests and answers, durable rows, holds and outcomes, and the
//! messages that leave a branch. It never asks a machine what it thinks. After each durable write it checks
//! the branch that wrote and the whole bank's money; at the end, that everything asked for came out whole.

use std::collections::{BTreeMap, BTreeSet};

use protocol::TxId;
use two_phase_commit::{Decision, Leg, Message, Notice, Outcome, Record, Side, Vote};

use crate::machines::ledger::{BALANCE_MAX_PAISE, Cash, Ledger};

/// A leg and the branch where it is.
pub type PlacedLeg = (usize, Leg);

/// What the judge knows.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    requested: BTreeMap<TxId, Vec<PlacedLeg>>,
    cash_requested: BTreeMap<TxId, (usize, Cash)>,
    cash_told: BTreeMap<TxId, bool>,
    told: BTreeMap<TxId, Outcome>,
    /// What the one that decides has decided, durably.
    decided: BTreeMap<TxId, Outcome>,
    /// What each participant has durably settled, but not by hand.
    settled: BTreeMap<(TxId, usize), Outcome>,
    by_hand: BTreeMap<(TxId, usize), Outcome>,
    /// Prepared by an outside program: no branch coordinates it, and what a person settles of it is final at once.
    uncoordinated: BTreeSet<TxId>,
    mixed: BTreeSet<(TxId, usize)>,
    /// The legs that each participant has durably prepared.
    prepared: BTreeMap<(TxId, usize), BTreeSet<u32>>,
    /// Begun or prepared on disk, and not ended there: these may hold something.
    open: BTreeSet<(usize, TxId)>,
    aborts_acknowledged: BTreeSet<(usize, TxId)>,
    initial_paise: Vec<i64>,
    balances_paise: Vec<i64>,
    /// The net cash paid in at each branch.
    cash_paise: Vec<i64>,
    violation: Option<String>,
}

impl Judge {
    /// A judge over branches that begin with these ledgers.
    #[must_use]
    pub fn new<'a>(ledgers: impl Iterator<Item = &'a Ledger>) -> Self {
        let initial_paise: Vec<i64> = ledgers.map(total_paise).collect();
        let cash_paise = vec![0; initial_paise.len()];
        Self { balances_paise: initial_paise.clone(), initial_paise, cash_paise, ..Self::default() }
    }

    /// The first thing that was wrong.
    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// How many transfers were decided so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.decided.values().filter(|decided| **decided == outcome).count()
    }

    /// How many branches ended mixed.
    #[must_use]
    pub fn mixed(&self) -> usize {
        self.mixed.len()
    }

    /// A client or a program asks for a transfer.
    pub fn asked(&mut self, txid: &TxId, legs: Vec<PlacedLeg>) {
        self.requested.insert(txid.clone(), legs);
    }

    /// A client asks for something at one branch.
    pub fn asked_cash(&mut self, txid: &TxId, branch: usize, cash: &Cash) {
        self.cash_requested.insert(txid.clone(), (branch, cash.clone()));
    }

    /// The client is told whether that was done.
    pub fn told_cash(&mut self, txid: &TxId, done: bool) {
        self.cash_told.insert(txid.clone(), done);
    }

    /// An outside program decides; it never forgets that.
    pub fn program_decided(&mut self, txid: &TxId, outcome: Outcome) {
        self.decide(txid, outcome);
    }

    /// A branch tells something.
    pub fn heard(&mut self, notice: &Notice) {
        match notice {
            Notice::Decided { txid, decision } => {
                let outcome = match decision {
                    Decision::Committed => Outcome::Committed,
                    Decision::Aborted(_) => Outcome::Aborted,
                };
                let is_committed = self.decided.get(txid) == Some(&Outcome::Committed);
                if is_committed != (outcome == Outcome::Committed) {
                    self.accuse(format!("a client was told that {txid} {outcome}, which is not so"));
                }
                if self.told.insert(txid.clone(), outcome).is_some_and(|before| before != outcome) {
                    self.accuse(format!("a client was told two outcomes of {txid}"));
                }
            }
            Notice::Contradicted { .. } => self.accuse(format!("no party may see this: {notice}")),
            Notice::Delivered { .. } | Notice::Confirmed { .. } | Notice::Mixed { .. } | Notice::Forgotten { .. } => {}
        }
    }

    /// A branch sends a message.
    pub fn sent(&mut self, branch: usize, message: &Message) {
        match message {
            Message::Acknowledged { txid, outcome: Outcome::Aborted, .. } => {
                self.aborts_acknowledged.insert((branch, txid.clone()));
            }
            Message::Vote { txid, vote: Vote::Yes } => {
                if self.aborts_acknowledged.contains(&(branch, txid.clone())) {
                    self.accuse(format!("branch {branch} votes yes to {txid}, whose abort it has acknowledged"));
                }
            }
            Message::Prepare(_)
            | Message::Vote { .. }
            | Message::Decision { .. }
            | Message::Acknowledged { .. }
            | Message::Inquiry { .. }
            | Message::Undecided { .. }
            | Message::Rejected { .. } => {}
        }
    }

    /// A write of a branch is durable. `ledgers` are all branches' as they are on disk now.
    pub fn wrote(&mut self, branch: usize, txid: &TxId, records: &[Record], ledgers: &[&Ledger]) {
        for record in records {
            self.recorded(branch, record);
        }
        self.check_rows(branch, txid, ledgers[branch]);
        self.check_accounts(branch, ledgers[branch]);
        self.check_money(ledgers);
    }

    fn recorded(&mut self, branch: usize, record: &Record) {
        let key = (record.txid().clone(), branch);
        match record {
            Record::Begun(_) => {
                self.open.insert((branch, key.0));
            }
            Record::Prepared(transfer) => {
                if transfer.coordinator.is_none() {
                    self.uncoordinated.insert(transfer.txid.clone());
                }
                self.open.insert((branch, transfer.txid.clone()));
                self.prepared.insert(key, transfer.legs.iter().map(|leg| leg.index).collect());
            }
            Record::Committed { txid } => {
                self.open.remove(&(branch, txid.clone()));
                self.decide(txid, Outcome::Committed);
            }
            Record::Aborted { txid } => {
                self.open.remove(&(branch, txid.clone()));
                self.decide(txid, Outcome::Aborted);
            }
            Record::Contradicted { transfer, ours, by, refusal } => {
                let txid = &transfer.txid;
                let text = format!("{by} contradicts {txid}, {ours} at branch {branch}: {refusal}");
                self.violation.get_or_insert(text);
            }
            Record::Ended { .. } | Record::Confirmed { .. } | Record::Resolved { .. } => {}
            Record::Settled { txid, outcome, by_hand } => {
                self.open.remove(&(branch, txid.clone()));
                let (outcomes, wrong) = match by_hand {
                    Some(_) => (&mut self.by_hand, false),
                    None => {
                        let is_committed = self.decided.get(txid) == Some(&Outcome::Committed);
                        (&mut self.settled, is_committed != (*outcome == Outcome::Committed))
                    }
                };
                if wrong {
                    self.violation.get_or_insert(format!("branch {branch} settles {txid} {outcome}, which is not so"));
                }
                if outcomes.insert(key, *outcome).is_some_and(|before| before != *outcome) {
                    self.accuse(format!("branch {branch} settles {txid} in two ways"));
                }
            }
            Record::Mixed { txid, ours, theirs } => {
                let is_committed = self.decided.get(txid) == Some(&Outcome::Committed);
                let chosen = self.by_hand.get(&key).copied();
                if chosen != Some(*ours) || ours == theirs || is_committed != (*theirs == Outcome::Committed) {
                    self.accuse(format!("branch {branch} calls {txid} mixed ({ours}, {theirs}), which is not so"));
                }
                self.mixed.insert(key);
            }
        }
    }

    /// Atomicity: no one may have settled the other way before, or have been told so.
    fn decide(&mut self, txid: &TxId, outcome: Outcome) {
        let is_contrary = |other: &Outcome| *other != outcome;
        if self.decided.insert(txid.clone(), outcome).as_ref().is_some_and(is_contrary) {
            self.accuse(format!("{txid} is decided in two ways"));
        }
        if self.told.get(txid).is_some_and(is_contrary) {
            self.accuse(format!("{txid} is {outcome}, and a client was told otherwise"));
        }
        let settled = self.settled.range((txid.clone(), 0)..=(txid.clone(), usize::MAX));
        let contrary = settled.filter(|(_, other)| is_contrary(other)).map(|((_, branch), _)| *branch).next();
        if let Some(branch) = contrary {
            self.accuse(format!("{txid} is {outcome}, and branch {branch} has settled it otherwise"));
        }
    }

    /// Every row was asked for, is what was asked for, and belongs to what is committed.
    fn check_rows(&mut self, branch: usize, txid: &TxId, ledger: &Ledger) {
        let rows = ledger.rows.range((txid.clone(), 0)..=(txid.clone(), u32::MAX));
        let mut wrong = None;
        for ((_, index), row) in rows.filter(|(_, row)| !row.is_cash) {
            let legs = self.requested.get(txid).map_or(&[][..], Vec::as_slice);
            let is_asked = legs.iter().any(|(at, leg)| {
                let asked = (*at, leg.index, leg.account, leg.side, leg.amount.paise());
                asked == (branch, *index, row.account, row.side, row.amount_paise)
            });
            let by_hand = self.by_hand.get(&(txid.clone(), branch));
            let outcome = by_hand.or_else(|| self.decided.get(txid));
            if !is_asked || outcome != Some(&Outcome::Committed) {
                wrong = Some(format!("branch {branch} has moved leg {index} of {txid}, and should not have"));
            }
        }
        if let Some(text) = wrong {
            self.accuse(text);
        }
    }

    /// Balances, holds and room of a branch are what its rows and its holds say.
    fn check_accounts(&mut self, branch: usize, ledger: &Ledger) {
        self.balances_paise[branch] = total_paise(ledger);
        let (mut moved_paise, mut cash_paise) = (0, 0);
        for row in ledger.rows.values() {
            let signed_paise = signed(row.side, row.amount_paise);
            moved_paise += signed_paise;
            cash_paise += if row.is_cash { signed_paise } else { 0 };
        }
        self.cash_paise[branch] = cash_paise;
        if self.balances_paise[branch] != self.initial_paise[branch] + moved_paise {
            self.accuse(format!("branch {branch}'s balances are not what its rows say"));
        }
        for ((txid, _), leg) in &ledger.holds {
            if !self.open.contains(&(branch, txid.clone())) {
                self.violation.get_or_insert(format!("branch {branch} holds {leg} without its transaction {txid}"));
            }
        }
        for (number, account) in &ledger.accounts {
            let held = |side| {
                let legs = ledger.holds.values().filter(move |leg| leg.account == *number && leg.side == side);
                legs.map(|leg| leg.amount.paise()).sum::<i64>()
            };
            let is_right = account.held_paise == held(Side::Withdraw)
                && account.reserved_paise == held(Side::Deposit)
                && account.held_paise <= account.balance_paise
                && account.held_paise >= 0
                && account.balance_paise + account.reserved_paise <= BALANCE_MAX_PAISE
                && (account.is_open || account.balance_paise == 0);
            if !is_right {
                self.accuse(format!("account {number} at branch {branch} is wrong: {account:?}"));
            }
        }
    }

    /// The live identity: balances + money in transit = money paid in − money paid out. What was settled by
    /// hand against the decision is in transit until a person has looked at the suspense account.
    fn check_money(&mut self, ledgers: &[&Ledger]) {
        let mut transit_paise = 0;
        for (txid, legs) in &self.requested {
            let is_committed = self.decided.get(txid) == Some(&Outcome::Committed);
            for (branch, leg) in legs {
                let is_moved = ledgers[*branch].rows.contains_key(&(txid.clone(), leg.index));
                let signed_paise = signed(leg.side, leg.amount.paise());
                if is_committed && !is_moved {
                    transit_paise += signed_paise;
                }
                if !is_committed && is_moved {
                    // check_rows has seen to it that only an operator can have done this.
                    transit_paise -= signed_paise;
                }
            }
        }
        let sum = |amounts: &[i64]| amounts.iter().sum::<i64>();
        let (balances_paise, paid_in_paise) =
            (sum(&self.balances_paise), sum(&self.initial_paise) + sum(&self.cash_paise));
        if balances_paise + transit_paise != paid_in_paise {
            self.accuse(format!(
                "the bank has {balances_paise} paise and {transit_paise} in transit, and was paid {paid_in_paise}"
            ));
        }
    }

    /// What is still unfinished, once everything has healed; `None` when all came out whole.
    #[must_use]
    pub fn unfinished(&self, ledgers: &[&Ledger]) -> Option<String> {
        if let Some((branch, txid)) = self.open.first() {
            return Some(format!("branch {branch} has not finished {txid}"));
        }
        let held = ledgers.iter().position(|ledger| !ledger.holds.is_empty());
        if let Some(branch) = held {
            return Some(format!("branch {branch} still holds something: {:?}", ledgers[branch].holds));
        }
        for (txid, legs) in &self.requested {
            let decided = self.decided.get(txid).copied().unwrap_or(Outcome::Aborted);
            for (branch, leg) in legs {
                let key = (txid.clone(), *branch);
                let by_hand = self.by_hand.get(&key);
                let is_contrary = by_hand.is_some_and(|chosen| *chosen != decided);
                let here = by_hand.copied().unwrap_or(decided);
                // An operator may settle what an outside program has prepared in part.
                let is_prepared = self.prepared.get(&key).is_some_and(|legs| legs.contains(&leg.index));
                let is_due = here == Outcome::Committed && (by_hand.is_none() || is_prepared);
                let is_moved = ledgers[*branch].rows.contains_key(&(txid.clone(), leg.index));
                if is_moved != is_due {
                    return Some(format!("{txid} is {decided}, and leg {} at branch {branch} is not", leg.index));
                }
                let is_booked = ledgers[*branch].suspense.contains_key(txid);
                let is_due_in_suspense = is_contrary && !self.uncoordinated.contains(txid);
                if is_due_in_suspense != self.mixed.contains(&key) || is_due_in_suspense != is_booked {
                    return Some(format!(
                        "{txid} was settled by hand at branch {branch}, and mixed is not as it should be"
                    ));
                }
            }
        }
        for (txid, done) in &self.cash_told {
            let (branch, _) = &self.cash_requested[txid];
            if ledgers[*branch].rows.contains_key(&(txid.clone(), 0)) != *done {
                return Some(format!("a client was told wrongly about {txid}"));
            }
        }
        None
    }

    /// Accuses the run of something; the first accusation stays.
    pub fn accuse(&mut self, text: String) {
        self.violation.get_or_insert(text);
    }
}

fn signed(side: Side, amount_paise: i64) -> i64 {
    match side {
        Side::Withdraw => -amount_paise,
        Side::Deposit => amount_paise,
    }
}

fn total_paise(ledger: &Ledger) -> i64 {
    ledger.accounts.values().map(|account| account.balance_paise).sum()
}

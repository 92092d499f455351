//! What a lesson plays with: two branches and an account at each, the transfers it began, and what it broke.
//!
//! `messages` holds the words with which a script moves messages, time and processes; `money` those with which it
//! looks at accounts and books and claims something of them; `three` both for three branches. This file sets the scene and strikes it again.

mod messages;
mod money;
mod three;

use std::collections::BTreeSet;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use protocol::answer::Pending;
use protocol::request::Action;
use protocol::teaching::Stage;
use protocol::{AccountNum, BranchName, Money, Total, TxId};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::lessons::failure::Failure;
use crate::lessons::limits::{AMOUNT, LOOK_EVERY, PAYER_ACCOUNT, RECEIVER_ACCOUNT, SETTLE_DEADLINE};
use crate::lessons::old_way::{OldTransfer, OldWay};
use crate::lessons::order::Order;
use crate::lessons::{Answered, Bank};

pub use money::{Where, fresh_id};
pub use three::{BooksAtOnce, Payer, Shares};

/// An account at a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The branch.
    pub branch: BranchName,
    /// The account.
    pub account: AccountNum,
}

impl Party {
    /// As `Mumbai/1001`.
    pub fn text(&self) -> String {
        format!("{}/{}", self.branch, self.account)
    }
}

/// What a lesson plays with.
pub struct Scene {
    bank: Box<dyn Bank>,
    /// Who pays.
    pub payer: Party,
    /// Who is paid.
    pub receiver: Party,
    /// Who is paid too, where there is a third branch.
    third: Option<Party>,
    /// The order of messages that a lesson leaves open.
    order: Order,
    /// Who of two has heard a decision first.
    pub first: Option<Party>,
    /// What three accounts held when the split at hand began.
    three_before: Option<three::Three>,
    /// What two branches held together before a lesson: in accounts, and with what is between branches.
    pub sum_before: Option<(Total, Total)>,
    /// The books of one branch, as somebody has read them.
    pub early_read: Option<BooksAtOnce>,
    /// What the next transfer moves.
    amount: Money,
    /// What both accounts held when the lesson, or the transfer at hand, began.
    before: Option<money::Figures>,
    /// The transfers that the lesson began, the one at hand last.
    transfers: Vec<TxId>,
    /// The transfer to be shown that is none of a branch's.
    foreign_txid: Option<TxId>,
    /// Where the answer to the transfer at hand comes.
    told: Option<Receiver<Answered>>,
    /// The branches that the lesson killed and that have not been started again.
    dead: BTreeSet<BranchName>,
    /// The branches whose messages wait.
    stepped: BTreeSet<BranchName>,
    /// What the older systems' rules are run on.
    pub old_way: Option<OldWay>,
    /// The transfers that are under way there.
    pub old_transfers: Vec<OldTransfer>,
}

impl Scene {
    /// Finds the branches and puts back whatever an earlier lesson may have left.
    ///
    /// # Errors
    /// `two_branches_needed`, or a branch's.
    pub fn set(bank: Box<dyn Bank>, seed: u64) -> Result<Self, Failure> {
        let branches = bank.branches()?;
        let [payer, receiver, others @ ..] = branches.as_slice() else {
            let text = format!(
                "a lesson needs two branches that run with --teaching, and {}: start them with \
                 'bank-server --teaching', or all of them with 'make demo'",
                match branches.first() {
                    Some(only) => format!("only {only} does"),
                    None => "there is none".into(),
                }
            );
            return Err(Failure::refused(Failure::TWO_BRANCHES_NEEDED, text));
        };
        let party = |branch: &BranchName, account| {
            let account = AccountNum::new(account).expect("the sample accounts have numbers of accounts");
            Party { branch: branch.clone(), account }
        };
        let third = others.first().map(|third| party(third, RECEIVER_ACCOUNT));
        let (payer, receiver) = (party(payer, PAYER_ACCOUNT), party(receiver, RECEIVER_ACCOUNT));
        let mut scene = Self {
            bank,
            payer,
            receiver,
            third,
            order: Order::new(seed),
            first: None,
            three_before: None,
            sum_before: None,
            early_read: None,
            amount: AMOUNT,
            before: None,
            transfers: Vec::new(),
            foreign_txid: None,
            told: None,
            dead: BTreeSet::new(),
            stepped: BTreeSet::new(),
            old_way: None,
            old_transfers: Vec::new(),
        };
        scene.put_back()?;
        Ok(scene)
    }

    /// The transfer that is shown.
    pub fn txid(&self) -> Option<&TxId> {
        self.foreign_txid.as_ref().or(self.transfers.last())
    }

    /// What the transfer at hand moves.
    pub fn amount(&self) -> Money {
        self.amount
    }

    /// The names of the branches, payer's first.
    pub fn names(&self) -> (BranchName, BranchName) {
        (self.payer.branch.clone(), self.receiver.branch.clone())
    }

    /// A text with the names of the branches put in.
    pub fn with_names(&self, text: &str) -> String {
        let third = self.third.as_ref().map_or("the third branch", |third| third.branch.as_str());
        let text = text.replace("{payer}", self.payer.branch.as_str());
        text.replace("{receiver}", self.receiver.branch.as_str()).replace("{third}", third)
    }

    /// Shows a transfer that is none of a branch's, or again the one at hand.
    pub fn show_foreign(&mut self, txid: Option<TxId>) {
        self.foreign_txid = txid;
    }

    /// Hands events of the older systems' bank on.
    pub fn record(&self, events: Vec<protocol::event::Event>) {
        self.bank.record(events);
    }

    /// Ends the lesson: starts what it killed, puts everything back, and waits until its transfers are settled.
    ///
    /// # Errors
    /// What could not be put back, or did not settle.
    pub fn strike(&mut self) -> Result<(), Failure> {
        let dead: Vec<BranchName> = self.dead.iter().cloned().collect();
        let mut problem = None;
        for branch in dead {
            match self.bank.restart(&branch) {
                Ok(()) => {
                    self.dead.remove(&branch);
                }
                Err(sentence) => {
                    problem.get_or_insert(Failure::too_late(sentence));
                }
            }
        }
        // What does answer is put back also when another branch does not.
        self.put_back()?;
        match problem {
            Some(problem) => Err(problem),
            None => self.wait_until_settled(),
        }
    }

    /// Puts back what can be without waiting for anything or anybody.
    pub fn let_go(&mut self) {
        // Whoever drops a lesson in its middle can't be told of a branch that does not answer.
        let _ = self.put_back();
    }

    /// Waits until every branch has settled the lesson's transfers.
    fn wait_until_settled(&self) -> Result<(), Failure> {
        let parties = [Some(&self.payer), Some(&self.receiver), self.third.as_ref()];
        for branch in parties.into_iter().flatten().map(|party| &party.branch) {
            let mut left = Vec::new();
            wait(SETTLE_DEADLINE, || {
                left = self.pending(branch)?;
                left.retain(|pending| self.transfers.contains(&pending.txid));
                Ok(left.is_empty())
            })?
            .then_some(())
            .ok_or_else(|| {
                let ids: Vec<_> = left.iter().map(|pending| format!("{} is {}", pending.txid, pending.state)).collect();
                Failure::too_late(format!("at {branch} {} after {SETTLE_DEADLINE:?}", ids.join(", ")))
            })?;
        }
        Ok(())
    }

    /// Step mode off, links healed and crash points disarmed, at every branch that answers.
    fn put_back(&mut self) -> Result<(), Failure> {
        let mut problem = None;
        for branch in self.bank.branches()? {
            if let Err(failure) = self.put_back_at(&branch) {
                problem.get_or_insert(failure);
            }
        }
        self.stepped.clear();
        problem.map_or(Ok(()), Err)
    }

    fn put_back_at(&self, branch: &BranchName) -> Result<(), Failure> {
        let stage: Stage = self.ask(branch, Action::Stage, json!({}))?;
        for fault in stage.faults {
            let _: Stage = self.ask(branch, Action::Fault, json!({"peer": fault.peer, "fault": "heal"}))?;
        }
        if stage.crash_at.is_some() {
            let _: Stage = self.ask(branch, Action::Crash, json!({"at": "never"}))?;
        }
        if stage.step_mode {
            let _: Stage = self.ask(branch, Action::StepMode, json!({"on": false}))?;
        }
        Ok(())
    }

    /// One request, and its result in its type.
    fn ask<T: DeserializeOwned>(&self, branch: &BranchName, action: Action, params: Value) -> Result<T, Failure> {
        read(branch, action, self.bank.call(branch, action, &params, None))
    }

    /// One write under an id of its own, and its result.
    fn order<T: DeserializeOwned>(
        &self,
        branch: &BranchName,
        action: Action,
        params: Value,
        request_id: &str,
    ) -> Result<T, Failure> {
        read(branch, action, self.bank.call(branch, action, &params, Some(request_id)))
    }

    /// What is in doubt or not delivered at a branch: its first thousand, which no class fills.
    fn pending(&self, branch: &BranchName) -> Result<Vec<Pending>, Failure> {
        self.ask(branch, Action::ListPending, json!({}))
    }
}

fn read<T: DeserializeOwned>(branch: &BranchName, action: Action, answered: Answered) -> Result<T, Failure> {
    // By way of its text, because amounts are read digit for digit.
    let text = answered?.to_string();
    serde_json::from_str(&text).map_err(|error| {
        Failure::claim(format!("{branch} answered {action} with {text}, which can't be read: {error}"))
    })
}

/// Looks until the condition holds or the time is over; whether it held.
fn wait(deadline: Duration, mut condition: impl FnMut() -> Result<bool, Failure>) -> Result<bool, Failure> {
    let start = Instant::now();
    loop {
        if condition()? {
            return Ok(true);
        }
        if start.elapsed() >= deadline {
            return Ok(false);
        }
        thread::sleep(LOOK_EVERY);
    }
}

//! The words with which a script looks at accounts and books, and claims something of them.
//!
//! A claim may need a moment to come true, because a branch receives a message after it has answered that it will.
//! So each is looked at until it holds; at the deadline the lesson says what the branch really has.

use std::time::{SystemTime, UNIX_EPOCH};

use protocol::answer::{Audit, Balance, NewBalance, TxStatus};
use protocol::request::Action;
use protocol::{BranchName, Money, Total};
use serde_json::json;

use super::{Party, Scene, wait};
use crate::lessons::failure::Failure;
use crate::lessons::limits::{CLAIM_DEADLINE, FUNDS_MIN, TOP_UP};
use crate::lessons::table::table;

/// Where the money of the transfer at hand is claimed to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// With the payer, free to be spent.
    AtHome,
    /// With the payer, held.
    Held,
    /// Taken from the payer and not paid yet.
    OnItsWay,
    /// Paid to the receiver.
    Arrived,
}

/// What both accounts hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The payer's balance.
    pub payer: Money,
    /// What of it can be spent.
    pub payer_available: Money,
    /// The receiver's balance.
    pub receiver: Money,
    /// Money that has left one of the two branches and not come to the other.
    pub on_its_way: Total,
}

impl Figures {
    fn together(self) -> Total {
        Total::from(self.payer) + Total::from(self.receiver) + self.on_its_way
    }

    /// Where the figures must stand when the money is there.
    fn moved(self, amount: Money, to: Where) -> Option<Self> {
        let without = self.payer.checked_sub(amount)?;
        let rest = self.payer_available.checked_sub(amount)?;
        Some(match to {
            Where::AtHome => self,
            Where::Held => Self { payer_available: rest, ..self },
            Where::OnItsWay => {
                let on_its_way = self.on_its_way + Total::from(amount);
                Self { payer: without, payer_available: rest, on_its_way, ..self }
            }
            Where::Arrived => {
                let receiver = self.receiver.checked_add(amount)?;
                Self { payer: without, payer_available: rest, receiver, ..self }
            }
        })
    }
}

impl Scene {
    /// The first words of most lessons: enough money is there, every message waits, and this is what the two hold.
    pub fn opening(&mut self) -> Result<String, Failure> {
        let paid_in = self.fund()?;
        self.step_mode()?;
        let (payer, receiver) = self.names();
        let shown = self.look()?;
        Ok(format!(
            "{paid_in}From now on every message between {payer} and {receiver} waits until we let it through.\n\n{shown}"
        ))
    }

    /// Pays cash in when the payer has too little, and says so.
    pub fn fund(&mut self) -> Result<String, Failure> {
        let balance = self.balance(&self.payer)?;
        if balance.available >= FUNDS_MIN {
            return Ok(String::new());
        }
        let id = fresh_id("fund");
        let now = self.pay_in(&self.payer.clone(), TOP_UP, &id)?;
        Ok(format!(
            "{} can spend only Rs {}, so Rs {TOP_UP} in cash are paid in first: the balance is Rs {now}.\n",
            self.payer.text(),
            balance.available
        ))
    }

    /// Pays cash in under a request id, and gives the new balance.
    pub fn pay_in(&self, party: &Party, amount: Money, request_id: &str) -> Result<Money, Failure> {
        let params = json!({"account_no": party.account.to_string(), "amount": amount.to_string()});
        Ok(self.order::<NewBalance>(&party.branch, Action::Deposit, params, request_id)?.balance)
    }

    /// Takes into account that the receiver was paid something else while the transfer at hand was under way.
    pub fn receiver_was_paid(&mut self, amount: Money) {
        self.before = self.before.and_then(|figures| {
            let receiver = figures.receiver.checked_add(amount)?;
            Some(Figures { receiver, ..figures })
        });
    }

    /// What an account holds.
    pub fn balance(&self, party: &Party) -> Result<Balance, Failure> {
        self.ask(&party.branch, Action::Balance, json!({"account_no": party.account.to_string()}))
    }

    /// What both accounts hold, and what is between the two branches.
    pub fn figures(&self) -> Result<Figures, Failure> {
        let (payer, receiver) = (self.balance(&self.payer)?, self.balance(&self.receiver)?);
        let on_its_way = self.audit(&self.payer.branch)?.in_transit + self.audit(&self.receiver.branch)?.in_transit;
        let payer_available = payer.available;
        Ok(Figures { payer: payer.balance, payer_available, receiver: receiver.balance, on_its_way })
    }

    /// A table of what both accounts hold at this moment.
    pub fn look(&self) -> Result<String, Failure> {
        Ok(self.shown(self.figures()?))
    }

    /// Claims where the money of the transfer at hand is, counted from before it began, and shows what both hold.
    pub fn money_is(&self, place: Where) -> Result<String, Failure> {
        let Some(before) = self.before else { return Err(Failure::claim("no transfer has begun")) };
        let Some(expected) = before.moved(self.amount(), place) else {
            return Err(Failure::claim(format!("Rs {} can't be moved", self.amount())));
        };
        let mut found = before;
        let holds = wait(CLAIM_DEADLINE, || {
            found = self.figures()?;
            Ok(found == expected)
        })?;
        if holds {
            return Ok(self.shown(found));
        }
        Err(Failure::claim(format!(
            "the money is not where this lesson says. It claims:\n{}\nThe branches say:\n{}",
            self.shown(expected),
            self.shown(found)
        )))
    }

    fn shown(&self, figures: Figures) -> String {
        let Figures { payer, payer_available, receiver, on_its_way } = figures;
        let mut rows = vec![
            [self.payer.text(), payer.to_string(), payer_available.to_string()],
            [self.receiver.text(), receiver.to_string(), String::new()],
        ];
        if on_its_way != Total::ZERO {
            rows.push(["on its way".into(), on_its_way.to_string(), String::new()]);
        }
        rows.push(["together".into(), figures.together().to_string(), String::new()]);
        table(["", "Rs", "can spend"], &rows)
    }

    /// Claims that a branch lists the transfer at hand as prepared: it voted yes and knows no outcome.
    pub fn is_in_doubt(&self, at: &BranchName) -> Result<(), Failure> {
        self.listed(at, "prepared")
    }

    /// Claims that a branch lists the transfer at hand in a state.
    pub fn listed(&self, at: &BranchName, state: &str) -> Result<(), Failure> {
        let mut found = None;
        let holds = wait(CLAIM_DEADLINE, || {
            let pending = self.pending(at)?;
            found = pending.into_iter().find(|row| Some(&row.txid) == self.transfers.last()).map(|row| row.state);
            Ok(found.as_deref() == Some(state))
        })?;
        if holds {
            return Ok(());
        }
        let found = found.as_deref().unwrap_or("not listed at all");
        Err(Failure::claim(format!("{at} should list this transfer as {state}; there it is {found}")))
    }

    /// Claims how the transfer at hand ended by a branch's books.
    pub fn outcome_is(&self, at: &BranchName, outcome: &str) -> Result<(), Failure> {
        let Some(txid) = self.transfers.last() else { return Err(Failure::claim("no transfer has begun")) };
        let mut found = String::new();
        let holds = wait(CLAIM_DEADLINE, || {
            found = self.ask::<TxStatus>(at, Action::TxStatus, json!({"txid": txid}))?.outcome;
            Ok(found == outcome)
        })?;
        if holds {
            return Ok(());
        }
        Err(Failure::claim(format!("{at} should say that this transfer is {outcome}; it says {found}")))
    }

    /// Settles the transfer at hand by hand at a branch.
    pub fn resolve(&self, at: &BranchName, outcome: &str, reason: &str) -> Result<(), Failure> {
        let Some(txid) = self.transfers.last() else { return Err(Failure::claim("no transfer has begun")) };
        let params = json!({"txid": txid, "outcome": outcome, "reason": reason});
        self.order::<serde_json::Value>(at, Action::Resolve, params, &fresh_id("resolve")).map(|_| ())
    }

    /// Puts everything back, and claims that the books of both branches are clean.
    pub fn closing(&mut self) -> Result<String, Failure> {
        self.strike()?;
        let (payer, receiver) = self.names();
        for branch in [&payer, &receiver] {
            let audit = self.audit(branch)?;
            if !audit.ok {
                return Err(Failure::claim(format!("the audit of {branch} finds: {}", audit.findings.join("; "))));
            }
        }
        Ok(format!(
            "{payer} and {receiver} recompute their books: the audit finds nothing. Messages pass by themselves again."
        ))
    }

    pub(super) fn audit(&self, branch: &BranchName) -> Result<Audit, Failure> {
        self.ask(branch, Action::Audit, json!({}))
    }
}

/// A request id that no other run has used.
pub fn fresh_id(what: &str) -> String {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("lesson-{what}-{}", since_1970.as_nanos())
}

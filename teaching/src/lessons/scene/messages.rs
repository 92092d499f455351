//! The words with which a script moves messages, time and processes.

use std::collections::BTreeSet;
use std::sync::mpsc::RecvTimeoutError;

use protocol::request::Action;
use protocol::teaching::{Stage, Waiting};
use protocol::{BranchName, Money, TxId};
use serde_json::{Value, json};

use super::{Scene, wait};
use crate::lessons::failure::Failure;
use crate::lessons::limits::{ARRIVAL_DEADLINE, IN_DOUBT_FOR_MS, PASS_TIME_MS, RESEND_ARRIVES_WITHIN};

impl Scene {
    /// Makes every message to the two branches wait.
    pub fn step_mode(&mut self) -> Result<(), Failure> {
        let (payer, receiver) = self.names();
        self.step_mode_at(&payer)?;
        self.step_mode_at(&receiver)
    }

    pub(super) fn step_mode_at(&mut self, branch: &BranchName) -> Result<(), Failure> {
        let _: Stage = self.ask(branch, Action::StepMode, json!({"on": true}))?;
        self.stepped.insert(branch.clone());
        Ok(())
    }

    /// Lets the payer's branch begin a transfer of that amount, and waits until its prepare waits at the receiver's.
    pub fn begin(&mut self, amount: Money) -> Result<(), Failure> {
        let (payer, receiver) = self.names();
        self.amount = amount;
        self.foreign_txid = None;
        self.before = Some(self.figures()?);
        let known: BTreeSet<TxId> = self.waiting(&receiver)?.into_iter().map(|waiting| waiting.txid).collect();
        let told = self.bank.begin(&payer, &self.transfer_params(amount));
        let mut begun = None;
        let mut refusal = None;
        wait(ARRIVAL_DEADLINE, || {
            let is_ours = |waiting: &Waiting| {
                waiting.message == "prepare" && waiting.from == payer.as_str() && !known.contains(&waiting.txid)
            };
            begun = self.waiting(&receiver)?.into_iter().find(is_ours).map(|waiting| waiting.txid);
            refusal = told.try_recv().ok();
            Ok(begun.is_some() || refusal.is_some())
        })?;
        match (begun, refusal) {
            (Some(txid), _) => {
                self.transfers.push(txid);
                self.told = Some(told);
                Ok(())
            }
            (None, Some(Err(failure))) => Err(failure),
            (None, Some(Ok(result))) => Err(Failure::claim(format!(
                "{payer} answered the transfer at once with {result}, although every message should wait"
            ))),
            (None, None) => {
                Err(Failure::too_late(format!("no prepare came to {receiver} within {ARRIVAL_DEADLINE:?}")))
            }
        }
    }

    /// Asks for a second transfer while the first is under way, and gives the branch's answer, which comes at once.
    pub fn ask_for_another(&self, amount: Money) -> Result<Result<Value, Failure>, Failure> {
        let told = self.bank.begin(&self.payer.branch, &self.transfer_params(amount));
        told.recv_timeout(ARRIVAL_DEADLINE).map_err(|_| {
            Failure::too_late(format!(
                "{} did not answer the second transfer within {ARRIVAL_DEADLINE:?}",
                self.payer.branch
            ))
        })
    }

    fn transfer_params(&self, amount: Money) -> Value {
        json!({"src_account_no": self.payer.account.to_string(), "dest_account_no": self.receiver.account.to_string(),
            "dest_branch": self.receiver.branch, "amount": amount.to_string()})
    }

    /// Waits until a message of the transfer at hand waits at a branch.
    pub fn arrives(&self, at: &BranchName, message: &str) -> Result<(), Failure> {
        match self.find_within(ARRIVAL_DEADLINE, at, message)? {
            Some(_) => Ok(()),
            None => Err(Failure::too_late(format!("no {message} came to {at} within {ARRIVAL_DEADLINE:?}"))),
        }
    }

    /// The branch receives the message.
    pub fn deliver(&self, at: &BranchName, message: &str) -> Result<(), Failure> {
        self.step(at, message, "deliver")
    }

    /// The branch receives the message that a certain branch has sent.
    pub fn deliver_from(&self, at: &BranchName, message: &str, from: &BranchName) -> Result<(), Failure> {
        let mut found = None;
        wait(ARRIVAL_DEADLINE, || {
            let is_it = |waiting: &Waiting| {
                waiting.message == message
                    && waiting.from == from.as_str()
                    && Some(&waiting.txid) == self.transfers.last()
            };
            found = self.waiting(at)?.into_iter().find(is_it);
            Ok(found.is_some())
        })?;
        let waiting = found.ok_or_else(|| {
            Failure::too_late(format!("no {message} of {from} came to {at} within {ARRIVAL_DEADLINE:?}"))
        })?;
        let _: Stage = self.ask(at, Action::Step, json!({"number": waiting.number, "how": "deliver"}))?;
        Ok(())
    }

    /// Two messages in the order of the seed.
    pub fn in_order(&mut self, one: &'static str, other: &'static str) -> [&'static str; 2] {
        self.order.of_two(one, other)
    }

    /// The branch never receives the message.
    pub fn lose(&self, at: &BranchName, message: &str) -> Result<(), Failure> {
        self.step(at, message, "drop")
    }

    /// The branch receives the message, and a copy of it goes on waiting.
    pub fn double(&self, at: &BranchName, message: &str) -> Result<(), Failure> {
        self.step(at, message, "duplicate")
    }

    fn step(&self, at: &BranchName, message: &str, how: &str) -> Result<(), Failure> {
        let waiting = self
            .find_within(ARRIVAL_DEADLINE, at, message)?
            .ok_or_else(|| Failure::too_late(format!("no {message} came to {at} within {ARRIVAL_DEADLINE:?}")))?;
        let _: Stage = self.ask(at, Action::Step, json!({"number": waiting.number, "how": how}))?;
        Ok(())
    }

    /// The prepare and the vote are delivered: the transfer at hand goes on to its commit point, and the decision waits
    /// at the receiver's.
    pub fn decide(&self) -> Result<(), Failure> {
        let (payer, receiver) = self.names();
        self.deliver(&receiver, "prepare")?;
        self.deliver(&payer, "vote yes")?;
        self.arrives(&receiver, "commit")
    }

    /// The rest of a transfer whose decision waits: it is paid, acknowledged, and the client is told.
    pub fn complete(&mut self) -> Result<String, Failure> {
        let (payer, receiver) = self.names();
        self.deliver(&receiver, "commit")?;
        self.deliver(&payer, "acknowledged")?;
        self.told()
    }

    /// Moves a branch's clock until it has sent a message that waits at another.
    pub fn pass_time_until(&self, clock_of: &BranchName, at: &BranchName, message: &str) -> Result<(), Failure> {
        let arrived = wait(ARRIVAL_DEADLINE, || {
            self.pass_time(clock_of, PASS_TIME_MS)?;
            Ok(self.find_within(RESEND_ARRIVES_WITHIN, at, message)?.is_some())
        })?;
        if arrived {
            return Ok(());
        }
        Err(Failure::too_late(format!("{clock_of} sent no {message} to {at} although its clock went on")))
    }

    /// Lets a minute go by at a branch.
    pub fn a_minute_passes(&self, at: &BranchName) -> Result<(), Failure> {
        self.pass_time(at, IN_DOUBT_FOR_MS)
    }

    fn pass_time(&self, at: &BranchName, milliseconds: u64) -> Result<(), Failure> {
        let _: Stage = self.ask(at, Action::PassTime, json!({"milliseconds": milliseconds}))?;
        Ok(())
    }

    /// Cuts the link to another branch, or heals it.
    pub fn link(&self, at: &BranchName, peer: &BranchName, fault: &str) -> Result<(), Failure> {
        let _: Stage = self.ask(at, Action::Fault, json!({"peer": peer, "fault": fault}))?;
        Ok(())
    }

    /// The branch receives the message and kills itself at a point of what follows from it.
    pub fn deliver_and_die(&mut self, branch: &BranchName, message: &str, point: &str) -> Result<(), Failure> {
        self.arrives(branch, message)?;
        let _: Stage = self.ask(branch, Action::Crash, json!({"at": point}))?;
        match self.deliver(branch, message) {
            // It has no time left to answer.
            Ok(()) => {}
            Err(failure) if failure.code == Failure::UNREACHABLE => {}
            Err(failure) => return Err(failure),
        }
        self.dies(branch)
    }

    /// Kills a branch where it stands.
    pub fn kill(&mut self, branch: &BranchName) -> Result<(), Failure> {
        // The branch is gone before it could answer; that it is, is looked at next.
        let _ = self.bank.call(branch, Action::Crash, &json!({"at": "now"}), None);
        self.dies(branch)
    }

    /// Waits until a branch that was to die is dead.
    fn dies(&mut self, branch: &BranchName) -> Result<(), Failure> {
        let is_dead = wait(ARRIVAL_DEADLINE, || Ok(!self.bank.is_up(branch)))?;
        if !is_dead {
            return Err(Failure::too_late(format!("{branch} should have crashed here, and runs")));
        }
        self.dead.insert(branch.clone());
        self.stepped.remove(branch);
        Ok(())
    }

    /// Starts a branch that was killed. Messages to it wait again.
    pub fn restart(&mut self, branch: &BranchName) -> Result<(), Failure> {
        self.bank.restart(branch).map_err(Failure::too_late)?;
        self.dead.remove(branch);
        self.step_mode_at(branch)
    }

    /// What the client of the transfer at hand is told, in words.
    pub fn told(&mut self) -> Result<String, Failure> {
        let payer = &self.payer.branch;
        let Some(told) = self.told.take() else {
            return Err(Failure::claim(format!("nobody waits for an answer from {payer}")));
        };
        match told.recv_timeout(ARRIVAL_DEADLINE) {
            Ok(Ok(result)) => {
                let delivery = result.get("delivery").and_then(Value::as_str).unwrap_or("?");
                Ok(format!("committed, delivery {delivery}"))
            }
            Ok(Err(failure)) => Ok(format!("refused: {failure}")),
            Err(RecvTimeoutError::Disconnected) => Ok("nothing: its connection is gone".into()),
            Err(RecvTimeoutError::Timeout) => {
                Err(Failure::too_late(format!("{payer} did not answer the client within {ARRIVAL_DEADLINE:?}")))
            }
        }
    }

    fn find_within(
        &self,
        deadline: std::time::Duration,
        at: &BranchName,
        message: &str,
    ) -> Result<Option<Waiting>, Failure> {
        let mut found = None;
        wait(deadline, || {
            let is_it = |waiting: &Waiting| waiting.message == message && Some(&waiting.txid) == self.transfers.last();
            found = self.waiting(at)?.into_iter().find(is_it);
            Ok(found.is_some())
        })?;
        Ok(found)
    }

    pub(super) fn waiting(&self, at: &BranchName) -> Result<Vec<Waiting>, Failure> {
        Ok(self.ask::<Stage>(at, Action::Stage, json!({}))?.waiting)
    }
}

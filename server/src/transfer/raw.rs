//! The raw actions of two-phase commit, for an outside program: prepare a leg, commit it, abort it.
//!
//! Whoever may drive them is an operator, so all programs are one caller. Each waits for the participant's answer in a
//! mailbox of its own. What a branch coordinates is none of theirs (rule 11).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::bounded;
use protocol::{AccountNum, Address, BranchName, Money, TxId};
use two_phase_commit::{Leg, Message, Outcome, PeerAddr, Refusal, Side, Transfer, Vote};

use super::{Engine, records};
use crate::error::{Error, Result};
use crate::limits::DECISION_WAIT;

impl Engine {
    /// Prepares one leg for an outside program, or for the coordinator that it names.
    ///
    /// # Errors
    /// The participant's no, or [`Error::Undecided`] when the branch's disk takes too long.
    pub fn prepare(
        self: &Arc<Self>,
        txid: &TxId,
        side: Side,
        account: AccountNum,
        amount: Money,
        coordinator: Option<&str>,
    ) -> Result<()> {
        // Such an id is this coordinator's to give. Prepared under it, a program's leg would answer for another
        // transfer (rule 11).
        if records::is_own_id(&self.parts.name, txid) {
            return Err(Error::TxIdReused(txid.clone()));
        }
        let coordinator = coordinator.map(|coordinator| self.coordinator_address(coordinator)).transpose()?;
        // A program prepares at most one leg of each side under an id, so the side is its number.
        let index = match side {
            Side::Withdraw => 0,
            Side::Deposit => 1,
        };
        let legs = vec![Leg { index, branch: None, account, amount, side }];
        let (txid, note) = (txid.clone(), "".into());
        let transfer = Transfer { txid, coordinator, legs, note, by_program: true };
        match self.ask_participant(Message::Prepare(transfer.into()))? {
            Message::Vote { vote: Vote::Yes, .. } => Ok(()),
            other => Err(refusal_of(other)),
        }
    }

    /// Settles what an outside program has prepared. Right however often it is repeated.
    ///
    /// # Errors
    /// The participant's rejection: it was settled the other way, or never prepared; [`Error::Coordinated`] when a
    /// branch decides it.
    pub fn decide(self: &Arc<Self>, txid: &TxId, outcome: Outcome) -> Result<()> {
        let coordinated = |by: &str| {
            let text =
                format!("branch {by} coordinates {txid}: it alone decides, or a person by resolve with a reason");
            Err(Error::Coordinated(text))
        };
        // This branch has begun it, and so has the only say.
        if records::is_own_id(&self.parts.name, txid) {
            return coordinated(self.parts.name.as_str());
        }
        // What is in memory the machine itself refuses, without a gap between the look and the deed.
        if !self.site.lock().participant().remembers(txid)
            && let Some(by) = self.parts.dbs.read(|reader| records::coordinator_of(reader, txid))?
        {
            return coordinated(by.as_str());
        }
        match self.ask_participant(Message::Decision { txid: txid.clone(), outcome })? {
            Message::Acknowledged { .. } => Ok(()),
            other => Err(refusal_of(other)),
        }
    }

    /// Whom a program names as the coordinator: any branch but this one, which has begun no transfer under a
    /// program's id and would wait for itself.
    fn coordinator_address(&self, text: &str) -> Result<PeerAddr> {
        let name = match text.parse::<BranchName>() {
            Ok(name) => name,
            Err(_) => {
                let address: Address = text.parse()?;
                match self.links().name_at(&address) {
                    Ok(name) => name,
                    // It is asked at this address as long as the transfer is in doubt; should it turn out to be this
                    // branch, that ends it.
                    Err(_) => return Ok(PeerAddr::new(&address.to_string())),
                }
            }
        };
        // One that differs by capital letters alone is meant to be this one, unless there is such a branch.
        let is_meant = name.as_str().eq_ignore_ascii_case(self.parts.name.as_str());
        if name == self.parts.name || (is_meant && self.links().directory().address_of(&name).is_none()) {
            let text = format!("{text} is this branch itself, which coordinates only what it has begun");
            return Err(Error::Invalid(text));
        }
        Ok(PeerAddr::from(&name))
    }

    /// Gives the participant a message of an outside program, and waits for its answer.
    fn ask_participant(self: &Arc<Self>, message: Message) -> Result<Message> {
        self.parts.dbs.check_writable()?;
        let number = self.next_mailbox.fetch_add(1, Ordering::Relaxed);
        let from = PeerAddr::program(number);
        let txid = message.txid().clone();
        // One answer: a mailbox is for one request.
        let (sender, answers) = bounded(1);
        self.mailboxes.lock().insert(from.clone(), sender);
        // After it was put there: `dismiss` empties the mailboxes once, and whoever comes later must not wait for an
        // answer that can't come.
        if self.waiters.is_over() {
            self.mailboxes.lock().remove(&from);
            return Err(Error::Stopping);
        }
        let answered = self.step(&from, &message).map(|task| {
            self.carry_out_aside(vec![task]);
            answers.recv_timeout(self.parts.host.patience(DECISION_WAIT))
        });
        self.mailboxes.lock().remove(&from);
        answered?.map_err(|_| Error::Undecided(txid))
    }
}

fn refusal_of(message: Message) -> Error {
    let Refusal { code, text } = match message {
        Message::Vote { vote: Vote::No(refusal), .. } | Message::Rejected { refusal, .. } => refusal,
        other @ (Message::Vote { vote: Vote::Yes, .. }
        | Message::Prepare(_)
        | Message::Decision { .. }
        | Message::Acknowledged { .. }
        | Message::Inquiry { .. }
        | Message::Undecided { .. }) => Refusal::new("unexpected", format!("unexpected answer: {other}")),
    };
    Error::Aborted { code: code.into_owned(), text: text.into_owned() }
}

//! Rules that are broken on purpose, so that a test can prove that the judge sees it.
//!
//! The machines keep every rule, whatever is broken: what a breach changes is what they are told, what is kept from them,
//! and what is said in their name. (Two more breaches are the ledger's and the driver's own.)

use std::collections::BTreeSet;

use protocol::TxId;
use two_phase_commit::{Booked, Message, OnDisk, Outcome, Output, PeerAddr, Record, Role, Step};

use super::World;
use crate::machines::config::Broken;
use crate::machines::network::Packet;

impl World {
    /// A message that a broken branch answers by itself, in place of its machine. True when it did.
    pub(super) fn answers_wrongly(&mut self, index: usize, packet: &Packet, on_disk: OnDisk) -> bool {
        let site = &self.nodes[index].site;
        let txid = packet.message.txid().clone();
        let answer = match (self.config.broken, &packet.message) {
            // Against rule 5: a coordinator that has not read its log yet answers "aborted".
            (Some(Broken::PresumeAbortDuringRecovery), Message::Inquiry { .. })
                if site.coordinator().is_recovering() =>
            {
                Message::Decision { txid, outcome: Outcome::Aborted }
            }
            // Against rule 8: a participant does not remember an abort that comes before its prepare.
            (Some(Broken::NoTombstone), Message::Decision { outcome: Outcome::Aborted, .. })
                if !site.participant().is_recovering()
                    && !site.participant().remembers(&txid)
                    && on_disk == OnDisk::Nothing =>
            {
                Message::Acknowledged { txid, outcome: Outcome::Aborted, mixed: false }
            }
            _ => return false,
        };
        self.judge.sent(index, &answer);
        self.send(&Packet { from: self.addresses[index].clone(), to: packet.from.clone(), message: answer });
        true
    }

    /// Those in doubt at a branch whose last inquiry has had no answer.
    pub(super) fn unanswered(&self, index: usize) -> BTreeSet<TxId> {
        let in_doubt = self.nodes[index].site.participant().in_doubt();
        in_doubt.filter(|doubt| doubt.is_unanswered).map(|doubt| doubt.transfer.txid.clone()).collect()
    }

    /// Against rule 6: a participant in doubt aborts when its first inquiry is not answered in time. In place of its
    /// second one it takes an abort, as if its coordinator had said so.
    pub(super) fn decide_by_timer(&mut self, index: usize, step: Step, unanswered: &BTreeSet<TxId>) -> Step {
        let is_second = step.role == Role::Participant && unanswered.contains(&step.output.txid);
        let asked = step.output.messages.iter().find(|envelope| matches!(envelope.message, Message::Inquiry { .. }));
        let (true, Some(asked)) = (is_second, asked) else { return step };
        let abort = Message::Decision { txid: step.output.txid.clone(), outcome: Outcome::Aborted };
        let mut decided = self.nodes[index].site.step(&asked.to, &abort, OnDisk::Nothing, &Booked::Nothing);
        decided.output.messages.clear();
        decided
    }

    /// Against rule 4: a coordinator forgets a commit as soon as it has sent it once. It takes every participant to have
    /// acknowledged it.
    pub(super) fn forget_before_acknowledgement(&mut self, index: usize, written: &Output) {
        let is_commit = written.records.iter().any(|record| matches!(record, Record::Committed { .. }));
        if self.config.broken != Some(Broken::ForgetBeforeAcknowledgement) || !is_commit {
            return;
        }
        let txid = &written.txid;
        let parties: Vec<PeerAddr> = self.nodes[index].site.coordinator().undelivered_to(txid).cloned().collect();
        for peer in parties {
            let acknowledged = Message::Acknowledged { txid: txid.clone(), outcome: Outcome::Committed, mixed: false };
            let step = self.nodes[index].site.step(&peer, &acknowledged, OnDisk::Nothing, &Booked::Nothing);
            self.carry_out(index, step);
        }
    }
}

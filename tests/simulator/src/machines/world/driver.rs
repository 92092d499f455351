//! The driver, as the contract of `two_phase_commit` wants it: take, write, confirm, send.
//!
//! Between any two of these steps, and between any two messages, the branch may crash.

use std::collections::VecDeque;

use two_phase_commit::{Message, Notice, Output, Refusal, Role, Step, Tick};

use super::World;
use crate::machines::config::Broken;
use crate::machines::ledger::Ledger;
use crate::machines::network::Packet;
use crate::machines::node::{Job, Write};

impl World {
    pub(super) fn tick_machines(&mut self, index: usize) {
        if !self.nodes[index].is_up() {
            return;
        }
        let (now, unanswered) = (self.now, self.unanswered(index));
        let node = &mut self.nodes[index];
        node.sweep(now);
        let is_due = |deadline: Option<Tick>| deadline.is_some_and(|tick| tick <= now);
        // The clock must advance even when nothing is due, or new timers would be set in the past.
        let has_due = is_due(node.site.next_deadline());
        let steps = node.site.tick(now);
        assert!(steps.is_empty() || has_due || self.config_allows_eviction(), "next_deadline misses something");
        for step in steps {
            // A crash point in one output's messages ends the process, and with it the other outputs.
            if !self.nodes[index].is_up() {
                return;
            }
            let step = match self.config.broken {
                Some(Broken::DecideByTimer) => self.decide_by_timer(index, step, &unanswered),
                _ => step,
            };
            self.carry_out(index, step);
        }
    }

    pub(super) fn config_allows_eviction(&self) -> bool {
        self.config.options(&self.addresses[0]).retained_max < 100
    }

    /// Steps 2 to 4 for an output, and for what its confirmation brings.
    pub(super) fn carry_out(&mut self, index: usize, first: Step) {
        let mut steps = VecDeque::from([first]);
        while let Some(Step { role, mut output, transition: _ }) = steps.pop_front() {
            if !output.needs_write() {
                if self.send_and_tell(index, &output) {
                    return;
                }
                continue;
            }
            if self.config.broken == Some(Broken::VoteBeforeDurable) {
                let ledger = &self.nodes[index].disk.ledger;
                let is_vote = role == Role::Participant && output.ledger_ops.iter().all(|op| ledger.would_hold(op));
                if is_vote {
                    let messages = std::mem::take(&mut output.messages);
                    let txid = output.txid.clone();
                    let early = Output { txid, records: vec![], ledger_ops: vec![], messages, notices: vec![] };
                    if self.send_and_tell(index, &early) {
                        return;
                    }
                }
            }
            let is_confirmed = !output.is_forced() && self.rng.chance(self.config.early_per_mille);
            self.enqueue(index, Job::Machine { role, output: output.clone(), is_confirmed });
            if is_confirmed {
                steps.push_back(self.nodes[index].site.on_durable(role, &output.txid));
                if self.send_and_tell(index, &output) {
                    return;
                }
            }
        }
    }

    pub(super) fn enqueue(&mut self, index: usize, job: Job) {
        let soonest = self.nodes[index].disk.queue.back().map_or(self.now, |write| write.ready_at);
        let ready_at = soonest.max(self.now + self.rng.below(self.config.write_max_ticks + 1));
        self.nodes[index].disk.queue.push_back(Write { ready_at, job });
    }

    pub(super) fn complete_writes(&mut self, index: usize) {
        while self.nodes[index].disk.queue.front().is_some_and(|write| write.ready_at <= self.now) {
            if self.comes_to_a_point(index) {
                return; // before the record
            }
            let Some(write) = self.nodes[index].disk.queue.pop_front() else { return };
            let result = self.make_durable(index, &write.job);
            if self.comes_to_a_point(index) {
                return; // after the record, before anyone knows
            }
            match (write.job, result) {
                (Job::Machine { role, output, is_confirmed: false }, Ok(())) => {
                    let follow_up = self.nodes[index].site.on_durable(role, &output.txid);
                    if self.send_and_tell(index, &output) {
                        return;
                    }
                    self.carry_out(index, follow_up);
                    self.forget_before_acknowledgement(index, &output);
                }
                (Job::Machine { role, output, .. }, Err(refusal)) => {
                    let follow_up = self.nodes[index].site.on_hold_refused(role, &output.txid, refusal);
                    self.carry_out(index, follow_up);
                }
                (Job::Machine { is_confirmed: true, .. }, Ok(())) => {}
                (Job::Cash { txid, .. }, result) => self.judge.told_cash(&txid, result.is_ok()),
            }
            if !self.nodes[index].is_up() {
                return;
            }
        }
    }

    pub(super) fn make_durable(&mut self, index: usize, job: &Job) -> Result<(), Refusal> {
        let result = self.nodes[index].disk.execute(job);
        let (txid, records) = match job {
            Job::Machine { output, .. } => (&output.txid, output.records.as_slice()),
            Job::Cash { txid, .. } => (txid, &[][..]),
        };
        if result.is_ok() {
            for record in records {
                self.trace.event(self.now, self.addresses[index].as_str(), "writes", record);
            }
            let ledgers: Vec<&Ledger> = self.nodes.iter().map(|node| &node.disk.ledger).collect();
            self.judge.wrote(index, txid, records, &ledgers);
        }
        result
    }

    /// Step 4. True when the branch crashed in the middle of it.
    pub(super) fn send_and_tell(&mut self, index: usize, output: &Output) -> bool {
        if !output.messages.is_empty() && self.comes_to_a_point(index) {
            return true; // after the confirmation, before the first message
        }
        for notice in &output.notices {
            self.trace.event(self.now, self.addresses[index].as_str(), "tells", notice);
            self.judge.heard(notice);
            if let Notice::Forgotten { txid, keep_until } = notice {
                let after = (*keep_until).max(self.now) + self.rng.below(50);
                self.nodes[index].forgotten.push((after, txid.clone()));
            }
        }
        for envelope in &output.messages {
            self.judge.sent(index, &envelope.message);
            let (from, message) = (self.addresses[index].clone(), envelope.message.clone());
            self.send(&Packet { from, to: envelope.to.clone(), message });
            if self.comes_to_a_point(index) {
                return true; // after a message, before the next
            }
        }
        let lost = output.messages.iter().find(|envelope| {
            matches!(envelope.message, Message::Prepare(_))
                && self.network.is_cut_between(&self.addresses[index], &envelope.to)
        });
        if let Some(envelope) = lost
            && self.rng.chance(500)
        {
            let aborted = self.nodes[index].site.unreachable(&output.txid, &envelope.to);
            self.carry_out(index, aborted);
        }
        false
    }
}

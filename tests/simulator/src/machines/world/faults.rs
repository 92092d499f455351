//! What goes wrong: crashes and restarts, cut links, an operator who settles things by hand; and the healing.

use two_phase_commit::Outcome;

use super::World;
use crate::machines::network::Weather;
use crate::machines::node::Phase;

impl World {
    /// What the seed has in store: crashes, cuts, an operator.
    pub(super) fn strike(&mut self) {
        for index in 0..self.nodes.len() {
            let is_running = !matches!(self.nodes[index].phase, Phase::Down(_));
            if is_running && self.rng.below(100_000) < self.config.crash_per_100_000 {
                self.crash(index);
            }
        }
        if self.rng.chance(self.config.cut_per_mille) {
            if self.rng.chance(400) {
                self.mend();
            } else {
                let (from, to) = (self.rng.index(self.addresses.len()), self.rng.index(self.addresses.len()));
                self.network.cut(&self.addresses[from], &self.addresses[to]);
                if self.rng.chance(700) {
                    self.network.cut(&self.addresses[to], &self.addresses[from]);
                }
            }
        }
        if self.rng.chance(self.config.operator_per_mille) {
            self.resolve_something();
        }
    }

    pub(super) fn mend(&mut self) {
        self.network.mend();
        for index in 0..self.nodes.len() {
            for peer in &self.addresses {
                self.nodes[index].site.reconnected(peer);
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.is_healed = true;
        self.network.mend();
        let delay_max_ticks = self.config.weather.delay_max_ticks;
        self.config.weather = Weather { loss_per_mille: 0, double_per_mille: 0, late_per_mille: 0, delay_max_ticks };
    }

    pub(super) fn resolve_something(&mut self) {
        let index = self.rng.index(self.nodes.len());
        let in_doubt: Vec<_> =
            self.nodes[index].site.participant().in_doubt().map(|doubt| doubt.transfer.txid.clone()).collect();
        if !self.nodes[index].is_up() || in_doubt.is_empty() {
            return;
        }
        let txid = &in_doubt[self.rng.index(in_doubt.len())];
        let outcome = if self.rng.chance(500) { Outcome::Committed } else { Outcome::Aborted };
        if let Ok(step) = self.nodes[index].site.resolve_by_hand(txid, outcome, "the seed wants it") {
            self.carry_out(index, step);
        }
    }

    /// A point between record, commit and send. True when the branch crashes here.
    pub(super) fn comes_to_a_point(&mut self, index: usize) -> bool {
        self.points += 1;
        let is_chosen = self.crash_at_point == Some(self.points);
        let is_drawn = !self.is_healed && self.rng.chance(self.config.crash_at_point_per_mille);
        if is_chosen || is_drawn {
            self.crash(index);
        }
        is_chosen || is_drawn
    }

    /// Kills the process. What was on its way to the disk may have got there, in order, or not.
    pub(super) fn crash(&mut self, index: usize) {
        let waiting = self.nodes[index].disk.queue.len();
        let reached = if self.rng.chance(500) { 0 } else { self.rng.index(waiting + 1) };
        for _ in 0..reached {
            if let Some(write) = self.nodes[index].disk.queue.pop_front() {
                // A refused write leaves nothing, and nobody is there to be told.
                let _ = self.make_durable(index, &write.job);
            }
        }
        self.nodes[index].disk.queue.clear();
        let until = self.now + 1 + self.rng.below(self.config.down_max_ticks + 1);
        self.nodes[index].phase = Phase::Down(until);
        self.crashes += 1;
        self.trace.event(self.now, self.addresses[index].as_str(), "crashes", &until);
    }

    pub(super) fn change_phase(&mut self, index: usize) {
        let options = self.config.options(&self.addresses[index]);
        match self.nodes[index].phase {
            Phase::Down(until) if until <= self.now => {
                let until = self.now + self.rng.below(self.config.recovery_max_ticks + 1);
                self.nodes[index].phase = Phase::Recovering(until);
                self.nodes[index].start(options, self.now);
                self.trace.event(self.now, self.addresses[index].as_str(), "starts", &until);
            }
            Phase::Recovering(until) if until <= self.now => {
                self.nodes[index].phase = Phase::Up;
                for step in self.nodes[index].recover() {
                    if !self.nodes[index].is_up() {
                        return;
                    }
                    self.carry_out(index, step);
                }
            }
            Phase::Down(_) | Phase::Recovering(_) | Phase::Up => {}
        }
    }
}

//! The world: branches, network, clients and time, and a driver that keeps the contract of `two_phase_commit`.
//!
//! A run has two phases. In the first there is work, and faults as the seed draws them. In the second
//! everything heals, nothing new is asked, and all must come to an end.

use std::collections::{BTreeMap, VecDeque};

use protocol::AccountNum;
use two_phase_commit::{Coordinator, Leg, Message, Notice, OnDisk, Outcome, Output, PeerAddr, Role, Tick};

use crate::config::{Broken, Config};
use crate::judge::{Judge, PlacedLeg};
use crate::ledger::Ledger;
use crate::network::{Network, Packet, Weather};
use crate::node::{Job, Node, Phase, Write};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::workload::{self, Program, Task};

/// How long the second phase may take. Recovery, the longest back-off and the longest trip, several times.
const CONVERGENCE_TICKS: Tick = 3_000;
/// How often the machines are checked from top to bottom; each transition checks its own transaction.
const FULL_CHECK_TICKS: Tick = 64;

/// How one run ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was wrong, if anything.
    pub violation: Option<String>,
    /// The hash of all events.
    pub trace_hash: u64,
    /// The events, when they were asked for.
    pub trace: Vec<String>,
    /// Transfers that were committed.
    pub committed: usize,
    /// Transfers that were aborted.
    pub aborted: usize,
    /// Branches at which a transfer ended mixed.
    pub mixed: usize,
    /// Crashes.
    pub crashes: u64,
    /// Points between record, commit and send that the run came to.
    pub points: u64,
}

/// Everything there is.
pub(crate) struct World {
    config: Config,
    rng: Rng,
    now: Tick,
    nodes: Vec<Node>,
    addresses: Vec<PeerAddr>,
    index_of: BTreeMap<PeerAddr, usize>,
    network: Network,
    judge: Judge,
    tasks: VecDeque<(Tick, Task)>,
    programs: Vec<Program>,
    /// Which program and leg an address is for.
    program_of: BTreeMap<PeerAddr, (usize, usize)>,
    trace: Trace,
    points: u64,
    crash_at_point: Option<u64>,
    crashes: u64,
    is_healed: bool,
}

impl World {
    pub(crate) fn new(config: Config, mut rng: Rng, crash_at_point: Option<u64>, with_text: bool) -> Self {
        let addresses: Vec<PeerAddr> = (0..config.branches).map(|index| PeerAddr::new(&format!("B{index}"))).collect();
        let nodes: Vec<Node> = addresses
            .iter()
            .map(|address| {
                let mut ledger =
                    Ledger { is_without_holds: config.broken == Some(Broken::NoHold), ..Ledger::default() };
                for number in 0..config.accounts {
                    let account = AccountNum::new(1001 + number).expect("a small number above zero");
                    ledger.open(account, rng.between(20, 200) as i64 * 100);
                }
                Node::new(address.clone(), config.options(address), ledger)
            })
            .collect();
        let tasks = workload::draw(&config, &mut rng).into();
        Self {
            judge: Judge::new(nodes.iter().map(|node| &node.disk.ledger)),
            index_of: addresses.iter().cloned().zip(0..).collect(),
            config,
            rng,
            now: 0,
            nodes,
            addresses,
            network: Network::default(),
            tasks,
            programs: Vec::new(),
            program_of: BTreeMap::new(),
            trace: Trace::new(with_text),
            points: 0,
            crash_at_point,
            crashes: 0,
            is_healed: false,
        }
    }

    /// Runs both phases.
    pub(crate) fn run(mut self) -> Report {
        while self.now < self.config.safety_ticks && self.judge.violation().is_none() {
            self.tick();
            self.strike();
        }
        self.heal();
        let deadline = self.now + CONVERGENCE_TICKS;
        while self.judge.violation().is_none() {
            self.tick();
            let unfinished = self.unfinished();
            if unfinished.is_none() {
                break;
            }
            if self.now >= deadline {
                self.judge.accuse(format!("it does not come to an end: {}", unfinished.unwrap_or_default()));
            }
        }
        Report {
            violation: self.judge.violation().map(str::to_owned),
            committed: self.judge.count(Outcome::Committed),
            aborted: self.judge.count(Outcome::Aborted),
            mixed: self.judge.mixed(),
            crashes: self.crashes,
            points: self.points,
            trace_hash: self.trace.hash(),
            trace: self.trace.into_lines(),
        }
    }

    fn tick(&mut self) {
        self.now += 1;
        for index in 0..self.nodes.len() {
            self.change_phase(index);
            self.complete_writes(index);
            self.tick_machines(index);
        }
        while let Some(packet) = self.network.receive(self.now) {
            self.deliver(&packet);
        }
        while self.tasks.front().is_some_and(|(tick, _)| *tick <= self.now) {
            if let Some((_, task)) = self.tasks.pop_front() {
                self.start(task);
            }
        }
        self.tick_programs();
        if self.now.is_multiple_of(FULL_CHECK_TICKS) {
            for node in &self.nodes {
                node.coordinator.check_invariants();
                node.participant.check_invariants();
            }
        }
    }

    /// What the seed has in store: crashes, cuts, an operator.
    fn strike(&mut self) {
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

    fn mend(&mut self) {
        self.network.mend();
        for index in 0..self.nodes.len() {
            for peer in &self.addresses {
                self.nodes[index].coordinator.reconnected(peer);
                self.nodes[index].participant.reconnected(peer);
            }
        }
    }

    fn heal(&mut self) {
        self.is_healed = true;
        self.network.mend();
        let delay_max_ticks = self.config.weather.delay_max_ticks;
        self.config.weather = Weather { loss_per_mille: 0, double_per_mille: 0, late_per_mille: 0, delay_max_ticks };
    }

    fn resolve_something(&mut self) {
        let index = self.rng.index(self.nodes.len());
        let in_doubt: Vec<_> =
            self.nodes[index].participant.in_doubt().map(|doubt| doubt.transfer.txid.clone()).collect();
        if !self.nodes[index].is_up() || in_doubt.is_empty() {
            return;
        }
        let txid = &in_doubt[self.rng.index(in_doubt.len())];
        let outcome = if self.rng.chance(500) { Outcome::Committed } else { Outcome::Aborted };
        if let Ok(output) = self.nodes[index].participant.resolve_by_hand(txid, outcome, "the seed wants it") {
            self.carry_out(index, Role::Participant, output);
        }
    }

    fn start(&mut self, task: Task) {
        match task {
            Task::Transfer { branch, txid, legs } if self.nodes[branch].is_up() => {
                let placed = self.place(branch, &legs);
                if let Ok(output) = self.nodes[branch].coordinator.begin(txid.clone(), placed, "") {
                    self.judge.asked(&txid, legs);
                    self.carry_out(branch, Role::Coordinator, output);
                }
            }
            Task::Cash { branch, txid, cash } if self.nodes[branch].is_up() => {
                self.judge.asked_cash(&txid, branch, &cash);
                self.enqueue(branch, Job::Cash { txid, cash });
            }
            Task::Transfer { .. } | Task::Cash { .. } => {}
            Task::Program(program) => {
                self.judge.asked(&program.txid, program.legs.clone());
                for leg in 0..program.legs.len() {
                    self.program_of.insert(program.address(leg), (self.programs.len(), leg));
                }
                self.programs.push(program);
            }
        }
    }

    /// The legs as the coordinator at `branch` names them.
    fn place(&self, branch: usize, legs: &[PlacedLeg]) -> Vec<Leg> {
        let place = |(at, leg): &PlacedLeg| {
            let elsewhere = (*at != branch).then(|| self.addresses[*at].clone());
            Leg { branch: elsewhere, ..leg.clone() }
        };
        legs.iter().map(place).collect()
    }

    fn tick_programs(&mut self) {
        for position in 0..self.programs.len() {
            let (packets, decided) = self.programs[position].tick(self.now, &self.addresses);
            if let Some(outcome) = decided {
                let txid = self.programs[position].txid.clone();
                self.judge.program_decided(&txid, outcome);
            }
            for packet in packets {
                self.send(&packet);
            }
        }
    }

    fn deliver(&mut self, packet: &Packet) {
        self.trace.event(self.now, packet.to.as_str(), "receives", &packet.message);
        if let Some((program, leg)) = self.program_of.get(&packet.to) {
            self.programs[*program].receive(*leg, &packet.message);
            return;
        }
        let index = self.index_of[&packet.to];
        let node = &mut self.nodes[index];
        if matches!(node.phase, Phase::Down(_)) {
            return;
        }
        let role = packet.message.role();
        let output = match role {
            Role::Coordinator => node.coordinator.step(&packet.from, &packet.message),
            Role::Participant => {
                let txid = packet.message.txid();
                let is_known = node.participant.remembers(txid);
                let on_disk = if is_known { OnDisk::Nothing } else { node.disk.look_up(txid) };
                node.participant.step(&packet.from, &packet.message, on_disk)
            }
        };
        self.carry_out(index, role, output);
    }

    fn send(&mut self, packet: &Packet) {
        self.trace.event(self.now, packet.from.as_str(), "sends", &packet.message);
        self.network.send(self.now, packet, &self.config.weather, &mut self.rng);
    }

    /// Whether nothing is left to do; otherwise what is.
    fn unfinished(&self) -> Option<String> {
        if let Some(node) = self.nodes.iter().find(|node| !node.is_up()) {
            return Some(format!("{} is not up", node.address));
        }
        if let Some(program) = self.programs.iter().find(|program| !program.is_done()) {
            return Some(format!("program {} is not done", program.txid));
        }
        if !self.network.is_quiet() {
            return Some("messages are under way".to_owned());
        }
        for node in &self.nodes {
            if let Some(doubt) = node.participant.in_doubt().next() {
                return Some(format!("{} is in doubt at {}", doubt.transfer, node.address));
            }
            let is_under_way = |(_, state): &(_, two_phase_commit::CoordinatorState)| {
                *state != two_phase_commit::CoordinatorState::Ended
            };
            if let Some((txid, state)) = Coordinator::transactions(&node.coordinator).find(is_under_way) {
                return Some(format!("{txid} is {state:?} at {}", node.address));
            }
            if !node.disk.queue.is_empty() {
                return Some(format!("{} is writing", node.address));
            }
        }
        self.judge.unfinished(&self.ledgers())
    }

    fn ledgers(&self) -> Vec<&Ledger> {
        self.nodes.iter().map(|node| &node.disk.ledger).collect()
    }
}

/// The driver, as the contract wants it: take, write, confirm, send.
impl World {
    fn tick_machines(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if !node.is_up() {
            return;
        }
        node.sweep(now);
        let is_due = |deadline: Option<Tick>| deadline.is_some_and(|tick| tick <= now);
        let mut outputs: Vec<(Role, Output)> = Vec::new();
        // The clock must advance even when nothing is due, or new timers would be set in the past.
        let is_coordinator_due = is_due(node.coordinator.next_deadline());
        let is_participant_due = is_due(node.participant.next_deadline());
        outputs.extend(node.coordinator.tick(now).into_iter().map(|output| (Role::Coordinator, output)));
        outputs.extend(node.participant.tick(now).into_iter().map(|output| (Role::Participant, output)));
        assert!(
            outputs.is_empty() || is_coordinator_due || is_participant_due || self.config_allows_eviction(),
            "next_deadline misses something"
        );
        for (role, output) in outputs {
            // A crash point in one output's messages ends the process, and with it the other outputs.
            if !self.nodes[index].is_up() {
                return;
            }
            self.carry_out(index, role, output);
        }
    }

    fn config_allows_eviction(&self) -> bool {
        self.config.options(&self.addresses[0]).retained_max < 100
    }

    /// Steps 2 to 4 for an output, and for what its confirmation brings.
    fn carry_out(&mut self, index: usize, role: Role, first: Output) {
        let mut outputs = VecDeque::from([first]);
        while let Some(mut output) = outputs.pop_front() {
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
                outputs.push_back(self.nodes[index].written(role, &output.txid));
                if self.send_and_tell(index, &output) {
                    return;
                }
            }
        }
    }

    fn enqueue(&mut self, index: usize, job: Job) {
        let soonest = self.nodes[index].disk.queue.back().map_or(self.now, |write| write.ready_at);
        let ready_at = soonest.max(self.now + self.rng.below(self.config.write_max_ticks + 1));
        self.nodes[index].disk.queue.push_back(Write { ready_at, job });
    }

    fn complete_writes(&mut self, index: usize) {
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
                    let follow_up = self.nodes[index].written(role, &output.txid);
                    if self.send_and_tell(index, &output) {
                        return;
                    }
                    self.carry_out(index, role, follow_up);
                }
                (Job::Machine { role, output, .. }, Err(refusal)) => {
                    let follow_up = self.nodes[index].refused(role, &output.txid, refusal);
                    self.carry_out(index, role, follow_up);
                }
                (Job::Machine { is_confirmed: true, .. }, Ok(())) => {}
                (Job::Cash { txid, .. }, result) => self.judge.told_cash(&txid, result.is_ok()),
            }
            if !self.nodes[index].is_up() {
                return;
            }
        }
    }

    fn make_durable(&mut self, index: usize, job: &Job) -> Result<(), two_phase_commit::Refusal> {
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
    fn send_and_tell(&mut self, index: usize, output: &Output) -> bool {
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
            let aborted = self.nodes[index].coordinator.unreachable(&output.txid, &envelope.to);
            self.carry_out(index, Role::Coordinator, aborted);
        }
        false
    }
}

/// Crashes and restarts.
impl World {
    /// A point between record, commit and send. True when the branch crashes here.
    fn comes_to_a_point(&mut self, index: usize) -> bool {
        self.points += 1;
        let is_chosen = self.crash_at_point == Some(self.points);
        let is_drawn = !self.is_healed && self.rng.chance(self.config.crash_at_point_per_mille);
        if is_chosen || is_drawn {
            self.crash(index);
        }
        is_chosen || is_drawn
    }

    /// Kills the process. What was on its way to the disk may have got there, in order, or not.
    fn crash(&mut self, index: usize) {
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

    fn change_phase(&mut self, index: usize) {
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
                for (role, output) in self.nodes[index].recover() {
                    if !self.nodes[index].is_up() {
                        return;
                    }
                    self.carry_out(index, role, output);
                }
            }
            Phase::Down(_) | Phase::Recovering(_) | Phase::Up => {}
        }
    }
}

//! The world: branches, network, clients and time, and a driver that keeps the contract of `two_phase_commit`.
//!
//! A run has two phases. In the first there is work, and faults as the seed draws them. In the second
//! everything heals, nothing new is asked, and all must come to an end.

mod breaches;
mod driver;
mod faults;

use std::collections::{BTreeMap, VecDeque};

use protocol::AccountNum;
use two_phase_commit::{CoordinatorState, Leg, OnDisk, Outcome, PeerAddr, Role, Tick};

use crate::machines::config::{Broken, Config};
use crate::machines::judge::{Judge, PlacedLeg};
use crate::machines::ledger::Ledger;
use crate::machines::network::{Network, Packet};
use crate::machines::node::{Job, Node, Phase};
use crate::machines::workload::{self, Program, Task};
use crate::rng::Rng;
use crate::trace::Trace;

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
                node.site.check_invariants();
            }
        }
    }

    fn start(&mut self, task: Task) {
        match task {
            Task::Transfer { branch, txid, legs } if self.nodes[branch].is_up() => {
                let placed = self.place(branch, &legs);
                if let Ok(step) = self.nodes[branch].site.begin(txid.clone(), placed, "") {
                    self.judge.asked(&txid, legs);
                    self.carry_out(branch, step);
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
        let txid = packet.message.txid();
        let is_known = match packet.message.role() {
            Role::Coordinator => true,
            Role::Participant => node.site.participant().remembers(txid),
        };
        let on_disk = if is_known { OnDisk::Nothing } else { node.disk.look_up(txid) };
        let booked = node.disk.look_up_booked(txid);
        if self.answers_wrongly(index, packet, on_disk) {
            return;
        }
        let node = &mut self.nodes[index];
        let step = node.site.step(&packet.from, &packet.message, on_disk, &booked);
        self.carry_out(index, step);
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
            if let Some(doubt) = node.site.participant().in_doubt().next() {
                return Some(format!("{} is in doubt at {}", doubt.transfer, node.address));
            }
            let mut transactions = node.site.coordinator().transactions();
            if let Some((txid, state)) = transactions.find(|(_, state)| *state != CoordinatorState::Ended) {
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

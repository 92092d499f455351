//! The world: time, processes, requests and faults, and the healing at the end.
//!
//! A run has two phases. In the first there is work, and faults as the seed draws them. In the second everything heals,
//! nothing new is asked, people settle what only people can, and all must come to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use bank_server::dbs_exec::CopyRole;
use bank_server::node::Stop;
use bank_server::peers::links::Inbox as _;
use two_phase_commit::{Message, PeerAddr};

use super::clients::Request;
use super::config::Config;
use super::copies::{Backup, Link, Setback};
use super::host::{Crash, Shared, Station};
use super::judge::Judge;
use super::network::{Network, Packet};
use super::people::{Program, Resolved, Stranger};
use super::process::{Answer, Process};
use super::recorder::Recorder;
use super::{Report, disks};
use crate::rng::Rng;
use crate::trace::Trace;

/// How long the second phase may take: the longest retention and back-off, several times.
const CONVERGENCE_MS: u64 = 300_000;
/// A step of time in which nothing is done but what is due.
const LEAP_STEP_MS: u64 = 500;

/// A copy of a branch: a database, and the process on it while it runs.
pub struct Copy {
    /// Its branch.
    pub branch: usize,
    /// The command line.
    pub arguments: Vec<String>,
    /// The database.
    pub path: PathBuf,
    /// The port under which others know it.
    pub port: u16,
    /// The process, while it runs.
    pub process: Option<Process>,
    /// When it is started again, while it does not.
    pub start_ms: Option<u64>,
    /// Whether it was the primary at the beginning.
    pub is_first: bool,
    /// How often it was started.
    pub starts: u64,
    /// When its ended records are pruned next.
    pub prune_ms: u64,
    /// When it tells the other copies next, or follows.
    pub tend_ms: u64,
}

/// What goes wrong at a moment.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A process is killed at once.
    Kill,
    /// A process is killed at a point between write, confirmation and sending.
    KillAtPoint,
    /// A link is cut.
    Cut,
    /// Cut links are mended.
    Mend,
    /// Time passes.
    Leap,
    /// A person settles something.
    Resolve,
    /// A person promotes a replica.
    Promote,
    /// A primary can't reach its replicas any more, and one of them is promoted soon after; once something is in doubt,
    /// when so many looks are left.
    Strand(u64),
    /// A person promotes a replica of this branch.
    PromoteOf(usize),
    /// A person has a primary hand over to a replica.
    HandOver,
    /// A person promotes this copy, to which its primary has handed over.
    PromoteCopy(usize),
    /// A branch is backed up, or has its backup back; once something is in doubt there, when so many looks are left.
    Backup(u64),
}

/// Everything there is.
pub struct World {
    pub(super) config: Config,
    pub(super) rng: Rng,
    pub(super) now_ms: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) names: Vec<String>,
    pub(super) copies: Vec<Copy>,
    /// The copy of each branch that clients and peers are sent to.
    pub(super) serving: Vec<usize>,
    pub(super) network: Network,
    /// Messages for which a link is looked for.
    pub(super) waiting: Vec<Packet>,
    pub(super) requests: Vec<Request>,
    pub(super) programs: Vec<Program>,
    pub(super) strangers: Vec<Stranger>,
    pub(super) faults: BTreeMap<(u64, usize), Fault>,
    pub(super) judge: Judge,
    pub(super) trace: Trace,
    /// Records the run, if that is wanted.
    pub(super) recorder: Option<Recorder>,
    pub(super) is_healed: bool,
    /// When that was.
    pub(super) healed_ms: u64,
    pub(super) crashes: u64,
    /// Transfers that a person has settled somewhere.
    pub(super) by_hand: BTreeSet<String>,
    /// What people were told of that.
    pub(super) resolved: Vec<Resolved>,
    pub(super) folder: disks::Folder,
    /// The links of a copy to a branch, the newest last.
    pub(super) links: BTreeMap<(usize, usize), Vec<Link>>,
    pub(super) connections: u64,
    pub(super) backups: BTreeMap<usize, Backup>,
    /// When stores came back older.
    pub(super) setbacks: Vec<Setback>,
    /// The newest epoch of each branch of which a copy was promoted.
    pub(super) newest_epochs: BTreeMap<usize, i64>,
    /// The copies of a branch that have all there is, because one has handed over to the other and neither was promoted.
    pub(super) handed_over: BTreeMap<usize, [usize; 2]>,
}

impl World {
    /// The same, to be recorded.
    #[must_use]
    pub fn recorded(self) -> Self {
        Self { recorder: Some(Recorder::default()), ..self }
    }

    /// Runs both phases. Gives what was recorded too, with the transfers that the judge may have meant.
    pub fn run(mut self) -> (Report, Option<(Recorder, Vec<String>)>) {
        if let Err(error) = self.set_up() {
            self.judge.accuse(format!("the bank could not be opened: {error}"));
        }
        while self.now_ms < self.config.safety_ms && self.judge.is_content() {
            self.strike();
            self.step(self.config.tick_ms);
        }
        self.heal();
        let deadline_ms = self.now_ms + CONVERGENCE_MS;
        let mut quiet_since_ms = None;
        while self.judge.is_content() {
            self.step(if quiet_since_ms.is_some() { LEAP_STEP_MS } else { self.config.tick_ms.max(50) });
            let Some(unfinished) = self.unfinished() else {
                // What was forgotten may still be asked for, and what is wrong may show late.
                let since_ms = *quiet_since_ms.get_or_insert(self.now_ms);
                if self.now_ms >= since_ms + 5_000 {
                    break;
                }
                continue;
            };
            quiet_since_ms = None;
            if self.now_ms >= deadline_ms {
                self.judge.accuse(format!("it does not come to an end: {unfinished}"));
            }
        }
        if self.judge.is_content() {
            self.judge_all();
        }
        let (committed, refused) = self.count();
        let related = self.meant_by_the_judge();
        let recorded = self.recorder.take().map(|recorder| (recorder, related));
        let report = Report {
            violation: self.judge.violation().map(str::to_owned),
            requests: self.requests.len(),
            committed,
            refused,
            by_hand: self.by_hand.len(),
            crashes: self.crashes,
            trace_hash: self.trace.hash(),
            trace: self.trace.into_lines(),
        };
        (report, recorded)
    }

    /// The transfers that a verdict names by themselves or by the request that began them, the newest first.
    fn meant_by_the_judge(&self) -> Vec<String> {
        let Some(violation) = self.judge.violation() else { return Vec::new() };
        let words: Vec<&str> =
            violation.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').collect();
        let named = self.judge.recent.iter().rev().filter(|txid| violation.contains(txid.as_str())).cloned();
        let of_requests = self.requests.iter().filter(|request| {
            let name = format!("r{}", request.number);
            words.iter().any(|word| *word == name)
        });
        let txids = of_requests.filter_map(|request| request.txid().map(str::to_owned));
        named.chain(txids).collect()
    }

    /// Records what a process has told of since the last time.
    fn record(&mut self, copy: usize) {
        if let (Some(recorder), Some(process)) = (&mut self.recorder, &self.copies[copy].process) {
            recorder.take(copy, process.engine(), self.now_ms);
        }
    }

    /// Everything that happens until a moment later.
    fn step(&mut self, by_ms: u64) {
        self.now_ms += by_ms;
        self.shared.set_now_ms(self.now_ms);
        self.start_those_due();
        while let Some(packet) = self.network.receive(self.now_ms) {
            self.deliver(&packet);
            self.transmit();
        }
        self.tend_copies();
        self.ask_those_due();
        self.run_programs();
        self.run_strangers();
        self.transmit();
        for copy in 0..self.copies.len() {
            let prunes = self.copies[copy].prune_ms <= self.now_ms;
            if prunes {
                self.copies[copy].prune_ms = self.now_ms + 5_000 + self.rng.below(20_000);
            }
            self.enter(copy, |process| {
                process.engine().tick();
                if prunes {
                    process.engine().prune();
                }
            });
        }
    }

    /// Has a process do something. `None` when it does not run, or died of it.
    pub(super) fn enter<T>(&mut self, copy: usize, act: impl FnOnce(&Process) -> T) -> Option<T> {
        let process = self.copies[copy].process.as_ref()?;
        let acted = catch_unwind(AssertUnwindSafe(|| act(process)));
        let wants = process.stop();
        self.record(copy);
        let value = match acted {
            Ok(value) => Some(value),
            Err(payload) => {
                if payload.downcast_ref::<Crash>().is_none() {
                    let text = panic_text(&*payload);
                    self.judge.accuse(format!("{} stopped itself: {text}", self.name_of(copy)));
                }
                self.kill(copy);
                None
            }
        };
        self.post();
        if self.copies[copy].process.as_ref().is_some_and(|process| process.station.was_starved()) {
            // What is owed waits for replicas for as long as it takes; somebody ends that by ending the process.
            self.kill(copy);
        }
        match wants {
            None | Some(Stop::ReadAgain) => {}
            Some(Stop::Reopen(_)) => self.reopen(copy),
            Some(Stop::DiskFailed | Stop::FilesLost | Stop::Signal(_) | Stop::InputEnded) => self.kill(copy),
        }
        value
    }

    /// Asks a process something. `None` when no answer comes.
    pub(super) fn ask(&mut self, copy: usize, request: &str) -> Option<Answer> {
        self.note(copy, "is asked", request);
        let answer = self.enter(copy, |process| process.ask(request))?;
        self.note(copy, "answers", &answer.body.to_string());
        Some(answer)
    }

    /// Asks a process something that only looks, and says nothing of it in the trace: rows have dates of the real clock.
    pub(super) fn look(&mut self, copy: usize, request: &str) -> Option<Answer> {
        self.enter(copy, |process| process.ask(request))
    }

    /// Gives what processes have sent to the network.
    fn post(&mut self) {
        for outgoing in self.shared.take_outgoing() {
            let Some(to) = self.names.iter().position(|name| name == outgoing.to.as_str()) else { continue };
            self.note(outgoing.from, "sends", &format!("{}: {}", outgoing.to, outgoing.stamped.message));
            let branch = self.copies[outgoing.from].branch;
            if matches!(outgoing.stamped.message, Message::Prepare(_)) {
                let txid = outgoing.stamped.message.txid().to_string();
                self.judge.note_transfer(&txid, [branch, to]);
            }
            self.waiting.push(Packet { from: outgoing.from, to, stamped: outgoing.stamped, is_returned: false });
        }
    }

    /// Sends what waits to be sent, over the links that there are.
    fn transmit(&mut self) {
        for packet in std::mem::take(&mut self.waiting) {
            match self.link_to(packet.from, packet.to) {
                Some(copy) => {
                    let weather = self.config.weather;
                    self.network.send(self.now_ms, Packet { to: copy, ..packet }, &weather, &mut self.rng);
                }
                None => self.network.give_back(self.now_ms, packet, &mut self.rng),
            }
        }
    }

    fn deliver(&mut self, packet: &Packet) {
        if packet.is_returned {
            let to = PeerAddr::new(&self.names[packet.to]);
            self.note(packet.from, "cannot send", &format!("{to}: {}", packet.stamped.message));
            self.enter(packet.from, |process| process.engine().undeliverable(&to, vec![packet.stamped.clone()]));
            return;
        }
        let copy = packet.to;
        if self.shared.is_cut(packet.from, copy) || !self.deals_with(copy, packet.from) {
            return;
        }
        let from = PeerAddr::new(&self.names[self.copies[packet.from].branch]);
        self.note(copy, "receives", &format!("{from}: {}", packet.stamped.message));
        self.enter(copy, |process| process.engine().received(&from, vec![packet.stamped.clone()]));
    }

    /// Has something go wrong later.
    pub(super) fn later(&mut self, by_ms: u64, fault: Fault) {
        let number = self.faults.len() + usize::try_from(self.now_ms).unwrap_or(0) * 1_000;
        self.faults.insert((self.now_ms + by_ms, number), fault);
    }

    /// Ends a process without a warning.
    pub(super) fn kill(&mut self, copy: usize) {
        if self.copies[copy].process.take().is_none() {
            return;
        }
        self.crashes += 1;
        self.record_outage(copy, Recorder::fell);
        self.shared.end_streams(copy);
        let down_ms = if self.is_healed { 1 } else { 1 + self.rng.below(self.config.down_max_ms) };
        self.copies[copy].start_ms = Some(self.now_ms + down_ms);
        self.note(copy, "dies", "");
    }

    /// Of the copy that serves its branch alone: a branch is down when that one is.
    fn record_outage(&mut self, copy: usize, note: fn(&mut Recorder, &str, u64)) {
        let branch = self.copies[copy].branch;
        if let Some(recorder) = self.recorder.as_mut().filter(|_| self.serving[branch] == copy) {
            note(recorder, &self.names[branch], self.now_ms);
        }
    }

    /// Closes everything of a process and opens it again, in the role that the database has now.
    fn reopen(&mut self, copy: usize) {
        let Some(process) = self.copies[copy].process.take() else { return };
        self.shared.end_streams(copy);
        process.stop_cleanly();
        self.note(copy, "reopens", "");
        self.start(copy, false);
    }

    fn start_those_due(&mut self) {
        for copy in 0..self.copies.len() {
            if self.copies[copy].start_ms.is_some_and(|start_ms| start_ms <= self.now_ms) {
                self.start(copy, true);
            }
        }
    }

    /// Starts a process, which may die of what it finds to do.
    pub(super) fn start(&mut self, copy: usize, is_first: bool) {
        let station = Station::new(&self.shared, copy);
        if !self.is_healed && self.rng.chance(100) {
            station.die_after(self.rng.below(6));
        }
        let (arguments, port) = (self.copies[copy].arguments.clone(), self.copies[copy].port);
        self.note(copy, "starts", "");
        let started = catch_unwind(AssertUnwindSafe(|| Process::start(&arguments, port, station, is_first)));
        self.copies[copy].start_ms = None;
        self.copies[copy].starts += 1;
        match started {
            Ok(Ok(Some(process))) => {
                self.copies[copy].process = Some(process);
                self.record_outage(copy, Recorder::rose);
                self.record(copy);
            }
            Ok(Ok(None)) => return self.start(copy, false),
            Ok(Err(error)) => self.judge.accuse(format!("{} does not start: {error}", self.name_of(copy))),
            Err(payload) if payload.downcast_ref::<Crash>().is_some() => {
                self.crashes += 1;
                self.copies[copy].start_ms = Some(self.now_ms + 1 + self.rng.below(self.config.down_max_ms));
            }
            Err(payload) => {
                let text = panic_text(&*payload);
                self.judge.accuse(format!("{} stopped itself at its start: {text}", self.name_of(copy)));
            }
        }
        self.post();
    }

    fn strike(&mut self) {
        while let Some(entry) = self.faults.first_entry() {
            if entry.key().0 > self.now_ms {
                return;
            }
            let fault = entry.remove();
            self.do_fault(fault);
        }
    }

    fn do_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => {
                let copy = self.rng.index(self.copies.len());
                self.kill(copy);
            }
            Fault::KillAtPoint => {
                let (copy, points) = (self.rng.index(self.copies.len()), self.rng.below(30));
                if let Some(process) = &self.copies[copy].process {
                    process.station.die_after(points);
                }
            }
            Fault::Cut => {
                let (a, b) = (self.rng.index(self.copies.len()), self.rng.index(self.copies.len()));
                if a != b {
                    self.shared.cut(a, b);
                }
            }
            Fault::Mend => self.mend(),
            Fault::Leap => {
                for _ in 0..self.rng.between(4, 400) {
                    self.step(LEAP_STEP_MS);
                }
            }
            Fault::Resolve => self.resolve_something(),
            Fault::Promote => self.promote_something(),
            Fault::Strand(looks) => self.strand(looks),
            Fault::PromoteOf(branch) => self.promote_of(branch),
            Fault::HandOver => self.hand_over(),
            Fault::PromoteCopy(copy) => self.promote(copy, true),
            Fault::Backup(looks) => self.back_up_or_restore(looks),
        }
    }

    fn mend(&mut self) {
        for (a, b) in self.shared.mend() {
            let branch = self.copies[b].branch;
            // A replica makes no links: it has nothing to say to other branches.
            if branch != self.copies[a].branch && self.role_of(a) == Some(CopyRole::Primary) {
                self.link_to(a, branch);
            }
        }
    }

    fn heal(&mut self) {
        (self.is_healed, self.healed_ms) = (true, self.now_ms);
        let weather = &mut self.config.weather;
        (weather.loss_per_mille, weather.double_per_mille, weather.late_per_mille) = (0, 0, 0);
        self.config.lost_answers_per_mille = 0;
        for copy in &mut self.copies {
            if copy.process.is_none() {
                copy.start_ms = Some(self.now_ms);
            }
            if let Some(process) = &copy.process {
                process.station.spare();
            }
        }
        self.mend();
    }

    /// The name of a copy, for people.
    pub(super) fn name_of(&self, copy: usize) -> String {
        self.names[self.copies[copy].branch].clone()
    }

    /// Writes a line into the trace.
    pub(super) fn note(&mut self, copy: usize, what: &str, item: &str) {
        let name = format!("{}{}", self.name_of(copy), if self.copies[copy].is_first { "" } else { "'" });
        self.trace.event(self.now_ms, &name, what, &item.to_string());
    }
}

/// What a panic said.
fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "?".into())
}

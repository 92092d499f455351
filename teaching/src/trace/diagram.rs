//! What happened, as steps that can be drawn one under the other.
//!
//! A message that was received is one step across, as long as nothing of weight happened to its sender meanwhile;
//! else it is two, one where it left and one where it came. What did not come is told apart: thrown away on its way,
//! lost or still on its way, or beyond what the other side remembers. What a client asked and was told makes a lane
//! of its own, the first.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use protocol::answer::Run;
use protocol::event::{Event, EventKind};

use crate::trace::fold::fold_resends;
use crate::trace::step::{Mark, Step, StepKind, Way};
use crate::trace::words::printable;
use crate::trace::{Transfer, Witness};

/// The role whose prepared state means doubt.
const PARTICIPANT: &str = "participant";
/// The message that only a coordinator sends.
const PREPARE: &str = "prepare";
/// The outcome of a transfer of which nobody knows one.
const UNDECIDED: &str = "undecided";
/// Where the client's lane stands, if there is one.
const CLIENT_LANE: usize = 0;
/// The name of the lane of whoever asks for the transfer.
pub const CLIENT: &str = "client";

/// A transfer, ready to be drawn.
#[derive(Debug)]
pub struct Diagram {
    /// The first line: what came of it.
    pub title: String,
    /// The client, if it was seen; the coordinator; and the other branches in the order in which they appear.
    pub lanes: Vec<String>,
    /// What happened.
    pub steps: Vec<Step>,
    /// What is to be said of branches that could not be heard.
    pub remarks: Vec<String>,
}

impl Diagram {
    /// Makes the diagram of a transfer from events that are in order.
    #[must_use]
    pub fn new(transfer: &Transfer) -> Self {
        Builder::new(transfer).build()
    }
}

struct Builder<'g> {
    transfer: &'g Transfer,
    events: &'g [Event],
    lanes: Vec<String>,
    /// Whether the first lane is the client's.
    has_client: bool,
    /// The lanes of branches, by all that they are called.
    lane_of: BTreeMap<String, usize>,
    /// The first receipt of each message, by its id.
    receipts: BTreeMap<&'g str, usize>,
    /// The ids of messages that were thrown away.
    losses: BTreeSet<&'g str>,
    sent: BTreeSet<&'g str>,
    /// Where each message that could not be drawn whole left, and its number.
    numbers: BTreeMap<&'g str, usize>,
    drawn_receipts: BTreeSet<usize>,
    commit_point: Option<usize>,
    first_ms: i64,
}

impl<'g> Builder<'g> {
    fn new(transfer: &'g Transfer) -> Self {
        let events = transfer.events.as_slice();
        let (mut receipts, mut sent, mut losses) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut has_client = false;
        for (index, event) in events.iter().enumerate() {
            match &event.kind {
                EventKind::Received { id, .. } => {
                    receipts.entry(id.as_str()).or_insert(index);
                }
                EventKind::Sent { id, .. } => {
                    sent.insert(id.as_str());
                }
                EventKind::Lost { id, .. } => {
                    losses.insert(id.as_str());
                }
                EventKind::Asked { .. } | EventKind::Answered { .. } => has_client = true,
                _ => {}
            }
        }
        let mut teller = Self {
            transfer,
            events,
            lanes: if has_client { vec![CLIENT.into()] } else { Vec::new() },
            has_client,
            lane_of: BTreeMap::new(),
            receipts,
            losses,
            sent,
            numbers: BTreeMap::new(),
            drawn_receipts: BTreeSet::new(),
            commit_point: events.iter().position(is_commit_point),
            first_ms: events.first().map_or(0, at_ms),
        };
        if let Some(coordinator) = events.iter().find_map(sender_of_prepare) {
            teller.add_lane(coordinator);
        }
        for event in events {
            teller.add_lane(event.branch.as_str());
            if let EventKind::Sent { to: other, .. }
            | EventKind::Received { from: other, .. }
            | EventKind::Lost { from: other, .. } = &event.kind
            {
                teller.add_lane(other);
            }
        }
        teller
    }

    /// A branch has one lane, by whatever name or address others call it.
    fn add_lane(&mut self, called: &str) {
        if self.lane_of.contains_key(called) {
            return;
        }
        let is_called = |witness: &&Witness| witness.addresses.iter().any(|address| address == called);
        let name = self.transfer.witnesses.iter().find(is_called).map_or(called, |witness| witness.branch.as_str());
        let known = self.branch_lanes().find(|&lane| self.lanes[lane] == name);
        let lane = known.unwrap_or_else(|| {
            self.lanes.push(name.to_string());
            self.lanes.len() - 1
        });
        self.lane_of.insert(called.to_string(), lane);
    }

    fn build(mut self) -> Diagram {
        let mut steps = Vec::new();
        let mut restarts = self.restarts();
        for index in 0..self.events.len() {
            let event = &self.events[index];
            let lane = self.lane(event.branch.as_str());
            // Of one that tells of no run of its own, whatever it remembers is from after its start.
            if self.run(lane).is_none_or(|run| event.number > run.after_event)
                && let Some(started_ms) = restarts.remove(&lane)
            {
                steps.push(restart(lane, started_ms.min(at_ms(event)) - self.first_ms));
            }
            let at_ms = at_ms(event) - self.first_ms;
            steps.extend(self.step(index).map(|kind| Step { at_ms, kind }));
            if self.commit_point == Some(index) {
                let kind = StepKind::Mark { lane, mark: Mark::CommitPoint, text: "COMMIT POINT".into() };
                steps.push(Step { at_ms, kind });
            }
        }
        steps.extend(restarts.into_iter().map(|(lane, started_ms)| restart(lane, started_ms - self.first_ms)));
        let remarks = self.remarks().iter().map(|remark| printable(remark)).collect();
        Diagram { title: printable(&self.title()), remarks, lanes: self.lanes, steps: fold_resends(steps) }
    }

    fn lane(&self, called: &str) -> usize {
        self.lane_of.get(called).copied().unwrap_or(0)
    }

    /// All lanes but the client's.
    fn branch_lanes(&self) -> Range<usize> {
        usize::from(self.has_client)..self.lanes.len()
    }

    /// The step of an event; none when it was drawn with an earlier one.
    fn step(&mut self, index: usize) -> Option<StepKind> {
        let event = &self.events[index];
        let lane = self.lane(event.branch.as_str());
        let short = |text: &str| without_txid(text, self.transfer.txid.as_str());
        let mark = |mark, text| Some(StepKind::Mark { lane, mark, text });
        match &event.kind {
            EventKind::Sent { to, text, id, .. } => {
                let (to, label) = (self.lane(to), short(text));
                let way = self.way_of_sent(index, id, to)?;
                Some(StepKind::Message { from: lane, to, label, way })
            }
            EventKind::Received { from, text, id, .. } => {
                let (from, label) = (self.lane(from), short(text));
                let way = self.way_of_received(index, id)?;
                Some(StepKind::Message { from, to: lane, label, way })
            }
            EventKind::Recorded { record, forced: true } => mark(Mark::Forced, short(record)),
            EventKind::Recorded { record, forced: false } => mark(Mark::Unforced, short(record)),
            EventKind::State { role, from, to } => {
                let change = format!("{} -> {}", state_name(from), state_name(to));
                if is_in_doubt(role, to) {
                    mark(Mark::InDoubt, format!("{change}, in doubt"))
                } else {
                    mark(Mark::State, change)
                }
            }
            EventKind::Moved { account, amount, what } => {
                mark(Mark::Money, format!("{account}: {amount} {}", what.name()))
            }
            EventKind::Lost { from, text, id, .. } => {
                // Of a message that never came it was said where it left; this is about one that nobody saw leave, or
                // about a copy.
                let is_told = self.sent.contains(id.as_str()) && !self.receipts.contains_key(id.as_str());
                let (from, label) = (self.lane(from), short(text));
                (!is_told).then_some(StepKind::Message { from, to: lane, label, way: Way::Lost })
            }
            EventKind::Asked { text } => {
                Some(StepKind::Message { from: CLIENT_LANE, to: lane, label: short(text), way: Way::Whole })
            }
            EventKind::Answered { text } => {
                Some(StepKind::Message { from: lane, to: CLIENT_LANE, label: short(text), way: Way::Whole })
            }
            EventKind::Note { text } => mark(Mark::Note, short(text)),
        }
    }

    fn way_of_sent(&mut self, index: usize, id: &'g str, to: usize) -> Option<Way> {
        let Some(&receipt) = self.receipts.get(id) else {
            return Some(if self.losses.contains(id) {
                Way::Lost
            } else if self.can_tell(to, at_ms(&self.events[index])) {
                Way::Missing
            } else {
                Way::Unseen
            });
        };
        // Causes come first, unless the clocks contradict each other.
        if receipt < index {
            return None;
        }
        let between = &self.events[index + 1..receipt];
        let (sender, receiver) = (&self.events[index].branch, &self.events[receipt].branch);
        if !between.iter().any(|event| event.branch == *receiver || (event.branch == *sender && is_weighty(event))) {
            self.drawn_receipts.insert(receipt);
            return Some(Way::Whole);
        }
        if !between.iter().any(|event| event.branch == *sender) {
            // Drawn where it is received.
            return None;
        }
        let number = self.numbers.len() + 1;
        self.numbers.insert(id, number);
        Some(Way::Departs(number))
    }

    fn way_of_received(&mut self, index: usize, id: &str) -> Option<Way> {
        if self.drawn_receipts.contains(&index) {
            return None;
        }
        Some(if self.receipts.get(id) != Some(&index) {
            Way::Again
        } else if let Some(&number) = self.numbers.get(id) {
            Way::Arrives(number)
        } else if self.sent.contains(id) {
            Way::Whole
        } else {
            Way::Inferred
        })
    }

    fn witness(&self, lane: usize) -> Option<&'g Witness> {
        let name = self.branch_lanes().contains(&lane).then(|| &self.lanes[lane])?;
        self.transfer.witnesses.iter().find(|witness| witness.branch == *name)
    }

    /// Whether the branch of a lane would remember what came at that time.
    fn can_tell(&self, lane: usize, sent_ms: i64) -> bool {
        self.witness(lane).is_some_and(|witness| {
            let remembers_from = witness.run.map(|run| run.remembers_from_unix_ms).or(witness.started_unix_ms);
            witness.unreachable.is_none()
                && remembers_from.is_none_or(|from| i64::try_from(from).is_ok_and(|ms| ms <= sent_ms))
        })
    }

    fn run(&self, lane: usize) -> Option<Run> {
        self.witness(lane).and_then(|witness| witness.run)
    }

    /// The starts of branches after the transfer began, by lane.
    fn restarts(&self) -> BTreeMap<usize, i64> {
        let started = |lane| self.witness(lane)?.started_unix_ms.and_then(|started| i64::try_from(started).ok());
        let lanes = self.branch_lanes().filter_map(|lane| Some((lane, started(lane)?)));
        lanes.filter(|&(lane, started_ms)| self.is_restart(lane, started_ms)).collect()
    }

    /// Whether a branch was started in the midst of the transfer. Where it tells of its run, the numbers of its events say
    /// so, and else the time: a clock that is a little off must not make a restart of a start shortly before.
    fn is_restart(&self, lane: usize, started_ms: i64) -> bool {
        let Some(run) = self.run(lane) else { return started_ms > self.first_ms };
        let name = self.lanes[lane].as_str();
        let own = || self.events.iter().filter(|event| event.branch.as_str() == name);
        match (own().any(|event| event.number <= run.after_event), own().any(|event| event.number > run.after_event)) {
            (true, is_since) => is_since,
            (false, _) => started_ms > self.first_ms && !self.was_known_at_the_beginning(name, run),
        }
    }

    /// Whether the transfer's first event knows of the branch's run already.
    fn was_known_at_the_beginning(&self, name: &str, run: Run) -> bool {
        let known = |event: &Event| {
            event.clock.iter().any(|(branch, count)| branch.as_str() == name && *count > run.after_event)
        };
        self.events.first().is_some_and(known)
    }

    /// Whether a branch remembers nothing of what it did before its start.
    fn has_forgotten(&self, lane: usize) -> bool {
        let name = self.lanes[lane].as_str();
        self.run(lane).is_none_or(|run| {
            !self.events.iter().any(|event| event.branch.as_str() == name && event.number <= run.after_event)
        })
    }

    fn title(&self) -> String {
        let outcome = self.outcome();
        let in_doubt = self.in_doubt();
        let doubt = if in_doubt.is_empty() { String::new() } else { format!(", in doubt at {}", in_doubt.join(", ")) };
        format!("Transfer {}: {outcome}{doubt}", self.transfer.txid)
    }

    fn outcome(&self) -> String {
        let first_word = |event: &Event| match &event.kind {
            EventKind::Recorded { record, .. } => record.split(' ').next().map(str::to_string),
            _ => None,
        };
        if self.commit_point.is_some() {
            "committed".into()
        } else if self.events.iter().filter_map(first_word).any(|word| word == "aborted") {
            "aborted".into()
        } else {
            self.transfer.outcome.clone().unwrap_or_else(|| UNDECIDED.into())
        }
    }

    /// The branches that have voted yes and know no outcome.
    fn in_doubt(&self) -> Vec<&str> {
        let last_state = |lane: &&String| {
            let states = self.events.iter().rev().filter(|event| event.branch.as_str() == lane.as_str());
            states.map(|event| &event.kind).find_map(|kind| match kind {
                EventKind::State { role, to, .. } if role == PARTICIPANT => Some(is_in_doubt(role, to)),
                _ => None,
            })
        };
        self.lanes[self.branch_lanes()]
            .iter()
            .filter(|lane| last_state(lane) == Some(true))
            .map(String::as_str)
            .collect()
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for lane in self.branch_lanes() {
            let name = &self.lanes[lane];
            match self.witness(lane) {
                None => remarks.push(format!("{name} is not known to the branch that was asked.")),
                Some(Witness { unreachable: Some(problem), .. }) => {
                    remarks.push(format!("{name} could not be asked: {problem}."));
                }
                Some(_) => {}
            }
        }
        if self.restarts().keys().any(|&lane| self.has_forgotten(lane)) {
            remarks
                .push("A branch remembers nothing from before its start; what it did is seen from the others.".into());
        }
        remarks
    }
}

fn restart(lane: usize, at_ms: i64) -> Step {
    Step { at_ms, kind: StepKind::Mark { lane, mark: Mark::Restart, text: "(re)started".into() } }
}

fn at_ms(event: &Event) -> i64 {
    i64::try_from(event.at_unix_ms).unwrap_or(i64::MAX)
}

/// Who asks for votes.
fn sender_of_prepare(event: &Event) -> Option<&str> {
    match &event.kind {
        EventKind::Sent { message, .. } if message == PREPARE => Some(event.branch.as_str()),
        EventKind::Received { message, from, .. } if message == PREPARE => Some(from),
        _ => None,
    }
}

/// The coordinator's forced record of the decision to commit.
fn is_commit_point(event: &Event) -> bool {
    let EventKind::Recorded { record, forced: true } = &event.kind else { return false };
    matches!(record.split(' ').next(), Some("committed" | "decided"))
}

/// Whether a party has voted yes and knows no outcome.
fn is_in_doubt(role: &str, state: &str) -> bool {
    role == PARTICIPANT && state.eq_ignore_ascii_case("prepared")
}

/// `Settled(Committed)` as `settled committed`.
fn state_name(state: &str) -> String {
    state.to_ascii_lowercase().replace('(', " ").replace(')', "")
}

/// Whether a branch is another after it: a message that left before must not seem to leave after.
fn is_weighty(event: &Event) -> bool {
    matches!(event.kind, EventKind::Recorded { .. } | EventKind::State { .. })
}

/// The text without the id, which stands in the title.
fn without_txid(text: &str, txid: &str) -> String {
    let words: Vec<&str> = text.split(' ').filter(|word| *word != txid).collect();
    words.join(" ")
}

//! Who asks: clients who repeat, outside programs that drive the raw actions, strangers who meddle, and operators.

use serde_json::Value;

use super::clients::{DoneAt, Leg, Told, Worth, weigh};
use super::world::World;
use crate::rng::Rng;

/// How long a client waits before it asks again, at most.
const REPEAT_MAX_MS: u64 = 3_000;
/// How often a client of a request without a final answer asks again while there are faults.
const TRIES_MAX: u64 = 12;

/// An outside program that moves money by `prepare_…`, `commit_…` and `abort_…`, and keeps its word.
#[derive(Clone, Debug)]
pub struct Program {
    /// The id that it has chosen.
    pub txid: String,
    /// Who pays, and who is paid, in the same amount.
    pub legs: [Leg; 2],
    /// How far it is.
    pub stage: Stage,
    next_ms: u64,
    prepared: [Option<bool>; 2],
    ended: [bool; 2],
    gives_up_ms: u64,
}

/// How far a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It gathers votes.
    Preparing,
    /// It has decided to commit.
    Committing,
    /// It has decided to abort.
    Aborting,
    /// Both branches have followed.
    Done,
}

impl Program {
    /// A program that begins then.
    #[must_use]
    pub fn new(number: u64, from: Leg, to: Leg, start_ms: u64, names: &[String]) -> Self {
        // Any program may choose any id; some look like a branch's own.
        let txid = format!("{}-program{number}", names[from.branch]);
        let to = Leg { paise: from.paise, ..to };
        Self {
            txid,
            legs: [from, to],
            stage: Stage::Preparing,
            next_ms: start_ms,
            prepared: [None; 2],
            ended: [false; 2],
            gives_up_ms: start_ms + 8_000,
        }
    }
}

/// Somebody who sends a raw action about a transfer that is not theirs.
#[derive(Clone, Copy, Debug)]
pub struct Stranger {
    /// When.
    pub at_ms: u64,
}

/// What a person was told to be settled.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The transfer.
    pub txid: String,
    /// The branch at which it was settled.
    pub branch: usize,
    /// How.
    pub is_committed: bool,
    /// When, and where the log ended then.
    pub done_at: DoneAt,
}

impl World {
    /// Sends the requests whose time has come.
    pub(super) fn ask_those_due(&mut self) {
        for number in 0..self.requests.len() {
            if self.requests[number].next_ms.is_some_and(|next_ms| next_ms <= self.now_ms) {
                self.send_request(number);
            }
        }
    }

    fn send_request(&mut self, number: usize) {
        let request = self.requests[number].clone();
        let body = if self.config.rewrites {
            request.body(&self.names, &mut self.rng)
        } else {
            request.body(&self.names, &mut Rng::new(number as u64))
        };
        let copy = request.copy.unwrap_or(self.serving[request.branch]);
        let was_up = self.copies[copy].process.is_some();
        let answer = self.ask(copy, &body);
        let is_lost = answer.is_some() && self.rng.chance(self.config.lost_answers_per_mille);
        let later_ms = self.now_ms + 50 + self.rng.below(REPEAT_MAX_MS);
        let asks_again = self.is_healed || request.tries < TRIES_MAX;
        // Not where it ends by now: a process that has waited for replicas in vain may be gone.
        let position = answer.as_ref().and_then(|answer| answer.position);
        let elsewhere = self.some_copy(request.branch);
        let may_have_forgotten = self.went_back(request.branch, request.first_ms.unwrap_or(0));
        let request = &mut self.requests[number];
        request.first_ms.get_or_insert(self.now_ms);
        request.next_ms = None;
        if was_up {
            request.tries += 1;
        }
        let worth = answer.as_ref().filter(|_| !is_lost).map(|answer| weigh(&answer.body));
        if !matches!(worth, Some(Worth::Done | Worth::Refused)) {
            request.copy = elsewhere;
        }
        match (worth, answer) {
            (Some(Worth::Done), Some(answer)) => {
                let result = answer.result().cloned().unwrap_or(Value::Null);
                if let Told::Done(before) = &request.told
                    && !is_same_result(before, &result)
                    && !may_have_forgotten
                {
                    let text = format!("request r{number} was answered {before}, and then {result}");
                    self.judge.accuse(text);
                    return;
                }
                request.told = Told::Done(result);
                request.done_at = Some(DoneAt { at_ms: self.now_ms, position });
                // Somebody may ask once more, long after.
                if request.has_id && self.rng.chance(200) && !self.is_healed {
                    request.next_ms = Some(later_ms + self.rng.below(30_000));
                }
            }
            (Some(Worth::Refused), Some(answer)) => {
                if let Told::Done(before) = &request.told
                    && !may_have_forgotten
                {
                    let text = format!("request r{number} was answered {before}, and then {}", answer.body);
                    self.judge.accuse(text);
                    return;
                }
                request.told = Told::Refused(answer.code().to_string());
            }
            (Some(Worth::NotNow), _) if !request.has_id => {
                request.told = Told::Refused("not now".into());
            }
            // Nobody was there to be asked: nothing has happened, id or not.
            (None, None) if !was_up => request.next_ms = asks_again.then_some(later_ms),
            (Some(Worth::NotNow), _) => request.next_ms = asks_again.then_some(later_ms),
            (Some(Worth::Later | Worth::Done | Worth::Refused) | None, _) => {
                request.next_ms = (request.has_id && asks_again).then_some(later_ms);
            }
        }
    }

    /// Any copy of a branch, or the one that serves it.
    fn some_copy(&mut self, branch: usize) -> Option<usize> {
        let copies: Vec<usize> = (0..self.copies.len()).filter(|copy| self.copies[*copy].branch == branch).collect();
        let any = copies[self.rng.index(copies.len())];
        self.rng.chance(400).then_some(any)
    }

    /// Whether a branch's store came back older since then, so that what it had promised may be lost.
    pub(super) fn went_back(&self, branch: usize, since_ms: u64) -> bool {
        self.setbacks.iter().any(|setback| setback.branch == branch && setback.at_ms >= since_ms)
    }

    /// Has each outside program do its next step.
    pub(super) fn run_programs(&mut self) {
        for index in 0..self.programs.len() {
            if self.programs[index].next_ms <= self.now_ms && self.programs[index].stage != Stage::Done {
                let pause_ms = 50 + self.rng.below(1_000);
                self.programs[index].next_ms = self.now_ms + pause_ms;
                self.run_program(index);
            }
        }
    }

    fn run_program(&mut self, index: usize) {
        let program = self.programs[index].clone();
        for (leg, place) in program.legs.iter().enumerate() {
            let is_over = match program.stage {
                Stage::Preparing => program.prepared[leg].is_some(),
                Stage::Committing | Stage::Aborting | Stage::Done => program.ended[leg],
            };
            if is_over {
                continue;
            }
            let what = ["withdraw", "deposit"][leg];
            let (action, params) = match program.stage {
                Stage::Preparing => {
                    let amount = format!("{}.{:02}", place.paise / 100, place.paise % 100);
                    ("prepare", format!(r#","account_no":{},"amount":{amount}"#, place.account))
                }
                Stage::Committing => ("commit", String::new()),
                Stage::Aborting | Stage::Done => ("abort", String::new()),
            };
            let body = format!(r#"{{"action":"{action}_{what}","params":{{"txid":"{}"{params}}}}}"#, program.txid);
            let answer = self.ask(self.serving[place.branch], &body);
            let is_lost = self.rng.chance(self.config.lost_answers_per_mille);
            let Some(answer) = answer.filter(|_| !is_lost) else { continue };
            self.program_hears(index, leg, weigh(&answer.body));
        }
        let program = &mut self.programs[index];
        program.stage = match (program.stage, program.prepared, program.ended) {
            (Stage::Preparing, [Some(true), Some(true)], _) => Stage::Committing,
            (Stage::Preparing, [Some(false), _] | [_, Some(false)], _) => Stage::Aborting,
            (Stage::Preparing, _, _) if self.now_ms >= program.gives_up_ms => Stage::Aborting,
            (_, _, [true, true]) => Stage::Done,
            (stage, _, _) => stage,
        };
    }

    fn program_hears(&mut self, index: usize, leg: usize, worth: Worth) {
        let branch = self.programs[index].legs[leg].branch;
        let is_touched = self.by_hand.contains(&self.programs[index].txid) || self.went_back(branch, 0);
        let program = &mut self.programs[index];
        match (program.stage, worth) {
            (_, Worth::Later | Worth::NotNow) => {}
            (Stage::Preparing, Worth::Done) => program.prepared[leg] = Some(true),
            (Stage::Preparing, Worth::Refused) => program.prepared[leg] = Some(false),
            (Stage::Committing | Stage::Aborting | Stage::Done, Worth::Done) => program.ended[leg] = true,
            // A person has settled it otherwise, or there never was anything to abort.
            (Stage::Aborting | Stage::Done, Worth::Refused) => program.ended[leg] = true,
            (Stage::Committing, Worth::Refused) if is_touched => program.ended[leg] = true,
            (Stage::Committing, Worth::Refused) => {
                let text = format!("{} was prepared at both branches, and a commit is refused", program.txid);
                self.judge.accuse(text);
            }
        }
    }

    /// Has strangers meddle whose time has come.
    pub(super) fn run_strangers(&mut self) {
        while self.strangers.first().is_some_and(|stranger| stranger.at_ms <= self.now_ms) {
            self.strangers.remove(0);
            self.meddle();
        }
    }

    /// A raw action about some transfer that is known of, at some branch.
    fn meddle(&mut self) {
        let known = self.judge.recent.len();
        if known == 0 {
            return;
        }
        // Mostly one that is under way still.
        let back = if self.rng.chance(750) { self.rng.index(known.min(3)) } else { self.rng.index(known) };
        let txid = self.judge.recent[known - 1 - back].clone();
        let parties = self.judge.transfers.get(&txid).cloned().unwrap_or_default();
        let is_program = self.programs.iter().any(|program| program.txid == txid);
        let is_at_party = !parties.is_empty() && self.rng.chance(600);
        let branch =
            if is_at_party { parties[self.rng.index(parties.len())] } else { self.rng.index(self.names.len()) };
        let side = if self.rng.chance(500) { "withdraw" } else { "deposit" };
        let copy = self.serving[branch];
        if self.rng.chance(500) && !is_program {
            let paise = 1000 * self.rng.between(1, 20);
            let paise = self.unique(paise);
            let account = 1001 + self.rng.below(self.config.accounts);
            // Whoever is named coordinates it: the one that does, this branch, or another one.
            let named = self.rng.index(self.names.len());
            let coordinator = format!(r#","coordinator":"{}""#, self.names[named]);
            let amount = format!("{}.{:02}", paise / 100, paise % 100);
            let body = format!(
                r#"{{"action":"prepare_{side}","params":{{"txid":"{txid}","account_no":{account},"amount":{amount}{coordinator}}}}}"#
            );
            self.judge.stranger_amounts.insert(paise, txid.clone());
            self.ask(copy, &body);
        } else if parties.contains(&branch) && !is_program {
            let action = if self.rng.chance(500) { "commit" } else { "abort" };
            let body = format!(r#"{{"action":"{action}_{side}","params":{{"txid":"{txid}"}}}}"#);
            self.ask(copy, &body);
        }
    }

    /// A person settles something that a branch shows as pending, one way or the other.
    pub(super) fn resolve_something(&mut self) {
        let branch = self.rng.index(self.names.len());
        self.resolve_at(self.serving[branch]);
    }

    /// A person settles something that a copy shows as pending.
    pub(super) fn resolve_at(&mut self, copy: usize) {
        let pending = self.pending_at(copy);
        if pending.is_empty() {
            return;
        }
        let txid = pending[self.rng.index(pending.len())].clone();
        let outcome = if self.rng.chance(500) { "commit" } else { "abort" };
        self.resolve(copy, &txid, outcome);
    }

    /// Settles one. A branch that shows something as pending lets it be settled.
    pub(super) fn resolve(&mut self, copy: usize, txid: &str, outcome: &str) {
        let body = format!(
            r#"{{"action":"resolve","params":{{"txid":"{txid}","outcome":"{outcome}","reason":"the seed wants it"}}}}"#
        );
        self.by_hand.insert(txid.to_string());
        let answer = self.ask(copy, &body);
        if let Some(answer) = answer.filter(|answer| answer.result().is_some()) {
            let done_at = DoneAt { at_ms: self.now_ms, position: answer.position };
            let branch = self.copies[copy].branch;
            self.resolved.push(Resolved { txid: txid.to_string(), branch, is_committed: outcome == "commit", done_at });
        }
    }

    /// The ids that a copy shows as pending.
    pub(super) fn pending_at(&mut self, copy: usize) -> Vec<String> {
        self.shown_at(copy).into_iter().map(|(txid, _)| txid).collect()
    }

    /// What a copy shows as pending: ids and states.
    pub(super) fn shown_at(&mut self, copy: usize) -> Vec<(String, String)> {
        let Some(answer) = self.look(copy, r#"{"action":"list_pending","params":{}}"#) else { return Vec::new() };
        let rows = answer.result().and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        rows.iter().filter_map(|row| Some((text(&row["txid"])?, text(&row["state"])?))).collect()
    }
}

/// A repeat gets the first answer; only how far the delivery is may have changed.
fn is_same_result(before: &Value, now: &Value) -> bool {
    let bare = |value: &Value| {
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("delivery");
        }
        value
    };
    bare(before) == bare(now)
}

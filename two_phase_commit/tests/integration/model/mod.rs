//! Every state of small configurations, by model checking (stateright).
//!
//! The machines are the real ones. The network is a set that only grows: a message in it may be delivered at
//! any time, any number of times, or never; so it loses, doubles, delays and reorders. A timer may fire at any
//! time. A write may be refused where it may be, may be durable without the process hearing of it, or be lost.
//! A crash between two sends needs no step of its own: it is a crash and a message that never arrives.
//! Where forgetting is allowed it may happen at any time, so no property rests on a retention.

mod process;

use process::{Arena, Facts, MessageId, Step};
use stateright::{Checker, Model, Property};
use two_phase_commit::Role;

/// The most processes: a coordinator and three participants.
const PROCESSES_MAX: usize = 4;
/// Rounds of "everything works" after which everything must be settled.
const ROUNDS_TO_THE_END: usize = 12;

const TOLD_COMMITTED: u8 = 1;
const TOLD_ABORTED: u8 = 2;

/// A configuration: one coordinator, some participants, one transfer from the one to all others.
struct TwoPhaseCommit {
    participants: usize,
    /// How often each process may crash, the coordinator first.
    crashes: [u8; PROCESSES_MAX],
    /// Whether any ledger may refuse.
    may_refuse: bool,
    /// Whether what is over may be forgotten, however early.
    may_forget: bool,
    arena: Arena,
}

/// Process 0 is the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    processes: [u32; PROCESSES_MAX],
    network: u64,
    told: u8,
}

impl TwoPhaseCommit {
    fn indexes(&self) -> std::ops::RangeInclusive<usize> {
        0..=self.participants
    }

    fn facts(&self, state: &State, index: usize) -> Facts {
        self.arena.facts(state.processes[index])
    }

    fn all_facts(&self, state: &State) -> impl Iterator<Item = Facts> {
        self.indexes().map(|index| self.facts(state, index))
    }

    fn participants(&self, state: &State) -> impl Iterator<Item = Facts> {
        self.all_facts(state).skip(1)
    }

    fn messages(&self, state: &State) -> impl Iterator<Item = MessageId> {
        bits(state.network)
    }

    fn apply(&self, state: &State, index: usize, step: Step) -> State {
        let effect = self.arena.effect(state.processes[index], step);
        let mut after = *state;
        after.processes[index] = effect.process;
        after.network |= effect.sent;
        after.told |= effect.told;
        after
    }

    /// The process that a message is for.
    fn receiver(&self, message: MessageId) -> usize {
        self.arena.message_facts(message).receiver
    }

    /// No party has moved its money where another has given its promise back, and none has moved it twice.
    fn is_atomic(&self, state: &State) -> bool {
        let is_committed = self.all_facts(state).any(|facts| facts.applied > 0);
        let is_aborted = self.all_facts(state).any(|facts| facts.is_released || facts.has_settled_abort);
        self.all_facts(state).all(|facts| facts.applied <= 1) && !(is_committed && is_aborted)
    }

    fn all_have_applied(&self, state: &State) -> bool {
        self.all_facts(state).all(|facts| facts.applied == 1)
    }

    /// Everything works from now on: does this state come to one end everywhere?
    fn comes_to_an_end(&self, state: &State) -> bool {
        let mut state = *state;
        for _ in 0..ROUNDS_TO_THE_END {
            if self.is_over(&state) {
                return self.all_have_applied(&state) || self.all_facts(&state).all(|facts| facts.applied == 0);
            }
            for index in self.indexes() {
                let facts = self.facts(&state, index);
                let step = if facts.is_down {
                    Step::Start
                } else if facts.is_recovering {
                    Step::Recover
                } else if facts.is_writing {
                    Step::Write
                } else if facts.is_ready_to_forget {
                    continue;
                } else {
                    Step::Timer
                };
                state = self.apply(&state, index, step);
            }
            // Old copies are gone, and what is sent now arrives.
            for message in bits(std::mem::take(&mut state.network)) {
                let receiver = self.receiver(message);
                if !self.facts(&state, receiver).is_down {
                    state = self.apply(&state, receiver, Step::Deliver(message));
                }
            }
        }
        false
    }

    /// Everyone is up, and nothing is held, in doubt or being written.
    fn is_over(&self, state: &State) -> bool {
        self.all_facts(state).all(|facts| {
            let is_up = !facts.is_down && !facts.is_recovering;
            is_up && !facts.is_writing && !facts.is_in_doubt && !facts.is_held
        })
    }
}

impl Model for TwoPhaseCommit {
    type State = State;
    type Action = (usize, Step);

    fn init_states(&self) -> Vec<State> {
        let mut processes = [0; PROCESSES_MAX];
        processes[0] = self.arena.coordinator(self.participants, self.crashes[0]);
        for (index, process) in processes.iter_mut().enumerate().take(self.participants + 1).skip(1) {
            *process = self.arena.participant(index, self.crashes[index]);
        }
        vec![State { processes, network: 0, told: 0 }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<(usize, Step)>) {
        for index in self.indexes() {
            let facts = self.facts(state, index);
            if facts.is_down {
                actions.push((index, Step::Start));
                continue;
            }
            if facts.is_recovering {
                actions.push((index, Step::Recover));
            } else if self.may_forget || !facts.is_ready_to_forget {
                actions.push((index, Step::Timer));
            }
            if facts.is_writing {
                actions.push((index, Step::Write));
            }
            if facts.is_writing_hold && self.may_refuse {
                actions.push((index, Step::Refuse));
            }
            if facts.crashes_left > 0 {
                actions.push((index, Step::Crash));
            }
            if facts.crashes_left > 0 && facts.is_writing {
                actions.push((index, Step::WriteAndCrash));
            }
        }
        for message in self.messages(state) {
            let receiver = self.receiver(message);
            if !self.facts(state, receiver).is_down {
                actions.push((receiver, Step::Deliver(message)));
            }
        }
    }

    fn next_state(&self, last: &State, (index, step): (usize, Step)) -> Option<State> {
        let state = self.apply(last, index, step);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("no party commits what another aborts", |model: &Self, state| model.is_atomic(state)),
            Property::always("nothing is applied before the commit point", |model: &Self, state| {
                model.facts(state, 0).applied == 1 || model.participants(state).all(|facts| facts.applied == 0)
            }),
            Property::always("the client is told one outcome, and the right one", |model: &Self, state| {
                let is_committed = model.facts(state, 0).applied == 1;
                state.told == 0 || state.told == if is_committed { TOLD_COMMITTED } else { TOLD_ABORTED }
            }),
            Property::always("a yes vote has its record on disk", |model: &Self, state| {
                model.messages(state).map(|message| model.arena.message_facts(message)).all(|message| {
                    let voter = model.facts(state, message.sender);
                    !message.is_yes || voter.is_held || voter.applied > 0 || voter.is_released
                })
            }),
            Property::always("a message goes to the machine that takes it", |model: &Self, state| {
                let mut messages = model.messages(state).map(|message| model.arena.message_facts(message));
                messages.all(|message| (message.role == Role::Coordinator) == (message.receiver == 0))
            }),
            Property::always("from every state everything can be finished", |model: &Self, state| {
                model.comes_to_an_end(state)
            }),
            Property::sometimes("everyone commits", |model: &Self, state| model.all_have_applied(state)),
            Property::sometimes("someone who was prepared aborts", |model: &Self, state| {
                model.participants(state).any(|facts| facts.is_released)
            }),
        ];
        if self.crashes[0] > 0 {
            properties.extend([
                Property::sometimes("someone is in doubt while the coordinator is down", |model: &Self, state| {
                    model.facts(state, 0).is_down && model.participants(state).any(|facts| facts.is_in_doubt)
                }),
                Property::sometimes("everyone commits although everyone has crashed", |model: &Self, state| {
                    model.all_have_applied(state) && model.all_facts(state).all(|facts| facts.crashes_left == 0)
                }),
            ]);
        }
        properties
    }
}

/// The numbers of the bits that are set.
fn bits(set: u64) -> impl Iterator<Item = MessageId> {
    let mut left = set;
    std::iter::from_fn(move || {
        let bit = (left != 0).then(|| left.trailing_zeros() as MessageId);
        left &= left.wrapping_sub(1);
        bit
    })
}

/// Goes through every state, and says how many there were.
fn check(participants: usize, crashes: [u8; PROCESSES_MAX], may_refuse: bool, may_forget: bool) {
    let arena = Arena::new();
    let model = TwoPhaseCommit { participants, crashes, may_refuse, may_forget, arena };
    let checker = model.checker().threads(2).spawn_bfs().join();
    let (unique, steps) = (checker.unique_state_count(), checker.state_count());
    println!("{unique} unique states, {steps} steps, {} different processes", checker.model().arena.process_count());
    checker.assert_properties();
    assert!(checker.is_done(), "every state was seen");
}

#[test]
fn one_participant_two_crashes_each_with_refusals_and_early_forgetting() {
    check(1, [2, 2, 0, 0], true, true);
}

#[test]
fn two_participants_with_refusals_and_early_forgetting() {
    check(2, [0, 0, 0, 0], true, true);
}

#[test]
fn two_participants_one_crash_each_with_refusals() {
    check(2, [1, 1, 1, 0], true, false);
}

#[test]
#[ignore = "millions of states, and the smaller ones above have each of its parts"]
fn two_participants_one_crash_each_with_refusals_and_early_forgetting() {
    check(2, [1, 1, 1, 0], true, true);
}

#[test]
fn three_participants_one_crash_each() {
    check(3, [1, 1, 1, 1], false, false);
}

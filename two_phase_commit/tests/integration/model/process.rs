//! One process of the model: a real site, its disk, and what is being written.
//!
//! There are few different processes in all the millions of states, so each is kept once, in an [`Arena`], and
//! a state names it by a number. What a step does to a process is worked out by the site once, too.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use protocol::{Money, TxId};
use two_phase_commit::{
    Backoff, Booked, CoordinatorState, Decision, LedgerAction, Leg, Message, Notice, OnDisk, Options, Outcome, Output,
    ParticipantState, PeerAddr, Record, Refusal, Role, Side, Site, Vote,
};

/// A message's number in the arena, and its bit in a set of messages.
pub type MessageId = u8;

/// The most different processes, messages and steps in a configuration. There are some thousands, some thirty
/// and seventy-one.
const PROCESSES_MAX: usize = 1 << 14;
const MESSAGES_MAX: usize = 64;
const STEPS_MAX: usize = 7 + MESSAGES_MAX;

/// What can happen to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A message arrives.
    Deliver(MessageId),
    /// The write is durable, and the machine hears of it.
    Write,
    /// The ledger refuses the hold.
    Refuse,
    /// The write is durable, and the process dies before it hears of it.
    WriteAndCrash,
    /// The process dies; what was not durable is lost.
    Crash,
    /// It starts, with an empty memory; a participant reads its log at once.
    Start,
    /// The coordinator reads its log.
    Recover,
    /// Its timer fires.
    Timer,
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub struct Effect {
    /// The process afterwards.
    pub process: u32,
    /// The messages that it sent, as a set of bits.
    pub sent: u64,
    /// What a client was told: bit 0 committed, bit 1 aborted.
    pub told: u8,
}

/// What the properties want to know about a process.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub is_down: bool,
    pub is_recovering: bool,
    pub is_writing: bool,
    pub is_writing_hold: bool,
    pub is_in_doubt: bool,
    pub is_ready_to_forget: bool,
    pub is_held: bool,
    pub is_released: bool,
    pub has_settled_abort: bool,
    pub applied: u8,
    pub crashes_left: u8,
}

/// What the properties want to know about a message.
#[derive(Clone, Copy, Debug)]
pub struct MessageFacts {
    pub sender: usize,
    pub receiver: usize,
    pub is_yes: bool,
    pub role: Role,
}

/// All processes and messages that were ever seen. What is known of one is written once and read without a lock.
pub struct Arena {
    ids: Mutex<Ids>,
    facts: Vec<OnceLock<Facts>>,
    effects: Vec<OnceLock<Effect>>,
    message_facts: Vec<OnceLock<MessageFacts>>,
}

#[derive(Default)]
struct Ids {
    processes: Vec<Process>,
    process_ids: HashMap<Process, u32>,
    messages: Vec<(PeerAddr, PeerAddr, Message)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    index: usize,
    /// What is in memory; `None` while down.
    site: Option<Site>,
    /// What is being written.
    pending: Option<Output>,
    /// What is on disk.
    log: Vec<Record>,
    ledger: Ledger,
    crashes_left: u8,
}

/// What has become of this party's legs, on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Ledger {
    is_held: bool,
    applied: u8,
    is_released: bool,
}

/// The address of a process.
pub fn address(index: usize) -> PeerAddr {
    PeerAddr::new(["C", "P1", "P2", "P3"][index])
}

pub fn txid() -> TxId {
    "T".parse().unwrap()
}

/// The clock stands still: `expire` stands for the time that passes, and a vote timeout of 0 lets the first
/// one of a voting coordinator give up (a prepare that is sent again is in the network already).
fn options(index: usize) -> Options {
    let mut options = Options::new(address(index));
    let steady = Backoff { first_ticks: 1, max_ticks: 1 };
    (options.resend, options.inquiry, options.vote_timeout_ticks) = (steady, steady, 0);
    options
}

fn legs(participants: usize) -> Vec<Leg> {
    let leg = |index: usize, branch, side, rupees| Leg {
        index: index as u32,
        branch,
        account: "1001".parse().unwrap(),
        amount: Money::from_rupees(rupees),
        side,
    };
    let mut legs = vec![leg(0, None, Side::Withdraw, participants as u32)];
    legs.extend((1..=participants).map(|index| leg(index, Some(address(index)), Side::Deposit, 1)));
    legs
}

impl Arena {
    /// An empty one.
    pub fn new() -> Self {
        fn unknown<T>(length: usize) -> Vec<OnceLock<T>> {
            (0..length).map(|_| OnceLock::new()).collect()
        }
        Self {
            ids: Mutex::default(),
            facts: unknown(PROCESSES_MAX),
            effects: unknown(PROCESSES_MAX * STEPS_MAX),
            message_facts: unknown(MESSAGES_MAX),
        }
    }

    /// A coordinator that has just begun a transfer to this many participants.
    pub fn coordinator(&self, participants: usize, crashes_left: u8) -> u32 {
        let mut site = Site::new(options(0));
        assert!(site.recover([]).is_empty());
        let begun = site.begin(txid(), legs(participants), "").unwrap();
        self.intern(Process { pending: Some(begun.output), ..Process::new(0, site, crashes_left) })
    }

    /// A participant that has heard nothing yet.
    pub fn participant(&self, index: usize, crashes_left: u8) -> u32 {
        let mut site = Site::new(options(index));
        assert!(site.recover([]).is_empty());
        self.intern(Process::new(index, site, crashes_left))
    }

    /// What is true of a process.
    pub fn facts(&self, process: u32) -> Facts {
        *self.facts[process as usize].get().unwrap()
    }

    /// What is true of a message.
    pub fn message_facts(&self, message: MessageId) -> MessageFacts {
        *self.message_facts[usize::from(message)].get().unwrap()
    }

    /// What a step does to a process.
    pub fn effect(&self, process: u32, step: Step) -> Effect {
        *self.effects[process as usize * STEPS_MAX + step.number()].get_or_init(|| self.work_out(process, step))
    }

    /// How many different processes there are.
    pub fn process_count(&self) -> usize {
        self.ids.lock().unwrap().processes.len()
    }

    fn work_out(&self, process: u32, step: Step) -> Effect {
        let (mut after, messages) = {
            let ids = self.ids.lock().unwrap();
            (ids.processes[process as usize].clone(), ids.messages.clone())
        };
        let (sent, told) = after.act(step, |message| messages[usize::from(message)].clone());
        let from = address(after.index);
        let number = |(to, message)| 1_u64 << self.intern_message((from.clone(), to, message));
        let sent = sent.into_iter().map(number).fold(0, |set, bit| set | bit);
        Effect { process: self.intern(after), sent, told }
    }

    fn intern(&self, process: Process) -> u32 {
        let mut ids = self.ids.lock().unwrap();
        if let Some(id) = ids.process_ids.get(&process) {
            return *id;
        }
        let id = ids.processes.len();
        assert!(id < PROCESSES_MAX, "a configuration has few different processes");
        self.facts[id].set(process.check()).unwrap();
        ids.processes.push(process.clone());
        ids.process_ids.insert(process, id as u32);
        id as u32
    }

    fn intern_message(&self, message: (PeerAddr, PeerAddr, Message)) -> MessageId {
        let mut ids = self.ids.lock().unwrap();
        if let Some(id) = ids.messages.iter().position(|other| *other == message) {
            return id as MessageId;
        }
        let id = ids.messages.len();
        assert!(id < MESSAGES_MAX, "a set of messages has 64 bits");
        let (from, to, content) = &message;
        let index_of = |peer: &PeerAddr| (0..4).find(|index| address(*index) == *peer).unwrap();
        let is_yes = matches!(content, Message::Vote { vote: Vote::Yes, .. });
        let facts = MessageFacts { sender: index_of(from), receiver: index_of(to), is_yes, role: content.role() };
        self.message_facts[id].set(facts).unwrap();
        ids.messages.push(message);
        id as MessageId
    }
}

impl Step {
    fn number(self) -> usize {
        match self {
            Self::Write => 0,
            Self::Refuse => 1,
            Self::WriteAndCrash => 2,
            Self::Crash => 3,
            Self::Start => 4,
            Self::Recover => 5,
            Self::Timer => 6,
            Self::Deliver(message) => 7 + usize::from(message),
        }
    }
}

impl Process {
    fn new(index: usize, site: Site, crashes_left: u8) -> Self {
        Self { index, site: Some(site), pending: None, log: vec![], ledger: Ledger::default(), crashes_left }
    }

    /// The machine at work here: each process has one party's part.
    fn role(&self) -> Role {
        if self.index == 0 { Role::Coordinator } else { Role::Participant }
    }

    /// Does a step: the messages that it sends, and what it tells the client.
    fn act(
        &mut self,
        step: Step,
        message: impl Fn(MessageId) -> (PeerAddr, PeerAddr, Message),
    ) -> (Vec<(PeerAddr, Message)>, u8) {
        let role = self.role();
        let outputs = match step {
            Step::Deliver(id) => {
                let (from, _, message) = message(id);
                let (on_disk, booked) = (self.look_up(), self.look_up_booked());
                vec![self.running().step(&from, &message, on_disk, &booked).output]
            }
            Step::Write => {
                let output = self.make_durable();
                vec![output, self.running().on_durable(role, &txid()).output]
            }
            Step::Refuse => {
                self.pending = None;
                let refusal = Refusal::new("refused", "the ledger refuses");
                vec![self.running().on_hold_refused(role, &txid(), refusal).output]
            }
            Step::WriteAndCrash => {
                let _ = self.make_durable();
                self.crash();
                vec![]
            }
            Step::Crash => {
                self.crash();
                vec![]
            }
            Step::Start => {
                self.site = Some(Site::new(options(self.index)));
                // A participant that reads its log takes nothing, so it might as well be down until it has.
                if role == Role::Participant { self.recover() } else { vec![] }
            }
            Step::Recover => self.recover(),
            Step::Timer => vec![self.running().expire(role, &txid()).output],
        };
        let (mut sent, mut told) = (Vec::new(), 0);
        for output in outputs {
            self.carry_out(output, &mut sent, &mut told);
        }
        (sent, told)
    }

    fn running(&mut self) -> &mut Site {
        self.site.as_mut().unwrap()
    }

    fn recover(&mut self) -> Vec<Output> {
        let log = self.log.clone();
        self.running().recover(log).into_iter().map(|step| step.output).collect()
    }

    fn crash(&mut self) {
        (self.site, self.pending) = (None, None);
        self.crashes_left -= 1;
    }

    fn look_up(&self) -> OnDisk {
        if self.ledger.applied > 0 {
            OnDisk::Settled(Outcome::Committed)
        } else if self.has_settled_abort() {
            OnDisk::Settled(Outcome::Aborted)
        } else {
            OnDisk::Nothing
        }
    }

    /// What the coordinator's books know when it has forgotten a commit.
    fn look_up_booked(&self) -> Booked {
        let begun = self.log.iter().find_map(|record| match record {
            Record::Begun(transfer) => Some(transfer),
            _ => None,
        });
        match begun {
            Some(transfer) if self.ledger.applied > 0 => Booked::Committed(transfer.participants()),
            Some(_) | None => Booked::Nothing,
        }
    }

    fn has_settled_abort(&self) -> bool {
        let is_abort = |record: &Record| matches!(record, Record::Settled { outcome: Outcome::Aborted, .. });
        self.log.iter().any(is_abort)
    }

    fn make_durable(&mut self) -> Output {
        let mut output = self.pending.take().unwrap();
        for op in std::mem::take(&mut output.ledger_ops) {
            match op.action {
                LedgerAction::Hold => self.ledger.is_held = true,
                LedgerAction::Apply => (self.ledger.is_held, self.ledger.applied) = (false, self.ledger.applied + 1),
                LedgerAction::Release => (self.ledger.is_held, self.ledger.is_released) = (false, true),
                LedgerAction::Suspense { .. } | LedgerAction::SettleElsewhere { .. } => {
                    panic!("nobody settles by hand here")
                }
            }
        }
        self.log.append(&mut output.records);
        output
    }

    /// Begins the write of an output, or sends and tells what it wants.
    fn carry_out(&mut self, output: Output, sent: &mut Vec<(PeerAddr, Message)>, told: &mut u8) {
        if output.needs_write() {
            assert!(self.pending.is_none(), "one write at a time for one transaction");
            self.pending = Some(output);
            return;
        }
        for notice in output.notices {
            match notice {
                Notice::Decided { decision: Decision::Committed, .. } => *told |= 1,
                Notice::Decided { decision: Decision::Aborted(_), .. } => *told |= 2,
                Notice::Forgotten { .. } => self.log.clear(),
                Notice::Delivered { .. }
                | Notice::Confirmed { .. }
                | Notice::Mixed { .. }
                | Notice::Contradicted { .. } => {}
            }
        }
        // "Undecided" changes nothing but whether an answer was heard, which is not worth the states.
        let matters = |message: &Message| !matches!(message, Message::Undecided { .. });
        let envelopes = output.messages.into_iter().filter(|envelope| matters(&envelope.message));
        sent.extend(envelopes.map(|envelope| (envelope.to, envelope.message)));
    }

    /// Asserts the machine's invariants, and says what is true of the process.
    fn check(&self) -> Facts {
        let (mut is_recovering, mut is_in_doubt, mut is_ready_to_forget) = (false, false, false);
        if let Some(site) = &self.site {
            site.check_invariants();
            is_recovering = site.coordinator().is_recovering();
            let state = site.participant().state(&txid());
            is_in_doubt = state == ParticipantState::Prepared;
            is_ready_to_forget = matches!(state, ParticipantState::Settled(_))
                || site.coordinator().state(&txid()) == CoordinatorState::Ended;
        }
        let is_hold = |output: &Output| output.ledger_ops.iter().any(|op| op.action == LedgerAction::Hold);
        Facts {
            is_down: self.site.is_none(),
            is_recovering,
            is_writing: self.pending.is_some(),
            is_writing_hold: self.pending.as_ref().is_some_and(is_hold),
            is_in_doubt,
            is_ready_to_forget,
            is_held: self.ledger.is_held,
            is_released: self.ledger.is_released,
            has_settled_abort: self.has_settled_abort(),
            applied: self.ledger.applied,
            crashes_left: self.crashes_left,
        }
    }
}

//! What is asked of the bank: transfers, cash, and transfers that an outside program drives by the raw actions.

use std::sync::Arc;

use protocol::{AccountNum, Money, TxId};
use two_phase_commit::{Leg, Message, Outcome, PeerAddr, Side, Tick, Transfer, Vote};

use crate::machines::config::Config;
use crate::machines::judge::PlacedLeg;
use crate::machines::ledger::Cash;
use crate::machines::network::Packet;
use crate::rng::Rng;

/// How often a program repeats a decision that is not acknowledged.
const PROGRAM_RESEND_TICKS: Tick = 15;

/// Something to do at a time.
#[derive(Clone, Debug)]
pub enum Task {
    /// Begin a transfer at a branch.
    Transfer {
        /// Who coordinates.
        branch: usize,
        /// The id.
        txid: TxId,
        /// The legs.
        legs: Vec<PlacedLeg>,
    },
    /// Do something at one branch.
    Cash {
        /// Where.
        branch: usize,
        /// The id.
        txid: TxId,
        /// What.
        cash: Cash,
    },
    /// Start an outside program.
    Program(Program),
}

/// Draws all tasks of a run, by time.
#[must_use]
pub fn draw(config: &Config, rng: &mut Rng) -> Vec<(Tick, Task)> {
    let mut tasks = Vec::new();
    let txid = |kind: &str, number: u64| format!("{kind}{number}").parse::<TxId>().expect("a short plain id");
    for number in 0..config.transfers {
        let branch = rng.index(config.branches);
        let count = rng.between(2, 4) as usize;
        let legs = draw_legs(config, rng, branch, count);
        tasks.push((rng.below(config.safety_ticks), Task::Transfer { branch, txid: txid("T", number), legs }));
    }
    for number in 0..config.cash {
        let account = draw_account(config, rng);
        let amount_paise = rng.between(1, 80) as i64 * 100;
        let cash = match rng.below(10) {
            0 => Cash::Close { account },
            1..=4 => Cash::Deposit { account, amount_paise },
            _ => Cash::Withdraw { account, amount_paise },
        };
        let branch = rng.index(config.branches);
        tasks.push((rng.below(config.safety_ticks), Task::Cash { branch, txid: txid("C", number), cash }));
    }
    for number in 0..config.programs {
        let count = rng.between(2, 3) as usize;
        let branch = rng.index(config.branches);
        let legs = draw_legs(config, rng, branch, count);
        let start = rng.below(config.safety_ticks);
        let patience_ticks = rng.between(5, 100);
        let program = Program::new(txid("P", number), legs, start + patience_ticks);
        tasks.push((start, Task::Program(program)));
    }
    tasks.sort_by_key(|(tick, _)| *tick);
    tasks
}

fn draw_account(config: &Config, rng: &mut Rng) -> AccountNum {
    AccountNum::new(1001 + rng.below(config.accounts)).expect("a small number above zero")
}

/// One or two withdrawals, mostly at the payer's branch, and deposits anywhere that add up to as much.
fn draw_legs(config: &Config, rng: &mut Rng, payer: usize, count: usize) -> Vec<PlacedLeg> {
    let withdrawals = if count > 2 && rng.chance(300) { 2 } else { 1 };
    let deposits = count - withdrawals;
    let amounts: Vec<i64> = (0..withdrawals.max(deposits)).map(|_| rng.between(1, 40) as i64 * 100).collect();
    let mut legs = Vec::new();
    for (side, number) in [(Side::Withdraw, withdrawals), (Side::Deposit, deposits)] {
        for position in 0..number {
            // The last leg of the shorter side carries all that the others have not.
            let amount_paise: i64 =
                if position + 1 == number { amounts[position..].iter().sum() } else { amounts[position] };
            let is_elsewhere = side == Side::Deposit || rng.chance(200);
            let branch = if is_elsewhere { rng.index(config.branches) } else { payer };
            let leg = Leg {
                index: legs.len() as u32,
                branch: None,
                account: draw_account(config, rng),
                amount: Money::from_paise(amount_paise).expect("a small amount"),
                side,
            };
            legs.push((branch, leg));
        }
    }
    legs
}

/// An outside program: prepares leg by leg, decides, and repeats its decision until it is acknowledged. It
/// sends no prepare after its decision, and it never forgets.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its transaction.
    pub txid: TxId,
    /// What it moves.
    pub legs: Vec<PlacedLeg>,
    votes: Vec<Option<bool>>,
    acknowledged: Vec<bool>,
    decide_at: Tick,
    next_at: Tick,
    outcome: Option<Outcome>,
}

impl Program {
    /// A program that gives up on votes then.
    #[must_use]
    pub fn new(txid: TxId, legs: Vec<PlacedLeg>, decide_at: Tick) -> Self {
        let (votes, acknowledged) = (vec![None; legs.len()], vec![false; legs.len()]);
        Self { txid, legs, votes, acknowledged, decide_at, next_at: 0, outcome: None }
    }

    /// The address from which it asks for a leg: a vote does not say which leg it is for.
    #[must_use]
    pub fn address(&self, leg: usize) -> PeerAddr {
        PeerAddr::new(&format!("client/{}/{leg}", self.txid))
    }

    /// Whether all is settled.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.acknowledged.iter().all(|acknowledged| *acknowledged)
    }

    /// Takes an answer to the request for a leg.
    pub fn receive(&mut self, leg: usize, message: &Message) {
        match message {
            Message::Vote { vote, .. } => {
                self.votes[leg].get_or_insert(*vote == Vote::Yes);
            }
            Message::Acknowledged { .. } => self.acknowledged[leg] = true,
            // A person has settled this leg the other way, which is final where no branch coordinates.
            Message::Rejected { .. } if self.outcome.is_some() => self.acknowledged[leg] = true,
            Message::Prepare(_)
            | Message::Decision { .. }
            | Message::Inquiry { .. }
            | Message::Undecided { .. }
            | Message::Rejected { .. } => {}
        }
    }

    /// Does what is due: the packets to send, and the decision, if it falls now.
    pub fn tick(&mut self, now: Tick, branches: &[PeerAddr]) -> (Vec<Packet>, Option<Outcome>) {
        let mut decided = None;
        if self.outcome.is_none() {
            let is_no = self.votes.contains(&Some(false));
            let is_yes = self.votes.iter().all(|vote| *vote == Some(true));
            if is_no || is_yes || now >= self.decide_at {
                decided = Some(if is_yes { Outcome::Committed } else { Outcome::Aborted });
                self.outcome = decided;
                self.next_at = now;
            }
        }
        if now < self.next_at {
            return (Vec::new(), decided);
        }
        self.next_at = now + PROGRAM_RESEND_TICKS;
        let mut packets = Vec::new();
        for (position, (branch, leg)) in self.legs.iter().enumerate() {
            let message = match self.outcome {
                None if self.votes[position].is_none() => {
                    let (txid, legs) = (self.txid.clone(), vec![leg.clone()]);
                    Message::Prepare(Arc::new(Transfer {
                        txid,
                        coordinator: None,
                        legs,
                        note: "".into(),
                        by_program: true,
                    }))
                }
                Some(outcome) if !self.acknowledged[position] => Message::Decision { txid: self.txid.clone(), outcome },
                None | Some(_) => continue,
            };
            packets.push(Packet { from: self.address(position), to: branches[*branch].clone(), message });
        }
        (packets, decided)
    }
}

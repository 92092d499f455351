//! One client: it draws a request, and sends it until it knows what became of it, or gives up.

use std::io;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{
    Fate, MOVING, NAMES, Operation, PASSING, POOR, REFUSALS, RICH, Row, World, assert_same, is_done, refusal, rupees,
};
use crate::branch_connection::{BranchConnection, Reply, frame, request};
use crate::random::Random;
use crate::wait::wait_for;

/// One in so many lost answers is not asked for again.
const GIVES_UP_ONE_IN: u64 = 3;
/// One in so many requests is sent twice in one write, and one over two connections at once.
const DOUBLED_ONE_IN: u64 = 8;

pub(super) struct Client<'w> {
    world: &'w World,
    name: String,
    random: Random,
    connections: [Option<BranchConnection>; 3],
    /// An earlier sending of the present request waits at a branch that is stopped, and may still be carried out.
    may_come_late: bool,
}

impl<'w> Client<'w> {
    pub(super) fn new(world: &'w World, name: String, random: Random) -> Self {
        Self { world, name, random, connections: [None, None, None], may_come_late: false }
    }

    pub(super) fn work(mut self) -> Vec<Operation> {
        let mut operations = Vec::new();
        while !self.world.is_over.load(Ordering::SeqCst) {
            let mut operation = self.draw(operations.len());
            operation.fate = self.carry_out(&operation);
            let moving = &self.world.moving[operation.home];
            match &operation.fate {
                Fate::Acknowledged(_) => moving.lock().unwrap().extend(operation.opens),
                // It is open still, and another one may close it.
                Fate::Refused(_) => moving.lock().unwrap().extend(operation.closes),
                Fate::Unknown => {}
            }
            operations.push(operation);
        }
        operations
    }

    fn paise(&self) -> i64 {
        self.world.next_paise.fetch_add(1, Ordering::SeqCst)
    }

    fn one_of(&mut self, accounts: &[i64]) -> i64 {
        accounts[self.random.below(accounts.len() as u64) as usize]
    }

    /// One that was opened meanwhile, or a poor one where there is none. It may be closed by the time it is named.
    fn moving(&mut self, branch: usize) -> i64 {
        let open = self.world.moving[branch].lock().unwrap().clone();
        self.one_of(if open.is_empty() { &POOR } else { &open })
    }

    /// Poor accounts pay more often than they are paid, so they run dry.
    fn payer(&mut self, home: usize) -> i64 {
        match self.random.below(8) {
            0..3 => self.one_of(&RICH),
            3..6 => self.one_of(&POOR),
            _ => self.moving(home),
        }
    }

    fn receiver(&mut self, branch: usize, payer: i64) -> i64 {
        let receiver = match self.random.below(8) {
            0..5 => self.one_of(&RICH),
            5 => self.one_of(&POOR),
            _ => self.moving(branch),
        };
        if receiver == payer { RICH[usize::from(payer == RICH[0])] } else { receiver }
    }

    /// Where a receiver is, by name or by address.
    fn place(&mut self, branch: usize, mut params: Value) -> Value {
        if self.random.below(2) == 0 {
            params["dest_branch"] = json!(NAMES[branch]);
        } else {
            params["dest_host"] = json!("127.0.0.1");
            params["dest_port"] = json!(self.world.ports[branch].load(Ordering::SeqCst));
        }
        params
    }

    fn draw(&mut self, number: usize) -> Operation {
        let home = self.random.below(3) as usize;
        let (from, paise) = (self.payer(home), self.paise());
        let to = self.receiver(home, from);
        let amount = rupees(paise);
        let (mut opens, mut closes) = (None, None);
        let (action, params, rows) = match self.random.below(12) {
            0 => {
                let rows = vec![(home, "deposit", 0, to, paise)];
                ("deposit", json!({"account_no": to, "amount": amount}), rows)
            }
            1 | 2 => {
                let rows = vec![(home, "withdrawal", from, 0, paise)];
                ("withdraw", json!({"account_no": from, "amount": amount}), rows)
            }
            3 | 4 => {
                let params = json!({"src_account_no": from, "dest_account_no": to, "amount": amount});
                ("local_transfer", params, vec![(home, "transfer", from, to, paise)])
            }
            5 => self.draw_batch(home, [from, to], paise),
            6..=8 => {
                let there = (home + 1 + self.random.below(2) as usize) % 3;
                let to = self.receiver(there, from);
                let params = json!({"src_account_no": from, "dest_account_no": to, "amount": amount});
                let rows = vec![(home, "transfer_out", from, 0, paise), (there, "transfer_in", 0, to, paise)];
                ("inter_branch_transfer", self.place(there, params), rows)
            }
            9 => self.draw_split(home, from),
            _ => {
                let mut moving = self.world.moving[home].lock().unwrap();
                if moving.len() < MOVING {
                    let account = self.world.next_account.fetch_add(1, Ordering::SeqCst);
                    opens = Some(account);
                    let params = json!({"account_no": account, "name": "Newcomer", "balance": amount});
                    ("create_account", params, vec![(home, "opening", 0, account, paise)])
                } else {
                    // Taken from the list, so that nobody else closes it; some that drew it before still pay from it.
                    let account = moving.remove(0);
                    closes = Some(account);
                    ("close_account", json!({"account_no": account}), Vec::new())
                }
            }
        };
        let id = format!("{} operation {number}", self.name);
        Operation { home, body: request(action, params, Some(&id)), rows, opens, closes, fate: Fate::Unknown }
    }

    fn draw_batch(&mut self, home: usize, accounts: [i64; 2], paise: i64) -> (&'static str, Value, Vec<Row>) {
        let paise = [paise, self.paise()];
        let deposit = |index: usize| {
            let params = json!({"account_no": accounts[index], "amount": rupees(paise[index])});
            json!({"action": "deposit", "params": params})
        };
        // In one transaction: a closed account refuses both.
        let params = json!({"requests": [deposit(0), deposit(1)], "atomic": true});
        ("batch", params, [0, 1].map(|index: usize| (home, "deposit", 0, accounts[index], paise[index])).into())
    }

    fn draw_split(&mut self, home: usize, from: i64) -> (&'static str, Value, Vec<Row>) {
        let (mut legs, mut rows) = (Vec::new(), Vec::new());
        for there in 0..NAMES.len() {
            let (to, paise) = (self.receiver(there, from), self.paise());
            legs.push(self.place(there, json!({"account_no": to, "amount": rupees(paise)})));
            rows.extend([(home, "transfer_out", from, 0, paise), (there, "transfer_in", 0, to, paise)]);
        }
        ("split_transfer", json!({"src_account_no": from, "legs": legs}), rows)
    }

    /// Asks until there is an answer, or gives up after a lost one.
    fn carry_out(&mut self, operation: &Operation) -> Fate {
        self.may_come_late = false;
        wait_for(&format!("{} is answered", operation.body), || {
            let fate = self.ask_once(operation);
            self.world.repeats.fetch_add(usize::from(fate.is_none()), Ordering::Relaxed);
            fate
        })
    }

    /// What became of it by this attempt; nothing when it has to be asked again.
    fn ask_once(&mut self, operation: &Operation) -> Option<Fate> {
        match self.attempt(operation) {
            Ok(reply) if is_done(&reply) => return Some(Fate::Acknowledged(reply.ok())),
            Ok(reply) if REFUSALS.contains(&refusal(&reply)) && self.may_come_late => return Some(Fate::Unknown),
            Ok(reply) if REFUSALS.contains(&refusal(&reply)) => return Some(Fate::Refused(refusal(&reply).into())),
            Ok(_) => {}
            Err(error) => {
                self.connections[operation.home] = None;
                // One that only waits may still be carried out, whenever the branch goes on: it must be asked again. One
                // whose branch is gone either was or never will be.
                let is_gone = !is_timeout(&error) && error.kind() != io::ErrorKind::ConnectionRefused;
                if is_gone && self.random.below(GIVES_UP_ONE_IN) == 0 {
                    return Some(Fate::Unknown);
                }
            }
        }
        self.world.is_broken.load(Ordering::SeqCst).then_some(Fate::Unknown)
    }

    /// Sends the request once, twice in one write, or over two connections at once.
    fn attempt(&mut self, operation: &Operation) -> io::Result<Reply> {
        let home = operation.home;
        let mut connection = match self.connections[home].take() {
            Some(connection) => connection,
            None => self.world.connect(home)?,
        };
        let replies = match self.random.below(DOUBLED_ONE_IN) {
            0 => {
                connection.send_bytes(&frame(&operation.body).repeat(2))?;
                vec![connection.receive(), connection.receive()]
            }
            1 => {
                let mut aside = self.world.connect(home)?;
                aside.send_text(&operation.body)?;
                connection.send_text(&operation.body)?;
                vec![connection.receive(), aside.receive()]
            }
            _ => vec![connection.try_text(&operation.body)],
        };
        self.world.repeats.fetch_add(replies.len() - 1, Ordering::Relaxed);
        self.may_come_late |= replies.iter().flat_map(|reply| reply.as_ref().err()).any(is_timeout);
        if replies.iter().all(Result::is_ok) {
            self.connections[home] = Some(connection);
        }
        agreed(replies, &operation.body)
    }
}

/// What several answers to one request under one id say together.
fn agreed(mut replies: Vec<io::Result<Reply>>, body: &str) -> io::Result<Reply> {
    let answers: Vec<&Reply> = replies.iter().flatten().collect();
    for reply in &answers {
        let is_known = is_done(reply) || REFUSALS.contains(&refusal(reply)) || PASSING.contains(&refusal(reply));
        assert!(is_known, "{body}: {}", reply.text);
    }
    let done: Vec<&Reply> = answers.into_iter().filter(|reply| is_done(reply)).collect();
    for pair in done.windows(2) {
        assert_same(&pair[0].ok(), &pair[1].ok(), body);
    }
    // It was done if one says so: a refusal is not kept, and the other sending may have come when there was money. If
    // none does, a lost answer might have, and one that says nothing of the outcome will.
    let rank = |reply: &io::Result<Reply>| match reply {
        Ok(reply) if is_done(reply) => 0,
        Err(_) => 1,
        Ok(reply) if PASSING.contains(&refusal(reply)) => 2,
        Ok(_) => 3,
    };
    let best = (0..replies.len()).min_by_key(|&index| rank(&replies[index])).expect("it was sent");
    replies.swap_remove(best)
}

/// Whether a read took too long; the protocol's own error stands around the system's.
fn is_timeout(error: &io::Error) -> bool {
    let text = error.to_string();
    ["timed out", "temporarily unavailable", "would block"].iter().any(|part| text.to_lowercase().contains(part))
}

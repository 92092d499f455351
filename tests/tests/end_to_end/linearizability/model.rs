//! A sequential bank, and whether a history of it can be put into one line.
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with Lowe's memory of
//! configurations that led nowhere ("Testing for linearizability", 2017). It is tested with histories that are wrong.

use std::collections::HashSet;

/// Accounts that are there all the time, and those that a round opens and closes; their numbers are of that round.
pub(crate) const LASTING: usize = 3;
pub(crate) const MOVING: usize = 2;
pub(crate) const ACCOUNTS: usize = LASTING + MOVING;
/// Requests of a round that several clients send under one id.
pub(crate) const IDS: usize = 4;
/// An account as it would be if there was nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    Absent,
    /// Its balance in paise.
    Open(i64),
    Closed,
}

/// The bank: its accounts, and the answers to what was done under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) accounts: [Account; ACCOUNTS],
    pub(crate) answers: [Option<Answer>; IDS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Deposit(usize, i64),
    Withdraw(usize, i64),
    Transfer(usize, usize, i64),
    Open(usize, i64),
    Close(usize),
    Balance(usize),
    /// All balances of the lasting accounts at one moment, by an atomic batch.
    Balances,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Balance(i64),
    Two(i64, i64),
    All([i64; LASTING]),
    Opened,
    PaidOut(i64),
    Insufficient,
    NoSuchAccount,
    AccountClosed,
    AccountExists,
}

impl Answer {
    /// Refusals have no effect and are not kept: under the same id it may be tried again.
    pub(crate) fn is_refusal(self) -> bool {
        match self {
            Self::Insufficient | Self::NoSuchAccount | Self::AccountClosed | Self::AccountExists => true,
            Self::Balance(_) | Self::Two(..) | Self::All(_) | Self::Opened | Self::PaidOut(_) => false,
        }
    }
}

impl State {
    /// Carries a request out, or finds that it was carried out before.
    fn carry_out(&mut self, request: Request) -> Answer {
        if let Some(answer) = request.id.and_then(|id| self.answers[id]) {
            return answer;
        }
        let answer = match self.operate(request.operation) {
            Ok(answer) | Err(answer) => answer,
        };
        if let Some(id) = request.id.filter(|_| !answer.is_refusal()) {
            self.answers[id] = Some(answer);
        }
        answer
    }

    /// An error is a refusal, before which nothing was changed.
    fn operate(&mut self, operation: Operation) -> Result<Answer, Answer> {
        match operation {
            Operation::Deposit(account, paise) => {
                let balance = self.balance(account)? + paise;
                self.accounts[account] = Account::Open(balance);
                Ok(Answer::Balance(balance))
            }
            Operation::Withdraw(account, paise) => {
                let balance = enough(self.balance(account)?, paise)?;
                self.accounts[account] = Account::Open(balance);
                Ok(Answer::Balance(balance))
            }
            Operation::Transfer(from, to, paise) => {
                // Both accounts are looked at before the money is.
                let (payer, receiver) = (self.balance(from)?, self.balance(to)?);
                let (payer, receiver) = (enough(payer, paise)?, receiver + paise);
                self.accounts[from] = Account::Open(payer);
                self.accounts[to] = Account::Open(receiver);
                Ok(Answer::Two(payer, receiver))
            }
            Operation::Open(account, paise) => match self.accounts[account] {
                Account::Absent => {
                    self.accounts[account] = Account::Open(paise);
                    Ok(Answer::Opened)
                }
                Account::Open(_) | Account::Closed => Err(Answer::AccountExists),
            },
            Operation::Close(account) => {
                let balance = self.balance(account)?;
                self.accounts[account] = Account::Closed;
                Ok(Answer::PaidOut(balance))
            }
            Operation::Balance(account) => self.balance(account).map(Answer::Balance),
            Operation::Balances => {
                let mut all = [0; LASTING];
                for (account, balance) in all.iter_mut().enumerate() {
                    *balance = self.balance(account)?;
                }
                Ok(Answer::All(all))
            }
        }
    }

    fn balance(&self, account: usize) -> Result<i64, Answer> {
        match self.accounts[account] {
            Account::Open(balance) => Ok(balance),
            Account::Absent => Err(Answer::NoSuchAccount),
            Account::Closed => Err(Answer::AccountClosed),
        }
    }
}

fn enough(balance: i64, paise: i64) -> Result<i64, Answer> {
    if balance >= paise { Ok(balance - paise) } else { Err(Answer::Insufficient) }
}

/// An operation, and which of the round's ids it is sent under, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) operation: Operation,
    pub(crate) id: Option<usize>,
}

impl From<Operation> for Request {
    fn from(operation: Operation) -> Self {
        Self { operation, id: None }
    }
}

/// One request of a history. Without an answer it may have taken effect or not, before its client knew of the loss.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) request: Request,
    pub(crate) invoked: u64,
    pub(crate) returned: u64,
    pub(crate) answer: Option<Answer>,
}

/// Whether the operations can be put into one line that respects their times and explains their answers.
pub(crate) fn is_linearizable(start: State, history: &[Event]) -> bool {
    assert!(history.len() <= 64, "a history's operations are the bits of a word");
    let all = (0..history.len()).fold(0_u64, |bits, index| bits | 1 << index);
    let mut dead_ends = HashSet::new();
    search(start, all, history, &mut dead_ends)
}

fn search(state: State, remaining: u64, history: &[Event], dead_ends: &mut HashSet<(u64, State)>) -> bool {
    let left = || history.iter().enumerate().filter(|(index, _)| remaining & 1 << index != 0);
    let answered = left().filter(|(_, event)| event.answer.is_some());
    let Some(first_return) = answered.map(|(_, event)| event.returned).min() else { return true };
    if !dead_ends.insert((remaining, state)) {
        return false;
    }
    // Next can be whatever was invoked before anything that is left had returned.
    left().filter(|(_, event)| event.invoked < first_return).any(|(index, event)| {
        let mut after = state;
        let answer = after.carry_out(event.request);
        if event.answer.is_some_and(|seen| seen != answer) {
            return false;
        }
        // What was lost before this one began has not happened, if it has not happened by now.
        let too_late = left().filter(|(_, lost)| lost.answer.is_none() && lost.returned < event.invoked);
        let too_late = too_late.fold(0_u64, |bits, (index, _)| bits | 1 << index);
        search(after, remaining & !(1 << index) & !too_late, history, dead_ends)
    })
}

fn event(invoked: u64, returned: u64, operation: Operation, answer: Option<Answer>) -> Event {
    Event { request: operation.into(), invoked, returned, answer }
}

fn event_with_id(invoked: u64, returned: u64, operation: Operation, answer: Option<Answer>) -> Event {
    Event { request: Request { operation, id: Some(0) }, invoked, returned, answer }
}

/// Three lasting accounts, 0.10 in the first; the others are not there yet.
fn small_bank() -> State {
    let [ten, none] = [10, 0].map(Account::Open);
    State { accounts: [ten, none, none, Account::Absent, Account::Absent], answers: [None; IDS] }
}

#[test]
fn the_search_accepts_what_can_be_explained() {
    use Operation::{Balance, Close, Deposit, Open, Transfer, Withdraw};
    let check = |history: &[Event]| assert!(is_linearizable(small_bank(), history), "{history:?}");
    check(&[]);
    // Two that overlap, in the order in which they did not begin.
    check(&[
        event(0, 9, Withdraw(0, 10), Some(Answer::Insufficient)),
        event(1, 8, Withdraw(0, 5), Some(Answer::Balance(5))),
    ]);
    // A read that overlaps a write may see it or not.
    for seen in [10, 15] {
        check(&[
            event(0, 5, Deposit(0, 5), Some(Answer::Balance(15))),
            event(1, 2, Balance(0), Some(Answer::Balance(seen))),
        ]);
    }
    // What was lost may have happened or not.
    for seen in [10, 3] {
        check(&[event(0, 5, Transfer(0, 1, 7), None), event(6, 7, Balance(0), Some(Answer::Balance(seen)))]);
    }
    // What was done under an id is not done again, and a refusal is not kept.
    check(&[
        event_with_id(0, 1, Withdraw(0, 6), Some(Answer::Balance(4))),
        event(2, 3, Deposit(0, 1), Some(Answer::Balance(5))),
        event_with_id(4, 5, Withdraw(0, 6), Some(Answer::Balance(4))),
        event(6, 7, Balance(0), Some(Answer::Balance(5))),
    ]);
    check(&[
        event_with_id(0, 1, Withdraw(1, 6), Some(Answer::Insufficient)),
        event(2, 3, Deposit(1, 6), Some(Answer::Balance(6))),
        event_with_id(4, 5, Withdraw(1, 6), Some(Answer::Balance(0))),
    ]);
    // A lost one that was not done is done by its repeat.
    check(&[
        event_with_id(0, 1, Deposit(1, 5), None),
        event(2, 3, Balance(1), Some(Answer::Balance(0))),
        event_with_id(4, 5, Deposit(1, 5), Some(Answer::Balance(5))),
    ]);
    // Opened once and closed for ever.
    check(&[
        event(0, 1, Balance(3), Some(Answer::NoSuchAccount)),
        event(2, 9, Open(3, 7), Some(Answer::AccountExists)),
        event(2, 8, Open(3, 5), Some(Answer::Opened)),
        event(2, 7, Close(3), Some(Answer::PaidOut(5))),
        event(10, 11, Transfer(0, 3, 1), Some(Answer::AccountClosed)),
    ]);
}

#[test]
fn the_search_rejects_what_cannot_be_explained() {
    use Operation::{Balance, Balances, Deposit, Transfer, Withdraw};
    let reject = |history: &[Event]| assert!(!is_linearizable(small_bank(), history), "{history:?}");
    // A stale read: the deposit was over when it began.
    reject(&[
        event(0, 1, Deposit(0, 5), Some(Answer::Balance(15))),
        event(2, 3, Balance(0), Some(Answer::Balance(10))),
    ]);
    // A double spend.
    reject(&[
        event(0, 9, Withdraw(0, 10), Some(Answer::Balance(0))),
        event(1, 8, Withdraw(0, 10), Some(Answer::Balance(0))),
    ]);
    // A lost update.
    reject(&[
        event(0, 9, Deposit(0, 1), Some(Answer::Balance(11))),
        event(1, 8, Deposit(0, 1), Some(Answer::Balance(11))),
    ]);
    // Half a transfer.
    reject(&[
        event(0, 9, Transfer(0, 1, 4), Some(Answer::Two(6, 4))),
        event(1, 8, Balances, Some(Answer::All([6, 0, 0]))),
    ]);
    // Seen, and then not seen any more.
    reject(&[
        event(0, 9, Deposit(0, 5), Some(Answer::Balance(15))),
        event(1, 2, Balance(0), Some(Answer::Balance(15))),
        event(3, 4, Balance(0), Some(Answer::Balance(10))),
    ]);
    // Two reads that see two writes in different orders.
    reject(&[
        event(0, 9, Deposit(0, 5), Some(Answer::Balance(15))),
        event(0, 9, Deposit(1, 5), Some(Answer::Balance(5))),
        event(1, 5, Balances, Some(Answer::All([15, 0, 0]))),
        event(1, 5, Balances, Some(Answer::All([10, 5, 0]))),
    ]);
    // Lost, not there after the crash, and there later.
    reject(&[
        event(0, 1, Deposit(0, 5), None),
        event(2, 3, Balance(0), Some(Answer::Balance(10))),
        event(4, 5, Balance(0), Some(Answer::Balance(15))),
    ]);
    // Refused although there was enough all the time.
    reject(&[event(0, 1, Withdraw(0, 10), Some(Answer::Insufficient))]);
}

#[test]
fn the_search_rejects_what_repeats_openings_and_closings_cannot_explain() {
    use Operation::{Balance, Close, Deposit, Open, Withdraw};
    let reject = |history: &[Event]| assert!(!is_linearizable(small_bank(), history), "{history:?}");
    // Done twice under one id.
    reject(&[
        event_with_id(0, 9, Deposit(0, 1), Some(Answer::Balance(11))),
        event_with_id(1, 8, Deposit(0, 1), Some(Answer::Balance(12))),
    ]);
    // Answered alike, and done twice all the same.
    reject(&[
        event_with_id(0, 1, Deposit(0, 1), Some(Answer::Balance(11))),
        event_with_id(2, 3, Deposit(0, 1), Some(Answer::Balance(11))),
        event(4, 5, Balance(0), Some(Answer::Balance(12))),
    ]);
    // Lost, seen, and done again by its repeat.
    reject(&[
        event_with_id(0, 1, Deposit(0, 5), None),
        event(2, 3, Balance(0), Some(Answer::Balance(15))),
        event_with_id(4, 5, Deposit(0, 5), Some(Answer::Balance(20))),
    ]);
    // Done, and refused when it was repeated: there is nothing left.
    reject(&[
        event_with_id(0, 1, Withdraw(0, 10), Some(Answer::Balance(0))),
        event_with_id(2, 3, Withdraw(0, 10), Some(Answer::Insufficient)),
    ]);
    // Paid into after it was closed, closed twice, closed without what was in it, opened again.
    let closed = event(0, 1, Close(0), Some(Answer::PaidOut(10)));
    reject(&[closed, event(2, 3, Deposit(0, 1), Some(Answer::Balance(1)))]);
    reject(&[closed, event(2, 3, Close(0), Some(Answer::PaidOut(0)))]);
    reject(&[event(0, 1, Close(0), Some(Answer::PaidOut(9)))]);
    reject(&[closed, event(2, 3, Open(0, 1), Some(Answer::Opened))]);
}

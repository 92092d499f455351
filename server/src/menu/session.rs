//! The dialogue as a pure machine: a line in, lines and what comes next out.
//!
//! - A [`Step`] that waits for the client ends in exactly one line that asks for an answer; one that ends the
//!   session ends in `@EXIT`; one that asks the bank shows nothing yet, so a client gets one turn at a time.
//! - A proper answer that is refused ends its operation at once: `@FAIL`, `@PAUSE`, the menu. One that was
//!   carried out ends in `@DONE`, `@PAUSE`, the menu. Refresh, log in and log out show their menu directly.
//! - A bad line (over-long, not UTF-8, a control character) is no answer: `@FAIL` and the same question.
//! - The customer's menu is never shown from memory: each display asks the bank first.
//! - Requests name the account that logged in; without a log-in there is no request but [`Request::LogIn`].
//!
//! Idle limits, disconnection and shutdown are the driver's.

use std::fmt;
use std::sync::Arc;

use protocol::answer::{Closed, Delivery, NewBalance};
use protocol::menu_line::{BadLine, ServerLine};
use protocol::{BranchName, Money, TxId};
use two_phase_commit::Outcome;

use super::listing::{Listing, ListingKind};
use super::question::{Answer, OpenQuestion, Question};
use super::receiver::Receiver;
use super::request::{LogInAs, Refusal, Reply, Request};
use super::table;
use super::texts::Texts;
use crate::service::operations::OperationResult;

/// What happened to the session.
pub enum Input {
    /// The client is there. The first input, and only that.
    Start,
    /// A proper line from the client.
    Line(String),
    /// A line that was swallowed.
    BadLine(BadLine),
    /// What the bank answers to [`Next::Dispatch`].
    Reply(Result<Reply, Refusal>),
}

impl fmt::Debug for Input {
    /// Hides the line, which may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("Start"),
            Self::Line(line) => write!(f, "Line({} bytes)", line.len()),
            Self::BadLine(bad) => f.debug_tuple("BadLine").field(bad).finish(),
            Self::Reply(reply) => f.debug_tuple("Reply").field(reply).finish(),
        }
    }
}

/// What the client is shown, and what comes next.
#[derive(Debug)]
#[must_use]
pub struct Step {
    /// In order; empty exactly when the bank is asked.
    pub lines: Vec<ServerLine>,
    /// What the driver does then.
    pub next: Next,
}

/// What the driver does after showing a step's lines.
#[derive(Debug)]
pub enum Next {
    /// Wait for a line: the last line shown is a `@PROMPT`, `@PASS` or `@PAUSE`.
    Answer,
    /// Have the bank do this, and step with its reply.
    Dispatch(Request),
    /// Close: the last line shown is an `@EXIT`.
    End,
}

/// One client's dialogue.
#[derive(Debug)]
pub struct MenuSession {
    texts: Arc<Texts>,
    branch: BranchName,
    who: Option<LogInAs>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Before the first input.
    New,
    /// A menu was shown and its letter is awaited.
    Choosing,
    /// A question of a form was asked.
    Asking(Question),
    /// An operation is over and Enter is awaited.
    Pausing,
    /// The customer can't be shown the account any more; Enter is awaited, then the session is logged out.
    PausingBeforeLogOut,
    /// Between two pages.
    Paging(Listing, Request),
    /// The bank was asked.
    Waiting(Waiting),
    /// After the end.
    Ended,
}

/// What the bank was asked, as far as its answer to the client needs it.
#[derive(Debug)]
enum Waiting {
    LogIn(LogInAs),
    CustomerMenu,
    Deposit(Money),
    Withdraw(Money),
    Transfer(Receiver, Money),
    ChangePassword,
    Open,
    Close,
    Listing(Listing),
    Audit,
    Resolve(TxId, Outcome),
    LogOut,
}

impl MenuSession {
    /// A session that has not begun. `branch` is this branch's own name.
    #[must_use]
    pub fn new(texts: Arc<Texts>, branch: BranchName) -> Self {
        Self { texts, branch, who: None, state: State::New }
    }

    /// Who is logged in.
    #[must_use]
    pub fn logged_in(&self) -> Option<LogInAs> {
        self.who
    }

    /// Takes one input.
    ///
    /// # Panics
    /// If the input is not what the step before asked for, or a reply is to another request: both are
    /// mistakes of this program, and end this session alone.
    pub fn step(&mut self, input: Input) -> Step {
        let state = std::mem::replace(&mut self.state, State::Ended);
        match (state, input) {
            (State::New, Input::Start) => self.menu(),
            (State::Waiting(waiting), Input::Reply(Ok(reply))) => self.reply(waiting, reply),
            (State::Waiting(waiting), Input::Reply(Err(refusal))) => self.refusal(&waiting, &refusal),
            (state, Input::Line(line)) => self.line(state, &line),
            (state, Input::BadLine(bad)) => self.ask(vec![ServerLine::Fail(bad.to_string())], state),
            (state, input) => panic!("{input:?} in the state {state:?}"),
        }
    }

    fn line(&mut self, state: State, line: &str) -> Step {
        match state {
            State::Choosing => self.choose(line),
            State::Asking(question) => match question.answer(line) {
                Ok(Answer::Ask(next)) => self.ask(Vec::new(), State::Asking(next)),
                Ok(Answer::Dispatch(request)) => self.dispatch(request),
                Err(refusal) => self.failed(refusal.as_str()),
            },
            State::Pausing => self.menu(),
            State::PausingBeforeLogOut => self.log_out(),
            State::Paging(_, _) if line.trim().eq_ignore_ascii_case("q") => self.menu(),
            State::Paging(listing, request) => self.dispatch_as(request, Waiting::Listing(listing)),
            State::New | State::Waiting(_) | State::Ended => panic!("a line in the state {state:?}"),
        }
    }

    /// Takes a menu's letter.
    fn choose(&mut self, line: &str) -> Step {
        let letter = line.trim().to_ascii_lowercase();
        match self.who {
            None => match letter.as_str() {
                "a" => self.ask(Vec::new(), State::Asking(Question::LogInAccount)),
                "b" => Step { lines: vec![ServerLine::Exit("Goodbye.".to_string())], next: Next::End },
                _ => self.failed("Please choose a or b."),
            },
            Some(LogInAs::Customer(account)) => match letter.as_str() {
                "a" => self.menu(),
                "b" => self.ask(Vec::new(), State::Asking(Question::DepositAmount { account })),
                "c" => self.ask(Vec::new(), State::Asking(Question::WithdrawAmount { account })),
                "d" => self.ask(Vec::new(), State::Asking(Question::TransferReceiver { account })),
                "e" => self.dispatch(Listing::first(ListingKind::History(account))),
                "f" => self.log_out(),
                "g" => self.ask(Vec::new(), State::Asking(Question::PresentPassword { account })),
                _ => self.failed("Please choose a letter from a to g."),
            },
            Some(LogInAs::Administrator) => match letter.as_str() {
                "a" => self.ask(Vec::new(), State::Asking(Question::Open(OpenQuestion::Aadhaar))),
                "b" => self.ask(Vec::new(), State::Asking(Question::CloseAccount)),
                "c" => self.dispatch(Listing::first(ListingKind::Accounts)),
                "d" => self.dispatch(Listing::first(ListingKind::Transactions)),
                "e" => self.log_out(),
                "f" => self.dispatch(Request::Audit),
                "g" => self.dispatch(Listing::first(ListingKind::Branches)),
                "h" => self.ask(Vec::new(), State::Asking(Question::ResolveTransfer)),
                _ => self.failed("Please choose a letter from a to h."),
            },
        }
    }

    fn refusal(&mut self, waiting: &Waiting, refusal: &Refusal) -> Step {
        match waiting {
            Waiting::LogOut => self.menu(),
            _ if refusal.ends_session() => {
                self.ask(vec![ServerLine::Fail(refusal.to_string())], State::PausingBeforeLogOut)
            }
            Waiting::CustomerMenu => self.ask(vec![ServerLine::Fail(refusal.to_string())], State::PausingBeforeLogOut),
            Waiting::LogIn(_)
            | Waiting::Deposit(_)
            | Waiting::Withdraw(_)
            | Waiting::Transfer(_, _)
            | Waiting::ChangePassword
            | Waiting::Open
            | Waiting::Close
            | Waiting::Listing(_)
            | Waiting::Audit
            | Waiting::Resolve(..) => self.failed(refusal.as_str()),
        }
    }

    fn reply(&mut self, waiting: Waiting, reply: Reply) -> Step {
        match (waiting, reply) {
            (Waiting::LogIn(who), Reply::LoggedIn) => {
                self.who = Some(who);
                self.menu()
            }
            (Waiting::LogOut, Reply::LoggedOut) => self.menu(),
            (Waiting::CustomerMenu, Reply::Account(account)) => {
                self.ask(self.texts.customer(&self.branch, &account), State::Choosing)
            }
            (Waiting::Deposit(amount), Reply::Done(OperationResult::NewBalance(NewBalance { balance }))) => {
                self.done(&format!("Rs {amount} deposited. The balance is Rs {balance}."))
            }
            (Waiting::Withdraw(amount), Reply::Done(OperationResult::NewBalance(NewBalance { balance }))) => {
                self.done(&format!("Rs {amount} withdrawn. The balance is Rs {balance}."))
            }
            (Waiting::Transfer(to, amount), Reply::Done(OperationResult::Transferred(done))) => {
                self.done(&format!("Rs {amount} transferred to {to}. The balance is Rs {}.", done.from.balance))
            }
            (Waiting::Transfer(to, amount), Reply::Transferred { balance, txid, delivery }) => {
                let balance = balance.map(|balance| format!(" The balance is Rs {balance}.")).unwrap_or_default();
                self.done(&match delivery {
                    Delivery::Done => format!("Rs {amount} transferred to {to} (transfer {txid}).{balance}"),
                    Delivery::Pending => format!(
                        "Rs {amount} will arrive at {to} (transfer {txid}): it is paid, and its branch has not yet answered.{balance}"
                    ),
                })
            }
            (Waiting::ChangePassword, Reply::PasswordChanged) => self.done("The password is changed."),
            (Waiting::Open, Reply::Opened { account, opening_balance }) => {
                self.done(&format!("Account {account} is open, with Rs {opening_balance} in it."))
            }
            (Waiting::Close, Reply::Done(OperationResult::Closed(Closed { account_no, paid_out }))) => {
                self.done(&format!("Account {account_no} is closed; Rs {paid_out} was paid out."))
            }
            (Waiting::Listing(listing), reply) => self.page(listing, reply),
            (Waiting::Audit, Reply::Audit(report)) => {
                let mut lines = table::audit(&report);
                // Findings are a failure, so that a script which audits can't overlook them.
                lines.push(match report.findings.len() {
                    0 => ServerLine::Done("The books are in order.".to_string()),
                    1 => ServerLine::Fail("The books are not in order: 1 finding.".to_string()),
                    count => ServerLine::Fail(format!("The books are not in order: {count} findings.")),
                });
                self.ask(lines, State::Pausing)
            }
            (Waiting::Resolve(txid, outcome), Reply::Resolved) => self.done(&format!(
                "Transfer {txid} is {outcome} here by hand. If its coordinator says otherwise, the audit will show it."
            )),
            (waiting, reply) => panic!("{reply:?} to {waiting:?}"),
        }
    }

    fn page(&mut self, mut listing: Listing, reply: Reply) -> Step {
        let page = listing.page(reply);
        let mut lines = page.lines;
        match page.next {
            Some(request) => self.ask(lines, State::Paging(listing, request)),
            None => {
                lines.push(ServerLine::Done(listing.summary()));
                self.ask(lines, State::Pausing)
            }
        }
    }

    /// Shows the menu of whoever is there; a customer's needs the bank first.
    fn menu(&mut self) -> Step {
        match self.who {
            None => self.ask(self.texts.login(&self.branch), State::Choosing),
            Some(LogInAs::Administrator) => self.ask(self.texts.admin(&self.branch), State::Choosing),
            Some(LogInAs::Customer(account)) => self.dispatch(Request::Account { account }),
        }
    }

    fn log_out(&mut self) -> Step {
        match self.who.take() {
            Some(who) => self.dispatch(Request::LogOut { who }),
            None => self.menu(),
        }
    }

    fn failed(&mut self, reason: &str) -> Step {
        self.ask(vec![ServerLine::Fail(reason.to_string())], State::Pausing)
    }

    fn done(&mut self, outcome: &str) -> Step {
        self.ask(vec![ServerLine::Done(outcome.to_string())], State::Pausing)
    }

    /// Shows the lines and the state's own question after them.
    fn ask(&mut self, mut lines: Vec<ServerLine>, state: State) -> Step {
        lines.push(state.prompt());
        self.state = state;
        Step { lines, next: Next::Answer }
    }

    fn dispatch(&mut self, request: Request) -> Step {
        let waiting = Waiting::of(&request);
        self.dispatch_as(request, waiting)
    }

    fn dispatch_as(&mut self, request: Request, waiting: Waiting) -> Step {
        self.state = State::Waiting(waiting);
        Step { lines: Vec::new(), next: Next::Dispatch(request) }
    }
}

impl State {
    /// The line that asks for what this state waits for.
    fn prompt(&self) -> ServerLine {
        match self {
            Self::Choosing => ServerLine::Prompt("Your choice: ".to_string()),
            Self::Asking(question) => question.prompt(),
            Self::Pausing | Self::PausingBeforeLogOut => ServerLine::Pause("Press Enter to go on".to_string()),
            Self::Paging(_, _) => ServerLine::Pause("Enter for the next page, q to stop".to_string()),
            Self::New | Self::Waiting(_) | Self::Ended => panic!("a question in the state {self:?}"),
        }
    }
}

impl Waiting {
    fn of(request: &Request) -> Self {
        match request {
            Request::LogIn { account, .. } => Self::LogIn(*account),
            Request::Account { .. } => Self::CustomerMenu,
            Request::Deposit { amount, .. } => Self::Deposit(*amount),
            Request::Withdraw { amount, .. } => Self::Withdraw(*amount),
            Request::Transfer { to, amount, .. } => Self::Transfer(to.clone(), *amount),
            Request::History { account, .. } => Self::Listing(Listing::new(ListingKind::History(*account))),
            Request::ChangePassword { .. } => Self::ChangePassword,
            Request::OpenAccount(_) => Self::Open,
            Request::CloseAccount { .. } => Self::Close,
            Request::Accounts { .. } => Self::Listing(Listing::new(ListingKind::Accounts)),
            Request::Transactions { .. } => Self::Listing(Listing::new(ListingKind::Transactions)),
            Request::Audit => Self::Audit,
            Request::Branches { .. } => Self::Listing(Listing::new(ListingKind::Branches)),
            Request::Resolve { txid, outcome, .. } => Self::Resolve(txid.clone(), *outcome),
            Request::LogOut { .. } => Self::LogOut,
        }
    }
}

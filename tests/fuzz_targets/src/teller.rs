//! A bank for the dialogue: it answers each request as a bank would, or refuses it, as the input has it.

use bank_server::bank::accounts::Account;
use bank_server::menu::{LogInAs, PAGE_ROWS, Refusal, Reply, Request};
use bank_server::service::operations::OperationResult;
use bank_server::service::reports::Page;
use protocol::answer::{Audit, Branch, Closed, Delivery, HistoryLine, NewBalance, Pending};
use protocol::menu_line::ServerLine;
use protocol::{AccountNum, Money, Total, TxId};

/// The teller.
pub struct Teller<'b> {
    choices: std::iter::Cycle<std::iter::Copied<std::slice::Iter<'b, u8>>>,
    who: Option<LogInAs>,
}

impl<'b> Teller<'b> {
    /// A teller who decides by these bytes, over and over.
    pub fn new(choices: &'b [u8]) -> Self {
        Self { choices: choices.iter().copied().cycle(), who: None }
    }

    fn choice(&mut self) -> u8 {
        self.choices.next().unwrap_or(2)
    }

    /// Answers one request.
    ///
    /// # Panics
    /// When the dialogue asks for something that whoever is logged in may not have.
    pub fn dispatch(&mut self, request: Request) -> Result<Reply, Refusal> {
        self.check(&request);
        let choice = self.choice();
        if let Request::LogOut { .. } = request {
            self.who = None;
            return if choice.is_multiple_of(8) { Err(Refusal::new("not now")) } else { Ok(Reply::LoggedOut) };
        }
        match choice % 8 {
            0 => return Err(Refusal::new("no\u{7}")),
            1 => return Err(Refusal::new("the password was changed").ending_the_session()),
            _ => {}
        }
        Ok(self.reply(request, choice))
    }

    /// A customer has what is their own; an administrator has the rest; nobody else has anything.
    fn check(&self, request: &Request) {
        let allowed = match (request, self.who) {
            (Request::LogIn { .. }, None) => true,
            (Request::LogOut { who }, Some(in_fact)) => *who == in_fact,
            (
                Request::Account { account }
                | Request::Deposit { account, .. }
                | Request::Withdraw { account, .. }
                | Request::Transfer { account, .. }
                | Request::History { account, .. }
                | Request::ChangePassword { account, .. },
                Some(LogInAs::Customer(own)),
            ) => *account == own,
            (
                Request::OpenAccount(_)
                | Request::CloseAccount { .. }
                | Request::Accounts { .. }
                | Request::Transactions { .. }
                | Request::Audit
                | Request::Branches { .. }
                | Request::Resolve { .. },
                Some(LogInAs::Administrator),
            ) => true,
            (_, _) => false,
        };
        assert!(allowed, "{request:?} of {:?}", self.who);
        if let Request::Deposit { amount, .. } | Request::Withdraw { amount, .. } | Request::Transfer { amount, .. } =
            request
        {
            assert!(!amount.is_zero());
        }
    }

    fn reply(&mut self, request: Request, choice: u8) -> Reply {
        let balance = Money::from_rupees(u32::from(choice));
        let name = "\u{202e}Asha \u{1b}[2J@EXIT".to_string();
        match request {
            Request::LogIn { account, .. } => {
                self.who = Some(account);
                Reply::LoggedIn
            }
            Request::Account { account } => {
                Reply::Account(Account { number: account, first_name: name, balance, ..account_row(0) })
            }
            Request::Deposit { .. } | Request::Withdraw { .. } => {
                Reply::Done(OperationResult::NewBalance(NewBalance { balance }))
            }
            Request::Transfer { .. } => {
                let delivery = if choice.is_multiple_of(2) { Delivery::Done } else { Delivery::Pending };
                Reply::Transferred { balance: Some(balance), txid: txid(), delivery }
            }
            Request::History { .. } | Request::Transactions { .. } => Reply::Transactions(page(choice, transaction)),
            Request::ChangePassword { .. } => Reply::PasswordChanged,
            Request::OpenAccount(_) => Reply::Opened { account: account(choice), opening_balance: balance },
            Request::CloseAccount { account, .. } => {
                Reply::Done(OperationResult::Closed(Closed { account_no: account, paid_out: balance }))
            }
            Request::Accounts { .. } => Reply::Accounts(page(choice, account_row)),
            Request::Audit => Reply::Audit(Box::new(Audit {
                findings: rows(choice % 4, |number| format!("finding {number}\n@DONE")),
                balances: Total::from(balance),
                in_transit: Total::from_paise(-1),
                paid_in: Total::from_paise(i128::MAX),
                paid_out: Total::from_paise(i128::MIN),
                ..Audit::default()
            })),
            Request::Branches { after } => Reply::Branches {
                branches: if after.is_none() { rows(choice % 3, branch) } else { Vec::new() },
                in_doubt: page(choice, in_doubt),
            },
            Request::Resolve { .. } => Reply::Resolved,
            Request::LogOut { .. } => Reply::LoggedOut,
        }
    }
}

/// Every step's lines end in the one that asks or ends, and no other does.
///
/// # Panics
/// When it is otherwise.
pub fn check_lines(lines: &[ServerLine]) {
    let asks = |line: &ServerLine| match line {
        ServerLine::Prompt(_) | ServerLine::Pass(_) | ServerLine::Pause(_) | ServerLine::Exit(_) => true,
        ServerLine::Clear | ServerLine::Done(_) | ServerLine::Fail(_) | ServerLine::Text(_) => false,
    };
    let (last, before) = lines.split_last().expect("a step shows something");
    assert!(asks(last) && !before.iter().any(asks), "{lines:?}");
}

fn rows<T>(choice: u8, row: impl Fn(u8) -> T) -> Vec<T> {
    (0..choice).take(PAGE_ROWS).map(row).collect()
}

fn page<T>(choice: u8, row: impl Fn(u8) -> T) -> Page<T> {
    Page { rows: rows(choice, row), has_more: choice > 200 }
}

fn txid() -> TxId {
    "Mumbai-1".parse().expect("it is an id")
}

fn account(number: u8) -> AccountNum {
    AccountNum::new(u64::from(number) + 1).expect("it is small and above zero")
}

fn transaction(number: u8) -> HistoryLine {
    HistoryLine {
        transaction_id: i64::from(number),
        date: "2026-01-01T00:00:00Z".into(),
        kind: "deposit".into(),
        from_account: "cash".into(),
        to_account: "\u{0915}\u{200d}".repeat(usize::from(number)),
        amount: Money::MAX,
        txid: number.is_multiple_of(2).then(txid),
        leg: None,
        peer: None,
        note: None,
    }
}

fn account_row(number: u8) -> Account {
    Account {
        number: account(number),
        first_name: "\t\u{0}name".repeat(usize::from(number)),
        last_name: String::new(),
        aadhaar: None,
        phone: Some("9999999999".into()),
        sms: number.is_multiple_of(2),
        balance: Money::MAX,
        held: Money::ZERO,
        incoming: Money::ZERO,
        is_open: true,
    }
}

fn branch(number: u8) -> Branch {
    Branch { name: format!("Branch{number}"), address: "127.0.0.1:9100".into(), state: "up".into() }
}

fn in_doubt(number: u8) -> Pending {
    Pending {
        txid: txid(),
        state: "prepared".into(),
        why: None,
        legs: vec!["0 withdraw 5.00 from 1001".into()],
        coordinator: Some("Delhi".into()),
        coordinator_answers: number.is_multiple_of(2),
        age_seconds: u64::MAX,
    }
}

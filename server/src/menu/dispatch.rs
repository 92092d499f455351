//! Carrying out what a session asks of the bank: one request, one call, one log line.
//!
//! This is the menu's only way into the bank. It adds no rule of its own: it turns a [`Request`] into a
//! call of [`Bank`](crate::bank::Bank), the result into a [`Reply`] or a [`Refusal`], and writes who asked for what and how it
//! went to the log, without passwords and without Aadhaar numbers.

use protocol::answer::Created;
use protocol::request::Destination;
use protocol::{AccountNum, Money, TxId};

use super::{LogInAs, NewCustomer, PAGE_ROWS, Receiver, Refusal, Reply, Request};
use crate::allowance::Owner;
use crate::bank::ADMINISTRATOR;
use crate::bank::accounts::{self, Opening};
use crate::bank::hashing::Orderer;
use crate::error::{Error, Result};
use crate::lockout::Origin;
use crate::logins::LoggedIn;
use crate::net::accept::Client;
use crate::service::by_hand::{self, Settling};
use crate::service::operations::{OperationKind, OperationResult};
use crate::service::transfers::{self, RequestedLeg, TransferRequest};
use crate::service::{Service, reports};

/// Carries out one request of a client. `login` is the session of whoever is logged in.
///
/// # Errors
/// The bank's refusal, as one sentence for the customer.
pub fn dispatch(
    service: &Service,
    client: &Client,
    login: &mut Option<LoggedIn>,
    request: Request,
) -> Result<Reply, Refusal> {
    let summary = summary(&request);
    let result = check_login(service, login.as_ref(), &request)
        // A process that may have been replaced shows nobody what may be old.
        .and_then(|()| service.replication.check_ownership())
        .and_then(|()| carry_out(service, client, login, request));
    match (&result, summary) {
        (_, None) => {}
        (Ok(_), Some(summary)) => log::info!("{client}: {summary}: done"),
        (Err(error), Some(summary)) if error.is_failure() => log::error!("{client}: {summary}: {error}"),
        (Err(error), Some(summary)) => log::info!("{client}: {summary}: refused: {error}"),
    }
    result.map_err(|error| match error {
        Error::WrongLogin => Refusal::log_in(),
        ended @ Error::SessionEnded(_) => Refusal::new(ended).ending_the_session(),
        other => Refusal::new(other),
    })
}

/// Whoever is logged in still has to have the password that let them in.
fn check_login(service: &Service, login: Option<&LoggedIn>, request: &Request) -> Result<()> {
    match (login, request) {
        (None, _) | (Some(_), Request::LogIn { .. } | Request::LogOut { .. }) => Ok(()),
        (Some(login), _) => service.bank.check_login(login),
    }
}

fn carry_out(service: &Service, client: &Client, login: &mut Option<LoggedIn>, request: Request) -> Result<Reply> {
    let bank = &service.bank;
    let origin = Origin::Address(client.peer().ip());
    match request {
        Request::LogIn { account, password } => {
            let session =
                bank.open_login(auth_num(account), password.as_str(), origin, client.share_stream(), false)?;
            *login = Some(session);
            Ok(Reply::LoggedIn)
        }
        Request::Account { account } => bank.account(account).map(Reply::Account),
        Request::Deposit { account, amount } => {
            service.operate(owner(account), OperationKind::Deposit(account, amount)).map(Reply::Done)
        }
        Request::Withdraw { account, amount } => {
            service.operate(owner(account), OperationKind::Withdraw(account, amount)).map(Reply::Done)
        }
        Request::Transfer { account, to, amount } => pay(service, account, to, amount),
        Request::History { account, before } => transactions(service, Some(account), before),
        Request::ChangePassword { account, present, new } => {
            let version = bank.change_password(account, present.as_str(), new.as_str(), origin)?;
            if let Some(login) = login {
                bank.renew_login(login, version);
            }
            Ok(Reply::PasswordChanged)
        }
        Request::OpenAccount(customer) => open_account(service, client, &customer),
        Request::CloseAccount { account, administrator_password } => {
            bank.confirm(ADMINISTRATOR, administrator_password.as_str(), origin)?;
            service.operate(owner(account), OperationKind::Close(account)).map(Reply::Done)
        }
        Request::Accounts { after } => reports::accounts(service, after, true, PAGE_ROWS).map(Reply::Accounts),
        Request::Transactions { before } => transactions(service, None, before),
        Request::Audit => {
            service.read_long(Owner::Account(ADMINISTRATOR), || reports::audit(service)).map(Box::new).map(Reply::Audit)
        }
        Request::Branches { after } => branches(service, after.as_ref()),
        Request::Resolve { txid, outcome, reason } => {
            by_hand::settle(service, &Settling { txid, outcome, reason }, None).map(|()| Reply::Resolved)
        }
        Request::LogOut { who: _ } => {
            *login = None;
            Ok(Reply::LoggedOut)
        }
    }
}

/// What the log says of a request; nothing of those that only look.
fn summary(request: &Request) -> Option<String> {
    Some(match request {
        Request::LogIn { account, .. } => format!("log in as {account}"),
        Request::Deposit { account, amount } => format!("deposit of Rs {amount} into {account}"),
        Request::Withdraw { account, amount } => format!("withdrawal of Rs {amount} from {account}"),
        Request::Transfer { account, to, amount } => format!("transfer of Rs {amount} from {account} to {to}"),
        Request::ChangePassword { account, .. } => format!("new password of account {account}"),
        Request::OpenAccount(_) => "opening of an account".to_string(),
        Request::CloseAccount { account, .. } => format!("closing of account {account}"),
        Request::Audit => "audit".to_string(),
        Request::Resolve { txid, outcome, .. } => format!("settling of {txid} as {outcome} by hand"),
        Request::LogOut { who } => format!("log out of {who}"),
        Request::Account { .. }
        | Request::History { .. }
        | Request::Accounts { .. }
        | Request::Transactions { .. }
        | Request::Branches { .. } => return None,
    })
}

fn auth_num(account: LogInAs) -> i64 {
    match account {
        LogInAs::Administrator => ADMINISTRATOR,
        LogInAs::Customer(number) => number.as_i64(),
    }
}

/// Pays someone at this branch or at another.
fn pay(service: &Service, payer: AccountNum, to: Receiver, amount: Money) -> Result<Reply> {
    let (destination, receiver) = match to {
        Receiver::Here(number) => (Destination::default(), number),
        Receiver::Branch(name, number) if name == *service.bank.name() => (Destination::default(), number),
        Receiver::Branch(name, number) => (Destination { dest_branch: Some(name), ..Destination::default() }, number),
        Receiver::Address(at, number) => {
            (Destination { dest_host: Some(at.host), dest_port: Some(at.port), dest_branch: None }, number)
        }
    };
    if destination.dest_branch.is_none() && destination.dest_host.is_none() {
        let kind = OperationKind::Transfer { from: payer, to: receiver, amount };
        return service.operate(owner(payer), kind).map(Reply::Done);
    }
    let leg = RequestedLeg::new(destination, receiver, amount.into())?;
    // Whoever is at an open branch may have it dial from its other port anyway.
    let request = TransferRequest::new(payer, vec![leg], false, service.is_open);
    let done = transfers::transfer(service, &request)?;
    // It is paid. Whatever this second look meets, such as an account that was closed since, is not its outcome.
    let payer = service.bank.dbs().read(|reader| accounts::find(reader, payer));
    Ok(Reply::Transferred {
        balance: payer.ok().map(|payer| payer.balance),
        txid: done.txid().clone(),
        delivery: done.delivery(),
    })
}

/// The known branches (on the first page), and the transfers in doubt.
fn branches(service: &Service, after: Option<&TxId>) -> Result<Reply> {
    let in_doubt = reports::pending(service, after, PAGE_ROWS)?;
    let branches = if after.is_none() { reports::branches(service) } else { Vec::new() };
    Ok(Reply::Branches { branches, in_doubt })
}

fn transactions(service: &Service, account: Option<AccountNum>, before: Option<i64>) -> Result<Reply> {
    reports::history(service, account, before, PAGE_ROWS).map(Reply::Transactions)
}

fn open_account(service: &Service, client: &Client, customer: &NewCustomer) -> Result<Reply> {
    let (bank, opening_balance) = (&service.bank, service.bank.opening_balance());
    let by_administrator = Orderer { owner: Owner::Connection(client.id()), address: None, connection: None };
    let opening = Opening {
        number: None,
        first_name: customer.first_name.as_str().to_string(),
        last_name: customer.last_name.as_str().to_string(),
        aadhaar: Some(customer.aadhaar.as_str().to_string()),
        phone: Some(customer.phone.as_str().to_string()),
        sms: customer.sms,
        password_hash: Some(bank.hash_password(customer.password.as_str(), by_administrator)?),
        opening_balance,
    };
    match service.operate(Owner::Branch, OperationKind::Create(Box::new(opening)))? {
        OperationResult::Created(Created { account_no }) => Ok(Reply::Opened { account: account_no, opening_balance }),
        other => unreachable!("an opening has the result {other:?}"),
    }
}

/// Whose work a customer's requests are, however many sessions they have.
const fn owner(account: AccountNum) -> Owner {
    Owner::Account(account.as_i64())
}

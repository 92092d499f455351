//! Requests of the branch protocol as they come: parameters in JSON are read here into what the service takes, and whose
//! account they are about is held against who asks.

use std::fmt::Display;

use protocol::actions::Action;
use protocol::request::{
    AccountAmount, Amount, ClearSuspense, CreateAccount, History, InterBranchTransfer, LIST_ROWS_DEFAULT,
    LocalTransfer, OneAccount, RequestFrame, Resolve, SPLIT_LEGS_MAX, SetPassword, SplitTransfer,
};
use protocol::{AccountNum, Money, TxId};
use serde::Deserialize;
use two_phase_commit::Outcome;

use crate::bank::accounts::Opening;
use crate::bank::customer::{Aadhaar, PersonName, Phone};
use crate::bank::suspense::Clearing;
use crate::error::{Error, Result};
use crate::idempotency::RequestKey;
use crate::limits::LIST_ROWS;
use crate::service::access::{Caller, check_account};
use crate::service::by_hand::{self, Settling};
use crate::service::operations::{Operation, OperationKind, Password};
use crate::service::transfers::{NAME_THE_BRANCH, RequestedLeg, TransferRequest};

/// Reads the operation on the ledger that a request asks for: one that may stand in a batch.
///
/// # Errors
/// What is wrong with the parameters, that the caller may not do this, or that this is no such operation.
pub fn operation(
    caller: Caller,
    action: Action,
    frame: &RequestFrame<'_>,
    request_id: Option<&str>,
) -> Result<Operation> {
    let mut password = None;
    let kind = match action {
        Action::CreateAccount => {
            let params: CreateAccount = frame.params()?;
            if let Some(text) = &params.password {
                password = Some(Password::new(text.parse().map_err(invalid)?, None));
            }
            OperationKind::Create(Box::new(opening(params)?))
        }
        Action::CloseAccount => OperationKind::Close(frame.params::<OneAccount>()?.account_no),
        Action::Balance => {
            let account = frame.params::<OneAccount>()?.account_no;
            check_account(caller, account)?;
            OperationKind::Balance(account)
        }
        Action::Deposit => {
            let params: AccountAmount = frame.params()?;
            check_account(caller, params.account_no)?;
            OperationKind::Deposit(params.account_no, params.amount.to_move()?)
        }
        Action::Withdraw => {
            let params: AccountAmount = frame.params()?;
            check_account(caller, params.account_no)?;
            OperationKind::Withdraw(params.account_no, params.amount.to_move()?)
        }
        Action::LocalTransfer => {
            let params: LocalTransfer = frame.params()?;
            // To pay into an account needs no right; to pay out of it does.
            check_account(caller, params.src_account_no)?;
            let amount = params.amount.to_move()?;
            OperationKind::Transfer { from: params.src_account_no, to: params.dest_account_no, amount }
        }
        Action::SetPassword => {
            let params: SetPassword = frame.params()?;
            check_account(caller, params.account_no)?;
            password = Some(Password::new(params.password.parse().map_err(invalid)?, confirmation(caller, &params)?));
            OperationKind::SetPassword(params.account_no)
        }
        Action::ClearSuspense => OperationKind::ClearSuspense(Box::new(clearing(frame.params()?)?)),
        _ => return Err(Error::Invalid(format!("{action} cannot be part of a batch"))),
    };
    let operation = Operation::new(kind, password);
    Ok(match request_id {
        Some(id) => operation.with_id(caller, id, action, frame.params_text()),
        None => operation,
    })
}

/// Reads the transfer between branches that a request asks for.
///
/// # Errors
/// What is wrong with the parameters, or that the caller may not do this.
pub fn transfer(caller: Caller, action: Action, frame: &RequestFrame<'_>) -> Result<TransferRequest> {
    let (payer, legs, is_split) = if action == Action::SplitTransfer {
        let params: SplitTransfer = frame.params()?;
        if params.legs.is_empty() {
            return Err(Error::Invalid(format!("a split transfer has 1 to {SPLIT_LEGS_MAX} legs")));
        }
        let legs = params.legs.iter().map(|leg| RequestedLeg::new(leg.destination(), leg.account_no, leg.amount));
        (params.src_account_no, legs.collect::<Result<Vec<_>>>()?, true)
    } else {
        let params: InterBranchTransfer = frame.params()?;
        let destination = params.destination();
        if destination.dest_branch.is_none() && destination.dest_host.is_none() {
            return Err(Error::Invalid(NAME_THE_BRANCH.into()));
        }
        let leg = RequestedLeg::new(destination, params.dest_account_no, params.amount)?;
        (params.src_account_no, vec![leg], false)
    };
    check_account(caller, payer)?;
    // Where this branch dials is for operators and proved branches to say: whoever could have it connect anywhere
    // would learn what listens in its network.
    let may_dial = match caller {
        Caller::KeyHolder | Caller::Open => true,
        Caller::Customer(_) | Caller::Anonymous => false,
    };
    let request = TransferRequest::new(payer, legs, is_split, may_dial);
    Ok(match frame.request_id() {
        Some(id) => request.with_id(caller, id, action, frame.params_text()),
        None => request,
    })
}

/// Reads how a transfer is to be settled by hand, and under which id.
///
/// # Errors
/// [`Error::Invalid`] without an outcome and a reason.
pub fn settling(caller: Caller, frame: &RequestFrame<'_>) -> Result<(Settling, Option<RequestKey>)> {
    let params: Resolve = frame.params()?;
    let outcome = match params.outcome.as_str() {
        "commit" | "committed" => Outcome::Committed,
        "abort" | "aborted" => Outcome::Aborted,
        _ => return Err(Error::Invalid("the outcome is commit or abort".into())),
    };
    let settling = Settling { txid: params.txid, outcome, reason: by_hand::reason_of(&params.reason)? };
    let new_key =
        |id| RequestKey::new(caller.id_owner(), id, Action::Resolve, &settling.meaning(), frame.params_text());
    let key = frame.request_id().map(new_key);
    Ok((settling, key))
}

/// Whose transactions a request asks for; the whole branch's without an account.
///
/// # Errors
/// [`Error::NotAllowed`].
pub fn account_of_history(caller: Caller, params: &History) -> Result<Option<AccountNum>> {
    let account = match (params.account_no, caller) {
        (Some(account), _) => Some(account),
        (None, Caller::Customer(own)) => Some(own),
        (None, Caller::KeyHolder | Caller::Open | Caller::Anonymous) => None,
    };
    if let Some(account) = account {
        check_account(caller, account)?;
    }
    Ok(account)
}

/// Parameters of `list_pending`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingParams {
    /// Only ids after this one.
    #[serde(default)]
    pub after: Option<TxId>,
    /// At most so many.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// The rows of one answer, as far as a request limits them.
#[must_use]
pub fn rows(limit: Option<usize>) -> usize {
    limit.unwrap_or(LIST_ROWS_DEFAULT).clamp(1, LIST_ROWS)
}

/// What is to be moved out of suspense.
fn clearing(params: ClearSuspense) -> Result<Clearing> {
    let ClearSuspense { txid, account_no, cash, amount, not_booked_by, reason } = params;
    if account_no.is_some() == cash {
        return Err(Error::Invalid("name either the account that it goes to or comes from, or cash".into()));
    }
    let amount = amount.map(Amount::to_move).transpose()?;
    let not_booked_by = not_booked_by.map(|branch| branch.to_string());
    Ok(Clearing { txid, account: account_no, amount, not_booked_by, reason: by_hand::reason_of(&reason)? })
}

/// What an account made over the branch protocol is opened with; its password is hashed later.
fn opening(params: CreateAccount) -> Result<Opening> {
    let name: PersonName = params.name.parse().map_err(invalid)?;
    // The tables have two names; a single word is the first one.
    let (first_name, last_name) = name.as_str().split_once(' ').unwrap_or((name.as_str(), ""));
    let aadhaar = params.aadhar_num.map(|text| text.parse::<Aadhaar>().map_err(invalid)).transpose()?;
    let phone = params.phone_num.map(|text| text.parse::<Phone>().map_err(invalid)).transpose()?;
    Ok(Opening {
        number: params.account_no,
        first_name: first_name.to_string(),
        last_name: last_name.trim_start().to_string(),
        aadhaar: aadhaar.map(|aadhaar| aadhaar.as_str().to_string()),
        phone: phone.map(|phone| phone.as_str().to_string()),
        sms: params.sms.unwrap_or(false),
        password_hash: None,
        opening_balance: params.balance.map_or(Ok(Money::ZERO), Amount::get)?,
    })
}

/// A customer sets the own password by the present one: a session alone is no proof of who sits there.
fn confirmation(caller: Caller, params: &SetPassword) -> Result<Option<String>> {
    match (caller, &params.present_password) {
        (Caller::KeyHolder | Caller::Open, _) => Ok(None),
        (Caller::Customer(_), Some(present)) => Ok(Some(present.clone())),
        (Caller::Customer(_) | Caller::Anonymous, _) => {
            Err(Error::Invalid("give the present password too, as present_password".into()))
        }
    }
}

fn invalid(error: impl Display) -> Error {
    Error::Invalid(error.to_string())
}

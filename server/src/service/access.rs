//! Who may ask for what: one table, one row for each action.

use protocol::AccountNum;
use protocol::request::Action;

use crate::error::{Error, Result};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Someone who has proved nothing.
    Anonymous,
    /// The customer of an account, logged in with its password.
    Customer(AccountNum),
    /// Someone who holds the branch key: an operator, or another branch. They may do all.
    KeyHolder,
    /// Anyone at a branch that was started with `--open`. They may do all.
    Open,
}

impl Caller {
    /// Whose request ids these are: the same id of two callers is two ids.
    #[must_use]
    pub fn id_owner(self) -> String {
        match self {
            Self::Anonymous => "anonymous".into(),
            Self::Customer(account) => format!("customer {account}"),
            Self::KeyHolder => "key".into(),
            Self::Open => "open".into(),
        }
    }
}

/// What a caller without the key may do with an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone may ask for it.
    Anyone,
    /// A customer may, for the own account alone; an anonymous caller may not.
    OwnAccount,
    /// Only who holds the key.
    KeyOnly,
}

/// The table.
#[must_use]
pub const fn access(action: Action) -> Access {
    match action {
        Action::Hello | Action::Authenticate | Action::Login | Action::Status => Access::Anyone,
        Action::Balance
        | Action::Deposit
        | Action::Withdraw
        | Action::LocalTransfer
        | Action::InterBranchTransfer
        | Action::SplitTransfer
        | Action::History
        | Action::GetLogs
        | Action::SetPassword
        // Each request inside has its own row.
        | Action::Batch => Access::OwnAccount,
        Action::Link
        | Action::CreateAccount
        | Action::CloseAccount
        | Action::ListAccounts
        | Action::PrepareWithdraw
        | Action::PrepareDeposit
        | Action::CommitWithdraw
        | Action::CommitDeposit
        | Action::AbortWithdraw
        | Action::AbortDeposit
        | Action::TxStatus
        | Action::ListPending
        | Action::Resolve
        | Action::ClearSuspense
        | Action::Audit
        | Action::Branches
        | Action::Watch
        | Action::CheckPassword
        | Action::PasswordVersions
        | Action::Replicate
        | Action::Follow
        | Action::Promote
        | Action::Demote
        | Action::Resync
        | Action::Stage
        | Action::StepMode
        | Action::Step
        | Action::PassTime
        | Action::Fault
        | Action::Crash => Access::KeyOnly,
    }
}

/// Whether the caller may ask for this action at all.
///
/// # Errors
/// [`Error::NotAllowed`], saying what would be needed.
pub fn check(caller: Caller, action: Action) -> Result<()> {
    match (caller, access(action)) {
        (Caller::KeyHolder | Caller::Open, _) | (_, Access::Anyone) | (Caller::Customer(_), Access::OwnAccount) => {
            Ok(())
        }
        (Caller::Anonymous, Access::OwnAccount) => Err(Error::NotAllowed(
            "log in first, or prove the branch key (bank-client --key bank.key); an older program that knows neither needs a branch started with --open",
        )),
        (Caller::Anonymous | Caller::Customer(_), Access::KeyOnly) => Err(Error::NotAllowed(
            "this needs the branch key (bank-client --key bank.key); an older program or branch that knows none needs a branch started with --open",
        )),
    }
}

/// Whether the caller may look at or move money of this account. To pay *into* any account needs no right.
///
/// # Errors
/// [`Error::NotAllowed`].
pub fn check_account(caller: Caller, account: AccountNum) -> Result<()> {
    match caller {
        Caller::KeyHolder | Caller::Open => Ok(()),
        Caller::Customer(own) if own == account => Ok(()),
        Caller::Customer(_) | Caller::Anonymous => Err(Error::NotAllowed("this is not your account")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_for_every_caller() {
        let customer = Caller::Customer(AccountNum::new(1001).unwrap());
        for action in Action::ALL {
            for (caller, expected) in [
                (Caller::KeyHolder, true),
                (Caller::Open, true),
                (customer, access(*action) != Access::KeyOnly),
                (Caller::Anonymous, access(*action) == Access::Anyone),
            ] {
                assert_eq!(check(caller, *action).is_ok(), expected, "{action} by {caller:?}");
            }
        }
    }

    #[test]
    fn a_customer_has_one_account() {
        let (own, other) = (AccountNum::new(1001).unwrap(), AccountNum::new(1002).unwrap());
        assert!(check_account(Caller::Customer(own), own).is_ok());
        assert!(check_account(Caller::Customer(own), other).is_err());
        assert!(check_account(Caller::Anonymous, own).is_err());
        assert!(check_account(Caller::KeyHolder, other).is_ok());
    }
}

//! Who is at the other end of a connection, and whether they may ask for what they ask. What an action needs stands in
//! the table of actions (`protocol::actions`).

use protocol::AccountNum;
use protocol::actions::{Access, Action};

use crate::error::{Error, Result};
use crate::idempotency::IdOwner;

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
    /// Whose request ids these are: the same id of two callers is two ids, so nobody can learn or block what another
    /// has asked for by guessing its id. The texts are on disk.
    #[must_use]
    pub fn id_owner(self) -> IdOwner {
        match self {
            Self::Anonymous => IdOwner { name: "anonymous".into(), has_share: true },
            Self::Customer(account) => IdOwner { name: format!("customer {account}"), has_share: true },
            Self::KeyHolder => IdOwner { name: "key".into(), has_share: false },
            Self::Open => IdOwner { name: "open".into(), has_share: false },
        }
    }
}

/// Whether the caller may ask for this action at all.
///
/// # Errors
/// [`Error::NotAllowed`], saying what would be needed.
pub fn check(caller: Caller, action: Action) -> Result<()> {
    match (caller, action.access()) {
        // Which account a customer's request is about is not known yet: that is looked at where it is read.
        (Caller::KeyHolder | Caller::Open, _) | (_, Access::Anyone) | (Caller::Customer(_), Access::OwnAccount) => {
            Ok(())
        }
        // A password would be enough, so the sentence begins with that.
        (Caller::Anonymous, Access::OwnAccount) => Err(Error::NotAllowed(
            "log in first, or prove the branch key (bank-client --key bank.key); an older program that knows neither needs a branch started with --open",
        )),
        // No customer's password is: these actions are about all accounts, or about other branches.
        (Caller::Anonymous | Caller::Customer(_), Access::KeyHolder) => Err(Error::NotAllowed(
            "this needs the branch key (bank-client --key bank.key); an older program or branch that knows none needs a branch started with --open",
        )),
    }
}

/// Whether the caller may look at or move money of this account. To pay *into* any account needs no right. Whether there
/// is such an account is not looked at: the refusal would tell.
///
/// # Errors
/// [`Error::NotAllowed`].
pub fn check_account(caller: Caller, account: AccountNum) -> Result<()> {
    match caller {
        Caller::KeyHolder | Caller::Open => Ok(()),
        Caller::Customer(own) if own == account => Ok(()),
        // The same sentence for an account that isn't there, so that nobody learns numbers by asking.
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
                (customer, action.access() != Access::KeyHolder),
                (Caller::Anonymous, action.access() == Access::Anyone),
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

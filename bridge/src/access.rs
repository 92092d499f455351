//! Who may ask for what. Which path is for whom stands in the table of paths (`api`).
//!
//! What is for customers is about the own account at the own branch; [`own_account`] holds that.

use protocol::{AccountNum, BranchName};

use crate::error::Error;
use crate::who::Who;

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone, signed in or not.
    Anyone,
    /// Whoever is signed in; a customer for the own account alone.
    OwnAccount,
    /// An administrator, or anyone at an open bridge.
    Administrator,
}

/// Whether this caller may ask for it at all.
///
/// # Errors
/// [`Error::NotSignedIn`] or [`Error::NotAllowed`].
pub fn check(who: &Who, access: Access) -> Result<(), Error> {
    match (who, access) {
        (_, Access::Anyone)
        | (Who::Open | Who::Administrator { .. }, Access::OwnAccount | Access::Administrator)
        | (Who::Customer { .. }, Access::OwnAccount) => Ok(()),
        (Who::Nobody, Access::OwnAccount | Access::Administrator) => Err(Error::NotSignedIn),
        (Who::Customer { .. }, Access::Administrator) => Err(Error::NotAllowed("this is for an administrator")),
    }
}

/// Whether this caller may look at or move money of this account. To pay *into* any account needs no right.
///
/// # Errors
/// [`Error::NotSignedIn`] or [`Error::NotAllowed`].
pub fn own_account(who: &Who, branch: &BranchName, account: AccountNum) -> Result<(), Error> {
    match who {
        Who::Open | Who::Administrator { .. } => Ok(()),
        Who::Customer { branch: own_branch, account: own } if own_branch == branch && *own == account => Ok(()),
        Who::Customer { .. } => Err(Error::NotAllowed("this is not your account")),
        Who::Nobody => Err(Error::NotSignedIn),
    }
}

/// Whether this caller may see the whole bank.
#[must_use]
pub const fn sees_all(who: &Who) -> bool {
    match who {
        Who::Open | Who::Administrator { .. } => true,
        Who::Customer { .. } | Who::Nobody => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(branch: &str, account: u64) -> Who {
        Who::Customer { branch: branch.parse().unwrap(), account: AccountNum::new(account).unwrap() }
    }

    #[test]
    fn every_right_for_every_caller() {
        let administrator = Who::Administrator { branch: "Mumbai".parse().unwrap() };
        for access in [Access::Anyone, Access::OwnAccount, Access::Administrator] {
            for (who, expected) in [
                (&Who::Open, true),
                (&administrator, true),
                (&customer("Mumbai", 1001), access != Access::Administrator),
                (&Who::Nobody, access == Access::Anyone),
            ] {
                assert_eq!(check(who, access).is_ok(), expected, "{access:?} by {who:?}");
            }
        }
    }

    #[test]
    fn a_customer_has_one_account_at_one_branch() {
        let (mumbai, own) = ("Mumbai".parse().unwrap(), AccountNum::new(1001).unwrap());
        assert!(own_account(&customer("Mumbai", 1001), &mumbai, own).is_ok());
        assert!(own_account(&customer("Mumbai", 1002), &mumbai, own).is_err());
        assert!(own_account(&customer("Delhi", 1001), &mumbai, own).is_err(), "the same number elsewhere");
        assert!(own_account(&Who::Nobody, &mumbai, own).is_err());
        assert!(own_account(&Who::Open, &mumbai, own).is_ok());
    }
}

//! Who may ask for what: one table, one row for each path and method. What is not in it is not answered.
//!
//! A customer's rows are about the own account at the own branch; [`own_account`] holds that.

use axum::http::Method;
use protocol::{AccountNum, BranchName};

use crate::error::Error;
use crate::session::Who;

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

/// One row: a method, a path as the router has it, and who may.
pub type Row = (Method, &'static str, Access);

/// The table.
pub const TABLE: &[Row] = &[
    (Method::GET, "/", Access::Anyone),
    (Method::GET, "/assets/{*file}", Access::Anyone),
    (Method::GET, "/healthz", Access::Anyone),
    (Method::GET, "/openapi.json", Access::Anyone),
    (Method::GET, "/session", Access::Anyone),
    (Method::POST, "/session", Access::Anyone),
    (Method::DELETE, "/session", Access::Anyone),
    // Names and states alone for those who may not see more.
    (Method::GET, "/branches", Access::Anyone),
    (Method::GET, "/events", Access::OwnAccount),
    (Method::POST, "/balance", Access::OwnAccount),
    (Method::POST, "/deposit", Access::OwnAccount),
    (Method::POST, "/withdraw", Access::OwnAccount),
    (Method::POST, "/transfer", Access::OwnAccount),
    (Method::POST, "/get_logs", Access::OwnAccount),
    (Method::GET, "/history", Access::OwnAccount),
    (Method::GET, "/list_accounts", Access::Administrator),
    (Method::GET, "/metrics", Access::Administrator),
    (Method::GET, "/audit", Access::Administrator),
    (Method::GET, "/recent", Access::Administrator),
    (Method::POST, "/create_account", Access::Administrator),
    (Method::POST, "/close_account", Access::Administrator),
    (Method::GET, "/pending", Access::Administrator),
    (Method::POST, "/resolve", Access::Administrator),
    (Method::GET, "/transfers", Access::Administrator),
    (Method::GET, "/transfers/{txid}", Access::Administrator),
    (Method::GET, "/transfers/{txid}/export", Access::Administrator),
    (Method::GET, "/teaching/{branch}", Access::Administrator),
    (Method::POST, "/teaching/{branch}/step_mode", Access::Administrator),
    (Method::POST, "/teaching/{branch}/step", Access::Administrator),
    (Method::POST, "/teaching/{branch}/pass_time", Access::Administrator),
    (Method::POST, "/teaching/{branch}/fault", Access::Administrator),
    (Method::POST, "/teaching/{branch}/crash", Access::Administrator),
    (Method::POST, "/teaching/{branch}/restart", Access::Administrator),
    (Method::GET, "/scenarios", Access::Administrator),
    (Method::GET, "/scenarios/current", Access::Administrator),
    (Method::POST, "/scenarios/next", Access::Administrator),
    (Method::POST, "/scenarios/stop", Access::Administrator),
    (Method::POST, "/scenarios/{name}", Access::Administrator),
];

/// The row of a method and a path; HEAD goes by GET's.
#[must_use]
pub fn access(method: &Method, path: &str) -> Option<Access> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    TABLE.iter().find(|(row_method, row_path, _)| row_method == method && *row_path == path).map(|row| row.2)
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
    fn every_row_for_every_caller() {
        let administrator = Who::Administrator { branch: "Mumbai".parse().unwrap() };
        for (method, path, access) in TABLE {
            for (who, expected) in [
                (&Who::Open, true),
                (&administrator, true),
                (&customer("Mumbai", 1001), *access != Access::Administrator),
                (&Who::Nobody, *access == Access::Anyone),
            ] {
                assert_eq!(check(who, *access).is_ok(), expected, "{method} {path} by {who:?}");
            }
        }
    }

    #[test]
    fn what_is_not_in_the_table_has_no_access() {
        assert_eq!(access(&Method::GET, "/deposit"), None);
        assert_eq!(access(&Method::PUT, "/session"), None);
        assert_eq!(access(&Method::HEAD, "/audit"), Some(Access::Administrator));
        for (index, (method, path, _)) in TABLE.iter().enumerate() {
            assert!(TABLE[..index].iter().all(|row| (&row.0, row.1) != (method, *path)), "{method} {path} twice");
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

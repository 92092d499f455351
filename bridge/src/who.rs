//! Who makes a request, as far as it is known: the one thing that every right hangs on.

use protocol::{AccountNum, BranchName};

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// Someone who is not signed in.
    Nobody,
    /// Anyone, at an open bridge. They may do all.
    Open,
    /// The administrator of a branch; at the bridge they may do all.
    Administrator {
        /// Where they signed in.
        branch: BranchName,
    },
    /// The customer of one account.
    Customer {
        /// The branch.
        branch: BranchName,
        /// The account.
        account: AccountNum,
    },
}

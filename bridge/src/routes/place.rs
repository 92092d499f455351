//! Which branch and which account a request is about.

use std::sync::Arc;

use protocol::AccountNum;

use crate::access::own_account;
use crate::branch::Branch;
use crate::bridge::Bridge;
use crate::error::Error;
use crate::params::Params;
use crate::who::Who;

/// The names under which a request gives a branch: by name, or by host and port.
pub struct Names {
    branch: &'static str,
    host: &'static str,
    port: &'static str,
}

impl Names {
    /// All three.
    pub const fn all(&self) -> [&'static str; 3] {
        [self.branch, self.host, self.port]
    }
}

/// Where the request goes.
pub const HERE: Names = Names { branch: "branch", host: "host", port: "port" };
/// Where a transfer is paid from.
pub const SOURCE: Names = Names { branch: "src_branch", host: "src_host", port: "src_port" };
/// Where it is paid to.
pub const DESTINATION: Names = Names { branch: "dest_branch", host: "dest_host", port: "dest_port" };

/// The branch that a request names; none when it names none.
///
/// # Errors
/// [`Error::BranchNotAllowed`], or [`Error::Input`] when host and port are no address.
pub fn named(bridge: &Bridge, params: &Params, names: &Names) -> Result<Option<Arc<Branch>>, Error> {
    let port: Option<u16> = params.parse(names.port)?;
    let by_address = match (params.get(names.host), port) {
        (Some(host), Some(port)) => Some(bridge.branches.by_address(host, port)?),
        (None, None) => None,
        (Some(_), None) => return Err(Error::Input(format!("the parameter {} is missing", names.port))),
        // Older programs name the port alone and mean this machine, as the older bridge did.
        (None, Some(port)) => Some(bridge.branches.here(port)?),
    };
    let by_name = params.get(names.branch).map(|name| bridge.branches.by_name(name)).transpose()?;
    match (by_name, by_address) {
        (Some(one), Some(other)) if one.name() != other.name() => {
            Err(Error::Input(format!("{} and {} are two branches", names.branch, names.host)))
        }
        (Some(branch), _) | (None, Some(branch)) => Ok(Some(branch)),
        (None, None) => Ok(None),
    }
}

/// Refuses filters other than these and those that name a branch: who asks for less must not get more.
///
/// # Errors
/// [`Error::Input`].
pub fn only(params: &Params, filters: &[&str]) -> Result<(), Error> {
    params.only(&[&HERE.all()[..], filters].concat())
}

/// The branch that a request names; a customer who names none means the own.
///
/// # Errors
/// As [`named`], or [`Error::Input`] when there is none.
pub fn branch(bridge: &Bridge, who: &Who, params: &Params, names: &Names) -> Result<Arc<Branch>, Error> {
    if let Some(branch) = named(bridge, params, names)? {
        return Ok(branch);
    }
    match who {
        Who::Customer { branch, .. } => bridge.branches.by_name(branch.as_str()),
        Who::Open | Who::Administrator { .. } | Who::Nobody => Err(Error::Input(format!(
            "the parameter {} is missing (or {} and {})",
            names.branch, names.host, names.port
        ))),
    }
}

/// The account that a request names, which must be the caller's; a customer who names none means the own.
///
/// # Errors
/// [`Error::Input`] when there is none, [`Error::NotAllowed`] when it is another's.
pub fn account(who: &Who, branch: &Branch, params: &Params, names: &[&str]) -> Result<AccountNum, Error> {
    let missing = || Error::Input(format!("the parameter {} is missing", names[0]));
    let account = account_if_named(who, params, names)?.ok_or_else(missing)?;
    own_account(who, branch.name(), account)?;
    Ok(account)
}

/// The account that a request names, unchecked; a customer who names none means the own.
///
/// # Errors
/// [`Error::Input`].
pub fn account_if_named(who: &Who, params: &Params, names: &[&str]) -> Result<Option<AccountNum>, Error> {
    let own = match who {
        Who::Customer { account, .. } => Some(*account),
        Who::Open | Who::Administrator { .. } | Who::Nobody => None,
    };
    Ok(params.account(names)?.or(own))
}

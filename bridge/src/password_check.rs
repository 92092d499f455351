//! The thread that ends logins whose password was changed at the branch. While a branch gives no answer, nothing can
//! have been changed there, and nothing ends.

use protocol::answer::PasswordVersionOf;
use protocol::request::{Action, PASSWORD_VERSIONS_MAX, PasswordVersions};

use crate::branch::{Branch, Repeat};
use crate::bridge::Bridge;
use crate::limits::{LOGIN_CHECK_INTERVAL, STATUS_TIMEOUT};

/// Asks every branch again and again, until the bridge stops.
pub fn run(bridge: &Bridge) {
    while !bridge.stop.wait(LOGIN_CHECK_INTERVAL) {
        for branch in bridge.branches.all() {
            if branch.state.is_up() {
                check(bridge, &branch);
            }
        }
    }
}

fn check(bridge: &Bridge, branch: &Branch) {
    let logins = bridge.logins.of(branch.name());
    let accounts: Vec<_> = logins.keys().copied().collect();
    for account_nos in accounts.chunks(PASSWORD_VERSIONS_MAX) {
        let params = PasswordVersions { account_nos: account_nos.to_vec() };
        let reply = branch.call_blocking(Action::PasswordVersions, &params, &Repeat::Read, STATUS_TIMEOUT);
        let versions = reply.and_then(|reply| reply.read::<Vec<PasswordVersionOf>>(branch));
        let versions = match versions {
            Ok(versions) => versions,
            Err(error) => {
                log::debug!("the passwords of {}: {error}", branch.name());
                return;
            }
        };
        for now in versions {
            let of_account = logins.get(&now.account_no).into_iter().flatten();
            let changed = of_account.filter(|login| login.version() != now.password_version.as_deref());
            changed.for_each(|login| login.end());
        }
    }
}

//! All branches of the bank, as one of them knows them.

use std::net::IpAddr;

use protocol::answer::{Branch as BranchLine, Status};
use protocol::request::{Action, NoParams};

use crate::branch::Branch;
use crate::commands::HostPort;
use crate::error::ClientError;

/// The state under which a branch lists itself.
const STATE_HERE: &str = "here";

/// A branch of the bank.
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its addresses, as other branches may have it in their messages.
    pub addresses: Vec<String>,
    /// The way to it.
    pub branch: Branch,
}

/// The branch that is asked, and then those that it knows.
///
/// # Errors
/// When that branch refuses or can't be reached.
pub fn all(mut asked: Branch) -> Result<Vec<Peer>, ClientError> {
    let lines: Vec<BranchLine> = asked.ask(Action::Branches, &NoParams {})?.result()?;
    let (here, others): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.state == STATE_HERE);
    let (name, own_addresses) = match here.into_iter().next() {
        Some(line) => (line.name, vec![line.address]),
        None => (asked.ask(Action::Status, &NoParams {})?.result::<Status>()?.name, Vec::new()),
    };
    let mut peers = Vec::with_capacity(others.len() + 1);
    for line in others.into_iter().filter(|line| line.name != name) {
        let Ok(address) = line.address.parse::<HostPort>() else { continue };
        let host = reachable_host(&address.host, asked.host());
        let branch = asked.elsewhere(host, address.port);
        peers.push(Peer { name: line.name, addresses: vec![line.address], branch });
    }
    let mut addresses = own_addresses;
    addresses.push(asked.address());
    peers.insert(0, Peer { name, addresses, branch: asked });
    Ok(peers)
}

/// What a branch on another machine calls its loopback is that machine to us.
fn reachable_host<'h>(host: &'h str, asked: &'h str) -> &'h str {
    let is_loopback = |host: &str| host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if is_loopback(host) && !is_loopback(asked) { asked } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_address_means_the_machine_that_told_it() {
        let check = |host, asked, expected| assert_eq!(reachable_host(host, asked), expected);
        check("127.0.0.1", "127.0.0.1", "127.0.0.1");
        check("127.0.0.1", "localhost", "127.0.0.1");
        check("127.0.0.1", "10.0.0.5", "10.0.0.5");
        check("10.0.0.6", "10.0.0.5", "10.0.0.6");
        check("::1", "bank.example", "bank.example");
    }
}

//! All branches of the bank, as one of them knows them.

use protocol::Address;
use protocol::answer::{Branch as BranchLine, Status};
use protocol::request::{Action, NoParams};

use crate::branch::Branch;
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
        let Ok(address) = line.address.parse::<Address>() else { continue };
        let branch = asked.elsewhere(address.told_by(asked.address()));
        peers.push(Peer { name: line.name, addresses: vec![line.address], branch });
    }
    let mut addresses = own_addresses;
    addresses.push(asked.address().to_string());
    peers.insert(0, Peer { name, addresses, branch: asked });
    Ok(peers)
}

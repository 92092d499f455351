//! Dialling: from an address to a connection whose other end has proved the bank's key and said its name.
//!
//! Each step takes a bounded time. Whoever is found under a name must have that name, and be the only one of it.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use branch_client::{ConnectError, TimeLimits, connect, prove};
use protocol::answer::{Branch, Linked, Status};
use protocol::connection::{CallError, Connection};
use protocol::frame::{BATCH_FRAME_BYTES_MAX, write_frame};
use protocol::key_file::KEY_FILE;
use protocol::request::{Action, Link as LinkParams, NoParams};
use protocol::{Address, BranchName, Epoch};
use tls::Connector;
use two_phase_commit::PeerAddr;

use crate::error::{Error, Result};
use crate::limits::{DIAL_TIMEOUT, TLS_LINGER, WRITE_TIMEOUT};
use crate::peers::links::{LinkFrame, Links, PeerInfo, unknown_branch};

/// How long each step may take until a branch's answers come: the connection, the handshake of TLS, and the two answers of
/// the proof.
const DIAL_LIMITS: TimeLimits = TimeLimits {
    connect: DIAL_TIMEOUT,
    read: DIAL_TIMEOUT,
    write: WRITE_TIMEOUT,
    attempt: DIAL_TIMEOUT.saturating_mul(4),
    linger: TLS_LINGER,
};

/// A connection on which both sides have agreed on a link.
pub(super) struct Dialled {
    pub(super) name: BranchName,
    pub(super) with: PeerInfo,
    pub(super) stream: TcpStream,
}

impl Links {
    /// The branches that a known branch knows, as it answers when asked.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when it does not answer.
    pub fn ask_branches(&self, name: &BranchName) -> Result<Vec<Branch>> {
        let address = self.directory.address_of(name).ok_or_else(|| unknown_branch(name.as_str()))?;
        let (found, mut connection) = self.open(&address)?;
        if found != *name {
            return Err(misplaced(&address, &found, name));
        }
        connection.call(Action::Branches, &NoParams {}, None).map_err(|error| no_answer(&address, &error))
    }

    /// Connects to a peer by the name or address that stands for it.
    pub(super) fn dial(&self, peer: &PeerAddr) -> Result<Dialled> {
        let text = peer.as_str();
        let name = text.parse::<BranchName>().ok();
        let address = match (&name, text.parse::<Address>()) {
            // A name stands for wherever the branch is known to be today.
            (Some(name), _) => self.directory.address_of(name),
            // An outside program has named a coordinator so, and nobody knows its name yet.
            (None, Ok(address)) => Some(address),
            (None, Err(_)) => None,
        };
        let address = address.ok_or_else(|| unknown_branch(text))?;
        match &name {
            Some(name) => self.reach_branch(name, &address, |address| self.connect_to(address, Some(name))),
            None => self.connect_to(&address, None).map_err(|error| as_no_answer(&address, error)),
        }
    }

    /// Connects to a branch where it is known to be; if it is not there any more, where a replica that is there says that
    /// its primary is, or where the branch has called from. Where it is found is noted: two branches that were both
    /// promoted elsewhere find one another by what stands in their old places.
    ///
    /// # Errors
    /// Why it can't be reached where it is known to be.
    pub fn reach_branch<T>(
        &self,
        name: &BranchName,
        address: &Address,
        connect: impl Fn(&Address) -> Result<T>,
    ) -> Result<T> {
        let error = match connect(address) {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        let mut by_replica = None;
        // A replica stands where the primary was, and knows where the primary is.
        if let Error::NotPrimary { primary: Some(primary) } = &error {
            by_replica = primary.parse().ok();
        }
        // Each is hearsay until the branch there has proved the key and said its name, which `connect` sees to.
        for moved_to in by_replica.into_iter().chain(self.directory.observed_at(name)) {
            if let Ok(connected) = connect(&moved_to) {
                self.directory.learn(name, &moved_to)?;
                return Ok(connected);
            }
        }
        Err(as_no_answer(address, error))
    }

    /// Connects to a branch that must have this name, if one is given.
    fn connect_to(&self, address: &Address, name: Option<&BranchName>) -> Result<Dialled> {
        let dialled = self.connect_primary(address)?;
        match name {
            // Another branch has taken over the address. Messages of a transfer must not reach it.
            Some(name) if *name != dialled.name => Err(misplaced(address, &dialled.name, name)),
            Some(_) | None => Ok(dialled),
        }
    }

    /// Looks where a branch is that has called from elsewhere than it is known to be: its known address stays as long
    /// as it answers there, and gives way to the other one when it answers at that alone. Takes a bounded time.
    pub(super) fn look_where(&self, name: &BranchName) {
        let is_at = |address: &Address| self.open(address).is_ok_and(|(found, _)| found == *name);
        let Some(known) = self.directory.address_of(name) else { return };
        // Both answer: a branch has several addresses, and the sure one stays.
        if is_at(&known) {
            return;
        }
        let Some(observed) = self.directory.observed_at(name).filter(is_at) else { return };
        match self.directory.learn(name, &observed) {
            Ok(()) => log::info!("branch {name} is at {observed} now, and no longer at {known}"),
            Err(error) => log::warn!("the new address of branch {name} could not be noted: {error}"),
        }
    }

    /// Notes that a branch was found at an address: its own, unless it is known to be at another and answers there.
    pub(super) fn note_where(&self, name: &BranchName, address: &Address) -> Result<()> {
        let known = self.directory.address_of(name).filter(|known| known != address);
        let answers = |known: &Address| self.open(known).is_ok_and(|(found, _)| found == *name);
        if known.as_ref().is_some_and(answers) {
            self.directory.learn_alias(address, name);
            return Ok(());
        }
        self.directory.learn(name, address)
    }

    /// As [`Links::connect_primary`], for who has only this address.
    pub(super) fn connect(&self, address: &Address) -> Result<Dialled> {
        self.connect_primary(address).map_err(|error| as_no_answer(address, error))
    }

    /// Connects, proves the key both ways, and turns the connection into a link. Takes a bounded time. The peer is of
    /// no lower epoch than is known of it. [`Error::NotPrimary`] says that a replica is there.
    fn connect_primary(&self, address: &Address) -> Result<Dialled> {
        let (name, mut connection) = self.open(address)?;
        let agreed = self.agree(&name, address, &mut connection);
        let mut stream = connection.into_stream();
        match agreed {
            Ok(with) => Ok(Dialled { name, with, stream }),
            Err(error @ Error::NameTaken(_)) => {
                // The other side may count this as a link; so it is told there why it ends.
                let farewell = LinkFrame { messages: Vec::new(), refused: Some(error.to_string()) };
                let body = serde_json::to_vec(&farewell).expect("a sentence is always JSON");
                let _ = write_frame(&mut stream, &body, BATCH_FRAME_BYTES_MAX);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the branch at the other end of a connection for a link, and weighs what it says of itself.
    ///
    /// # Errors
    /// That it refuses, or that it is not to be dealt with.
    pub fn agree<S: Read + Write>(
        &self,
        name: &BranchName,
        address: &Address,
        connection: &mut Connection<S>,
    ) -> Result<PeerInfo> {
        // What this branch has heard of the other goes along, so that a primary that was replaced learns it from
        // whoever it calls.
        let known =
            if *name == self.identity.name { self.identity.epoch.clone() } else { self.directory.epoch_of(name) };
        let params = LinkParams {
            branch: self.identity.name.clone(),
            port: self.identity.port,
            host: self.identity.host.clone(),
            instance: Some(self.identity.instance.clone()),
            epoch: self.identity.epoch.number,
            epoch_id: self.identity.epoch.id.clone(),
            your_epoch: known.number,
            your_epoch_id: known.id,
        };
        let answered = connection.call::<Linked>(Action::Link, &params, None);
        if let Err(CallError::Refused(refused)) = &answered
            // A replica takes no links. It is asked, over the same connection, for the primary that it follows.
            && refused.code == Error::NOT_PRIMARY
        {
            let status = connection.call::<Status>(Action::Status, &NoParams {}, None);
            let primary = status.ok().and_then(|status| status.replication?.primary);
            return Err(Error::NotPrimary { primary });
        }
        let linked = answered.map_err(|error| match error {
            CallError::Refused(refused) if refused.code == Error::NAME_TAKEN => {
                Error::NameTaken(format!("the branch at {address} refuses the link: {}", refused.text))
            }
            CallError::Refused(refused)
                if refused.code == Error::LOWER_EPOCH || refused.code == Error::EPOCH_CONFLICT =>
            {
                // A branch of an earlier version does not say which one it knows; it is higher.
                let own = self.identity.epoch.number;
                let known = refused.known_epoch.unwrap_or_else(|| Epoch::new(own.saturating_add(1), ""));
                (self.identity.on_replaced)(&known);
                no_answer(address, &refused.text)
            }
            other => no_answer(address, &other),
        })?;
        let epoch = Epoch::new(linked.epoch, &linked.epoch_id);
        if *name == self.identity.name {
            (self.identity.on_replaced)(&epoch);
        } else {
            // Durably, before anything is said over the link: an older primary of this name is refused from now on,
            // after a restart too.
            self.directory.learn_epoch(name, &epoch)?;
        }
        // Last, because it may wait for a moment.
        self.refuse_rival(name, &linked.instance, linked.epoch)?;
        Ok(PeerInfo { instance: Some(linked.instance), epoch })
    }

    /// Connects and proves the key both ways. Takes a bounded time.
    fn open(&self, address: &Address) -> Result<(BranchName, Connection<TcpStream>)> {
        let trouble = |what: &dyn std::fmt::Display| no_answer(address, what);
        let stream = reach(address, self.identity.tls.as_ref())?;
        let mut connection = Connection::new(stream);
        let name = prove(&mut connection, &self.identity.key).map_err(|error| match error {
            CallError::Stranger => Error::Unreachable(format!(
                "the branch at {address} has another key: copy this bank's {KEY_FILE} beside its database and start it again"
            )),
            other => trouble(&other),
        })?;
        let name: BranchName = name.parse().map_err(|error| trouble(&error))?;
        // Only now is the name known under which a class has cut it.
        self.refuse_cut(&PeerAddr::from(&name))?;
        Ok((name, connection))
    }
}

/// Whether an address is this very process's, whatever name it has there.
#[must_use]
pub fn is_here(address: &Address, port: u16) -> bool {
    // Only an address of this machine can be bound.
    address.port == port && UdpSocket::bind((address.host.as_str(), 0)).is_ok()
}

/// Connects, over TLS if there is a connector, and sets the time-outs. Takes a bounded time.
///
/// # Errors
/// [`Error::Unreachable`].
pub fn reach(address: &Address, tls: Option<&Connector>) -> Result<TcpStream> {
    connect(address, &DIAL_LIMITS, tls).map_err(|error| match error {
        ConnectError::LookUp(_) | ConnectError::Connect(_) => no_answer(address, &error),
        ConnectError::Tls(error) => Error::Unreachable(format!(
            "no TLS comes about with {address} ({error}): a branch there must have --tls-cert, of an authority in --tls-ca and for {}",
            address.host
        )),
    })
}

fn no_answer(address: &Address, what: &dyn std::fmt::Display) -> Error {
    Error::Unreachable(format!("no branch answers at {address}: {what}"))
}

fn misplaced(address: &Address, found: &BranchName, wanted: &BranchName) -> Error {
    Error::Unreachable(format!("at {address} there is branch {found}, not {wanted}"))
}

/// What a link that a replica refuses is for who wanted it. Their own branch is none.
fn as_no_answer(address: &Address, error: Error) -> Error {
    if matches!(error, Error::NotPrimary { .. }) { no_answer(address, &error) } else { error }
}

//! One branch of the bank: where it is, a few connections to it, and how it was last seen.
//!
//! Calls block on sockets, so they run on the threads that tokio keeps for that; how many at a time is bounded by
//! places, which a call takes before it takes a thread. A branch that has stopped holds up its own callers alone.
//!
//! A read that got no answer is repeated once on a new connection. A write carries a request id and is repeated once
//! under the same id, so it is carried out once at most. A lesson's step is never repeated.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use protocol::connection::CallError;
use protocol::request::{Action, CheckPassword};
use protocol::{Address, BranchName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::dial::{BranchConnection, dial, set_patience};
use crate::error::Error;
use crate::key::Keys;
use crate::limits::{
    CALL_TIMEOUT, CALLS_PER_BRANCH, PASSWORDS_PER_BRANCH, PLACE_TIMEOUT, TRANSFER_TIMEOUT, TRANSFERS_PER_BRANCH,
};
use crate::request_id::RequestId;
use crate::seen::Seen;

/// One branch.
pub struct Branch {
    name: BranchName,
    keys: Arc<Keys>,
    address: Mutex<Address>,
    idle: Mutex<Vec<BranchConnection>>,
    places: Arc<Semaphore>,
    transfer_places: Arc<Semaphore>,
    password_places: Arc<Semaphore>,
    /// Open streams that must break when the branch counts as down, or at the end.
    streams: Mutex<Vec<(u64, TcpStream)>>,
    next_stream: AtomicU64,
    /// How it was last seen.
    pub seen: Seen,
}

/// What a call may do when its answer is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing: it is asked again.
    Read,
    /// It is sent again under this id.
    Write(RequestId),
    /// It may wait for other branches, and is sent again under this id.
    Transfer(RequestId),
    /// It is not sent again.
    Never,
}

/// A branch's answer: the result and where a list goes on, as JSON, digit for digit as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The result.
    pub result: String,
    /// The `next` beside it.
    pub next: Option<String>,
}

impl Branch {
    /// A branch that was not seen yet.
    #[must_use]
    pub fn new(name: BranchName, address: Address, keys: Arc<Keys>) -> Self {
        Self {
            name,
            keys,
            address: Mutex::new(address),
            idle: Mutex::new(Vec::new()),
            places: Arc::new(Semaphore::new(CALLS_PER_BRANCH)),
            transfer_places: Arc::new(Semaphore::new(TRANSFERS_PER_BRANCH)),
            password_places: Arc::new(Semaphore::new(PASSWORDS_PER_BRANCH)),
            streams: Mutex::new(Vec::new()),
            next_stream: AtomicU64::new(0),
            seen: Seen::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &BranchName {
        &self.name
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address.lock().clone()
    }

    /// It is elsewhere from now on.
    pub fn moved_to(&self, address: Address) {
        let mut here = self.address.lock();
        if *here != address {
            log::info!("branch {} is at {address} now, no longer at {here}", self.name);
            *here = address;
            drop(here);
            self.break_connections();
        }
    }

    /// Asks the branch, from async code.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Unreachable`], [`Error::OutcomeUnknown`] or [`Error::Busy`].
    pub async fn call(
        self: &Arc<Self>,
        action: Action,
        params: impl Serialize + Send + 'static,
        repeat: Repeat,
    ) -> Result<Reply, Error> {
        let (places, limit) = match repeat {
            Repeat::Transfer(_) => (&self.transfer_places, TRANSFER_TIMEOUT),
            Repeat::Read | Repeat::Write(_) | Repeat::Never => (&self.places, CALL_TIMEOUT),
        };
        self.call_from(places, limit, move |branch, limit| branch.call_blocking(action, &params, &repeat, limit)).await
    }

    /// Whether a password is right.
    ///
    /// # Errors
    /// As [`Branch::call`]; the branch refuses a wrong one.
    pub async fn check_password(self: &Arc<Self>, params: CheckPassword) -> Result<Reply, Error> {
        let check =
            move |branch: &Self, limit| branch.call_blocking(Action::CheckPassword, &params, &Repeat::Read, limit);
        self.call_from(&self.password_places, CALL_TIMEOUT, check).await
    }

    async fn call_from<R: Send + 'static>(
        self: &Arc<Self>,
        places: &Arc<Semaphore>,
        limit: Duration,
        call: impl FnOnce(&Self, Duration) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        let place = tokio::time::timeout(PLACE_TIMEOUT, Arc::clone(places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(Error::Busy("too many requests wait for this branch; try again in a moment"));
        };
        let branch = Arc::clone(self);
        // The place is given back when the call ends, not when its client goes away.
        let call = move || {
            let reply = call(&branch, limit);
            drop(place);
            reply
        };
        tokio::task::spawn_blocking(call).await.map_err(|error| Error::Internal(error.to_string()))?
    }

    /// Asks the branch what changes nothing, and reads the result.
    ///
    /// # Errors
    /// As [`Branch::call`].
    pub async fn read<R: DeserializeOwned + Send + 'static>(
        self: &Arc<Self>,
        action: Action,
        params: impl Serialize + Send + 'static,
    ) -> Result<(R, Option<String>), Error> {
        // A long list takes a while to be read, and the async threads serve everybody.
        let call = move |branch: &Self, limit| {
            let reply = branch.call_blocking(action, &params, &Repeat::Read, limit)?;
            Ok((reply.read(branch)?, reply.next))
        };
        self.call_from(&self.places, CALL_TIMEOUT, call).await
    }

    /// Asks the branch, on this thread.
    ///
    /// # Errors
    /// As [`Branch::call`], but never [`Error::Busy`].
    pub fn call_blocking(
        &self,
        action: Action,
        params: &impl Serialize,
        repeat: &Repeat,
        limit: Duration,
    ) -> Result<Reply, Error> {
        let request_id = match repeat {
            Repeat::Write(id) | Repeat::Transfer(id) => Some(id),
            Repeat::Read | Repeat::Never => None,
        };
        // An idle connection may have died since; what is never repeated must not be lost in it.
        let kept = if *repeat == Repeat::Never { None } else { self.idle.lock().pop() };
        let mut was_sent = false;
        let mut cause = String::new();
        for connection in [kept.map(Ok), None] {
            let connection = connection.unwrap_or_else(|| self.open());
            let mut connection = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    cause = error;
                    break;
                }
            };
            was_sent = true;
            match attempt(&mut connection, action, params, request_id.map(RequestId::sent), limit) {
                Ok(reply) => {
                    self.keep(connection);
                    return Ok(reply);
                }
                Err(CallError::Refused(error)) => {
                    self.keep(connection);
                    return Err(Error::Refused(error));
                }
                Err(error) => cause = error.to_string(),
            }
            if *repeat == Repeat::Never {
                break;
            }
        }
        let branch = self.name.to_string();
        Err(match request_id.filter(|_| was_sent) {
            Some(id) => Error::OutcomeUnknown { branch, cause, request_id: id.given().to_string() },
            None => Error::Unreachable { branch, cause },
        })
    }

    /// A new connection, proved, to the branch of this name.
    ///
    /// # Errors
    /// Why there is none.
    pub fn open(&self) -> Result<BranchConnection, String> {
        let address = self.address();
        let (connection, name) = dial(&address, &self.keys).map_err(|error| error.to_string())?;
        if name != self.name.as_str() {
            return Err(format!("at {address} is the branch {name}, not {}", self.name));
        }
        Ok(connection)
    }

    /// Registers a connection that breaks with [`Branch::break_connections`]. Gives a number for [`Branch::forget`].
    pub fn register(&self, connection: &BranchConnection) -> u64 {
        let number = self.next_stream.fetch_add(1, Ordering::Relaxed);
        if let Ok(stream) = connection.stream().try_clone() {
            self.streams.lock().push((number, stream));
        }
        number
    }

    /// Ends a registration.
    pub fn forget(&self, number: u64) {
        self.streams.lock().retain(|(other, _)| *other != number);
    }

    /// Breaks all registered connections and lets the idle ones go: the branch is down, elsewhere, or we stop.
    pub fn break_connections(&self) {
        self.idle.lock().clear();
        for (_, stream) in self.streams.lock().iter() {
            // One that is broken already needs no breaking.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn keep(&self, connection: BranchConnection) {
        let mut idle = self.idle.lock();
        if idle.len() < CALLS_PER_BRANCH {
            idle.push(connection);
        }
    }
}

impl Reply {
    /// The result in its type.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the branch answered something else.
    pub fn read<R: DeserializeOwned>(&self, branch: &Branch) -> Result<R, Error> {
        serde_json::from_str(&self.result).map_err(|error| Error::Unreachable {
            branch: branch.name.to_string(),
            cause: format!("its answer cannot be read: {error}"),
        })
    }
}

fn attempt(
    connection: &mut BranchConnection,
    action: Action,
    params: &impl Serialize,
    request_id: Option<&str>,
    limit: Duration,
) -> Result<Reply, CallError> {
    set_patience(connection, Some(limit))?;
    connection.send(action, params, request_id)?;
    let answer = connection.receive()?;
    let result = answer.result().map_err(CallError::Refused)?.to_string();
    Ok(Reply { result, next: answer.next.map(|next| next.get().to_string()) })
}

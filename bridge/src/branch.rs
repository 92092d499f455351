//! One branch of the bank: where it is, a few connections to it, and its last known state.
//!
//! Calls block on sockets, so they run on the threads that tokio keeps for that; how many at a time is bounded by
//! places, which a call takes before it takes a thread. A branch that has stopped holds up its own callers alone.
//!
//! A read that got no answer is repeated once on a new connection. A write carries a request id and is repeated once
//! under the same id, so it is carried out once at most. A lesson's step is never repeated. How that is done, and how the
//! key is proved, is the crate `branch_client`'s.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use branch_client::{Caller, Cause, Credentials, OpenError, Opened, Request, Retry, TimeLimits, Unanswered, open};
use parking_lot::Mutex;
use protocol::connection::Connection;
use protocol::request::{Action, CheckPassword};
use protocol::{Address, BranchName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::branch_state::BranchState;
use crate::error::Error;
use crate::limits::{
    CALL_TIMEOUT, CALLS_PER_BRANCH, CONNECT_TIMEOUT, PASSWORDS_PER_BRANCH, PLACE_TIMEOUT, PROOF_TIMEOUT, TLS_LINGER,
    TRANSFER_TIMEOUT, TRANSFERS_PER_BRANCH,
};
use crate::request_id::RequestId;

/// A connection to a branch.
pub type BranchConnection = Connection<TcpStream>;

/// One branch.
pub struct Branch {
    name: BranchName,
    credentials: Arc<Credentials>,
    address: Mutex<Address>,
    idle: Mutex<Vec<Opened>>,
    places: Arc<Semaphore>,
    transfer_places: Arc<Semaphore>,
    password_places: Arc<Semaphore>,
    /// Open streams that must break when the branch counts as down, or at the end.
    streams: Mutex<Vec<(u64, TcpStream)>>,
    next_stream: AtomicU64,
    /// Its last known state.
    pub state: BranchState,
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
    /// A branch that was not asked yet.
    #[must_use]
    pub fn new(name: BranchName, address: Address, credentials: Arc<Credentials>) -> Self {
        Self {
            name,
            credentials,
            address: Mutex::new(address),
            idle: Mutex::new(Vec::new()),
            places: Arc::new(Semaphore::new(CALLS_PER_BRANCH)),
            transfer_places: Arc::new(Semaphore::new(TRANSFERS_PER_BRANCH)),
            password_places: Arc::new(Semaphore::new(PASSWORDS_PER_BRANCH)),
            streams: Mutex::new(Vec::new()),
            next_stream: AtomicU64::new(0),
            state: BranchState::default(),
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
        let (request_id, retry) = match repeat {
            Repeat::Write(id) | Repeat::Transfer(id) => (Some(id), Retry::Once),
            Repeat::Read => (None, Retry::Once),
            Repeat::Never => (None, Retry::Never),
        };
        // An idle connection may have died since; what is never repeated must not be lost in it.
        let kept = if *repeat == Repeat::Never { None } else { self.idle.lock().pop() };
        let mut caller = Caller { opened: kept, ..self.caller() };
        let request = Request { action, params, request_id: request_id.map(RequestId::sent) };
        let answer = caller.call(&request, retry, &time_limits(limit));
        if let Some(opened) = caller.opened {
            self.keep(opened);
        }
        let answer = answer.map_err(|Unanswered { cause, may_be_done }| {
            let cause = match cause {
                Cause::Open(error) => self.not_opened(&error),
                Cause::Unsendable(error) | Cause::Call(error) => error.to_string(),
                Cause::Later(error) => error.text,
            };
            let branch = self.name.to_string();
            match request_id.filter(|_| may_be_done) {
                Some(id) => Error::OutcomeUnknown { branch, cause, request_id: id.given().to_string() },
                None => Error::Unreachable { branch, cause },
            }
        })?;
        let result = answer.result().map_err(Error::Refused)?.to_string();
        Ok(Reply { result, next: answer.next.map(|next| next.get().to_string()) })
    }

    fn not_opened(&self, error: &OpenError) -> String {
        match error {
            OpenError::OtherBranch(name) => format!("at {} is the branch {name}, not {}", self.address(), self.name),
            error => not_opened(error),
        }
    }

    /// A new connection, proved, to the branch of this name.
    ///
    /// # Errors
    /// Why there is none.
    pub fn open(&self) -> Result<BranchConnection, String> {
        let opened = self.caller().open(&time_limits(CALL_TIMEOUT));
        opened.map(|opened| opened.connection).map_err(|error| self.not_opened(&error))
    }

    fn caller(&self) -> Caller {
        let (credentials, name) = (Arc::clone(&self.credentials), Some(self.name.clone()));
        Caller { credentials, address: self.address(), others: VecDeque::new(), name, opened: None }
    }

    /// Registers a connection that breaks with [`Branch::break_connections`]. Returns a number for [`Branch::forget`].
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

    fn keep(&self, opened: Opened) {
        let mut idle = self.idle.lock();
        if idle.len() < CALLS_PER_BRANCH {
            idle.push(opened);
        }
    }
}

impl Reply {
    /// The result in its type.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the branch answered something else.
    pub fn read<R: DeserializeOwned>(&self, branch: &Branch) -> Result<R, Error> {
        parse(&self.result, branch)
    }

    /// Where the list goes on, in its type.
    ///
    /// # Errors
    /// As [`Reply::read`].
    pub fn next<N: DeserializeOwned>(&self, branch: &Branch) -> Result<Option<N>, Error> {
        self.next.as_ref().map(|next| parse(next, branch)).transpose()
    }
}

fn parse<T: DeserializeOwned>(json: &str, branch: &Branch) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|error| Error::Unreachable {
        branch: branch.name.to_string(),
        cause: format!("its answer cannot be read: {error}"),
    })
}

/// A connection to whichever branch is at an address, and the name of that branch.
///
/// # Errors
/// Why there is none.
pub fn find(address: &Address, credentials: &Credentials) -> Result<(BranchConnection, String), String> {
    let mut opened = open(address, credentials, &time_limits(CALL_TIMEOUT)).map_err(|error| not_opened(&error))?;
    let name = opened.branch().map_err(|error| error.to_string())?;
    Ok((opened.connection, name))
}

fn not_opened(error: &OpenError) -> String {
    match error {
        OpenError::Stranger { .. } => "it does not hold this bank's key (bank-bridge --key)".into(),
        OpenError::Refused(error) => error.text.clone(),
        OpenError::Connect(_) | OpenError::OtherBranch(_) | OpenError::Call(_) => error.to_string(),
    }
}

/// The limits of a call that may take so long, with the connection that it may need.
const fn time_limits(attempt: Duration) -> TimeLimits {
    TimeLimits { connect: CONNECT_TIMEOUT, read: PROOF_TIMEOUT, write: PROOF_TIMEOUT, attempt, linger: TLS_LINGER }
}

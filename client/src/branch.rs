//! A connection to one branch: made when it is needed, proved, and made again when an answer is lost.
//!
//! A request that got no answer is sent again, the same bytes under the same request id, a bounded number of times
//! within the time limit; the branch carries it out once. When that doesn't help the outcome of a write is unknown,
//! and the error says so and how to find it out. A refusal is an answer: it is not tried again.

mod error;

use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use protocol::Address;
use protocol::answer::Answer;
use protocol::connection::{CallError, Connection};
use protocol::frame::FrameError;
use protocol::key_file::FoundKey;
use protocol::proof::PROOF_BYTES;
use protocol::request::Action;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tls::Connector;

use crate::connect::connect;
use crate::error::{ClientError, Door};
use crate::key::Keys;

pub use error::BranchError;

/// How often one request is sent at most.
const ATTEMPTS_MAX: u32 = 8;
/// The wait before the second attempt; it doubles from one to the next.
const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
/// The longest wait between two attempts.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);
/// One attempt may take this part of the time limit, so that a branch that has stopped leaves time for another.
const ATTEMPT_PART: u32 = 3;
/// But so long in any case: a transfer waits for other branches.
const ATTEMPT_MIN: Duration = Duration::from_secs(10);
/// The longest back-off is reached within the attempts, and not shifted out of range.
const _: () = assert!(ATTEMPTS_MAX < 16);

/// What all branches that a command asks have in common.
#[derive(Clone, Debug)]
pub struct Access {
    /// The keys that may be proved.
    pub keys: Keys,
    /// TLS, when it is wanted.
    pub tls: Option<Connector>,
    /// The longest that one request may take, with all its attempts.
    pub timeout: Duration,
    /// What was typed, without a request id: what to type again when an outcome is unknown.
    pub command_line: String,
}

/// One branch, at its address.
pub struct Branch {
    access: Arc<Access>,
    address: Address,
    connection: Option<Connection<TcpStream>>,
    /// The file of the key that the branch was shown to share; none on a connection without proof.
    proved: Option<String>,
}

impl Branch {
    /// The branch at an address. No connection is made yet.
    #[must_use]
    pub fn new(access: Arc<Access>, address: Address) -> Self {
        Self { access, address, connection: None, proved: None }
    }

    /// Another branch, with the same keys and limits.
    #[must_use]
    pub fn elsewhere(&self, address: Address) -> Self {
        Self::new(Arc::clone(&self.access), address)
    }

    /// The same branch, by a connection of its own.
    #[must_use]
    pub fn again(&self) -> Self {
        self.elsewhere(self.address.clone())
    }

    /// The longest that one request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.access.timeout
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Asks what changes nothing.
    ///
    /// # Errors
    /// When the branch can't be reached or does not answer. A refusal is a [`Reply`].
    pub fn ask(&mut self, action: Action, params: &impl Serialize) -> Result<Reply, ClientError> {
        self.call(action, params, None)
    }

    /// Sends a write under its id. `again_id` is the id with which the whole command is to be repeated.
    ///
    /// # Errors
    /// As [`Branch::ask`]; `OutcomeUnknown` when it may have been carried out.
    pub fn order(
        &mut self,
        action: Action,
        params: &impl Serialize,
        request_id: &str,
        again_id: &str,
    ) -> Result<Reply, ClientError> {
        self.call(action, params, Some((request_id, again_id)))
    }

    /// Sends a request a single time, and waits for its answer as long as `patience` says. `None` when the connection
    /// ended, or stayed silent, instead: the branch may have done it, or may be gone.
    ///
    /// # Errors
    /// When the branch can't be reached, so nothing was done.
    pub fn ask_once(
        &mut self,
        action: Action,
        params: &impl Serialize,
        request_id: Option<&str>,
        patience: Duration,
    ) -> Result<Option<Reply>, ClientError> {
        match self.attempt(action, params, request_id, patience) {
            Ok(reply) => Ok(Some(reply)),
            Err(Failure::Final(error) | Failure::Connecting(error)) => Err(error),
            Err(Failure::Lost { was_sent: true, .. }) => Ok(None),
            Err(Failure::Lost { cause, was_sent: false }) => Err(self.gave_up(cause, None, request_id.is_some())),
        }
    }

    fn call(
        &mut self,
        action: Action,
        params: &impl Serialize,
        ids: Option<(&str, &str)>,
    ) -> Result<Reply, ClientError> {
        let deadline = Instant::now() + self.access.timeout;
        let request_id = ids.map(|(request_id, _)| request_id);
        let mut may_be_done = false;
        let mut back_off = BACK_OFF_FIRST;
        let mut attempts_left = ATTEMPTS_MAX;
        loop {
            let limit = attempt_limit(self.access.timeout, deadline.saturating_duration_since(Instant::now()));
            let (cause, not_now) = match self.attempt(action, params, request_id, limit) {
                Ok(reply) => match reply.later() {
                    None => return Ok(reply),
                    Some(Later::NotNow) => (reply.text(), Some(reply)),
                    Some(Later::NotKnown) => {
                        may_be_done = true;
                        (reply.text(), None)
                    }
                },
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Connecting(error)) if !may_be_done => return Err(error),
                Err(Failure::Connecting(ClientError::Unreachable { source, .. })) => {
                    (format!("it can't be reached any more: {source}"), None)
                }
                Err(Failure::Connecting(error)) => (error.to_string(), None),
                Err(Failure::Lost { cause, was_sent }) => {
                    self.connection = None;
                    may_be_done |= was_sent;
                    (cause, None)
                }
            };
            attempts_left -= 1;
            if attempts_left == 0 || Instant::now() + back_off >= deadline {
                let again_id = ids.filter(|_| may_be_done).map(|(_, again_id)| again_id);
                return match not_now.filter(|_| !may_be_done) {
                    Some(reply) => Ok(reply),
                    None => Err(self.gave_up(cause, again_id, ids.is_some())),
                };
            }
            thread::sleep(back_off);
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    fn attempt(
        &mut self,
        action: Action,
        params: &impl Serialize,
        request_id: Option<&str>,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let until = Instant::now() + limit;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open(until)?,
        };
        let lost = |cause| Failure::Lost { cause, was_sent: true };
        connection.stream().set_read_timeout(Some(left(until))).map_err(|error| lost(error.to_string()))?;
        match connection.send(action, params, request_id) {
            Ok(()) => {}
            Err(CallError::Json(error)) => return Err(Failure::Final(ClientError::Usage(error.to_string()))),
            Err(CallError::Frame(FrameError::TooLong { length, bytes_max })) => {
                let sentence = format!("the request has {length} bytes, and a branch takes {bytes_max}: split it");
                return Err(Failure::Final(ClientError::Usage(sentence)));
            }
            Err(error) => return Err(lost(error::cause(&error))),
        }
        let address = self.address.to_string();
        let answer = connection.receive().map_err(|error| failure_to_hear(error, &address, true))?;
        let body = connection.last_answer().to_vec();
        self.connection = Some(connection);
        Ok(Reply { body, answer, address, hint: self.hint() })
    }

    /// Connects, and proves a key if there is one that the branch shares.
    ///
    /// A branch that has no use for the proof says so by refusing it, and is spoken to without. One that does not
    /// share a key that was only found is spoken to without on this machine, where `--open` branches are.
    fn open(&mut self, until: Instant) -> Result<Connection<TcpStream>, Failure> {
        self.proved = None;
        let keys = self.access.keys.clone();
        let mut stranger_to = None;
        for found in &keys.found {
            let mut connection = self.dial(until)?;
            match prove(&mut connection, found, &self.address.to_string())? {
                Proof::Shared => {
                    self.proved = Some(found.path.display().to_string());
                    return Ok(connection);
                }
                Proof::Unwanted => return Ok(connection),
                Proof::Stranger => stranger_to = Some(found),
            }
        }
        let connection = self.dial(until)?;
        let is_here = connection.stream().peer_addr().is_ok_and(|address| address.ip().is_loopback());
        match stranger_to {
            Some(found) if keys.is_named || !is_here => {
                let key = found.path.display().to_string();
                Err(Failure::Final(ClientError::Branch(BranchError::Stranger {
                    address: self.address.to_string(),
                    key,
                })))
            }
            Some(_) | None => Ok(connection),
        }
    }

    fn dial(&self, until: Instant) -> Result<Connection<TcpStream>, Failure> {
        let limit = left(until);
        let stream =
            connect(Door::Branch, &self.address, limit, self.access.tls.as_ref()).map_err(Failure::Connecting)?;
        let set = stream.set_read_timeout(Some(limit));
        set.map_err(|error| Failure::Lost { cause: error.to_string(), was_sent: false })?;
        Ok(Connection::new(stream))
    }

    fn gave_up(&self, cause: String, again_id: Option<&str>, is_write: bool) -> ClientError {
        let address = self.address.to_string();
        ClientError::Branch(match again_id {
            None => BranchError::NoAnswer { address, cause, is_write },
            Some(id) => {
                let again = format!("{} --request-id {}", self.access.command_line, quoted(id));
                BranchError::OutcomeUnknown { address, cause, again }
            }
        })
    }

    /// What to do about a refusal for want of permission.
    fn hint(&self) -> Option<String> {
        match (&self.proved, self.access.keys.found.first()) {
            (Some(_), _) => None,
            (None, None) => Some(
                "run it where the branch's bank.key is, or name a copy of that file with --key (or BANK_KEY)".into(),
            ),
            (None, Some(found)) => Some(format!(
                "the key of {} is not this branch's; name the right one with --key (or BANK_KEY)",
                found.path.display()
            )),
        }
    }

    /// Sends a question to which many answers come, and hands each to `take` until it says that it was the last.
    ///
    /// # Errors
    /// When the branch can't be reached, or stops answering for longer than `patience` (without one, for any time).
    pub fn stream(
        &mut self,
        action: Action,
        params: &impl Serialize,
        patience: Option<Duration>,
        mut take: impl FnMut(&Reply) -> Result<bool, ClientError>,
    ) -> Result<(), ClientError> {
        let first = self.ask(action, params)?;
        if let Some(connection) = &self.connection {
            let set = connection.stream().set_read_timeout(patience);
            set.map_err(|error| self.gave_up(error.to_string(), None, false))?;
        }
        let mut goes_on = take(&first)?;
        while goes_on {
            let Some(connection) = &mut self.connection else { break };
            let answer = match connection.receive() {
                Ok(answer) => answer,
                Err(error) => return Err(self.gave_up(error::cause(&error), None, false)),
            };
            let body = connection.last_answer().to_vec();
            let reply = Reply { body, answer, address: self.address.to_string(), hint: self.hint() };
            goes_on = take(&reply)?;
        }
        Ok(())
    }
}

/// How an attempt failed.
enum Failure {
    /// No other attempt would do better.
    Final(ClientError),
    /// The branch could not be reached.
    Connecting(ClientError),
    /// The connection was lost, or no answer came.
    Lost {
        /// In which way.
        cause: String,
        /// Whether the request may have come across before.
        was_sent: bool,
    },
}

/// What came of the proof of a key.
enum Proof {
    /// Both sides hold it.
    Shared,
    /// The branch refuses to talk about keys.
    Unwanted,
    /// The branch does not hold it.
    Stranger,
}

/// Noise is told from silence: what is no frame, or no answer in it, will be none the next time either.
fn failure_to_hear(error: CallError, address: &str, was_sent: bool) -> Failure {
    match error {
        CallError::Json(_) | CallError::Frame(FrameError::TooLong { .. }) => {
            let address = address.to_string();
            Failure::Final(ClientError::Branch(BranchError::NotUnderstood { address, cause: error.to_string() }))
        }
        CallError::Refused(_) | CallError::Stranger | CallError::Closed | CallError::Frame(_) => {
            Failure::Lost { cause: error::cause(&error), was_sent }
        }
    }
}

fn prove(connection: &mut Connection<TcpStream>, found: &FoundKey, address: &str) -> Result<Proof, Failure> {
    let mut nonce = [0; PROOF_BYTES];
    crate::random::fill(&mut nonce).map_err(Failure::Final)?;
    match connection.authenticate(&found.key, &nonce) {
        Ok(_) => Ok(Proof::Shared),
        Err(CallError::Refused(error)) if error.code == "busy" => {
            Err(Failure::Lost { cause: error.text, was_sent: false })
        }
        Err(CallError::Refused(error)) if error.code == "tls_required" => {
            Err(Failure::Final(ClientError::Branch(BranchError::Refused { error, hint: None })))
        }
        Err(CallError::Refused(_)) => Ok(Proof::Unwanted),
        Err(CallError::Stranger) => Ok(Proof::Stranger),
        Err(error) => Err(failure_to_hear(error, address, false)),
    }
}

fn attempt_limit(timeout: Duration, remaining: Duration) -> Duration {
    // A socket takes no time limit of zero.
    (timeout / ATTEMPT_PART).max(ATTEMPT_MIN).min(remaining).max(Duration::from_millis(1))
}

/// What is left of the time; never nothing, which no socket takes as a time limit.
fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// An argument as a POSIX shell takes it.
#[must_use]
pub fn quoted(argument: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=,@%+".contains(character);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        argument.to_string()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// What an answer means that is neither done nor refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    /// Nothing was done; it may be later.
    NotNow,
    /// It is under way, or the branch itself does not know.
    NotKnown,
}

/// A branch's answer.
#[derive(Debug)]
pub struct Reply {
    body: Vec<u8>,
    answer: Answer,
    address: String,
    hint: Option<String>,
}

impl Reply {
    /// The answer as it came.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the branch did what it was asked.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.answer.result().is_ok()
    }

    /// Whether the same request gets another answer in a while.
    fn later(&self) -> Option<Later> {
        match self.answer.result().err()?.code.as_str() {
            "busy" | "stopping" => Some(Later::NotNow),
            "request_repeated" | "undecided" | "outcome_unknown" | "unconfirmed" => Some(Later::NotKnown),
            _ => None,
        }
    }

    fn text(&self) -> String {
        self.answer.result().map_or_else(|error| error.text, |_| String::new())
    }

    /// The result as JSON.
    ///
    /// # Errors
    /// `Refused`.
    pub fn json(&self) -> Result<&str, ClientError> {
        self.answer.result().map_err(|error| {
            let hint = if error.code == "not_allowed" { self.hint.clone() } else { None };
            ClientError::Branch(BranchError::Refused { error, hint })
        })
    }

    /// The result.
    ///
    /// # Errors
    /// `Refused`, or `NotUnderstood` when it is not of that type.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_str(self.json()?).map_err(|error| {
            ClientError::Branch(BranchError::NotUnderstood { address: self.address.clone(), cause: error.to_string() })
        })
    }

    /// Where the list goes on, if it does.
    ///
    /// # Errors
    /// `NotUnderstood` when that is not of the right type.
    pub fn next<T: DeserializeOwned>(&self) -> Result<Option<T>, ClientError> {
        let Some(next) = &self.answer.next else { return Ok(None) };
        serde_json::from_str(next.get()).map_err(|error| {
            ClientError::Branch(BranchError::NotUnderstood { address: self.address.clone(), cause: error.to_string() })
        })
    }
}

#[cfg(test)]
mod tests;

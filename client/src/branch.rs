//! A branch as a command asks it: by the keys that were found, within the time limit, and in sentences when it fails.
//!
//! How a request that got no answer is sent again is the crate `branch_client`'s. Here what came of it becomes what the
//! program tells: a refusal with what to do about it, or an unknown outcome with the command line that finds it out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use branch_client::audit::asked::Ask;
use branch_client::caller::is_noise;
use branch_client::{Caller, Cause, ConnectError, Credentials, OpenError, Request, Retry, TimeLimits, Unanswered};
use protocol::Address;
use protocol::answer::Answer;
use protocol::connection::CallError;
use protocol::frame::FrameError;
use protocol::request::Action;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connect::LINGER;
use crate::error::{BranchError, ClientError};
use crate::shell::quoted;

/// What all branches that a command asks have in common.
#[derive(Clone, Debug)]
pub struct Access {
    /// The keys that may be proved, and TLS when it is wanted.
    pub credentials: Arc<Credentials>,
    /// The longest that one request may take, with all its attempts.
    pub timeout: Duration,
    /// What was typed, without a request id: what to type again when an outcome is unknown.
    pub command_line: String,
}

/// One branch, at its address.
pub struct Branch {
    access: Arc<Access>,
    caller: Caller,
}

impl Branch {
    /// The branch at an address. No connection is made yet.
    #[must_use]
    pub fn new(access: Arc<Access>, address: Address) -> Self {
        let credentials = Arc::clone(&access.credentials);
        Self { access, caller: Caller { credentials, address, others: VecDeque::new(), name: None, opened: None } }
    }

    /// The same branch, which has processes at these addresses as well.
    #[must_use]
    pub fn also_at(mut self, others: Vec<Address>) -> Self {
        self.caller.others = others.into();
        self
    }

    /// Another branch, with the same keys and limits.
    #[must_use]
    pub fn elsewhere(&self, address: Address) -> Self {
        Self::new(Arc::clone(&self.access), address)
    }

    /// The same branch, by a connection of its own.
    #[must_use]
    pub fn again(&self) -> Self {
        self.elsewhere(self.address().clone()).also_at(self.caller.others.iter().cloned().collect())
    }

    /// The longest that one request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.access.timeout
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.caller.address
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
        let request = Request { action, params, request_id };
        match self.caller.call(&request, Retry::Never, &TimeLimits::all(patience, LINGER)) {
            Ok(answer) => Ok(Some(self.reply(answer))),
            Err(Unanswered { cause: Cause::Call(error), .. }) if !is_noise(&error) => Ok(None),
            Err(error) => Err(self.explain(error, request_id.map(|id| (id, id)))),
        }
    }

    fn call(
        &mut self,
        action: Action,
        params: &impl Serialize,
        ids: Option<(&str, &str)>,
    ) -> Result<Reply, ClientError> {
        let request = Request { action, params, request_id: ids.map(|(request_id, _)| request_id) };
        let timeout = self.access.timeout;
        let answer = self.caller.call(&request, Retry::For(timeout), &TimeLimits::all(timeout, LINGER));
        answer.map(|answer| self.reply(answer)).map_err(|error| self.explain(error, ids))
    }

    fn reply(&self, answer: Answer) -> Reply {
        let opened = self.caller.opened.as_ref();
        let body = opened.map(|opened| opened.connection.last_answer().to_vec()).unwrap_or_default();
        Reply { body, answer, address: self.address().to_string(), hint: self.hint() }
    }

    /// Why there is no answer. A write has two ids: its own, and that with which the whole command is to be repeated.
    fn explain(&self, Unanswered { cause, may_be_done }: Unanswered, ids: Option<(&str, &str)>) -> ClientError {
        let address = self.address().to_string();
        let is_write = ids.is_some();
        let cause = match cause {
            Cause::Unsendable(CallError::Frame(FrameError::TooLong { length, bytes_max })) => {
                let sentence = format!("the request has {length} bytes, and a branch takes {bytes_max}: split it");
                return ClientError::Usage(sentence);
            }
            // Not the words for an answer that can't be read.
            Cause::Unsendable(CallError::Json(error)) => return ClientError::Usage(error.to_string()),
            Cause::Unsendable(error) => return ClientError::Usage(error.to_string()),
            Cause::Call(error) if is_noise(&error) => return not_understood(address, &error),
            Cause::Open(error) if !may_be_done => return self.not_opened(error, is_write),
            Cause::Call(error) | Cause::Open(OpenError::Call(error)) => told(&error),
            Cause::Later(error) | Cause::Open(OpenError::Refused(error)) => error.text,
            Cause::Open(OpenError::Connect(ConnectError::Connect(source))) => {
                format!("it can't be reached any more: {source}")
            }
            Cause::Open(error) => self.not_opened(error, is_write).to_string(),
        };
        let again_id = ids.filter(|_| may_be_done).map(|(_, again_id)| again_id);
        ClientError::Branch(match again_id {
            None => BranchError::NoAnswer { address, cause, is_write },
            Some(id) => {
                let again = format!("{} --request-id {}", self.access.command_line, quoted(id));
                BranchError::OutcomeUnknown { address, cause, again }
            }
        })
    }

    fn not_opened(&self, error: OpenError, is_write: bool) -> ClientError {
        let address = self.address().to_string();
        ClientError::Branch(match error {
            OpenError::Connect(error) => {
                return ClientError::NotConnected { port_flag: "--port", to: self.address().clone(), error };
            }
            OpenError::Stranger { key } => BranchError::Stranger { address, key: key.display().to_string() },
            OpenError::Refused(error) if error.code == "busy" => {
                BranchError::NoAnswer { address, cause: error.text, is_write }
            }
            OpenError::Refused(error) => BranchError::Refused { error, hint: None },
            OpenError::Call(error) if is_noise(&error) => return not_understood(address, &error),
            OpenError::Call(error) => BranchError::NoAnswer { address, cause: told(&error), is_write },
            error @ OpenError::OtherBranch(_) => BranchError::NotUnderstood { address, cause: error.to_string() },
        })
    }

    /// What to do about a refusal for want of permission.
    fn hint(&self) -> Option<String> {
        let is_proved = self.caller.opened.as_ref().is_some_and(|opened| opened.proved.is_some());
        match self.access.credentials.keys.found.first() {
            _ if is_proved => None,
            None => Some(
                "run it where the branch's bank.key is, or name a copy of that file with --key (or BANK_KEY)".into(),
            ),
            Some(found) => Some(format!(
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
        let mut reply = self.ask(action, params)?;
        let lost = |branch: &Self, error: CallError| {
            branch.explain(Unanswered { cause: Cause::Call(error), may_be_done: true }, None)
        };
        if let Some(opened) = &self.caller.opened {
            let set = opened.connection.stream().set_read_timeout(patience);
            set.map_err(|error| lost(self, CallError::Frame(FrameError::Io(error))))?;
        }
        while take(&reply)? {
            let Some(opened) = &mut self.caller.opened else { break };
            let answer = opened.connection.receive();
            reply = self.reply(answer.map_err(|error| lost(self, error))?);
        }
        Ok(())
    }
}

impl Ask for Branch {
    type Error = ClientError;

    fn read<R: DeserializeOwned, N: DeserializeOwned>(
        &mut self,
        action: Action,
        params: &impl Serialize,
    ) -> Result<(R, Option<N>), ClientError> {
        let reply = Self::ask(self, action, params)?;
        Ok((reply.result()?, reply.next()?))
    }
}

fn not_understood(address: String, error: &CallError) -> ClientError {
    ClientError::Branch(BranchError::NotUnderstood { address, cause: error.to_string() })
}

/// What went wrong with a call, for the middle of a sentence.
fn told(error: &CallError) -> String {
    match error {
        CallError::Frame(FrameError::Io(error))
            if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
        {
            "it said nothing in time".into()
        }
        CallError::Refused(_) | CallError::Stranger | CallError::Closed | CallError::Frame(_) | CallError::Json(_) => {
            error.to_string()
        }
    }
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
        self.parse(self.json()?)
    }

    /// Where the list goes on, if it does.
    ///
    /// # Errors
    /// `NotUnderstood` when that is not of the right type.
    pub fn next<T: DeserializeOwned>(&self) -> Result<Option<T>, ClientError> {
        self.answer.next.as_ref().map(|next| self.parse(next.get())).transpose()
    }

    fn parse<T: DeserializeOwned>(&self, json: &str) -> Result<T, ClientError> {
        serde_json::from_str(json).map_err(|error| {
            ClientError::Branch(BranchError::NotUnderstood { address: self.address.clone(), cause: error.to_string() })
        })
    }
}

#[cfg(test)]
mod tests;

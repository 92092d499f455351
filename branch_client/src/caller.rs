//! Requests to one branch: over a connection that is made when it is needed, and sent again when no answer comes.
//!
//! What is sent again are the same bytes under the same request id, and a branch that knows the id has the answer that it
//! gave before; so a lost answer costs time and never a second booking. A refusal is an answer. When no answer comes in
//! the end, [`Unanswered`] says whether the request may have been carried out.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use protocol::answer::{Answer, AnswerError};
use protocol::connection::{CallError, Connection};
use protocol::frame::FrameError;
use protocol::request::Action;
use protocol::{Address, BranchName};
use serde::Serialize;

use crate::connect::TimeLimits;
use crate::open::{Credentials, OpenError, Opened, open};

/// How often one request is sent at most.
const ATTEMPTS_MAX: u32 = 8;
/// The pause before the second attempt; it doubles from one to the next.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// One attempt may take this part of the time, so that a branch that has stopped leaves time for another.
const ATTEMPT_PART: u32 = 3;
/// But so long in any case: a transfer waits for other branches.
const ATTEMPT_MIN: Duration = Duration::from_secs(10);

/// What is asked of a branch.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r, P> {
    /// The action.
    pub action: Action,
    /// Its parameters.
    pub params: &'r P,
    /// The id under which a write may be repeated.
    pub request_id: Option<&'r str>,
}

/// What is done when no answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing.
    Never,
    /// The request is sent once more, at once, over a new connection. Where none can be made, that is the end of it.
    Once,
    /// The request is sent again and again, with pauses, for so long; also when the branch is too busy for it, or says
    /// that it doesn't know yet what becomes of it.
    For(Duration),
}

/// One branch, at its address.
pub struct Caller {
    credentials: Arc<Credentials>,
    address: Address,
    /// Who must be there, if that is known.
    name: Option<BranchName>,
    opened: Option<Opened>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The request is none that can be sent.
    Unsendable(CallError),
    /// No connection came about, so nothing was sent.
    NotOpened(OpenError),
    /// What came in answer to it is no branch's.
    NotUnderstood(CallError),
    /// No answer came, or none that is final.
    Lost {
        /// What went wrong the last time.
        cause: Lost,
        /// Whether the request may have been carried out.
        may_be_done: bool,
    },
}

/// How an answer was lost.
#[derive(Debug)]
pub enum Lost {
    /// The branch could not be reached, or not any more.
    Open(OpenError),
    /// The connection broke, or stayed silent.
    Call(CallError),
    /// The branch has answered that there will be another answer.
    Later(AnswerError),
}

/// How one attempt failed.
enum Failure {
    Unsendable(CallError),
    Open(OpenError),
    Call(CallError),
}

impl Caller {
    /// The branch at an address. No connection is made yet.
    #[must_use]
    pub fn new(credentials: Arc<Credentials>, address: Address) -> Self {
        Self { credentials, address, name: None, opened: None }
    }

    /// The branch of this name at an address: another one there isn't asked.
    #[must_use]
    pub fn of_branch(credentials: Arc<Credentials>, address: Address, name: BranchName) -> Self {
        Self { name: Some(name), ..Self::new(credentials, address) }
    }

    /// The same, over a connection that is there.
    #[must_use]
    pub fn over(self, opened: Option<Opened>) -> Self {
        Self { opened, ..self }
    }

    /// Where the branch is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The connection, after an answer has come over it.
    pub fn connection(&mut self) -> Option<&mut Connection<std::net::TcpStream>> {
        self.opened.as_mut().map(|opened| &mut opened.connection)
    }

    /// What was proved on the connection.
    #[must_use]
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// The connection, for others to use, if it is still good.
    #[must_use]
    pub fn into_opened(self) -> Option<Opened> {
        self.opened
    }

    /// A new connection to the branch.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, limits: &TimeLimits) -> Result<Opened, OpenError> {
        let opened = open(&self.address, &self.credentials, limits)?;
        match &self.name {
            Some(name) => opened.must_be(name),
            None => Ok(opened),
        }
    }

    /// Sends a request and returns its answer, which may be a refusal. `limits` are those of one attempt.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub fn call(
        &mut self,
        request: &Request<'_, impl Serialize>,
        retry: Retry,
        limits: &TimeLimits,
    ) -> Result<Answer, Unanswered> {
        let begin = Instant::now();
        let mut may_be_done = false;
        let mut pause = retry.pause_first();
        let mut attempts_left = retry.attempts_max();
        loop {
            let mut not_now = None;
            let cause = match self.attempt(request, &retry.limits(limits, begin)) {
                Ok(answer) => match retry.later(&answer) {
                    None => return Ok(answer),
                    Some((Later::NotNow, error)) => {
                        not_now = Some(answer);
                        Lost::Later(error)
                    }
                    Some((Later::NotKnown, error)) => {
                        may_be_done = true;
                        Lost::Later(error)
                    }
                },
                Err(Failure::Unsendable(error)) => return Err(Unanswered::Unsendable(error)),
                // Nobody is there, which a person wants to know at once; or waiting would change nothing.
                Err(Failure::Open(error)) if !may_be_done && (error.is_absence() || !retry.outlasts(&error)) => {
                    return Err(Unanswered::NotOpened(error));
                }
                Err(Failure::Open(error)) if !retry.outlasts(&error) => {
                    return Err(Unanswered::Lost { cause: Lost::Open(error), may_be_done });
                }
                Err(Failure::Open(error)) => Lost::Open(error),
                // Noise is told from silence: what is no answer now will be none the next time either.
                Err(Failure::Call(error)) if is_noise(&error) && !may_be_done => {
                    return Err(Unanswered::NotUnderstood(error));
                }
                Err(Failure::Call(error)) => {
                    may_be_done = true;
                    Lost::Call(error)
                }
            };
            attempts_left -= 1;
            if attempts_left == 0 || !retry.has_time(begin, pause) {
                return match not_now.filter(|_| !may_be_done) {
                    Some(answer) => Ok(answer),
                    None => Err(Unanswered::Lost { cause, may_be_done }),
                };
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Sends a request a single time. The connection is kept when an answer has come over it, and dropped otherwise.
    fn attempt(&mut self, request: &Request<'_, impl Serialize>, limits: &TimeLimits) -> Result<Answer, Failure> {
        let deadline = Instant::now() + limits.attempt;
        let mut opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.open(limits).map_err(Failure::Open)?,
        };
        let connection = &mut opened.connection;
        let left = limits.before(deadline).attempt;
        let set = connection.stream().set_read_timeout(Some(left));
        set.map_err(|error| Failure::Call(CallError::Frame(FrameError::Io(error))))?;
        connection
            .send(request.action, request.params, request.request_id)
            .map_err(|error| if is_noise(&error) { Failure::Unsendable(error) } else { Failure::Call(error) })?;
        let answer = connection.receive().map_err(Failure::Call)?;
        self.opened = Some(opened);
        Ok(answer)
    }
}

/// What an answer means that is neither done nor refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    /// Nothing was done; it may be later.
    NotNow,
    /// It is under way, or the branch itself does not know.
    NotKnown,
}

impl Retry {
    fn attempts_max(self) -> u32 {
        match self {
            Self::Never => 1,
            Self::Once => 2,
            Self::For(_) => ATTEMPTS_MAX,
        }
    }

    fn pause_first(self) -> Duration {
        match self {
            Self::Never | Self::Once => Duration::ZERO,
            Self::For(_) => PAUSE_FIRST,
        }
    }

    /// The limits of an attempt that begins now.
    fn limits(self, limits: &TimeLimits, begin: Instant) -> TimeLimits {
        match self {
            Self::Never | Self::Once => *limits,
            Self::For(time) => {
                let attempt = (time / ATTEMPT_PART).max(ATTEMPT_MIN);
                limits.before((Instant::now() + attempt).min(begin + time))
            }
        }
    }

    /// Whether there is time for another attempt after a pause.
    fn has_time(self, begin: Instant, pause: Duration) -> bool {
        match self {
            Self::Never | Self::Once => true,
            Self::For(time) => begin.elapsed() + pause < time,
        }
    }

    /// Whether a branch is waited for that could not be spoken to for this reason.
    fn outlasts(self, error: &OpenError) -> bool {
        matches!(self, Self::For(_))
            && match error {
                OpenError::Connect(_) => true,
                OpenError::Refused(error) => error.code == "busy",
                OpenError::Call(error) => !is_noise(error),
                OpenError::Stranger { .. } | OpenError::OtherBranch(_) => false,
            }
    }

    /// Whether the same request is worth sending again after this answer.
    fn later(self, answer: &Answer) -> Option<(Later, AnswerError)> {
        let error = answer.result().err().filter(|_| matches!(self, Self::For(_)))?;
        match error.code.as_str() {
            "busy" | "stopping" => Some((Later::NotNow, error)),
            "request_repeated" | "undecided" | "outcome_unknown" | "unconfirmed" => Some((Later::NotKnown, error)),
            _ => None,
        }
    }
}

/// Whether what came, or was to be sent, is no message of the protocol's.
#[must_use]
pub fn is_noise(error: &CallError) -> bool {
    match error {
        CallError::Json(_) | CallError::Frame(FrameError::TooLong { .. }) => true,
        CallError::Refused(_) | CallError::Stranger | CallError::Closed | CallError::Frame(_) => false,
    }
}

#[cfg(test)]
mod tests;

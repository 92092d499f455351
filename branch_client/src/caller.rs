//! Requests to one branch: over a connection that is made when it is needed, and sent again when no answer comes.
//!
//! What is sent again are the same bytes under the same request id, and a branch that knows the id has the answer that it
//! gave before; so a lost answer costs time and never a second booking. A refusal is an answer. When no answer comes in
//! the end, [`Unanswered`] says whether the request may have been carried out.
//!
//! A branch of several processes has several addresses. One of the processes takes orders; where it is not, or is no
//! longer, the request goes to the next address, under the same id.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use protocol::answer::{Answer, AnswerError};
use protocol::connection::CallError;
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

/// What a process of a branch says that takes no orders, or can't be sure of it.
const NOT_HERE: [&str; 5] = ["not_primary", "no_commit_log", "fenced", "not_ready", "stopping"];

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

/// One branch, and the way to it.
pub struct Caller {
    /// What is proved to it.
    pub credentials: Arc<Credentials>,
    /// Where it is.
    pub address: Address,
    /// Where else it may be, if it has several processes.
    pub others: VecDeque<Address>,
    /// Who must be there, if that is known: another branch isn't asked.
    pub name: Option<BranchName>,
    /// The connection over which the last answer came. Without one, the next request makes one.
    pub opened: Option<Opened>,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// What went wrong the last time.
    pub cause: Cause,
    /// Whether the request may have been carried out.
    pub may_be_done: bool,
}

/// What went wrong with one attempt.
#[derive(Debug)]
pub enum Cause {
    /// The request is none that can be sent.
    Unsendable(CallError),
    /// No connection came about.
    Open(OpenError),
    /// No answer came to what was sent, or something that is none.
    Call(CallError),
    /// The branch has answered that there will be another answer.
    Later(AnswerError),
}

impl Caller {
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
        let (attempts, mut pause) = retry.attempts();
        let mut attempts_left = attempts * (1 + u32::try_from(self.others.len()).unwrap_or(u32::MAX - 1));
        let mut may_be_done = false;
        loop {
            let outcome = self.attempt(request, &retry.limits(limits, begin));
            attempts_left -= 1;
            let is_last = attempts_left == 0 || !retry.has_time(begin, pause);
            let has_moved = !is_last && self.move_on(retry, &outcome);
            let cause = match outcome {
                // What another process said before this one was not asked is not undone by its "not here".
                Ok(answer) => match retry.later(&answer, has_moved || (may_be_done && !self.others.is_empty())) {
                    None => return Ok(answer),
                    // Nothing was done, so this is the answer when there is no time for another.
                    Some((Later::NotNow, _)) if is_last && !may_be_done => return Ok(answer),
                    Some((later, error)) => {
                        may_be_done |= later == Later::NotKnown;
                        Cause::Later(error)
                    }
                },
                Err(cause) => {
                    may_be_done |= matches!(cause, Cause::Call(_));
                    cause
                }
            };
            if is_last || !(has_moved || retry.outlasts(&cause, may_be_done)) {
                return Err(Unanswered { cause, may_be_done });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Turns to the next address, if there is one and this outcome says that the branch takes no orders here.
    fn move_on(&mut self, retry: Retry, outcome: &Result<Answer, Cause>) -> bool {
        let is_elsewhere = match outcome {
            Ok(answer) => answer.result().is_err_and(|error| NOT_HERE.contains(&error.code.as_str())),
            Err(Cause::Open(OpenError::Connect(_) | OpenError::Call(_)) | Cause::Call(_)) => true,
            Err(Cause::Open(_) | Cause::Unsendable(_) | Cause::Later(_)) => false,
        };
        if !is_elsewhere || !matches!(retry, Retry::For(_)) {
            return false;
        }
        let Some(next) = self.others.pop_front() else { return false };
        self.others.push_back(std::mem::replace(&mut self.address, next));
        self.opened = None;
        true
    }

    /// Sends a request a single time. The connection is kept when an answer has come over it, and dropped otherwise.
    fn attempt(&mut self, request: &Request<'_, impl Serialize>, limits: &TimeLimits) -> Result<Answer, Cause> {
        let deadline = Instant::now() + limits.attempt;
        let mut opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.open(limits).map_err(Cause::Open)?,
        };
        let connection = &mut opened.connection;
        let set = connection.stream().set_read_timeout(Some(limits.before(deadline).attempt));
        set.map_err(|error| Cause::Call(CallError::Frame(FrameError::Io(error))))?;
        let sent = connection.send(request.action, request.params, request.request_id);
        sent.map_err(|error| if is_noise(&error) { Cause::Unsendable(error) } else { Cause::Call(error) })?;
        let answer = connection.receive().map_err(Cause::Call)?;
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
    /// How many attempts are made at most, and the pause after the first.
    fn attempts(self) -> (u32, Duration) {
        match self {
            Self::Never => (1, Duration::ZERO),
            Self::Once => (2, Duration::ZERO),
            Self::For(_) => (ATTEMPTS_MAX, PAUSE_FIRST),
        }
    }

    /// The limits of an attempt that begins now.
    fn limits(self, limits: &TimeLimits, begin: Instant) -> TimeLimits {
        let Self::For(time) = self else { return *limits };
        let attempt = (time / ATTEMPT_PART).max(ATTEMPT_MIN);
        limits.before((Instant::now() + attempt).min(begin + time))
    }

    /// Whether there is time for another attempt after a pause.
    fn has_time(self, begin: Instant, pause: Duration) -> bool {
        match self {
            Self::Never | Self::Once => true,
            Self::For(time) => begin.elapsed() + pause < time,
        }
    }

    /// Whether another attempt may do better than one that failed for this reason.
    fn outlasts(self, cause: &Cause, may_be_done: bool) -> bool {
        let Self::For(_) = self else { return matches!(cause, Cause::Call(_)) };
        match cause {
            // Nobody is there, which a person wants to know at once; unless somebody was a moment ago.
            Cause::Open(OpenError::Connect(_)) => may_be_done,
            Cause::Open(OpenError::Refused(error)) => error.code == "busy",
            Cause::Open(OpenError::Stranger { .. } | OpenError::OtherBranch(_)) | Cause::Unsendable(_) => false,
            // Noise is told from silence: what is no answer now will be none the next time either.
            Cause::Open(OpenError::Call(error)) | Cause::Call(error) => !is_noise(error),
            Cause::Later(_) => true,
        }
    }

    /// Whether the same request is worth sending again after this answer.
    fn later(self, answer: &Answer, is_elsewhere: bool) -> Option<(Later, AnswerError)> {
        let error = answer.result().err().filter(|_| matches!(self, Self::For(_)))?;
        match error.code.as_str() {
            "busy" | "stopping" => Some((Later::NotNow, error)),
            code if is_elsewhere && NOT_HERE.contains(&code) => Some((Later::NotNow, error)),
            "request_repeated" | "undecided" | "outcome_unknown" | "unconfirmed" => Some((Later::NotKnown, error)),
            _ => None,
        }
    }
}

/// Whether what came, or was to be sent, is no message of the protocol's.
#[must_use]
pub const fn is_noise(error: &CallError) -> bool {
    matches!(error, CallError::Json(_) | CallError::Frame(FrameError::TooLong { .. }))
}

#[cfg(test)]
mod tests;

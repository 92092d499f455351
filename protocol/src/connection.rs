//! A client's side of a framed connection, over any `Read + Write`.
//!
//! Requests may be sent ahead of their answers (pipelining); answers come in the order of the requests.
//! Time limits are the stream's own.

use std::fmt;
use std::io::{Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::{Answer, AnswerError, Welcome};
use crate::frame::{BATCH_FRAME_BYTES_MAX, FrameError, read_frame, write_frame};
use crate::proof::{BranchKey, Nonce, Prover, from_hex, to_hex};
use crate::request::{Action, Authenticate, Hello, write_request};

/// A framed connection to a branch.
pub struct Connection<S> {
    stream: S,
    body: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    /// Takes a connected stream.
    pub fn new(stream: S) -> Self {
        Self { stream, body: Vec::new() }
    }

    /// The stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Gives the stream back. Nothing that was received is lost: a frame is read to its end and no further.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Sends one request without waiting for its answer.
    ///
    /// # Errors
    /// [`CallError::Frame`] or [`CallError::Json`].
    pub fn send(&mut self, action: Action, params: &impl Serialize, request_id: Option<&str>) -> Result<(), CallError> {
        let body = write_request(action, params, request_id).map_err(CallError::Json)?;
        write_frame(&mut self.stream, &body, BATCH_FRAME_BYTES_MAX).map_err(CallError::Frame)
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// [`CallError::Closed`], [`CallError::Frame`] or [`CallError::Json`].
    pub fn receive(&mut self) -> Result<Answer, CallError> {
        match read_frame(&mut self.stream, BATCH_FRAME_BYTES_MAX, &mut self.body) {
            Ok(true) => Answer::parse(&self.body).map_err(CallError::Json),
            Ok(false) => Err(CallError::Closed),
            Err(error) => Err(CallError::Frame(error)),
        }
    }

    /// The bytes of the last answer, as they came.
    #[must_use]
    pub fn last_answer(&self) -> &[u8] {
        &self.body
    }

    /// Sends a request and waits for its result.
    ///
    /// # Errors
    /// [`CallError::Refused`] when the branch refused, or as [`Connection::send`] and [`Connection::receive`].
    pub fn call<R: DeserializeOwned>(
        &mut self,
        action: Action,
        params: &impl Serialize,
        request_id: Option<&str>,
    ) -> Result<R, CallError> {
        self.send(action, params, request_id)?;
        let answer = self.receive()?;
        let result = answer.result().map_err(CallError::Refused)?;
        serde_json::from_str(result).map_err(CallError::Json)
    }

    /// Proves the key to the branch, after the branch has proved it. Returns the branch's name.
    ///
    /// # Errors
    /// [`CallError::Stranger`] when the branch could not prove the key, or as [`Connection::call`].
    pub fn authenticate(&mut self, key: &BranchKey, nonce: &Nonce) -> Result<String, CallError> {
        let hello = Hello { nonce: to_hex(nonce) };
        let welcome: Welcome = self.call(Action::Hello, &hello, None)?;
        let branch_nonce = from_hex(&welcome.nonce).ok_or(CallError::Stranger)?;
        if !key.is_proof(&welcome.proof, Prover::Branch, nonce, &branch_nonce, &welcome.branch) {
            return Err(CallError::Stranger);
        }
        let proof = key.prove(Prover::Client, nonce, &branch_nonce, &welcome.branch);
        let _: serde_json::Value = self.call(Action::Authenticate, &Authenticate { proof }, None)?;
        Ok(welcome.branch)
    }
}

/// Why a call gave no result.
#[derive(Debug)]
pub enum CallError {
    /// The branch refused.
    Refused(AnswerError),
    /// The branch could not prove that it holds the same key.
    Stranger,
    /// The branch closed the connection.
    Closed,
    /// The connection failed.
    Frame(FrameError),
    /// What came is no answer.
    Json(serde_json::Error),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Stranger => f.write_str("the branch does not hold this bank's key"),
            Self::Closed => f.write_str("the branch closed the connection"),
            Self::Frame(error) => error.fmt(f),
            Self::Json(error) => write!(f, "the branch's answer cannot be read: {error}"),
        }
    }
}

impl std::error::Error for CallError {}

//! A connection to the branch protocol: JSON in, JSON out, with the bytes of each answer at hand.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

use protocol::connection::{CallError, Connection};
use protocol::frame::{BATCH_FRAME_BYTES_MAX, push_frame};
use protocol::proof::BranchKey;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::wait::DEADLINE;

/// What the tests use as their challenge; a branch's own is random.
const NONCE: [u8; 32] = [42; 32];

/// A connection to a branch's port. Each read waits at most [`DEADLINE`]. Dropping it hangs up.
pub struct BranchConnection(Connection<TcpStream>);

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// As it came.
    pub text: String,
    /// As JSON; numbers keep their digits.
    pub json: Value,
}

impl BranchConnection {
    /// Connects, and proves nothing.
    ///
    /// # Errors
    /// The connection's.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Over a connection that is there, as it is.
    #[must_use]
    pub fn over(stream: TcpStream) -> Self {
        Self(Connection::new(stream))
    }

    /// Connects and proves the key.
    ///
    /// # Errors
    /// The connection's, or that the key was not proved.
    pub fn connect_with(port: u16, key: &BranchKey) -> io::Result<Self> {
        let mut connection = Self::connect(port)?;
        connection.prove(key).map_err(io::Error::other)?;
        Ok(connection)
    }

    /// Proves the key, both ways.
    ///
    /// # Errors
    /// As [`Connection::authenticate`].
    pub fn prove(&mut self, key: &BranchKey) -> Result<String, CallError> {
        self.0.authenticate(key, &NONCE)
    }

    /// The protocol's own connection.
    pub fn inner(&mut self) -> &mut Connection<TcpStream> {
        &mut self.0
    }

    /// The longest wait for an answer from now on.
    pub fn wait_at_most(&self, limit: Duration) {
        self.0.stream().set_read_timeout(Some(limit)).unwrap();
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection's.
    pub fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.stream().write_all(bytes)
    }

    /// Sends a frame without waiting for its answer.
    ///
    /// # Errors
    /// The connection's.
    pub fn send_text(&self, body: &str) -> io::Result<()> {
        self.send_bytes(&frame(body))
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// The connection's, or that it was closed.
    pub fn receive(&mut self) -> io::Result<Reply> {
        self.0.receive().map_err(io::Error::other)?;
        let text = String::from_utf8(self.0.last_answer().to_vec()).map_err(io::Error::other)?;
        let json = serde_json::from_str(&text)?;
        Ok(Reply { text, json })
    }

    /// Sends a frame and waits for the answer.
    ///
    /// # Errors
    /// The connection's.
    pub fn try_text(&mut self, body: &str) -> io::Result<Reply> {
        self.send_text(body)?;
        self.receive()
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// The connection's.
    pub fn try_ask(&mut self, action: &str, params: Value, request_id: Option<&str>) -> io::Result<Reply> {
        self.try_text(&request(action, params, request_id))
    }

    /// Sends a frame and waits for the answer.
    #[track_caller]
    pub fn text(&mut self, body: &str) -> Reply {
        self.try_text(body).unwrap_or_else(|error| panic!("no answer to {body}: {error}"))
    }

    /// Sends a request and waits for the answer.
    #[track_caller]
    pub fn ask(&mut self, action: &str, params: Value) -> Reply {
        self.text(&request(action, params, None))
    }

    /// Sends a request with an id and waits for the answer.
    #[track_caller]
    pub fn ask_once(&mut self, request_id: &str, action: &str, params: Value) -> Reply {
        self.text(&request(action, params, Some(request_id)))
    }

    /// An account's balance, as text.
    #[track_caller]
    pub fn balance(&mut self, account: u64) -> String {
        self.ask("balance", json!({"account_no": account})).ok()["balance"].to_string()
    }

    /// Whether the branch has closed the connection: nothing more comes.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        self.0.receive().is_err_and(|error| match error {
            CallError::Closed | CallError::Frame(_) => true,
            CallError::Refused(_) | CallError::Stranger | CallError::Json(_) => false,
        })
    }
}

/// A number of an answer, with its digits as they came: `1000.00` is no JSON string, and no other number either.
#[must_use]
pub fn figure(number: &Value) -> String {
    assert!(number.is_number(), "no figure: {number}");
    number.to_string()
}

/// A request's JSON.
#[must_use]
pub fn request(action: &str, params: Value, request_id: Option<&str>) -> String {
    let mut request = json!({"action": action, "params": params});
    if let Some(id) = request_id {
        request["request_id"] = json!(id);
    }
    request.to_string()
}

/// A frame around a body.
#[must_use]
pub fn frame(body: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    push_frame(&mut frame, body.as_bytes(), BATCH_FRAME_BYTES_MAX).unwrap();
    frame
}

impl Reply {
    /// Whether it was done.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.json["status"] == "ok"
    }

    /// The result.
    ///
    /// # Panics
    /// When it was refused.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!(self.is_ok(), "refused: {}", self.text);
        self.json["result"].clone()
    }

    /// The result in its type.
    ///
    /// # Panics
    /// When it was refused, or is of another type.
    #[track_caller]
    pub fn result<T: DeserializeOwned>(&self) -> T {
        serde_json::from_value(self.ok()).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The code of the refusal; empty when it was done.
    #[must_use]
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// Checks that it was refused with this code, and in a sentence.
    #[track_caller]
    pub fn refused(&self, code: &str) -> &Self {
        assert_eq!(self.code(), code, "{}", self.text);
        assert_eq!(self.json["status"], "error", "{}", self.text);
        let sentence = self.json["error"].as_str().unwrap_or_default();
        assert!(sentence.len() > 5 && !sentence.contains('\n'), "no sentence: {}", self.text);
        self
    }
}

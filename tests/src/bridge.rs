//! A running bridge, and an HTTP client that is small enough to send what a good one would not.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::branch::Branch;
use crate::program_log::ProgramLog;
use crate::programs::clean_command;
use crate::wait::{DEADLINE, wait_for, wait_until};

/// The encoding of older programs.
pub const FORM: &str = "application/x-www-form-urlencoded";
/// The encoding of newer ones.
pub const JSON: &str = "application/json";

/// A real `bank-bridge` on a port of its own choosing, killed and waited for when dropped.
#[derive(Debug)]
pub struct Bridge {
    child: Child,
    port: u16,
    log: ProgramLog,
}

impl Bridge {
    /// Starts a bridge to these branches, with these further flags, and waits until it serves and has found them all
    /// up.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    #[track_caller]
    pub fn start(branches: &[(&str, &Branch)], flags: &[&str]) -> Self {
        let mut arguments: Vec<String> = flags.iter().map(|flag| (*flag).to_string()).collect();
        for (name, branch) in branches {
            arguments.extend(["--branch".into(), format!("{name}=127.0.0.1:{}", branch.port())]);
        }
        if let Some((_, branch)) = branches.first() {
            arguments.extend(["--key".into(), branch.key_path().display().to_string()]);
        }
        let bridge = Self::start_with(&arguments, Path::new("."));
        wait_until("the bridge has found its branches", || {
            bridge.get("/healthz").json["result"]["up"] == branches.len()
        });
        bridge
    }

    /// Starts a bridge with these arguments alone, in this folder, and waits until it serves.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    #[track_caller]
    pub fn start_with(arguments: &[String], folder: &Path) -> Self {
        let mut command = clean_command("bank-bridge");
        command.args(["--port", "0"]).args(arguments).current_dir(folder);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = ProgramLog::collect(child.stderr.take().expect("standard error is piped"));
        let stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let (sender, said) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Nobody listens any more once the bridge is up.
                let _ = sender.send(line);
            }
        });
        let mut bridge = Self { child, port: 0, log };
        let Ok(line) = said.recv_timeout(DEADLINE) else {
            panic!("the bridge did not start; its log:\n{}", bridge.log.text());
        };
        let address = line.strip_prefix("bridge on http://127.0.0.1:");
        bridge.port = address.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        bridge
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> &ProgramLog {
        &self.log
    }

    /// Its process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// A request without a body.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path).send()
    }

    /// A request with a form.
    #[must_use]
    #[track_caller]
    pub fn form(&self, path: &str, form: &str) -> Response {
        self.request("POST", path).body(FORM, form).send()
    }

    /// A request with JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self, path: &str, json: &Value) -> Response {
        self.request("POST", path).body(JSON, &json.to_string()).send()
    }

    /// A request that is still to be filled in.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request {
            port: self.port,
            line: format!("{method} {path} HTTP/1.1"),
            host: format!("127.0.0.1:{}", self.port),
            headers: Vec::new(),
            body: None,
        }
    }

    /// A bare connection.
    #[must_use]
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Signs in. Gives the cookie and the token that writes must carry.
    #[must_use]
    #[track_caller]
    pub fn sign_in(&self, branch: &str, account: &str, password: &str) -> SignedIn {
        let form = format!("branch={branch}&account={account}&password={password}");
        let response = self.form("/session", &form);
        let csrf = response.ok()["csrf"].as_str().unwrap().to_string();
        let cookie = response.header("set-cookie").unwrap().split(';').next().unwrap().to_string();
        SignedIn { cookie, csrf }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the bridge ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // It has ended already, if the test stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session, as its browser has it.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The cookie, name and value.
    pub cookie: String,
    /// The token.
    pub csrf: String,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    port: u16,
    line: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

impl Request {
    /// With another `Host`.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, text: &str) -> Self {
        self.headers.push((name.into(), text.into()));
        self
    }

    /// With name and password by HTTP Basic.
    #[must_use]
    pub fn basic(self, name: &str, password: &str) -> Self {
        let coded = BASE64_STANDARD.encode(format!("{name}:{password}"));
        self.header("Authorization", &format!("Basic {coded}"))
    }

    /// With a session's cookie and token.
    #[must_use]
    pub fn session(self, session: &SignedIn) -> Self {
        self.header("Cookie", &session.cookie).header("X-CSRF-Token", &session.csrf)
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, kind: &str, body: &str) -> Self {
        self.body = Some(body.into());
        self.header("Content-Type", kind)
    }

    /// Its bytes.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\r\nHost: {}\r\n", self.line, self.host);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let body = self.body.as_deref().unwrap_or_default();
        if self.body.is_some() || self.line.starts_with("POST") {
            let _ = write!(text, "Content-Length: {}\r\n", body.len());
        }
        text + "\r\n" + body
    }

    /// Sends it on a connection of its own and waits for the whole answer.
    ///
    /// # Panics
    /// When none comes.
    #[must_use]
    #[track_caller]
    pub fn send(self) -> Response {
        let line = self.line.clone();
        self.try_send().unwrap_or_else(|error| panic!("no answer to {line}: {error}"))
    }

    /// Sends it on a connection of its own and waits for the whole answer.
    ///
    /// # Errors
    /// The connection's.
    pub fn try_send(self) -> io::Result<Response> {
        let mut stream = self.header("Connection", "close").open()?;
        let head = Head::read(&mut stream)?;
        let mut body = Vec::new();
        if head.is_chunked() {
            while let Some(chunk) = read_chunk(&mut stream)? {
                body.extend_from_slice(&chunk);
            }
        } else {
            let length = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            stream.take(length).read_to_end(&mut body)?;
        }
        let text = String::from_utf8(body).map_err(io::Error::other)?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Response { head, text, json })
    }

    /// Sends it and gives the stream of events that comes.
    ///
    /// # Panics
    /// When something else comes.
    #[must_use]
    #[track_caller]
    pub fn events(self) -> EventStream {
        let mut stream = self.open().unwrap();
        let head = Head::read(&mut stream).unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")), "{head:?}");
        EventStream { stream, head, text: String::new() }
    }

    fn open(self) -> io::Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let text = if self.headers.iter().any(|(name, _)| name == "Connection") {
            self.text()
        } else {
            self.header("Connection", "keep-alive").text()
        };
        // A server that has answered already need not have read it all.
        let _ = stream.write_all(text.as_bytes());
        Ok(BufReader::new(stream))
    }
}

/// Status and headers.
#[derive(Clone, Debug)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        let status = read_line(stream)?;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("no status line"))?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(stream)?;
            if line.is_empty() {
                return Ok(Self { status, headers });
            }
            if let Some((name, text)) = line.split_once(':') {
                headers.push((name.to_ascii_lowercase(), text.trim().to_string()));
            }
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, text)| text.as_str())
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    head: Head,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; numbers keep their digits.
    pub json: Value,
}

impl Response {
    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The result.
    ///
    /// # Panics
    /// When it was refused.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!((self.status(), &self.json["status"]), (200, &Value::from("ok")), "{}", self.text);
        self.json["result"].clone()
    }

    /// Checks that it was refused with this status and this code, and in a sentence.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status(), self.json["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.json["status"], "error", "{}", self.text);
        let sentence = self.json["error"].as_str().unwrap_or_default();
        assert!(sentence.len() > 5 && !sentence.contains('\n'), "no sentence: {}", self.text);
        self
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct EventStream {
    stream: BufReader<TcpStream>,
    head: Head,
    text: String,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerEvent {
    /// Its number.
    pub id: Option<u64>,
    /// Its type.
    pub kind: String,
    /// Its data.
    pub data: Value,
}

impl EventStream {
    /// A header of the answer.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The next event; none at the end of the stream.
    ///
    /// # Panics
    /// When the stream falls silent.
    #[track_caller]
    pub fn next_event(&mut self) -> Option<ServerEvent> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_string(), rest.to_string());
                self.text = rest;
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim_start().to_string())
                };
                if let (Some(kind), Some(data)) = (field("event:"), field("data:")) {
                    let id = field("id:").map(|id| id.parse().unwrap());
                    return Some(ServerEvent { id, kind, data: serde_json::from_str(&data).unwrap() });
                }
            }
            match read_chunk(&mut self.stream) {
                Ok(Some(chunk)) => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Ok(None) => return None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the stream is silent"),
                Err(_) => return None,
            }
        }
    }

    /// The next event that meets a condition.
    ///
    /// # Panics
    /// When the stream ends before, and at [`DEADLINE`].
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, condition: impl Fn(&ServerEvent) -> bool) -> ServerEvent {
        let begin = Instant::now();
        let mut last = None;
        loop {
            match self.next_event() {
                Some(event) if condition(&event) => return event,
                Some(event) => last = Some(event),
                None => panic!("the stream ended before {what}; the last event was {last:?}"),
            }
            assert!(begin.elapsed() < DEADLINE, "waited in vain for {what}; the last event was {last:?}");
        }
    }

    /// The longest silence from now on.
    pub fn wait_at_most(&self, limit: Duration) {
        self.stream.get_ref().set_read_timeout(Some(limit)).unwrap();
    }

    /// Hangs up.
    pub fn close(self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}

/// The next chunk of a chunked body; none after the last.
fn read_chunk(stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let length = u64::from_str_radix(&read_line(stream)?, 16).map_err(io::Error::other)?;
    let mut chunk = Vec::new();
    stream.take(length).read_to_end(&mut chunk)?;
    read_line(stream)?;
    Ok((length > 0).then_some(chunk))
}

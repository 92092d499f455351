//! The load: connections that each keep a fixed number of requests under way (a closed loop), or that send so
//! many a second whatever the branch does (an open one, [`Load::per_second`]).
//!
//! A few threads carry all connections. A thread goes from one of its connections to the next, waits for
//! what has been answered there, and sends as many new requests at once. A branch answers in about the
//! order in which it was asked, so the thread seldom waits at one connection while another has answers; when
//! it does, the latency that it reports is too long, never too short.
//!
//! Answers are looked at no closer than is needed to tell ok from refused.

use std::collections::VecDeque;
use std::io::{BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use branch_client::{TimeLimits, prove};
use protocol::Address;
use protocol::answer::Answer;
use protocol::connection::Connection;
use protocol::frame::{BATCH_FRAME_BYTES_MAX, FrameError, holds_whole_frame, read_frame};
use protocol::proof::BranchKey;

use crate::latency::Latencies;
use crate::measurement::Measurement;
use crate::workload::{Requests, Workload};

/// How long a branch may be silent before the benchmark gives up.
const SILENCE: Duration = Duration::from_secs(60);
/// What is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;

/// How hard a branch is asked, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where the branch takes requests.
    pub address: SocketAddr,
    /// The branch key, unless the branch is open.
    pub key: Option<BranchKey>,
    /// Connections at once.
    pub connections: usize,
    /// Requests under way on each.
    pub depth: usize,
    /// Threads that carry them; at a fixed rate each connection has its own.
    pub threads: usize,
    /// Frames sent in a second over all connections, evenly, one under way on each; none for as many as go. The time
    /// of each counts from when it was due, so that a branch that is late can't hide it.
    pub per_second: Option<u32>,
    /// How long is loaded before anything is counted.
    pub warm_up: Duration,
    /// How long is counted.
    pub duration: Duration,
    /// What the accounts are drawn by.
    pub seed: u64,
}

impl Load {
    /// Runs the load.
    ///
    /// # Errors
    /// One sentence when a connection fails.
    pub fn run(&self, workload: &Workload) -> Result<Measurement, String> {
        Ok(self.tally(workload)?.measurement(self.duration))
    }

    /// The same, before anything is drawn from it.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub fn tally(&self, workload: &Workload) -> Result<Tally, String> {
        let threads = if self.per_second.is_some() { self.connections } else { self.threads };
        let threads = threads.clamp(1, self.connections);
        let mut lanes: Vec<Vec<Client>> = (0..threads).map(|_| Vec::new()).collect();
        for index in 0..self.connections {
            let seed = self.seed.wrapping_add(index as u64);
            let requests = Requests::new(workload, seed.wrapping_mul(0x2545_f491_4f6c_dd1d))?;
            let stream = connect(self.address, self.key.as_ref())?;
            lanes[index % threads].push(Client::new(stream, requests, workload.batch));
        }
        let begin = Instant::now();
        let start = begin + self.warm_up;
        let window = Window { start, end: start + self.duration };
        let tallies: Vec<Result<Tally, String>> = std::thread::scope(|scope| {
            let lanes = lanes.into_iter().enumerate().map(|(index, clients)| {
                let name = format!("load-{index}");
                let carry = move || match self.pace(begin, index) {
                    Some(pace) => carry_paced(clients, pace, window),
                    None => carry(clients, self.depth, window),
                };
                std::thread::Builder::new().name(name).spawn_scoped(scope, carry)
            });
            let lanes: Vec<_> = lanes.collect();
            let join = |lane: std::io::Result<std::thread::ScopedJoinHandle<'_, _>>| match lane {
                Ok(handle) => handle.join().unwrap_or_else(|_| Err("a thread of the load panicked".into())),
                Err(error) => Err(format!("no thread for the load: {error}")),
            };
            lanes.into_iter().map(join).collect()
        });
        let mut sum = Tally::default();
        for tally in tallies {
            sum.add(tally?);
        }
        Ok(sum)
    }

    /// When the connection with that index sends, at a fixed rate.
    fn pace(&self, begin: Instant, index: usize) -> Option<Pace> {
        let spacing = Duration::from_secs(1) / self.per_second?.max(1);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(Pace { first: begin + spacing * count(index), every: spacing * count(self.connections) })
    }
}

/// Connects to a branch and proves the key, if there is one.
///
/// # Errors
/// One sentence when the branch can't be reached or doesn't hold the key.
pub fn connect(address: SocketAddr, key: Option<&BranchKey>) -> Result<TcpStream, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the branch at {address}: {error}");
    let to = Address::from((address.ip(), address.port()));
    let stream = branch_client::connect(&to, &TimeLimits::all(SILENCE, SILENCE), None);
    let mut connection = Connection::new(stream.map_err(|error| failed(&error))?);
    if let Some(key) = key {
        prove(&mut connection, key).map_err(|error| failed(&error))?;
    }
    Ok(connection.into_stream())
}

/// What is counted: answers that come in this time.
#[derive(Clone, Copy)]
struct Window {
    start: Instant,
    end: Instant,
}

/// When one connection sends at a fixed rate.
#[derive(Clone, Copy)]
struct Pace {
    first: Instant,
    every: Duration,
}

/// What has been counted.
pub struct Tally {
    operations: u64,
    errors: u64,
    last_error: Option<String>,
    latencies: Latencies,
}

impl Default for Tally {
    fn default() -> Self {
        Self { operations: 0, errors: 0, last_error: None, latencies: Latencies::new() }
    }
}

impl Tally {
    /// Adds what another thread, or another time, has counted.
    pub fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.errors += other.errors;
        self.last_error = other.last_error.or(self.last_error.take());
        self.latencies.merge(&other.latencies);
    }

    /// What it says, if it was counted for so long.
    pub fn measurement(&self, duration: Duration) -> Measurement {
        Measurement::new(self.operations, self.errors, self.last_error.clone(), duration, &self.latencies)
    }
}

/// Carries some connections through the window, then waits for what is still under way.
fn carry(mut clients: Vec<Client>, depth: usize, window: Window) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for client in &mut clients {
        client.send(depth)?;
    }
    loop {
        for client in &mut clients {
            if client.sent.is_empty() {
                continue;
            }
            let answered = client.receive(window, &mut tally)?;
            if Instant::now() < window.end {
                client.send(answered)?;
            }
        }
        if clients.iter().all(|client| client.sent.is_empty()) {
            return Ok(tally);
        }
    }
}

/// Sends on time. What was due in the window is counted, however late its answer comes.
fn carry_paced(mut clients: Vec<Client>, pace: Pace, window: Window) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let patient = Window { end: window.end + SILENCE, ..window };
    for client in &mut clients {
        let mut due = pace.first;
        while due < window.end {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            client.send(1)?;
            if let Some(sent) = client.sent.back_mut() {
                *sent = due;
            }
            if due < window.start {
                // Nothing is counted of the time before the window.
                client.receive(Window { end: window.start, ..window }, &mut tally)?;
            } else {
                client.receive(patient, &mut tally)?;
            }
            due += pace.every;
        }
    }
    Ok(tally)
}

/// One connection with its requests under way.
struct Client {
    stream: BufReader<TcpStream>,
    requests: Requests,
    batch: usize,
    /// When each request under way was sent, oldest first.
    sent: VecDeque<Instant>,
    outbox: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    fn new(stream: TcpStream, requests: Requests, batch: usize) -> Self {
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        Self { stream, requests, batch, sent: VecDeque::new(), outbox: Vec::new(), answer: Vec::new() }
    }

    /// Sends so many requests in one write.
    fn send(&mut self, count: usize) -> Result<(), String> {
        self.outbox.clear();
        for _ in 0..count {
            self.requests.push_frame(&mut self.outbox);
        }
        let now = Instant::now();
        self.sent.extend(std::iter::repeat_n(now, count));
        let sent = self.stream.get_mut().write_all(&self.outbox);
        sent.map_err(|error| format!("the branch takes no more requests: {error}"))
    }

    /// Waits for an answer, takes all that have come with it, and returns their number.
    fn receive(&mut self, window: Window, tally: &mut Tally) -> Result<usize, String> {
        let mut answered = 0;
        while answered == 0 || holds_whole_frame(self.stream.buffer()) {
            if !read_frame(&mut self.stream, BATCH_FRAME_BYTES_MAX, &mut self.answer).map_err(|error| lost(&error))? {
                return Err("the branch closed a connection".into());
            }
            let now = Instant::now();
            let sent = self.sent.pop_front().ok_or("the branch answered what was not asked")?;
            if (window.start..window.end).contains(&now) {
                count(&self.answer, self.batch, now - sent, tally);
            }
            answered += 1;
        }
        Ok(answered)
    }
}

fn lost(error: &FrameError) -> String {
    match error {
        FrameError::Io(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            format!("the branch was silent for {} seconds", SILENCE.as_secs())
        }
        FrameError::TooLong { .. } | FrameError::Cut | FrameError::Io(_) => format!("a connection broke: {error}"),
    }
}

/// What an answer that is ok begins with, and what tells each answer of a batch.
const OK: &[u8] = br#"{"status":"ok""#;

/// Counts one answer, or the answers of one batch.
fn count(body: &[u8], batch: usize, latency: Duration, tally: &mut Tally) {
    let operations = if body.starts_with(OK) {
        // The first `OK` is the batch's own.
        if batch > 1 { occurrences(&body[OK.len()..]) } else { 1 }
    } else {
        0
    };
    let errors = (batch as u64).saturating_sub(operations);
    tally.operations += operations;
    tally.latencies.record(latency, operations);
    if errors > 0 {
        tally.errors += errors;
        tally.last_error = Some(error_text(body));
    }
}

/// How often [`OK`] stands in `bytes`. Inside a JSON text its quotes would be escaped, so it can't be one's.
fn occurrences(bytes: &[u8]) -> u64 {
    let mut count = 0;
    let mut rest = bytes;
    while let Some(brace) = rest.iter().position(|byte| *byte == b'{') {
        rest = &rest[brace..];
        if rest.starts_with(OK) {
            count += 1;
            rest = &rest[OK.len()..];
        } else {
            rest = &rest[1..];
        }
    }
    count
}

/// The first refusal in an answer, or in the answers of a batch.
fn error_text(body: &[u8]) -> String {
    let Ok(answer) = Answer::parse(body) else { return String::from_utf8_lossy(body).into_owned() };
    let text = match answer.result() {
        Err(error) => error.text,
        Ok(list) => {
            let answers: Vec<Answer> = serde_json::from_str(list).unwrap_or_default();
            let refusal = answers.iter().find_map(|answer| answer.result().err());
            refusal.map_or_else(|| "answers are missing from a batch".into(), |error| error.text)
        }
    };
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use protocol::frame::write_frame;

    use super::*;

    fn tally(body: &str, batch: usize) -> (u64, u64, Option<String>) {
        let mut tally = Tally::default();
        count(body.as_bytes(), batch, Duration::from_micros(5), &mut tally);
        (tally.operations, tally.errors, tally.last_error)
    }

    #[test]
    fn ok_is_told_from_refused_also_inside_a_batch() {
        assert_eq!(tally(r#"{"status":"ok","result":{"balance":1.00}}"#, 1), (1, 0, None));
        let refused = r#"{"status":"error","error":"too little","code":"insufficient_funds"}"#;
        assert_eq!(tally(refused, 1), (0, 1, Some("too little".into())));
        let name = r#"{"status":"ok","result":{"name":"{\"status\":\"ok\""}}"#;
        let batch = format!(r#"{{"status":"ok","result":[{name},{refused},{name}]}}"#);
        assert_eq!(tally(&batch, 3), (2, 1, Some("too little".into())));
        assert_eq!(tally(refused, 3), (0, 3, Some("too little".into())));
    }

    #[test]
    fn every_request_is_answered_once_and_the_loop_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Answers each request of each connection, and ends with the connections.
        let server = std::thread::spawn(move || {
            let serve = |mut stream: TcpStream| {
                let mut body = Vec::new();
                let mut served = 0_u64;
                while read_frame(&mut stream, BATCH_FRAME_BYTES_MAX, &mut body).unwrap() {
                    write_frame(&mut stream, br#"{"status":"ok","result":null}"#, BATCH_FRAME_BYTES_MAX).unwrap();
                    served += 1;
                }
                served
            };
            let streams: Vec<_> = (0..3).map(|_| listener.accept().unwrap().0).collect();
            let threads: Vec<_> = streams.into_iter().map(|stream| std::thread::spawn(move || serve(stream))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
        });
        let load = Load {
            address,
            key: None,
            connections: 3,
            depth: 4,
            threads: 2,
            per_second: None,
            warm_up: Duration::ZERO,
            duration: Duration::from_millis(50),
            seed: 1,
        };
        let mix = "transfer".parse().unwrap();
        let workload = Workload { mix, batch: 1, accounts: 10, request_ids: false, other_branch: None };
        let measurement = load.run(&workload).unwrap();
        let served = server.join().unwrap();
        // What was under way at the end was answered too, and not counted.
        assert!(measurement.operations >= 12 && measurement.operations <= served, "{measurement:?}, served {served}");
        assert!(served - measurement.operations <= 24, "{measurement:?}, served {served}");
        assert_eq!(measurement.errors, 0);
    }

    #[test]
    fn a_late_answer_counts_from_when_its_request_was_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Each answer takes longer than the time between two requests.
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut body = Vec::new();
            while read_frame(&mut stream, BATCH_FRAME_BYTES_MAX, &mut body).unwrap() {
                std::thread::sleep(Duration::from_millis(20));
                write_frame(&mut stream, br#"{"status":"ok","result":null}"#, BATCH_FRAME_BYTES_MAX).unwrap();
            }
        });
        let load = Load {
            address,
            key: None,
            connections: 1,
            depth: 1,
            threads: 1,
            per_second: Some(100),
            warm_up: Duration::ZERO,
            duration: Duration::from_millis(50),
            seed: 1,
        };
        let mix = "transfer".parse().unwrap();
        let workload = Workload { mix, batch: 1, accounts: 10, request_ids: false, other_branch: None };
        let measurement = load.run(&workload).unwrap();
        server.join().unwrap();
        assert_eq!((measurement.operations, measurement.errors), (5, 0), "all that were due, also the late");
        // The fifth was due after 40 ms and answered after 100 at the earliest.
        assert!(measurement.latency.max_us >= 60_000, "{measurement:?}");
    }
}

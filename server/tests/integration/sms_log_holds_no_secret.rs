//! Sends a message through the real sender and the Twilio channel with every log line kept, down to
//! *trace*, and looks for what must not be there. A process has one log: no other test of this program may set one.
#![cfg(feature = "twilio")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bank_server::clock::unix_ms_now;
use bank_server::sms::twilio::{TwilioChannel, TwilioSettings};
use bank_server::sms::{Outbox, OutboxError, OutboxMessage, Pace, SmsSender};
use parking_lot::Mutex;

const SID: &str = "AC00000000000000000000000000000042";
const TOKEN: &str = "s3cret-token";
/// `SID:TOKEN` in base64.
const AUTHORIZATION: &str = "QUMwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA0MjpzM2NyZXQtdG9rZW4=";
const PHONE: &str = "9876543210";
const BODY: &str = "Your account XXX001 was credited, Amita";
/// What the test waits for at most.
const DEADLINE: Duration = Duration::from_secs(20);

/// Keeps every line that anyone logs in this program.
struct KeepingLog(Mutex<String>);

static LOG: KeepingLog = KeepingLog(Mutex::new(String::new()));

impl log::Log for KeepingLog {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}\n", record.level(), record.target(), record.args());
        self.0.lock().push_str(&line);
    }

    fn flush(&self) {}
}

/// Keeps its message until it is given up, and passes on each reason it is told.
struct OneMessage {
    message: Option<OutboxMessage>,
    reasons: mpsc::Sender<String>,
}

impl Outbox for OneMessage {
    fn now_unix_ms(&self) -> i64 {
        unix_ms_now()
    }

    fn due(&mut self, _limit: usize) -> Result<Vec<OutboxMessage>, OutboxError> {
        Ok(self.message.iter().cloned().collect())
    }

    fn delivered(&mut self, _id: i64) -> Result<(), OutboxError> {
        panic!("the server refuses each message");
    }

    fn retry_at(&mut self, _id: i64, _attempts: u32, _at_unix_ms: i64, why: &str) -> Result<(), OutboxError> {
        self.reasons.send(why.into()).map_err(OutboxError::new)
    }

    fn given_up(&mut self, _id: i64, why: &str) -> Result<(), OutboxError> {
        self.message = None;
        self.reasons.send(why.into()).map_err(OutboxError::new)
    }

    fn next_due_unix_ms(&mut self) -> Result<Option<i64>, OutboxError> {
        Ok(self.message.as_ref().map(|message| message.created_unix_ms))
    }
}

/// Answers one connection each with the statuses given, and repeats in each answer all that it was told, as
/// a hostile server might.
fn serve_echoes(statuses: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for status in statuses {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let start = head.len();
                assert!(reader.read_line(&mut head).unwrap() > 0, "the request ended early");
                if let Some(value) = head[start..].to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut form = vec![0; length];
            reader.read_exact(&mut form).unwrap();
            assert!(head.contains(AUTHORIZATION), "the request holds the secret: {head}");
            let told = head.replace("\r\n", " ") + &String::from_utf8(form).unwrap();
            let answer = format!(r#"{{"code":21211,"message":"{told} {TOKEN} {PHONE} {BODY}"}}"#);
            let length = answer.len();
            let head = format!("HTTP/1.1 {status}\r\nX-Echo: {TOKEN}\r\nConnection: close\r\nContent-Length: {length}");
            write!(stream, "{head}\r\n\r\n{answer}").unwrap();
        }
    });
    base_url
}

#[test]
fn neither_token_nor_number_nor_text_is_logged() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let base_url = serve_echoes(&["503 Unavailable", "429 Too Many", "400 Bad Request"]);
    let environment = |name: &str| match name {
        "TWILIO_ACCOUNT_SID" => Some(SID.to_owned()),
        "TWILIO_AUTH_TOKEN" => Some(TOKEN.to_owned()),
        "TWILIO_FROM" => Some("+15005550006".to_owned()),
        "TWILIO_BASE_URL" => Some(base_url.clone()),
        _ => None,
    };
    let channel = TwilioChannel::new(TwilioSettings::from_environment(&environment).unwrap(), DEADLINE);
    let message = OutboxMessage {
        id: 1,
        phone: PHONE.into(),
        body: BODY.into(),
        created_unix_ms: unix_ms_now(),
        attempts: 0,
        failing_since_unix_ms: None,
    };
    let (reasons, told) = mpsc::channel();
    let pace = Pace { backoff_base_ms: 1, backoff_max_ms: 2, rest_max_ms: 2, ..Pace::default() };
    let outbox = OneMessage { message: Some(message), reasons };
    let sender = SmsSender::start(outbox, channel, pace).unwrap();
    let reasons: Vec<String> = (0..3).map(|_| told.recv_timeout(DEADLINE).unwrap()).collect();
    sender.stop();

    let seen = LOG.0.lock().clone() + &reasons.join("\n");
    assert!(seen.contains("text message 1: given up") && seen.contains(" ureq"), "nothing was logged: {seen}");
    assert!(reasons[2].contains("21211"), "{reasons:?}");
    for secret in [TOKEN, "s3cret", SID, AUTHORIZATION, PHONE, BODY, "Amita"] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
    // A dump of raw bytes has the secret in pieces that the search above misses; dumps are trace lines.
    assert!(!seen.contains("TRACE "), "trace lines are compiled in: {seen}");
}

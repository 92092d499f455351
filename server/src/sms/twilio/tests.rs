//! Twilio's wire format, against an HTTP server of the test's own.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::*;
use crate::sms::{Outbox, OutboxError, Pace, SmsSender};

const SID: &str = "AC00000000000000000000000000000042";
const TOKEN: &str = "s3cret:Tok+en/🔑";
const FROM: &str = "+15005550006";
/// What a test waits for at most.
const DEADLINE: Duration = Duration::from_secs(20);

/// A request as it came over the wire.
#[derive(Debug)]
struct Request {
    line: String,
    headers: HashMap<String, String>,
    body: String,
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |value| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: line.trim_end().to_owned(), headers, body: String::from_utf8(body).unwrap() })
}

/// Serves the answers one after another, a connection for each, and passes on the requests.
/// An answer is the head from the status on, without its last blank line, and the body.
fn serve(answers: Vec<(&'static str, String)>) -> (String, mpsc::Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let (requests, received) = mpsc::channel();
    thread::spawn(move || {
        for (head, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read_request(&stream).unwrap();
            let length = body.len();
            // The client may hang up before a long body ends.
            let _ = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = requests.send(request);
        }
    });
    (base_url, received)
}

fn environment(base_url: &str) -> impl Fn(&str) -> Option<String> {
    let base_url = base_url.to_owned();
    move |name: &str| match name {
        "TWILIO_ACCOUNT_SID" => Some(SID.to_owned()),
        "TWILIO_AUTH_TOKEN" => Some(TOKEN.to_owned()),
        "TWILIO_FROM" => Some(FROM.to_owned()),
        "TWILIO_BASE_URL" => Some(base_url.clone()).filter(|url| !url.is_empty()),
        _ => None,
    }
}

fn channel(base_url: &str) -> TwilioChannel {
    TwilioChannel::new(TwilioSettings::from_environment(&environment(base_url)).unwrap(), DEADLINE)
}

fn message(body: &str) -> OutboxMessage {
    let (phone, body) = ("9876543210".into(), body.into());
    OutboxMessage { id: 1, phone, body, created_unix_ms: 0, attempts: 0, failing_since_unix_ms: None }
}

fn send_for(head: &'static str, body: &str) -> Result<(), SendError> {
    let (base_url, _requests) = serve(vec![(head, body.to_owned())]);
    channel(&base_url).send(&message("x"))
}

#[test]
fn a_message_is_one_post_with_basic_authentication_and_three_form_fields() {
    let (base_url, requests) = serve(vec![("201 Created", r#"{"sid":"SM1","code":null}"#.into())]);
    let body = "Rs 50.00 & more = +1%; by: अमित, account XXX002\n\"?#";
    channel(&base_url).send(&message(body)).unwrap();
    let request = requests.recv_timeout(DEADLINE).unwrap();
    assert_eq!(request.line, format!("POST /2010-04-01/Accounts/{SID}/Messages.json HTTP/1.1"));
    // printf '%s' 'AC00000000000000000000000000000042:s3cret:Tok+en/🔑' | base64
    let expected = "Basic QUMwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA0MjpzM2NyZXQ6VG9rK2VuL/CflJE=";
    assert_eq!(request.headers["authorization"], expected);
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(
        request.body,
        "From=%2B15005550006&To=%2B919876543210&Body=Rs+50.00+%26+more+%3D+%2B1%25%3B+by%3A+\
         %E0%A4%85%E0%A4%AE%E0%A4%BF%E0%A4%A4%2C+account+XXX002%0A%22%3F%23"
    );
}

#[test]
fn a_base_url_may_have_capitals_a_path_and_a_slash_at_its_end() {
    let (base_url, requests) = serve(vec![("200 OK", String::new())]);
    channel(&format!("{}/proxy/", base_url.replace("http", "HTTP"))).send(&message("x")).unwrap();
    let request = requests.recv_timeout(DEADLINE).unwrap();
    assert_eq!(request.line, format!("POST /proxy/2010-04-01/Accounts/{SID}/Messages.json HTTP/1.1"));
}

#[test]
fn too_many_requests_and_server_errors_are_transient() {
    for head in ["429 Too Many Requests", "500 Internal Server Error", "503 Service Unavailable", "408 Timeout"] {
        let error = send_for(head, "<html>busy</html>").unwrap_err();
        assert!(matches!(&error, SendError::Transient { retry_after_ms: None, .. }), "{head}: {error:?}");
    }
}

#[test]
fn retry_after_is_passed_on_in_seconds_only() {
    let check = |head, expected| {
        let Err(SendError::Transient { retry_after_ms, .. }) = send_for(head, "") else { panic!("{head}") };
        assert_eq!(retry_after_ms, expected, "{head}");
    };
    check("429 Too Many\r\nRetry-After: 7", Some(7_000));
    check("503 Unavailable\r\nretry-after: 18446744073709551615", Some(u64::MAX));
    check("503 Unavailable\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT", None);
    check("503 Unavailable\r\nRetry-After: -1", None);
}

#[test]
fn other_client_errors_are_permanent_and_named_by_twilios_number() {
    let error = send_for("400 Bad Request", r#"{"code":21211,"message":"The 'To' number is not valid"}"#).unwrap_err();
    let SendError::Permanent { why } = error else { panic!("{error:?}") };
    assert_eq!(why, "Twilio answered 400, its error 21211 (https://www.twilio.com/docs/api/errors/21211)");
    for head in ["401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let error = send_for(head, "").unwrap_err();
        assert!(matches!(error, SendError::Permanent { .. }), "{head}: {error:?}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let (elsewhere, requests) = serve(vec![("201 Created", String::new())]);
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let head: &'static str = Box::leak(format!("{status}\r\nLocation: {elsewhere}/x").into_boxed_str());
        let error = send_for(head, "").unwrap_err();
        assert!(matches!(error, SendError::Permanent { .. }), "{head}: {error:?}");
    }
    assert!(requests.try_recv().is_err(), "the redirect was followed");
}

#[test]
fn no_connection_and_a_cut_answer_are_transient() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = channel(&format!("http://{closed}")).send(&message("x")).unwrap_err();
    assert!(matches!(error, SendError::Transient { .. }), "{error:?}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&stream).unwrap();
        stream.write_all(b"HTTP/1.1 20").unwrap();
    });
    let error = channel(&base_url).send(&message("x")).unwrap_err();
    assert!(matches!(error, SendError::Transient { .. }), "{error:?}");
    server.join().unwrap();
}

#[test]
fn https_to_a_server_without_tls_is_transient_and_sends_nothing_readable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("https://{}", listener.local_addr().unwrap());
    let (sent, seen) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = [0; 1024];
        let length = stream.read(&mut hello).unwrap();
        sent.send(hello[..length].to_vec()).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    });
    let settings = TwilioSettings::from_environment(&environment(&base_url)).unwrap();
    let error = TwilioChannel::with_proxy(settings, DEADLINE, None).send(&message("x")).unwrap_err();
    assert!(matches!(error, SendError::Transient { .. }), "{error:?}");
    // The first byte of a TLS handshake record.
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap()[0], 0x16);
}

#[test]
fn a_server_that_hangs_costs_the_timeout_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let settings = TwilioSettings::from_environment(&environment(&base_url)).unwrap();
    let started = Instant::now();
    // The connection is taken by the operating system, and nobody answers on it.
    let error = TwilioChannel::new(settings, Duration::from_millis(100)).send(&message("x")).unwrap_err();
    let expected = SendError::Transient { why: "no answer from Twilio in time".into(), retry_after_ms: None };
    assert_eq!(error, expected);
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}

#[test]
fn an_endless_answer_is_read_up_to_a_bound() {
    let long = " ".repeat(TWILIO_ANSWER_BYTES_MAX as usize * 20);
    assert_eq!(send_for("201 Created", &long), Ok(()));
    let error = send_for("400 Bad Request", &format!("{long}{{\"code\":21211}}")).unwrap_err();
    assert_eq!(error, SendError::Permanent { why: "Twilio answered 400".into() });
}

fn check_refused(name: &str, value: Option<&str>, part: &str) {
    let others = environment("");
    let environment = |asked: &str| if asked == name { value.map(str::to_owned) } else { others(asked) };
    let error = TwilioSettings::from_environment(&environment).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains(part), "{name}={value:?} gave {error:?}");
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn a_missing_or_malformed_variable_is_named() {
    for name in ["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_FROM"] {
        check_refused(name, None, "needs");
        check_refused(name, Some(""), "needs");
        check_refused(name, Some("s3cret\n"), "control character");
    }
    check_refused("TWILIO_ACCOUNT_SID", Some("AC1/../x"), "letters and digits");
    check_refused("TWILIO_ACCOUNT_SID", Some("AC1:x"), "letters and digits");
}

#[test]
fn a_base_url_that_could_betray_the_token_is_refused() {
    let check = |url: &str, part: &str| check_refused("TWILIO_BASE_URL", Some(url), part);
    check("http://api.twilio.com", "must be https");
    check("http://127.0.0.1.example.com", "must be https");
    check("ftp://127.0.0.1", "must be https");
    check("https://user:s3cret@api.twilio.com", "a scheme, a host");
    check("https://api.twilio.com?x=1", "a scheme, a host");
    check("https://api.twilio.com#x", "a scheme, a host");
    check("api.twilio.com", "needs a scheme");
    check("/x", "needs a scheme");
    check("https://a b", "not a URL");
    for url in ["https://api.twilio.com", "http://localhost:1/", "http://[::1]:1", ""] {
        assert!(TwilioSettings::from_environment(&environment(url)).is_ok(), "{url:?}");
    }
}

/// An outbox of one message, which tells when it has left.
struct OneMessage {
    message: Option<OutboxMessage>,
    done: mpsc::Sender<Result<u32, String>>,
}

impl Outbox for OneMessage {
    fn now_unix_ms(&self) -> i64 {
        crate::clock::unix_ms_now()
    }

    fn due(&mut self, _limit: usize) -> Result<Vec<OutboxMessage>, OutboxError> {
        Ok(self.message.iter().cloned().collect())
    }

    fn delivered(&mut self, _id: i64) -> Result<(), OutboxError> {
        let attempts = self.message.take().unwrap().attempts;
        self.done.send(Ok(attempts)).map_err(OutboxError::new)
    }

    fn retry_at(&mut self, _id: i64, attempts: u32, _at_unix_ms: i64, _why: &str) -> Result<(), OutboxError> {
        self.message.as_mut().unwrap().attempts = attempts;
        Ok(())
    }

    fn given_up(&mut self, _id: i64, why: &str) -> Result<(), OutboxError> {
        self.message = None;
        self.done.send(Err(why.into())).map_err(OutboxError::new)
    }

    fn next_due_unix_ms(&mut self) -> Result<Option<i64>, OutboxError> {
        Ok(self.message.as_ref().map(|message| message.created_unix_ms))
    }
}

/// Runs the real sender against the server, and returns what became of the message and the requests made.
fn run_sender(answers: Vec<(&'static str, String)>) -> (Result<u32, String>, usize) {
    let (base_url, requests) = serve(answers);
    let (done, outcome) = mpsc::channel();
    let created_unix_ms = crate::clock::unix_ms_now();
    let outbox = OneMessage { message: Some(OutboxMessage { created_unix_ms, ..message("अमित") }), done };
    let pace = Pace { backoff_base_ms: 1, backoff_max_ms: 2, rest_max_ms: 2, ..Pace::default() };
    let sender = SmsSender::start(outbox, channel(&base_url), pace).unwrap();
    let outcome = outcome.recv_timeout(DEADLINE).unwrap();
    sender.stop();
    (outcome, requests.try_iter().count())
}

#[test]
fn the_sender_retries_on_429_and_5xx_and_not_on_400() {
    let busy = |head| (head, String::new());
    let answers = vec![busy("429 Too Many"), busy("500 Error"), busy("503 Unavailable"), busy("201 Created")];
    assert_eq!(run_sender(answers), (Ok(3), 4));
    let refused = ("400 Bad Request", r#"{"code":21211}"#.to_owned());
    let (outcome, requests) = run_sender(vec![refused.clone(), refused]);
    assert!(outcome.unwrap_err().contains("21211"));
    assert_eq!(requests, 1);
}

#[test]
fn debug_texts_hold_no_secret() {
    let settings = TwilioSettings::from_environment(&environment("")).unwrap();
    let shown = format!("{settings:?} {:?}", TwilioChannel::new(settings.clone(), DEADLINE));
    assert!(shown.contains(FROM), "{shown}");
    for secret in [TOKEN, "s3cret", SID, &BASE64_STANDARD.encode(format!("{SID}:{TOKEN}"))] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

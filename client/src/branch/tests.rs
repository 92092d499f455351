//! A branch that follows a list of steps, for what a real one does only by accident.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use protocol::frame::{FRAME_BYTES_MAX, read_frame, write_frame};
use protocol::proof::{BranchKey, Prover, from_hex, to_hex};
use protocol::request::{Hello, NoParams, RequestFrame};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// What the branch does with one connection.
enum Visit {
    /// Hears a request and hangs up.
    HangUp,
    /// Hears a request and gives this answer.
    Answer(&'static str),
    /// Proves this key, and then hears a request and gives the answer.
    Prove(BranchKey, &'static str),
    /// Sends these bytes at once.
    Noise(&'static [u8]),
}

/// A branch for so many connections; gives back the requests that it heard.
fn branch(visits: Vec<Visit>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let mut heard = Vec::new();
        for visit in visits {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            match visit {
                Visit::HangUp => heard.extend(hear(&mut stream)),
                Visit::Answer(answer) => {
                    heard.extend(hear(&mut stream));
                    write_frame(&mut stream, answer.as_bytes(), FRAME_BYTES_MAX).unwrap();
                    let _ = stream.read(&mut [0]);
                }
                Visit::Prove(key, answer) => {
                    prove_and_answer(&mut stream, &key, answer, &mut heard);
                    let _ = stream.read(&mut [0]);
                }
                Visit::Noise(bytes) => {
                    std::io::Write::write_all(&mut stream, bytes).unwrap();
                    let _ = stream.read(&mut [0; 1024]);
                }
            }
        }
        heard
    });
    (address, thread)
}

fn hear(stream: &mut TcpStream) -> Option<String> {
    let mut body = Vec::new();
    read_frame(stream, FRAME_BYTES_MAX, &mut body).unwrap().then(|| String::from_utf8(body).unwrap())
}

fn prove_and_answer(stream: &mut TcpStream, key: &BranchKey, answer: &str, heard: &mut Vec<String>) {
    let hello = hear(stream).unwrap();
    let params: Hello = RequestFrame::parse(hello.as_bytes()).unwrap().params().unwrap();
    let (client, own) = (from_hex(&params.nonce).unwrap(), [9; 32]);
    let proof = key.prove(Prover::Branch, &client, &own, "Delhi");
    let welcome =
        format!(r#"{{"status":"ok","result":{{"branch":"Delhi","nonce":"{}","proof":"{proof}"}}}}"#, to_hex(&own));
    write_frame(stream, welcome.as_bytes(), FRAME_BYTES_MAX).unwrap();
    let Some(authenticate) = hear(stream) else { return };
    let expected = key.prove(Prover::Client, &client, &own, "Delhi");
    assert!(authenticate.contains(&expected), "{authenticate}");
    write_frame(stream, br#"{"status":"ok","result":true}"#, FRAME_BYTES_MAX).unwrap();
    heard.extend(hear(stream));
    write_frame(stream, answer.as_bytes(), FRAME_BYTES_MAX).unwrap();
}

fn client(address: SocketAddr, keys: Keys, timeout: Duration) -> Branch {
    let access = Access { keys, tls: None, timeout, command_line: "bank-client deposit 1001 5".into() };
    Branch::new(Arc::new(access), (address.ip(), address.port()).into())
}

fn no_keys() -> Keys {
    Keys::default()
}

fn found(bytes: u8) -> FoundKey {
    FoundKey { path: format!("{bytes}.key").into(), key: BranchKey::from_bytes([bytes; 32]) }
}

const OK: &str = r#"{"status":"ok","result":{"balance":5.00}}"#;

fn order(branch: &mut Branch) -> Result<Reply, ClientError> {
    branch.order(Action::Deposit, &NoParams {}, "id-1.2", "id-1")
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_bytes() {
    let (address, thread) = branch(vec![Visit::HangUp, Visit::HangUp, Visit::Answer(OK)]);
    let mut client = client(address, no_keys(), DEADLINE);
    assert_eq!(order(&mut client).unwrap().body(), OK.as_bytes());
    drop(client);
    let heard = thread.join().unwrap();
    assert_eq!(heard.len(), 3);
    assert!(heard.iter().all(|request| *request == heard[0]), "{heard:?}");
    assert!(heard[0].contains(r#""request_id":"id-1.2""#), "{heard:?}");
}

#[test]
fn a_write_without_an_answer_tells_how_to_find_out() {
    let (address, thread) = branch(vec![Visit::HangUp]);
    let mut client = client(address, no_keys(), Duration::from_millis(40));
    let error = order(&mut client).unwrap_err();
    assert_eq!(error.status(), crate::error::ExitStatus::ConnectionFailed);
    assert!(error.to_string().ends_with("\n  bank-client deposit 1001 5 --request-id id-1"), "{error}");
    thread.join().unwrap();
}

#[test]
fn a_branch_that_went_away_after_a_write_leaves_its_outcome_unknown() {
    let (address, thread) = branch(vec![Visit::HangUp]);
    let mut client = client(address, no_keys(), Duration::from_millis(600));
    let error = order(&mut client).unwrap_err();
    assert!(matches!(error, ClientError::Branch(BranchError::OutcomeUnknown { .. })), "{error}");
    assert!(error.to_string().contains("can't be reached any more"), "{error}");
    thread.join().unwrap();
}

#[test]
fn a_question_without_an_answer_is_no_unknown_outcome() {
    let (address, thread) = branch(vec![Visit::HangUp]);
    let mut client = client(address, no_keys(), Duration::from_millis(40));
    let error = client.ask(Action::Status, &NoParams {}).unwrap_err();
    assert!(matches!(error, ClientError::Branch(BranchError::NoAnswer { .. })), "{error}");
    thread.join().unwrap();
}

#[test]
fn nobody_there_is_told_at_once() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = order(&mut client(address, no_keys(), DEADLINE)).unwrap_err();
    assert!(error.to_string().contains("--host and --port"), "{error}");
}

#[test]
fn a_branch_that_does_not_know_yet_is_asked_again() {
    let undecided = r#"{"status":"error","error":"not decided yet","code":"undecided"}"#;
    let busy = r#"{"status":"error","error":"the bank is busy","code":"busy"}"#;
    let (address, thread) = branch(vec![Visit::Answer(undecided)]);
    let error = order(&mut client(address, no_keys(), Duration::from_millis(40))).unwrap_err();
    assert!(error.to_string().contains("not decided yet") && error.to_string().contains("--request-id"), "{error}");
    thread.join().unwrap();
    let (address, thread) = branch(vec![Visit::Answer(busy)]);
    let reply = order(&mut client(address, no_keys(), Duration::from_millis(40))).unwrap();
    assert_eq!(reply.json().unwrap_err().to_string(), "the bank is busy");
    thread.join().unwrap();
}

#[test]
fn noise_is_no_branch() {
    let (address, thread) = branch(vec![Visit::Noise(b"Welcome to the bank\n")]);
    let error = client(address, no_keys(), DEADLINE).ask(Action::Status, &NoParams {}).unwrap_err();
    assert!(error.to_string().contains("check --port"), "{error}");
    thread.join().unwrap();
}

#[test]
fn a_shared_key_is_proved_and_another_one_passed_over() {
    let shared = BranchKey::from_bytes([7; 32]);
    let (address, thread) = branch(vec![Visit::Prove(shared.clone(), OK), Visit::Prove(shared, OK)]);
    let keys = Keys { found: vec![found(8), found(7)], is_named: false };
    let mut client = client(address, keys, DEADLINE);
    assert!(order(&mut client).unwrap().is_ok());
    drop(client);
    assert_eq!(thread.join().unwrap().len(), 1);
}

#[test]
fn a_named_key_that_the_branch_does_not_share_ends_it() {
    let (address, thread) = branch(vec![Visit::Prove(BranchKey::from_bytes([7; 32]), OK), Visit::HangUp]);
    let keys = Keys { found: vec![found(8)], is_named: true };
    let error = order(&mut client(address, keys, DEADLINE)).unwrap_err();
    assert!(error.to_string().contains("does not hold the key of 8.key"), "{error}");
    assert!(thread.join().unwrap().is_empty());
}

#[test]
fn an_open_branch_here_is_spoken_to_without_the_key_that_was_found() {
    let refusal = r#"{"status":"error","error":"not allowed","code":"not_allowed"}"#;
    let (address, thread) = branch(vec![Visit::Prove(BranchKey::from_bytes([7; 32]), OK), Visit::Answer(refusal)]);
    let keys = Keys { found: vec![found(8)], is_named: false };
    let error = order(&mut client(address, keys, DEADLINE)).unwrap().json().unwrap_err().to_string();
    assert!(error.contains("the key of 8.key is not this branch's"), "{error}");
    assert_eq!(thread.join().unwrap().len(), 1);
}

#[test]
fn a_branch_that_knows_no_keys_is_spoken_to() {
    let unknown = r#"{"status":"error","error":"there is no action hello","code":"unknown_action"}"#;
    let (address, thread) = branch(vec![Visit::Answer(unknown)]);
    let mut client = client(address, Keys { found: vec![found(8)], is_named: true }, Duration::from_millis(40));
    // The far side ends after its first answer, which was to hello.
    assert!(client.ask(Action::Status, &NoParams {}).is_err());
    drop(client);
    assert!(thread.join().unwrap()[0].contains("hello"));
}

#[test]
fn arguments_are_quoted_for_a_shell() {
    for (argument, expected) in [("1001", "1001"), ("Delhi/1002=50", "Delhi/1002=50"), ("a b", "'a b'"), ("", "''")] {
        assert_eq!(quoted(argument), expected);
    }
}

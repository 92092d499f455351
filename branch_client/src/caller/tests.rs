//! A branch that follows a list of steps, for what a real one does only by accident.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use protocol::frame::{FRAME_BYTES_MAX, read_frame, write_frame};
use protocol::key_file::FoundKey;
use protocol::proof::{BranchKey, Prover, from_hex, to_hex};
use protocol::request::{Hello, NoParams, RequestFrame};

use super::*;
use crate::keys::Keys;

const DEADLINE: Duration = Duration::from_secs(20);

/// What the branch does with one connection.
enum Visit {
    /// Hears a request and hangs up.
    HangUp,
    /// Hears a request and gives this answer.
    Answer(&'static str),
    /// Proves this key, and then hears a request and gives the answer.
    Prove(BranchKey, &'static str),
    /// Proves this key, hears a request and hangs up.
    ProveAndHangUp(BranchKey),
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
                    prove_and_answer(&mut stream, &key, Some(answer), &mut heard);
                    let _ = stream.read(&mut [0]);
                }
                Visit::ProveAndHangUp(key) => prove_and_answer(&mut stream, &key, None, &mut heard),
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

fn prove_and_answer(stream: &mut TcpStream, key: &BranchKey, answer: Option<&str>, heard: &mut Vec<String>) {
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
    if let Some(answer) = answer {
        write_frame(stream, answer.as_bytes(), FRAME_BYTES_MAX).unwrap();
    }
}

fn caller(address: SocketAddr, keys: Keys) -> Caller {
    let credentials = Arc::new(Credentials { keys, tls: None });
    Caller {
        credentials,
        address: (address.ip(), address.port()).into(),
        others: VecDeque::new(),
        name: None,
        opened: None,
    }
}

fn no_keys() -> Keys {
    Keys::default()
}

fn found(bytes: u8) -> FoundKey {
    FoundKey { path: format!("{bytes}.key").into(), key: BranchKey::from_bytes([bytes; 32]) }
}

const OK: &str = r#"{"status":"ok","result":{"balance":5.00}}"#;
const UNDECIDED: &str = r#"{"status":"error","error":"not decided yet","code":"undecided"}"#;
const BUSY: &str = r#"{"status":"error","error":"the bank is busy","code":"busy"}"#;

fn order(caller: &mut Caller, retry: Retry) -> Result<Answer, Unanswered> {
    let request = Request { action: Action::Deposit, params: &NoParams {}, request_id: Some("id-1.2") };
    caller.call(&request, retry, &TimeLimits::all(DEADLINE, DEADLINE))
}

/// With time for one attempt.
const BRIEFLY: Retry = Retry::For(Duration::from_millis(40));

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_bytes() {
    let (address, thread) = branch(vec![Visit::HangUp, Visit::HangUp, Visit::Answer(OK)]);
    let mut caller = caller(address, no_keys());
    assert!(order(&mut caller, Retry::For(DEADLINE)).unwrap().result().is_ok());
    assert_eq!(caller.opened.as_ref().unwrap().connection.last_answer(), OK.as_bytes());
    drop(caller);
    let heard = thread.join().unwrap();
    assert_eq!(heard.len(), 3);
    assert!(heard.iter().all(|request| *request == heard[0]), "{heard:?}");
    assert!(heard[0].contains(r#""request_id":"id-1.2""#), "{heard:?}");
}

#[test]
fn once_more_is_once_and_never_is_never() {
    let (address, thread) = branch(vec![Visit::HangUp, Visit::Answer(OK)]);
    assert!(order(&mut caller(address, no_keys()), Retry::Once).is_ok());
    assert_eq!(thread.join().unwrap().len(), 2);
    for (retry, attempts) in [(Retry::Never, 1), (Retry::Once, 2)] {
        let (address, thread) = branch((0..attempts).map(|_| Visit::HangUp).collect());
        let lost = order(&mut caller(address, no_keys()), retry).unwrap_err();
        assert!(matches!(lost, Unanswered { cause: Cause::Call(_), may_be_done: true }), "{lost:?}");
        assert_eq!(thread.join().unwrap().len(), attempts);
    }
}

#[test]
fn a_branch_that_went_away_after_a_write_leaves_its_outcome_unknown() {
    for retry in [Retry::Once, Retry::For(Duration::from_millis(600))] {
        let (address, thread) = branch(vec![Visit::HangUp]);
        let lost = order(&mut caller(address, no_keys()), retry).unwrap_err();
        assert!(matches!(lost, Unanswered { cause: Cause::Open(_), may_be_done: true }), "{lost:?}");
        thread.join().unwrap();
    }
}

#[test]
fn a_stranger_in_its_place_leaves_the_outcome_of_a_write_unknown() {
    let shared = BranchKey::from_bytes([7; 32]);
    // The branch breaks off in the middle of a write, and what is there afterwards holds another key.
    let (address, thread) =
        branch(vec![Visit::ProveAndHangUp(shared), Visit::Prove(BranchKey::from_bytes([9; 32]), OK)]);
    // A named key is proved or nothing is said, so nobody waits for the last answer.
    let mut caller = caller(address, Keys { found: vec![found(7)], is_named: true });
    let lost = order(&mut caller, Retry::Once);
    drop(caller);
    drop(TcpStream::connect(address));
    assert!(matches!(lost, Err(Unanswered { cause: Cause::Open(_), may_be_done: true })), "{lost:?}");
    thread.join().unwrap();
}

#[test]
fn nobody_there_is_told_at_once() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = order(&mut caller(address, no_keys()), Retry::For(DEADLINE)).unwrap_err();
    assert!(matches!(error, Unanswered { cause: Cause::Open(OpenError::Connect(_)), may_be_done: false }), "{error:?}");
}

#[test]
fn a_branch_that_does_not_know_yet_is_asked_again() {
    let (address, thread) = branch(vec![Visit::Answer(UNDECIDED)]);
    let lost = order(&mut caller(address, no_keys()), BRIEFLY).unwrap_err();
    assert!(matches!(&lost, Unanswered { cause: Cause::Later(error), may_be_done: true }
        if error.text == "not decided yet"));
    thread.join().unwrap();
    let (address, thread) = branch(vec![Visit::Answer(BUSY)]);
    assert!(order(&mut caller(address, no_keys()), BRIEFLY).unwrap().result().is_err(), "nothing was done");
    thread.join().unwrap();
}

#[test]
fn who_does_not_wait_takes_a_busy_branchs_word() {
    let (address, thread) = branch(vec![Visit::Answer(UNDECIDED)]);
    assert_eq!(order(&mut caller(address, no_keys()), Retry::Once).unwrap().result().unwrap_err().code, "undecided");
    thread.join().unwrap();
}

#[test]
fn noise_is_no_branch() {
    let (address, thread) = branch(vec![Visit::Noise(b"Welcome to the bank\n")]);
    let error = order(&mut caller(address, no_keys()), Retry::For(DEADLINE)).unwrap_err();
    assert!(matches!(&error, Unanswered { cause: Cause::Call(error), .. } if is_noise(error)), "{error:?}");
    thread.join().unwrap();
}

#[test]
fn a_shared_key_is_proved_and_another_one_passed_over() {
    let shared = BranchKey::from_bytes([7; 32]);
    let (address, thread) = branch(vec![Visit::Prove(shared.clone(), OK), Visit::Prove(shared, OK)]);
    let mut caller = caller(address, Keys { found: vec![found(8), found(7)], is_named: false });
    assert!(order(&mut caller, Retry::For(DEADLINE)).unwrap().result().is_ok());
    let proved = caller.opened.as_ref().unwrap().proved.clone().unwrap();
    assert_eq!((proved.branch.as_str(), proved.key.to_str()), ("Delhi", Some("7.key")));
    drop(caller);
    assert_eq!(thread.join().unwrap().len(), 1);
}

#[test]
fn another_branch_than_the_one_that_was_meant_is_not_asked() {
    let shared = BranchKey::from_bytes([7; 32]);
    let (address, thread) = branch(vec![Visit::Prove(shared, OK)]);
    let keys = Keys { found: vec![found(7)], is_named: true };
    let mut caller = Caller { name: Some("Pune".parse().unwrap()), ..caller(address, keys) };
    let error = order(&mut caller, Retry::Once).unwrap_err();
    assert!(
        matches!(&error, Unanswered { cause: Cause::Open(OpenError::OtherBranch(name)), .. } if name == "Delhi"),
        "{error:?}"
    );
    assert!(thread.join().unwrap().is_empty());
}

#[test]
fn a_named_key_that_the_branch_does_not_share_ends_it() {
    let (address, thread) = branch(vec![Visit::Prove(BranchKey::from_bytes([7; 32]), OK), Visit::HangUp]);
    let error = order(&mut caller(address, Keys { found: vec![found(8)], is_named: true }), Retry::For(DEADLINE));
    assert!(
        matches!(&error, Err(Unanswered { cause: Cause::Open(OpenError::Stranger { key }), .. }) if *key == *"8.key"),
        "{error:?}"
    );
    assert!(thread.join().unwrap().is_empty());
}

#[test]
fn an_open_branch_here_is_spoken_to_without_the_key_that_was_found() {
    let (address, thread) = branch(vec![Visit::Prove(BranchKey::from_bytes([7; 32]), OK), Visit::Answer(OK)]);
    let mut caller = caller(address, Keys { found: vec![found(8)], is_named: false });
    assert!(order(&mut caller, Retry::For(DEADLINE)).unwrap().result().is_ok());
    assert!(caller.opened.as_ref().unwrap().proved.is_none());
    drop(caller);
    assert_eq!(thread.join().unwrap().len(), 1);
}

#[test]
fn a_branch_that_knows_no_keys_is_spoken_to() {
    let unknown = r#"{"status":"error","error":"there is no action hello","code":"unknown_action"}"#;
    let (address, thread) = branch(vec![Visit::Answer(unknown)]);
    let mut caller = caller(address, Keys { found: vec![found(8)], is_named: true });
    // The far side ends after its first answer, which was to hello.
    assert!(order(&mut caller, BRIEFLY).is_err());
    drop(caller);
    assert!(thread.join().unwrap()[0].contains("hello"));
}

const NOT_PRIMARY: &str = r#"{"status":"error","error":"this is a replica","code":"not_primary"}"#;

#[test]
fn a_branch_of_several_processes_is_asked_where_it_takes_orders_under_the_same_id() {
    let (standby, at_standby) = branch(vec![Visit::Answer(NOT_PRIMARY)]);
    let (owner, at_owner) = branch(vec![Visit::HangUp, Visit::Answer(OK)]);
    let mut several = caller(owner, no_keys());
    several.others = VecDeque::from([(standby.ip(), standby.port()).into()]);
    // The owner hangs up in the middle, the other one takes no orders, and the owner is back.
    assert!(order(&mut several, Retry::For(DEADLINE)).unwrap().result().is_ok());
    drop(several);
    let (at_standby, at_owner) = (at_standby.join().unwrap(), at_owner.join().unwrap());
    assert_eq!((at_standby.len(), at_owner.len()), (1, 2));
    assert!(at_owner.iter().chain(&at_standby).all(|request| *request == at_owner[0]), "{at_owner:?} {at_standby:?}");
}

#[test]
fn what_one_process_left_open_is_not_closed_by_another_that_takes_no_orders() {
    let (owner, at_owner) = branch(vec![Visit::HangUp]);
    let (standby, at_standby) = branch(vec![Visit::Answer(NOT_PRIMARY)]);
    let mut several = caller(owner, no_keys());
    several.others = VecDeque::from([(standby.ip(), standby.port()).into()]);
    let left_open = order(&mut several, Retry::For(Duration::from_millis(120))).unwrap_err();
    assert!(left_open.may_be_done, "{left_open:?}");
    drop(several);
    at_owner.join().unwrap();
    at_standby.join().unwrap();
}

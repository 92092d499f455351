//! What a person is told of a branch that gave no answer. How one is asked again is tested in `branch_client`.

use std::io;

use branch_client::Keys;
use protocol::answer::AnswerError;
use protocol::key_file::FoundKey;
use protocol::proof::BranchKey;

use super::*;
use crate::error::ExitStatus;

fn branch(found: Vec<FoundKey>) -> Branch {
    let credentials = Arc::new(Credentials { keys: Keys { found, is_named: false }, tls: None });
    let command_line = "bank-client deposit 1001 5".into();
    let access = Access { credentials, timeout: Duration::from_secs(20), command_line };
    Branch::new(Arc::new(access), "127.0.0.1:9100".parse().unwrap())
}

fn lost(cause: Cause, may_be_done: bool) -> Unanswered {
    Unanswered { cause, may_be_done }
}

fn refused_connection() -> OpenError {
    OpenError::Connect(ConnectError::Connect(io::ErrorKind::ConnectionRefused.into()))
}

#[test]
fn a_write_without_an_answer_tells_how_to_find_out() {
    let explain = |cause| branch(Vec::new()).explain(lost(cause, true), Some(("id-1.2", "id-1")));
    let error = explain(Cause::Call(CallError::Closed));
    assert_eq!(error.status(), ExitStatus::ConnectionFailed);
    assert!(error.to_string().ends_with("\n  bank-client deposit 1001 5 --request-id id-1"), "{error}");
    let silent = explain(Cause::Call(CallError::Frame(FrameError::Io(io::ErrorKind::TimedOut.into())))).to_string();
    assert!(silent.contains("(it said nothing in time)"), "{silent}");
    let gone = explain(Cause::Open(refused_connection())).to_string();
    assert!(gone.contains("(it can't be reached any more: "), "{gone}");
    let undecided = AnswerError { code: "undecided".into(), text: "not decided yet".into(), known_epoch: None };
    let undecided = explain(Cause::Later(undecided)).to_string();
    assert!(undecided.contains("(not decided yet)") && undecided.contains("--request-id"), "{undecided}");
}

#[test]
fn a_question_without_an_answer_is_no_unknown_outcome() {
    let error = branch(Vec::new()).explain(lost(Cause::Call(CallError::Closed), true), None).to_string();
    assert!(error.starts_with("no answer came from 127.0.0.1:9100") && !error.contains("nothing was done"), "{error}");
    let error = branch(Vec::new()).explain(lost(Cause::Call(CallError::Closed), false), Some(("1", "1"))).to_string();
    assert!(error.contains(", so nothing was done"), "{error}");
}

#[test]
fn who_can_not_be_spoken_to_is_told_with_what_to_do() {
    let explain = |error| branch(Vec::new()).explain(lost(Cause::Open(error), false), None).to_string();
    assert!(explain(refused_connection()).contains("--host and --port"));
    assert!(explain(OpenError::Stranger { key: "8.key".into() }).contains("does not hold the key of 8.key"));
    let noise = CallError::Frame(FrameError::TooLong { length: 2, bytes_max: 1 });
    assert!(explain(OpenError::Call(noise)).contains("check --port"));
}

#[test]
fn a_refusal_for_want_of_permission_comes_with_what_mends_it() {
    let refused = |found| {
        let branch = branch(found);
        let answer = Answer::parse(br#"{"status":"error","error":"not allowed","code":"not_allowed"}"#).unwrap();
        branch.reply(answer).json().unwrap_err().to_string()
    };
    assert!(refused(Vec::new()).contains("--key (or BANK_KEY)"));
    let found = FoundKey { path: "8.key".into(), key: BranchKey::from_bytes([8; 32]) };
    assert!(refused(vec![found]).contains("the key of 8.key is not this branch's"));
}

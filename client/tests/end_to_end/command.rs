//! The built program with a command: what goes to standard output, to standard error, and the exit status.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::server::DEADLINE;

fn client(line: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bank-client"));
    for name in ["BANK_HOST", "BANK_PORT", "BANK_MENU_PORT", "BANK_TIMEOUT", "BANK_KEY", "BANK_DB", "BANK_JSON"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).args(line).output().unwrap()
}

/// Runs the client against a branch that knows no keys and gives this answer to every request. (A key may lie about
/// where the programs were built.)
fn ask(line: &[&str], answer: &'static str) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    // The thread ends with the test's process: nobody knows how often a client comes.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut header = [0; 4];
            while stream.read_exact(&mut header).is_ok() {
                let mut body = vec![0; u32::from_be_bytes(header) as usize];
                stream.read_exact(&mut body).unwrap();
                let is_hello = body.starts_with(br#"{"action":"hello""#);
                let answer = if is_hello { NO_KEYS } else { answer };
                let length = u32::try_from(answer.len()).unwrap();
                let _ = stream.write_all(&[&length.to_be_bytes()[..], answer.as_bytes()].concat());
            }
        }
    });
    client(&[&["--port", &port], line].concat())
}

#[track_caller]
fn check(output: &Output, status: i32, shown: &str, told: &str) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(text(&output.stdout), shown);
    assert!(text(&output.stderr).contains(told), "{:?}", text(&output.stderr));
    assert_eq!(told.is_empty(), output.stderr.is_empty(), "{:?}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(status));
}

const NO_KEYS: &str = r#"{"status":"error","error":"there is no action hello","code":"unknown_action"}"#;
const DONE: &str = r#"{"status":"ok","result":{"balance":1100.00}}"#;
const REFUSED: &str = r#"{"status":"error","error":"insufficient\u001b[2J funds","code":"insufficient_funds"}"#;

#[test]
fn what_was_done_is_told() {
    check(&ask(&["deposit", "1001", "100"], DONE), 0, "Deposited Rs 100.00. Account 1001 has Rs 1100.00.\n", "");
}

#[test]
fn json_is_the_answer_as_it_came() {
    check(&ask(&["deposit", "1001", "100", "--json"], DONE), 0, &format!("{DONE}\n"), "");
    check(&ask(&["--json", "withdraw", "1001", "100"], REFUSED), 1, &format!("{REFUSED}\n"), "");
}

#[test]
fn a_refusal_goes_to_standard_error_and_steers_no_terminal() {
    let output = ask(&["withdraw", "1001", "100"], REFUSED);
    check(&output, 1, "", "bank-client: insufficient[2J funds\n");
}

#[test]
fn nobody_there_is_a_failed_connection() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    check(&client(&["--port", &port, "balance", "1001"]), 2, "", "start one with 'make run-server'");
}

#[test]
fn wrong_command_lines_exit_64() {
    check(&client(&["deposit", "1001", "-5"]), 64, "", "an amount is written without a sign");
    check(&client(&["rob", "1001"]), 64, "", "unrecognized subcommand 'rob'");
    check(&client(&["--key", "no-such-file", "status"]), 64, "", "check --key");
    check(&client(&["batch", "no-such-file"]), 64, "", "no-such-file can't be read");
}

#[test]
fn every_command_has_its_help() {
    let bank = ["transfer", "inter_branch_transfer", "split", "trace", "batch", "open", "resolve", "history"];
    let teaching = ["stage", "step-mode", "step", "pass-time", "fault", "crash", "scenarios", "scenario"];
    for command in bank.into_iter().chain(teaching) {
        let output = client(&[command, "--help"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Examples:\n  bank-client ") && output.status.success(), "{command}: {text}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = client(&["completions", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        let knows = |word| text.contains(word);
        assert!(knows("inter_branch_transfer") && knows("step-mode") && output.status.success(), "{shell}");
    }
}

//! The examples, run against a real branch: a client in Rust and one in Python ask the same things and are told the same.

use std::path::Path;
use std::process::{Command, Output};

use bank_tests::{Branch, Options, program};
use serde_json::Value;

/// A client of `examples/`.
type Client = fn() -> Command;

fn client_in_rust() -> Command {
    // Examples are built into a folder of their own, beside the programs.
    let client = program("bank-server").with_file_name("examples").join("client");
    assert!(client.exists(), "{} is missing: run make test, which builds the examples first", client.display());
    Command::new(client)
}

fn client_in_python() -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/client.py"));
    command
}

fn ask(client: Client, branch: &Branch, words: &[&str]) -> Output {
    let address = format!("127.0.0.1:{}", branch.port());
    client().arg(address).arg(branch.key_path()).args(words).output().unwrap()
}

/// What is asked for is done, and this is the result.
#[track_caller]
fn result(client: Client, branch: &Branch, words: &[&str]) -> Value {
    let output = ask(client, branch, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn goes_through_a_deposit(client: Client) {
    let branch = Branch::start(Options::preloaded());
    let deposit = ["deposit", r#"{"account_no":"1001","amount":"250.50"}"#, "the-one-deposit"];
    for _ in 0..2 {
        // Python writes an amount as the text that it was.
        let balance = result(client, &branch, &deposit)["balance"].to_string();
        assert_eq!(balance.trim_matches('"'), "1250.50", "a repeat of one id is one deposit");
    }
    let balance = result(client, &branch, &["balance", r#"{"account_no":"1001"}"#]);
    assert_eq!(balance["name"], "Asha Rao");
    assert_eq!(balance["available"].to_string().trim_matches('"'), "1250.50");
    let refused = ask(client, &branch, &["withdraw", r#"{"account_no":"1001","amount":"5000"}"#]);
    let said = String::from_utf8(refused.stderr.clone()).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said.contains("insufficient funds"), "{said}");
}

#[test]
fn the_client_in_rust_goes_through_a_deposit() {
    goes_through_a_deposit(client_in_rust);
}

#[test]
fn the_client_in_python_goes_through_a_deposit() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3 here");
        return;
    }
    goes_through_a_deposit(client_in_python);
}

#[test]
fn neither_shows_anything_to_a_stranger_in_the_branchs_place() {
    let (branch, other) = (Branch::start(Options::preloaded()), Branch::start(Options::preloaded()));
    let address = format!("127.0.0.1:{}", branch.port());
    for client in [client_in_rust as Client, client_in_python] {
        let Ok(output) = client().arg(&address).arg(other.key_path()).args(["status", "{}"]).output() else { continue };
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
}

//! The scenarios that need three branches, and the order of messages that a seed repeats.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;

use bank_tests::{Bank, Branch, Options, client_command};
use protocol::event::{Event, EventKind};
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["Mumbai", "Delhi", "Pune"];

fn classroom(bank: &Bank) -> [Branch; 3] {
    let branches = NAMES.map(|name| bank.start(name, Options::named(name).flag("--teaching")));
    Bank::introduce(&[&branches[0], &branches[1], &branches[2]]);
    branches
}

/// The states that a scenario goes through. A branch that it kills is started again, as by a person.
#[track_caller]
fn run(name: &str, seed: u64, branches: &mut [Branch; 3]) -> Vec<Value> {
    let mut command = client_command();
    command.args(["scenario", name, "--json", "--seed", &seed.to_string(), "--port", &branches[0].port().to_string()]);
    command.arg("--key").arg(branches[0].key_path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let states = thread::spawn(move || {
        let lines = BufReader::new(output).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        lines.collect::<Vec<Value>>()
    });
    for said in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        for (branch, name) in branches.iter_mut().zip(NAMES) {
            if said.contains(&format!("{name} has crashed")) {
                branch.wait_for_crash();
                branch.restart();
            }
        }
    }
    let states = states.join().unwrap();
    let last = states.last().unwrap_or_else(|| panic!("{name} does not begin"));
    assert_eq!((child.wait().unwrap().code(), &last["error"]), (Some(0), &Value::Null), "{name}: {last}");
    assert_eq!((&last["finished"], &last["position"]), (&json!(true), &last["of"]), "{name}: {last}");
    assert_eq!(last["seed"], json!(seed));
    assert!(
        states.iter().any(|state| state["question"].is_string() && state["answer"].is_null()),
        "{name} asks nothing"
    );
    let all: Vec<&Branch> = branches.iter().collect();
    Bank::wait_until_settled(&all);
    Bank::assert_exact(&all);
    states
}

/// Which messages of the lesson's transfer each branch received, in its order.
fn received(txid: &str, branches: &[Branch; 3]) -> Vec<Vec<(String, String)>> {
    let at = |branch: &Branch| {
        let mut connection = branch.connect();
        let mut reply = connection.ask("watch", json!({"txid": txid, "follow": false}));
        let mut messages = Vec::new();
        while !reply.ok().is_null() {
            if let EventKind::Received { from, message, .. } = reply.result::<Event>().kind {
                messages.push((from, message));
            }
            reply = connection.receive().unwrap();
        }
        messages
    };
    branches.iter().map(at).collect()
}

#[test]
fn one_no_of_three_undoes_every_yes() {
    let bank = Bank::new();
    let states = run("one-of-three-says-no", 1, &mut classroom(&bank));
    let told = states.iter().filter_map(|state| state["say"].as_str()).collect::<String>();
    assert!(told.contains("Pune voted no") && told.contains("refused"), "{told}");
}

#[test]
fn one_of_three_hears_of_it_first_and_the_order_is_the_seeds() {
    let bank = Bank::new();
    let mut branches = classroom(&bank);
    let mut orders = Vec::new();
    for seed in [1, 1, 2] {
        let states = run("one-hears-of-it-first", seed, &mut branches);
        let txid = states.last().unwrap()["txid"].as_str().unwrap().to_string();
        let votes: Vec<String> = received(&txid, &branches)[0]
            .iter()
            .filter(|(_, message)| message == "vote yes")
            .map(|(from, _)| from.clone())
            .collect();
        let first = states[2]["say"].as_str().unwrap().split(" has heard it").next().unwrap().rsplit(' ').next();
        orders.push((votes, first.unwrap_or_default().to_string()));
    }
    assert_eq!(orders[0], orders[1], "the same seed");
    assert_ne!(orders[0], orders[2], "another one");
}

#[test]
fn a_lesson_about_three_says_what_it_needs() {
    let bank = Bank::new();
    let mumbai = bank.start("Mumbai", Options::named("Mumbai").flag("--teaching"));
    let delhi = bank.start("Delhi", Options::named("Delhi").flag("--teaching"));
    Bank::introduce(&[&mumbai, &delhi]);
    let mut command = client_command();
    command.args(["scenario", "one-of-three-says-no", "--port", &mumbai.port().to_string(), "--key"]);
    let output = command.arg(mumbai.key_path()).stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("three branches"), "{told}");
}

//! Every scenario, run by the real client on real branches: each says that what it claims was so, asks before it
//! answers, and leaves the bank healthy.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use bank_tests::{Bank, Branch, Options, Terminal, client_command, run_client, wait_for, wait_until_within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The twenty seconds of the client's lease, and as much again for a busy machine.
const LEASE_ENDS_WITHIN: Duration = Duration::from_secs(40);
/// The branches, the payer's first.
const NAMES: [&str; 2] = ["Mumbai", "Delhi"];

/// Two branches that know one another, in teaching mode.
fn classroom(bank: &Bank) -> [Branch; 2] {
    let branches = NAMES.map(|name| bank.start(name, Options::named(name).flag("--teaching")));
    Bank::introduce(&[&branches[0], &branches[1]]);
    branches
}

/// The states that a scenario went through, as the client shows them with `--json`, and its exit status. When it asks
/// for a branch to be started again, that is done, as by a person.
fn run(name: &str, branches: &mut [Branch; 2]) -> (Vec<Value>, Option<i32>) {
    let mut child = start(&["scenario", name, "--json"], &branches[0]);
    let output = child.stdout.take().unwrap();
    let states = thread::spawn(move || {
        let lines = BufReader::new(output).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        lines.collect::<Vec<Value>>()
    });
    for said in BufReader::new(child.stderr.take().unwrap()).lines() {
        let said = said.unwrap();
        println!("{said}");
        for (branch, name) in branches.iter_mut().zip(NAMES) {
            if said.contains(&format!("{name} has crashed")) {
                branch.wait_for_crash();
                branch.restart();
            }
        }
    }
    let states = states.join().unwrap();
    for state in &states {
        println!("{}\n? {}\n= {}\n", state["say"], state["question"], state["answer"]);
    }
    (states, child.wait().unwrap().code())
}

fn start(arguments: &[&str], branch: &Branch) -> Child {
    let mut command = client_command();
    command.args(arguments).args(["--port", &branch.port().to_string()]).arg("--key").arg(branch.key_path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs a scenario and checks what holds for each of them. Gives its states.
#[track_caller]
fn check(name: &str) -> Vec<Value> {
    let bank = Bank::new();
    let mut branches = classroom(&bank);
    let (states, status) = run(name, &mut branches);
    let last = states.last().unwrap();
    assert_eq!((status, &last["error"]), (Some(0), &Value::Null), "{name}: {last}");
    assert_eq!((&last["finished"], &last["position"]), (&json!(true), &last["of"]), "{name}: {last}");
    let mut questions = 0;
    for pair in states.windows(2) {
        let [before, after] = pair else { unreachable!("a window of two") };
        assert_eq!(before["finished"], json!(false), "{name}");
        if after["answer"].is_string() {
            questions += 1;
            assert_eq!(before["answer"], Value::Null, "{name}: {before}");
            assert_eq!((&before["question"], &before["say"]), (&after["question"], &after["say"]), "{name}");
            assert!(before["question"].is_string(), "{name}: {before}");
        }
    }
    assert!(questions > 0, "{name} asks nothing");
    assert_healthy(&branches);
    states
}

/// Messages pass, nothing is broken or pending, and the books are exact.
#[track_caller]
fn assert_healthy(branches: &[Branch; 2]) {
    let [mumbai, delhi] = branches;
    for branch in branches {
        let stage = branch.connect().ask("stage", json!({})).ok();
        assert_eq!(stage["step_mode"], json!(false), "{stage}");
        assert_eq!((&stage["waiting"], &stage["faults"]), (&json!([]), &json!([])), "{stage}");
        assert_eq!(stage["crash_at"], Value::Null, "{stage}");
    }
    Bank::wait_until_settled(&[mumbai, delhi]);
    Bank::assert_exact(&[mumbai, delhi]);
    let transfer = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "1", "dest_branch": "Delhi"});
    let answer = mumbai.connect().ask("inter_branch_transfer", transfer).ok();
    assert_eq!(answer["delivery"], json!("done"), "the next transfer goes by itself: {answer}");
}

#[test]
fn normal_transfer() {
    let states = check("normal-transfer");
    let txid = states.last().unwrap()["txid"].as_str().unwrap();
    assert!(txid.starts_with("Mumbai-"), "{txid}");
}

#[test]
fn lost_acknowledgement() {
    check("lost-acknowledgement");
}

#[test]
fn doubled_commit() {
    check("doubled-commit");
}

#[test]
fn double_spend_race() {
    check("double-spend-race");
}

#[test]
fn participant_dies_after_yes() {
    check("participant-dies-after-yes");
}

#[test]
fn coordinator_dies_after_votes() {
    check("coordinator-dies-after-votes");
}

#[test]
fn cut_link_in_doubt() {
    check("cut-link-in-doubt");
}

#[test]
fn fractured_read() {
    let states = check("fractured-read");
    let told = states.iter().filter_map(|state| state["answer"].as_str()).collect::<String>();
    assert!(told.contains("in transit"), "{told}");
}

#[test]
fn settled_by_hand() {
    check("settled-by-hand");
}

#[test]
fn the_old_way_loses_and_makes_money_and_ours_does_not() {
    let states = check("the-old-way");
    // The rules once more, with the amounts of the lesson: one transfer of 50 whose second half is dropped, two of 600
    // out of what is left, a deposit of 100 twice, ten times 0.10.
    let payer = 1000.0 - 50.0 - 600.0 - 600.0;
    let receiver = 1000.0 + 600.0 + 600.0 + 100.0 + 100.0;
    let change = (0..10).fold(0.0_f64, |sum, _| sum + 0.1);
    let table = states.last().unwrap()["say"].as_str().unwrap();
    let figures = |row: &str| -> Vec<f64> {
        let line = table.lines().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("{row} in {table}"));
        line[row.len()..].split_whitespace().map(|figure| figure.parse().unwrap()).collect()
    };
    assert_eq!(figures("Old-Mumbai/1001"), [1000.0, payer]);
    assert_eq!(figures("Old-Delhi/1002"), [1000.0, receiver]);
    assert_eq!(figures("Old-Mumbai/1003"), [0.0, change]);
    assert!(change < 1.0, "a float makes something else of ten times 0.10");
    assert_eq!(figures("together"), [2000.0, payer + receiver + change], "in {table}");
    let lost = states.iter().filter_map(|state| state["answer"].as_str()).find(|answer| answer.starts_with("Nobody"));
    assert!(lost.unwrap().ends_with("made (+), lost (-)           -50.0"), "{lost:?}");
}

#[test]
fn a_claim_that_does_not_hold_is_told_and_everything_is_put_back() {
    let bank = Bank::new();
    let mut branches = classroom(&bank);
    let child = start(&["scenario", "participant-dies-after-yes", "--json"], &branches[0]);
    branches[1].wait_for_crash();
    // The client waits until the branch is back. Meanwhile somebody pays in, of which the lesson knows nothing.
    branches[0].connect().ask("deposit", json!({"account_no": 1001, "amount": "7"})).ok();
    branches[1].restart();
    let output = child.wait_with_output().unwrap();
    let last: Value =
        serde_json::from_slice(output.stdout.trim_ascii().rsplit(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!((output.status.code(), &last["finished"]), (Some(1), &json!(true)), "{last}");
    let error = last["error"].as_str().unwrap();
    let (claimed, found) = error.split_once("The branches say:").unwrap();
    assert!(claimed.contains("950.00") && found.contains("957.00"), "{error}");
    assert_healthy(&branches);
}

#[test]
fn a_lesson_that_is_interrupted_leaves_nothing_behind() {
    let bank = Bank::new();
    let mut branches = classroom(&bank);
    let mut child = start(&["scenario", "participant-dies-after-yes"], &branches[0]);
    // The receiver's branch is dead, and the client waits for somebody to start it.
    branches[1].wait_for_crash();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    errors.read_line(&mut told).unwrap();
    assert!(told.contains("Delhi has crashed. Start it again at 127.0.0.1:"), "{told}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    branches[1].restart();
    assert_healthy(&branches);
}

#[test]
fn a_lesson_outlives_no_client_that_was_killed() {
    let bank = Bank::new();
    let branches = classroom(&bank);
    let mut terminal = Terminal::open();
    let mut command = client_command();
    command.args(["scenario", "cut-link-in-doubt", "--port", &branches[0].port().to_string()]);
    command.arg("--key").arg(branches[0].key_path());
    terminal.attach(&mut command);
    let mut child = command.spawn().unwrap();
    let is_set = || branches.iter().any(|branch| branch.connect().ask("stage", json!({})).ok()["step_mode"] == true);
    while !is_set() {
        terminal.read_until("[Enter] ");
        terminal.press("\r");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until_within(LEASE_ENDS_WITHIN, "nothing is left set", || !is_set());
    assert_healthy(&branches);
}

#[test]
fn a_lesson_can_be_interrupted_at_every_step() {
    let bank = Bank::new();
    let branches = classroom(&bank);
    let mut interrupted = 0;
    for name in ["normal-transfer", "cut-link-in-doubt", "double-spend-race"] {
        for after in 1.. {
            let mut child = start(&["scenario", name, "--json"], &branches[0]);
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let states = lines.by_ref().take(after).count();
            kill_process(Pid::from_child(&child), Signal::INT).unwrap();
            lines.for_each(drop);
            match child.wait().unwrap().code() {
                Some(130) => interrupted += 1,
                // It was over before the signal came.
                Some(0) => {}
                other => panic!("{name} ended with {other:?}"),
            }
            assert_healthy(&branches);
            if states < after {
                break;
            }
        }
    }
    assert!(interrupted > 5, "only {interrupted} runs were interrupted");
}

#[test]
fn a_person_goes_on_with_enter_and_sees_the_question_before_its_answer() {
    let bank = Bank::new();
    let branches = classroom(&bank);
    let mut terminal = Terminal::open();
    let mut command = client_command();
    command.args(["scenario", "double-spend-race", "--port", &branches[0].port().to_string()]);
    command.arg("--key").arg(branches[0].key_path());
    terminal.attach(&mut command);
    let mut child = command.spawn().unwrap();
    let opening = terminal.read_until("[Enter] ");
    assert!(opening.starts_with("\x1b[1mThe same money, twice\x1b[0m\n\n1/3\n"), "{opening:?}");
    terminal.press("\n");
    let asked = terminal.read_until("[Enter] ");
    assert!(
        asked.contains("\n2/3\n") && asked.contains("\x1b[1mQuestion: ") && !asked.contains("Answer:"),
        "{asked:?}"
    );
    terminal.press("\n");
    let answered = terminal.read_until("[Enter] ");
    assert!(answered.contains("\x1b[32mAnswer: No") && answered.contains("insufficient funds"), "{answered:?}");
    // Ctrl-D instead of Enter ends the lesson in its middle.
    terminal.press("\x04");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_healthy(&branches);
}

#[test]
fn without_teaching_every_command_is_refused_by_the_branch() {
    let bank = Bank::new();
    let branch = bank.branch("Mumbai");
    let (port, key) = (branch.port().to_string(), branch.key_path().display().to_string());
    for command in [
        &["stage"][..],
        &["step-mode", "on"],
        &["step", "1", "deliver"],
        &["pass-time", "1s"],
        &["fault", "Delhi", "cut"],
        &["crash", "now"],
        &["crash", "after-vote"],
        &["scenario", "normal-transfer"],
    ] {
        let line: Vec<&str> = command.iter().copied().chain(["--port", &port, "--key", &key]).collect();
        let output = run_client(&line, b"");
        assert_eq!(output.status, Some(1), "{command:?}: {output:?}");
        assert!(output.stderr.contains("--teaching"), "{command:?}: {output:?}");
    }
    assert!(run_client(&["status", "--port", &port, "--key", &key], b"").stdout.contains("Mumbai"), "it still runs");
}

#[test]
fn the_commands_drive_a_transfer_step_by_step() {
    let bank = Bank::new();
    let mut branches = classroom(&bank);
    let ask = |branch: &Branch, command: &[&str]| {
        let (port, key) = (branch.port().to_string(), branch.key_path().display().to_string());
        let line: Vec<&str> = command.iter().copied().chain(["--port", &port, "--key", &key]).collect();
        let output = run_client(&line, b"");
        assert_eq!(output.status, Some(0), "{command:?}: {output:?}");
        output.stdout
    };
    assert!(ask(&branches[1], &["step-mode", "on"]).contains("Step mode is on"));
    let transfer = start(&["transfer", "1001", "Delhi/1002", "50"], &branches[0]);
    let number = waiting_number(&branches[1], "prepare");
    assert!(ask(&branches[1], &["stage"]).contains("prepare"));
    ask(&branches[1], &["step", &number, "duplicate"]);
    ask(&branches[1], &["step-mode", "off"]);
    assert!(transfer.wait_with_output().unwrap().status.success());
    ask(&branches[1], &["fault", "Mumbai", "slow", "--delay-ms", "5"]);
    assert!(ask(&branches[1], &["stage"]).contains("Messages from Mumbai come 5 ms late."));
    ask(&branches[1], &["fault", "Mumbai", "heal"]);
    assert!(ask(&branches[1], &["crash", "after-vote"]).contains("at the point after-vote"));
    ask(&branches[1], &["crash", "never"]);
    assert!(ask(&branches[1], &["crash", "now"]).contains("has crashed"));
    branches[1].wait_for_crash();
    branches[1].restart();
    assert_healthy(&branches);
}

/// The number of a message, once it waits.
fn waiting_number(branch: &Branch, message: &str) -> String {
    let mut connection = branch.connect();
    wait_for("the message waits", || {
        let stage = connection.ask("stage", json!({})).ok();
        let waiting = stage["waiting"].as_array().unwrap();
        waiting.iter().find(|waiting| waiting["message"] == message).map(|waiting| waiting["number"].to_string())
    })
}

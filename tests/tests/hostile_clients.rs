//! What one client can make the branch hold and do is bounded, and costs the others nothing that they would notice.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::time::{Duration, Instant};

use bank_tests::{Branch, BranchConnection, Options, frame, request};
use serde_json::{Value, json};

const MEBIBYTE: usize = 1 << 20;

fn customer(branch: &Branch, account: u64) -> BranchConnection {
    let mut connection = branch.connect_anonymously();
    connection.ask("login", json!({"account_no": account, "password": account.to_string()})).ok();
    connection
}

fn deposits(count: usize) -> Vec<Value> {
    vec![json!({"action": "deposit", "params": {"account_no": 1001, "amount": "0.01"}}); count]
}

/// The resident memory of the branch in bytes.
fn resident(branch: &Branch) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", branch.process_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn a_long_frame_is_taken_only_from_someone_known() {
    let branch = Branch::start(Options::preloaded());
    for length in [MEBIBYTE + 1, 8 * MEBIBYTE] {
        let mut stranger = branch.connect_anonymously();
        stranger.send_bytes(&u32::try_from(length).unwrap().to_be_bytes()).unwrap();
        stranger.receive().unwrap().refused("frame_too_long");
        assert!(stranger.is_closed());
    }
    let balance = json!({"action": "balance", "params": {"account_no": 1001}});
    let long = json!({"action": "batch", "params": {"requests": [balance]}, "padding": "x".repeat(2 * MEBIBYTE)});
    let mut known = customer(&branch, 1001);
    known.text(&long.to_string()).ok();
    // In one write with the log-in that makes the sender known.
    let mut connection = branch.connect_anonymously();
    let login = request("login", json!({"account_no": 1001, "password": "1001"}), None);
    connection.send_bytes(&[frame(&login), frame(&long.to_string())].concat()).unwrap();
    connection.receive().unwrap().ok();
    connection.receive().unwrap().ok();
}

#[test]
fn unread_answers_are_bounded_by_bytes() {
    const READS: usize = 60;
    const MOST: usize = 12 * MEBIBYTE;
    let branch = Branch::start(Options::preloaded());
    branch.connect().ask("batch", json!({"requests": deposits(3_000)})).ok();
    let read = request("history", json!({"limit": 3_000}), None);
    let mut one_by_one = customer(&branch, 1001);
    let length = (0..8).map(|_| one_by_one.text(&read).text.len()).max().unwrap();
    assert!(length * READS > MOST * 3 / 2, "the answers would be {} bytes", length * READS);
    let before = resident(&branch);
    let mut ahead = customer(&branch, 1001);
    ahead.send_bytes(&frame(&read).repeat(READS)).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert!(resident(&branch) < before + MOST, "the branch holds what nobody reads");
        std::thread::yield_now();
    }
    for _ in 0..READS {
        ahead.inner().receive().unwrap();
        assert_eq!(ahead.inner().last_answer().len(), length);
    }
}

#[test]
fn others_batches_cost_a_bystander_one_of_them_at_most() {
    const SENDERS: usize = 8;
    let branch = Branch::start(Options::preloaded());
    // Ten thousand that happen all or none, and are refused at the end.
    let mut requests = deposits(9_999);
    requests.push(json!({"action": "withdraw", "params": {"account_no": 1001, "amount": 99_999_999}}));
    let refused = json!({"action": "batch", "params": {"requests": requests, "atomic": true}}).to_string();
    let each = json!({"action": "batch", "params": {"requests": requests}}).to_string();
    let mut bystander = customer(&branch, 1002);
    let mut wait = || {
        let start = Instant::now();
        bystander.ask("deposit", json!({"account_no": 1002, "amount": "0.01"})).ok();
        start.elapsed()
    };
    let mut senders: Vec<_> = (0..SENDERS).map(|_| customer(&branch, 1001)).collect();
    for batch in [&refused, &each] {
        let start = Instant::now();
        senders[0].text(batch).ok();
        let one = start.elapsed();
        for sender in &senders {
            sender.send_text(batch).unwrap();
        }
        let start = Instant::now();
        let mut longest = Duration::ZERO;
        while start.elapsed() < one * 3 {
            longest = longest.max(wait());
        }
        for sender in &mut senders {
            // The last of them may be told that the bank is busy.
            sender.receive().unwrap();
        }
        assert!(longest < one * 5 / 2 + Duration::from_millis(400), "{longest:?} beside batches of {one:?}");
    }
}

#[test]
fn a_list_costs_its_reader_no_more_than_its_bound() {
    let branch = Branch::start(Options::preloaded());
    let mut known = customer(&branch, 1001);
    let before = resident(&branch);
    // Four million elements in eight mebibytes of text, and as many of ten thousand as are read.
    let many = format!(r#"{{"action":"batch","params":{{"requests":[{}1]}}}}"#, "1,".repeat(4 * MEBIBYTE - 100));
    known.text(&many).refused("invalid_params");
    assert!(resident(&branch) < before + 48 * MEBIBYTE, "{} more", resident(&branch) - before);
    // What an error quotes is cut, so the errors of a batch fit its answer.
    let long = json!({"action": "balance", "params": {"account_no": "\u{1}".repeat(500)}});
    let answers = known.ask("batch", json!({"requests": vec![long; 2_000]})).ok();
    assert_eq!(answers.as_array().unwrap().len(), 2_000);
    let unknown = known.text(&format!(r#"{{"action":"status","params":"{}"}}"#, "é".repeat(100_000)));
    assert!(unknown.text.len() < 1_000, "{}", unknown.text.len());
}

#[test]
fn what_stands_behind_a_watch_or_a_link_is_answered_or_refused() {
    let branch = Branch::start(Options::preloaded());
    let balance = request("balance", json!({"account_no": 1001}), None);
    for follow in [true, false] {
        for together in [true, false] {
            let mut connection = branch.connect();
            let watch = frame(&request("watch", json!({"follow": follow}), None));
            if together {
                connection.send_bytes(&[watch, frame(&balance)].concat()).unwrap();
            } else {
                connection.send_bytes(&watch).unwrap();
                connection.send_text(&balance).unwrap();
            }
            let mut replies = std::iter::from_fn(|| connection.receive().ok());
            assert!(replies.any(|reply| reply.json["result"]["balance"].is_number()), "follow {follow}, {together}");
        }
    }
    let link = request("link", json!({"branch": "Delhi", "port": 1}), None);
    for action in [link, request("promote", json!({}), None)] {
        let mut connection = branch.connect();
        connection.send_bytes(&[frame(&action), frame(&balance)].concat()).unwrap();
        connection.receive().unwrap().refused("invalid_params");
        connection.receive().unwrap().ok();
    }
}

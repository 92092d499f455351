//! What one client can make the branch hold and do is bounded, and costs the others nothing that they would notice.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bank_tests::{Bank, Branch, BranchConnection, Options, frame, request, wait_until};
use serde_json::{Value, json};

const MEBIBYTE: usize = 1 << 20;

/// Held by those tests that measure time, so that they don't measure one another.
static MEASURING: Mutex<()> = Mutex::new(());

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
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
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
        // Not for so long that the branch gives up those whose answers are not read yet.
        while start.elapsed() < (one * 3).min(Duration::from_secs(5)) {
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
fn what_one_customer_has_hashed_costs_the_others_little_and_ends_with_the_connection() {
    const SENDERS: usize = 8;
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let branch = Branch::start(Options::preloaded());
    let log_in = |account: u64| {
        let start = Instant::now();
        let params = json!({"account_no": account, "password": account.to_string()});
        let reply = branch.connect_anonymously().ask("login", params);
        (start.elapsed(), reply)
    };
    let quiet = log_in(1002).0;
    // One password is in a customer's batch at most.
    let set = json!({"account_no": 1001, "password": "1001", "present_password": "1001"});
    let set = json!({"action": "set_password", "params": set});
    let mut own = customer(&branch, 1001);
    own.ask("batch", json!({"requests": vec![set.clone(); 2]})).refused("invalid_params");
    assert_eq!(own.ask("batch", json!({"requests": [set]})).ok()[0]["status"], "ok");
    // Right passwords too are rationed.
    let login = frame(&request("login", json!({"account_no": 1001, "password": "1001"}), None)).repeat(400);
    let senders: Vec<_> = (0..SENDERS).map(|_| branch.connect_anonymously()).collect();
    for sender in &senders {
        sender.send_bytes(&login).unwrap();
    }
    let beside = (0..4).map(|_| {
        let (took, reply) = log_in(1002);
        reply.ok();
        took
    });
    let beside = beside.max().unwrap();
    drop(senders);
    let used = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", branch.process_id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let mut before = used();
    wait_until("the processor to be quiet", || {
        std::thread::sleep(Duration::from_secs(1));
        let ticks = used() - std::mem::replace(&mut before, used());
        ticks < 20
    });
    // On a slow machine the same log-in alone, before and after, says what is slow.
    let quiet = quiet.max(log_in(1002).0);
    assert!(beside < Duration::from_secs(3).max(quiet * 5), "{beside:?} beside log-ins, {quiet:?} alone");
}

#[test]
fn a_class_of_forty_is_opened_in_one_batch_beside_others() {
    let branch = Branch::start(Options::preloaded());
    let create = |number: usize| {
        let params = json!({"name": format!("Pupil {number}"), "password": format!("pupil-{number}")});
        json!({"action": "create_account", "params": params})
    };
    let batch = |count: usize| json!({"requests": (0..count).map(create).collect::<Vec<_>>()});
    let mut operator = branch.connect();
    operator.ask("batch", batch(257)).refused("invalid_params");
    let beside = branch.connect();
    beside.send_text(&json!({"action": "batch", "params": batch(40)}).to_string()).unwrap();
    let start = Instant::now();
    customer(&branch, 1002);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let mut beside = beside;
    let answers = beside.receive().unwrap().ok();
    assert!(answers.as_array().unwrap().iter().all(|answer| answer["status"] == "ok"), "{answers}");
}

#[test]
fn a_customer_makes_a_branch_dial_nobody() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    let someone = TcpListener::bind("127.0.0.1:0").unwrap();
    someone.set_nonblocking(true).unwrap();
    let listening = someone.local_addr().unwrap().port();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let to = |host: &str, port: u16| json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1, "dest_host": host, "dest_port": port});
    let mut known = customer(&mumbai, 1001);
    let mut answers = Vec::new();
    for port in [listening, closed, delhi.port()] {
        let refused =
            known.ask("inter_branch_transfer", to("127.0.0.1", port)).refused("branch_unreachable").text.clone();
        answers.push(refused.replace(&port.to_string(), "PORT"));
        let leg = json!({"account_no": 1002, "amount": 1, "dest_host": "127.0.0.1", "dest_port": port});
        known.ask("split_transfer", json!({"src_account_no": 1001, "legs": [leg]})).refused("branch_unreachable");
        let mut menu = mumbai.log_in("1001", "1001");
        let failed = menu.operation(&["d", &format!("127.0.0.1:{port}/1002"), "1"]).unwrap();
        assert!(failed.expect_fail().contains("branch is known at"), "{}", failed.text());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(someone.accept().map(drop).unwrap_err().kind(), ErrorKind::WouldBlock, "it was dialled");
    // What an operator has named once is known, to customers too, by name and by address.
    mumbai.connect().ask("inter_branch_transfer", to("127.0.0.1", delhi.port())).ok();
    known.ask("inter_branch_transfer", to("127.0.0.1", delhi.port())).ok();
    let by_name = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1, "dest_branch": "Delhi"});
    known.ask("inter_branch_transfer", by_name).ok();
    mumbai
        .log_in("1001", "1001")
        .operation(&["d", &format!("127.0.0.1:{}/1002", delhi.port()), "1"])
        .unwrap()
        .expect_done();
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

//! A branch that is down, stopped, silent or never there: whoever needs it waits a bounded time and is told why;
//! nobody else waits at all, and when it is back all is settled.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{Bank, Branch, Reply, SetOnDrop, figure};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The longest that anybody waits for a branch that does not answer: the vote time-out of five seconds and what a
/// busy machine adds.
const WAIT_MAX: Duration = Duration::from_secs(12);
/// Operations that need no other branch, on a busy machine.
const UNDELAYED_MAX: Duration = Duration::from_secs(2);
/// Longer than that nothing can take unless it waited for the branch that does not answer.
const _: () = assert!(UNDELAYED_MAX.as_millis() * 2 < WAIT_MAX.as_millis());

fn pay(branch: &Branch, params: Value) -> (Reply, Duration) {
    let mut connection = branch.connect();
    let start = Instant::now();
    let reply = connection.ask("inter_branch_transfer", params);
    (reply, start.elapsed())
}

fn to_delhi(amount: &str) -> Value {
    json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": amount, "dest_branch": "Delhi"})
}

/// Works on a branch while `meanwhile` runs; gives the longest that one operation took.
fn longest_operation<R>(branch: &Branch, elsewhere: &Branch, meanwhile: impl FnOnce() -> R) -> (R, Duration) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut connection = branch.connect();
            let mut longest = Duration::ZERO;
            let to_pune = json!({"src_account_no": 1002, "dest_account_no": 1001, "amount": "0.01",
                "dest_host": "127.0.0.1", "dest_port": elsewhere.port()});
            while !is_over.load(Ordering::SeqCst) {
                for (action, params) in [
                    ("deposit", json!({"account_no": 1002, "amount": "0.01"})),
                    ("balance", json!({"account_no": 1002})),
                    ("local_transfer", json!({"src_account_no": 1002, "dest_account_no": 1001, "amount": "0.01"})),
                    ("inter_branch_transfer", to_pune.clone()),
                    ("status", json!({})),
                    ("list_pending", json!({})),
                ] {
                    let start = Instant::now();
                    connection.ask(action, params).ok();
                    longest = longest.max(start.elapsed());
                }
            }
            longest
        });
        let over = SetOnDrop(&is_over);
        let result = meanwhile();
        drop(over);
        (result, worker.join().unwrap())
    })
}

#[test]
fn a_branch_that_is_down() {
    let bank = Bank::new();
    let (mumbai, mut delhi, pune) = (bank.branch("Mumbai"), bank.branch("Delhi"), bank.branch("Pune"));
    Bank::introduce(&[&mumbai, &delhi, &pune]);
    delhi.kill9();
    let by_address = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 5, "dest_host": "127.0.0.1",
        "dest_port": delhi.port()});
    let (replies, longest) = longest_operation(&mumbai, &pune, || {
        [to_delhi("5"), to_delhi("5"), by_address.clone()].map(|params| pay(&mumbai, params))
    });
    for (reply, took) in replies {
        reply.refused("branch_unreachable");
        assert!(took < WAIT_MAX, "{took:?}");
    }
    assert!(longest < UNDELAYED_MAX, "{longest:?}");
    assert_eq!(
        mumbai.connect().ask("balance", json!({"account_no": 1001})).ok()["balance"].to_string().as_bytes()[0],
        b'1'
    );
    delhi.restart();
    // At once, although the dialling backs off: who asks for it by address makes a link.
    pay(&mumbai, by_address).0.ok();
    Bank::wait_until_settled(&[&mumbai, &delhi, &pune]);
    Bank::assert_exact(&[&mumbai, &delhi, &pune]);
}

#[test]
fn a_branch_that_is_stopped() {
    const AT_ONCE: usize = 20;
    let bank = Bank::new();
    let (mumbai, delhi, pune) = (bank.branch("Mumbai"), bank.branch("Delhi"), bank.branch("Pune"));
    Bank::introduce(&[&mumbai, &delhi, &pune]);
    delhi.signal(Signal::STOP);
    let (replies, longest) = longest_operation(&mumbai, &pune, || {
        thread::scope(|scope| {
            let payers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| pay(&mumbai, to_delhi("1")))).collect();
            payers.into_iter().map(|payer| payer.join().unwrap()).collect::<Vec<_>>()
        })
    });
    for (reply, took) in &replies {
        assert!(["vote_timeout", "branch_unreachable"].contains(&reply.code()), "{}", reply.text);
        assert!(*took < WAIT_MAX, "{took:?}");
    }
    assert!(longest < UNDELAYED_MAX, "{longest:?}");
    // New links to it are made by the system and answered by nobody; that is bounded too.
    let by_address = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 5, "dest_host": "127.0.0.1",
        "dest_port": delhi.port()});
    let (reply, took) = pay(&mumbai, by_address);
    assert!(!reply.is_ok() && took < WAIT_MAX, "{took:?} {}", reply.text);
    // What it had been asked to prepare is aborted by now, and it finds that out.
    delhi.signal(Signal::CONT);
    Bank::wait_until_settled(&[&mumbai, &delhi, &pune]);
    assert_eq!(delhi.connect().balance(1002), "1000.00");
    Bank::assert_exact(&[&mumbai, &delhi, &pune]);
    pay(&mumbai, to_delhi("1")).0.ok();
}

#[test]
fn a_branch_that_is_stopped_for_a_moment_costs_a_moment() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    delhi.signal(Signal::STOP);
    let (reply, _) = thread::scope(|scope| {
        let payer = scope.spawn(|| pay(&mumbai, to_delhi("1")));
        // Until the prepare is on its way: Mumbai holds the money.
        bank_tests::wait_until("the money is held", || {
            figure(&mumbai.connect().ask("balance", json!({"account_no": 1001})).ok()["available"]) == "999.00"
        });
        delhi.signal(Signal::CONT);
        payer.join().unwrap()
    });
    reply.ok();
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    assert_eq!(delhi.connect().balance(1002), "1001.00");
    Bank::assert_exact(&[&mumbai, &delhi]);
}

#[test]
fn addresses_where_no_branch_is() {
    let bank = Bank::new();
    let (mumbai, pune) = (bank.branch("Mumbai"), bank.branch("Pune"));
    // One that accepts and says nothing, one that nobody listens at, and a branch's menu.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports = [silent.local_addr().unwrap().port(), closed, pune.menu_port()];
    let (replies, longest) = longest_operation(&mumbai, &pune, || {
        ports.map(|port| {
            let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 5,
                "dest_host": "127.0.0.1", "dest_port": port});
            pay(&mumbai, params)
        })
    });
    for (reply, took) in replies {
        reply.refused("branch_unreachable");
        assert!(took < WAIT_MAX, "{took:?}");
    }
    assert!(longest < UNDELAYED_MAX, "{longest:?}");
    for host in ["", "no such host", "a/b"] {
        let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 5, "dest_host": host,
            "dest_port": 9100});
        let (reply, took) = pay(&mumbai, params);
        assert!(!reply.is_ok() && took < WAIT_MAX, "{host:?}: {took:?} {}", reply.text);
    }
    Bank::wait_until_settled(&[&mumbai, &pune]);
    Bank::assert_exact(&[&mumbai, &pune]);
}

#[test]
fn a_split_with_one_branch_down_pays_nobody() {
    let bank = Bank::new();
    let (mumbai, mut delhi, pune) = (bank.branch("Mumbai"), bank.branch("Delhi"), bank.branch("Pune"));
    Bank::introduce(&[&mumbai, &delhi, &pune]);
    delhi.kill9();
    let legs = json!([
        {"account_no": 1001, "amount": 1, "dest_branch": "Pune"},
        {"account_no": 1001, "amount": 1, "dest_branch": "Delhi"},
        {"account_no": 1002, "amount": 1},
    ]);
    let refused = mumbai.connect().ask("split_transfer", json!({"src_account_no": 1001, "legs": legs}));
    refused.refused("branch_unreachable");
    Bank::wait_until_settled(&[&mumbai, &pune]);
    delhi.restart();
    for branch in [&mumbai, &delhi, &pune] {
        let mut connection = branch.connect();
        assert_eq!([1001, 1002].map(|account| connection.balance(account)), ["1000.00", "1000.00"]);
    }
    Bank::wait_until_settled(&[&mumbai, &delhi, &pune]);
    Bank::assert_exact(&[&mumbai, &delhi, &pune]);
}

//! Teaching mode, with real branches: messages that wait, are lost, doubled, delayed and overtaken, time that stands
//! still and passes, links that are cut and slow, crashes by request; and that a plain branch knows nothing of it.

mod crashes;
mod links;
mod messages;
mod refusals;

use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use bank_tests::{Bank, Branch, Options, Reply, wait_for, wait_until};
use protocol::answer::Status;
use protocol::event::{Event, EventKind};
use protocol::teaching::{Stage, Waiting};
use serde_json::{Value, json};

/// Longer than a client of a committed transfer waits for its delivery without step mode, which is a second.
const LONGER_THAN_DELIVERY: Duration = Duration::from_millis(1_500);

/// Mumbai and Delhi, both teaching, and known to each other.
struct Class {
    _bank: Bank,
    mumbai: Branch,
    delhi: Branch,
}

impl Class {
    fn new() -> Self {
        let bank = Bank::new();
        let [mumbai, delhi] = ["Mumbai", "Delhi"].map(|name| bank.start(name, Options::named(name).flag("--teaching")));
        Bank::introduce(&[&mumbai, &delhi]);
        Self { _bank: bank, mumbai, delhi }
    }

    /// With step mode on at both.
    fn stepping() -> Self {
        let class = Self::new();
        for branch in [&class.mumbai, &class.delhi] {
            assert!(act(branch, "step_mode", json!({"on": true})).step_mode);
        }
        class
    }

    /// Asks Mumbai for 50.00 to Delhi, in a thread of its own.
    fn transfer<'s>(&'s self, scope: &'s thread::Scope<'s, '_>) -> ScopedJoinHandle<'s, Reply> {
        let mut connection = self.mumbai.connect();
        scope.spawn(move || connection.ask("inter_branch_transfer", fifty_to("Delhi")))
    }

    /// One transfer of 50.00 to Delhi, whose client waits while `lesson` says what becomes of it. At the end Delhi was paid
    /// so often.
    #[track_caller]
    fn teach(&self, paid_times: usize, lesson: impl FnOnce(&Branch, &Branch, ScopedJoinHandle<'_, Reply>)) {
        thread::scope(|scope| lesson(&self.mumbai, &self.delhi, self.transfer(scope)));
        self.judge(paid_times);
    }

    /// Nothing waits or is slow any more: the money is exact, and Delhi was paid so often.
    #[track_caller]
    fn judge(&self, paid_times: usize) {
        let branches = [&self.mumbai, &self.delhi];
        Bank::wait_until_settled(&branches);
        Bank::assert_exact(&branches);
        let history = self.delhi.connect().ask("history", json!({"account_no": 1002})).ok();
        let credits = history.as_array().unwrap().iter().filter(|row| row["type"] == "transfer_in").count();
        assert_eq!(credits, paid_times, "{history}");
    }
}

fn fifty_to(branch: &str) -> Value {
    json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "50.00", "dest_branch": branch})
}

/// A teaching action that is carried out.
#[track_caller]
fn act(branch: &Branch, action: &str, params: Value) -> Stage {
    branch.connect().ask(action, params).result()
}

#[track_caller]
fn stage(branch: &Branch) -> Stage {
    act(branch, "stage", json!({}))
}

/// Waits until a message of this name waits at a branch, and gives the last such.
#[track_caller]
fn waiting(branch: &Branch, message: &str) -> Waiting {
    wait_for(&format!("a message {message} waits"), || {
        stage(branch).waiting.into_iter().rfind(|waiting| waiting.message == message)
    })
}

/// Waits for a message of this name and says what becomes of it.
#[track_caller]
fn step(branch: &Branch, message: &str, how: &str) -> Waiting {
    let message = waiting(branch, message);
    act(branch, "step", json!({"number": message.number, "how": how}));
    message
}

/// Delivers all that waits, and lets time go on.
#[track_caller]
fn stop_stepping(branches: [&Branch; 2]) {
    for branch in branches {
        act(branch, "step_mode", json!({"on": false}));
    }
}

#[track_caller]
fn pass_time(branch: &Branch, milliseconds: u64) -> Stage {
    act(branch, "pass_time", json!({"milliseconds": milliseconds}))
}

#[track_caller]
fn status(branch: &Branch) -> Status {
    branch.connect().ask("status", json!({})).result()
}

/// What a branch remembers of a transfer.
#[track_caller]
fn events(branch: &Branch, txid: &str) -> Vec<EventKind> {
    let mut connection = branch.connect();
    let mut reply = connection.ask("watch", json!({"txid": txid, "follow": false}));
    let mut events = Vec::new();
    while !reply.ok().is_null() {
        events.push(reply.result::<Event>().kind);
        reply = connection.receive().unwrap();
    }
    events
}

/// How often a message of this id was received.
fn receipts(events: &[EventKind], wanted: &str) -> usize {
    events.iter().filter(|kind| matches!(kind, EventKind::Received { id, .. } if id == wanted)).count()
}

/// Checks that something stays as it is for a while.
#[track_caller]
fn stays(what: &str, time: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    wait_until("the time is over", || {
        assert!(condition(), "{what}");
        start.elapsed() > time
    });
}

/// How the branch sees the link to the other.
fn link(branch: &Branch, other: &str) -> String {
    let branches = branch.connect().ask("branches", json!({})).ok();
    let row = branches.as_array().unwrap().iter().find(|row| row["name"] == other).unwrap();
    row["state"].as_str().unwrap().to_string()
}

//! What a branch remembers of its transfers over a restart: after a clean end and after a kill, within bounds, and
//! whatever has become of the file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bank_tests::{Bank, Branch, Options, clean_command, wait_until};
use protocol::answer::Status;
use protocol::event::{Event, EventKind};
use serde_json::json;

/// Two branches that know each other.
fn two() -> (Bank, Branch, Branch) {
    let bank = Bank::new();
    let [mumbai, delhi] = ["Mumbai", "Delhi"].map(|name| bank.start(name, Options::named(name)));
    Bank::introduce(&[&mumbai, &delhi]);
    (bank, mumbai, delhi)
}

#[track_caller]
fn transfer(from: &Branch, to: &str) -> String {
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "5.00", "dest_branch": to});
    let mut connection = from.connect();
    let mut txid = String::new();
    // After a start the link between the two is made anew.
    wait_until("the other branch is reached", || {
        let reply = connection.ask("inter_branch_transfer", params.clone());
        if reply.is_ok() {
            txid = reply.ok()["txid"].as_str().unwrap().to_string();
        }
        !txid.is_empty()
    });
    txid
}

/// What a branch remembers, of one transfer or of all.
#[track_caller]
fn remembered(branch: &Branch, txid: Option<&str>) -> Vec<Event> {
    let mut connection = branch.connect();
    let mut reply = connection.ask("watch", json!({"txid": txid, "follow": false}));
    let mut events = Vec::new();
    while !reply.ok().is_null() {
        events.push(reply.result::<Event>());
        reply = connection.receive().unwrap();
    }
    events
}

/// Once nothing more is told of a transfer.
#[track_caller]
fn whole(branch: &Branch, txid: &str) -> Vec<Event> {
    wait_until("the transfer is over", || {
        let records = remembered(branch, Some(txid)).into_iter().map(|event| event.kind);
        records.filter(|kind| matches!(kind, EventKind::Recorded { .. })).count() > 1
            && branch.connect().ask("list_pending", json!({})).ok().as_array().unwrap().is_empty()
    });
    remembered(branch, Some(txid))
}

fn status(branch: &Branch) -> Status {
    branch.connect().ask("status", json!({})).result()
}

fn file(branch: &Branch, ending: &str) -> PathBuf {
    let mut path = branch.database_path().as_os_str().to_owned();
    path.push(ending);
    path.into()
}

fn says(events: &[Event], words: &str) -> bool {
    events.iter().any(|event| matches!(&event.kind, EventKind::Note { text } if text.contains(words)))
}

#[test]
fn a_transfer_is_remembered_over_a_clean_restart_and_numbers_go_on() {
    let (_bank, mut mumbai, mut delhi) = two();
    let txid = transfer(&mumbai, "Delhi");
    let before = [whole(&mumbai, &txid), whole(&delhi, &txid)];
    assert_eq!((mumbai.stop(), delhi.stop()), (Some(0), Some(0)));
    mumbai.restart();
    delhi.restart();
    assert_eq!([remembered(&mumbai, Some(&txid)), remembered(&delhi, Some(&txid))], before, "nothing was added either");
    let mode = fs::metadata(file(&mumbai, ".events")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let run = status(&mumbai).run.unwrap();
    let last_before = before[0].last().unwrap();
    assert!(run.after_event >= last_before.number && run.started_unix_ms >= last_before.at_unix_ms);
    assert!(run.remembers_from_unix_ms <= before[0][0].at_unix_ms);
    let next = transfer(&mumbai, "Delhi");
    let events = whole(&mumbai, &next);
    assert!(events.iter().all(|event| event.number > run.after_event));
    // What it knew of the other branch it goes on knowing.
    let delhi_name = "Delhi".parse().unwrap();
    assert!(events[0].clock[&delhi_name] >= last_before.clock[&delhi_name]);
    // A third run, in which both earlier ones are there.
    assert_eq!(mumbai.stop(), Some(0));
    mumbai.restart();
    assert_eq!(remembered(&mumbai, Some(&txid)), before[0]);
    assert_eq!(remembered(&mumbai, Some(&next)), events);
    assert!(status(&mumbai).run.unwrap().after_event > run.after_event);
}

#[test]
fn a_killed_branch_says_what_may_be_missing() {
    let (_bank, mut mumbai, delhi) = two();
    let quiet = transfer(&mumbai, "Delhi");
    let before = whole(&mumbai, &quiet);
    wait_until("the file says that this was all", || {
        let text = fs::read_to_string(file(&mumbai, ".events")).unwrap_or_default();
        text.lines().last().is_some_and(|line| line.contains(r#"{"all":"#))
    });
    mumbai.kill9();
    mumbai.restart();
    assert_eq!(remembered(&mumbai, Some(&quiet)), before, "nothing is missing");
    // Killed in the midst of much, it can't know what it has lost; it says so at the end of its earlier life.
    let mut last = String::new();
    for _ in 0..20 {
        last = transfer(&mumbai, "Delhi");
    }
    mumbai.kill9();
    mumbai.restart();
    let all = remembered(&mumbai, None);
    let run = status(&mumbai).run.unwrap();
    assert!(all.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert!(says(&all, "broke off"), "{last}: {:?}", all.last());
    let told = all.iter().find(|event| says(std::slice::from_ref(event), "broke off")).unwrap();
    assert!(told.number <= run.after_event, "before its new life");
    // It is told once, also after a further kill.
    let count = |events: &[Event]| events.iter().filter(|event| says(std::slice::from_ref(event), "broke off")).count();
    wait_until("it is in the file", || {
        fs::read_to_string(file(&mumbai, ".events")).unwrap().lines().last().unwrap().contains(r#"{"all":"#)
    });
    mumbai.kill9();
    mumbai.restart();
    assert_eq!(count(&remembered(&mumbai, None)), count(&all));
    Bank::wait_until_settled(&[&mumbai, &delhi]);
}

#[test]
fn a_lessons_crash_loses_no_event() {
    let bank = Bank::new();
    let [mumbai, mut delhi] = ["Mumbai", "Delhi"].map(|name| bank.start(name, Options::named(name).flag("--teaching")));
    Bank::introduce(&[&mumbai, &delhi]);
    delhi.connect().ask("crash", json!({"at": "after-prepared"})).ok();
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "5.00", "dest_branch": "Delhi"});
    let asked = std::thread::scope(|scope| {
        let client = scope.spawn(|| mumbai.connect().ask("inter_branch_transfer", params));
        delhi.wait_for_crash();
        client.join().unwrap()
    });
    delhi.restart();
    let txid = remembered(&delhi, None).pop().unwrap().txid.unwrap();
    let events = remembered(&delhi, Some(txid.as_str()));
    let is_prepared = |event: &Event| matches!(&event.kind, EventKind::Recorded { record, .. } if record == "prepared");
    assert!(events.iter().any(is_prepared), "{asked:?}: {events:?}");
    assert!(says(&events, "found on disk: prepared") && !says(&events, "broke off"));
}

#[test]
fn local_movements_write_nothing() {
    let mumbai = Branch::start(Options::preloaded());
    let mut connection = mumbai.connect();
    for _ in 0..50 {
        let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "1.00"});
        connection.ask("local_transfer", params).ok();
    }
    assert!(!file(&mumbai, ".events").exists());
}

#[test]
fn whatever_has_become_of_the_file_the_branch_starts() {
    let (_bank, mut mumbai, _delhi) = two();
    let txid = transfer(&mumbai, "Delhi");
    let before = whole(&mumbai, &txid);
    assert_eq!(mumbai.stop(), Some(0));
    let path = file(&mumbai, ".events");
    let good = fs::read(&path).unwrap();

    // Torn in the middle of a line: the rest is there, and what comes is written behind it.
    fs::write(&path, &good[..good.len() - 60]).unwrap();
    mumbai.restart();
    assert!(remembered(&mumbai, Some(&txid)).len() >= before.len() - 2);
    let next = transfer(&mumbai, "Delhi");
    whole(&mumbai, &next);
    assert_eq!(mumbai.stop(), Some(0));
    mumbai.restart();
    assert!(!remembered(&mumbai, Some(&next)).is_empty());
    assert_eq!(mumbai.stop(), Some(0));

    let last = fs::read_to_string(&path).unwrap();
    for garbage in ["", "nonsense\n", "\0\0\0\0", &last.replace("Mumbai", "Nagpur")] {
        fs::write(&path, garbage).unwrap();
        mumbai.restart();
        assert!(remembered(&mumbai, None).is_empty());
        whole(&mumbai, &transfer(&mumbai, "Delhi"));
        assert_eq!(mumbai.stop(), Some(0));
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    mumbai.restart();
    whole(&mumbai, &transfer(&mumbai, "Delhi"));
    assert!(mumbai.log().text().contains(".events"), "it is said in the log");
    assert_eq!(mumbai.stop(), Some(0));
    fs::remove_dir(&path).unwrap();
    // A pipe would keep whoever opens it waiting.
    let (pipe, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &path, pipe, mode, 0).unwrap();
    mumbai.restart();
    whole(&mumbai, &transfer(&mumbai, "Delhi"));
    assert_eq!(mumbai.stop(), Some(0));
}

#[test]
fn an_older_database_and_a_new_one_give_no_number_twice() {
    let (bank, mut mumbai, _delhi) = two();
    let copy = bank.folder().join("copy.db");
    mumbai.back_up(&copy);
    let mut runs = Vec::new();
    for _ in 0..3 {
        whole(&mumbai, &transfer(&mumbai, "Delhi"));
        runs.push(status(&mumbai).run.unwrap().after_event);
        assert_eq!(mumbai.stop(), Some(0));
        mumbai.restart();
    }
    let before = remembered(&mumbai, None);
    assert_eq!(mumbai.stop(), Some(0));
    mumbai.put_back(&copy);
    mumbai.restart();
    let run = status(&mumbai).run.unwrap();
    assert!(run.after_event >= before.last().unwrap().number, "{run:?} {runs:?}");
    assert_eq!(remembered(&mumbai, None), before);
    assert_eq!(mumbai.stop(), Some(0));
    // What an earlier bank under this name has left is not this one's.
    fs::remove_file(mumbai.database_path()).unwrap();
    mumbai.restart();
    assert!(remembered(&mumbai, None).is_empty() && !file(&mumbai, ".events").exists());
}

#[test]
fn a_restart_is_drawn_where_there_was_one_and_nowhere_else() {
    let (_bank, mut mumbai, _delhi) = two();
    // Within the second of its start, which is where a whole number of seconds is wrong.
    assert_eq!(mumbai.stop(), Some(0));
    mumbai.restart();
    let txid = transfer(&mumbai, "Delhi");
    whole(&mumbai, &txid);
    let first = drawn(&mumbai, &txid);
    assert!(first.contains("committed") && !first.contains("(re)started"), "{first}");
    assert_eq!(mumbai.stop(), Some(0));
    mumbai.restart();
    assert_eq!(drawn(&mumbai, &txid), first, "it is drawn as it was");
}

/// What `bank-client trace` draws.
fn drawn(branch: &Branch, txid: &str) -> String {
    let mut command = clean_command("bank-client");
    command.args(["--port", &branch.port().to_string(), "--key"]).arg(branch.key_path()).args(["trace", txid]);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

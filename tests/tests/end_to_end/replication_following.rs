//! A replica is its primary as it was after some group: row for row, whatever happens to either of them in between.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bank_tests::{Bank, Books, Branch, Options, Random, SetOnDrop, assert_same_rows, replica_options, wait_until};
use protocol::answer::{Status, push_ok};
use protocol::frame::{push_frame, read_frame};
use protocol::proof::{BranchKey, Prover, from_hex, to_hex};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The longest frame of a stream.
const STREAM_FRAME_BYTES: usize = 80 << 20;

#[test]
fn tables_are_equal_after_random_load_with_kills_stops_and_restarts() {
    let mut random = Random::from_environment();
    let bank = Bank::new();
    let messages = bank.folder().join("sms.jsonl");
    let mumbai = bank.start("Mumbai", Options::named("Mumbai").value("--sms", format!("file:{}", messages.display())));
    let delhi = bank.branch("Delhi");
    Bank::introduce(&[&mumbai, &delhi]);
    let mut replica = bank.replica_of(&mumbai, "mumbai-replica");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = SetOnDrop(&is_over);
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let random = random.fork();
                let (mumbai, is_over) = (&mumbai, &is_over);
                scope.spawn(move || load(mumbai, client, random, is_over))
            })
            .collect();
        for round in 0..6 {
            thread::sleep(Duration::from_millis(100 + random.below(400)));
            match round % 3 {
                0 => {
                    replica.kill9();
                    thread::sleep(Duration::from_millis(random.below(300)));
                    replica.restart();
                }
                1 => {
                    replica.signal(Signal::STOP);
                    thread::sleep(Duration::from_millis(random.below(500)));
                    replica.signal(Signal::CONT);
                }
                _ => {
                    assert_eq!(replica.stop(), Some(0));
                    replica.restart();
                }
            }
        }
        drop(over);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    assert_same(&mumbai, &replica);
    assert!(replica.log().text().contains("following the primary"), "{}", replica.log().text());
    // Both sides' own auditors agree that these are books.
    let audit = |branch: &Branch| {
        let mut audit = branch.connect().ask("audit", json!({})).ok();
        audit.as_object_mut().unwrap().remove("role");
        audit
    };
    assert_eq!(audit(&mumbai), audit(&replica));
    assert_eq!(audit(&replica)["ok"], true);
}

/// Everything that writes: movements, accounts, passwords, batches, transfers in and out, refusals and undone ones.
fn load(mumbai: &Branch, client: usize, mut random: Random, is_over: &AtomicBool) {
    let mut connection = mumbai.connect();
    let mut number = 0;
    while !is_over.load(Ordering::SeqCst) {
        number += 1;
        let id = format!("client {client} request {number}");
        let amount = random.below(500) + 1;
        let (action, params) = match random.below(9) {
            0 | 1 => ("deposit", json!({"account_no": 1001, "amount": amount})),
            2 => ("withdraw", json!({"account_no": 1002, "amount": amount})),
            3 => ("local_transfer", json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": amount})),
            4 | 5 => (
                "inter_branch_transfer",
                json!({"src_account_no": 1001, "dest_branch": "Delhi", "dest_account_no": 1002, "amount": amount}),
            ),
            6 => (
                "create_account",
                json!({"name": "Asha Rao", "balance": amount, "phone_num": format!("9{client}{number:08}"), "sms": true}),
            ),
            7 => {
                // The second of them fails after the first has written, so the whole is undone.
                let requests = [("deposit", amount), ("withdraw", 99_999_999_999)].map(
                    |(action, amount)| json!({"action": action, "params": {"account_no": 1001, "amount": amount}}),
                );
                ("batch", json!({"requests": requests, "atomic": random.below(2) == 0}))
            }
            _ => (
                "split_transfer",
                json!({"src_account_no": 1002, "legs": [{"account_no": 1001, "amount": 1},
                {"account_no": 1001, "amount": 2, "dest_branch": "Delhi"}]}),
            ),
        };
        connection.ask_once(&id, action, params);
    }
}

#[test]
fn a_replica_that_was_away_for_too_long_takes_a_snapshot_under_load() {
    let bank = Bank::new();
    let mumbai = bank.start("Mumbai", Options::named("Mumbai").value("--log-mib", 1));
    let mut replica = bank.replica_of(&mumbai, "mumbai-replica");
    replica.wait_until_caught_up(&mumbai);
    replica.kill9();
    let requests: Vec<Value> =
        (0..5_000).map(|_| json!({"action": "deposit", "params": {"account_no": 1001, "amount": 1}})).collect();
    let mut connection = mumbai.connect();
    for _ in 0..40 {
        connection.ask("batch", json!({"requests": requests})).ok();
    }
    let kept = Books::open(mumbai.database_path()).number("SELECT count(*) FROM replication_log");
    assert!(kept < 30, "the log is kept to its bound: {kept} groups");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = SetOnDrop(&is_over);
        let client = scope.spawn(|| load(&mumbai, 0, Random::new(1), &is_over));
        replica.restart();
        wait_until("the snapshot is in place", || replica.log().text().contains("the snapshot is here and sound"));
        replica.wait_until_following();
        drop(over);
        client.join().unwrap();
    });
    Bank::wait_until_settled(&[&mumbai]);
    assert_same(&mumbai, &replica);
    let aside = std::fs::read_dir(bank.folder())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".aside-"));
    assert_eq!(aside.count(), 0, "a copy of the primary's past is not worth keeping");
}

#[test]
fn a_replica_answers_what_only_looks_and_names_its_primary_to_all_else() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    let replica = bank.replica_of(&mumbai, "mumbai-replica");
    mumbai.connect().ask("deposit", json!({"account_no": 1001, "amount": 50})).ok();
    replica.wait_until_caught_up(&mumbai);
    let mut connection = replica.connect();
    assert_eq!(connection.balance(1001), "1050.00");
    assert_eq!(connection.ask("list_accounts", json!({})).ok().as_array().map(Vec::len), Some(2));
    assert_eq!(connection.ask("history", json!({"account_no": 1001})).ok().as_array().map(Vec::len), Some(2));
    assert_eq!(connection.ask("audit", json!({})).ok()["ok"], true);
    assert!(connection.ask("branches", json!({})).text.contains("Delhi"));
    let address = format!("127.0.0.1:{}", mumbai.port());
    for (action, params) in [
        ("deposit", json!({"account_no": 1001, "amount": 1})),
        ("withdraw", json!({"account_no": 1001, "amount": 1})),
        ("create_account", json!({"name": "X"})),
        ("close_account", json!({"account_no": 1001})),
        ("local_transfer", json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1})),
        (
            "inter_branch_transfer",
            json!({"src_account_no": 1001, "dest_branch": "Delhi", "dest_account_no": 1002, "amount": 1}),
        ),
        ("prepare_deposit", json!({"txid": "T", "account_no": 1001, "amount": 1})),
        ("commit_deposit", json!({"txid": "T"})),
        ("tx_status", json!({"txid": "T"})),
        ("set_password", json!({"account_no": 1001, "password": "other"})),
        ("link", json!({"branch": "Delhi", "port": 1})),
        ("replicate", json!({"branch": "Mumbai", "port": 1, "heard_epoch": 1, "version": 5})),
    ] {
        let reply = connection.ask(action, params);
        assert!(reply.refused("not_primary").text.contains(&address), "{action}: {}", reply.text);
    }
    let writes = json!({"requests": [{"action": "deposit", "params": {"account_no": 1001, "amount": 1}}]});
    assert!(connection.ask("batch", writes).text.contains("not_primary"));
    let status = connection.ask("status", json!({})).ok();
    assert_eq!((&status["role"], &status["lag"]), (&json!("replica"), &json!({"sequence": 0, "seconds": 0})));
    let lines = mumbai.connect().ask("status", json!({})).ok();
    assert_eq!(lines["replication"]["replicas"][0]["address"], format!("127.0.0.1:{}", replica.port()));
    // At the menu a customer may look, and reads where to go for more.
    let mut menu = replica.log_in("1001", "1001");
    menu.answer("b").unwrap();
    let refused = menu.answer("5").unwrap();
    assert!(format!("{refused:?}").contains(&address), "{refused:?}");
}

#[test]
fn a_branch_without_replicas_logs_nothing() {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    mumbai.connect().ask("deposit", json!({"account_no": 1001, "amount": 50})).ok();
    assert_eq!(mumbai.database().number("SELECT count(*) FROM replication_log"), 0);
    let status = mumbai.connect().ask("status", json!({})).ok();
    assert!(status.get("replication").is_none() && status.get("epoch").is_none(), "{status}");
}

/// A primary, and its replica, which is down and has had this done to its rows.
fn changed_behind_its_back(statement: &str) -> (Bank, Branch, Branch) {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    let mut replica = bank.replica_of(&mumbai, "mumbai-replica");
    replica.wait_until_caught_up(&mumbai);
    replica.kill9();
    rusqlite::Connection::open(replica.database_path()).unwrap().execute(statement, []).unwrap();
    (bank, mumbai, replica)
}

/// Starts it, waits until it has noticed, and returns what it says.
fn trouble_of(replica: &mut Branch) -> String {
    replica.restart();
    replica.wait_until_state("replica", "diverged");
    replica.replication().unwrap()["replication"]["trouble"].to_string()
}

#[test]
fn a_row_changed_behind_the_replicas_back_is_found_and_named_and_a_new_copy_is_taken_on_order_alone() {
    let (bank, mumbai, mut replica) =
        changed_behind_its_back("UPDATE account_holders SET first_name = 'Eve' WHERE account_num = 1002");
    let trouble = trouble_of(&mut replica);
    assert!(trouble.contains("account_holders") && trouble.contains("1001") && trouble.contains("1002"), "{trouble}");
    // It says so after a restart too, and executes nothing more.
    let stopped_at = replica.sequence();
    replica.kill9();
    replica.restart();
    replica.wait_until_state("replica", "diverged");
    mumbai.connect().ask("deposit", json!({"account_no": 1001, "amount": 5})).ok();
    assert_eq!((replica.sequence(), replica.connect().balance(1001)), (stopped_at, "1000.00".into()));
    replica.connect().ask("promote", json!({})).refused("diverged");
    replica.connect().ask("resync", json!({})).ok();
    replica.wait_until_following();
    assert_same(&mumbai, &replica);
    let aside = std::fs::read_dir(bank.folder()).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> = aside.filter(|path| path.to_string_lossy().contains(".aside-")).collect();
    assert_eq!(aside.len(), 1, "the old file is kept: {aside:?}");
    assert_eq!(Books::open(&aside[0]).texts("SELECT first_name FROM customers WHERE account_num = 1002"), ["Eve"]);
}

#[test]
fn a_missing_row_stops_the_replica_at_the_group_that_needs_it() {
    let (_bank, mumbai, mut replica) = changed_behind_its_back("DELETE FROM accounts WHERE account_num = 1002");
    let group = mumbai.sequence().unwrap() + 1;
    mumbai.connect().ask("deposit", json!({"account_no": 1002, "amount": 5})).ok();
    let trouble = trouble_of(&mut replica);
    assert!(trouble.contains(&format!("group {group} cannot be executed here")), "{trouble}");
}

#[test]
fn books_of_ones_own_are_never_replaced_without_an_order() {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    let mut other = bank.start("other", Options::named("Mumbai"));
    other.connect().ask("deposit", json!({"account_no": 1001, "amount": 77})).ok();
    assert_eq!(other.stop(), Some(0));
    let database = other.database_path().to_path_buf();
    drop(other);
    let replica = Branch::start(replica_options("Mumbai", &mumbai).database(&database));
    replica.wait_until_state("replica", "diverged");
    assert_eq!(replica.database().balance_paise(1001), 107_700);
}

#[test]
fn bad_frames_of_a_replica_end_its_stream_and_nothing_else() {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    let replica = bank.replica_of(&mumbai, "mumbai-replica");
    for bytes in [
        &b"\0\0\0\x01\xff"[..],
        b"\xff\xff\xff\xff",
        b"\0\0\0\x0c\x06\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\0\0\0\0",
    ] {
        let last = mumbai.database().texts("SELECT hex(digest) FROM replication_log ORDER BY sequence DESC LIMIT 1");
        let mut connection = mumbai.connect();
        let position = json!({"sequence": mumbai.sequence(), "epoch": 1, "digest": last[0].to_lowercase()});
        let params = json!({"branch": "Mumbai", "port": 9, "heard_epoch": 1, "position": position, "version": 5});
        let granted = connection.ask("replicate", params).ok();
        assert_eq!(granted["mode"], "log", "{granted}");
        connection.send_bytes(bytes).unwrap();
        wait_until("the stream is ended", || connection.is_closed());
    }
    for params in [
        json!({"branch": "Delhi", "port": 9, "heard_epoch": 1, "version": 5}),
        json!({"branch": "Mumbai", "port": 9, "heard_epoch": 1, "version": 3}),
    ] {
        mumbai.connect().ask("replicate", params).refused("invalid_params");
    }
    mumbai.connect().ask("deposit", json!({"account_no": 1001, "amount": 5})).ok();
    assert_same(&mumbai, &replica);
}

#[test]
fn a_replica_refuses_gaps_wrong_digests_and_noise_from_its_primary() {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    let mut replica = bank.replica_of(&mumbai, "mumbai-replica");
    replica.wait_until_caught_up(&mumbai);
    replica.kill9();
    let before = replica.database().everything();
    let sequence = replica.database().number("SELECT max(sequence) FROM replication_log");
    let database = replica.database_path().to_path_buf();
    drop(replica);
    let row = |sequence: i64| {
        let mut body = vec![1, 1];
        for number in [sequence, 1] {
            push_integer(&mut body, number);
        }
        body.extend([7; 32]);
        push_integer(&mut body, 5);
        body.extend([2, 1, 0]);
        body
    };
    for (frame, said) in [
        (row(sequence + 2), "comes next"),
        (row(sequence), "comes next"),
        (vec![9, 9, 9], "unknown kind"),
        (vec![4, 1, 2, 3], "nobody asked for"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = bank.key();
        let options = Options::bare().value("--name", "Mumbai").value("--replica-of", format!("127.0.0.1:{port}"));
        let fake = thread::spawn(move || play_primary(&listener, &key, sequence, &frame));
        let replica = Branch::start(options.database(&database));
        fake.join().unwrap();
        wait_until(&format!("it says {said:?}"), || replica.log().text().contains(said));
        assert_eq!(replica.sequence(), Some(sequence));
    }
    // Nothing was executed; only what the copy says of itself has changed.
    let shared = |rows: &str| {
        rows.lines()
            .filter(|line| !line.starts_with("replication_standing") && !line.starts_with("replication_opening"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(shared(&Books::open(&database).everything()), shared(&before));
    // A wrong digest is no noise but a difference.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (key, frame) = (bank.key(), row(sequence + 1));
    let fake = thread::spawn(move || play_primary(&listener, &key, sequence, &frame));
    let options = Options::bare().value("--name", "Mumbai").value("--replica-of", format!("127.0.0.1:{port}"));
    let replica = Branch::start(options.database(&database));
    fake.join().unwrap();
    replica.wait_until_state("replica", "diverged");
    assert!(replica.replication().unwrap()["replication"]["trouble"].to_string().contains("running digest"));
}

/// Speaks a primary's part up to the stream, and sends one frame.
fn play_primary(listener: &TcpListener, key: &BranchKey, sequence: i64, frame: &[u8]) {
    let (mut stream, _) = listener.accept().unwrap();
    let answer = |stream: &mut TcpStream, result: &Value| {
        let (mut body, mut out) = (Vec::new(), Vec::new());
        push_ok(&mut body, &result.to_string(), None);
        push_frame(&mut out, &body, STREAM_FRAME_BYTES).unwrap();
        std::io::Write::write_all(stream, &out).unwrap();
    };
    let mut body = Vec::new();
    assert!(read_frame(&mut stream, STREAM_FRAME_BYTES, &mut body).unwrap());
    let hello: Value = serde_json::from_slice(&body).unwrap();
    let client = from_hex(hello["params"]["nonce"].as_str().unwrap()).unwrap();
    let proof = key.prove(Prover::Branch, &client, &[9; 32], "Mumbai");
    answer(&mut stream, &json!({"branch": "Mumbai", "nonce": to_hex(&[9; 32]), "proof": proof}));
    assert!(read_frame(&mut stream, STREAM_FRAME_BYTES, &mut body).unwrap());
    answer(&mut stream, &json!({"role": "operator"}));
    assert!(read_frame(&mut stream, STREAM_FRAME_BYTES, &mut body).unwrap());
    answer(&mut stream, &json!({"epoch": 1, "sequence": sequence, "mode": "log"}));
    let mut out = Vec::new();
    push_frame(&mut out, frame, STREAM_FRAME_BYTES).unwrap();
    std::io::Write::write_all(&mut stream, &out).unwrap();
    // Until the replica hangs up.
    while matches!(read_frame(&mut stream, STREAM_FRAME_BYTES, &mut body), Ok(true)) {}
}

/// A number as the stream has it: a tag, zigzag, LEB128.
fn push_integer(out: &mut Vec<u8>, number: i64) {
    out.push(1);
    let mut zigzag = (number << 1) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

#[track_caller]
fn assert_same(primary: &Branch, replica: &Branch) {
    wait_until("the replica has all and the same", || {
        primary.sequence() == replica.sequence()
            && bank_tests::shared_rows(primary.database_path()) == bank_tests::shared_rows(replica.database_path())
    });
    assert_same_rows(primary.database_path(), replica.database_path());
    let status: Status = replica.connect().ask("status", json!({})).result();
    assert_eq!(status.lag.map(|lag| lag.sequence), Some(Some(0)));
}

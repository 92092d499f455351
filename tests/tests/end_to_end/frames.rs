//! Frames, and what is not one: nonsense, too long, cut off; and many of them in one write, which are answered in
//! order and committed together.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use bank_tests::{Branch, Options, connect_narrow, frame, held_for, request};
use serde_json::json;

fn open_branch() -> Branch {
    Branch::start(Options::preloaded().flag("--open"))
}

#[test]
fn what_is_no_request_is_answered_and_the_connection_goes_on() {
    let branch = open_branch();
    let mut connection = branch.connect_anonymously();
    for (body, code) in [
        ("", "bad_json"),
        ("nope", "bad_json"),
        ("{", "bad_json"),
        ("[]", "bad_json"),
        (r#"["status",{}]"#, "bad_json"),
        ("{}", "bad_json"),
        ("null", "bad_json"),
        (r#"{"action":1}"#, "bad_json"),
        (r#"{"action":"status","params":{}} x"#, "bad_json"),
        (r#"{"action":"status","request_id":5}"#, "bad_json"),
        (r#"{"action":"status","request_id":""}"#, "invalid_request_id"),
        (r#"{"action":"status","request_id":"a\u0007"}"#, "invalid_request_id"),
        (r#"{"action":"STATUS"}"#, "unknown_action"),
    ] {
        connection.text(body).refused(code);
    }
    let deep = format!(r#"{{"action":"status","params":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(!connection.text(&deep).is_ok());
    connection.send_bytes(&[0, 0, 0, 3, 0xff, 0xfe, 0xfd]).unwrap();
    connection.receive().unwrap().refused("bad_json");
    connection.ask("status", json!({})).ok();
}

#[test]
fn a_frame_that_is_too_long_is_refused_and_the_connection_closed() {
    let branch = open_branch();
    let padded = |action: &str, length: usize| {
        let head = format!(r#"{{"action":"{action}","params":{{"requests":[]}},"pad":""#);
        format!("{head}{}\"}}", "x".repeat(length - head.len() - 2))
    };
    let mebibyte = 1 << 20;
    // To the limit it is taken.
    let mut connection = branch.connect_anonymously();
    connection.text(&padded("status", mebibyte)).ok();
    connection.text(&padded("batch", 8 * mebibyte)).ok();
    // Past it there is an answer, and the end. What was sent before is answered first.
    connection.send_text(&request("status", json!({}), None)).unwrap();
    connection.send_text(&padded("status", mebibyte + 1)).unwrap();
    connection.receive().unwrap().ok();
    connection.receive().unwrap().refused("frame_too_long");
    assert!(connection.is_closed());
    // A length is refused before any of the body has come.
    for length in [u32::MAX, 8 * 1024 * 1024 + 1] {
        let mut connection = branch.connect_anonymously();
        connection.send_bytes(&length.to_be_bytes()).unwrap();
        connection.receive().unwrap().refused("frame_too_long");
        assert!(connection.is_closed());
    }
    branch.connect_anonymously().ask("status", json!({})).ok();
}

#[test]
fn half_a_frame_and_then_silence_holds_up_nobody_and_ends() {
    let mut branch = open_branch();
    let halves: Vec<_> = [&b"\0"[..], b"\0\0\0\x20", b"\0\0\0\x20{\"action\":", b"\0\x7f\xff\xff{"]
        .into_iter()
        .map(|bytes| {
            let connection = branch.connect_anonymously();
            connection.send_bytes(bytes).unwrap();
            connection
        })
        .collect();
    branch.connect_anonymously().ask("deposit", json!({"account_no": 1001, "amount": 1})).ok();
    // After half a minute the branch has had enough. DEADLINE is the longest that this waits.
    for mut half in halves {
        assert!(half.is_closed());
    }
    // A client that hangs up in the middle of a frame, and one that is there when the branch stops, do no harm.
    branch.connect_anonymously().send_bytes(b"\0\0\0\x20{").unwrap();
    let left = branch.connect_anonymously();
    left.send_bytes(b"\0\0\0\x20{").unwrap();
    branch.connect_anonymously().ask("status", json!({})).ok();
    let start = Instant::now();
    assert_eq!(branch.stop(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn the_system_holds_little_for_a_client_that_reads_no_answer() {
    let branch = open_branch();
    let deposit = json!({"action": "deposit", "params": {"account_no": 1001, "amount": "0.01"}});
    let batch = json!({"requests": vec![deposit; 500]});
    branch.connect_anonymously().ask("batch", batch).ok();
    let history = request("history", json!({"account_no": 1001, "limit": 500}), None);
    assert!(branch.connect_anonymously().text(&history).text.len() > 20_000);
    let mut client = connect_narrow(branch.port());
    client.write_all(&frame(&history).repeat(400)).unwrap();
    let held = held_for(&client);
    assert!(held <= 256 << 10, "{held} bytes are held for it");
    // It holds up nobody.
    branch.connect_anonymously().ask("status", json!({})).ok();
}

/// Bytes that the process has given to the system to write, to files and sockets.
fn bytes_written(branch: &Branch) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", branch.process_id())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

#[test]
fn a_hundred_requests_in_one_write_are_answered_in_order_and_committed_together() {
    const REQUESTS: i64 = 100;
    let branch = open_branch();
    let mut connection = branch.connect_anonymously();
    let deposit = request("deposit", json!({"account_no": 1001, "amount": "0.01"}), None);
    let frames: Vec<u8> = (0..REQUESTS).flat_map(|_| frame(&deposit)).collect();
    let before = bytes_written(&branch);
    connection.send_bytes(&frames).unwrap();
    for paise in 1..=REQUESTS {
        let balance = connection.receive().unwrap().ok()["balance"].to_string();
        assert_eq!(balance, format!("{}.{:02}", 1000 + paise / 100, paise % 100));
    }
    let together = bytes_written(&branch) - before;
    for _ in 0..REQUESTS {
        connection.text(&deposit).ok();
    }
    let one_by_one = bytes_written(&branch) - before - together;
    // A commit writes each page that it changes once, however many operations changed it.
    assert!(together * 4 < one_by_one, "together {together} bytes, one by one {one_by_one} bytes");
    // Refused ones, reads and other sorts in between keep their places.
    let mixed = [
        request("withdraw", json!({"account_no": 1001, "amount": "1002"}), None),
        request("balance", json!({"account_no": 1001}), None),
        request("withdraw", json!({"account_no": 1001, "amount": "5000"}), None),
        "nonsense".to_string(),
        request("status", json!({}), None),
        request("balance", json!({"account_no": 1001}), None),
        request("deposit", json!({"account_no": 1001, "amount": "0.01"}), None),
        request("balance", json!({"account_no": 1001}), None),
    ];
    connection.send_bytes(&mixed.iter().flat_map(|body| frame(body)).collect::<Vec<u8>>()).unwrap();
    let replies: Vec<_> = mixed.iter().map(|_| connection.receive().unwrap()).collect();
    let codes: Vec<_> = replies.iter().map(|reply| reply.code().to_string()).collect();
    assert_eq!(codes, ["", "", "insufficient_funds", "bad_json", "", "", "", ""]);
    let balances = [1, 5, 6, 7].map(|index: usize| replies[index].ok()["balance"].to_string());
    assert_eq!(balances, ["0.00", "0.00", "0.01", "0.01"]);
}

#[test]
fn a_client_that_sends_ahead_and_hangs_up_has_it_done() {
    let branch = open_branch();
    let connection = branch.connect_anonymously();
    let deposit = frame(&request("deposit", json!({"account_no": 1001, "amount": 1}), None));
    connection.send_bytes(&deposit.repeat(2_000)).unwrap();
    // All of it has arrived at the branch's side of the loopback, or will; the answers are not waited for.
    let mut connection = connection;
    connection.inner().stream().shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = Vec::new();
    connection.inner().stream().read_to_end(&mut answers).unwrap();
    assert_eq!(branch.connect_anonymously().balance(1001), "3000.00");
}

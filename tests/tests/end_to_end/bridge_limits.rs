//! What the bridge bears: too much, too slow, too many; and how it starts and ends.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bank_tests::{
    Bank, Branch, Bridge, FORM, JSON, SetOnDrop, clean_command, connect_narrow, figure, held_for,
    raise_descriptor_limit, wait_for, wait_until, wait_until_within,
};
use rustix::process::Signal;
use serde_json::json;

fn pair() -> (Bank, Branch, Branch, Bridge) {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    let bridge = Bridge::start(&[("Mumbai", &mumbai), ("Delhi", &delhi)], &["--open"]);
    (bank, mumbai, delhi, bridge)
}

#[test]
fn what_is_too_long_is_refused() {
    let (_bank, _mumbai, _delhi, bridge) = pair();
    let long = "x".repeat(70_000);
    bridge.form("/deposit", &format!("branch={long}")).refused(413, "body_too_long");
    bridge.json("/deposit", &json!({ "branch": long })).refused(413, "body_too_long");
    // Announced and never sent: the answer comes at once, and not after what was announced.
    let mut stream = bridge.connect();
    let head = bridge.request("POST", "/deposit").header("Content-Type", FORM).text();
    let head = head.replace("Content-Length: 0", "Content-Length: 999999999");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    let answer = bridge.request("GET", "/session").header("X-Long", &long).send();
    assert_eq!(answer.status(), 431);
    let many =
        (0..100).fold(bridge.request("GET", "/session"), |request, number| request.header(&format!("X-{number}"), "1"));
    assert_eq!(many.send().status(), 431);
    bridge.get("/session").ok();
}

#[test]
fn requests_that_stop_in_the_middle_hold_nobody_up_and_are_given_up() {
    let (_bank, _mumbai, _delhi, bridge) = pair();
    let whole = bridge.request("POST", "/deposit").body(FORM, "branch=Mumbai&account=1001&amount=1").text();
    let half = |part: &str| {
        let mut stream = bridge.connect();
        stream.write_all(part.as_bytes()).unwrap();
        stream
    };
    let mut in_head: Vec<_> = (0..50).map(|_| half("POST /deposit HTTP/1.1\r\nHost: 127.0.0.1")).collect();
    let mut in_body: Vec<_> = (0..50).map(|_| half(&whole[..whole.len() - 5])).collect();
    for _ in 0..20 {
        bridge.form("/balance", "branch=Mumbai&account=1001").ok();
    }
    // The body's time is up first: it is told so. A head that never came gets no answer.
    for stream in &mut in_body {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    for stream in &mut in_head {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "));
    }
    assert_eq!(figure(&bridge.form("/balance", "branch=Mumbai&account=1001").ok()["balance"]), "1000.00");
}

#[test]
fn a_thousand_idle_connections_cost_little_and_hold_nobody_up() {
    raise_descriptor_limit(4_096);
    let (_bank, _mumbai, _delhi, bridge) = pair();
    let before_kib = resident_kib(bridge.process_id());
    let idle: Vec<TcpStream> = (0..1_000).map(|_| bridge.connect()).collect();
    let metrics = || bridge.get("/metrics").text;
    wait_until("all are taken", || {
        let connections =
            metrics().lines().find_map(|line| line.strip_prefix("bank_bridge_connections ")?.parse().ok());
        connections.is_some_and(|count: u32| count > 1_000)
    });
    bridge.form("/deposit", "branch=Mumbai&account=1001&amount=1").ok();
    let grown_kib = resident_kib(bridge.process_id()).saturating_sub(before_kib);
    assert!(grown_kib < 64 * 1024, "{grown_kib} KiB for a thousand idle connections");
    drop(idle);
}

#[test]
fn one_connection_too_many_is_told_so_and_there_is_room_again_afterwards() {
    /// As in the bridge's limits.
    const CONNECTIONS: u64 = 4_096;
    raise_descriptor_limit(CONNECTIONS * 4);
    let (_bank, _mumbai, _delhi, bridge) = pair();
    let mut idle: Vec<TcpStream> = (0..CONNECTIONS).map(|_| bridge.connect()).collect();
    let ask = || bridge.request("GET", "/healthz").try_send();
    let turned_away = wait_for("one is turned away", || {
        // A connection that was queued when it was turned away may be reset.
        let answer = ask().ok().filter(|answer| answer.status() == 503);
        // On a busy machine the first of them are given up, for their silence, before the last is taken.
        if idle.len() < 3 * CONNECTIONS as usize {
            idle.extend((0..64).map(|_| bridge.connect()));
        }
        answer
    });
    turned_away.refused(503, "busy");
    drop(idle);
    wait_until("there is room again", || ask().is_ok_and(|answer| answer.status() == 200));
}

#[test]
fn a_stalled_stream_among_many_slows_no_transfer_down() {
    let (_bank, mumbai, _delhi, bridge) = pair();
    let is_done = AtomicBool::new(false);
    // It asks and then reads nothing at all.
    let mut stalled = bridge.connect();
    stalled.write_all(bridge.request("GET", "/events?after=0").text().as_bytes()).unwrap();
    std::thread::scope(|scope| {
        let streams: Vec<_> = (0..50).map(|_| bridge.request("GET", "/events").events()).collect();
        let readers: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                let is_done = &is_done;
                scope.spawn(move || {
                    let mut last = None;
                    while let Some(event) = stream.next_event() {
                        if event.kind == "happened" {
                            last = event.data["txid"].as_str().map(ToOwned::to_owned);
                        }
                        if is_done.load(Ordering::SeqCst) && event.kind == "bank" {
                            break;
                        }
                    }
                    last
                })
            })
            .collect();
        let finish = SetOnDrop(&is_done);
        let mut last = String::new();
        for _ in 0..200 {
            let form = "src_branch=Mumbai&src_account=1001&dest_branch=Delhi&dest_account=1002&amount=0.01";
            last = bridge.form("/transfer", form).ok()["txid"].as_str().unwrap().to_string();
        }
        assert_eq!(mumbai.connect().balance(1001), "998.00");
        wait_until("the bridge has heard of the last", || bridge.get("/transfers?limit=1").ok()[0]["txid"] == *last);
        drop(finish);
        for reader in readers {
            assert!(reader.join().unwrap().is_some());
        }
    });
    assert_eq!(bridge.get("/audit").ok()["ok"], true);
    stalled.shutdown(Shutdown::Both).unwrap();
}

#[test]
fn the_system_holds_little_for_a_client_that_reads_nothing() {
    let (_bank, _mumbai, _delhi, bridge) = pair();
    let mut client = connect_narrow(bridge.port());
    let request = bridge.request("GET", "/openapi.json").text();
    assert!(bridge.get("/openapi.json").text.len() > 20_000);
    // Hundreds of answers are asked for, megabytes in all; none is read.
    client.write_all(request.repeat(400).as_bytes()).unwrap();
    let held = held_for(&client);
    assert!(held <= 256 << 10, "{held} bytes are held for it");
}

#[test]
fn a_signal_ends_it_within_two_seconds_with_streams_open() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_bank, _mumbai, delhi, mut bridge) = pair();
        let mut streams: Vec<_> = (0..20).map(|_| bridge.request("GET", "/events").events()).collect();
        let _idle = bridge.connect();
        let mut half = bridge.connect();
        half.write_all(b"POST /deposit HTTP/1.1\r\n").unwrap();
        // A branch that has stopped holds up neither.
        delhi.signal(Signal::STOP);
        let mut asking = bridge.connect();
        let request = bridge.request("POST", "/balance").body(FORM, "branch=Delhi&account=1001");
        asking.write_all(request.text().as_bytes()).unwrap();
        let begin = Instant::now();
        bridge.signal(signal);
        let status = bridge.wait();
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}; the log:\n{}", begin.elapsed(), bridge.log().text());
        assert_eq!(status.code(), Some(0), "the log:\n{}", bridge.log().text());
        for stream in &mut streams {
            while stream.next_event().is_some() {}
        }
        delhi.signal(Signal::CONT);
    }
}

#[test]
fn a_branch_that_has_stopped_is_seen_to_be_down_and_others_are_served() {
    let (_bank, _mumbai, delhi, bridge) = pair();
    delhi.signal(Signal::STOP);
    wait_until_within(Duration::from_secs(20), "it counts as down", || bridge.get("/healthz").ok()["up"] == 1);
    bridge.form("/deposit", "branch=Mumbai&account=1001&amount=1").ok();
    delhi.signal(Signal::CONT);
    wait_until("it is up again", || bridge.get("/healthz").ok()["up"] == 2);
    bridge.form("/deposit", "branch=Delhi&account=1001&amount=1").ok();
}

#[test]
fn wrong_command_lines_end_with_64_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, hint) in [
        (&["--prot", "0"][..], "--port"),
        (&["--branch", "Mumbai"], "NAME=HOST:PORT"),
        (&["--branch", "Mumbai=127.0.0.1"], "HOST:PORT"),
        (&["--branch", "A=127.0.0.1:1,A=127.0.0.1:2"], "twice"),
        (&["--open", "--host", "0.0.0.0"], "loopback"),
        (&["--key", "nowhere.key"], "--key"),
        (&["--host", "no.such.host.invalid"], "--host"),
    ] {
        let output = clean_command("bank-bridge").args(arguments).current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(hint), "{arguments:?}: {said}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = clean_command("bank-bridge").args(["--port", &port]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is in use") && said.contains("--port"), "{said}");
}

#[test]
fn a_body_of_nonsense_stops_nothing() {
    let (_bank, _mumbai, _delhi, bridge) = pair();
    for bytes in [
        &b"\0\xff\xfe"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n",
        b"POST /deposit HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    ] {
        let mut stream = bridge.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // Whatever it says, it hangs up.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    for body in ["\u{0}", "{\"a\":1e999}", "{\"amount\":\"\\ud800\"}", "[[[[[[[[[["] {
        let status = bridge.request("POST", "/deposit").body(JSON, body).send().status();
        assert_eq!(status, 400, "{body:?}");
    }
    bridge.form("/balance", "branch=Mumbai&account=1001").ok();
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

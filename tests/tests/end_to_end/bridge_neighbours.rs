//! The bridge among others: proxies in front, a second bridge beside it, older programs, people who share it; and what
//! it leaves behind.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bank_tests::{Bank, Branch, Bridge, FORM, JSON, Options, connect_narrow, figure, wait_until, wait_until_within};
use rustix::process::Signal;
use serde_json::{Value, json};

/// What a changed password had opened ends within this.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// The twenty seconds of a lease, and as much again for a busy machine.
const LEASE_ENDS_WITHIN: Duration = Duration::from_secs(40);

fn one(flags: &[&str]) -> (Bank, Branch, Bridge) {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    let bridge = Bridge::start(&[("Mumbai", &mumbai)], flags);
    (bank, mumbai, bridge)
}

/// So many deposits of 1.00, a thousand in a request.
fn deposits(branch: &Branch, rows: usize) {
    let deposit = json!({"action": "deposit", "params": {"account_no": "1001", "amount": 1}});
    let mut connection = branch.connect();
    for _ in 0..rows / 1_000 {
        connection.ask("batch", json!({"requests": vec![deposit.clone(); 1_000]})).ok();
    }
}

#[test]
fn an_id_is_its_persons() {
    let (_bank, mumbai, bridge) = one(&[]);
    let people = ["1001", "1002"].map(|account| (account, bridge.sign_in("Mumbai", account, account)));
    let deposit = |(account, session): &(&str, _), amount: &str| {
        let form = format!("branch=Mumbai&account={account}&amount={amount}&request_id=1");
        bridge.request("POST", "/deposit").session(session).body(FORM, &form).send()
    };
    for _ in 0..2 {
        assert_eq!(figure(&deposit(&people[0], "10").ok()["balance"]), "1010.00");
        assert_eq!(figure(&deposit(&people[1], "20").ok()["balance"]), "1020.00");
    }
    deposit(&people[0], "11").refused(409, "request_id_reused");
    let by_basic = || bridge.request("POST", "/deposit").basic("1002", "1002").header("Idempotency-Key", "1");
    by_basic().body(FORM, "account=1002&amount=20").send().ok();
    by_basic().body(JSON, r#"{"account":"1002","amount":20,"request_id":"1"}"#).send().ok();
    by_basic().body(FORM, "account=1002&amount=20&request_id=2").send().refused(400, "invalid_params");
    let mut connection = mumbai.connect();
    assert_eq!((connection.balance(1001), connection.balance(1002)), ("1010.00".into(), "1020.00".into()));
}

#[test]
fn a_changed_password_ends_what_it_had_opened() {
    let (_bank, mumbai, bridge) = one(&[]);
    let session = bridge.sign_in("Mumbai", "1001", "1001");
    let by_session = || bridge.request("POST", "/balance").session(&session).send().status();
    let by_basic = || bridge.request("POST", "/balance").basic("1001", "1001").send().status();
    let mut streams = [
        bridge.request("GET", "/events").session(&session).events(),
        bridge.request("GET", "/events").basic("1001", "1001").events(),
    ];
    let other = bridge.sign_in("Mumbai", "1002", "1002");
    assert_eq!((by_session(), by_basic()), (200, 200));
    mumbai.connect().ask("set_password", json!({"account_no": "1001", "password": "a new one"})).ok();
    wait_until_within(ENDS_WITHIN, "the session is over", || by_session() == 401);
    wait_until_within(ENDS_WITHIN, "the remembered password is forgotten", || by_basic() == 401);
    for stream in &mut streams {
        stream.wait_at_most(ENDS_WITHIN);
        while stream.next_event().is_some() {}
    }
    bridge.request("POST", "/balance").session(&other).send().ok();
    bridge.request("POST", "/balance").basic("1001", "a new one").send().ok();
}

#[test]
fn who_signs_in_too_often_signs_nobody_else_out() {
    let (_bank, _mumbai, bridge) = one(&[]);
    let (root, other) = (bridge.sign_in("Mumbai", "0", "root"), bridge.sign_in("Mumbai", "1001", "1001"));
    let own: Vec<_> = (0..12).map(|_| bridge.sign_in("Mumbai", "1002", "1002")).collect();
    let status = |session| bridge.request("GET", "/history").session(session).send().status();
    assert_eq!((status(&root), status(&other), status(own.last().unwrap())), (200, 200, 200));
    assert_eq!(status(&own[0]), 401, "its own oldest one has ended");
}

/// All that comes on a connection, and whether the last chunk of its body was there.
fn download(mut stream: TcpStream, until_paused: impl FnOnce()) -> (String, bool) {
    let mut bytes = vec![0; 4_096];
    stream.read_exact(&mut bytes).unwrap();
    until_paused();
    // A connection that is reset has ended too.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let is_whole = text.ends_with("\r\n0\r\n\r\n");
    (text, is_whole)
}

#[test]
fn a_download_that_breaks_off_has_no_end() {
    let (_bank, mut mumbai, bridge) = one(&["--open"]);
    deposits(&mumbai, 20_000);
    let ask = || {
        let mut stream = connect_narrow(bridge.port());
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = bridge.request("GET", "/history?format=csv").header("Connection", "close").text();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let (text, is_whole) = download(ask(), || {});
    assert!(is_whole && text.matches(",deposit,").count() >= 20_000 && !text.contains("# cut off"));
    let (text, is_whole) = download(ask(), || mumbai.kill9());
    assert!(!is_whole, "it ended as a whole one with {} rows", text.matches(",deposit,").count());
}

#[test]
fn a_download_that_is_cut_says_so() {
    let (_bank, mumbai, bridge) = one(&["--open"]);
    deposits(&mumbai, 1_000);
    let cut = bridge.get("/history?format=csv&limit=10").text;
    let last = cut.lines().last().unwrap();
    assert!(cut.lines().count() == 12 && last.starts_with("\"# cut off after 10 rows; "), "{cut}");
    let (_, after) = last.trim_end_matches(",\"").split_once("after=").unwrap();
    let rest = bridge.get(&format!("/history?format=csv&after={after}")).text;
    assert!(rest.lines().count() > 990 && !rest.contains("# cut off"), "{}", rest.lines().count());
}

#[test]
fn answers_that_nobody_reads_are_bounded_and_others_are_served() {
    let (_bank, mumbai, bridge) = one(&[]);
    deposits(&mumbai, 10_000);
    let ask = || bridge.request("GET", "/history?limit=10000").basic("1001", "1001").header("Connection", "close");
    for _ in 0..4 {
        assert_eq!(ask().send().ok().as_array().unwrap().len(), 10_000);
    }
    let other = bridge.sign_in("Mumbai", "1002", "1002");
    let before_kib = resident_kib(bridge.process_id());
    let unread: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect_narrow(bridge.port());
            stream.write_all(ask().text().as_bytes()).unwrap();
            stream
        })
        .collect();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        bridge.request("POST", "/balance").session(&other).send().ok();
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        let grown_kib = resident_kib(bridge.process_id()).saturating_sub(before_kib);
        assert!(grown_kib < 64 << 10, "{grown_kib} KiB");
    }
    drop(unread);
    wait_until("the customer is served again", || ask().try_send().is_ok_and(|answer| answer.status() == 200));
}

#[test]
fn a_stream_passes_a_proxy_event_by_event() {
    let (_bank, _mumbai, bridge) = one(&["--open"]);
    let stream = bridge.request("GET", "/events").events();
    assert_eq!(stream.header("x-accel-buffering"), Some("no"));
    let cached = stream.header("cache-control").unwrap();
    assert!(cached.contains("no-transform") && cached.contains("no-cache"), "{cached}");
}

#[test]
fn a_proxy_is_believed_only_where_it_is_trusted() {
    for (flags, is_trusted) in [(&[][..], false), (&["--trust-proxy", "127.0.0.1"][..], true)] {
        let (_bank, _mumbai, bridge) = one(flags);
        let sign_in = |account: u32, password: &str, client: &str| {
            let form = format!("branch=Mumbai&account={account}&password={password}");
            let request = bridge.request("POST", "/session").header("X-Forwarded-For", client);
            request.header("X-Forwarded-Proto", "https").body(FORM, &form).send()
        };
        let cookie = sign_in(1001, "1001", "203.0.113.1").header("set-cookie").unwrap().to_string();
        assert_eq!(cookie.contains("; Secure"), is_trusted, "{cookie}");
        let guesses: Vec<_> = (2_000..2_025).map(|number| sign_in(number, "guess", "203.0.113.2").status()).collect();
        assert_eq!(guesses.last(), Some(&429), "{guesses:?}");
        let status = sign_in(1001, "1001", "203.0.113.1").status();
        assert_eq!(
            status == 200,
            is_trusted,
            "whoever else asks pays for it only where the proxy is not known: {status}"
        );
    }
}

#[test]
fn two_bridges_on_one_host_keep_their_cookies_apart() {
    let (_bank, mumbai, bridge) = one(&[]);
    let second = Bridge::start(&[("Mumbai", &mumbai)], &[]);
    let (here, there) = (bridge.sign_in("Mumbai", "0", "root"), second.sign_in("Mumbai", "1001", "1001"));
    // A browser sends both to both.
    let cookies = format!("{}; {}", here.cookie, there.cookie);
    let role =
        |bridge: &Bridge| bridge.request("GET", "/session").header("Cookie", &cookies).send().ok()["role"].clone();
    assert_eq!((role(&bridge), role(&second)), (json!("administrator"), json!("customer")));
}

#[test]
fn metrics_come_in_the_format_that_is_asked_for() {
    let (_bank, _mumbai, bridge) = one(&["--open"]);
    bridge.get("/healthz").ok();
    let metrics = |accept: &str| bridge.request("GET", "/metrics").header("Accept", accept).send();
    let older = metrics("*/*");
    assert_eq!(older.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(older.text.contains("# TYPE bank_bridge_requests_total counter\n") && !older.text.contains("# EOF"));
    let newer = metrics("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5");
    assert_eq!(newer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(newer.text.contains("# TYPE bank_bridge_requests counter\n") && newer.text.ends_with("# EOF\n"));
}

#[test]
fn what_is_given_twice_or_not_known_is_refused() {
    let (_bank, mumbai, bridge) = one(&["--open"]);
    for form in [
        "branch=Mumbai&account=1001&amount=1&amount=2",
        "branch=Mumbai&account=1001&amount=&amount=2",
        "branch=Mumbai&account=1001&account_no=1002&amount=1",
    ] {
        bridge.form("/deposit", form).refused(400, "invalid_params");
    }
    bridge.form("/deposit?amount=1", "branch=Mumbai&account=1001&amount=2").refused(400, "invalid_params");
    let twice = r#"{"branch":"Mumbai","account":"1001","amount":1,"amount":2}"#;
    bridge.request("POST", "/deposit").body(JSON, twice).send().refused(400, "invalid_params");
    bridge.get("/history?branch=Mumbai&type=deposit&type=withdrawal").refused(400, "invalid_params");
    for path in ["/history?accuont=1001", "/list_accounts?branch=Mumbai&name=Asha", "/transfers?branch=Mumbai"] {
        bridge.get(path).refused(400, "invalid_params");
    }
    bridge.form("/get_logs", "branch=Mumbai&acount=1001").refused(400, "invalid_params");
    assert_eq!(mumbai.connect().balance(1001), "1000.00");
}

#[test]
fn older_programs_name_a_port_and_an_account() {
    let (_bank, mumbai, bridge) = one(&["--open"]);
    let place = format!("port={}", mumbai.port());
    bridge.form("/deposit", &format!("{place}&account=1001&amount=5")).ok();
    let rows = bridge.form("/get_logs", &format!("{place}&account=1001")).ok();
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
    let mut connection = mumbai.connect();
    let same = connection.ask("get_logs", json!({"account": "1001"})).ok();
    assert_eq!(same, rows);
    connection.ask("history", json!({"account": "1001", "account_no": "1002"})).refused("invalid_params");
    connection.ask("history", json!({"kind": "deposit"})).refused("invalid_params");
    let open = |number: usize| json!({"action": "create_account", "params": {"name": format!("Customer {number}")}});
    let requests: Vec<Value> = (0..1_200).map(open).collect();
    connection.ask("batch", json!({ "requests": requests })).ok();
    assert_eq!(connection.ask("list_accounts", json!({})).ok().as_array().unwrap().len(), 1_202);
    let listed = bridge.get(&format!("/list_accounts?{place}"));
    assert_eq!((listed.ok().as_array().unwrap().len(), &listed.json["next"]), (1_202, &Value::Null));
}

#[test]
fn no_number_of_the_operating_system_is_told() {
    let (_bank, mut mumbai, bridge) = one(&["--open"]);
    mumbai.kill9();
    let balance = || bridge.form("/balance", "branch=Mumbai&account=1001");
    wait_until("the branch is seen to be down", || bridge.get("/healthz").json["result"]["up"] == 0);
    let answer = balance();
    answer.refused(502, "branch_unreachable");
    assert!(!answer.text.contains("os error"), "{}", answer.text);
}

#[test]
fn a_lesson_outlives_no_bridge() {
    let bank = Bank::new();
    let branches = ["Mumbai", "Delhi"].map(|name| bank.start(name, Options::named(name).flag("--teaching")));
    Bank::introduce(&[&branches[0], &branches[1]]);
    let mut bridge = Bridge::start(&[("Mumbai", &branches[0]), ("Delhi", &branches[1])], &["--open"]);
    let set = || {
        let stages = branches.iter().map(|branch| branch.connect().ask("stage", json!({})).ok());
        stages.filter(|stage| stage["step_mode"] == true || stage["faults"] != json!([])).count()
    };
    wait_until("the lesson begins", || bridge.form("/scenarios/cut-link-in-doubt", "").status() == 200);
    wait_until("something is set", || {
        bridge.form("/scenarios/next", "").ok();
        set() > 0
    });
    bridge.form("/teaching/Delhi/fault", "peer=Mumbai&fault=cut").ok();
    bridge.signal(Signal::KILL);
    bridge.wait();
    wait_until_within(LEASE_ENDS_WITHIN, "the branches let go", || set() == 0);
    Bank::wait_until_settled(&[&branches[0], &branches[1]]);
}

fn resident_kib(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

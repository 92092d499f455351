//! Who may do what at the bridge: sessions, HTTP Basic, customers, other sites' pages.

use bank_tests::{Bank, Branch, Bridge, FORM, Options, SignedIn, wait_until};
use serde_json::json;

fn pair(flags: &[&str]) -> (Bank, Branch, Branch, Bridge) {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    let bridge = Bridge::start(&[("Mumbai", &mumbai), ("Delhi", &delhi)], flags);
    (bank, mumbai, delhi, bridge)
}

#[test]
fn without_signing_in_only_the_way_in_is_open() {
    let (_bank, mumbai, _delhi, bridge) = pair(&[]);
    let document = bridge.get("/openapi.json").json;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let path = path.replace("{branch}", "Mumbai").replace("{file}", "app.js");
            let answer = bridge.request(&method.to_uppercase(), &path).send();
            if operation["x-access"] == "anyone" {
                assert_ne!(answer.json["code"], "not_signed_in", "{method} {path}");
            } else {
                answer.refused(401, "not_signed_in");
            }
        }
    }
    bridge.form("/deposit", "branch=Mumbai&account=1001&amount=1").refused(401, "not_signed_in");
    assert_eq!(mumbai.connect().balance(1001), "1000.00");
    let session = bridge.get("/session").ok();
    assert_eq!((&session["signed_in"], &session["role"]), (&json!(false), &json!(null)));
    assert_eq!(session["branches"], json!(["Mumbai", "Delhi"]));
    assert_eq!(
        bridge.get("/branches").ok(),
        json!([{"name": "Mumbai", "state": "up"}, {"name": "Delhi", "state": "up"}])
    );
}

#[test]
fn a_session_begins_with_a_password_and_ends_by_signing_out() {
    let (_bank, _mumbai, _delhi, bridge) = pair(&[]);
    let wrong = bridge.form("/session", "branch=Delhi&account=0&password=guess");
    wrong.refused(401, "wrong_login");
    assert!(wrong.header("set-cookie").is_none());
    bridge.form("/session", "branch=Delhi&account=4711&password=root").refused(401, "wrong_login");
    bridge.form("/session", "branch=Pune&account=0&password=root").refused(403, "branch_not_allowed");
    bridge.form("/session", "branch=Delhi&account=0").refused(400, "invalid_params");
    let right = bridge.form("/session", "branch=Delhi&account=0&password=root");
    let cookie = right.header("set-cookie").unwrap();
    let name = format!("bank_session_{}=", bridge.port());
    for part in [name.as_str(), "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "{cookie}");
    let session = right.ok();
    assert_eq!((&session["role"], &session["branch"]), (&json!("administrator"), &json!("Delhi")));
    let signed_in = bridge.sign_in("Delhi", "0", "root");
    let get = |path: &str| bridge.request("GET", path).session(&signed_in).send();
    assert_eq!(get("/session").ok()["csrf"], signed_in.csrf);
    get("/audit").ok();
    bridge.request("DELETE", "/session").header("Cookie", &signed_in.cookie).send().refused(403, "csrf");
    bridge.request("DELETE", "/session").session(&signed_in).send().ok();
    get("/audit").refused(401, "not_signed_in");
    bridge.request("GET", "/audit").header("Cookie", &format!("{name}guess")).send().refused(401, "not_signed_in");
}

#[test]
fn a_write_with_a_cookie_needs_the_sessions_token() {
    let (_bank, mumbai, _delhi, bridge) = pair(&[]);
    let signed_in = bridge.sign_in("Mumbai", "0", "root");
    let other = bridge.sign_in("Mumbai", "1001", "1001");
    let deposit = |token: Option<&str>| {
        let request = bridge.request("POST", "/deposit").header("Cookie", &signed_in.cookie);
        let request = token.into_iter().fold(request, |request, token| request.header("X-CSRF-Token", token));
        request.body(FORM, "branch=Mumbai&account=1001&amount=1").send()
    };
    deposit(None).refused(403, "csrf");
    deposit(Some("")).refused(403, "csrf");
    deposit(Some(&other.csrf)).refused(403, "csrf");
    let twice = bridge.request("POST", "/deposit").session(&signed_in).header("X-CSRF-Token", &other.csrf);
    twice.body(FORM, "branch=Mumbai&account=1001&amount=1").send().refused(403, "csrf");
    assert_eq!(mumbai.connect().balance(1001), "1000.00");
    deposit(Some(&signed_in.csrf)).ok();
    assert_eq!(mumbai.connect().balance(1001), "1001.00");
}

#[test]
fn scripts_sign_in_by_http_basic() {
    let (_bank, _mumbai, _delhi, bridge) = pair(&[]);
    let audit = |name: &str, password: &str| bridge.request("GET", "/audit").basic(name, password).send();
    audit("0", "root").ok();
    audit("Delhi/0", "root").ok();
    audit("Delhi/0", "guess").refused(401, "wrong_login");
    audit("Pune/0", "root").refused(401, "wrong_login");
    audit("root", "root").refused(401, "wrong_login");
    audit("1001", "1001").refused(403, "not_allowed");
    let balance = |name: &str| bridge.request("POST", "/balance").basic(name, "1002").body(FORM, "").send();
    assert_eq!(balance("Delhi/1002").ok()["name"], "Vikram Shah");
    bridge.request("GET", "/audit").header("Authorization", "Bearer x").send().refused(401, "not_signed_in");
    bridge.request("GET", "/audit").header("Authorization", "Basic ???").send().refused(401, "not_signed_in");
}

#[test]
fn a_customer_sees_and_moves_the_own_account_alone() {
    let (_bank, mumbai, delhi, bridge) = pair(&[]);
    let own = bridge.sign_in("Mumbai", "1001", "1001");
    let post = |path: &str, form: &str| bridge.request("POST", path).session(&own).body(FORM, form).send();
    let get = |path: &str| bridge.request("GET", path).session(&own).send();
    // What is theirs, named or not.
    assert_eq!(post("/balance", "").ok()["name"], "Asha Rao");
    post("/deposit", "amount=5").ok();
    post("/withdraw", "branch=Mumbai&account=1001&amount=5").ok();
    post("/transfer", "dest_branch=Delhi&dest_account=1002&amount=10").ok();
    post("/transfer", "src_account=1001&dest_account=1002&amount=10").ok();
    for rows in [post("/get_logs", "").ok(), get("/history").ok()] {
        assert_eq!(rows.as_array().unwrap().len(), 5, "{rows}");
    }
    assert_eq!(get("/history?format=csv").text.lines().count(), 6);
    assert_eq!(get("/branches").ok(), json!([{"name": "Mumbai", "state": "up"}, {"name": "Delhi", "state": "up"}]));
    // What is not: another number, and the same number elsewhere.
    let (at_mumbai, at_delhi) = (mumbai.connect().balance(1002), delhi.connect().balance(1001));
    let by_port = format!("host=127.0.0.1&port={}", delhi.port());
    for place in ["account=1002", "branch=Delhi&account=1001", "branch=Delhi", by_port.as_str()] {
        post("/balance", place).refused(403, "not_allowed");
        post("/deposit", &format!("{place}&amount=1")).refused(403, "not_allowed");
        post("/withdraw", &format!("{place}&amount=1")).refused(403, "not_allowed");
        post("/get_logs", place).refused(403, "not_allowed");
        get(&format!("/history?{place}")).refused(403, "not_allowed");
        get(&format!("/history?{place}&format=csv")).refused(403, "not_allowed");
    }
    for source in ["src_account=1002", "src_branch=Delhi", "src_branch=Delhi&src_account=1001"] {
        post("/transfer", &format!("{source}&dest_branch=Mumbai&dest_account=1001&amount=1"))
            .refused(403, "not_allowed");
    }
    assert_eq!((mumbai.connect().balance(1002), delhi.connect().balance(1001)), (at_mumbai, at_delhi));
    // And nothing that is an administrator's.
    let document = bridge.get("/openapi.json").json;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation["x-access"] == "administrator" {
                let path = path.replace("{branch}", "Mumbai");
                let request = bridge.request(&method.to_uppercase(), &path).session(&own);
                request.send().refused(403, "not_allowed");
            }
        }
    }
}

#[test]
fn a_closed_accounts_session_is_over() {
    let (_bank, _mumbai, _delhi, bridge) = pair(&[]);
    let (own, other) = (bridge.sign_in("Mumbai", "1001", "1001"), bridge.sign_in("Delhi", "1001", "1001"));
    let close = bridge.request("POST", "/close_account").basic("0", "root");
    close.body(FORM, "branch=Mumbai&account=1001").send().ok();
    let role = |session: &SignedIn| bridge.request("GET", "/session").session(session).send().ok()["role"].clone();
    assert_eq!((role(&own), role(&other)), (json!(null), json!("customer")));
}

#[test]
fn wrong_passwords_are_slowed_down_and_right_ones_are_not() {
    let (_bank, _mumbai, _delhi, bridge) = pair(&[]);
    for _ in 0..30 {
        bridge.request("POST", "/balance").basic("1002", "1002").send().ok();
    }
    let guess = |account: &str| bridge.form("/session", &format!("branch=Mumbai&account={account}&password=guess"));
    // The branch slows guesses at one account down.
    let paused = (0..12).map(|_| guess("1001")).find(|answer| answer.status() != 401).unwrap();
    paused.refused(429, "locked_out");
    let right = bridge.form("/session", "branch=Mumbai&account=1001&password=1001");
    right.refused(429, "locked_out");
    bridge.form("/session", "branch=Mumbai&account=1002&password=1002").ok();
    // The bridge slows down whoever tries one account after another.
    let last =
        (0..30).map(|number| guess(&format!("{}", 2000 + number))).find(|answer| answer.status() != 401).unwrap();
    last.refused(429, "too_many_attempts");
    assert!(last.header("retry-after").unwrap().parse::<u64>().unwrap() <= 61);
    // Passwords that were right a moment ago are not asked for again.
    bridge.request("POST", "/balance").basic("1002", "1002").body(FORM, "").send().ok();
}

#[test]
fn another_sites_page_can_do_nothing_even_at_an_open_bridge() {
    let (_bank, mumbai, _delhi, bridge) = pair(&["--open"]);
    let deposit = || bridge.request("POST", "/deposit").body(FORM, "branch=Mumbai&account=1001&amount=1");
    for request in [
        deposit().header("Origin", "http://evil.example"),
        deposit().header("Origin", "null"),
        deposit().header("Origin", "http://localhost:3000"),
        deposit().header("Sec-Fetch-Site", "cross-site"),
        deposit().host("evil.example"),
        deposit().host(&format!("evil.example:{}", bridge.port())),
        deposit().host("127.0.0.1:1"),
        bridge.request("GET", "/branches").host("evil.example"),
        bridge.request("GET", "/").host("evil.example"),
    ] {
        request.send().refused(403, "foreign_request");
    }
    assert_eq!(mumbai.connect().balance(1001), "1000.00");
    let own = format!("http://localhost:{}", bridge.port());
    let request = deposit().host(&format!("localhost:{}", bridge.port())).header("Origin", &own);
    request.header("Sec-Fetch-Site", "same-origin").send().ok();
    let answer = bridge.request("OPTIONS", "/deposit").header("Origin", "http://evil.example").send();
    answer.refused(403, "foreign_request");
    assert!(answer.header("access-control-allow-origin").is_none());
}

#[test]
fn an_open_branch_needs_no_key() {
    let branch = Branch::start(Options::preloaded().flag("--open"));
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--open".to_string(), format!("--branch=Mumbai=127.0.0.1:{}", branch.port())];
    let bridge = Bridge::start_with(&arguments, folder.path());
    wait_until("the open branch is up", || bridge.get("/healthz").ok()["up"] == 1);
    bridge.form("/deposit", "branch=Mumbai&account=1001&amount=1").ok();
}

//! `bank-bridge demo`, the whole bank that a lecture starts: three branches and the bridge, a crash and a restart by
//! HTTP, one Ctrl-C that ends it all, a second start that finds it as it was, and nobody left behind in any case.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{DEADLINE, ProgramLog, audit, open_terminal, program, wait_until, wait_until_within};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

/// The administrator, `0:root`, in HTTP Basic.
const ADMINISTRATOR: &str = "MDpyb290";
const BRANCHES: [&str; 3] = ["Mumbai", "Delhi", "Pune"];
/// One Ctrl-C ends everything in about three seconds; this is what a loaded machine is granted.
const END_WITHIN: Duration = Duration::from_secs(6);

/// A demo that runs; killed when dropped.
struct Demo {
    bridge: Child,
    address: String,
    log: ProgramLog,
    /// What it said before the address.
    introduction: String,
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(program("bank-bridge"));
    command.args(["demo", "--any-ports", "--dir"]).arg(folder);
    // None of this may reach the branches.
    command.env("BANK_NAME", "Nowhere").env("BANK_OPENING_BALANCE", "1").env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Demo {
    fn start(folder: &Path) -> Self {
        Self::run(command(folder))
    }

    fn run(mut command: Command) -> Self {
        let mut bridge = command.spawn().unwrap();
        let log = ProgramLog::collect(bridge.stderr.take().unwrap());
        let mut introduction = String::new();
        let mut address = None;
        for line in BufReader::new(bridge.stdout.take().unwrap()).lines().map_while(Result::ok) {
            if let Some(found) = line.strip_prefix("bridge on http://") {
                address = Some(found.to_string());
                break;
            }
            introduction += &(line + "\n");
        }
        let address = address.unwrap_or_else(|| panic!("it did not start: {}", log.whole()));
        Self { bridge, address, log, introduction }
    }

    /// Sends a request as the administrator, and gives its status and the JSON.
    fn http(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {ADMINISTRATOR}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }

    #[track_caller]
    fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.http(method, path, body);
        assert_eq!((status, &answer["status"]), (200, &json!("ok")), "{method} {path}: {answer}");
        answer["result"].clone()
    }

    fn balance(&self, branch: &str, account: u64) -> String {
        self.ok("POST", "/balance", &json!({"branch": branch, "account": account}))["balance"].to_string()
    }

    /// What the bridge shows of a branch.
    fn card(&self, branch: &str) -> Value {
        let cards = self.ok("GET", "/branches", &Value::Null);
        cards.as_array().unwrap().iter().find(|card| card["name"] == branch).unwrap().clone()
    }

    fn wait_until_all_are_up(&self) {
        for branch in BRANCHES {
            wait_until("a branch is up", || self.card(branch)["state"] == "up");
        }
    }

    /// All transfers that it shows, the newest first, each with its events.
    fn transfers(&self) -> Vec<(Value, Value)> {
        let list = self.ok("GET", "/transfers", &Value::Null);
        let whole = |line: &Value| {
            let path = format!("/transfers/{}", line["txid"].as_str().unwrap());
            (line.clone(), self.ok("GET", &path, &Value::Null)["events"].clone())
        };
        list.as_array().unwrap().iter().map(whole).collect()
    }

    /// The processes of its branches.
    fn branches(&self) -> Vec<Pid> {
        let parent = format!("PPid:\t{}", self.bridge.id());
        let is_ours = |folder: &Path| {
            fs::read_to_string(folder.join("status")).is_ok_and(|status| status.lines().any(|line| line == parent))
        };
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let ours = processes.filter(|path| is_ours(path));
        ours.filter_map(|path| Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?)).collect()
    }

    /// Sends a signal and waits for the end of the bridge and of all its branches.
    #[track_caller]
    fn end(self, signal: Signal) -> ExitStatus {
        let bridge = Pid::from_child(&self.bridge);
        self.end_by(|| kill_process(bridge, signal).unwrap())
    }

    #[track_caller]
    fn end_by(mut self, act: impl FnOnce()) -> ExitStatus {
        let branches = self.branches();
        assert_eq!(branches.len(), BRANCHES.len());
        let start = Instant::now();
        act();
        let mut ended = None;
        wait_until_within(END_WITHIN, "the bridge ends", || {
            ended = self.bridge.try_wait().unwrap();
            ended.is_some()
        });
        // Those whose parent is gone are nobody's children that we could wait for.
        let left = END_WITHIN.saturating_sub(start.elapsed());
        wait_until_within(left, "no branch is left", || branches.iter().all(|pid| !runs(*pid)));
        ended.unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended already, if the test ended it.
        let _ = self.bridge.kill();
        let _ = self.bridge.wait();
    }
}

/// Whether a process is there and is more than an entry that waits to be taken away.
fn runs(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
    test_kill_process(pid).is_ok() && status.is_ok_and(|status| !status.contains("State:\tZ"))
}

fn transfer(from: &str, to: &str, amount: &str) -> Value {
    json!({"src_branch": from, "src_account": 1001, "dest_branch": to, "dest_account": 1003, "amount": amount})
}

/// Whether the same transfers are there in the same order, each with all its events; one may have ended since.
fn is_shown_again(before: &[(Value, Value)], now: &[(Value, Value)]) -> bool {
    let events = |events: &Value| events.as_array().unwrap().clone();
    let is_same = |((line, told), (again, more)): (&(Value, Value), &(Value, Value))| {
        let more = events(more);
        // Who took part is listed in the order in which the branches were heard.
        let is_same_line =
            ["txid", "text", "outcome", "coordinator", "at_unix_ms"].iter().all(|key| line[key] == again[key]);
        is_same_line && events(told).iter().all(|event| more.contains(event))
    };
    before.len() == now.len() && before.iter().zip(now).all(is_same)
}

#[test]
fn a_lecture_from_start_to_end_and_a_second_one() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path());
    for said in ["Mumbai", "Delhi", "Pune", "password root", "Ctrl-C", "menu port"] {
        assert!(demo.introduction.contains(said), "{said:?} in {}", demo.introduction);
    }
    demo.wait_until_all_are_up();
    for branch in BRANCHES {
        let card = demo.card(branch);
        assert_eq!(
            (&card["accounts"], &card["teaching"], &card["restartable"]),
            (&json!(6), &json!(true), &json!(true))
        );
    }
    let accounts = demo.ok("GET", "/list_accounts?branch=Pune", &Value::Null);
    assert_eq!(accounts[2]["name"], "Sneha Kulkarni", "{accounts}");
    assert_eq!(demo.balance("Delhi", 1003), "3200.00");
    demo.ok("POST", "/transfer", &transfer("Mumbai", "Delhi", "50.00"));
    demo.ok("POST", "/transfer", &transfer("Delhi", "Pune", "25.00"));

    // Delhi promises, and dies before it says so.
    demo.ok("POST", "/teaching/Delhi/crash", &json!({"at": "after-vote"}));
    demo.ok("POST", "/transfer", &transfer("Mumbai", "Delhi", "7.00"));
    wait_until("Delhi is seen to be down", || demo.card("Delhi")["state"] == "down");
    wait_until("its end is told", || demo.log.text().contains("branch Delhi has ended"));
    assert_eq!(demo.branches().len(), 2, "it is not started again by itself");
    demo.ok("POST", "/teaching/Delhi/restart", &Value::Null);
    wait_until("Delhi has its money", || {
        let answer = demo.http("POST", "/balance", &json!({"branch": "Delhi", "account": 1003}));
        let balance = answer.1["result"]["balance"].to_string();
        balance == "3257.00"
    });
    demo.wait_until_all_are_up();
    // One that runs is left as it is.
    let processes = demo.branches();
    demo.ok("POST", "/teaching/Delhi/restart", &Value::Null);
    assert_eq!(demo.branches(), processes);
    demo.ok("POST", "/transfer", &transfer("Pune", "Delhi", "1.00"));
    assert_eq!(demo.http("POST", "/teaching/Atlantis/restart", &Value::Null).0 / 100, 4);

    let mut shown = Vec::new();
    wait_until("all four transfers are told to their ends", || {
        shown = demo.transfers();
        shown.iter().filter(|(line, _)| line["outcome"] == "committed").count() >= 4
    });
    assert_eq!(demo.end(Signal::INT).code(), Some(0));
    for branch in BRANCHES {
        audit(&folder.path().join(format!("{branch}.db"))).assert_clean();
    }

    let demo = Demo::start(folder.path());
    demo.wait_until_all_are_up();
    assert_eq!(demo.balance("Mumbai", 1001), "943.00");
    assert_eq!(demo.balance("Delhi", 1003), "3258.00");
    assert_eq!(demo.balance("Pune", 1003), "7325.00");
    assert!(BRANCHES.iter().all(|branch| demo.card(branch)["accounts"] == 6), "nobody is there twice");
    // What was drawn yesterday is drawn today, event by event, and in the same order.
    wait_until("all transfers of before are there", || is_shown_again(&shown, &demo.transfers()));
    demo.ok("POST", "/transfer", &transfer("Pune", "Mumbai", "1.00"));
    // Killed, it takes its branches along as well, and the next one starts where they were.
    demo.end(Signal::KILL);
    let demo = Demo::start(folder.path());
    demo.wait_until_all_are_up();
    assert_eq!(demo.balance("Mumbai", 1003), "2501.00");
    demo.end(Signal::TERM);
}

#[test]
fn it_ends_with_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let (person, terminal) = open_terminal();
    let mut command = command(folder.path());
    // It is not the terminal's first process, so the system tells it nothing.
    command.stdin(terminal);
    let demo = Demo::run(command);
    demo.wait_until_all_are_up();
    assert_eq!(demo.end_by(|| drop(person)).code(), Some(0));
}

#[test]
fn one_demo_to_a_folder_and_only_a_demo_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |flag: &str, why: &str| {
        let output = command(folder.path()).args([flag].iter().filter(|flag| !flag.is_empty())).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(why), "{text}");
    };
    refused("--forget", "left alone");
    let demo = Demo::start(folder.path());
    refused("", "already");
    refused("--forget", "already");
    demo.wait_until_all_are_up();
    assert_eq!(demo.branches().len(), 3, "the one that runs goes on");
    demo.end(Signal::INT);
    assert!(command(folder.path()).arg("--forget").status().unwrap().success());
    assert!(!folder.path().exists());
}

#[test]
fn a_branch_that_cannot_start_is_named_and_nobody_is_left() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Delhi.db"), "this is no database, and a demo must not make it one").unwrap();
    let before = fs::read(folder.path().join("Delhi.db")).unwrap();
    let child = command(folder.path()).spawn().unwrap();
    let output = thread::spawn(move || child.wait_with_output().unwrap()).join().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("branch Delhi did not start: ") && text.contains("Delhi.log"), "{text}");
    assert_eq!(fs::read(folder.path().join("Delhi.db")).unwrap(), before);
    // Mumbai had been started, and has given its database back.
    audit(&folder.path().join("Mumbai.db")).assert_clean();
}

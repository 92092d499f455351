//! The audit of all branches: who answers, what is under way, what stands.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bank_tests::{
    Bank, Branch, BranchConnection, Bridge, Options, SetOnDrop, Transcript, client_command, replica_options,
    server_command, wait_until,
};
use serde_json::{Value, json};

/// `bank-client audit --all`, asked of this branch.
fn audit_all(bank: &Bank, asked: &Branch) -> Transcript {
    let mut command = client_command();
    command.current_dir(bank.folder()).args(["--port", &asked.port().to_string(), "--json", "audit", "--all"]);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Transcript { stdout: text(&output.stdout), stderr: text(&output.stderr), status: output.status.code() }
}

fn whole(transcript: &Transcript) -> Value {
    serde_json::from_str(&transcript.stdout).unwrap_or_else(|error| panic!("{error}: {transcript:?}"))
}

fn transfer(to: &str, account: u64, amount: &str) -> Value {
    json!({"src_account_no": 1001, "dest_account_no": account, "dest_branch": to, "amount": amount})
}

/// Restores a branch from a backup that was made before it received 70 from Mumbai.
fn forget_seventy(bank: &Bank, mumbai: &Branch, delhi: &mut Branch) {
    let copy = bank.folder().join("copy.db");
    let on_file = |arguments: &[&str]| {
        let mut command = server_command();
        let output = command.args(arguments).arg(&copy).arg("--db").arg(delhi.database_path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    on_file(&["backup"]);
    assert_eq!(mumbai.connect().ask("inter_branch_transfer", transfer("Delhi", 1001, "70")).ok()["delivery"], "done");
    Bank::wait_until_settled(&[mumbai, delhi]);
    assert_eq!(delhi.stop(), Some(0));
    let mut command = server_command();
    let output =
        command.args(["restore", "--force"]).arg(&copy).arg("--db").arg(delhi.database_path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    delhi.restart();
}

#[test]
fn another_branch_at_an_address_is_counted_for_itself_and_once() {
    let bank = Bank::new();
    let (mumbai, mut delhi, mut pune) = (bank.branch("Mumbai"), bank.branch("Delhi"), bank.branch("Pune"));
    Bank::introduce(&[&mumbai, &delhi, &pune]);
    assert_eq!(audit_all(&bank, &mumbai).status, Some(0));
    let port = pune.port();
    assert_eq!((pune.stop(), delhi.stop()), (Some(0), Some(0)));
    let at_pune = Options::named("Delhi").database(delhi.database_path()).value("--port", port);
    let _usurper = Branch::start(at_pune);
    let said = audit_all(&bank, &mumbai);
    let whole = whole(&said);
    assert_eq!(said.status, Some(2), "{said:?}");
    let heard: Vec<_> = whole["branches"].as_object().unwrap().keys().collect();
    assert_eq!(heard, ["Delhi", "Mumbai"], "{said:?}");
    assert!(whole["unreachable"]["Pune"].as_str().unwrap().contains("the branch Delhi"), "{said:?}");
}

#[test]
fn a_replica_does_not_speak_for_its_branch_and_ends_nothing() {
    let bank = Bank::new();
    let (mumbai, delhi, pune) = (bank.branch("Mumbai"), bank.branch("Delhi"), bank.branch("Pune"));
    let replica = bank.start("copy", replica_options("Delhi", &delhi));
    replica.wait_until_following();
    Bank::introduce(&[&mumbai, &pune]);
    // Mumbai is told that Delhi is where its replica is.
    drop(delhi);
    let address = format!("Delhi=127.0.0.1:{}", replica.port());
    let asked = bank.start("Goa", Options::named("Goa").value("--peers", address));
    Bank::introduce(&[&asked, &pune]);
    let said = audit_all(&bank, &asked);
    assert_eq!(said.status, Some(2), "{said:?}");
    let whole = whole(&said);
    assert!(whole["unreachable"]["Delhi"].as_str().unwrap().contains("no primary (replica)"), "{said:?}");
    assert_eq!(whole["branches"]["Pune"]["ok"], true, "{said:?}");
}

#[test]
fn right_books_are_right_beside_any_load() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    let stop = AtomicBool::new(false);
    let key = bank.key();
    let bridge = Bridge::start(&[("Mumbai", &mumbai), ("Delhi", &delhi)], &["--open"]);
    thread::scope(|scope| {
        let _end = SetOnDrop(&stop);
        for (port, to) in [(mumbai.port(), "Delhi"), (delhi.port(), "Mumbai")].into_iter().cycle().take(8) {
            let (stop, key) = (&stop, &key);
            scope.spawn(move || {
                let mut connection = BranchConnection::connect_with(port, key).unwrap();
                while !stop.load(Ordering::SeqCst) {
                    connection.ask("inter_branch_transfer", transfer(to, 1002, "1"));
                }
            });
        }
        for _ in 0..8 {
            let said = audit_all(&bank, &mumbai);
            assert_eq!(said.status, Some(0), "{said:?}");
            let audit = bridge.get("/audit").ok();
            assert_eq!(audit["ok"], true, "{audit}");
        }
    });
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    let whole = whole(&audit_all(&bank, &mumbai));
    assert_eq!((&whole["ok"], &whole["under_way"]), (&json!(true), &json!([])), "{whole}");
}

#[test]
fn a_standing_difference_is_named_beside_what_is_under_way() {
    let bank = Bank::new();
    let (mumbai, mut delhi) = (bank.start("Mumbai", Options::named("Mumbai").flag("--teaching")), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    forget_seventy(&bank, &mumbai, &mut delhi);
    let bridge = Bridge::start(&[("Mumbai", &mumbai), ("Delhi", &delhi)], &["--open"]);
    let names_seventy = |findings: &Value| {
        let findings = findings.as_array().unwrap();
        findings.len() == 1 && findings[0].as_str().unwrap().contains("Mumbai has sent 70.00")
    };
    let mut connection = mumbai.connect();
    connection.ask("step_mode", json!({"on": true})).ok();
    thread::scope(|scope| {
        let under_way = scope.spawn(|| mumbai.connect().ask("inter_branch_transfer", transfer("Delhi", 1002, "5")));
        for _ in 0..3 {
            let said = audit_all(&bank, &mumbai);
            assert_eq!(said.status, Some(1), "{said:?}");
            assert!(names_seventy(&whole(&said)["findings"]), "{said:?}");
            let audit = bridge.get("/audit").ok();
            assert!(audit["ok"] == false && names_seventy(&audit["findings"]), "{audit}");
        }
        connection.ask("step_mode", json!({"on": false})).ok();
        let _ = under_way.join().unwrap();
    });
    wait_until("only the seventy are named still", || names_seventy(&bridge.get("/audit").ok()["findings"]));
}

//! `bank-client`'s direct commands against real branches, run in the bank's folder, where they find its key by
//! themselves: the command lines of the design as they are written, long and short forms, exit statuses, JSON, the
//! audit of all branches, and the trace of a transfer.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::thread;

use bank_tests::{Bank, Branch, Options, Transcript, client_command, has_unread_bytes, wait_until};
use rustix::process::Signal;
use serde_json::Value;

/// Runs a command in the bank's folder, against the branch at this port, with this on standard input.
fn run(bank: &Bank, port: u16, line: &str, input: &str) -> Transcript {
    let mut command = client_command();
    command.current_dir(bank.folder()).args(["--port", &port.to_string()]).args(line.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that has no use for its input may have ended before it was written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Transcript { stdout: text(&output.stdout), stderr: text(&output.stderr), status: output.status.code() }
}

/// Runs a command that is carried out, and gives what it says.
#[track_caller]
fn done(bank: &Bank, branch: &Branch, line: &str) -> String {
    let transcript = run(bank, branch.port(), line, "");
    assert_eq!(transcript.status, Some(0), "{line}: {transcript:?}");
    assert_eq!(transcript.stderr, "", "{line}: {transcript:?}");
    transcript.stdout
}

/// Runs a command that ends with this status and says why.
#[track_caller]
fn fails(bank: &Bank, branch: &Branch, line: &str, status: i32, why: &str) {
    let transcript = run(bank, branch.port(), line, "");
    assert_eq!(transcript.status, Some(status), "{line}: {transcript:?}");
    assert!(transcript.stderr.contains(why), "{line}: {why:?} in {transcript:?}");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The id of a transfer that was made with `--json`.
fn txid(answer: &str) -> String {
    json(answer)["result"]["txid"].as_str().unwrap().to_string()
}

fn three_branches(bank: &Bank) -> [Branch; 3] {
    let branches = ["Mumbai", "Delhi", "Pune"].map(|name| bank.branch(name));
    Bank::introduce(&branches.each_ref());
    branches
}

#[test]
fn the_command_lines_of_the_design_as_they_are_written() {
    let bank = Bank::new();
    let [mumbai, delhi, pune] = three_branches(&bank);
    assert_eq!(done(&bank, &mumbai, "--host 127.0.0.1 balance --account_no 1001").lines().count(), 1);
    let line = format!(
        "--host 127.0.0.1 inter_branch_transfer --src_account_no 1001 --dest_host 127.0.0.1 --dest_port {} \
         --dest_account_no 1002 --amount 50",
        delhi.port()
    );
    let said = done(&bank, &mumbai, &line);
    assert!(said.starts_with("Transferred Rs 50.00 from Mumbai:1001 to 127.0.0.1:1002. It has arrived."), "{said}");
    let said = done(&bank, &mumbai, "transfer 1001 Delhi/1002 50");
    assert!(said.starts_with("Transferred Rs 50.00 from Mumbai:1001 to Delhi:1002. It has arrived."), "{said}");
    let said = done(&bank, &mumbai, "split 1001 Delhi/1002=50 Pune/1001=25.50 1002=10");
    let rows = ["Delhi:1002    50.00\n", "Pune:1001     25.50\n", "Mumbai:1002   10.00\n"];
    assert!(said.starts_with("Transferred Rs 85.50 from Mumbai:1001.\n"), "{said}");
    in_order(&said, &[rows[0], rows[1], rows[2], "It has arrived."]);
    assert!(done(&bank, &mumbai, "balance 1001").ends_with(" has Rs 814.50.\n"));
    assert!(done(&bank, &delhi, "balance 1002").ends_with(" has Rs 1150.00.\n"));
    assert!(done(&bank, &pune, "--json balance 1001").contains(r#""balance":1025.50"#));
    assert!(done(&bank, &mumbai, "audit --all").contains("The books are right"));
}

#[test]
fn long_and_short_forms_of_everything() {
    let bank = Bank::new();
    let [mumbai, delhi, _pune] = three_branches(&bank);
    let said = |line: &str| done(&bank, &mumbai, line);
    assert_eq!(said("deposit 1001 0.1"), "Deposited Rs 0.10. Account 1001 has Rs 1000.10.\n");
    assert_eq!(said("deposit --account_no 1001 --amount 0.1"), "Deposited Rs 0.10. Account 1001 has Rs 1000.20.\n");
    assert_eq!(said("deposit --account-no 1001 --amount 0.1"), "Deposited Rs 0.10. Account 1001 has Rs 1000.30.\n");
    assert_eq!(said("withdraw 1001 0.30"), "Withdrew Rs 0.30. Account 1001 has Rs 1000.00.\n");
    assert_eq!(said("withdraw --account_no 1001 --amount 1"), "Withdrew Rs 1.00. Account 1001 has Rs 999.00.\n");
    for line in [
        "local_transfer 1001 1002 1",
        "local-transfer --src_account_no 1001 --dest_account_no 1002 --amount 1",
        "transfer 1001 1002 1",
    ] {
        assert!(said(line).starts_with("Transferred Rs 1.00 from 1001 to 1002. "), "{line}");
    }
    assert!(said(&format!("transfer 1001 127.0.0.1:{}/1002 1", delhi.port())).contains("It has arrived."));
    assert!(
        said("inter-branch-transfer --src-account-no 1001 --dest-branch Delhi --dest-account-no 1002 --amount 1")
            .contains("to Delhi:1002. It has arrived.")
    );
    assert!(said("split_transfer 1001 1002=1").contains("Transferred Rs 1.00"));
    assert_eq!(
        said("create_account --account_no 3001 --name Asha --balance 5"),
        "Opened account 3001 for Asha with Rs 5.00.\n"
    );
    assert_eq!(said("open Ravi"), "Opened account 1003 for Ravi with Rs 0.00.\n");
    assert_eq!(said("close_account --account_no 3001"), "Closed account 3001 and paid Rs 5.00 out.\n");
    assert_eq!(said("close 1003"), "Closed account 1003 and paid Rs 0.00 out.\n");
    for line in ["list_accounts", "list-accounts", "accounts", "accounts --limit 2"] {
        assert!(said(line).ends_with("2 accounts, Rs 1997.00 in all\n"), "{line}: {}", said(line));
    }
    for line in ["history", "get_logs", "get-logs", "history --account_no 1002"] {
        assert!(said(line).contains("transactions") && said(line).contains("1002"), "{line}");
    }
    assert!(said("status").contains("Mumbai"));
    assert!(said("branches").contains("Delhi"));
    for line in ["list_pending", "list-pending", "pending"] {
        assert_eq!(said(line), "Nothing is in doubt, and every decision is delivered.\n");
    }
    assert!(said("audit").contains("The books are right"));
    for line in ["completions bash", "completions zsh", "completions fish"] {
        assert!(said(line).contains("inter_branch_transfer"), "{line}");
    }
    assert!(said("watch --help").contains("Examples"));
}

#[test]
fn two_phase_commit_by_hand() {
    let bank = Bank::new();
    let [mumbai, delhi, _pune] = three_branches(&bank);
    assert!(done(&bank, &mumbai, "prepare_withdraw T-1 1001 50").starts_with("Prepared"));
    assert!(done(&bank, &delhi, "prepare-deposit --txid T-1 --account_no 1002 --amount 50").starts_with("Prepared"));
    assert!(done(&bank, &mumbai, "balance 1001").ends_with("has Rs 1000.00, of which Rs 950.00 can be spent.\n"));
    assert!(done(&bank, &mumbai, "pending").contains("T-1"));
    fails(&bank, &mumbai, "withdraw 1001 951", 1, "insufficient funds");
    assert_eq!(done(&bank, &mumbai, "tx_status T-1"), "Transfer T-1 is undecided.\n");
    assert_eq!(done(&bank, &mumbai, "commit_withdraw T-1"), "Transfer T-1 is committed here.\n");
    assert_eq!(done(&bank, &delhi, "commit-deposit --txid T-1"), "Transfer T-1 is committed here.\n");
    assert_eq!(done(&bank, &delhi, "tx-status --txid T-1"), "Transfer T-1 is committed.\n");
    done(&bank, &mumbai, "prepare_withdraw T-2 1001 50");
    assert_eq!(done(&bank, &mumbai, "abort_withdraw T-2"), "Transfer T-2 is aborted here.\n");
    assert_eq!(done(&bank, &mumbai, "abort_deposit T-3"), "Transfer T-3 is aborted here.\n");
    done(&bank, &mumbai, "prepare_deposit T-4 1001 50");
    fails(&bank, &mumbai, "resolve T-4 commit", 64, "--reason");
    fails(&bank, &mumbai, "resolve T-5 commit --reason why", 1, "T-5");
    assert!(done(&bank, &mumbai, "resolve T-4 commit --reason paid").contains("committed here by hand"));
    assert!(done(&bank, &mumbai, "balance 1001").ends_with("has Rs 1000.00.\n"));
}

#[test]
fn exit_statuses_and_what_is_said() {
    let bank = Bank::new();
    let [mumbai, mut delhi, _pune] = three_branches(&bank);
    fails(&bank, &mumbai, "balance 4711", 1, "there is no account 4711");
    fails(&bank, &mumbai, "withdraw 1001 1000.01", 1, "Rs 1000.00 is available");
    fails(&bank, &mumbai, "transfer 1001 1001 1", 1, "payer and receiver");
    fails(&bank, &mumbai, "transfer 1001 Delhi/4711 1", 1, "there is no account 4711");
    fails(&bank, &mumbai, "transfer 1001 Nowhere/1002 1", 1, "Nowhere");
    fails(&bank, &mumbai, "create_account --account_no 1001 --name Asha", 1, "1001");
    for line in [
        "deposit 1001 0",
        "deposit 1001 -5",
        "deposit 1001 1.005",
        "deposit 1001 1e3",
        "deposit 1001",
        "deposit abc 5",
        "transfer 1001 Delhi/ 5",
        "transfer 1001 /1002 5",
        "split 1001 1002",
        "split 1001",
        "inter_branch_transfer",
        "inter_branch_transfer --src_account_no 1001 --dest_account_no 1002 --amount 5",
        "rob 1001",
        "balance --nope 1",
        "resolve T maybe --reason x",
        "--key /nonexistent/bank.key status",
    ] {
        let transcript = run(&bank, mumbai.port(), line, "");
        assert_eq!(transcript.status, Some(64), "{line}: {transcript:?}");
        assert!(!transcript.stderr.is_empty() && transcript.stdout.is_empty(), "{line}: {transcript:?}");
    }
    delhi.kill9();
    fails(&bank, &delhi, "balance 1001", 2, "no bank answers");
    fails(&bank, &mumbai, "transfer 1001 Delhi/1002 5", 1, "Delhi");
    // A menu is no branch.
    let transcript = run(&bank, mumbai.menu_port(), "--timeout 5 balance 1001", "");
    assert_eq!(transcript.status, Some(2), "{transcript:?}");
    assert!(done(&bank, &mumbai, "balance 1001").ends_with("has Rs 1000.00.\n"));
}

#[test]
fn answers_as_json() {
    let bank = Bank::new();
    let [mumbai, _delhi, _pune] = three_branches(&bank);
    let answer = done(&bank, &mumbai, "--json deposit 1001 1");
    assert_eq!(answer, "{\"status\":\"ok\",\"result\":{\"balance\":1001.00}}\n");
    let refused = run(&bank, mumbai.port(), "withdraw 1001 5000 --json", "");
    assert_eq!((refused.status, json(&refused.stdout)["code"].as_str()), (Some(1), Some("insufficient_funds")));
    let answer = json(&done(&bank, &mumbai, "--json transfer 1001 Delhi/1002 5"));
    assert_eq!(
        (answer["result"]["to"].as_str(), answer["result"]["delivery"].as_str()),
        (Some("Delhi:1002"), Some("done"))
    );
    assert_eq!(json(&done(&bank, &mumbai, "--json accounts"))["result"].as_array().unwrap().len(), 2);
    for line in ["status", "branches", "pending", "audit", "history", "tx_status T"] {
        assert_eq!(json(&done(&bank, &mumbai, &format!("--json {line}")))["status"], "ok", "{line}");
    }
    let all = json(&done(&bank, &mumbai, "--json audit --all"));
    assert_eq!((&all["ok"], all["branches"].as_object().unwrap().len()), (&Value::Bool(true), 3), "{all}");
    assert_eq!(all["balances"].to_string(), "6001.00");
}

#[test]
fn a_batch_of_a_file_and_of_standard_input() {
    let bank = Bank::new();
    let mumbai = bank.branch("Mumbai");
    let deposit = |account: u64| format!(r#"{{"action":"deposit","params":{{"account_no":{account},"amount":1}}}}"#);
    let lines: Vec<String> = (0..12_000).map(|_| deposit(1001)).collect();
    fs::write(bank.folder().join("all.jsonl"), lines.join("\n")).unwrap();
    done(&bank, &mumbai, "batch all.jsonl");
    assert!(done(&bank, &mumbai, "balance 1001").ends_with("has Rs 13000.00.\n"));
    let mixed = format!("{}\n{}\n", deposit(1001), deposit(9));
    assert_eq!(run(&bank, mumbai.port(), "batch --atomic -", &mixed).status, Some(1));
    assert_eq!(run(&bank, mumbai.port(), "batch -", &mixed).status, Some(1));
    assert!(done(&bank, &mumbai, "balance 1001").ends_with("has Rs 13001.00.\n"));
    let slip = run(&bank, mumbai.port(), "batch -", &format!("{}\nnonsense\n", deposit(1001)));
    assert!(slip.status == Some(64) && slip.stderr.contains('2'), "{slip:?}");
    assert!(done(&bank, &mumbai, "balance 1001").ends_with("has Rs 13001.00.\n"));
}

#[test]
fn the_key_is_found_named_or_not_needed() {
    let (bank, elsewhere) = (Bank::new(), Bank::new());
    let mumbai = bank.branch("Mumbai");
    // From a folder without it there is no right, and a hint.
    fails(&elsewhere, &mumbai, "balance 1001", 1, "--key");
    assert!(done(&elsewhere, &mumbai, "status").contains("Mumbai"));
    let key = mumbai.key_path();
    assert!(done(&elsewhere, &mumbai, &format!("--key {} balance 1001", key.display())).contains("has Rs 1000.00"));
    // Another bank's key.
    let stranger = elsewhere.branch("Delhi");
    fails(&elsewhere, &mumbai, "balance 1001", 1, "key");
    let line = format!("--key {} balance 1001", stranger.key_path().display());
    let transcript = run(&bank, mumbai.port(), &line, "");
    assert_ne!(transcript.status, Some(0), "{transcript:?}");
    // An open branch asks for none.
    let another = Bank::new();
    let open = another.start("Pune", Options::named("Pune").flag("--open"));
    assert!(done(&Bank::new(), &open, "deposit 1001 5").contains("has Rs 1005.00"));
    // A password that a script brings.
    let set = run(&bank, mumbai.port(), "set_password 1001", "from a script\n");
    assert_eq!(set.status, Some(0), "{set:?}");
    assert!(!set.stdout.contains("from a script"), "{set:?}");
    drop(mumbai.log_in("1001", "from a script"));
}

#[test]
fn a_command_whose_answer_is_lost_is_carried_out_once() {
    // Without a key there is no proof to wait for: the request is the first thing that is sent.
    let (bank, elsewhere) = (Bank::new(), Bank::new());
    let mut mumbai = bank.start("Mumbai", Options::named("Mumbai").flag("--open"));
    mumbai.signal(Signal::STOP);
    let port = mumbai.port();
    thread::scope(|scope| {
        let client = scope.spawn(|| run(&elsewhere, port, "--timeout 60 deposit 1001 5", ""));
        wait_until("the request has arrived", || has_unread_bytes(port));
        mumbai.kill9();
        mumbai.restart();
        let transcript = client.join().unwrap();
        assert_eq!(transcript.status, Some(0), "{transcript:?}");
        assert_eq!(transcript.stdout, "Deposited Rs 5.00. Account 1001 has Rs 1005.00.\n");
    });
    // The same, by the id that the client would name.
    for _ in 0..3 {
        let said = done(&bank, &mumbai, "--request-id once deposit 1002 5");
        assert_eq!(said, "Deposited Rs 5.00. Account 1002 has Rs 1005.00.\n");
        mumbai.kill9();
        mumbai.restart();
    }
    fails(&bank, &mumbai, "--request-id once deposit 1002 6", 1, "request_id");
}

#[test]
fn the_audit_of_all_branches_sees_one_that_is_down_and_money_in_suspense() {
    let bank = Bank::new();
    let (mut mumbai, delhi) = (bank.branch_that_crashes("Mumbai", "after-decision"), bank.branch("Delhi"));
    let lost = run(&bank, mumbai.port(), &format!("--timeout 1 transfer 1001 127.0.0.1:{}/1002 50", delhi.port()), "");
    assert_eq!(lost.status, Some(2), "{lost:?}");
    assert!(lost.stderr.contains("--request-id"), "how to find out: {lost:?}");
    mumbai.wait_for_crash();
    let incomplete = run(&bank, delhi.port(), "audit --all", "");
    assert_eq!(incomplete.status, Some(2), "{incomplete:?}");
    assert!(incomplete.stdout.contains("not every branch could be audited"), "{incomplete:?}");
    let pending = json(&done(&bank, &delhi, "--json pending"));
    let txid = pending["result"][0]["txid"].as_str().unwrap();
    done(&bank, &delhi, &format!("resolve {txid} abort --reason gone"));
    mumbai.restart();
    let mut audit = String::new();
    wait_until("the audit finds the difference", || {
        let transcript = run(&bank, delhi.port(), "audit --all", "");
        audit = transcript.stdout;
        transcript.status == Some(1)
    });
    assert!(audit.contains("suspense"), "{audit}");
    assert_eq!(run(&bank, delhi.port(), "audit", "").status, Some(1));
    assert_eq!(run(&bank, mumbai.port(), "audit", "").status, Some(0));
}

/// The places of these texts in the trace, which must be in this order.
#[track_caller]
fn in_order(trace: &str, texts: &[&str]) {
    let mut rest = trace;
    for text in texts {
        let found = rest.find(text).unwrap_or_else(|| panic!("{text:?} is not in its place:\n{trace}"));
        rest = &rest[found + text.len()..];
    }
}

#[test]
fn the_trace_of_a_transfer() {
    let bank = Bank::new();
    let [mumbai, delhi, pune] = three_branches(&bank);
    let txid = txid(&done(&bank, &mumbai, "--json transfer 1001 Delhi/1002 5"));
    let story = [
        "committed\n",
        "begun",
        "held",
        "prepare",
        "prepared",
        "reserved",
        "vote yes",
        "COMMIT POINT",
        "debited",
        "decision committed",
        "credited",
        "acknowledged committed",
        "ended",
    ];
    // From any branch that knows the others.
    for branch in [&mumbai, &delhi, &pune] {
        in_order(&done(&bank, branch, &format!("trace {txid}")), &story);
    }
    assert!(done(&bank, &mumbai, &format!("trace {txid} --ascii")).is_ascii());
    let mermaid = done(&bank, &mumbai, &format!("trace {txid} --format mermaid"));
    in_order(&mermaid, &["sequenceDiagram", "participant", "prepare", "vote yes", "COMMIT POINT"]);
    let shiviz = done(&bank, &mumbai, &format!("trace {txid} --format shiviz"));
    in_order(&shiviz, &["(?<event>", r#"Mumbai {"Mumbai":1}"#]);
    let events = json(&done(&bank, &mumbai, &format!("trace {txid} --format json")));
    assert!(events["events"].as_array().unwrap().len() > 15, "{events}");
    fails(&bank, &mumbai, "trace nobody", 1, "nobody");
}

#[test]
fn the_trace_of_a_transfer_whose_participant_died_between_its_vote_and_the_commit() {
    let bank = Bank::new();
    let (mumbai, mut delhi) = (bank.branch("Mumbai"), bank.branch_that_crashes("Delhi", "after-vote"));
    let line = format!("--json transfer 1001 127.0.0.1:{}/1002 50", delhi.port());
    let answer = done(&bank, &mumbai, &line);
    delhi.wait_for_crash();
    assert_eq!(json(&answer)["result"]["delivery"], "pending", "{answer}");
    assert!(done(&bank, &mumbai, "pending").contains("delivering"));
    let txid = txid(&answer);
    let trace = done(&bank, &mumbai, &format!("trace {txid}"));
    in_order(&trace, &["committed", "vote yes", "COMMIT POINT", "Delhi could not be asked"]);
    delhi.restart();
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    let trace = done(&bank, &mumbai, &format!("trace {txid}"));
    in_order(
        &trace,
        &["committed\n", "prepare", "vote yes", "COMMIT POINT", "found on disk: prepared", "credited", "acknowledged"],
    );
    assert!(done(&bank, &delhi, "balance 1002").ends_with("has Rs 1050.00.\n"));
    assert!(done(&bank, &mumbai, "audit --all").contains("The books are right"));
}

#[test]
fn the_trace_of_a_transfer_whose_coordinator_died_between_the_votes_and_the_commit() {
    for (point, outcome, balance) in
        [("before-decision", "aborted", "1000.00"), ("after-decision", "committed", "1050.00")]
    {
        let bank = Bank::new();
        let (mut mumbai, delhi) = (bank.branch_that_crashes("Mumbai", point), bank.branch("Delhi"));
        let line = format!("--timeout 1 transfer 1001 127.0.0.1:{}/1002 50", delhi.port());
        assert_eq!(run(&bank, mumbai.port(), &line, "").status, Some(2));
        mumbai.wait_for_crash();
        let pending = json(&done(&bank, &delhi, "--json pending"));
        let txid = pending["result"][0]["txid"].as_str().unwrap();
        let trace = done(&bank, &delhi, &format!("trace {txid}"));
        in_order(&trace, &["undecided, in doubt at Delhi", "prepared", "vote yes", "Mumbai could not be asked"]);
        mumbai.restart();
        Bank::wait_until_settled(&[&mumbai, &delhi]);
        let trace = done(&bank, &delhi, &format!("trace {txid}"));
        in_order(&trace, &[outcome, "prepared", "vote yes"]);
        assert!(done(&bank, &delhi, "balance 1002").ends_with(&format!("has Rs {balance}.\n")));
    }
}

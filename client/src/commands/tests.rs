//! Every way to write a command, and the request that it becomes.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use branch_client::Credentials;
use clap::{CommandFactory as _, Parser as _};
use protocol::frame::{FRAME_BYTES_MAX, read_frame, write_frame};

use super::*;
use crate::arguments::Arguments;
use crate::branch::{Access, Branch};
use crate::error::ExitStatus;
use crate::output::Output;
use crate::surroundings::{Input, Style};

/// The first request that a command line makes.
fn request(line: &[&str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let branch = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut body = Vec::new();
        read_frame(&mut stream, FRAME_BYTES_MAX, &mut body).unwrap();
        let refusal = br#"{"status":"error","error":"heard","code":"heard"}"#;
        write_frame(&mut stream, refusal, FRAME_BYTES_MAX).unwrap();
        String::from_utf8(body).unwrap()
    });
    let mut arguments = Arguments::try_parse_from(["bank-client"].iter().chain(line)).expect("a right command line");
    let access = Access {
        credentials: Arc::new(Credentials::default()),
        timeout: Duration::from_secs(20),
        command_line: String::new(),
    };
    let mut shown = Vec::new();
    let mut context = Context {
        branch: Branch::new(Arc::new(access), (Ipv4Addr::LOCALHOST, port).into()),
        out: Output::new(&mut shown, false),
        id: "ID".parse().unwrap(),
        input: Input::Script,
        style: Style::default(),
        description: Arguments::command,
    };
    let error = run(arguments.command.take().unwrap(), &mut context).unwrap_err();
    assert_eq!((error.status(), error.to_string().as_str()), (ExitStatus::Refused, "heard"), "{line:?}");
    branch.join().unwrap()
}

#[track_caller]
fn check(line: &[&str], action: &str, params: &str) {
    let write = format!(r#"{{"action":"{action}","params":{params},"request_id":"ID"}}"#);
    let question = format!(r#"{{"action":"{action}","params":{params}}}"#);
    let request = request(line);
    assert!(request == write || request == question, "{line:?} sent {request}");
}

#[test]
fn accounts_in_every_form() {
    let account = r#"{"account_no":"1001"}"#;
    check(&["balance", "1001"], "balance", account);
    check(&["balance", "--account_no", "1001"], "balance", account);
    check(&["balance", "--account-no", "1001"], "balance", account);
    check(&["close", "1001"], "close_account", account);
    check(&["close-account", "1001"], "close_account", account);
    check(&["close_account", "--account_no", "1001"], "close_account", account);
    check(&["accounts"], "list_accounts", "{}");
    check(&["list_accounts", "--after", "1001", "--limit", "5"], "list_accounts", r#"{"after":"1001","limit":5}"#);
    let asha = r#"{"name":"Asha Rao","balance":100.00}"#;
    check(&["open", "Asha Rao", "--balance", "100"], "create_account", asha);
    let older = r#"{"account_no":"1005","name":"Asha","balance":100.00}"#;
    check(&["create_account", "--account_no", "1005", "--name", "Asha", "--balance", "100"], "create_account", older);
    let all = r#"{"name":"Ravi","aadhar_num":"123412341234","phone_num":"9876543210","sms":true}"#;
    check(
        &["create-account", "Ravi", "--aadhar_num", "123412341234", "--phone-num", "9876543210", "--sms"],
        "create_account",
        all,
    );
}

#[test]
fn movements_in_every_form() {
    let params = r#"{"account_no":"1001","amount":100.00}"#;
    check(&["deposit", "1001", "100"], "deposit", params);
    check(&["deposit", "--account_no", "1001", "--amount", "100"], "deposit", params);
    check(&["withdraw", "1001", "5.5"], "withdraw", r#"{"account_no":"1001","amount":5.50}"#);
    let local = r#"{"src_account_no":"1001","dest_account_no":"1002","amount":5.00}"#;
    check(&["transfer", "1001", "1002", "5"], "local_transfer", local);
    check(&["local_transfer", "1001", "1002", "5"], "local_transfer", local);
    check(
        &["local_transfer", "--src_account_no", "1001", "--dest_account_no", "1002", "--amount", "5"],
        "local_transfer",
        local,
    );
    let named = r#"{"src_account_no":"1001","dest_account_no":"1002","amount":50.00,"dest_branch":"Delhi"}"#;
    check(&["transfer", "1001", "Delhi/1002", "50"], "inter_branch_transfer", named);
    let address =
        r#"{"src_account_no":"1001","dest_account_no":"1002","amount":50.00,"dest_host":"127.0.0.1","dest_port":9101}"#;
    check(&["transfer", "1001", "127.0.0.1:9101/1002", "50"], "inter_branch_transfer", address);
    let older = "--src_account_no 1001 --dest_host 127.0.0.1 --dest_port 9101 --dest_account_no 1002 --amount 50";
    let line: Vec<&str> = ["inter_branch_transfer"].into_iter().chain(older.split(' ')).collect();
    check(&line, "inter_branch_transfer", address);
    let split = concat!(
        r#"{"src_account_no":"1001","legs":[{"account_no":"1002","amount":50.00,"dest_branch":"Delhi"},"#,
        r#"{"account_no":"1001","amount":25.50,"dest_branch":"Pune"},{"account_no":"1002","amount":10.00}]}"#
    );
    check(&["split", "1001", "Delhi/1002=50", "Pune/1001=25.50", "1002=10"], "split_transfer", split);
}

#[test]
fn the_books_and_what_is_in_doubt() {
    check(&["history", "1001", "--limit", "3"], "history", r#"{"account_no":"1001","limit":3}"#);
    check(&["get_logs", "--account_no", "1001"], "history", r#"{"account_no":"1001"}"#);
    check(&["get-logs", "--after", "7"], "history", r#"{"after":7}"#);
    check(&["status"], "status", "{}");
    check(&["audit"], "audit", "{}");
    check(&["audit", "--all"], "branches", "{}");
    check(&["branches"], "branches", "{}");
    check(&["pending"], "list_pending", "{}");
    check(&["list-pending"], "list_pending", "{}");
    check(&["tx_status", "T-1"], "tx_status", r#"{"txid":"T-1"}"#);
    let resolve = r#"{"txid":"T-1","outcome":"abort","reason":"gone"}"#;
    check(&["resolve", "T-1", "aborted", "--reason", "gone"], "resolve", resolve);
    let prepare = r#"{"txid":"T-1","account_no":"1001","amount":5.00}"#;
    check(&["prepare_withdraw", "T-1", "1001", "5"], "prepare_withdraw", prepare);
    let line = ["prepare_deposit", "--txid", "T-1", "--account_no", "1001", "--amount", "5"];
    check(&line, "prepare_deposit", prepare);
    for action in ["commit_withdraw", "commit_deposit", "abort_withdraw", "abort_deposit"] {
        check(&[action, "T-1"], action, r#"{"txid":"T-1"}"#);
        check(&[&action.replace('_', "-"), "--txid", "T-1"], action, r#"{"txid":"T-1"}"#);
    }
    check(&["watch", "--no-follow", "--txid", "T-1"], "watch", r#"{"txid":"T-1","follow":false}"#);
    check(&["trace", "T-1"], "tx_status", r#"{"txid":"T-1"}"#);
}

#[test]
fn writes_carry_the_id_of_the_command_and_questions_none() {
    assert!(request(&["deposit", "1001", "5"]).ends_with(r#""request_id":"ID"}"#));
    assert!(!request(&["balance", "1001"]).contains("request_id"));
}

#[test]
fn wrong_values_are_refused_before_anything_is_sent() {
    for line in [
        &["deposit", "1001", "0"][..],
        &["deposit", "1001", "-5"],
        &["deposit", "1001", "1.005"],
        &["deposit", "1001", "1e3"],
        &["deposit", "0", "5"],
        &["deposit", "1001", "5", "--amount", "5"],
        &["deposit", "--account_no", "1001"],
        &["transfer", "1001", "Delhi/", "5"],
        &["transfer", "1001", "1002"],
        &["split", "1001"],
        &["split", "1001", "Delhi/1002"],
        &["inter_branch_transfer", "--src_account_no", "1", "--dest_account_no", "2", "--amount", "5"],
        &["resolve", "T-1", "perhaps", "--reason", "x"],
        &["resolve", "T-1", "abort"],
        &["accounts", "--limit", "0"],
        &["tx_status", "a b"],
    ] {
        let parsed = Arguments::try_parse_from(["bank-client"].iter().chain(line));
        assert!(parsed.is_err_and(|error| error.use_stderr()), "{line:?}");
    }
    let error = Arguments::try_parse_from(["bank-client", "deposit", "1001", "-5"]).unwrap_err().to_string();
    assert!(error.contains("an amount is written without a sign"), "{error}");
}

#[test]
fn the_description_of_the_commands_is_sound() {
    Arguments::command().debug_assert();
    for command in Arguments::command().get_subcommands() {
        assert!(command.get_about().is_some(), "{}", command.get_name());
    }
}

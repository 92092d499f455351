//! The way out of suspense, both directions, by the built programs.

use bank_tests::{Bank, Branch, Bridge, audit, client_command, figure, server_command, wait_until};
use serde_json::{Value, json};

/// Two branches of which Delhi has settled a transfer of 70 by hand otherwise than Mumbai had decided.
struct Mixed {
    bank: Bank,
    mumbai: Branch,
    delhi: Branch,
    txid: String,
}

/// `crash_at` decides how Mumbai ends it: committed after its decision, aborted before.
fn mixed(crash_at: &str, settled_as: &str) -> Mixed {
    let bank = Bank::new();
    let (mut mumbai, delhi) = (bank.branch_that_crashes("Mumbai", crash_at), bank.branch("Delhi"));
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 70, "dest_host": "127.0.0.1",
        "dest_port": delhi.port()});
    let _ = mumbai.connect().try_ask("inter_branch_transfer", params, None);
    mumbai.wait_for_crash();
    wait_until("Delhi is in doubt", || delhi.connect().ask("list_pending", json!({})).ok() != json!([]));
    let txid = delhi.connect().ask("list_pending", json!({})).ok()[0]["txid"].as_str().unwrap().to_string();
    let params = json!({"txid": txid, "outcome": settled_as, "reason": "Mumbai is gone"});
    delhi.connect().ask("resolve", params).ok();
    mumbai.restart();
    wait_until("the difference shows", || delhi.connect().ask("audit", json!({})).ok()["ok"] == false);
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    Mixed { bank, mumbai, delhi, txid }
}

impl Mixed {
    fn clear(&self, more: Value) -> bank_tests::Reply {
        let mut params = json!({"txid": self.txid, "reason": "agreed by letter"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.delhi.connect().ask("clear_suspense", params)
    }

    fn audit(&self) -> Value {
        self.delhi.connect().ask("audit", json!({})).ok()
    }

    #[track_caller]
    fn assert_right_everywhere(&self) {
        assert_eq!((&self.audit()["ok"], figure(&self.audit()["suspense"])), (&json!(true), "0.00".into()));
        let mut command = client_command();
        command.current_dir(self.bank.folder()).args(["--port", &self.mumbai.port().to_string(), "audit", "--all"]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        let copy = self.bank.folder().join("copy.db");
        let mut backup = server_command();
        let output = backup.arg("backup").arg(&copy).arg("--db").arg(self.delhi.database_path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        audit(&copy).assert_clean();
        let bridge = Bridge::start(&[("Mumbai", &self.mumbai), ("Delhi", &self.delhi)], &["--open"]);
        assert_eq!(bridge.get("/audit").ok()["ok"], true);
    }
}

#[test]
fn money_that_was_sent_and_not_taken_is_given_to_whom_it_belongs() {
    let mixed = mixed("after-decision", "abort");
    let named = mixed.audit()["findings"][0].as_str().unwrap().to_string();
    assert!(named.contains("70.00") && named.contains(&mixed.txid), "{named}");
    // Never more than stands there, never to nobody or to two, never without a reason.
    for wrong in [
        json!({"account_no": 1002, "amount": "70.01"}),
        json!({"account_no": 1002, "cash": true}),
        json!({}),
        json!({"cash": true, "reason": " "}),
        json!({"cash": true, "amount": 0}),
    ] {
        assert!(!mixed.clear(wrong.clone()).is_ok(), "{wrong}");
    }
    mixed.clear(json!({"account_no": 4711})).refused("no_such_account");
    mixed.clear(json!({"txid": "Mumbai-other", "cash": true})).refused("nothing_in_suspense");
    // A part in cash, and once only for one id.
    let params = json!({"txid": mixed.txid, "cash": true, "amount": 30, "reason": "paid out at the counter"});
    let first = mixed.delhi.connect().ask_once("once", "clear_suspense", params.clone()).ok();
    assert_eq!(
        (&first["from"], &first["to"], figure(&first["left"])),
        (&json!("suspense"), &json!("cash"), "40.00".into())
    );
    assert_eq!(mixed.delhi.connect().ask_once("once", "clear_suspense", params).ok(), first);
    assert!(mixed.audit()["findings"][0].as_str().unwrap().contains("40.00"));
    assert_eq!(figure(&mixed.audit()["paid_out"]), "30.00");
    // The rest to the customer.
    mixed.clear(json!({"account_no": 1002})).ok();
    assert_eq!(mixed.delhi.connect().balance(1002), "1040.00");
    mixed.clear(json!({"account_no": 1002})).refused("nothing_in_suspense");
    let rows = mixed.delhi.connect().ask("history", json!({"limit": 2})).ok();
    let told = |row: &Value| json!([row["type"], row["from_account"], row["to_account"], row["note"]]);
    assert_eq!(told(&rows[0]), json!(["settlement", "suspense", "1002", "agreed by letter"]));
    assert_eq!(told(&rows[1]), json!(["settlement", "suspense", "cash", "paid out at the counter"]));
    mixed.assert_right_everywhere();
}

#[test]
fn money_that_was_paid_and_never_sent_is_taken_back_or_paid_in() {
    let mixed = mixed("before-decision", "commit");
    assert_eq!(mixed.delhi.connect().balance(1002), "1070.00");
    assert_eq!(figure(&mixed.audit()["suspense"]), "-70.00");
    mixed.delhi.connect().ask("withdraw", json!({"account_no": 1002, "amount": 1050})).ok();
    mixed.clear(json!({"account_no": 1002})).refused("insufficient_funds");
    let taken = mixed.clear(json!({"account_no": 1002, "amount": 20})).ok();
    assert_eq!((&taken["from"], figure(&taken["left"])), (&json!("1002"), "-50.00".into()));
    mixed.clear(json!({"cash": true})).ok();
    assert_eq!(mixed.delhi.connect().balance(1002), "0.00");
    mixed.assert_right_everywhere();
}

#[test]
fn a_payment_whose_other_side_was_lost_can_be_ended_at_the_branch_that_has_it() {
    let bank = Bank::new();
    let (mumbai, mut delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    let copy = bank.folder().join("older.db");
    let database = delhi.database_path().to_path_buf();
    let on_file = |arguments: &[&str]| {
        let mut command = server_command();
        let output = command.args(arguments).arg(&copy).arg("--db").arg(&database).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    on_file(&["backup"]);
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 70, "dest_branch": "Delhi"});
    let txid = mumbai.connect().ask("inter_branch_transfer", params).ok()["txid"].clone();
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    assert_eq!(delhi.stop(), Some(0));
    on_file(&["restore", "--force"]);
    delhi.restart();
    let audit_all = || {
        let mut command = client_command();
        command.current_dir(bank.folder()).args(["--port", &mumbai.port().to_string(), "audit", "--all"]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(audit_all().0, Some(1), "{}", audit_all().1);
    let clear = |more: Value| {
        let mut params = json!({"txid": txid, "account_no": 1001, "reason": "Delhi was restored"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        mumbai.connect().ask("clear_suspense", params)
    };
    clear(json!({})).refused("nothing_in_suspense");
    clear(json!({"not_booked_by": "Pune"})).refused("nothing_in_suspense");
    let cleared = clear(json!({"not_booked_by": "Delhi"})).ok();
    assert_eq!((figure(&cleared["amount"]), figure(&cleared["left"])), ("70.00".into(), "0.00".into()));
    clear(json!({"not_booked_by": "Delhi"})).refused("nothing_in_suspense");
    assert_eq!(mumbai.connect().balance(1001), "1000.00");
    assert_eq!(audit_all().0, Some(0), "{}", audit_all().1);
    // What is under way ends in another way.
    let raw = json!({"txid": "raw", "account_no": 1001, "amount": 5});
    mumbai.connect().ask("prepare_withdraw", raw).ok();
    clear(json!({"txid": "raw", "not_booked_by": "Delhi"})).refused("cannot_resolve");
}

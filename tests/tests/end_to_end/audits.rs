//! What the audit of a branch sees of edits behind the program's back.

use std::fs;
use std::path::{Path, PathBuf};

use bank_tests::{Bank, audit, audit_output, server_command};
use rusqlite::Connection;
use serde_json::{Value, json};

/// A database at rest, with movements of every kind and a raw transfer prepared, and a place for altered copies.
struct Original {
    _bank: Bank,
    whole: PathBuf,
    altered: PathBuf,
    /// A closed account.
    closed: String,
}

fn original() -> Original {
    let bank = Bank::new();
    let (delhi, pune, mut mumbai) = (bank.branch("Delhi"), bank.branch("Pune"), bank.branch("Mumbai"));
    Bank::introduce(&[&mumbai, &delhi, &pune]);
    let mut connection = mumbai.connect();
    let mut ok = |action: &str, params: Value| connection.ask(action, params).ok();
    let account = ok("create_account", json!({"name": "Old Gone", "balance": 20}))["account_no"].clone();
    for (to, amount) in [("Delhi", 14), ("Pune", 3)] {
        let params = json!({"src_account_no": "1001", "dest_account_no": "1001", "dest_branch": to, "amount": amount});
        ok("inter_branch_transfer", params);
    }
    ok("local_transfer", json!({"src_account_no": "1001", "dest_account_no": "1002", "amount": 5}));
    ok("close_account", json!({"account_no": account}));
    Bank::wait_until_settled(&[&mumbai, &delhi, &pune]);
    ok("prepare_withdraw", json!({"txid": "raw", "account_no": "1001", "amount": 6}));
    let whole = mumbai.database_path().to_path_buf();
    assert_eq!(mumbai.stop(), Some(0));
    let altered = bank.folder().join("altered.db");
    Original { _bank: bank, whole, altered, closed: account.as_str().unwrap().to_string() }
}

impl Original {
    /// A copy with these edits.
    fn altered_by(&self, edits: &str) -> &Path {
        for ending in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{ending}", self.altered.display()));
        }
        fs::copy(&self.whole, &self.altered).unwrap();
        Connection::open(&self.altered)
            .unwrap()
            .execute_batch(edits)
            .unwrap_or_else(|error| panic!("{error}: {edits}"));
        &self.altered
    }

    #[track_caller]
    fn check(&self, edits: &str, expected: &str) {
        let audit = audit(self.altered_by(edits));
        assert!(audit.findings.iter().any(|finding| finding.contains(expected)), "{edits}: {audit:?}");
    }
}

#[test]
fn an_audit_sees_what_was_altered_beside_the_program() {
    let original = original();
    audit(original.altered_by("")).assert_clean();
    let closed = &original.closed;
    for (edits, expected) in [
        (
            "UPDATE own_accounts SET peer = 'X' WHERE peer = 'Delhi'; UPDATE own_accounts SET peer = 'Delhi' WHERE \
             peer = 'Pune'; UPDATE own_accounts SET peer = 'Pune' WHERE peer = 'X'",
            "is of Delhi, but stands on the account of Pune",
        ),
        ("UPDATE own_accounts SET credited_carry = 1 WHERE account_num = -1", "the books count Rs"),
        ("DELETE FROM own_accounts WHERE peer = 'Delhi'", "which is gone"),
        ("UPDATE own_accounts SET name = 'dues' WHERE peer = 'Delhi'", "should be due Delhi"),
        ("INSERT INTO own_accounts (account_num, name) VALUES (-3, 'slush')", "that the branch has no use for"),
        (
            "INSERT INTO coordinated (txid, transfer, state, changed_unix_ms) SELECT 'Mumbai-ghost', \
             replace(transfer, txid, 'Mumbai-ghost'), 'committed', 0 FROM coordinated LIMIT 1",
            "transfer Mumbai-ghost is committed by its record, but it does not stand in the books",
        ),
        ("UPDATE coordinated SET state = 'begun'", "is begun by its record, but it stands in the books"),
        ("UPDATE coordinated SET transfer = replace(transfer, '14.00', '15.00')", "another leg 0"),
        ("UPDATE coordinated SET transfer = '{'", "can't be read"),
        ("UPDATE prepared SET state = 'committed'", "transfer raw is committed by its record"),
        ("UPDATE prepared SET state = 'aborted'", "account 1001 has Rs 6.00 held"),
        ("DELETE FROM prepared", "account 1001 has Rs 6.00 held"),
        ("UPDATE prepared SET state = 'committed', mixed = 'aborted'", "the difference is not in suspense"),
        (
            &format!(
                "UPDATE accounts SET is_open = 1 WHERE account_num = {closed}; \
                 UPDATE account_holders SET closed_unix_ms = NULL WHERE account_num = {closed}"
            ),
            "closed it",
        ),
        ("INSERT INTO auth SELECT 77777, password FROM auth WHERE account_num = 1001", "77777, which does not exist"),
        (&format!("INSERT INTO auth SELECT {closed}, password FROM auth WHERE account_num = 1001"), "which is closed"),
        ("DELETE FROM accounts WHERE account_num = 1002", "account 1002, which does not exist"),
        ("DROP TRIGGER transactions_no_update", "the trigger transactions_no_update of transactions is gone"),
        ("DROP INDEX transactions_leg", "the index transactions_leg of transactions is gone"),
        ("DROP INDEX account_holders_phone", "the index account_holders_phone of account_holders is gone"),
        ("DROP VIEW customers", "the view customers of customers is gone"),
        (
            "CREATE TRIGGER tip AFTER INSERT ON transactions BEGIN UPDATE accounts SET balance = balance + 1; END",
            "there is a trigger tip at transactions that the program did not make",
        ),
        (
            "DROP TRIGGER transactions_no_update; CREATE TRIGGER transactions_no_update BEFORE UPDATE ON transactions \
             WHEN old.amount > 100 BEGIN SELECT RAISE(ABORT, 'transactions is append-only'); END",
            "the trigger transactions_no_update of transactions was altered",
        ),
        (
            "DROP TRIGGER transactions_no_update; UPDATE transactions SET note = 'x' WHERE type = 'settlement'; \
             UPDATE transactions SET peer = 'Pune' WHERE peer = 'Delhi'",
            "was altered: its hash does not fit",
        ),
    ] {
        original.check(edits, expected);
    }
}

#[test]
fn an_audit_sees_an_altered_history_and_an_altered_holder() {
    let original = original();
    for (edits, expected) in [
        ("UPDATE customers SET balance = balance + 1 WHERE account_num = 1002", "account 1002 holds Rs"),
        (
            "UPDATE accounts SET newest_transaction = newest_transaction - 1 WHERE account_num = 1002",
            "the history of account 1002 begins with transaction 5, but its newest is transaction 6",
        ),
        ("UPDATE accounts SET newest_transaction = NULL WHERE account_num = 1002", "begins with no transaction"),
        (
            "DROP TRIGGER transactions_no_update; UPDATE transactions SET from_previous = 1 WHERE transaction_id = 6",
            "transaction 6 comes after transaction 5 in the history of account 1001, but points to transaction 1",
        ),
        (
            "DROP TRIGGER transactions_no_update; UPDATE transactions SET to_previous = NULL WHERE transaction_id = 6",
            "transaction 6 comes after transaction 2 in the history of account 1002, but points to no transaction",
        ),
        (
            "DROP TRIGGER transactions_no_update; UPDATE transactions SET from_previous = 1 WHERE type = 'deposit' \
             OR type = 'opening' AND transaction_id > 1",
            "comes after no transaction in the history of account -1, but points to transaction 1",
        ),
        (
            "PRAGMA ignore_check_constraints = ON; DROP TRIGGER transactions_no_update; \
             UPDATE transactions SET kind = 99 WHERE transaction_id = 6",
            "transaction 6 is no unknown kind between these accounts",
        ),
        ("UPDATE account_holders SET account_num = 4711 WHERE account_num = 1002", "there is a holder of account 4711"),
        ("UPDATE account_holders SET account_num = 4711 WHERE account_num = 1002", "account 1002 is nobody's"),
        ("UPDATE account_holders SET closed_unix_ms = 5 WHERE account_num = 1002", "has a date of closing"),
    ] {
        original.check(edits, expected);
    }
}

#[test]
fn rows_that_were_cut_off_with_all_that_follows_from_them_show_against_a_kept_head() {
    let original = original();
    let output = audit_output(&original.whole);
    let before: Value = serde_json::from_slice(&output.stdout).unwrap();
    let head = format!("{}:{}", before["chain_head"]["transaction_id"], before["chain_head"]["hash"].as_str().unwrap());
    let audit_expecting = |database: &Path, head: &str| {
        let mut command = server_command();
        let output = command.args(["audit", "--expect", head, "--db"]).arg(database).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (status, said) = audit_expecting(original.altered_by(""), &head);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(&format!("chain head    {head}")), "{said}");
    // The last row was the closing of an account: cut off so that nothing else disagrees.
    let trigger: String = Connection::open(&original.whole)
        .unwrap()
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'transactions_no_delete'", [], |row| row.get(0))
        .unwrap();
    let closed = &original.closed;
    let cut = format!(
        "DROP TRIGGER transactions_no_delete;
         DELETE FROM transactions WHERE transaction_id = (SELECT max(transaction_id) FROM transactions);
         UPDATE own_accounts SET credited = credited - 2000 WHERE account_num = -1;
         UPDATE accounts SET balance = 2000, is_open = 1, newest_transaction = 3 WHERE account_num = {closed};
         UPDATE account_holders SET closed_unix_ms = NULL WHERE account_num = {closed};
         {trigger}"
    );
    let altered = original.altered_by(&cut);
    audit(altered).assert_clean();
    let (status, said) = audit_expecting(altered, &head);
    assert!(status == Some(1) && said.contains("was there once and is gone"), "{said}");
    let another = format!("1:{}", "ab".repeat(32));
    let (status, said) = audit_expecting(original.altered_by(""), &another);
    assert!(status == Some(1) && said.contains("the books were written anew"), "{said}");
}

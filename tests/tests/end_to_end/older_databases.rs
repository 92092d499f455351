//! Databases of older versions, served by this program: what they answer is what the older one answered.
//!
//! `tests/older_databases` has a database of each version, as SQL, that a program of that version wrote; and what that
//! program then answered, asked over the branch protocol.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bank_tests::{Books, Branch, Options, audit, server_command, wait_until};
use rusqlite::Connection;

fn kept(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("older_databases").join(name)).unwrap()
}

fn version_4(folder: &Path) -> PathBuf {
    let path = folder.join("bank.db");
    Connection::open(&path).unwrap().execute_batch(&kept("version_4.sql")).unwrap();
    path
}

#[test]
fn a_branch_of_version_4_answers_as_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let path = version_4(folder.path());
    let before = fs::read(&path).unwrap();
    audit(&path).assert_clean();
    assert!(fs::read(&path).unwrap() == before, "a look changes no file");
    let mut branch = Branch::start(Options::empty().flag("--open").database(&path));
    let mut connection = branch.connect_anonymously();
    let talk = kept("version_4.txt");
    let lines: Vec<&str> = talk.lines().collect();
    for pair in lines.chunks(2) {
        let [asked, expected] = pair else { panic!("a question without an answer: {pair:?}") };
        assert_eq!(connection.text(asked.strip_prefix("> ").unwrap()).text, *expected, "{asked}");
    }
    // What the older program has prepared is under way still, and what it wrote goes on: movements, legs, closings.
    for (action, params) in [
        ("commit_withdraw", serde_json::json!({"txid": "fixture-out"})),
        ("commit_deposit", serde_json::json!({"txid": "fixture-in"})),
        ("local_transfer", serde_json::json!({"src_account_no": "1002", "dest_account_no": "1004", "amount": 2})),
        ("close_account", serde_json::json!({"account_no": "1004"})),
    ] {
        connection.ask(action, params).ok();
    }
    let history = connection.ask("history", serde_json::json!({"account_no": "1004", "limit": 4})).ok();
    let ids: Vec<i64> = history.as_array().unwrap().iter().map(|row| row["transaction_id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [28, 27, 24, 23]);
    assert_eq!(branch.stop(), Some(0));
    audit(&path).assert_clean();
}

#[test]
fn a_start_that_is_killed_while_it_moves_the_rows_leaves_version_4_and_the_next_one_moves_them() {
    const ROWS: i64 = 300_000;
    let folder = tempfile::tempdir().unwrap();
    let path = version_4(folder.path());
    let more = "INSERT INTO transactions (transaction_id, from_account, to_account, amount, type, date, hash)
        WITH RECURSIVE n(n) AS (SELECT 25 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
        SELECT n, 1001 + n % 2, 1002 - n % 2, 1, 'transfer', n, zeroblob(32) FROM n";
    Connection::open(&path).unwrap().execute(more, [ROWS]).unwrap();
    let mut command = server_command();
    command.args(["--name", "Mumbai", "--port", "0", "--menu-port", "0", "--db"]).arg(&path);
    let mut server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // What is moved goes to the log beside the database long before it is committed.
    let log = folder.path().join("bank.db-wal");
    wait_until("rows are moved", || fs::metadata(&log).is_ok_and(|found| found.len() > 1 << 20));
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(Books::open(&path).number("PRAGMA user_version"), 4, "it was killed too late");
    let mut branch = Branch::start(Options::empty().database(&path));
    let history = branch.connect().ask("history", serde_json::json!({"account_no": "1001", "limit": 2})).ok();
    assert_eq!(history[1]["transaction_id"].as_i64(), Some(ROWS - 1), "{history}");
    assert_eq!(branch.stop(), Some(0));
    let books = Books::open(&path);
    assert_eq!((books.number("PRAGMA user_version"), books.number("SELECT count(*) FROM transactions")), (5, ROWS));
    let unlinked =
        "SELECT count(*) FROM transactions WHERE transaction_id > 25 AND from_previous IS NOT transaction_id - 1";
    assert_eq!(books.number(unlinked), 0);
}

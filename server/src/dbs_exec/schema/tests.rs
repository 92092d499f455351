//! What the tables refuse by themselves, and how older versions become this one.

use protocol::AccountNum;
use tempfile::TempDir;

use super::*;
use crate::bank::history;
use crate::dbs_exec::kind::Kind;
use crate::dbs_exec::{DbsExec, Query as _, params};

/// Brings an empty database to an older version.
fn make_version(connection: &Connection, version: usize) {
    for migration in &MIGRATIONS[..version] {
        run(connection, migration).unwrap();
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    connection.pragma_update(None, "user_version", u32::try_from(version).unwrap()).unwrap();
}

#[test]
fn an_empty_database_gets_every_migration_once() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection).unwrap();
    migrate(&mut connection).unwrap();
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version as usize, MIGRATIONS.len());
}

#[test]
fn an_epoch_of_version_3_gets_its_id_from_its_first_group_as_far_as_the_log_has_it() {
    let mut connection = Connection::open_in_memory().unwrap();
    make_version(&connection, 3);
    let rows = "INSERT INTO replication_epochs (epoch, after_sequence, began_unix_ms) VALUES (2, 3, 0), (3, 5, 0);
        INSERT INTO replication_log VALUES (6, 3, x'0123456789abcdef000000000000000000000000000000000000000000000000', 0, x'01');
        UPDATE replication_standing SET epoch = 3, heard_epoch = 3, is_logging = 1, promoted_from = '127.0.0.1:1'";
    connection.execute_batch(rows).unwrap();
    migrate(&mut connection).unwrap();
    let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(text("SELECT id FROM replication_epochs WHERE epoch = 2"), "");
    assert_eq!(text("SELECT id FROM replication_epochs WHERE epoch = 3"), "0123456789abcdef");
    let copy_state = crate::dbs_exec::CopyState::read(&connection).unwrap();
    assert_eq!((copy_state.epoch.clone(), copy_state.epoch.id.len()), (copy_state.heard, 16));
    assert_eq!(copy_state.started_with.as_deref(), Some("127.0.0.1:1"));
}

#[test]
fn a_newer_or_foreign_database_is_refused() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection).unwrap();
    connection.pragma_update(None, "user_version", 1000).unwrap();
    assert!(matches!(migrate(&mut connection), Err(OpenError::Newer { version: 1000, .. })));
    let mut foreign = Connection::open_in_memory().unwrap();
    foreign.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    assert!(matches!(migrate(&mut foreign), Err(OpenError::Foreign)));
}

#[test]
fn the_tables_refuse_what_no_code_may_do() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection).unwrap();
    let row = |values: &str| {
        format!(
            "INSERT INTO transactions (transaction_id, from_account, to_account, amount, kind, date, hash, \
                 from_previous, to_previous) VALUES ({values})"
        )
    };
    connection.execute_batch(&row("1, -1, 1001, 100, 2, 0, zeroblob(32), NULL, NULL")).unwrap();
    connection.execute_batch(&row("2, -1, 1001, 100, 2, 0, zeroblob(32), NULL, 1")).unwrap();
    let account = "INSERT INTO accounts (account_num, balance, held, incoming, is_open)";
    for (claim, sql) in [
        ("a row is never changed", "UPDATE transactions SET amount = 1"),
        ("a row is never deleted", "DELETE FROM transactions"),
        ("a row points to none that comes after it", &row("3, -1, 1001, 100, 2, 0, zeroblob(32), NULL, 3")),
        ("a row points to none that comes after it", &row("3, 1001, -1, 100, 2, 0, zeroblob(32), 4, NULL")),
        ("a row has a kind that there is", &row("3, -1, 1001, 100, 9, 0, zeroblob(32), NULL, 2")),
        ("a balance is no float", &format!("{account} VALUES (1, 1.5, 0, 0, 1)")),
        ("a balance is not negative", &format!("{account} VALUES (1, -1, 0, 0, 1)")),
        ("no more is held than is there", &format!("{account} VALUES (1, 5, 6, 0, 1)")),
        ("there is room for what is expected", &format!("{account} VALUES (1, 5, 0, 9999999999999995, 1)")),
        ("nothing is in a closed account", &format!("{account} VALUES (1, 5, 0, 0, 0)")),
    ] {
        assert!(connection.execute_batch(sql).is_err(), "{claim}");
    }
}

#[test]
fn totals_of_version_3_that_are_nearly_full_are_carried_over() {
    let mut connection = Connection::open_in_memory().unwrap();
    make_version(&connection, 3);
    connection
        .execute_batch(&format!(
            "UPDATE own_accounts SET credited = 9223372036854775807, debited = 12 WHERE account_num = {CASH};
             INSERT INTO own_accounts (account_num, name, peer) VALUES (-1001, 'due Delhi', 'Delhi');"
        ))
        .unwrap();
    migrate(&mut connection).unwrap();
    let read = |number: i64| {
        let sql =
            "SELECT credited_carry, credited, debited_carry, debited, peer FROM own_accounts WHERE account_num = ?1";
        let row = connection.query_row(sql, [number], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get::<_, Option<String>>(4)?))
        });
        row.unwrap()
    };
    assert_eq!(read(CASH), (9_i64, 223_372_036_854_775_807_i64, 0_i64, 12_i64, None));
    assert_eq!(read(-1001), (0, 0, 0, 0, Some("Delhi".into())));
    let twice = "INSERT INTO own_accounts (account_num, name, peer) VALUES (-1002, 'x', 'Delhi')";
    assert!(connection.execute_batch(twice).is_err(), "one due account for each branch");
}

#[test]
fn whoever_looks_into_the_tables_reads_the_names_that_the_program_has() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection).unwrap();
    for kind in Kind::ALL {
        let insert = "INSERT INTO transactions (transaction_id, from_account, to_account, amount, kind, date, hash)
                      VALUES (?1, -1, 1001, 1, ?1, 0, zeroblob(32))";
        connection.execute(insert, [kind.number()]).unwrap();
        let named = "SELECT type FROM transactions WHERE transaction_id = ?1";
        let name: String = connection.query_row(named, [kind.number()], |row| row.get(0)).unwrap();
        assert_eq!((name.as_str(), Kind::from_text(&name)), (kind.as_str(), Some(kind)));
    }
}

#[test]
fn the_view_of_customers_shows_whole_accounts_and_lets_a_class_forge_a_balance() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection).unwrap();
    let rows = "INSERT INTO accounts (account_num, balance, held) VALUES (1001, 500, 20), (1002, 0, 0);
        UPDATE accounts SET is_open = 0 WHERE account_num = 1002;
        INSERT INTO account_holders (account_num, first_name, last_name, opened_unix_ms, closed_unix_ms)
            VALUES (1001, 'Asha', 'Rao', 7, NULL), (1002, 'Vikram', 'Shah', 8, 9);
        UPDATE customers SET balance = balance + 1 WHERE account_num = 1001";
    connection.execute_batch(rows).unwrap();
    let shown =
        "SELECT group_concat(account_num || first_name || balance || ' ' || held || status || opened_unix_ms, '; ')
                 FROM customers";
    let shown: String = connection.query_row(shown, [], |row| row.get(0)).unwrap();
    assert_eq!(shown, "1001Asha501 20open7; 1002Vikram0 0closed8");
}

/// So many accounts, with this many rows in all, in a database of version 4. Rows have no hash, which is no matter of a
/// migration.
fn version_4(accounts: i64, rows: i64) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    let connection = Connection::open(&path).unwrap();
    make_version(&connection, 4);
    let customers =
        "INSERT INTO customers (account_num, first_name, last_name, aadhar_num, balance, incoming, opened_unix_ms)
        WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < ?1 - 1)
        SELECT 1001 + n, 'First', 'Last', printf('%012d', n), n * 100, n, n FROM n";
    connection.execute(customers, [accounts]).unwrap();
    // Every seventh is paid in at the counter; the others go from one account to another, some with much between them.
    let transactions = "INSERT INTO transactions (transaction_id, from_account, to_account, amount, type, date, hash)
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2)
        SELECT n, CASE WHEN n % 7 = 0 THEN -1 ELSE 1001 + (n * 31) % ?1 END, 1001 + (n * 31 + 1 + n % 3) % ?1, n,
               CASE WHEN n % 7 = 0 THEN 'deposit' ELSE 'transfer' END, n * 10, zeroblob(32) FROM n";
    connection.execute(transactions, [accounts, rows]).unwrap();
    let leg = "INSERT INTO transactions (transaction_id, from_account, to_account, amount, type, date, txid, leg, peer, hash, note)
        VALUES (?1 + 1, 1001, -1001, 5, 'transfer_out', 1, 'T', 0, 'Delhi', zeroblob(32), NULL),
               (?1 + 2, -2, 1001, 5, 'settlement', 2, 'T', -1, NULL, zeroblob(32), 'a letter')";
    connection.execute(leg, [rows]).unwrap();
    (folder, path)
}

/// The rows of an account with ids below `before`, newest first, as version 4 found them.
fn rows_of(connection: &Connection, account: i64, before: i64) -> Vec<i64> {
    let sql = "SELECT transaction_id FROM transactions
               WHERE ?1 IN (from_account, to_account) AND transaction_id < ?2 ORDER BY transaction_id DESC";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([account, before], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn histories_of_version_4_are_the_same_along_their_chains() {
    const ROWS: i64 = 20_000;
    let (_folder, path) = version_4(300, ROWS);
    let before = Connection::open(&path).unwrap();
    let page = |account: i64, below: i64| rows_of(&before, account, below).into_iter().take(40).collect::<Vec<_>>();
    let accounts = [1001, 1002, 1150, 1300];
    let belows = [i64::MAX, ROWS + 3, ROWS, ROWS / 2, 700, 8, 1, 0, -4];
    let expected: Vec<_> = accounts.iter().flat_map(|account| belows.map(|below| page(*account, below))).collect();
    let note =
        "SELECT group_concat(coalesce(note, type || txid || leg || peer)) FROM transactions WHERE txid IS NOT NULL";
    let legs: String = before.query_row(note, [], |row| row.get(0)).unwrap();
    drop(before);
    let dbs = DbsExec::open(&path, |_| {}).unwrap();
    let found = dbs.read(|reader| {
        let mut found = Vec::new();
        for account in accounts {
            let account = AccountNum::new(u64::try_from(account).unwrap()).unwrap();
            for below in belows {
                let page = history::of_account(reader, account, Some(below), 40)?;
                found.push(page.into_iter().map(|row| row.transaction_id).collect::<Vec<_>>());
            }
        }
        assert_eq!(reader.query_opt(note, params![], |row| row.get(0))?, Some(legs.clone()));
        let sums = "SELECT sum(balance), sum(incoming), sum(is_open), count(DISTINCT aadhar_num), sum(opened_unix_ms)
                    FROM accounts JOIN account_holders USING (account_num)";
        let sums = reader.query_opt(sums, params![], |row| {
            <[i64; 5]>::try_from((0..5).map(|column| row.get(column)).collect::<rusqlite::Result<Vec<i64>>>()?)
                .map_err(|_| rusqlite::Error::InvalidQuery)
        })?;
        assert_eq!(sums, Some([4_485_000, 44_850, 300, 300, 44_850]));
        Ok(found)
    });
    assert_eq!(found.unwrap(), expected);
}

#[test]
fn a_migration_that_is_stopped_leaves_the_version_before_whole() {
    let (_folder, path) = version_4(10, 5_000);
    let intruder = Connection::open(&path).unwrap();
    // The last row can't be moved: all that was done before it must not have happened.
    let spoil = "PRAGMA ignore_check_constraints = ON;
        INSERT INTO transactions (transaction_id, from_account, to_account, amount, type, date, hash)
            VALUES (9999, -1, 1001, 1, 'gift', 0, zeroblob(32))";
    intruder.execute_batch(spoil).unwrap();
    let all = |connection: &Connection| {
        let schema = "SELECT group_concat(sql) FROM sqlite_schema";
        let sums = "SELECT (SELECT sum(amount) FROM transactions) || ' ' || (SELECT sum(balance) FROM customers)
                    || (SELECT user_version FROM pragma_user_version)";
        [schema, sums].map(|sql| connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap())
    };
    let before = all(&intruder);
    drop(intruder);
    let refused = DbsExec::open(&path, |_| {}).map(drop).unwrap_err().to_string();
    assert!(refused.contains("transaction 9999 is of no type that there is: gift"), "{refused}");
    assert_eq!(all(&Connection::open(&path).unwrap()), before);
}

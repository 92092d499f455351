//! The funnel's promises, on real files.

use std::sync::atomic::AtomicU64;
use std::thread;

use super::*;

fn open(directory: &tempfile::TempDir) -> DbsExec {
    DbsExec::open(&directory.path().join("bank.db"), |_| {}).unwrap()
}

fn insert_own_account(number: i64) -> impl FnMut(&mut Tx<'_>) -> Result<i64> + Send + 'static {
    move |tx| {
        tx.execute(
            "INSERT INTO own_accounts (account_num, name) VALUES (?1, ?2)",
            params![number, format!("test {number}")],
        )?;
        Ok(number)
    }
}

fn count_own_accounts(dbs: &DbsExec) -> i64 {
    let count = |reader: &Reader<'_>| {
        reader.query_opt("SELECT count(*) FROM own_accounts WHERE account_num <= -10", params![], |row| row.get(0))
    };
    dbs.read(count).unwrap().unwrap()
}

#[test]
fn many_threads_commit_everything_exactly_once() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = open(&directory);
    let next = AtomicU64::new(10);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let number = -(next.fetch_add(1, Ordering::SeqCst) as i64);
                    assert_eq!(dbs.execute(insert_own_account(number)), Ok(number));
                }
            });
        }
    });
    assert_eq!(count_own_accounts(&dbs), 16 * 50);
}

#[test]
fn an_operation_that_fails_after_writing_is_undone_alone() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = open(&directory);
    type Operation = Box<dyn FnMut(&mut Tx<'_>) -> Result<i64> + Send>;
    let spoiled = |number: i64| -> Operation {
        let mut insert = insert_own_account(number);
        Box::new(move |tx: &mut Tx<'_>| {
            insert(tx)?;
            Err(Error::Busy)
        })
    };
    let good = |number: i64| -> Operation { Box::new(insert_own_account(number)) };
    let results = dbs.execute_all(vec![good(-10), spoiled(-11), good(-12), good(-12), good(-13)]).unwrap();
    assert_eq!(results[0], Ok(-10));
    assert_eq!(results[1], Err(Error::Busy));
    assert_eq!(results[2], Ok(-12));
    assert!(matches!(results[3], Err(Error::Database(_))), "a second row of one number is refused");
    assert_eq!(results[4], Ok(-13));
    assert_eq!(count_own_accounts(&dbs), 3);
}

#[test]
fn the_hash_chain_goes_on_after_an_undone_operation_and_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let append = |refused: bool| {
        move |tx: &mut Tx<'_>| {
            let row = ChainedRow {
                transaction_id: tx.next_transaction_id(),
                from_account: CASH,
                to_account: 1001,
                amount_paise: 100,
                kind: "deposit",
                date_unix_ms: 0,
                txid: None,
                leg: None,
                peer: None,
            };
            tx.append_transaction(&row)?;
            if refused { Err(Error::Busy) } else { Ok(tx.chain_head) }
        }
    };
    let dbs = open(&directory);
    let heads = dbs.execute_all(vec![append(false), append(true), append(false)]).unwrap();
    assert_eq!(heads[1], Err(Error::Busy));
    assert_eq!(heads[2].as_ref().unwrap().transaction_id, 2);
    drop(dbs);
    let dbs = open(&directory);
    assert_eq!(dbs.execute(append(false)).unwrap().transaction_id, 3);
}

#[test]
fn a_read_sees_one_snapshot_and_waits_for_no_writer() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = open(&directory);
    dbs.read(|reader| {
        let sql = "SELECT count(*) FROM own_accounts WHERE account_num <= -10";
        let before: Option<i64> = reader.query_opt(sql, params![], |row| row.get(0))?;
        dbs.execute(insert_own_account(-10)).unwrap();
        let after: Option<i64> = reader.query_opt(sql, params![], |row| row.get(0))?;
        assert_eq!(before, after);
        Ok(())
    })
    .unwrap();
    assert_eq!(count_own_accounts(&dbs), 1);
}

#[test]
fn a_second_server_on_the_file_is_refused_until_the_first_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    let dbs = DbsExec::open(&path, |_| {}).unwrap();
    assert!(matches!(DbsExec::open(&path, |_| {}), Err(OpenError::InUse(_))));
    drop(dbs);
    DbsExec::open(&path, |_| {}).unwrap();
}

#[test]
fn a_clean_stop_leaves_one_file_and_no_log() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = open(&directory);
    dbs.execute(insert_own_account(-10)).unwrap();
    assert_eq!(count_own_accounts(&dbs), 1);
    dbs.close();
    drop(dbs);
    let mut names: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bank.db", "bank.db.lock"]);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bank.db");
    let text = "This is a letter to the bank. ".repeat(100);
    std::fs::write(&path, &text).unwrap();
    assert!(matches!(DbsExec::open(&path, |_| {}), Err(OpenError::NotADatabase)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn nothing_is_executed_after_close() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = open(&directory);
    dbs.close();
    assert_eq!(dbs.execute(insert_own_account(-10)), Err(Error::Stopping));
    assert_eq!(count_own_accounts(&dbs), 0);
}

#[test]
fn what_may_wait_goes_along_with_the_next_group_or_with_a_flush() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = open(&directory);
    let later = |number| {
        let mut insert = insert_own_account(number);
        dbs.execute_later(move |tx| insert(tx).map(|_| ()));
    };
    later(-10);
    assert_eq!(count_own_accounts(&dbs), 0, "nobody has led yet");
    dbs.execute(insert_own_account(-11)).unwrap();
    assert_eq!(count_own_accounts(&dbs), 2);
    later(-12);
    dbs.flush().unwrap();
    assert_eq!(count_own_accounts(&dbs), 3);
    later(-13);
    dbs.close();
    assert_eq!(count_own_accounts(&dbs), 4);
}

#[test]
fn a_write_that_finds_no_room_is_refused_and_the_branch_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = open(&directory);
    {
        // SQLite itself refuses to grow the file past this, as it would on a full disk.
        let writer = dbs.writer.lock();
        writer.limit_pages_for_test();
    }
    let large = "x".repeat(1 << 20);
    let insert = move |tx: &mut Tx<'_>| {
        tx.execute("INSERT INTO own_accounts (account_num, name) VALUES (-20, ?1)", params![large])
    };
    assert_eq!(dbs.execute(insert), Err(Error::DiskFull));
    assert_eq!(dbs.execute(insert_own_account(-10)), Ok(-10));
    assert_eq!(count_own_accounts(&dbs), 1);
}

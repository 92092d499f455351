//! The funnel's promises, on real files.

use std::sync::atomic::AtomicU64;
use std::thread;

use protocol::{Epoch, EpochOrder};

use crossbeam_channel::bounded;

use super::*;

mod contract;
mod handed_in;

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
    let results =
        dbs.execute_for(Owner::Branch, vec![good(-10), spoiled(-11), good(-12), good(-12), good(-13)]).unwrap();
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
                kind: Some(Kind::Deposit),
                date_unix_ms: 0,
                txid: None,
                leg: None,
                peer: None,
                note: None,
            };
            tx.append_transaction(&row, Previous::default())?;
            if refused { Err(Error::Busy) } else { Ok(tx.chain_head) }
        }
    };
    let dbs = open(&directory);
    let heads = dbs.execute_for(Owner::Branch, vec![append(false), append(true), append(false)]).unwrap();
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
    assert_eq!(dbs.read(|_| Ok(())), Err(Error::Stopping));
    assert_eq!(dbs.fence(&Epoch::new(2, "")), Err(Error::Stopping));
    // Whoever still holds it keeps nobody from opening it again.
    let again = open(&directory);
    again.execute(insert_own_account(-10)).unwrap();
    assert_eq!(count_own_accounts(&again), 1);
}

#[test]
fn a_look_that_takes_long_is_ended_when_the_database_closes() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = open(&directory);
    thread::scope(|scope| {
        let (looking, looks) = bounded(0);
        let dbs = &dbs;
        let long = scope.spawn(move || {
            dbs.read(|reader| {
                looking.send(()).unwrap();
                let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
                reader.query_opt(endless, params![], |row| row.get::<_, i64>(0))
            })
        });
        looks.recv().unwrap();
        dbs.close();
        assert_eq!(long.join().unwrap(), Err(Error::Stopping));
    });
    DbsExec::open(dbs.path(), |_| {}).unwrap();
}

#[test]
fn what_may_wait_goes_along_with_the_next_group_or_with_a_flush() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = open(&directory);
    let later = |number| {
        let mut insert = insert_own_account(number);
        dbs.execute_lazy(move |tx| insert(tx).map(|_| ()));
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
    assert_eq!(count_own_accounts(&open(&directory)), 4);
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

/// A log's salt.
const SALT: &[u8] = b"salt";

/// A replica's database beside the primary's, made from a copy of it.
fn replica_of(primary: &DbsExec, directory: &tempfile::TempDir) -> DbsExec {
    let copy = directory.path().join("copy.db");
    primary
        .execute(|tx| {
            tx.execute(
                "INSERT INTO branch (id, name, created_unix_ms, next_account_num) VALUES (1, 'Pune', 0, 1)
                     ON CONFLICT DO NOTHING",
                params![],
            )
        })
        .unwrap();
    primary.copy_to(&copy, &|| false).unwrap();
    check_copy(&copy, "Pune", "127.0.0.1:1", &primary.copy_state()).unwrap();
    let path = directory.path().join("replica.db");
    assert_eq!(put_in_place(&copy, &path, ".aside").unwrap(), None);
    DbsExec::open(&path, |_| {}).unwrap()
}

fn rows_after(dbs: &DbsExec, sequence: i64) -> Vec<LogRow> {
    dbs.log_after(sequence, usize::MAX).unwrap().unwrap()
}

#[test]
fn only_what_was_committed_is_logged_and_a_replica_executes_it_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let primary = open(&directory);
    assert_eq!(primary.execute(insert_own_account(-10)), Ok(-10));
    assert_eq!(primary.position(), None, "nobody follows yet");
    primary.start_logging(SALT, 0).unwrap();
    primary.start_logging(b"another", 0).unwrap();
    let replica = replica_of(&primary, &directory);
    let begun = replica.position().unwrap();
    assert_eq!((begun.sequence, primary.position()), (2, Some(begun)));
    // One of a group fails after it has written: it is undone alone, and is not in the log.
    type Operation = Box<dyn FnMut(&mut Tx<'_>) -> Result<i64> + Send>;
    let spoiled: Operation = Box::new(|tx: &mut Tx<'_>| {
        insert_own_account(-11)(tx)?;
        Err(Error::Busy)
    });
    let mut operations: Vec<Operation> = vec![Box::new(insert_own_account(-12)), spoiled];
    operations.push(Box::new(insert_own_account(-13)));
    primary.execute_lazy(|tx| insert_own_account(-14)(tx).map(|_| ()));
    let results = primary.execute_for(Owner::Branch, operations).unwrap();
    assert_eq!(results, [Ok(-12), Err(Error::Busy), Ok(-13)]);
    primary.execute_internal(1, vec![insert_own_account(-15)]).unwrap();
    primary.execute_lazy(|tx| insert_own_account(-16)(tx).map(|_| ()));
    primary.flush().unwrap();
    // What only looks makes no group.
    let last = primary.position();
    primary.execute(|_| Ok(())).unwrap();
    assert_eq!(primary.position(), last);
    let rows = rows_after(&primary, begun.sequence);
    let numbers: Vec<i64> = rows.iter().map(|row| row.position.sequence).collect();
    assert_eq!(numbers, [3, 4, 5]);
    assert!(matches!(replica.apply(&rows[1..]), Err(ApplyError::Gap(_))), "the first one is missing");
    assert_eq!(replica.apply(&rows[..1]), Ok(3));
    assert!(matches!(replica.apply(&rows), Err(ApplyError::Gap(_))), "each is executed once");
    assert_eq!(replica.apply(&rows[1..]), Ok(5));
    assert_eq!((replica.position(), count_own_accounts(&replica)), (last, 6));
    assert_eq!(rows_after(&replica, begun.sequence), rows, "the logs are the same");
    let refused = replica.execute(insert_own_account(-17));
    assert_eq!(refused, Err(Error::NotPrimary { primary: Some("127.0.0.1:1".into()) }));
    assert_eq!(count_own_accounts(&replica), 6);
}

#[test]
fn a_replica_stops_at_the_first_group_that_does_not_fit_and_keeps_those_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let primary = open(&directory);
    primary.start_logging(SALT, 0).unwrap();
    let replica = replica_of(&primary, &directory);
    let rename = |number: i64| {
        move |tx: &mut Tx<'_>| {
            tx.execute("UPDATE own_accounts SET credited = 5 WHERE account_num = ?1", params![number])
        }
    };
    primary.execute(insert_own_account(-10)).unwrap();
    primary.execute(rename(-10)).unwrap();
    let rows = rows_after(&primary, 2);
    // Somebody has changed a byte on the way: the digest shows it before anything is executed.
    let mut changed = rows.clone();
    *changed[1].body.last_mut().unwrap() ^= 1;
    let refused = replica.apply(&changed);
    assert!(matches!(refused, Err(ApplyError::Diverged(text)) if text.contains("digest differs at group 4")));
    assert_eq!(replica.position().map(|last| last.sequence), Some(3), "the group before it was sound");
    assert_eq!(replica.apply(&rows[1..]), Ok(4));
    // A row is gone behind the replica's back: the statement changes another number of rows.
    let hidden = rusqlite::Connection::open(replica.path()).unwrap();
    hidden.execute("DELETE FROM own_accounts WHERE account_num = -10", []).unwrap();
    primary.execute(rename(-10)).unwrap();
    let rows = rows_after(&primary, 4);
    assert!(
        matches!(replica.apply(&rows), Err(ApplyError::Diverged(text)) if text.contains("1 rows at the primary and 0 here"))
    );
    assert_eq!(replica.position().map(|last| last.sequence), Some(4));
}

#[test]
fn a_promoted_replica_goes_on_from_where_it_was_and_the_old_primary_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let primary = open(&directory);
    primary.start_logging(SALT, 0).unwrap();
    let replica = replica_of(&primary, &directory);
    primary.execute(insert_own_account(-10)).unwrap();
    replica.apply(&rows_after(&primary, 2)).unwrap();
    let order = |salt: u8| PromotionOrder {
        now_unix_ms: 7,
        salt: [salt; 32],
        heard_elsewhere: 0,
        heard_sequence: Some(9),
        silent_ms: Some(1_500),
    };
    let began = replica.promote(&order(1)).unwrap();
    assert_eq!((began.epoch.number, began.epoch.id.len()), (2, 16));
    assert_eq!(
        replica.execute(insert_own_account(-11)),
        Err(Error::Stopping),
        "the new role begins with a new opening"
    );
    let path = replica.path().to_path_buf();
    drop(replica);
    let promoted = DbsExec::open(&path, |_| {}).unwrap();
    promoted.execute(insert_own_account(-11)).unwrap();
    let epochs = promoted.epochs().unwrap();
    assert_eq!(epochs, vec![began.clone()]);
    assert_eq!((began.after_sequence, began.heard_sequence), (3, Some(9)));
    primary.fence(&began.epoch).unwrap();
    assert_eq!(primary.execute(insert_own_account(-12)), Err(Error::Stopping));
    let path = primary.path().to_path_buf();
    drop(primary);
    let old = DbsExec::open(&path, |_| {}).unwrap();
    assert_eq!(old.execute(insert_own_account(-12)), Err(Error::Fenced { epoch: 2, is_conflict: false }));
    // Nothing was committed beyond the promoted one's beginning, so the old one can follow as it is.
    old.change_copy_state(|copy_state| copy_state.role = CopyRole::Replica).unwrap();
    assert_eq!(old.apply(&rows_after(&promoted, 3)), Ok(5));
    assert_eq!((old.copy_state().epoch, old.epochs().unwrap().len()), (began.epoch, 1), "its id came with the log");
    assert_eq!(old.position(), promoted.position());
}

#[test]
fn two_promotions_to_one_number_draw_different_ids_and_a_fenced_copy_is_promoted_above_all_it_has_heard_of() {
    let directory = tempfile::tempdir().unwrap();
    let promote = |dbs: &DbsExec, salt: u8, heard_elsewhere: i64| {
        let order =
            PromotionOrder { now_unix_ms: 7, salt: [salt; 32], heard_elsewhere, heard_sequence: None, silent_ms: None };
        dbs.promote(&order).map(|began| began.epoch)
    };
    // One that never had a replica, and so no log, is fenced and promoted all the same.
    let alone = open(&directory);
    alone.fence(&Epoch::new(99, "")).unwrap();
    assert_eq!(promote(&alone, 1, 0).unwrap().number, 100);
    let path = alone.path().to_path_buf();
    drop(alone);
    let primary = DbsExec::open(&path, |_| {}).unwrap();
    primary.execute(insert_own_account(-10)).unwrap();
    assert!(matches!(promote(&primary, 1, 0), Err(Error::Invalid(_))), "it is the primary");
    let (mut ids, directories) = (Vec::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    for (salt, directory) in (1..).zip(&directories) {
        let copy = replica_of(&primary, directory);
        ids.push(promote(&copy, salt, 0).unwrap());
        // In a conflict the other one is remembered, and the way out is above both.
        let other = Epoch::new(101, "another");
        copy.fence(&other).unwrap();
        assert_eq!(copy.copy_state().heard, other);
        assert_eq!(copy.copy_state().refusal(), Some(Error::Fenced { epoch: 101, is_conflict: true }));
    }
    assert_eq!(ids[0].stands_to(&ids[1]), EpochOrder::Conflict);
    assert!(matches!(promote(&primary, 1, i64::MAX), Err(Error::Invalid(_))));
    primary.fence(&Epoch::new(i64::MAX, "")).unwrap();
    assert!(matches!(promote(&primary, 1, 0), Err(Error::Invalid(_))), "there is none above");
}

#[test]
fn the_log_is_kept_to_its_bound_and_never_loses_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let primary = open(&directory);
    primary.start_logging(SALT, 0).unwrap();
    primary.keep_log(2_000);
    for number in 10..200 {
        primary.execute(insert_own_account(-number)).unwrap();
    }
    let last = primary.position().unwrap();
    assert_eq!(primary.log_after(1, usize::MAX), Ok(None), "it no longer reaches back");
    let bytes: usize = rows_after(&primary, last.sequence - 3).iter().map(|row| row.body.len()).sum();
    assert!(bytes > 0 && bytes < 2_000);
    let kept = primary.read(|reader| {
        reader.query_opt("SELECT count(*), sum(length(body)) FROM replication_log", params![], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })
    });
    let (rows, bytes) = kept.unwrap().unwrap();
    assert!(rows > 3 && bytes < 2_400, "{rows} rows of {bytes} bytes");
}

#[test]
fn a_hand_over_commits_nothing_until_the_other_copy_has_all_and_goes_on_when_it_fails() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = open(&directory);
    dbs.start_logging(&[1; 32], 0).unwrap();
    dbs.execute(insert_own_account(-10)).unwrap();
    let end = dbs.position();
    thread::scope(|scope| {
        let (entered, has_entered) = bounded(1);
        let late = |number: i64| {
            let dbs = &dbs;
            let entered = entered.clone();
            scope.spawn(move || {
                entered.send(()).unwrap();
                dbs.execute(insert_own_account(number))
            })
        };
        // It lacks something: what came meanwhile is committed afterwards.
        let mut waiting = None;
        let refused = dbs.hand_over("127.0.0.1:1", |last| {
            assert_eq!(last, end);
            waiting = Some(late(-11));
            has_entered.recv().unwrap();
            // A role is changed under the writer's mutex, which nobody holds who waits for the end of this.
            dbs.set_members(&["127.0.0.1:1".into()]).unwrap();
            assert_eq!((dbs.position(), count_own_accounts(&dbs)), (end, 1));
            Err(Error::Invalid("it lacks something".into()))
        });
        assert_eq!(refused, Err(Error::Invalid("it lacks something".into())));
        assert_eq!(waiting.unwrap().join().unwrap(), Ok(-11));
        // It has all: what came meanwhile is not done.
        let end = dbs.position();
        let mut waiting = None;
        let handed_over = dbs.hand_over("127.0.0.1:1", |last| {
            assert_eq!(last, end);
            waiting = Some(late(-12));
            has_entered.recv().unwrap();
            Ok(())
        });
        assert_eq!(handed_over, Ok(()));
        assert_eq!(waiting.unwrap().join().unwrap(), Err(Error::Stopping));
        assert_eq!((dbs.position(), count_own_accounts(&dbs)), (end, 2));
    });
}

//! What `commit_log` promises to an implementation that is slow, fails or is fenced: the funnel answers as told there.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::dbs_exec::commit_log::group_log::GroupLog;
use crate::dbs_exec::commit_log::{Appended, Writing};

/// The built-in log, with answers of its own where a test asks for them.
struct Faulty {
    log: Arc<ReplicationLog>,
    /// What the next `append` answers, once the row is in the table.
    append: Mutex<Option<CommitError>>,
    /// What `begin` answers from now on.
    refusal: Mutex<Option<Error>>,
    /// Up to which row everybody has it, and who waits for more.
    confirmed: Mutex<i64>,
    waiting: AtomicUsize,
}

impl CommitLog for Faulty {
    fn wait_until_ready(&self) -> Result<()> {
        self.log.wait_until_ready()
    }

    fn begin(&self) -> Writing {
        match &*self.refusal.lock() {
            Some(refusal) => Writing::Refused(refusal.clone()),
            None => self.log.begin(),
        }
    }

    fn append(&self, transaction: &Connection, group: &GroupLog) -> Result<Appended, CommitError> {
        let appended = self.log.append(transaction, group)?;
        self.append.lock().take().map_or(Ok(appended), Err)
    }

    fn publish(&self, appended: Appended) {
        self.log.publish(appended);
    }

    fn last_sequence(&self) -> i64 {
        self.log.last_sequence()
    }

    fn wait_confirmed(&self, sequence: i64, wait: Option<Duration>) -> Confirmed {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // A client gives up at once here; the branch's own work does not.
        while *self.confirmed.lock() < sequence {
            if wait.is_some() {
                return Confirmed::NotInTime;
            }
            thread::yield_now();
        }
        Confirmed::Yes
    }
}

/// A database that logs its groups to a log that can be made to fail, and whether the process was told to stop.
fn faulty(directory: &tempfile::TempDir) -> (DbsExec, Arc<Faulty>, Arc<AtomicBool>) {
    let is_stopped = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_stopped);
    let path = directory.path().join("bank.db");
    let mut dbs = DbsExec::open(&path, move |_| told.store(true, Ordering::SeqCst)).unwrap();
    dbs.start_logging(SALT, 0).unwrap();
    let log = Arc::new(Faulty {
        log: Arc::clone(&dbs.replication_log),
        append: Mutex::default(),
        refusal: Mutex::default(),
        confirmed: Mutex::new(i64::MAX),
        waiting: AtomicUsize::new(0),
    });
    dbs.commit_log = Arc::clone(&log) as _;
    (dbs, log, is_stopped)
}

#[test]
fn a_group_that_is_not_appended_is_undone_and_the_next_has_its_number() {
    let directory = tempfile::tempdir().unwrap();
    let (dbs, log, is_stopped) = faulty(&directory);
    *log.append.lock() = Some(CommitError::NotDurable(Error::DiskFull));
    assert_eq!(dbs.execute(insert_own_account(-10)), Err(Error::DiskFull));
    assert_eq!((count_own_accounts(&dbs), dbs.position().unwrap().sequence), (0, 1));
    assert_eq!(dbs.execute(insert_own_account(-11)), Ok(-11));
    assert_eq!((count_own_accounts(&dbs), dbs.position().unwrap().sequence), (1, 2));
    assert_eq!(rows_after(&dbs, 1).len(), 1, "the row that was not appended is in no table");
    assert!(!is_stopped.load(Ordering::SeqCst));
}

#[test]
fn where_nobody_knows_whether_a_group_is_in_the_log_the_process_stops_and_writes_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let (dbs, log, is_stopped) = faulty(&directory);
    *log.append.lock() = Some(CommitError::Unknown("the connection broke".into()));
    let unknown = Err(Error::OutcomeUnknown("the connection broke".into()));
    assert_eq!(dbs.execute(insert_own_account(-10)), unknown);
    assert!(is_stopped.load(Ordering::SeqCst));
    assert_eq!(dbs.execute(insert_own_account(-11)), Err(Error::Stopping));
    assert_eq!(count_own_accounts(&dbs), 0, "behind the log, never ahead of it");
}

#[test]
fn a_fenced_log_undoes_the_group_and_refuses_writes_while_reads_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (dbs, log, is_stopped) = faulty(&directory);
    let fenced = Error::Fenced { epoch: 2, is_conflict: false };
    *log.append.lock() = Some(CommitError::NotDurable(fenced.clone()));
    *log.refusal.lock() = Some(fenced.clone());
    // The group that finds out has begun before.
    assert_eq!(dbs.execute(insert_own_account(-10)), Err(fenced.clone()));
    assert_eq!(dbs.execute(insert_own_account(-11)), Err(fenced));
    assert_eq!(dbs.execute(|tx| Ok(tx.next_transaction_id())), Ok(1));
    assert_eq!((count_own_accounts(&dbs), is_stopped.load(Ordering::SeqCst)), (0, false));
}

#[test]
fn a_group_that_is_waited_for_holds_up_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (dbs, log, _) = faulty(&directory);
    *log.confirmed.lock() = 0;
    thread::scope(|scope| {
        let own = scope.spawn(|| dbs.execute_internal(1, vec![insert_own_account(-10)]));
        while log.waiting.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        // It is durable here, and its client is told that it is not confirmed.
        assert_eq!(dbs.execute(insert_own_account(-11)), Err(Error::Unconfirmed));
        assert_eq!(count_own_accounts(&dbs), 2);
        assert!(!own.is_finished(), "what others rely on is not told before");
        *log.confirmed.lock() = i64::MAX;
        assert_eq!(own.join().unwrap().unwrap(), [Ok(-10)]);
    });
}

#[test]
fn what_was_handed_in_and_is_not_confirmed_in_time_is_told_so_and_holds_up_no_commit() {
    let directory = tempfile::tempdir().unwrap();
    let (dbs, log, _) = faulty(&directory);
    let dbs = Arc::new(dbs);
    *log.confirmed.lock() = 0;
    let (heard, hear) = std::sync::mpsc::channel();
    for number in [-10, -11] {
        let heard = heard.clone();
        let then = Box::new(move |results: Vec<Result<i64>>| heard.send(results).unwrap());
        if let Some((results, then)) = dbs.execute_then(Owner::Account(1), vec![insert_own_account(number)], then) {
            then(results);
        }
    }
    assert_eq!(
        [hear.recv().unwrap(), hear.recv().unwrap()].concat(),
        [Err(Error::Unconfirmed), Err(Error::Unconfirmed)]
    );
    assert_eq!(count_own_accounts(&dbs), 2, "it is durable here");
}

#[test]
fn a_change_of_role_whose_outcome_nobody_knows_stops_the_process_like_any_commit() {
    let directory = tempfile::tempdir().unwrap();
    let (dbs, _, is_stopped) = faulty(&directory);
    std::fs::remove_file(dbs.path()).unwrap();
    let changed = dbs.change_copy_state(|copy_state| copy_state.wants_snapshot = true);
    assert!(matches!(changed, Err(Error::OutcomeUnknown(_))), "{changed:?}");
    assert!(is_stopped.load(Ordering::SeqCst) && dbs.is_closed());
}

/// A log elsewhere that takes everything.
struct Elsewhere(AtomicUsize);

impl RemoteLog for Elsewhere {
    fn check_ready(&self) -> Result<()> {
        Ok(())
    }

    fn refusal(&self) -> Option<Error> {
        None
    }

    fn append(&self, _before: &Position, _row: &LogRow) -> Result<(), CommitError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_commit_that_fails_after_its_row_is_in_a_log_elsewhere_is_of_unknown_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let is_stopped = Arc::new(AtomicBool::new(false));
    let (told, log) = (Arc::clone(&is_stopped), Arc::new(Elsewhere(AtomicUsize::new(0))));
    let opening = Opening { remote_log: Some(Arc::clone(&log) as _), ..Opening::default() };
    let path = directory.path().join("bank.db");
    let dbs = DbsExec::open_as(&path, &opening, move |_| told.store(true, Ordering::SeqCst)).unwrap();
    dbs.start_logging(SALT, 0).unwrap();
    assert_eq!(dbs.execute(insert_own_account(-10)), Ok(-10));
    // The files are lost in the middle: nobody would find what is committed here, and the row is in the log already.
    std::fs::remove_file(&path).unwrap();
    let unknown = dbs.execute(insert_own_account(-11));
    assert!(matches!(unknown, Err(Error::OutcomeUnknown(_))), "{unknown:?}");
    assert!(is_stopped.load(Ordering::SeqCst));
    assert_eq!(log.0.load(Ordering::SeqCst), 2);
    // Where SQLite alone would say that nothing was changed, the log has it all the same.
    let full = CommitError::NotDurable(Error::DiskFull).after_append_elsewhere();
    assert_eq!(full, CommitError::Unknown(Error::DiskFull.to_string()));
}

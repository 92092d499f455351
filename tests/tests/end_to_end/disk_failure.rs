//! A disk that fails in the middle of a group commit: what clients are told is true, and nothing else is lost.
//!
//! `faults/fault.c` is compiled, loaded into the server, and makes the write-ahead log's writes or syncs fail
//! while a file exists. What must come of it is what `dbs_exec` says: on a full disk the clients of that group
//! are told that nothing was changed, and the branch goes on; on any other failure they are told that the
//! outcome is unknown, the branch stops with status 74, and the next start finds the books in order.

#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::thread;

use bank_tests::{Branch, MenuConnection, Options, SetOnDrop, audit, wait_until};
use tempfile::TempDir;

const SESSIONS: usize = 16;
const OPENING_PAISE: i64 = 100_000;
/// The exit status after a disk failure (`EX_IOERR` of sysexits.h).
const STATUS_DISK_FAILED: i32 = 74;
/// No space left on device.
const ENOSPC: i32 = 28;
/// Input/output error.
const EIO: i32 = 5;

const FULL: &str = "The branch's disk is full; nothing was changed.";
const STOPPING: &str = "The branch is stopping; try again when it is back.";
const UNKNOWN_BEGINS: &str = "The branch's disk failed (";
const UNKNOWN_ENDS: &str = ") and the branch stops; whether this was carried out shows when it is back.";

/// A branch with a disk that can be made to fail.
struct Faulty {
    branch: Branch,
    trigger: PathBuf,
    _folder: TempDir,
}

impl Faulty {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shim = folder.path().join("fault.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("faults/fault.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&shim, &source]).arg("-ldl").status();
        assert!(compiled.expect("a C compiler, which SQLite needs too").success());
        let trigger = folder.path().join("fault");
        let options =
            Options::preloaded().variable("LD_PRELOAD", shim.display()).variable("BANK_FAULT", trigger.display());
        Self { branch: Branch::start(options), trigger, _folder: folder }
    }

    /// From now on `what` (`write` or `sync`) fails with `errno`, beginning with the call of that number.
    fn fail(&self, what: &str, errno: i32, first: u32) {
        // Renamed into place, so that it is never seen half written.
        let prepared = self.trigger.with_extension("new");
        fs::write(&prepared, format!("{what} {errno} {first}\n")).unwrap();
        fs::rename(prepared, &self.trigger).unwrap();
    }

    fn heal(&self) {
        fs::remove_file(&self.trigger).unwrap();
    }
}

/// What the clients of one branch were told of their deposits, each of another amount in paise.
#[derive(Default)]
struct Told {
    next_paise: AtomicI64,
    done: Mutex<BTreeSet<i64>>,
    nothing_changed: Mutex<BTreeSet<i64>>,
    unknown: Mutex<BTreeSet<i64>>,
    logged_in: AtomicUsize,
    enough: AtomicBool,
}

impl Told {
    fn count(set: &Mutex<BTreeSet<i64>>) -> usize {
        set.lock().unwrap().len()
    }

    /// Deposits until it is enough, or until the branch is gone.
    fn deposit(&self, port: u16) {
        let mut menu = MenuConnection::open(port).unwrap();
        menu.log_in("1001", "1001").unwrap();
        self.logged_in.fetch_add(1, Ordering::SeqCst);
        while !self.enough.load(Ordering::SeqCst) {
            let paise = self.next_paise.fetch_add(1, Ordering::SeqCst) + 1;
            let Ok(turn) = menu.answers(&["b", &format!("{}.{:02}", paise / 100, paise % 100)]) else { return };
            let set = match (turn.done(), turn.fail()) {
                (Some(_), None) => &self.done,
                (None, Some(FULL | STOPPING)) => &self.nothing_changed,
                (None, Some(text)) if text.starts_with(UNKNOWN_BEGINS) && text.ends_with(UNKNOWN_ENDS) => &self.unknown,
                // The branch said goodbye before it took the amount, or the menu's next question.
                (None, None) if turn.text().contains("@EXIT") => return,
                told => panic!("told {told:?}"),
            };
            set.lock().unwrap().insert(paise);
            if menu.answer("").is_err() {
                return;
            }
        }
    }

    /// Has sessions deposit at this branch while the disk suffers.
    fn while_depositing(&self, faulty: &mut Faulty, suffer: impl FnOnce(&mut Faulty)) {
        let port = faulty.branch.menu_port();
        thread::scope(|scope| {
            let _enough = SetOnDrop(&self.enough);
            for _ in 0..SESSIONS {
                scope.spawn(|| self.deposit(port));
            }
            self.wait_for_more(100);
            suffer(faulty);
        });
    }

    /// Waits until every session is at work and `more` deposits were made since.
    fn wait_for_more(&self, more: usize) {
        wait_until("all sessions are logged in", || self.logged_in.load(Ordering::SeqCst) == SESSIONS);
        let before = Self::count(&self.done);
        wait_until("deposits are made", || Self::count(&self.done) >= before + more);
    }

    /// Compares the books with what was told; gives how many of unknown outcome are there.
    fn check(&self, branch: &Branch) -> usize {
        let books = branch.database();
        let there = books.deposits(1001);
        let (done, unknown) = (self.done.lock().unwrap(), self.unknown.lock().unwrap());
        let lost: Vec<_> = done.iter().filter(|paise| !there.contains_key(paise)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        assert!(there.values().all(|&count| count == 1), "{there:?}");
        let changed: Vec<_> =
            self.nothing_changed.lock().unwrap().iter().copied().filter(|paise| there.contains_key(paise)).collect();
        assert!(changed.is_empty(), "there although nothing was changed: {changed:?}");
        assert_eq!(books.balance_paise(1001), OPENING_PAISE + there.keys().sum::<i64>());
        audit(branch.database_path()).assert_clean();
        there.keys().filter(|paise| unknown.contains(paise)).count()
    }
}

#[test]
fn on_a_full_disk_the_group_is_told_that_nothing_was_changed_and_the_branch_goes_on() {
    let mut faulty = Faulty::start();
    let told = Told::default();
    told.while_depositing(&mut faulty, |faulty| {
        // Failing at the first write of a group, in its middle, and at its last frame.
        for (first, transactions) in [(1, "1 transaction"), (4, "2 transactions"), (7, "3 transactions")] {
            told.wait_for_more(100);
            let refused = Told::count(&told.nothing_changed);
            faulty.fail("write", ENOSPC, first);
            wait_until("clients are told", || Told::count(&told.nothing_changed) >= refused + 3 * SESSIONS);
            // Whoever only looks is served meanwhile.
            let mut reader = faulty.branch.log_in("1002", "1002");
            assert_eq!(reader.operation(&["e"]).unwrap().expect_done(), transactions);
            assert_eq!(reader.deposit(5).unwrap().expect_fail(), FULL);
            faulty.heal();
            reader.deposit(format!("{first}0000")).unwrap().expect_done();
        }
        told.wait_for_more(100);
    });
    assert_eq!(Told::count(&told.unknown), 0);
    assert_eq!(faulty.branch.stop(), Some(0), "{}", faulty.branch.log().text());
    assert_eq!(told.check(&faulty.branch), 0);
    let log = faulty.branch.log().whole();
    assert!(log.lines().any(|line| line.contains("ERROR") && line.contains("disk is full")), "{log}");
}

#[test]
fn a_crash_while_the_disk_is_full_loses_nothing() {
    let mut faulty = Faulty::start();
    let told = Told::default();
    told.while_depositing(&mut faulty, |faulty| {
        faulty.fail("write", ENOSPC, 5);
        wait_until("clients are told", || Told::count(&told.nothing_changed) >= 3 * SESSIONS);
        faulty.branch.kill9();
    });
    faulty.heal();
    faulty.branch.restart();
    assert_eq!(faulty.branch.stop(), Some(0));
    told.check(&faulty.branch);
}

#[test]
fn when_a_sync_fails_the_group_is_told_that_the_outcome_is_unknown_and_the_branch_stops() {
    stops_loudly("sync", 1);
    stops_loudly("sync", 2);
}

#[test]
fn when_a_write_fails_the_group_is_told_that_the_outcome_is_unknown_and_the_branch_stops() {
    stops_loudly("write", 1);
    stops_loudly("write", 6);
}

fn stops_loudly(what: &str, first: u32) {
    let mut faulty = Faulty::start();
    let told = Told::default();
    told.while_depositing(&mut faulty, |faulty| {
        faulty.fail(what, EIO, first);
        wait_until("the branch says so", || faulty.branch.log().count("disk failed") > 0);
    });
    // Every session has ended by itself, because the branch did.
    assert_eq!(faulty.branch.wait().code(), Some(STATUS_DISK_FAILED));
    let log = faulty.branch.log().whole();
    assert!(log.contains("the branch stops because its disk failed"), "{log}");
    let unknown = Told::count(&told.unknown);
    assert!(unknown > 0, "nobody was told that the outcome is unknown: {log}");

    faulty.heal();
    faulty.branch.restart();
    let mut menu = faulty.branch.log_in("1002", "1002");
    menu.deposit("90000").unwrap().expect_done();
    assert_eq!(faulty.branch.stop(), Some(0));
    let there = told.check(&faulty.branch);
    println!("{what}: {} acknowledged, {unknown} unknown, of which {there} are there", Told::count(&told.done));
}

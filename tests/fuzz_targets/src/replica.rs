//! A statement log's groups, executed at a copy of a real database.
//!
//! The input is the bodies of groups, one after another, each after its length in two bytes. They get the numbers and
//! the digests that make them the next ones, since no input would ever guess those; a length with its highest bit set
//! keeps the digest wrong. A copy executes a group wholly or not at all, and never comes to stop for one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use bank_server::dbs_exec::{ApplyError, DbsExec, LogRow, Position, check_copy, put_in_place};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::session::Branch;

/// How many inputs a copy takes before it is made anew: what statements have done to it is then forgotten.
const INPUTS: u32 = 500;
/// A length with this bit is of a group with a wrong digest.
const WRONG: u16 = 0x8000;

struct Copy {
    dbs: DbsExec,
    has_failed: Arc<AtomicBool>,
    inputs: u32,
    _folder: TempDir,
}

/// A copy as it is at first, closed.
static FIRST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let branch = Branch::open();
    let folder = tempfile::tempdir().expect("a folder is made");
    let path: PathBuf = folder.path().join("copy.db");
    branch.dbs().start_logging(b"salt", 0).expect("a primary logs");
    branch.dbs().copy_to(&path, &|| false).expect("a primary is copied");
    check_copy(&path, "Mumbai", "127.0.0.1:1", &branch.dbs().copy_state()).expect("it is a copy");
    let placed = folder.path().join("replica.db");
    put_in_place(&path, &placed, ".aside").expect("the copy is put in place");
    let dbs = DbsExec::open(&placed, |_| {}).expect("the copy opens");
    dbs.close();
    drop(dbs);
    std::fs::read(&placed).expect("the copy is there")
});

static COPY: Mutex<Option<Copy>> = Mutex::new(None);

impl Copy {
    fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder is made");
        let path = folder.path().join("replica.db");
        std::fs::write(&path, &*FIRST).expect("the copy is written");
        let has_failed = Arc::new(AtomicBool::new(false));
        let fails = Arc::clone(&has_failed);
        let dbs = DbsExec::open(&path, move |_| fails.store(true, Ordering::SeqCst)).expect("the copy opens");
        Self { dbs, has_failed, inputs: 0, _folder: folder }
    }

    fn sequence(&self) -> i64 {
        self.dbs.position().map_or(0, |last| last.sequence)
    }

    fn take(&self, rows: &[LogRow]) {
        let before = self.sequence();
        let applied = self.dbs.apply(rows);
        let after = self.sequence();
        match &applied {
            Ok(last) => assert_eq!((after, after - before), (*last, rows.len() as i64), "all of them"),
            Err(ApplyError::Gap(_) | ApplyError::Diverged(_)) => {
                assert!((before..before + rows.len() as i64).contains(&after), "those before the one that doesn't fit");
            }
            Err(ApplyError::Failed(error)) => panic!("{error}"),
        }
        assert!(!self.has_failed.load(Ordering::SeqCst), "a group stops the copy");
    }
}

/// Executes the groups.
///
/// # Panics
/// When a copy executes half of something, says that it executed what it did not, or stops.
pub fn run(bytes: &[u8]) {
    let mut place = COPY.lock();
    if place.as_ref().is_some_and(|copy| copy.inputs >= INPUTS) {
        *place = None;
    }
    let copy = place.get_or_insert_with(Copy::open);
    copy.inputs += 1;
    let rows = rows(bytes, copy.dbs.position());
    // One by one, and then those that are left together.
    let (first, rest) = rows.split_at(rows.len().min(1));
    if !first.is_empty() {
        copy.take(first);
    }
    if !rest.is_empty() {
        copy.take(rest);
    }
    // What the statements did may be anything that a primary may do, but it can be read, and opened again.
    copy.dbs.epochs().expect("the copy is read");
    copy.dbs.members().expect("the copy is read");
}

fn rows(mut bytes: &[u8], mut before: Option<Position>) -> Vec<LogRow> {
    let mut rows = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = u16::from_be_bytes(*length);
        let (body, rest) = rest.split_at(usize::from(length & !WRONG).min(rest.len()));
        bytes = rest;
        let epoch = before.map_or(1, |before| before.epoch);
        let mut row = LogRow::after(before.as_ref(), epoch, 0, body.to_vec());
        if length & WRONG != 0 {
            row.position.digest[0] ^= 1;
        }
        before = Some(row.position);
        rows.push(row);
    }
    rows
}

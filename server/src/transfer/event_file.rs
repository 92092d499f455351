//! The file beside the database in which a branch keeps its last events, so that a transfer can be drawn after a restart.
//!
//! Owns `bank.db.events` and, once that is full, `bank.db.events.old`: two generations of at most [`EVENT_FILE_BYTES`]
//! each, private as the database is. A line is a check, a blank and JSON: an [`Event`], or a mark that all events up to
//! a number stand above. The file is made with the first event, and local movements have none, so a branch that never
//! transfers to another has no such file.
//!
//! Keeps true: nothing that moves money waits for it. Events are written some milliseconds after they happen, by a
//! thread of their own, and never forced to disk; so a process that is killed loses its last ones. A mark is written
//! whenever nothing more comes, and at a clean end. What stands behind the last mark at a start was broken off in the
//! middle, and the transfers that it is about are told so. A file that can't be read or written costs the pictures
//! alone: it is said once in the log, and the branch goes on.
//!
//! Leaves out: replicas, whose primary tells of its transfers; and backups, which are of money. A table of the database
//! would be in both, as replicas execute its statements, and would be a write of the money's own log.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use protocol::event::Event;
use protocol::io_words::IoWords;
use protocol::proof::to_hex;
use protocol::{BranchName, TxId};
use sha2::{Digest as _, Sha256};

use super::events::Events;
use crate::dbs_exec::DatabaseFile;
use crate::limits::{
    EVENT_FILE_BATCH, EVENT_FILE_BYTES, EVENT_LINE_BYTES, EVENTS_BROKEN_OFF_MS, EVENTS_BROKEN_OFF_TRANSFERS,
    EVENTS_KEPT,
};

/// Bytes of a hash that a line's check has.
const CHECK_BYTES: usize = 4;
/// How a mark begins.
const MARK: &str = r#"{"all":"#;
/// Numbers above this are none that a branch has given.
const NUMBER_MAX: u64 = 1 << 62;

/// The file, to be written.
pub struct EventFile {
    database: DatabaseFile,
    state: Mutex<State>,
}

/// Invariant: everything up to `written` has been handed to the operating system, or there is no hope of it.
#[derive(Default)]
struct State {
    file: Option<File>,
    bytes: u64,
    written: u64,
    is_marked: bool,
    is_given_up: bool,
}

/// What was found in it.
#[derive(Debug, Default)]
pub struct Remembered {
    /// The last events, by rising numbers.
    pub events: VecDeque<Event>,
    /// Transfers that something may be missing of at the end, because the process was killed while it wrote.
    pub broken_off: BTreeSet<TxId>,
}

impl Remembered {
    /// The number of the last event; 0 without any.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.events.back().map_or(0, |event| event.number)
    }
}

impl EventFile {
    /// The file of a database. Nothing is opened yet.
    #[must_use]
    pub fn of(database: DatabaseFile) -> Self {
        Self { database, state: Mutex::new(State { is_marked: true, ..State::default() }) }
    }

    /// Reads what this branch has kept. Lines that are damaged, of another branch, or out of order are passed over.
    #[must_use]
    pub fn read(&self, branch: &BranchName) -> Remembered {
        // The older generation first: numbers rise through both files, and whatever falls back is none of ours.
        let mut reading = Reading { branch, events: VecDeque::new(), last: 0, marked: 0, passed_over: 0 };
        for path in [self.old(), self.current()] {
            if let Err(error) = read_generation(&path, |json| reading.take(json))
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn!("{}: {}; transfers of before can't be drawn", path.display(), IoWords(&error));
            }
        }
        if reading.passed_over > 0 {
            let count = reading.passed_over;
            log::warn!("{}: {count} lines are no events of this branch", self.current().display());
        }
        let remembered = reading.end();
        // What was read stands in the file already, and is not to be written again.
        self.state.lock().written = remembered.last_number();
        remembered
    }

    /// Removes what an earlier database of this name has left.
    pub fn forget(&self) {
        for path in [self.old(), self.current()] {
            match fs::remove_file(&path) {
                Ok(()) => log::info!("{} was of an earlier database, and is removed", path.display()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => log::warn!("{}: {}", path.display(), IoWords(&error)),
            }
        }
    }

    /// The number of the last event that was written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.state.lock().written
    }

    /// Writes what is new. Where nothing is, notes that this is all.
    pub fn write(&self, events: &Events, is_end: bool) {
        let mut state = self.state.lock();
        if state.is_given_up {
            // Whoever asks how far this is must not wait for a file that takes nothing any more.
            state.written = events.last_number();
            return;
        }
        if let Err(error) = self.try_write(&mut state, events, is_end) {
            log::warn!("{}: {}; transfers can't be drawn after a restart", self.current().display(), IoWords(&error));
            state.is_given_up = true;
            state.file = None;
        }
    }

    fn try_write(&self, state: &mut State, events: &Events, is_end: bool) -> io::Result<()> {
        let mut is_quiet = true;
        loop {
            let batch = events.since(state.written, None, EVENT_FILE_BATCH);
            let Some(last) = batch.last().map(|event| event.number) else { break };
            let mut lines = String::new();
            for event in &batch {
                // Names, numbers and texts are always JSON.
                push_line(&mut lines, &serde_json::to_string(event).unwrap_or_default());
            }
            // Before the lines: a write that fails halfway must not leave them behind a mark that says "all".
            state.is_marked = false;
            self.append(state, &lines)?;
            state.written = last;
            is_quiet = false;
        }
        // Not after each batch: under load a mark would be as frequent as the events it is about. A process that is
        // killed in a quiet moment has lost nothing, and this is what says so.
        if (is_quiet || is_end) && !state.is_marked {
            let mut line = String::new();
            push_line(&mut line, &format!("{MARK}{}}}", state.written));
            self.append(state, &line)?;
            state.is_marked = true;
        }
        Ok(())
    }

    fn append(&self, state: &mut State, lines: &str) -> io::Result<()> {
        if state.file.is_none() {
            // Opened with the first event, and again after each change of generations.
            let mut file = self.database.open_beside(&self.current())?;
            check_plain(&file)?;
            state.bytes = file.seek(SeekFrom::End(0))?;
            // The last line may have been torn.
            if state.bytes > 0 {
                file.write_all(b"\n")?;
                state.bytes += 1;
            }
            state.file = Some(file);
        }
        if let Some(file) = &mut state.file {
            file.write_all(lines.as_bytes())?;
            state.bytes += lines.len() as u64;
        }
        if state.bytes >= EVENT_FILE_BYTES {
            // The generation before the last one goes: two are what a restart can tell of.
            state.file = None;
            fs::rename(self.current(), self.old())?;
        }
        Ok(())
    }

    fn current(&self) -> PathBuf {
        self.database.beside(".events")
    }

    fn old(&self) -> PathBuf {
        self.database.beside(".events.old")
    }
}

/// What is made of the lines that are read.
struct Reading<'b> {
    branch: &'b BranchName,
    events: VecDeque<Event>,
    last: u64,
    /// The number up to which all was written.
    marked: u64,
    passed_over: u64,
}

impl Reading<'_> {
    fn take(&mut self, json: Option<&str>) {
        let taken = match json {
            Some(json) if json.starts_with(MARK) => self.take_mark(json),
            Some(json) => self.take_event(json),
            None => None,
        };
        if taken.is_none() {
            self.passed_over += 1;
        }
    }

    fn take_mark(&mut self, json: &str) -> Option<()> {
        self.marked = json.strip_prefix(MARK)?.strip_suffix('}')?.parse().ok()?;
        Some(())
    }

    fn take_event(&mut self, json: &str) -> Option<()> {
        let event: Event = serde_json::from_str(json).ok()?;
        let is_ours = event.branch == *self.branch && event.clock.get(self.branch) == Some(&event.number);
        if !is_ours || event.number <= self.last || event.number > NUMBER_MAX {
            return None;
        }
        self.last = event.number;
        // As in memory, the newest stay: two generations may hold more than is kept.
        if self.events.len() >= EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
        Some(())
    }

    fn end(self) -> Remembered {
        // Only what happened just before the end can have lost something: a transfer of minutes before was told whole,
        // whether or not a mark came after it.
        let at_ms = self.events.back().map_or(0, |event| event.at_unix_ms.saturating_sub(EVENTS_BROKEN_OFF_MS));
        let behind = self.events.iter().rev().take_while(|event| event.number > self.marked);
        let late = behind.filter(|event| event.at_unix_ms >= at_ms);
        let mut broken_off = BTreeSet::new();
        for txid in late.filter_map(|event| event.txid.as_ref()) {
            if broken_off.len() >= EVENTS_BROKEN_OFF_TRANSFERS {
                break;
            }
            broken_off.insert(txid.clone());
        }
        Remembered { events: self.events, broken_off }
    }
}

/// Gives the JSON of each line; nothing for a line that is damaged.
fn read_generation(path: &Path, mut take: impl FnMut(Option<&str>)) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // No more than was ever written here: the file may have been put there by somebody.
    let most = EVENT_FILE_BYTES + EVENT_LINE_BYTES * EVENT_FILE_BATCH as u64;
    let is_cut = length > most;
    if is_cut {
        // The end of it: the newest are what is wanted.
        file.seek(SeekFrom::Start(length - most))?;
    }
    let mut reader = BufReader::new(file.take(most));
    let mut line = Vec::new();
    if is_cut {
        // What the cut has left of a line.
        skip_line(&mut reader)?;
    }
    loop {
        line.clear();
        if reader.by_ref().take(EVENT_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let is_whole = line.pop_if(|byte| *byte == b'\n').is_some();
        if !is_whole {
            // Too long for a line of ours, or torn: either way its rest is no beginning of another.
            skip_line(&mut reader)?;
        }
        // What ends a torn line.
        if line.is_empty() {
            continue;
        }
        take(std::str::from_utf8(&line).ok().filter(|_| is_whole).and_then(checked));
    }
}

fn skip_line(reader: &mut impl io::BufRead) -> io::Result<()> {
    reader.skip_until(b'\n').map(drop)
}

/// A FIFO or a device of this name would keep whoever writes to it waiting.
fn check_plain(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other("it is no plain file")) }
}

fn push_line(lines: &mut String, json: &str) {
    lines.push_str(&check(json));
    lines.push(' ');
    lines.push_str(json);
    lines.push('\n');
}

fn checked(line: &str) -> Option<&str> {
    let (written, json) = line.split_once(' ')?;
    (written == check(json)).then_some(json)
}

fn check(json: &str) -> String {
    to_hex(&Sha256::digest(json)[..CHECK_BYTES])
}

#[cfg(test)]
mod tests {
    use protocol::event::EventKind;

    use super::*;
    use crate::transfer::events::Happened;

    fn mumbai() -> BranchName {
        "Mumbai".parse().unwrap()
    }

    fn file(folder: &Path) -> EventFile {
        EventFile::of(DatabaseFile::resolve(&folder.join("bank.db")).unwrap())
    }

    fn add(events: &Events, txid: &str, text: &str) {
        events.add(&txid.parse().unwrap(), Happened::Note(text.into()));
    }

    fn texts(remembered: &Remembered) -> Vec<&str> {
        let text = |event: &'_ Event| match &event.kind {
            EventKind::Note { .. } => event.txid.as_ref().map_or(0, |txid| txid.as_str().len()),
            _ => 0,
        };
        assert!(remembered.events.iter().all(|event| text(event) > 0));
        remembered.events.iter().filter_map(|event| event.txid.as_ref()).map(TxId::as_str).collect()
    }

    #[test]
    fn what_was_written_is_read_and_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let (events, first) = (Events::new(mumbai(), 1_000), file(folder.path()));
        first.write(&events, true);
        assert!(!folder.path().join("bank.db.events").exists(), "no event, no file");
        add(&events, "A", "one");
        add(&events, "B", "two");
        first.write(&events, true);
        let again = file(folder.path());
        let remembered = again.read(&mumbai());
        assert_eq!((texts(&remembered), remembered.last_number()), (vec!["A", "B"], 1_002));
        assert!(remembered.broken_off.is_empty(), "a clean end");
        let events = Events::restored(mumbai(), 2_000_000, remembered);
        assert_eq!(events.last_number(), 2_000_000);
        add(&events, "C", "three");
        again.write(&events, true);
        let numbers: Vec<u64> = file(folder.path()).read(&mumbai()).events.iter().map(|event| event.number).collect();
        assert_eq!(numbers, [1_001, 1_002, 2_000_001]);
    }

    #[test]
    fn what_stands_behind_the_last_mark_is_broken_off() {
        let folder = tempfile::tempdir().unwrap();
        let (events, first) = (Events::new(mumbai(), 0), file(folder.path()));
        add(&events, "A", "one");
        first.write(&events, false);
        first.write(&events, false);
        add(&events, "B", "two");
        first.write(&events, false);
        let remembered = file(folder.path()).read(&mumbai());
        assert_eq!(remembered.broken_off.iter().map(TxId::as_str).collect::<Vec<_>>(), ["B"]);
        let events = Events::restored(mumbai(), 1_000_000, remembered);
        let kept = events.since(2, None, 10);
        assert_eq!((kept.len(), kept[0].number), (1, 1_000_000), "it is told at the end of the earlier life");
        assert!(matches!(&kept[0].kind, EventKind::Note { text } if text.contains("broke off")));
    }

    #[test]
    fn a_torn_end_and_damaged_lines_cost_themselves_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank.db.events");
        let (events, first) = (Events::new(mumbai(), 0), file(folder.path()));
        for txid in ["A", "B", "C"] {
            add(&events, txid, "x");
        }
        first.write(&events, false);
        let whole = fs::read(&path).unwrap();
        for cut in (0..whole.len()).step_by(7) {
            fs::write(&path, &whole[..cut]).unwrap();
            let again = file(folder.path());
            let before = again.read(&mumbai());
            let whole_lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert!(before.events.len() >= whole_lines.min(3), "cut at {cut}");
            let events = Events::restored(mumbai(), 1_000_000, before);
            add(&events, "D", "later");
            again.write(&events, true);
            let after = file(folder.path()).read(&mumbai());
            assert_eq!(texts(&after).last(), Some(&"D"), "cut at {cut}");
        }
        let mut damaged = whole.clone();
        damaged[30] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(texts(&file(folder.path()).read(&mumbai())), ["B", "C"]);
        let other = whole.repeat(2);
        fs::write(&path, &other).unwrap();
        assert_eq!(texts(&file(folder.path()).read(&mumbai())), ["A", "B", "C"], "numbers rise");
        assert!(file(folder.path()).read(&"Delhi".parse().unwrap()).events.is_empty(), "another branch's");
    }

    #[test]
    fn garbage_is_passed_over_and_what_is_no_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank.db.events");
        for garbage in [vec![0_u8; 100_000], vec![b'x'; 3_000_000], b"\n\n\xff\n{}\n00000000 {}\n".to_vec()] {
            fs::write(&path, garbage).unwrap();
            assert!(file(folder.path()).read(&mumbai()).events.is_empty());
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let (events, none) = (Events::new(mumbai(), 0), file(folder.path()));
        assert!(none.read(&mumbai()).events.is_empty());
        add(&events, "A", "x");
        none.write(&events, true);
        assert_eq!(none.written(), 0);
        none.write(&events, true);
        assert_eq!(none.written(), 1, "nobody waits for it to be written any more");
    }

    #[test]
    fn two_generations_are_the_bound_and_hold_the_last_events() {
        let folder = tempfile::tempdir().unwrap();
        let (events, kept) = (Events::new(mumbai(), 0), file(folder.path()));
        let long = "x".repeat(10_000);
        let rounds = 3 * EVENT_FILE_BYTES / 10_000;
        for round in 0..rounds {
            add(&events, &format!("T{round}"), &long);
            if round % 100 == 0 {
                kept.write(&events, false);
            }
        }
        kept.write(&events, true);
        let sizes =
            ["bank.db.events", "bank.db.events.old"].map(|name| fs::metadata(folder.path().join(name)).unwrap().len());
        assert!(sizes.iter().all(|size| *size < EVENT_FILE_BYTES + 2_000_000), "{sizes:?}");
        let remembered = file(folder.path()).read(&mumbai());
        assert_eq!(texts(&remembered).last().copied(), Some(format!("T{}", rounds - 1).as_str()));
        assert!(remembered.events.len() as u64 > rounds / 3 - 200, "{}", remembered.events.len());
        kept.forget();
        assert!(file(folder.path()).read(&mumbai()).events.is_empty());
    }
}

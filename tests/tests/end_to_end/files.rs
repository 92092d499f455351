//! A database is one file with one name: what other names, lost files, left logs and lost outputs come to, on the built
//! programs.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use bank_tests::{Branch, Options, client_command, server_command};
use serde_json::json;

/// The status of a command that could not write, or of a branch that lost its files (`EX_IOERR`).
const IO_STATUS: i32 = 74;

fn at_rest(arguments: &[&str], database: &Path) -> Output {
    server_command().args(arguments).arg("--db").arg(database).output().unwrap()
}

#[track_caller]
fn refused(database: &Path, expected: &str) {
    let failure = Branch::try_start(Options::empty().database(database)).expect_err("it starts");
    assert_ne!(failure.status, Some(0));
    assert!(failure.stderr.contains(expected), "{expected:?} in {}", failure.stderr);
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A branch that was killed with commits in its log, its database, and the folder.
fn killed() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    let mut branch = Branch::start(Options::preloaded().database(&path));
    branch.connect().ask("deposit", json!({"account_no": 1001, "amount": 7})).ok();
    branch.kill9();
    assert!(fs::metadata(beside(&path, "-wal")).unwrap().len() > 32);
    (folder, path)
}

/// Names, bytes and times of all files in a folder, and the folder's own time.
fn trace(folder: &Path) -> (i64, Vec<(PathBuf, Vec<u8>, i64)>) {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(&path).unwrap(), fs::metadata(&path).unwrap().mtime_nsec()))
        .collect();
    files.sort();
    (fs::metadata(folder).unwrap().mtime_nsec(), files)
}

#[test]
fn no_second_server_runs_on_a_database_by_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link, hard) = ("real.db", "link.db", "hard.db").map_in(folder.path());
    // The link is there before the file that it names.
    symlink("real.db", &link).unwrap();
    let mut branch = Branch::start(Options::preloaded().database(&link));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && real.exists());
    refused(&real, "another program of the bank has this database open");
    fs::hard_link(&real, &hard).unwrap();
    refused(&hard, "this file has 2 names");
    fs::remove_file(&hard).unwrap();
    branch.connect().ask("deposit", json!({"account_no": 1001, "amount": 1})).ok();
    assert_eq!(branch.stop(), Some(0));
    let mut branch = Branch::start(Options::empty().database(&real));
    assert_eq!(branch.connect().balance(1001), "1001.00");
    assert_eq!(branch.stop(), Some(0));
}

trait MapIn {
    fn map_in(self, folder: &Path) -> (PathBuf, PathBuf, PathBuf);
}

impl MapIn for (&str, &str, &str) {
    fn map_in(self, folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
        (folder.join(self.0), folder.join(self.1), folder.join(self.2))
    }
}

#[test]
fn files_are_private_whatever_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    let mut branch = Branch::start(Options::preloaded().database(&path));
    for entry in fs::read_dir(folder.path()).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has {mode:o}", entry.path().display());
    }
    assert_eq!(branch.stop(), Some(0));
}

#[test]
fn a_log_is_played_into_no_other_database() {
    // Between the backup and the log the branch was open once more, so the log goes on from another state.
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("bank.db"), folder.path().join("copy.db"));
    assert_eq!(Branch::start(Options::preloaded().database(&path)).stop(), Some(0));
    assert!(at_rest(&["backup", copy.to_str().unwrap()], &path).status.success());
    let mut branch = Branch::start(Options::empty().database(&path));
    branch.connect().ask("deposit", json!({"account_no": 1002, "amount": 3})).ok();
    assert_eq!(branch.stop(), Some(0));
    branch.restart();
    branch.connect().ask("deposit", json!({"account_no": 1001, "amount": 7})).ok();
    branch.kill9();
    let log = fs::read(beside(&path, "-wal")).unwrap();
    fs::copy(&copy, &path).unwrap();
    refused(&path, "is not of this database as it is");
    let audit = at_rest(&["audit"], &path);
    assert_eq!(audit.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&audit.stderr).contains("is not of this database"), "{audit:?}");
    assert_eq!(fs::read(beside(&path, "-wal")).unwrap(), log, "the log is as it was");
    // With the log moved away the file goes on as it is.
    fs::rename(beside(&path, "-wal"), folder.path().join("kept")).unwrap();
    let mut branch = Branch::start(Options::empty().database(&path));
    assert_eq!(branch.connect().balance(1001), "1000.00");
    assert_eq!(branch.stop(), Some(0));
}

#[test]
fn a_log_without_its_database_is_never_touched() {
    let (folder, path) = killed();
    let log = fs::read(beside(&path, "-wal")).unwrap();
    let database = fs::read(&path).unwrap();
    for is_there in [false, true] {
        // A file that was cut to nothing is no new bank either.
        if is_there {
            fs::write(&path, "").unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        refused(&path, "the database is gone, and its log");
        assert_eq!(fs::read(beside(&path, "-wal")).unwrap(), log);
    }
    // Moved elsewhere together, without the lock file, the two still are one bank.
    let other = tempfile::tempdir().unwrap();
    let moved = other.path().join("bank.db");
    fs::write(&moved, database).unwrap();
    fs::write(beside(&moved, "-wal"), log).unwrap();
    let mut branch = Branch::start(Options::empty().database(&moved));
    assert_eq!(branch.connect().balance(1001), "1007.00");
    assert_eq!(branch.stop(), Some(0));
    drop(folder);
}

#[test]
fn an_audit_leaves_no_trace() {
    let (folder, path) = killed();
    let before = trace(folder.path());
    let audit = at_rest(&["audit"], &path);
    assert!(audit.status.success(), "{audit:?}");
    assert!(String::from_utf8_lossy(&audit.stdout).contains("Rs 2007.00"), "the log is read too: {audit:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(at_rest(&["backup", elsewhere.path().join("copy").to_str().unwrap()], &path).status.success());
    assert_eq!(trace(folder.path()), before);
    assert_eq!(Branch::start(Options::empty().database(&path)).stop(), Some(0));
    let before = trace(folder.path());
    assert!(at_rest(&["audit"], &path).status.success());
    assert_eq!(trace(folder.path()), before);
}

/// Does something to the files of a running branch, which must stop for it, saying why. Gives its database.
fn lose(change: impl FnOnce(&Path), expected: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    let mut branch = Branch::start(Options::preloaded().database(&path));
    branch.connect().ask("deposit", json!({"account_no": 1001, "amount": 7})).ok();
    change(&path);
    assert_eq!(branch.wait().code(), Some(IO_STATUS));
    assert!(branch.log().text().contains(expected), "{expected:?} in {}", branch.log().text());
    (folder, path)
}

#[test]
fn a_branch_stops_when_its_database_is_no_longer_under_its_name() {
    let (_folder, path) = lose(|path| fs::remove_file(path).unwrap(), "was removed");
    let left = beside(&path, "-wal");
    if left.exists() {
        fs::remove_file(left).unwrap();
    }
    refused(&path, "the database was removed or renamed while the branch had it open");
    let replace = |path: &Path| {
        fs::copy(path, beside(path, ".other")).unwrap();
        fs::rename(beside(path, ".other"), path).unwrap();
    };
    lose(replace, "was replaced by another file");
    lose(|path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap(), "was cut");
}

#[test]
fn what_is_in_a_lost_log_is_saved() {
    let (_folder, path) = lose(|path| fs::remove_file(beside(path, "-wal")).unwrap(), "were moved into the database");
    let mut branch = Branch::start(Options::empty().database(&path));
    assert_eq!(branch.connect().balance(1001), "1007.00");
    assert_eq!(branch.stop(), Some(0));
}

#[test]
fn a_restore_onto_a_link_keeps_it_and_the_mode_of_its_file() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (real, link) = (elsewhere.path().join("real.db"), folder.path().join("link.db"));
    symlink(&real, &link).unwrap();
    assert_eq!(Branch::start(Options::preloaded().database(&link)).stop(), Some(0));
    let copy = folder.path().join("copy.db");
    assert!(at_rest(&["backup", copy.to_str().unwrap()], &link).status.success());
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    let restored = at_rest(&["restore", "--force", copy.to_str().unwrap()], &link);
    assert!(restored.status.success(), "{restored:?}");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    let mut branch = Branch::start(Options::empty().database(&link));
    assert_eq!(branch.connect().balance(1001), "1000.00");
    assert_eq!(branch.stop(), Some(0));
}

#[test]
fn a_lost_output_is_told_by_the_status_and_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut branch = Branch::start(Options::preloaded().database(&path));
    let key = branch.key_path();
    let mut deposit = client_command();
    deposit.args(["--port", &branch.port().to_string(), "--key", key.to_str().unwrap(), "deposit", "1001", "5"]);
    let output = deposit.stdout(full()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(IO_STATUS) && said.contains("has carried it out"), "{output:?}");
    assert_eq!(branch.connect().balance(1001), "1005.00");
    assert_eq!(branch.stop(), Some(0));

    let copy = folder.path().join("copy.db");
    let made = server_command().arg("backup").arg(&copy).arg("--db").arg(&path).stdout(full()).output().unwrap();
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.code() == Some(IO_STATUS) && said.contains("the backup is made"), "{made:?}");
    assert!(copy.exists());
    let help = server_command().arg("--help").stdout(full()).output().unwrap();
    assert_eq!(help.status.code(), Some(IO_STATUS));
}

#[test]
fn a_service_manager_is_told_when_the_branch_answers() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut branch = Branch::start(Options::preloaded().variable("NOTIFY_SOCKET", socket.display()));
    let mut heard = [0; 64];
    let mut hear = || {
        let count = manager.recv(&mut heard).unwrap();
        String::from_utf8_lossy(&heard[..count]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    assert_eq!(branch.stop(), Some(0));
    assert_eq!(hear(), "STOPPING=1");
}

//! What keeps a branch from starting: each gets one clear sentence on standard error, and the database is as it
//! was before.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use bank_tests::{Branch, Options, StartFailure, audit, audit_output, program, server_command};
use rusqlite::Connection;
use tempfile::TempDir;

/// A user without any rights, as Linux has it.
const NOBODY: u32 = 65_534;

/// A folder with the database of a branch Mumbai that was opened once and stopped.
fn folder_with_database(options: Options) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    let mut branch = Branch::start(options.database(&path));
    assert_eq!(branch.stop(), Some(0));
    (folder, path)
}

/// Checks that a branch does not start, says why in one sentence, and leaves the database as it is.
#[track_caller]
fn refused(options: Options, path: &Path, status: i32, expected: &str) -> StartFailure {
    let before = fs::read(path).ok();
    let failure = Branch::try_start(options.database(path)).map(drop).expect_err("it started");
    assert_eq!(fs::read(path).ok(), before, "the database was changed: {failure:?}");
    assert_eq!(failure.status, Some(status), "{failure:?}");
    one_sentence(&failure.stderr, expected);
    failure
}

/// Log lines begin with a bracket; beside them there is one sentence of the program.
#[track_caller]
fn one_sentence(stderr: &str, expected: &str) {
    let said: Vec<_> = stderr.lines().filter(|line| !line.starts_with('[')).collect();
    assert_eq!(said.len(), 1, "{stderr}");
    assert!(said[0].starts_with("bank-server: ") && said[0].contains(expected), "{expected:?} in {stderr}");
}

#[test]
fn a_second_server_on_the_same_database() {
    let (_folder, path) = folder_with_database(Options::preloaded());
    let mut first = Branch::start(Options::preloaded().database(&path));
    let in_use = "another program of the bank has this database open";
    refused(Options::preloaded(), &path, 1, in_use);
    let link = path.with_file_name("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    refused(Options::preloaded(), &link, 1, in_use);
    // The first one has not noticed.
    first.log_in("1001", "1001").deposit(5).unwrap().expect_done();
    assert_eq!(first.stop(), Some(0));
    audit(&path).assert_clean();
}

#[test]
fn passwd_and_audit_on_a_database_that_is_open() {
    let branch = Branch::start(Options::preloaded());
    let in_use = "another program of the bank has this database open";
    for output in [audit_output(branch.database_path()), passwd(branch.database_path(), &[], "changed")] {
        assert_eq!(output.status.code(), Some(1));
        one_sentence(&String::from_utf8_lossy(&output.stderr), in_use);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }
    drop(branch.log_in("0", "root"));
}

#[test]
fn passwd_and_audit_on_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    for output in [audit_output(&path), passwd(&path, &[], "changed")] {
        assert_eq!(output.status.code(), Some(1));
        one_sentence(&String::from_utf8_lossy(&output.stderr), "there is no such database");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "files were made");
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    for flag in ["--menu-port", "--lab-port"] {
        let expected = format!("port {port} on 127.0.0.1 is in use; name another with {flag}");
        refused(Options::preloaded().value(flag, port), &path, 1, &expected);
    }
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    fs::write(&path, "Dear diary, today I opened an account.\n".repeat(100)).unwrap();
    refused(Options::preloaded(), &path, 1, "this file is no SQLite database");
    let output = audit_output(&path);
    one_sentence(&String::from_utf8_lossy(&output.stderr), "this file is no SQLite database");
    let a_folder = folder.path().join("folder");
    fs::create_dir(&a_folder).unwrap();
    refused(Options::preloaded(), &a_folder, 1, "folder");
    refused(Options::preloaded(), &folder.path().join("missing/bank.db"), 1, "missing/bank.db");
}

#[test]
fn a_database_that_another_program_has_locked() {
    let (_folder, path) = folder_with_database(Options::preloaded());
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    refused(Options::preloaded(), &path, 1, "locked");
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    assert_eq!(Branch::start(Options::preloaded().database(&path)).stop(), Some(0));
}

#[test]
fn a_database_of_another_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    refused(Options::preloaded(), &path, 1, "this is another program's SQLite database");
}

#[test]
fn a_database_of_a_newer_version() {
    let (_folder, path) = folder_with_database(Options::preloaded());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    refused(Options::preloaded(), &path, 1, "this database has version 99, made by a newer program");
    let output = audit_output(&path);
    one_sentence(&String::from_utf8_lossy(&output.stderr), "this database has version 99");
}

#[test]
fn a_database_of_another_branch() {
    let (_folder, path) = folder_with_database(Options::preloaded());
    let expected = "this database belongs to the branch Mumbai, not Delhi";
    refused(Options::bare().value("--name", "Delhi"), &path, 1, expected);
    refused(Options::bare(), &path, 1, "this database belongs to the branch Mumbai, not Main");
}

#[test]
fn a_database_that_cannot_be_written() {
    let (folder, path) = folder_with_database(Options::preloaded());
    let options = || {
        // Permissions don't bind root; so root hands the program to a user whom they bind.
        if !rustix::process::geteuid().is_root() {
            return Options::preloaded();
        }
        let copy = folder.path().join("bank-server");
        fs::copy(program("bank-server"), &copy).unwrap();
        Options::preloaded().as_user(copy, NOBODY)
    };
    let options = options();
    permit(&path, 0o444);
    permit(folder.path(), 0o777);
    // Made by the bank's user, and so not the other user's to open.
    fs::remove_file(path.with_file_name("bank.db.lock")).unwrap();
    refused(options.clone(), &path, 1, "this database cannot be written; check the permissions of the file");
    fs::remove_file(path.with_file_name("bank.db.lock")).unwrap();
    permit(folder.path(), 0o555);
    refused(options, &path, 1, "permission denied");
    permit(folder.path(), 0o755);
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn menu_files_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let (menus, path) = (folder.path().join("menus"), folder.path().join("bank.db"));
    let check = |file: &str, text: &str, expected: &str| {
        let _ = fs::remove_dir_all(&menus);
        fs::create_dir(&menus).unwrap();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../menus")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), menus.join(entry.file_name())).unwrap();
        }
        if text.is_empty() {
            fs::remove_file(menus.join(file)).unwrap();
        } else {
            fs::write(menus.join(file), text).unwrap();
        }
        refused(Options::preloaded().value("--menus", menus.display()), &path, 1, expected);
        assert!(!path.exists());
    };
    check("customer.txt", "{account_num} {balance} {pin}\n", "customer.txt, line 1: the placeholder {pin} is unknown");
    check("customer.txt", "{account_num}\n", "customer.txt: the placeholder {balance} is missing");
    check("login.txt", "a log in\n{balance}\n", "login.txt, line 2: the placeholder {balance} is unknown");
    check("admin.txt", "a {\n", "admin.txt, line 1: there is a brace without its other half");
    check("admin.txt", "", "admin.txt: No such file");
}

#[test]
fn a_menu_folder_of_ones_own_is_used() {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in
        [("login.txt", "Namaste from {branch}"), ("customer.txt", "{account_num} {balance}"), ("admin.txt", "a to g")]
    {
        fs::write(folder.path().join(file), text).unwrap();
    }
    let branch = Branch::start(Options::preloaded().value("--menus", folder.path().display()));
    let transcript = branch.client_script("a\n1001\n1001\nf\nb\n");
    assert!(transcript.stdout.starts_with("Namaste from Mumbai\n"), "{transcript:?}");
    assert!(transcript.stdout.contains("\n1001 1000.00\n"), "{transcript:?}");
    assert_eq!(transcript.status, Some(0));
}

#[test]
fn a_wrong_command_line_is_status_64_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    for (flags, expected) in [
        (&["--menu-prot", "1"][..], "--menu-port"),
        (&["--menu-port", "70000"], "--menu-port"),
        (&["--idle-timeout", "0"], "--idle-timeout"),
        (&["--max-clients=-1"], "--max-clients"),
        (&["--opening-balance", "12.345"], "--opening-balance"),
        (&["--sms", "pigeon"], "file:PATH"),
        (&["--name", "New Delhi"], "--name"),
        (&["--host", "no.such.host.invalid"], "--host"),
        (&["open"], "--help"),
    ] {
        let options = flags.iter().fold(Options::bare(), |options, flag| options.flag(*flag));
        let failure = Branch::try_start(options.database(&path)).map(drop).expect_err("it started");
        assert_eq!(failure.status, Some(64), "{flags:?}: {failure:?}");
        assert!(failure.stderr.contains(expected), "{flags:?}: {failure:?}");
    }
    let options = Options::bare().variable("BANK_MENU_PORT", "many").database(&path);
    // A flag goes before its variable, so the harness's own --menu-port hides this one.
    assert!(Branch::try_start(options).is_ok());
    let failure = Branch::try_start(Options::bare().variable("BANK_MAX_CLIENTS", "many").database(&path));
    assert_eq!(failure.map(drop).unwrap_err().status, Some(64));
}

#[test]
fn beyond_loopback_nobody_has_a_password_that_everyone_knows() {
    let (_folder, path) = folder_with_database(Options::empty());
    let everywhere = || Options::empty().value("--host", "0.0.0.0");
    let known = "the administrator still has the first password";
    refused(everywhere(), &path, 1, known);
    refused(everywhere().variable("BANK_ADMIN_PASSWORD", "abc"), &path, 1, "BANK_ADMIN_PASSWORD: a new password has 4");

    let output = passwd(&path, &[], "abc");
    assert_eq!(output.status.code(), Some(1));
    one_sentence(&String::from_utf8_lossy(&output.stderr), "a new password has 4 to 128 characters");
    refused(everywhere(), &path, 1, known);

    let output = passwd(&path, &[], "a better one");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the password of the administrator is changed\n");
    assert_eq!(output.status.code(), Some(0));
    let mut branch = Branch::start(everywhere().database(&path));
    drop(branch.log_in("0", "a better one"));
    assert!(branch.menu().log_in("0", "root").is_err());
    assert_eq!(branch.stop(), Some(0));

    // Sample accounts have passwords that everyone knows too.
    assert_eq!(Branch::start(Options::preloaded().database(&path)).stop(), Some(0));
    refused(everywhere(), &path, 1, "account 1001 still has the first password");
    for account in ["1001", "1002"] {
        assert_eq!(passwd(&path, &[account], "another").status.code(), Some(0));
    }
    let mut branch = Branch::start(everywhere().database(&path));
    drop(branch.log_in("1001", "another"));
    assert_eq!(branch.stop(), Some(0));
    let output = passwd(&path, &["1003"], "another");
    one_sentence(&String::from_utf8_lossy(&output.stderr), "there is no account 1003");
}

#[test]
fn the_administrators_password_can_come_by_the_environment() {
    let everywhere = || Options::empty().value("--host", "0.0.0.0");
    let mut branch = Branch::start(everywhere().variable("BANK_ADMIN_PASSWORD", "a better one"));
    drop(branch.log_in("0", "a better one"));
    let log = branch.log().clone();
    assert_eq!(branch.stop(), Some(0));
    assert!(!log.whole().contains("a better one"));
    let failure = Branch::try_start(everywhere().variable("BANK_ADMIN_PASSWORD", "root")).map(drop).expect_err("root");
    one_sentence(&failure.stderr, "the administrator still has the first password");
}

/// Runs `bank-server passwd` with the new password on standard input.
fn passwd(path: &Path, account: &[&str], password: &str) -> Output {
    let mut command = server_command();
    command.args(["passwd", "--db"]).arg(path).args(account);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that is refused at once reads nothing.
    let _ = writeln!(child.stdin.take().unwrap(), "{password}");
    child.wait_with_output().unwrap()
}

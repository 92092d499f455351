//! `bank-server backup` beside a running branch, and `bank-server restore`: what a copy holds, what is refused, and
//! what a restore makes the other branches say.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use bank_tests::{
    Bank, Books, Branch, Options, SetOnDrop, Transcript, audit, client_command, server_command, wait_until,
};
use rusqlite::Connection;
use serde_json::json;

fn run_server(arguments: &[&str], paths: &[(&str, &Path)]) -> Transcript {
    let mut command = server_command();
    command.args(arguments);
    for (flag, path) in paths {
        if !flag.is_empty() {
            command.arg(flag);
        }
        command.arg(path);
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Transcript { stdout: text(&output.stdout), stderr: text(&output.stderr), status: output.status.code() }
}

fn backup(database: &Path, to: &Path) -> Transcript {
    run_server(&["backup"], &[("", to), ("--db", database)])
}

fn restore(from: &Path, database: &Path, more: &[&str]) -> Transcript {
    run_server(&[&["restore"], more].concat(), &[("", from), ("--db", database)])
}

#[track_caller]
fn refused(transcript: &Transcript, expected: &str) {
    assert_eq!(transcript.status, Some(1), "{transcript:?}");
    assert!(transcript.stderr.contains(expected), "{expected:?} in {transcript:?}");
}

/// What is in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_backup_under_load_is_one_clean_moment_and_starts_as_a_branch() {
    let folder = tempfile::tempdir().unwrap();
    let (mut branch, stop, transfers) =
        (Branch::start(Options::preloaded()), AtomicBool::new(false), AtomicU64::new(0));
    let copy = folder.path().join("copy.db");
    branch.connect().ask("deposit", json!({"account_no": 1001, "amount": "7.77"})).ok();
    thread::scope(|scope| {
        let _stop = SetOnDrop(&stop);
        for _ in 0..4 {
            let (branch, stop, transfers) = (&branch, &stop, &transfers);
            scope.spawn(move || {
                let mut connection = branch.connect();
                let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "0.01"});
                while !stop.load(Ordering::SeqCst) {
                    connection.ask("local_transfer", params.clone()).ok();
                    transfers.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        wait_until("there is load", || transfers.load(Ordering::SeqCst) > 50);
        let before = transfers.load(Ordering::SeqCst);
        let made = backup(branch.database_path(), &copy);
        assert_eq!(made.status, Some(0), "{made:?}");
        assert!(made.stdout.contains("backup of branch Mumbai in ") && made.stdout.contains("clean"), "{made:?}");
        assert!(made.stdout.contains("bank.key"), "{made:?}");
        let after = transfers.load(Ordering::SeqCst);
        assert!(after > before, "the branch worked on meanwhile");
        let in_copy = Books::open(&copy).number("SELECT count(*) FROM transactions WHERE type = 'transfer'");
        assert!(u64::try_from(in_copy).unwrap() >= before, "what was answered before the backup is in it");
    });
    assert_eq!(names(folder.path()), ["copy.db"], "one whole file, and nothing else");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(branch.stop(), Some(0));
    audit(branch.database_path()).assert_clean();

    let restored = folder.path().join("new/bank.db");
    fs::create_dir(restored.parent().unwrap()).unwrap();
    let done = restore(&copy, &restored, &[]);
    assert_eq!(done.status, Some(0), "{done:?}");
    assert!(done.stdout.contains("there is no bank.key beside it"), "{done:?}");
    assert!(done.stdout.contains("audit --all") && done.stdout.contains("resolve"), "{done:?}");
    let branch = Branch::start(Options::preloaded().database(&restored));
    let mut connection = branch.connect();
    let audited = connection.ask("audit", json!({})).ok();
    assert_eq!((&audited["ok"], audited["balances"].to_string().as_str()), (&json!(true), "2007.77"));
    connection.ask("deposit", json!({"account_no": 1001, "amount": 1})).ok();
}

#[test]
fn a_backup_of_a_branch_at_rest_and_into_a_folder() {
    let (bank, folder) = (Bank::new(), tempfile::tempdir().unwrap());
    let mut branch = bank.branch("Mumbai");
    assert_eq!(branch.stop(), Some(0));
    let before = names(bank.folder());
    let made = backup(branch.database_path(), folder.path());
    assert_eq!(made.status, Some(0), "{made:?}");
    assert_eq!(names(bank.folder()), before, "the database is left as it was");
    let [name] = &names(folder.path())[..] else { panic!("not one file") };
    assert!(name.starts_with("Mumbai-2") && name.ends_with("Z.db"), "{name}");
    // A branch that was killed leaves a log with what was confirmed last.
    branch.restart();
    branch.connect().ask("deposit", json!({"account_no": 1001, "amount": 5})).ok();
    branch.kill9();
    let copy = folder.path().join("copy.db");
    assert_eq!(backup(branch.database_path(), &copy).status, Some(0));
    assert_eq!(Books::open(&copy).balance_paise(1001), 100_500);
}

#[test]
fn what_can_not_be_backed_up_leaves_nothing_behind() {
    let (branch, folder) = (Branch::start(Options::preloaded()), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    fs::write(path("taken"), "mine").unwrap();
    refused(&backup(branch.database_path(), &path("taken")), "exists; name a new file");
    refused(&backup(&path("none.db"), &path("copy.db")), "there is no such database");
    fs::write(path("text.db"), "no database, but long enough to be taken for one. ".repeat(100)).unwrap();
    refused(&backup(&path("text.db"), &path("copy.db")), "no SQLite database");
    Connection::open(path("songs.db")).unwrap().execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    refused(&backup(&path("songs.db"), &path("copy.db")), "another program's");
    refused(&backup(branch.database_path(), &path("missing/copy.db")), "missing");
    assert_eq!(names(folder.path()), ["songs.db", "taken", "text.db"]);
    assert_eq!(fs::read_to_string(path("taken")).unwrap(), "mine");
}

#[test]
fn a_restore_replaces_nothing_unasked_and_keeps_what_was_there() {
    let (bank, folder) = (Bank::new(), tempfile::tempdir().unwrap());
    let (mut mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    let copy = folder.path().join("copy.db");
    assert_eq!(backup(mumbai.database_path(), &copy).status, Some(0));
    mumbai.connect().ask("deposit", json!({"account_no": 1001, "amount": 5})).ok();
    let database = mumbai.database_path().to_path_buf();
    refused(&restore(&copy, &database, &["--force"]), "another program of the bank has this database open");
    assert_eq!(mumbai.stop(), Some(0));
    refused(&restore(&copy, &database, &[]), "--force");
    refused(&restore(&database, &database, &["--force"]), "the same file");
    refused(&restore(&folder.path().join("none.db"), &database, &["--force"]), "there is no such backup");
    refused(
        &restore(&copy, &folder.path().join("new.db"), &["--name", "Pune"]),
        "a backup of the branch Mumbai, not of Pune",
    );
    let mut delhi = delhi;
    assert_eq!(delhi.stop(), Some(0));
    refused(&restore(&copy, delhi.database_path(), &["--force"]), "a backup of the branch Mumbai, not of Delhi");
    assert_eq!(Books::open(&database).balance_paise(1001), 100_500, "nothing was replaced so far");

    let done = restore(&copy, &database, &["--force"]);
    assert_eq!(done.status, Some(0), "{done:?}");
    let kept: Vec<PathBuf> = names(bank.folder())
        .into_iter()
        .filter(|name| name.contains(".db.before-"))
        .map(|name| bank.folder().join(name))
        .collect();
    let [kept] = &kept[..] else { panic!("not one file was kept: {kept:?}") };
    assert!(done.stdout.contains(&kept.display().to_string()), "{done:?}");
    assert_eq!(Books::open(kept).balance_paise(1001), 100_500);
    mumbai.restart();
    assert_eq!(mumbai.connect().balance(1001), "1000.00");
    // And back again: what was kept is a database like any other.
    assert_eq!(mumbai.stop(), Some(0));
    assert_eq!(restore(kept, &database, &["--force"]).status, Some(0));
    mumbai.restart();
    assert_eq!(mumbai.connect().balance(1001), "1005.00");
}

#[test]
fn a_forged_database_gets_no_backups_name_and_is_not_restored_unasked() {
    let (mut branch, folder) = (Branch::start(Options::preloaded()), tempfile::tempdir().unwrap());
    assert_eq!(branch.stop(), Some(0));
    let forge = "DROP TRIGGER transactions_no_update; UPDATE transactions SET amount = 1 WHERE transaction_id = 1";
    Connection::open(branch.database_path()).unwrap().execute_batch(forge).unwrap();
    let made = backup(branch.database_path(), &folder.path().join("copy.db"));
    assert_eq!(made.status, Some(1), "{made:?}");
    assert!(
        made.stdout.contains("finding: transaction 1 was altered") && made.stdout.contains("NOT clean"),
        "{made:?}"
    );
    assert_eq!(names(folder.path()), ["copy.db.unclean"]);
    let (unclean, new) = (folder.path().join("copy.db.unclean"), folder.path().join("new.db"));
    refused(&restore(&unclean, &new, &[]), "the books in this backup are not clean");
    assert!(!new.exists());
    let done = restore(&unclean, &new, &["--force"]);
    assert_eq!(done.status, Some(0), "{done:?}");
}

#[test]
fn a_database_that_no_program_can_read_any_more_is_replaced_and_kept() {
    let (mut branch, folder) = (Branch::start(Options::preloaded()), tempfile::tempdir().unwrap());
    let copy = folder.path().join("copy.db");
    assert_eq!(backup(branch.database_path(), &copy).status, Some(0));
    branch.kill9();
    let database = branch.database_path().to_path_buf();
    fs::write(&database, "the disk has made this of it. ".repeat(1000)).unwrap();
    let done = restore(&copy, &database, &["--force"]);
    assert_eq!(done.status, Some(0), "{done:?}");
    branch.restart();
    assert_eq!(branch.connect().balance(1001), "1000.00");
}

#[test]
fn the_audit_of_all_names_the_branches_that_a_restore_has_parted() {
    let (bank, folder) = (Bank::new(), tempfile::tempdir().unwrap());
    let (mumbai, mut delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    let copy = folder.path().join("delhi.db");
    assert_eq!(backup(delhi.database_path(), &copy).status, Some(0));
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 40, "dest_branch": "Delhi"});
    assert_eq!(mumbai.connect().ask("inter_branch_transfer", params).ok()["delivery"], "done");
    assert_eq!(delhi.stop(), Some(0));
    assert_eq!(restore(&copy, delhi.database_path(), &["--force"]).status, Some(0));
    delhi.restart();
    assert_eq!(delhi.connect().balance(1002), "1000.00", "Delhi has forgotten the deposit");
    let mut command = client_command();
    command.current_dir(bank.folder()).args(["--port", &mumbai.port().to_string(), "audit", "--all"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Mumbai") && said.contains("Delhi") && said.contains("40.00"), "{said}");
}

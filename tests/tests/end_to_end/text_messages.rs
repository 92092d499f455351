//! Text messages with `--sms file:PATH`: one for each movement of those who want them, at least once, whatever
//! happens to the server or the file; and no movement waits for one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread;

use bank_tests::{Branch, DEADLINE, MenuConnection, Options, Random, audit, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// A branch that sends to a file: accounts 1001 and 1002 want messages, 1003 does not.
struct Sending {
    branch: Branch,
    file: PathBuf,
    _folder: TempDir,
}

impl Sending {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outgoing").join("messages.jsonl");
        fs::create_dir(file.parent().unwrap()).unwrap();
        let options = Options::empty().value("--opening-balance", 1_000);
        let branch = Branch::start(options.value("--sms", format!("file:{}", file.display())));
        let mut administrator = branch.log_in("0", "root");
        for (digit, name, sms) in [(1, "Asha", "yes"), (2, "Vikram", "yes"), (3, "Meera", "no")] {
            let (aadhaar, phone) = (format!("12341234123{digit}"), format!("+91987654321{digit}"));
            administrator.operation(&["a", &aadhaar, &phone, name, "Rao", sms, "secret"]).unwrap().expect_done();
        }
        Self { branch, file, _folder: folder }
    }

    fn wait_until_all_are_sent(&self) {
        let books = self.branch.database();
        wait_until("the outbox is empty", || books.number("SELECT count(*) FROM sms_outbox") == 0);
    }

    /// The messages in the file as receiver and text, doubles dropped by their id.
    fn sent(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(&self.file).unwrap();
        let mut messages = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
            let message = (json["to"].as_str().unwrap().to_string(), json["body"].as_str().unwrap().to_string());
            let before = messages.insert(json["id"].as_u64().unwrap(), message.clone());
            assert!(before.is_none_or(|before| before == message), "one id, two messages: {line}");
        }
        messages.into_values().collect()
    }
}

/// Checks that a message went to this number and holds all of these parts.
#[track_caller]
fn check(message: &(String, String), to: &str, parts: &[&str]) {
    assert_eq!(message.0, to, "{message:?}");
    for part in parts {
        assert!(message.1.contains(part), "{part:?} in {message:?}");
    }
}

#[test]
fn each_movement_gives_one_message_to_each_customer_who_wants_them() {
    let mut sending = Sending::start();
    let branch = &sending.branch;
    let mut asha = branch.log_in("1001", "secret");
    asha.deposit("10.50").unwrap().expect_done();
    asha.operation(&["c", "20.25"]).unwrap().expect_done();
    asha.operation(&["d", "1002", "30"]).unwrap().expect_done();
    asha.operation(&["d", "1003", "40"]).unwrap().expect_done();
    // Refused: no movement, no message.
    asha.operation(&["c", "100000"]).unwrap().expect_fail();
    asha.operation(&["d", "1002", "100000"]).unwrap().expect_fail();
    asha.operation(&["d", "1004", "1"]).unwrap().expect_fail();
    let mut meera = branch.log_in("1003", "secret");
    meera.deposit("60").unwrap().expect_done();
    meera.operation(&["d", "1002", "70"]).unwrap().expect_done();
    branch.log_in("0", "root").operation(&["b", "1002", "root"]).unwrap().expect_done();
    sending.wait_until_all_are_sent();
    assert_eq!(sending.branch.stop(), Some(0));

    let (asha, vikram) = ("+919876543211", "+919876543212");
    let sent = sending.sent();
    let lines = fs::read_to_string(&sending.file).unwrap().lines().count();
    assert_eq!((sent.len(), lines), (9, 9), "{sent:?}");
    check(&sent[0], asha, &["account XXX001 was opened", "Rs 1000.00"]);
    check(&sent[1], vikram, &["account XXX002 was opened", "Rs 1000.00"]);
    check(&sent[2], asha, &["account XXX001 was credited with Rs 10.50 on 20", "Deposited in cash"]);
    check(&sent[3], asha, &["account XXX001 was debited by Rs 20.25 on 20", "Withdrawn in cash"]);
    check(&sent[4], asha, &["account XXX001 was debited by Rs 30.00", "Credited: Vikram Rao, account XXX002."]);
    check(&sent[5], vikram, &["account XXX002 was credited with Rs 30.00", "Paid by: Asha Rao, account XXX001."]);
    check(&sent[6], asha, &["account XXX001 was debited by Rs 40.00", "Credited: Meera Rao, account XXX003."]);
    check(&sent[7], vikram, &["account XXX002 was credited with Rs 70.00", "Paid by: Meera Rao, account XXX003."]);
    check(&sent[8], vikram, &["account XXX002 was closed", "Rs 1100.00 was paid out"]);
    audit(sending.branch.database_path()).assert_clean();
}

#[test]
fn after_every_kill_each_movement_that_was_made_has_its_message() {
    const KILLS: u64 = 8;
    const SESSIONS: i64 = 4;
    let mut random = Random::from_environment();
    let mut sending = Sending::start();
    let next_paise = AtomicI64::new(1);
    for _ in 0..KILLS {
        let done = AtomicUsize::new(0);
        let enough = 1 + random.below(60) as usize;
        let port = sending.branch.menu_port();
        thread::scope(|scope| {
            for _ in 0..SESSIONS {
                scope.spawn(|| deposit_until_the_end(port, &next_paise, &done));
            }
            let start = std::time::Instant::now();
            while done.load(Ordering::SeqCst) < enough {
                assert!(start.elapsed() < DEADLINE, "no deposits: {}", sending.branch.log().text());
                thread::yield_now();
            }
            sending.branch.kill9();
        });
        sending.branch.restart();
    }
    sending.wait_until_all_are_sent();
    assert_eq!(sending.branch.stop(), Some(0));
    let deposits = sending.branch.database().deposits(1001);
    let told: Vec<_> = sending.sent().into_iter().filter(|(_, body)| body.contains("Deposited in cash")).collect();
    println!("{} deposits, {} different messages", deposits.len(), told.len());
    assert_eq!(told.len(), deposits.len());
    for paise in deposits.keys() {
        let amount = format!("credited with Rs {}.{:02} on", paise / 100, paise % 100);
        assert_eq!(told.iter().filter(|(_, body)| body.contains(&amount)).count(), 1, "{amount}");
    }
}

fn deposit_until_the_end(port: u16, next_paise: &AtomicI64, done: &AtomicUsize) {
    let Ok(mut menu) = MenuConnection::open(port) else { return };
    if menu.log_in("1001", "secret").is_err() {
        return;
    }
    loop {
        let paise = next_paise.fetch_add(1, Ordering::SeqCst);
        let Ok(turn) = menu.deposit(format!("{}.{:02}", paise / 100, paise % 100)) else { return };
        turn.expect_done();
        done.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_start() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing").join("messages.jsonl"), folder.path().to_path_buf()] {
        let options = Options::preloaded().value("--sms", format!("file:{}", path.display()));
        let failure = Branch::try_start(options).map(drop).expect_err("it started");
        assert_eq!(failure.status, Some(1));
        let said: Vec<_> = failure.stderr.lines().filter(|line| !line.starts_with('[')).collect();
        assert_eq!(said.len(), 1, "{failure:?}");
        assert!(said[0].contains(&path.display().to_string()), "{failure:?}");
    }
}

#[test]
fn while_the_file_cannot_be_written_movements_go_on_and_their_messages_come_later() {
    let mut sending = Sending::start();
    sending.wait_until_all_are_sent();
    let outgoing = sending.file.parent().unwrap().to_path_buf();
    let elsewhere = outgoing.with_file_name("elsewhere");
    fs::rename(&outgoing, &elsewhere).unwrap();
    let mut asha = sending.branch.log_in("1001", "secret");
    for amount in 1..=5 {
        asha.deposit(amount).unwrap().expect_done();
    }
    sending.branch.log().wait_for("the failed delivery", |log| log.contains("text message") && log.contains("failed"));
    let waiting = sending.branch.database().number("SELECT count(*) FROM sms_outbox");
    assert_eq!(waiting, 5);
    fs::rename(&elsewhere, &outgoing).unwrap();
    sending.wait_until_all_are_sent();
    assert_eq!(sending.branch.stop(), Some(0));
    let sent = sending.sent();
    assert_eq!(sent.len(), 2 + 5);
    for amount in 1..=5 {
        let part = format!("credited with Rs {amount}.00");
        assert!(sent.iter().any(|(_, body)| body.contains(&part)), "{part} in {sent:?}");
    }
    assert_owner_alone(&sending.file);
}

/// The file holds phone numbers: nobody but its owner may read it.
fn assert_owner_alone(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn without_the_flag_there_are_no_messages() {
    let mut branch = Branch::start(Options::empty());
    let mut administrator = branch.log_in("0", "root");
    let answers = ["a", "123412341234", "9876543210", "Asha", "Rao", "yes", "secret"];
    administrator.operation(&answers).unwrap().expect_done();
    branch.log_in("1001", "secret").deposit(5).unwrap().expect_done();
    assert_eq!(branch.stop(), Some(0));
    assert_eq!(branch.database().number("SELECT count(*) FROM sms_outbox"), 0);
}

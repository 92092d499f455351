//! A branch that was put back to an older state, so that it has forgotten what it promised or decided: the books of the
//! others answer for what they know (rule 12), and what nobody can mend is shown and settled by a person (rule 14).

use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use bank_tests::{
    Bank, Branch, Options, Reply, SETTLED_WITHIN, server_command, wait_for, wait_until, wait_until_within,
};
use protocol::answer::{Audit, Pending, Status};
use protocol::teaching::Stage;
use protocol::{Money, Total};
use serde_json::{Value, json};

/// Two teaching branches, each with a backup that may be put back.
struct Pair {
    mumbai: Branch,
    delhi: Branch,
    bank: Bank,
}

impl Pair {
    fn new() -> Self {
        let bank = Bank::new();
        let [mumbai, delhi] = ["Mumbai", "Delhi"].map(|name| bank.start(name, Options::named(name).flag("--teaching")));
        Bank::introduce(&[&mumbai, &delhi]);
        Self { mumbai, delhi, bank }
    }

    fn transfer(&self) -> JoinHandle<Reply> {
        let mut connection = self.mumbai.connect();
        let params =
            json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "50.00", "dest_branch": "Delhi"});
        thread::spawn(move || connection.ask("inter_branch_transfer", params))
    }

    fn backup(&self, branch: &Branch) -> PathBuf {
        let copy = self.bank.folder().join("backup.db");
        let status =
            server_command().arg("backup").arg(&copy).arg("--db").arg(branch.database_path()).status().unwrap();
        assert!(status.success());
        copy
    }

    /// What the whole bank has, the suspense accounts counted, less what was paid in; and what is between the branches.
    fn difference(&self) -> (Total, Total) {
        let audits: Vec<Audit> = [&self.mumbai, &self.delhi].map(audit).into();
        let sum = |figure: fn(&Audit) -> Total| audits.iter().map(figure).sum::<Total>();
        (sum(|a| a.balances + a.suspense) - sum(|a| a.paid_in) + sum(|a| a.paid_out), sum(|a| a.in_transit))
    }
}

/// For a branch that has ended.
fn put_back(branch: &mut Branch, copy: &PathBuf) {
    let mut restore = server_command();
    let status = restore.arg("restore").arg(copy).arg("--force").arg("--db").arg(branch.database_path()).status();
    assert!(status.unwrap().success());
    branch.restart();
}

fn audit(branch: &Branch) -> Audit {
    branch.connect().ask("audit", json!({})).result()
}

fn pending(branch: &Branch) -> Vec<Pending> {
    branch.connect().ask("list_pending", json!({})).result()
}

fn status(branch: &Branch) -> Status {
    branch.connect().ask("status", json!({})).result()
}

fn step_mode(branch: &Branch, on: bool) {
    branch.connect().ask("step_mode", json!({"on": on})).ok();
}

/// Waits until something waits on a branch's stage; gives its number.
fn staged(branch: &Branch, message: &str) -> u64 {
    wait_for(message, || {
        let stage: Stage = branch.connect().ask("stage", json!({})).result();
        stage.waiting.iter().find(|waiting| waiting.message == message).map(|waiting| waiting.number)
    })
}

fn resolve(branch: &Branch, txid: &str, outcome: &str) -> Reply {
    let params = json!({"txid": txid, "outcome": outcome, "reason": "told by telephone"});
    branch.connect().ask("resolve", params)
}

fn txid_of(answer: &Value) -> String {
    answer["txid"].as_str().unwrap().to_string()
}

/// The transfer is shown as contradicted at Mumbai, is a finding by its id, also after a restart.
#[track_caller]
fn is_shown(mumbai: &mut Branch, txid: &str) {
    for is_restarted in [false, true] {
        if is_restarted {
            mumbai.kill9();
            mumbai.restart();
        }
        wait_until_within(SETTLED_WITHIN, "it is shown", || {
            let shown = pending(mumbai);
            status(mumbai).contradicted == 1 && shown.len() == 1 && shown[0].state == "contradicted"
        });
        wait_until("it is a finding", || {
            let audit = audit(mumbai);
            !audit.ok && audit.findings.iter().any(|finding| finding.contains(txid))
        });
    }
}

/// It was settled: nothing is left to do, the branches agree, and no paisa is lost, but the suspense account has some.
#[track_caller]
fn is_settled(pair: &mut Pair, txid: &str, suspense: i64) {
    for is_restarted in [false, true] {
        if is_restarted {
            pair.mumbai.kill9();
            pair.mumbai.restart();
        }
        assert!(pending(&pair.mumbai).is_empty() && pending(&pair.delhi).is_empty());
        let counts = status(&pair.mumbai);
        assert_eq!((counts.undelivered, counts.contradicted), (0, 0));
        assert_eq!(pair.difference(), (Total::ZERO, Total::ZERO));
        let audit = audit(&pair.mumbai);
        assert_eq!(audit.suspense, Total::from_paise(i128::from(suspense) * 100));
        assert!(audit.findings.iter().any(|finding| finding.contains(txid)), "{audit:?}");
    }
    assert!(!resolve(&pair.mumbai, txid, "commit").is_ok(), "what has ended is not changed");
    let reasons = pair.mumbai.database().texts("SELECT reason FROM settled_by_hand");
    assert_eq!(reasons, ["told by telephone"]);
}

#[test]
fn a_vote_that_its_branch_has_forgotten_is_shown_and_settled_at_the_coordinator() {
    for outcome in ["abort", "commit"] {
        let mut pair = Pair::new();
        let copy = pair.backup(&pair.delhi);
        pair.delhi.connect().ask("crash", json!({"at": "after-vote"})).ok();
        let txid = txid_of(&pair.transfer().join().unwrap().ok());
        pair.delhi.wait_for_crash();
        // Silent, it may have paid: that can be taken as done, and not taken back.
        resolve(&pair.mumbai, &txid, "abort").refused("cannot_resolve");
        put_back(&mut pair.delhi, &copy);
        is_shown(&mut pair.mumbai, &txid);
        resolve(&pair.delhi, &txid, outcome).refused("no_such_transfer");
        resolve(&pair.mumbai, &txid, outcome).ok();
        is_settled(&mut pair, &txid, 50);
    }
}

#[test]
fn a_decision_that_its_coordinator_has_forgotten_is_shown_and_settled_there() {
    let mut pair = Pair::new();
    step_mode(&pair.mumbai, true);
    let transfer = pair.transfer();
    staged(&pair.mumbai, "vote yes");
    let copy = pair.backup(&pair.mumbai);
    step_mode(&pair.mumbai, false);
    let txid = txid_of(&transfer.join().unwrap().ok());
    Bank::wait_until_settled(&[&pair.mumbai, &pair.delhi]);
    pair.mumbai.stop();
    put_back(&mut pair.mumbai, &copy);
    // Mumbai gives it up at its start, and Delhi has paid.
    is_shown(&mut pair.mumbai, &txid);
    resolve(&pair.mumbai, &txid, "commit").ok();
    is_settled(&mut pair, &txid, -50);
    assert_eq!(pair.delhi.connect().balance(1002), "1050.00");
}

#[test]
fn a_branch_put_back_to_its_vote_is_told_of_a_commit_that_was_forgotten_since() {
    let mut pair = Pair::new();
    step_mode(&pair.delhi, true);
    let transfer = pair.transfer();
    let number = staged(&pair.delhi, "prepare");
    pair.delhi.connect().ask("step", json!({"number": number, "how": "deliver"})).ok();
    staged(&pair.delhi, "commit");
    let copy = pair.backup(&pair.delhi);
    step_mode(&pair.delhi, false);
    let txid = txid_of(&transfer.join().unwrap().ok());
    Bank::wait_until_settled(&[&pair.mumbai, &pair.delhi]);
    wait_until("the end of the delivery is on disk", || {
        pair.mumbai.database().texts("SELECT state FROM coordinated") == ["ended"]
    });
    // The coordinator's memory ends with its process; only the books are left.
    pair.mumbai.stop();
    pair.delhi.stop();
    put_back(&mut pair.delhi, &copy);
    assert_eq!(pending(&pair.delhi)[0].txid.to_string(), txid);
    pair.mumbai.restart();
    wait_until_within(SETTLED_WITHIN, "Delhi has asked", || pending(&pair.delhi).is_empty());
    assert_eq!(pair.delhi.connect().balance(1002), "1050.00");
    let outcome = pair.mumbai.connect().ask("tx_status", json!({"txid": txid})).ok();
    assert_eq!(outcome["outcome"], "committed");
    Bank::assert_exact(&[&pair.mumbai, &pair.delhi]);
}

#[test]
fn a_delivery_to_a_branch_that_is_gone_ends_by_a_persons_word_and_is_told_to_it_all_the_same() {
    let mut pair = Pair::new();
    pair.delhi.connect().ask("crash", json!({"at": "after-vote"})).ok();
    let txid = txid_of(&pair.transfer().join().unwrap().ok());
    pair.delhi.wait_for_crash();
    assert_eq!(pending(&pair.mumbai)[0].state, "delivering");
    resolve(&pair.mumbai, &txid, "commit").ok();
    assert!(pending(&pair.mumbai).is_empty());
    pair.mumbai.kill9();
    pair.mumbai.restart();
    assert!(pending(&pair.mumbai).is_empty());
    pair.delhi.restart();
    Bank::wait_until_settled(&[&pair.mumbai, &pair.delhi]);
    assert_eq!(pair.delhi.connect().balance(1002), "1050.00");
    Bank::assert_exact(&[&pair.mumbai, &pair.delhi]);
}

#[test]
fn what_a_person_settles_without_a_coordinator_leaves_the_list_for_good() {
    let bank = Bank::new();
    let mut mumbai = bank.branch("Mumbai");
    for (txid, action, outcome) in [("raw-1", "prepare_withdraw", "abort"), ("raw-2", "prepare_deposit", "commit")] {
        mumbai.connect().ask(action, json!({"txid": txid, "account_no": 1001, "amount": 5})).ok();
        resolve(&mumbai, txid, outcome).ok();
    }
    for is_restarted in [false, true] {
        if is_restarted {
            mumbai.kill9();
            mumbai.restart();
        }
        assert!(pending(&mumbai).is_empty());
        // Its program comes late, and is told so.
        for (action, txid) in [("commit_withdraw", "raw-1"), ("abort_deposit", "raw-2")] {
            assert!(!mumbai.connect().ask(action, json!({"txid": txid})).is_ok());
        }
        assert_eq!(mumbai.connect().balance(1001), "1005.00");
    }
    assert!(audit(&mumbai).ok);
    assert_eq!(mumbai.database().number("SELECT count(*) FROM settled_by_hand"), 2);
    let five = Money::from_rupees(5);
    assert_eq!(audit(&mumbai).balances, Total::from(Money::from_rupees(2_000)) + Total::from(five));
}

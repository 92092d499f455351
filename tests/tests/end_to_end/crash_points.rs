//! Each point at which a branch can crash in the course of a transfer, at either branch, with either one back first:
//! afterwards the money is exact, nothing is in doubt, and the client's repeated request finds what became of it.

use std::io;

use bank_tests::{Bank, Branch, BranchConnection, Reply};
use serde_json::{Value, json};

/// Which branches are down at the end, and which is back first.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Only the one that crashed was down.
    CrashedAlone,
    /// Both were killed, and the one that crashed is back first.
    CrashedFirst,
    /// Both were killed, and the other one is back first.
    OtherFirst,
    /// Both were killed and are back at the same time.
    Together,
}

const ORDERS: [Order; 4] = [Order::CrashedAlone, Order::CrashedFirst, Order::OtherFirst, Order::Together];
const REQUEST_ID: &str = "the one transfer";

/// Mumbai pays 50.00 to Delhi. One of the two crashes at `point`.
struct Case {
    bank: Bank,
    mumbai: Branch,
    delhi: Branch,
    answer: io::Result<Reply>,
    params: Value,
}

impl Case {
    fn run(point: &str, at_mumbai: bool) -> Self {
        let bank = Bank::new();
        let start = |name: &str, crashes: bool| {
            if crashes { bank.branch_that_crashes(name, point) } else { bank.branch(name) }
        };
        let (mut mumbai, mut delhi) = (start("Mumbai", at_mumbai), start("Delhi", !at_mumbai));
        let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "50.00",
            "dest_host": "127.0.0.1", "dest_port": delhi.port()});
        let answer = mumbai.connect().try_ask("inter_branch_transfer", params.clone(), Some(REQUEST_ID));
        if at_mumbai {
            mumbai.wait_for_crash()
        } else {
            delhi.wait_for_crash()
        }
        Self { bank, mumbai, delhi, answer, params }
    }

    fn bring_back(&mut self, at_mumbai: bool, order: Order) {
        let (crashed, other) =
            if at_mumbai { (&mut self.mumbai, &mut self.delhi) } else { (&mut self.delhi, &mut self.mumbai) };
        match order {
            Order::CrashedAlone => crashed.restart(),
            Order::CrashedFirst | Order::OtherFirst => {
                other.kill9();
                let (first, second) =
                    if matches!(order, Order::CrashedFirst) { (crashed, other) } else { (other, crashed) };
                first.restart();
                // It can't settle alone what needs the other, and it works.
                first.connect().ask("deposit", json!({"account_no": 1001, "amount": "1.00"})).ok();
                second.restart();
            }
            Order::Together => {
                other.kill9();
                std::thread::scope(|scope| {
                    scope.spawn(|| crashed.restart());
                    other.restart();
                });
            }
        }
    }

    /// Checks everything that is claimed of the end, and gives whether the transfer was carried out.
    fn judge(&self, what: &str) -> bool {
        let branches = [&self.mumbai, &self.delhi];
        Bank::wait_until_settled(&branches);
        Bank::assert_exact(&branches);
        let [mut here, mut there] = branches.map(Branch::connect);
        let debits = legs(&mut here, 1001, "transfer_out");
        let credits = legs(&mut there, 1002, "transfer_in");
        assert_eq!(debits, credits, "{what}: debits and credits");
        let is_done = match debits.as_slice() {
            [] => false,
            [_] => true,
            _ => panic!("{what}: carried out {} times", debits.len()),
        };
        // A client whose connection broke knows nothing.
        if let Ok(reply) = &self.answer {
            assert_eq!(reply.is_ok(), is_done, "{what}: the client was told {}", reply.text);
        }
        for (branch, connection) in [("Mumbai", &mut here), ("Delhi", &mut there)] {
            for account in [1001, 1002] {
                let balance = connection.ask("balance", json!({"account_no": account})).ok();
                assert_eq!(balance["balance"], balance["available"], "{what}: held at {branch} {account}");
            }
        }
        is_done
    }

    /// The client asks again under the same id: it gets the transfer that was carried out, or now carries it out.
    fn repeat(&self, what: &str, is_done: bool) {
        let mut connection = self.mumbai.connect();
        let again = connection.ask_once(REQUEST_ID, "inter_branch_transfer", self.params.clone());
        if is_done {
            assert!(again.is_ok(), "{what}: repeated after it was carried out: {}", again.text);
            if let Ok(reply) = &self.answer {
                assert_eq!(again.ok()["txid"], reply.ok()["txid"], "{what}");
            }
        }
        let was_done_now = self.judge(what);
        assert_eq!(was_done_now, again.is_ok(), "{what}: {}", again.text);
        assert!(self.bank.key().to_text().len() == 64);
    }
}

/// The ids of the transfers of one kind in an account's history.
fn legs(connection: &mut BranchConnection, account: u64, kind: &str) -> Vec<String> {
    let rows = connection.ask("history", json!({"account_no": account})).ok();
    let rows = rows.as_array().unwrap().iter().filter(|row| row["type"] == kind);
    rows.map(|row| row["txid"].to_string()).collect()
}

/// Crashes `branch` at `point` and brings the branches back in every order. `expected` is what becomes of the
/// transfer where the point alone decides that.
fn check(point: &str, at_mumbai: bool, expected: Option<bool>) {
    std::thread::scope(|scope| {
        for order in ORDERS {
            scope.spawn(move || {
                let what = format!("{point} at {}, {order:?}", if at_mumbai { "Mumbai" } else { "Delhi" });
                let mut case = Case::run(point, at_mumbai);
                case.bring_back(at_mumbai, order);
                let is_done = case.judge(&what);
                if let Some(expected) = expected {
                    assert_eq!(is_done, expected, "{what}");
                }
                case.repeat(&what, is_done);
            });
        }
    });
}

#[test]
fn the_participant_before_its_prepared_record() {
    check("before-prepared", false, Some(false));
}

#[test]
fn the_participant_after_its_prepared_record() {
    // Back within the vote time-out it may still vote.
    check("after-prepared", false, None);
}

#[test]
fn the_participant_after_its_vote() {
    check("after-vote", false, Some(true));
}

#[test]
fn the_coordinator_before_its_decision() {
    check("before-decision", true, Some(false));
}

#[test]
fn the_coordinator_after_its_decision() {
    check("after-decision", true, Some(true));
}

#[test]
fn the_coordinator_after_its_first_delivery() {
    check("after-first-delivery", true, Some(true));
}

#[test]
fn the_coordinator_before_its_end_record() {
    check("before-end", true, Some(true));
}

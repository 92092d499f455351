//! Only the coordinator decides (rule 11), seen from outside: raw actions beside a transfer that a branch coordinates
//! change nothing, take nothing along, and never end the process.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use bank_tests::{Bank, Branch, Options, SETTLED_WITHIN, wait_until, wait_until_within};
use protocol::answer::Pending;
use protocol::teaching::Stage;
use serde_json::{Value, json};

const RAW_DECISIONS: [&str; 4] = ["commit_withdraw", "commit_deposit", "abort_withdraw", "abort_deposit"];

fn pending(branch: &Branch) -> Vec<Pending> {
    branch.connect().ask("list_pending", json!({})).result()
}

fn fifty_to(branch: &str) -> Value {
    json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": "50.00", "dest_branch": branch})
}

/// The code of the refusal, or what was answered instead.
fn code(branch: &Branch, action: &str, params: Value) -> String {
    let reply = branch.connect().ask(action, params);
    if reply.is_ok() { reply.text } else { reply.code().to_string() }
}

fn raw(txid: &str, coordinator: Option<&str>) -> Value {
    let mut params = json!({"txid": txid, "account_no": 1002, "amount": 500});
    if let Some(coordinator) = coordinator {
        params["coordinator"] = json!(coordinator);
    }
    params
}

#[test]
fn no_raw_action_decides_or_joins_a_transfer_that_is_under_way_or_has_ended() {
    let bank = Bank::new();
    let [mut mumbai, delhi, pune] =
        ["Mumbai", "Delhi", "Pune"].map(|name| bank.start(name, Options::named(name).flag("--teaching")));
    Bank::introduce(&[&mumbai, &delhi, &pune]);
    mumbai.connect().ask("step_mode", json!({"on": true})).ok();
    let mut connection = mumbai.connect();
    let transfer = thread::spawn(move || connection.ask("inter_branch_transfer", fifty_to("Delhi")));
    wait_until("the vote waits at Mumbai", || {
        let stage: Stage = mumbai.connect().ask("stage", json!({})).result();
        !stage.waiting.is_empty()
    });
    let txid = pending(&delhi)[0].txid.to_string();
    let attack = |branches: [&Branch; 3]| {
        for branch in branches {
            for action in ["prepare_withdraw", "prepare_deposit"] {
                for coordinator in [None, Some("Mumbai"), Some("Delhi"), Some("Pune"), Some("Nowhere")] {
                    let said = code(branch, action, raw(&txid, coordinator));
                    let is_pune = branch.port() == pune.port();
                    let is_refused = ["transaction_id_reused", "invalid_params"].contains(&said.as_str());
                    assert!(is_refused || is_pune, "{action} for {coordinator:?}: {said}");
                }
            }
        }
    };
    attack([&mumbai, &delhi, &delhi]);
    for branch in [&mumbai, &delhi] {
        for action in RAW_DECISIONS {
            assert_eq!(code(branch, action, json!({"txid": txid})), "coordinated", "{action}");
        }
    }
    mumbai.connect().ask("step_mode", json!({"on": false})).ok();
    transfer.join().unwrap().ok();
    Bank::wait_until_settled(&[&mumbai, &delhi]);
    // At Pune, which is no party, a prepare under this id in Mumbai's name ends as Mumbai says: aborted there.
    pune.connect().ask("prepare_deposit", raw(&txid, Some("Mumbai"))).ok();
    wait_until_within(SETTLED_WITHIN, "Pune has heard that it is no party", || pending(&pune).is_empty());
    assert_eq!(pune.connect().balance(1002), "1000.00");
    for is_restarted in [false, true] {
        if is_restarted {
            mumbai.kill9();
            mumbai.restart();
        }
        attack([&mumbai, &delhi, &pune]);
        for branch in [&mumbai, &delhi] {
            for action in RAW_DECISIONS {
                assert_eq!(code(branch, action, json!({"txid": txid})), "coordinated", "{action}");
            }
        }
    }
    Bank::wait_until_settled(&[&mumbai, &delhi, &pune]);
    assert_eq!([1001, 1002].map(|account| mumbai.connect().balance(account)), ["950.00", "1000.00"]);
    assert_eq!(delhi.connect().balance(1002), "1050.00");
    Bank::assert_exact(&[&mumbai, &delhi, &pune]);
}

#[test]
fn a_raw_prepare_in_another_branchs_name_waits_for_that_branch_or_a_person() {
    let bank = Bank::new();
    let (mut mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    mumbai.kill9();
    for (txid, action) in [("raw-1", "prepare_withdraw"), ("raw-2", "prepare_deposit")] {
        delhi.connect().ask(action, raw(txid, Some("Mumbai"))).ok();
        for action in RAW_DECISIONS {
            assert_eq!(code(&delhi, action, json!({"txid": txid})), "coordinated", "{action}");
        }
    }
    let resolve = json!({"txid": "raw-1", "outcome": "abort", "reason": "its program is gone"});
    delhi.connect().ask("resolve", resolve).ok();
    mumbai.restart();
    // Mumbai has begun no such transfer: the other one ends as aborted.
    wait_until_within(SETTLED_WITHIN, "Mumbai has said so", || pending(&delhi).is_empty());
    for action in RAW_DECISIONS {
        assert_eq!(code(&delhi, action, json!({"txid": "raw-2"})), "coordinated", "{action}");
    }
    Bank::assert_exact(&[&mumbai, &delhi]);
}

/// Lets everything pass between whoever connects to `listener` and a branch.
fn proxy(listener: TcpListener, port: u16) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(branch)) = (client, TcpStream::connect(("127.0.0.1", port))) else { return };
            for (mut from, mut to) in [(client.try_clone().unwrap(), branch.try_clone().unwrap()), (branch, client)] {
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(count @ 1..) = from.read(&mut bytes) {
                        if to.write_all(&bytes[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
}

#[test]
fn a_prepare_that_names_its_own_branch_waits_for_nobody_whatever_it_is_called() {
    let bank = Bank::new();
    let pune = bank.branch("Pune");
    let own = pune.port();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let by_proxy = listener.local_addr().unwrap().port();
    proxy(listener, own);
    let later = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for name in
        ["Pune", "PUNE", &format!("127.0.0.1:{own}"), &format!("localhost:{own}"), &format!("127.0.0.1:{by_proxy}")]
    {
        assert_eq!(code(&pune, "prepare_withdraw", raw("own", Some(name))), "invalid_params", "{name}");
    }
    // Nobody is there yet, so it is taken. Then it turns out who that is.
    pune.connect().ask("prepare_withdraw", raw("later", Some(&format!("127.0.0.1:{later}")))).ok();
    assert_eq!(pending(&pune).len(), 1);
    proxy(TcpListener::bind(("127.0.0.1", later)).unwrap(), own);
    wait_until_within(SETTLED_WITHIN, "the branch has met itself", || pending(&pune).is_empty());
    let balance = pune.connect().ask("balance", json!({"account_no": 1002})).ok();
    assert_eq!(balance["available"].to_string(), "1000.00");
}

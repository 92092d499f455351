//! A replica takes its primary's place: nothing that was acknowledged is lost where replicas are waited for, what is
//! lost otherwise is a suffix and is told, and the one that was replaced does no harm.

use std::collections::BTreeMap;
use std::env;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{
    Bank, Books, Branch, BranchConnection, DEADLINE, Options, Random, SetOnDrop, replica_options, request, wait_until,
};
use protocol::proof::BranchKey;
use rustix::process::Signal;
use serde_json::{Value, json};

/// How often a primary is killed and its replica promoted, unless `PROMOTIONS` says otherwise.
const ROUNDS: u64 = 5;
const CLIENTS: usize = 6;
/// How long a client waits before it asks again.
const PATIENCE: Duration = Duration::from_secs(3);

/// One request and what its client knows of it.
struct Asked {
    body: String,
    /// What it does to the books of Mumbai: type and paise. Every amount is another one.
    row: (&'static str, i64),
    is_acknowledged: bool,
}

#[test]
fn nothing_acknowledged_is_lost_when_a_primary_that_waits_for_its_replica_is_killed_and_the_replica_promoted() {
    let rounds = env::var("PROMOTIONS").map_or(ROUNDS, |text| text.parse().expect("PROMOTIONS is a number"));
    let mut random = Random::from_environment();
    let bank = Bank::new();
    let delhi = bank.branch("Delhi");
    let sync = |options: Options| options.value("--sync-replicas", 1);
    let mut primary = bank.start("one", sync(Options::named("Mumbai")));
    let mut replica = bank.start("two", sync(replica_options("Mumbai", &primary)));
    replica.wait_until_following();
    Bank::introduce(&[&primary, &delhi]);
    for account in [1001, 1002] {
        primary.connect().ask("deposit", json!({"account_no": account, "amount": 1_000_000})).ok();
    }
    let next_paise = AtomicI64::new(1);
    let mut asked = Vec::new();
    for round in 1..=rounds {
        asked.extend(load_until_killed(&mut primary, &next_paise, &mut random, round, &bank.key()));
        let promoted = promote(&replica);
        assert_eq!(promoted["epoch"].as_u64(), Some(round + 1));
        replica.wait_until_state("primary", "");
        // The old one comes back as a replica of the new one, on its old file.
        let old = primary.database_path().to_path_buf();
        let options = sync(replica_options("Mumbai", &replica)).database(old);
        drop(primary);
        let returned = Branch::start(options);
        wait_until("the old primary follows or says why not", || {
            let state = returned.replication().map(|status| status["replication"]["state"].clone());
            state == Some(json!("following")) || state == Some(json!("diverged"))
        });
        if returned.replication().unwrap()["replication"]["state"] == "diverged" {
            let trouble = returned.replication().unwrap()["replication"]["trouble"].to_string();
            assert!(trouble.contains("group commits after group"), "{trouble}");
            returned.connect().ask("resync", json!({})).ok();
            returned.wait_until_following();
        }
        primary = std::mem::replace(&mut replica, returned);
        // What nobody knows is asked again under its own id, and done once.
        settle_unknown(&primary, &mut asked);
        Bank::wait_until_settled(&[&primary, &delhi]);
        Bank::assert_exact(&[&primary, &delhi]);
        judge(&primary, &asked);
    }
    let count = asked.len();
    println!("{rounds} promotions, {count} operations");
    assert!(count as u64 > rounds * CLIENTS as u64, "hardly anything happened");
}

fn promote(replica: &Branch) -> Value {
    let promoted = replica.connect().ask("promote", json!({"force": true}));
    promoted.ok()
}

/// Has clients work at a primary until it is killed in the middle.
fn load_until_killed(
    primary: &mut Branch,
    next_paise: &AtomicI64,
    random: &mut Random,
    round: u64,
    key: &BranchKey,
) -> Vec<Asked> {
    let is_over = AtomicBool::new(false);
    let (port, key) = (primary.port(), key.clone());
    thread::scope(|scope| {
        let over = SetOnDrop(&is_over);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (mut random, key, is_over) = (random.fork(), key.clone(), &is_over);
                scope.spawn(move || {
                    let mut asked = Vec::new();
                    let mut connection = BranchConnection::connect_with(port, &key).unwrap();
                    connection.wait_at_most(PATIENCE);
                    while !is_over.load(Ordering::SeqCst) {
                        let id = format!("round {round} client {client} request {}", asked.len());
                        let mut one = draw(&mut random, next_paise.fetch_add(1, Ordering::SeqCst), &id);
                        match connection.try_text(&one.body) {
                            Ok(reply) if reply.is_ok() => one.is_acknowledged = true,
                            Ok(reply) => assert!(
                                ["unconfirmed", "undecided", "replicas_missing", "stopping", "vote_timeout", "busy"]
                                    .contains(&reply.code()),
                                "{}: {}",
                                one.body,
                                reply.text
                            ),
                            Err(_) => {
                                asked.push(one);
                                return asked;
                            }
                        }
                        asked.push(one);
                    }
                    asked
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(200 + random.below(500)));
        primary.kill9();
        drop(over);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

fn draw(random: &mut Random, paise: i64, id: &str) -> Asked {
    let amount = format!("{}.{:02}", paise / 100, paise % 100);
    let (action, params, kind) = match random.below(5) {
        0 | 1 => ("deposit", json!({"account_no": 1001, "amount": amount}), "deposit"),
        2 => ("withdraw", json!({"account_no": 1002, "amount": amount}), "withdrawal"),
        3 => ("local_transfer", json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": amount}), "transfer"),
        _ => (
            "inter_branch_transfer",
            json!({"src_account_no": 1002, "dest_branch": "Delhi", "dest_account_no": 1001, "amount": amount}),
            "transfer_out",
        ),
    };
    Asked { body: request(action, params, Some(id)), row: (kind, paise), is_acknowledged: false }
}

/// Asks again what has no answer yet.
fn settle_unknown(primary: &Branch, asked: &mut [Asked]) {
    let mut connection = primary.connect();
    for one in asked.iter_mut().filter(|one| !one.is_acknowledged) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let reply = connection.text(&one.body);
            if reply.is_ok() {
                one.is_acknowledged = true;
                break;
            }
            // A transfer that was under way was aborted by the restart: that is its answer, and stays it.
            if reply.code() == "transaction_aborted" {
                one.row.1 = 0;
                one.is_acknowledged = true;
                break;
            }
            assert!(Instant::now() < deadline, "{}: {}", one.body, reply.text);
        }
    }
}

/// Every acknowledged operation is there, once; nothing else is.
fn judge(primary: &Branch, asked: &[Asked]) {
    let mut there: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for ((kind, _, _, paise), count) in primary.database().movements() {
        if kind != "opening" && paise != 100_000_000 {
            there.insert((kind, paise), count);
        }
    }
    for one in asked.iter().filter(|one| one.row.1 != 0) {
        let count = there.remove(&(one.row.0.to_string(), one.row.1));
        assert_eq!(count, Some(1), "{} is there {count:?} times", one.body);
    }
    assert!(there.is_empty(), "nobody asked for {there:?}");
}

#[test]
fn without_waiting_the_loss_is_a_suffix_and_is_told_and_the_old_primary_is_fenced() {
    let bank = Bank::new();
    let delhi = bank.branch("Delhi");
    let mut primary = bank.branch("Mumbai");
    let replica = bank.replica_of(&primary, "mumbai-replica");
    Bank::introduce(&[&primary, &delhi]);
    for amount in 1..=20 {
        primary.connect().ask("deposit", json!({"account_no": 1001, "amount": amount})).ok();
    }
    replica.wait_until_caught_up(&primary);
    let kept = replica.sequence().unwrap();
    // The replica is stopped; what is committed from now on does not reach it.
    replica.signal(Signal::STOP);
    for amount in 21..=25 {
        primary.connect().ask("deposit", json!({"account_no": 1001, "amount": amount})).ok();
    }
    primary.kill9();
    replica.signal(Signal::CONT);
    // What the dead primary had put on the wire may still arrive; then the promotion stands after it.
    wait_until("the replica has lost its primary", || {
        replica.replication().is_some_and(|status| status["replication"]["state"] == "connecting")
    });
    let promoted = promote(&replica);
    let after = promoted["after_sequence"].as_i64().unwrap();
    assert!(after >= kept, "{promoted}");
    replica.wait_until_state("primary", "");
    let deposits: Vec<i64> = replica.database().deposits(1001).into_keys().collect();
    let expected: Vec<i64> = (1..=deposits.len() as i64).map(|rupees| rupees * 100).collect();
    assert_eq!(deposits, expected, "what is lost is a suffix");
    assert_eq!(replica.replication().unwrap()["replication"]["promotion"]["after_sequence"], after);
    // The old one comes back as it was started, and finds itself replaced.
    let lost = Books::open(primary.database_path()).number("SELECT max(sequence) FROM replication_log") - after;
    primary.restart();
    primary.wait_until_state("fenced", "fenced");
    let refused = primary.connect().ask("deposit", json!({"account_no": 1001, "amount": 1}));
    refused.refused("fenced");
    primary.kill9();
    primary.restart();
    primary.connect().ask("deposit", json!({"account_no": 1001, "amount": 1})).refused("fenced");
    // As a replica it says what only it has; a new copy is taken on order alone.
    let to = format!("127.0.0.1:{}", replica.port());
    primary.connect().ask("demote", json!({"to": to})).ok();
    if lost > 0 {
        primary.wait_until_state("replica", "diverged");
        let trouble = primary.replication().unwrap()["replication"]["trouble"].to_string();
        assert!(trouble.contains(&format!("{lost} group commits after group {after}")), "{trouble}");
        primary.connect().ask("resync", json!({})).ok();
    }
    primary.wait_until_following();
    replica.connect().ask("deposit", json!({"account_no": 1001, "amount": 1})).ok();
    primary.wait_until_caught_up(&replica);
    bank_tests::assert_same_rows(replica.database_path(), primary.database_path());
    Bank::assert_exact(&[&replica, &delhi]);
}

#[test]
fn transfers_in_doubt_and_undelivered_decisions_are_finished_by_the_promoted_one_and_peers_follow_it() {
    for point in ["after-decision", "after-vote"] {
        let bank = Bank::new();
        // Mumbai dies as coordinator after its decision, or as participant after its yes.
        let options = Options::named("Mumbai").value("--sync-replicas", 1).crash_at(point);
        let mut mumbai = bank.start("Mumbai", options);
        let delhi = bank.branch("Delhi");
        let replica = bank.replica_of(&mumbai, "mumbai-replica");
        Bank::introduce(&[&mumbai, &delhi]);
        let (from, to) = if point == "after-decision" { (&mumbai, "Delhi") } else { (&delhi, "Mumbai") };
        let params = json!({"src_account_no": 1001, "dest_branch": to, "dest_account_no": 1002, "amount": 50});
        let body = request("inter_branch_transfer", params, Some("one transfer"));
        let connection = from.connect();
        connection.send_text(&body).unwrap();
        mumbai.wait_for_crash();
        promote(&replica);
        replica.wait_until_state("primary", "");
        Bank::wait_until_settled(&[&replica, &delhi]);
        Bank::assert_exact(&[&replica, &delhi]);
        let again = if point == "after-decision" { &replica } else { &delhi };
        let answer = again.connect().text(&body);
        // A vote may be lost with its sender, and then the coordinator aborts; a decision stands.
        let is_lost = point == "after-vote" && answer.code() == "transaction_aborted";
        assert!(answer.is_ok() || is_lost, "{point}: {}", answer.text);
        let moved = if is_lost { 0 } else { 5_000 };
        let (payer, receiver) = if point == "after-decision" { (&replica, &delhi) } else { (&delhi, &replica) };
        let balances = (payer.database().balance_paise(1001), receiver.database().balance_paise(1002));
        assert_eq!(balances, (100_000 - moved, 100_000 + moved), "{point}");
        // Delhi finds Mumbai at its new place by itself.
        wait_until("Delhi knows Mumbai's new place", || {
            delhi.connect().ask("branches", json!({})).text.contains(&format!(":{}", replica.port()))
        });
        // The old one, back again, is refused by its peer and fenced.
        mumbai.restart();
        mumbai.wait_until_state("fenced", "fenced");
        let params = json!({"src_account_no": 1001, "dest_branch": "Delhi", "dest_account_no": 1002, "amount": 1});
        mumbai.connect().ask("inter_branch_transfer", params).refused("fenced");
        delhi
            .connect()
            .ask("link", json!({"branch": "Mumbai", "port": mumbai.port(), "epoch": 1}))
            .refused("lower_epoch");
    }
}

#[test]
fn a_peer_that_knows_a_higher_epoch_fences_an_old_primary_that_hears_of_it_nowhere_else() {
    let bank = Bank::new();
    let delhi = bank.branch("Delhi");
    let mut mumbai = bank.branch("Mumbai");
    let replica = bank.replica_of(&mumbai, "mumbai-replica");
    Bank::introduce(&[&mumbai, &delhi]);
    replica.wait_until_caught_up(&mumbai);
    mumbai.kill9();
    promote(&replica);
    replica.wait_until_state("primary", "");
    let epoch = || Books::open(delhi.database_path()).number("SELECT epoch FROM branches WHERE name = 'Mumbai'");
    wait_until("Delhi has heard of the new epoch", || epoch() == 2);
    // The promoted one is gone too; Delhi alone remembers, also after a restart.
    drop(replica);
    let mut delhi = delhi;
    delhi.kill9();
    delhi.restart();
    mumbai.restart();
    let params = json!({"src_account_no": 1001, "dest_branch": "Delhi", "dest_account_no": 1002, "amount": 1});
    wait_until("Mumbai is fenced", || {
        // The connection may end in the moment in which it is fenced.
        let connection = BranchConnection::connect_with(mumbai.port(), &bank.key());
        let reply =
            connection.and_then(|mut connection| connection.try_ask("inter_branch_transfer", params.clone(), None));
        reply.is_ok_and(|reply| reply.code() == "fenced")
    });
}

#[test]
fn a_primary_that_waits_refuses_writes_without_replicas_and_says_what_is_not_confirmed() {
    let bank = Bank::new();
    let delhi = bank.branch("Delhi");
    let primary = bank.start("Mumbai", Options::named("Mumbai").value("--sync-replicas", 1));
    let status = primary.connect().ask("status", json!({})).ok();
    assert_eq!(
        (&status["replication"]["state"], &status["replication"]["sync_replicas"]),
        (&json!("waiting for replicas"), &json!(1))
    );
    let deposit = |amount: i64| {
        request("deposit", json!({"account_no": 1001, "amount": amount}), Some(&format!("deposit {amount}")))
    };
    primary.connect().text(&deposit(1)).refused("replicas_missing");
    assert_eq!(primary.connect().balance(1001), "1000.00", "nothing was done");
    let mut replica = bank.replica_of(&primary, "mumbai-replica");
    Bank::introduce(&[&primary, &delhi]);
    primary.connect().text(&deposit(1)).ok();
    // A replica that is stopped keeps its connection for a while and confirms nothing.
    replica.signal(Signal::STOP);
    let unconfirmed = primary.connect().text(&deposit(2));
    unconfirmed.refused("unconfirmed");
    // Votes and decisions are promises: none leaves before the replica has it.
    let params = json!({"src_account_no": 1001, "dest_branch": "Mumbai", "dest_account_no": 1001, "amount": 10});
    let refused = delhi.connect().ask("inter_branch_transfer", params.clone());
    assert!(["vote_timeout", "branch_unreachable"].contains(&refused.code()), "{}", refused.text);
    primary.connect().text(&deposit(3)).refused("replicas_missing");
    replica.signal(Signal::CONT);
    replica.wait_until_following();
    // The same request tells what became of it, once it is confirmed.
    primary.connect().text(&deposit(2)).ok();
    primary.connect().text(&deposit(3)).ok();
    Bank::wait_until_settled(&[&primary, &delhi]);
    assert_eq!(primary.database().balance_paise(1001), 100_600);
    // Without a replica it stops and starts as ever.
    replica.kill9();
    let mut primary = primary;
    assert_eq!(primary.stop(), Some(0));
    primary.restart();
    primary.connect().text(&deposit(4)).refused("replicas_missing");
    replica.restart();
    wait_until("the replica is back", || primary.connect().text(&deposit(4)).is_ok());
    Bank::wait_until_settled(&[&primary, &delhi]);
    Bank::assert_exact(&[&primary, &delhi]);
}

#[test]
fn a_promoted_copy_stays_primary_when_it_is_started_as_it_was_before() {
    let bank = Bank::new();
    let mut mumbai = bank.branch("Mumbai");
    let mut replica = bank.replica_of(&mumbai, "mumbai-replica");
    replica.connect().ask("promote", json!({})).refused("invalid_params");
    mumbai.kill9();
    wait_until("the primary counts as gone", || replica.connect().ask("promote", json!({})).is_ok());
    replica.wait_until_state("primary", "");
    replica.connect().ask("deposit", json!({"account_no": 1001, "amount": 7})).ok();
    replica.kill9();
    replica.restart();
    replica.wait_until_state("primary", "");
    replica.connect().ask("deposit", json!({"account_no": 1001, "amount": 7})).ok();
    assert!(replica.log().text().contains("is passed over"), "{}", replica.log().text());
}

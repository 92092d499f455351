//! Who may ask for what, at the running branch: every action for all four kinds of caller, and a customer's one
//! account by every way that could lead to another's.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bank_tests::{Bank, Branch, BranchConnection, Options, frame, request};
use protocol::actions::{Action, Property};
use protocol::connection::CallError;
use protocol::proof::{BranchKey, Prover, from_hex};
use serde_json::{Value, json};

/// Who may, as section 8 of the design says it, written down once more and by hand.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Anyone,
    Customers,
    KeyHolders,
}

fn who(action: Action) -> Who {
    match action {
        Action::Hello | Action::Authenticate | Action::Login | Action::Status => Who::Anyone,
        Action::Balance
        | Action::Deposit
        | Action::Withdraw
        | Action::LocalTransfer
        | Action::InterBranchTransfer
        | Action::SplitTransfer
        | Action::History
        | Action::GetLogs
        | Action::Batch
        | Action::SetPassword => Who::Customers,
        Action::Link
        | Action::CreateAccount
        | Action::CloseAccount
        | Action::ListAccounts
        | Action::PrepareWithdraw
        | Action::PrepareDeposit
        | Action::CommitWithdraw
        | Action::CommitDeposit
        | Action::AbortWithdraw
        | Action::AbortDeposit
        | Action::TxStatus
        | Action::ListPending
        | Action::Resolve
        | Action::ClearSuspense
        | Action::Audit
        | Action::Branches
        | Action::Watch
        | Action::CheckPassword
        | Action::PasswordVersions
        | Action::Replicate
        | Action::Follow
        | Action::Promote
        | Action::Demote
        | Action::Resync
        | Action::Stage
        | Action::StepMode
        | Action::Step
        | Action::PassTime
        | Action::Fault
        | Action::Crash => Who::KeyHolders,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Caller {
    Anonymous,
    Customer,
    KeyHolder,
    Open,
}

fn logged_in(branch: &Branch, account: u64) -> BranchConnection {
    let mut connection = branch.connect_anonymously();
    let params = json!({"account_no": account, "password": account.to_string()});
    let role = connection.ask("login", params).ok();
    assert_eq!(role, json!({"role": "customer", "account_no": account.to_string()}));
    connection
}

/// Right parameters of an action, as far as they matter to who may ask: of the customer's own account.
fn params(action: Action) -> Value {
    match action {
        Action::Authenticate => json!({"proof": "00"}),
        Action::Hello => json!({"nonce": "00"}),
        Action::Link => json!({"branch": "a b", "port": 1}),
        Action::LocalTransfer => json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1}),
        Action::InterBranchTransfer => {
            json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1, "dest_branch": "Mumbai"})
        }
        Action::SplitTransfer => json!({"src_account_no": 1001, "legs": [{"account_no": 1002, "amount": 1}]}),
        Action::Batch => json!({"requests": []}),
        Action::Watch => json!({"follow": false}),
        Action::StepMode => json!({"on": false}),
        Action::Step => json!({"number": 1, "how": "deliver"}),
        Action::PassTime => json!({"milliseconds": 1}),
        Action::Fault => json!({"peer": "Delhi", "fault": "heal"}),
        Action::Crash => json!({"at": "never"}),
        Action::Replicate => json!({"branch": "Pune", "port": 1, "heard_epoch": 1, "version": 1}),
        Action::Follow => json!({"branch": "Pune", "port": 1, "epoch": 1}),
        Action::Demote => json!({"to": "nobody"}),
        Action::Promote | Action::Resync => json!({}),
        Action::ClearSuspense => json!({"txid": "none", "cash": true, "reason": "none"}),
        Action::Resolve => json!({"txid": "none", "outcome": "abort", "reason": "none"}),
        Action::PasswordVersions => json!({"account_nos": [1001]}),
        Action::CreateAccount => json!({"name": "Asha"}),
        // It would take the account away from the cases that follow.
        Action::CloseAccount => json!({"account_no": 4711}),
        Action::Login
        | Action::Balance
        | Action::Deposit
        | Action::Withdraw
        | Action::ListAccounts
        | Action::PrepareWithdraw
        | Action::PrepareDeposit
        | Action::CommitWithdraw
        | Action::CommitDeposit
        | Action::AbortWithdraw
        | Action::AbortDeposit
        | Action::TxStatus
        | Action::ListPending
        | Action::History
        | Action::GetLogs
        | Action::Status
        | Action::Audit
        | Action::Branches
        | Action::Stage
        | Action::CheckPassword
        | Action::SetPassword => json!({"account_no": 1001, "password": "1001", "amount": 1, "txid": "T"}),
    }
}

#[test]
fn every_action_for_every_kind_of_caller() {
    let closed = Branch::start(Options::preloaded());
    let open = Branch::start(Options::preloaded().flag("--open"));
    for caller in [Caller::Anonymous, Caller::Customer, Caller::KeyHolder, Caller::Open] {
        for action in Action::ALL {
            let mut connection = match caller {
                Caller::Anonymous => closed.connect_anonymously(),
                Caller::Customer => logged_in(&closed, 1001),
                Caller::KeyHolder => closed.connect(),
                Caller::Open => open.connect_anonymously(),
            };
            let reply = connection.ask(action.name(), params(*action));
            let may = match (caller, who(*action)) {
                (Caller::KeyHolder | Caller::Open, _) | (_, Who::Anyone) | (Caller::Customer, Who::Customers) => true,
                (Caller::Anonymous | Caller::Customer, Who::KeyHolders) | (Caller::Anonymous, Who::Customers) => false,
            };
            // "Say hello first" is not about who asks.
            let is_refused = reply.code() == "not_allowed" && *action != Action::Authenticate;
            assert_eq!(!is_refused, may, "{action} by {caller:?}: {}", reply.text);
        }
    }
}

#[test]
fn a_batch_holds_what_the_table_says() {
    let branch = Branch::start(Options::preloaded());
    let requests: Vec<Value> =
        Action::ALL.iter().map(|action| json!({"action": action.name(), "params": params(*action)})).collect();
    let answers = branch.connect().ask("batch", json!({"requests": requests})).ok();
    for (action, answer) in Action::ALL.iter().zip(answers.as_array().unwrap()) {
        let is_refused = answer["error"] == format!("{action} cannot be part of a batch");
        assert_eq!(is_refused, !action.has(Property::InBatch), "{action}: {answer}");
    }
}

#[test]
fn what_is_refused_is_refused_before_anything_is_looked_at() {
    let branch = Branch::start(Options::preloaded());
    let mut connection = branch.connect_anonymously();
    // Nothing tells an account that exists from one that does not, nor right parameters from wrong ones.
    let answers: Vec<String> = [json!({"account_no": 1001}), json!({"account_no": 4711}), json!({}), json!([1])]
        .map(|params| connection.ask("balance", params).refused("not_allowed").text.clone())
        .to_vec();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let wrong = |account: u64| json!({"account_no": account, "password": "wrong"});
    let (known, unknown) = (connection.ask("login", wrong(1001)).text, connection.ask("login", wrong(4711)).text);
    assert_eq!(known, unknown);
    connection.ask("balance", json!({"account_no": 1001})).refused("not_allowed");
    // An account without a password has no log-in.
    branch.connect().ask("create_account", json!({"account_no": 2000, "name": "Asha"})).ok();
    for password in ["", "2000"] {
        connection.ask("login", json!({"account_no": 2000, "password": password})).refused("wrong_login");
    }
    // The administrator has none on this port.
    assert!(!connection.ask("login", json!({"account_no": 0, "password": "root"})).is_ok());
}

#[test]
fn the_key_is_proved_and_never_shown() {
    let branch = Branch::start(Options::preloaded());
    let metadata = fs::metadata(branch.key_path()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let mut text = branch.key().to_text();
    assert_eq!(branch.connect_anonymously().prove(&branch.key()).unwrap(), "Mumbai");
    // A client with another key notices first that the branch has not the same one.
    text.replace_range(0..2, if text.starts_with("00") { "01" } else { "00" });
    let other: BranchKey = text.parse().unwrap();
    let mut connection = branch.connect_anonymously();
    assert!(matches!(connection.prove(&other), Err(CallError::Stranger)));
    // One that goes on all the same is refused, and stays anonymous.
    let challenge = |connection: &mut BranchConnection| {
        let nonce = "11".repeat(32);
        let welcome = connection.ask("hello", json!({"nonce": nonce})).ok();
        let branch_nonce = from_hex(welcome["nonce"].as_str().unwrap()).unwrap();
        (from_hex(&nonce).unwrap(), branch_nonce, welcome["proof"].as_str().unwrap().to_string())
    };
    let (client, nonce, branch_proof) = challenge(&mut connection);
    let wrong = other.prove(Prover::Client, &client, &nonce, "Mumbai");
    connection.ask("authenticate", json!({"proof": wrong})).refused("not_allowed");
    // Each challenge serves once: now not even the right proof helps.
    let right = branch.key().prove(Prover::Client, &client, &nonce, "Mumbai");
    connection.ask("authenticate", json!({"proof": right})).refused("not_allowed");
    // Neither the branch's own proof sent back, nor a proof from another connection, nor one for another branch.
    challenge(&mut connection);
    connection.ask("authenticate", json!({"proof": branch_proof})).refused("not_allowed");
    challenge(&mut connection);
    connection.ask("authenticate", json!({"proof": right})).refused("not_allowed");
    let (client, nonce, _) = challenge(&mut connection);
    let elsewhere = branch.key().prove(Prover::Client, &client, &nonce, "Delhi");
    connection.ask("authenticate", json!({"proof": elsewhere})).refused("not_allowed");
    connection.ask("list_accounts", json!({})).refused("not_allowed");
    // And after all that the right proof of this connection's challenge does.
    let (client, nonce, _) = challenge(&mut connection);
    let right = branch.key().prove(Prover::Client, &client, &nonce, "Mumbai");
    connection.ask("authenticate", json!({"proof": right})).ok();
    connection.ask("list_accounts", json!({})).ok();
    assert!(!branch.log().text().contains(&branch.key().to_text()));
}

#[test]
fn the_key_is_made_once_and_shared_in_a_folder() {
    let bank = Bank::new();
    let mut mumbai = bank.branch("Mumbai");
    let key = bank.key().to_text();
    let delhi = bank.branch("Delhi");
    mumbai.kill9();
    mumbai.restart();
    assert_eq!((bank.key().to_text(), delhi.key().to_text()), (key.clone(), key));
    let other = Branch::start(Options::preloaded());
    assert_ne!(other.key().to_text(), bank.key().to_text());
}

#[test]
fn open_and_teaching_are_for_loopback_only() {
    for flag in ["--open", "--teaching"] {
        let options = Options::preloaded().flag(flag).value("--host", "0.0.0.0");
        let failure = Branch::try_start(options).map(drop).expect_err("it started");
        assert_eq!(failure.status, Some(64), "{failure:?}");
        assert!(failure.stderr.contains(flag) && failure.stderr.contains("loopback"), "{failure:?}");
    }
    let options = Options::preloaded().value("--crash-at", "after-vote");
    let failure = Branch::try_start(options).map(drop).expect_err("a crash point without --teaching");
    assert_eq!(failure.status, Some(64), "{failure:?}");
}

#[test]
fn a_customer_sees_and_moves_the_own_account_alone() {
    let bank = Bank::new();
    let (mumbai, delhi) = (bank.branch("Mumbai"), bank.branch("Delhi"));
    Bank::introduce(&[&mumbai, &delhi]);
    let mut customer = logged_in(&mumbai, 1001);
    let own_transfer = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1});
    let others_transfer = json!({"src_account_no": 1002, "dest_account_no": 1001, "amount": 1});
    let with = |params: &Value, branch: &str| {
        let mut params = params.clone();
        params["dest_branch"] = json!(branch);
        params
    };
    let split = |payer: u64| {
        json!({"src_account_no": payer, "legs": [{"account_no": 1002, "amount": 1, "dest_branch": "Delhi"},
        {"account_no": 1001, "amount": 1, "dest_branch": "Delhi"}]})
    };
    let others = [
        ("balance", json!({"account_no": 1002})),
        ("history", json!({"account_no": 1002})),
        ("get_logs", json!({"account_no": 1002})),
        ("deposit", json!({"account_no": 1002, "amount": 1})),
        ("withdraw", json!({"account_no": 1002, "amount": 1})),
        ("local_transfer", others_transfer.clone()),
        ("inter_branch_transfer", with(&others_transfer, "Delhi")),
        ("inter_branch_transfer", with(&others_transfer, "Mumbai")),
        ("split_transfer", split(1002)),
        ("set_password", json!({"account_no": 1002, "password": "mine now"})),
        ("create_account", json!({"name": "Asha", "balance": 1_000_000})),
        ("prepare_withdraw", json!({"txid": "T", "account_no": 1001, "amount": 1})),
    ];
    for (action, params) in &others {
        customer.ask(action, params.clone()).refused("not_allowed");
    }
    // Inside a batch each request has its own row of the table.
    let requests: Vec<Value> =
        others.iter().map(|(action, params)| json!({"action": action, "params": params})).collect();
    let answers = customer.ask("batch", json!({"requests": requests})).ok();
    for (request, answer) in requests.iter().zip(answers.as_array().unwrap()) {
        assert!(["not_allowed", "invalid_params"].contains(&answer["code"].as_str().unwrap()), "{request}: {answer}");
    }
    let own = json!({"action": "deposit", "params": {"account_no": 1001, "amount": 100}});
    let mixed = json!({"requests": [own, requests[4]], "atomic": true});
    let answers = customer.ask("batch", mixed).ok();
    assert_eq!((&answers[0]["code"], &answers[1]["code"]), (&json!("batch_refused"), &json!("not_allowed")));
    // And in one write with a request that is allowed.
    let pair =
        [request("balance", json!({"account_no": 1001}), None), request("balance", json!({"account_no": 1002}), None)];
    customer.send_bytes(&pair.map(|body| frame(&body)).concat()).unwrap();
    customer.receive().unwrap().ok();
    customer.receive().unwrap().refused("not_allowed");
    for branch in [&mumbai, &delhi] {
        let mut connection = branch.connect();
        assert_eq!([1001, 1002].map(|account| connection.balance(account)), ["1000.00", "1000.00"]);
    }
    // The own account can be looked at and moved in every way.
    for (action, params) in [
        ("balance", json!({"account_no": 1001})),
        ("deposit", json!({"account_no": 1001, "amount": 10})),
        ("withdraw", json!({"account_no": 1001, "amount": 1})),
        ("local_transfer", own_transfer.clone()),
        ("inter_branch_transfer", with(&own_transfer, "Delhi")),
        ("split_transfer", split(1001)),
        ("batch", json!({"requests": [own]})),
        ("history", json!({"account_no": 1001})),
        ("set_password", json!({"account_no": 1001, "password": "better", "present_password": "1001"})),
    ] {
        customer.ask(action, params).ok();
    }
    // The history without an account is the own one.
    let rows = customer.ask("history", json!({})).ok();
    let is_own = |row: &Value| row["from_account"] == "1001" || row["to_account"] == "1001";
    assert!(rows.as_array().unwrap().iter().all(is_own), "{rows}");
    // Whoever proves the key afterwards may do all.
    customer.prove(&mumbai.key()).unwrap();
    customer.ask("balance", json!({"account_no": 1002})).ok();
}

#[test]
fn a_customer_whose_account_is_closed_can_do_nothing_with_it() {
    let branch = Branch::start(Options::preloaded());
    let mut customer = logged_in(&branch, 1001);
    branch.connect().ask("close_account", json!({"account_no": 1001})).ok();
    customer.ask("balance", json!({"account_no": 1001})).refused("account_closed");
    customer.ask("deposit", json!({"account_no": 1001, "amount": 1})).refused("account_closed");
    customer.ask("set_password", json!({"account_no": 1001, "password": "again"})).refused("account_closed");
    let params = json!({"account_no": 1001, "password": "1001"});
    branch.connect_anonymously().ask("login", params).refused("wrong_login");
}

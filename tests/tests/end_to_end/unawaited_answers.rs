//! Answers that another thread writes than the client's own: in order, bounded, undisturbed by whoever takes none of
//! them, and never for what is not on disk.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{
    Branch, BranchConnection, DEADLINE, Options, Random, audit, connect_narrow, frame, held_for_all, request,
    wait_until,
};
use rustix::process::Signal;
use serde_json::{Value, json};

fn open_branch() -> Branch {
    Branch::start(Options::preloaded().flag("--open"))
}

fn deposit(account: u64) -> Vec<u8> {
    frame(&request("deposit", json!({"account_no": account, "amount": "0.01"}), None))
}

/// Rupees with two decimals.
fn rupees(paise: u64) -> String {
    format!("{}.{:02}", paise / 100, paise % 100)
}

/// The resident memory of the branch in bytes.
fn resident(branch: &Branch) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", branch.process_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn who_takes_no_answers_disturbs_nobody_and_gets_them_in_order_in_the_end() {
    // Their answers are far more than the system holds for a client and the branch makes ahead.
    const REQUESTS: u64 = 20_000;
    const STUCK: usize = 8;
    let branch = open_branch();
    let before = resident(&branch);
    let stuck: Vec<TcpStream> = (0..STUCK).map(|_| connect_narrow(branch.port())).collect();
    thread::scope(|scope| {
        for stream in &stuck {
            // A balance among the deposits shows the order. It goes on as soon as the client reads.
            let balance = frame(&request("balance", json!({"account_no": 1001}), None));
            let requests: Vec<u8> = [deposit(1001), balance].concat().repeat(REQUESTS as usize / 2);
            scope.spawn(move || { stream }.write_all(&requests).unwrap());
        }
        assert!(held_for_all(&stuck) > 0);
        let mut bystander = branch.connect_anonymously();
        let mut longest = Duration::ZERO;
        for paise in 1..=200 {
            let start = Instant::now();
            let answer = bystander.ask("deposit", json!({"account_no": 1002, "amount": "0.01"})).ok();
            longest = longest.max(start.elapsed());
            assert_eq!(answer["balance"].to_string(), rupees(100_000 + paise));
        }
        assert!(longest < Duration::from_secs(2), "a deposit took {longest:?} beside clients that take no answers");
        let more = resident(&branch).saturating_sub(before);
        assert!(more < 32 << 20, "{more} bytes more are held for clients that take no answers");
        let readers = stuck.iter().map(|stream| {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut connection = BranchConnection::over(stream.try_clone().unwrap());
            scope.spawn(move || {
                let mut last = 0;
                for index in 0..REQUESTS {
                    let reply = connection.receive().unwrap();
                    let is_balance = reply.json["result"]["name"].is_string();
                    assert_eq!(is_balance, index % 2 == 1, "answer {index}: {}", reply.text);
                    let paise: u64 = reply.ok()["balance"].to_string().replace('.', "").parse().unwrap();
                    // Others pay in as well, so it is only known that what came before had its effect.
                    assert!(if is_balance { paise >= last } else { paise > last }, "answer {index}: {}", reply.text);
                    last = paise;
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    let all = 100_000 + STUCK as u64 * REQUESTS / 2;
    assert_eq!(branch.connect_anonymously().balance(1001), rupees(all));
}

/// What a request is to be answered with, beside what was before it on its connection.
#[derive(Clone, Copy, Debug)]
enum Sort {
    Deposit,
    Refused,
    Balance,
    History,
    Unreadable,
    Batch,
}

impl Sort {
    const ALL: [Self; 8] = [
        Self::Deposit,
        Self::Deposit,
        Self::Deposit,
        Self::Refused,
        Self::Balance,
        Self::History,
        Self::Unreadable,
        Self::Batch,
    ];

    fn request(self, account: u64) -> String {
        let moved = |amount: &str| json!({"account_no": account, "amount": amount});
        match self {
            Self::Deposit => request("deposit", moved("0.01"), None),
            Self::Refused => request("withdraw", moved("99999999"), None),
            Self::Balance => request("balance", json!({"account_no": account}), None),
            Self::History => request("history", json!({"account_no": account, "limit": 1}), None),
            Self::Unreadable => "{".to_string(),
            Self::Batch => {
                let deposit = json!({"action": "deposit", "params": moved("0.01")});
                request("batch", json!({"requests": [deposit]}), None)
            }
        }
    }

    /// Checks the answer, and notes what it did to the balance.
    fn check(self, reply: &bank_tests::Reply, paise: &mut u64) {
        let balance = |value: &Value| value["balance"].to_string();
        match self {
            Self::Deposit => {
                *paise += 1;
                assert_eq!(balance(&reply.ok()), rupees(*paise));
            }
            Self::Refused => drop(reply.refused("insufficient_funds").clone()),
            Self::Balance => assert_eq!(balance(&reply.ok()), rupees(*paise)),
            Self::History => assert_eq!(reply.ok().as_array().unwrap().len(), 1),
            Self::Unreadable => drop(reply.refused("bad_json").clone()),
            Self::Batch => {
                *paise += 1;
                assert_eq!(balance(&reply.ok()[0]["result"]), rupees(*paise));
            }
        }
    }
}

#[test]
fn requests_of_all_sorts_sent_ahead_are_answered_in_order_and_see_what_came_before() {
    const CLIENTS: u64 = 6;
    const ROUNDS: usize = 40;
    let branch = open_branch();
    let mut random = Random::from_environment();
    let mut operator = branch.connect_anonymously();
    for account in 2_001..=2_000 + CLIENTS {
        operator.ask("create_account", json!({"account_no": account, "name": "Asha Rao", "balance": 10})).ok();
    }
    thread::scope(|scope| {
        for account in 2_001..=2_000 + CLIENTS {
            let (mut random, branch) = (random.fork(), &branch);
            scope.spawn(move || {
                let mut connection = branch.connect_anonymously();
                let mut paise = 1_000;
                for _ in 0..ROUNDS {
                    let count = 1 + random.below(40);
                    let sorts: Vec<Sort> = (0..count).map(|_| Sort::ALL[random.below(8) as usize]).collect();
                    let bytes: Vec<u8> = sorts.iter().flat_map(|sort| frame(&sort.request(account))).collect();
                    // In pieces, so that the branch also finds half of a request behind whole ones.
                    let cut = random.below(bytes.len() as u64) as usize;
                    connection.send_bytes(&bytes[..cut]).unwrap();
                    thread::yield_now();
                    connection.send_bytes(&bytes[cut..]).unwrap();
                    for sort in sorts {
                        sort.check(&connection.receive().unwrap(), &mut paise);
                    }
                }
            });
        }
    });
}

#[test]
fn who_hangs_up_with_answers_on_their_way_is_forgotten_and_the_books_are_in_order() {
    const CLIENTS: usize = 60;
    let mut branch = open_branch();
    for round in 0..CLIENTS {
        let mut connection = branch.connect_anonymously();
        connection.send_bytes(&deposit(1001).repeat(300)).unwrap();
        match round % 3 {
            // With answers unread, which resets the connection.
            0 => drop(connection.receive().unwrap()),
            1 => connection.inner().stream().shutdown(Shutdown::Write).unwrap(),
            _ => {}
        }
    }
    let mut operator = branch.connect_anonymously();
    wait_until("those who have hung up are gone", || operator.ask("status", json!({})).ok()["clients"] == 1);
    let balance: u64 = operator.balance(1001).replace('.', "").parse().unwrap();
    assert!((100_000..=100_000 + CLIENTS as u64 * 300).contains(&balance), "{balance}");
    operator.ask("deposit", json!({"account_no": 1001, "amount": "0.01"})).ok();
    assert_eq!(branch.stop(), Some(0));
    audit(branch.database_path()).assert_clean();
}

#[test]
fn a_client_is_not_silent_while_its_answer_is_on_its_way() {
    let branch = Branch::start(Options::preloaded().flag("--open").value("--idle-timeout", 1));
    let mut connection = branch.connect_anonymously();
    // One after another, with pauses that are each shorter than the limit and together longer.
    for _ in 0..4 {
        connection.send_bytes(&deposit(1001).repeat(3)).unwrap();
        for _ in 0..3 {
            connection.receive().unwrap().ok();
        }
        thread::sleep(Duration::from_millis(600));
    }
    let silent = Instant::now();
    assert!(connection.is_closed());
    assert!(silent.elapsed() < Duration::from_secs(5), "{:?}", silent.elapsed());
}

#[test]
fn a_stop_in_the_middle_answers_what_is_done_and_does_what_is_answered() {
    const CLIENTS: u64 = 8;
    let mut branch = open_branch();
    let mut operator = branch.connect_anonymously();
    for account in 2_001..=2_000 + CLIENTS {
        operator.ask("create_account", json!({"account_no": account, "name": "Asha Rao"})).ok();
    }
    let (port, answered) = (branch.port(), AtomicUsize::new(0));
    // Keeps many requests under way until the branch closes; how many were answered, and the last balance.
    let keep_asking = |account: u64| {
        let mut connection = BranchConnection::connect(port).unwrap();
        let (mut count, mut last) = (0, "0.00".to_string());
        connection.send_bytes(&deposit(account).repeat(100)).unwrap();
        while let Ok(reply) = connection.receive() {
            if !reply.is_ok() {
                reply.refused("stopping");
                continue;
            }
            count += 1;
            last = reply.ok()["balance"].to_string();
            assert_eq!(last, rupees(count), "an answer is missing");
            answered.fetch_add(1, Ordering::SeqCst);
            match connection.send_bytes(&deposit(account)) {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
                Err(error) => panic!("{error}"),
            }
        }
        (account, last)
    };
    let told: Vec<(u64, String)> = thread::scope(|scope| {
        let keep_asking = &keep_asking;
        let clients: Vec<_> =
            (2_001..=2_000 + CLIENTS).map(|account| scope.spawn(move || keep_asking(account))).collect();
        wait_until("everybody is at work", || answered.load(Ordering::SeqCst) > 2_000);
        let start = Instant::now();
        branch.signal(Signal::TERM);
        assert_eq!(branch.wait().code(), Some(0), "{}", branch.log().text());
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}: {}", start.elapsed(), branch.log().text());
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    audit(branch.database_path()).assert_clean();
    let books = branch.database();
    for (account, last) in told {
        let last: i64 = last.replace('.', "").parse().unwrap();
        // What was under way was answered; only a connection that broke before it was read hides the rest.
        let there = books.balance_paise(account.cast_signed());
        assert!(there >= last, "account {account} was told of {last} and has {there}");
    }
}

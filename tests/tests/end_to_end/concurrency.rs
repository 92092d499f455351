//! Many sessions at once: no deposit is lost, and the books are in order at every instant.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use bank_tests::{Branch, MenuConnection, Options, Random, SetOnDrop, audit};

const SESSIONS: u64 = 64;
const DEPOSITS: u64 = 2_000;
const ACCOUNTS: u64 = 10;
const TRANSFERS_PER_SESSION: u64 = 40;
const OPENING_PAISE: i64 = 100_000;

#[test]
fn of_2000_deposits_by_64_sessions_on_one_account_all_are_there() {
    let mut branch = Branch::start(Options::preloaded());
    let next = AtomicU64::new(1);
    thread::scope(|scope| {
        for _ in 0..SESSIONS {
            scope.spawn(|| {
                let mut menu = branch.log_in("1001", "1001");
                loop {
                    let paise = next.fetch_add(1, Ordering::Relaxed);
                    if paise > DEPOSITS {
                        break;
                    }
                    menu.deposit(rupees(paise)).unwrap().expect_done();
                }
            });
        }
    });
    assert_eq!(branch.stop(), Some(0));
    let books = branch.database();
    // Each amount is another one, so each deposit is recognised.
    let deposits = books.deposits(1001);
    assert_eq!(deposits.len() as u64, DEPOSITS);
    assert!(deposits.values().all(|&count| count == 1), "{deposits:?}");
    let sum = (DEPOSITS * (DEPOSITS + 1) / 2).cast_signed();
    assert_eq!(books.balance_paise(1001), OPENING_PAISE + sum);
    assert_eq!(books.balance_paise(1002), OPENING_PAISE);
    audit(branch.database_path()).assert_clean();
}

#[test]
fn while_64_sessions_transfer_at_random_the_audit_is_clean_throughout() {
    let mut random = Random::from_environment();
    let mut branch = Branch::start(Options::empty().value("--opening-balance", rupees(OPENING_PAISE.unsigned_abs())));
    open_accounts(&branch);
    let is_over = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let (audits, refused) = thread::scope(|scope| {
        let over = SetOnDrop(&is_over);
        let auditor = scope.spawn(|| audit_again_and_again(&branch, &is_over));
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|session| {
                let random = random.fork();
                let (branch, done) = (&branch, &done);
                scope.spawn(move || transfer_at_random(branch, 1001 + session % ACCOUNTS, random, done))
            })
            .collect();
        let refused: u64 = sessions.into_iter().map(|session| session.join().unwrap()).sum();
        drop(over);
        (auditor.join().unwrap(), refused)
    });
    let done = done.into_inner();
    println!("{done} transfers, {refused} refused, {audits} audits in the meantime");
    assert_eq!(done + refused, SESSIONS * TRANSFERS_PER_SESSION);
    assert!(done > 0 && audits > 1);
    assert_eq!(branch.stop(), Some(0));
    let books = branch.database();
    assert_eq!(books.number("SELECT count(*) FROM transactions WHERE type = 'transfer'"), done.cast_signed());
    assert_eq!(books.number("SELECT sum(balance) FROM customers"), ACCOUNTS.cast_signed() * OPENING_PAISE);
    assert_eq!(books.number("SELECT min(balance) >= 0 FROM customers"), 1);
    audit(branch.database_path()).assert_clean();
}

fn open_accounts(branch: &Branch) {
    let mut administrator = branch.log_in("0", "root");
    for number in 0..ACCOUNTS {
        let (aadhaar, phone) = (format!("{:012}", 5_000 + number), format!("{:010}", 9_000 + number));
        let answers = ["a", &aadhaar, &phone, "Asha", "Rao", "no", "secret"];
        administrator.operation(&answers).unwrap().expect_done();
    }
}

/// Transfers from one account to others, sometimes more than there is; gives how often it was refused.
fn transfer_at_random(branch: &Branch, payer: u64, mut random: Random, done: &AtomicU64) -> u64 {
    let mut menu = branch.log_in(&payer.to_string(), "secret");
    let mut refused = 0;
    for _ in 0..TRANSFERS_PER_SESSION {
        let receiver = 1001 + (payer - 1001 + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
        let amount = rupees(1 + random.below(OPENING_PAISE.unsigned_abs() / 4));
        let turn = menu.operation(&["d", &receiver.to_string(), &amount]).unwrap();
        match turn.fail() {
            None => {
                turn.expect_done();
                done.fetch_add(1, Ordering::Relaxed);
            }
            Some(reason) => {
                assert!(reason.starts_with("Insufficient funds"), "{reason}");
                refused += 1;
            }
        }
    }
    refused
}

/// Audits at the administrator's menu until told to end; gives how often.
fn audit_again_and_again(branch: &Branch, is_over: &AtomicBool) -> u64 {
    let mut administrator: MenuConnection = branch.log_in("0", "root");
    let mut audits = 0;
    while !is_over.load(Ordering::SeqCst) {
        let turn = administrator.operation(&["f"]).unwrap();
        assert_eq!(turn.done(), Some("The books are in order."), "{}", turn.text());
        let sum = turn
            .text()
            .lines()
            .find_map(|line| line.strip_prefix("Sum of all balances"))
            .map(str::trim)
            .map(String::from);
        assert_eq!(sum, Some(rupees(ACCOUNTS * OPENING_PAISE.unsigned_abs())), "{}", turn.text());
        audits += 1;
    }
    audits
}

fn rupees(paise: u64) -> String {
    format!("{}.{:02}", paise / 100, paise % 100)
}

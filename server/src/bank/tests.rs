//! The bank's rules, on a real database.

use std::thread;

use super::accounts::Account;
use super::history::Transaction;
use super::movements::Transferred;
use super::*;
use crate::error::Result;

const HERE: Origin = Origin::Address(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

struct Fixture {
    bank: Bank,
    dbs: Arc<DbsExec>,
    directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let dbs = Arc::new(DbsExec::open(&directory.path().join("bank.db"), |_| {}).unwrap());
    let settings = BankSettings {
        name: "Mumbai".parse().unwrap(),
        opening_balance: Money::from_rupees(100_000),
        hash_cost: HashCost::OWASP,
    };
    let bank = Bank::open(Arc::clone(&dbs), settings, None).unwrap();
    Fixture { bank, dbs, directory }
}

fn rupees(text: &str) -> Money {
    text.parse().unwrap()
}

fn account(number: u64) -> AccountNum {
    AccountNum::new(number).unwrap()
}

/// An account without password, which costs no hashing.
fn opening(balance: &str) -> Opening {
    Opening {
        number: None,
        first_name: "Test".into(),
        last_name: "Customer".into(),
        aadhaar: None,
        phone: None,
        sms: false,
        password_hash: None,
        opening_balance: rupees(balance),
    }
}

impl Fixture {
    fn open(&self, balance: &str) -> AccountNum {
        self.open_account(opening(balance)).unwrap()
    }

    fn open_account(&self, opening: Opening) -> Result<AccountNum> {
        self.bank.book(Owner::Branch, move |tx, booking| accounts::open(tx, &opening, booking))
    }

    fn close_account(&self, number: AccountNum) -> Result<Money> {
        self.bank.book(Owner::Branch, move |tx, booking| accounts::close(tx, number, booking))
    }

    fn deposit(&self, number: AccountNum, amount: Money) -> Result<Money> {
        self.bank.book(Owner::Branch, move |tx, booking| movements::deposit(tx, number, amount, booking))
    }

    fn withdraw(&self, number: AccountNum, amount: Money) -> Result<Money> {
        self.bank.book(Owner::Branch, move |tx, booking| movements::withdraw(tx, number, amount, booking))
    }

    fn transfer(&self, from: AccountNum, to: AccountNum, amount: Money) -> Result<Transferred> {
        self.bank.book(Owner::Branch, move |tx, booking| movements::transfer(tx, from, to, amount, booking))
    }

    fn accounts(&self, after: Option<AccountNum>, with_closed: bool, limit: usize) -> Result<Vec<Account>> {
        self.dbs.read(|reader| accounts::list(reader, after, with_closed, limit))
    }

    fn transactions(&self, account: Option<AccountNum>, before: Option<i64>, limit: usize) -> Result<Vec<Transaction>> {
        self.dbs.read(|reader| match account {
            Some(account) => history::of_account(reader, account, before, limit),
            None => history::all(reader, before, limit),
        })
    }

    fn balance(&self, number: AccountNum) -> String {
        self.bank.account(number).unwrap().balance.to_string()
    }

    fn audit(&self) -> protocol::answer::Audit {
        self.dbs.read(|reader| crate::service::audit::audit(reader)).unwrap()
    }

    fn assert_clean(&self) {
        let audit = self.audit();
        assert!(audit.ok, "findings: {:?}", audit.findings);
        assert_eq!(audit.balances, audit.paid_in - audit.paid_out);
    }
}

#[test]
fn accounts_are_numbered_from_1001_and_given_numbers_are_passed_over() {
    let fixture = fixture();
    assert_eq!(fixture.open("0"), account(1001));
    let given = Opening { number: Some(account(1002)), ..opening("0") };
    assert_eq!(fixture.open_account(given.clone()), Ok(account(1002)));
    assert_eq!(fixture.open_account(given), Err(Error::AccountExists(account(1002))));
    assert_eq!(fixture.open("0"), account(1003));
    fixture.assert_clean();
}

#[test]
fn a_tenth_deposited_three_times_is_thirty_paise() {
    let fixture = fixture();
    let number = fixture.open("0");
    for _ in 0..3 {
        fixture.deposit(number, rupees("0.1")).unwrap();
    }
    assert_eq!(fixture.balance(number), "0.30");
    fixture.assert_clean();
}

/// As years of the largest movements would leave it.
#[test]
fn the_totals_of_cash_never_fill_up() {
    let fixture = fixture();
    let number = fixture.open("1");
    for _ in 0..205 {
        fixture.deposit(number, rupees("99999999999998.99")).unwrap();
        fixture.withdraw(number, rupees("99999999999998.99")).unwrap();
    }
    let cash = |dbs: &DbsExec| {
        let sql = "SELECT debited_carry, credited_carry FROM own_accounts WHERE account_num = -1";
        let read = |row: &crate::dbs_exec::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        dbs.read(|reader| reader.query_opt(sql, params![], read)).unwrap()
    };
    assert_eq!(cash(&fixture.dbs), Some((2, 2)));
    let audit = fixture.audit();
    assert!(audit.ok, "findings: {:?}", audit.findings);
    assert_eq!(audit.paid_in.to_string(), "20499999999999793.95");
    fixture
        .dbs
        .execute(|tx| {
            // What no customer could reach in a life: 9 * 10^36 paise.
            tx.execute(
                "UPDATE own_accounts SET debited_carry = ?1, credited_carry = ?1 WHERE account_num = -1",
                params![i64::MAX - 2],
            )
        })
        .unwrap();
    fixture.deposit(number, rupees("5")).unwrap();
    assert_eq!(fixture.balance(number), "6.00");
}

#[test]
fn an_overdraft_is_refused_and_nothing_is_stored() {
    let fixture = fixture();
    let (payer, receiver) = (fixture.open("10"), fixture.open("0"));
    let refused = Error::InsufficientFunds { available: rupees("10") };
    assert_eq!(fixture.withdraw(payer, rupees("10.01")), Err(refused.clone()));
    assert_eq!(fixture.transfer(payer, receiver, rupees("10.01")), Err(refused));
    assert_eq!(fixture.balance(payer), "10.00");
    assert_eq!(fixture.transactions(None, None, 10).unwrap().len(), 1, "only the opening");
    fixture.assert_clean();
}

#[test]
fn a_transfer_moves_exactly_the_amount() {
    let fixture = fixture();
    let (payer, receiver) = (fixture.open("10"), fixture.open("5"));
    let after = fixture.transfer(payer, receiver, rupees("9.99")).unwrap();
    assert_eq!(after, Transferred { from_balance: rupees("0.01"), to_balance: rupees("14.99") });
    let rows = fixture.transactions(Some(receiver), None, 1).unwrap();
    assert_eq!((rows[0].from.as_str(), rows[0].to.as_str(), rows[0].kind.as_str()), ("1001", "1002", "transfer"));
    fixture.assert_clean();
}

#[test]
fn a_transfer_to_oneself_to_nobody_or_to_a_closed_account_is_refused() {
    let fixture = fixture();
    let (payer, closed) = (fixture.open("10"), fixture.open("5"));
    assert_eq!(fixture.close_account(closed), Ok(rupees("5")));
    let pay = |to| fixture.transfer(payer, to, rupees("1"));
    assert_eq!(pay(payer), Err(Error::SameAccount(payer)));
    assert_eq!(pay(account(4711)), Err(Error::NoSuchAccount(account(4711))));
    assert_eq!(pay(closed), Err(Error::AccountClosed(closed)));
    assert_eq!(fixture.balance(payer), "10.00");
    fixture.assert_clean();
}

#[test]
fn closing_pays_out_and_keeps_the_history() {
    let fixture = fixture();
    let number = fixture.open("12.34");
    assert_eq!(fixture.close_account(number), Ok(rupees("12.34")));
    assert_eq!(fixture.close_account(number), Err(Error::AccountClosed(number)));
    assert_eq!(fixture.bank.account(number), Err(Error::AccountClosed(number)));
    assert_eq!(fixture.deposit(number, rupees("1")), Err(Error::AccountClosed(number)));
    let rows = fixture.transactions(Some(number), None, 10).unwrap();
    assert_eq!(rows.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>(), ["closing", "opening"]);
    assert!(fixture.accounts(None, false, 10).unwrap().is_empty());
    fixture.assert_clean();
}

#[test]
fn an_account_with_money_held_is_not_closed() {
    let fixture = fixture();
    let number = fixture.open("10");
    fixture
        .dbs
        .execute(move |tx| tx.execute("UPDATE accounts SET held = 1 WHERE account_num = ?1", params![number.as_i64()]))
        .unwrap();
    assert_eq!(fixture.close_account(number), Err(Error::MoneyHeld(number)));
    assert_eq!(
        fixture.withdraw(number, rupees("10")),
        Err(Error::InsufficientFunds { available: rupees("9.99") }),
        "what is held cannot be spent"
    );
    let audit = fixture.audit();
    assert!(!audit.ok, "money held without a transfer is a finding");
}

#[test]
fn aadhaar_and_phone_are_unique_among_open_accounts() {
    let fixture = fixture();
    let with = |aadhaar: &str, phone: &str| Opening {
        aadhaar: Some(aadhaar.into()),
        phone: Some(phone.into()),
        ..opening("0")
    };
    let first = fixture.open_account(with("123412341234", "9876543210")).unwrap();
    let open = |aadhaar, phone| fixture.open_account(with(aadhaar, phone));
    assert_eq!(open("123412341234", "9876543211"), Err(Error::DuplicateAadhaar));
    assert_eq!(open("123412341235", "9876543210"), Err(Error::DuplicatePhone));
    fixture.close_account(first).unwrap();
    assert_eq!(open("123412341234", "9876543210"), Ok(account(1002)), "a closed account frees both");
}

#[test]
fn names_are_data_never_statements() {
    let fixture = fixture();
    let name = "'; DROP TABLE customers; --";
    let number = fixture.open_account(Opening { first_name: name.into(), ..opening("0") }).unwrap();
    assert_eq!(fixture.bank.account(number).unwrap().first_name, name);
    fixture.assert_clean();
}

#[test]
fn no_balance_passes_the_largest_amount() {
    let fixture = fixture();
    let number = fixture.open("99999999999999.99");
    assert_eq!(fixture.deposit(number, rupees("0.01")), Err(Error::BalanceLimit(number)));
    let payer = fixture.open("1");
    assert_eq!(fixture.transfer(payer, number, rupees("1")), Err(Error::BalanceLimit(number)));
    fixture.assert_clean();
}

#[test]
fn two_thousand_deposits_from_64_threads_are_all_there() {
    let fixture = fixture();
    let number = fixture.open("0");
    thread::scope(|scope| {
        for thread in 0..64 {
            let fixture = &fixture;
            scope.spawn(move || {
                for _ in 0..(2000 / 64 + usize::from(thread < 2000 % 64)) {
                    fixture.deposit(number, rupees("0.01")).unwrap();
                }
            });
        }
    });
    assert_eq!(fixture.balance(number), "20.00");
    fixture.assert_clean();
}

#[test]
fn random_transfers_from_many_threads_keep_every_audit_clean() {
    let fixture = fixture();
    let numbers: Vec<_> = (0..10).map(|_| fixture.open("100")).collect();
    thread::scope(|scope| {
        let movers: Vec<_> = (0..64_usize)
            .map(|thread| {
                let (fixture, numbers) = (&fixture, &numbers);
                scope.spawn(move || -> Result<()> {
                    for step in 0..20_usize {
                        let (from, to) = (thread * 7 + step * 3, thread * 5 + step * 11 + 1);
                        match fixture.transfer(numbers[from % 10], numbers[to % 10], rupees("33.33")) {
                            Ok(_) | Err(Error::InsufficientFunds { .. } | Error::SameAccount(_)) => {}
                            Err(error) => return Err(error),
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        while movers.iter().any(|mover| !mover.is_finished()) {
            fixture.assert_clean();
        }
        for mover in movers {
            mover.join().unwrap().unwrap();
        }
    });
    fixture.assert_clean();
    assert_eq!(fixture.audit().balances.to_string(), "1000.00");
}

#[test]
fn the_audit_names_a_row_that_was_altered_and_a_balance_that_was_changed() {
    let fixture = fixture();
    let number = fixture.open("10");
    fixture.deposit(number, rupees("5")).unwrap();
    fixture.assert_clean();
    let path = fixture.directory.path().join("bank.db");
    let intruder = rusqlite::Connection::open(path).unwrap();
    intruder
        .execute_batch(
            "DROP TRIGGER transactions_no_update; UPDATE transactions SET amount = 1 WHERE transaction_id = 2;",
        )
        .unwrap();
    let findings = fixture.audit().findings.join("; ");
    assert!(findings.contains("transaction 2 was altered"), "{findings}");
    assert!(findings.contains("account 1001 holds Rs 15.00, but its transactions make Rs 10.01"), "{findings}");
    assert!(findings.contains("the books count Rs 15.00 out of cash"), "{findings}");
}

#[test]
fn an_audit_names_a_missing_row() {
    let fixture = fixture();
    let number = fixture.open("10");
    fixture.deposit(number, rupees("5")).unwrap();
    fixture.deposit(number, rupees("5")).unwrap();
    let intruder = rusqlite::Connection::open(fixture.directory.path().join("bank.db")).unwrap();
    intruder
        .execute_batch("DROP TRIGGER transactions_no_delete; DELETE FROM transactions WHERE transaction_id = 2;")
        .unwrap();
    let findings = fixture.audit().findings.join("; ");
    assert!(findings.contains("transactions 2 to 2 are missing"), "{findings}");
}

#[test]
fn the_books_survive_a_restart_and_another_name_is_refused() {
    let fixture = fixture();
    let number = fixture.open("10");
    let Fixture { bank, dbs, directory } = fixture;
    drop((bank, dbs));
    let dbs = Arc::new(DbsExec::open(&directory.path().join("bank.db"), |_| {}).unwrap());
    let settings = |name: &str| BankSettings {
        name: name.parse().unwrap(),
        opening_balance: Money::ZERO,
        hash_cost: HashCost::OWASP,
    };
    let refused = Bank::open(Arc::clone(&dbs), settings("Delhi"), None);
    assert!(matches!(refused, Err(Error::Invalid(_))));
    let bank = Bank::open(dbs, settings("Mumbai"), None).unwrap();
    assert_eq!(bank.account(number).unwrap().balance, rupees("10"));
}

#[test]
fn sample_accounts_are_made_once_and_only_in_an_empty_branch() {
    let fixture = fixture();
    assert_eq!(fixture.bank.preload().unwrap(), [account(1001), account(1002)]);
    assert_eq!(fixture.bank.preload().unwrap(), []);
    assert_eq!(fixture.balance(account(1001)), "1000.00");
    assert!(fixture.bank.log_in(1001, "1001", HERE).is_ok());
    assert_eq!(fixture.bank.log_in(1001, "1002", HERE), Err(Error::WrongLogin));
    assert_eq!(fixture.bank.log_in(4711, "4711", HERE), Err(Error::WrongLogin));
    assert!(fixture.bank.log_in(ADMINISTRATOR, "root", HERE).is_ok());
    assert_eq!(fixture.bank.default_passwords().unwrap(), [0, 1001, 1002]);
    fixture.bank.change_password(account(1001), "1001", "better", HERE).unwrap();
    assert_eq!(fixture.bank.change_password(account(1001), "1001", "x", HERE), Err(Error::WrongPassword));
    fixture.bank.set_password(ADMINISTRATOR, "better still", Orderer::BRANCH).unwrap();
    assert_eq!(fixture.bank.default_passwords().unwrap(), [1002]);
}

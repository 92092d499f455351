//! Wrong passwords: what someone meets who guesses, and someone who mistyped.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bank_tests::{Branch, DEADLINE, MenuConnection, Options, wait_until};
use serde_json::json;

/// What a log-in at the menu is answered: `None` when it was let in.
fn try_menu(branch: &Branch, account: &str, password: &str) -> Option<String> {
    let mut menu = MenuConnection::open(branch.menu_port()).unwrap();
    menu.answers(&["a", account, password]).unwrap().fail().map(ToOwned::to_owned)
}

fn try_login(branch: &Branch, account: u64, password: &str) -> String {
    let params = json!({"account_no": account, "password": password});
    branch.connect_anonymously().ask("login", params).code().to_string()
}

fn try_on_behalf(branch: &Branch, account: u64, password: &str) -> String {
    branch.connect().ask("check_password", json!({"account_no": account, "password": password})).code().to_string()
}

/// A log-in through the older client's port; gives the turn after the password.
fn try_lab(branch: &Branch, account: &str, password: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", branch.lab_port())).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // The key 0 leaves every byte as it is.
    let mut said = String::new();
    for (question, answer) in [("", "0"), ("choice: ", "a"), ("number: ", account), ("Password: ", password)] {
        read_until(&mut stream, &mut said, question);
        said.clear();
        stream.write_all(answer.as_bytes()).unwrap();
    }
    read_until(&mut stream, &mut said, "go on");
    said
}

fn read_until(stream: &mut TcpStream, said: &mut String, end: &str) {
    while !said.ends_with(end) {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "the branch hung up after {said}");
        said.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
}

#[test]
fn wrong_passwords_pause_an_account_ever_longer_and_lock_it_whether_it_exists_or_not() {
    let branch = Branch::start(Options::preloaded());
    let refused = Some("The account number or the password is wrong.".to_string());
    let is_paused = |answer: &Option<String>| {
        answer.as_deref().is_some_and(|text| text.starts_with("Too many wrong passwords; try again in "))
    };
    for account in ["1001", "4711"] {
        for _ in 0..5 {
            assert_eq!(try_menu(&branch, account, "guess"), refused, "{account}");
        }
        // The right password isn't looked at during a pause either.
        let paused = try_menu(&branch, account, "1001");
        assert_eq!(paused.as_deref(), Some("Too many wrong passwords; try again in 1 second."), "{account}");
    }
    // Tries during a pause count nothing, so this waits through pauses of 1, 2 and 4 seconds.
    for account in ["1001", "4711"] {
        for _ in 0..3 {
            wait_until("the pause is over", || {
                let answer = try_menu(&branch, account, "guess");
                assert!(answer == refused || is_paused(&answer), "{answer:?}");
                answer == refused
            });
        }
        let locked = try_menu(&branch, account, "1001").unwrap();
        assert_eq!(locked, "Too many wrong passwords; try again in 5 minutes.", "{account}");
        assert!(branch.log().text().contains(&format!("account {account} is locked for 5 minutes")));
    }
    assert_eq!(try_menu(&branch, "1002", "1002"), None, "nobody else is meant");
    assert_eq!(try_menu(&branch, "0", "root"), None);
}

#[test]
fn after_a_pause_the_right_password_is_let_in_and_the_count_begins_anew() {
    let branch = Branch::start(Options::preloaded());
    for _ in 0..2 {
        for _ in 0..5 {
            assert_eq!(try_login(&branch, 1001, "guess"), "wrong_login");
        }
        assert_eq!(try_login(&branch, 1001, "1001"), "locked_out");
        wait_until("the pause is over", || match try_login(&branch, 1001, "1001").as_str() {
            "" => true,
            code => {
                assert_eq!(code, "locked_out");
                false
            }
        });
    }
}

#[test]
fn every_port_counts_and_those_whom_the_bridge_asks_for_are_counted_apart() {
    let branch = Branch::start(Options::preloaded().lab());
    for _ in 0..2 {
        assert!(try_menu(&branch, "1001", "guess").is_some());
        assert_eq!(try_login(&branch, 1001, "guess"), "wrong_login");
    }
    let wrong = try_lab(&branch, "1001", "guess");
    assert!(wrong.contains("password is wrong"), "{wrong}");
    let paused = "oo many wrong passwords; try again in ";
    assert!(try_menu(&branch, "1001", "1001").unwrap().contains(paused));
    assert_eq!(try_on_behalf(&branch, 1001, "1001"), "", "they come from elsewhere");
    for _ in 0..5 {
        assert_eq!(try_on_behalf(&branch, 0, "guess"), "wrong_login");
    }
    assert_eq!(try_on_behalf(&branch, 0, "root"), "locked_out");
    assert_eq!(try_menu(&branch, "0", "root"), None, "the administrator at the branch's own machine is let in");
}

#[test]
fn passwords_that_confirm_something_count_too() {
    let branch = Branch::start(Options::preloaded());
    let mut customer = branch.log_in("1001", "1001");
    for _ in 0..5 {
        customer.operation(&["g", "guess", "better", "better"]).unwrap().expect_fail();
    }
    let refused = customer.operation(&["g", "1001", "better", "better"]).unwrap();
    assert_eq!(refused.expect_fail(), "Too many wrong passwords; try again in 1 second.");
    let mut administrator = branch.log_in("0", "root");
    for _ in 0..5 {
        administrator.operation(&["b", "1002", "guess"]).unwrap().expect_fail();
    }
    let refused = administrator.operation(&["b", "1002", "root"]).unwrap();
    assert!(refused.expect_fail().starts_with("Too many wrong passwords"), "{refused:?}");
}

#[test]
fn an_address_that_goes_through_the_account_numbers_is_paused_at_all_of_them() {
    let branch = Branch::start(Options::preloaded());
    let mut connection = branch.connect_anonymously();
    for account in 5000..5030 {
        let params = json!({"account_no": account, "password": "1234"});
        connection.ask("login", params).refused("wrong_login");
    }
    assert_eq!(try_login(&branch, 1001, "1001"), "locked_out");
    assert_eq!(try_on_behalf(&branch, 1001, "1001"), "", "it is the address that is meant, not the account");
    wait_until("the pause is over", || try_login(&branch, 1001, "1001").is_empty());
}

//! The older client at its own port: its loop, written anew from what it does with the bytes.

use std::io::{Read, Write};
use std::net::TcpStream;

use bank_tests::{Branch, DEADLINE, Options, audit};

/// What the older client reads at once, and so the longest turn.
const RECEIVED_BYTES_MAX: usize = 1_024;

/// Runs the older client: sends the key, then shows each turn and answers it, until a turn begins with `@EXIT`.
/// An empty answer is sent as one blank, because it can't send nothing. Gives what it has shown.
fn old_client(port: u16, key: u8, mut answer: impl FnMut(&str) -> &'static str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(key.to_string().as_bytes()).unwrap();
    let mut shown = String::new();
    loop {
        let mut bytes = [0; RECEIVED_BYTES_MAX];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "the server hung up after:\n{shown}");
        let turn: Vec<u8> = bytes[..count].iter().map(|byte| byte ^ key).collect();
        let turn = String::from_utf8(turn).unwrap();
        if let Some(goodbye) = turn.strip_prefix("@EXIT\n") {
            return shown + goodbye;
        }
        let (is_hidden, turn) = turn.strip_prefix("@PASS\n").map_or((false, turn.as_str()), |rest| (true, rest));
        let text = turn.strip_prefix("@CLEAR\n").unwrap_or(turn);
        for directive in ["@CLEAR", "@PASS", "@EXIT", "@PROMPT", "@PAUSE", "@DONE", "@FAIL"] {
            assert!(!text.contains(directive), "{directive} in the text {text:?}");
        }
        assert_eq!(is_hidden, text.ends_with("assword: ") || text.ends_with("assword again: "), "{text}");
        let answer = answer(text);
        shown.push_str(&format!("{text}[{answer}]\n"));
        let bytes: Vec<u8> = if answer.is_empty() { " " } else { answer }.bytes().map(|byte| byte ^ key).collect();
        stream.write_all(&bytes).unwrap();
    }
}

/// Gives the answers one after another, and all of them.
fn old_client_with(port: u16, key: u8, answers: &[&'static str]) -> String {
    let mut left = answers.iter();
    let shown = old_client(port, key, |text| left.next().unwrap_or_else(|| panic!("no answer is left to {text:?}")));
    assert_eq!(left.next(), None, "answers are left after:\n{shown}");
    shown
}

#[test]
fn the_older_client_works_unchanged_with_keys_of_every_length() {
    for key in [7, 42, 200, 0] {
        let mut branch = Branch::start(Options::preloaded().lab());
        let customer = [
            "a", "1001", "1001", "b", "250.50", "", "c", "9999", "", "d", "1002", "0.50", "", "e", "", "f", "a", "0",
            "root", "c", "", "f", "", "e", "b",
        ];
        let shown = old_client_with(branch.lab_port(), key, &customer);
        for part in [
            "Rs 250.50 deposited. The balance is Rs 1250.50.",
            "Insufficient funds: Rs 1250.50 is available.",
            "Rs 0.50 transferred to 1002. The balance is Rs 1250.00.",
            "opening",
            "3 transactions",
            "Vikram Shah",
            "2 accounts",
            "The books are in order.",
            "Goodbye.",
        ] {
            assert!(shown.contains(part), "{part:?} in\n{shown}");
        }
        assert_eq!(branch.stop(), Some(0));
        assert_eq!(branch.database().balance_paise(1001), 125_000);
        audit(branch.database_path()).assert_clean();
    }
}

#[test]
fn an_account_is_opened_and_closed_through_the_older_port() {
    let mut branch = Branch::start(Options::empty().lab().value("--opening-balance", 500));
    let administrator = [
        "a",
        "0",
        "root",
        "a",
        "123412341234",
        "9876543210",
        "आशा",
        "राव",
        "yes",
        "पासवर्ड",
        "",
        "e",
        "a",
        "1001",
        "पासवर्ड",
        "g",
        "पासवर्ड",
        "new one",
        "new one",
        "",
        "f",
        "a",
        "0",
        "root",
        "b",
        "1001",
        "root",
        "",
        "e",
        "b",
    ];
    let shown = old_client_with(branch.lab_port(), 255, &administrator);
    for part in
        ["Account 1001 is open, with Rs 500.00", "आशा राव", "The password is changed.", "Rs 500.00 was paid out"]
    {
        assert!(shown.contains(part), "{part:?} in\n{shown}");
    }
    assert_eq!(branch.stop(), Some(0));
    audit(branch.database_path()).assert_clean();
}

#[test]
fn a_long_listing_comes_in_turns_that_the_older_client_can_take() {
    let branch = Branch::start(Options::preloaded().lab());
    let mut menu = branch.log_in("1001", "1001");
    for amount in 1..=25 {
        menu.deposit(amount).unwrap().expect_done();
    }
    let mut choices = ["a", "e", "f", "b"].iter();
    let mut pages = 0;
    let shown = old_client(branch.lab_port(), 90, |text| {
        pages += usize::from(text.contains("Press Enter for more") || text.contains("Enter for the next page"));
        if text.ends_with("Your choice: ") {
            choices.next().unwrap()
        } else if text.contains("Account number") || text.contains("Password") {
            "1001"
        } else {
            ""
        }
    });
    assert!(pages > 1, "{shown}");
    assert!(shown.contains("26 transactions"), "{shown}");
    for amount in 1..=25 {
        assert!(shown.contains(&format!(" {amount}.00")), "{amount} in {shown}");
    }
}

#[test]
fn the_older_client_is_told_when_the_branch_stops() {
    let mut branch = Branch::start(Options::preloaded().lab());
    let mut stream = TcpStream::connect(("127.0.0.1", branch.lab_port())).unwrap();
    stream.write_all(b"100").unwrap();
    let mut bytes = [0; RECEIVED_BYTES_MAX];
    let count = stream.read(&mut bytes).unwrap();
    assert!(count > 0);
    assert_eq!(branch.stop(), Some(0));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let rest: Vec<u8> = rest.iter().map(|byte| byte ^ 100).collect();
    assert_eq!(String::from_utf8(rest).unwrap(), "@EXIT\nThe bank is closing. Goodbye.");
}

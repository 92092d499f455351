//! Bad input on the wire, and clients that vanish: nothing is stored, and the branch serves on.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bank_tests::{Branch, DEADLINE, MenuConnection, Options, raise_descriptor_limit, wait_until};
use serde_json::json;

const IDLE_GOODBYE: &str = "@EXIT You were silent for too long. Goodbye.\n";

/// A branch, and how its tables were before.
struct Unchanged {
    branch: Branch,
    before: String,
}

impl Unchanged {
    #[track_caller]
    fn start(options: Options) -> Self {
        let branch = Branch::start(options);
        let mut menu = branch.log_in("1001", "1001");
        // Enough for a second page.
        for amount in 1..=25 {
            menu.deposit(amount).unwrap().expect_done();
        }
        drop(menu);
        let before = branch.database().everything();
        Self { branch, before }
    }

    /// Waits until every session has ended, then checks that nothing was stored and all is well.
    #[track_caller]
    fn check(&self) {
        let log = self.branch.log();
        // The log tells of so many at once in a few lines; who is connected, the branch itself says.
        let clients = || self.branch.connect_anonymously().ask("status", json!({})).ok()["clients"] == 1;
        wait_until("every session has ended", clients);
        assert_eq!(self.branch.database().everything(), self.before);
        assert!(!log.text().contains("panicked"), "{}", log.text());
        let mut administrator = self.branch.log_in("0", "root");
        assert_eq!(administrator.operation(&["f"]).unwrap().expect_done(), "The books are in order.");
        let mut customer = self.branch.log_in("1002", "1002");
        customer.deposit(5).unwrap().expect_done();
    }
}

/// Every dialogue of the menu, without the answer that would complete it.
const DIALOGUES: [&[&str]; 12] = [
    &["a", "1001"],
    &["a", "1001", "1001", "a"],
    &["a", "1001", "1001", "b"],
    &["a", "1001", "1001", "c"],
    &["a", "1001", "1001", "d", "1002"],
    &["a", "1001", "1001", "e", ""],
    &["a", "1001", "1001", "g", "1001", "changed"],
    &["a", "0", "root", "a", "123412341234", "9876543210", "Asha", "Rao", "no"],
    &["a", "0", "root", "b", "1001"],
    &["a", "0", "root", "d", ""],
    &["a", "0", "root", "f"],
    &["a", "0", "root", "g"],
];

#[test]
fn a_client_that_vanishes_at_any_prompt_of_any_dialogue_leaves_nothing_behind() {
    let unchanged = Unchanged::start(Options::preloaded());
    for dialogue in DIALOGUES {
        for count in 0..=dialogue.len() {
            let mut menu = unchanged.branch.menu();
            for answer in &dialogue[..count] {
                menu.answer(answer).unwrap();
            }
        }
    }
    unchanged.check();
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_any_answer_leaves_nothing_behind() {
    let unchanged = Unchanged::start(Options::preloaded());
    for dialogue in DIALOGUES {
        let mut menu = unchanged.branch.menu();
        for answer in dialogue {
            menu.answer(answer).unwrap();
        }
        // An answer that would complete the dialogue, but for its end.
        let half = if dialogue.contains(&"g") { "changed" } else { "500" };
        menu.send_bytes(half.as_bytes()).unwrap();
    }
    unchanged.check();
}

#[test]
fn a_client_that_resets_the_connection_in_any_dialogue_leaves_nothing_behind() {
    let unchanged = Unchanged::start(Options::preloaded());
    for dialogue in DIALOGUES {
        for count in 0..=dialogue.len() {
            // What was never read makes the system reset the connection when it is closed.
            let mut menu = MenuConnection::connect(unchanged.branch.menu_port()).unwrap();
            let lines: String = dialogue[..count].iter().map(|answer| format!("{answer}\n")).collect();
            menu.send_bytes(lines.as_bytes()).unwrap();
            menu.stream().peek(&mut [0]).unwrap();
        }
    }
    unchanged.check();
}

#[test]
fn a_line_that_is_none_is_refused_and_asked_again_at_every_kind_of_prompt() {
    let unchanged = Unchanged::start(Options::preloaded());
    let too_long = "That line is too long: at most 1024 bytes. Please type it again.";
    let not_utf8 = "That line is not valid UTF-8 text. Please type it again.";
    let control = "That line holds a control character. Please type it again.";
    let bad_lines: [(&[u8], &str); 8] = [
        (&[b'1'; 1_025], too_long),
        (&[b'1'; 100_000], too_long),
        (b"\xff\xfe", not_utf8),
        (b"1\xc0\xaf", not_utf8),
        (b"\xed\xa0\x80", not_utf8),
        (b"1\x00", control),
        (b"\x1b[A", control),
        (b"1\t2", control),
    ];
    for (bytes, reason) in bad_lines {
        let mut menu = unchanged.branch.menu();
        let again = |menu: &mut MenuConnection| {
            menu.send_bytes(&[bytes, b"\n"].concat()).unwrap();
            let turn = menu.turn().unwrap();
            assert_eq!((turn.expect_fail(), turn.lines.len()), (reason, 2), "{}", turn.text());
            turn.lines.last().unwrap().to_string()
        };
        assert_eq!(again(&mut menu), "@PROMPT Your choice: ");
        menu.answer("a").unwrap();
        assert_eq!(again(&mut menu), "@PROMPT Account number: ");
        menu.answer("1001").unwrap();
        assert_eq!(again(&mut menu), "@PASS Password: ");
        menu.answer("1001").unwrap();
        menu.answer("b").unwrap();
        assert_eq!(again(&mut menu), "@PROMPT Amount in Rs: ");
        menu.answer("-5").unwrap().expect_fail();
        assert_eq!(again(&mut menu), "@PAUSE Press Enter to go on");
        menu.answer("").unwrap();
    }
    unchanged.check();
}

#[test]
fn a_line_of_the_greatest_length_and_one_with_carriage_return_are_taken() {
    let branch = Branch::start(Options::preloaded());
    let mut menu = branch.menu();
    assert_eq!(menu.answer(&"x".repeat(1_024)).unwrap().expect_fail(), "Please choose a or b.");
    menu.answer("").unwrap();
    menu.send_bytes(b"a\r\n1001\r\n1001\r\nb\r\n2.50\r\n").unwrap();
    let done = (0..5).map(|_| menu.turn().unwrap()).find_map(|turn| turn.done().map(String::from));
    assert_eq!(done.as_deref(), Some("Rs 2.50 deposited. The balance is Rs 1002.50."));
}

#[test]
fn an_endless_line_is_told_and_closed() {
    let unchanged = Unchanged::start(Options::preloaded());
    let mut menu = unchanged.branch.menu();
    let chunk = [b'x'; 16 * 1024];
    // The server gives up somewhere after a mebibyte; its goodbye may be in time to be read or not.
    let sent = (0..1_024).take_while(|_| menu.send_bytes(&chunk).is_ok()).count();
    assert!(sent < 1_024, "the server has taken 16 MiB of one line");
    assert_eq!(menu.rest(), "@EXIT That line has no end. Goodbye.\n");
    unchanged.check();
}

#[test]
fn half_a_line_and_then_silence_is_told_and_closed() {
    let unchanged = Unchanged::start(Options::preloaded().value("--idle-timeout", 1));
    let mut silent = unchanged.branch.menu();
    let mut half = unchanged.branch.menu();
    half.answers(&["a", "1001", "1001", "b"]).unwrap();
    half.send_bytes(b"500").unwrap();
    assert_eq!(half.rest(), IDLE_GOODBYE);
    assert_eq!(silent.rest(), IDLE_GOODBYE);
    unchanged.check();
}

#[test]
fn a_line_that_trickles_in_does_not_keep_a_client_alive() {
    let unchanged = Unchanged::start(Options::preloaded().value("--idle-timeout", 1));
    let mut menu = unchanged.branch.menu();
    let start = Instant::now();
    let goodbye = trickle(menu.stream());
    assert_eq!(goodbye, IDLE_GOODBYE);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    menu.rest();
    unchanged.check();
}

/// Sends a byte whenever the server has said nothing for a moment; gives what it says in the end.
fn trickle(stream: &TcpStream) -> String {
    let mut stream = stream;
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (start, mut heard) = (Instant::now(), String::new());
    while start.elapsed() < DEADLINE {
        let mut bytes = [0; 256];
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => heard.push_str(std::str::from_utf8(&bytes[..count]).unwrap()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // The server may have closed meanwhile; then the next read says so.
                let _ = stream.write_all(b"5");
            }
            Err(_) => break,
        }
    }
    heard
}

#[test]
fn five_hundred_clients_with_half_a_line_do_not_keep_another_waiting() {
    raise_descriptor_limit(2_000);
    let unchanged = Unchanged::start(Options::preloaded());
    let mut waiting: Vec<_> = (0..500).map(|_| unchanged.branch.menu()).collect();
    for client in &mut waiting {
        client.send_bytes(b"a\n100").unwrap();
        client.turn().unwrap();
    }
    let mut another = unchanged.branch.menu();
    let start = Instant::now();
    another.log_in("1002", "1002").unwrap();
    another.answer("e").unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // The rest of the line makes it one.
    let (first, others) = waiting.split_first_mut().unwrap();
    assert_eq!(first.answers(&["1", "1001"]).unwrap().fail(), None);
    assert_eq!(others.len(), 499);
    drop((waiting, another));
    unchanged.check();
}

#[test]
fn what_is_no_dialogue_at_all_is_answered_with_refusals_or_closed() {
    let unchanged = Unchanged::start(Options::preloaded());
    let requests: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: bank\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
        b"\x00\x00\x00\x1b{\"action\":\"list_accounts\"}\n",
        b"\n\n\n\n\n\n\n\n",
    ];
    for request in requests {
        let mut menu = unchanged.branch.menu();
        menu.send_bytes(request).unwrap();
        menu.turn().unwrap().expect_fail();
    }
    unchanged.check();
}

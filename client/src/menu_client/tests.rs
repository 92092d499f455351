//! The dialogue's rules, each against a far side that follows a list of steps over a pair of local sockets.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use proptest::prelude::*;

use super::*;
use crate::console::tests::{RecordedEcho, Recorder};
use crate::console::{ScriptConsole, TerminalConsole};
use crate::events::SERVER_LINE_BYTES_MAX;
use crate::surroundings::Style;

impl AnswerWriter for UnixStream {
    fn end(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// No step takes this long unless something is broken.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the far side does next.
enum Step {
    Say(&'static [u8]),
    /// The next line must be this one, with its ending.
    Hear(&'static [u8]),
    /// The answers must have ended.
    HearEnd,
}
use Step::{Hear, HearEnd, Say};

fn serve(steps: Vec<Step>) -> (UnixStream, JoinHandle<()>) {
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_write_timeout(Some(DEADLINE)).unwrap();
    far.set_read_timeout(Some(DEADLINE)).unwrap();
    let follow = move || {
        let mut answers = BufReader::new(far.try_clone().unwrap());
        for step in steps {
            let mut line = Vec::new();
            match step {
                Say(bytes) => far.write_all(bytes).unwrap(),
                Hear(expected) => {
                    answers.read_until(b'\n', &mut line).unwrap();
                    assert_eq!(line, expected, "{:?}", String::from_utf8_lossy(&line));
                }
                HearEnd => assert_eq!(answers.read_until(b'\n', &mut line).unwrap(), 0, "{line:?}"),
            }
        }
    };
    (near, thread::spawn(follow))
}

fn hold(
    steps: Vec<Step>,
    input: impl Read + Send + 'static,
    console: &mut impl Console,
    server_wait_max: Duration,
) -> Result<Verdict, ClientError> {
    let (near, server) = serve(steps);
    let events = Events::start(near.try_clone().unwrap(), input).unwrap();
    let result = MenuClient::new(near, console, events, server_wait_max).run();
    server.join().unwrap();
    result
}

/// The status of the session and its transcript.
fn script(steps: Vec<Step>, input: &'static [u8]) -> (u8, String) {
    script_from(steps, input, DEADLINE)
}

fn script_from(steps: Vec<Step>, input: impl Read + Send + 'static, server_wait_max: Duration) -> (u8, String) {
    let mut transcript = Vec::new();
    let mut console = ScriptConsole::new(&mut transcript, Style::default());
    let result = hold(steps, input, &mut console, server_wait_max);
    (status(&result), String::from_utf8(transcript).unwrap())
}

/// The same for a person at a terminal, whose typing is not on the screen here.
fn person(steps: Vec<Step>, input: &'static [u8]) -> (u8, String) {
    let screen = Recorder::default();
    let echo = RecordedEcho { output: screen.clone(), is_hidden: false };
    let mut console = TerminalConsole::new(screen.clone(), echo, Style { color: false, clear: true });
    let result = hold(steps, input, &mut console, DEADLINE);
    (status(&result), screen.text())
}

fn status(result: &Result<Verdict, ClientError>) -> u8 {
    match result {
        Ok(verdict) => verdict.status().code(),
        Err(error) => error.status().code(),
    }
}

#[track_caller]
fn check(got: (u8, String), status: u8, shown: &str) {
    assert_eq!((got.0, got.1.as_str()), (status, shown));
}

#[test]
fn a_script_reads_like_a_session() {
    let steps = vec![
        Say(b"@CLEAR\nWelcome\n@PROMPT Your choice: \n"),
        Hear(b"a\n"),
        Say(b"@PROMPT Account: \n"),
        Hear(b"1001\n"),
        Say(b"@PASS Password: \n"),
        Hear(b"secret\n"),
        Say(b"@@home\n@DONE Welcome back\n@PAUSE Press Enter \n"),
        Hear(b"\n"),
        Say(b"@PROMPT Your choice: \n"),
        Hear(b"b\n"),
        Say(b"@EXIT Goodbye\n"),
    ];
    let transcript = "Welcome\nYour choice: a\nAccount: 1001\nPassword: ********\n@home\nWelcome back\nPress Enter \n\
                      Your choice: b\nGoodbye\n";
    check(script(steps, b"a\n1001\r\nsecret\nb\n"), 0, transcript);
}

#[test]
fn a_refusal_makes_the_status_1_and_the_next_line_answers_the_repeated_question() {
    let steps = vec![
        Say(b"@PROMPT Name: \n"),
        Hear(b"\xff\x07\n"),
        Say(b"@FAIL That line is not valid UTF-8 text.\n@PROMPT Name: \n"),
        Hear(b"Asha\n"),
        Say(b"@DONE Opened\n@EXIT Goodbye\n"),
    ];
    let transcript = "Name: \u{fffd}\nThat line is not valid UTF-8 text.\nName: Asha\nOpened\nGoodbye\n";
    check(script(steps, b"\xff\x07\nAsha\n"), 1, transcript);
}

#[test]
fn an_over_long_answer_is_passed_on() {
    const LINE: [u8; 5001] = {
        let mut line = [b'x'; 5001];
        line[5000] = b'\n';
        line
    };
    let steps = vec![Say(b"@PROMPT ? \n"), Hear(&LINE), Say(b"@FAIL Too long\n@EXIT Goodbye\n")];
    assert_eq!(script(steps, &LINE).0, 1);
}

#[test]
fn input_that_ends_early_shows_the_rest_and_is_no_failure() {
    let steps = || vec![Say(b"@PROMPT a? \n"), Hear(b"x\n"), Say(b"@PROMPT b? \n"), HearEnd, Say(b"Logged out\n")];
    check(script(steps(), b"x"), 0, "a? x\nb? \nLogged out\n");
    check(person(steps(), b"x\n"), 0, "a? b? \nLogged out\n");
    let steps = vec![Say(b"@FAIL No\n@PROMPT a? \n"), HearEnd, Say(b"@PROMPT a? \n@EXIT Logged out\n")];
    check(script(steps, b""), 1, "No\na? \nLogged out\n");
}

#[test]
fn a_person_presses_enter_at_a_pause_or_says_that_it_is_enough() {
    let steps = vec![
        Say(b"@CLEAR\n@PAUSE More: \n"),
        Hear(b"\n"),
        Say(b"@PAUSE More: \n"),
        Hear(b"q\n"),
        Say(b"@PASS Password: \n"),
        Hear(b"root\n"),
        Say(b"@EXIT Goodbye\n"),
    ];
    let screen = "\x1b[H\x1b[2J\x1b[3JMore: More: Password: [echo off][echo on]Goodbye\n";
    check(person(steps, b"\nq\nroot\n"), 0, screen);
}

/// An input that stays open and says nothing, for as long as the other end is kept.
fn silent_input() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

#[test]
fn a_goodbye_at_an_open_question_is_shown_at_once() {
    let (input, _keep) = silent_input();
    let steps = vec![Say(b"@PROMPT Amount: \n"), Say(b"The bank is closing.\n@EXIT Goodbye\n")];
    let screen = Recorder::default();
    let echo = RecordedEcho { output: screen.clone(), is_hidden: false };
    let mut console = TerminalConsole::new(screen.clone(), echo, Style::default());
    let result = hold(steps, input, &mut console, DEADLINE);
    assert!(matches!(result, Err(ClientError::HungUp)), "{result:?}");
    assert_eq!(screen.text(), "Amount: \nThe bank is closing.\nAmount: \nGoodbye\n");
}

#[test]
fn an_end_at_a_hidden_question_gives_the_echo_back() {
    let (input, _keep) = silent_input();
    let screen = Recorder::default();
    let echo = RecordedEcho { output: screen.clone(), is_hidden: false };
    let mut console = TerminalConsole::new(screen.clone(), echo, Style::default());
    let result = hold(vec![Say(b"@PASS Password: \n")], input, &mut console, DEADLINE);
    assert!(matches!(result, Err(ClientError::Closed)), "{result:?}");
    assert_eq!(screen.text(), "Password: [echo off][echo on]\n");
}

#[test]
fn a_connection_that_ends_without_a_goodbye_is_broken() {
    check(script(vec![Say(b"Welcome\n")], b""), 2, "Welcome\n");
    check(script(vec![Say(b"@PROMPT a? \n"), Hear(b"x\n"), Say(b"@FAIL No\n")], b"x\n"), 2, "a? x\nNo\n");
    check(script(vec![Say(b"@PROMPT a? \n"), Hear(b"x\n"), Say(b"@EXIT Good")], b"x\n"), 2, "a? x\n");
}

#[test]
fn a_newcomer_who_is_turned_away_is_not_told_that_all_was_done() {
    check(script(vec![Say(b"@EXIT The bank is busy\n")], b"a\n"), 2, "The bank is busy\n");
}

#[test]
fn a_silent_server_is_given_up_when_it_is_its_turn() {
    let (input, _keep) = silent_input();
    let wait = Duration::from_millis(500);
    check(script_from(vec![Say(b"Welcome\n"), HearEnd], input, wait), 2, "Welcome\n");
    check(script_from(vec![Say(b"@PROMPT a? \n"), Hear(b"x\n"), HearEnd], &b"x\n"[..], wait), 2, "a? x\n");
}

#[test]
fn a_person_may_think_for_longer_than_a_server() {
    let (input, mut typing) = silent_input();
    let (near, server) = serve(vec![Say(b"@PROMPT a? \n"), Hear(b"x\n"), Say(b"@EXIT Goodbye\n")]);
    let events = Events::start(near.try_clone().unwrap(), input).unwrap();
    let wait = Duration::from_secs(1);
    let dialogue = thread::spawn(move || {
        let mut console = ScriptConsole::new(io::sink(), Style::default());
        MenuClient::new(near, &mut console, events, wait).run()
    });
    // Time that passes is what is tested here, so there is no condition to wait for instead.
    thread::sleep(wait + wait / 4);
    typing.write_all(b"x\n").unwrap();
    assert_eq!(dialogue.join().unwrap().unwrap(), Verdict::AllDone);
    server.join().unwrap();
}

#[test]
fn a_line_without_an_end_is_given_up() {
    static LINE: [u8; SERVER_LINE_BYTES_MAX + 1] = [b'x'; SERVER_LINE_BYTES_MAX + 1];
    let mut console = ScriptConsole::new(io::sink(), Style::default());
    let result = hold(vec![Say(&LINE)], io::empty(), &mut console, DEADLINE);
    assert!(matches!(result, Err(ClientError::EndlessLine)), "{result:?}");
}

#[test]
fn a_server_that_asks_without_waiting_is_given_up() {
    let (input, _keep) = silent_input();
    let mut console = ScriptConsole::new(io::sink(), Style::default());
    let result = hold(vec![Say(b"@PROMPT a? \n@PROMPT b? \n")], input, &mut console, DEADLINE);
    assert!(matches!(result, Err(ClientError::OutOfTurn)), "{result:?}");
}

/// Takes this many bytes, and is closed then.
struct Narrow(usize);

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_output_ends_the_session_quietly() {
    let mut console = ScriptConsole::new(Narrow(10), Style::default());
    let error = hold(vec![Say(b"A long welcome\n@PROMPT a? \n"), HearEnd], &b"x\n"[..], &mut console, DEADLINE);
    let error = error.unwrap_err();
    assert!(error.is_quiet(), "{error}");
    assert_eq!(error.status().code(), 141);
}

/// An input that can't be read, like a directory.
struct Unreadable;

impl Read for Unreadable {
    fn read(&mut self, _bytes: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::IsADirectory.into())
    }
}

#[test]
fn an_input_that_cannot_be_read_is_told() {
    check(script_from(vec![Say(b"@PROMPT a? \n"), HearEnd], Unreadable, DEADLINE), 74, "a? \n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_server_stops_the_client(lines in prop::collection::vec(
        ("@PROMPT |@PASS |@PAUSE |@FAIL |@CLEAR|@|@EXIT |", any::<Vec<u8>>()), 0..20,
    )) {
        let bytes: Vec<u8> = lines.iter().flat_map(|(directive, text)| [directive.as_bytes(), text, b"\n"].concat()).collect();
        let (near, mut far) = UnixStream::pair().unwrap();
        let events = Events::start(near.try_clone().unwrap(), &b"a\nb\nc\n"[..]).unwrap();
        let server = thread::spawn(move || {
            // A client that has given up is no error here.
            let _ = far.write_all(&bytes);
            let _ = far.shutdown(Shutdown::Write);
            let _ = io::copy(&mut far, &mut io::sink());
        });
        let mut transcript = Vec::new();
        let mut console = ScriptConsole::new(&mut transcript, Style::default());
        let result = MenuClient::new(near, &mut console, events, DEADLINE).run();
        prop_assert!([0, 1, 2].contains(&status(&result)), "{:?}", result);
        let shown = String::from_utf8(transcript).unwrap();
        prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{:?}", shown);
        server.join().unwrap();
    }
}

//! The loop that joins a session, its client and the bank.
//!
//! It is the one place where the menu waits: for the client's answer or for the bank. Whatever way it ends,
//! a log-out is notified if somebody was logged in. What it does not do is close the connection or stop on
//! its own: to stop a session, its owner shuts the reading half of the socket down, this loop ends, and the
//! owner shows a last line at the same terminal.

use std::fmt;
use std::io::{self, ErrorKind};

use protocol::menu_line::ServerLine;

use super::request::{Refusal, Reply, Request};
use super::session::{Input, MenuSession, Next};
use super::terminal::{Answered, Terminal};

/// Why a session ended, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client chose to exit.
    ByChoice,
    /// The client ended its input between two answers.
    ClientGone,
    /// The client was silent for the idle limit, and was told so.
    Idle,
    /// The client sent a line without an end, and was told so.
    EndlessLine,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByChoice => "the client chose to exit",
            Self::ClientGone => "the client ended its input",
            Self::Idle => "the client was silent for too long",
            Self::EndlessLine => "the client sent a line without an end",
        })
    }
}

/// Runs a session to its end. `dispatch` carries out what the bank is asked.
///
/// # Errors
/// The connection's, when it broke: while lines were shown, in the middle of an answer, or by a reset.
pub fn run(
    mut session: MenuSession,
    terminal: &mut impl Terminal,
    mut dispatch: impl FnMut(Request) -> Result<Reply, Refusal>,
) -> io::Result<Ended> {
    let ended = converse(&mut session, terminal, &mut dispatch);
    if let Some(who) = session.logged_in() {
        // The session is over either way: a refusal changes nothing.
        let _ = dispatch(Request::LogOut { who });
    }
    ended
}

fn converse(
    session: &mut MenuSession,
    terminal: &mut impl Terminal,
    dispatch: &mut impl FnMut(Request) -> Result<Reply, Refusal>,
) -> io::Result<Ended> {
    let mut input = Input::Start;
    loop {
        let step = session.step(input);
        input = match step.next {
            Next::Dispatch(request) => Input::Reply(dispatch(request)),
            Next::End => {
                terminal.show(&step.lines)?;
                return Ok(Ended::ByChoice);
            }
            Next::Answer => {
                terminal.show(&step.lines)?;
                match terminal.answer() {
                    Ok(Answered::Line(line)) => Input::Line(line),
                    Ok(Answered::Bad(bad)) => Input::BadLine(bad),
                    Ok(Answered::End) => return Ok(Ended::ClientGone),
                    Err(error) => return expelled(terminal, error),
                }
            }
        };
    }
}

/// Tells a client that is being closed, if the error is one to tell.
fn expelled(terminal: &mut impl Terminal, error: io::Error) -> io::Result<Ended> {
    let (text, ended) = match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ("You were silent for too long. Goodbye.", Ended::Idle),
        ErrorKind::InvalidData => ("That line has no end. Goodbye.", Ended::EndlessLine),
        _ => return Err(error),
    };
    // The client is closed whether it hears this or not.
    let _ = terminal.show(&[ServerLine::Exit(text.to_string())]);
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::time::Duration;

    use protocol::menu_line::BadLine;
    use protocol::{AccountNum, Money};

    use super::super::{LogInAs, PlainTerminal, Texts};
    use super::*;
    use crate::bank::accounts::Account;
    use crate::compat::{LAB_KEY_TIMEOUT_MS, LabTerminal};

    /// Answers from a list; then the given error, or the end.
    struct Scripted {
        answers: VecDeque<Answered>,
        then: Option<ErrorKind>,
        shown: Vec<ServerLine>,
        /// The step at which showing fails.
        broken_at: Option<usize>,
        steps: usize,
    }

    impl Scripted {
        fn new(lines: &[&str], then: Option<ErrorKind>) -> Self {
            let answers = lines.iter().map(|line| Answered::Line((*line).to_string())).collect();
            Self { answers, then, shown: Vec::new(), broken_at: None, steps: 0 }
        }
    }

    impl Terminal for Scripted {
        fn show(&mut self, lines: &[ServerLine]) -> io::Result<()> {
            self.steps += 1;
            if self.broken_at == Some(self.steps) {
                return Err(ErrorKind::BrokenPipe.into());
            }
            self.shown.extend_from_slice(lines);
            Ok(())
        }
        fn answer(&mut self) -> io::Result<Answered> {
            match (self.answers.pop_front(), self.then) {
                (Some(answer), _) => Ok(answer),
                (None, Some(kind)) => Err(kind.into()),
                (None, None) => Ok(Answered::End),
            }
        }
    }

    fn session() -> MenuSession {
        MenuSession::new(Arc::new(Texts::built_in()), "Mumbai".parse().unwrap())
    }

    /// A bank that lets everybody in; returns what it was asked.
    fn play(terminal: &mut impl Terminal) -> (io::Result<Ended>, Vec<Request>) {
        let mut asked = Vec::new();
        let ended = run(session(), terminal, |request| {
            asked.push(request.clone());
            match request {
                Request::LogIn { .. } => Ok(Reply::LoggedIn),
                Request::Account { account } => Ok(Reply::Account(Account {
                    number: account,
                    first_name: "Asha".into(),
                    last_name: String::new(),
                    aadhaar: None,
                    phone: None,
                    sms: false,
                    balance: Money::from_rupees(5),
                    held: Money::ZERO,
                    incoming: Money::ZERO,
                    is_open: true,
                })),
                other => Err(Refusal::new(format!("not now: {other:?}"))),
            }
        });
        (ended, asked)
    }

    fn ends_with_log_out(asked: &[Request], expected: LogInAs) -> bool {
        let log_outs = asked.iter().filter(|request| matches!(request, Request::LogOut { .. })).count();
        log_outs == 1 && matches!(asked.last(), Some(Request::LogOut { who }) if *who == expected)
    }

    const ASHA: LogInAs = LogInAs::Customer(AccountNum::new(1001).unwrap());

    #[test]
    fn an_exit_ends_the_session() {
        let mut terminal = Scripted::new(&["b"], None);
        let (ended, asked) = play(&mut terminal);
        assert_eq!(ended.unwrap(), Ended::ByChoice);
        assert!(asked.is_empty());
        assert_eq!(terminal.shown.last(), Some(&ServerLine::Exit("Goodbye.".into())));
    }

    #[test]
    fn a_client_that_goes_is_logged_out_at_each_prompt_in_turn() {
        let lines = ["a", "1001", "secret", "b", "50", "", "g", "old", "newer", "newer", "", "f"];
        for count in 0..lines.len() {
            let (ended, asked) = play(&mut Scripted::new(&lines[..count], None));
            assert_eq!(ended.unwrap(), Ended::ClientGone);
            if count < 3 {
                assert!(asked.is_empty(), "after {count} lines");
            } else {
                assert!(ends_with_log_out(&asked, ASHA), "after {count} lines: {asked:?}");
            }
        }
    }

    #[test]
    fn a_log_out_by_choice_is_notified_once() {
        let (ended, asked) = play(&mut Scripted::new(&["a", "0", "root", "e", "b"], None));
        assert_eq!(ended.unwrap(), Ended::ByChoice);
        assert!(ends_with_log_out(&asked, LogInAs::Administrator), "{asked:?}");
    }

    #[test]
    fn a_silent_client_is_told_and_logged_out() {
        for kind in [ErrorKind::WouldBlock, ErrorKind::TimedOut] {
            let mut terminal = Scripted::new(&["a", "1001", "secret"], Some(kind));
            let (ended, asked) = play(&mut terminal);
            assert_eq!(ended.unwrap(), Ended::Idle);
            assert!(ends_with_log_out(&asked, ASHA));
            let last = terminal.shown.last();
            assert_eq!(last, Some(&ServerLine::Exit("You were silent for too long. Goodbye.".into())));
        }
    }

    #[test]
    fn a_broken_connection_is_an_error_and_logged_out() {
        let mut terminal = Scripted::new(&["a", "1001", "secret"], Some(ErrorKind::ConnectionReset));
        let (ended, asked) = play(&mut terminal);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(ends_with_log_out(&asked, ASHA));
        let mut terminal = Scripted::new(&["a", "1001", "secret", "b"], None);
        terminal.broken_at = Some(5);
        let (ended, asked) = play(&mut terminal);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert!(ends_with_log_out(&asked, ASHA));
    }

    #[test]
    fn a_bad_line_is_asked_again() {
        let mut terminal = Scripted::new(&["a"], None);
        terminal.answers.push_back(Answered::Bad(BadLine::NotUtf8));
        let (ended, _) = play(&mut terminal);
        assert_eq!(ended.unwrap(), Ended::ClientGone);
        let prompt = ServerLine::Prompt("Account number: ".into());
        let expected = [prompt.clone(), ServerLine::Fail(BadLine::NotUtf8.to_string()), prompt];
        assert_eq!(terminal.shown[terminal.shown.len() - 3..], expected);
    }

    #[test]
    fn a_line_without_an_end_is_told_and_closed() {
        let mut shown = Vec::new();
        let (ended, _) = play(&mut PlainTerminal::new(io::repeat(b'x'), &mut shown));
        assert_eq!(ended.unwrap(), Ended::EndlessLine);
        assert!(String::from_utf8(shown).unwrap().ends_with("@EXIT That line has no end. Goodbye.\n"));
    }

    #[test]
    fn half_a_line_and_the_end_is_an_error() {
        let mut shown = Vec::new();
        let (ended, asked) = play(&mut PlainTerminal::new(&b"a\n1001\nsecret\nb\n5"[..], &mut shown));
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(ends_with_log_out(&asked, ASHA));
        assert!(!asked.iter().any(|request| matches!(request, Request::Deposit { .. })));
    }

    /// The two ends of a connection: the bank's and the client's.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (listener.accept().unwrap().0, client)
    }

    /// Reads until the bytes end in `end`.
    fn read_until(client: &mut TcpStream, end: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        }
        bytes
    }

    #[test]
    fn a_read_timeout_of_the_socket_is_the_idle_limit() {
        let (bank, mut client) = connection();
        bank.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        client.write_all(b"a\n10").unwrap();
        let (ended, _) = play(&mut PlainTerminal::new(&bank, &bank));
        assert_eq!(ended.unwrap(), Ended::Idle);
        read_until(&mut client, b"@EXIT You were silent for too long. Goodbye.\n");
    }

    #[test]
    fn a_socket_whose_reading_half_is_shut_down_can_still_be_told() {
        let (bank, mut client) = connection();
        std::thread::scope(|scope| {
            let session = scope.spawn(|| {
                let mut terminal = PlainTerminal::new(&bank, &bank);
                let ended = play(&mut terminal).0.unwrap();
                terminal.show(&[ServerLine::Exit("The bank is closing.".into())]).unwrap();
                ended
            });
            read_until(&mut client, b"@PROMPT Your choice: \n");
            bank.shutdown(Shutdown::Read).unwrap();
            read_until(&mut client, b"@EXIT The bank is closing.\n");
            assert_eq!(session.join().unwrap(), Ended::ClientGone);
        });
    }

    #[test]
    fn an_older_client_logs_in_over_a_socket() {
        let (bank, mut client) = connection();
        let key = 42;
        let mask = |text: &str| text.bytes().map(|byte| byte ^ key).collect::<Vec<_>>();
        std::thread::scope(|scope| {
            let session = scope.spawn(|| {
                bank.set_read_timeout(Some(Duration::from_millis(LAB_KEY_TIMEOUT_MS))).unwrap();
                let mut terminal = LabTerminal::handshake(&bank, &bank).unwrap();
                bank.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                play(&mut terminal)
            });
            client.write_all(key.to_string().as_bytes()).unwrap();
            let turns = ["Your choice: ", "Account number: ", "@PASS\nPassword: ", "Your choice: "];
            for (turn, answer) in turns.iter().zip(["a", "1001", "secret", "h"]) {
                read_until(&mut client, &mask(turn));
                client.write_all(&mask(answer)).unwrap();
            }
            read_until(&mut client, &mask("Press Enter to go on"));
            client.shutdown(Shutdown::Write).unwrap();
            let (ended, asked) = session.join().unwrap();
            assert_eq!(ended.unwrap(), Ended::ClientGone);
            assert!(ends_with_log_out(&asked, ASHA));
        });
    }
}

//! The built program on a pseudo-terminal: colour, the echo of passwords, Ctrl-D, signals, a server that hangs up.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use crate::server::Step::{Await, Hear, HearEnd, Say};
use crate::server::{DEADLINE, Server, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

/// A client at work on a terminal of its own.
struct Session {
    client: Child,
    server: Server,
    terminal: File,
    /// The client's side, kept open so that its state can be looked at after the client has ended.
    client_side: OwnedFd,
    screen: String,
}

impl Session {
    fn start(steps: Vec<Step>, arguments: &[&str]) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let client_side = open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let stdio = || Stdio::from(client_side.try_clone().unwrap());
        let server = Server::start(steps);
        let client = Command::new(env!("CARGO_BIN_EXE_bank-client"))
            .args(["--host", "127.0.0.1", "--menu-port", &server.port.to_string(), "--timeout", "20"])
            .args(arguments)
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .env_remove("BANK_COLOR")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        Self { client, server, terminal: terminal.into(), client_side, screen: String::new() }
    }

    fn has_echo(&self) -> bool {
        tcgetattr(&self.client_side).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    fn type_keys(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads the screen until `condition` holds.
    #[track_caller]
    fn wait_until(&mut self, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < DEADLINE, "screen: {:?}, echo: {}", self.screen, self.has_echo());
            self.read_screen();
        }
    }

    /// Takes what comes within a moment.
    fn read_screen(&mut self) {
        let moment = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        let mut ready = [PollFd::new(&self.terminal, PollFlags::IN)];
        if poll(&mut ready, Some(&moment)).unwrap() > 0 {
            let mut bytes = [0; 4096];
            let count = self.terminal.read(&mut bytes).unwrap();
            self.screen.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.client), signal).unwrap();
    }

    /// Waits for the end, and checks that the terminal is as it was before.
    #[track_caller]
    fn finish(mut self, status: i32, screen: &str) {
        let start = Instant::now();
        let ended = loop {
            self.read_screen();
            if let Some(ended) = self.client.try_wait().unwrap() {
                break ended;
            }
            assert!(start.elapsed() < DEADLINE, "the client does not end; screen: {:?}", self.screen);
        };
        self.read_screen();
        assert_eq!(self.screen.replace("\r\n", "\n"), screen);
        assert!(self.has_echo(), "the echo is back on");
        assert_eq!(ended.code(), Some(status));
        self.server.finish();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

#[test]
fn a_session_has_colour_and_hides_passwords() {
    let steps = vec![
        Say("@CLEAR\n@PROMPT Account: \n"),
        Hear("0\n"),
        Say("@PASS Password: \n"),
        Hear("root\n"),
        Say("@FAIL Wrong\n@DONE Right\n@PAUSE Press Enter \n"),
        Hear("\n"),
        Say("@EXIT Goodbye\n"),
    ];
    let mut session = Session::start(steps, &[]);
    session.wait_until(|session| session.screen.contains("Account:"));
    session.type_keys("0\n");
    session.wait_until(|session| session.screen.contains("Password:") && !session.has_echo());
    session.type_keys("root\n");
    session.wait_until(|session| session.screen.contains("Press Enter") && session.has_echo());
    session.type_keys("\n");
    let screen = format!(
        "{CLEAR}\x1b[1mAccount:\x1b[0m 0\n\x1b[1mPassword:\x1b[0m \n\x1b[31mWrong\x1b[0m\n\x1b[32mRight\x1b[0m\n\
         \x1b[1mPress Enter\x1b[0m \nGoodbye\n"
    );
    session.finish(1, &screen);
}

#[test]
fn colour_can_be_refused() {
    let steps = vec![Say("@CLEAR\n@DONE Right\n@PROMPT a? \n"), Hear("x\n"), Say("@EXIT Goodbye\n")];
    let mut session = Session::start(steps, &["--color", "never"]);
    session.wait_until(|session| session.screen.contains("a?"));
    session.type_keys("x\n");
    session.finish(0, &format!("{CLEAR}Right\na? x\nGoodbye\n"));
}

/// Stands at a hidden question, with the echo off.
fn at_a_hidden_question(then: Vec<Step>) -> Session {
    let mut steps = vec![Say("@PASS Password: \n")];
    steps.extend(then);
    let mut session = Session::start(steps, &["--color", "never"]);
    session.wait_until(|session| session.screen.contains("Password:") && !session.has_echo());
    session
}

#[test]
fn ctrl_d_logs_out() {
    let mut session = at_a_hidden_question(vec![HearEnd, Say("Logged out\n")]);
    session.type_keys("\x04");
    session.finish(0, "Password: \nLogged out\n");
}

#[test]
fn signals_give_the_echo_back() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::QUIT, 131)] {
        let session = at_a_hidden_question(vec![HearEnd]);
        session.signal(signal);
        session.finish(status, "Password: \n");
    }
}

#[test]
fn a_server_that_hangs_up_at_a_hidden_question_is_noticed_at_once() {
    let (go, gone) = mpsc::channel();
    let session = at_a_hidden_question(vec![Await(gone), Say("@EXIT You were silent for 10 minutes.\n")]);
    let screen = "Password: \nYou were silent for 10 minutes.\n\
                  bank-client: the bank ended the session without waiting for the answer: log in again\n";
    go.send(()).unwrap();
    session.finish(2, screen);
}

//! The far side of the client's end-to-end tests: a server that follows a list of steps on a port of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// No step takes this long unless something is broken.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What the server does next.
pub enum Step {
    Say(&'static str),
    /// The next line must be this one, with its ending.
    Hear(&'static str),
    /// The answers must have ended.
    HearEnd,
    /// The test says when to go on.
    Await(Receiver<()>),
}

/// A server for one client.
pub struct Server {
    pub port: u16,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { port, thread: Some(thread::spawn(move || follow(&listener, steps))) }
    }

    /// Panics if the client did not keep to the steps.
    pub fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn follow(listener: &TcpListener, steps: Vec<Step>) {
    let (mut client, _) = listener.accept().unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut answers = BufReader::new(client.try_clone().unwrap());
    for step in steps {
        let mut line = String::new();
        match step {
            Step::Say(text) => client.write_all(text.as_bytes()).unwrap(),
            Step::Hear(expected) => {
                answers.read_line(&mut line).unwrap();
                assert_eq!(line, expected);
            }
            Step::Await(go) => go.recv_timeout(DEADLINE).unwrap(),
            Step::HearEnd => assert_eq!(answers.read_line(&mut line).unwrap(), 0, "{line:?}"),
        }
    }
}

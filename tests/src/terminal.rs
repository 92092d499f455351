//! A pseudo-terminal, for a program that behaves otherwise with a person than with a script.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::wait::DEADLINE;

/// A new terminal: the person's side, and the program's. The terminal is gone when the person's side is closed.
#[must_use]
#[track_caller]
pub fn open_terminal() -> (OwnedFd, OwnedFd) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let program = open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    (person, program)
}

/// The person's side of a terminal: a screen that is read, and keys.
#[derive(Debug)]
pub struct Terminal {
    keys: File,
    output: Receiver<Vec<u8>>,
    /// The program's side, kept open so that the screen can be read to the end of the test.
    programs_side: OwnedFd,
    screen: String,
}

impl Terminal {
    /// A new terminal.
    #[must_use]
    #[track_caller]
    pub fn open() -> Self {
        let (person, programs_side) = open_terminal();
        let keys = File::from(person);
        let mut screen = keys.try_clone().unwrap();
        let (bytes, output) = mpsc::channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            // The read fails when nobody holds the program's side any more.
            while let Ok(count @ 1..) = screen.read(&mut chunk) {
                if bytes.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keys, output, programs_side, screen: String::new() }
    }

    /// Gives a command this terminal.
    pub fn attach(&self, command: &mut Command) {
        let side = || Stdio::from(self.programs_side.try_clone().unwrap());
        command.env("TERM", "xterm").stdin(side()).stdout(side()).stderr(side());
    }

    /// Presses keys.
    #[track_caller]
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen, from where it was read to, ends with a text; gives what came.
    #[track_caller]
    pub fn read_until(&mut self, ending: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        while !self.screen.ends_with(ending) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.screen += &String::from_utf8_lossy(&bytes),
                Err(_) => panic!("waited in vain for {ending:?} on the screen {:?}", self.screen),
            }
        }
        std::mem::take(&mut self.screen).replace("\r\n", "\n")
    }
}

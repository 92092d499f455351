//! The menu behind the older client's port.
//!
//! As for the plain port, but each line of what the client sends is one read there. The first is the key as it is; the
//! others are masked with it on their way, as the older client masks them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use bank_server::compat::{LAB_TURN_BYTES_MAX, LabTerminal};
use bank_server::menu::{self, MenuSession};

use crate::menu::{TEXTS, Watched, split};
use crate::teller::Teller;

/// The client: one line for each read.
struct Lines<'b> {
    lines: VecDeque<&'b [u8]>,
    /// What is left of the first line, the key.
    key: &'b [u8],
    mask: u8,
    was_silent: bool,
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some((first, rest)) = self.key.split_first() {
            self.key = rest;
            buffer[0] = *first;
            return Ok(1);
        }
        if !self.was_silent && buffer.len() == 1 {
            self.was_silent = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let Some(line) = self.lines.pop_front() else { return Ok(0) };
        let count = line.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(line) {
            *to = from ^ self.mask;
        }
        Ok(count)
    }
}

/// The client's screen: each write is one turn.
struct Turns(u8);

impl Write for Turns {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(bytes.len() <= LAB_TURN_BYTES_MAX, "a turn of {} bytes", bytes.len());
        let turn: Vec<u8> = bytes.iter().map(|byte| byte ^ self.0).collect();
        let turn = String::from_utf8(turn).expect("a turn is text, and no character is cut");
        let directives = ["@CLEAR\n", "@PASS\n", "@EXIT\n"];
        let text = directives.iter().find_map(|directive| turn.strip_prefix(directive)).unwrap_or(&turn);
        assert!(!text.starts_with('@'), "the client would take this text for a directive: {turn:?}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{turn:?}");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has a whole dialogue.
///
/// # Panics
/// As for the plain port, or when a turn is none that the older client takes.
pub fn run(bytes: &[u8]) {
    let (choices, sent) = split(bytes);
    let mut lines: VecDeque<&[u8]> = sent.split(|byte| *byte == b'\n').collect();
    let key = lines.pop_front().unwrap_or_default();
    let digits: String = key.iter().take_while(|byte| byte.is_ascii_digit()).take(3).map(|b| char::from(*b)).collect();
    let mask = digits.parse().unwrap_or(0);
    let client = Lines { lines, key, mask, was_silent: false };
    if digits.is_empty() {
        // No key, no mask to know: what comes next might be one.
        let _ = LabTerminal::handshake(sent, io::sink());
        return;
    }
    let Ok(terminal) = LabTerminal::handshake(client, Turns(mask)) else { return };
    let mut teller = Teller::new(choices);
    let session = MenuSession::new(Arc::clone(&TEXTS), "Mumbai".parse().expect("it is a name"));
    let _ = menu::run(session, &mut Watched(terminal), |request| teller.dispatch(request));
}

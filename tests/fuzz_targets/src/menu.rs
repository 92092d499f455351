//! The menu behind its plain port.
//!
//! The first bytes of the input, up to the first line ending, are the bank's choices; the rest is what the client sends.

use std::io;
use std::sync::{Arc, LazyLock};

use bank_server::menu::{self, Answered, MenuSession, PlainTerminal, Terminal, Texts};
use protocol::menu_line::ServerLine;

use crate::teller::{Teller, check_lines};

/// The menus, read once.
pub(crate) static TEXTS: LazyLock<Arc<Texts>> = LazyLock::new(|| Arc::new(Texts::built_in()));

/// Looks at what goes by.
pub(crate) struct Watched<T>(pub T);

impl<T: Terminal> Terminal for Watched<T> {
    fn show(&mut self, lines: &[ServerLine]) -> io::Result<()> {
        check_lines(lines);
        self.0.show(lines)
    }

    fn answer(&mut self) -> io::Result<Answered> {
        self.0.answer()
    }
}

/// Splits off the bank's choices.
pub(crate) fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (&[], bytes),
    }
}

/// Has a whole dialogue.
///
/// # Panics
/// When the dialogue panics, asks for what is not the client's, or shows what the protocol doesn't have.
pub fn run(bytes: &[u8]) {
    let (choices, sent) = split(bytes);
    let mut shown = Vec::new();
    let mut teller = Teller::new(choices);
    let session = MenuSession::new(Arc::clone(&TEXTS), "Mumbai".parse().expect("it is a name"));
    let mut terminal = Watched(PlainTerminal::new(sent, &mut shown));
    let _ = menu::run(session, &mut terminal, |request| teller.dispatch(request));
    let shown = String::from_utf8(shown).expect("what is shown is text");
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
}

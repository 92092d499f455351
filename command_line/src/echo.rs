//! Questions whose answer nobody may read over a shoulder.
//!
//! The terminal's echo is switched by whoever waits for the answer, so that it can be back on however the question ends:
//! by an answer, by a signal, or because the other side has hung up.

use std::io;

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

/// A terminal's echo.
pub trait Echo {
    /// Shows nothing of what is typed, but the end of the line.
    ///
    /// # Errors
    /// The terminal's.
    fn hide(&mut self) -> io::Result<()>;
    /// Puts everything back as [`Echo::hide`] found it.
    ///
    /// # Errors
    /// The terminal's.
    fn restore(&mut self) -> io::Result<()>;
}

/// The echo of the terminal on standard input.
#[derive(Debug, Default)]
pub struct TerminalEcho {
    /// What to put back, while the echo is off.
    original: Option<Termios>,
}

impl Echo for TerminalEcho {
    fn hide(&mut self) -> io::Result<()> {
        let original = termios::tcgetattr(io::stdin())?;
        let mut hidden = original.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // Editing by line and the end of the line's own echo stay as a person is used to.
        hidden.local_modes.insert(LocalModes::ICANON | LocalModes::ECHONL);
        // Without Ctrl-Z: it would leave the shell without an echo.
        hidden.special_codes[SpecialCodeIndex::VSUSP] = CHARACTER_DISABLED;
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &hidden)?;
        self.original.get_or_insert(original);
        Ok(())
    }

    fn restore(&mut self) -> io::Result<()> {
        if let Some(original) = self.original.take() {
            termios::tcsetattr(io::stdin(), OptionalActions::Now, &original)?;
        }
        Ok(())
    }
}

/// `_POSIX_VDISABLE`: no key has this special meaning.
const CHARACTER_DISABLED: u8 = 0;

//! The person's side of the dialogue: how lines and questions are shown on a terminal, and in a script's
//! transcript.
//!
//! Nothing that a server sends reaches the output raw: control characters and the marks that reorder text are
//! dropped. A hidden question's echo is back on when it is answered, given up, or the console is dropped. Reading
//! the answers is left to the events.

use std::borrow::Cow;
use std::io::{self, Write};

use command_line::echo::Echo;
use protocol::menu_line::LINE_BYTES_MAX;

use crate::surroundings::Style;

/// What stands in the transcript for a password, however long that is.
const PASSWORD_SHOWN: &str = "********";

/// What kind of line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// An ordinary line.
    Plain,
    /// An operation was carried out.
    Done,
    /// An operation was refused.
    Fail,
}

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// By a line.
    Line,
    /// By a line that nobody may see.
    Hidden,
    /// By Enter.
    Pause,
}

/// A question that the server asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// How it is answered.
    pub kind: QuestionKind,
    /// What it says.
    pub text: String,
}

/// Where the dialogue is shown.
pub trait Console {
    /// Whether somebody has to press Enter at a pause.
    fn waits_at_pauses(&self) -> bool;
    /// Clears the screen, if there is one.
    fn clear(&mut self) -> io::Result<()>;
    /// Shows a line.
    fn show(&mut self, tone: Tone, text: &str) -> io::Result<()>;
    /// Shows a question and stays on its line.
    fn ask(&mut self, question: &Question) -> io::Result<()>;
    /// Ends the line of a question that was answered.
    fn answered(&mut self, question: &Question, answer: &[u8]) -> io::Result<()>;
    /// Ends the line of a question that was not.
    fn unanswered(&mut self) -> io::Result<()>;
}

/// A person at a terminal.
#[derive(Debug)]
pub struct TerminalConsole<W: Write, E: Echo> {
    output: W,
    echo: E,
    style: Style,
}

impl<W: Write, E: Echo> TerminalConsole<W, E> {
    /// A console that shows things on `output` and hides answers by `echo`.
    pub fn new(output: W, echo: E, style: Style) -> Self {
        Self { output, echo, style }
    }
}

impl<W: Write, E: Echo> Console for TerminalConsole<W, E> {
    fn waits_at_pauses(&self) -> bool {
        true
    }

    fn clear(&mut self) -> io::Result<()> {
        if self.style.clear {
            self.output.write_all(CLEAR_SCREEN.as_bytes())?;
        }
        Ok(())
    }

    fn show(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let text = painted(tone_code(tone), text, self.style.color);
        writeln!(self.output, "{text}")
    }

    fn ask(&mut self, question: &Question) -> io::Result<()> {
        let text = painted(BOLD, &question.text, self.style.color);
        write!(self.output, "{text}")?;
        self.output.flush()?;
        match question.kind {
            QuestionKind::Hidden => self.echo.hide(),
            QuestionKind::Line | QuestionKind::Pause => Ok(()),
        }
    }

    fn answered(&mut self, _question: &Question, _answer: &[u8]) -> io::Result<()> {
        // The terminal has shown the answer, and the end of its line, by itself.
        self.echo.restore()
    }

    fn unanswered(&mut self) -> io::Result<()> {
        self.echo.restore()?;
        writeln!(self.output)
    }
}

impl<W: Write, E: Echo> Drop for TerminalConsole<W, E> {
    fn drop(&mut self) {
        // There is nobody left to tell that a terminal is gone.
        let _ = self.echo.restore();
    }
}

/// A script on standard input; what is written is its transcript.
#[derive(Debug)]
pub struct ScriptConsole<W> {
    output: W,
    style: Style,
}

impl<W: Write> ScriptConsole<W> {
    /// A transcript on `output`.
    pub fn new(output: W, style: Style) -> Self {
        Self { output, style }
    }
}

impl<W: Write> Console for ScriptConsole<W> {
    fn waits_at_pauses(&self) -> bool {
        false
    }

    fn clear(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn show(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let text = painted(tone_code(tone), text, self.style.color);
        writeln!(self.output, "{text}")
    }

    fn ask(&mut self, question: &Question) -> io::Result<()> {
        let text = painted(BOLD, &question.text, self.style.color);
        write!(self.output, "{text}")?;
        self.output.flush()
    }

    fn answered(&mut self, question: &Question, answer: &[u8]) -> io::Result<()> {
        match question.kind {
            QuestionKind::Line => writeln!(self.output, "{}", shown_answer(answer)),
            QuestionKind::Hidden => writeln!(self.output, "{PASSWORD_SHOWN}"),
            QuestionKind::Pause => writeln!(self.output),
        }
    }

    fn unanswered(&mut self) -> io::Result<()> {
        writeln!(self.output)
    }
}

/// Cursor home, the screen erased, the lines scrolled off it too (ECMA-48; the last is xterm's).
const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J\x1b[3J";
// Plain colours of the terminal's own palette, which is chosen to be read on its background.
pub const GREEN: &str = "32";
pub const RED: &str = "31";
pub const BOLD: &str = "1";

fn tone_code(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "",
        Tone::Done => GREEN,
        Tone::Fail => RED,
    }
}

/// The text as it may be shown, in the style of `code` if colour is on. Blanks at its end stay outside the style.
#[must_use]
pub fn painted<'t>(code: &str, text: &'t str, color: bool) -> Cow<'t, str> {
    let text = harmless(text);
    let words = text.trim_end();
    if !color || code.is_empty() || words.is_empty() {
        return text;
    }
    let blanks = &text[words.len()..];
    Cow::Owned(format!("\x1b[{code}m{words}\x1b[0m{blanks}"))
}

/// A script's answer as the transcript shows it: what no server takes is not shown at its full length.
fn shown_answer(answer: &[u8]) -> String {
    let (kept, rest) = answer.split_at(answer.len().min(LINE_BYTES_MAX));
    let mut shown = harmless(&String::from_utf8_lossy(kept)).into_owned();
    if !rest.is_empty() {
        shown.push('…');
    }
    shown
}

/// The text without what could move the cursor, end the line, or make it read in another order than it is stored.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_harmful) {
        Cow::Owned(text.chars().filter(|&character| !is_harmful(character)).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// Control characters other than tab, the separators of lines and paragraphs, and the overrides of direction
/// (Unicode Standard Annex 9). The joiners that Indian scripts need are none of these.
pub fn is_harmful(character: char) -> bool {
    match character {
        '\t' => false,
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        other => other.is_control(),
    }
}

#[cfg(test)]
pub mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    /// Writes down what happens to the echo, in the same place as the output.
    #[derive(Clone, Debug, Default)]
    pub struct Recorder(Rc<RefCell<Vec<u8>>>);

    impl Recorder {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Recorder {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug)]
    pub struct RecordedEcho {
        pub output: Recorder,
        pub is_hidden: bool,
    }

    impl Echo for RecordedEcho {
        fn hide(&mut self) -> io::Result<()> {
            self.is_hidden = true;
            self.output.write_all(b"[echo off]")
        }

        fn restore(&mut self) -> io::Result<()> {
            if std::mem::take(&mut self.is_hidden) {
                self.output.write_all(b"[echo on]")?;
            }
            Ok(())
        }
    }

    const FULL: Style = Style { color: true, clear: true };
    const PLAIN: Style = Style { color: false, clear: false };

    fn terminal(style: Style, act: impl FnOnce(&mut dyn Console) -> io::Result<()>) -> String {
        let output = Recorder::default();
        let echo = RecordedEcho { output: output.clone(), is_hidden: false };
        act(&mut TerminalConsole::new(output.clone(), echo, style)).unwrap();
        output.text()
    }

    fn script(act: impl FnOnce(&mut dyn Console) -> io::Result<()>) -> String {
        let mut output = Vec::new();
        act(&mut ScriptConsole::new(&mut output, PLAIN)).unwrap();
        String::from_utf8(output).unwrap()
    }

    fn question(kind: QuestionKind) -> Question {
        Question { kind, text: "Say: ".into() }
    }

    fn asked_and_answered(console: &mut dyn Console, kind: QuestionKind, answer: &[u8]) -> io::Result<()> {
        console.ask(&question(kind))?;
        console.answered(&question(kind), answer)
    }

    #[test]
    fn a_terminal_has_colour_and_a_script_has_none() {
        let act = |console: &mut dyn Console| {
            console.clear()?;
            console.show(Tone::Plain, "Welcome")?;
            console.show(Tone::Done, "Paid")?;
            console.show(Tone::Fail, "Refused")?;
            asked_and_answered(console, QuestionKind::Line, b"1001")
        };
        let coloured = "\x1b[H\x1b[2J\x1b[3JWelcome\n\x1b[32mPaid\x1b[0m\n\x1b[31mRefused\x1b[0m\n\x1b[1mSay:\x1b[0m ";
        assert_eq!(terminal(FULL, act), coloured);
        assert_eq!(terminal(PLAIN, act), "Welcome\nPaid\nRefused\nSay: ");
        assert_eq!(script(act), "Welcome\nPaid\nRefused\nSay: 1001\n");
    }

    #[test]
    fn a_transcript_masks_passwords_and_ends_the_line_of_a_pause() {
        assert_eq!(script(|console| asked_and_answered(console, QuestionKind::Hidden, b"rt")), "Say: ********\n");
        assert_eq!(script(|console| asked_and_answered(console, QuestionKind::Pause, b"")), "Say: \n");
        assert_eq!(
            script(|console| {
                console.ask(&question(QuestionKind::Line))?;
                console.unanswered()
            }),
            "Say: \n"
        );
    }

    #[test]
    fn a_transcript_shows_a_strange_answer_harmlessly() {
        let shown = |answer: &[u8]| script(|console| asked_and_answered(console, QuestionKind::Line, answer));
        assert_eq!(shown(b"\x1b[31m\xffx"), "Say: [31m\u{fffd}x\n");
        assert_eq!(shown(&[b'x'; LINE_BYTES_MAX + 1]), format!("Say: {}…\n", "x".repeat(LINE_BYTES_MAX)));
    }

    #[test]
    fn echo_is_off_for_a_hidden_answer_alone_and_back_on_however_it_ends() {
        let hidden = question(QuestionKind::Hidden);
        assert_eq!(
            terminal(PLAIN, |console| asked_and_answered(console, QuestionKind::Hidden, b"root")),
            "Say: [echo off][echo on]"
        );
        assert_eq!(
            terminal(PLAIN, |console| {
                console.ask(&hidden)?;
                console.unanswered()
            }),
            "Say: [echo off][echo on]\n"
        );
        assert_eq!(terminal(PLAIN, |console| console.ask(&hidden)), "Say: [echo off][echo on]");
        assert_eq!(terminal(PLAIN, |console| asked_and_answered(console, QuestionKind::Line, b"x")), "Say: ");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_output() {
        let hostile = "\x1b]0;owned\x07\x1b[2Ja\tb\u{9b}31m\r\u{202e}c\u{2028}";
        assert_eq!(terminal(PLAIN, |console| console.show(Tone::Plain, hostile)), "]0;owned[2Ja\tb31mc\n");
        assert_eq!(script(|console| console.show(Tone::Done, hostile)), "]0;owned[2Ja\tb31mc\n");
        assert_eq!(harmless("क्\u{200d}ष अनीता"), "क्\u{200d}ष अनीता");
    }

    proptest! {
        #[test]
        fn no_text_puts_a_control_character_on_the_screen(text in any::<String>()) {
            let shown = terminal(PLAIN, |console| {
                console.show(Tone::Fail, &text)?;
                console.ask(&Question { kind: QuestionKind::Line, text: text.clone() })
            });
            let controls = shown.chars().filter(|character| character.is_control() && *character != '\t').count();
            prop_assert_eq!(controls, 1, "the end of the line that was shown, and no other");
        }
    }
}

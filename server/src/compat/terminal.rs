//! The wire format of the first system's client, so that it works unchanged.
//!
//! - The client's first bytes are a decimal number from 0 to 255, the key. From then on every byte in either
//!   direction is XORed with it. **This hides nothing**: whoever listens sees the key, and 256 guesses would
//!   do without.
//! - There is no framing. A turn of the server is one write of at most [`LAB_TURN_BYTES_MAX`] bytes: all the
//!   text and the question. It may begin with `@CLEAR\n`, `@PASS\n` or `@EXIT\n`; nothing else of the menu
//!   protocol appears. Text that does not fit is split into several turns, each with a question of its own.
//! - An answer is whatever one read returns. An empty one arrives as one blank.
//!
//! No framing means no certainty. An answer that the network cuts in two is two answers, and a key of fewer
//! than three digits is complete only when nothing more has come for a while: see [`LabTerminal::handshake`].

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use protocol::menu_line::{LINE_BYTES_MAX, ServerLine, check_line};

use super::{LAB_KEY_WAITS_MAX, LAB_TURN_BYTES_MAX};
use crate::menu::{Answered, Terminal};

/// The most digits of a key.
const KEY_DIGITS_MAX: usize = 3;
/// The question of a turn that has more text behind it.
const MORE: &str = "Press Enter for more: ";
/// The longest directive in front of a turn, with its newline.
const DIRECTIVE_BYTES_MAX: usize = "@CLEAR\n".len();
/// How much text fits into a turn beside the longest directive, the newline and question that a split needs,
/// and the blank that keeps text from being taken for a directive.
const TURN_TEXT_BYTES_MAX: usize = LAB_TURN_BYTES_MAX - DIRECTIVE_BYTES_MAX - MORE.len() - 2;
/// How much is read at once. Beyond the longest answer, so an over-long one is swallowed whole and refused
/// instead of being taken for several.
const READ_BYTES: usize = 8 * 1024;

const _: () = assert!(READ_BYTES > 2 * LINE_BYTES_MAX);
const _: () = assert!(TURN_TEXT_BYTES_MAX > 512);

/// The older client's wire format over both halves of a connection.
pub struct LabTerminal<R, W> {
    reader: R,
    writer: W,
    key: u8,
    /// Turns that wait until the one before has been answered.
    waiting: VecDeque<String>,
}

impl<R: Read, W: Write> LabTerminal<R, W> {
    /// Reads the key and makes a terminal of the connection.
    ///
    /// The key's digits may arrive one by one. Three digits are a whole key; after one or two, the key ends
    /// when a read returns `WouldBlock` or `TimedOut`, a blank or a line ending, or the end of the stream. So
    /// the owner of the socket sets a short read timeout ([`super::LAB_KEY_TIMEOUT_MS`]) before this call,
    /// and the idle limit after it. Before the first digit, up to [`LAB_KEY_WAITS_MAX`] such timeouts are
    /// waited for, so that a slow network is not refused.
    ///
    /// # Errors
    /// `InvalidData` when there is no number from 0 to 255, `UnexpectedEof` when the stream ends before it,
    /// `TimedOut` when nothing comes at all, or whatever the connection says.
    pub fn handshake(mut reader: R, writer: W) -> io::Result<Self> {
        let mut digits = String::new();
        let mut waits = 0;
        while digits.len() < KEY_DIGITS_MAX {
            let mut byte = [0];
            match reader.read(&mut byte) {
                Ok(0) if digits.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(0) => break,
                Ok(_) if byte[0].is_ascii_digit() => digits.push(char::from(byte[0])),
                Ok(_) if byte[0].is_ascii_whitespace() && !digits.is_empty() => break,
                Ok(_) => return Err(io::Error::new(ErrorKind::InvalidData, "the key is no number")),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if !is_timeout(&error) => return Err(error),
                Err(_) if !digits.is_empty() => break,
                Err(error) => {
                    waits += 1;
                    if waits >= LAB_KEY_WAITS_MAX {
                        return Err(error);
                    }
                }
            }
        }
        let key = digits.parse().map_err(|_| io::Error::new(ErrorKind::InvalidData, "the key is over 255"))?;
        Ok(Self { reader, writer, key, waiting: VecDeque::new() })
    }

    /// Sends one turn with one write.
    fn send(&mut self, turn: &str) -> io::Result<()> {
        assert!(turn.len() <= LAB_TURN_BYTES_MAX, "a turn of {} bytes", turn.len());
        let bytes: Vec<u8> = turn.bytes().map(|byte| byte ^ self.key).collect();
        self.writer.write_all(&bytes)?;
        self.writer.flush()
    }

    /// Takes what one read returns.
    fn receive(&mut self) -> io::Result<Answered> {
        let mut buffer = [0; READ_BYTES];
        let count = loop {
            match self.reader.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if count == 0 {
            return Ok(Answered::End);
        }
        let bytes = &mut buffer[..count];
        bytes.iter_mut().for_each(|byte| *byte ^= self.key);
        let answer = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        Ok(if answer == b" " { Answered::Line(String::new()) } else { check_line(answer).into() })
    }
}

impl<R: Read, W: Write> Terminal for LabTerminal<R, W> {
    /// Sends the first turn of the lines; the others follow as [`Terminal::answer`] takes the client's Enter.
    /// Lines that end the session are all sent here, because no answer to them will be asked for.
    fn show(&mut self, lines: &[ServerLine]) -> io::Result<()> {
        let is_last = matches!(lines.last(), Some(ServerLine::Exit(_)));
        self.waiting = turns(lines).into();
        while let Some(turn) = self.waiting.pop_front() {
            self.send(&turn)?;
            if !is_last || self.waiting.is_empty() {
                break;
            }
            if self.receive()? == Answered::End {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    fn answer(&mut self) -> io::Result<Answered> {
        loop {
            let answer = self.receive()?;
            if answer == Answered::End {
                return Ok(answer);
            }
            match self.waiting.pop_front() {
                Some(turn) => self.send(&turn)?,
                None => return Ok(answer),
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Puts the lines of one step into turns of at most [`LAB_TURN_BYTES_MAX`] bytes. The screen is cleared by
/// the first of them; the last one hides the answer or ends, which matters more than clearing.
fn turns(lines: &[ServerLine]) -> Vec<String> {
    let mut first_directive = "";
    let mut last_directive = "";
    let mut texts = vec![String::new()];
    for line in lines {
        let (text, ending) = match line {
            ServerLine::Clear => {
                first_directive = "@CLEAR\n";
                continue;
            }
            ServerLine::Pass(text) => {
                last_directive = "@PASS\n";
                (text, "")
            }
            ServerLine::Exit(text) => {
                last_directive = "@EXIT\n";
                (text, "")
            }
            ServerLine::Prompt(text) | ServerLine::Pause(text) => (text, ""),
            ServerLine::Done(text) | ServerLine::Fail(text) | ServerLine::Text(text) => (text, "\n"),
        };
        let text = text.replace(|character: char| character.is_control(), "\u{fffd}");
        append(&mut texts, &format!("{text}{ending}"));
    }
    let last = texts.len() - 1;
    let turn = |(index, text): (usize, &String)| {
        let directive = match index {
            _ if index == last && !last_directive.is_empty() => last_directive,
            0 => first_directive,
            _ => "",
        };
        // The older client takes a turn's beginning for a directive; a blank makes it text again.
        let blank = if text.starts_with('@') { " " } else { "" };
        let newline = if index == last || text.ends_with('\n') { "" } else { "\n" };
        let question = if index == last { "" } else { MORE };
        format!("{directive}{blank}{text}{newline}{question}")
    };
    texts.iter().enumerate().map(turn).collect()
}

/// Adds a line's text to the last turn, or to new ones where it does not fit.
fn append(texts: &mut Vec<String>, mut line: &str) {
    while let Some(text) = texts.last_mut() {
        if text.len() + line.len() <= TURN_TEXT_BYTES_MAX {
            text.push_str(line);
            return;
        }
        if text.is_empty() {
            let (part, rest) = line.split_at(line.floor_char_boundary(TURN_TEXT_BYTES_MAX));
            text.push_str(part);
            line = rest;
        }
        texts.push(String::new());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::menu_line::BadLine;

    use super::*;

    /// What the client's end does next.
    enum Event {
        Bytes(Vec<u8>),
        Timeout,
    }

    /// A client that sends its events one per read.
    struct Client(VecDeque<Event>);

    impl Read for Client {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.pop_front() {
                None => Ok(0),
                Some(Event::Timeout) => Err(ErrorKind::WouldBlock.into()),
                Some(Event::Bytes(mut bytes)) => {
                    let rest = bytes.split_off(buffer.len().min(bytes.len()));
                    buffer[..bytes.len()].copy_from_slice(&bytes);
                    if !rest.is_empty() {
                        self.0.push_front(Event::Bytes(rest));
                    }
                    Ok(bytes.len())
                }
            }
        }
    }

    /// One entry for each write.
    #[derive(Default)]
    struct Turns(Vec<Vec<u8>>);

    impl Write for Turns {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sends(bytes: &[u8]) -> Event {
        Event::Bytes(bytes.to_vec())
    }

    fn key_of(events: Vec<Event>) -> io::Result<u8> {
        LabTerminal::handshake(Client(events.into()), io::sink()).map(|terminal| terminal.key)
    }

    #[test]
    fn a_key_is_up_to_three_digits_however_they_arrive() {
        assert_eq!(key_of(vec![sends(b"255")]).unwrap(), 255);
        assert_eq!(key_of(vec![sends(b"1"), sends(b"2"), sends(b"8")]).unwrap(), 128);
        assert_eq!(key_of(vec![sends(b"7"), Event::Timeout]).unwrap(), 7);
        assert_eq!(key_of(vec![Event::Timeout, sends(b"4"), sends(b"2"), Event::Timeout]).unwrap(), 42);
        assert_eq!(key_of(vec![sends(b"0\n")]).unwrap(), 0);
        assert_eq!(key_of(vec![sends(b"007")]).unwrap(), 7);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let kind = |events| key_of(events).unwrap_err().kind();
        assert_eq!(kind(vec![sends(b"256")]), ErrorKind::InvalidData);
        assert_eq!(kind(vec![sends(b"x")]), ErrorKind::InvalidData);
        assert_eq!(kind(vec![sends(b"-1")]), ErrorKind::InvalidData);
        assert_eq!(kind(vec![sends(b"\n")]), ErrorKind::InvalidData);
        assert_eq!(kind(vec![]), ErrorKind::UnexpectedEof);
        let silence = (0..LAB_KEY_WAITS_MAX).map(|_| Event::Timeout).collect();
        assert_eq!(kind(silence), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_byte_after_a_whole_key_belongs_to_the_answer() {
        let client = Client(vec![sends(&[b'1', b'0', b'0', b'a' ^ 100])].into());
        let mut terminal = LabTerminal::handshake(client, io::sink()).unwrap();
        assert_eq!(terminal.answer().unwrap(), Answered::Line("a".into()));
    }

    fn answer_to(bytes: &[u8]) -> Answered {
        let key = 90;
        let masked: Vec<u8> = bytes.iter().map(|byte| byte ^ key).collect();
        let client = Client(vec![sends(b"90"), Event::Timeout, Event::Bytes(masked)].into());
        LabTerminal::handshake(client, io::sink()).unwrap().answer().unwrap()
    }

    #[test]
    fn an_answer_is_what_one_read_gives() {
        for (bytes, expected) in [(" ", ""), ("a", "a"), ("a b", "a b"), ("  ", "  "), ("50\n", "50"), ("50\r\n", "50")]
        {
            assert_eq!(answer_to(bytes.as_bytes()), Answered::Line(expected.into()), "bytes {bytes:?}");
        }
        assert_eq!(answer_to("अ".as_bytes()), Answered::Line("अ".into()));
        assert_eq!(answer_to(&[b'x'; LINE_BYTES_MAX]), Answered::Line("x".repeat(LINE_BYTES_MAX)));
        assert_eq!(answer_to(&[b'x'; LINE_BYTES_MAX + 1]), Answered::Bad(BadLine::TooLong));
        assert_eq!(answer_to(&[b'x'; 5_000]), Answered::Bad(BadLine::TooLong));
        assert_eq!(answer_to(&[0xff]), Answered::Bad(BadLine::NotUtf8));
        assert_eq!(answer_to(b"a\nb"), Answered::Bad(BadLine::Control));
        assert_eq!(answer_to(b""), Answered::End);
    }

    #[test]
    fn a_turn_begins_with_at_most_one_directive() {
        let text = |text: &str| ServerLine::Text(text.into());
        let prompt = ServerLine::Prompt("Your choice: ".into());
        let pass = ServerLine::Pass("Password: ".into());
        let exit = ServerLine::Exit("Goodbye.".into());
        for (lines, expected) in [
            (vec![ServerLine::Clear, text("Menu"), prompt.clone()], "@CLEAR\nMenu\nYour choice: "),
            (vec![ServerLine::Clear, text("Menu"), pass.clone()], "@PASS\nMenu\nPassword: "),
            (vec![ServerLine::Fail("No.".into()), pass], "@PASS\nNo.\nPassword: "),
            (vec![ServerLine::Clear, exit], "@EXIT\nGoodbye."),
            (vec![ServerLine::Done("Paid.".into()), ServerLine::Pause("Press Enter".into())], "Paid.\nPress Enter"),
            (vec![text("@EXIT"), prompt.clone()], " @EXIT\nYour choice: "),
            (vec![ServerLine::Clear, text("@PASS"), prompt], "@CLEAR\n @PASS\nYour choice: "),
        ] {
            assert_eq!(turns(&lines), [expected]);
        }
    }

    #[test]
    fn text_that_does_not_fit_is_split_between_lines() {
        let mut lines = vec![ServerLine::Clear];
        lines.extend((0..40).map(|number| ServerLine::Text(format!("{number:02} {}", "x".repeat(50)))));
        lines.push(ServerLine::Pass("Password: ".into()));
        let turns = turns(&lines);
        assert_eq!(turns.len(), 3);
        assert!(turns[0].starts_with("@CLEAR\n00 ") && turns[0].ends_with("x\nPress Enter for more: "));
        assert!(turns[1].ends_with("x\nPress Enter for more: "));
        assert!(turns[2].starts_with("@PASS\n") && turns[2].ends_with("x\nPassword: "));
    }

    /// The older client: sends its key, then shows each turn and answers it, an empty answer as one blank.
    fn old_client(key: u8, lines: &[Vec<ServerLine>], answers: &[&str]) -> (Vec<String>, Vec<Answered>) {
        let mask = |bytes: &[u8]| bytes.iter().map(|byte| byte ^ key).collect::<Vec<_>>();
        let mut events = vec![Event::Bytes(key.to_string().into_bytes())];
        if key < 100 {
            events.push(Event::Timeout);
        }
        for answer in answers {
            let answer = if answer.is_empty() { " " } else { answer };
            events.push(Event::Bytes(mask(answer.as_bytes())));
        }
        let mut sent = Turns::default();
        let mut terminal = LabTerminal::handshake(Client(events.into()), &mut sent).unwrap();
        let mut answered = Vec::new();
        for step in lines {
            terminal.show(step).unwrap();
            if !matches!(step.last(), Some(ServerLine::Exit(_))) {
                answered.push(terminal.answer().unwrap());
            }
        }
        let shown = sent.0.iter().map(|turn| String::from_utf8(mask(turn)).unwrap()).collect();
        (shown, answered)
    }

    #[test]
    fn an_older_client_has_the_same_dialogue() {
        let long: Vec<_> = (0..30).map(|number| ServerLine::Text(format!("{number} {}", "y".repeat(60)))).collect();
        let steps = [
            vec![ServerLine::Clear, ServerLine::Text("नमस्ते".into()), ServerLine::Prompt("Your choice: ".into())],
            [long.clone(), vec![ServerLine::Pause("Press Enter".into())]].concat(),
            [long, vec![ServerLine::Exit("Goodbye.".into())]].concat(),
        ];
        for key in [0, 7, 42, 128, 255] {
            let (shown, answered) = old_client(key, &steps, &["a", "", "", "", "", ""]);
            assert_eq!(answered, [Answered::Line("a".into()), Answered::Line(String::new())]);
            assert_eq!(shown[0], "@CLEAR\nनमस्ते\nYour choice: ");
            assert_eq!(shown.len(), 5);
            assert!(shown[2].ends_with("Press Enter") && !shown[2].ends_with(MORE));
            assert!(shown[4].starts_with("@EXIT\n") && shown[4].ends_with("Goodbye."));
        }
    }

    proptest! {
        #[test]
        fn every_turn_fits_and_nothing_is_lost(texts in prop::collection::vec("\\PC{0,1500}", 0..12), clear: bool) {
            let mut lines = if clear { vec![ServerLine::Clear] } else { Vec::new() };
            lines.extend(texts.iter().cloned().map(ServerLine::Text));
            lines.push(ServerLine::Pass("Password: ".into()));
            let turns = turns(&lines);
            let (last, others) = turns.split_last().unwrap();
            prop_assert!(turns.iter().all(|turn| turn.len() <= LAB_TURN_BYTES_MAX));
            prop_assert!(last.starts_with("@PASS\n"));
            prop_assert!(others.iter().all(|turn| turn.ends_with(MORE)));
            let letters = |text: &str| text.chars().filter(|c| !" \n".contains(*c)).collect::<String>();
            let mut shown = turns.clone();
            for turn in &mut shown {
                *turn = turn.strip_suffix(MORE).unwrap_or(turn).to_string();
            }
            let expected = [if clear && turns.len() > 1 { "@CLEAR" } else { "" }, &texts.concat(), "Password:"].concat();
            prop_assert_eq!(letters(&shown.concat()).replacen("@PASS", "", 1), letters(&expected));
        }
    }
}

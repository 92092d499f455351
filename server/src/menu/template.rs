//! One menu file as it is read: lines of text with placeholders, checked once and filled in at each display.
//!
//! A placeholder is a name in braces; `{{` and `}}` are a brace. What is filled in is never read again, so nobody's name
//! can be a placeholder or a directive.

use std::fmt;
use std::io;

use protocol::menu_line::ServerLine;

use super::MENU_FILE_BYTES_MAX;

/// One menu file: its name, its built-in copy, the placeholders it may have and those it must have.
pub(super) struct MenuFile {
    pub(super) name: &'static str,
    pub(super) built_in: &'static str,
    pub(super) known: &'static [Placeholder],
    pub(super) required: &'static [Placeholder],
}

/// Something that is filled in at each display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{account_num}`
    AccountNum,
    /// `{available}`
    Available,
    /// `{balance}`
    Balance,
    /// `{branch}`
    Branch,
    /// `{held}`
    Held,
    /// `{name}`
    Name,
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AccountNum => "{account_num}",
            Self::Available => "{available}",
            Self::Balance => "{balance}",
            Self::Branch => "{branch}",
            Self::Held => "{held}",
            Self::Name => "{name}",
        })
    }
}

/// A file's lines, each as the pieces that it is put together from.
#[derive(Debug)]
pub(super) struct Template {
    lines: Vec<Vec<Piece>>,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Value(Placeholder),
}

impl Template {
    /// Reads a file. With what is wrong comes the line, counted from 1, if it is one.
    pub(super) fn parse(file: &MenuFile, bytes: &[u8]) -> Result<Self, (Option<usize>, MenuFault)> {
        let text = std::str::from_utf8(bytes).map_err(|utf8_error| {
            let newlines = bytes[..utf8_error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
            (Some(newlines + 1), MenuFault::NotUtf8)
        })?;
        // Some editors put a byte order mark in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim().is_empty() {
            return Err((None, MenuFault::Empty));
        }
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            lines.push(parse_line(file, line).map_err(|fault| (Some(index + 1), fault))?);
        }
        let template = Self { lines };
        for &placeholder in file.required {
            if !template.has(placeholder) {
                return Err((None, MenuFault::Missing(placeholder, file.known)));
            }
        }
        Ok(template)
    }

    fn has(&self, wanted: Placeholder) -> bool {
        self.lines.iter().flatten().any(|piece| match piece {
            Piece::Value(placeholder) => *placeholder == wanted,
            Piece::Text(_) => false,
        })
    }

    /// The file with its values.
    pub(super) fn render(&self, value: &dyn Fn(Placeholder) -> String) -> Vec<ServerLine> {
        let line = |pieces: &Vec<Piece>| {
            let text = |piece: &Piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Value(placeholder) => value(*placeholder),
            };
            ServerLine::Text(pieces.iter().map(text).collect())
        };
        std::iter::once(ServerLine::Clear).chain(self.lines.iter().map(line)).collect()
    }
}

fn parse_line(file: &MenuFile, line: &str) -> Result<Vec<Piece>, MenuFault> {
    if line.chars().any(char::is_control) {
        return Err(MenuFault::Control);
    }
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = line;
    while let Some(position) = rest.find(['{', '}']) {
        text.push_str(&rest[..position]);
        rest = &rest[position..];
        if let Some(after) = rest.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else {
            let end = rest.find('}').filter(|&end| end > 0).ok_or(MenuFault::LoneBrace)?;
            let (placeholder, after) = rest.split_at(end + 1);
            let known = file.known.iter().find(|known| known.to_string() == placeholder);
            let known = known.ok_or_else(|| MenuFault::Unknown(shortened(placeholder), file.known))?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Value(*known));
            rest = after;
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// The most characters of an unknown placeholder that an error shows.
const SHOWN_CHARS_MAX: usize = 40;

fn shortened(placeholder: &str) -> String {
    match placeholder.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &placeholder[..end]),
        None => placeholder.to_string(),
    }
}

/// What is wrong with a menu file.
#[derive(Debug)]
pub(super) enum MenuFault {
    Unreadable(io::Error),
    TooLarge,
    NotUtf8,
    Empty,
    Control,
    LoneBrace,
    Unknown(String, &'static [Placeholder]),
    Missing(Placeholder, &'static [Placeholder]),
}

impl fmt::Display for MenuFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |known: &[Placeholder]| known.iter().map(Placeholder::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::TooLarge => write!(f, "it has more than {MENU_FILE_BYTES_MAX} bytes"),
            Self::NotUtf8 => f.write_str("it is not UTF-8 text"),
            Self::Empty => f.write_str("it is empty"),
            Self::Control => f.write_str("there is a control character, such as a tab; use blanks"),
            Self::LoneBrace => {
                f.write_str("there is a brace without its other half; a brace that is to be seen is {{ or }}")
            }
            Self::Unknown(placeholder, known) => {
                write!(f, "the placeholder {placeholder} is unknown; known here: {}", list(known))
            }
            Self::Missing(placeholder, known) => {
                write!(f, "the placeholder {placeholder} is missing; known here: {}", list(known))
            }
        }
    }
}

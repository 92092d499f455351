//! What a command writes: sentences and tables for people, or the branch's answers as they came.
//!
//! Tables are as wide as their content and never wrap: a line that is cut in two reads worse in a transcript than a
//! long one. Text from a branch may hold anything that a customer brought, so what could steer a terminal is left
//! out. With `--json` there is one JSON document to a line and nothing else.

use std::io::Write;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle, presets};
use serde::de::DeserializeOwned;

use crate::branch::Reply;
use crate::console::{harmless, is_harmful};
use crate::error::{ClientError, ExitStatus};

/// What stands in a cell that has nothing to show.
const NOTHING: &str = "-";

/// Where a command's answer goes.
pub struct Output<'w> {
    writer: &'w mut dyn Write,
    /// Whether answers are written as they came.
    pub json: bool,
    /// What the branch has carried out for this command, for when it can't be shown.
    pub done: Option<String>,
}

impl<'w> Output<'w> {
    /// An output on `writer`.
    pub fn new(writer: &'w mut dyn Write, json: bool) -> Self {
        Self { writer, json, done: None }
    }

    /// Writes lines for a person.
    ///
    /// # Errors
    /// `Output`.
    pub fn text(&mut self, text: &str) -> Result<(), ClientError> {
        for line in text.lines() {
            writeln!(self.writer, "{}", harmless(line)).map_err(ClientError::Output)?;
        }
        self.writer.flush().map_err(ClientError::Output)
    }

    /// Writes what is neither an answer nor for people, as it is.
    ///
    /// # Errors
    /// `Output`.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.writer.write_all(bytes).and_then(|()| self.writer.flush()).map_err(ClientError::Output)
    }

    /// Writes a JSON document on a line of its own. What could steer a terminal is escaped, which is the same JSON.
    ///
    /// # Errors
    /// `Output`.
    pub fn document(&mut self, json: &[u8]) -> Result<(), ClientError> {
        let mut line = String::with_capacity(json.len() + 1);
        for character in String::from_utf8_lossy(json).chars() {
            match character {
                // Outside of strings a line break is a blank, and inside of them there is none.
                '\n' | '\r' => line.push(' '),
                other if is_harmful(other) => line += &format!("\\u{:04x}", u32::from(other)),
                other => line.push(other),
            }
        }
        line.push('\n');
        self.raw(line.as_bytes())
    }

    /// Writes an answer: as it came, or as `tell` puts it.
    ///
    /// # Errors
    /// `Output`; `Refused` (for a person), and `NotUnderstood`.
    pub fn answer<T: DeserializeOwned>(
        &mut self,
        reply: &Reply,
        tell: impl FnOnce(T) -> String,
    ) -> Result<ExitStatus, ClientError> {
        if self.json {
            self.document(reply.body())?;
            return Ok(if reply.is_ok() { ExitStatus::AllDone } else { ExitStatus::Refused });
        }
        let result = reply.result()?;
        self.text(&tell(result))?;
        Ok(ExitStatus::AllDone)
    }
}

/// Columns side by side with a rule under the header; those of `right` hold figures.
#[must_use]
pub fn table<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    right: &[usize],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let style: TableStyle = presets::NOTHING.header_separator(LineStyle::none().fill('-').junction('-'));
    let mut table = Table::new();
    table.load_style(style).set_header(header.to_vec());
    for row in rows {
        table.add_row(row.map(cell));
    }
    for column in table.column_iter_mut() {
        // With the style's own blank between columns, two blanks part them.
        column.set_padding((0, 1));
    }
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// A cell's text on one line: a newline in it would tear the table apart.
fn cell(text: String) -> String {
    if text.is_empty() { NOTHING.into() } else { text.replace(char::is_control, "\u{fffd}") }
}

/// `1 account`, `2 accounts`.
#[must_use]
pub fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// A time span as people say it, in the largest unit that fits.
#[must_use]
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        86_400.. => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_the_same_json_on_one_line_and_steers_no_terminal() {
        let text = "a\u{1b}[2J\u{7f}\u{85}\u{9b}31m\u{202e}\u{2028}\tरु😀";
        let json = serde_json::to_string_pretty(&serde_json::json!({"text": text})).unwrap();
        let mut written = Vec::new();
        Output::new(&mut written, true).document(json.as_bytes()).unwrap();
        let line = String::from_utf8(written).unwrap();
        assert_eq!(line.chars().filter(|&character| is_harmful(character)).collect::<String>(), "\n", "{line}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["text"], text);
    }
}

//! Whether what was printed is what a page shows, but for what differs from run to run.
//!
//! Both texts are read as words. Blanks and rules count as one, however long; times and ages are all alike; an id may
//! be another one. But an id that a page shows twice has to be one id in the run too, and in later commands it stands
//! for the run's own. So do the words that a marker names.

use std::collections::BTreeMap;

/// What stands for anything.
const ANYTHING: &str = "…";
/// The fewest hexadecimal digits of an id.
const ID_DIGITS: usize = 12;

/// What the page's ids are in this run.
#[derive(Clone, Debug, Default)]
pub struct Values {
    of: BTreeMap<String, String>,
    vary: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word<'a> {
    /// Letters and digits; or one other character, which stands for a row of itself where it is a blank or a rule.
    Plain(&'a str),
    /// A moment, or how long something took or is ago.
    Time,
    /// `…`
    Anything,
}

impl Values {
    /// Words that differ from run to run beside ids and times, from here on.
    pub fn vary(&mut self, words: &[String]) {
        self.vary.extend_from_slice(words);
    }

    /// A command of the page with the run's own ids.
    pub fn put_into(&self, command: &str) -> String {
        let mut own = String::new();
        let mut rest = command;
        while let Some(text) = next_plain(rest) {
            own.push_str(self.of.get(text).map_or(text, String::as_str));
            rest = &rest[text.len()..];
        }
        own
    }

    /// Whether all that was printed is what is shown.
    pub fn fit(&mut self, shown: &[String], printed: &[String]) -> bool {
        let printed: Vec<&str> = not_empty(printed);
        let fitting = self.fit_lines(&not_empty(shown), &printed);
        fitting.map(|values| *self = values).is_some()
    }

    /// Whether each line that is shown was printed, in this order, among others.
    pub fn fit_among(&mut self, shown: &[String], printed: &[String]) -> bool {
        let mut printed = printed.iter();
        let mut values = self.clone();
        let all = not_empty(shown).into_iter().filter(|line| line.trim() != ANYTHING).all(|line| {
            let fitting = printed.by_ref().find_map(|printed| values.fit_words(&words(line), &words(printed)));
            fitting.map(|fitting| values = fitting).is_some()
        });
        if all {
            *self = values;
        }
        all
    }

    fn fit_lines(&self, shown: &[&str], printed: &[&str]) -> Option<Self> {
        let Some((first, rest)) = shown.split_first() else {
            return printed.is_empty().then(|| self.clone());
        };
        if first.trim() == ANYTHING {
            return (0..=printed.len()).find_map(|skipped| self.fit_lines(rest, &printed[skipped..]));
        }
        let (line, others) = printed.split_first()?;
        self.fit_words(&words(first), &words(line))?.fit_lines(rest, others)
    }

    /// The values with those of this line, when it fits.
    fn fit_words(&self, shown: &[Word], printed: &[Word]) -> Option<Self> {
        let Some((first, rest)) = shown.split_first() else {
            return printed.is_empty().then(|| self.clone());
        };
        if *first == Word::Anything {
            return (0..=printed.len()).find_map(|skipped| self.fit_words(rest, &printed[skipped..]));
        }
        let (word, others) = printed.split_first()?;
        match (first, word) {
            (Word::Plain(shown), Word::Plain(printed)) if self.differs(shown, printed) => {
                let mut values = self.clone();
                let bound = values.of.entry((*shown).to_string()).or_insert_with(|| (*printed).to_string());
                (bound == printed).then_some(())?;
                values.fit_words(rest, others)
            }
            (shown, printed) if shown == printed => self.fit_words(rest, others),
            _ => None,
        }
    }

    /// Whether this word may be another one in a run.
    fn differs(&self, shown: &str, printed: &str) -> bool {
        self.vary.iter().any(|word| word == shown) || (is_id(shown) && is_id(printed))
    }
}

fn not_empty(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| !line.trim().is_empty()).collect()
}

/// A row of hexadecimal digits that is too long to be anything else.
fn is_id(word: &str) -> bool {
    word.len() >= ID_DIGITS && word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The words of a line.
fn words(line: &str) -> Vec<Word<'_>> {
    let mut words: Vec<Word> = Vec::new();
    let mut rest = line.trim();
    while let Some(text) = next_plain(rest) {
        let (word, length) = match time_at(rest) {
            Some(length) => (Word::Time, length),
            None if text == ANYTHING => (Word::Anything, text.len()),
            None => (Word::Plain(text), text.len()),
        };
        let is_a_row = matches!(text, " " | "-" | "─" | "╌") && words.last() == Some(&word);
        if !is_a_row {
            words.push(word);
        }
        rest = &rest[length..];
    }
    // A drawing tells the time where it has gone on, which is on other lines in each run.
    if let [Word::Time, Word::Plain(" "), Word::Plain("├" | "│"), ..] = words[..] {
        words.drain(..2);
    }
    words
}

/// The letters and digits at the beginning, or the one other character there.
fn next_plain(text: &str) -> Option<&str> {
    let first = text.chars().next()?;
    let letters = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    Some(&text[..if letters > 0 { letters } else { first.len_utf8() }])
}

/// The length of a moment (`2026-11-22T03:20:59.409Z`) or a duration (`3 s`, `12 ms`) at the beginning.
fn time_at(text: &str) -> Option<usize> {
    const MOMENT: &[u8] = b"dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(byte, form): (u8, &u8)| if *form == b'd' { byte.is_ascii_digit() } else { byte == *form };
    if text.len() >= MOMENT.len() && text.bytes().zip(MOMENT).all(fits) {
        return Some(MOMENT.len());
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = text[digits..].strip_prefix(' ').and_then(next_plain).filter(|_| digits > 0)?;
    matches!(unit, "s" | "ms").then_some(digits + 1 + unit.len())
}

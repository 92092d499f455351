//! The replication log: what one group commit wrote, as its write statements and their bound parameters.
//!
//! A group is one row of `replication_log`, written in the group's own SQLite transaction: it is there exactly
//! when the group's effects are. Rows are numbered without a gap, and each carries SHA-256 over the digest of the
//! row before it and its own fields, so two logs that have the same digest at a number are the same up to there.
//!
//! A body is self-contained, so no two programs need to agree on numbers of statements:
//!
//! ```text
//! version  texts: count, then length and bytes of each
//!          statements: count, then of each: number of its text, rows that it changed, parameters: count, then values
//! ```
//!
//! All numbers are LEB128 varints; a value is a tag and its bytes. A text stands once in a group, however often
//! it is executed. The number of rows that a statement changed is part of the log because a replica that changes
//! another number has other rows. Reading a body trusts nothing in it: every count and length is bounded by what
//! is there and by this file's limits.

use std::fmt;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};
use sha2::{Digest as _, Sha256};

use crate::limits::{LOG_BODY_BYTES, LOG_PARAMETERS, LOG_STATEMENTS, LOG_TEXT_BYTES, LOG_TEXTS};

/// SHA-256 over a row of the log and all before it.
pub type LogDigest = [u8; 32];

/// The encoding of bodies that this program writes and reads.
const VERSION: u8 = 1;

/// Bytes of a digest that are an epoch's id.
const EPOCH_ID_BYTES: usize = 8;

const TAG_NULL: u8 = 0;
const TAG_INTEGER: u8 = 1;
const TAG_REAL: u8 = 2;
const TAG_TEXT: u8 = 3;
const TAG_BLOB: u8 = 4;

/// A place in the log: a row's number, epoch and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The row's number, 1 for the first.
    pub sequence: i64,
    /// The epoch of the primary that wrote it.
    pub epoch: i64,
    /// Over this row and all before it.
    pub digest: LogDigest,
}

impl Position {
    /// Reads a number, an epoch and a digest.
    pub(in crate::dbs_exec) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { sequence: row.get(0)?, epoch: row.get(1)?, digest: row.get(2)? })
    }
}

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Where it stands.
    pub position: Position,
    /// When it was committed, by its primary's clock, in milliseconds since 1970-01-01 UTC.
    pub at_unix_ms: i64,
    /// Its statements, as `GroupLog::encode` writes them.
    pub body: Vec<u8>,
}

impl LogRow {
    /// The row after `before`, or the first of a log.
    #[must_use]
    pub fn after(before: Option<&Position>, epoch: i64, at_unix_ms: i64, body: Vec<u8>) -> Self {
        let sequence = before.map_or(0, |before| before.sequence) + 1;
        let digest = digest(before, [sequence, epoch, at_unix_ms], &body);
        Self { position: Position { sequence, epoch, digest }, at_unix_ms, body }
    }

    /// The id of the epoch that begins with this row: a part of the digest, into which goes what was drawn at the
    /// promotion (`marker_body`). So every copy that has the row knows it.
    #[must_use]
    pub fn epoch_id(&self) -> String {
        protocol::proof::to_hex(&self.position.digest[..EPOCH_ID_BYTES])
    }

    /// Whether this row is the next one and its digest is what its fields and the row before it give.
    #[must_use]
    pub fn follows(&self, before: Option<&Position>) -> bool {
        let Position { sequence, epoch, .. } = self.position;
        sequence == before.map_or(0, |before| before.sequence) + 1
            && digest(before, [sequence, epoch, self.at_unix_ms], &self.body) == self.position.digest
    }
}

fn digest(before: Option<&Position>, numbers: [i64; 3], body: &[u8]) -> LogDigest {
    let mut hasher = Sha256::new();
    hasher.update(before.map_or([0; 32], |before| before.digest));
    for number in numbers {
        hasher.update(number.to_be_bytes());
    }
    hasher.update(body);
    hasher.finalize().into()
}

/// The statements of a group while it is executed.
#[derive(Debug, Default)]
pub struct GroupLog {
    texts: Vec<&'static str>,
    statements: Vec<u8>,
    count: usize,
}

/// A place in a [`GroupLog`] to which it can be cut back.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    texts: usize,
    bytes: usize,
    count: usize,
}

impl GroupLog {
    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The end as it is now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { texts: self.texts.len(), bytes: self.statements.len(), count: self.count }
    }

    /// Forgets what came after the mark: the operation that wrote it was undone.
    pub fn cut_back(&mut self, mark: Mark) {
        self.texts.truncate(mark.texts);
        self.statements.truncate(mark.bytes);
        self.count = mark.count;
    }

    /// Adds a statement that was executed.
    ///
    /// # Errors
    /// When a parameter is of a kind that no statement of this program binds, or there are too many.
    pub fn push(&mut self, sql: &'static str, params: &[&dyn ToSql], changed: usize) -> Result<(), LogError> {
        let mark = self.mark();
        let pushed = self.try_push(sql, params, changed);
        // Half a statement would make the whole body unreadable.
        if pushed.is_err() {
            self.cut_back(mark);
        }
        pushed
    }

    fn try_push(&mut self, sql: &'static str, params: &[&dyn ToSql], changed: usize) -> Result<(), LogError> {
        if params.len() > LOG_PARAMETERS || self.count >= LOG_STATEMENTS || sql.len() > LOG_TEXT_BYTES {
            return Err(LogError("too much for one group"));
        }
        // By address first: statements are constants of the program, and a group has the same few a thousand times.
        let index = match self.texts.iter().position(|known| std::ptr::eq(*known, sql) || *known == sql) {
            Some(index) => index,
            None if self.texts.len() >= LOG_TEXTS => return Err(LogError("too many different statements")),
            None => {
                self.texts.push(sql);
                self.texts.len() - 1
            }
        };
        push_number(&mut self.statements, index as u64);
        push_number(&mut self.statements, changed as u64);
        push_number(&mut self.statements, params.len() as u64);
        for param in params {
            let value = param.to_sql().map_err(|_| LogError("a parameter that cannot be bound"))?;
            match &value {
                ToSqlOutput::Borrowed(value) => push_value(&mut self.statements, *value),
                ToSqlOutput::Owned(value) => push_value(&mut self.statements, ValueRef::from(value)),
                // The enum is another crate's and may grow.
                _ => return Err(LogError("a parameter of an unknown kind")),
            }
        }
        // Half, for the texts come on top; a body that a replica would refuse as too long must never be committed.
        if self.statements.len() > LOG_BODY_BYTES / 2 {
            return Err(LogError("too much for one group"));
        }
        self.count += 1;
        Ok(())
    }

    /// The body of the group's row.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.statements.len() + 256 * self.texts.len());
        body.push(VERSION);
        push_number(&mut body, self.texts.len() as u64);
        for text in &self.texts {
            push_bytes(&mut body, text.as_bytes());
        }
        push_number(&mut body, self.count as u64);
        body.extend_from_slice(&self.statements);
        body
    }
}

/// A body without statements, which `salt` tells from every other: the first row of a log, and of an epoch.
#[must_use]
pub fn marker_body(salt: &[u8]) -> Vec<u8> {
    let mut body = vec![VERSION];
    push_number(&mut body, 1);
    // A text that no statement uses.
    push_bytes(&mut body, format!("-- {}", protocol::proof::to_hex(&sha256(salt))).as_bytes());
    push_number(&mut body, 0);
    body
}

fn sha256(bytes: &[u8]) -> LogDigest {
    Sha256::digest(bytes).into()
}

/// One statement of a body.
#[derive(Debug)]
pub struct Statement<'b> {
    /// Its text.
    pub sql: &'b str,
    /// Rows that it changed at the primary.
    pub changed: usize,
    /// Its parameters.
    pub params: Vec<LoggedValue<'b>>,
}

/// A bound value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoggedValue<'b>(ValueRef<'b>);

impl ToSql for LoggedValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

/// Shows each statement of a body to `each`, in order.
///
/// # Errors
/// [`LogError`] turned into `E` when the body is not one; or the first error of `each`.
pub fn decode<'b, E: From<LogError>>(
    body: &'b [u8],
    mut each: impl FnMut(&Statement<'b>) -> Result<(), E>,
) -> Result<(), E> {
    let mut decoder = Decoder(body);
    // The length before anything is allocated for what it says.
    if body.len() > LOG_BODY_BYTES || decoder.byte()? != VERSION {
        return Err(LogError("another encoding").into());
    }
    let count = decoder.count(LOG_TEXTS)?;
    let mut texts = Vec::with_capacity(count);
    for _ in 0..count {
        texts.push(decoder.text(LOG_TEXT_BYTES)?);
    }
    for _ in 0..decoder.count(LOG_STATEMENTS)? {
        let sql = texts.get(decoder.count(LOG_TEXTS)?).ok_or(LogError("a statement without a text"))?;
        let changed = decoder.count(i64::MAX as usize)?;
        let mut params = Vec::new();
        for _ in 0..decoder.count(LOG_PARAMETERS)? {
            params.push(LoggedValue(decoder.value()?));
        }
        each(&Statement { sql, changed, params })?;
    }
    if decoder.0.is_empty() { Ok(()) } else { Err(LogError("something after the end").into()) }
}

/// Appends a number as a LEB128 varint.
pub fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a length and bytes.
pub fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a value with its tag.
pub fn push_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.push(TAG_NULL),
        ValueRef::Integer(number) => {
            out.push(TAG_INTEGER);
            // Zigzag: small numbers of either sign are short.
            push_number(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
        }
        ValueRef::Real(number) => {
            out.push(TAG_REAL);
            out.extend_from_slice(&number.to_bits().to_be_bytes());
        }
        ValueRef::Text(bytes) => {
            out.push(TAG_TEXT);
            push_bytes(out, bytes);
        }
        ValueRef::Blob(bytes) => {
            out.push(TAG_BLOB);
            push_bytes(out, bytes);
        }
    }
}

/// Bytes that are read and not trusted.
pub struct Decoder<'b>(pub &'b [u8]);

impl<'b> Decoder<'b> {
    /// One byte.
    ///
    /// # Errors
    /// [`LogError`] at the end.
    pub fn byte(&mut self) -> Result<u8, LogError> {
        let (first, rest) = self.0.split_first().ok_or(CUT)?;
        self.0 = rest;
        Ok(*first)
    }

    /// So many bytes.
    ///
    /// # Errors
    /// [`LogError`] when there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'b [u8], LogError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A fixed number of bytes.
    ///
    /// # Errors
    /// [`LogError`] when there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], LogError> {
        Ok(self.take(N)?.try_into().expect("the slice has the array's length"))
    }

    /// A varint.
    ///
    /// # Errors
    /// [`LogError`] when it is cut or has more than 64 bits.
    pub fn number(&mut self) -> Result<u64, LogError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(LogError("a number that is too large"))
    }

    /// A varint that is a count, at most `most`.
    ///
    /// # Errors
    /// [`LogError`] when it is more.
    pub fn count(&mut self, most: usize) -> Result<usize, LogError> {
        let count = usize::try_from(self.number()?).map_err(|_| LogError("a count that is too large"))?;
        if count <= most { Ok(count) } else { Err(LogError("a count that is too large")) }
    }

    /// A length and so many bytes.
    ///
    /// # Errors
    /// [`LogError`] when there are fewer, or more than `most`.
    pub fn bytes(&mut self, most: usize) -> Result<&'b [u8], LogError> {
        let count = self.count(most)?;
        self.take(count)
    }

    /// A length and so many bytes of UTF-8.
    ///
    /// # Errors
    /// As [`Decoder::bytes`], or when it is no UTF-8.
    pub fn text(&mut self, most: usize) -> Result<&'b str, LogError> {
        std::str::from_utf8(self.bytes(most)?).map_err(|_| LogError("a text that is no UTF-8"))
    }

    /// A value with its tag.
    ///
    /// # Errors
    /// [`LogError`] when it is none.
    pub fn value(&mut self) -> Result<ValueRef<'b>, LogError> {
        Ok(match self.byte()? {
            TAG_NULL => ValueRef::Null,
            TAG_INTEGER => {
                let zigzag = self.number()?;
                ValueRef::Integer((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
            }
            TAG_REAL => ValueRef::Real(f64::from_bits(u64::from_be_bytes(self.array()?))),
            TAG_TEXT => ValueRef::Text(self.text(LOG_BODY_BYTES)?.as_bytes()),
            TAG_BLOB => ValueRef::Blob(self.bytes(LOG_BODY_BYTES)?),
            _ => return Err(LogError("a value of an unknown kind")),
        })
    }
}

const CUT: LogError = LogError("it ends too early");

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogError(pub &'static str);

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is no record of a group commit: {}", self.0)
    }
}

impl std::error::Error for LogError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::params;

    use super::*;

    const FIRST: &str = "UPDATE a SET b = ?1";
    const SECOND: &str = "DELETE FROM a WHERE b = ?1";

    fn read(body: &[u8]) -> Result<Vec<String>, LogError> {
        let mut found = Vec::new();
        decode(body, |statement| {
            found.push(format!("{} {} {:?}", statement.sql, statement.changed, statement.params));
            Ok::<(), LogError>(())
        })?;
        Ok(found)
    }

    #[test]
    fn statements_come_out_as_they_went_in_and_texts_stand_once() {
        let mut log = GroupLog::default();
        log.push(FIRST, params![i64::MIN, "x", Option::<i64>::None, [1_u8, 2]], 1).unwrap();
        let mark = log.mark();
        log.push(SECOND, params![7], 0).unwrap();
        log.cut_back(mark);
        for number in [0_i64, -1, 1, i64::MAX] {
            log.push(FIRST, params![number], 3).unwrap();
        }
        let body = log.encode();
        assert!(!String::from_utf8_lossy(&body).contains("DELETE"), "what was undone is not there");
        assert_eq!(body.windows(FIRST.len()).filter(|window| *window == FIRST.as_bytes()).count(), 1);
        let found = read(&body).unwrap();
        assert_eq!(found.len(), 5);
        assert!(found[0].contains("-9223372036854775808") && found[0].contains("Null"), "{}", found[0]);
        assert!(found[4].contains("9223372036854775807"), "{}", found[4]);
    }

    #[test]
    fn every_field_and_the_row_before_change_the_digest() {
        let first = LogRow::after(None, 1, 5, vec![1, 2]);
        let second = LogRow::after(Some(&first.position), 1, 6, vec![3]);
        assert!(second.follows(Some(&first.position)) && first.follows(None));
        assert!(!second.follows(None), "there is a gap");
        for changed in [
            LogRow { at_unix_ms: 7, ..second.clone() },
            LogRow { body: vec![4], ..second.clone() },
            LogRow { position: Position { epoch: 2, ..second.position }, ..second.clone() },
            LogRow { position: Position { sequence: 3, ..second.position }, ..second.clone() },
        ] {
            assert!(!changed.follows(Some(&first.position)), "{changed:?}");
        }
        assert_ne!(marker_body(b"a"), marker_body(b"b"));
        assert_eq!(read(&marker_body(b"a")), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_take_much(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut body = vec![VERSION];
            body.extend(&bytes);
            let _ = read(&body);
            let _ = read(&bytes);
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0_usize..200, to in any::<u8>()) {
            let mut log = GroupLog::default();
            log.push(FIRST, params![5, "some text"], 1).unwrap();
            log.push(SECOND, params![5], 1).unwrap();
            let mut body = log.encode();
            let at = at % body.len();
            body[at] = to;
            let _ = read(&body);
        }
    }
}

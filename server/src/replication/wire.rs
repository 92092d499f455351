//! The frames of a replication stream, both ways.
//!
//! The stream begins where the answer to `replicate` ends: frames as everywhere on the branch port, a length and a
//! body, but bodies in the compact encoding of the log instead of JSON, because a snapshot is a whole database. A body
//! begins with one byte that says what it is. Reading trusts no count and no length.

use std::sync::Arc;

use protocol::frame::push_frame;

use crate::dbs_exec::{Decoder, LogDigest, LogError, LogRow, Position, Value, push_bytes, push_number, push_value};
use crate::limits::{FRAME_GROUPS, LOG_BODY_BYTES, MEMBERS, SNAPSHOT_CHUNK_BYTES, STREAM_FRAME_BYTES};

const GROUPS: u8 = 1;
const BEAT: u8 = 2;
const CHECK: u8 = 3;
const CHUNK: u8 = 4;
const END: u8 = 5;
const ACKNOWLEDGE: u8 = 6;

/// Longest name of a table or text of a key in a check, in bytes.
const NAME_BYTES: usize = 256;
/// Most columns of a key.
const KEY_COLUMNS: usize = 8;

/// What a primary sends.
#[derive(Clone, Debug, PartialEq)]
pub enum ToReplica {
    /// Groups, in order.
    Groups(Vec<Arc<LogRow>>),
    /// That it is there, how far its log is, and which other copies there are.
    Beat {
        /// The last group of its log.
        sequence: i64,
        /// The addresses of the branch's replicas.
        members: Vec<String>,
    },
    /// What some rows of a table look like after the last group that was sent.
    Check(Check),
    /// The next bytes of a snapshot.
    Chunk(Vec<u8>),
    /// The end of a snapshot.
    End {
        /// Its length.
        bytes: u64,
        /// Its SHA-256.
        digest: LogDigest,
    },
}

/// A slice of a table at the primary.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// After this group.
    pub sequence: i64,
    /// The table.
    pub table: String,
    /// Rows after this key; none for the first ones.
    pub after: Option<Vec<Value>>,
    /// At most so many rows.
    pub limit: usize,
    /// How many there are.
    pub rows: usize,
    /// Over all their columns.
    pub digest: LogDigest,
    /// The first and the last key, for people.
    pub keys: (String, String),
}

impl ToReplica {
    /// Appends it as a frame.
    ///
    /// # Errors
    /// [`LogError`] when it is longer than a frame may be.
    pub fn push(&self, out: &mut Vec<u8>) -> Result<(), LogError> {
        let mut body = Vec::new();
        match self {
            Self::Groups(rows) => {
                body.push(GROUPS);
                push_number(&mut body, rows.len() as u64);
                for row in rows {
                    push_signed(&mut body, row.position.sequence);
                    push_signed(&mut body, row.position.epoch);
                    body.extend_from_slice(&row.position.digest);
                    push_signed(&mut body, row.at_unix_ms);
                    push_bytes(&mut body, &row.body);
                }
            }
            Self::Beat { sequence, members } => {
                body.push(BEAT);
                push_signed(&mut body, *sequence);
                push_number(&mut body, members.len() as u64);
                members.iter().for_each(|member| push_bytes(&mut body, member.as_bytes()));
            }
            Self::Check(check) => push_check(&mut body, check),
            Self::Chunk(bytes) => {
                body.push(CHUNK);
                body.extend_from_slice(bytes);
            }
            Self::End { bytes, digest } => {
                body.push(END);
                push_number(&mut body, *bytes);
                body.extend_from_slice(digest);
            }
        }
        push_frame(out, &body, STREAM_FRAME_BYTES).map_err(|_| LogError("too long for a frame"))
    }

    /// Reads a frame's body.
    ///
    /// # Errors
    /// [`LogError`] when it is none.
    pub fn read(body: &[u8]) -> Result<Self, LogError> {
        let mut decoder = Decoder(body);
        let read = match decoder.byte()? {
            GROUPS => {
                let mut rows = Vec::new();
                for _ in 0..decoder.count(FRAME_GROUPS)? {
                    let (sequence, epoch) = (signed(&mut decoder)?, signed(&mut decoder)?);
                    let digest = decoder.array()?;
                    let at_unix_ms = signed(&mut decoder)?;
                    let body = decoder.bytes(LOG_BODY_BYTES)?.to_vec();
                    rows.push(Arc::new(LogRow { position: Position { sequence, epoch, digest }, at_unix_ms, body }));
                }
                Self::Groups(rows)
            }
            BEAT => {
                let sequence = signed(&mut decoder)?;
                let mut members = Vec::new();
                for _ in 0..decoder.count(MEMBERS)? {
                    members.push(decoder.text(NAME_BYTES)?.to_string());
                }
                Self::Beat { sequence, members }
            }
            CHECK => Self::Check(read_check(&mut decoder)?),
            CHUNK if decoder.0.len() <= SNAPSHOT_CHUNK_BYTES => {
                let rest = decoder.0.len();
                Self::Chunk(decoder.take(rest)?.to_vec())
            }
            END => Self::End { bytes: decoder.number()?, digest: decoder.array()? },
            _ => return Err(LogError("a frame of an unknown kind")),
        };
        if decoder.0.is_empty() { Ok(read) } else { Err(LogError("something after the end")) }
    }
}

/// Appends a replica's word that it has made the log durable up to `sequence`, as a frame.
pub fn push_acknowledge(out: &mut Vec<u8>, sequence: i64) {
    let mut body = vec![ACKNOWLEDGE];
    push_signed(&mut body, sequence);
    push_frame(out, &body, STREAM_FRAME_BYTES).expect("a number is far below the longest frame");
}

/// Reads such a frame's body.
///
/// # Errors
/// [`LogError`] when it is none.
pub fn read_acknowledge(body: &[u8]) -> Result<i64, LogError> {
    let mut decoder = Decoder(body);
    match decoder.byte()? {
        ACKNOWLEDGE => signed(&mut decoder),
        _ => Err(LogError("a frame of an unknown kind")),
    }
}

fn push_check(body: &mut Vec<u8>, check: &Check) {
    body.push(CHECK);
    push_signed(body, check.sequence);
    push_bytes(body, check.table.as_bytes());
    match &check.after {
        None => push_number(body, 0),
        Some(key) => {
            push_number(body, key.len() as u64);
            key.iter().for_each(|value| push_value(body, value.into()));
        }
    }
    push_number(body, check.limit as u64);
    push_number(body, check.rows as u64);
    body.extend_from_slice(&check.digest);
    for key in [&check.keys.0, &check.keys.1] {
        let short: String = key.chars().take(NAME_BYTES / 4).collect();
        push_bytes(body, short.as_bytes());
    }
}

fn read_check(decoder: &mut Decoder<'_>) -> Result<Check, LogError> {
    let sequence = signed(decoder)?;
    let table = decoder.text(NAME_BYTES)?.to_string();
    let mut key = Vec::new();
    for _ in 0..decoder.count(KEY_COLUMNS)? {
        key.push(decoder.value()?.try_into().map_err(|_| LogError("a key that cannot be read"))?);
    }
    Ok(Check {
        sequence,
        table,
        after: if key.is_empty() { None } else { Some(key) },
        limit: decoder.count(crate::limits::CHECK_ROWS)?,
        rows: decoder.count(crate::limits::CHECK_ROWS)?,
        digest: decoder.array()?,
        keys: (decoder.text(NAME_BYTES)?.to_string(), decoder.text(NAME_BYTES)?.to_string()),
    })
}

/// Times may be before 1970; the rest is never below zero.
fn push_signed(out: &mut Vec<u8>, number: i64) {
    push_value(out, crate::dbs_exec::ValueRef::Integer(number));
}

fn signed(decoder: &mut Decoder<'_>) -> Result<i64, LogError> {
    match decoder.value()? {
        crate::dbs_exec::ValueRef::Integer(number) => Ok(number),
        _ => Err(LogError("a number was expected")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::frame::read_frame;

    use super::*;

    fn through_the_wire(frame: &ToReplica) -> Result<ToReplica, LogError> {
        let (mut out, mut body) = (Vec::new(), Vec::new());
        frame.push(&mut out)?;
        assert!(read_frame(&mut &out[..], STREAM_FRAME_BYTES, &mut body).unwrap());
        ToReplica::read(&body)
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let first = LogRow::after(None, 1, -5, vec![1, 2, 3]);
        let second = LogRow::after(Some(&first.position), 2, 7, Vec::new());
        let check = Check {
            sequence: 9,
            table: "answers".into(),
            after: Some(vec![Value::Text("key".into()), Value::Integer(5)]),
            limit: 100,
            rows: 3,
            digest: [7; 32],
            keys: ("a".into(), "b".into()),
        };
        for frame in [
            ToReplica::Groups(vec![Arc::new(first), Arc::new(second)]),
            ToReplica::Beat { sequence: 3, members: vec!["127.0.0.1:9200".into()] },
            ToReplica::Check(Check { after: None, ..check.clone() }),
            ToReplica::Check(check),
            ToReplica::Chunk(vec![0; 1000]),
            ToReplica::End { bytes: 1 << 40, digest: [1; 32] },
        ] {
            assert_eq!(through_the_wire(&frame), Ok(frame));
        }
        let mut out = Vec::new();
        push_acknowledge(&mut out, 1 << 40);
        assert_eq!(read_acknowledge(&out[4..]), Ok(1 << 40));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(kind in 0_u8..8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut body = vec![kind];
            body.extend(bytes);
            let _ = ToReplica::read(&body);
            let _ = read_acknowledge(&body);
        }
    }
}

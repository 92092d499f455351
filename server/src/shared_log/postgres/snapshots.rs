//! Copies of the books in `bank_snapshot`: written by the owner, read by whoever has none or is too far behind.
//!
//! A copy is as long as the database, so it goes in pieces, one statement each, with the head as piece 0 at the end: a
//! copy without a head is none. Only the head is fenced; what a deposed owner leaves without one is cleared away by the
//! next copy.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{PostgresStore, Trouble};
use crate::dbs_exec::{Decoder, LogError, LogRow, Position, push_bytes, push_number};
use crate::limits::{LOG_SNAPSHOT_TRY, LOG_TRY, SNAPSHOT_CHUNK_BYTES};
use crate::shared_log::SnapshotHead;

const ADD_PIECE: &str = "INSERT INTO bank_snapshot (branch, sequence, piece, body) VALUES ($1, $2, $3, $4)";

/// As the statement that appends a row: only the owner's word makes a copy whole.
const ADD_HEAD: &str = "\
INSERT INTO bank_snapshot (branch, sequence, piece, body)
SELECT $1::text, $2::int8, 0, $3::bytea FROM bank_owner WHERE branch = $1 AND epoch = $4::int8 AND owner = $5::text
FOR SHARE OF bank_owner";

/// Rows up to the copy before the newest stay, so that a process that is a little behind needs no copy; the newest row
/// always stays, because the next one stands on it.
const CUT_LOG: &str = "\
DELETE FROM bank_commit_log WHERE branch = $1 AND sequence < least(
    (SELECT max(sequence) FROM bank_snapshot WHERE branch = $1 AND piece = 0 AND sequence < $2),
    (SELECT max(sequence) FROM bank_commit_log WHERE branch = $1))";

/// The copy before the newest goes with the one after it.
const CUT_COPIES: &str = "\
DELETE FROM bank_snapshot WHERE branch = $1 AND sequence < $2
  AND sequence <> coalesce((SELECT max(sequence) FROM bank_snapshot WHERE branch = $1 AND piece = 0 AND sequence < $2), 0)";

fn encode(head: &SnapshotHead) -> Vec<u8> {
    let mut body = Vec::new();
    push_number(&mut body, head.position.epoch.unsigned_abs());
    push_bytes(&mut body, &head.position.digest);
    push_number(&mut body, u64::from(head.pieces.unsigned_abs()));
    push_number(&mut body, head.bytes);
    push_bytes(&mut body, &head.digest);
    body
}

fn decode(sequence: i64, body: &[u8]) -> Result<SnapshotHead, LogError> {
    let mut decoder = Decoder(body);
    let epoch = decoder.count(i64::MAX as usize)? as i64;
    let wrong = |_| LogError("a snapshot's head with a digest of another length");
    let position = Position { sequence, epoch, digest: decoder.bytes(32)?.try_into().map_err(wrong)? };
    let pieces = decoder.count(i32::MAX as usize)? as i32;
    let bytes = decoder.number()?;
    Ok(SnapshotHead { position, pieces, bytes, digest: decoder.bytes(32)?.try_into().map_err(wrong)? })
}

/// Shows each piece of a file to `each`, and returns its head.
fn read_pieces(
    snapshot: &Path,
    position: &Position,
    mut each: impl FnMut(i32, Vec<u8>) -> Result<(), Trouble>,
) -> Result<SnapshotHead, Trouble> {
    let failed = |error: std::io::Error| Trouble(format!("{}: {error}", snapshot.display()));
    let mut file = File::open(snapshot).map_err(failed)?;
    let (mut hasher, mut bytes, mut pieces) = (Sha256::new(), 0, 0);
    loop {
        let mut piece = Vec::new();
        let limit = SNAPSHOT_CHUNK_BYTES as u64;
        Read::by_ref(&mut file).take(limit).read_to_end(&mut piece).map_err(failed)?;
        if piece.is_empty() {
            return Ok(SnapshotHead { position: *position, pieces, bytes, digest: hasher.finalize().into() });
        }
        hasher.update(&piece);
        bytes += piece.len() as u64;
        pieces += 1;
        each(pieces, piece)?;
    }
}

/// Begins the log, in one transaction: whoever is second finds all of it, or nothing.
pub fn begin(store: &PostgresStore, epoch: i64, row: &LogRow, snapshot: &Path) -> Result<bool, Trouble> {
    let add_owner = "INSERT INTO bank_owner (branch, epoch, owner, address, beats, heard)
        VALUES ($1, $2, $3, $4, 1, now()) ON CONFLICT (branch) DO NOTHING";
    let add_row = "INSERT INTO bank_commit_log (branch, sequence, epoch, digest, at_unix_ms, body)
        VALUES ($1, $2, $3, $4, $5, $6)";
    let Position { sequence, epoch: row_epoch, digest } = row.position;
    store.call(&store.moving, LOG_TRY, async |client| client.batch_execute("BEGIN").await)?;
    let begun = (|| {
        let changed = store.call(&store.moving, LOG_TRY, async |client| {
            client.execute(add_owner, &[&store.branch, &epoch, &store.id, &store.address]).await
        })?;
        if changed == 0 {
            return Ok(false);
        }
        store.call(&store.moving, LOG_TRY, async |client| {
            let digest = &digest[..];
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                [&store.branch, &sequence, &row_epoch, &digest, &row.at_unix_ms, &row.body];
            client.execute(add_row, &params).await
        })?;
        let head = read_pieces(snapshot, &row.position, |piece, body| add(store, sequence, piece, &body))?;
        add(store, sequence, 0, &encode(&head))?;
        Ok(true)
    })();
    let end = if matches!(begun, Ok(true)) { "COMMIT" } else { "ROLLBACK" };
    store.call(&store.moving, LOG_TRY, async |client| client.batch_execute(end).await)?;
    begun
}

fn add(store: &PostgresStore, sequence: i64, piece: i32, body: &[u8]) -> Result<(), Trouble> {
    store.call(&store.moving, LOG_SNAPSHOT_TRY, async |client| {
        client.execute(ADD_PIECE, &[&store.branch, &sequence, &piece, &body]).await
    })?;
    Ok(())
}

/// Keeps a copy, and forgets what nobody needs then.
pub fn keep(store: &PostgresStore, epoch: i64, position: &Position, snapshot: &Path) -> Result<bool, Trouble> {
    let sequence = position.sequence;
    // An earlier try may have left pieces of the same number.
    let clear = "DELETE FROM bank_snapshot WHERE branch = $1 AND sequence = $2
        AND NOT EXISTS (SELECT FROM bank_snapshot WHERE branch = $1 AND sequence = $2 AND piece = 0)";
    let execute = |sql: &'static str| {
        store.call(&store.moving, LOG_SNAPSHOT_TRY, async |client| {
            client.execute(sql, &[&store.branch, &sequence]).await
        })
    };
    execute(clear)?;
    let head = read_pieces(snapshot, position, |piece, body| add(store, sequence, piece, &body))?;
    let body = encode(&head);
    let changed = store.call(&store.moving, LOG_TRY, async |client| {
        client.execute(ADD_HEAD, &[&store.branch, &sequence, &body, &epoch, &store.id]).await
    })?;
    if changed == 0 {
        return Ok(false);
    }
    execute(CUT_LOG)?;
    execute(CUT_COPIES)?;
    store.call(&store.moving, LOG_TRY, async |client| {
        client.execute("DELETE FROM bank_process WHERE heard < now() - interval '1 day'", &[]).await
    })?;
    Ok(true)
}

/// What the copy at a number is.
pub fn head(store: &PostgresStore, sequence: i64) -> Result<Option<SnapshotHead>, Trouble> {
    let sql = "SELECT body FROM bank_snapshot WHERE branch = $1 AND sequence = $2 AND piece = 0";
    let row =
        store.call(&store.moving, LOG_TRY, async |client| client.query_opt(sql, &[&store.branch, &sequence]).await)?;
    row.map(|row| decode(sequence, row.get(0)).map_err(|error| Trouble(error.to_string()))).transpose()
}

/// A piece of it.
pub fn piece(store: &PostgresStore, sequence: i64, piece: i32) -> Result<Vec<u8>, Trouble> {
    let sql = "SELECT body FROM bank_snapshot WHERE branch = $1 AND sequence = $2 AND piece = $3";
    let row = store.call(&store.moving, LOG_SNAPSHOT_TRY, async |client| {
        client.query_opt(sql, &[&store.branch, &sequence, &piece]).await
    })?;
    row.map(|row| row.get(0)).ok_or_else(|| Trouble("a newer snapshot has taken this one's place".into()))
}

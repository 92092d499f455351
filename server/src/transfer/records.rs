//! The two machines' log, as rows.
//!
//! A coordinator's transaction is one row of `coordinated`, a participant's one of `prepared`; a record of
//! the protocol moves the row to its next state. Rows of transactions that have ended stay for a while (a
//! tombstone must outlive every copy of its prepare) and are then deleted; the rows in the books stay for ever
//! and go on answering for them.

use std::sync::Arc;

use protocol::TxId;
use serde_json::from_str;
use two_phase_commit::{OnDisk, Outcome, Record, Transfer};

use crate::dbs_exec::{Query, Row, Tx, params};
use crate::error::{Error, Result};

/// Makes one record part of the open transaction.
///
/// # Errors
/// Trouble of the database.
pub fn write(tx: &mut Tx<'_>, record: &Record, now_unix_ms: i64) -> Result<()> {
    let txid = record.txid().as_str();
    match record {
        Record::Begun(transfer) => tx.execute(
            "INSERT INTO coordinated (txid, transfer, state, changed_unix_ms) VALUES (?1, ?2, 'begun', ?3)",
            params![txid, to_json(transfer)?, now_unix_ms],
        ),
        Record::Committed { .. } => tx.execute(
            "UPDATE coordinated SET state = 'committed', changed_unix_ms = ?2 WHERE txid = ?1",
            params![txid, now_unix_ms],
        ),
        // Presumed abort: a row that is not there means the same.
        Record::Aborted { .. } => tx.execute("DELETE FROM coordinated WHERE txid = ?1", params![txid]),
        Record::Ended { .. } => tx.execute(
            "UPDATE coordinated SET state = 'ended', changed_unix_ms = ?2 WHERE txid = ?1",
            params![txid, now_unix_ms],
        ),
        Record::Prepared(transfer) => tx.execute(
            "INSERT INTO prepared (txid, transfer, state, prepared_unix_ms, changed_unix_ms)
             VALUES (?1, ?2, 'prepared', ?3, ?3)
             ON CONFLICT (txid) DO UPDATE SET transfer = excluded.transfer, changed_unix_ms = excluded.changed_unix_ms",
            params![txid, to_json(transfer)?, now_unix_ms],
        ),
        Record::Settled { outcome, by_hand, .. } => tx.execute(
            "INSERT INTO prepared (txid, state, by_hand, prepared_unix_ms, changed_unix_ms)
             VALUES (?1, ?2, ?3, ?4, ?4)
             ON CONFLICT (txid) DO UPDATE SET state = excluded.state, by_hand = excluded.by_hand,
                 changed_unix_ms = excluded.changed_unix_ms",
            params![txid, outcome_text(*outcome), by_hand.as_deref(), now_unix_ms],
        ),
        Record::Confirmed { .. } => tx.execute("UPDATE prepared SET confirmed = 1 WHERE txid = ?1", params![txid]),
        Record::Mixed { theirs, .. } => tx.execute(
            "UPDATE prepared SET mixed = ?2, changed_unix_ms = ?3 WHERE txid = ?1",
            params![txid, outcome_text(*theirs), now_unix_ms],
        ),
    }?;
    Ok(())
}

/// Deletes rows of transactions that ended before `ended_before_unix_ms`, at most `limit` of each kind.
///
/// # Errors
/// Trouble of the database.
pub fn prune(tx: &mut Tx<'_>, ended_before_unix_ms: i64, limit: usize) -> Result<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let coordinated = tx.execute(
        "DELETE FROM coordinated WHERE txid IN (SELECT txid FROM coordinated
             WHERE state = 'ended' AND changed_unix_ms < ?1 ORDER BY txid LIMIT ?2)",
        params![ended_before_unix_ms, limit],
    )?;
    // What was settled by hand stays until its coordinator has confirmed it; what turned out mixed stays.
    let prepared = tx.execute(
        "DELETE FROM prepared WHERE txid IN (SELECT txid FROM prepared
             WHERE state <> 'prepared' AND mixed IS NULL AND (by_hand IS NULL OR confirmed = 1)
               AND changed_unix_ms < ?1 ORDER BY txid LIMIT ?2)",
        params![ended_before_unix_ms, limit],
    )?;
    Ok(coordinated + prepared)
}

/// The records that the coordinator recovers from: everything that has not ended.
///
/// # Errors
/// Trouble of the database.
pub fn coordinators(query: &impl Query) -> Result<Vec<Record>> {
    let rows = query.query_all(
        "SELECT transfer, state FROM coordinated WHERE state IN ('begun', 'committed')",
        params![],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
    )?;
    let mut records = Vec::new();
    for (json, state) in rows {
        let transfer = from_json(&json)?;
        let txid = transfer.txid.clone();
        records.push(Record::Begun(transfer));
        if state == "committed" {
            records.push(Record::Committed { txid });
        }
    }
    Ok(records)
}

/// The records that the participant recovers from: what is prepared, and what was settled by hand and not
/// confirmed.
///
/// # Errors
/// Trouble of the database.
pub fn participants(query: &impl Query) -> Result<Vec<Record>> {
    let rows = query.query_all(
        "SELECT transfer, state, by_hand FROM prepared
         WHERE transfer IS NOT NULL AND mixed IS NULL
           AND (state = 'prepared' OR (by_hand IS NOT NULL AND confirmed = 0))",
        params![],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?)),
    )?;
    let mut records = Vec::new();
    for (json, state, by_hand) in rows {
        let transfer = from_json(&json)?;
        let txid = transfer.txid.clone();
        records.push(Record::Prepared(transfer));
        if let Some(outcome) = outcome_from(&state) {
            records.push(Record::Settled { txid, outcome, by_hand: by_hand.map(Into::into) });
        }
    }
    Ok(records)
}

/// What the tables say of a transaction that the participant does not remember.
///
/// # Errors
/// Trouble of the database.
pub fn on_disk(query: &impl Query, txid: &TxId) -> Result<OnDisk> {
    let row = query.query_opt("SELECT state, mixed FROM prepared WHERE txid = ?1", params![txid.as_str()], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
    })?;
    Ok(match row {
        Some((_, Some(_))) => OnDisk::Mixed,
        Some((state, None)) => outcome_from(&state).map_or(OnDisk::Nothing, OnDisk::Settled),
        None if is_in_the_books(query, txid)? => OnDisk::Settled(Outcome::Committed),
        None => OnDisk::Nothing,
    })
}

/// Whether a leg of this transaction stands in the books here: then it was committed.
///
/// # Errors
/// Trouble of the database.
pub fn is_in_the_books(query: &impl Query, txid: &TxId) -> Result<bool> {
    let sql = "SELECT 1 FROM transactions WHERE txid = ?1 AND leg >= 0 LIMIT 1";
    Ok(query.query_opt(sql, params![txid.as_str()], |_| Ok(()))?.is_some())
}

/// Since when a transaction is prepared here, or in its present state at its coordinator here, in Unix
/// milliseconds.
///
/// # Errors
/// Trouble of the database.
pub fn since(query: &impl Query, txid: &TxId) -> Result<Option<i64>> {
    query.query_opt(
        "SELECT prepared_unix_ms FROM prepared WHERE txid = ?1
         UNION ALL SELECT changed_unix_ms FROM coordinated WHERE txid = ?1 LIMIT 1",
        params![txid.as_str()],
        |row| row.get(0),
    )
}

/// Transfers that were settled by hand and whose coordinator has not said its word: each with how it was
/// settled.
///
/// # Errors
/// Trouble of the database.
pub fn unconfirmed(query: &impl Query) -> Result<Vec<(Arc<Transfer>, String)>> {
    let rows = query.query_all(
        "SELECT transfer, state FROM prepared
         WHERE by_hand IS NOT NULL AND confirmed = 0 AND mixed IS NULL AND transfer IS NOT NULL",
        params![],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
    )?;
    rows.into_iter().map(|(json, state)| Ok((from_json(&json)?, state))).collect()
}

/// Shows `each` every transfer that holds something at this branch: prepared here, or begun here.
///
/// # Errors
/// Trouble of the database.
pub fn each_holding(query: &impl Query, mut each: impl FnMut(&Transfer)) -> Result<()> {
    let mut unreadable = None;
    query.query_each(
        "SELECT transfer FROM prepared WHERE state = 'prepared' AND transfer IS NOT NULL
         UNION ALL SELECT transfer FROM coordinated WHERE state = 'begun'",
        params![],
        |row: &Row<'_>| {
            match from_json(&row.get::<_, String>(0)?) {
                Ok(transfer) => each(&transfer),
                Err(error) => unreadable = Some(error),
            }
            Ok(())
        },
    )?;
    unreadable.map_or(Ok(()), Err)
}

fn to_json(transfer: &Transfer) -> Result<String> {
    serde_json::to_string(transfer).map_err(|error| Error::Database(format!("a transfer cannot be written: {error}")))
}

fn from_json(json: &str) -> Result<Arc<Transfer>> {
    from_str(json).map_err(|error| Error::Database(format!("a stored transfer cannot be read: {error}")))
}

const fn outcome_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Committed => "committed",
        Outcome::Aborted => "aborted",
    }
}

fn outcome_from(state: &str) -> Option<Outcome> {
    match state {
        "committed" => Some(Outcome::Committed),
        "aborted" => Some(Outcome::Aborted),
        _ => None,
    }
}

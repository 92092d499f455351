//! The two machines' log, as rows.
//!
//! A coordinator's transaction is one row of `coordinated`, a participant's one of `prepared`; a record of
//! the protocol moves the row to its next state. Rows of transactions that have ended stay for a while (a
//! tombstone must outlive every copy of its prepare) and are then deleted; the rows in the books stay for ever
//! and go on answering for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::{BranchName, TxId};
use serde_json::from_str;
use two_phase_commit::{Booked, OnDisk, Outcome, PeerAddr, Record, Refusal, Transfer};

use crate::dbs_exec::{Kind, Query, Row, Tx, params};
use crate::error::{Error, Result};
use crate::limits::ENDED_KEPT;
use crate::running_time;

/// The other end of a leg whose coordinator is an outside program without a name.
pub const OUTSIDE: &str = "outside";

/// The digits of the ids that a branch gives.
const OWN_ID_DIGITS: usize = 19;

/// Makes one record part of the open transaction.
///
/// # Errors
/// A database error.
pub fn write(tx: &mut Tx<'_>, record: &Record, now_unix_ms: i64) -> Result<()> {
    let txid = record.txid().as_str();
    match record {
        // The whole transfer: after a restart it says what is to be released, and whom to tell.
        Record::Begun(transfer) => tx.execute(
            "INSERT INTO coordinated (txid, transfer, state, changed_unix_ms) VALUES (?1, ?2, 'begun', ?3)",
            params![txid, to_json(transfer)?, now_unix_ms],
        ),
        // The commit point is the durability of this one word, in one transaction with the coordinator's own legs.
        Record::Committed { .. } => tx.execute(
            "UPDATE coordinated SET state = 'committed', changed_unix_ms = ?2 WHERE txid = ?1",
            params![txid, now_unix_ms],
        ),
        // Presumed abort: a row that is not there means the same.
        Record::Aborted { .. } => tx.execute("DELETE FROM coordinated WHERE txid = ?1", params![txid]),
        // Whatever was contradicted has been followed after all.
        Record::Ended { .. } => {
            tx.execute("DELETE FROM contradicted WHERE txid = ?1", params![txid])?;
            end_coordinated(tx, txid)
        }
        // A table of its own, since an abort has no row that could say so; no audit passes while a row is here.
        Record::Contradicted { transfer, ours, by, refusal } => tx.execute(
            "INSERT INTO contradicted (txid, peer, transfer, outcome, code, text, since_unix_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (txid, peer) DO NOTHING",
            params![
                txid,
                by.as_str(),
                to_json(transfer)?,
                outcome_text(*ours),
                refusal.code.as_ref(),
                refusal.text.as_ref(),
                now_unix_ms
            ],
        ),
        // The person's reason is kept for ever; the rest of the row goes in its time.
        Record::Resolved { outcome, reason, .. } => {
            note_by_hand(tx, txid, *outcome, reason, now_unix_ms)?;
            tx.execute("DELETE FROM contradicted WHERE txid = ?1", params![txid])?;
            end_coordinated(tx, txid)
        }
        // A further leg replaces the transfer, and leaves the time since which it is in doubt.
        Record::Prepared(transfer) => tx.execute(
            "INSERT INTO prepared (txid, transfer, state, prepared_unix_ms, changed_unix_ms)
             VALUES (?1, ?2, 'prepared', ?3, ?3)
             ON CONFLICT (txid) DO UPDATE SET transfer = excluded.transfer, changed_unix_ms = excluded.changed_unix_ms",
            params![txid, to_json(transfer)?, now_unix_ms],
        ),
        Record::Settled { outcome, by_hand, .. } => {
            if let Some(reason) = by_hand {
                note_by_hand(tx, txid, *outcome, reason, now_unix_ms)?;
            }
            settle_prepared(tx, txid, *outcome, by_hand.as_deref(), now_unix_ms)
        }
        // Now the row may be deleted in its time.
        Record::Confirmed { .. } => tx.execute("UPDATE prepared SET confirmed = 1 WHERE txid = ?1", params![txid]),
        // It stays: whoever delivers again, however late, is to hear that it is mixed.
        Record::Mixed { theirs, .. } => tx.execute(
            "UPDATE prepared SET mixed = ?2, changed_unix_ms = ?3 WHERE txid = ?1",
            params![txid, outcome_text(*theirs), now_unix_ms],
        ),
    }?;
    Ok(())
}

/// How long rows are kept after their end counts in running time.
fn end_coordinated(tx: &mut Tx<'_>, txid: &str) -> Result<usize> {
    let ended_unix_ms = running_time::stamp(tx)?;
    tx.execute(
        "UPDATE coordinated SET state = 'ended', changed_unix_ms = ?2 WHERE txid = ?1",
        params![txid, ended_unix_ms],
    )
}

fn note_by_hand(tx: &mut Tx<'_>, txid: &str, outcome: Outcome, reason: &str, now_unix_ms: i64) -> Result<usize> {
    tx.execute(
        "INSERT INTO settled_by_hand (txid, at_unix_ms, outcome, reason) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (txid, at_unix_ms) DO UPDATE SET outcome = excluded.outcome, reason = excluded.reason",
        params![txid, now_unix_ms, outcome_text(outcome), reason],
    )
}

fn settle_prepared(
    tx: &mut Tx<'_>,
    txid: &str,
    outcome: Outcome,
    by_hand: Option<&str>,
    now_unix_ms: i64,
) -> Result<usize> {
    let ended_unix_ms = running_time::stamp(tx)?;
    tx.execute(
        "INSERT INTO prepared (txid, state, by_hand, prepared_unix_ms, changed_unix_ms)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (txid) DO UPDATE SET state = excluded.state, by_hand = excluded.by_hand,
                 changed_unix_ms = excluded.changed_unix_ms",
        params![txid, outcome_text(outcome), by_hand, now_unix_ms, ended_unix_ms],
    )
}

/// Deletes rows of transactions that ended long enough ago, at most `limit` of each kind.
///
/// # Errors
/// A database error.
pub fn prune(tx: &mut Tx<'_>, limit: usize) -> Result<usize> {
    let ended_before_unix_ms = running_time::kept_before(tx, ENDED_KEPT)?;
    // A look first: a statement that deletes nothing would still be a commit.
    let some = tx.query_opt(
        "SELECT 1 FROM coordinated WHERE state = 'ended' AND changed_unix_ms < ?1
         UNION ALL SELECT 1 FROM prepared WHERE state <> 'prepared' AND mixed IS NULL
             AND (by_hand IS NULL OR confirmed = 1) AND changed_unix_ms < ?1 LIMIT 1",
        params![ended_before_unix_ms],
        |_| Ok(()),
    )?;
    if some.is_none() {
        return Ok(0);
    }
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
/// A database error.
pub fn coordinators(query: &impl Query) -> Result<Vec<Record>> {
    let rows = query.query_all(
        "SELECT transfer, state FROM coordinated WHERE state IN ('begun', 'committed')",
        params![],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
    )?;
    let mut records = Vec::new();
    for (json, state) in rows {
        // A row keeps only its last state, so the records before it are told again.
        let transfer = from_json(&json)?;
        let txid = transfer.txid.clone();
        records.push(Record::Begun(transfer));
        // Without it the machine takes it as undecided at the crash, and aborts.
        if state == "committed" {
            records.push(Record::Committed { txid });
        }
    }
    let open = contradictions(query)?.into_iter();
    records.extend(open.map(|Contradiction { transfer, ours, by, refusal, .. }| Record::Contradicted {
        transfer,
        ours,
        by,
        refusal,
    }));
    Ok(records)
}

/// A decision of this branch that another one has said it can't follow, and that nobody has settled.
#[derive(Clone, Debug)]
pub struct Contradiction {
    /// What it moves.
    pub transfer: Arc<Transfer>,
    /// What was decided here.
    pub ours: Outcome,
    /// Who can't follow.
    pub by: PeerAddr,
    /// Why not.
    pub refusal: Refusal,
    /// Since when, in Unix milliseconds.
    pub since_unix_ms: i64,
}

/// All of them, in the order of their ids. Each is a finding of every audit.
///
/// # Errors
/// A database error.
pub fn contradictions(query: &impl Query) -> Result<Vec<Contradiction>> {
    let rows = query.query_all(
        "SELECT transfer, outcome, peer, code, text, since_unix_ms FROM contradicted ORDER BY txid, peer",
        params![],
        |row| {
            let refusal = Refusal::new(row.get::<_, String>(3)?, row.get::<_, String>(4)?);
            let (json, outcome, peer): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok((json, outcome, PeerAddr::new(&peer), refusal, row.get::<_, i64>(5)?))
        },
    )?;
    let read = |(json, outcome, by, refusal, since_unix_ms): (String, String, _, _, _)| {
        let ours = outcome_from(&outcome).ok_or_else(|| Error::Database(format!("a stored outcome is {outcome}")))?;
        Ok(Contradiction { transfer: from_json(&json)?, ours, by, refusal, since_unix_ms })
    };
    rows.into_iter().map(read).collect()
}

/// The records that the participant recovers from: what is prepared, and what was settled by hand and not
/// confirmed.
///
/// # Errors
/// A database error.
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
        // The machine reads what was promised first, and then how it ended.
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
/// A database error.
pub fn on_disk(query: &impl Query, txid: &TxId) -> Result<OnDisk> {
    // What stands in the books was committed, whatever the log says or has forgotten.
    let is_booked = is_in_the_books(query, txid)?;
    let row = query.query_opt("SELECT state, mixed FROM prepared WHERE txid = ?1", params![txid.as_str()], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
    })?;
    Ok(match row {
        Some((_, Some(_))) => OnDisk::Mixed,
        // Also without a row: the log is pruned, the books never are.
        Some(_) | None if is_booked => OnDisk::Settled(Outcome::Committed),
        Some((state, None)) => outcome_from(&state).map_or(OnDisk::Nothing, OnDisk::Settled),
        None => OnDisk::Nothing,
    })
}

/// What the books say of a transaction that the coordinator does not remember (rule 12). Only for an id that this
/// branch has given itself do they say what its coordinator decided: a leg under another's id was booked by another's
/// decision.
///
/// # Errors
/// A database error.
pub fn booked(query: &impl Query, own_name: &BranchName, txid: &TxId) -> Result<Booked> {
    if !is_own_id(own_name, txid) {
        return Ok(Booked::Nothing);
    }
    let legs = query.query_all(
        "SELECT leg, peer FROM transactions WHERE txid = ?1 AND (leg < 0 OR kind = ?2)",
        params![txid.as_str(), Kind::TransferOut.number()],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?)),
    )?;
    if legs.iter().all(|(leg, _)| *leg < 0) {
        // Nothing was sent from here: it was never committed, or its rows are a settlement's alone.
        return Ok(Booked::Nothing);
    }
    let peers = |is_settlement: bool| -> BTreeSet<PeerAddr> {
        let legs = legs.iter().filter(|(leg, _)| (*leg < 0) == is_settlement);
        legs.filter_map(|(_, peer)| peer.as_deref().map(PeerAddr::new)).collect()
    };
    // A part that a person has settled is no longer committed: its money stands on the suspense account.
    Ok(Booked::Committed(peers(false).difference(&peers(true)).cloned().collect()))
}

/// Whether an id is one that this branch's coordinator gives: its name, a hyphen and 19 hexadecimal digits.
#[must_use]
pub fn is_own_id(own_name: &BranchName, txid: &TxId) -> bool {
    let digits = txid.as_str().strip_prefix(own_name.as_str()).and_then(|rest| rest.strip_prefix('-'));
    digits.is_some_and(|digits| {
        digits.len() == OWN_ID_DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Refuses the participant what has an id of this branch's coordinator, or one that has ended here: two transactions
/// would share one id (rule 11).
///
/// # Errors
/// [`Error::TxIdReused`], [`Error::TransferSettled`], or a database error.
pub fn refuse_known(query: &impl Query, own_name: &BranchName, transfer: &Transfer) -> Result<()> {
    let txid = transfer.txid.as_str();
    let is_coordinators = transfer.coordinator.as_ref() == Some(&PeerAddr::from(own_name));
    // The coordinator's own hold comes by here, too. Nobody else has anything under an id of this branch.
    if !is_coordinators && is_own_id(own_name, &transfer.txid) {
        return Err(Error::TxIdReused(transfer.txid.clone()));
    }
    let known = query.query_opt(
        "SELECT 1 FROM transactions WHERE txid = ?1 UNION ALL SELECT 1 FROM coordinated WHERE txid = ?1
         UNION ALL SELECT 0 FROM prepared WHERE txid = ?1 AND state <> 'prepared' LIMIT 1",
        params![txid],
        |row| row.get::<_, bool>(0),
    )?;
    match known {
        // Paid, or under way as a transfer that this branch has begun.
        Some(true) => Err(Error::TxIdReused(transfer.txid.clone())),
        // Ended here, most likely by the abort that has overtaken this prepare (rule 8).
        Some(false) => Err(Error::TransferSettled(transfer.txid.clone())),
        None => Ok(()),
    }
}

/// The branch that coordinates, or coordinated, what is here under this id at the participant; none when an outside
/// program did, or when there is nothing.
///
/// # Errors
/// A database error.
pub fn coordinator_of(query: &impl Query, txid: &TxId) -> Result<Option<PeerAddr>> {
    let sql = "SELECT transfer FROM prepared WHERE txid = ?1 AND transfer IS NOT NULL";
    if let Some(json) = query.query_opt(sql, params![txid.as_str()], |row| row.get::<_, String>(0))? {
        return Ok(from_json(&json)?.coordinator.clone());
    }
    // The log has forgotten it; the books have the branch at the other end.
    let sql = "SELECT peer FROM transactions WHERE txid = ?1 AND peer IS NOT NULL LIMIT 1";
    let peer = query.query_opt(sql, params![txid.as_str()], |row| row.get::<_, String>(0))?;
    Ok(peer.filter(|peer| peer != OUTSIDE).map(|peer| PeerAddr::new(&peer)))
}

/// Whether a leg of this transaction stands in the books here: then it was committed.
///
/// # Errors
/// A database error.
pub fn is_in_the_books(query: &impl Query, txid: &TxId) -> Result<bool> {
    let sql = "SELECT 1 FROM transactions WHERE txid = ?1 AND leg >= 0 LIMIT 1";
    Ok(query.query_opt(sql, params![txid.as_str()], |_| Ok(()))?.is_some())
}

/// Since when a transaction is prepared here, or in its present state at its coordinator here, in Unix
/// milliseconds.
///
/// # Errors
/// A database error.
pub fn since(query: &impl Query, txid: &TxId) -> Result<Option<i64>> {
    query.query_opt(
        "SELECT prepared_unix_ms FROM prepared WHERE txid = ?1
         UNION ALL SELECT min(since_unix_ms) FROM contradicted WHERE txid = ?1 HAVING count(*) > 0
         UNION ALL SELECT changed_unix_ms FROM coordinated WHERE txid = ?1 LIMIT 1",
        params![txid.as_str()],
        |row| row.get(0),
    )
}

/// Shows `each` every transfer that holds something at this branch: prepared here, or begun here.
///
/// # Errors
/// A database error.
pub fn each_holding(query: &impl Query, mut each: impl FnMut(&Transfer)) -> Result<()> {
    let mut unreadable = None;
    query.query_each(
        "SELECT transfer FROM prepared WHERE state = 'prepared' AND transfer IS NOT NULL
         UNION ALL SELECT transfer FROM coordinated WHERE state = 'begun'",
        params![],
        |row: &Row<'_>| {
            match from_json(&row.get::<_, String>(0)?) {
                Ok(transfer) => each(&transfer),
                // Kept aside: only SQLite's own errors pass through `query_each`.
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

#[cfg(test)]
mod tests;

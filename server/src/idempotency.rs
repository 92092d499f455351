//! Answers kept for repeated requests, so that a lost answer never means a double deposit.
//!
//! The answer to a write that carries a `request_id` is stored in the same transaction as its effect. A
//! repeat finds it and gets it again; the same id with other parameters is refused. Refusals are not kept:
//! they had no effect, and asking again may be right. An id belongs to its caller. The id of a transfer
//! between branches is bound to its txid when the transfer begins, so that a repeat finds the transfer
//! itself, under way or ended, also after a restart.

use protocol::TxId;
use protocol::request::Action;
use sha2::{Digest as _, Sha256};

use crate::dbs_exec::{Query, Tx, params};
use crate::error::{Error, Result};
use crate::limits::ANSWERS;

/// The name of one request that may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    caller: String,
    request_id: String,
    fingerprint: [u8; 32],
}

/// What is stored for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The result, as JSON.
    pub answer: String,
    /// The transfer between branches that it is about; its outcome is asked for anew.
    pub txid: Option<TxId>,
}

impl RequestKey {
    /// The key of a request, with whose it is and a fingerprint of what it asks for.
    #[must_use]
    pub fn new(caller: String, request_id: &str, action: Action, params_text: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(action.name());
        hasher.update([0]);
        hasher.update(params_text);
        Self { caller, request_id: request_id.to_string(), fingerprint: hasher.finalize().into() }
    }

    /// What is stored for this request, if it was carried out before.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`] when the id was another request's.
    pub fn find(&self, query: &impl Query) -> Result<Option<Stored>> {
        let found = query.query_opt(
            "SELECT fingerprint, answer, txid FROM answers WHERE caller = ?1 AND request_id = ?2",
            params![self.caller, self.request_id],
            |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?)),
        )?;
        match found {
            None => Ok(None),
            Some((fingerprint, ..)) if fingerprint != self.fingerprint => Err(Error::RequestIdReused),
            Some((_, answer, txid)) => Ok(Some(Stored { answer, txid: txid.and_then(|txid| txid.parse().ok()) })),
        }
    }

    /// Stores the answer with the effect.
    ///
    /// # Errors
    /// Trouble of the database; also when the id is taken, which the caller has looked for.
    pub fn store(&self, tx: &mut Tx<'_>, answer: &str, txid: Option<&TxId>, now_unix_ms: i64) -> Result<()> {
        tx.execute(
            "INSERT INTO answers (caller, request_id, fingerprint, answer, txid, at_unix_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![self.caller, self.request_id, self.fingerprint, answer, txid.map(TxId::as_str), now_unix_ms],
        )?;
        Ok(())
    }
}

/// How many answers there are beyond the bound. Counted on a snapshot, so that no writer waits for it.
///
/// # Errors
/// Trouble of the database.
pub fn surplus(query: &impl Query) -> Result<u64> {
    let count: Option<i64> = query.query_opt("SELECT count(*) FROM answers", params![], |row| row.get(0))?;
    Ok(u64::try_from(count.unwrap_or(0)).unwrap_or(0).saturating_sub(ANSWERS))
}

/// Deletes answers from before `before_unix_ms`, and the `surplus` oldest, but no more than `limit` of each.
///
/// # Errors
/// Trouble of the database.
pub fn prune(tx: &mut Tx<'_>, before_unix_ms: i64, surplus: u64, limit: usize) -> Result<()> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    for (before, rows) in [(i64::MAX, i64::try_from(surplus).unwrap_or(limit).min(limit)), (before_unix_ms, limit)] {
        tx.execute(
            "DELETE FROM answers WHERE (caller, request_id) IN (
                 SELECT caller, request_id FROM answers WHERE at_unix_ms < ?1
                 ORDER BY at_unix_ms, caller, request_id LIMIT ?2)",
            params![before, rows],
        )?;
    }
    Ok(())
}

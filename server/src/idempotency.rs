//! Answers kept for repeated requests, so that a lost answer never means a double deposit.
//!
//! The answer to a write that carries a `request_id` is stored in the same transaction as its effect. A repeat finds
//! it and gets it again; the same id with another meaning is refused. The id is looked up before anything that may
//! have changed since the first request, and in the transaction that would carry the repeat out: so of two requests
//! at the same moment one takes effect, and both get its answer. Refusals are not kept: they had no effect, and asking
//! again may be right. An id belongs to its caller. The id of a transfer between branches is bound to its txid when
//! the transfer begins, so that a repeat finds the transfer itself, under way or ended, also after a restart.
//!
//! Two requests are the same when they *mean* the same. So the fingerprint is taken over the parameters as they were
//! understood, written down in one way; the order of keys, blanks, notations of a number and unknown fields are none
//! of it.
//!
//! A password is no part of a fingerprint, which is a fast hash and would let it be guessed fast. What is kept is the
//! Argon2id hash that was set; the password of a repeat is held against that, at the price of a log-in.
//!
//! How long answers are kept is counted in [running time](crate::running_time), and how many there are by triggers of
//! the table, in the transaction that adds or deletes: both bounds cost the same however many there are. A customer has a
//! share of them ([`ANSWERS_SHARE`]), or one who asks for much would have the answers of all others forgotten. Whoever
//! holds the key has none; the bridge does, for all of its people together.

use protocol::TxId;
use protocol::actions::Action;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest as _, Sha256};

use crate::dbs_exec::{Confirmed, DbsExec, Query, Tx, params};
use crate::error::{Error, Result};
use crate::limits::{ANSWERS, ANSWERS_KEPT, ANSWERS_ROOM, ANSWERS_SHARE, ANSWERS_SHARE_ROOM, SYNC_CONFIRM_WAIT};
use crate::running_time;

/// Whose request ids are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdOwner {
    /// Under which name they are kept.
    pub name: String,
    /// Whether so many answers are kept as [`ANSWERS_SHARE`] says, or any number.
    pub has_share: bool,
}

/// The name of one request that may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    caller: String,
    has_share: bool,
    request_id: String,
    fingerprint: [u8; 32],
    /// As version 3 of the tables took it, over the text of the parameters: answers of that time are still found.
    text_fingerprint: [u8; 32],
}

/// What a request means: its parameters as they were understood, in one form, without passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Meaning(Value);

impl Meaning {
    /// The meaning of these parameters. Their order and their form are what fingerprints on disk were taken over.
    ///
    /// # Panics
    /// When they can't be written as JSON: the caller's mistake.
    #[must_use]
    pub fn of(parameters: &impl Serialize) -> Self {
        Self(serde_json::to_value(parameters).expect("parameters are always JSON"))
    }
}

/// An answer as it is kept: the JSON text of the first request's result, which each repeat gets as it is. Programs of
/// other versions have written such texts and will read them, so nobody but this type makes one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeptAnswer(Box<RawValue>);

impl KeptAnswer {
    /// This result as it is kept.
    ///
    /// # Panics
    /// When it can't be written as JSON: the caller's mistake.
    #[must_use]
    pub fn of(result: &impl Serialize) -> Self {
        Self(to_raw_value(result).expect("a result is always JSON"))
    }

    /// Reads the result, for an answer of which a part is true no longer.
    ///
    /// # Errors
    /// [`Error::Database`] when it is none of this type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.0.get()).map_err(unreadable)
    }

    fn from_text(text: String) -> Result<Self> {
        RawValue::from_string(text).map(Self).map_err(unreadable)
    }
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::Database(format!("a kept answer cannot be read: {error}"))
}

/// What is stored for a request.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The result.
    pub answer: KeptAnswer,
    /// The transfer between branches that it is about; its outcome is asked for anew.
    pub txid: Option<TxId>,
    /// The PHC strings of the passwords that the request has set, in their order.
    pub password_hashes: Vec<String>,
}

impl Stored {
    /// An answer and nothing else.
    #[must_use]
    pub fn answer(answer: KeptAnswer) -> Self {
        Self { answer, txid: None, password_hashes: Vec::new() }
    }
}

impl RequestKey {
    /// The key of a request: whose it is, its id, and what it means; `params_text` is what came.
    #[must_use]
    pub fn new(owner: IdOwner, request_id: &str, action: Action, meaning: &Meaning, params_text: &str) -> Self {
        let over = |parts: [&str; 3]| {
            let mut hasher = Sha256::new();
            for part in parts {
                hasher.update(part);
                hasher.update([0]);
            }
            hasher.finalize().into()
        };
        let mut text_hasher = Sha256::new();
        text_hasher.update(action.name());
        text_hasher.update([0]);
        text_hasher.update(params_text);
        Self {
            caller: owner.name,
            has_share: owner.has_share,
            request_id: request_id.to_string(),
            fingerprint: over(["meaning", action.name(), &meaning.0.to_string()]),
            text_fingerprint: text_hasher.finalize().into(),
        }
    }

    /// What is stored for this request, if it was carried out before.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`] when the id was another request's.
    pub fn find(&self, query: &impl Query) -> Result<Option<Stored>> {
        let found = query.query_opt(
            "SELECT fingerprint, answer, txid, password_hashes FROM answers WHERE caller = ?1 AND request_id = ?2",
            params![self.caller, self.request_id],
            |row| {
                Ok((
                    row.get::<_, [u8; 32]>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, Option<String>>(2)?,
                    row.get(3)?,
                ))
            },
        )?;
        let Some((fingerprint, answer, txid, hashes)) = found else { return Ok(None) };
        if fingerprint != self.fingerprint && fingerprint != self.text_fingerprint {
            return Err(Error::RequestIdReused);
        }
        let hashes: Option<String> = hashes;
        Ok(Some(Stored {
            answer: KeptAnswer::from_text(answer)?,
            txid: txid.and_then(|txid| txid.parse().ok()),
            password_hashes: hashes.map_or_else(Vec::new, |hashes| hashes.lines().map(str::to_string).collect()),
        }))
    }

    /// As [`RequestKey::find`] on a snapshot, for a request that can't be carried out now. An answer that is found
    /// is given only when as many replicas have it as must: before that it may still be lost.
    ///
    /// # Errors
    /// As [`RequestKey::find`], or [`Error::Unconfirmed`].
    pub fn look_up(&self, dbs: &DbsExec) -> Result<Option<Stored>> {
        let (stored, position) = dbs.read(|reader| Ok((self.find(reader)?, reader.last_position()?)))?;
        let sequence = position.map_or(0, |position| position.sequence);
        if stored.is_none() || dbs.feed().wait_confirmed(sequence, Some(SYNC_CONFIRM_WAIT)) == Confirmed::Yes {
            return Ok(stored);
        }
        Err(Error::Unconfirmed)
    }

    /// Stores the answer with the effect, and lets the oldest go where there are too many.
    ///
    /// # Errors
    /// Failure of the database; also when the id is taken, which the caller has looked for.
    pub fn store(&self, tx: &mut Tx<'_>, stored: &Stored) -> Result<()> {
        let kept = count(tx)?;
        if kept >= ANSWERS {
            delete_oldest(tx, i64::MAX, ANSWERS_ROOM)?;
        }
        // One look for so many answers. Whoever has most of them stored is looked at most.
        if self.has_share && kept.is_multiple_of(ANSWERS_ROOM as u64) {
            self.keep_to_share(tx)?;
        }
        let at_unix_ms = running_time::stamp(tx)?;
        let hashes = (!stored.password_hashes.is_empty()).then(|| stored.password_hashes.join("\n"));
        tx.execute(
            "INSERT INTO answers (caller, request_id, fingerprint, answer, txid, at_unix_ms, password_hashes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                self.caller,
                self.request_id,
                self.fingerprint,
                stored.answer.0.get(),
                stored.txid.as_ref().map(TxId::as_str),
                at_unix_ms,
                hashes
            ],
        )?;
        Ok(())
    }
}

impl RequestKey {
    /// Lets the caller's own oldest answers go, where they are more than a share. What is looked at is bounded, also in a
    /// database in which an older program has left millions of one customer.
    fn keep_to_share(&self, tx: &mut Tx<'_>) -> Result<()> {
        let share = i64::try_from(ANSWERS_SHARE).unwrap_or(i64::MAX);
        let beyond = "SELECT 1 FROM answers WHERE caller = ?1 ORDER BY request_id LIMIT 1 OFFSET ?2";
        if tx.query_opt(beyond, params![self.caller, share], |_| Ok(()))?.is_none() {
            return Ok(());
        }
        tx.execute(
            "DELETE FROM answers WHERE caller = ?1 AND request_id IN (
                 SELECT request_id FROM (
                     SELECT request_id, at_unix_ms FROM answers WHERE caller = ?1 ORDER BY request_id LIMIT ?2)
                 ORDER BY at_unix_ms, request_id LIMIT ?3)",
            params![self.caller, share * 2, i64::try_from(ANSWERS_SHARE_ROOM).unwrap_or(i64::MAX)],
        )?;
        Ok(())
    }
}

/// How many answers are kept.
///
/// # Errors
/// Failure of the database.
pub fn count(query: &impl Query) -> Result<u64> {
    let count: Option<i64> = query.query_opt("SELECT count FROM answers_kept", params![], |row| row.get(0))?;
    Ok(u64::try_from(count.unwrap_or(0)).unwrap_or(0))
}

/// Deletes answers that were kept long enough, and the oldest where there are too many, but no more than `limit`.
/// Returns how many; with `limit` there may be more.
///
/// # Errors
/// Failure of the database.
pub fn prune(tx: &mut Tx<'_>, limit: usize) -> Result<usize> {
    let surplus = usize::try_from(count(tx)?.saturating_sub(ANSWERS)).unwrap_or(limit).min(limit);
    if surplus > 0 {
        return delete_oldest(tx, i64::MAX, surplus);
    }
    let before_unix_ms = running_time::kept_before(tx, ANSWERS_KEPT)?;
    // A look first: a statement that deletes nothing would still be a commit.
    let oldest = "SELECT 1 FROM answers WHERE at_unix_ms < ?1 LIMIT 1";
    match tx.query_opt(oldest, params![before_unix_ms], |_| Ok(()))? {
        Some(()) => delete_oldest(tx, before_unix_ms, limit),
        None => Ok(0),
    }
}

fn delete_oldest(tx: &mut Tx<'_>, before_unix_ms: i64, limit: usize) -> Result<usize> {
    tx.execute(
        "DELETE FROM answers WHERE (caller, request_id) IN (
             SELECT caller, request_id FROM answers WHERE at_unix_ms < ?1
             ORDER BY at_unix_ms, caller, request_id LIMIT ?2)",
        params![before_unix_ms, i64::try_from(limit).unwrap_or(i64::MAX)],
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::{PRUNE_ROWS, RUNNING_TIME_STEP};
    use crate::running_time::RunningTime;

    /// 2026, by the wall clock.
    const NOW_UNIX_MS: i64 = 1_795_311_299_123;
    const DAY: Duration = Duration::from_secs(24 * 3600);

    struct Fixture {
        dbs: DbsExec,
        _directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let dbs = DbsExec::open(&directory.path().join("bank.db"), |error| panic!("{error}")).unwrap();
            Self { dbs, _directory: directory }
        }

        fn execute(&self, sql: &'static str, value: i64) {
            self.dbs.execute(move |tx| tx.execute(sql, params![value])).unwrap();
        }

        fn store(&self, id: &str) {
            let key = key(id, 1);
            self.dbs.execute(move |tx| key.store(tx, &Stored::answer(KeptAnswer::of(&1)))).unwrap();
        }

        fn find(&self, key: &RequestKey) -> Result<Option<String>> {
            self.dbs.read(|reader| Ok(key.find(reader)?.map(|stored| stored.answer.0.get().to_string())))
        }

        fn prune(&self) -> usize {
            self.dbs.execute(|tx| prune(tx, PRUNE_ROWS)).unwrap()
        }

        fn rows(&self) -> (u64, u64) {
            let counted = |reader: &crate::dbs_exec::Reader<'_>| {
                let rows = reader.query_opt("SELECT count(*) FROM answers", params![], |row| row.get(0))?;
                Ok((count(reader)?, rows.map_or(0, i64::cast_unsigned)))
            };
            self.dbs.read(counted).unwrap()
        }

        /// Lets so much time pass, as a process that runs all the time counts it.
        fn pass(&self, time: Duration) {
            let ms = i64::try_from(time.as_millis()).unwrap();
            self.execute("UPDATE running_time SET unix_ms = unix_ms + ?1", ms);
        }
    }

    fn key(id: &str, amount: i64) -> RequestKey {
        let text = format!(r#"{{"amount":{amount}}}"#);
        RequestKey::new(owner("key", false), id, Action::Deposit, &Meaning::of(&[amount]), &text)
    }

    fn owner(name: &str, has_share: bool) -> IdOwner {
        IdOwner { name: name.into(), has_share }
    }

    #[test]
    fn answers_go_after_their_time_and_no_wall_clock_hastens_it() {
        let fixture = Fixture::new();
        RunningTime::start(&fixture.dbs, NOW_UNIX_MS).unwrap();
        fixture.store("early");
        // Restarts with the clock in another century, either way.
        for wall_unix_ms in [NOW_UNIX_MS * 3, 0, -5] {
            RunningTime::start(&fixture.dbs, wall_unix_ms).unwrap();
            assert_eq!(fixture.prune(), 0);
        }
        fixture.pass(ANSWERS_KEPT);
        fixture.store("late");
        assert_eq!(fixture.prune(), 0, "the stamp may be a step older than what it stands on");
        fixture.pass(RUNNING_TIME_STEP + Duration::from_millis(1));
        assert_eq!((fixture.prune(), fixture.prune()), (1, 0));
        assert_eq!(fixture.find(&key("early", 1)), Ok(None));
        assert_eq!(fixture.find(&key("late", 1)), Ok(Some("1".into())));
        assert_eq!(fixture.rows(), (1, 1));
    }

    #[test]
    fn what_an_older_program_has_stored_is_found_or_refused_and_kept_its_time_from_now() {
        let fixture = Fixture::new();
        // Stamped by a clock that was ten years ahead, and by one that was right.
        for (id, at) in [("ahead", NOW_UNIX_MS + 10 * 365 * 86_400_000), ("right", NOW_UNIX_MS)] {
            let text_fingerprint = key(id, 1).text_fingerprint;
            let insert = "INSERT INTO answers (caller, request_id, fingerprint, answer, at_unix_ms)
                          VALUES ('key', ?1, ?2, '1', ?3)";
            fixture.dbs.execute(move |tx| tx.execute(insert, params![id, text_fingerprint, at])).unwrap();
        }
        let password = key("password", 1);
        let (id, fingerprint) = (password.request_id.clone(), password.text_fingerprint);
        let insert = "INSERT INTO answers (caller, request_id, fingerprint, answer, at_unix_ms)
                      VALUES ('key', ?1, ?2, 'true', 0)";
        fixture.dbs.execute(move |tx| tx.execute(insert, params![id, fingerprint])).unwrap();
        RunningTime::start(&fixture.dbs, NOW_UNIX_MS).unwrap();
        fixture.pass(ANSWERS_KEPT - DAY);
        assert_eq!(fixture.prune(), 0);
        for id in ["ahead", "right"] {
            assert_eq!(fixture.find(&key(id, 1)), Ok(Some("1".into())), "{id}");
            assert_eq!(fixture.find(&key(id, 2)), Err(Error::RequestIdReused), "{id}");
        }
        assert_eq!(fixture.find(&password), Err(Error::RequestIdReused), "its fingerprint is forgotten");
        fixture.pass(DAY + RUNNING_TIME_STEP + Duration::from_millis(1));
        assert_eq!(fixture.prune(), 3);
    }

    #[test]
    fn there_are_never_more_answers_than_the_bound() {
        let fixture = Fixture::new();
        RunningTime::start(&fixture.dbs, NOW_UNIX_MS).unwrap();
        (0..300).for_each(|number| fixture.store(&format!("{number:03}")));
        assert_eq!(fixture.rows(), (300, 300));
        // As if there were as many as there may be.
        let full = i64::try_from(ANSWERS).unwrap();
        fixture.execute("UPDATE answers_kept SET count = ?1", full);
        fixture.store("one more");
        assert_eq!(fixture.rows(), (ANSWERS - ANSWERS_ROOM as u64 + 1, 300 - ANSWERS_ROOM as u64 + 1));
        assert_eq!(fixture.find(&key("255", 1)), Ok(None), "the oldest go");
        assert!(fixture.find(&key("256", 1)).unwrap().is_some());
        // An older program has left too many.
        fixture.execute("UPDATE answers_kept SET count = ?1", full + 10);
        assert_eq!((fixture.prune(), fixture.prune()), (10, 0));
    }

    #[test]
    fn a_customer_who_asks_for_much_has_only_the_own_answers_forgotten() {
        let fixture = Fixture::new();
        RunningTime::start(&fixture.dbs, NOW_UNIX_MS).unwrap();
        fixture.store("an operator's");
        let request = |name: &'static str, id: &str| {
            RequestKey::new(owner(name, true), id, Action::Deposit, &Meaning::of(&[1]), "{}")
        };
        let store = |name: &'static str, numbers: std::ops::Range<usize>| {
            let keys: Vec<_> = numbers.map(|number| request(name, &format!("{number:06}"))).collect();
            let stored = move |tx: &mut Tx<'_>| {
                keys.iter().try_for_each(|key| key.store(tx, &Stored::answer(KeptAnswer::of(&1))))
            };
            fixture.dbs.execute(stored).unwrap();
        };
        store("customer 1001", 0..1);
        let count = || {
            let of_customer = |reader: &crate::dbs_exec::Reader<'_>| {
                let sql = "SELECT count(*) FROM answers WHERE caller = 'customer 1002'";
                reader.query_opt(sql, params![], |row| row.get::<_, i64>(0))
            };
            usize::try_from(fixture.dbs.read(of_customer).unwrap().unwrap()).unwrap()
        };
        // In pieces, between which time passes: the oldest go, and not those whose ids come first.
        for piece in (0..8).rev() {
            store("customer 1002", piece * ANSWERS_SHARE / 4..(piece + 1) * ANSWERS_SHARE / 4);
            fixture.pass(RUNNING_TIME_STEP * 2);
        }
        assert!(
            count() <= ANSWERS_SHARE + ANSWERS_SHARE_ROOM && count() > ANSWERS_SHARE - ANSWERS_SHARE_ROOM,
            "{}",
            count()
        );
        let found = |key: &RequestKey| fixture.find(key).unwrap().is_some();
        assert!(found(&request("customer 1002", "000000")), "the newest");
        assert!(!found(&request("customer 1002", &format!("{:06}", ANSWERS_SHARE * 2 - 1))), "the oldest");
        assert!(found(&request("customer 1001", "000000")) && found(&key("an operator's", 1)), "all others");
    }
}

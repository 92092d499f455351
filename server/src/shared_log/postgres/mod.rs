//! A shared log in PostgreSQL: four plain tables, and statements that a reader can try in `psql`.
//!
//! ```text
//! bank_owner       who owns a branch: epoch, process, address, beats; one row a branch, and the fence
//! bank_commit_log  the rows of the log: (branch, sequence) is the key, so a number is there once
//! bank_snapshot    copies of the books in pieces; piece 0 says how many there are, and comes last
//! bank_process     what each process of a branch last said of itself; for people, and for writes that prove something
//! ```
//!
//! What the tables hold is what replicas are sent (`dbs_exec`): statements with their parameters, in which passwords
//! are hashes. Who may read them may read the bank's books.
//!
//! Nothing here tries twice, and no transaction but a snapshot's has more than one statement. A session has its own
//! place for each use, so that a long one never holds up an append: appending, beating and looking, moving snapshots.

mod session;
mod snapshots;
mod tables;
mod target;

use std::time::Duration;

use parking_lot::Mutex;
use tls::Connector;
use tokio_postgres::Client;

use self::session::{Failed, Session};
use self::target::Target;
use super::settings::LogUrl;
use super::{LogStore, Look, Member, Owner, SnapshotHead, Tried, Trouble, View};
use crate::dbs_exec::{LogRow, Position};
use crate::limits::{LOG_CLAIM_WAIT, LOG_RELEASE, LOG_SNAPSHOT_TRY, LOG_TRY};

/// Appends a row if this process owns its epoch and the row before it is the one that is meant. `FOR SHARE` makes
/// whoever claims the branch wait for a row that is under way, and sees a claim that came before.
const APPEND: &str = "\
INSERT INTO bank_commit_log (branch, sequence, epoch, digest, at_unix_ms, body)
SELECT $1::text, $2::int8, $3::int8, $4::bytea, $5::int8, $6::bytea FROM bank_owner
WHERE branch = $1 AND epoch = $3 AND owner = $7::text
  AND EXISTS (SELECT FROM bank_commit_log WHERE branch = $1 AND sequence = $2 - 1 AND digest = $8::bytea)
FOR SHARE OF bank_owner";

const NOTE: &str = "\
INSERT INTO bank_process (branch, id, address, sequence, heard) VALUES ($1, $2, $3, $4, now())
ON CONFLICT (branch, id) DO UPDATE SET sequence = EXCLUDED.sequence, heard = EXCLUDED.heard";

const VIEW: &str = "\
SELECT epoch, owner, address, beats,
       (SELECT min(sequence) FROM bank_commit_log WHERE branch = $1),
       (SELECT max(sequence) FROM bank_commit_log WHERE branch = $1),
       (SELECT max(sequence) FROM bank_snapshot WHERE branch = $1 AND piece = 0)
FROM (SELECT) AS one LEFT JOIN bank_owner ON branch = $1";

/// What a claim begins with: a process that was stopped in the middle of a statement may hold the owner's row.
const END_SESSIONS: &str = "\
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = $1 AND usename = current_user AND pid <> pg_backend_pid()";

const CLAIM: &str = "\
UPDATE bank_owner SET epoch = greatest(epoch, $5) + 1, owner = $6, address = $7, beats = beats + 1, heard = now()
WHERE branch = $1 AND epoch = $2 AND owner = $3 AND beats = $4";

/// A unique key has this value already.
const UNIQUE_VIOLATION: &str = "23505";
/// Somebody else holds a lock for too long.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// The server is a standby, or becomes one.
const READ_ONLY: &str = "25006";

/// The store of one branch, for one process.
pub struct PostgresStore {
    target: Target,
    connector: Option<Connector>,
    branch: String,
    id: String,
    address: String,
    appending: Mutex<Option<Session>>,
    looking: Mutex<Option<Session>>,
    moving: Mutex<Option<Session>>,
}

impl PostgresStore {
    /// The store behind a connection string. Nothing is dialled before it is needed.
    ///
    /// # Errors
    /// One sentence when the string is none, or there is no randomness.
    pub fn new(url: &LogUrl, branch: String, address: String, connector: Option<Connector>) -> Result<Self, String> {
        let number = getrandom::u64().map_err(|error| format!("no randomness: {error}"))?;
        Ok(Self {
            target: Target::read(url)?,
            connector,
            branch,
            id: format!("{number:016x}"),
            address,
            appending: Mutex::default(),
            looking: Mutex::default(),
            moving: Mutex::default(),
        })
    }

    /// Runs a call on the session of a place, which is opened when there is none, and forgotten when it failed.
    fn call<T>(
        &self,
        place: &Mutex<Option<Session>>,
        limit: Duration,
        call: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, CallError> {
        let mut place = place.lock();
        let session = self.session(&mut place).map_err(CallError::NotSent)?;
        let called = session.call(limit, call);
        self.settle(&mut place, called)
    }

    fn session<'p>(&self, place: &'p mut Option<Session>) -> Result<&'p mut Session, String> {
        if place.as_ref().is_some_and(Session::is_closed) {
            *place = None;
        }
        if place.is_none() {
            let session = Session::open(&self.target, self.connector.as_ref(), &self.id)?;
            tables::make(&session)?;
            *place = Some(session);
        }
        place.as_mut().ok_or_else(|| "there is no session".to_string())
    }

    fn settle<T>(&self, place: &mut Option<Session>, called: Result<T, Failed>) -> Result<T, CallError> {
        match called {
            Ok(answer) => Ok(answer),
            Err(Failed::Answered { code, text }) => {
                if code == READ_ONLY {
                    // Another server is the one to ask now.
                    *place = None;
                }
                Err(CallError::Answered { code, text })
            }
            Err(Failed::Unknown(text)) => {
                *place = None;
                Err(CallError::Unknown(text))
            }
        }
    }

    fn look_up<T>(&self, call: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>) -> Result<T, Trouble> {
        Ok(self.call(&self.looking, LOG_TRY, call)?)
    }

    fn try_append(&self, before: &Position, row: &LogRow) -> Result<u64, CallError> {
        let mut place = self.appending.lock();
        let session = self.session(&mut place).map_err(CallError::NotSent)?;
        let statement = match session.prepare_append(APPEND) {
            Ok(statement) => statement,
            Err(failed) => {
                *place = None;
                return Err(CallError::NotSent(failed.into_text()));
            }
        };
        let Position { sequence, epoch, digest } = row.position;
        let (digest, digest_before) = (&digest[..], &before.digest[..]);
        let called = session.call(LOG_TRY, async |client| {
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
                [&self.branch, &sequence, &epoch, &digest, &row.at_unix_ms, &row.body, &self.id, &digest_before];
            client.execute(&statement, &params).await
        });
        self.settle(&mut place, called)
    }
}

/// How a call ended that has no result.
#[derive(Debug)]
enum CallError {
    NotSent(String),
    Answered { code: String, text: String },
    Unknown(String),
}

impl Failed {
    fn into_text(self) -> String {
        match self {
            Self::Answered { text, .. } | Self::Unknown(text) => text,
        }
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(text) | CallError::Answered { text, .. } | CallError::Unknown(text) => Self(text),
        }
    }
}

impl LogStore for PostgresStore {
    fn name(&self) -> String {
        self.target.name()
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn append(&self, before: &Position, row: &LogRow) -> Tried {
        match self.try_append(before, row) {
            Ok(0) => Tried::NotOwner,
            Ok(_) => Tried::Appended,
            Err(CallError::NotSent(text)) => Tried::NotSent(text),
            Err(CallError::Unknown(text)) => Tried::Unknown(text),
            Err(CallError::Answered { code, .. }) if code == UNIQUE_VIOLATION => Tried::Taken,
            // The statement was not executed at all there.
            Err(CallError::Answered { code, text }) if code == READ_ONLY => Tried::NotSent(text),
            Err(CallError::Answered { text, .. }) => Tried::Refused(format!("PostgreSQL: {text}")),
        }
    }

    fn look(&self, sequence: i64) -> Result<Look, Trouble> {
        self.note(sequence - 1)?;
        let sql = "SELECT epoch, owner, address, beats,
                       (SELECT digest FROM bank_commit_log WHERE branch = $1 AND sequence = $2)
                   FROM (SELECT) AS one LEFT JOIN bank_owner ON branch = $1";
        let row = self.look_up(async |client| client.query_one(sql, &[&self.branch, &sequence]).await)?;
        let digest: Option<Vec<u8>> = row.get(4);
        if digest.is_some() {
            self.note(sequence)?;
        }
        Ok(Look { owner: owner_in(&row), digest: digest.map(|digest| to_digest(&digest)).transpose()? })
    }

    fn beat(&self, epoch: i64) -> Result<bool, Trouble> {
        let sql =
            "UPDATE bank_owner SET beats = beats + 1, heard = now() WHERE branch = $1 AND epoch = $2 AND owner = $3";
        let changed = self.look_up(async |client| client.execute(sql, &[&self.branch, &epoch, &self.id]).await)?;
        Ok(changed == 1)
    }

    fn view(&self) -> Result<View, Trouble> {
        let row = self.look_up(async |client| client.query_one(VIEW, &[&self.branch]).await)?;
        let number = |index: usize| row.get::<_, Option<i64>>(index).unwrap_or(0);
        Ok(View { owner: owner_in(&row), first: number(4), last: number(5), snapshot: number(6) })
    }

    fn note(&self, sequence: i64) -> Result<(), Trouble> {
        self.look_up(async |client| client.execute(NOTE, &[&self.branch, &self.id, &self.address, &sequence]).await)?;
        Ok(())
    }

    fn members(&self) -> Result<Vec<Member>, Trouble> {
        let sql = "SELECT id, address, sequence, (extract(epoch FROM now() - heard) * 1000)::int8 FROM bank_process
                   WHERE branch = $1 AND heard > now() - interval '1 minute' ORDER BY address LIMIT 64";
        let rows = self.look_up(async |client| client.query(sql, &[&self.branch]).await)?;
        let read = |row: &tokio_postgres::Row| Member {
            id: row.get(0),
            address: row.get(1),
            sequence: row.get(2),
            silent_ms: row.get(3),
        };
        Ok(rows.iter().map(read).collect())
    }

    fn rows_after(&self, sequence: i64, bytes: usize) -> Result<Vec<LogRow>, Trouble> {
        // Lengths first: so many rows as have about so many bytes, and one in any case.
        let sql = "SELECT sequence, epoch, digest, at_unix_ms, body FROM bank_commit_log
                   WHERE branch = $1 AND sequence > $2 AND sequence <= (
                       SELECT max(sequence) FROM (
                           SELECT sequence, sum(octet_length(body)) OVER (ORDER BY sequence) - octet_length(body) AS before
                           FROM (SELECT sequence, body FROM bank_commit_log WHERE branch = $1 AND sequence > $2
                                 ORDER BY sequence LIMIT 1000) AS next
                       ) AS sums WHERE before <= $3::int8)
                   ORDER BY sequence";
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let rows = self.look_up(async |client| client.query(sql, &[&self.branch, &sequence, &bytes]).await)?;
        rows.iter().map(row_in).collect()
    }

    fn bytes_after(&self, sequence: i64) -> Result<u64, Trouble> {
        let sql = "SELECT coalesce(sum(octet_length(body)), 0)::int8 FROM bank_commit_log WHERE branch = $1 AND sequence > $2";
        let row = self.call(&self.moving, LOG_SNAPSHOT_TRY, async |client| {
            client.query_one(sql, &[&self.branch, &sequence]).await
        })?;
        Ok(row.get::<_, i64>(0).unsigned_abs())
    }

    fn position_at(&self, sequence: i64) -> Result<Option<Position>, Trouble> {
        let sql = "SELECT sequence, epoch, digest FROM bank_commit_log WHERE branch = $1 AND sequence = $2";
        let row = self.look_up(async |client| client.query_opt(sql, &[&self.branch, &sequence]).await)?;
        row.map(|row| position_in(&row)).transpose()
    }

    fn claim(&self, owner: &Owner, least: i64) -> Result<bool, Trouble> {
        let limit = format!("SET lock_timeout = '{}ms'", LOG_CLAIM_WAIT.as_millis());
        let claimed = self.call(&self.looking, LOG_TRY, async |client| {
            client.batch_execute(&limit).await?;
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
                [&self.branch, &owner.epoch, &owner.id, &owner.beats, &least, &self.id, &self.address];
            let claimed = client.execute(CLAIM, &params).await;
            client.batch_execute("SET lock_timeout = 0").await?;
            claimed
        });
        match claimed {
            Ok(changed) => Ok(changed == 1),
            Err(CallError::Answered { code, .. }) if code == LOCK_NOT_AVAILABLE => {
                log::warn!("the owner that is silent holds its row still: its sessions are ended");
                let sessions = format!("bank {}", owner.id);
                self.look_up(async |client| client.query(END_SESSIONS, &[&sessions]).await)?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn release(&self, epoch: i64) -> Result<(), Trouble> {
        let sql = "UPDATE bank_owner SET owner = '' WHERE branch = $1 AND epoch = $2 AND owner = $3";
        let gone = "DELETE FROM bank_process WHERE branch = $1 AND id = $2";
        self.call(&self.looking, LOG_RELEASE, async |client| {
            client.execute(sql, &[&self.branch, &epoch, &self.id]).await?;
            client.execute(gone, &[&self.branch, &self.id]).await
        })?;
        Ok(())
    }

    fn begin(&self, epoch: i64, row: &LogRow, snapshot: &std::path::Path) -> Result<bool, Trouble> {
        snapshots::begin(self, epoch, row, snapshot)
    }

    fn keep_snapshot(&self, epoch: i64, position: &Position, snapshot: &std::path::Path) -> Result<bool, Trouble> {
        snapshots::keep(self, epoch, position, snapshot)
    }

    fn snapshot(&self, sequence: i64) -> Result<Option<SnapshotHead>, Trouble> {
        snapshots::head(self, sequence)
    }

    fn snapshot_piece(&self, sequence: i64, piece: i32) -> Result<Vec<u8>, Trouble> {
        snapshots::piece(self, sequence, piece)
    }
}

/// The first four columns as who owns the branch.
fn owner_in(row: &tokio_postgres::Row) -> Option<Owner> {
    let epoch: Option<i64> = row.get(0);
    epoch.map(|epoch| Owner { epoch, id: row.get(1), address: row.get(2), beats: row.get(3) })
}

fn position_in(row: &tokio_postgres::Row) -> Result<Position, Trouble> {
    Ok(Position { sequence: row.get(0), epoch: row.get(1), digest: to_digest(row.get(2))? })
}

fn row_in(row: &tokio_postgres::Row) -> Result<LogRow, Trouble> {
    Ok(LogRow { position: position_in(row)?, at_unix_ms: row.get(3), body: row.get(4) })
}

fn to_digest(bytes: &[u8]) -> Result<[u8; 32], Trouble> {
    bytes.try_into().map_err(|_| Trouble("a digest in the commit log is not 32 bytes long".into()))
}

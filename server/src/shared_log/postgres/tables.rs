//! The tables, made by whichever process comes first.

use super::session::{Failed, Session};
use crate::limits::LOG_TRY;

/// Whether the last of them is there: then a role without the right to make tables is enough.
const IS_THERE: &str = "SELECT to_regclass('public.bank_process') IS NOT NULL";

/// One of several processes that start together makes them, and the others wait for it.
const MAKE: &str = "\
BEGIN;
SELECT pg_advisory_xact_lock(4702111234474983745);
CREATE TABLE IF NOT EXISTS bank_owner (
    branch text PRIMARY KEY,
    epoch bigint NOT NULL CHECK (epoch > 0),
    owner text NOT NULL,
    address text NOT NULL,
    beats bigint NOT NULL,
    heard timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS bank_commit_log (
    branch text NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    epoch bigint NOT NULL CHECK (epoch > 0),
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    at_unix_ms bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (branch, sequence)
);
CREATE TABLE IF NOT EXISTS bank_snapshot (
    branch text NOT NULL,
    sequence bigint NOT NULL,
    piece integer NOT NULL CHECK (piece >= 0),
    body bytea NOT NULL,
    PRIMARY KEY (branch, sequence, piece)
);
CREATE TABLE IF NOT EXISTS bank_process (
    branch text NOT NULL,
    id text NOT NULL,
    address text NOT NULL,
    sequence bigint NOT NULL,
    heard timestamptz NOT NULL,
    PRIMARY KEY (branch, id)
);
COMMIT;
";

/// Makes the tables where they are missing.
///
/// # Errors
/// What the server said.
pub fn make(session: &Session) -> Result<(), String> {
    let failed = |failed: Failed| failed.into_text();
    let is_there = session.call(LOG_TRY, async |client| client.query_one(IS_THERE, &[]).await).map_err(failed)?;
    if is_there.get(0) {
        return Ok(());
    }
    // That a table is there already, because another process made it meanwhile, is a notice and no warning.
    session.call(LOG_TRY, async |client| client.batch_execute(MAKE).await).map_err(failed)
}

//! The tables, and how a database of an older version becomes one of this version.
//!
//! A database says whose it is by SQLite's `application_id` and which version it has by `user_version`.
//! Each migration is one entry in [`MIGRATIONS`] and runs in one transaction with the new version number,
//! so a crash in the middle leaves the old version whole. A database of a newer program is refused:
//! this one doesn't know what its rows mean.
//!
//! What the tables themselves keep true, whatever the code above does:
//! - an amount is an integer of paise (STRICT tables refuse a float), a movement's is above zero;
//! - `0 <= held <= balance <= 99,999,999,999,999.99 Rs`;
//! - `transactions` is append-only: a trigger refuses every UPDATE and DELETE;
//! - an open account shares its Aadhaar and phone number with no other open account;
//! - a leg of an inter-branch transfer is booked at most once: (txid, leg) is unique;
//! - a row of `transactions` points backwards: to older rows of its two accounts, never to itself or a newer one.

use std::sync::LazyLock;

use rusqlite::{Connection, Row, TransactionBehavior};

use crate::dbs_exec::open_error::OpenError;

mod version_5;

/// "BANK" in ASCII, in the header of each of this bank's database files.
pub const APPLICATION_ID: i32 = 0x4241_4e4b;

/// The account number of the branch's cash, the other side of deposits and withdrawals.
pub const CASH: i64 = -1;
/// The account number of the suspense account: differences that were settled by hand and turned out wrong.
pub const SUSPENSE: i64 = -2;
/// What one unit of an own account's carry stands for, in paise. The totals `credited` and `debited` stay below it, so
/// that neither can fill up: with its carry a total has room for 10^36 paise. It is above the largest movement, so
/// that one movement carries once at most, and a power of ten, so that carry and rest read as one number.
pub const TOTAL_CARRY: i64 = 1_000_000_000_000_000_000;
const _: () = assert!(TOTAL_CARRY > protocol::Money::MAX_PAISE && TOTAL_CARRY < i64::MAX - protocol::Money::MAX_PAISE);

/// One entry for each version, the first making version 1 from an empty file.
const MIGRATIONS: &[&[Step]] = &[
    &[Step::Statements(V1)],
    &[Step::Statements(V2)],
    &[Step::Statements(V3)],
    &[Step::Statements(V4)],
    &[Step::Statements(version_5::TABLES), Step::Rows(version_5::move_rows), Step::Statements(version_5::IN_PLACE)],
];

/// A part of a migration.
enum Step {
    /// Statements, executed as they stand.
    Statements(&'static str),
    /// What no statement can say in one pass over the rows.
    Rows(fn(&Connection) -> rusqlite::Result<()>),
}

const V1: &str = "
CREATE TABLE branch (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    next_account_num INTEGER NOT NULL CHECK (next_account_num > 0)
) STRICT;

CREATE TABLE customers (
    account_num INTEGER PRIMARY KEY CHECK (account_num > 0),
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    aadhar_num TEXT CHECK (aadhar_num IS NULL OR length(aadhar_num) = 12),
    phone_num TEXT CHECK (phone_num IS NULL OR length(phone_num) = 10),
    sms INTEGER NOT NULL DEFAULT 0 CHECK (sms IN (0, 1)),
    balance INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed')),
    opened_unix_ms INTEGER NOT NULL,
    closed_unix_ms INTEGER,
    CHECK (0 <= held AND held <= balance AND balance <= 9999999999999999),
    CHECK (status = 'open' OR balance = 0)
) STRICT;
CREATE UNIQUE INDEX customers_aadhar ON customers (aadhar_num) WHERE status = 'open' AND aadhar_num IS NOT NULL;
CREATE UNIQUE INDEX customers_phone ON customers (phone_num) WHERE status = 'open' AND phone_num IS NOT NULL;

CREATE TABLE auth (
    account_num INTEGER PRIMARY KEY CHECK (account_num >= 0),
    password TEXT NOT NULL
) STRICT;

-- The branch's own accounts. `credited` is the sum of what moved into one, `debited` of what moved out of it.
CREATE TABLE own_accounts (
    account_num INTEGER PRIMARY KEY CHECK (account_num < 0),
    name TEXT NOT NULL UNIQUE,
    credited INTEGER NOT NULL DEFAULT 0 CHECK (credited >= 0),
    debited INTEGER NOT NULL DEFAULT 0 CHECK (debited >= 0)
) STRICT;
INSERT INTO own_accounts (account_num, name) VALUES (-1, 'cash');

CREATE TABLE transactions (
    transaction_id INTEGER PRIMARY KEY CHECK (transaction_id > 0),
    from_account INTEGER NOT NULL,
    to_account INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0 AND amount <= 9999999999999999),
    type TEXT NOT NULL CHECK (type IN ('opening', 'deposit', 'withdrawal', 'transfer', 'closing',
                                       'transfer_out', 'transfer_in', 'settlement')),
    date INTEGER NOT NULL,
    txid TEXT,
    leg INTEGER,
    peer TEXT,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    CHECK (from_account <> to_account),
    CHECK ((txid IS NULL) = (leg IS NULL))
) STRICT;
CREATE INDEX transactions_from ON transactions (from_account);
CREATE INDEX transactions_to ON transactions (to_account);
CREATE UNIQUE INDEX transactions_leg ON transactions (txid, leg) WHERE txid IS NOT NULL;
CREATE TRIGGER transactions_no_update BEFORE UPDATE ON transactions
BEGIN SELECT RAISE(ABORT, 'transactions is append-only'); END;
CREATE TRIGGER transactions_no_delete BEFORE DELETE ON transactions
BEGIN SELECT RAISE(ABORT, 'transactions is append-only'); END;

-- Rows are deleted once delivered, and readers drop doubles by the id: it must never be given again.
CREATE TABLE sms_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    phone_num TEXT NOT NULL,
    body TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_unix_ms INTEGER NOT NULL,
    given_up_unix_ms INTEGER,
    last_error TEXT
) STRICT;
CREATE INDEX sms_outbox_due ON sms_outbox (due_unix_ms) WHERE given_up_unix_ms IS NULL;
";

/// Transfers between branches: room reserved for deposits, the accounts *due* with other branches, the log of
/// two-phase commit, the answers kept for repeated requests, and where other branches are.
const V2: &str = "
ALTER TABLE customers ADD COLUMN incoming INTEGER NOT NULL DEFAULT 0
    CHECK (incoming >= 0 AND balance + incoming <= 9999999999999999);

ALTER TABLE branch ADD COLUMN events_reserved INTEGER NOT NULL DEFAULT 0 CHECK (events_reserved >= 0);

ALTER TABLE own_accounts ADD COLUMN peer TEXT;
CREATE UNIQUE INDEX own_accounts_peer ON own_accounts (peer) WHERE peer IS NOT NULL;
INSERT INTO own_accounts (account_num, name) VALUES (-2, 'suspense');

CREATE TABLE coordinated (
    txid TEXT PRIMARY KEY,
    transfer TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('begun', 'committed', 'ended')),
    changed_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX coordinated_open ON coordinated (state) WHERE state IN ('begun', 'committed');

CREATE TABLE prepared (
    txid TEXT PRIMARY KEY,
    transfer TEXT,
    state TEXT NOT NULL CHECK (state IN ('prepared', 'committed', 'aborted')),
    by_hand TEXT,
    confirmed INTEGER NOT NULL DEFAULT 0 CHECK (confirmed IN (0, 1)),
    mixed TEXT CHECK (mixed IN ('committed', 'aborted')),
    prepared_unix_ms INTEGER NOT NULL,
    changed_unix_ms INTEGER NOT NULL,
    CHECK (state <> 'prepared' OR transfer IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX prepared_open ON prepared (state) WHERE state = 'prepared';

CREATE TABLE answers (
    caller TEXT NOT NULL,
    request_id TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    answer TEXT NOT NULL,
    txid TEXT,
    at_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (caller, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_at ON answers (at_unix_ms);

CREATE TABLE branches (
    name TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    port INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535)
) STRICT, WITHOUT ROWID;
";

/// Replicas: what this copy is, the log of group commits, where each epoch began; and the epochs of other branches.
/// The tables `replication_…` belong to this copy alone; all others are the same at every copy.
const V3: &str = "
CREATE TABLE replication_standing (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    role TEXT NOT NULL CHECK (role IN ('primary', 'replica', 'fenced')),
    epoch INTEGER NOT NULL CHECK (epoch > 0),
    heard_epoch INTEGER NOT NULL CHECK (heard_epoch >= epoch),
    is_logging INTEGER NOT NULL CHECK (is_logging IN (0, 1)),
    primary_address TEXT,
    promoted_from TEXT,
    diverged TEXT
) STRICT;
INSERT INTO replication_standing (id, role, epoch, heard_epoch, is_logging) VALUES (1, 'primary', 1, 1, 0);

CREATE TABLE replication_log (
    sequence INTEGER PRIMARY KEY CHECK (sequence > 0),
    epoch INTEGER NOT NULL CHECK (epoch > 0),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    at_unix_ms INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE replication_epochs (
    epoch INTEGER PRIMARY KEY CHECK (epoch > 0),
    after_sequence INTEGER NOT NULL CHECK (after_sequence >= 0),
    after_digest BLOB CHECK (after_digest IS NULL OR length(after_digest) = 32),
    began_unix_ms INTEGER NOT NULL,
    heard_sequence INTEGER,
    silent_ms INTEGER
) STRICT;

CREATE TABLE replication_members (
    address TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

ALTER TABLE branches ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0);
";

/// Totals without an end.
const V4: &str = "
-- The totals of own accounts in two columns each: whole units of 10^18 paise, and the rest (see TOTAL_CARRY).
CREATE TABLE own_accounts_wide (
    account_num INTEGER PRIMARY KEY CHECK (account_num < 0),
    name TEXT NOT NULL UNIQUE,
    credited INTEGER NOT NULL DEFAULT 0 CHECK (credited >= 0 AND credited < 1000000000000000000),
    debited INTEGER NOT NULL DEFAULT 0 CHECK (debited >= 0 AND debited < 1000000000000000000),
    credited_carry INTEGER NOT NULL DEFAULT 0 CHECK (credited_carry >= 0),
    debited_carry INTEGER NOT NULL DEFAULT 0 CHECK (debited_carry >= 0),
    peer TEXT
) STRICT;
INSERT INTO own_accounts_wide (account_num, name, credited, debited, credited_carry, debited_carry, peer)
    SELECT account_num, name, credited % 1000000000000000000, debited % 1000000000000000000,
           credited / 1000000000000000000, debited / 1000000000000000000, peer
    FROM own_accounts ORDER BY account_num;
DROP TABLE own_accounts;
ALTER TABLE own_accounts_wide RENAME TO own_accounts;
CREATE UNIQUE INDEX own_accounts_peer ON own_accounts (peer) WHERE peer IS NOT NULL;

-- Why a person moved a difference out of suspense.
ALTER TABLE transactions ADD COLUMN note TEXT CHECK (note IS NULL OR type = 'settlement');

-- Decisions of this branch that another one has said it can't follow, until that is settled.
CREATE TABLE contradicted (
    txid TEXT NOT NULL,
    peer TEXT NOT NULL,
    transfer TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('committed', 'aborted')),
    code TEXT NOT NULL,
    text TEXT NOT NULL,
    since_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (txid, peer)
) STRICT, WITHOUT ROWID;

-- What people have settled, and why. Kept for ever.
CREATE TABLE settled_by_hand (
    txid TEXT NOT NULL,
    at_unix_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('committed', 'aborted')),
    reason TEXT NOT NULL,
    PRIMARY KEY (txid, at_unix_ms)
) STRICT, WITHOUT ROWID;

-- What is kept for a time is kept by running time: see `running_time.rs`. Stamps before `wall_clock_until_unix_ms` are
-- an older program's, by the wall clock.
CREATE TABLE running_time (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    unix_ms INTEGER NOT NULL,
    wall_clock_until_unix_ms INTEGER NOT NULL
) STRICT;
INSERT INTO running_time (id, unix_ms, wall_clock_until_unix_ms) VALUES (1, 0, 0);

-- Hashes of the passwords that a request has set, one a line; and how many answers there are, without counting them.
ALTER TABLE answers ADD COLUMN password_hashes TEXT;
CREATE TABLE answers_kept (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL
) STRICT;
INSERT INTO answers_kept (id, count) SELECT 1, count(*) FROM answers;
CREATE TRIGGER answers_one_more AFTER INSERT ON answers BEGIN UPDATE answers_kept SET count = count + 1; END;
CREATE TRIGGER answers_one_less AFTER DELETE ON answers BEGIN UPDATE answers_kept SET count = count - 1; END;

-- A text message is given up when it has failed for long enough, in running time; its own date is the wall clock's.
ALTER TABLE sms_outbox ADD COLUMN failing_since_unix_ms INTEGER;

-- An epoch has an id beside its number: the beginning of its first group's digest, as far as the log still has that.
ALTER TABLE replication_epochs ADD COLUMN id TEXT NOT NULL DEFAULT '';
UPDATE replication_epochs SET id = coalesce((SELECT lower(hex(substr(digest, 1, 8))) FROM replication_log
    WHERE sequence = after_sequence + 1 AND replication_log.epoch = replication_epochs.epoch), '');
ALTER TABLE replication_standing ADD COLUMN epoch_id TEXT NOT NULL DEFAULT '';
ALTER TABLE replication_standing ADD COLUMN heard_epoch_id TEXT NOT NULL DEFAULT '';
UPDATE replication_standing SET epoch_id = coalesce((SELECT id FROM replication_epochs
    WHERE replication_epochs.epoch = replication_standing.epoch), '');
UPDATE replication_standing SET heard_epoch_id = epoch_id WHERE heard_epoch = epoch;
-- A new copy of the primary's books was ordered and is not here yet.
ALTER TABLE replication_standing ADD COLUMN wants_snapshot INTEGER NOT NULL DEFAULT 0 CHECK (wants_snapshot IN (0, 1));
-- The --replica-of that this copy was last started with: with the same again it stays what it has become since.
ALTER TABLE replication_standing ADD COLUMN started_with TEXT;
UPDATE replication_standing SET started_with = coalesce(promoted_from, primary_address);
ALTER TABLE branches ADD COLUMN epoch_id TEXT NOT NULL DEFAULT '';

-- Which opening of the file the log beside it belongs to (see wal_ownership.rs); of this copy alone.
CREATE TABLE replication_opening (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    opened TEXT NOT NULL
) STRICT;
";

/// The version of the tables that this program makes and needs.
#[must_use]
pub fn newest_version() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("there are fewer than four billion migrations")
}

/// A table, index or trigger, as SQLite keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaObject {
    /// `table`, `index`, `trigger` or `view`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The table that it is of.
    pub table: String,
    sql: String,
}

impl SchemaObject {
    /// Reads a row of type, name, table and text.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { kind: row.get(0)?, name: row.get(1)?, table: row.get(2)?, sql: row.get(3)? })
    }
}

/// What a database of this version consists of, whichever version it began with: all went through the same
/// statements.
///
/// # Panics
/// When SQLite can't execute this program's own migrations, which every start does.
#[must_use]
pub fn expected_schema() -> &'static [SchemaObject] {
    static EXPECTED: LazyLock<Vec<SchemaObject>> = LazyLock::new(|| {
        let made = || {
            // Made, not written down a second time: what the audit compares with can't fall behind the migrations.
            let mut connection = Connection::open_in_memory()?;
            migrate(&mut connection)?;
            let sql =
                "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
            let mut statement = connection.prepare(sql)?;
            let objects = statement.query_map([], SchemaObject::read)?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok::<_, OpenError>(objects)
        };
        made().expect("the program's own migrations work")
    });
    &EXPECTED
}

/// Whether a database has nothing in it, so that a new bank can begin there.
///
/// # Errors
/// SQLite's.
pub fn is_empty(connection: &Connection) -> Result<bool, OpenError> {
    let application_id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(application_id == 0 && version == 0 && tables == 0)
}

/// Checks that a database is this bank's and not newer than this program.
///
/// # Errors
/// As [`migrate`].
pub fn recognise(connection: &Connection) -> Result<(), OpenError> {
    let application_id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let newest = newest_version();
    match application_id {
        APPLICATION_ID if version <= newest => Ok(()),
        // Its tables may mean something else, so not even a look is safe.
        APPLICATION_ID => Err(OpenError::Newer { version, newest }),
        _ => Err(OpenError::Foreign),
    }
}

/// Brings the database to this program's version.
///
/// # Errors
/// [`OpenError::Foreign`] for another program's database, [`OpenError::Newer`] for a newer version,
/// [`OpenError::Sqlite`] when SQLite fails.
pub fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    // The write lock comes first, so that the versions read below are still true when they are changed.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // A foreign file must be refused before anything is changed in it; an empty one says nothing of whose it is.
    if !is_empty(&transaction)? {
        recognise(&transaction)?;
    }
    let version: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let newest = newest_version();
    if version == newest {
        // The usual start. Dropping the transaction lets the lock go, and nothing was written.
        return Ok(());
    }
    // One after another, from whichever version this is: each was written for the tables that the one before leaves.
    for migration in &MIGRATIONS[version as usize..] {
        run(&transaction, migration)?;
    }
    // A PRAGMA takes no bound parameter; both values are this program's own constants.
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    // In the same transaction as the tables: a crash leaves the old version whole, or the new one.
    transaction.pragma_update(None, "user_version", newest)?;
    transaction.commit()?;
    Ok(())
}

fn run(transaction: &Connection, migration: &[Step]) -> rusqlite::Result<()> {
    migration.iter().try_for_each(|step| match step {
        Step::Statements(sql) => transaction.execute_batch(sql),
        Step::Rows(move_rows) => move_rows(transaction),
    })
}

#[cfg(test)]
mod tests;

//! How a connection is opened, with the settings that all of them share, and what its failures mean.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, ffi};

use crate::dbs_exec::open_error::OpenError;
use crate::error::Error;
use crate::limits::{BUSY_TIMEOUT, STATEMENT_CACHE};

/// Opens a connection. The path is one that was resolved: SQLite is built to read URIs, and an absolute path is none.
pub(super) fn open_connection(path: &Path, flags: OpenFlags) -> Result<Connection, OpenError> {
    // Each connection is used by one thread at a time (a mutex or the readers' pool sees to it).
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    // Not trusted: a schema that somebody has tampered with must not call functions that do more than compute. In
    // memory: what is sorted for an answer leaves no copy of the books in a folder of temporary files.
    connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;")?;
    Ok(connection)
}

/// Opens a file as one that nobody changes: without locks, without what may stand beside it, and without a trace.
pub(super) fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            // Writing to a string can't fail.
            other => drop(write!(uri, "%{other:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;")?;
    Ok(connection)
}

/// Tells a failure of SQLite by what it means for the operation.
pub(super) fn storage_error(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ffi::ErrorCode::DiskFull) => Error::DiskFull,
        // Only closing interrupts a reader.
        Some(ffi::ErrorCode::OperationInterrupted) => Error::Stopping,
        Some(_) | None => Error::Database(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_of_a_file_can_be_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a?b#c%20 ü.db");
        open_connection(&path, OpenFlags::default()).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        let looked = open_immutable(&path).unwrap();
        assert_eq!(looked.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)), Ok(1));
        assert!(looked.execute_batch("CREATE TABLE u (x)").is_err());
    }
}

//! Comparing the tables of two copies, a slice at a time.
//!
//! The running digest shows that a replica has executed the same statements; it does not show a row that somebody
//! changed behind its back. So a primary now and then computes a digest over some thousand rows of one table, as they
//! are after a certain group, and the replica does the same after the same group; slice by slice they go through
//! all tables, again and again. A slice costs about ten milliseconds, so nobody waits for it.
//!
//! The tables `replication_…` are left out: they belong to one copy alone.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ToSql};
use sha2::{Digest as _, Sha256};

use crate::dbs_exec::commit_log::group_log::{LogDigest, push_value};

/// A table of which copies are the same, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedTable {
    /// Its name.
    pub name: String,
    keys: Vec<String>,
}

/// Some rows of a table, in the order of its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// How many rows.
    pub rows: usize,
    /// Over all their columns.
    pub digest: LogDigest,
    /// The key of the last one; none at the end of the table.
    pub last_key: Option<Vec<Value>>,
    /// The key of the first one, as a person reads it.
    pub first: String,
    /// The key of the last one, likewise.
    pub last: String,
}

/// The tables that all copies share, by name.
pub fn shared_tables(connection: &Connection) -> rusqlite::Result<Vec<SharedTable>> {
    let mut statement = connection.prepare_cached(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'replication\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut tables = Vec::new();
    for name in names {
        let mut statement =
            connection.prepare_cached("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?;
        let mut keys: Vec<String> = statement.query_map([&name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        if keys.is_empty() {
            // SQLite's own table of counters is the only one without a key.
            keys.push("name".into());
        }
        tables.push(SharedTable { name, keys });
    }
    Ok(tables)
}

/// The next `rows` rows of a table after `after`.
pub fn slice(
    connection: &Connection,
    table: &SharedTable,
    after: Option<&[Value]>,
    rows: usize,
) -> rusqlite::Result<Slice> {
    let quoted: Vec<String> = table.keys.iter().map(|key| format!("\"{key}\"")).collect();
    let keys = quoted.join(", ");
    let places: Vec<String> = (1..=table.keys.len()).map(|place| format!("?{place}")).collect();
    let condition = after.map_or_else(String::new, |_| format!("WHERE ({keys}) > ({}) ", places.join(", ")));
    // Names come from this program's own schema, never from outside.
    let sql = format!("SELECT {keys}, * FROM \"{}\" {condition}ORDER BY {keys} LIMIT {rows}", table.name);
    let mut statement = connection.prepare_cached(&sql)?;
    let columns = statement.column_count();
    let params: Vec<&dyn ToSql> = after.unwrap_or_default().iter().map(|value| value as &dyn ToSql).collect();
    let mut found = statement.query(&params[..])?;
    let mut hasher = Sha256::new();
    let (mut count, mut bytes, mut first, mut last) = (0, Vec::new(), None, None);
    while let Some(row) = found.next()? {
        bytes.clear();
        // The key's columns stand in front once more; they are hashed as a part of the row.
        for column in table.keys.len()..columns {
            push_value(&mut bytes, row.get_ref(column)?);
        }
        hasher.update(&bytes);
        count += 1;
        let key: Vec<Value> = (0..table.keys.len()).map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?;
        if first.is_none() {
            first = Some(key.clone());
        }
        last = Some(key);
    }
    let tell = |key: &Option<Vec<Value>>| key.as_deref().map_or_else(|| "none".to_string(), tell_key);
    Ok(Slice {
        rows: count,
        digest: hasher.finalize().into(),
        first: tell(&first),
        last: tell(&last),
        // A slice that is not full is the table's last.
        last_key: last.filter(|_| count == rows),
    })
}

fn tell_key(key: &[Value]) -> String {
    let tell = |value: &Value| match ValueRef::from(value) {
        ValueRef::Null => "null".to_string(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).chars().take(64).collect(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
    };
    key.iter().map(tell).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dbs_exec::schema;

    #[test]
    fn slices_cover_every_row_and_any_change_shows() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        for number in 1..=25 {
            connection.execute("INSERT INTO auth (account_num, password) VALUES (?1, 'x')", [number]).unwrap();
        }
        let tables = shared_tables(&connection).unwrap();
        assert!(tables.iter().all(|table| !table.name.starts_with("replication_")), "{tables:?}");
        assert!(tables.iter().any(|table| table.name == "sqlite_sequence"));
        let auth = tables.iter().find(|table| table.name == "auth").unwrap();
        let digests = |connection: &Connection| {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let slice = slice(connection, auth, after.as_deref(), 10).unwrap();
                found.push((slice.rows, slice.digest, slice.first, slice.last));
                after = slice.last_key;
                if after.is_none() {
                    return found;
                }
            }
        };
        let before = digests(&connection);
        let rows: Vec<_> = before.iter().map(|(rows, _, first, last)| (*rows, first.as_str(), last.as_str())).collect();
        assert_eq!(rows, [(10, "1", "10"), (10, "11", "20"), (5, "21", "25")]);
        connection.execute("UPDATE auth SET password = 'y' WHERE account_num = 13", []).unwrap();
        let after = digests(&connection);
        assert_eq!((before[0] == after[0], before[1] == after[1], before[2] == after[2]), (true, false, true));
    }
}

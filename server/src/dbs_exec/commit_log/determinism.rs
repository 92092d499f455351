//! What a write statement must not be: replicas execute it again, and it has to do the same there.
//!
//! No statement may depend on the clock, on chance, on what was executed before on its connection, or on the order
//! in which SQLite happens to find rows. Such values are bound, and where rows are limited their order is said.
//! Debug builds look at each statement before its first execution, so every test does; a test of this module also
//! looks at all that stand in the sources.

/// What no write statement may hold, in lower case.
const FORBIDDEN: [&str; 16] = [
    "random(",
    "randomblob(",
    "'now'",
    "current_",
    "last_insert_rowid",
    "changes(",
    "date(",
    "time(",
    "datetime(",
    "julianday(",
    "unixepoch(",
    "strftime(",
    "timediff(",
    "sqlite_version",
    "rowid",
    "default values",
];

/// Stops the process in a debug build when the statement is not fit for replicas.
pub fn assert_deterministic(sql: &'static str) {
    #[cfg(debug_assertions)]
    {
        use std::cell::RefCell;
        use std::collections::BTreeSet;
        thread_local! {
            static LOOKED_AT: RefCell<BTreeSet<usize>> = const { RefCell::new(BTreeSet::new()) };
        }
        if LOOKED_AT.with_borrow_mut(|known| known.insert(sql.as_ptr().addr())) {
            assert_eq!(why_unfit(sql), None, "{sql}");
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = sql;
}

/// Why replicas could not execute this statement with the same outcome; `None` when they can.
#[must_use]
pub fn why_unfit(sql: &str) -> Option<String> {
    let text = sql.to_lowercase();
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    // The word itself stands in front: after a comment or a semicolon there may be nothing that could be executed.
    let begins = |word: &&&str| text.trim_start().starts_with(**word);
    if !matches!(words.first().filter(begins), Some(&("insert" | "update" | "delete"))) {
        return Some("it neither inserts nor updates nor deletes".into());
    }
    if text.contains('\0') {
        return Some("SQLite reads it only up to its zero byte".into());
    }
    if let Some(found) = FORBIDDEN.iter().find(|forbidden| text.contains(**forbidden)) {
        return Some(format!("it holds {found:?}"));
    }
    let has = |first: &str, second: &str| words.windows(2).any(|pair| pair == [first, second]);
    if words.contains(&"limit") && !has("order", "by") {
        return Some("it limits rows without saying their order".into());
    }
    if words.first() == Some(&"insert") && words.contains(&"select") && !has("order", "by") {
        return Some("it inserts rows in the order in which they are found".into());
    }
    // The number of changed rows would not show that other rows were there than at the primary.
    if has("or", "replace") || has("or", "ignore") {
        return Some("it hides what it does to other rows".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use rusqlite::Connection;

    use super::*;
    use crate::dbs_exec::schema;

    #[test]
    fn statements_that_replicas_would_execute_otherwise_are_found() {
        let check = |sql: &str, is_fit: bool| assert_eq!(why_unfit(sql).is_none(), is_fit, "{sql}");
        check("UPDATE accounts SET balance = ?2 WHERE account_num = ?1", true);
        check("DELETE FROM a WHERE k IN (SELECT k FROM a ORDER BY k LIMIT ?1)", true);
        check("DELETE FROM a WHERE k IN (SELECT k FROM a LIMIT ?1)", false);
        check("INSERT INTO a (b) VALUES (random())", false);
        check("INSERT INTO a (b) VALUES (unixepoch())", false);
        check("INSERT INTO a (b) VALUES (CURRENT_TIMESTAMP)", false);
        check("UPDATE a SET b = strftime('%s', 'now')", false);
        check("UPDATE a SET b = last_insert_rowid()", false);
        check("UPDATE a SET b = changes()", false);
        check("DELETE FROM a WHERE rowid < 5", false);
        check("INSERT INTO a (b) SELECT b FROM c", false);
        check("INSERT INTO a (b) SELECT b FROM c ORDER BY b", true);
        check("INSERT OR IGNORE INTO a (b) VALUES (1)", false);
        check("PRAGMA user_version = 5", false);
        check("  UPDATE a SET b = 5", true);
        // SQLite finds nothing to execute in these, or not all that stands there.
        check("-- insert", false);
        check(";insert", false);
        check("\0INSERT INTO a (b) VALUES (5)", false);
        check("DELETE FROM a\0 WHERE b = 5", false);
    }

    /// Every text in the sources that reads as a write statement, whoever executes it.
    #[test]
    fn no_write_statement_of_the_program_depends_on_clock_chance_or_order() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        let mut found = BTreeSet::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        // What stands there is PostgreSQL's, and is executed by no copy.
        let is_ours = |path: &PathBuf| !path.starts_with(source.join("shared_log/postgres"));
        for path in sources(&source).into_iter().filter(is_ours) {
            let text = fs::read_to_string(&path).unwrap();
            // What tests execute by themselves is no matter of the program's.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            found.extend(literals(text).into_iter().filter(|literal| is_write(literal)));
        }
        assert!(found.len() > 25, "only {} statements were found", found.len());
        for sql in &found {
            assert_eq!(why_unfit(sql), None, "{sql}");
            // SQLite itself says that each is one, and of these tables.
            let statement = connection.prepare(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
            assert!(!statement.readonly(), "{sql}");
            assert_names_its_key(&connection, sql);
        }
    }

    /// An INSERT that leaves the key out gets one from SQLite, which depends on what was there before.
    fn assert_names_its_key(connection: &Connection, sql: &str) {
        let words: Vec<&str> =
            sql.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
        if words[0] != "INSERT" {
            return;
        }
        let table = words[2];
        let columns = sql.split_once('(').and_then(|(_, rest)| rest.split_once(')')).unwrap().0;
        let columns: Vec<&str> = columns.split(',').map(str::trim).collect();
        let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0").unwrap();
        let keys: Vec<String> = statement.query_map([table], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert!(!keys.is_empty(), "{table} has no key: {sql}");
        for key in keys {
            assert!(columns.contains(&key.as_str()), "{key} is left to SQLite: {sql}");
        }
    }

    fn is_write(literal: &str) -> bool {
        ["INSERT INTO ", "INSERT OR ", "UPDATE ", "DELETE FROM ", "REPLACE "]
            .iter()
            .any(|begin| literal.trim_start().starts_with(begin))
    }

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(sources(&path));
            } else if path.extension().is_some_and(|extension| extension == "rs")
                // Migrations run before there is anything that a replica could execute.
                && !path.ends_with("schema.rs")
                && !path.parent().is_some_and(|folder| folder.ends_with("schema"))
                && !path.ends_with("determinism.rs")
                && !path.ends_with("tests.rs")
            {
                found.push(path);
            }
        }
        found
    }

    /// The string literals of a Rust source, comments left out.
    fn literals(source: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = source;
        while let Some(at) = rest.find(['"', '/', '\'']) {
            let (from, next) = (&rest[at..], rest[at..].chars().nth(1));
            match (from.as_bytes()[0], next) {
                (b'/', Some('/')) => rest = from.split_once('\n').map_or("", |(_, rest)| rest),
                // A character such as '"'; a lifetime has no closing quote.
                (b'\'', Some(_)) if from.as_bytes().get(2) == Some(&b'\'') => rest = &from[3..],
                (b'\'', Some('\\')) => rest = &from[4..],
                (b'"', _) => {
                    let mut text = String::new();
                    let mut characters = from[1..].char_indices();
                    let end = loop {
                        match characters.next() {
                            Some((_, '\\')) => text.extend(characters.next().map(|(_, escaped)| escaped)),
                            Some((end, '"')) => break end + 2,
                            Some((_, character)) => text.push(character),
                            None => break from.len(),
                        }
                    };
                    found.push(text);
                    rest = &from[end..];
                }
                (_, _) => rest = &from[1..],
            }
        }
        found
    }
}

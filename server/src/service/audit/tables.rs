//! The tables, indexes and triggers themselves: a rule that was dropped is not kept by anyone.

use std::collections::BTreeMap;

use super::Findings;
use crate::dbs_exec::{Query, SchemaObject, expected_schema, params};
use crate::error::Result;

/// Compares what the database has with what the program makes.
pub(super) fn compare(query: &impl Query, findings: &mut Findings) -> Result<()> {
    let mut found: BTreeMap<(String, String), SchemaObject> = BTreeMap::new();
    // What begins with sqlite_ is SQLite's own, and nobody else can make such a name.
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    query.query_each(sql, params![], |row| {
        let object = SchemaObject::read(row)?;
        found.insert((object.kind.clone(), object.name.clone()), object);
        Ok(())
    })?;
    for expected in expected_schema() {
        let SchemaObject { kind, name, table, .. } = expected;
        match found.remove(&(kind.clone(), name.clone())) {
            None => findings.add(format!("the {kind} {name} of {table} is gone")),
            Some(object) if object != *expected => findings.add(format!("the {kind} {name} of {table} was altered")),
            Some(_) => {}
        }
    }
    for SchemaObject { kind, name, table, .. } in found.into_values() {
        findings.add(format!("there is a {kind} {name} at {table} that the program did not make"));
    }
    Ok(())
}

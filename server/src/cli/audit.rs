//! The audit of a database that no branch serves: with SQLite's own check of the file, and saying how far it is.

use std::time::Instant;

use protocol::answer::Audit;

use super::report::complain;
use crate::dbs_exec::{ChainHead, Query};
use crate::error::Result;
use crate::limits::{COPY_PROGRESS_AFTER, COPY_PROGRESS_EVERY};
use crate::service::audit::{Auditing, audit_with, check_file};

/// Audits the books and the file. On standard error it says how far it is, once it takes its time.
///
/// # Errors
/// [`crate::error::Error::Database`] when SQLite fails.
pub fn audit_at_rest(query: &impl Query, expected: Option<ChainHead>) -> Result<Audit> {
    let begin = Instant::now();
    let mut next = begin + COPY_PROGRESS_AFTER;
    let mut progress = |done: u64, all: u64| {
        if Instant::now() >= next {
            next = Instant::now() + COPY_PROGRESS_EVERY;
            let percent = (done * 100).checked_div(all).unwrap_or(100);
            complain(&format!("{percent} % audited ({done} of {all} transactions)"));
        }
    };
    let mut audit = audit_with(query, Auditing { expected, progress: Some(&mut progress) })?;
    if begin.elapsed() >= COPY_PROGRESS_AFTER {
        complain("the books are audited; SQLite checks the file");
    }
    audit.findings.extend(check_file(query)?);
    audit.ok = audit.findings.is_empty();
    Ok(audit)
}

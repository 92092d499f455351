//! What is known of the whole bank's books between two audits: what the last one found, what was told of it, and how
//! many rows there were when.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use branch_client::audit::Memory;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::bank::View;
use crate::error::Error;
use crate::limits::{PLACE_TIMEOUT, RATE_SECONDS};

/// How far two samples of the rate are apart at least, so that their number is bounded.
const RATE_SAMPLE: Duration = Duration::from_millis(200);

/// The books.
pub struct Books {
    state: Mutex<AuditState>,
    /// One audit by request at a time.
    place: Arc<Semaphore>,
}

impl Books {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Mutex::default(), place: Arc::new(Semaphore::new(1)) }
    }

    /// What is known. Nothing may be asked of a branch while it is held.
    pub fn state(&self) -> MutexGuard<'_, AuditState> {
        self.state.lock()
    }

    /// Waits until no other request has the bank audited.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub async fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        match timeout(PLACE_TIMEOUT, Arc::clone(&self.place).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Error::Busy("an audit is being made; try again in a moment")),
        }
    }
}

impl Default for Books {
    fn default() -> Self {
        Self::new()
    }
}

/// Rows of each branch, by name.
pub type Rows = BTreeMap<String, u64>;

/// What is known of the bank between two audits.
#[derive(Default)]
pub struct AuditState {
    /// What the last round found between branches.
    pub between: Vec<String>,
    /// What excuses a difference for now: transfers that are under way.
    pub under_way: Vec<String>,
    /// Who was not heard in it, and why.
    pub not_heard: BTreeMap<String, String>,
    /// What the next round need not look for again.
    pub memory: Memory,
    /// When those who watch were told last,
    pub told: Option<Instant>,
    /// and what.
    pub last: Option<View>,
    /// When the rows of all branches were how many.
    counts: VecDeque<(Instant, Rows)>,
}

impl AuditState {
    /// Rows in a second over the last seconds, with these rows now.
    pub fn rate(&mut self, rows: Rows) -> Value {
        rate(&mut self.counts, Instant::now(), rows)
    }
}

/// Rows in a second, with one decimal, over the last [`RATE_SECONDS`], of the branches that were known all that time.
fn rate(counts: &mut VecDeque<(Instant, Rows)>, now: Instant, rows: Rows) -> Value {
    let window = Duration::from_secs(RATE_SECONDS as u64);
    // The oldest that is kept is the newest that is as old as the window.
    while counts.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= window) {
        counts.pop_front();
    }
    let (elapsed, booked) = counts.front().map_or((Duration::ZERO, 0), |(at, before)| {
        let grown = |(name, count): (&String, &u64)| Some(count.saturating_sub(*before.get(name)?));
        (now.duration_since(*at), rows.iter().filter_map(grown).sum())
    });
    if counts.back().is_none_or(|(at, _)| now.duration_since(*at) >= RATE_SAMPLE) {
        counts.push_back((now, rows));
    }
    let tenths = (u128::from(booked) * 10_000).checked_div(elapsed.as_millis()).unwrap_or(0);
    let text = format!("{}.{}", tenths / 10, tenths % 10);
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, u64)]) -> Rows {
        rows.iter().map(|(name, count)| ((*name).to_string(), *count)).collect()
    }

    #[test]
    fn the_rate_is_over_the_last_seconds() {
        let (mut counts, begin) = (VecDeque::new(), Instant::now());
        let mut check = |ms, count, expected: &str| {
            let now = begin + Duration::from_millis(ms);
            assert_eq!(rate(&mut counts, now, rows(&[("Mumbai", count)])).to_string(), expected, "after {ms} ms");
        };
        check(0, 100, "0.0");
        check(1_000, 105, "5.0");
        check(4_000, 105, "1.2");
        check(60_000, 105, "0.0");
        assert!(counts.len() <= 3);
    }

    #[test]
    fn a_branch_that_comes_late_brings_no_rate_with_it() {
        let (mut counts, begin) = (VecDeque::new(), Instant::now());
        rate(&mut counts, begin, rows(&[("Mumbai", 10)]));
        let both = rows(&[("Mumbai", 20), ("Delhi", 1_000_000)]);
        assert_eq!(rate(&mut counts, begin + Duration::from_secs(1), both).to_string(), "10.0");
    }
}

//! Running time: how long the branch has been running, in all its processes. What is kept *for a time* is kept by it.
//!
//! The wall clock may be set by years, forward by a first time synchronisation, or backward; a machine may start in
//! 1970. So nothing is thrown away because two looks at it differ. Running time begins with what the wall clock says
//! at the first start, so that it reads as a date, and from then on goes on only with time that a process has measured
//! as passed, by the monotonic clock and in bounded steps: a process that was stopped, or a machine that slept, counts
//! at most one step. Time in which the branch was down does not count, so things are kept longer then, never shorter.
//!
//! It is one row of the database, written every [`RUNNING_TIME_STEP`] as a bound value, so replicas have it too and a
//! promoted one goes on from there. A process that ends between two writes loses at most a step, which is the same
//! error on the same side.
//!
//! Stamps in tables are taken from that row ([`stamp`]), so they cost no look at a clock; their grain is the step.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::dbs_exec::{DbsExec, Query, Tx, params};
use crate::error::Result;
use crate::limits::{RUNNING_TIME_STEP, RUNNING_TIME_STEP_MAX};

/// The latest time at which it may begin: far from where sums of milliseconds end.
const BEGIN_MAX_UNIX_MS: i64 = i64::MAX / 4;

/// The running time of this process, going on from the row.
///
/// Invariant: it never goes back, and never on by more than the time that passed.
#[derive(Debug)]
pub struct RunningTime(Mutex<State>);

#[derive(Debug)]
struct State {
    unix_ms: i64,
    /// The machine's time at the last count, as it was given,
    elapsed: Duration,
    /// and as it is read here.
    at: Instant,
    written_unix_ms: i64,
}

impl RunningTime {
    /// Goes on from the row, which is made at the first start, with what the wall clock says then.
    ///
    /// # Errors
    /// Failure of the database.
    pub fn start(dbs: &DbsExec, wall_unix_ms: i64) -> Result<Self> {
        dbs.execute(move |tx| begin(tx, wall_unix_ms)).map(Self::from_row)
    }

    /// For a copy that is not written: it stands nearly still.
    ///
    /// # Errors
    /// Failure of the database.
    pub fn at_rest(dbs: &DbsExec) -> Result<Self> {
        dbs.read(|reader| stamp(reader)).map(Self::from_row)
    }

    fn from_row(unix_ms: i64) -> Self {
        let (elapsed, at) = (Duration::ZERO, Instant::now());
        Self(Mutex::new(State { unix_ms, elapsed, at, written_unix_ms: unix_ms }))
    }

    /// The running time now, in milliseconds.
    #[must_use]
    pub fn now_unix_ms(&self) -> i64 {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> i64 {
        let state = self.0.lock();
        state.unix_ms.saturating_add(step_ms(now.saturating_duration_since(state.at)))
    }

    /// Counts what has passed since the last call, by the time since the engine was made. Gives the time to be written,
    /// if it is time to write it.
    fn pass(&self, elapsed: Duration) -> Option<i64> {
        let mut state = self.0.lock();
        let passed_ms = step_ms(elapsed.saturating_sub(state.elapsed));
        state.unix_ms = state.unix_ms.saturating_add(passed_ms);
        (state.elapsed, state.at) = (elapsed, Instant::now());
        (state.unix_ms - state.written_unix_ms >= step_ms(RUNNING_TIME_STEP)).then_some(state.unix_ms)
    }

    /// Counts on, `elapsed` being the time since the engine was made, and makes it durable every
    /// [`RUNNING_TIME_STEP`]. Called more often than that.
    ///
    /// # Errors
    /// As [`DbsExec::execute`]; what has passed is written the next time.
    pub fn advance(&self, dbs: &DbsExec, elapsed: Duration) -> Result<()> {
        let Some(unix_ms) = self.pass(elapsed) else { return Ok(()) };
        dbs.execute(move |tx| write(tx, unix_ms))?;
        self.0.lock().written_unix_ms = unix_ms;
        Ok(())
    }
}

/// A time that passed, in milliseconds, and no more than one step of it.
fn step_ms(passed: Duration) -> i64 {
    i64::try_from(passed.min(RUNNING_TIME_STEP_MAX).as_millis()).unwrap_or(0)
}

/// The row's time: the stamp of what is written now.
///
/// # Errors
/// Failure of the database.
pub fn stamp(query: &impl Query) -> Result<i64> {
    let row = query.query_opt("SELECT unix_ms FROM running_time", params![], |row| row.get(0))?;
    Ok(row.unwrap_or(0))
}

/// What was stamped before this has been kept for `kept`. Below every stamp as long as there may be some that an older
/// program took from the wall clock: those are kept that long from the first start of this one.
///
/// # Errors
/// Failure of the database.
pub fn kept_before(query: &impl Query, kept: Duration) -> Result<i64> {
    let row = query.query_opt("SELECT unix_ms, wall_clock_until_unix_ms FROM running_time", params![], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    })?;
    let (unix_ms, wall_clock_until) = row.unwrap_or((0, 0));
    // A stamp may be a step older than what it stands on.
    let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX).saturating_add(step_ms(RUNNING_TIME_STEP));
    let before = unix_ms.saturating_sub(kept_ms);
    Ok(if before < wall_clock_until { i64::MIN } else { before })
}

fn write(tx: &mut Tx<'_>, unix_ms: i64) -> Result<()> {
    tx.execute("UPDATE running_time SET unix_ms = max(unix_ms, ?1)", params![unix_ms])?;
    Ok(())
}

/// Makes the row, once. Gives its time.
fn begin(tx: &mut Tx<'_>, wall_unix_ms: i64) -> Result<i64> {
    let known = stamp(tx)?;
    if known != 0 {
        return Ok(known);
    }
    // What an older program has stamped by the wall clock. Running time begins after all of it.
    let latest: Option<i64> = tx
        .query_opt(
            "SELECT max(at) FROM (SELECT max(at_unix_ms) AS at FROM answers
                 UNION ALL SELECT max(changed_unix_ms) FROM coordinated
                 UNION ALL SELECT max(changed_unix_ms) FROM prepared
                 UNION ALL SELECT max(due_unix_ms) FROM sms_outbox)",
            params![],
            |row| row.get(0),
        )?
        .flatten();
    let begin = latest.map_or(wall_unix_ms, |latest| latest.max(wall_unix_ms)).clamp(1, BEGIN_MAX_UNIX_MS);
    tx.execute(
        "UPDATE running_time SET unix_ms = ?1, wall_clock_until_unix_ms = ?2",
        params![begin, latest.map_or(0, |_| begin)],
    )?;
    forget_text_fingerprints(tx)?;
    Ok(begin)
}

/// Fingerprints over the text of requests that may have held a password go: they are fast hashes of it. A repeat of
/// such a request is refused as reused.
fn forget_text_fingerprints(tx: &mut Tx<'_>) -> Result<()> {
    tx.execute(
        "UPDATE answers SET fingerprint = zeroblob(32) WHERE answer = 'true' OR answer LIKE '[%'
             OR (answer LIKE '{_account_no_:%' AND answer NOT LIKE '%paid_out%')",
        params![],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_goes_on_by_the_time_that_passed_and_in_bounded_steps() {
        let running = RunningTime::from_row(1_000);
        let begun = running.0.lock().at;
        assert_eq!(running.at(begun + SECOND), 2_000);
        assert_eq!(running.at(begun + SECOND * 365 * 24 * 3600), 1_000 + step_ms(RUNNING_TIME_STEP_MAX));
        assert_eq!(running.pass(SECOND), None);
        assert_eq!(running.at(begun), 2_000, "never back");
        // The machine slept for a year.
        let later = SECOND * 365 * 24 * 3600;
        let counted = 2_000 + step_ms(RUNNING_TIME_STEP_MAX);
        assert_eq!(running.pass(later), Some(counted));
        assert_eq!(running.pass(later + SECOND), Some(counted + 1_000), "it is not written yet");
        assert_eq!(running.pass(SECOND), Some(counted + 1_000), "never back");
    }
}

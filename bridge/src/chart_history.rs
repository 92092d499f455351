//! How busy the bank was in the last minutes and how much was in doubt, for the charts of a page that is opened now.
//!
//! A point is noted whenever those who watch are told how the bank stands. Points are kept for [`CHART_TIME`], one for
//! each [`CHART_STEP`] at most, so their number is bounded; where several come within a step, the most that was in
//! doubt counts, because a moment of doubt is what a class looks for. Nothing of it survives the bridge.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use crate::limits::{CHART_STEP, CHART_TIME};

/// The last minutes.
#[derive(Default)]
pub struct ChartHistory {
    points: Mutex<VecDeque<Noted>>,
}

struct Noted {
    at: Instant,
    transfers_per_second: Value,
    in_doubt: u64,
}

/// How the bank stood at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// How long ago that was, in milliseconds: the clocks of a browser and of this machine may differ.
    pub age_ms: u64,
    /// Rows that all branches booked in a second; one decimal.
    pub transfers_per_second: Value,
    /// Transfers in doubt at all branches.
    pub in_doubt: u64,
}

impl ChartHistory {
    /// Notes how the bank stands.
    pub fn note(&self, now: Instant, transfers_per_second: Value, in_doubt: u64) {
        let mut points = self.points.lock();
        while points.front().is_some_and(|oldest| now.duration_since(oldest.at) > CHART_TIME) {
            points.pop_front();
        }
        match points.back_mut() {
            Some(last) if now.duration_since(last.at) < CHART_STEP => {
                last.transfers_per_second = transfers_per_second;
                last.in_doubt = last.in_doubt.max(in_doubt);
            }
            Some(_) | None => points.push_back(Noted { at: now, transfers_per_second, in_doubt }),
        }
    }

    /// The points of the last [`CHART_TIME`], the oldest first.
    #[must_use]
    pub fn points(&self, now: Instant) -> Vec<Point> {
        let points = self.points.lock();
        let aged = points.iter().map(|noted| (now.duration_since(noted.at), noted));
        let kept = aged.filter(|(age, _)| *age <= CHART_TIME);
        kept.map(|(age, noted)| Point {
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            transfers_per_second: noted.transfers_per_second.clone(),
            in_doubt: noted.in_doubt,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_of_doubt_is_not_lost_between_two_points() {
        let (history, begin) = (ChartHistory::default(), Instant::now());
        history.note(begin, 1.into(), 0);
        history.note(begin + CHART_STEP / 3, 2.into(), 3);
        history.note(begin + CHART_STEP / 2, 4.into(), 0);
        history.note(begin + CHART_STEP, 5.into(), 0);
        let points = history.points(begin + CHART_STEP * 2);
        let step_ms = u64::try_from(CHART_STEP.as_millis()).unwrap();
        assert_eq!(
            points,
            [
                Point { age_ms: 2 * step_ms, transfers_per_second: 4.into(), in_doubt: 3 },
                Point { age_ms: step_ms, transfers_per_second: 5.into(), in_doubt: 0 },
            ]
        );
    }

    #[test]
    fn what_is_kept_is_bounded_and_old_points_go() {
        let (history, begin) = (ChartHistory::default(), Instant::now());
        let tick = CHART_STEP / 4;
        let ticks = u32::try_from(2 * CHART_TIME.as_millis() / tick.as_millis()).unwrap();
        for number in 0..ticks {
            history.note(begin + tick * number, 0.into(), 0);
        }
        assert_eq!(history.points.lock().len() as u128, CHART_TIME.as_millis() / CHART_STEP.as_millis());
        let end = begin + tick * ticks;
        assert!(history.points(end + CHART_TIME - Duration::from_secs(1)).len() < 4);
        assert!(history.points(end + CHART_TIME).is_empty());
    }
}

//! What one measurement gave, and how it is shown.
//!
//! Rates and ratios are integers: operations a second, and thousandths. No float is needed to compare them.

use std::time::Duration;

use serde::Serialize;

use crate::latency::{Latencies, Latency};

/// What one measurement gave.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// Operations that were answered ok while it ran. A batch counts as what is in it.
    pub operations: u64,
    /// Operations that were refused.
    pub errors: u64,
    /// The text of one refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Operations in a second.
    pub per_second: u64,
    /// Latency of an operation, from its sending to its answer.
    #[serde(flatten)]
    pub latency: Latency,
}

impl Measurement {
    /// Takes the counts of a measurement.
    pub fn new(
        operations: u64,
        errors: u64,
        last_error: Option<String>,
        duration: Duration,
        latencies: &Latencies,
    ) -> Self {
        let per_second = u128::from(operations) * 1_000_000_000 / duration.as_nanos().max(1);
        Self {
            operations,
            errors,
            last_error,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            per_second: u64::try_from(per_second).unwrap_or(u64::MAX),
            latency: latencies.latency(),
        }
    }

    /// The one in the middle by rate, with the errors of all.
    ///
    /// # Panics
    /// When there is none.
    pub fn median(mut runs: Vec<Self>) -> Self {
        assert!(!runs.is_empty(), "a median is of at least one measurement");
        let errors = runs.iter().map(|run| run.errors).sum();
        let last_error = runs.iter().find_map(|run| run.last_error.clone());
        runs.sort_by_key(|run| run.per_second);
        let middle = runs.swap_remove(runs.len() / 2);
        Self { errors, last_error, ..middle }
    }
}

/// `part` of `whole` in thousandths.
pub fn per_mille(part: u64, whole: u64) -> u64 {
    let per_mille = u128::from(part) * 1_000 / u128::from(whole.max(1));
    u64::try_from(per_mille).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(operations: u64, errors: u64) -> Measurement {
        Measurement::new(operations, errors, None, Duration::from_millis(500), &Latencies::new())
    }

    #[test]
    fn the_median_is_by_rate_and_hides_no_error() {
        let median = Measurement::median(vec![run(30, 0), run(10, 2), run(20, 0)]);
        assert_eq!((median.operations, median.per_second, median.errors), (20, 40, 2));
    }

    #[test]
    fn a_share_of_nothing_is_no_division_by_zero() {
        assert_eq!(per_mille(1, 4), 250);
        assert_eq!(per_mille(3, 0), 3_000);
    }
}

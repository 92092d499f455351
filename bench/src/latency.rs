//! Latencies, counted so that a percentile is right within a thousandth and no list of them is kept.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Digits of a latency in nanoseconds that are kept.
const DIGITS: u8 = 3;

/// How often each latency was seen.
#[derive(Clone)]
pub struct Latencies(Histogram<u64>);

/// What people want to know of many latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half of them took no longer.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// 999 of 1,000 took no longer.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Latencies {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self(Histogram::new(DIGITS).expect("the number of digits is one that is allowed"))
    }

    /// Counts `times` operations that each took `latency`.
    pub fn record(&mut self, latency: Duration, times: u64) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.0.record_n(nanoseconds, times).expect("it grows as far as it needs");
    }

    /// Adds what another thread has counted.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("it grows as far as it needs");
    }

    /// How many were counted.
    #[cfg(feature = "peers")]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The percentiles.
    pub fn latency(&self) -> Latency {
        Latency {
            p50_us: self.0.value_at_quantile(0.5) / 1_000,
            p99_us: self.0.value_at_quantile(0.99) / 1_000,
            p999_us: self.0.value_at_quantile(0.999) / 1_000,
            max_us: self.0.max() / 1_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_thousand_steps() {
        let mut latencies = Latencies::new();
        for step in 1..=1_000 {
            latencies.record(Duration::from_micros(step), 1);
        }
        let latency = latencies.latency();
        assert_eq!((latency.p50_us, latency.p99_us, latency.max_us), (500, 990, 1_000));
    }

    #[test]
    fn two_threads_counts_are_one() {
        let (mut one, mut other) = (Latencies::new(), Latencies::new());
        one.record(Duration::from_micros(10), 99);
        other.record(Duration::from_millis(50), 1);
        one.merge(&other);
        let latency = one.latency();
        assert_eq!((latency.p50_us, latency.p99_us), (10, 10));
        assert!((50_000..=50_050).contains(&latency.max_us), "{latency:?}");
        assert_eq!(Latencies::new().latency(), Latency::default());
    }

    #[test]
    fn the_longest_time_there_is_can_be_counted() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::MAX, 1);
        assert_eq!(latencies.latency().max_us, u64::MAX / 1_000);
    }
}

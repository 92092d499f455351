//! Latencies, counted in buckets.
//!
//! A bucket is never wider than a 64th of its values, so a percentile is right within two percent, and
//! counting costs an addition: no list of all latencies is kept or sorted. The maximum is exact.

use std::time::Duration;

use serde::Serialize;

/// Buckets for each doubling of the value.
const BUCKETS_PER_DOUBLING: u64 = 64;
/// Two to this power is `BUCKETS_PER_DOUBLING`.
const DOUBLING_BITS: u32 = BUCKETS_PER_DOUBLING.ilog2();
/// Buckets for every value of 64 bits.
const BUCKETS: usize = (BUCKETS_PER_DOUBLING as usize) * (u64::BITS - DOUBLING_BITS + 1) as usize;

/// How often each latency was seen.
#[derive(Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max_ns: u64,
}

/// What people want to know of a histogram, in microseconds.
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

impl Histogram {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max_ns: 0 }
    }

    /// Counts `times` operations that each took `latency`.
    pub fn record(&mut self, latency: Duration, times: u64) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanoseconds)] += times;
        self.count += times;
        self.max_ns = self.max_ns.max(nanoseconds);
    }

    /// Adds what another thread has counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// The percentiles.
    pub fn latency(&self) -> Latency {
        Latency {
            p50_us: self.at_per_mille(500) / 1_000,
            p99_us: self.at_per_mille(990) / 1_000,
            p999_us: self.at_per_mille(999) / 1_000,
            max_us: self.max_ns / 1_000,
        }
    }

    /// The latency in nanoseconds that `per_mille` of a thousand did not exceed.
    fn at_per_mille(&self, per_mille: u64) -> u64 {
        let wanted = (self.count * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return largest(index).min(self.max_ns);
            }
        }
        self.max_ns
    }
}

/// The bucket of a value: its first bits, and how many follow.
fn bucket(value: u64) -> usize {
    let following = (u64::BITS - value.leading_zeros()).saturating_sub(DOUBLING_BITS + 1);
    let index = u64::from(following) * BUCKETS_PER_DOUBLING + (value >> following);
    usize::try_from(index).expect("the index is below BUCKETS")
}

/// The largest value of a bucket.
fn largest(index: usize) -> u64 {
    let index = index as u64;
    let following = (index / BUCKETS_PER_DOUBLING).saturating_sub(1);
    let first_bits = index - following * BUCKETS_PER_DOUBLING;
    let above = u128::from(first_bits + 1) << following;
    u64::try_from(above - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_its_bucket_and_near_the_buckets_end() {
        let mut values: Vec<u64> = (0..5_000).collect();
        values.extend((12..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + (1 << (bit - 1))]));
        values.push(u64::MAX);
        for value in values {
            let index = bucket(value);
            assert!(index < BUCKETS, "value {value}");
            let end = largest(index);
            assert!(end >= value && end - value <= value / BUCKETS_PER_DOUBLING, "value {value}, end {end}");
            assert!(index == 0 || largest(index - 1) < value, "value {value}");
        }
    }

    #[test]
    fn percentiles_of_a_thousand_steps() {
        let mut histogram = Histogram::new();
        for step in 1..=1_000 {
            histogram.record(Duration::from_micros(step), 1);
        }
        let latency = histogram.latency();
        assert!((500..=508).contains(&latency.p50_us), "{latency:?}");
        assert!((990..=1_000).contains(&latency.p99_us), "{latency:?}");
        assert_eq!(latency.max_us, 1_000);
    }

    #[test]
    fn two_threads_counts_are_one() {
        let (mut one, mut other) = (Histogram::new(), Histogram::new());
        one.record(Duration::from_micros(10), 99);
        other.record(Duration::from_millis(50), 1);
        one.merge(&other);
        let latency = one.latency();
        assert_eq!((latency.p50_us, latency.p99_us, latency.max_us), (10, 10, 50_000));
        assert_eq!(Histogram::new().latency(), Latency::default());
    }
}

//! The fixed band of seeds, the walk through every crash point, and the proof that a seed replays.

use std::sync::atomic::{AtomicU64, Ordering};

use simulator::machines::{Report, run, run_with_crash_at};

/// The fixed band that every test run goes through.
const SEEDS: u64 = 6_000;
/// Threads that share the band: more than the machine's processors is no use, and two is what it has.
const THREADS: u64 = 2;

fn check(seed: u64, report: &Report) {
    if let Some(violation) = &report.violation {
        panic!("seed {seed}: {violation}\nagain: cargo run -p simulator -- --seeds 1 --seed {seed} --trace");
    }
}

#[test]
fn no_seed_of_the_band_breaks_a_rule() {
    let (committed, aborted) = (AtomicU64::new(0), AtomicU64::new(0));
    let (mixed, crashes) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for first in 0..THREADS {
            let (committed, aborted, mixed, crashes) = (&committed, &aborted, &mixed, &crashes);
            scope.spawn(move || {
                for seed in (first..SEEDS).step_by(THREADS as usize) {
                    let report = run_saying_its_seed(seed);
                    check(seed, &report);
                    committed.fetch_add(report.committed as u64, Ordering::Relaxed);
                    aborted.fetch_add(report.aborted as u64, Ordering::Relaxed);
                    mixed.fetch_add(report.mixed as u64, Ordering::Relaxed);
                    crashes.fetch_add(report.crashes, Ordering::Relaxed);
                }
            });
        }
    });
    // A band in which nothing happens would prove nothing.
    assert!(committed.into_inner() > 4 * SEEDS, "too few commits");
    assert!(aborted.into_inner() > SEEDS, "too few aborts");
    assert!(crashes.into_inner() > 4 * SEEDS, "too few crashes");
    assert!(mixed.into_inner() > 50, "too few mixed outcomes");
}

/// A machine that finds itself wrong panics without knowing the seed.
fn run_saying_its_seed(seed: u64) -> Report {
    match std::panic::catch_unwind(|| run(seed, None, false)) {
        Ok(report) => report,
        Err(_) => panic!("seed {seed}: a machine stopped itself"),
    }
}

#[test]
fn a_crash_at_every_point_between_record_commit_and_send_is_survived() {
    let mut walked = 0;
    for seed in 0..12 {
        let undisturbed = run_with_crash_at(seed, 0, false);
        check(seed, &undisturbed);
        assert_eq!(undisturbed.crashes, 0);
        assert!(undisturbed.committed > 0, "seed {seed} commits nothing");
        for point in 1..=undisturbed.points {
            let report = run_with_crash_at(seed, point, false);
            assert_eq!(report.crashes, 1, "seed {seed} has no point {point}");
            assert!(report.violation.is_none(), "seed {seed}, crash at point {point}: {:?}", report.violation);
        }
        walked += undisturbed.points;
    }
    assert!(walked > 1_000, "{walked} points only");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..40 {
        let (once, twice) = (run(seed, None, true), run(seed, None, true));
        assert!(!once.trace.is_empty());
        assert_eq!(once.trace, twice.trace, "seed {seed}");
        assert_eq!(once.trace_hash, twice.trace_hash, "seed {seed}");
    }
    for seed in 40..400 {
        assert_eq!(run(seed, None, false).trace_hash, run(seed, None, false).trace_hash, "seed {seed}");
    }
    assert_ne!(run(1, None, false).trace_hash, run(2, None, false).trace_hash, "the hash sees a difference");
}

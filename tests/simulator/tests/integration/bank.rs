//! The fixed band of seeds of the whole bank, and the proof that a seed replays.

use std::sync::atomic::{AtomicU64, Ordering};

use simulator::{bank, say_which_seed};

/// The fixed band that every test run goes through.
const SEEDS: u64 = 150;
/// Threads that share the band: more than the machine's processors is no use, and two is what it has.
const THREADS: u64 = 2;

#[test]
fn no_seed_of_the_band_goes_wrong() {
    let sums: [AtomicU64; 4] = Default::default();
    std::thread::scope(|scope| {
        for first in 0..THREADS {
            let sums = &sums;
            scope.spawn(move || {
                for seed in (first..SEEDS).step_by(THREADS as usize) {
                    say_which_seed(seed);
                    let report = bank::run(seed, false);
                    if let Some(violation) = &report.violation {
                        panic!(
                            "seed {seed}: {violation}\nagain: cargo run -p simulator -- --seeds 1 --seed {seed} --trace"
                        );
                    }
                    let more = [report.committed as u64, report.refused as u64, report.by_hand as u64, report.crashes];
                    for (sum, more) in sums.iter().zip(more) {
                        sum.fetch_add(more, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    // A band in which nothing happens would prove nothing.
    let [committed, refused, by_hand, crashes] = sums.map(AtomicU64::into_inner);
    assert!(committed > 10 * SEEDS, "{committed} requests were carried out");
    assert!(refused > 3 * SEEDS, "{refused} requests were refused");
    assert!(by_hand > SEEDS / 10, "{by_hand} transfers were settled by hand");
    assert!(crashes > SEEDS / 2, "{crashes} processes died");
}

#[test]
fn a_recorded_run_is_the_same_run_and_a_file_that_the_lab_opens() {
    let mut transfers = 0;
    for seed in 0..8 {
        let (report, file) = bank::record(seed);
        assert_eq!(report.trace_hash, bank::run(seed, false).trace_hash, "seed {seed}");
        let file: serde_json::Value = serde_json::from_str(&file).unwrap();
        assert_eq!((&file["format"], &file["verdict"]), (&"bank-run-1".into(), &serde_json::Value::Null));
        assert!(!file["log"].as_array().unwrap().is_empty(), "seed {seed}");
        for transfer in file["transfers"].as_array().unwrap() {
            transfers += 1;
            for event in transfer["events"].as_array().unwrap() {
                // By way of its text: amounts are read digit for digit.
                let event: protocol::event::Event = serde_json::from_str(&event.to_string()).unwrap();
                assert_eq!(event.txid.unwrap().as_str(), transfer["txid"].as_str().unwrap());
            }
        }
    }
    assert!(transfers > 40, "{transfers} transfers only");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..12 {
        let (once, twice) = (bank::run(seed, true), bank::run(seed, true));
        assert!(!once.trace.is_empty());
        for (line, (first, second)) in once.trace.iter().zip(&twice.trace).enumerate() {
            assert_eq!(first, second, "seed {seed}, line {line}");
        }
        assert_eq!(once.trace_hash, twice.trace_hash, "seed {seed}");
    }
    assert_ne!(bank::run(1, false).trace_hash, bank::run(2, false).trace_hash, "the hash sees a difference");
}

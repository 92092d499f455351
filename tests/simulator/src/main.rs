//! `simulator --seeds N [--seed S] [--trace]`: runs N seeds from S on, and stops at the first that goes wrong.

use std::process::ExitCode;
use std::time::Instant;

use simulator::{Report, run};

/// The exit status for a wrong command line, as `sysexits.h` has it.
const EXIT_USAGE: u8 = 64;
/// How many seeds pass between two lines of progress.
const PROGRESS_SEEDS: u64 = 10_000;

struct Arguments {
    seeds: u64,
    first_seed: u64,
    trace: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("usage: simulator --seeds N [--seed S] [--trace]");
        return ExitCode::from(EXIT_USAGE);
    };
    let began = Instant::now();
    let (mut committed, mut aborted, mut mixed, mut crashes) = (0, 0, 0, 0);
    for seed in arguments.first_seed..arguments.first_seed.saturating_add(arguments.seeds) {
        let report = run_guarded(seed, arguments.trace);
        for line in &report.trace {
            println!("{line}");
        }
        if let Some(violation) = report.violation {
            println!("seed {seed}: {violation}");
            println!("again, with all events: simulator --seeds 1 --seed {seed} --trace");
            return ExitCode::FAILURE;
        }
        committed += report.committed;
        aborted += report.aborted;
        mixed += report.mixed;
        crashes += report.crashes;
        let done = seed - arguments.first_seed + 1;
        if done.is_multiple_of(PROGRESS_SEEDS) {
            println!("{done} seeds, {} s", began.elapsed().as_secs());
        }
    }
    println!(
        "{} seeds from {}: {committed} transfers committed, {aborted} aborted, {mixed} mixed by hand, {crashes} crashes; no rule broken ({} ms)",
        arguments.seeds,
        arguments.first_seed,
        began.elapsed().as_millis()
    );
    ExitCode::SUCCESS
}

/// A machine that finds itself wrong panics; the seed must be known then, too.
fn run_guarded(seed: u64, trace: bool) -> Report {
    match std::panic::catch_unwind(|| run(seed, None, trace)) {
        Ok(report) => report,
        Err(panic) => {
            println!("seed {seed}: a machine stopped itself");
            std::panic::resume_unwind(panic);
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments { seeds: 1, first_seed: 0, trace: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seeds" => arguments.seeds = words.next()?.parse().ok()?,
            "--seed" => arguments.first_seed = words.next()?.parse().ok()?,
            "--trace" => arguments.trace = true,
            _ => return None,
        }
    }
    Some(arguments)
}

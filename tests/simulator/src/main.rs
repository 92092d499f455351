//! `simulator [bank|machines] --seeds N [--seed S] [--threads T] [--trace [FILE]] [--keep DIR] [--all]`: runs N seeds from S
//! on, and stops at the first that goes wrong, unless all are wanted.
//!
//! A run of the bank can be kept as a file that the dashboard's lab opens: with `--trace FILE` the one of `--seed`, with
//! `--keep DIR` each that goes wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use simulator::{bank, machines, say_which_seed};

/// The exit status for a wrong command line, as `sysexits.h` has it.
const EXIT_USAGE: u8 = 64;
/// How many seeds pass between two lines of progress.
const PROGRESS_SEEDS: u64 = 1_000;

struct Arguments {
    is_bank: bool,
    seeds: u64,
    first_seed: u64,
    threads: u64,
    trace: bool,
    /// Where the run is kept, whatever came of it.
    file: Option<PathBuf>,
    /// Where runs are kept that went wrong.
    keep: Option<PathBuf>,
    all: bool,
}

/// What matters of a run, whichever simulator it was.
struct Ended {
    violation: Option<String>,
    trace: Vec<String>,
    committed: u64,
    refused: u64,
    by_hand: u64,
    crashes: u64,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!(
            "usage: simulator [bank|machines] --seeds N [--seed S] [--threads T] [--trace [FILE]] [--keep DIR] [--all]\n\
             FILE is for one seed of the bank"
        );
        return ExitCode::from(EXIT_USAGE);
    };
    let began = Instant::now();
    let next = AtomicU64::new(arguments.first_seed);
    let (is_over, is_wrong) = (AtomicBool::new(false), AtomicBool::new(false));
    let end = arguments.first_seed.saturating_add(arguments.seeds);
    let sums = Mutex::new([0_u64; 5]);
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let ended = run(seed, &arguments);
            if let Some(file) = &arguments.file {
                keep(seed, file);
            }
            let Ok(mut sums) = sums.lock() else { return };
            if !report(seed, &ended, &arguments) {
                is_wrong.store(true, Ordering::Relaxed);
                is_over.store(!arguments.all, Ordering::Relaxed);
            }
            for (sum, more) in sums.iter_mut().zip([1, ended.committed, ended.refused, ended.by_hand, ended.crashes]) {
                *sum += more;
            }
            if sums[0].is_multiple_of(PROGRESS_SEEDS) {
                println!("{} seeds, {} s", sums[0], began.elapsed().as_secs());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(work);
        }
    });
    let [seeds, committed, refused, by_hand, crashes] = sums.into_inner().unwrap_or_default();
    if is_wrong.into_inner() {
        return ExitCode::FAILURE;
    }
    println!(
        "{seeds} seeds from {}: {committed} done, {refused} refused or aborted, {by_hand} settled by hand, {crashes} crashes; nothing wrong ({} ms)",
        arguments.first_seed,
        began.elapsed().as_millis()
    );
    ExitCode::SUCCESS
}

fn run(seed: u64, arguments: &Arguments) -> Ended {
    say_which_seed(seed);
    if arguments.is_bank {
        let report = bank::run(seed, arguments.trace);
        return Ended {
            violation: report.violation,
            trace: report.trace,
            committed: report.committed as u64,
            refused: report.refused as u64,
            by_hand: report.by_hand as u64,
            crashes: report.crashes,
        };
    }
    let report = machines::run(seed, None, arguments.trace);
    Ended {
        violation: report.violation,
        trace: report.trace,
        committed: report.committed as u64,
        refused: report.aborted as u64,
        by_hand: report.mixed as u64,
        crashes: report.crashes,
    }
}

/// Says what was wrong with a seed. `false` when something was.
fn report(seed: u64, ended: &Ended, arguments: &Arguments) -> bool {
    for line in &ended.trace {
        println!("{line}");
    }
    let Some(violation) = &ended.violation else { return true };
    let simulator = if arguments.is_bank { "bank" } else { "machines" };
    println!("seed {seed}: {violation}");
    println!("again, with all events: simulator {simulator} --seeds 1 --seed {seed} --trace");
    if let (Some(folder), true) = (&arguments.keep, arguments.is_bank) {
        keep(seed, &folder.join(format!("bank-seed-{seed}.json")));
    }
    false
}

/// Runs a seed once more and writes what the lab opens.
fn keep(seed: u64, file: &Path) {
    let (_, run) = bank::record(seed);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let written = folder.map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(file, run));
    match written {
        Ok(()) => println!("to see it in the dashboard's lab, open this file there: {}", file.display()),
        Err(error) => eprintln!("{}: {error}", file.display()),
    }
}

fn parse(words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut words = words.peekable();
    let mut arguments = Arguments {
        is_bank: true,
        seeds: 1,
        first_seed: 0,
        threads: 2,
        trace: false,
        file: None,
        keep: None,
        all: false,
    };
    if let Some(simulator) = words.next_if(|word| word == "bank" || word == "machines") {
        arguments.is_bank = simulator == "bank";
    }
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seeds" => arguments.seeds = words.next()?.parse().ok()?,
            "--seed" => arguments.first_seed = words.next()?.parse().ok()?,
            "--threads" => arguments.threads = words.next()?.parse().ok()?,
            "--trace" => match words.next_if(|word| !word.starts_with('-')) {
                Some(file) => arguments.file = Some(file.into()),
                None => arguments.trace = true,
            },
            "--keep" => arguments.keep = Some(words.next()?.into()),
            "--all" => arguments.all = true,
            _ => return None,
        }
    }
    // One file holds one run, and the machines alone tell no events.
    let is_right = arguments.file.is_none() || (arguments.is_bank && arguments.seeds == 1);
    is_right.then_some(arguments)
}

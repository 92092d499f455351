//! The whole bank: the server's own engine, ledger, records, answers, recovery order and copies, on real SQLite files, in
//! one thread, by one seed.
//!
//! Nothing of the server is written a second time here. A [`process`] is the server's own `Core`, opened by its own command
//! line, and asked through its own sessions in JSON; what it takes from the machine and the network comes by the seams
//! that the server has for them ([`host`]). Around it:
//!
//! - [`config`]: what a seed draws;
//! - [`network`], [`disks`]: messages under way, files in memory;
//! - [`clients`], [`people`]: who asks, and in which notation; outside programs, strangers, operators;
//! - `setup`, `world`: time, faults, and the healing;
//! - [`recorder`]: a run as a file that the dashboard's lab opens;
//! - [`judge`]: separate code that looks at effects alone: rows, balances, answers, audits.

pub mod clients;
pub mod config;
mod copies;
pub mod disks;
pub mod host;
pub mod judge;
pub mod network;
pub mod people;
pub mod process;
mod promotions;
pub mod recorder;
mod setup;
mod wire;
mod world;

pub use config::Config;

/// How one run ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was wrong, if anything.
    pub violation: Option<String>,
    /// The hash of all events.
    pub trace_hash: u64,
    /// The events, when they were asked for.
    pub trace: Vec<String>,
    /// What was asked.
    pub requests: usize,
    /// How much of it was done.
    pub committed: usize,
    /// How much of it was refused.
    pub refused: usize,
    /// Transfers that a person has settled somewhere.
    pub by_hand: usize,
    /// Processes that died.
    pub crashes: u64,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, with_text: bool) -> Report {
    setup::build(seed, with_text).run().0
}

/// Runs a seed once more and records it: the report, and the file of the run.
#[must_use]
pub fn record(seed: u64) -> (Report, String) {
    let (report, recorded) = setup::build(seed, true).recorded().run();
    let Some((recorder, related)) = recorded else { return (report, String::new()) };
    let verdict = report.violation.as_ref().map(|violation| format!("seed {seed}: {violation}"));
    let about = format!(
        "{} requests, of which {} were done and {} refused; {} processes died. Times are the simulation's.",
        report.requests, report.committed, report.refused, report.crashes
    );
    let file = recorder.file(seed, verdict.as_deref(), about, &related, &report.trace);
    (report, file)
}

//! `bank-bench`: load on a branch over the branch protocol, measured beside the in-process ceiling.
//!
//! - [`load`] keeps requests under way on many connections, [`workload`] makes them, [`branch`] and
//!   [`accounts`] see to branches that can answer them.
//! - [`ceiling`] makes the same transfers on the same schema in this process, without sockets.
//! - [`report`] compares the two by the goals, [`scale`] looks at many accounts and transactions.
//! - [`streams`] asks what [`browsers`] at a [`bridge`] cost the branches.
//! - `peers` (a feature) makes the same transfers at PostgreSQL and at TigerBeetle.
//! - [`measurement`], [`latency`], [`machine`], [`processor_time`] and [`output`] keep and show what came of it.
//!
//! It leaves out what would make a branch look better than its clients find it: it doesn't drop the slowest
//! answers, and counts a refusal as no operation. The load is a closed loop, unless it has a pace, so a branch that
//! stalls is asked less while it does; the maximum shows such a stall, the percentiles do less.

mod accounts;
mod arguments;
mod branch;
mod bridge;
mod browsers;
mod ceiling;
mod latency;
mod load;
mod machine;
mod measurement;
mod output;
#[cfg(feature = "peers")]
mod peers;
mod processor_time;
mod random;
mod report;
mod scale;
mod streams;
mod workload;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use protocol::proof::BranchKey;
use serde::Serialize;

use arguments::{Arguments, Command, CommonArguments, LoadArguments};
use branch::Branch;
use ceiling::Ceiling;
use load::Load;
use machine::Machine;
use measurement::Measurement;
use workload::Workload;

/// It could not be measured, or a branch refused a request.
const EXIT_FAILED: u8 = 1;
/// The command line is wrong (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Transfers in a commit at which the in-process ceiling is measured.
const CEILINGS: [usize; 3] = [1, 64, 512];

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A failed print of the usage leaves nothing else to say.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if cfg!(debug_assertions) {
        eprintln!("bank-bench: this is no release build; its numbers say little (cargo build --release)");
    }
    match run(&arguments) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("bank-bench: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let common = &arguments.common;
    let folder = common.folder.clone().unwrap_or_else(std::env::temp_dir);
    let program = || common.server.clone().map_or_else(|| branch::program_beside("bank-server"), Ok);
    let progress = |text: &str| eprintln!("{text}");
    match &arguments.command {
        None => one_load(&arguments.load, common, &folder, program),
        Some(Command::Report { rounds, accounts, duration, warm_up }) => {
            let plan = report::Plan {
                program: &program()?,
                folder: &folder,
                rounds: *rounds,
                accounts: *accounts,
                warm_up: *warm_up,
                duration: *duration,
            };
            let report = report::report(&plan, &progress)?;
            show(common, &report, || output::report(&report))?;
            Ok(status(report.measurements.iter().map(|(_, measurement)| measurement)))
        }
        Some(Command::Streams { streams, rounds, accounts, lecture, duration, warm_up, bridge }) => {
            let plan = streams::Plan {
                server: &program()?,
                bridge: &bridge.clone().map_or_else(|| branch::program_beside("bank-bridge"), Ok)?,
                folder: &folder,
                rounds: *rounds,
                accounts: *accounts,
                streams: (*streams).into(),
                warm_up: *warm_up,
                lecture: *lecture,
                duration: *duration,
            };
            let streams = streams::streams(&plan, &progress)?;
            show(common, &streams, || output::streams(&streams))?;
            Ok(status(streams.cases.iter().map(|case| &case.load)))
        }
        #[cfg(feature = "peers")]
        Some(Command::Peers(arguments)) => beside_peers(arguments, common, &folder, &program()?),
        Some(Command::Scale { accounts, few_accounts, transactions, duration, warm_up }) => {
            let plan = scale::Plan {
                program: &program()?,
                folder: &folder,
                accounts: *accounts,
                few_accounts: *few_accounts,
                transactions: *transactions,
                warm_up: *warm_up,
                duration: *duration,
            };
            let scale = scale::scale(&plan, &progress)?;
            show(common, &scale, || output::scale(&scale))?;
            Ok(status([&scale.few, &scale.many, &scale.old]))
        }
    }
}

/// Measures the bank beside its peers.
#[cfg(feature = "peers")]
fn beside_peers(
    arguments: &arguments::PeersArguments,
    common: &CommonArguments,
    folder: &Path,
    program: &Path,
) -> Result<ExitCode, String> {
    let plan = peers::Plan {
        bank: report::Plan {
            program,
            folder,
            rounds: arguments.rounds,
            accounts: arguments.accounts,
            warm_up: arguments.warm_up,
            duration: arguments.duration,
        },
        many_accounts: arguments.many_accounts,
        postgres: arguments.postgres.as_deref(),
        tigerbeetle: arguments.tigerbeetle.as_deref(),
    };
    let peers = peers::peers(&plan, &|text| eprintln!("{text}"))?;
    show(common, &peers, || output::peers(&peers))?;
    Ok(status(peers.measurements.iter().map(|(_, measurement)| measurement)))
}

/// What one load gave.
#[derive(Serialize)]
struct Loaded {
    machine: Machine,
    mix: String,
    connections: u16,
    depth: u16,
    batch: u16,
    accounts: u64,
    load: Measurement,
    /// Under the number of transfers in each commit.
    ceilings: Vec<(usize, Measurement)>,
}

/// Runs one load on branches that run already or are started for it, and measures the ceilings beside it.
fn one_load(
    arguments: &LoadArguments,
    common: &CommonArguments,
    folder: &Path,
    program: impl Fn() -> Result<PathBuf, String>,
) -> Result<ExitCode, String> {
    let key = arguments.key.as_deref().map(read_key).transpose()?;
    let databases = branch::temporary_folder(folder)?;
    let start = |name| Branch::start(&program()?, name, databases.path());
    let needs_other = arguments.mix.is_between_branches();
    let (here, there) = match arguments.branch {
        Some(_) => (None, None),
        None => (Some(start("Mumbai")?), needs_other.then(|| start("Delhi")).transpose()?),
    };
    let address = here.as_ref().map(Branch::address).or(arguments.branch).ok_or("there is no branch to load")?;
    let other = there.as_ref().map(Branch::address).or(arguments.other_branch);
    if needs_other && other.is_none() {
        return Err("transfers between branches need --other-branch beside --branch".into());
    }
    for address in [Some(address), other].into_iter().flatten() {
        accounts::open_accounts(address, key.as_ref(), arguments.accounts)?;
    }
    let workload = Workload {
        mix: arguments.mix.clone(),
        batch: arguments.batch.into(),
        accounts: arguments.accounts,
        request_ids: arguments.request_ids,
        other_branch: other.map(|address| (address.ip().to_string(), address.port())),
    };
    let load = Load {
        address,
        key,
        connections: arguments.connections.into(),
        depth: arguments.depth.into(),
        threads: arguments.threads.into(),
        per_second: None,
        warm_up: arguments.warm_up,
        duration: arguments.duration,
        seed: arguments.seed,
    };
    let loaded = Loaded {
        machine: Machine::look(folder)?,
        mix: arguments.mix.to_string(),
        connections: arguments.connections,
        depth: arguments.depth,
        batch: arguments.batch,
        accounts: arguments.accounts,
        load: load.run(&workload)?,
        ceilings: if arguments.no_ceiling { Vec::new() } else { ceilings(arguments, databases.path())? },
    };
    show(common, &loaded, || {
        let names = loaded.ceilings.iter().map(|(size, _)| format!("in one process, {size} per commit"));
        let names: Vec<String> = names.collect();
        let ceilings = names.iter().map(String::as_str).zip(loaded.ceilings.iter().map(|(_, ceiling)| ceiling));
        output::measurements(std::iter::once((loaded.mix.as_str(), &loaded.load)).chain(ceilings))
    })?;
    Ok(status([&loaded.load]))
}

fn ceilings(arguments: &LoadArguments, folder: &Path) -> Result<Vec<(usize, Measurement)>, String> {
    let mut ceiling = Ceiling::open(folder, arguments.accounts)?;
    let measure = |size| Ok((size, ceiling.measure(size, arguments.warm_up, arguments.duration)?));
    CEILINGS.into_iter().map(measure).collect()
}

fn read_key(path: &Path) -> Result<BranchKey, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.parse().map_err(|error| format!("{}: {error}", path.display()))
}

/// A refusal makes every number doubtful.
fn status<'a>(measurements: impl IntoIterator<Item = &'a Measurement>) -> ExitCode {
    let refused = measurements.into_iter().any(|measurement| measurement.errors > 0);
    if refused { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS }
}

/// Prints a result as a table or as JSON.
fn show(common: &CommonArguments, result: &impl Serialize, table: impl FnOnce() -> String) -> Result<(), String> {
    let text = match common.json {
        true => serde_json::to_string_pretty(result).map_err(|error| error.to_string())? + "\n",
        false => table(),
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("standard output: {error}"))
}

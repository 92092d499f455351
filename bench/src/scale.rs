//! How a branch bears a long life: many accounts, many transactions, a start after a crash.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::accounts::open_accounts;
use crate::branch::{self, Branch};
use crate::load::Load;
use crate::machine::Machine;
use crate::measurement::{Measurement, per_mille};
use crate::workload::{Kind, Mix, Workload};

/// How a branch is loaded to compare its rates.
const CONNECTIONS: usize = 64;
const DEPTH: usize = 16;
const THREADS: usize = 4;
/// How transactions are made quickly: batches of so many over few connections.
const FILL_BATCH: usize = 2_000;
const FILL_CONNECTIONS: usize = 4;
/// Between two looks at how many transactions there are.
const FILL_STEP: Duration = Duration::from_secs(5);
/// How long transfers are tried after the restart.
const AFTER_RESTART: Duration = Duration::from_millis(500);
/// How long a start after a crash may take, in milliseconds.
const START_GOAL_MS: u64 = 2_000;

/// What is measured.
pub struct Plan<'a> {
    /// The branch's program.
    pub program: &'a Path,
    /// Where the databases are.
    pub folder: &'a Path,
    /// The many accounts.
    pub accounts: u64,
    /// The few accounts.
    pub few_accounts: u64,
    /// Transactions before the branch is killed.
    pub transactions: u64,
    /// Load before each measurement.
    pub warm_up: Duration,
    /// Each measurement.
    pub duration: Duration,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Scale {
    /// What it was measured on.
    pub machine: Machine,
    /// The few accounts.
    pub few_accounts: u64,
    /// Transfers with them.
    pub few: Measurement,
    /// The many accounts.
    pub accounts: u64,
    /// Transfers with them.
    pub many: Measurement,
    /// The rate with many as a share of that with few, in thousandths.
    pub many_to_few_per_mille: u64,
    /// Transactions of the branch with few accounts when it was killed, at least.
    pub transactions: u64,
    /// Transfers with that many transactions.
    pub old: Measurement,
    /// The rate with that many transactions as a share of that with few, in thousandths.
    pub old_to_few_per_mille: u64,
    /// From the start of the process after SIGKILL until it listened.
    pub start_up_ms: u64,
    /// What it is to stay below.
    pub start_up_goal_ms: u64,
    /// Whether it did.
    pub start_up_met: bool,
}

/// Measures. `progress` is told what is being measured.
///
/// # Errors
/// One sentence when something can't be measured.
pub fn scale(plan: &Plan<'_>, progress: &dyn Fn(&str)) -> Result<Scale, String> {
    let machine = Machine::look(plan.folder)?;
    let folder = branch::temporary_folder(plan.folder)?;
    progress(&format!("opening {} accounts", plan.few_accounts));
    let few_branch = Branch::start(plan.program, "Few", folder.path())?;
    open_accounts(few_branch.address(), None, plan.few_accounts)?;
    progress(&format!("opening {} accounts at another branch", plan.accounts));
    let many_branch = Branch::start(plan.program, "Many", folder.path())?;
    open_accounts(many_branch.address(), None, plan.accounts)?;
    progress("transfers with few accounts");
    let few = transfers(plan, &few_branch, plan.few_accounts)?;
    progress("transfers with many accounts");
    let many = transfers(plan, &many_branch, plan.accounts)?;
    drop(many_branch);
    // Each account was opened with a transaction, and more were made by the measurement.
    let transactions = fill(plan, &few_branch, plan.few_accounts + few.operations, progress)?;
    progress("transfers with many transactions");
    let old = transfers(plan, &few_branch, plan.few_accounts)?;
    progress("killing the branch under load, and starting it again");
    let start_up = crash(plan, few_branch)?;
    let start_up_ms = u64::try_from(start_up.as_millis()).unwrap_or(u64::MAX);
    Ok(Scale {
        machine,
        few_accounts: plan.few_accounts,
        accounts: plan.accounts,
        many_to_few_per_mille: per_mille(many.per_second, few.per_second),
        old_to_few_per_mille: per_mille(old.per_second, few.per_second),
        few,
        many,
        transactions,
        old,
        start_up_ms,
        start_up_goal_ms: START_GOAL_MS,
        start_up_met: start_up_ms < START_GOAL_MS,
    })
}

fn transfers(plan: &Plan<'_>, branch: &Branch, accounts: u64) -> Result<Measurement, String> {
    let load = Load {
        address: branch.address(),
        key: None,
        connections: CONNECTIONS,
        depth: DEPTH,
        threads: THREADS,
        per_second: None,
        warm_up: plan.warm_up,
        duration: plan.duration,
        seed: 1,
    };
    load.run(&workload(accounts, 1))
}

fn workload(accounts: u64, batch: usize) -> Workload {
    Workload { mix: Mix::only(Kind::LocalTransfer), batch, accounts, request_ids: false, other_branch: None }
}

/// The load that makes transactions quickly.
fn filling(plan: &Plan<'_>, branch: &Branch) -> (Load, Workload) {
    let load = Load {
        address: branch.address(),
        key: None,
        connections: FILL_CONNECTIONS,
        depth: 1,
        threads: FILL_CONNECTIONS,
        per_second: None,
        warm_up: Duration::ZERO,
        duration: FILL_STEP,
        seed: 2,
    };
    (load, workload(plan.few_accounts, FILL_BATCH))
}

/// Brings the branch from `transactions` to the wanted number. Returns how many there are at least.
fn fill(plan: &Plan<'_>, branch: &Branch, mut transactions: u64, progress: &dyn Fn(&str)) -> Result<u64, String> {
    let (mut load, batches) = filling(plan, branch);
    while transactions < plan.transactions {
        progress(&format!("{transactions} of {} transactions", plan.transactions));
        let filled = load.run(&batches)?;
        if filled.operations == 0 {
            return Err(filled.last_error.unwrap_or_else(|| "the branch made no transfer".into()));
        }
        transactions += filled.operations;
        load.seed += FILL_CONNECTIONS as u64;
    }
    Ok(transactions)
}

/// Kills the branch under load and starts it again. Returns how long the start took.
fn crash(plan: &Plan<'_>, mut branch: Branch) -> Result<Duration, String> {
    let (mut load, batches) = filling(plan, &branch);
    kill_under_load(&mut branch, &load, &batches)?;
    // It listens; it must serve too, with the accounts that it had.
    load.address = branch.address();
    load.duration = AFTER_RESTART;
    match load.run(&batches)?.last_error {
        Some(error) => Err(format!("after its restart the branch refuses transfers: {error}")),
        None => Ok(branch.start_up()),
    }
}

/// Kills the branch in the middle of transfers, so that its log is as it is after a crash.
fn kill_under_load(branch: &mut Branch, load: &Load, batches: &Workload) -> Result<(), String> {
    std::thread::scope(|scope| {
        // The load ends with an error, as it must when its branch is killed.
        let loaded = scope.spawn(|| load.run(batches));
        std::thread::sleep(FILL_STEP / 4);
        let restarted = branch.kill_and_restart();
        match loaded.join() {
            Ok(Ok(_)) => Err("the branch was killed too late: the load had ended".into()),
            Ok(Err(_)) | Err(_) => restarted,
        }
    })
}

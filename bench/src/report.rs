//! The report: what a branch reaches of the in-process ceiling, with the goals.
//!
//! All measurements are of one run and interleaved: a round has each of them once, on new databases, and the
//! rounds' medians are compared. So a machine that is slower for a minute is slower for both sides of a ratio.

use std::path::Path;
use std::time::{Duration, Instant};

use protocol::answer::Status;
use protocol::connection::Connection;
use protocol::request::{Action, NoParams};

use serde::Serialize;

use crate::accounts::open_accounts;
use crate::branch::{self, Branch};
use crate::ceiling::Ceiling;
use crate::load::{Load, connect};
use crate::machine::Machine;
use crate::measurement::{Measurement, per_mille};
use crate::workload::{Kind, Mix, Workload};

/// How long a replica may take until it follows.
const REPLICA_LIMIT: Duration = Duration::from_secs(60);
/// Threads that carry the connections: the machine is shared with the branches.
const LOAD_THREADS: usize = 4;

/// What is measured in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// In one process, so many transfers in each commit.
    Ceiling(usize),
    /// Transfers at a branch.
    Branch(Shape),
    /// Transfers at a branch with one replica, which follows, or which is waited for.
    Replicated { is_waited_for: bool },
}

/// How a branch is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What it is called in tables.
    pub name: &'static str,
    /// What is asked.
    pub kind: Kind,
    /// Connections at once.
    pub connections: usize,
    /// Requests under way on each.
    pub depth: usize,
    /// Requests in each frame.
    pub batch: usize,
    /// Whether each has a request id.
    pub request_ids: bool,
}

/// Many clients, each of which waits for its answer.
pub const LOCAL: Shape = Shape {
    name: "local, 64 connections",
    kind: Kind::LocalTransfer,
    connections: 64,
    depth: 1,
    batch: 1,
    request_ids: false,
};
/// The same, each with a request id, as the bank's own clients send them.
pub const LOCAL_IDS: Shape = Shape { name: "the same with request_id", request_ids: true, ..LOCAL };
/// Many clients that send the next requests before the answers.
pub const DEEP: Shape = Shape { name: "local, 64 connections, 16 deep", depth: 16, ..LOCAL };
/// Few clients with large batches.
pub const BATCH: Shape = Shape { name: "local, 4 connections, batches of 512", connections: 4, batch: 512, ..LOCAL };
/// One client.
pub const SINGLE: Shape = Shape { name: "local, a single client", connections: 1, ..LOCAL };
/// Many clients whose transfers go to another branch.
pub const BETWEEN: Shape = Shape { name: "between branches, 64 under way", kind: Kind::InterBranchTransfer, ..LOCAL };

/// One round, in its order. What is compared stands close together.
const CASES: [Case; 11] = [
    Case::Ceiling(1),
    Case::Branch(SINGLE),
    Case::Ceiling(64),
    Case::Branch(LOCAL),
    Case::Replicated { is_waited_for: false },
    Case::Replicated { is_waited_for: true },
    Case::Branch(BETWEEN),
    Case::Branch(LOCAL_IDS),
    Case::Ceiling(512),
    Case::Branch(DEEP),
    Case::Branch(BATCH),
];

/// How the report is made.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// The branch's program.
    pub program: &'a Path,
    /// Where the databases are.
    pub folder: &'a Path,
    /// Rounds.
    pub rounds: u16,
    /// Accounts at each branch.
    pub accounts: u64,
    /// Load before each measurement.
    pub warm_up: Duration,
    /// Each measurement.
    pub duration: Duration,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What it was measured on.
    pub machine: Machine,
    /// Rounds.
    pub rounds: u16,
    /// Accounts at each branch.
    pub accounts: u64,
    /// The medians, under the names of what was measured.
    pub measurements: Vec<(String, Measurement)>,
    /// What is compared.
    pub ratios: Vec<Ratio>,
}

/// Two measurements, compared.
#[derive(Debug, Serialize)]
pub struct Ratio {
    /// What it says.
    pub name: &'static str,
    /// In thousandths.
    pub per_mille: u64,
    /// What it is to be, in thousandths.
    pub goal_per_mille: u64,
    /// Whether the goal is the least that it may be, or what it must stay below.
    pub is_least: bool,
    /// Whether it is.
    pub met: bool,
}

impl Ratio {
    /// `part` of `whole` is to be at least so much.
    pub fn at_least(name: &'static str, part: u64, whole: u64, goal_per_mille: u64) -> Self {
        Self::at_least_per_mille(name, per_mille(part, whole), goal_per_mille)
    }

    /// What was compared already, in thousandths, is to be at least so much.
    pub fn at_least_per_mille(name: &'static str, per_mille: u64, goal_per_mille: u64) -> Self {
        Self { name, per_mille, goal_per_mille, is_least: true, met: per_mille >= goal_per_mille }
    }

    /// `part` of `whole` is to be less than so much.
    pub fn below(name: &'static str, part: u64, whole: u64, goal_per_mille: u64) -> Self {
        let per_mille = per_mille(part, whole);
        Self { name, per_mille, goal_per_mille, is_least: false, met: per_mille < goal_per_mille }
    }
}

/// Makes the report. `progress` is told what is being measured.
///
/// # Errors
/// One sentence when something can't be measured.
pub fn report(plan: &Plan<'_>, progress: &dyn Fn(&str)) -> Result<Report, String> {
    let machine = Machine::look(plan.folder)?;
    let mut runs: Vec<Vec<Measurement>> = CASES.iter().map(|_| Vec::new()).collect();
    for round in 1..=plan.rounds {
        let folder = branch::temporary_folder(plan.folder)?;
        let mut ceiling = Ceiling::open(folder.path(), plan.accounts)?;
        let (here, there) = start_two(plan, folder.path())?;
        for (case, runs) in CASES.iter().zip(&mut runs) {
            progress(&format!("round {round} of {}: {}", plan.rounds, case.name()));
            runs.push(match case {
                Case::Ceiling(per_commit) => ceiling.measure(*per_commit, plan.warm_up, plan.duration)?,
                Case::Branch(shape) => measure(plan, *shape, &here, &there, u64::from(round))?,
                Case::Replicated { is_waited_for } => {
                    let sub = folder.path().join(if *is_waited_for { "waited-for" } else { "followed" });
                    measure_replicated(plan, *is_waited_for, &sub, u64::from(round))?
                }
            });
        }
    }
    let medians: Vec<Measurement> = runs.into_iter().map(Measurement::median).collect();
    let ratios = ratios(|case| {
        let index = CASES.iter().position(|other| *other == case).expect("only cases of the round are compared");
        medians[index].per_second
    });
    let measurements = CASES.iter().map(|case| case.name()).zip(medians).collect();
    Ok(Report { machine, rounds: plan.rounds, accounts: plan.accounts, measurements, ratios })
}

fn ratios(rate: impl Fn(Case) -> u64) -> Vec<Ratio> {
    let (one, many, most) = (rate(Case::Ceiling(1)), rate(Case::Ceiling(64)), rate(Case::Ceiling(512)));
    let local = rate(Case::Branch(LOCAL));
    vec![
        Ratio::at_least("64 connections, to the ceiling at 64 per commit", local, many, 400),
        Ratio::at_least("16 deep, to the ceiling at 512 per commit", rate(Case::Branch(DEEP)), most, 700),
        Ratio::at_least("batches, to the ceiling at 512 per commit", rate(Case::Branch(BATCH)), most, 700),
        Ratio::at_least(
            "with one replica, to the same without",
            rate(Case::Replicated { is_waited_for: false }),
            local,
            750,
        ),
        Ratio::at_least(
            "waiting for one replica, to the same without",
            rate(Case::Replicated { is_waited_for: true }),
            local,
            400,
        ),
        Ratio::at_least("between branches, to local with 64 connections", rate(Case::Branch(BETWEEN)), local, 250),
        // With one request at a time, the time of one is the inverse of the rate.
        Ratio::below("a single client's time, to a commit of one", one, rate(Case::Branch(SINGLE)), 3_000),
    ]
}

/// Starts two branches with the benchmark's accounts.
///
/// # Errors
/// One sentence when one doesn't start, or refuses an account.
pub fn start_two(plan: &Plan<'_>, folder: &Path) -> Result<(Branch, Branch), String> {
    let start = |name| -> Result<Branch, String> {
        let branch = Branch::start(plan.program, name, folder)?;
        open_accounts(branch.address(), None, plan.accounts)?;
        Ok(branch)
    };
    Ok((start("Mumbai")?, start("Delhi")?))
}

/// Measures a branch with one replica on the same machine: what the replica costs the machine is part of it.
///
/// # Errors
/// One sentence when it can't be measured.
pub fn measure_replicated(
    plan: &Plan<'_>,
    is_waited_for: bool,
    folder: &Path,
    seed: u64,
) -> Result<Measurement, String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let open = |flags| Branch::start_with(plan.program, "Mumbai", folder, flags);
    let mut here = open(Vec::new())?;
    open_accounts(here.address(), None, plan.accounts)?;
    if is_waited_for {
        // Accounts are opened before there is a replica to wait for.
        drop(here);
        here = open(vec!["--sync-replicas".into(), "1".into()])?;
    }
    let _replica = here.start_replica()?;
    wait_for_replica(&here)?;
    measure(plan, LOCAL, &here, &here, seed)
}

/// Waits until the branch says that its replica follows.
fn wait_for_replica(branch: &Branch) -> Result<(), String> {
    let deadline = Instant::now() + REPLICA_LIMIT;
    while Instant::now() < deadline {
        let stream = connect(branch.address(), None)?;
        let status: Result<Status, _> = Connection::new(stream).call(Action::Status, &NoParams {}, None);
        let status = status.map_err(|error| format!("the branch's status: {error}"))?;
        if status.replication.is_some_and(|found| found.replicas.iter().any(|replica| replica.state == "following")) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("the replica did not follow within {REPLICA_LIMIT:?}"))
}

/// Measures a branch. `there` receives what goes to another branch.
///
/// # Errors
/// One sentence when it can't be measured.
pub fn measure(plan: &Plan<'_>, shape: Shape, here: &Branch, there: &Branch, seed: u64) -> Result<Measurement, String> {
    let other = there.address();
    let workload = Workload {
        mix: Mix::only(shape.kind),
        batch: shape.batch,
        accounts: plan.accounts,
        request_ids: shape.request_ids,
        other_branch: Some((other.ip().to_string(), other.port())),
    };
    let load = Load {
        address: here.address(),
        key: None,
        connections: shape.connections,
        depth: shape.depth,
        threads: LOAD_THREADS,
        per_second: None,
        warm_up: plan.warm_up,
        duration: plan.duration,
        seed: seed << 32,
    };
    load.run(&workload).map_err(|error| format!("{}: {error}", shape.name))
}

impl Case {
    fn name(self) -> String {
        match self {
            Self::Ceiling(1) => "in one process, 1 per commit".into(),
            Self::Ceiling(per_commit) => format!("in one process, {per_commit} per commit"),
            Self::Branch(shape) => shape.name.into(),
            Self::Replicated { is_waited_for: false } => "the same with one replica".into(),
            Self::Replicated { is_waited_for: true } => "the same, waiting for one replica".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goal_is_judged_from_its_own_side() {
        let rates = |case| match case {
            Case::Ceiling(1) => 3_000,
            Case::Ceiling(64) => 20_000,
            Case::Ceiling(_) => 40_000,
            Case::Branch(LOCAL) => 8_000,
            Case::Branch(DEEP) => 27_999,
            Case::Branch(BATCH) => 28_000,
            Case::Branch(BETWEEN) => 1_999,
            Case::Replicated { is_waited_for: false } => 6_000,
            Case::Replicated { is_waited_for: true } => 3_199,
            Case::Branch(_) => 1_001,
        };
        let met: Vec<_> = ratios(rates).iter().map(|ratio| (ratio.per_mille, ratio.met)).collect();
        let expected = [(400, true), (699, false), (700, true), (750, true), (399, false), (249, false), (2_997, true)];
        assert_eq!(met, expected);
    }
}

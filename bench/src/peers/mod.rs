//! The bank beside its peers: the same transfers at PostgreSQL and at TigerBeetle, on the same machine and disk.
//!
//! All measurements are of one run and interleaved, as [`crate::report`]'s are: what is compared stands close together
//! in a round, and the medians of the rounds are compared, so that a machine which is slower for a minute is slower for
//! both sides. [`postgres`] starts a server of its own in a temporary folder, and [`tigerbeetle`] a program that is named.
//!
//! Where a choice had to be made, it is made for the peer.

mod postgres;
mod tigerbeetle;

use std::path::Path;

use serde::Serialize;

use crate::accounts::open_accounts;
use crate::branch::{self, Branch};
use crate::machine::Machine;
use crate::measurement::Measurement;
use crate::report::{self, BATCH, BETWEEN, DEEP, LOCAL, LOCAL_IDS, Ratio, SINGLE, Shape};
use postgres::{Postgres, Statements};
use tigerbeetle::TigerBeetle;

/// Clients of a peer where the bank has as many connections.
const CLIENTS: usize = 64;
const BATCH_64: Shape = Shape { name: "local, 4 connections, batches of 64", batch: 64, ..BATCH };

/// What is measured in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// Transfers at a branch.
    Branch(Shape),
    /// The same at a branch with many accounts.
    ManyAccounts(Shape),
    /// Transfers at a branch with one replica, which follows, or which is waited for.
    Replicated { is_waited_for: bool },
    /// Transfers in one database of PostgreSQL, by so many clients of pgbench.
    Postgres { clients: usize, statements: Statements },
    /// Transfers between two databases of PostgreSQL: each client prepares at both, then commits at both.
    PostgresBetween,
    /// One half of such a transfer at each database, by clients that know nothing of one another.
    PostgresHalves,
    /// Transfers at TigerBeetle in batches.
    TigerBeetle { clients: usize, batch: usize },
}

const POSTGRES_MANY: Case = Case::Postgres { clients: CLIENTS, statements: Statements::OneByOne };
const POSTGRES_CALL: Case = Case::Postgres { clients: CLIENTS, statements: Statements::InOneCall };
const POSTGRES_ONE: Case = Case::Postgres { clients: 1, statements: Statements::OneByOne };
const POSTGRES_ONE_CALL: Case = Case::Postgres { clients: 1, statements: Statements::InOneCall };
const TIGERBEETLE_ONE_EACH: Case = Case::TigerBeetle { clients: tigerbeetle::CLIENTS_MAX, batch: 1 };
const TIGERBEETLE_64: Case = Case::TigerBeetle { clients: BATCH_64.connections, batch: BATCH_64.batch };
const TIGERBEETLE_512: Case = Case::TigerBeetle { clients: BATCH.connections, batch: BATCH.batch };

/// One round, in its order.
const CASES: [Case; 19] = [
    Case::Branch(SINGLE),
    POSTGRES_ONE,
    POSTGRES_ONE_CALL,
    POSTGRES_MANY,
    Case::Branch(LOCAL),
    Case::Branch(LOCAL_IDS),
    POSTGRES_CALL,
    TIGERBEETLE_ONE_EACH,
    Case::Replicated { is_waited_for: false },
    Case::Replicated { is_waited_for: true },
    Case::PostgresBetween,
    Case::Branch(BETWEEN),
    Case::PostgresHalves,
    Case::Branch(BATCH_64),
    TIGERBEETLE_64,
    Case::Branch(BATCH),
    TIGERBEETLE_512,
    Case::Branch(DEEP),
    Case::ManyAccounts(DEEP),
];

/// How the peers are measured.
pub struct Plan<'a> {
    /// What the bank's side needs, and the rounds.
    pub bank: report::Plan<'a>,
    /// Accounts of the branch with many.
    pub many_accounts: u64,
    /// The folder with PostgreSQL's programs; without one they are looked for.
    pub postgres: Option<&'a Path>,
    /// TigerBeetle's program; without one it is left out.
    pub tigerbeetle: Option<&'a Path>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Peers {
    /// What it was measured on.
    pub machine: Machine,
    /// Rounds.
    pub rounds: u16,
    /// Accounts at each branch and each peer.
    pub accounts: u64,
    /// The peers, each with its version and settings.
    pub peers: Vec<String>,
    /// The medians, under the names of what was measured.
    pub measurements: Vec<(String, Measurement)>,
    /// What is compared.
    pub ratios: Vec<Ratio>,
}

/// What runs in one round.
struct Round<'a> {
    plan: &'a Plan<'a>,
    number: u64,
    folder: &'a Path,
    here: Branch,
    there: Branch,
    many: &'a Branch,
    postgres: Postgres,
    tigerbeetle: Option<&'a TigerBeetle>,
}

/// Measures. `progress` is told what is being measured.
///
/// # Errors
/// One sentence when something can't be measured.
pub fn peers(plan: &Plan<'_>, progress: &dyn Fn(&str)) -> Result<Peers, String> {
    let machine = Machine::look(plan.bank.folder)?;
    let programs = postgres::find_programs(plan.postgres)?;
    let tigerbeetle = plan.tigerbeetle.map(TigerBeetle::look).transpose()?;
    let mut peers = vec![postgres::describe(&programs)?];
    peers.extend(tigerbeetle.as_ref().map(TigerBeetle::describe));
    let kept = branch::temporary_folder(plan.bank.folder)?;
    progress(&format!("opening {} accounts", plan.many_accounts));
    let many = Branch::start(plan.bank.program, "Many", kept.path())?;
    open_accounts(many.address(), None, plan.many_accounts)?;

    let cases = || CASES.iter().filter(|case| tigerbeetle.is_some() || !case.is_tigerbeetle());
    let mut runs: Vec<Vec<Measurement>> = cases().map(|_| Vec::new()).collect();
    for number in 1..=plan.bank.rounds {
        let folder = branch::temporary_folder(plan.bank.folder)?;
        let (here, there) = report::start_two(&plan.bank, folder.path())?;
        let round = Round {
            plan,
            number: number.into(),
            folder: folder.path(),
            here,
            there,
            many: &many,
            postgres: Postgres::start(&programs, plan.bank.folder, plan.bank.accounts)?,
            tigerbeetle: tigerbeetle.as_ref(),
        };
        for (case, runs) in cases().zip(&mut runs) {
            progress(&format!("round {number} of {}: {}", plan.bank.rounds, case.name()));
            runs.push(round.measure(*case)?);
        }
    }
    let medians: Vec<Measurement> = runs.into_iter().map(Measurement::median).collect();
    let rate = |case| cases().position(|other| *other == case).map(|index| medians[index].per_second);
    let ratios = ratios(rate);
    let measurements = cases().map(|case| case.name()).zip(medians).collect();
    Ok(Peers { machine, rounds: plan.bank.rounds, accounts: plan.bank.accounts, peers, measurements, ratios })
}

impl Round<'_> {
    fn measure(&self, case: Case) -> Result<Measurement, String> {
        let plan = &self.plan.bank;
        match case {
            Case::Branch(shape) => report::measure(plan, shape, &self.here, &self.there, self.number),
            Case::ManyAccounts(shape) => {
                let plan = report::Plan { accounts: self.plan.many_accounts, ..*plan };
                report::measure(&plan, shape, self.many, self.many, self.number)
            }
            Case::Replicated { is_waited_for } => {
                let folder = self.folder.join(if is_waited_for { "waited-for" } else { "followed" });
                report::measure_replicated(plan, is_waited_for, &folder, self.number)
            }
            Case::Postgres { clients, statements } => {
                self.postgres.local(clients, statements, plan.warm_up, plan.duration)
            }
            Case::PostgresBetween => self.postgres.between(CLIENTS, plan.warm_up, plan.duration),
            Case::PostgresHalves => self.postgres.halves(CLIENTS, plan.warm_up, plan.duration),
            Case::TigerBeetle { clients, batch } => {
                let program = self.tigerbeetle.ok_or("TigerBeetle is measured only where its program is named")?;
                program.measure(plan.folder, plan.accounts, clients, batch, plan.duration)
            }
        }
    }
}

impl Case {
    const fn is_tigerbeetle(self) -> bool {
        matches!(self, Self::TigerBeetle { .. })
    }

    fn name(self) -> String {
        match self {
            Self::Branch(shape) => shape.name.into(),
            Self::ManyAccounts(shape) => format!("{}, many accounts", shape.name),
            Self::Replicated { is_waited_for: false } => "local, 64 connections, one replica".into(),
            Self::Replicated { is_waited_for: true } => "local, 64 connections, waiting for one replica".into(),
            Self::Postgres { clients, statements } => format!("PostgreSQL, {clients} clients, {}", statements.name()),
            Self::PostgresBetween => format!("PostgreSQL, {CLIENTS} clients, two databases"),
            Self::PostgresHalves => format!("PostgreSQL, {CLIENTS} clients, halves of such"),
            Self::TigerBeetle { clients, batch } => format!("TigerBeetle, {clients} clients, batches of {batch}"),
        }
    }
}

/// What is compared, without what was not measured.
fn ratios(rate: impl Fn(Case) -> Option<u64>) -> Vec<Ratio> {
    let local = Case::Branch(LOCAL);
    let compared = [
        ("64 connections, to PostgreSQL", local, POSTGRES_MANY, 4_000),
        ("with request ids, to PostgreSQL", Case::Branch(LOCAL_IDS), POSTGRES_MANY, 3_500),
        ("a single client, to PostgreSQL", Case::Branch(SINGLE), POSTGRES_ONE, 1_000),
        ("batches of 64, to TigerBeetle", Case::Branch(BATCH_64), TIGERBEETLE_64, 1_200),
        ("batches of 512, to TigerBeetle", Case::Branch(BATCH), TIGERBEETLE_512, 1_200),
        ("64 connections, to TigerBeetle without batches", local, TIGERBEETLE_ONE_EACH, 15_000),
        ("between branches, to PostgreSQL's two databases", Case::Branch(BETWEEN), Case::PostgresBetween, 10_000),
        ("between branches, to PostgreSQL's halves", Case::Branch(BETWEEN), Case::PostgresHalves, 5_000),
        ("many accounts, to few", Case::ManyAccounts(DEEP), Case::Branch(DEEP), 750),
        ("with one replica, to without", Case::Replicated { is_waited_for: false }, local, 900),
        ("waiting for one replica, to without", Case::Replicated { is_waited_for: true }, local, 600),
    ];
    let ratio = |(name, ours, theirs, goal)| Some(Ratio::at_least(name, rate(ours)?, rate(theirs)?, goal));
    compared.into_iter().filter_map(ratio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_compared() {
        let all = ratios(|_| Some(1));
        let without = ratios(|case| (!case.is_tigerbeetle()).then_some(1));
        assert_eq!((all.len(), without.len()), (11, 8));
        assert!(without.iter().all(|ratio| !ratio.name.contains("TigerBeetle")));
    }

    #[test]
    fn whatever_is_compared_is_measured() {
        let measured = |case| CASES.contains(&case).then_some(1);
        assert_eq!(ratios(measured).len(), 11);
    }
}

//! What a class of browsers costs: transfers between two branches without and with open streams of events at a
//! bridge before them.
//!
//! There are two loads. A *lecture's* is a few transfers a second, on time whatever happens: their time is compared.
//! *As many as go* keeps the branches busy: there the rate is compared, and beside it who had the processors, because
//! branches, bridge and the browsers' readers share this machine. A branch that something holds up does less for the
//! same processor time, or waits; a machine that is full only has less of it for the branches.
//!
//! Without and with alternate in one run, and each round begins with the one that the last ended with, so that what
//! changes with time falls on both. Rates are compared within a round, and the rounds' median counts: a disk that is
//! half as fast a minute later changes the rates by more than streams do. It takes some ten rounds until the
//! comparison is one of streams and not of chance. The bridge runs all the time; it listens to the branches with or
//! without streams.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::accounts::open_accounts;
use crate::branch::{self, Branch, Process};
use crate::bridge;
use crate::browsers::{Browsers, Received};
use crate::load::{Load, Tally};
use crate::machine::Machine;
use crate::measurement::{Measurement, per_mille};
use crate::processor_time;
use crate::report::Ratio;
use crate::workload::{Kind, Mix, Workload};

/// Connections of both loads.
const CONNECTIONS: usize = 8;
/// Transfers a second of a lecture: more than a class at one screen asks for.
const LECTURE_PER_SECOND: u32 = 8;
/// What a lecture's time is to stay below, to that without streams, in thousandths: the median,
const MEDIAN_GOAL_PER_MILLE: u64 = 1_100;
/// and the 99th percentile, which a few transfers decide.
const TAIL_GOAL_PER_MILLE: u64 = 1_250;
/// What the branches' processor time for a transfer is to stay below, likewise.
const COST_GOAL_PER_MILLE: u64 = 1_100;
/// The least that the rate may be of that without streams, likewise.
const RATE_GOAL_PER_MILLE: u64 = 900;

/// How it is measured.
pub struct Plan<'a> {
    /// The branch's program.
    pub server: &'a Path,
    /// The bridge's.
    pub bridge: &'a Path,
    /// Where the databases are.
    pub folder: &'a Path,
    /// Rounds.
    pub rounds: u16,
    /// Accounts at each branch.
    pub accounts: u64,
    /// Streams, one of which is not read.
    pub streams: usize,
    /// Load before each measurement.
    pub warm_up: Duration,
    /// Each measurement of a lecture.
    pub lecture: Duration,
    /// Each measurement of as many as go.
    pub duration: Duration,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Streams {
    /// What it was measured on.
    pub machine: Machine,
    /// Rounds.
    pub rounds: u16,
    /// Accounts at each branch.
    pub accounts: u64,
    /// Streams, one of which was not read.
    pub streams: usize,
    /// What was measured.
    pub cases: Vec<Measured>,
    /// What is compared.
    pub ratios: Vec<Ratio>,
}

/// One load, without or with streams.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// What it is.
    pub name: &'static str,
    /// A lecture's latencies are those of all rounds together; as many as go, the round in the middle.
    pub load: Measurement,
    /// The rate of each round, in transfers a second.
    pub rounds_per_second: Vec<u64>,
    /// Who had the processors, over all rounds.
    pub processors: Processors,
    /// What the streams got, over all rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Received>,
}

/// Who had the processors, in milliseconds of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Processors {
    /// What there was: the time multiplied by the processors.
    pub there_was_ms: u64,
    /// The branch that pays.
    pub payer_ms: u64,
    /// The branch that receives.
    pub receiver_ms: u64,
    /// The bridge.
    pub bridge_ms: u64,
    /// Those who read the streams.
    pub readers_ms: u64,
    /// The load.
    pub load_ms: u64,
    /// Everything else on the machine, and other machines on the same hardware.
    pub others_ms: u64,
    /// The branches' for one transfer, in microseconds.
    pub branches_us_per_transfer: u64,
}

/// One load, without or with streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    is_lecture: bool,
    has_streams: bool,
}

/// A round; every other one goes backwards.
const CASES: [Case; 4] = [
    Case { is_lecture: true, has_streams: false },
    Case { is_lecture: true, has_streams: true },
    Case { is_lecture: false, has_streams: true },
    Case { is_lecture: false, has_streams: false },
];

impl Case {
    const fn name(self) -> &'static str {
        match (self.is_lecture, self.has_streams) {
            (true, false) => "a lecture's, no stream open",
            (true, true) => "a lecture's, with streams",
            (false, true) => "as many as go, with streams",
            (false, false) => "as many as go, no stream open",
        }
    }
}

/// What the rounds of one case have given so far.
#[derive(Default)]
struct Sum {
    tally: Tally,
    runs: Vec<Measurement>,
    processors: Processors,
    received: Option<Received>,
}

/// Measures. `progress` is told what is being measured.
///
/// # Errors
/// One sentence when something can't be measured.
pub fn streams(plan: &Plan<'_>, progress: &dyn Fn(&str)) -> Result<Streams, String> {
    let machine = Machine::look(plan.folder)?;
    let folder = branch::temporary_folder(plan.folder)?;
    let start = |name| -> Result<Branch, String> {
        let branch = Branch::start(plan.server, name, folder.path())?;
        open_accounts(branch.address(), None, plan.accounts)?;
        Ok(branch)
    };
    let (payer, receiver) = (start("Mumbai")?, start("Delhi")?);
    let bridge = bridge::start(plan.bridge, folder.path(), &[&payer, &receiver])?;
    let scene = Scene { plan, payer: &payer, receiver: &receiver, bridge: &bridge, cores: machine.cores as u64 };
    let mut sums: [Sum; CASES.len()] = Default::default();
    for round in 1..=plan.rounds {
        let mut order: Vec<_> = CASES.into_iter().zip(&mut sums).collect();
        if round % 2 == 0 {
            order.reverse();
        }
        for (case, sum) in order {
            progress(&format!("round {round} of {}: {}", plan.rounds, case.name()));
            scene.measure(case, u64::from(round), sum)?;
        }
    }
    let cases: Vec<Measured> = CASES.into_iter().zip(sums).map(|(case, sum)| measured(plan, case, sum)).collect();
    let ratios = ratios(&cases);
    Ok(Streams { machine, rounds: plan.rounds, accounts: plan.accounts, streams: plan.streams, cases, ratios })
}

fn measured(plan: &Plan<'_>, case: Case, sum: Sum) -> Measured {
    let Sum { tally, runs, mut processors, received } = sum;
    let transfers = runs.iter().map(|run| run.operations).sum::<u64>().max(1);
    processors.branches_us_per_transfer = (processors.payer_ms + processors.receiver_ms) * 1_000 / transfers;
    let rounds_per_second = runs.iter().map(|run| run.per_second).collect();
    let load = if case.is_lecture {
        tally.measurement(plan.lecture * u32::from(plan.rounds))
    } else {
        Measurement::median(runs)
    };
    Measured { name: case.name(), load, rounds_per_second, processors, received }
}

/// Compares the cases, which stand in the order of [`CASES`].
fn ratios(cases: &[Measured]) -> Vec<Ratio> {
    let [quiet, lecture, most, alone] = cases else { unreachable!("each case was measured") };
    let (quiet_time, time) = (quiet.load.latency, lecture.load.latency);
    let cost = |case: &Measured| case.processors.branches_us_per_transfer;
    vec![
        Ratio::below("a lecture's transfers: the median time", time.p50_us, quiet_time.p50_us, MEDIAN_GOAL_PER_MILLE),
        Ratio::below("and the 99th percentile", time.p99_us, quiet_time.p99_us, TAIL_GOAL_PER_MILLE),
        Ratio::below("as many as go: the branches' work for each", cost(most), cost(alone), COST_GOAL_PER_MILLE),
        Ratio::at_least_per_mille("and the rate, round by round", rate_per_mille(most, alone), RATE_GOAL_PER_MILLE),
    ]
}

/// The median of what a round's rate is to that of the other case in the same round.
fn rate_per_mille(case: &Measured, other: &Measured) -> u64 {
    let pairs = case.rounds_per_second.iter().zip(&other.rounds_per_second);
    let mut ratios: Vec<_> = pairs.map(|(rate, other)| per_mille(*rate, *other)).collect();
    ratios.sort_unstable();
    // Of an even number there are two in the middle, and neither side is to be favoured.
    let [low, high] = [ratios.len().saturating_sub(1) / 2, ratios.len() / 2];
    ratios.get(low).zip(ratios.get(high)).map_or(0, |(low, high)| u64::midpoint(*low, *high))
}

/// All that runs.
struct Scene<'a> {
    plan: &'a Plan<'a>,
    payer: &'a Branch,
    receiver: &'a Branch,
    bridge: &'a Process,
    cores: u64,
}

impl Scene<'_> {
    /// Measures a case once more.
    fn measure(&self, case: Case, seed: u64, sum: &mut Sum) -> Result<(), String> {
        let plan = self.plan;
        let other = self.receiver.address();
        let workload = Workload {
            mix: Mix::only(Kind::InterBranchTransfer),
            batch: 1,
            accounts: plan.accounts,
            request_ids: false,
            other_branch: Some((other.ip().to_string(), other.port())),
        };
        let mut load = Load {
            address: self.payer.address(),
            key: None,
            connections: CONNECTIONS,
            depth: 1,
            threads: CONNECTIONS,
            per_second: case.is_lecture.then_some(LECTURE_PER_SECOND),
            warm_up: Duration::ZERO,
            duration: plan.warm_up,
            seed: seed << 32,
        };
        let browsers = match case.has_streams {
            true => Some(Browsers::open(self.bridge.address, plan.streams)?),
            false => None,
        };
        // The warm-up is a load of its own, so that the processors' time is that of the measurement alone.
        load.run(&workload)?;
        load.duration = if case.is_lecture { plan.lecture } else { plan.duration };
        load.seed += 1 << 16;
        let before = self.look(browsers.as_ref())?;
        let tally = load.tally(&workload)?;
        let after = self.look(browsers.as_ref())?;
        sum.processors.add(before, after, self.cores * milliseconds(load.duration));
        sum.runs.push(tally.measurement(load.duration));
        sum.tally.add(tally);
        if let Some(browsers) = browsers {
            sum.received = Some(sum.received.unwrap_or_default().add(browsers.close()?));
        }
        Ok(())
    }

    /// What each has used of the processors since it began.
    fn look(&self, browsers: Option<&Browsers>) -> Result<Used, String> {
        let mut readers_ms = 0;
        for id in browsers.into_iter().flat_map(Browsers::reader_ids) {
            readers_ms += processor_time::of_thread(id)?;
        }
        Ok(Used {
            payer_ms: processor_time::of_process(self.payer.process_id())?,
            receiver_ms: processor_time::of_process(self.receiver.process_id())?,
            bridge_ms: processor_time::of_process(self.bridge.id())?,
            readers_ms,
            own_ms: processor_time::of_process(std::process::id())?,
            machine_ms: processor_time::of_machine()?,
        })
    }
}

/// What each has used of the processors since it began, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    payer_ms: u64,
    receiver_ms: u64,
    bridge_ms: u64,
    readers_ms: u64,
    /// This process, the readers included.
    own_ms: u64,
    machine_ms: u64,
}

impl Processors {
    /// Adds what was used between two looks.
    fn add(&mut self, before: Used, after: Used, there_was_ms: u64) {
        let between = |figure: fn(&Used) -> u64| figure(&after).saturating_sub(figure(&before));
        let own_ms = between(|used| used.own_ms);
        let (payer_ms, receiver_ms) = (between(|used| used.payer_ms), between(|used| used.receiver_ms));
        let (bridge_ms, readers_ms) = (between(|used| used.bridge_ms), between(|used| used.readers_ms));
        let ours_ms = payer_ms + receiver_ms + bridge_ms + own_ms;
        self.there_was_ms += there_was_ms;
        self.payer_ms += payer_ms;
        self.receiver_ms += receiver_ms;
        self.bridge_ms += bridge_ms;
        self.readers_ms += readers_ms;
        self.load_ms += own_ms.saturating_sub(readers_ms);
        self.others_ms += between(|used| used.machine_ms).saturating_sub(ours_ms);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latencies;

    #[test]
    fn what_is_nobodys_of_ours_is_others() {
        let before = Used { machine_ms: 1_000, own_ms: 50, ..Used::default() };
        let after =
            Used { payer_ms: 200, receiver_ms: 100, bridge_ms: 40, readers_ms: 10, own_ms: 80, machine_ms: 1_500 };
        let mut processors = Processors::default();
        processors.add(before, after, 2_000);
        processors.add(before, before, 2_000);
        let expected = Processors {
            there_was_ms: 4_000,
            payer_ms: 200,
            receiver_ms: 100,
            bridge_ms: 40,
            readers_ms: 10,
            load_ms: 20,
            others_ms: 130,
            branches_us_per_transfer: 0,
        };
        assert_eq!(processors, expected);
    }

    #[test]
    fn each_comparison_is_with_the_same_load_without_streams() {
        let measured = |latency_us, operations, branches_us_per_transfer| {
            let mut latencies = Latencies::new();
            latencies.record(Duration::from_micros(latency_us), operations);
            Measured {
                name: "",
                load: Measurement::new(operations, 0, None, Duration::from_secs(1), &latencies),
                rounds_per_second: vec![operations],
                processors: Processors { branches_us_per_transfer, ..Processors::default() },
                received: None,
            }
        };
        let cases = [measured(1_000, 8, 500), measured(1_200, 8, 500), measured(1, 890, 105), measured(1, 1_000, 100)];
        let found: Vec<_> = ratios(&cases).iter().map(|ratio| (ratio.per_mille, ratio.met)).collect();
        assert_eq!(found, [(1_200, false), (1_200, true), (1_050, true), (890, false)]);
    }

    #[test]
    fn rates_are_compared_within_a_round() {
        let measured = |rounds: &[u64]| Measured {
            name: "",
            load: Measurement::new(0, 0, None, Duration::from_secs(1), &Latencies::new()),
            rounds_per_second: rounds.to_vec(),
            processors: Processors::default(),
            received: None,
        };
        // The machine was slow, fast and slow again; by their medians the one would be twice the other.
        assert_eq!(rate_per_mille(&measured(&[95, 190, 180]), &measured(&[100, 200, 90])), 950);
        assert_eq!(rate_per_mille(&measured(&[80, 90, 110, 120]), &measured(&[100; 4])), 1_000);
    }
}

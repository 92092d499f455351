//! What a seed draws before the run: how many branches, how bad everything is, and the machines' options.

use two_phase_commit::{Backoff, Options, PeerAddr, Tick};

use crate::machines::network::Weather;
use crate::rng::Rng;

/// A rule of DESIGN's section 6 that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The ledger checks but keeps no hold.
    NoHold,
    /// The driver sends a vote before its record is durable.
    VoteBeforeDurable,
    /// A participant in doubt aborts when its first inquiry is not answered in time (against rule 6).
    DecideByTimer,
    /// A coordinator forgets a commit as soon as it has sent it once (against rule 4).
    ForgetBeforeAcknowledgement,
    /// A coordinator that has not read its log yet answers "aborted" (against rule 5).
    PresumeAbortDuringRecovery,
    /// A participant does not remember an abort that comes before its prepare (against rule 8).
    NoTombstone,
}

/// Everything that is fixed for a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The number of branches, 2 to 5.
    pub branches: usize,
    /// Accounts at each branch.
    pub accounts: u64,
    /// The network's weather while there are faults.
    pub weather: Weather,
    /// How long there are faults and new work.
    pub safety_ticks: Tick,
    /// How long a crashed branch stays down, at most.
    pub down_max_ticks: Tick,
    /// How long a branch takes to read its log, at most.
    pub recovery_max_ticks: Tick,
    /// How long a write takes, at most.
    pub write_max_ticks: Tick,
    /// Crashes in each tick and branch, of a hundred thousand.
    pub crash_per_100_000: u64,
    /// Crashes at each point between record, commit and send, of a thousand.
    pub crash_at_point_per_mille: u64,
    /// Cuts in each tick, of a thousand.
    pub cut_per_mille: u64,
    /// Unforced writes that are confirmed early, of a thousand.
    pub early_per_mille: u64,
    /// Transfers to begin.
    pub transfers: u64,
    /// Deposits, withdrawals and closings at single branches.
    pub cash: u64,
    /// Transfers driven by an outside program (rule 10).
    pub programs: u64,
    /// Chances in each tick, of a thousand, that an operator settles something by hand.
    pub operator_per_mille: u64,
    /// The rule that is broken, if any.
    pub broken: Option<Broken>,
    options: Options,
}

impl Config {
    /// Draws a configuration.
    #[must_use]
    pub fn draw(rng: &mut Rng, broken: Option<Broken>) -> Self {
        // Some runs have no fault of a kind at all, so that what needs a long quiet time is seen too.
        let mut maybe = |most: u64| if rng.chance(300) { 0 } else { rng.between(1, most) };
        let weather = Weather {
            loss_per_mille: maybe(300),
            double_per_mille: maybe(300),
            late_per_mille: maybe(300),
            delay_max_ticks: 1 + maybe(80),
        };
        let (crash_per_100_000, crash_at_point_per_mille) = (maybe(1_500), maybe(25));
        let (cut_per_mille, early_per_mille, programs) = (maybe(30), maybe(1000), maybe(4));
        let (down_max_ticks, recovery_max_ticks, write_max_ticks) = (maybe(80), maybe(40), maybe(8));
        let operator_per_mille = if rng.chance(150) { rng.between(1, 40) } else { 0 };
        let options = Self::draw_options(rng, weather.delay_max_ticks, broken);
        Self {
            branches: rng.between(2, 5) as usize,
            accounts: rng.between(1, 3),
            weather,
            safety_ticks: rng.between(150, 500),
            down_max_ticks,
            recovery_max_ticks,
            write_max_ticks,
            crash_per_100_000,
            crash_at_point_per_mille,
            cut_per_mille,
            early_per_mille,
            transfers: rng.between(4, 24),
            cash: rng.between(0, 12),
            programs,
            operator_per_mille,
            broken,
            options,
        }
    }

    /// A calm run of one thing at a time, for the walk through all crash points.
    #[must_use]
    pub fn calm(rng: &mut Rng) -> Self {
        let weather = Weather { loss_per_mille: 0, double_per_mille: 0, late_per_mille: 0, delay_max_ticks: 8 };
        let options = Self::draw_options(rng, weather.delay_max_ticks, None);
        Self {
            branches: 3,
            accounts: 2,
            weather,
            safety_ticks: 200,
            down_max_ticks: 60,
            recovery_max_ticks: 10,
            write_max_ticks: 3,
            crash_per_100_000: 0,
            crash_at_point_per_mille: 0,
            cut_per_mille: 0,
            early_per_mille: 0,
            transfers: 6,
            cash: 4,
            programs: 1,
            operator_per_mille: 0,
            broken: None,
            options,
        }
    }

    /// The options of one branch.
    #[must_use]
    pub fn options(&self, address: &PeerAddr) -> Options {
        Options { own_address: address.clone(), ..self.options.clone() }
    }

    fn draw_options(rng: &mut Rng, delay_max_ticks: Tick, broken: Option<Broken>) -> Options {
        let mut options = Options::new("".into());
        options.vote_timeout_ticks = rng.between(10, 150);
        for backoff in [&mut options.resend, &mut options.inquiry] {
            let first_ticks = rng.between(1, 20);
            *backoff = Backoff { first_ticks, max_ticks: first_ticks + rng.below(60) };
        }
        // An inquiry that was doubled can be answered, and that answer doubled, so two trips must pass.
        options.commit_retention_ticks = 2 * delay_max_ticks + rng.between(1, 100);
        options.settled_retention_ticks = 2 * delay_max_ticks + rng.between(1, 100);
        options.jitter_seed = rng.bits();
        if rng.chance(100) {
            options.coordinated_max = rng.between(1, 4) as usize;
        }
        if rng.chance(100) {
            options.prepared_max = rng.between(1, 4) as usize;
        }
        if rng.chance(200) {
            options.retained_max = rng.index(4);
        }
        if broken == Some(Broken::ForgetBeforeAcknowledgement) {
            options.commit_retention_ticks = 0;
        }
        options
    }
}

//! What a seed draws before the run: how many branches there are, how bad everything is, and who is at work.

use crate::rng::Rng;

/// Everything that is fixed for a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The number of branches, 2 to 4.
    pub branches: usize,
    /// Customers at each branch.
    pub accounts: u64,
    /// Between two looks at everything.
    pub tick_ms: u64,
    /// How long there are faults and new work.
    pub safety_ms: u64,
    /// The network's weather.
    pub weather: Weather,
    /// Requests of clients.
    pub requests: u64,
    /// Outside programs that drive the raw actions by themselves.
    pub programs: u64,
    /// Raw actions of strangers on transfers that are not theirs.
    pub strangers: u64,
    /// How often people settle by hand what a branch shows as pending.
    pub resolutions: u64,
    /// Of a thousand requests, how many balances are near the largest.
    pub rich_per_mille: u64,
    /// Answers that are lost on their way to the client, of a thousand.
    pub lost_answers_per_mille: u64,
    /// Requests with an id, of a thousand.
    pub ids_per_mille: u64,
    /// Whether a repeat comes in another notation than the first try.
    pub rewrites: bool,
    /// Crashes.
    pub crashes: u64,
    /// How long a process stays down, at most.
    pub down_max_ms: u64,
    /// Cuts between two branches.
    pub cuts: u64,
    /// Leaps of time in which nothing happens but what is due.
    pub leaps: u64,
    /// Replicas of each branch.
    pub replicas: Vec<usize>,
    /// How many of them must have a write before it is answered.
    pub sync_replicas: Vec<usize>,
    /// How far a replica lags, at most.
    pub lag_max_ms: u64,
    /// Promotions.
    pub promotions: u64,
    /// Times when a primary can't reach its replicas, and one is promoted.
    pub strandings: u64,
    /// Times when a primary hands over to one of its replicas.
    pub hand_overs: u64,
    /// Backups and restores of branches without replicas.
    pub backups: u64,
}

/// How the network treats a message.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Lost, of a thousand.
    pub loss_per_mille: u64,
    /// Delivered twice, of a thousand.
    pub double_per_mille: u64,
    /// Much later than the others, of a thousand.
    pub late_per_mille: u64,
    /// How long a message is under way, at most.
    pub delay_max_ms: u64,
}

impl Config {
    /// Draws a configuration.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        // Some runs have no fault of a kind at all, so that what needs a long quiet time is seen too.
        let mut maybe = |most: u64| if rng.chance(400) { 0 } else { rng.between(1, most) };
        let weather = Weather {
            loss_per_mille: maybe(250),
            double_per_mille: maybe(250),
            late_per_mille: maybe(200),
            delay_max_ms: 5 + maybe(400),
        };
        let (crashes, cuts, leaps) = (maybe(6), maybe(4), maybe(2));
        let (programs, strangers, resolutions) = (maybe(3), maybe(12), maybe(4));
        let (rich_per_mille, lost_answers_per_mille) = (maybe(200), maybe(300));
        let branches = rng.between(2, 4) as usize;
        // Half of the runs have no copies at all: those are the faster ones, and what goes wrong without is wrong with.
        let has_copies = rng.chance(400);
        let replicas: Vec<usize> =
            (0..branches).map(|_| if has_copies && rng.chance(600) { rng.between(1, 2) as usize } else { 0 }).collect();
        let sync_replicas = replicas.iter().map(|replicas| rng.index(*replicas + 1)).collect();
        Self {
            branches,
            accounts: rng.between(1, 3),
            tick_ms: 10 * rng.between(1, 8),
            safety_ms: 1000 * rng.between(4, 20),
            weather,
            requests: rng.between(5, 40),
            programs,
            strangers,
            resolutions,
            rich_per_mille,
            lost_answers_per_mille,
            ids_per_mille: 400 + rng.below(601),
            rewrites: rng.chance(500),
            crashes,
            down_max_ms: 200 * rng.between(1, 40),
            cuts,
            leaps,
            replicas,
            sync_replicas,
            lag_max_ms: rng.between(1, 3_000),
            promotions: if has_copies { rng.below(4) } else { 0 },
            strandings: if has_copies { rng.below(3) } else { 0 },
            hand_overs: if has_copies { rng.below(3) } else { 0 },
            backups: if rng.chance(300) { rng.between(1, 6) } else { 0 },
        }
    }
}

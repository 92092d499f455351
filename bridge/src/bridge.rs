//! What all requests share: the branches, the sessions, what has happened, and the configuration.

use std::net::SocketAddr;
use std::sync::Arc;

use protocol::BranchName;
use protocol::proof::to_hex;
use protocol::teaching::Lease;

use crate::books::Books;
use crate::branches::Branches;
use crate::chart_history::ChartHistory;
use crate::config::Config;
use crate::error::Error;
use crate::event_cache::EventCache;
use crate::limits::LESSON_LEASE;
use crate::logins::Logins;
use crate::metrics::Metrics;
use crate::origin::Origins;
use crate::passwords::Passwords;
use crate::quota::Quotas;
use crate::session::Sessions;
use crate::shown_scenario::ShownScenario;
use crate::stop::Stop;
use crate::store::Store;

/// Whoever runs the branches, and so can start a crashed one again: `bank-bridge demo`.
pub trait Restarter: Send + Sync {
    /// Whether this branch is one of those that it runs.
    fn runs(&self, branch: &BranchName) -> bool;

    /// Starts the branch again and waits until it takes requests. One that runs is left as it is.
    ///
    /// It may block; it is called on a thread for that.
    ///
    /// # Errors
    /// One sentence for a person.
    fn restart(&self, branch: &BranchName) -> Result<(), String>;
}

/// The bridge.
pub struct Bridge {
    /// What it was started with.
    pub config: Config,
    /// Where it listens, with the port that was picked.
    pub address: SocketAddr,
    /// Under which names it may be asked for.
    pub origins: Origins,
    /// The branches that it talks to.
    pub branches: Branches,
    /// Who is signed in.
    pub sessions: Sessions,
    /// Passwords and how often they were wrong.
    pub passwords: Passwords,
    /// Which passwords opened what.
    pub logins: Logins,
    /// What each caller has under way.
    pub quotas: Quotas,
    /// What has happened.
    pub store: Store,
    /// The same as text, for streams at the same place.
    pub event_cache: EventCache,
    /// What is known of the bank between two audits.
    pub books: Books,
    /// The last minutes, for charts.
    pub chart_history: ChartHistory,
    /// What it counts.
    pub metrics: Metrics,
    /// Who can start a crashed branch again, if anyone.
    pub restarter: Option<Arc<dyn Restarter>>,
    /// The scenario that is shown.
    pub scenario: ShownScenario,
    /// Its end.
    pub stop: Stop,
    /// By what the branches know that what it has set in a lesson is still wanted.
    lease: Lease,
}

impl Bridge {
    /// A bridge that listens at `address` and knows the branches that it was told of.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system gives no random bytes.
    pub fn new(config: Config, address: SocketAddr, restarter: Option<Arc<dyn Restarter>>) -> Result<Self, Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Error::Internal(format!("no random bytes: {error}")))?;
        let lease = Lease { holder: format!("bridge-{}", to_hex(&random)), seconds: LESSON_LEASE.as_secs() };
        Ok(Self {
            lease,
            origins: Origins::new(address, &config.host_names),
            branches: Branches::new(config.credentials.clone()),
            sessions: Sessions::default(),
            passwords: Passwords::new()?,
            logins: Logins::default(),
            quotas: Quotas::default(),
            store: Store::new(),
            event_cache: EventCache::default(),
            books: Books::default(),
            chart_history: ChartHistory::default(),
            metrics: Metrics::new(),
            restarter,
            scenario: ShownScenario::new(),
            stop: Stop::new(),
            address,
            config,
        })
    }

    /// What is set at a teaching branch from here is held by this.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Whether a crashed branch can be started again from here.
    #[must_use]
    pub fn can_restart(&self, branch: &BranchName) -> bool {
        self.restarter.as_ref().is_some_and(|restarter| restarter.runs(branch))
    }
}

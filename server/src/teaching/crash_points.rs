//! Named points at which a branch can be made to crash, for lessons and for tests.
//!
//! A crash here is a real one: the process kills itself with SIGKILL, so nothing of the money is flushed and nobody is
//! told. What the class has watched until then is written to the file of events first. A point is armed on the command line or by request, and both take `--teaching`; without it nothing
//! here does anything.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use two_phase_commit::Record;

/// Where a branch can crash in the course of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// As participant, asked to prepare, before anything is on disk.
    BeforePrepared,
    /// As participant, prepared on disk, before the vote is sent.
    AfterPrepared,
    /// As participant, after the vote was sent.
    AfterVote,
    /// As coordinator, all votes are in, before the decision is on disk.
    BeforeDecision,
    /// As coordinator, right after the commit point, before anyone is told.
    AfterDecision,
    /// As coordinator, after the first decision was sent.
    AfterFirstDelivery,
    /// As coordinator, all have acknowledged, before the end is on disk.
    BeforeEnd,
}

impl CrashPoint {
    /// Every point, in the order in which a transfer passes them.
    pub const ALL: [Self; 7] = [
        Self::BeforePrepared,
        Self::AfterPrepared,
        Self::AfterVote,
        Self::BeforeDecision,
        Self::AfterDecision,
        Self::AfterFirstDelivery,
        Self::BeforeEnd,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforePrepared => "before-prepared",
            Self::AfterPrepared => "after-prepared",
            Self::AfterVote => "after-vote",
            Self::BeforeDecision => "before-decision",
            Self::AfterDecision => "after-decision",
            Self::AfterFirstDelivery => "after-first-delivery",
            Self::BeforeEnd => "before-end",
        }
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for CrashPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|point| point.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|point| point.name()).collect();
            format!("{text:?} is no crash point; there are {}", names.join(", "))
        })
    }
}

/// The point that is armed, if any.
#[derive(Default)]
pub struct CrashSwitch {
    /// 0 for none, else the position in [`CrashPoint::ALL`] plus one.
    armed: AtomicU8,
    /// What is done first.
    first: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for CrashSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashSwitch").field("armed", &self.armed()).finish_non_exhaustive()
    }
}

impl CrashSwitch {
    /// Arms a point, or none.
    pub fn arm(&self, point: Option<CrashPoint>) {
        let position = CrashPoint::ALL.iter().position(|candidate| Some(*candidate) == point);
        let armed = position.map_or(0, |position| u8::try_from(position + 1).expect("there are seven points"));
        self.armed.store(armed, Ordering::SeqCst);
    }

    /// Whether any point is armed.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed) != 0
    }

    /// The point that is armed.
    #[must_use]
    pub fn armed(&self) -> Option<CrashPoint> {
        let armed = self.armed.load(Ordering::Relaxed);
        CrashPoint::ALL.get(usize::from(armed).checked_sub(1)?).copied()
    }

    /// Has this done before the process kills itself, once and for all crashes.
    pub fn before_it(&self, first: impl Fn() + Send + Sync + 'static) {
        // The branch is opened once with a switch; a second one would say the same.
        let _ = self.first.set(Box::new(first));
    }

    /// Kills the process if this point is armed.
    pub fn pass(&self, point: CrashPoint) {
        if self.armed() == Some(point) {
            self.kill(&format!("crash point {point}"));
        }
    }

    /// Ends this process as a power failure would.
    pub fn kill(&self, why: &str) -> ! {
        if let Some(first) = self.first.get() {
            first();
        }
        kill_this_process(why)
    }

    /// Passes the points that lie before these records are on disk.
    pub fn pass_before_writing(&self, records: &[Record]) {
        for record in records {
            match record {
                Record::Prepared(_) => self.pass(CrashPoint::BeforePrepared),
                Record::Committed { .. } => self.pass(CrashPoint::BeforeDecision),
                Record::Ended { .. } => self.pass(CrashPoint::BeforeEnd),
                Record::Begun(_)
                | Record::Aborted { .. }
                | Record::Settled { .. }
                | Record::Confirmed { .. }
                | Record::Contradicted { .. }
                | Record::Resolved { .. }
                | Record::Mixed { .. } => {}
            }
        }
    }

    /// Passes the points that lie right after these records came to be on disk.
    pub fn pass_after_writing(&self, records: &[Record]) {
        for record in records {
            match record {
                Record::Prepared(_) => self.pass(CrashPoint::AfterPrepared),
                Record::Committed { .. } => self.pass(CrashPoint::AfterDecision),
                Record::Begun(_)
                | Record::Ended { .. }
                | Record::Aborted { .. }
                | Record::Settled { .. }
                | Record::Confirmed { .. }
                | Record::Contradicted { .. }
                | Record::Resolved { .. }
                | Record::Mixed { .. } => {}
            }
        }
    }
}

fn kill_this_process(why: &str) -> ! {
    log::warn!("{why}: the process kills itself");
    let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal is delivered before the call returns, or it failed and there is nothing milder to try.
    log::error!("the process could not kill itself: {killed:?}");
    std::process::abort();
}

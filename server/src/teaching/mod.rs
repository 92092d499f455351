//! Teaching: what a branch started with `--teaching` has around it, so that a class can see the protocol work and fail.
//!
//! A lesson must show the real protocol, so nothing of it is played here. The messages come over real links, the
//! machines and the disk are those of every day. Only three things are put in between:
//! - [`staged_inbox`]: in *step mode* every message that comes waits there until someone says what becomes of it; over a slow
//!   link it waits by itself for a while;
//! - [`clock`]: in step mode the protocol's time stands still, so no message is repeated and nothing times out while a
//!   class talks, until time is made to pass by request;
//! - [`faults`]: what is remembered of links that are cut or slow. The cut itself is in the links;
//! - [`lease`]: which of this ends by itself when the program that has set it is gone.
//!
//! What is done with them, action by action, is [`lesson`]. It stands before the engine as its inbox, and what it
//! runs on is in [`host`]; the engine knows of none of this. A branch without
//! `--teaching` has none of it.
//!
//! No lock of this room is held while a message is carried out: what is taken from the stage is handed over first.

pub mod clock;
pub mod crash_points;
pub mod faults;
pub mod host;
pub mod lease;
pub mod lesson;
pub mod staged_inbox;

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use protocol::BranchName;
use protocol::teaching::{Fault, Lease, LinkFault, Waiting};
use two_phase_commit::PeerAddr;

use self::clock::ProtocolClock;
use self::crash_points::CrashSwitch;
use self::faults::Faults;
use self::lease::{Leases, Setting};
use self::staged_inbox::{Due, StagedInbox};
use crate::peers::links::StampedMessage;

/// A message that has come, and from whom.
pub type Received = (PeerAddr, StampedMessage);

/// All that a class can set at a branch.
#[derive(Debug, Default)]
pub struct Controls {
    /// What waits, the clock, the faults.
    pub teaching: Teaching<Received>,
    /// Where the process kills itself.
    pub crash: CrashSwitch,
}

/// What a teaching branch keeps. `M` is a message as the engine takes it.
#[derive(Debug)]
pub struct Teaching<M> {
    state: Mutex<State<M>>,
    /// Held by whoever makes time pass, so that two of them pass one after the other.
    passing: Mutex<()>,
}

#[derive(Debug)]
struct State<M> {
    is_stepping: bool,
    inbox: StagedInbox<M>,
    clock: ProtocolClock,
    faults: Faults,
    leases: Leases,
}

/// What became of a message that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Intercepted<M> {
    /// Nothing holds it up.
    Passes(M),
    /// It waits on the stage.
    Waits,
    /// The stage is full; the network may lose a message.
    Lost(M),
}

impl<M> Teaching<M> {
    /// Nothing is stepped, slow or cut.
    #[must_use]
    pub fn new() -> Self {
        let (inbox, clock, faults) = (StagedInbox::new(), ProtocolClock::new(), Faults::default());
        let state = State { is_stepping: false, inbox, clock, faults, leases: Leases::default() };
        Self { state: Mutex::new(state), passing: Mutex::new(()) }
    }

    /// Whether messages wait to be stepped.
    #[must_use]
    pub fn is_stepping(&self) -> bool {
        self.state.lock().is_stepping
    }

    /// The protocol's clock.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.state.lock().clock.now()
    }

    /// The messages that wait, in the order in which they came.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        self.state.lock().inbox.list()
    }

    /// The links that are cut or slow.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.state.lock().faults.list()
    }

    /// Lets messages of one branch pass, or makes them wait. `label` describes one; its number is given here.
    pub fn intercept(&self, from: &str, messages: Vec<M>, label: impl Fn(&M) -> Waiting) -> Vec<Intercepted<M>> {
        let mut state = self.state.lock();
        let delay = if state.is_stepping { None } else { state.faults.delay_of(from) };
        if !state.is_stepping && delay.is_none() {
            return messages.into_iter().map(Intercepted::Passes).collect();
        }
        let due = delay.map(|delay| Due::after(delay).not_before(state.inbox.last_due_of(from)));
        let wait = |message: M| match state.inbox.put(label(&message), message, due) {
            Ok(_) => Intercepted::Waits,
            Err(message) => Intercepted::Lost(message),
        };
        messages.into_iter().map(wait).collect()
    }

    /// Turns step mode on: the clock stands still, and what was to be delivered by itself waits too.
    pub fn start_stepping(&self) {
        let mut state = self.state.lock();
        state.is_stepping = true;
        state.clock.stop();
        state.inbox.wait_without_end();
    }

    /// Takes all that waits, in order. When nothing does, or `is_last`, step mode ends in the same moment, so that no
    /// message that comes later overtakes one that waited.
    pub fn take_all_to_stop_stepping(&self, is_last: bool) -> Vec<M> {
        let mut state = self.state.lock();
        let all = state.inbox.take_all();
        if all.is_empty() || is_last {
            state.is_stepping = false;
            state.clock.go_on();
        }
        all
    }

    /// Takes the message of this number.
    pub fn take(&self, number: u64) -> Option<M> {
        self.state.lock().inbox.take(number)
    }

    /// Returns the message of this number, and goes on keeping it as a copy with a new number.
    pub fn duplicate(&self, number: u64) -> Option<M>
    where
        M: Clone,
    {
        self.state.lock().inbox.duplicate(number)
    }

    /// Has the message of this number delivered by itself after this time. `false` when there is none.
    pub fn delay(&self, number: u64, delay: Duration) -> bool {
        self.state.lock().inbox.delay(number, Due::after(delay))
    }

    /// Takes what is to be delivered by itself by now, in order.
    pub fn take_due(&self) -> Vec<M> {
        self.state.lock().inbox.take_due(Instant::now())
    }

    /// Notes a fault, or that there is none any more. Returns the messages that a link which was slow had still to bring.
    pub fn set_fault(&self, peer: &BranchName, fault: LinkFault, delay: Option<Duration>) -> Vec<M> {
        let mut state = self.state.lock();
        let was_slow = state.faults.delay_of(peer.as_str()).is_some();
        state.faults.set(peer, fault, delay);
        if fault == LinkFault::Heal && was_slow && !state.is_stepping {
            state.inbox.take_due_of(peer.as_str())
        } else {
            Vec::new()
        }
    }

    /// Notes by whom a setting was made, if someone has to renew it.
    pub fn lease(&self, setting: Setting, lease: Option<&Lease>) {
        self.state.lock().leases.set(setting, lease, Instant::now());
    }

    /// Whoever holds this lease is still there.
    pub fn renew(&self, lease: &Lease) {
        self.state.lock().leases.renew(lease, Instant::now());
    }

    /// Takes the settings whose makers are gone.
    pub fn take_ended(&self) -> Vec<Setting> {
        self.state.lock().leases.take_ended(Instant::now())
    }

    /// Lets nobody else make time pass as long as the guard is held.
    pub fn pass_alone(&self) -> MutexGuard<'_, ()> {
        self.passing.lock()
    }

    /// Moves the standing clock on, never back. `false` when it runs by itself.
    pub fn pass_to(&self, moment: Duration) -> bool {
        let mut state = self.state.lock();
        state.is_stepping && state.clock.pass_to(moment)
    }
}

impl<M> Default for Teaching<M> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STAGED_MESSAGES;
    use crate::teaching::staged_inbox::tests::label;

    fn intercept(teaching: &Teaching<u32>, from: &str, messages: Vec<u32>) -> Vec<Intercepted<u32>> {
        teaching.intercept(from, messages, |_| label(from))
    }

    #[test]
    fn messages_pass_until_they_are_stepped_and_again_afterwards() {
        let teaching = Teaching::new();
        assert_eq!(intercept(&teaching, "Delhi", vec![1]), [Intercepted::Passes(1)]);
        teaching.start_stepping();
        assert_eq!(intercept(&teaching, "Delhi", vec![2, 3]), [Intercepted::Waits, Intercepted::Waits]);
        assert_eq!(teaching.waiting().iter().map(|waiting| waiting.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(teaching.take_all_to_stop_stepping(false), [2, 3]);
        assert!(teaching.is_stepping(), "what comes meanwhile waits behind them");
        assert_eq!(intercept(&teaching, "Delhi", vec![4]), [Intercepted::Waits]);
        assert_eq!(teaching.take_all_to_stop_stepping(false), [4]);
        assert!(teaching.take_all_to_stop_stepping(false).is_empty() && !teaching.is_stepping());
        assert_eq!(intercept(&teaching, "Delhi", vec![5]), [Intercepted::Passes(5)]);
    }

    #[test]
    fn a_full_stage_loses_what_comes_last() {
        let teaching = Teaching::new();
        teaching.start_stepping();
        let limit = u32::try_from(STAGED_MESSAGES).unwrap();
        let intercepted = intercept(&teaching, "Delhi", (0..=limit).collect());
        assert_eq!(intercepted.last(), Some(&Intercepted::Lost(limit)));
        assert_eq!(teaching.waiting().len(), STAGED_MESSAGES);
    }

    #[test]
    fn a_slow_link_delays_its_own_branch_alone_and_healing_delivers() {
        let (teaching, delhi) = (Teaching::new(), "Delhi".parse().unwrap());
        assert!(teaching.set_fault(&delhi, LinkFault::Slow, Some(Duration::from_secs(3600))).is_empty());
        assert_eq!(intercept(&teaching, "Delhi", vec![1, 2]), [Intercepted::Waits, Intercepted::Waits]);
        assert_eq!(intercept(&teaching, "Pune", vec![3]), [Intercepted::Passes(3)]);
        assert!(teaching.take_due().is_empty() && teaching.faults().len() == 1);
        assert_eq!(teaching.set_fault(&delhi, LinkFault::Heal, None), [1, 2]);
        assert_eq!(intercept(&teaching, "Delhi", vec![4]), [Intercepted::Passes(4)]);
        assert!(teaching.faults().is_empty());
    }

    #[test]
    fn time_passes_by_request_only_while_it_stands_still() {
        let teaching: Teaching<u32> = Teaching::new();
        assert!(!teaching.pass_to(Duration::from_secs(9)));
        teaching.start_stepping();
        let now = teaching.now();
        assert!(teaching.pass_to(now + Duration::from_secs(9)));
        assert_eq!(teaching.now(), now + Duration::from_secs(9));
        assert!(teaching.pass_to(now), "never back");
        assert_eq!(teaching.now(), now + Duration::from_secs(9));
        teaching.take_all_to_stop_stepping(true);
        assert!(teaching.now() >= now + Duration::from_secs(9), "it goes on from there");
    }
}

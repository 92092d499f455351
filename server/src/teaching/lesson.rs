//! What a class does to a teaching branch: step, let time pass, break links, crash. Each says how the stage stands
//! after.
//!
//! A [`Lesson`] stands between the links and the engine: what comes goes through it, and waits there in step mode or over
//! a slow link. What waits, and the clock, are kept by [`Teaching`]; this file makes them real: a message that is let
//! through is received as any other, and time that passes is the machines' own tick, moment by moment, so that
//! everything happens in the order of real time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::teaching::{Crash, Fault, How, Lease, LinkFault, Look, PassTime, Stage, Step, StepMode, Waiting};
use two_phase_commit::PeerAddr;

use crate::error::{Error, Result};
use crate::limits::{FLUSH_ROUNDS, LEASE_HOLDER_BYTES, LEASE_MAX, LESSON_DELAY_MAX, PASS_TIME_MAX, TICK};
use crate::peers::links::{Inbox, StampedMessage, unknown_branch};
use crate::teaching::crash_points::CrashPoint;
use crate::teaching::lease::Setting;
use crate::teaching::{Controls, Intercepted, Received, Teaching};
use crate::transfer::Engine;
use crate::transfer::events::{Happened, message_name};
use crate::transfer::threads::{Again, Threads};

/// Crash at once.
const NOW: &str = "now";
/// Crash nowhere.
const NEVER: &str = "never";

/// A teaching branch, for its class.
pub struct Lesson {
    engine: Arc<Engine>,
    controls: Arc<Controls>,
    threads: Mutex<Option<Threads>>,
}

impl Inbox for Lesson {
    fn received(&self, from: &PeerAddr, messages: Vec<StampedMessage>) {
        if self.engine.may_receive() {
            self.engine.receive(from, self.hold_back(from, messages));
        }
    }

    fn undeliverable(&self, to: &PeerAddr, messages: Vec<StampedMessage>) {
        self.engine.undeliverable(to, messages);
    }

    fn linked(&self, peer: &PeerAddr) {
        self.engine.linked(peer);
    }

    fn met_itself(&self, at: &PeerAddr) {
        self.engine.met_itself(at);
    }
}

impl Lesson {
    /// The lesson of an engine that runs on these controls.
    #[must_use]
    pub fn new(engine: Arc<Engine>, controls: Arc<Controls>) -> Self {
        Self { engine, controls, threads: Mutex::new(None) }
    }

    /// Lets what waits for its time be received, and what was leased end, by a thread of its own.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system has no thread left.
    pub fn start_thread(self: &Arc<Self>) -> Result<()> {
        *self.threads.lock() = Some(Threads::start(self, &[("lesson", TICK, Self::tick)])?);
        Ok(())
    }

    /// Ends the thread.
    pub fn stop(&self) {
        if let Some(threads) = self.threads.lock().take() {
            threads.join();
        }
    }

    fn tick(&self) -> Again {
        self.end_leases();
        self.deliver(self.teaching().take_due());
        Again::Later
    }

    fn teaching(&self) -> &Teaching<Received> {
        &self.controls.teaching
    }

    /// How the stage stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        let clock_ms = self.teaching().now().as_millis();
        Stage {
            step_mode: self.teaching().is_stepping(),
            protocol_clock_ms: u64::try_from(clock_ms).unwrap_or(u64::MAX),
            waiting: self.teaching().waiting(),
            faults: self.teaching().faults(),
            crash_at: self.controls.crash.armed().map(|point| point.to_string()),
            crash_points: CrashPoint::ALL.iter().map(ToString::to_string).collect(),
        }
    }

    /// How the stage stands, to someone who may have set something here and is still there.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the lease is none.
    pub fn look(&self, params: &Look) -> Result<Stage> {
        check_lease(params.lease.as_ref())?;
        if let Some(lease) = &params.lease {
            self.teaching().renew(lease);
        }
        Ok(self.stage())
    }

    /// Takes back what was set by programs that are gone.
    fn end_leases(&self) {
        for setting in self.teaching().take_ended() {
            let done = match setting {
                Setting::StepMode => {
                    log::warn!("lesson: step mode ends, because the program that has set it is gone");
                    self.step_mode(&StepMode { on: false, lease: None })
                }
                Setting::Fault(peer) => {
                    log::warn!("lesson: the link to {peer} heals, because the program that broke it is gone");
                    self.fault(&Fault { peer, fault: LinkFault::Heal, delay_ms: None, lease: None })
                }
                Setting::CrashPoint => {
                    log::warn!("lesson: no crash is armed any more, because the program that armed it is gone");
                    self.crash(&Crash { at: NEVER.into(), lease: None })
                }
            };
            if let Err(error) = done {
                log::warn!("lesson: {error}");
            }
        }
    }

    /// Turns step mode on or off. Off, everything that waits is received first, in order.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the lease is none.
    pub fn step_mode(&self, params: &StepMode) -> Result<Stage> {
        check_lease(params.lease.as_ref())?;
        self.teaching().lease(Setting::StepMode, params.lease.as_ref().filter(|_| params.on));
        if params.on {
            self.teaching().start_stepping();
            return Ok(self.stage());
        }
        for round in 1..=FLUSH_ROUNDS {
            if !self.teaching().is_stepping() {
                break;
            }
            self.deliver(self.teaching().take_all_to_stop_stepping(round == FLUSH_ROUNDS));
        }
        Ok(self.stage())
    }

    /// Says what becomes of a message that waits.
    ///
    /// # Errors
    /// [`Error::Invalid`] when no message has this number, or the delay is missing, too long or out of place.
    pub fn step(&self, params: &Step) -> Result<Stage> {
        let number = params.number;
        let nothing = || Error::Invalid(format!("no message with the number {number} waits here"));
        let delay = delay(params.delay_ms, params.how == How::Delay)?;
        match params.how {
            How::Deliver => self.deliver(vec![self.teaching().take(number).ok_or_else(nothing)?]),
            How::Duplicate => self.deliver(vec![self.teaching().duplicate(number).ok_or_else(nothing)?]),
            How::Drop => {
                let (from, stamped) = self.teaching().take(number).ok_or_else(nothing)?;
                self.lose(from, stamped);
            }
            How::Delay => {
                if !self.teaching().delay(number, delay) {
                    return Err(nothing());
                }
            }
        }
        Ok(self.stage())
    }

    /// Moves the protocol's clock on, through every moment at which something is due.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the clock runs by itself, or for more than [`PASS_TIME_MAX`].
    pub fn pass_time(&self, params: &PassTime) -> Result<Stage> {
        let time = Duration::from_millis(params.milliseconds);
        if time > PASS_TIME_MAX {
            return Err(Error::Invalid(format!(
                "at most {} milliseconds pass in one request",
                PASS_TIME_MAX.as_millis()
            )));
        }
        let _alone = self.teaching().pass_alone();
        let end = self.teaching().now() + time;
        let mut moment = self.teaching().now();
        loop {
            if !self.teaching().pass_to(moment) {
                return Err(Error::Invalid("the protocol's clock runs by itself; turn step mode on first".into()));
            }
            self.engine.tick_machines();
            if moment >= end {
                return Ok(self.stage());
            }
            let next = self.engine.next_deadline().unwrap_or(end);
            moment = next.clamp((moment + TICK).min(end), end);
        }
    }

    /// Cuts, slows or heals the link to another branch.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when no such branch is known, [`Error::Invalid`] for this branch itself, or when the
    /// delay is missing, too long or out of place.
    pub fn fault(&self, params: &Fault) -> Result<Stage> {
        let name = &params.peer;
        let delay = delay(params.delay_ms, params.fault == LinkFault::Slow)?;
        check_lease(params.lease.as_ref())?;
        if *name == *self.engine.name() {
            return Err(Error::Invalid("a branch has no link to itself".into()));
        }
        let (links, peer) = (self.engine.links(), PeerAddr::from(name));
        if links.directory().address_of(name).is_none() {
            return Err(unknown_branch(name.as_str()));
        }
        log::warn!(
            "lesson: the link to {name} is {}",
            match params.fault {
                LinkFault::Cut => "cut".to_string(),
                LinkFault::Slow => format!("slowed by {} ms", delay.as_millis()),
                LinkFault::Heal => "healed".to_string(),
            }
        );
        let lease = params.lease.as_ref().filter(|_| params.fault != LinkFault::Heal);
        self.teaching().lease(Setting::Fault(name.clone()), lease);
        let overdue = self.teaching().set_fault(name, params.fault, Some(delay));
        match params.fault {
            LinkFault::Cut => links.cut(&peer),
            LinkFault::Slow | LinkFault::Heal => links.mend(&peer),
        }
        self.deliver(overdue);
        Ok(self.stage())
    }

    /// Kills the process now, arms the point at which it kills itself, or disarms it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no such point, or the lease is none.
    pub fn crash(&self, params: &Crash) -> Result<Stage> {
        check_lease(params.lease.as_ref())?;
        let point = match params.at.as_str() {
            NOW => self.controls.crash.kill("crash by request"),
            NEVER => None,
            point => {
                let text = |error: String| Error::Invalid(format!("{error}; or {NOW}, or {NEVER}"));
                Some(point.parse().map_err(text)?)
            }
        };
        self.teaching().lease(Setting::CrashPoint, params.lease.as_ref().filter(|_| point.is_some()));
        self.controls.crash.arm(point);
        Ok(self.stage())
    }

    /// Lets messages that came pass, or keeps them on the stage. Returns those that pass.
    fn hold_back(&self, from: &PeerAddr, messages: Vec<StampedMessage>) -> Vec<StampedMessage> {
        let to = self.engine.name().as_str();
        let came = messages.into_iter().map(|stamped| (from.clone(), stamped)).collect();
        let intercepted = self.teaching().intercept(from.as_str(), came, |(from, stamped)| Waiting {
            number: 0,
            id: stamped.id.clone(),
            from: from.to_string(),
            to: to.to_string(),
            message: message_name(&stamped.message).to_string(),
            text: stamped.message.to_string(),
            txid: stamped.message.txid().clone(),
            due_unix_ms: None,
        });
        let mut passing = Vec::new();
        for message in intercepted {
            match message {
                Intercepted::Passes((_, stamped)) => passing.push(stamped),
                Intercepted::Waits => {}
                Intercepted::Lost((from, stamped)) => {
                    log::warn!("the stage is full: a message of {from} is lost");
                    self.lose(from, stamped);
                }
            }
        }
        passing
    }

    /// Receives messages of any branches, in order.
    fn deliver(&self, messages: Vec<Received>) {
        let mut messages = messages.into_iter().peekable();
        while let Some((from, stamped)) = messages.next() {
            let mut batch = vec![stamped];
            while let Some((_, stamped)) = messages.next_if(|(next, _)| *next == from) {
                batch.push(stamped);
            }
            self.engine.receive(&from, batch);
        }
    }

    fn lose(&self, from: PeerAddr, StampedMessage { message, id, .. }: StampedMessage) {
        // Whoever never gets a message knows nothing of what its sender knew.
        self.engine.events().add(&message.txid().clone(), Happened::Lost { from, message, id });
    }
}

/// A lease has a bound, so that nothing outlives its maker for long, and a holder that can be kept.
fn check_lease(lease: Option<&Lease>) -> Result<()> {
    let Some(lease) = lease else { return Ok(()) };
    if lease.holder.is_empty() || lease.holder.len() > LEASE_HOLDER_BYTES {
        return Err(Error::Invalid(format!("the holder of a lease has 1 to {LEASE_HOLDER_BYTES} bytes")));
    }
    if lease.seconds == 0 || lease.seconds > LEASE_MAX.as_secs() {
        return Err(Error::Invalid(format!("a lease is for 1 to {} seconds", LEASE_MAX.as_secs())));
    }
    Ok(())
}

/// The delay of a request: there when it is wanted, and only then.
fn delay(delay_ms: Option<u64>, is_wanted: bool) -> Result<Duration> {
    let invalid = |text: String| Err(Error::Invalid(text));
    match (delay_ms.map(Duration::from_millis), is_wanted) {
        (Some(delay), true) if delay <= LESSON_DELAY_MAX => Ok(delay),
        (Some(_), true) => invalid(format!("delay_ms is at most {}", LESSON_DELAY_MAX.as_millis())),
        (None, true) => invalid("say for how long, in delay_ms".into()),
        (Some(_), false) => invalid("delay_ms goes with how delay or fault slow alone".into()),
        (None, false) => Ok(Duration::ZERO),
    }
}

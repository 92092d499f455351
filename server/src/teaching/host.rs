//! What stands between a teaching branch's engine and its surroundings: a clock that can stand still, and the points at
//! which the process kills itself.
//!
//! The engine runs on these as on any other [`Host`] and [`Carrier`]; it does not know that it is watched.

use std::sync::Arc;
use std::time::Duration;

use two_phase_commit::{Message, PeerAddr, Record};

use crate::error::Result;
use crate::limits::CRASH_SEND_WAIT;
use crate::peers::links::{Carrier, StampedMessage};
use crate::teaching::Controls;
use crate::teaching::crash_points::CrashPoint;
use crate::transfer::host::Host;

/// The machine of a teaching branch: the one below it, with the protocol's time in the hands of a class.
pub struct TeachingHost {
    /// The machine that the process really runs on.
    pub machine: Box<dyn Host>,
    /// What the class has set.
    pub controls: Arc<Controls>,
}

impl Host for TeachingHost {
    fn elapsed(&self) -> Duration {
        self.machine.elapsed()
    }

    fn protocol_time(&self) -> Duration {
        self.controls.teaching.now()
    }

    fn is_paused(&self) -> bool {
        self.controls.teaching.is_stepping()
    }

    fn before_write(&self, records: &[Record]) {
        self.controls.crash.pass_before_writing(records);
    }

    fn after_write(&self, records: &[Record]) {
        self.controls.crash.pass_after_writing(records);
    }

    fn unix_ms(&self) -> i64 {
        self.machine.unix_ms()
    }

    fn random(&self) -> Result<u64> {
        self.machine.random()
    }

    fn run_aside(&self, work: Box<dyn FnOnce() + Send>) -> Result<()> {
        self.machine.run_aside(work)
    }

    fn patience(&self, limit: Duration) -> Duration {
        self.machine.patience(limit)
    }
}

/// The network of a teaching branch: the one below it, with the crash points that lie right after a message.
pub struct TeachingCarrier {
    /// Who really takes the messages.
    pub carrier: Box<dyn Carrier>,
    /// What the class has set.
    pub controls: Arc<Controls>,
}

impl Carrier for TeachingCarrier {
    fn carry(&self, to: &PeerAddr, messages: Vec<StampedMessage>) {
        let crash = &self.controls.crash;
        if !crash.is_armed() {
            return self.carrier.carry(to, messages);
        }
        for stamped in messages {
            let point = point_after(&stamped.message);
            self.carrier.carry(to, vec![stamped]);
            if let Some(point) = point.filter(|point| crash.armed() == Some(*point)) {
                // The link's writer gets time to put the message on the wire.
                std::thread::sleep(CRASH_SEND_WAIT);
                crash.pass(point);
            }
        }
    }
}

const fn point_after(message: &Message) -> Option<CrashPoint> {
    match message {
        Message::Decision { .. } => Some(CrashPoint::AfterFirstDelivery),
        Message::Vote { .. } => Some(CrashPoint::AfterVote),
        Message::Prepare(_)
        | Message::Acknowledged { .. }
        | Message::Inquiry { .. }
        | Message::Undecided { .. }
        | Message::Rejected { .. } => None,
    }
}

//! The thread that takes messages from the outbox and hands them to the channel.
//!
//! It sleeps until a movement wakes it ([`Notifier`]), the next message falls due, or it is told to stop.
//! Then it takes the due messages and sends them one after another, in the outbox's order. What becomes of
//! each:
//!
//! - the channel took it: recorded as delivered;
//! - a permanent error: given up, with the reason in the outbox and the log;
//! - a transient error: due again after a back-off that doubles with each attempt, up to a cap, with
//!   jitter, and not sooner than the other side asked; given up when it has failed for long enough. A transient error says
//!   more about the channel than about the message, so the whole sender rests too, ever longer while
//!   errors follow one another, but never longer than [`limits::REST_MAX_MS`]: a message that always fails
//!   doesn't hold up the others.
//!
//! When the outbox can't record what became of a message, that is kept and tried again before anything
//! else is sent; so a full disk doesn't send the same message twice, only a crash does.
//!
//! A channel may block for as long as a request takes, which is longer than a stop may. So the channel
//! lives on a second thread, `sms-channel`, which has at most one message at a time. On a stop the sender
//! waits a moment for the message under way. If the channel is still busy after that, its thread is left to
//! end by itself and the message stays in the outbox, to be sent again at the next start. The outbox is
//! always let go of before [`SmsSender::stop`] returns.
//!
//! A panic in a channel ends the sender, loudly in the log, and leaves the messages in the outbox.

use std::convert::Infallible;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select_biased};
use log::{debug, error, warn};

use super::limits;
use super::{Channel, Outbox, OutboxError, OutboxMessage, SendError};

/// The sender's waits. The default is that of [`limits`]; tests are in more of a hurry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The first back-off, in milliseconds.
    pub backoff_base_ms: u64,
    /// The longest back-off of a message, in milliseconds.
    pub backoff_max_ms: u64,
    /// The longest rest of the whole sender, in milliseconds.
    pub rest_max_ms: u64,
    /// How long a message may go on failing before it is given up, in milliseconds.
    pub failing_max_ms: i64,
    /// How long a stop waits for a delivery under way, in milliseconds.
    pub stop_grace_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            backoff_base_ms: limits::BACKOFF_BASE_MS,
            backoff_max_ms: limits::BACKOFF_MAX_MS,
            rest_max_ms: limits::REST_MAX_MS,
            failing_max_ms: limits::FAILING_MAX_MS,
            stop_grace_ms: limits::STOP_GRACE_MS,
        }
    }
}

impl Pace {
    /// The wait after the `failures`-th failure (1 is the first), in milliseconds: doubled with each, up to
    /// the cap, and of that at least half and at most all, as `random` says. The spread keeps many senders
    /// that failed together from coming back together.
    fn backoff_ms(&self, failures: u32, random: u64) -> u64 {
        let doublings = failures.saturating_sub(1).min(32);
        let full_ms = self.backoff_base_ms.saturating_mul(1 << doublings).min(self.backoff_max_ms);
        let half_ms = full_ms / 2;
        half_ms + random % (full_ms - half_ms + 1)
    }
}

/// Wakes the sender: a message may be due.
#[derive(Clone, Debug)]
pub struct Notifier(Sender<()>);

impl Notifier {
    /// Wakes the sender, to be called after the commit that wrote a message. Never blocks and never fails:
    /// a wake-up that is already waiting serves for this one too.
    pub fn notify(&self) {
        // Full: the sender hasn't looked yet, and will see this message too. Disconnected: it has stopped.
        let _ = self.0.try_send(());
    }
}

/// The running sender. Stopped by [`SmsSender::stop`], or when dropped.
#[derive(Debug)]
pub struct SmsSender {
    notifier: Notifier,
    /// Nothing is ever sent here: dropping it is the signal to stop.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl SmsSender {
    /// Starts the threads `sms-sender` and `sms-channel`. Messages already in the outbox are sent at once.
    ///
    /// # Errors
    /// The operating system's, when it gives no thread.
    pub fn start(outbox: impl Outbox, mut channel: impl Channel, pace: Pace) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        // One wake-up waits at most: it means "look", and one look sees everything.
        let (wake_up, woken) = bounded(1);
        // One message is with the channel at most, so that order is kept and a stop leaves at most one open.
        let (messages, messages_to_send) = bounded::<OutboxMessage>(1);
        let (results, sent) = bounded(1);
        let worker = thread::Builder::new().name("sms-channel".into()).spawn(move || {
            for message in messages_to_send {
                if results.send(channel.send(&message)).is_err() {
                    break;
                }
            }
        })?;
        let mut courier =
            Courier { outbox, messages, sent, stopped, woken, pace, unrecorded: None, failures_in_row: 0 };
        let thread = thread::Builder::new().name("sms-sender".into()).spawn(move || {
            let worker_is_idle = courier.run();
            drop(courier);
            if !worker_is_idle {
                warn!("text messages: stopped while a delivery was under way; it is repeated at the next start");
            } else if worker.join().is_err() {
                error!("text messages: the channel panicked; messages stay in the outbox until the next start");
            }
        })?;
        Ok(Self { notifier: Notifier(wake_up), stop: Some(stop), thread: Some(thread) })
    }

    /// A handle that wakes the sender; clones of it may outlive the sender.
    #[must_use]
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Stops the sender and waits until it has let go of the outbox: about [`Pace::stop_grace_ms`] at most,
    /// as long as the outbox itself answers.
    pub fn stop(mut self) {
        self.stop_and_join();
    }

    fn stop_and_join(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("text messages: the sender panicked; messages stay in the outbox until the next start");
        }
    }
}

impl Drop for SmsSender {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

/// What became of a message, to be recorded in the outbox.
enum Outcome {
    Delivered { id: i64 },
    RetryAt { id: i64, attempts: u32, at_unix_ms: i64, why: String },
    GivenUp { id: i64, why: String },
}

/// What the sender does next.
enum Next {
    /// Look into the outbox again.
    Poll,
    /// Sleep at most this long, and less if a movement wakes it.
    Sleep { wait_ms: u64 },
    /// Sleep this long even if a movement wakes it: something is out of order.
    Rest { wait_ms: u64 },
    /// End, having told the channel everything it was to be told; `false` when the channel is still busy.
    End { worker_is_idle: bool },
}

/// The state of the thread `sms-sender`.
struct Courier<O> {
    outbox: O,
    messages: Sender<OutboxMessage>,
    sent: Receiver<Result<(), SendError>>,
    stopped: Receiver<Infallible>,
    woken: Receiver<()>,
    pace: Pace,
    /// An outcome that the outbox failed to record. While it stands, nothing is sent.
    unrecorded: Option<Outcome>,
    /// Errors since the last success, of channel and outbox together.
    failures_in_row: u32,
}

impl<O: Outbox> Courier<O> {
    /// Runs until told to stop. Returns whether the channel's thread is idle, and so can be joined.
    fn run(&mut self) -> bool {
        loop {
            let next = match self.poll() {
                Ok(next) => next,
                Err(failure) => {
                    error!("text messages: the outbox failed: {failure}");
                    self.rest(None)
                }
            };
            let (woken, wait_ms) = match next {
                Next::Poll => continue,
                Next::Sleep { wait_ms } => (self.woken.clone(), wait_ms),
                Next::Rest { wait_ms } => (never(), wait_ms),
                Next::End { worker_is_idle } => return worker_is_idle,
            };
            // The wake-up is taken before the outbox is read, so a message that is written after the read
            // leaves a wake-up of its own: none is missed.
            select_biased! {
                recv(self.stopped) -> _ => return true,
                recv(woken) -> wake_up => if wake_up.is_err() {
                    // Every notifier is gone, the sender's own too: it is being dropped.
                    return true;
                },
                recv(after(Duration::from_millis(wait_ms))) -> _ => {}
            }
        }
    }

    /// Records what is left to record, then sends what is due.
    fn poll(&mut self) -> Result<Next, OutboxError> {
        if self.is_stopped() {
            return Ok(Next::End { worker_is_idle: true });
        }
        if let Some(outcome) = self.unrecorded.take() {
            self.record(outcome)?;
        }
        let due = self.outbox.due(limits::POLL_MESSAGES_MAX)?;
        let may_have_more = due.len() >= limits::POLL_MESSAGES_MAX;
        for message in due {
            if self.is_stopped() {
                return Ok(Next::End { worker_is_idle: true });
            }
            if let Some(next) = self.deliver(message)? {
                return Ok(next);
            }
        }
        if may_have_more {
            return Ok(Next::Poll);
        }
        let wait_ms = match self.outbox.next_due_unix_ms()? {
            Some(due_unix_ms) => u64::try_from(due_unix_ms.saturating_sub(self.outbox.now_unix_ms())).unwrap_or(0),
            None => limits::SLEEP_MAX_MS,
        };
        Ok(Next::Sleep { wait_ms: wait_ms.clamp(limits::SLEEP_MIN_MS, limits::SLEEP_MAX_MS) })
    }

    /// Sends one message and records what became of it. `Some` when the poll can't go on.
    fn deliver(&mut self, message: OutboxMessage) -> Result<Option<Next>, OutboxError> {
        let (id, attempts, failing_since) = (message.id, message.attempts, message.failing_since_unix_ms);
        if self.messages.send(message).is_err() {
            // The channel's thread has panicked; joining it tells.
            return Ok(Some(Next::End { worker_is_idle: true }));
        }
        let (result, is_stopping) = match self.await_result() {
            Awaited::Result { result, is_stopping } => (result, is_stopping),
            Awaited::ChannelEnded => return Ok(Some(Next::End { worker_is_idle: true })),
            Awaited::StoppedWhileBusy => return Ok(Some(Next::End { worker_is_idle: false })),
        };
        let next = match result {
            Ok(()) => {
                debug!("text message {id}: delivered");
                self.failures_in_row = 0;
                self.record(Outcome::Delivered { id })?;
                None
            }
            Err(SendError::Permanent { why }) => {
                error!("text message {id}: given up: {why}");
                self.failures_in_row = 0;
                self.record(Outcome::GivenUp { id, why })?;
                None
            }
            Err(SendError::Transient { why, retry_after_ms }) => {
                let outcome = self.after_transient(id, attempts, failing_since, why, retry_after_ms);
                let rest = self.rest(retry_after_ms);
                self.record(outcome)?;
                Some(rest)
            }
        };
        Ok(if is_stopping { Some(Next::End { worker_is_idle: true }) } else { next })
    }

    /// Waits for the channel's answer; once a stop comes, only a moment more.
    fn await_result(&self) -> Awaited {
        select_biased! {
            recv(self.sent) -> result => match result {
                Ok(result) => Awaited::Result { result, is_stopping: false },
                Err(_) => Awaited::ChannelEnded,
            },
            recv(self.stopped) -> _ => {
                use crossbeam_channel::RecvTimeoutError as Missed;
                match self.sent.recv_timeout(Duration::from_millis(self.pace.stop_grace_ms)) {
                    Ok(result) => Awaited::Result { result, is_stopping: true },
                    Err(Missed::Disconnected) => Awaited::ChannelEnded,
                    Err(Missed::Timeout) => Awaited::StoppedWhileBusy,
                }
            }
        }
    }

    fn after_transient(
        &self,
        id: i64,
        attempts_before: u32,
        failing_since_unix_ms: Option<i64>,
        why: String,
        retry_after_ms: Option<u64>,
    ) -> Outcome {
        let now_unix_ms = self.outbox.now_unix_ms();
        let failing_ms = failing_since_unix_ms.map_or(0, |since| now_unix_ms.saturating_sub(since));
        if failing_ms >= self.pace.failing_max_ms {
            error!("text message {id}: given up after failing for long enough: {why}");
            return Outcome::GivenUp { id, why: format!("too old to try again: {why}") };
        }
        let attempts = attempts_before.saturating_add(1);
        let asked_ms = retry_after_ms.unwrap_or(0).min(limits::RETRY_AFTER_MAX_MS);
        let wait_ms = self.pace.backoff_ms(attempts, random()).max(asked_ms);
        warn!("text message {id}: attempt {attempts} failed, next in {wait_ms} ms: {why}");
        let at_unix_ms = now_unix_ms.saturating_add_unsigned(wait_ms);
        Outcome::RetryAt { id, attempts, at_unix_ms, why }
    }

    /// Counts a failure, and rests for it.
    fn rest(&mut self, asked_ms: Option<u64>) -> Next {
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        let wait_ms = self.pace.backoff_ms(self.failures_in_row, random()).max(asked_ms.unwrap_or(0));
        Next::Rest { wait_ms: wait_ms.min(self.pace.rest_max_ms) }
    }

    /// Makes an outcome durable; one that can't be is kept for later.
    fn record(&mut self, outcome: Outcome) -> Result<(), OutboxError> {
        let recorded = match &outcome {
            Outcome::Delivered { id } => self.outbox.delivered(*id),
            Outcome::RetryAt { id, attempts, at_unix_ms, why } => {
                self.outbox.retry_at(*id, *attempts, *at_unix_ms, why)
            }
            Outcome::GivenUp { id, why } => self.outbox.given_up(*id, why),
        };
        if recorded.is_err() {
            self.unrecorded = Some(outcome);
        }
        recorded
    }

    fn is_stopped(&self) -> bool {
        self.stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected)
    }
}

/// How the wait for the channel ended.
enum Awaited {
    /// With its answer.
    Result { result: Result<(), SendError>, is_stopping: bool },
    /// The channel's thread is gone: it panicked.
    ChannelEnded,
    /// A stop came, and the moment that it leaves was not enough.
    StoppedWhileBusy,
}

/// A number for the jitter. Without randomness there is no jitter, which is no reason to fail.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}

#[cfg(test)]
mod tests;

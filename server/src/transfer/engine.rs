//! The driver of two-phase commit: it does what the two pure machines say.
//!
//! [`Engine::carry_out`] is the one place where an output becomes reality, in the four steps of the driver's
//! contract (see the crate `two_phase_commit`): take, write, confirm, send. **Records and ledger operations
//! go to disk in one transaction, and only then does any message leave.** Outputs of many transfers that
//! come together are written in one commit, and their messages to one peer leave in one frame.
//!
//! No lock is held while the disk or the network is waited for: the machines are locked for the moment of one
//! call. When a record can't be made durable, memory and disk no longer agree, and the process stops.

mod history;
mod inbox;
mod outgoing;
mod ticker;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use protocol::BranchName;
use two_phase_commit::{LedgerAction, Message, Options, Output, PeerAddr, Record, Refusal, Role, Site, Step};

use super::event_file::{EventFile, Remembered};
use super::events::{self, Events, Happened, record_name};
use super::host::Host;
use super::progress::Waiters;
use super::threads::Threads;
use super::{ledger, records};
use crate::bank::movements::Booking;
use crate::dbs_exec::{DbsExec, Tx};
use crate::error::{Error, Result};
use crate::limits::{EVENT_NUMBERS_RESERVED, TICK};
use crate::peers::links::{Carrier, Inbox, Links};
use crate::running_time::RunningTime;
use crate::sms::Notifier;

/// Something to be done in the same transaction as an output's write.
pub trait WithWrite: Send {
    /// Looks before anything is written: whether the output may be written at all.
    ///
    /// # Errors
    /// Why not; nothing is written then.
    fn check(&mut self, tx: &Tx<'_>) -> Result<()>;

    /// Writes, after the output.
    ///
    /// # Errors
    /// A database error.
    fn write(&mut self, tx: &mut Tx<'_>) -> Result<()>;
}

/// One output on its way to become reality.
pub struct Task {
    role: Role,
    output: Output,
    with_write: Option<Box<dyn WithWrite>>,
}

impl From<Step> for Task {
    fn from(Step { role, output, transition: _ }: Step) -> Self {
        Self { role, output, with_write: None }
    }
}

impl Task {
    /// The same, with something to be done in the same transaction.
    #[must_use]
    pub fn with_write(mut self, with_write: Option<Box<dyn WithWrite>>) -> Self {
        self.with_write = with_write;
        self
    }

    /// What it counts as in a commit: a request for each leg that it moves, as that many deposits would be.
    fn weight(&self) -> usize {
        // A group takes so many requests that its commit stays short. A split transfer of 100 receivers does the work
        // of 200 requests, and counts so.
        let legs = self.output.ledger_ops.iter().map(|op| op.transfer.local_legs().count());
        legs.sum::<usize>().max(1)
    }
}

/// What the engine is made of.
pub struct EngineParts {
    /// The branch.
    pub name: BranchName,
    /// Its database.
    pub dbs: Arc<DbsExec>,
    /// Its links.
    pub links: Arc<Links>,
    /// Who takes its messages to its peers: the links, or a simulated network.
    pub carrier: Box<dyn Carrier>,
    /// The machine that it runs on.
    pub host: Box<dyn Host>,
    /// What the branch's rows are kept by.
    pub running_time: Arc<RunningTime>,
    /// Rung when text messages may have been written.
    pub sms: Option<Notifier>,
    /// Where its events are kept over a restart, if they are.
    pub event_file: Option<EventFile>,
    /// How many replicas must have a record before anything that stands on it is told.
    pub sync_replicas: usize,
    /// Called when a record could not be made durable; it must start the shutdown of the process.
    pub on_failure: Box<dyn Fn(&Error) + Send + Sync>,
}

/// The branch's part in all transfers between branches.
pub struct Engine {
    pub(super) parts: EngineParts,
    /// Both machines.
    pub(super) site: Mutex<Site>,
    pub(super) events: Events,
    pub(super) waiters: Arc<Waiters>,
    /// Where the answers to outside programs that drive the raw actions go.
    pub(super) mailboxes: Mutex<HashMap<PeerAddr, Sender<Message>>>,
    pub(super) next_mailbox: AtomicU64,
    /// Whom something was not told because replicas that must have it first did not.
    pub(super) kept_back: Mutex<BTreeSet<PeerAddr>>,
    pub(super) event_numbers_reserved: AtomicU64,
    pub(super) threads: Mutex<Option<Threads>>,
}

impl Engine {
    /// Recovers both machines from the disk. Messages may come from then on, to the inbox that `inbox_of` says: the
    /// engine itself, or what stands before it. Time passes once [`Engine::start_threads`] was called.
    ///
    /// # Errors
    /// A database error.
    pub fn open(parts: EngineParts, inbox_of: impl FnOnce(&Arc<Self>) -> Weak<dyn Inbox>) -> Result<Arc<Self>> {
        let remembered = remembered(&parts)?;
        // Above all numbers that a former run may have given to messages that are still under way, also where an older
        // database was put back: two messages with one number would be one to whoever draws the transfer.
        let at_least = events::end_of_block(remembered.last_number());
        let last_number = events::reserve_numbers(&parts.dbs, Some(at_least))?;
        let (coordinated, prepared) =
            parts.dbs.read(|reader| Ok((records::coordinators(reader)?, records::participants(reader)?)))?;
        let engine = Self::made_of(parts, last_number, remembered);
        // Before the first message leaves, so that its answer finds somebody.
        engine.parts.links.deliver_to(inbox_of(&engine));
        // Before anything is told of what was found: it may be on this disk alone. The branch's own start is written.
        engine.parts.dbs.feed().require(engine.parts.sync_replicas);
        engine.recover(coordinated, prepared);
        Ok(engine)
    }

    /// An engine that does nothing, for a copy of the branch that is not written: its machines are not recovered, its
    /// clock stands still, and nobody links to it.
    #[must_use]
    pub fn at_rest(parts: EngineParts) -> Arc<Self> {
        Self::made_of(parts, 0, Remembered::default())
    }

    fn made_of(parts: EngineParts, last_number: u64, remembered: Remembered) -> Arc<Self> {
        let options =
            Options { jitter_seed: parts.host.random().unwrap_or(0), ..Options::new(PeerAddr::from(&parts.name)) };
        Arc::new(Self {
            site: Mutex::new(Site::new(options)),
            events: Events::restored(parts.name.clone(), last_number, remembered),
            waiters: Arc::default(),
            mailboxes: Mutex::default(),
            next_mailbox: AtomicU64::new(1),
            kept_back: Mutex::default(),
            event_numbers_reserved: AtomicU64::new(last_number + EVENT_NUMBERS_RESERVED),
            threads: Mutex::new(None),
            parts,
        })
    }

    /// Answers everyone who waits for a transfer with what is known by now. Called when the branch stops, or when its
    /// role ends, in which case nothing more can come of what is under way here.
    pub fn dismiss(&self) {
        self.waiters.end();
        // Whoever waits for an answer in one of them finds its sender gone.
        self.mailboxes.lock().clear();
    }

    /// Stops the ticker and the links. Transfers under way stay on disk as they are; the next start goes on
    /// with them.
    pub fn stop(&self) {
        if let Some(threads) = self.threads.lock().take() {
            threads.join();
        }
        self.parts.links.stop();
        self.keep_all_events();
    }

    /// The branch's events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The branch's links.
    #[must_use]
    pub fn links(&self) -> &Arc<Links> {
        &self.parts.links
    }

    /// The branch's name.
    #[must_use]
    pub fn name(&self) -> &BranchName {
        &self.parts.name
    }

    /// The protocol's time.
    pub(super) fn now(&self) -> u64 {
        ticks(self.parts.host.protocol_time())
    }

    /// When the machines have something to do next, in the protocol's time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let tick = self.site.lock().next_deadline()?;
        Some(TICK.saturating_mul(u32::try_from(tick).unwrap_or(u32::MAX)))
    }

    fn recover(self: &Arc<Self>, coordinated: Vec<Record>, prepared: Vec<Record>) {
        if !coordinated.is_empty() || !prepared.is_empty() {
            log::info!(
                "recovering transfers: {} records as coordinator, {} as participant",
                coordinated.len(),
                prepared.len()
            );
        }
        for record in coordinated.iter().chain(&prepared) {
            self.events.add(record.txid(), Happened::Note(format!("found on disk: {}", record_name(record))));
        }
        let records = coordinated.into_iter().chain(prepared);
        // What was undecided aborts, what was decided is delivered, what is in doubt asks.
        // Aside, because replicas can come only when the listeners are open.
        self.carry_out_aside(self.ask_all(|site| site.recover(records)));
    }

    /// Makes outputs real: write, confirm, send; and the same with what comes of that.
    ///
    /// # Errors
    /// [`Error::Stopping`], or why a record could not be made durable: what stood on it was neither sent nor told.
    pub fn carry_out(&self, tasks: Vec<Task>) -> Result<()> {
        let _guard = StopOnPanic(self);
        let mut tasks = tasks;
        loop {
            // Most inputs change nothing, and a repeat changes nothing twice.
            tasks.retain(|task| !task.output.is_empty());
            if tasks.is_empty() {
                return Ok(());
            }
            // What stands on a forced write waits for it. Everything else must not, or an answer that is only repeated
            // would wait for another transfer's write.
            let (mut writing, at_once): (Vec<Task>, Vec<Task>) =
                tasks.drain(..).partition(|task| task.output.needs_write() && !may_be_written_later(&task.output));
            // Nothing of these stands on a record that is not on disk yet.
            let mut ready = Vec::new();
            for task in at_once {
                if task.output.needs_write() {
                    tasks.push(self.write_later(&task));
                }
                ready.push(task.output);
            }
            self.send_and_tell(ready);
            if writing.is_empty() {
                // What the confirmations of lazy records have brought is still to do.
                continue;
            }
            let results = self.write(&mut writing)?;
            let mut written = Vec::new();
            for (task, result) in writing.into_iter().zip(results) {
                let (next, output) = match result {
                    // Confirmed before it is sent: no answer may come to a machine that still waits for its disk.
                    Ok(()) => {
                        self.written(&task);
                        (self.confirm(&task), Some(task.output))
                    }
                    // The write was undone; what stood in this output never happened.
                    Err(error) => (self.refuse(&task, error)?, None),
                };
                written.extend(output);
                // What had waited for this write, or the answer to its refusal: a new output, to be treated by the same
                // steps.
                tasks.push(next);
            }
            self.send_and_tell(written);
        }
    }

    /// As [`Engine::carry_out`], where nobody waits for the answer. That the process stops is logged where it is found.
    pub(super) fn carry_out_quietly(&self, tasks: Vec<Task>) {
        if let Err(error) = self.carry_out(tasks) {
            log::debug!("transfers under way stay as they are on disk: {error}");
        }
    }

    /// As [`Engine::carry_out`], for a client who must get an answer in time, whatever replicas do: where they are
    /// waited for, another thread waits.
    pub(super) fn carry_out_aside(self: &Arc<Self>, tasks: Vec<Task>) {
        if self.parts.dbs.feed().needed() == 0 {
            // Nobody but this disk is waited for, and another thread would only cost.
            return self.carry_out_quietly(tasks);
        }
        let engine = Arc::clone(self);
        if let Err(error) = self.parts.host.run_aside(Box::new(move || engine.carry_out_quietly(tasks))) {
            // The machine has counted on it; memory and disk no longer agree.
            self.fail(&error);
        }
    }

    /// Step two: each output's ledger operations and records in one transaction, all outputs in one commit.
    fn write(&self, tasks: &mut [Task]) -> Result<Vec<Result<()>>> {
        let now_unix_ms = self.parts.host.unix_ms();
        let booking = Booking { date_unix_ms: now_unix_ms, sms: self.parts.sms.is_some() };
        let operations: Vec<_> = tasks
            .iter_mut()
            .map(|task| {
                self.parts.host.before_write(&task.output.records);
                let (own_name, ops, records) =
                    (self.parts.name.clone(), task.output.ledger_ops.clone(), task.output.records.clone());
                let mut with_write = task.with_write.take();
                move |tx: &mut Tx<'_>| {
                    // First: a hold may be refused for what the very same request has left.
                    with_write.as_mut().map_or(Ok(()), |with_write| with_write.check(tx))?;
                    // One transaction: money that moves without its record would move again after a crash.
                    for op in &ops {
                        ledger::carry_out(tx, &own_name, op, &booking)?;
                    }
                    for record in &records {
                        records::write(tx, record, now_unix_ms)?;
                    }
                    with_write.as_mut().map_or(Ok(()), |with_write| with_write.write(tx))
                }
            })
            .collect();
        // As the branch's own work, which is never turned away: the machine has counted on this write, and "busy" would
        // end the process.
        let weight = tasks.iter().map(Task::weight).sum();
        match self.parts.dbs.execute_internal(weight, operations) {
            Ok(results) => Ok(results.into_iter().map(|result| result.map_err(end_of_role)).collect()),
            // What is prepared stays prepared on disk; the next start goes on with it.
            Err(Error::Stopping) => Err(Error::Stopping),
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    /// Steps two and three for records that may be lost in a crash: losing one costs a message, never money.
    fn write_later(&self, task: &Task) -> Task {
        self.parts.host.before_write(&task.output.records);
        let (records, now_unix_ms) = (task.output.records.clone(), self.parts.host.unix_ms());
        self.parts
            .dbs
            .execute_lazy(move |tx| records.iter().try_for_each(|record| records::write(tx, record, now_unix_ms)));
        self.written(task);
        self.confirm(task)
    }

    /// These records are on disk, or will be before anything that comes after them.
    fn written(&self, task: &Task) {
        self.note_written(task);
        self.parts.host.after_write(&task.output.records);
    }

    /// Step three.
    fn confirm(&self, task: &Task) -> Task {
        self.ask(|site| site.on_durable(task.role, &task.output.txid))
    }

    /// The ledger refused a hold: the machine answers for it.
    ///
    /// # Errors
    /// That it is no refusal: the process is stopping, or has to.
    fn refuse(&self, task: &Task, error: Error) -> Result<Task> {
        // Whatever else the ledger says no to was promised, so it has lost count: only a hold asks.
        let is_hold = task.output.ledger_ops.iter().any(|op| op.action == LedgerAction::Hold);
        let is_refusal = !error.is_failure() || error == Error::DiskFull;
        if error == Error::Stopping {
            // Nothing was written. The next start goes on from the disk.
            return Err(error);
        }
        if !is_hold || !is_refusal {
            self.fail(&error);
            return Err(error);
        }
        // The ledger's own code goes to the client unchanged: a payer who is short of money reads the same words
        // whoever coordinates.
        let refusal = Refusal::new(error.code().to_string(), error.to_string());
        let txid = &task.output.txid;
        self.events.add(txid, Happened::Note(format!("refused by the ledger: {error}")));
        Ok(self.ask(|site| site.on_hold_refused(task.role, txid, refusal)))
    }

    /// Memory and disk no longer agree.
    fn fail(&self, error: &Error) {
        log::error!("a record of a transfer could not be made durable: {error}");
        (self.parts.on_failure)(error);
    }

    /// Step one: asks the machines, and notes how the transaction moved.
    pub(super) fn ask(&self, ask: impl FnOnce(&mut Site) -> Step) -> Task {
        let _guard = StopOnPanic(self);
        let mut site = self.site.lock();
        let step = ask(&mut site);
        self.note_transition(&step);
        step.into()
    }

    /// The same where the machines may find nothing to do.
    ///
    /// # Errors
    /// The machines' own.
    pub(super) fn try_ask<E>(&self, ask: impl FnOnce(&mut Site) -> Result<Step, E>) -> Result<Task, E> {
        let _guard = StopOnPanic(self);
        let mut site = self.site.lock();
        let step = ask(&mut site)?;
        self.note_transition(&step);
        Ok(step.into())
    }

    /// The same for what the machines do about several transactions at once.
    pub(super) fn ask_all(&self, ask: impl FnOnce(&mut Site) -> Vec<Step>) -> Vec<Task> {
        let _guard = StopOnPanic(self);
        let mut site = self.site.lock();
        let steps = ask(&mut site);
        steps.iter().for_each(|step| self.note_transition(step));
        steps.into_iter().map(Task::from).collect()
    }
}

/// Stops the process when a machine, or what carries out its output, finds itself wrong: the transaction has been taken
/// out of the map, and what is in memory is worth nothing any more. Rule: the disk is right, so it is read again.
pub(super) struct StopOnPanic<'e>(pub(super) &'e Engine);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0.parts.on_failure)(&Error::Panicked("the part that transfers between branches"));
        }
    }
}

/// Another process owns the branch, whose commit log is elsewhere: nothing was written, and this role ends. No machine has
/// found itself wrong by that.
fn end_of_role(error: Error) -> Error {
    if matches!(error, Error::NotPrimary { .. }) { Error::Stopping } else { error }
}

/// What was kept of the events before this start. What an earlier database of this name has left tells of another bank.
fn remembered(parts: &EngineParts) -> Result<Remembered> {
    let Some(file) = &parts.event_file else { return Ok(Remembered::default()) };
    if events::has_numbered(&parts.dbs)? {
        return Ok(file.read(&parts.name));
    }
    file.forget();
    Ok(Remembered::default())
}

/// Whether an output only has records that need not be on disk before its messages leave: the disk keeps the
/// order of writes, so they can't overtake anything that was written before them.
fn may_be_written_later(output: &Output) -> bool {
    output.ledger_ops.is_empty() && !output.is_forced()
}

/// A time in ticks.
fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

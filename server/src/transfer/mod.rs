//! Transfers between branches: the driver of two-phase commit, and what it offers to the rest of the branch.
//!
//! The protocol itself is the crate `two_phase_commit`; its first page is where to start reading. This room
//! makes it real:
//! - [`engine`] carries out what the two machines say: disk first, then the network; `ticker` is its sense of time;
//! - [`ledger`] and [`records`] are what they write: money held and moved, and their log;
//! - [`links`](crate::peers::links) carries the messages, [`directory`](crate::peers::directory) knows where branches are, [`discovery`](crate::peers::discovery) finds them (and `mdns`, on
//!   the local network);
//! - [`host`] is the machine they run on: clock, chance and threads. [`crate::teaching`] puts its own in between, so that
//!   a class can hold messages back, stop the time and kill the process at a named point: nothing here knows of it;
//! - [`progress`] lets a client's thread wait for its transfer;
//! - [`events`] tells what happened to whoever watches, and [`event_file`] keeps it over a restart.
//!
//! This file owns the operations: begin a transfer and wait for it, the raw actions of an outside program,
//! transfers in doubt, settling by hand.

pub mod engine;
pub mod event_file;
pub mod events;
pub mod host;
pub mod ledger;
pub mod progress;
mod raw;
pub mod records;
pub mod terms;
pub mod threads;

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::answer::{Delivery, Pending};
use protocol::request::Destination;
use protocol::{AccountNum, Address, BranchName, TxId};
use two_phase_commit::{
    BeginError, CoordinatorState, Decision, InDoubt, Leg, Outcome, ParticipantState, PeerAddr, ResolveError, Side,
    Status, Transfer,
};

use crate::bank::accounts;
use crate::error::{Error, Result};
use crate::limits::{DECISION_WAIT, DELIVERY_WAIT, STEP_MODE_LOOK, STEP_MODE_WAIT};
use engine::Task;
pub use engine::{Engine, EngineParts, WithWrite};
use events::Happened;
use ledger::Payer;
use progress::{Reached, Waiter, aborted};
pub use terms::{Counts, Place, Receiver, TxOutcome};

/// A transfer that a client wants.
pub struct Order {
    /// Its id, made by [`Engine::new_txid`].
    pub txid: TxId,
    /// Who pays, here.
    pub payer: AccountNum,
    /// Who is paid.
    pub receivers: Vec<Receiver>,
    /// Something to be done in the transaction that makes the transfer's begin durable.
    pub with_begin: Option<Box<dyn WithWrite>>,
}

/// A transfer that has begun.
pub struct Begun {
    txid: TxId,
    waiter: Waiter,
}

impl Engine {
    /// A new transfer's id: the branch's name, the time in milliseconds and 32 random bits. Ids that grow with the
    /// time stand side by side in the tables' indexes, where random ones would touch a page each.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system gives no randomness.
    pub fn new_txid(&self) -> Result<TxId> {
        let random = self.parts.host.random()? >> 32;
        let id = format!("{}-{:011x}{random:08x}", self.parts.name, self.parts.host.unix_ms());
        Ok(id.parse().expect("a branch name and 19 digits are a txid"))
    }

    /// Finds the branch that a request names. For whoever `may_dial` it may make a link to an address, which takes a
    /// bounded time. A customer names only a branch that is known, by its name or its address, and learns nothing about
    /// what listens anywhere else: there is no look-up, no connection, and one error.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when no such branch is known or nobody answers there, [`Error::Invalid`] when
    /// the request names none.
    pub fn place(&self, destination: &Destination, may_dial: bool) -> Result<Place> {
        let name = match (&destination.dest_branch, &destination.dest_host, destination.dest_port) {
            (Some(name), None, None) => {
                let is_known = *name == self.parts.name || self.links().directory().address_of(name).is_some();
                if !is_known {
                    return Err(crate::peers::links::unknown_branch(name.as_str()));
                }
                name.clone()
            }
            (None, Some(host), Some(port)) => {
                let address = Address::new(host, port)?;
                if may_dial { self.links().name_at(&address)? } else { self.known_at(&address)? }
            }
            (None, None, None) => return Ok(Place::Here),
            (_, _, _) => {
                return Err(Error::Invalid("name the branch by dest_branch, or by dest_host and dest_port".into()));
            }
        };
        Ok(if name == self.parts.name { Place::Here } else { Place::There(name) })
    }

    fn known_at(&self, address: &Address) -> Result<BranchName> {
        let links = self.links();
        if links.is_own_address(address) {
            return Ok(self.parts.name.clone());
        }
        links.directory().name_at(address).ok_or_else(|| {
            Error::Unreachable(format!(
                "no branch is known at {address}; name one that is known here, such as Delhi/1002"
            ))
        })
    }

    /// Begins transfers, all in one commit. Each has its own result.
    pub fn begin(self: &Arc<Self>, orders: Vec<Order>) -> Vec<Result<Begun>> {
        if let Err(error) = if orders.is_empty() { Ok(()) } else { self.parts.dbs.check_writable() } {
            return orders.iter().map(|_| Err(error.clone())).collect();
        }
        let mut tasks = Vec::new();
        let mut results = Vec::new();
        for order in orders {
            results.push(self.begin_one(order).map(|(begun, task)| {
                tasks.push(task);
                begun
            }));
        }
        // All of them in one commit; each client then waits for its own.
        self.carry_out_aside(tasks);
        results
    }

    fn begin_one(&self, order: Order) -> Result<(Begun, Task)> {
        // A look, so that a transfer from an account that isn't there costs no write; the hold looks again, in the
        // transaction that counts.
        let payer = self.parts.dbs.read(|reader| accounts::find_open(reader, order.payer))?;
        let note = Payer { account: order.payer, name: payer.name() };
        let note = serde_json::to_string(&note).expect("a payer is always JSON");
        let mut legs = Vec::new();
        // In pairs, 2k out of the payer's account and 2k + 1 into the receiver's, so that each leg finds its other side.
        for (index, receiver) in (0_u32..).step_by(2).zip(&order.receivers) {
            let branch = match &receiver.place {
                Place::Here if receiver.account == order.payer => return Err(Error::SameAccount(order.payer)),
                Place::Here => None,
                Place::There(name) => Some(PeerAddr::from(name)),
            };
            let amount = receiver.amount;
            legs.push(Leg { index, branch: None, account: order.payer, amount, side: Side::Withdraw });
            legs.push(Leg { index: index + 1, branch, account: receiver.account, amount, side: Side::Deposit });
        }
        let txid = order.txid;
        // Watching first: the decision may fall before this thread comes to wait.
        let waiter = self.waiters.watch(&txid);
        self.events.add(&txid, Happened::Asked { payer: order.payer, receivers: order.receivers });
        match self.try_ask(|site| site.begin(txid.clone(), legs, &note)) {
            Ok(task) => Ok((Begun { txid, waiter }, task.with_write(order.with_begin))),
            Err(error) => {
                let refused = match error {
                    BeginError::Busy | BeginError::Recovering => Error::Busy,
                    BeginError::Transfer(_) | BeginError::IdInUse => Error::Invalid(error.to_string()),
                };
                self.events.add(&txid, Happened::Answered(Err(refused.to_string())));
                Err(refused)
            }
        }
    }

    /// Waits for a transfer that has begun: for the decision, and a little for its delivery.
    ///
    /// # Errors
    /// [`Error::Aborted`] with the reason, or [`Error::Undecided`] when the branch's own disk takes too long.
    pub fn finish(&self, begun: &Begun) -> Result<Delivery> {
        let finished = match self.wait_for(&begun.waiter) {
            Reached::Delivery => Ok(Delivery::Done),
            // The money has moved; that a branch has not said so yet is no failure.
            Reached::Decision(Decision::Committed) => Ok(Delivery::Pending),
            Reached::Decision(Decision::Aborted(reason)) => Err(aborted(&reason)),
            // It may still be either. To call it failed would invite a second transfer.
            Reached::Nothing => Err(Error::Undecided(begun.txid.clone())),
        };
        self.note_answer(&begun.txid, &finished);
        finished
    }

    /// Waits as long as a client may. Where the protocol's time stands still that is long, because a class is talking,
    /// and what a client is granted begins anew when time goes on.
    fn wait_for(&self, waiter: &Waiter) -> Reached {
        let host = &self.parts.host;
        let give_up_at = Instant::now() + STEP_MODE_WAIT;
        let mut paused_until = None;
        loop {
            while host.is_paused() && Instant::now() < give_up_at && !self.waiters.is_over() {
                if let Some(end) = waiter.wait_for_end(STEP_MODE_LOOK) {
                    return end;
                }
                paused_until = Some(Instant::now());
            }
            let (decision_wait, delivery_wait) = (host.patience(DECISION_WAIT), host.patience(DELIVERY_WAIT));
            let reached = waiter.wait(decision_wait, delivery_wait, paused_until);
            // Time may have been made to stand still while this waited.
            let is_end = match &reached {
                Reached::Delivery | Reached::Decision(Decision::Aborted(_)) => true,
                Reached::Decision(Decision::Committed) | Reached::Nothing => false,
            };
            if is_end || !host.is_paused() || Instant::now() >= give_up_at || self.waiters.is_over() {
                return reached;
            }
        }
    }

    fn note_answer(&self, txid: &TxId, answer: &Result<Delivery>) {
        let told = answer.as_ref().map(|delivery| *delivery).map_err(ToString::to_string);
        self.events.add(txid, Happened::Answered(told));
    }

    /// Finds a transfer that an earlier request began here, under way or ended, and waits for it.
    ///
    /// # Errors
    /// As [`Engine::finish`].
    pub fn finish_again(&self, txid: &TxId) -> Result<Delivery> {
        self.check_may_speak()?;
        // Watching first: a decision that falls between the two looks is seen by one of them.
        let begun = Begun { txid: txid.clone(), waiter: self.waiters.watch(txid) };
        let finished = match self.own_outcome(txid)? {
            // The first request's connection was lost while its transfer was under way.
            TxOutcome::Undecided => return self.finish(&begun),
            TxOutcome::Committed => Ok(if self.is_delivered(txid) { Delivery::Done } else { Delivery::Pending }),
            TxOutcome::Aborted => {
                let text = "the transfer was aborted; nothing was moved".to_string();
                Err(Error::Aborted { code: "transaction_aborted".into(), text })
            }
        };
        self.note_answer(txid, &finished);
        finished
    }

    /// What was found on disk at the start may not have reached the replicas that must have it; until it has, it is
    /// told to nobody.
    fn check_may_speak(&self) -> Result<()> {
        let feed = self.parts.dbs.feed();
        if feed.is_start_confirmed() {
            return Ok(());
        }
        Err(Error::ReplicasMissing { connected: feed.in_sync(), needed: feed.needed() })
    }

    fn is_delivered(&self, txid: &TxId) -> bool {
        self.site.lock().coordinator().undelivered_to(txid).next().is_none()
    }

    /// What became of a transfer that this branch coordinates or coordinated.
    fn own_outcome(&self, txid: &TxId) -> Result<TxOutcome> {
        let status = self.site.lock().coordinator().status(txid);
        match status {
            Status::Recovering | Status::Undecided => Ok(TxOutcome::Undecided),
            Status::Decided(Outcome::Committed) => Ok(TxOutcome::Committed),
            // The machine forgets what has ended; the books do not.
            Status::Decided(Outcome::Aborted) => {
                let is_booked = self.parts.dbs.read(|reader| records::is_in_the_books(reader, txid))?;
                Ok(if is_booked { TxOutcome::Committed } else { TxOutcome::Aborted })
            }
        }
    }

    /// What became of a transfer, as coordinator or as participant. One that nobody here knows is aborted:
    /// that is what presumed abort presumes.
    ///
    /// # Errors
    /// A database error.
    pub fn tx_status(&self, txid: &TxId) -> Result<TxOutcome> {
        self.check_may_speak()?;
        let coordinated = self.own_outcome(txid)?;
        if coordinated != TxOutcome::Aborted {
            return Ok(coordinated);
        }
        let state = self.site.lock().participant().state(txid);
        match state {
            // What is on its way to the disk does not show there yet.
            ParticipantState::Preparing | ParticipantState::Prepared | ParticipantState::Settling(_) => {
                return Ok(TxOutcome::Undecided);
            }
            ParticipantState::Unknown
            | ParticipantState::Settled(_)
            | ParticipantState::Confirming(_)
            | ParticipantState::Mixing(_)
            | ParticipantState::Mixed(_) => {}
        }
        match self.parts.dbs.read(|reader| records::on_disk(reader, txid))? {
            two_phase_commit::OnDisk::Settled(outcome) => Ok(outcome.into()),
            // Mixed: what stands in the books here, which `own_outcome` has looked at.
            two_phase_commit::OnDisk::Mixed | two_phase_commit::OnDisk::Nothing => Ok(coordinated),
        }
    }

    /// How many transfers wait for something.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let site = self.site.lock();
        let (participant, coordinator) = (site.participant(), site.coordinator());
        let is_contradicted = |txid: &TxId| coordinator.contradicted_by(txid).next().is_some();
        let mut counts = Counts { in_doubt: participant.in_doubt().count() as u64, ..Counts::default() };
        for (txid, state) in coordinator.transactions() {
            // What waits for another branch. What waits for this branch's own disk will be over in a moment.
            let is_delivering = match state {
                CoordinatorState::Delivering | CoordinatorState::Noting(Outcome::Committed) => true,
                CoordinatorState::Unknown
                | CoordinatorState::Beginning
                | CoordinatorState::Voting
                | CoordinatorState::Committing
                | CoordinatorState::Aborting
                | CoordinatorState::Ending
                | CoordinatorState::Ended
                | CoordinatorState::Retracting
                | CoordinatorState::Noting(Outcome::Aborted)
                | CoordinatorState::Resolving(_) => false,
            };
            let is_contradicted = is_contradicted(txid);
            // An abort is waited for only when it was contradicted: then a person must settle it, as an undelivered
            // commit may have to be.
            counts.undelivered += u64::from(is_delivering || is_contradicted);
            counts.contradicted += u64::from(is_contradicted);
        }
        counts
    }

    /// Every transfer in doubt here, and those that this branch coordinates and that have not ended, in the
    /// order of their ids, after `after`. A person may settle each.
    ///
    /// # Errors
    /// A database error.
    pub fn pending(&self, after: Option<&TxId>, limit: usize) -> Result<Vec<Pending>> {
        let mut found: Vec<(Arc<Transfer>, &str, Option<String>)> = Vec::new();
        let site = self.site.lock();
        let in_doubt = |in_doubt: InDoubt<'_>| (Arc::clone(in_doubt.transfer), "prepared", None);
        // Both machines under one lock, so that the list is of one instant.
        found.extend(site.participant().in_doubt().map(in_doubt));
        let coordinator = site.coordinator();
        for (txid, state) in coordinator.transactions() {
            let why: Vec<String> =
                coordinator.contradicted_by(txid).map(|(peer, refusal)| format!("{peer}: {}", refusal.text)).collect();
            let state = match state {
                CoordinatorState::Delivering | CoordinatorState::Noting(_) | CoordinatorState::Retracting
                    if !why.is_empty() =>
                {
                    "contradicted"
                }
                CoordinatorState::Delivering | CoordinatorState::Ending | CoordinatorState::Noting(_) => "delivering",
                // What was given up at a restart is only told for a while; nothing here waits for it.
                CoordinatorState::Unknown
                | CoordinatorState::Ended
                | CoordinatorState::Retracting
                | CoordinatorState::Resolving(_) => continue,
                CoordinatorState::Beginning
                | CoordinatorState::Voting
                | CoordinatorState::Committing
                | CoordinatorState::Aborting => "deciding",
            };
            let why = (!why.is_empty()).then(|| why.join("; "));
            found.extend(coordinator.transfer(txid).map(|transfer| (Arc::clone(transfer), state, why)));
        }
        // The disk is read without the lock of the machines, which every transfer needs.
        drop(site);
        found.retain(|(transfer, ..)| after.is_none_or(|after| transfer.txid > *after));
        found.sort_by(|(a, ..), (b, ..)| a.txid.cmp(&b.txid));
        found.truncate(limit);
        self.parts.dbs.read(|reader| {
            let described = found.into_iter().map(|(transfer, state, why)| {
                let since = records::since(reader, &transfer.txid)?;
                Ok(Pending { why, ..self.describe(&transfer, state, since) })
            });
            described.collect()
        })
    }

    /// Settles by hand what is in doubt here, or what this branch coordinates and can't finish. It is recorded as such,
    /// with the reason, and answered once that is durable.
    ///
    /// # Errors
    /// [`Error::NoSuchTransfer`] when there is nothing to settle here, [`Error::TransferSettled`],
    /// [`Error::CannotResolve`] when the outcome isn't possible, [`Error::Busy`]; or why it could not be made durable.
    pub fn resolve(
        &self,
        txid: &TxId,
        outcome: Outcome,
        reason: &str,
        with_write: Option<Box<dyn WithWrite>>,
    ) -> Result<()> {
        self.parts.dbs.check_writable()?;
        let task = self.try_ask(|site| site.resolve_by_hand(txid, outcome, reason)).map_err(|error| match error {
            ResolveError::Unknown => Error::NoSuchTransfer(txid.clone()),
            ResolveError::Settled(_) => Error::TransferSettled(txid.clone()),
            ResolveError::UnderWay | ResolveError::Recovering => Error::Busy,
            ResolveError::NotVoted | ResolveError::MayBePaid(_) => Error::CannotResolve(error.to_string()),
        })?;
        // A person's act against the protocol: whoever later looks for the reason of a difference finds it in the log,
        // too.
        log::warn!("transfer {txid} is settled by hand: {outcome}, because: {reason}");
        self.carry_out(vec![task.with_write(with_write)])
    }

    fn describe(&self, transfer: &Transfer, state: &str, since_unix_ms: Option<i64>) -> Pending {
        let age_ms = since_unix_ms.map_or(0, |since| self.parts.host.unix_ms() - since);
        let answers =
            |peer: &PeerAddr| peer.as_str() == self.parts.name.as_str() || self.links().is_up(peer) == Some(true);
        Pending {
            txid: transfer.txid.clone(),
            state: state.to_string(),
            legs: transfer.legs.iter().map(ToString::to_string).collect(),
            coordinator: transfer.coordinator.as_ref().map(ToString::to_string),
            coordinator_answers: transfer.coordinator.as_ref().is_some_and(answers),
            why: None,
            age_seconds: Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)).as_secs(),
        }
    }
}

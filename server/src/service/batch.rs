//! Operations of one caller in one commit: each on its own, or all or none.
//!
//! With an id, a batch is one request that may be repeated. An atomic one has its answer kept under its id. Of one that
//! is not atomic the id is bound to what it asks for, and each request in it has an id of its own; so what was refused
//! may be tried again by a repeat, and what was done is not done again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use protocol::actions::Action;
use serde::Serialize;

use super::Service;
use super::access::Caller;
use super::operations::{Operation, OperationAnswer, OperationResult, check_passwords};
use super::requester::Requester;
use crate::bank::Bank;
use crate::bank::hashing::Orderer;
use crate::bank::movements::Booking;
use crate::dbs_exec::Tx;
use crate::error::{Error, Result};
use crate::idempotency::{KeptAnswer, RequestKey, Stored};
use crate::limits::{BATCH_PASSWORDS, BATCH_PASSWORDS_CUSTOMER};
use crate::replication::Replication;

/// What an atomic batch is answered with.
pub enum AtomicAnswer {
    /// Everything was done.
    Done(Vec<OperationAnswer>),
    /// Everything was done, now or by an earlier request with its id.
    Kept(KeptAnswer),
    /// Nothing was done, because of the request with this index.
    Refused(usize, Error),
}

/// What became of operations that were handed in.
pub struct CarriedOut {
    operations: Vec<Arc<Operation>>,
    results: Vec<Result<OperationAnswer>>,
    bank: Arc<Bank>,
    replication: Arc<Replication>,
}

impl CarriedOut {
    /// Whether an answer is still to be looked for in the database, and replicas may have to be waited for.
    #[must_use]
    pub fn may_take_long(&self) -> bool {
        self.results.iter().any(|result| result.as_ref().is_err_and(Error::may_meet_a_repeat))
    }

    /// The answers, in the order of the operations.
    #[must_use]
    pub fn answers(self) -> Vec<Result<OperationAnswer>> {
        let Self { operations, results, bank, replication } = self;
        let answers = results.into_iter().zip(&operations).map(|(result, operation)| match result {
            // No password is looked at: an operation with one is not handed in.
            Err(refusal) if refusal.may_meet_a_repeat() && replication.knows_what_was_done() => {
                operation.answer_before(&bank, Orderer::BRANCH)?.ok_or(refusal)
            }
            result => result,
        });
        answers.collect()
    }
}

/// One answer of an atomic batch as it is kept: like one that leaves.
#[derive(Serialize)]
struct KeptPart {
    status: &'static str,
    result: OperationAnswer,
}

/// One step of a commit.
enum Step {
    /// Binds the batch's id to what the batch asks for.
    Bind(RequestKey),
    Run(Arc<Operation>),
}

impl Requester<'_> {
    /// Hashing is what a batch may hold least of: a customer's has one password at most.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more.
    pub fn check_password_count<'o>(&self, operations: impl Iterator<Item = &'o Operation>) -> Result<()> {
        let most = match self.caller() {
            Caller::Anonymous | Caller::Customer(_) => BATCH_PASSWORDS_CUSTOMER,
            Caller::KeyHolder | Caller::Open => BATCH_PASSWORDS,
        };
        if operations.filter(|operation| operation.given_password().is_some()).count() > most {
            return Err(Error::Invalid(format!("a batch holds at most {most} requests with a password")));
        }
        Ok(())
    }

    /// Makes an operation ready, unless it takes a password to be hashed for someone who has gone since the batch was
    /// begun.
    fn make_ready_in_batch(&self, operation: &mut Operation, begun: Instant) -> Result<()> {
        if operation.given_password().is_some() && self.orderer().has_gone(begun) {
            return Err(Error::Busy);
        }
        self.make_ready(operation)
    }

    /// As [`Operation::make_ready`].
    ///
    /// # Errors
    /// As [`Operation::make_ready`].
    pub fn make_ready(&self, operation: &mut Operation) -> Result<()> {
        operation.make_ready(&self.service.bank, self.origin(), self.orderer())
    }

    /// A batch in which each request is on its own. One that could not be read has its refusal already.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`] when its id was another request's; nothing is done then.
    pub fn run_each(
        &self,
        parsed: impl Iterator<Item = Result<Operation>>,
        key: Option<RequestKey>,
    ) -> Result<Vec<Result<OperationAnswer>>> {
        let begun = Instant::now();
        let ready = parsed.map(|parsed| {
            let mut operation = parsed?;
            // A copy that takes no orders hashes nothing for them: it looks for what the primary has done.
            if self.service.replication.is_primary() {
                self.make_ready_in_batch(&mut operation, begun)?;
            }
            Ok(operation)
        });
        let ready: Vec<Result<Operation>> = ready.collect();
        let operations = ready.iter().filter_map(|ready| ready.as_ref().ok().cloned()).collect();
        let mut results = self.run_bound(key, operations)?.into_iter();
        let answers = ready
            .into_iter()
            .map(|ready| ready.and_then(|_| results.next().expect("there is one result for each operation")));
        Ok(answers.collect())
    }

    /// A batch of which all happens or nothing.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`] when its id was another request's, or a failure of this branch; nothing is done then.
    pub fn run_atomically(
        &self,
        parsed: impl ExactSizeIterator<Item = Result<Operation>>,
        key: Option<&RequestKey>,
    ) -> Result<AtomicAnswer> {
        let mut operations = Vec::with_capacity(parsed.len());
        for (index, parsed) in parsed.enumerate() {
            match parsed {
                Ok(operation) => operations.push(operation),
                Err(error) => return Ok(AtomicAnswer::Refused(index, error)),
            }
        }
        // What a first batch has set is not hashed again for its repeat: an answer that is there is enough.
        let sets_password = operations.iter().any(|operation| operation.given_password().is_some());
        if (sets_password || !self.service.replication.is_primary())
            && let Some(answer) = self.batch_before(key, &operations)?
        {
            return Ok(AtomicAnswer::Kept(answer));
        }
        let begun = Instant::now();
        for (index, operation) in operations.iter_mut().enumerate() {
            if let Err(error) = self.make_ready_in_batch(operation, begun) {
                return Ok(AtomicAnswer::Refused(index, error));
            }
            if !operation.is_read()
                && let Err(error) = self.service.replication.check(Action::Deposit)
            {
                return Ok(AtomicAnswer::Refused(index, error));
            }
        }
        let operations = Arc::new(operations);
        let set = operations.iter().filter_map(Operation::new_password).next_back();
        let result = self.run_all_or_none(key.cloned(), &operations);
        self.service.bank.moved();
        self.renew_login(set);
        match result {
            Ok(answer) => Ok(answer),
            // The first batch under this id may have come in between, or have been carried out before this copy was
            // replaced: then its answer is there.
            Err((error, _)) if error.may_meet_a_repeat() && key.is_some() => {
                self.batch_before(key, &operations)?.map(AtomicAnswer::Kept).ok_or(error)
            }
            Err((error, Some(index))) if !error.is_failure() => Ok(AtomicAnswer::Refused(index, error)),
            Err((error, _)) => Err(error),
        }
    }

    /// The answer that is kept of an atomic batch.
    fn batch_before(&self, key: Option<&RequestKey>, operations: &[Operation]) -> Result<Option<KeptAnswer>> {
        let bank = &self.service.bank;
        let (Some(key), true) = (key, self.service.replication.knows_what_was_done()) else { return Ok(None) };
        let Some(stored) = key.look_up(bank.dbs())? else { return Ok(None) };
        let passwords: Vec<&str> = operations.iter().filter_map(Operation::given_password).collect();
        check_passwords(bank, self.orderer(), &stored, &passwords)?;
        Ok(Some(stored.answer))
    }

    /// Runs operations in one transaction, which all of them leave as it was if one fails. With the error comes which
    /// one that was.
    fn run_all_or_none(
        &self,
        key: Option<RequestKey>,
        operations: &Arc<Vec<Operation>>,
    ) -> Result<AtomicAnswer, (Error, Option<usize>)> {
        let booking = self.service.bank.booking();
        let failed = Arc::new(Mutex::new(None));
        let (failed_in_tx, operations) = (Arc::clone(&failed), Arc::clone(operations));
        let count = operations.len();
        let result = self.service.bank.dbs().execute_whole(self.owner(), count, move |tx| {
            match key.as_ref().map_or(Ok(None), |key| key.find(tx))? {
                Some(stored) if stored.password_hashes.is_empty() => return Ok(AtomicAnswer::Kept(stored.answer)),
                // The first one came in between; passwords are looked at outside of a transaction.
                Some(_) => return Err(Error::RequestRepeated),
                None => {}
            }
            let mut answers = Vec::with_capacity(operations.len());
            for (index, operation) in operations.iter().enumerate() {
                answers.push(operation.run(tx, &booking).inspect_err(|_| *failed_in_tx.lock() = Some(index))?);
            }
            let Some(key) = &key else { return Ok(AtomicAnswer::Done(answers)) };
            let parts: Vec<_> = answers.into_iter().map(|result| KeptPart { status: "ok", result }).collect();
            let answer = KeptAnswer::of(&parts);
            let password_hashes = operations.iter().filter_map(Operation::password_hash).map(str::to_string);
            let password_hashes = password_hashes.collect();
            key.store(tx, &Stored { password_hashes, ..Stored::answer(answer.clone()) })?;
            Ok(AtomicAnswer::Kept(answer))
        });
        let failed = *failed.lock();
        result.map_err(|error| (error, failed))
    }

    /// Operations that are ready, in one commit, each on its own.
    #[must_use]
    pub fn run(&self, operations: Vec<Operation>) -> Vec<Result<OperationAnswer>> {
        self.run_bound(None, operations).expect("without an id there is none that was used")
    }

    /// Whether the answers to these operations can be left to another thread.
    #[must_use]
    pub fn may_hand_in(&self, operations: &[Operation]) -> bool {
        // What sets a password has more to do for this connection's login.
        operations.iter().all(|operation| operation.given_password().is_none())
            && self.service.replication.check(Action::Deposit).is_ok()
    }

    /// As [`Requester::run`], without waiting: another thread calls `answer` when they are durable. What is returned does
    /// the same, where this thread has led their commit itself.
    ///
    /// Only for what [`Requester::may_hand_in`].
    pub fn hand_in(
        &self,
        operations: Vec<Operation>,
        answer: impl FnOnce(CarriedOut) + Send + 'static,
    ) -> Option<impl FnOnce()> {
        let Service { bank, replication, .. } = self.service;
        let booking = bank.booking();
        let operations: Vec<Arc<Operation>> = operations.into_iter().map(Arc::new).collect();
        let runs = operations.iter().map(|operation| {
            let operation = Arc::clone(operation);
            move |tx: &mut Tx<'_>| operation.run(tx, &booking)
        });
        let runs: Vec<_> = runs.collect();
        let (bank, replication) = (Arc::clone(bank), Arc::clone(replication));
        let dbs = Arc::clone(bank.dbs());
        let then = Box::new(move |results| {
            bank.moved();
            answer(CarriedOut { operations, results, bank, replication });
        });
        let led = dbs.execute_then(self.owner(), runs, then);
        led.map(|(results, then)| move || then(results))
    }

    /// The same, as a batch with an id.
    fn run_bound(&self, batch: Option<RequestKey>, operations: Vec<Operation>) -> Result<Vec<Result<OperationAnswer>>> {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        // As for any write: a copy that is not written, or that lacks replicas. What only looks is answered all the
        // same.
        if let Err(refusal) = self.service.replication.check(Action::Deposit) {
            return Ok(operations.iter().map(|operation| self.answer_unwritten(operation, &refusal)).collect());
        }
        let is_bound = batch.is_some();
        let set = operations.iter().filter_map(Operation::new_password).next_back();
        let operations: Vec<Arc<Operation>> = operations.into_iter().map(Arc::new).collect();
        let runs = operations.iter().map(|operation| Step::Run(Arc::clone(operation)));
        let steps = batch.map(Step::Bind).into_iter().chain(runs);
        let mut results = self.execute(steps, operations.len() + usize::from(is_bound));
        self.service.bank.moved();
        self.renew_login(set);
        // The first result is the binding's own.
        if is_bound && matches!(results.remove(0), Err(Error::RequestIdReused)) {
            return Err(Error::RequestIdReused);
        }
        let results = results.into_iter().zip(&operations).map(|(result, operation)| match result {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => unreachable!("only the binding of the batch's id has no answer"),
            Err(error) if error.may_meet_a_repeat() => self.answer_before(operation, &error),
            Err(error) => Err(error),
        });
        Ok(results.collect())
    }

    fn execute(&self, steps: impl Iterator<Item = Step>, count: usize) -> Vec<Result<Option<OperationAnswer>>> {
        let booking = self.service.bank.booking();
        let is_reused = Arc::new(AtomicBool::new(false));
        let steps: Vec<_> = steps
            .map(|step| {
                let is_reused = Arc::clone(&is_reused);
                move |tx: &mut Tx<'_>| step.run(tx, &booking, &is_reused)
            })
            .collect();
        let dbs = self.service.bank.dbs();
        dbs.execute_for(self.owner(), steps).unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect())
    }

    /// The answer of an earlier request with the operation's id, or else the refusal that a repeat has met.
    ///
    /// # Errors
    /// The refusal, or as [`Operation::answer_before`].
    pub fn answer_before(&self, operation: &Operation, refusal: &Error) -> Result<OperationAnswer> {
        if !self.service.replication.knows_what_was_done() {
            return Err(refusal.clone());
        }
        operation.answer_before(&self.service.bank, self.orderer())?.ok_or_else(|| refusal.clone())
    }

    /// What a copy that is not written answers to an operation.
    fn answer_unwritten(&self, operation: &Operation, refusal: &Error) -> Result<OperationAnswer> {
        if operation.is_read() {
            self.look(operation).map(OperationAnswer::Result)
        } else {
            self.answer_before(operation, refusal)
        }
    }

    /// Carries out an operation that only looks, without waiting for any write.
    ///
    /// # Errors
    /// As [`Operation::look`].
    pub fn look(&self, operation: &Operation) -> Result<OperationResult> {
        self.service.bank.dbs().read(|reader| operation.look(reader))
    }
}

impl Step {
    fn run(&self, tx: &mut Tx<'_>, booking: &Booking, is_reused: &AtomicBool) -> Result<Option<OperationAnswer>> {
        match self {
            Self::Bind(key) => {
                let found = key.find(tx);
                // For the steps behind it in this same transaction, which must not run under another request's id. Set
                // anew in each run, since a group may be executed twice.
                is_reused.store(matches!(found, Err(Error::RequestIdReused)), Ordering::SeqCst);
                if found?.is_none() {
                    // What each request was answered is kept under its own id.
                    key.store(tx, &Stored::answer(KeptAnswer::of(&[(); 0])))?;
                }
                Ok(None)
            }
            // The id that they stand under is another request's.
            Self::Run(_) if is_reused.load(Ordering::SeqCst) => Err(Error::RequestIdReused),
            Self::Run(operation) => operation.run(tx, booking).map(Some),
        }
    }
}

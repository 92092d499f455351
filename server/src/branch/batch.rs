//! `batch`: many requests in one commit, each on its own, or all or none.
//!
//! With an id, a batch is one request that may be repeated. An atomic one has its answer kept under its id. Of one that
//! is not atomic the id is bound to what it asks for, and each request in it has an id of its own, `id#n`, unless it
//! brings one; so what was refused may be tried again by a repeat, and what was done is not done again. The ids that a
//! batch gives are the batch's: a request that brings one of them is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use protocol::answer::push_error;
use protocol::request::{Action, Batch, RequestFrame};
use serde_json::{Value, json};

use super::session::{BranchSession, body_of, error_body};
use crate::bank::movements::Booking;
use crate::dbs_exec::Tx;
use crate::error::{Error, Result};
use crate::idempotency::{RequestKey, Stored};
use crate::limits::{BATCH_PASSWORDS, BATCH_PASSWORDS_CUSTOMER};
use crate::lockout::Origin;
use crate::service::access::{self, Caller};
use crate::service::operations::{Operation, check_passwords};
use crate::service::reports::Listed;

/// One request of a batch, as it was read.
struct Part {
    /// What it means, with its id; of one that could not be read, its text.
    meaning: Value,
    operation: Result<Operation>,
}

/// One operation of a commit.
enum Step {
    /// Binds the batch's id to what the batch asks for.
    Bind(RequestKey),
    Run(Arc<Operation>),
}

impl BranchSession<'_> {
    pub(super) fn batch(&self, frame: &RequestFrame<'_>) -> Result<String> {
        let params: Batch<'_> = frame.params()?;
        let parts: Vec<Part> = params
            .requests
            .iter()
            .enumerate()
            .map(|(index, raw)| self.read_part(raw.get(), frame.request_id(), index, params.atomic))
            .collect();
        self.count_passwords(&parts)?;
        let is_write = |part: &Part| part.operation.as_ref().is_ok_and(|operation| !operation.is_read());
        let meaning = || {
            let parts: Vec<&Value> = parts.iter().map(|part| &part.meaning).collect();
            json!([params.atomic, parts])
        };
        let new_key = |id| RequestKey::new(self.caller.id_owner(), id, Action::Batch, &meaning(), frame.params_text());
        let mut key = frame.request_id().map(new_key);
        if let Some(key) = key.take_if(|_| !parts.iter().any(is_write)) {
            // What only looks should see what is there now; but its id may be another request's.
            self.service.bank.dbs().read(|reader| key.find(reader))?;
        }
        let parsed = parts.into_iter().map(|part| part.operation);
        if params.atomic { self.batch_atomically(parsed, key) } else { self.batch_each(parsed, key) }
    }

    /// Hashing is what a batch may hold least of: a customer's has one password at most.
    fn count_passwords(&self, parts: &[Part]) -> Result<()> {
        let sets = |part: &&Part| part.operation.as_ref().is_ok_and(|operation| operation.given_password().is_some());
        let most = match self.caller() {
            Caller::Anonymous | Caller::Customer(_) => BATCH_PASSWORDS_CUSTOMER,
            Caller::KeyHolder | Caller::Open => BATCH_PASSWORDS,
        };
        if parts.iter().filter(sets).count() > most {
            return Err(Error::Invalid(format!("a batch holds at most {most} requests with a password")));
        }
        Ok(())
    }

    /// Makes an operation ready, unless it takes a password to be hashed for someone who has gone since the batch was
    /// begun.
    fn make_ready(&self, operation: &mut Operation, begun: Instant) -> Result<()> {
        let orderer = self.orderer();
        if operation.given_password().is_some() && orderer.has_gone(begun) {
            return Err(Error::Busy);
        }
        operation.make_ready(&self.service.bank, Origin::Address(self.address), orderer)
    }

    /// Reads one request of a batch. Where the batch has an id, each request in it has one of its own.
    fn read_part(&self, body: &str, batch_id: Option<&str>, index: usize, is_atomic: bool) -> Part {
        let read = || {
            let frame = RequestFrame::parse(body.as_bytes())?;
            let action = frame.action()?;
            access::check(self.caller, action)?;
            let id = match (frame.request_id(), batch_id) {
                (Some(own), Some(batch_id)) if is_of_batch(own, batch_id) => return Err(Error::RequestIdReused),
                (Some(own), _) => Some(own.to_string()),
                // The answer to all of them is kept under the batch's own id.
                (None, Some(_)) if is_atomic => None,
                (None, Some(batch_id)) => Some(format!("{batch_id}#{index}")),
                (None, None) => None,
            };
            let operation = Operation::parse(self.caller, action, &frame, id.as_deref())?;
            Ok((json!([action.name(), operation.meaning(), frame.request_id()]), operation))
        };
        match read() {
            Ok((meaning, operation)) => Part { meaning, operation: Ok(operation) },
            Err(error) => Part { meaning: Value::String(body.to_string()), operation: Err(error) },
        }
    }

    /// Each request on its own.
    fn batch_each(&self, parsed: impl Iterator<Item = Result<Operation>>, key: Option<RequestKey>) -> Result<String> {
        let begun = Instant::now();
        let ready = parsed.map(|parsed| {
            let mut operation = parsed?;
            if self.service.replication.is_primary() {
                self.make_ready(&mut operation, begun)?;
            }
            Ok(operation)
        });
        let ready: Vec<Result<Operation>> = ready.collect();
        let operations = ready.iter().filter_map(|ready| ready.as_ref().ok().cloned()).collect();
        let mut results = self.operate_bound(key, operations)?.into_iter();
        let answers = ready.into_iter().map(|ready| match ready {
            Ok(_) => results.next().expect("there is one result for each operation"),
            Err(error) => Err(error),
        });
        Ok(join(answers.map(body_of)))
    }

    /// All or none.
    fn batch_atomically(
        &self,
        parsed: impl ExactSizeIterator<Item = Result<Operation>>,
        key: Option<RequestKey>,
    ) -> Result<String> {
        let (bank, count) = (&self.service.bank, parsed.len());
        let mut operations = Vec::with_capacity(count);
        for (index, parsed) in parsed.enumerate() {
            match parsed {
                Ok(operation) => operations.push(operation),
                Err(error) => return Ok(all_refused(count, index, &error)),
            }
        }
        let sets_password = operations.iter().any(|operation| operation.given_password().is_some());
        if (sets_password || !self.service.replication.is_primary())
            && let Some(answer) = self.batch_before(key.as_ref(), &operations)?
        {
            return Ok(answer);
        }
        let begun = Instant::now();
        for (index, operation) in operations.iter_mut().enumerate() {
            if let Err(error) = self.make_ready(operation, begun) {
                return Ok(all_refused(count, index, &error));
            }
            if !operation.is_read()
                && let Err(error) = self.service.replication.check(Action::Deposit)
            {
                return Ok(all_refused(count, index, &error));
            }
        }
        let operations = Arc::new(operations);
        let set = operations.iter().filter_map(Operation::new_password).next_back();
        let result = self.run_all_or_none(key.clone(), &operations);
        bank.moved();
        self.renew_login(set);
        match result {
            Ok(answers) => Ok(answers),
            Err((error, _)) if error.may_meet_a_repeat() && key.is_some() => {
                match self.batch_before(key.as_ref(), &operations)? {
                    Some(answer) => Ok(answer),
                    None => Err(error),
                }
            }
            Err((error, Some(index))) if !error.is_trouble() => Ok(all_refused(count, index, &error)),
            Err((error, _)) => Err(error),
        }
    }

    /// The answer that is kept of an atomic batch.
    fn batch_before(&self, key: Option<&RequestKey>, operations: &[Operation]) -> Result<Option<String>> {
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
    ) -> Result<String, (Error, Option<usize>)> {
        let booking = self.service.bank.booking();
        let failed = Arc::new(Mutex::new(None));
        let (failed_in_tx, operations) = (Arc::clone(&failed), Arc::clone(operations));
        let count = operations.len();
        let result = self.service.bank.dbs().execute_whole(self.owner(), count, move |tx| {
            match key.as_ref().map_or(Ok(None), |key| key.find(tx))? {
                Some(stored) if stored.password_hashes.is_empty() => return Ok(stored.answer),
                // The first one came in between; passwords are looked at outside of a transaction.
                Some(_) => return Err(Error::RequestRepeated),
                None => {}
            }
            let mut answers = Vec::with_capacity(operations.len());
            for (index, operation) in operations.iter().enumerate() {
                let run = operation.run(tx, &booking).inspect_err(|_| *failed_in_tx.lock() = Some(index));
                answers.push(body_of(Ok((run?, None))));
            }
            let answers = join(answers.into_iter());
            if let Some(key) = &key {
                let password_hashes = operations.iter().filter_map(Operation::password_hash).map(str::to_string);
                let password_hashes = password_hashes.collect();
                key.store(tx, &Stored { password_hashes, ..Stored::answer(answers.clone()) })?;
            }
            Ok(answers)
        });
        let failed = *failed.lock();
        result.map_err(|error| (error, failed))
    }

    /// Operations of one caller, in one commit, each on its own.
    pub(super) fn operate(&self, operations: Vec<Operation>) -> Vec<Result<Listed>> {
        self.operate_bound(None, operations).expect("without an id there is none that was used")
    }

    /// The same, as a batch with an id.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`] when its id was another request's; nothing is done then.
    fn operate_bound(&self, batch: Option<RequestKey>, operations: Vec<Operation>) -> Result<Vec<Result<Listed>>> {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
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
        if is_bound && results.remove(0) == Err(Error::RequestIdReused) {
            return Err(Error::RequestIdReused);
        }
        let results = results.into_iter().zip(&operations).map(|(result, operation)| match result {
            Ok(json) => Ok((json, None)),
            Err(error) if error.may_meet_a_repeat() => self.answer_before(operation, &error),
            Err(error) => Err(error),
        });
        Ok(results.collect())
    }

    fn execute(&self, steps: impl Iterator<Item = Step>, count: usize) -> Vec<Result<String>> {
        let booking = self.service.bank.booking();
        let is_reused = Arc::new(AtomicBool::new(false));
        let steps: Vec<_> = steps
            .map(|step| {
                let is_reused = Arc::clone(&is_reused);
                move |tx: &mut Tx<'_>| step.run(tx, &booking, &is_reused)
            })
            .collect();
        self.service.bank.dbs().execute_for(self.owner(), steps).unwrap_or_else(|error| vec![Err(error); count])
    }

    /// The answer of an earlier request with the operation's id, or else the refusal that a repeat has met.
    pub(super) fn answer_before(&self, operation: &Operation, refusal: &Error) -> Result<Listed> {
        if !self.service.replication.knows_what_was_done() {
            return Err(refusal.clone());
        }
        match operation.answer_before(&self.service.bank, self.orderer())? {
            Some(json) => Ok((json, None)),
            None => Err(refusal.clone()),
        }
    }

    /// What a copy that is not written answers to an operation.
    fn answer_unwritten(&self, operation: &Operation, refusal: &Error) -> Result<Listed> {
        if operation.is_read() {
            return self.service.bank.dbs().read(|reader| operation.look(reader)).map(|json| (json, None));
        }
        self.answer_before(operation, refusal)
    }
}

impl Step {
    fn run(&self, tx: &mut Tx<'_>, booking: &Booking, is_reused: &AtomicBool) -> Result<String> {
        match self {
            Self::Bind(key) => {
                let found = key.find(tx);
                is_reused.store(matches!(found, Err(Error::RequestIdReused)), Ordering::SeqCst);
                if found?.is_none() {
                    key.store(tx, &Stored::answer("[]".into()))?;
                }
                Ok(String::new())
            }
            // The id that they stand under is another request's.
            Self::Run(_) if is_reused.load(Ordering::SeqCst) => Err(Error::RequestIdReused),
            Self::Run(operation) => operation.run(tx, booking),
        }
    }
}

/// Whether a batch with this id keeps something under `id`.
fn is_of_batch(id: &str, batch_id: &str) -> bool {
    let number = id.strip_prefix(batch_id).and_then(|rest| rest.strip_prefix('#'));
    id == batch_id || number.is_some_and(|number| number.parse::<usize>().is_ok())
}

/// The answers of a batch of which nothing was carried out because of one request.
fn all_refused(count: usize, index: usize, error: &Error) -> String {
    let mut others = Vec::new();
    push_error(
        &mut others,
        "batch_refused",
        &format!("nothing was done: request {} of the batch was refused", index + 1),
    );
    join((0..count).map(|position| if position == index { error_body(error) } else { others.clone() }))
}

/// Answers as a JSON list.
fn join(bodies: impl Iterator<Item = Vec<u8>>) -> String {
    let mut json = String::from("[");
    for (position, body) in bodies.enumerate() {
        if position > 0 {
            json.push(',');
        }
        json.push_str(&String::from_utf8_lossy(&body));
    }
    json.push(']');
    json
}

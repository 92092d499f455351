//! `batch`: many requests in one, as it comes and as it is answered; what is done is [`crate::service::batch`]'s.
//!
//! In a batch with an id that is not atomic, each request that brings no id has one of its own, `id#n`. The ids that a
//! batch gives are the batch's: a request that brings one of them is refused.

use protocol::actions::Action;
use protocol::answer::push_error;
use protocol::request::{Batch, RequestFrame};

use super::answers::{error_body, result_body, to_json};
use super::requests;
use crate::error::{Error, Result};
use crate::idempotency::{Meaning, RequestKey};
use crate::service::access::{self, Caller};
use crate::service::batch::AtomicAnswer;
use crate::service::operations::Operation;
use crate::service::requester::Requester;

/// One request of a batch, as it was read.
struct Part {
    /// What it means, with its id; of one that could not be read, nothing: its text may hold a password, and what is
    /// taken over meanings is a fast hash.
    meaning: Meaning,
    operation: Result<Operation>,
}

/// Reads a batch, has it carried out, and returns its answer as JSON.
///
/// # Errors
/// As [`Requester::run_each`] and [`Requester::run_atomically`], or what is wrong with the batch as a whole.
pub fn batch(requester: &Requester<'_>, frame: &RequestFrame<'_>) -> Result<String> {
    let Batch { requests, atomic } = frame.params()?;
    let (caller, id) = (requester.caller(), frame.request_id());
    let parts = requests.iter().enumerate().map(|(index, raw)| read_part(caller, raw.get(), id, index, atomic));
    let parts: Vec<Part> = parts.collect();
    let operations = || parts.iter().filter_map(|part| part.operation.as_ref().ok());
    requester.check_password_count(operations())?;
    let mut key = id.map(|id| {
        let meanings: Vec<&Meaning> = parts.iter().map(|part| &part.meaning).collect();
        RequestKey::new(caller.id_owner(), id, Action::Batch, &Meaning::of(&(atomic, meanings)), frame.params_text())
    });
    let has_write = operations().any(|operation| !operation.is_read());
    if let Some(key) = key.take_if(|_| !has_write) {
        // What only looks should see what is there now; but its id may be another request's.
        requester.service.bank.dbs().read(|reader| key.find(reader))?;
    }
    let count = parts.len();
    let parsed = parts.into_iter().map(|part| part.operation);
    if !atomic {
        let answers = requester.run_each(parsed, key)?;
        return Ok(join(
            answers
                .into_iter()
                .map(|answer| answer.map_or_else(|error| error_body(&error), |answer| result_body(&answer))),
        ));
    }
    Ok(match requester.run_atomically(parsed, key.as_ref())? {
        AtomicAnswer::Done(answers) => join(answers.iter().map(result_body)),
        AtomicAnswer::Kept(answer) => to_json(&answer),
        AtomicAnswer::Refused(index, error) => all_refused(count, index, &error),
    })
}

/// Reads one request of a batch. Where the batch has an id, each request in it has one of its own.
fn read_part(caller: Caller, body: &str, batch_id: Option<&str>, index: usize, is_atomic: bool) -> Part {
    let read = || {
        let frame = RequestFrame::parse(body.as_bytes())?;
        let action = frame.action()?;
        access::check(caller, action)?;
        let id = match (frame.request_id(), batch_id) {
            (Some(own), Some(batch_id)) if is_of_batch(own, batch_id) => return Err(Error::RequestIdReused),
            (Some(own), _) => Some(own.to_string()),
            // The answer to all of them is kept under the batch's own id.
            (None, Some(_)) if is_atomic => None,
            (None, Some(batch_id)) => Some(format!("{batch_id}#{index}")),
            (None, None) => None,
        };
        let operation = requests::operation(caller, action, &frame, id.as_deref())?;
        Ok((Meaning::of(&(action.name(), operation.meaning(), frame.request_id())), operation))
    };
    match read() {
        Ok((meaning, operation)) => Part { meaning, operation: Ok(operation) },
        Err(error) => Part { meaning: Meaning::of(&()), operation: Err(error) },
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

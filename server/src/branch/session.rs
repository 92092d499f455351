//! A session of the branch protocol: requests in, answers out, in order.
//!
//! A session is given all requests that have come so far and works on them as far as it can in one go:
//! operations on the ledger that follow one another become one submission to `dbs_exec`, so that a client
//! which sends a hundred requests at once has them committed together; transfers between branches that
//! follow one another begin together and are waited for afterwards. Where a request of another sort stands
//! in between, what came before it is finished first, so each request sees the effects of those before it.
//!
//! Operations at the end of what has come are handed in: this thread doesn't sleep until they are durable, it goes back
//! to reading, and another thread writes their answers (`super::replies`). Operations that follow are handed in behind
//! them, and carried out in that order. Whatever else follows waits until they are answered.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;

use crossbeam_channel::Receiver;
use protocol::actions::{Action, Kind, Property};
use protocol::proof::Nonce;
use protocol::request::{LIST_ROWS_DEFAULT, Link, RequestFrame, Watch};
use serde::Deserialize;

use super::answers::{body_of, error_body, result_body, single, transfer_json};
use super::outgoing::{Outgoing, push_answer};
use super::replies::Part;
use super::requests;
use crate::allowance::Allowed;
use crate::error::{Error, Result};
use crate::limits::{LONG_ANSWER_BYTES, LONG_READ_WAIT, PIPELINE_RECEIVERS, SHORT_LIST_ROWS, WRITE_TIMEOUT};
use crate::net::accept::Client;
use crate::replication::GrantedStream;
use crate::service::Service;
use crate::service::batch::CarriedOut;
use crate::service::operations::{Operation, OperationAnswer};
use crate::service::requester::Requester;
use crate::service::transfers::{self, TransferRequest, TransferResult};

/// One connection's session.
pub struct BranchSession<'c> {
    pub(super) requester: Requester<'c>,
    pub(super) challenge: Option<Challenge>,
}

/// The two numbers that a proof of the key has to be made over.
pub(super) struct Challenge {
    pub(super) client: Nonce,
    pub(super) branch: Nonce,
}

/// What becomes of the connection after the answers.
#[derive(Debug)]
pub enum After {
    /// It goes on.
    GoOn,
    /// It becomes a link to this branch.
    BecomeLink(Link),
    /// It becomes a stream to a replica.
    Replicate(GrantedStream),
    /// It streams events.
    Watch(Watch),
    /// It is answered when this copy is open again in its new role, and closed then: what is given says when.
    ChangeRole(Receiver<()>),
}

/// An answer, or its place.
enum Slot {
    Answer(Vec<u8>),
    Operation,
    Transfer,
}

/// Requests that are answered together.
#[derive(Default)]
struct Pipeline {
    slots: VecDeque<Slot>,
    operations: Vec<Operation>,
    transfers: Vec<TransferRequest>,
}

impl Pipeline {
    /// How many are paid by the transfers that wait to begin.
    fn receivers(&self) -> usize {
        self.transfers.iter().map(TransferRequest::receivers).sum()
    }

    /// Adds an answer, and sends what is whole.
    fn push(&mut self, body: Vec<u8>, out: &mut Outgoing<'_>) -> io::Result<()> {
        self.slots.push_back(Slot::Answer(body));
        self.send_if_whole(out)
    }

    /// Sends the answers when none of them is still to be made.
    fn send_if_whole(&mut self, out: &mut Outgoing<'_>) -> io::Result<()> {
        if self.operations.is_empty() && self.transfers.is_empty() { self.send(out) } else { Ok(()) }
    }

    /// Sends the answers, all of which are made.
    fn send(&mut self, out: &mut Outgoing<'_>) -> io::Result<()> {
        for slot in self.slots.drain(..) {
            match slot {
                Slot::Answer(body) => out.answer(&body)?,
                Slot::Operation | Slot::Transfer => unreachable!("a pipeline is finished before it is sent"),
            }
        }
        Ok(())
    }
}

impl<'c> BranchSession<'c> {
    /// The session of a new connection.
    #[must_use]
    pub fn new(service: &'c Service, client: &Client) -> Self {
        Self::over(service, client.peer().ip(), client.id(), client.share_stream())
    }

    /// The same, of the connection with this number, from this address, over this socket.
    #[must_use]
    pub fn over(service: &'c Service, address: IpAddr, connection: u64, stream: Arc<TcpStream>) -> Self {
        Self { requester: Requester::new(service, address, connection, stream), challenge: None }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn requester(&self) -> &Requester<'c> {
        &self.requester
    }

    /// Answers requests, each one in order, and has an answer taken before the next one is made that shares nothing
    /// with it. `goes_on` is whether more has come behind them. Stops after one that changes what the connection is,
    /// and says how many requests were taken.
    ///
    /// # Errors
    /// The connection's: whoever doesn't take the answers gets no more work done.
    pub fn answer(&mut self, requests: &[&[u8]], goes_on: bool, out: &mut Outgoing<'_>) -> io::Result<(usize, After)> {
        let mut pipeline = Pipeline::default();
        let mut after = After::GoOn;
        let mut taken = 0;
        for body in requests {
            taken += 1;
            let is_last = taken == requests.len() && !goes_on;
            self.take(body, is_last, &mut pipeline, &mut after, out)?;
            if !matches!(after, After::GoOn) {
                break;
            }
        }
        if !matches!(after, After::GoOn) || !self.hand_in(&mut pipeline, out)? {
            self.finish(&mut pipeline);
            pipeline.send(out)?;
        }
        Ok((taken, after))
    }

    /// Hands in what is queued, if it is operations that need nothing of this thread afterwards. `false` when it was not.
    ///
    /// # Errors
    /// The connection's.
    fn hand_in(&self, pipeline: &mut Pipeline, out: &mut Outgoing<'_>) -> io::Result<bool> {
        let is_due = !pipeline.operations.is_empty() && pipeline.transfers.is_empty();
        if !is_due || !self.requester.may_hand_in(&pipeline.operations) {
            return Ok(false);
        }
        let count = pipeline.slots.len();
        let Some((expected, mut frames)) = out.expect(count)? else { return Ok(false) };
        let Pipeline { slots, operations, .. } = std::mem::take(pipeline);
        let answer = move |carried_out: CarriedOut| {
            let may_take_long = carried_out.may_take_long();
            let make = move || {
                push_operation_answers(&mut frames, slots, carried_out);
                frames
            };
            expected.answer(if may_take_long { Part::Work(Box::new(make)) } else { Part::Frames(make()) });
        };
        // Nobody led, so this thread did, and answers: after what other threads still answer.
        if let Some(answer) = self.requester.hand_in(operations, answer) {
            out.wait_for_all_but(count)?;
            answer();
        }
        Ok(true)
    }

    /// Takes one request: queues it with its like, or finishes and sends what is queued and answers it.
    fn take(
        &mut self,
        body: &[u8],
        is_last: bool,
        pipeline: &mut Pipeline,
        after: &mut After,
        out: &mut Outgoing<'_>,
    ) -> io::Result<()> {
        let (frame, action) = match self.admit(body, is_last) {
            Ok(admitted) => admitted,
            Err(error) => return pipeline.push(error_body(&error), out),
        };
        if !action.has(Property::InBatch) {
            // It has to see the effects of what was handed in.
            out.settle()?;
        }
        if hashes(action, &frame) {
            // Whoever takes no answers has no password hashed: it costs this branch tens of milliseconds, and a stranger
            // nothing.
            self.finish(pipeline);
            pipeline.send(out)?;
            out.flush()?;
        }
        match self.queue(action, &frame, out.is_busy(), pipeline) {
            Ok(true) => return pipeline.send_if_whole(out),
            // It shares nothing with what is queued, and has to see the effects of that.
            Ok(false) => {}
            Err(error) => return pipeline.push(error_body(&error), out),
        }
        self.finish(pipeline);
        pipeline.send(out)?;
        let _held = match self.hold_answer(action, &frame) {
            Ok(held) => held,
            Err(error) => return out.answer(&error_body(&error)),
        };
        let answered = self.answer_alone(action, &frame, after);
        match after {
            // The events themselves are the answer of a watch.
            After::Watch(_) => Ok(()),
            After::GoOn => out.answer(&body_of(answered)),
            After::BecomeLink(_) | After::Replicate(_) | After::ChangeRole(_) => {
                // The answer is the last frame here; what it is followed by is not this session's.
                out.flush()?;
                out.answer(&body_of(answered))
            }
        }
    }

    /// Reads what is asked for and looks whether this caller may, here and now.
    fn admit<'r>(&mut self, body: &'r [u8], is_last: bool) -> Result<(RequestFrame<'r>, Action)> {
        let frame = RequestFrame::parse(body)?;
        let action = frame.action()?;
        self.requester.check(action)?;
        // A copy that takes no orders may still know what was done under an id, and whoever lost the answer should get
        // it: those go on to be looked up.
        let may_be_repeated = frame.request_id().is_some() && action.kind() == Kind::Write;
        if let Err(refusal) = self.requester.service.replication.check(action)
            && !may_be_repeated
        {
            return Err(refusal);
        }
        // What stands behind such a request would be taken for frames of what the connection has become.
        if action.has(Property::Last) && !is_last {
            return Err(Error::Invalid(format!("nothing may follow {action} before it is answered")));
        }
        Ok((frame, action))
    }

    /// Sets aside what a long answer takes, until it is sent.
    fn hold_answer(&self, action: Action, frame: &RequestFrame<'_>) -> Result<Option<Allowed>> {
        #[derive(Deserialize)]
        struct Limit {
            limit: Option<usize>,
        }
        let rows = || frame.params::<Limit>().ok().and_then(|params| params.limit).unwrap_or(LIST_ROWS_DEFAULT);
        if !(action.has(Property::Long) || action.has(Property::List) && rows() > SHORT_LIST_ROWS) {
            return Ok(None);
        }
        let Requester { service, .. } = &self.requester;
        let held = service.allowances.answers.take(self.requester.owner(), LONG_ANSWER_BYTES, WRITE_TIMEOUT);
        held.map(Some).ok_or(Error::Busy)
    }

    /// Queues a request with its like; `false` when it has none. `is_busy` is whether operations that were handed in are
    /// not answered yet.
    fn queue(
        &mut self,
        action: Action,
        frame: &RequestFrame<'_>,
        is_busy: bool,
        pipeline: &mut Pipeline,
    ) -> Result<bool> {
        let (service, caller) = (self.requester.service, self.requester.caller());
        let refusal = service.replication.check(action).err();
        if action.has(Property::InBatch) {
            let operation = requests::operation(caller, action, frame, frame.request_id())?;
            self.queue_operation(operation, refusal, is_busy, pipeline)?;
            return Ok(true);
        }
        if !matches!(action, Action::InterBranchTransfer | Action::SplitTransfer) {
            return Ok(false);
        }
        if !pipeline.operations.is_empty() {
            self.finish(pipeline);
        }
        let request = requests::transfer(caller, action, frame)?;
        if pipeline.receivers() + request.receivers() > PIPELINE_RECEIVERS {
            self.finish(pipeline);
        }
        if let Some(refusal) = refusal {
            self.finish(pipeline);
            let result = transfers::result_before(service, &request, &refusal);
            pipeline.slots.push_back(Slot::Answer(transfer_body(result)));
        } else {
            pipeline.transfers.push(request);
            pipeline.slots.push_back(Slot::Transfer);
        }
        Ok(true)
    }

    fn queue_operation(
        &self,
        mut operation: Operation,
        refusal: Option<Error>,
        is_busy: bool,
        pipeline: &mut Pipeline,
    ) -> Result<()> {
        if !pipeline.transfers.is_empty() {
            self.finish(pipeline);
        }
        if let Some(refusal) = refusal {
            self.finish(pipeline);
            let answer = self.requester.answer_before(&operation, &refusal);
            pipeline.slots.push_back(Slot::Answer(operation_body(answer)));
            return Ok(());
        }
        self.requester.make_ready(&mut operation)?;
        if operation.is_read() && pipeline.operations.is_empty() && !is_busy {
            // Nothing that came before it is still to be committed, so it need not wait for a commit either.
            pipeline.slots.push_back(Slot::Answer(body_of(single(self.requester.look(&operation)))));
        } else {
            pipeline.operations.push(operation);
            pipeline.slots.push_back(Slot::Operation);
        }
        Ok(())
    }

    /// Carries out what is queued and puts the answers into their places.
    fn finish(&self, pipeline: &mut Pipeline) {
        let operations = std::mem::take(&mut pipeline.operations);
        let requests = std::mem::take(&mut pipeline.transfers);
        let mut operated = self.requester.run(operations).into_iter();
        // Whoever has a share of all transfers under way waits until one of them is answered.
        let Requester { service, .. } = &self.requester;
        let receivers = requests.iter().map(TransferRequest::receivers).sum();
        let held = service.allowances.transfers.take(self.requester.owner(), receivers, LONG_READ_WAIT);
        let started = match &held {
            Some(_) => transfers::begin(service, &requests),
            None => requests.iter().map(|_| Err(Error::Busy)).collect(),
        };
        let mut transferred = started
            .into_iter()
            .zip(&requests)
            .map(|(started, request)| started.and_then(|started| transfers::finish(service, request, started)));
        for slot in &mut pipeline.slots {
            let body = match slot {
                Slot::Answer(_) => continue,
                Slot::Operation => operation_body(operated.next().expect("there is one result for each operation")),
                Slot::Transfer => transfer_body(transferred.next().expect("there is one result for each transfer")),
            };
            *slot = Slot::Answer(body);
        }
    }
}

/// Adds the answers of handed-in requests as frames, in the order of the requests.
fn push_operation_answers(frames: &mut Vec<u8>, slots: VecDeque<Slot>, carried_out: CarriedOut) {
    let mut answers = carried_out.answers().into_iter();
    for slot in slots {
        match slot {
            Slot::Answer(body) => push_answer(frames, &body),
            Slot::Operation => {
                push_answer(frames, &operation_body(answers.next().expect("there is one result for each operation")));
            }
            Slot::Transfer => unreachable!("only operations are handed in"),
        }
    }
}

fn operation_body(answer: Result<OperationAnswer>) -> Vec<u8> {
    answer.map_or_else(|error| error_body(&error), |answer| result_body(&answer))
}

fn transfer_body(result: Result<TransferResult>) -> Vec<u8> {
    body_of(result.map(|result| transfer_json(&result)))
}

/// Whether a password is hashed for this request, which takes tens of milliseconds.
fn hashes(action: Action, frame: &RequestFrame<'_>) -> bool {
    matches!(action, Action::Login | Action::CheckPassword | Action::SetPassword)
        || (action == Action::CreateAccount && frame.params_text().contains("password"))
}

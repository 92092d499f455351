//! A session of the branch protocol: requests in, answers out, in order.
//!
//! A session is given all requests that have come so far and works on them as far as it can in one go:
//! operations on the ledger that follow one another become one submission to `dbs_exec`, so that a client
//! which sends a hundred requests at once has them committed together; transfers between branches that
//! follow one another begin together and are waited for afterwards. Where a request of another sort stands
//! in between, what came before it is finished first, so each request sees the effects of those before it.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;
use protocol::actions::{Access, Action, Kind, Property};
use protocol::answer::{PasswordVersionOf, TxStatus, Welcome, push_ok, push_refused_epoch};
use protocol::proof::{Nonce, Prover, from_hex, to_hex};
use protocol::request::{
    Authenticate, CheckPassword, Hello, LIST_ROWS_DEFAULT, Link, Login, NoParams, OneTx, RequestFrame, Watch,
};
use two_phase_commit::{Outcome, PeerAddr, Side};

use super::outgoing::Outgoing;
use super::raw;
use crate::allowance::{Allowed, Owner};
use crate::bank::hashing::Orderer;
use crate::bank::passwords::PasswordVersion;
use crate::error::{Error, Result};
use crate::limits::{ERROR_TEXT_BYTES, LONG_ANSWER_BYTES, LONG_READ_WAIT, SHORT_LIST_ROWS, WRITE_TIMEOUT};
use crate::lockout::Origin;
use crate::logins::LoggedIn;
use crate::net::accept::Client;
use crate::replication::GrantedStream;
use crate::service::access::{self, Caller};
use crate::service::operations::{Operation, to_json};
use crate::service::transfers::{self, TransferRequest};
use crate::service::{Service, by_hand, reports};

/// One connection's session.
pub struct BranchSession<'c> {
    pub(super) service: &'c Service,
    pub(super) address: IpAddr,
    /// The connection's number.
    connection: u64,
    pub(super) caller: Caller,
    /// The session of a customer who has logged in.
    login: Option<LoggedIn>,
    stream: Arc<TcpStream>,
    challenge: Option<Challenge>,
}

struct Challenge {
    client: Nonce,
    branch: Nonce,
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
        let caller = if service.is_open { Caller::Open } else { Caller::Anonymous };
        Self { service, address, connection, caller, login: None, stream, challenge: None }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// Whose its work is.
    #[must_use]
    pub fn owner(&self) -> Owner {
        match self.caller {
            Caller::Anonymous => Owner::Stranger(self.address),
            Caller::Customer(account) => Owner::Account(account.as_i64()),
            Caller::KeyHolder | Caller::Open => Owner::Connection(self.connection),
        }
    }

    /// For whom a password is hashed.
    pub(super) fn orderer(&self) -> Orderer<'_> {
        match self.caller {
            Caller::Customer(account) => {
                Orderer::of_account(account.as_i64(), Origin::Address(self.address), Some(&self.stream))
            }
            Caller::Anonymous | Caller::KeyHolder | Caller::Open => {
                Orderer { owner: self.owner(), address: None, connection: Some(&self.stream) }
            }
        }
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
        self.finish(&mut pipeline);
        pipeline.send(out)?;
        Ok((taken, after))
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
        if hashes(action, &frame) {
            // Whoever takes no answers has no password hashed.
            self.finish(pipeline);
            pipeline.send(out)?;
            out.flush()?;
        }
        match self.queue(action, &frame, pipeline) {
            Ok(true) => return pipeline.send_if_whole(out),
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
                out.flush()?;
                out.answer(&body_of(answered))
            }
        }
    }

    /// Reads what is asked for and looks whether this caller may, here and now.
    fn admit<'r>(&mut self, body: &'r [u8], is_last: bool) -> Result<(RequestFrame<'r>, Action)> {
        let frame = RequestFrame::parse(body)?;
        let action = frame.action()?;
        self.check_login(action)?;
        access::check(self.caller, action)?;
        // A copy that takes no orders may still know what was done under an id.
        let may_be_repeated = frame.request_id().is_some() && action.kind() == Kind::Write;
        if let Err(refusal) = self.service.replication.check(action)
            && !may_be_repeated
        {
            return Err(refusal);
        }
        if action.has(Property::Last) && !is_last {
            return Err(Error::Invalid(format!("nothing may follow {action} before it is answered")));
        }
        Ok((frame, action))
    }

    /// Sets aside what a long answer takes, until it is sent.
    fn hold_answer(&self, action: Action, frame: &RequestFrame<'_>) -> Result<Option<Allowed>> {
        #[derive(serde::Deserialize)]
        struct Limit {
            limit: Option<usize>,
        }
        let rows = || frame.params::<Limit>().ok().and_then(|params| params.limit).unwrap_or(LIST_ROWS_DEFAULT);
        if !(action.has(Property::Long) || action.has(Property::List) && rows() > SHORT_LIST_ROWS) {
            return Ok(None);
        }
        let held = self.service.allowances.answers.take(self.owner(), LONG_ANSWER_BYTES, WRITE_TIMEOUT);
        held.map(Some).ok_or(Error::Busy)
    }

    /// Queues a request with its like; `false` when it has none.
    fn queue(&mut self, action: Action, frame: &RequestFrame<'_>, pipeline: &mut Pipeline) -> Result<bool> {
        let refusal = self.service.replication.check(action).err();
        if action.has(Property::InBatch) {
            let mut operation = Operation::parse(self.caller, action, frame, frame.request_id())?;
            if !pipeline.transfers.is_empty() {
                self.finish(pipeline);
            }
            if let Some(refusal) = refusal {
                self.finish(pipeline);
                pipeline.slots.push_back(Slot::Answer(body_of(self.answer_before(&operation, &refusal))));
                return Ok(true);
            }
            operation.make_ready(&self.service.bank, Origin::Address(self.address), self.orderer())?;
            if operation.is_read() && pipeline.operations.is_empty() {
                let looked = self.service.bank.dbs().read(|reader| operation.look(reader));
                pipeline.slots.push_back(Slot::Answer(body_of(looked.map(|json| (json, None)))));
            } else {
                pipeline.operations.push(operation);
                pipeline.slots.push_back(Slot::Operation);
            }
            return Ok(true);
        }
        if matches!(action, Action::InterBranchTransfer | Action::SplitTransfer) {
            if !pipeline.operations.is_empty() {
                self.finish(pipeline);
            }
            let request = TransferRequest::parse(self.caller, action, frame)?;
            if let Some(refusal) = refusal {
                self.finish(pipeline);
                let answer = transfers::answer_before(self.service, &request, &refusal);
                pipeline.slots.push_back(Slot::Answer(body_of(answer.map(|json| (json, None)))));
                return Ok(true);
            }
            pipeline.transfers.push(request);
            pipeline.slots.push_back(Slot::Transfer);
            return Ok(true);
        }
        Ok(false)
    }

    /// A customer's session ends with the password that opened it; from then on the caller is a stranger.
    fn check_login(&mut self, action: Action) -> Result<()> {
        let Some(login) = &self.login else { return Ok(()) };
        if action.access() == Access::Anyone {
            return Ok(());
        }
        let checked = self.service.bank.check_login(login);
        if matches!(checked, Err(Error::SessionEnded(_))) {
            (self.caller, self.login) = (Caller::Anonymous, None);
        }
        checked
    }

    /// Goes on with a password that this session itself has set.
    pub(super) fn renew_login(&self, set: Option<PasswordVersion>) {
        if let (Some(login), Some(set)) = (&self.login, set) {
            self.service.bank.renew_login(login, set);
        }
    }

    /// Carries out what is queued and puts the answers into their places.
    fn finish(&self, pipeline: &mut Pipeline) {
        let operations = std::mem::take(&mut pipeline.operations);
        let transfers = std::mem::take(&mut pipeline.transfers);
        let mut operated = self.operate(operations).into_iter();
        // Whoever has a share of all transfers under way waits until one of them is answered.
        let held = self.service.allowances.transfers.take(self.owner(), transfers.len(), LONG_READ_WAIT);
        let started = match &held {
            Some(_) => transfers::begin(self.service, &transfers),
            None => transfers.iter().map(|_| Err(Error::Busy)).collect(),
        };
        let mut transferred = started.into_iter().zip(&transfers).map(|(started, request)| {
            started.and_then(|started| transfers::finish(self.service, request, started)).map(|json| (json, None))
        });
        for slot in &mut pipeline.slots {
            let result = match slot {
                Slot::Answer(_) => continue,
                Slot::Operation => operated.next().expect("there is one result for each operation"),
                Slot::Transfer => transferred.next().expect("there is one result for each transfer"),
            };
            *slot = Slot::Answer(body_of(result));
        }
    }

    /// Answers a request that shares nothing with its neighbours.
    fn answer_alone(&mut self, action: Action, frame: &RequestFrame<'_>, after: &mut After) -> Result<reports::Listed> {
        let service = self.service;
        let single = |json: String| Ok((json, None));
        match action {
            Action::Hello => self.hello(&frame.params()?).and_then(single),
            Action::Authenticate => self.authenticate(&frame.params()?).and_then(single),
            Action::Login => self.log_in(&frame.params()?).and_then(single),
            Action::CheckPassword => {
                let CheckPassword { account_no, password } = frame.params()?;
                // The bridge asks for many people, and its own address is not theirs.
                let version = service.bank.log_in(account_no.as_i64(), &password, Origin::OnBehalf)?.to_string();
                single(to_json(&PasswordVersionOf { account_no, password_version: Some(version) }))
            }
            Action::PasswordVersions => reports::password_versions(service, &frame.params()?).and_then(single),
            Action::Link => {
                let params: Link = frame.params()?;
                let links = service.engine.links();
                links.refuse_cut(&PeerAddr::from(&params.branch))?;
                service.replication.check_link_epochs(&params, links.directory())?;
                links.refuse_name_conflict(&params, self.address)?;
                let linked = links.introduction();
                if params.branch != *service.bank.name() {
                    *after = After::BecomeLink(params);
                }
                single(to_json(&linked))
            }
            Action::Replicate => {
                let params = frame.params().map_err(|error| Error::Invalid(format!(
                    "this is no replica of this program ({error}): what an older system sends as replicate is not taken; start the copy with --replica-of"
                )))?;
                let (granted, stream) = service.replication.grant_stream(&params, self.address)?;
                if let Some(stream) = stream {
                    *after = After::Replicate(stream);
                }
                single(to_json(&granted))
            }
            Action::Follow => single(to_json(&service.replication.told_of_primary(&frame.params()?, self.address)?)),
            Action::Promote => {
                let (promotion, opened) = service.replication.promote(&frame.params()?)?;
                *after = After::ChangeRole(opened);
                single(to_json(&promotion))
            }
            Action::Demote => {
                *after = After::ChangeRole(service.replication.demote(&frame.params()?)?);
                single("true".into())
            }
            Action::Resync => {
                service.replication.resync()?;
                single("true".into())
            }
            Action::Watch => {
                *after = After::Watch(frame.params()?);
                single("null".into())
            }
            Action::ListAccounts => {
                let params = frame.params()?;
                self.read_long(|| reports::list_accounts(service, &params))
            }
            Action::History | Action::GetLogs => {
                let params = frame.params()?;
                self.read_long(|| reports::history(service, self.caller, &params))
            }
            Action::Status => {
                frame.params::<NoParams>()?;
                self.read_long(|| reports::status(service)).and_then(single)
            }
            Action::Audit => self.read_long(|| reports::audit(service)).and_then(single),
            Action::Branches => single(to_json(&reports::branches(service))),
            Action::ListPending => reports::pending(service, &frame.params()?),
            Action::TxStatus => {
                let outcome = service.engine.tx_status(&frame.params::<OneTx>()?.txid)?;
                single(to_json(&TxStatus { outcome: outcome.as_str().into() }))
            }
            Action::Resolve => by_hand::resolve(service, self.caller, frame).and_then(single),
            Action::PrepareWithdraw => raw::prepare(service, Side::Withdraw, &frame.params()?).and_then(single),
            Action::PrepareDeposit => raw::prepare(service, Side::Deposit, &frame.params()?).and_then(single),
            Action::CommitWithdraw | Action::CommitDeposit => {
                raw::decide(service, &frame.params()?, Outcome::Committed).and_then(single)
            }
            Action::AbortWithdraw | Action::AbortDeposit => {
                raw::decide(service, &frame.params()?, Outcome::Aborted).and_then(single)
            }
            Action::Batch => self.batch(frame).and_then(single),
            // A branch without --teaching has no lesson, and looks at nothing else.
            Action::Stage => single(to_json(&service.engine.lesson()?.look(&frame.params()?)?)),
            Action::StepMode => single(to_json(&service.engine.lesson()?.step_mode(&frame.params()?)?)),
            Action::Step => single(to_json(&service.engine.lesson()?.step(&frame.params()?)?)),
            Action::PassTime => single(to_json(&service.engine.lesson()?.pass_time(&frame.params()?)?)),
            Action::Fault => single(to_json(&service.engine.lesson()?.fault(&frame.params()?)?)),
            Action::Crash => single(to_json(&service.engine.lesson()?.crash(&frame.params()?)?)),
            Action::CreateAccount
            | Action::CloseAccount
            | Action::Balance
            | Action::Deposit
            | Action::Withdraw
            | Action::LocalTransfer
            | Action::SetPassword
            | Action::ClearSuspense
            | Action::InterBranchTransfer
            | Action::SplitTransfer => unreachable!("these are queued with their like"),
        }
    }

    fn read_long<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        let asked = Instant::now();
        self.service.read_long(self.owner(), || {
            // Where many wait for their turn, nothing is read for who has gone meanwhile.
            if self.orderer().has_gone(asked) { Err(Error::Busy) } else { read() }
        })
    }

    fn hello(&mut self, params: &Hello) -> Result<String> {
        let client = from_hex(&params.nonce)
            .ok_or_else(|| Error::Invalid("a nonce is 32 bytes in 64 hexadecimal digits".into()))?;
        let mut branch = Nonce::default();
        getrandom::fill(&mut branch).map_err(|error| Error::Database(format!("no randomness: {error}")))?;
        let name = self.service.bank.name().as_str();
        let proof = self.service.key.prove(Prover::Branch, &client, &branch, name);
        self.challenge = Some(Challenge { client, branch });
        Ok(to_json(&Welcome { branch: name.to_string(), nonce: to_hex(&branch), proof }))
    }

    fn authenticate(&mut self, params: &Authenticate) -> Result<String> {
        // Each challenge serves once.
        let challenge = self.challenge.take().ok_or(Error::NotAllowed("say hello first"))?;
        let name = self.service.bank.name().as_str();
        if !self.service.key.is_proof(&params.proof, Prover::Client, &challenge.client, &challenge.branch, name) {
            return Err(Error::NotAllowed("this is not the key of this bank"));
        }
        (self.caller, self.login) = (Caller::KeyHolder, None);
        Ok(r#"{"role":"operator"}"#.into())
    }

    fn log_in(&mut self, params: &Login) -> Result<String> {
        let origin = Origin::Address(self.address);
        let number = params.account_no.as_i64();
        let login = self.service.bank.open_login(number, &params.password, origin, Arc::clone(&self.stream), true)?;
        (self.caller, self.login) = (Caller::Customer(params.account_no), Some(login));
        Ok(format!(r#"{{"role":"customer","account_no":"{}"}}"#, params.account_no))
    }
}

pub(super) fn body_of(result: Result<reports::Listed>) -> Vec<u8> {
    match result {
        Ok((json, next)) => {
            let mut body = Vec::with_capacity(json.len() + 32);
            push_ok(&mut body, &json, next.as_deref());
            body
        }
        Err(error) => error_body(&error),
    }
}

/// The body of an error's answer.
#[must_use]
pub fn error_body(error: &Error) -> Vec<u8> {
    if error.is_trouble() {
        log::error!("{error}");
    }
    let mut text = error.to_string();
    if text.len() > ERROR_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES));
        text.push('…');
    }
    // It may quote what was sent, which may be anything.
    text = text.replace(char::is_control, " ");
    let mut body = Vec::new();
    push_refused_epoch(&mut body, error.code(), &text, error.known_epoch());
    body
}

/// Whether a password is hashed for this request, which takes tens of milliseconds.
fn hashes(action: Action, frame: &RequestFrame<'_>) -> bool {
    matches!(action, Action::Login | Action::CheckPassword | Action::SetPassword)
        || (action == Action::CreateAccount && frame.params_text().contains("password"))
}

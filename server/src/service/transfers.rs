//! Transfers between branches, as they are asked for: one receiver or many, wherever they are.
//!
//! A request's id is bound to its transfer when that begins. So a repeat finds the transfer itself, under way or ended,
//! and is told how far it is now.

use std::net::IpAddr;

use protocol::actions::Action;
use protocol::answer::{Delivery, InterBranchTransferred, SplitPaid, SplitTransferred};
use protocol::request::{Amount, Destination};
use protocol::{AccountNum, Money, MoneyError, TxId};
use serde::Serialize;

use super::Service;
use super::access::Caller;
use crate::dbs_exec::Tx;
use crate::error::{Error, Result};
use crate::idempotency::{KeptAnswer, Meaning, RequestKey, Stored};
use crate::transfer::{Begun, Order, Receiver, WithWrite, records};

/// Said to whoever names a receiver's branch in no way, or in two.
pub const NAME_THE_BRANCH: &str = "name the branch by dest_branch, or by dest_host and dest_port";

/// A transfer as a request asks for it. Where its receivers are is found out when it begins: a repeat needs no branch
/// but this one.
#[derive(Clone, Debug)]
pub struct TransferRequest {
    payer: AccountNum,
    legs: Vec<RequestedLeg>,
    is_split: bool,
    /// Whether a receiver's branch may be looked for at an address that is not known here.
    may_dial: bool,
    key: Option<RequestKey>,
}

/// One receiver.
#[derive(Clone, Debug)]
pub struct RequestedLeg {
    destination: Destination,
    account: AccountNum,
    amount: Money,
}

/// A transfer that was carried out.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum TransferResult {
    /// To one receiver.
    Single(InterBranchTransferred),
    /// To several.
    Split(SplitTransferred),
}

impl TransferResult {
    /// Its id.
    #[must_use]
    pub const fn txid(&self) -> &TxId {
        match self {
            Self::Single(single) => &single.txid,
            Self::Split(split) => &split.txid,
        }
    }

    /// Whether every branch has acknowledged it.
    #[must_use]
    pub const fn delivery(&self) -> Delivery {
        match self {
            Self::Single(single) => single.delivery,
            Self::Split(split) => split.delivery,
        }
    }

    /// The same with what is true of its delivery now: what is kept of it says "pending" for ever.
    fn delivered(mut self, now: Delivery) -> Self {
        match &mut self {
            Self::Single(single) => single.delivery = now,
            Self::Split(split) => split.delivery = now,
        }
        self
    }
}

/// A transfer on its way to its answer.
pub enum Started {
    /// It has begun.
    Begun(Begun, TransferResult),
    /// An earlier request with the same id has begun it.
    Earlier(TxId, TransferResult),
}

impl TransferRequest {
    /// A transfer that may not be repeated. `may_dial` is whether a receiver's branch may be looked for at an address
    /// that is not known here.
    #[must_use]
    pub const fn new(payer: AccountNum, legs: Vec<RequestedLeg>, is_split: bool, may_dial: bool) -> Self {
        Self { payer, legs, is_split, may_dial, key: None }
    }

    /// The same under an id of this caller's; `params_text` is what came.
    #[must_use]
    pub fn with_id(mut self, caller: Caller, id: &str, action: Action, params_text: &str) -> Self {
        let legs: Vec<Meaning> = self.legs.iter().map(RequestedLeg::meaning).collect();
        let meaning = Meaning::of(&(self.payer, legs));
        self.key = Some(RequestKey::new(caller.id_owner(), id, action, &meaning, params_text));
        self
    }

    /// How many it pays.
    #[must_use]
    pub fn receivers(&self) -> usize {
        self.legs.len()
    }

    /// Finds the receivers' branches. May make a link to one that is named by its address.
    fn find_receivers(&self, service: &Service) -> Result<Vec<Receiver>> {
        let receivers = self.legs.iter().map(|leg| {
            let place = service.engine.place(&leg.destination, self.may_dial)?;
            Ok(Receiver { place, account: leg.account, amount: leg.amount })
        });
        receivers.collect()
    }

    /// What is stored under the request's id.
    fn stored(&self, service: &Service) -> Result<Option<(TxId, TransferResult)>> {
        let Some(key) = &self.key else { return Ok(None) };
        let stored = service.bank.dbs().read(|reader| key.find(reader))?;
        // Nothing, since `find` refuses what was kept under this id for another request.
        let Some(Stored { answer, txid: Some(txid), .. }) = stored else { return Ok(None) };
        let result =
            if self.is_split { TransferResult::Split(answer.read()?) } else { TransferResult::Single(answer.read()?) };
        Ok(Some((txid, result)))
    }

    /// What it will be answered with, once it is committed.
    fn result(&self, service: &Service, txid: &TxId) -> Result<TransferResult> {
        let from = format!("{}:{}", service.bank.name(), self.payer);
        let (status, delivery) = ("transfer_complete".to_string(), Delivery::Pending);
        let mut amount = Money::ZERO;
        for leg in &self.legs {
            // Before anything is begun: a sum that no account could hold would be refused by the ledger, after a write.
            amount = amount.checked_add(leg.amount).ok_or(Error::Amount(MoneyError::TooLarge))?;
        }
        let mut paid = self.legs.iter().map(|leg| SplitPaid { to: leg.name(service), amount: leg.amount });
        let txid = txid.clone();
        if self.is_split {
            let to = paid.collect();
            return Ok(TransferResult::Split(SplitTransferred { status, txid, amount, from, to, delivery }));
        }
        let to = paid.next().map_or_else(String::new, |paid| paid.to);
        Ok(TransferResult::Single(InterBranchTransferred { status, txid, amount, from, to, delivery }))
    }
}

impl RequestedLeg {
    /// A receiver: at a branch that is named, at an address, or with neither here.
    ///
    /// # Errors
    /// [`Error::Invalid`] for half a place or two of them, [`Error::Amount`].
    pub fn new(destination: Destination, account: AccountNum, amount: Amount) -> Result<Self> {
        let is_one_place = match (&destination.dest_branch, &destination.dest_host, destination.dest_port) {
            (Some(_), None, None) | (None, Some(_), Some(_)) | (None, None, None) => true,
            (_, _, _) => false,
        };
        if !is_one_place {
            return Err(Error::Invalid(NAME_THE_BRANCH.into()));
        }
        Ok(Self { destination, account, amount: amount.to_move()? })
    }

    /// In one form: an address is the same in whatever case its host is written, and with brackets or without. A
    /// branch's name and its address are two: what stands at an address may change.
    fn meaning(&self) -> Meaning {
        let Destination { dest_branch, dest_host, dest_port } = &self.destination;
        let address = dest_host.as_ref().map(|host| {
            let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
            let ip = bare.parse::<IpAddr>().map(|ip| ip.to_string());
            ip.unwrap_or_else(|_| bare.to_ascii_lowercase())
        });
        Meaning::of(&(dest_branch, address, dest_port, self.account, self.amount))
    }

    /// Its text in the answer, such as `127.0.0.1:1002`.
    fn name(&self, service: &Service) -> String {
        let branch = match (&self.destination.dest_branch, &self.destination.dest_host) {
            (Some(name), _) => name.to_string(),
            (None, Some(host)) => host.clone(),
            (None, None) => service.bank.name().to_string(),
        };
        format!("{branch}:{}", self.account)
    }
}

/// Begins transfers, all in one commit; each has its own result. Those that an earlier request has begun under their
/// ids are found before anything else is asked for: where a receiver is, what the payer has, whether writes are taken.
pub fn begin(service: &Service, requests: &[TransferRequest]) -> Vec<Result<Started>> {
    let mut orders = Vec::new();
    let prepared: Vec<Result<Prepared>> = requests
        .iter()
        .map(|request| {
            if let Some((txid, result)) = request.stored(service)? {
                return Ok(Prepared::Earlier(txid, result));
            }
            let (order, result) = make_order(service, request)?;
            orders.push(order);
            Ok(Prepared::Order(result))
        })
        .collect();
    let mut begun = service.engine.begin(orders).into_iter();
    let started = prepared.into_iter().zip(requests).map(|(prepared, request)| {
        let refusal = match prepared {
            Ok(Prepared::Earlier(txid, result)) => return Ok(Started::Earlier(txid, result)),
            Ok(Prepared::Order(result)) => match begun.next().expect("there is one result for each order") {
                Ok(begun) => return Ok(Started::Begun(begun, result)),
                Err(refusal) => refusal,
            },
            Err(refusal) => refusal,
        };
        // It may have been begun since, by the same request on another connection.
        match request.stored(service)? {
            Some((txid, result)) => Ok(Started::Earlier(txid, result)),
            None => Err(refusal),
        }
    });
    started.collect()
}

enum Prepared {
    Order(TransferResult),
    Earlier(TxId, TransferResult),
}

fn make_order(service: &Service, request: &TransferRequest) -> Result<(Order, TransferResult)> {
    // Here a link may be made, which takes a moment; so before anything is reserved under an id.
    let receivers = request.find_receivers(service)?;
    let txid = service.engine.new_txid()?;
    let result = request.result(service, &txid)?;
    let with_begin = request.key.clone().map(|key| {
        let stored = Stored { txid: Some(txid.clone()), ..Stored::answer(KeptAnswer::of(&result)) };
        Box::new(Binding { key, stored }) as Box<dyn WithWrite>
    });
    Ok((Order { txid, payer: request.payer, receivers, with_begin }, result))
}

/// Binds a request's id to its transfer, in the transaction that begins it. Of two at the same moment the second finds
/// the first one's, before it is held against what that has left.
struct Binding {
    key: RequestKey,
    stored: Stored,
}

impl WithWrite for Binding {
    fn check(&mut self, tx: &Tx<'_>) -> Result<()> {
        if self.key.find(tx)?.is_some() { Err(Error::RequestRepeated) } else { Ok(()) }
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        self.key.store(tx, &self.stored)
    }
}

/// Waits for a transfer and returns its result.
///
/// # Errors
/// As [`crate::transfer::Engine::finish`].
pub fn finish(service: &Service, request: &TransferRequest, started: Started) -> Result<TransferResult> {
    let (delivery, result) = match started {
        // Under way or ended: how far it is now is asked of the transfer, not of what was stored when it began.
        Started::Earlier(txid, result) => (service.engine.finish_again(&txid)?, result),
        Started::Begun(begun, result) => match service.engine.finish(&begun) {
            // The same request came over another connection and was first: its transfer is this one's.
            Err(Error::Aborted { code, .. }) if code == Error::REQUEST_REPEATED => match request.stored(service)? {
                Some((txid, result)) => (service.engine.finish_again(&txid)?, result),
                None => return Err(Error::RequestRepeated),
            },
            finished => (finished?, result),
        },
    };
    Ok(result.delivered(delivery))
}

/// Carries one transfer out.
///
/// # Errors
/// As [`finish`].
pub fn transfer(service: &Service, request: &TransferRequest) -> Result<TransferResult> {
    let started = begin(service, std::slice::from_ref(request)).pop().expect("there is one result for each request");
    finish(service, request, started?)
}

/// The result of a transfer that was committed under the request's id, at a copy that begins none; else `refusal`.
/// What is under way is the primary's to say.
///
/// # Errors
/// `refusal`, [`Error::RequestIdReused`], or failure of the database.
pub fn result_before(service: &Service, request: &TransferRequest, refusal: &Error) -> Result<TransferResult> {
    if !service.replication.knows_what_was_done() {
        return Err(refusal.clone());
    }
    match request.stored(service)? {
        // Its leg is in the books that came from the primary, so it was committed. Who has acknowledged it only the
        // primary knows.
        Some((txid, result)) if service.bank.dbs().read(|reader| records::is_in_the_books(reader, &txid))? => {
            Ok(result.delivered(Delivery::Pending))
        }
        Some(_) | None => Err(refusal.clone()),
    }
}

//! Actions between branches: `inter_branch_transfer`, `split_transfer`, and the raw ones.

use std::net::IpAddr;

use protocol::answer::{InterBranchTransferred, SplitPaid, SplitTransferred};
use protocol::request::{Action, Destination, InterBranchTransfer, RequestFrame, SPLIT_LEGS_MAX, SplitTransfer};
use protocol::{AccountNum, Money, TxId};
use serde_json::{Value, from_str, json};

use super::Service;
use super::access::{Caller, check_account};
use super::operations::to_json;
use crate::dbs_exec::Tx;
use crate::error::{Error, Result};
use crate::idempotency::{RequestKey, Stored};
use crate::transfer::{Begun, Delivery, Order, Receiver, WithWrite, records};

const NAME_THE_BRANCH: &str = "name the branch by dest_branch, or by dest_host and dest_port";

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
struct RequestedLeg {
    destination: Destination,
    account: AccountNum,
    amount: Money,
}

/// A transfer on its way to its answer.
pub enum Started {
    /// It has begun.
    Begun(Begun, String),
    /// An earlier request with the same id has begun it.
    Earlier(TxId, String),
}

impl TransferRequest {
    /// Reads a transfer from its request.
    ///
    /// # Errors
    /// What is wrong with the parameters, or that the caller may not do this.
    pub fn parse(caller: Caller, action: Action, frame: &RequestFrame<'_>) -> Result<Self> {
        let (payer, legs, is_split) = if action == Action::SplitTransfer {
            let params: SplitTransfer = frame.params()?;
            if params.legs.is_empty() {
                return Err(Error::Invalid(format!("a split transfer has 1 to {SPLIT_LEGS_MAX} legs")));
            }
            let legs = params.legs.iter().map(|leg| RequestedLeg::new(leg.destination(), leg.account_no, leg.amount));
            (params.src_account_no, legs.collect::<Result<Vec<_>>>()?, true)
        } else {
            let params: InterBranchTransfer = frame.params()?;
            let destination = params.destination();
            if destination.dest_branch.is_none() && destination.dest_host.is_none() {
                return Err(Error::Invalid(NAME_THE_BRANCH.into()));
            }
            let leg = RequestedLeg::new(destination, params.dest_account_no, params.amount)?;
            (params.src_account_no, vec![leg], false)
        };
        check_account(caller, payer)?;
        let key = frame.request_id().map(|id| {
            let legs: Vec<Value> = legs.iter().map(RequestedLeg::meaning).collect();
            let meaning = json!([payer, legs]);
            RequestKey::new(caller.id_owner(), id, action, &meaning, frame.params_text())
        });
        let may_dial = match caller {
            Caller::KeyHolder | Caller::Open => true,
            Caller::Customer(_) | Caller::Anonymous => false,
        };
        Ok(Self { payer, legs, is_split, may_dial, key })
    }

    /// The transfer of one amount to one receiver, as the menu asks for it.
    ///
    /// # Errors
    /// What is wrong with the destination or the amount.
    pub fn single(
        may_dial: bool,
        payer: AccountNum,
        destination: Destination,
        receiver: AccountNum,
        amount: Money,
    ) -> Result<Self> {
        let legs = vec![RequestedLeg::new(destination, receiver, amount.into())?];
        Ok(Self { payer, legs, is_split: false, may_dial, key: None })
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
    fn stored(&self, service: &Service) -> Result<Option<(TxId, String)>> {
        let Some(key) = &self.key else { return Ok(None) };
        let stored = service.bank.dbs().read(|reader| key.find(reader))?;
        Ok(stored.and_then(|stored| Some((stored.txid?, stored.answer))))
    }

    fn answer(&self, service: &Service, txid: &TxId) -> Result<String> {
        let from = format!("{}:{}", service.bank.name(), self.payer);
        let (status, delivery) = ("transfer_complete".to_string(), "pending".to_string());
        let mut total = Money::ZERO;
        for leg in &self.legs {
            total = total.checked_add(leg.amount).ok_or(Error::Amount(protocol::MoneyError::TooLarge))?;
        }
        let mut paid = self.legs.iter().map(|leg| SplitPaid { to: leg.name(service), amount: leg.amount });
        let txid = txid.clone();
        if self.is_split {
            let to = paid.collect();
            return Ok(to_json(&SplitTransferred { status, txid, amount: total, from, to, delivery }));
        }
        let to = paid.next().map_or_else(String::new, |paid| paid.to);
        Ok(to_json(&InterBranchTransferred { status, txid, amount: total, from, to, delivery }))
    }
}

impl RequestedLeg {
    fn new(destination: Destination, account: AccountNum, amount: protocol::request::Amount) -> Result<Self> {
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
    fn meaning(&self) -> Value {
        let Destination { dest_branch, dest_host, dest_port } = &self.destination;
        let address = dest_host.as_ref().map(|host| {
            let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
            let ip = bare.parse::<IpAddr>().map(|ip| ip.to_string());
            ip.unwrap_or_else(|_| bare.to_ascii_lowercase())
        });
        json!([dest_branch, address, dest_port, self.account, self.amount])
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
pub fn begin(service: &Service, request: &[TransferRequest]) -> Vec<Result<Started>> {
    let mut orders = Vec::new();
    let prepared: Vec<Result<Prepared>> = request
        .iter()
        .map(|request| {
            if let Some((txid, answer)) = request.stored(service)? {
                return Ok(Prepared::Earlier(txid, answer));
            }
            let (order, answer) = make_order(service, request)?;
            orders.push(order);
            Ok(Prepared::Order(answer))
        })
        .collect();
    let mut begun = service.engine.begin(orders).into_iter();
    let started = prepared.into_iter().zip(request).map(|(prepared, request)| {
        let refusal = match prepared {
            Ok(Prepared::Earlier(txid, answer)) => return Ok(Started::Earlier(txid, answer)),
            Ok(Prepared::Order(answer)) => match begun.next().expect("there is one result for each order") {
                Ok(begun) => return Ok(Started::Begun(begun, answer)),
                Err(refusal) => refusal,
            },
            Err(refusal) => refusal,
        };
        // It may have been begun since, by the same request on another connection.
        match request.stored(service)? {
            Some((txid, answer)) => Ok(Started::Earlier(txid, answer)),
            None => Err(refusal),
        }
    });
    started.collect()
}

enum Prepared {
    Order(String),
    Earlier(TxId, String),
}

fn make_order(service: &Service, request: &TransferRequest) -> Result<(Order, String)> {
    let receivers = request.find_receivers(service)?;
    let txid = service.engine.new_txid()?;
    let answer = request.answer(service, &txid)?;
    let with_begin = request.key.clone().map(|key| {
        let stored = Stored { txid: Some(txid.clone()), ..Stored::answer(answer.clone()) };
        Box::new(Binding { key, stored }) as Box<dyn WithWrite>
    });
    Ok((Order { txid, payer: request.payer, receivers, with_begin }, answer))
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

/// Waits for a transfer and gives its answer.
///
/// # Errors
/// As [`crate::transfer::Engine::finish`].
pub fn finish(service: &Service, request: &TransferRequest, started: Started) -> Result<String> {
    let (delivery, answer) = match started {
        Started::Earlier(txid, answer) => (service.engine.finish_again(&txid)?, answer),
        Started::Begun(begun, answer) => match service.engine.finish(&begun) {
            Err(Error::Aborted { code, .. }) if code == Error::REQUEST_REPEATED => match request.stored(service)? {
                Some((txid, answer)) => (service.engine.finish_again(&txid)?, answer),
                None => return Err(Error::RequestRepeated),
            },
            finished => (finished?, answer),
        },
    };
    Ok(with_delivery(&answer, delivery))
}

/// The answer of a transfer that was committed under the request's id, at a copy that begins none; else `refusal`.
/// What is under way is the primary's to say.
///
/// # Errors
/// `refusal`, [`Error::RequestIdReused`], or trouble of the database.
pub fn answer_before(service: &Service, request: &TransferRequest, refusal: &Error) -> Result<String> {
    if !service.replication.knows_what_was_done() {
        return Err(refusal.clone());
    }
    match request.stored(service)? {
        Some((txid, answer)) if service.bank.dbs().read(|reader| records::is_in_the_books(reader, &txid))? => {
            Ok(with_delivery(&answer, Delivery::Pending))
        }
        Some(_) | None => Err(refusal.clone()),
    }
}

/// The stored answer says "pending"; what is true now takes its place.
fn with_delivery(answer: &str, delivery: Delivery) -> String {
    match from_str::<Value>(answer) {
        Ok(Value::Object(mut fields)) => {
            fields.insert("delivery".into(), Value::String(delivery.as_str().into()));
            Value::Object(fields).to_string()
        }
        Ok(_) | Err(_) => answer.to_string(),
    }
}

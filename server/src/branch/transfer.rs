//! Actions between branches: `inter_branch_transfer`, `split_transfer`, and the raw ones.

use protocol::answer::{InterBranchTransferred, SplitPaid, SplitTransferred};
use protocol::request::{Action, Destination, InterBranchTransfer, RequestFrame, SPLIT_LEGS_MAX, SplitTransfer};
use protocol::{AccountNum, Money, TxId};
use serde_json::{Value, from_str};

use super::Context;
use super::access::{Caller, check_account};
use super::operation::to_json;
use crate::clock::unix_ms_now;
use crate::dbs_exec::Tx;
use crate::error::{Error, Result};
use crate::idempotency::RequestKey;
use crate::transfer::{Begun, Delivery, Order, Receiver, WithWrite};

/// A transfer as a request asks for it.
#[derive(Clone, Debug)]
pub struct Wanted {
    payer: AccountNum,
    receivers: Vec<Receiver>,
    /// The text of each receiver in the answer, such as `127.0.0.1:1002`.
    names: Vec<String>,
    is_split: bool,
    key: Option<RequestKey>,
}

/// A transfer on its way to its answer.
pub enum Started {
    /// It has begun.
    Begun(Begun, String),
    /// An earlier request with the same id has begun it.
    Earlier(TxId, String),
}

impl Wanted {
    /// Reads a transfer from its request. May make a link to a branch that is named by its address.
    ///
    /// # Errors
    /// What is wrong with the parameters, that the caller may not do this, or that a branch is not known.
    pub fn parse(context: &Context, caller: Caller, action: Action, frame: &RequestFrame<'_>) -> Result<Self> {
        let (payer, legs, is_split) = if action == Action::SplitTransfer {
            let params: SplitTransfer = frame.params()?;
            if params.legs.is_empty() {
                return Err(Error::Invalid(format!("a split transfer has 1 to {SPLIT_LEGS_MAX} legs")));
            }
            let legs = params.legs.iter().map(|leg| (leg.destination(), leg.account_no, leg.amount)).collect();
            (params.src_account_no, legs, true)
        } else {
            let params: InterBranchTransfer = frame.params()?;
            let destination = params.destination();
            if destination.dest_branch.is_none() && destination.dest_host.is_none() {
                return Err(Error::Invalid("name the branch by dest_branch, or by dest_host and dest_port".into()));
            }
            (params.src_account_no, vec![(destination, params.dest_account_no, params.amount)], false)
        };
        check_account(caller, payer)?;
        let key = frame.request_id().map(|id| RequestKey::new(caller.id_owner(), id, action, frame.params_text()));
        Self::find_places(context, payer, &legs, is_split, key)
    }

    /// The transfer of one amount to one receiver, as the menu asks for it.
    ///
    /// # Errors
    /// That the branch is not known.
    pub fn single(
        context: &Context,
        payer: AccountNum,
        destination: Destination,
        receiver: AccountNum,
        amount: Money,
    ) -> Result<Self> {
        Self::find_places(context, payer, &[(destination, receiver, amount.into())], false, None)
    }

    fn find_places(
        context: &Context,
        payer: AccountNum,
        legs: &[(Destination, AccountNum, protocol::request::Amount)],
        is_split: bool,
        key: Option<RequestKey>,
    ) -> Result<Self> {
        let mut receivers = Vec::new();
        let mut names = Vec::new();
        for (destination, account, amount) in legs {
            // The amount first: it costs nothing to look at.
            let amount = amount.to_move()?;
            let place = context.engine.place(destination)?;
            let branch = match (&destination.dest_branch, &destination.dest_host) {
                (Some(name), _) => name.to_string(),
                (None, Some(host)) => host.clone(),
                (None, None) => context.bank.name().to_string(),
            };
            names.push(format!("{branch}:{account}"));
            receivers.push(Receiver { place, account: *account, amount });
        }
        Ok(Self { payer, receivers, names, is_split, key })
    }

    fn answer(&self, context: &Context, txid: &TxId) -> Result<String> {
        let from = format!("{}:{}", context.bank.name(), self.payer);
        let (status, delivery) = ("transfer_complete".to_string(), "pending".to_string());
        let mut total = Money::ZERO;
        for receiver in &self.receivers {
            total = total.checked_add(receiver.amount).ok_or(Error::Amount(protocol::MoneyError::TooLarge))?;
        }
        if !self.is_split {
            let to = self.names[0].clone();
            return Ok(to_json(&InterBranchTransferred {
                status,
                txid: txid.clone(),
                amount: total,
                from,
                to,
                delivery,
            }));
        }
        let paid = self.names.iter().zip(&self.receivers);
        let to = paid.map(|(to, receiver)| SplitPaid { to: to.clone(), amount: receiver.amount }).collect();
        Ok(to_json(&SplitTransferred { status, txid: txid.clone(), amount: total, from, to, delivery }))
    }
}

/// Begins transfers, all in one commit; each has its own result.
pub fn begin(context: &Context, wanted: &[Wanted]) -> Vec<Result<Started>> {
    let mut orders = Vec::new();
    let prepared: Vec<Result<Prepared>> = wanted
        .iter()
        .map(|wanted| {
            let prepared = prepare(context, wanted)?;
            Ok(match prepared {
                (Prepared::Order(answer), Some(order)) => {
                    orders.push(order);
                    Prepared::Order(answer)
                }
                (other, _) => other,
            })
        })
        .collect();
    let mut begun = context.engine.begin(orders).into_iter();
    let started = prepared.into_iter().map(|prepared| match prepared? {
        Prepared::Earlier(txid, answer) => Ok(Started::Earlier(txid, answer)),
        Prepared::Order(answer) => {
            let begun = begun.next().expect("there is one result for each order");
            begun.map(|begun| Started::Begun(begun, answer))
        }
    });
    started.collect()
}

enum Prepared {
    Order(String),
    Earlier(TxId, String),
}

fn prepare(context: &Context, wanted: &Wanted) -> Result<(Prepared, Option<Order>)> {
    if let Some(key) = &wanted.key {
        let stored = context.bank.dbs().read(|reader| key.find(reader))?;
        if let Some((answer, txid)) = stored.and_then(|stored| Some((stored.answer, stored.txid?))) {
            return Ok((Prepared::Earlier(txid, answer), None));
        }
    }
    let txid = context.engine.new_txid()?;
    let answer = wanted.answer(context, &txid)?;
    let with_begin = wanted.key.clone().map(|key| bind(key, answer.clone(), txid.clone()));
    let order = Order { txid, payer: wanted.payer, receivers: wanted.receivers.clone(), with_begin };
    Ok((Prepared::Order(answer), Some(order)))
}

/// Binds the request's id to the transfer, in the transaction that begins it.
fn bind(key: RequestKey, answer: String, txid: TxId) -> WithWrite {
    let now_unix_ms = unix_ms_now();
    Box::new(move |tx: &mut Tx<'_>| match key.find(tx)? {
        Some(_) => Err(Error::RequestRepeated),
        None => key.store(tx, &answer, Some(&txid), now_unix_ms),
    })
}

/// Waits for a transfer and gives its answer.
///
/// # Errors
/// As [`crate::transfer::Engine::finish`].
pub fn finish(context: &Context, wanted: &Wanted, started: Started) -> Result<String> {
    let (delivery, answer) = match started {
        Started::Earlier(txid, answer) => (context.engine.finish_again(&txid)?, answer),
        Started::Begun(begun, answer) => match context.engine.finish(&begun) {
            Err(Error::Aborted { code, .. }) if code == Error::REQUEST_REPEATED => {
                return match prepare(context, wanted)?.0 {
                    Prepared::Earlier(txid, answer) => {
                        context.engine.finish_again(&txid).map(|delivery| with_delivery(&answer, delivery))
                    }
                    Prepared::Order(_) => Err(Error::RequestRepeated),
                };
            }
            finished => (finished?, answer),
        },
    };
    Ok(with_delivery(&answer, delivery))
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

//! What one caller may have under way, in number and in bytes, and what all of them may together.
//!
//! Who asks for a hundred long answers and reads none must not take the memory of the bridge, nor the places at a
//! branch that others wait for. So each caller has places for requests that are worked on, for transfers that wait, for
//! streams, and bytes of answers that are made or not read yet; there are bytes for all callers together. What is not
//! free is waited for, at most [`QUOTA_TIME`], and then the caller is told to try again.
//!
//! A caller is a person, wherever they ask from; who has not said who they are is an address, or a network of IPv6.
//!
//! Invariant: as long as anything of a caller's is held, further requests find the same [`Quota`], because what is held
//! holds it too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use protocol::network::network_of;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::Error;
use crate::limits::{
    ANSWER_KIB, ANSWER_KIB_ALL, ANSWER_KIB_OPERATORS, ANSWER_KIB_PER_CUSTOMER, ANSWER_KIB_PER_OPERATOR,
    ANSWER_KIB_PER_STRANGER, EVENT_STREAMS, QUOTA_TIME, REQUESTS_PER_CUSTOMER, REQUESTS_PER_OPERATOR,
    REQUESTS_PER_STRANGER, STREAMS_PER_CUSTOMER, TRANSFERS_PER_BRANCH, TRANSFERS_PER_CUSTOMER,
};
use crate::who::Who;

/// Who has a quota.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Person(Who),
    Address(IpAddr),
}

/// The quotas of all callers who have anything under way.
pub struct Quotas {
    by_caller: Mutex<HashMap<Key, Weak<Quota>>>,
    answers_kib: Arc<Semaphore>,
    /// Operators have bytes of their own, so that no crowd of customers keeps a long answer from them.
    operators_kib: Arc<Semaphore>,
}

/// One caller's.
#[derive(Debug)]
pub struct Quota {
    requests: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    answers_kib: Arc<Semaphore>,
    all_answers_kib: Arc<Semaphore>,
}

/// A place that is held until it is dropped.
#[derive(Debug)]
pub struct Place {
    _place: OwnedSemaphorePermit,
    _quota: Arc<Quota>,
}

/// Bytes of an answer, held until they are sent.
#[derive(Debug)]
pub struct AnswerBytes {
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
    _quota: Arc<Quota>,
}

impl Quotas {
    /// Nobody has anything under way.
    #[must_use]
    pub fn new() -> Self {
        Self {
            by_caller: Mutex::default(),
            answers_kib: Arc::new(Semaphore::new(ANSWER_KIB_ALL)),
            operators_kib: Arc::new(Semaphore::new(ANSWER_KIB_OPERATORS)),
        }
    }

    /// The quota of a caller.
    pub fn of(&self, who: &Who, address: IpAddr) -> Arc<Quota> {
        let key = match who {
            Who::Administrator { .. } | Who::Customer { .. } => Key::Person(who.clone()),
            Who::Nobody | Who::Open => Key::Address(network_of(address)),
        };
        let mut by_caller = self.by_caller.lock();
        if let Some(quota) = by_caller.get(&key).and_then(Weak::upgrade) {
            return quota;
        }
        if by_caller.len() == by_caller.capacity() {
            by_caller.retain(|_, quota| quota.strong_count() > 0);
        }
        let all_answers_kib = match who {
            Who::Open | Who::Administrator { .. } => &self.operators_kib,
            Who::Customer { .. } | Who::Nobody => &self.answers_kib,
        };
        let quota = Arc::new(Quota::new(who, Arc::clone(all_answers_kib)));
        by_caller.insert(key, Arc::downgrade(&quota));
        quota
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self::new()
    }
}

impl Quota {
    fn new(who: &Who, all_answers_kib: Arc<Semaphore>) -> Self {
        let (requests, transfers, streams, answers_kib) = match who {
            Who::Customer { .. } => {
                (REQUESTS_PER_CUSTOMER, TRANSFERS_PER_CUSTOMER, STREAMS_PER_CUSTOMER, ANSWER_KIB_PER_CUSTOMER)
            }
            Who::Open | Who::Administrator { .. } => {
                (REQUESTS_PER_OPERATOR, TRANSFERS_PER_BRANCH, EVENT_STREAMS, ANSWER_KIB_PER_OPERATOR)
            }
            Who::Nobody => (REQUESTS_PER_STRANGER, 0, 0, ANSWER_KIB_PER_STRANGER),
        };
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            requests: places(requests),
            transfers: places(transfers),
            streams: places(streams),
            answers_kib: places(answers_kib),
            all_answers_kib,
        }
    }

    /// A place for a request that is worked on.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub async fn request(self: &Arc<Self>) -> Result<Place, Error> {
        self.place(&self.requests, "too many of your requests are under way; try again in a moment").await
    }

    /// A place for a transfer that may wait for another branch.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub async fn transfer(self: &Arc<Self>) -> Result<Place, Error> {
        self.place(&self.transfers, "too many of your transfers are under way; wait for one of them").await
    }

    /// A place for a stream of events, if there is one.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub fn stream(self: &Arc<Self>) -> Result<Place, Error> {
        let place = Arc::clone(&self.streams).try_acquire_owned();
        let place = place.map_err(|_| Error::Busy("too many of your streams of events are open; close one"))?;
        Ok(Place { _place: place, _quota: Arc::clone(self) })
    }

    /// Bytes for an answer of at most this length, in KiB. More than [`ANSWER_KIB`] is not to be had.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub async fn answer(self: &Arc<Self>, kib: usize) -> Result<AnswerBytes, Error> {
        let kib = u32::try_from(kib.clamp(1, ANSWER_KIB)).unwrap_or(u32::MAX);
        let (own, all) = (Arc::clone(&self.answers_kib), Arc::clone(&self.all_answers_kib));
        // The own ones first, so that whoever has used them up keeps nobody else waiting.
        let both = async { (own.acquire_many_owned(kib).await, all.acquire_many_owned(kib).await) };
        match timeout(QUOTA_TIME, both).await {
            Ok((Ok(own), Ok(all))) => Ok(AnswerBytes { own, all, _quota: Arc::clone(self) }),
            Ok(_) | Err(_) => Err(Error::Busy("too many long answers are not read yet; try again in a moment")),
        }
    }

    async fn place(self: &Arc<Self>, places: &Arc<Semaphore>, busy: &'static str) -> Result<Place, Error> {
        match timeout(QUOTA_TIME, Arc::clone(places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(Place { _place: place, _quota: Arc::clone(self) }),
            Ok(Err(_)) | Err(_) => Err(Error::Busy(busy)),
        }
    }
}

impl AnswerBytes {
    /// How long the answer may be, in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.own.num_permits() << 10
    }

    /// The answer is no longer than this: what is left is given back.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.own.num_permits().saturating_sub(bytes.div_ceil(1 << 10).max(1));
        drop(self.own.split(surplus));
        drop(self.all.split(surplus));
    }

    /// The body, which holds these bytes until it is sent.
    pub fn with(self, body: Body) -> Body {
        Body::new(Held { body, _bytes: self })
    }
}

/// A body that holds its bytes.
struct Held {
    body: Body,
    _bytes: AnswerBytes,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    // Not so before the last frame is taken: hyper drops a body that has ended when it has taken its last frame, and
    // what that frame holds would be counted no longer while it is written.
    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(number: u64) -> Who {
        Who::Customer { branch: "Mumbai".parse().unwrap(), account: protocol::AccountNum::new(number).unwrap() }
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn one_callers_places_are_not_anothers() {
        let quotas = Quotas::new();
        block_on(async {
            let mut held = Vec::new();
            for _ in 0..REQUESTS_PER_CUSTOMER {
                held.push(quotas.of(&customer(1001), HERE).request().await.unwrap());
            }
            let refused = quotas.of(&customer(1001), "10.0.0.9".parse().unwrap()).request().await;
            assert!(matches!(refused, Err(Error::Busy(_))), "the same person from elsewhere");
            quotas.of(&customer(1002), HERE).request().await.unwrap();
            let strangers = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"];
            let [one, neighbour, other] = strangers.map(|text| quotas.of(&Who::Nobody, text.parse().unwrap()));
            assert!(Arc::ptr_eq(&one, &neighbour) && !Arc::ptr_eq(&one, &other), "a network of IPv6 is one address");
            quotas.of(&Who::Nobody, HERE).request().await.unwrap();
            held.pop();
            quotas.of(&customer(1001), HERE).request().await.unwrap();
        });
    }

    #[test]
    fn answers_are_counted_by_their_bytes() {
        let quotas = Quotas::new();
        block_on(async {
            let mut held = Vec::new();
            loop {
                match quotas.of(&customer(1001), HERE).answer(1 << 10).await {
                    Ok(bytes) => held.push(bytes),
                    Err(error) => break assert_eq!(error.code(), "busy"),
                }
            }
            assert_eq!(held.iter().map(AnswerBytes::limit).sum::<usize>(), ANSWER_KIB_PER_CUSTOMER << 10);
            for bytes in &mut held {
                bytes.shrink_to(5_000);
                assert_eq!(bytes.limit(), 5 << 10);
            }
            quotas.of(&customer(1001), HERE).answer(1 << 10).await.unwrap();
            let before = quotas.answers_kib.available_permits();
            let body = held.pop().unwrap().with(Body::from("x"));
            assert_eq!(body.size_hint().exact(), Some(1));
            drop((body, held));
            assert!(quotas.answers_kib.available_permits() > before, "what is sent is given back");
        });
    }

    #[test]
    fn who_has_nothing_under_way_is_forgotten() {
        let quotas = Quotas::new();
        for number in 1..10_000 {
            let _ = quotas.of(&customer(number), HERE);
        }
        assert!(quotas.by_caller.lock().len() < 64);
    }
}

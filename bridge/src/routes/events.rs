//! `GET /events`: what happens, as server-sent events (WHATWG HTML, section 9.2).
//!
//! Each browser has a task that reads from the store, from the number that the browser has, and gives chunks to its
//! connection. Browsers at the same number share the chunk's bytes, and write in groups, one after the other. A browser
//! that takes none holds up its own task alone: it is cut off when it stalls for long, and one that is merely slow
//! skips what it can't take, and is told how much with a `missed`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use protocol::AccountNum;
use protocol::answer::Balance;
use protocol::request::{Action, OneAccount};
use tokio::time::{Instant, sleep};

use super::pieces::{Pieces, pieces};
use crate::access::sees_all;
use crate::branch::Branch;
use crate::bridge::Bridge;
use crate::error::Error;
use crate::event_cache::{Portion, push, push_missed};
use crate::guard::Caller;
use crate::limits::{
    EVENT_STREAMS, EVENT_STREAMS_OF_OPERATORS, LOGIN_CHECK_INTERVAL, SESSION_LIFE, STREAM_BALANCE_INTERVAL,
    STREAM_BEHIND, STREAM_CHUNKS, STREAM_GROUP_STEP, STREAM_GROUPS, STREAM_HEARTBEAT, STREAM_INTERVAL, STREAM_SETTLE,
};
use crate::logins::Login;
use crate::params::Params;
use crate::quota;
use crate::store::{Audience, Message};
use crate::who::Who;

/// How long a browser waits before it comes back, in milliseconds.
const RETRY_MS: u32 = 1_500;

/// `GET /events`.
pub async fn events(
    State(bridge): State<Arc<Bridge>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Error> {
    params.only(&["after"])?;
    let own_place = caller.quota.stream()?;
    let most = if sees_all(&caller.who) { EVENT_STREAMS } else { EVENT_STREAMS - EVENT_STREAMS_OF_OPERATORS };
    let place = Place::take(&bridge.metrics.event_streams, most, own_place)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let after = match last {
        Some(after) => Some(after),
        None => params.parse("after")?,
    };
    let (chunks, body) = pieces(STREAM_CHUNKS);
    let stream = EventStream::new(bridge, caller, after, chunks, place);
    tokio::spawn(stream.run());
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // A proxy is to hand each event on as it comes: it must not change or compress the stream, nor gather it.
        (header::CACHE_CONTROL, "no-store, no-cache, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

/// One browser's stream.
struct EventStream {
    bridge: Arc<Bridge>,
    session: Option<String>,
    login: Option<Arc<Login>>,
    audience: Audience,
    /// Whose balance is told, if a customer watches.
    own: Option<OwnAccount>,
    after: u64,
    /// Whether it asked for a place in the past, and is still on its way from there.
    is_catching_up: bool,
    chunks: Pieces,
    /// How long it waits after something has happened, by its group.
    settle: Duration,
    _place: Place,
}

/// What was last said of a customer's account.
struct OwnAccount {
    branch: Arc<Branch>,
    account: AccountNum,
    told: Option<String>,
    movements: Option<u64>,
    looked: Option<Instant>,
}

impl EventStream {
    fn new(bridge: Arc<Bridge>, caller: Caller, after: Option<u64>, chunks: Pieces, place: Place) -> Self {
        let own = match &caller.who {
            Who::Customer { branch, account } => bridge
                .branches
                .by_name(branch.as_str())
                .ok()
                .map(|branch| OwnAccount { branch, account: *account, told: None, movements: None, looked: None }),
            Who::Nobody | Who::Open | Who::Administrator { .. } => None,
        };
        Self {
            audience: if sees_all(&caller.who) { Audience::All } else { Audience::Reduced },
            session: caller.session.map(|(token, _)| token),
            login: caller.login,
            own,
            // A number from before the bridge's start is as good as none, and one from its future is none.
            after: after.filter(|after| *after <= bridge.store.newest()).unwrap_or_else(|| bridge.store.newest()),
            is_catching_up: after.is_some(),
            bridge,
            chunks,
            settle: place.settle(),
            _place: place,
        }
    }

    async fn run(mut self) {
        let bridge = Arc::clone(&self.bridge);
        let right = lapse(Arc::clone(&self.bridge), self.session.clone(), self.login.clone());
        tokio::select! {
            () = self.tell() => {}
            () = bridge.stop.reached() => {}
            () = right => {}
        }
        self.chunks.end_now();
    }

    async fn tell(&mut self) {
        let mut newest = self.bridge.store.watch();
        let mut own = format!("retry: {RETRY_MS}\n\n");
        self.snapshot(&mut own);
        loop {
            newest.mark_unchanged();
            let portion = self.gather(&mut own);
            let mut balance = String::new();
            self.look_at_balance(&mut balance).await;
            for chunk in [std::mem::take(&mut own).into(), portion.text, balance.into()] {
                if !self.send(chunk).await {
                    return;
                }
            }
            if portion.is_whole {
                sleep(STREAM_INTERVAL - self.settle).await;
                tokio::select! {
                    changed = newest.changed() => if changed.is_err() { return },
                    () = sleep(STREAM_HEARTBEAT) => own.push_str(": still here\n\n"),
                    () = self.chunks.closed() => return,
                }
                sleep(self.settle).await;
            } else {
                sleep(STREAM_INTERVAL).await;
            }
        }
    }

    /// Gives a chunk to the connection, unless it is empty. Returns whether the browser is still there.
    async fn send(&self, chunk: Bytes) -> bool {
        chunk.is_empty() || self.chunks.send(chunk).await
    }

    /// The newest word on everything.
    fn snapshot(&self, text: &mut String) {
        for message in self.bridge.store.topics(self.audience) {
            // The number is that of the place at which the stream goes on, not that at which it was said.
            push(text, &Message { id: self.after, ..message });
        }
    }

    /// What is new. Adds to `own` what this stream alone is told.
    fn gather(&mut self, own: &mut String) -> Portion {
        let behind = self.bridge.store.behind(self.after);
        if self.audience == Audience::All && behind > STREAM_BEHIND && !self.is_catching_up {
            self.after = self.bridge.store.newest();
            push_missed(own, behind as u64);
            self.snapshot(own);
        }
        let portion = self.bridge.event_cache.portion(&self.bridge.store, self.after, self.audience);
        self.after = portion.last;
        self.is_catching_up &= !portion.is_whole;
        portion
    }

    /// Says how a customer's account stands, when money of the branch may have moved since it was looked at.
    async fn look_at_balance(&mut self, text: &mut String) {
        let Some(own) = &mut self.own else { return };
        let movements = own.branch.state.movements();
        let is_due = own.looked.is_none_or(|looked| looked.elapsed() >= STREAM_BALANCE_INTERVAL);
        if own.movements == Some(movements) || !is_due || !own.branch.state.is_up() {
            return;
        }
        own.looked = Some(Instant::now());
        let found = own.branch.read::<Balance>(Action::Balance, OneAccount { account_no: own.account }).await;
        let Ok((balance, _)) = found else { return };
        own.movements = Some(movements);
        let json = serde_json::json!({
            "branch": own.branch.name(), "account": own.account,
            "balance": balance.balance, "available": balance.available,
        });
        let json = json.to_string();
        if own.told.as_ref() != Some(&json) {
            push(text, &Message { id: self.after, kind: "account", json: json.as_str().into() });
            own.told = Some(json);
        }
    }
}

/// Waits until whoever watches has no right to it any more: the session has ended, the password was changed, or it was
/// given too long ago.
async fn lapse(bridge: Arc<Bridge>, session: Option<String>, login: Option<Arc<Login>>) {
    let began = Instant::now();
    loop {
        sleep(LOGIN_CHECK_INTERVAL).await;
        let is_over = session.as_ref().is_some_and(|token| !bridge.sessions.lasts(token));
        let is_changed = login.as_ref().is_some_and(|login| login.has_ended() || began.elapsed() > SESSION_LIFE);
        if is_over || is_changed {
            return;
        }
    }
}

/// A stream's place among those that there may be.
struct Place {
    open: Arc<AtomicI64>,
    /// How many there were before it.
    before: i64,
    _own: quota::Place,
}

impl Place {
    fn take(open: &Arc<AtomicI64>, most: usize, own: quota::Place) -> Result<Self, Error> {
        let place = Self { open: Arc::clone(open), before: open.fetch_add(1, Ordering::Relaxed), _own: own };
        if place.before < i64::try_from(most).unwrap_or(i64::MAX) {
            Ok(place)
        } else {
            Err(Error::Busy("too many streams of events are open; close one"))
        }
    }

    /// How long its stream waits after something has happened; a lecturer's, who is alone, waits least.
    fn settle(&self) -> Duration {
        let group = u32::try_from(self.before).unwrap_or(0) % STREAM_GROUPS;
        STREAM_SETTLE + STREAM_GROUP_STEP * group
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

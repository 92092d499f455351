//! Audits the whole bank again and again, as often as costs little, and tells those who watch how it stands.
//!
//! How the whole is audited stands in `branch_client::audit`: what is under way excuses itself and nothing else. Here the
//! branches are asked, and what was found stands until the next round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use branch_client::audit::Source;
use branch_client::audit::asked::Ask;
use protocol::Total;
use protocol::answer::Audit;
use protocol::request::Action;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bank::{Card, Totals, Verdict, View, totals};
use crate::branch::{Branch, Repeat};
use crate::bridge::Bridge;
use crate::limits::{AUDIT_INTERVAL_FACTOR, AUDIT_INTERVAL_MIN, BANK_INTERVAL, CALL_TIMEOUT};
use crate::store::Topic;

/// The books of all branches, asked anew.
#[derive(Serialize)]
pub struct BankAudit {
    ok: Option<bool>,
    complete: bool,
    findings: Vec<String>,
    under_way: Vec<String>,
    unreachable: BTreeMap<String, String>,
    balances: Total,
    in_transit: Total,
    money: Total,
    paid_in: Total,
    paid_out: Total,
    suspense: Total,
    branches: BTreeMap<String, Audit>,
}

/// Audits until the bridge stops.
pub fn run(bridge: &Arc<Bridge>) {
    loop {
        let begin = Instant::now();
        round(bridge);
        tell(bridge);
        let pause = AUDIT_INTERVAL_MIN.max(begin.elapsed() * AUDIT_INTERVAL_FACTOR);
        // New figures of a branch that has just come are worth an early look.
        let until = Instant::now() + pause;
        while Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            if bridge.stop.wait(left.min(Duration::from_millis(250))) {
                return;
            }
            let is_new = |branch: &Arc<Branch>| {
                let state = branch.state.snapshot();
                state.is_up && state.audit.is_none()
            };
            if bridge.branches.all().iter().any(is_new) {
                break;
            }
        }
    }
}

/// Asks all branches for their books, and compares them.
pub fn round(bridge: &Arc<Bridge>) {
    let source = |branch: Arc<Branch>| Source {
        name: branch.name().to_string(),
        address: branch.address().to_string(),
        books: Asked(branch),
    };
    let mut sources: Vec<_> = bridge.branches.all().into_iter().map(source).collect();
    // Another round that is made meanwhile begins without what this one remembers.
    let mut memory = std::mem::take(&mut bridge.books.state().memory);
    let whole = branch_client::audit::audit_all(&mut sources, &mut memory);
    for Source { name, books: Asked(branch), .. } in sources {
        if let Some(audit) = whole.branches.get(&name) {
            branch.state.audited(audit.clone());
        }
    }
    let mut state = bridge.books.state();
    state.memory = memory;
    state.between = whole.between;
    state.under_way = whole.under_way;
    state.not_heard = whole.unreachable;
}

/// A branch whose books are asked for.
struct Asked(Arc<Branch>);

impl Ask for Asked {
    type Error = String;

    fn read<R: DeserializeOwned, N: DeserializeOwned>(
        &mut self,
        action: Action,
        params: &impl Serialize,
    ) -> Result<(R, Option<N>), String> {
        let Self(branch) = self;
        if !branch.state.is_up() {
            return Err("it gives no answer".into());
        }
        let reply = branch.call_blocking(action, params, &Repeat::Read, CALL_TIMEOUT);
        let read = reply.and_then(|reply| Ok((reply.read(branch)?, reply.next(branch)?)));
        read.map_err(|error| error.to_string())
    }
}

/// The books of the branches that are up, or were, and whether that is all of them and now.
fn books(bridge: &Bridge) -> (BTreeMap<String, Audit>, bool) {
    let mut audits = BTreeMap::new();
    let branches = bridge.branches.all();
    let mut is_complete = !branches.is_empty();
    for branch in branches {
        let state = branch.state.snapshot();
        is_complete &= state.is_up && state.audit.is_some();
        if let Some(audit) = state.audit {
            audits.insert(branch.name().to_string(), audit.0);
        }
    }
    (audits, is_complete)
}

fn verdict(bridge: &Bridge, audits: &BTreeMap<String, Audit>, complete: bool) -> Verdict {
    let mut found = branch_client::audit::findings(audits);
    let state = bridge.books.state();
    found.extend(state.between.iter().cloned());
    let complete = complete && state.not_heard.is_empty();
    drop(state);
    let ok = if !found.is_empty() { Some(false) } else { complete.then_some(true) };
    Verdict { ok, complete, findings: found }
}

/// The whole bank by what is known.
#[must_use]
pub fn view(bridge: &Bridge) -> View {
    let (audits, complete) = books(bridge);
    let card = |branch: &Arc<Branch>| Card::new(branch, bridge.can_restart(branch.name()));
    let branches: Vec<_> = bridge.branches.all().iter().map(card).collect();
    let rows = branches.iter().filter_map(|card| Some((card.name.clone(), card.transactions?))).collect();
    View {
        totals: totals(&audits),
        verdict: verdict(bridge, &audits, complete),
        transfers_per_second: bridge.books.state().rate(rows),
        branches,
    }
}

/// The whole bank by its books, of a round that was just made.
#[must_use]
pub fn whole(bridge: &Bridge) -> BankAudit {
    let (branches, complete) = books(bridge);
    let Verdict { ok, complete, findings } = verdict(bridge, &branches, complete);
    let Totals { money, balances, in_transit, paid_in, paid_out, suspense } = totals(&branches);
    let state = bridge.books.state();
    let (under_way, unreachable) = (state.under_way.clone(), state.not_heard.clone());
    drop(state);
    BankAudit {
        ok,
        complete,
        findings,
        under_way,
        unreachable,
        balances,
        in_transit,
        money,
        paid_in,
        paid_out,
        suspense,
        branches,
    }
}

/// Tells those who watch how the bank stands, if that is news or they have not heard for long.
pub fn tell(bridge: &Bridge) {
    let view = view(bridge);
    let mut state = bridge.books.state();
    let is_news = state.last.as_ref().is_none_or(|last| !is_same(last, &view));
    let is_due = state.told.is_none_or(|told| told.elapsed() >= BANK_INTERVAL);
    if !is_news && !is_due {
        return;
    }
    let now = Instant::now();
    state.told = Some(now);
    drop(state);
    let in_doubt = view.branches.iter().filter_map(|card| card.in_doubt).sum();
    bridge.chart_history.note(now, view.transfers_per_second.clone(), in_doubt);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at_unix_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    match (message(at_unix_ms, &view), reduced(at_unix_ms, &view)) {
        (Ok(all), Ok(reduced)) => {
            bridge.store.say(Topic::Bank, &all);
            bridge.store.say(Topic::BankReduced, &reduced);
        }
        (Err(error), _) | (_, Err(error)) => log::error!("the bank's figures can't be written: {error}"),
    }
    bridge.books.state().last = Some(view);
}

/// Whether nothing has changed but the time.
fn is_same(one: &View, other: &View) -> bool {
    let timeless = |view: &View| {
        let mut view = view.clone();
        view.branches.iter_mut().for_each(|card| card.uptime_seconds = None);
        view
    };
    timeless(one) == timeless(other)
}

fn message(at_unix_ms: u64, view: &View) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Out<'a> {
        at_unix_ms: u64,
        #[serde(flatten)]
        view: &'a View,
    }
    serde_json::to_string(&Out { at_unix_ms, view })
}

/// What a customer may see of the bank.
fn reduced(at_unix_ms: u64, view: &View) -> Result<String, serde_json::Error> {
    serde_json::to_string(&serde_json::json!({"at_unix_ms": at_unix_ms, "branches": reduced_cards(view)}))
}

/// Names and states alone.
#[must_use]
pub fn reduced_cards(view: &View) -> Vec<Value> {
    let card = |card: &Card| serde_json::json!({"name": card.name, "state": card.state});
    view.branches.iter().map(card).collect()
}

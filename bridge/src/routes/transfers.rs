//! The transfers that the bridge remembers, and the events of one, for the lab.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use protocol::TxId;
use protocol::event::{Event, EventKind};
use serde::Serialize;
use teaching::trace;

use super::answer;
use crate::bridge::Bridge;
use crate::error::Error;
use crate::params::Params;
use crate::store::Happened;

type Shared = State<Arc<Bridge>>;
/// How many of its first events an export lacks.
const MISSED: HeaderName = HeaderName::from_static("x-missed-events");
/// Transfers in one answer, unless the request says how many.
const TRANSFERS_DEFAULT: usize = 50;
/// And at most.
const TRANSFERS_MAX: usize = 1_000;

/// A transfer in one line.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    txid: TxId,
    coordinator: Option<String>,
    at_unix_ms: u64,
    text: String,
    outcome: &'static str,
    participants: Vec<String>,
    is_old_way: bool,
}

/// `GET /transfers`: newest first.
pub async fn list(State(bridge): Shared, params: Params) -> Result<Response, Error> {
    params.only(&["limit"])?;
    let limit = params.limit(TRANSFERS_DEFAULT, TRANSFERS_MAX)?;
    let transfers = bridge.store.transfers(limit);
    let lines: Vec<_> = transfers.iter().map(|(txid, events)| line(txid, events)).collect();
    answer::ok(&lines)
}

/// `GET /transfers/{txid}`: its events, none before one that it can have been caused by.
pub async fn one(State(bridge): Shared, Path(txid): Path<String>) -> Result<Response, Error> {
    answer::ok(&find(&bridge, &txid)?)
}

/// A transfer and its events.
#[derive(Serialize)]
pub struct Told {
    /// Which transfer.
    pub txid: TxId,
    /// In order.
    pub events: Vec<Event>,
    /// How many of its first events the bridge has forgotten.
    pub missed: u64,
}

/// The events of a transfer, in order, each once: after the bridge's start or a branch's they may have come twice.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(bridge: &Bridge, txid: &str) -> Result<Told, Error> {
    let unknown = || Error::NotFound("the bridge remembers no such transfer".into());
    let txid: TxId = txid.parse().map_err(|_| unknown())?;
    let (events, missed) = bridge.store.transfer(&txid).ok_or_else(unknown)?;
    let events = trace::in_order(events.iter().map(|happened| happened.event.clone()).collect());
    Ok(Told { txid, events, missed })
}

/// `GET /transfers/{txid}/export`. One whose first events are forgotten says so: in the text, and in a header where the
/// format has no place for it.
pub async fn export(State(bridge): Shared, Path(txid): Path<String>, params: Params) -> Result<Response, Error> {
    params.only(&["format"])?;
    let told = find(&bridge, &txid)?;
    let Some(format) = params.get("format").filter(|format| *format != "json") else {
        return answer::ok(&told);
    };
    let Told { txid, events, missed } = told;
    let note = match missed {
        0 => String::new(),
        count => format!("The first {count} events of this transfer are forgotten.\n"),
    };
    let witnesses = witnesses(&bridge, &events);
    let transfer = trace::Transfer::new(txid, None, witnesses, events);
    let text = match format {
        "shiviz" => trace::shiviz(transfer.events()),
        "mermaid" if missed > 0 => trace::mermaid(&trace::Diagram::new(&transfer)) + "%% " + &note,
        "mermaid" => trace::mermaid(&trace::Diagram::new(&transfer)),
        "text" => note + &trace::text(&trace::Diagram::new(&transfer), &trace::Glyphs::UNICODE),
        _ => return Err(Error::Input("format is shiviz, mermaid, text or json".into())),
    };
    let mut response = ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response();
    if missed > 0 {
        response.headers_mut().insert(MISSED, HeaderValue::from(missed));
    }
    Ok(response)
}

/// The branches of these events, and how far back each remembers.
fn witnesses(bridge: &Bridge, events: &[Event]) -> Vec<trace::Witness> {
    let names: BTreeSet<_> = events.iter().map(|event| event.branch.as_str()).collect();
    let now_unix_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis());
    let known = bridge.branches.all();
    let absent = known.iter().map(|branch| branch.name().as_str()).filter(|name| !names.contains(name));
    let witness = |name: &str| {
        let branch = known.iter().find(|branch| branch.name().as_str() == name);
        let run = branch.and_then(|branch| branch.state.snapshot().run()).filter(|_| !names.contains(name));
        let uptime_seconds = branch.and_then(|branch| branch.state.snapshot().count("uptime_seconds"));
        let is_down = branch.is_some_and(|branch| !branch.state.is_up());
        trace::Witness {
            branch: name.to_string(),
            addresses: branch.map(|branch| branch.address().to_string()).into_iter().collect(),
            // What was heard from a branch stays known here when the branch has forgotten it.
            started_unix_ms: run.map(|run| run.started_unix_ms).or_else(|| {
                let seconds = uptime_seconds.filter(|_| !names.contains(name))?;
                Some(now_unix_ms.ok()?.saturating_sub(seconds.saturating_mul(1_000)))
            }),
            run,
            unreachable: (is_down && !names.contains(name)).then(|| "it is down".to_string()),
        }
    };
    names.iter().copied().chain(absent).map(witness).collect()
}

/// What a line is made of while the events are looked through.
#[derive(Default)]
struct Summary {
    coordinator: Option<String>,
    asked: Option<String>,
    prepare: Option<String>,
    participants: Vec<String>,
    is_committed: bool,
    is_aborted: bool,
}

impl Summary {
    fn add(&mut self, event: &Event) {
        self.take_part(event.branch.as_str());
        match &event.kind {
            EventKind::Asked { text } => self.asked = Some(text.clone()),
            EventKind::Sent { to, message, text, .. } => {
                self.take_part(to);
                self.settle(message);
                if message == PREPARE {
                    self.coordinator.get_or_insert_with(|| event.branch.to_string());
                    self.prepare.get_or_insert_with(|| text.clone());
                }
            }
            EventKind::Received { from, message, .. } | EventKind::Lost { from, message, .. } => {
                self.take_part(from);
                self.settle(message);
                if message == PREPARE {
                    self.coordinator.get_or_insert_with(|| from.clone());
                }
            }
            EventKind::State { role, from, to } => {
                if role == COORDINATOR {
                    self.coordinator = Some(event.branch.to_string());
                    // A transfer that the coordinator's own ledger refuses leaves nothing behind, not even a record.
                    self.is_aborted |= from == "beginning" && to == "unknown";
                }
            }
            EventKind::Recorded { record, .. } => self.settle(record),
            EventKind::Moved { .. } | EventKind::Answered { .. } | EventKind::Note { .. } => {}
        }
    }

    /// Takes the name of a record, or of a message that carries the decision.
    fn settle(&mut self, name: &str) {
        self.is_committed |= matches!(name, "committed" | "settled committed" | "commit");
        self.is_aborted |= matches!(name, "aborted" | "settled aborted" | "abort");
    }

    fn take_part(&mut self, name: &str) {
        if self.participants.iter().all(|other| other != name) {
            self.participants.push(name.to_string());
        }
    }
}

/// The message that only a coordinator sends.
const PREPARE: &str = "prepare";
/// The role of who decides.
const COORDINATOR: &str = "coordinator";
/// How a transfer of the scenario "the old way" is named.
const OLD_WAY: &str = "OldWay-";

fn line(txid: &TxId, events: &[Arc<Happened>]) -> Line {
    let mut summary = Summary::default();
    events.iter().for_each(|happened| summary.add(&happened.event));
    let Summary { coordinator, asked, prepare, participants, is_committed, is_aborted } = summary;
    Line {
        txid: txid.clone(),
        coordinator,
        at_unix_ms: events.iter().map(|happened| happened.event.at_unix_ms).min().unwrap_or(0),
        text: asked.or(prepare).unwrap_or_default(),
        outcome: match (is_committed, is_aborted) {
            (true, _) => "committed",
            (false, true) => "aborted",
            (false, false) => "undecided",
        },
        participants,
        is_old_way: txid.as_str().starts_with(OLD_WAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kinds: &[&str], expected: (bool, bool)) {
        let mut summary = Summary::default();
        for kind in kinds {
            let event = format!(
                r#"{{"number":1,"at_unix_ms":0,"branch":"Mumbai","txid":"T","clock":{{"Mumbai":1}},"kind":{kind}}}"#
            );
            summary.add(&serde_json::from_str(&event).unwrap());
        }
        assert_eq!((summary.is_committed, summary.is_aborted), expected, "{kinds:?}");
    }

    #[test]
    fn an_outcome_is_known_by_records_messages_and_a_refusal_at_the_payer() {
        let begun = r#"{"state":{"role":"coordinator","from":"unknown","to":"beginning"}}"#;
        check(&[begun], (false, false));
        check(&[begun, r#"{"state":{"role":"coordinator","from":"beginning","to":"unknown"}}"#], (false, true));
        check(&[begun, r#"{"state":{"role":"coordinator","from":"beginning","to":"voting"}}"#], (false, false));
        check(&[begun, r#"{"recorded":{"record":"committed","forced":true}}"#], (true, false));
        check(&[r#"{"received":{"from":"Delhi","message":"abort","text":"","id":"Delhi:1"}}"#], (false, true));
    }
}

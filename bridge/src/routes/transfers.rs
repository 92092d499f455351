//! The transfers that the bridge remembers, and the events of one, for the lab.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use protocol::TxId;
use protocol::event::{Event, EventKind};
use serde::Serialize;

use super::answer;
use crate::bridge::Bridge;
use crate::error::Error;
use crate::params::Params;
use crate::store::Happened;

type Shared = State<Arc<Bridge>>;
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
    let limit = params.limit(TRANSFERS_DEFAULT, TRANSFERS_MAX)?;
    let transfers = bridge.store.transfers(limit);
    let lines: Vec<_> = transfers.iter().map(|(txid, events)| line(txid, events)).collect();
    answer::ok(&lines)
}

/// `GET /transfers/{txid}`: its events, none before one that it can have been caused by.
pub async fn one(State(bridge): Shared, Path(txid): Path<String>) -> Result<Response, Error> {
    let (txid, events) = find(&bridge, &txid)?;
    answer::ok(&Told { txid, events })
}

/// A transfer and its events.
#[derive(Serialize)]
struct Told {
    txid: TxId,
    events: Vec<Event>,
}

fn find(bridge: &Bridge, txid: &str) -> Result<(TxId, Vec<Event>), Error> {
    let unknown = || Error::NotFound("the bridge remembers no such transfer".into());
    let txid: TxId = txid.parse().map_err(|_| unknown())?;
    let events = bridge.store.transfer(&txid).ok_or_else(unknown)?;
    Ok((txid, events.iter().map(|happened| happened.event.clone()).collect()))
}

/// `GET /transfers/{txid}/export`.
pub async fn export(State(bridge): Shared, Path(txid): Path<String>, params: Params) -> Result<Response, Error> {
    let (txid, events) = find(&bridge, &txid)?;
    match params.get("format") {
        None | Some("json") => answer::ok(&Told { txid, events }),
        Some(_) => Err(Error::Input("format is json".into())),
    }
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
                if message == PREPARE {
                    self.coordinator.get_or_insert_with(|| event.branch.to_string());
                    self.prepare.get_or_insert_with(|| text.clone());
                }
            }
            EventKind::Received { from, message, .. } | EventKind::Lost { from, message, .. } => {
                self.take_part(from);
                if message == PREPARE {
                    self.coordinator.get_or_insert_with(|| from.clone());
                }
            }
            EventKind::State { role, to, .. } => {
                if role == COORDINATOR {
                    self.coordinator = Some(event.branch.to_string());
                }
                self.is_committed |= to.starts_with("committed");
                self.is_aborted |= to.starts_with("aborted");
            }
            EventKind::Recorded { .. }
            | EventKind::Moved { .. }
            | EventKind::Answered { .. }
            | EventKind::Note { .. } => {}
        }
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

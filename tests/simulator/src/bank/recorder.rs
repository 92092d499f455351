//! A run, recorded for people: the branches' own events, as the lab of the dashboard draws them, and what the judge said.
//!
//! The events are those that the server's engine tells of by itself; they are taken after each thing that a process was
//! made to do, so they can have the simulated time. A recorder draws nothing from the seed and asks nothing of a process
//! that would change what it does, so a recorded run is the same run.
//!
//! The form of the file is the one that `bridge/assets/lab/run_file.js` reads.

use std::collections::{BTreeMap, BTreeSet};

use bank_server::transfer::Engine;
use protocol::TxId;
use protocol::event::Event;
use serde::Serialize;

/// The form's name.
const FORMAT: &str = "bank-run-1";
/// What the lab opens at most of each.
const EVENTS_MOST: usize = 20_000;
const TRANSFERS_MOST: usize = 2_000;
const LOG_LINES_MOST: usize = 5_000;
/// The wall clock of the pictures at the beginning, in milliseconds since 1970: a day that nobody takes for today.
const BEGAN_UNIX_MS: u64 = 1_600_000_000_000;

/// What is recorded while the run goes on.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The number of the last event of each copy.
    heard: BTreeMap<usize, u64>,
    events: Vec<Event>,
    outages: BTreeMap<String, Vec<Outage>>,
}

/// A time in which a branch's process was gone.
#[derive(Clone, Copy, Debug, Serialize)]
struct Outage {
    from: u64,
    until: Option<u64>,
}

/// The file of a run.
#[derive(Debug, Serialize)]
struct File<'r> {
    format: &'static str,
    title: String,
    about: String,
    verdict: Option<&'r str>,
    shown: Option<&'r TxId>,
    transfers: Vec<Transfer<'r>>,
    log: &'r [String],
    outages: &'r BTreeMap<String, Vec<Outage>>,
}

#[derive(Debug, Serialize)]
struct Transfer<'r> {
    txid: &'r TxId,
    events: Vec<&'r Event>,
}

impl Recorder {
    /// Takes what a copy has told since the last time.
    pub fn take(&mut self, copy: usize, engine: &Engine, now_ms: u64) {
        let events = engine.events();
        let heard = self.heard.entry(copy).or_default();
        // A new life has numbers of its own, which are lower where an older database was put back.
        let after = (*heard).min(events.last_number()).max(events.before_this_run());
        for event in events.since(after, None, usize::MAX) {
            *heard = event.number;
            self.events.push(Event { at_unix_ms: BEGAN_UNIX_MS + now_ms, ..event });
        }
        *heard = events.last_number();
    }

    /// A branch's process is gone.
    pub fn fell(&mut self, branch: &str, now_ms: u64) {
        let outages = self.outages.entry(branch.to_string()).or_default();
        outages.push(Outage { from: BEGAN_UNIX_MS + now_ms, until: None });
    }

    /// It is back.
    pub fn rose(&mut self, branch: &str, now_ms: u64) {
        if let Some(last) = self.outages.get_mut(branch).and_then(|outages| outages.last_mut()) {
            last.until.get_or_insert(BEGAN_UNIX_MS + now_ms);
        }
    }

    /// The file of the whole run. `related` are transfers that the judge may have meant, the likeliest first; the first of
    /// them that is known is shown.
    #[must_use]
    pub fn file(&self, seed: u64, verdict: Option<&str>, about: String, related: &[String], log: &[String]) -> String {
        let mut by_transfer: BTreeMap<&TxId, Vec<&Event>> = BTreeMap::new();
        let mut order = Vec::new();
        for event in &self.events {
            let Some(txid) = &event.txid else { continue };
            if !by_transfer.contains_key(txid) {
                order.push(txid);
            }
            by_transfer.entry(txid).or_default().push(event);
        }
        let wanted = related.iter().find_map(|wanted| order.iter().find(|txid| txid.as_str() == wanted).copied());
        let shown = wanted.or(order.last().copied());
        // The one that is shown is there in any case, and then the latest.
        let mut kept = BTreeSet::new();
        let mut events = 0;
        for txid in shown.into_iter().chain(order.iter().rev().copied()) {
            if kept.contains(txid) {
                continue;
            }
            events += by_transfer[txid].len();
            if events > EVENTS_MOST || kept.len() >= TRANSFERS_MOST {
                break;
            }
            kept.insert(txid);
        }
        let transfers = order.iter().filter(|txid| kept.contains(*txid));
        let transfers = transfers.map(|txid| Transfer { txid, events: by_transfer[*txid].clone() }).collect();
        let file = File {
            format: FORMAT,
            title: format!("Seed {seed} of the simulator"),
            about,
            verdict,
            shown,
            transfers,
            log: &log[log.len().saturating_sub(LOG_LINES_MOST)..],
            outages: &self.outages,
        };
        serde_json::to_string(&file).expect("names, numbers and texts are always JSON")
    }
}

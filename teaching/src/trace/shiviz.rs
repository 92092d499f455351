//! A log for ShiViz: the expression that reads it, an empty line, and two lines for each event.
//!
//! ShiViz wants the clock of each host to begin at 1 and to rise by one from event to event. A branch's clock counts
//! all its events, not just this transfer's, so the clocks are counted anew: an entry becomes the number of the
//! transfer's events that are known at that branch.
//!
//! Source of the format: the log format of ShiViz, <https://bitbucket.org/bestchai/shiviz/wiki/Home>.

use std::collections::BTreeMap;

use protocol::BranchName;
use protocol::event::{Event, VectorClock};

use crate::trace::words::tell_event;

/// Reads what [`fn@write`] writes: the event, then host and clock on the next line.
const EXPRESSION: &str = r"(?<event>.*)\n(?<host>\S*) (?<clock>{.*})";

/// Writes the log of events that are in order.
#[must_use]
pub fn write(events: &[Event]) -> String {
    let mut own: BTreeMap<&BranchName, Vec<u64>> = BTreeMap::new();
    for event in events {
        own.entry(&event.branch).or_default().push(own_entry(event));
    }
    let mut log = format!("{EXPRESSION}\n\n");
    for event in events {
        let clock = counted_anew(event, &own);
        // Names of branches and numbers are always JSON.
        let clock = serde_json::to_string(&clock).unwrap_or_default();
        let told = tell_event(&event.kind);
        log.push_str(&format!("{told}\n{} {clock}\n", event.branch));
    }
    log
}

fn own_entry(event: &Event) -> u64 {
    event.clock.get(&event.branch).copied().unwrap_or(event.number)
}

fn counted_anew(event: &Event, own: &BTreeMap<&BranchName, Vec<u64>>) -> VectorClock {
    let mut clock = VectorClock::new();
    for (&branch, entries) in own {
        let known = if *branch == event.branch { Some(own_entry(event)) } else { event.clock.get(branch).copied() };
        let count = known.map_or(0, |known| entries.iter().filter(|&&entry| entry <= known).count());
        if count > 0 {
            clock.insert(branch.clone(), u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
    clock
}

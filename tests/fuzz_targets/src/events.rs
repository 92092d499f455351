//! Events of branches, as a client and the bridge read them, put in order and drawn.
//!
//! Each line of the input is one event as JSON. Events come from other branches, so a text in them may be anything.

use std::collections::BTreeSet;

use protocol::event::Event;
use teaching::trace::{self, Diagram, Glyphs, Transfer, Witness};

/// Reads, orders and draws.
///
/// # Panics
/// When one of the drawings panics, or order loses or doubles an event.
pub fn run(bytes: &[u8]) {
    let events: Vec<Event> =
        bytes.split(|byte| *byte == b'\n').take(64).filter_map(|line| serde_json::from_slice(line).ok()).collect();
    for event in &events {
        let written = serde_json::to_vec(event).expect("an event is written");
        assert_eq!(serde_json::from_slice::<Event>(&written).expect("it is read again"), *event);
    }
    let known: BTreeSet<_> = events.iter().map(|event| (event.branch.clone(), event.number)).collect();
    let witnesses = known.iter().map(|(branch, number)| Witness {
        branch: branch.to_string(),
        addresses: vec![format!("127.0.0.1:{}", number % 10)],
        started_unix_ms: Some(*number),
        run: None,
        unreachable: (number.is_multiple_of(3)).then(|| "it is\n\u{1b}gone".to_string()),
    });
    let witnesses = witnesses.take(4).collect();
    let txid = events.iter().find_map(|event| event.txid.clone());
    let txid = txid.unwrap_or_else(|| "Mumbai-1".parse().expect("it is an id"));
    let transfer = Transfer::new(txid, None, witnesses, events);
    let line: BTreeSet<_> = transfer.events().iter().map(|event| (event.branch.clone(), event.number)).collect();
    assert_eq!((line.len(), &line), (transfer.events().len(), &known), "each event once");
    let diagram = Diagram::new(&transfer);
    for drawing in [
        trace::text(&diagram, &Glyphs::ASCII),
        trace::text(&diagram, &Glyphs::UNICODE),
        trace::mermaid(&diagram),
        trace::shiviz(transfer.events()),
    ] {
        assert!(drawing.chars().all(|c| c == '\n' || !c.is_control()), "{drawing:?}");
    }
}

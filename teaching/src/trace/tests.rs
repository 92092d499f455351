//! Golden drawings: each `.json` of `tests/golden_trace` is what `bank-client trace --format json` gave of a real
//! transfer, and beside it stands what is drawn of it. `UPDATE_GOLDEN=1` writes the drawings anew.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// What is drawn.
#[derive(Clone, Copy, Debug)]
enum Format {
    Text,
    Ascii,
    Mermaid,
    Shiviz,
}

fn draw(format: Format, transfer: &Transfer) -> String {
    match format {
        Format::Text => text(&Diagram::new(transfer), &Glyphs::UNICODE),
        Format::Ascii => text(&Diagram::new(transfer), &Glyphs::ASCII),
        Format::Mermaid => mermaid(&Diagram::new(transfer)),
        Format::Shiviz => shiviz(transfer.events()),
    }
}

/// A trace as it was recorded.
#[derive(Deserialize)]
struct Document {
    txid: TxId,
    outcome: Option<String>,
    branches: Vec<Witness>,
    events: Vec<Event>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_trace")
}

/// The recorded traces and their names.
fn recorded() -> Vec<(String, Transfer)> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".json")?.to_string()))
        .collect();
    names.sort();
    let read = |name: String| {
        let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
        let Document { txid, outcome, branches, mut events } = serde_json::from_str(&text).unwrap();
        // The drawing does not depend on the order in which the branches were asked.
        events.reverse();
        (name, Transfer::new(txid, outcome, branches, events))
    };
    names.into_iter().map(read).collect()
}

#[test]
fn drawings_are_as_they_were() {
    let recorded = recorded();
    assert!(recorded.len() >= 8, "only {} traces", recorded.len());
    for (name, transfer) in recorded {
        for (format, suffix) in
            [(Format::Text, "txt"), (Format::Ascii, "ascii.txt"), (Format::Mermaid, "mmd"), (Format::Shiviz, "shiviz")]
        {
            let drawn = draw(format, &transfer);
            let path = folder().join(format!("{name}.{suffix}"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs::write(&path, &drawn).unwrap();
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(drawn, expected, "{}", path.display());
        }
    }
}

#[test]
fn ascii_is_ascii_and_lanes_stand_under_each_other() {
    for (name, transfer) in recorded() {
        let drawn = draw(Format::Ascii, &transfer);
        assert!(drawn.is_ascii(), "{name}");
        let ladder: Vec<&str> = drawn.lines().skip(3).take_while(|line| !line.is_empty()).collect();
        assert!(ladder.len() > 3, "{name}");
        for line in ladder {
            // Every row shows something in the column of the first lane.
            assert!(line.as_bytes().get(12).is_some_and(|byte| *byte != b' '), "{name}: {line}");
        }
    }
}

#[test]
fn clocks_for_shiviz_count_from_one_and_know_no_future() {
    for (name, transfer) in recorded() {
        let log = draw(Format::Shiviz, &transfer);
        let mut last = std::collections::BTreeMap::<String, u64>::new();
        for line in log.lines().skip(3).step_by(2) {
            let (host, clock) = line.split_once(' ').unwrap();
            let clock: std::collections::BTreeMap<String, u64> = serde_json::from_str(clock).unwrap();
            let before = last.get(host).copied().unwrap_or(0);
            assert_eq!(clock[host], before + 1, "{name}: {line}");
            last.insert(host.to_string(), clock[host]);
            for (other, count) in &clock {
                assert!(last.get(other).is_some_and(|known| count <= known), "{name}: {line}");
            }
        }
    }
}

#[test]
fn a_trace_without_events_draws_an_empty_ladder() {
    let txid: TxId = "T-1".parse().unwrap();
    let transfer = Transfer::new(txid, None, Vec::new(), Vec::new());
    for format in [Format::Text, Format::Ascii, Format::Mermaid, Format::Shiviz] {
        assert!(!draw(format, &transfer).is_empty());
    }
}

/// A transfer of which the first decision is thrown away and the second comes twice, the copy thrown away too.
fn lost_and_doubled() -> Transfer {
    let event = |branch: &str, number: u64, mumbai: u64, kind: &str| {
        let delhi = if branch == "Delhi" { format!(r#""Delhi":{number},"#) } else { String::new() };
        let text = format!(
            r#"{{"number":{number},"at_unix_ms":{},"branch":"{branch}","txid":"M-1","clock":{{{delhi}"Mumbai":{mumbai}}},"kind":{kind}}}"#,
            mumbai * 10 + number
        );
        serde_json::from_str::<Event>(&text).unwrap()
    };
    let message = |kind: &str, who: &str, id: u64| {
        format!(r#"{{"{kind}":{{{who},"message":"commit","text":"commit M-1","id":"Mumbai:{id}"}}}}"#)
    };
    let events = vec![
        event("Mumbai", 1, 1, r#"{"asked":{"text":"transfer 50.00 from 1001 to Delhi/1002"}}"#),
        event("Mumbai", 2, 2, &message("sent", r#""to":"Delhi""#, 2)),
        event("Delhi", 1, 2, &message("lost", r#""from":"Mumbai""#, 2)),
        event("Mumbai", 3, 3, &message("sent", r#""to":"Delhi""#, 3)),
        event("Delhi", 2, 3, &message("received", r#""from":"Mumbai""#, 3)),
        event("Delhi", 3, 3, &message("received", r#""from":"Mumbai""#, 3)),
        event("Delhi", 4, 3, &message("lost", r#""from":"Mumbai""#, 3)),
        event("Mumbai", 4, 4, r#"{"answered":{"text":"committed, delivery pending"}}"#),
    ];
    let witness = |branch: &str| Witness {
        branch: branch.into(),
        addresses: Vec::new(),
        started_unix_ms: None,
        run: None,
        unreachable: None,
    };
    Transfer::new("M-1".parse().unwrap(), None, vec![witness("Mumbai"), witness("Delhi")], events)
}

#[test]
fn the_client_has_a_lane_and_what_was_thrown_away_is_lost_for_certain() {
    let transfer = lost_and_doubled();
    let diagram = Diagram::new(&transfer);
    assert_eq!(diagram.lanes, [CLIENT, "Mumbai", "Delhi"]);
    let messages = diagram.steps.iter().filter_map(|step| match &step.kind {
        StepKind::Message { from, to, way, .. } => Some((*from, *to, *way)),
        StepKind::Mark { .. } => None,
    });
    let messages: Vec<(usize, usize, Way)> = messages.collect();
    let expected = [
        (0, 1, Way::Whole),
        (1, 2, Way::Lost),
        (1, 2, Way::Whole),
        (1, 2, Way::Again),
        (1, 2, Way::Lost),
        (1, 0, Way::Whole),
    ];
    assert_eq!(messages, expected);
    assert!(diagram.remarks.is_empty(), "the client is no branch that was not asked: {:?}", diagram.remarks);
    assert!(draw(Format::Text, &transfer).contains("lost for certain"));
    assert!(draw(Format::Mermaid, &transfer).contains("b1-xb2: commit (lost)\n"));
}

#[test]
fn what_another_branch_wrote_neither_ends_a_line_nor_steers_a_terminal() {
    let mut transfer = lost_and_doubled();
    let written = "\u{1b}[2J\n\u{7f}\u{85}";
    transfer.outcome = Some(written.into());
    transfer.witnesses.push(Witness {
        branch: format!("Agra{written}"),
        addresses: Vec::new(),
        started_unix_ms: None,
        run: None,
        unreachable: Some(written.into()),
    });
    let mut note = transfer.events[0].clone();
    note.number = 1_000;
    note.kind = protocol::event::EventKind::Note { text: written.into() };
    transfer.events.push(note);
    for format in [Format::Text, Format::Ascii, Format::Mermaid, Format::Shiviz] {
        let drawn = draw(format, &transfer);
        assert!(drawn.contains("[2J"), "{format:?}: {drawn:?}");
        assert!(drawn.chars().all(|c| c == '\n' || !c.is_control()), "{format:?}: {drawn:?}");
    }
}

/// A branch's run, which began after the event with this number.
fn run(after_event: u64, started_unix_ms: u64) -> Run {
    Run { after_event, started_unix_ms, remembers_from_unix_ms: 0 }
}

#[test]
fn a_branch_that_tells_of_its_run_was_started_where_its_numbers_say_so() {
    let starts = |run: Run, number: Option<u64>| {
        let mut transfer = lost_and_doubled();
        transfer.witnesses[1].run = Some(run);
        transfer.witnesses[1].started_unix_ms = Some(run.started_unix_ms);
        if let Some(number) = number {
            let mut later = transfer.events.last().unwrap().clone();
            (later.number, later.branch) = (number, "Delhi".parse().unwrap());
            later.clock.insert(later.branch.clone(), number);
            transfer.events.push(later);
        }
        text(&Diagram::new(&transfer), &Glyphs::ASCII).matches("(re)started").count()
    };
    // It was started before, whatever the clocks on the walls say.
    assert_eq!(starts(run(0, 5), None), 0);
    // It was started after all that is known of it here, and adds nothing.
    assert_eq!(starts(run(9, 1_000), None), 0);
    assert_eq!(starts(run(9, 1_000), Some(10)), 1);
    // Nothing of before its start is known, and it was later.
    let mut transfer = lost_and_doubled();
    transfer.events.retain(|event| event.branch.as_str() != "Delhi");
    transfer.witnesses[1].run = Some(run(9, 1_000));
    transfer.witnesses[1].started_unix_ms = Some(1_000);
    let drawn = |transfer: &Transfer| text(&Diagram::new(transfer), &Glyphs::ASCII);
    assert!(drawn(&transfer).contains("(re)started"));
    // Its clock is ahead, and the first event knows of this run already.
    transfer.events[0].clock.insert("Delhi".parse().unwrap(), 10);
    assert!(!drawn(&transfer).contains("(re)started"));
}

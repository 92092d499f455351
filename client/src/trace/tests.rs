//! Golden drawings: each `.json` of `tests/golden_trace` is what `trace --format json` gave of a real transfer, and
//! beside it stands what is drawn of it. `UPDATE_GOLDEN=1` writes the drawings anew.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_trace")
}

/// The recorded traces and their names.
fn recorded() -> Vec<(String, Gathered)> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".json")?.to_string()))
        .collect();
    names.sort();
    let read = |name: String| {
        let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
        let Document { txid, outcome, branches, events } = serde_json::from_str(&text).unwrap();
        (name, Gathered { txid, outcome, witnesses: branches, events })
    };
    names.into_iter().map(read).collect()
}

#[test]
fn drawings_are_as_they_were() {
    let recorded = recorded();
    assert!(recorded.len() >= 8, "only {} traces", recorded.len());
    for (name, mut gathered) in recorded {
        // The drawing does not depend on the order in which the branches were asked.
        gathered.events.reverse();
        for (format, ascii, suffix) in [
            (Format::Text, false, "txt"),
            (Format::Text, true, "ascii.txt"),
            (Format::Mermaid, false, "mmd"),
            (Format::Shiviz, false, "shiviz"),
        ] {
            let drawn = draw(format, ascii, gathered.clone());
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
    for (name, gathered) in recorded() {
        let drawn = draw(Format::Text, true, gathered);
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
    for (name, gathered) in recorded() {
        let log = draw(Format::Shiviz, false, gathered);
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
    let gathered = Gathered { txid, outcome: None, witnesses: Vec::new(), events: Vec::new() };
    for format in [Format::Text, Format::Mermaid, Format::Shiviz] {
        assert!(!draw(format, false, gathered.clone()).is_empty());
    }
}

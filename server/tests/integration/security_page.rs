//! SECURITY.md says what the code does: its table of limits has their values, and the tests that it names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bank_server::limits::*;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn page() -> String {
    fs::read_to_string(project().join("SECURITY.md")).unwrap()
}

/// The rows of the table below this heading, as their cells.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let section = page.split_once(heading).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect()).collect()
}

fn bytes(bytes: usize) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

fn time(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

#[test]
fn the_table_of_limits_has_the_codes_values() {
    macro_rules! limits {
        ($($text:expr => [$($name:ident),* $(,)?]),* $(,)?) => {
            vec![$($((stringify!($name).to_string(), $text($name)),)*)*]
        };
    }
    let expected = limits!(
        |count: usize| count.to_string() => [
            CLIENTS, SESSIONS_PER_ACCOUNT, PIPELINE_REQUESTS, LIST_ROWS, GROUP_OPERATIONS, QUEUE_OPERATIONS,
            QUEUE_OPERATIONS_SHARE, TRANSFERS, TRANSFERS_SHARE, LONG_READS, LONG_READS_SHARE, HASHING_THREADS,
            HASHES_WAITING, BATCH_PASSWORDS_CUSTOMER, BATCH_PASSWORDS, BRANCHES, EVENTS_KEPT, ANSWERS_SHARE, PIPELINE_RECEIVERS,
        ],
        |count: u32| count.to_string() =>
            [HASH_ACCOUNT_BURST, HASH_ADDRESS_BURST, ACCOUNT_LOCK_FROM, ADDRESS_LOCK_FROM],
        bytes => [
            FRAME_BYTES_FREE, FRAMES_BYTES, FRAMES_BYTES_SHARE, STRANGERS_FRAMES_BYTES, STRANGERS_FRAMES_BYTES_SHARE,
            WRITE_BUFFER_BYTES, SEND_BUFFER_BYTES, EVENTS_BYTES, LINK_FRAME_BYTES, ANSWERS_BYTES, ANSWERS_BYTES_SHARE, ERROR_TEXT_BYTES,
        ],
        time => [IDLE_TIMEOUT, STRANGER_IDLE, FRAME_TIMEOUT, WRITE_TIMEOUT, TLS_HANDSHAKE, LOCKOUT_LOCK],
    );
    let expected: BTreeSet<(String, String)> = expected.into_iter().collect();
    let rows = table(&page(), "## What runs out");
    let found: BTreeSet<(String, String)> =
        rows.iter().map(|row| (row[0].trim_matches('`').to_string(), row[1].clone())).collect();
    let differences: Vec<_> = expected.symmetric_difference(&found).collect();
    assert!(differences.is_empty(), "in the code or on the page alone: {differences:?}");
}

/// The names of all test functions below a folder.
fn tests_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            tests_below(&path, names);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            for (_, after) in text.match_indices("#[test]\n").map(|(at, mark)| text.split_at(at + mark.len())) {
                let line = after.lines().find(|line| line.trim_start().starts_with("fn ")).unwrap_or_default();
                let function = line.trim_start().trim_start_matches("fn ");
                names.insert(function.split('(').next().unwrap_or_default().to_string());
            }
        }
    }
}

#[test]
fn the_tests_that_the_table_of_faults_names_exist() {
    let mut names = BTreeSet::new();
    for folder in ["tests", "server", "protocol", "two_phase_commit", "bridge", "client"] {
        tests_below(&project().join(folder), &mut names);
    }
    let rows = table(&page(), "## What goes wrong");
    assert!(rows.len() > 20, "{} rows", rows.len());
    for row in rows {
        let test = row[2].trim_matches('`');
        assert!(names.contains(test), "there is no test {test}, which shows that {}: {}", row[0], row[1]);
    }
}

//! How measurements look to people. `--json` shows the same as JSON.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use crate::machine::Machine;
use crate::measurement::{Measurement, per_mille};
#[cfg(feature = "peers")]
use crate::peers::Peers;
use crate::report::{Ratio, Report};
use crate::scale::Scale;
use crate::streams::{Measured, Streams};

/// A table of measurements, with the text of a refusal below it if there was one.
pub fn measurements<'a>(rows: impl IntoIterator<Item = (&'a str, &'a Measurement)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["", "per second", "p50 us", "p99 us", "p99.9 us", "max us", "errors"]);
    let mut refusals = String::new();
    for (name, measurement) in rows {
        let latency = measurement.latency;
        table.add_row([
            name.to_string(),
            thousands(measurement.per_second),
            thousands(latency.p50_us),
            thousands(latency.p99_us),
            thousands(latency.p999_us),
            thousands(latency.max_us),
            thousands(measurement.errors),
        ]);
        if let Some(error) = &measurement.last_error {
            // Writing to a String cannot fail.
            let _ = writeln!(refusals, "{name}: a request was refused: {error}");
        }
    }
    right_align(&mut table, 1);
    format!("{table}\n{refusals}")
}

/// The report's tables.
pub fn report(report: &Report) -> String {
    let Report { machine: on, rounds, accounts, measurements: rows, ratios: compared } = report;
    let rows = measurements(rows.iter().map(|(name, measurement)| (name.as_str(), measurement)));
    format!(
        "{}\nTransfers, {} accounts at each branch, medians of {rounds}:\n\n{rows}\n{}",
        machine(on),
        thousands(*accounts),
        ratios(compared)
    )
}

/// The bank beside its peers.
#[cfg(feature = "peers")]
pub fn peers(peers: &Peers) -> String {
    let rows = measurements(peers.measurements.iter().map(|(name, measurement)| (name.as_str(), measurement)));
    format!(
        "{}{}\n\nTransfers between {} accounts each, medians of {} (a peer that tells no latency shows 0):\n\n{rows}\n{}",
        machine(&peers.machine),
        peers.peers.join("\n"),
        thousands(peers.accounts),
        peers.rounds,
        ratios(&peers.ratios)
    )
}

/// What was measured with many accounts and transactions.
pub fn scale(scale: &Scale) -> String {
    let few = format!("{} accounts", thousands(scale.few_accounts));
    let many = format!("{} accounts", thousands(scale.accounts));
    let old = format!("{few}, {} transactions", thousands(scale.transactions));
    let rows = [(few.as_str(), &scale.few), (many.as_str(), &scale.many), (old.as_str(), &scale.old)];
    format!(
        "{}\nTransfers over 64 connections, 16 deep:\n\n{}\n\
         With {many} the rate is {} of that with {few}; with {} transactions it is {}.\n\
         Start after SIGKILL with {} transactions: {} ms (goal: below {} ms): {}\n",
        machine(&scale.machine),
        measurements(rows),
        percent(scale.many_to_few_per_mille),
        thousands(scale.transactions),
        percent(scale.old_to_few_per_mille),
        thousands(scale.transactions),
        thousands(scale.start_up_ms),
        thousands(scale.start_up_goal_ms),
        verdict(scale.start_up_met),
    )
}

/// What streams of events cost.
pub fn streams(streams: &Streams) -> String {
    let rows = measurements(streams.cases.iter().map(|case| (case.name, &case.load)));
    format!(
        "{}\nTransfers between two branches over 8 connections, {} accounts at each branch, without and with {} streams of a\n\
         bridge's events of which one is not read, {} rounds:\n\n{rows}\n\
         Who had the processors, as shares of all there were (\"work\": the branches' time for a transfer):\n\n{}\n\
         With streams to without:\n\n{}",
        machine(&streams.machine),
        thousands(streams.accounts),
        streams.streams,
        streams.rounds,
        processors(&streams.cases),
        ratios(&streams.ratios),
    )
}

fn processors(cases: &[Measured]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["", "payer", "receiver", "bridge", "readers", "load", "others", "work us", "each read KiB"]);
    for case in cases {
        let used = case.processors;
        let share = |part_ms| percent(per_mille(part_ms, used.there_was_ms));
        table.add_row([
            case.name.to_string(),
            share(used.payer_ms),
            share(used.receiver_ms),
            share(used.bridge_ms),
            share(used.readers_ms),
            share(used.load_ms),
            share(used.others_ms),
            thousands(used.branches_us_per_transfer),
            case.received.map_or(String::new(), |got| {
                let waiting = thousands(got.stalled_bytes >> 10);
                let each = thousands((got.bytes / got.streams.max(1)) >> 10);
                format!("{each}; {waiting} wait for the other")
            }),
        ]);
    }
    right_align(&mut table, 1);
    format!("{table}\n")
}

fn machine(machine: &Machine) -> String {
    format!(
        "{} cores of {}, {}, {}; a forced write of 4 KiB takes {} us.\n",
        machine.cores, machine.processor, machine.system, machine.file_system, machine.forced_write_us
    )
}

fn ratios(ratios: &[Ratio]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["", "measured", "goal", ""]);
    for ratio in ratios {
        let (measured, goal) = if ratio.is_least {
            // A share is told in hundredths, and what is to be more than the other as so many times that.
            let tell = if ratio.goal_per_mille < 1_000 { percent } else { times };
            (tell(ratio.per_mille), format!("at least {}", tell(ratio.goal_per_mille)))
        } else {
            (times(ratio.per_mille), format!("below {}", times(ratio.goal_per_mille)))
        };
        table.add_row([ratio.name.to_string(), measured, goal, verdict(ratio.met).to_string()]);
    }
    right_align(&mut table, 1);
    format!("{table}\n")
}

const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// All columns from `first` on.
fn right_align(table: &mut Table, first: usize) {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// `1234567` as `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent(per_mille: u64) -> String {
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}

fn times(per_mille: u64) -> String {
    format!("{}.{:02} x", per_mille / 1_000, per_mille % 1_000 / 10)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::latency::Latencies;

    #[test]
    fn numbers_read_well() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
        assert_eq!((percent(405).as_str(), percent(1_200).as_str()), ("40.5 %", "120.0 %"));
        assert_eq!((times(2_049).as_str(), times(990).as_str()), ("2.04 x", "0.99 x"));
    }

    #[test]
    fn a_refusal_is_shown_below_its_table() {
        let refused = Some("too little".to_string());
        let measurement = Measurement::new(2_000, 1, refused, Duration::from_secs(1), &Latencies::new());
        let text = measurements([("load", &measurement)]);
        assert!(text.contains(" 2,000 |"), "{text}");
        assert!(text.ends_with("load: a request was refused: too little\n"), "{text}");
    }
}

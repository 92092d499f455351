//! How a page of rows looks: columns side by side, a rule under the header, ASCII but for what customers
//! brought.
//!
//! Tables are as wide as their content and never wrap, because a line that is cut in two reads worse in a
//! transcript than a long one.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle, presets};
use protocol::answer::{Audit, Branch, HistoryLine, Pending};
use protocol::menu_line::ServerLine;

use super::PAGE_ROWS;
use crate::bank::accounts::Account;
use crate::bank::customer::Aadhaar;

/// What stands in a cell that has nothing to show.
const NOTHING: &str = "-";

/// The accounts of one page.
#[must_use]
pub fn accounts(rows: &[Account]) -> Vec<ServerLine> {
    let header = ["Account", "Name", "Aadhaar", "Phone", "SMS", "Balance", "Held", "Status"];
    let cells = rows.iter().map(|row| {
        [
            row.number.to_string(),
            row.name(),
            masked(row.aadhaar.as_deref()),
            row.phone.clone().unwrap_or_default(),
            if row.sms { "yes" } else { "no" }.to_string(),
            row.balance.to_string(),
            row.held.to_string(),
            if row.is_open { "open" } else { "closed" }.to_string(),
        ]
    });
    render(&header, cells, &[0, 5, 6])
}

/// The transactions of one page. The transfer's column is left out where no row has one.
#[must_use]
pub fn transactions(rows: &[HistoryLine]) -> Vec<ServerLine> {
    let header = ["No.", "Date", "Type", "From", "To", "Amount", "Transfer"];
    let columns = if rows.iter().any(|row| row.txid.is_some()) { header.len() } else { header.len() - 1 };
    let cells = rows.iter().map(|row| {
        [
            row.transaction_id.to_string(),
            row.date.clone(),
            row.kind.clone(),
            row.from_account.clone(),
            row.to_account.clone(),
            row.amount.to_string(),
            row.txid.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]
        .into_iter()
        .take(columns)
    });
    render(&header[..columns], cells, &[0, 5])
}

/// The known branches.
#[must_use]
pub fn branches(rows: &[Branch]) -> Vec<ServerLine> {
    let cells = rows.iter().map(|row| [row.name.clone(), row.address.clone(), row.state.clone()]);
    render(&["Branch", "Address", "State"], cells, &[])
}

/// The transfers in doubt of one page.
#[must_use]
pub fn in_doubt(rows: &[Pending]) -> Vec<ServerLine> {
    let header = ["Transfer", "What it does here", "State", "Coordinator", "Answers", "Age"];
    let cells = rows.iter().map(|row| {
        [
            row.txid.to_string(),
            row.legs.join("; "),
            row.state.clone(),
            row.coordinator.clone().unwrap_or_else(|| "an outside program".into()),
            if row.coordinator_answers { "yes" } else { "no" }.to_string(),
            age(row.age_seconds),
        ]
    });
    render(&header, cells, &[5])
}

/// The figures of an audit and what it found, the first of it where there is much.
#[must_use]
pub fn audit(report: &Audit) -> Vec<ServerLine> {
    let figures = [
        ("Sum of all balances", report.balances),
        ("Sent to other branches, net", report.in_transit),
        ("Ever paid in", report.paid_in),
        ("Ever paid out", report.paid_out),
    ];
    let cells = figures.iter().map(|(figure, total)| [(*figure).to_string(), total.to_string()]);
    let mut lines = render(&["Books", "Rs"], cells, &[1]);
    lines.extend(report.findings.iter().take(PAGE_ROWS).map(|finding| ServerLine::Text(format!("! {finding}"))));
    if let Some(more) = report.findings.len().checked_sub(PAGE_ROWS).filter(|&more| more > 0) {
        lines.push(ServerLine::Text(format!("! and {more} more")));
    }
    lines
}

/// An Aadhaar number as it may be shown.
fn masked(aadhaar: Option<&str>) -> String {
    let aadhaar = aadhaar.and_then(|digits| digits.parse::<Aadhaar>().ok());
    aadhaar.map_or_else(String::new, |aadhaar| aadhaar.to_string())
}

fn render<R: IntoIterator<Item = String>>(
    header: &[&str],
    rows: impl Iterator<Item = R>,
    right_aligned: &[usize],
) -> Vec<ServerLine> {
    let style: TableStyle = presets::NOTHING.header_separator(LineStyle::none().fill('-').junction('-'));
    let mut table = Table::new();
    table.load_style(style).set_header(header.to_vec());
    for row in rows {
        table.add_row(row.into_iter().map(cell).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        // With the style's own blank between columns, two blanks part them.
        column.set_padding((0, 1));
    }
    for &index in right_aligned {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt().lines().map(|line| ServerLine::Text(line.to_string())).collect()
}

/// A cell's text on one line: a newline in it would tear the table apart.
fn cell(text: String) -> String {
    if text.is_empty() {
        NOTHING.to_string()
    } else {
        text.replace(|character: char| character.is_control(), "\u{fffd}")
    }
}

/// An age in its largest whole unit.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        86_400.. => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[ServerLine]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let row = |name: &str, address: &str| Branch { name: name.into(), address: address.into(), state: "".into() };
        let lines = branches(&[row("Delhi", "127.0.0.1:9101"), row("Navi\nMumbai", "b:1")]);
        let expected = [
            "Branch       Address         State",
            "-----------------------------------",
            "Delhi        127.0.0.1:9101  -",
            "Navi\u{fffd}Mumbai  b:1             -",
            "",
        ];
        assert_eq!(text(&lines), expected.join("\n"));
    }

    #[test]
    fn ages_in_their_largest_unit() {
        for (seconds, expected) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_599, "59 min"), (7_200, "2 h"), (172_800, "2 d")]
        {
            assert_eq!(age(seconds), expected);
        }
    }

    #[test]
    fn many_findings_are_cut_and_counted() {
        let findings = (0..PAGE_ROWS + 3).map(|number| format!("finding {number}")).collect();
        let report = Audit { findings, ..Audit::default() };
        let text = text(&audit(&report));
        assert!(text.ends_with("! finding 19\n! and 3 more\n"), "{text}");
    }
}

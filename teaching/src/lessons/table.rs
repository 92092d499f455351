//! Money tables in plain text, for a projector: aligned with blanks, figures to the right.

/// Lines of a table under a heading; the first column is text, the others are figures.
#[must_use]
pub fn table<const COLUMNS: usize>(heading: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let heading = heading.map(str::to_string);
    let width = |column: usize| {
        let cells = std::iter::once(&heading).chain(rows).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let lines: Vec<String> = std::iter::once(&heading).chain(rows).map(line).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_under_each_other() {
        let rows = [["Mumbai/1001".into(), "1000.00".into()], ["Delhi/1002".into(), "50.00".into()]];
        assert_eq!(table(["", "balance"], &rows), "             balance\nMumbai/1001  1000.00\nDelhi/1002     50.00");
    }
}

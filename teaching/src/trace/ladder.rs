//! The ladder: a lane for each branch, time downwards, an arrow for each message, a block at each forced record.

use crate::trace::diagram::Diagram;
use crate::trace::step::{Mark, Step, StepKind, Way};

/// The characters that the ladder is drawn with.
#[derive(Debug)]
pub struct Glyphs {
    lane: char,
    crossing: char,
    leaves_right: char,
    leaves_left: char,
    line: char,
    dash: char,
    head_right: char,
    head_left: char,
    lost: char,
    missing: char,
    unseen: char,
    forced: char,
    unforced: char,
    commit_point: char,
    state: char,
    in_doubt: char,
    money: char,
    restart: char,
    note: char,
    cut: char,
    arrow: &'static str,
}

impl Glyphs {
    /// For terminals that show more than ASCII.
    pub const UNICODE: Self = Self {
        lane: '│',
        crossing: '┼',
        leaves_right: '├',
        leaves_left: '┤',
        line: '─',
        dash: '╌',
        head_right: '▶',
        head_left: '◀',
        lost: '✖',
        missing: '✗',
        unseen: '?',
        forced: '█',
        unforced: '░',
        commit_point: '◆',
        state: '○',
        in_doubt: '◐',
        money: '·',
        restart: '▲',
        note: '·',
        cut: '…',
        arrow: "→",
    };
    /// For all others.
    pub const ASCII: Self = Self {
        lane: '|',
        crossing: '+',
        leaves_right: '|',
        leaves_left: '|',
        line: '-',
        dash: '.',
        head_right: '>',
        head_left: '<',
        lost: 'X',
        missing: 'x',
        unseen: '?',
        forced: '#',
        unforced: ':',
        commit_point: '@',
        state: 'o',
        in_doubt: '%',
        money: '$',
        restart: '^',
        note: '*',
        cut: '~',
        arrow: "->",
    };

    const fn mark(&self, mark: Mark) -> char {
        match mark {
            Mark::Forced => self.forced,
            Mark::Unforced => self.unforced,
            Mark::CommitPoint => self.commit_point,
            Mark::State => self.state,
            Mark::InDoubt => self.in_doubt,
            Mark::Money => self.money,
            Mark::Restart => self.restart,
            Mark::Note => self.note,
        }
    }
}

/// The column of the first lane; the times stand before it.
const FIRST_LANE: usize = 12;
/// Between two lanes, in columns.
const GAP_MIN: usize = 26;
/// Three lanes fit a terminal of 120 columns.
const GAP_MAX: usize = 46;
/// What an arrow needs beside its label: its two ends, blanks, and a piece of line on each side.
const ARROW_EXTRA: usize = 8;
/// How far from the next lane an arrow ends that does not reach it.
const SHORT_BY: usize = 4;
/// The longest ` (12)` or ` (again)`.
const NUMBER_MAX: usize = 8;
/// What a mark needs beside its text.
const MARK_EXTRA: usize = 4;
/// The longest text to the right of the last lane, in columns.
const LAST_TEXT_MAX: usize = 70;

/// Draws the ladder.
#[must_use]
pub fn draw(diagram: &Diagram, glyphs: &Glyphs) -> String {
    let ladder = Ladder { diagram, glyphs, gap: gap(diagram) };
    let mut lines = vec![diagram.title.clone(), String::new(), ladder.header()];
    let mut last_ms = None;
    for step in &diagram.steps {
        lines.push(ladder.row(step, last_ms != Some(step.at_ms)));
        last_ms = Some(step.at_ms);
    }
    lines.push(String::new());
    lines.extend(legend(diagram, glyphs));
    lines.extend(diagram.remarks.iter().cloned());
    lines.join("\n") + "\n"
}

/// As much as the longest text needs, within bounds.
fn gap(diagram: &Diagram) -> usize {
    let last = diagram.lanes.len().saturating_sub(1);
    let needed = diagram.steps.iter().map(|step| match &step.kind {
        StepKind::Message { label, way: Way::Whole | Way::Inferred, .. } => label.chars().count() + ARROW_EXTRA,
        StepKind::Message { label, .. } => label.chars().count() + ARROW_EXTRA + 2 * SHORT_BY,
        StepKind::Mark { lane, text, .. } if *lane < last => text.chars().count() + MARK_EXTRA,
        StepKind::Mark { .. } => 0,
    });
    needed.max().unwrap_or(0).clamp(GAP_MIN, GAP_MAX)
}

struct Ladder<'s> {
    diagram: &'s Diagram,
    glyphs: &'s Glyphs,
    gap: usize,
}

impl Ladder<'_> {
    fn column(&self, lane: usize) -> usize {
        FIRST_LANE + lane * self.gap
    }

    fn header(&self) -> String {
        let mut row = Row::default();
        for (lane, name) in self.diagram.lanes.iter().enumerate() {
            // Centred on the lane, as far as the margin lets it.
            row.put(self.column(lane).saturating_sub(name.chars().count() / 2), name);
        }
        row.finish()
    }

    fn row(&self, step: &Step, with_time: bool) -> String {
        let mut row = Row::default();
        if with_time {
            row.put(0, &format!("{:>width$}", format!("{} ms", step.at_ms), width = FIRST_LANE - 3));
        }
        for lane in 0..self.diagram.lanes.len() {
            row.put_char(self.column(lane), self.glyphs.lane);
        }
        match &step.kind {
            StepKind::Mark { lane, mark, text } => self.mark(&mut row, *lane, *mark, text),
            StepKind::Message { from, to, label, way } if from == to => {
                self.mark(&mut row, *from, Mark::Note, &format!("{label} (to itself, {way:?})"));
            }
            StepKind::Message { from, to, label, way } => self.message(&mut row, *from, *to, label, *way),
        }
        row.finish()
    }

    fn mark(&self, row: &mut Row, lane: usize, mark: Mark, text: &str) {
        let is_last = lane + 1 == self.diagram.lanes.len();
        let room = if is_last { LAST_TEXT_MAX } else { self.gap - MARK_EXTRA };
        let text = text.replace("->", self.glyphs.arrow);
        row.put_char(self.column(lane), self.glyphs.mark(mark));
        row.put(self.column(lane) + 2, &self.fitted(&text, room));
    }

    fn message(&self, row: &mut Row, from: usize, to: usize, label: &str, way: Way) {
        let g = self.glyphs;
        let to_name = &self.diagram.lanes[to];
        let (start, end) = (self.column(from), self.column(to));
        match way {
            Way::Whole => self.arrow(row, (from, to), (start, end), g.line, label, true),
            Way::Again => self.arrow(row, (from, to), (start, end), g.line, &format!("{label} (again)"), true),
            Way::Inferred => self.arrow(row, (from, to), (start, end), g.dash, label, true),
            Way::Departs(number) => {
                let label = format!("{label} ({number})");
                self.arrow(row, (from, to), (start, self.short_of(from, to)), g.line, &label, false);
            }
            Way::Arrives(number) => {
                let start = self.short_of(to, from);
                self.arrow(row, (from, to), (start, end), g.line, &format!("{label} ({number})"), true);
            }
            Way::Lost | Way::Missing | Way::Unseen => {
                let end = self.short_of(from, to);
                let is_neighbour = from.abs_diff(to) == 1;
                let label = if is_neighbour { label.into() } else { format!("{label} {} {to_name}", g.arrow) };
                self.arrow(row, (from, to), (start, end), g.dash, &label, false);
                let sign = match way {
                    Way::Lost => g.lost,
                    Way::Missing => g.missing,
                    Way::Unseen | Way::Whole | Way::Departs(_) | Way::Arrives(_) | Way::Again | Way::Inferred => {
                        g.unseen
                    }
                };
                row.put_char(end, sign);
            }
        }
    }

    /// Short of the next lane: where an arrow ends that does not reach its receiver, and where one begins that left
    /// its sender further up.
    fn short_of(&self, from: usize, to: usize) -> usize {
        let length = self.gap - SHORT_BY;
        if from < to { self.column(from) + length } else { self.column(from) - length }
    }

    /// A line from column `start` to column `end`, with its label in the gap beside the sender.
    fn arrow(
        &self,
        row: &mut Row,
        (from, to): (usize, usize),
        (start, end): (usize, usize),
        line: char,
        label: &str,
        with_head: bool,
    ) {
        let g = self.glyphs;
        let (left, right) = (start.min(end), start.max(end));
        for column in left + 1..right {
            let crosses = (0..self.diagram.lanes.len()).any(|lane| self.column(lane) == column);
            row.put_char(column, if crosses { g.crossing } else { line });
        }
        if start == self.column(from) {
            row.put_char(start, if from < to { g.leaves_right } else { g.leaves_left });
        }
        if with_head {
            let (column, head) = if from < to { (end - 1, g.head_right) } else { (end + 1, g.head_left) };
            row.put_char(column, head);
        }
        let length = (right - left).min(self.gap);
        let label = self.fitted(label, length.saturating_sub(ARROW_EXTRA - 2));
        let width = label.chars().count() + 2;
        let near = if from < to { start.min(end) } else { start.max(end) - length };
        row.put(near + (length.saturating_sub(width)).div_ceil(2), &format!(" {label} "));
    }

    fn fitted(&self, text: &str, room: usize) -> String {
        if text.chars().count() <= room {
            return text.to_string();
        }
        // The number that leads from one end of an arrow to the other is worth more than the last words before it.
        let (words, number) = match text.rfind(" (") {
            Some(start) if text.ends_with(')') && text.len() - start <= NUMBER_MAX => text.split_at(start),
            Some(_) | None => (text, ""),
        };
        let room = room.saturating_sub(number.chars().count() + 1);
        let kept: String = words.chars().take(room).collect();
        format!("{}{}{number}", kept.trim_end(), self.glyphs.cut)
    }
}

/// What the signs mean, as far as they occur.
fn legend(diagram: &Diagram, glyphs: &Glyphs) -> Vec<String> {
    let marks = [
        (Mark::Forced, "forced to disk before anything that depends on it is sent"),
        (Mark::Unforced, "recorded, not forced"),
        (Mark::CommitPoint, "from here on it is committed, whatever fails"),
        (Mark::InDoubt, "has voted yes and can't decide alone"),
        (Mark::Restart, "the branch was started"),
    ];
    let mut lines = Vec::new();
    for (mark, meaning) in marks {
        let occurs = |step: &Step| matches!(step.kind, StepKind::Mark { mark: other, .. } if other == mark);
        if diagram.steps.iter().any(occurs) {
            lines.push(format!("{}   {meaning}", glyphs.mark(mark)));
        }
    }
    let has_way = |wanted: Way| {
        diagram.steps.iter().any(|step| matches!(step.kind, StepKind::Message { way, .. } if way == wanted))
    };
    let dashes = format!("{0}{0}", glyphs.dash);
    if has_way(Way::Lost) {
        lines.push(format!("{dashes}{} lost for certain", glyphs.lost));
    }
    if has_way(Way::Missing) {
        lines.push(format!("{dashes}{} lost, or still on its way", glyphs.missing));
    }
    if has_way(Way::Unseen) {
        lines.push(format!("{dashes}{} the receiver can't say whether it came", glyphs.unseen));
    }
    if has_way(Way::Inferred) {
        lines.push(format!("{dashes}{} received; the sender has forgotten it", glyphs.head_right));
    }
    lines
}

/// A line of text that is written at columns.
#[derive(Default)]
struct Row(Vec<char>);

impl Row {
    fn put_char(&mut self, column: usize, character: char) {
        if self.0.len() <= column {
            self.0.resize(column + 1, ' ');
        }
        self.0[column] = character;
    }

    fn put(&mut self, column: usize, text: &str) {
        for (offset, character) in text.chars().enumerate() {
            // What could steer a terminal is not drawn.
            self.put_char(column + offset, if character.is_control() { ' ' } else { character });
        }
    }

    fn finish(self) -> String {
        self.0.into_iter().collect::<String>().trim_end().to_string()
    }
}

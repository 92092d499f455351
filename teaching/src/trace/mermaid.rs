//! A Mermaid sequence diagram (<https://mermaid.js.org/syntax/sequenceDiagram.html>), for a page of Markdown.
//!
//! Branches are named by numbers in it and labelled with their names, because a name may hold characters that
//! Mermaid reads as part of an arrow.

use crate::trace::diagram::Diagram;
use crate::trace::step::{Mark, Step, StepKind, Way};

/// Draws the diagram.
#[must_use]
pub fn draw(diagram: &Diagram) -> String {
    let mut lines = vec!["---".to_string(), format!("title: \"{}\"", diagram.title.replace('"', "'")), "---".into()];
    lines.push("sequenceDiagram".into());
    for (lane, name) in diagram.lanes.iter().enumerate() {
        lines.push(format!("    participant b{lane} as {}", escaped(name)));
    }
    lines.extend(diagram.steps.iter().map(|step| format!("    {}", line(step))));
    lines.extend(diagram.remarks.iter().map(|remark| format!("    %% {remark}")));
    lines.join("\n") + "\n"
}

fn line(step: &Step) -> String {
    match &step.kind {
        StepKind::Mark { lane, mark, text } => {
            let sign = match mark {
                Mark::Forced => "█ ",
                Mark::Unforced => "░ ",
                Mark::CommitPoint => "◆ ",
                Mark::InDoubt => "◐ ",
                Mark::Restart => "▲ ",
                Mark::State | Mark::Money | Mark::Note => "",
            };
            format!("Note over b{lane}: {sign}{}", escaped(text))
        }
        StepKind::Message { from, to, label, way } => {
            let label = escaped(label);
            match way {
                Way::Whole => format!("b{from}->>b{to}: {label}"),
                Way::Again => format!("b{from}->>b{to}: {label} (again)"),
                Way::Departs(number) => format!("Note over b{from}: sends {label} ({number})"),
                Way::Arrives(number) => format!("b{from}->>b{to}: {label} ({number})"),
                Way::Inferred => format!("b{from}-->>b{to}: {label}"),
                Way::Lost => format!("b{from}-xb{to}: {label} (lost)"),
                Way::Missing => format!("b{from}-xb{to}: {label} (lost or on its way)"),
                Way::Unseen => format!("b{from}--xb{to}: {label} (not known whether it came)"),
            }
        }
    }
}

/// Text in which nothing ends the statement.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '#' => safe.push_str("#35;"),
            ';' => safe.push_str("#59;"),
            other if other.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}

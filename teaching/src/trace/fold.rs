//! Long rows of resends, cut: a branch that is down for minutes is sent the same message hundreds of times.

use std::collections::{BTreeMap, BTreeSet};

use crate::trace::step::{Step, StepKind, Way};

/// So many resends in a row are drawn; of more the first ones, and the last with their number.
const RESENDS_DRAWN: usize = 3;

/// A message from one lane to another.
type Key = (usize, usize, String);

/// Leaves out most of each long row of resends, as far as nobody is known to have heard them.
pub(crate) fn fold_resends(steps: Vec<Step>) -> Vec<Step> {
    let (mut seen, mut rows) = (BTreeSet::new(), BTreeMap::<Key, Vec<usize>>::new());
    let (mut left_out, mut times) = (BTreeSet::<usize>::new(), BTreeMap::<usize, usize>::new());
    let mut end_rows = |rows: &mut BTreeMap<Key, Vec<usize>>| {
        for row in std::mem::take(rows).into_values().filter(|row| row.len() > RESENDS_DRAWN) {
            let folded = &row[RESENDS_DRAWN - 1..row.len() - 1];
            left_out.extend(folded);
            times.insert(row[row.len() - 1], folded.len() + 1);
        }
    };
    for (index, step) in steps.iter().enumerate() {
        match &step.kind {
            StepKind::Message { from, to, label, way } => {
                let key = (*from, *to, label.clone());
                let is_again = !seen.insert(key.clone());
                if is_again && matches!(way, Way::Missing | Way::Unseen) {
                    rows.entry(key).or_default().push(index);
                } else {
                    end_rows(&mut rows);
                }
            }
            StepKind::Mark { .. } => end_rows(&mut rows),
        }
    }
    end_rows(&mut rows);
    let steps = steps.into_iter().enumerate().filter(|(index, _)| !left_out.contains(index));
    steps.map(|(index, step)| told(step, times.get(&index).copied())).collect()
}

/// A step that stands for so many.
fn told(step: Step, times: Option<usize>) -> Step {
    match (step, times) {
        (Step { at_ms, kind: StepKind::Message { from, to, label, way } }, Some(times)) => {
            Step { at_ms, kind: StepKind::Message { from, to, label: format!("{label} ({times} times)"), way } }
        }
        (step, _) => step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::step::Mark;

    fn message(label: &str, way: Way) -> Step {
        Step { at_ms: 0, kind: StepKind::Message { from: 0, to: 1, label: label.into(), way } }
    }

    fn labels(steps: Vec<Step>) -> Vec<String> {
        let label = |step: Step| match step.kind {
            StepKind::Message { label, .. } => label,
            StepKind::Mark { text, .. } => text,
        };
        fold_resends(steps).into_iter().map(label).collect()
    }

    #[test]
    fn the_first_and_the_last_stand_for_a_long_row() {
        let commits = |count| vec![message("commit", Way::Missing); count];
        assert_eq!(labels(commits(4)), ["commit"; 4]);
        assert_eq!(labels(commits(5)), ["commit", "commit", "commit", "commit (2 times)"]);
        assert_eq!(labels(commits(40)), ["commit", "commit", "commit", "commit (37 times)"]);
    }

    #[test]
    fn what_is_known_of_a_message_and_what_happens_in_between_ends_a_row() {
        let mark = Step { at_ms: 0, kind: StepKind::Mark { lane: 0, mark: Mark::Note, text: "note".into() } };
        for between in [message("commit", Way::Lost), message("commit", Way::Whole), mark] {
            let mut steps = vec![message("commit", Way::Missing); 4];
            steps.push(between);
            steps.extend(vec![message("commit", Way::Missing); 3]);
            assert_eq!(fold_resends(steps.clone()), steps);
        }
    }

    #[test]
    fn two_branches_that_are_down_are_two_rows() {
        let to = |to| Step { at_ms: 0, kind: StepKind::Message { from: 0, to, label: "c".into(), way: Way::Unseen } };
        let steps: Vec<Step> = (0..10).flat_map(|_| [to(1), to(2)]).collect();
        assert_eq!(labels(steps), ["c", "c", "c", "c", "c", "c", "c (7 times)", "c (7 times)"]);
    }
}

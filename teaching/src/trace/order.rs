//! One line of events from many: no event comes after one that it can have caused; what is left open by that, the
//! time of day decides.
//!
//! Each branch's events are in order by themselves. So the next event of the line is the head of one branch's queue,
//! and one that no other head can have caused: were it caused by a later event of another branch, then by that
//! branch's head too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::event::Event;

/// Puts the events into one line. Doubled ones are dropped.
#[must_use]
pub fn in_order(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| event.number);
    let mut seen = BTreeSet::new();
    let mut queues: BTreeMap<_, VecDeque<Event>> = BTreeMap::new();
    for event in events {
        if seen.insert((event.branch.clone(), event.number)) {
            queues.entry(event.branch.clone()).or_default().push_back(event);
        }
    }
    let mut line = Vec::with_capacity(seen.len());
    while let Some(event) = take_next(&mut queues) {
        line.push(event);
    }
    line
}

fn take_next<K: Ord + Clone>(queues: &mut BTreeMap<K, VecDeque<Event>>) -> Option<Event> {
    let heads: Vec<(&K, &Event)> = queues.iter().filter_map(|(key, queue)| Some((key, queue.front()?))).collect();
    let is_first = |event: &Event| !heads.iter().any(|(_, other)| other.is_before(event));
    let earliest = |heads: &mut dyn Iterator<Item = &(&K, &Event)>| {
        heads.min_by_key(|(_, event)| event.at_unix_ms).map(|(key, _)| (*key).clone())
    };
    // Clocks that contradict each other, as after a branch's return with an older database, leave no first one.
    let key =
        earliest(&mut heads.iter().filter(|(_, event)| is_first(event))).or_else(|| earliest(&mut heads.iter()))?;
    queues.get_mut(&key)?.pop_front()
}

#[cfg(test)]
mod tests {
    use protocol::event::EventKind;

    use super::*;

    fn event(branch: &str, number: u64, at_unix_ms: u64, clock: &[(&str, u64)]) -> Event {
        let clock = clock.iter().map(|(name, count)| (name.parse().unwrap(), *count)).collect();
        let kind = EventKind::Note { text: String::new() };
        Event { number, at_unix_ms, branch: branch.parse().unwrap(), txid: None, clock, kind }
    }

    fn names(events: Vec<Event>) -> Vec<String> {
        in_order(events).iter().map(|event| format!("{}{}", event.branch, event.number)).collect()
    }

    #[test]
    fn a_cause_comes_first_whatever_the_clocks_on_the_walls_say() {
        let events = vec![
            event("D", 1, 5, &[("M", 2), ("D", 1)]),
            event("M", 2, 1000, &[("M", 2)]),
            event("M", 1, 999, &[("M", 1)]),
            event("D", 2, 6, &[("M", 2), ("D", 2)]),
        ];
        assert_eq!(names(events), ["M1", "M2", "D1", "D2"]);
    }

    #[test]
    fn what_has_nothing_to_do_with_each_other_goes_by_time() {
        let events = vec![
            event("M", 1, 30, &[("M", 1)]),
            event("D", 1, 10, &[("D", 1)]),
            event("P", 1, 20, &[("P", 1)]),
            event("D", 1, 10, &[("D", 1)]),
        ];
        assert_eq!(names(events), ["D1", "P1", "M1"]);
    }

    #[test]
    fn clocks_that_contradict_each_other_end_too() {
        let events = vec![event("M", 1, 2, &[("M", 1), ("D", 9)]), event("D", 1, 1, &[("M", 9), ("D", 1)])];
        assert_eq!(names(events), ["D1", "M1"]);
    }
}

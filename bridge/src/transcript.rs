//! A lesson as the class saw it, kept so that it can be taken along: each beat's texts, and how far the events of its
//! transfer had gone when it stood.
//!
//! A beat's events are counted when the next thing is asked for, as a class has seen by then what has come meanwhile.
//! A lesson has as many beats as its scenario, so this is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::TxId;
use serde::Serialize;
use teaching::lessons::State;

use crate::store::{Happened, Store};

/// The beats of the lesson that is shown, or was shown last.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Transcript {
    name: String,
    title: String,
    seed: u64,
    beats: Vec<Beat>,
}

/// What was shown, asked and answered.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Beat {
    #[serde(skip)]
    position: usize,
    say: String,
    question: Option<String>,
    answer: Option<String>,
    txid: Option<TxId>,
    /// The number of the last event of each branch that was seen, before the answer,
    seen: BTreeMap<String, u64>,
    /// and after it.
    seen_answered: Option<BTreeMap<String, u64>>,
}

impl Transcript {
    /// Forgets the lesson before.
    pub fn begin(&mut self) {
        *self = Self::default();
    }

    /// Notes how far the events of the beat that stands have gone.
    pub fn look(&mut self, store: &Store) {
        let Some(beat) = self.beats.last_mut() else { return };
        let Some((events, _)) = beat.txid.as_ref().and_then(|txid| store.transfer(txid)) else { return };
        let mut seen = BTreeMap::new();
        for happened in events {
            let event = &happened.event;
            let last: &mut u64 = seen.entry(event.branch.to_string()).or_default();
            *last = (*last).max(event.number);
        }
        match beat.answer {
            Some(_) => beat.seen_answered = Some(seen),
            None => beat.seen = seen,
        }
    }

    /// Takes how the lesson stands.
    pub fn take(&mut self, state: &State) {
        (self.name, self.title, self.seed) = (state.name.clone(), state.title.clone(), state.seed);
        match self.beats.last_mut().filter(|beat| beat.position == state.position) {
            // The transfer that is shown beside the answer may be another one; the question was about this one.
            Some(beat) => beat.answer.clone_from(&state.answer),
            None => self.beats.push(Beat {
                position: state.position,
                say: state.say.clone(),
                question: state.question.clone(),
                answer: state.answer.clone(),
                txid: state.txid.clone(),
                seen: BTreeMap::new(),
                seen_answered: None,
            }),
        }
    }

    /// The lesson's heading; none before the first lesson.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        (!self.beats.is_empty()).then_some(self.title.as_str())
    }

    /// The lesson's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The transfers that it is about, each with its events.
    #[must_use]
    pub fn transfers(&self, store: &Store) -> Vec<(TxId, Vec<Arc<Happened>>)> {
        let txids: BTreeSet<&TxId> = self.beats.iter().filter_map(|beat| beat.txid.as_ref()).collect();
        let known = txids.into_iter().filter_map(|txid| Some((txid.clone(), store.transfer(txid)?.0)));
        known.collect()
    }
}

#[cfg(test)]
mod tests {
    use protocol::event::Event;

    use super::*;

    fn state(position: usize, question: Option<&str>, answer: Option<&str>) -> State {
        State {
            name: "normal-transfer".into(),
            title: "A transfer".into(),
            seed: 1,
            position,
            of: 2,
            say: format!("beat {position}"),
            question: question.map(Into::into),
            answer: answer.map(Into::into),
            txid: Some("T".parse().unwrap()),
            finished: false,
            error: None,
        }
    }

    fn happen(store: &Store, number: u64) {
        let json = format!(
            r#"{{"number":{number},"at_unix_ms":1,"branch":"Mumbai","txid":"T","clock":{{"Mumbai":{number}}},"kind":{{"note":{{"text":""}}}}}}"#
        );
        let event: Event = serde_json::from_str(&json).unwrap();
        store.happened(vec![Happened { event, json: json.into() }]);
    }

    #[test]
    fn a_question_stands_with_what_was_seen_before_its_answer() {
        let (store, mut transcript) = (Store::new(), Transcript::default());
        assert_eq!(transcript.title(), None);
        transcript.take(&state(1, Some("Who?"), None));
        happen(&store, 3);
        transcript.look(&store);
        transcript.take(&state(1, Some("Who?"), Some("Mumbai")));
        happen(&store, 4);
        transcript.look(&store);
        transcript.take(&state(2, None, None));
        let json = serde_json::to_value(&transcript).unwrap();
        let beats = &json["beats"];
        assert_eq!(
            (beats[0]["seen"]["Mumbai"].as_u64(), beats[0]["seenAnswered"]["Mumbai"].as_u64()),
            (Some(3), Some(4))
        );
        assert_eq!((&beats[0]["answer"], &beats[1]["say"]), (&"Mumbai".into(), &"beat 2".into()));
        assert_eq!(transcript.transfers(&store)[0].1.len(), 2);
        transcript.begin();
        assert_eq!(transcript.title(), None);
    }
}

//! A run of a scenario: where it stands, what is shown, and putting everything back.

use protocol::TxId;
use serde::Serialize;

use crate::lessons::Bank;
use crate::lessons::failure::Failure;
use crate::lessons::scenarios::{self, Beat, Scenario};
use crate::lessons::scene::Scene;

/// What is shown of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// The scenario.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// What the order of messages was drawn from, where the lesson leaves it open.
    pub seed: u64,
    /// Which beat is shown, from 1.
    pub position: usize,
    /// How many there are.
    pub of: usize,
    /// What is happening. Lines of a table in it are aligned with blanks.
    pub say: String,
    /// What the class is asked.
    pub question: Option<String>,
    /// The answer, once it was called for.
    pub answer: Option<String>,
    /// The transfer that it is about at the moment.
    pub txid: Option<TxId>,
    /// Whether it is over, and everything put back.
    pub finished: bool,
    /// What went otherwise than the lesson says, in one sentence. It is over then.
    pub error: Option<String>,
}

/// A scenario that is being shown.
///
/// - Once its state is finished, nothing of it is left at the branches.
pub struct Run {
    scenario: &'static Scenario,
    scene: Scene,
    state: State,
}

impl Run {
    /// Puts every earlier fault back, sets the lesson up and shows its first beat.
    ///
    /// # Errors
    /// `no_such_scenario`, `two_branches_needed`, or what kept the branches from being made ready. Whatever goes wrong
    /// from the first beat on is told by the [`State`].
    pub fn start(name: &str, seed: u64, bank: Box<dyn Bank>) -> Result<Self, Failure> {
        let scenario = scenarios::ALL.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
            let names: Vec<_> = scenarios::ALL.iter().map(|scenario| scenario.name).collect();
            let text = format!("there is no scenario {name:?}; there are {}", names.join(", "));
            Failure::refused(Failure::NO_SUCH_SCENARIO, text)
        })?;
        let scene = Scene::set(bank, seed)?;
        let state = State {
            name: scenario.name.into(),
            title: scenario.title.into(),
            seed,
            position: 0,
            of: scenario.beats.len(),
            say: String::new(),
            question: None,
            answer: None,
            txid: None,
            finished: false,
            error: None,
        };
        let mut run = Self { scenario, scene, state };
        run.advance();
        Ok(run)
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Goes one step on: to the answer of the question that stands, or to the next beat. Nothing once it is finished.
    pub fn advance(&mut self) -> &State {
        if self.state.finished {
            return &self.state;
        }
        let done = if self.owes_an_answer() { self.answer() } else { self.show_next() };
        self.state.txid = self.scene.txid().cloned();
        match done {
            Ok(()) if self.state.position == self.state.of && !self.owes_an_answer() => self.finish(),
            Ok(()) => {}
            Err(failure) => {
                self.state.error = Some(failure.text);
                self.finish();
            }
        }
        &self.state
    }

    /// Ends it where it stands, and puts everything back.
    pub fn stop(&mut self) -> &State {
        if !self.state.finished {
            self.finish();
        }
        &self.state
    }

    /// The beat that is shown; none before the first.
    fn beat(&self) -> Option<&'static Beat> {
        self.scenario.beats.get(self.state.position.checked_sub(1)?)
    }

    fn owes_an_answer(&self) -> bool {
        self.state.question.is_some() && self.state.answer.is_none()
    }

    fn show_next(&mut self) -> Result<(), Failure> {
        self.state.position += 1;
        (self.state.say, self.state.question, self.state.answer) = (String::new(), None, None);
        let Some(beat) = self.beat() else { return Ok(()) };
        self.state.say = (beat.show)(&mut self.scene)?;
        self.state.question = beat.question.as_ref().map(|question| self.scene.with_names(question.asks));
        Ok(())
    }

    fn answer(&mut self) -> Result<(), Failure> {
        let Some(question) = self.beat().and_then(|beat| beat.question.as_ref()) else { return Ok(()) };
        self.state.answer = Some((question.answer)(&mut self.scene)?);
        Ok(())
    }

    fn finish(&mut self) {
        self.state.finished = true;
        if let Err(failure) = self.scene.strike() {
            let before = self.state.error.take().map(|error| format!("{error} Then: ")).unwrap_or_default();
            self.state.error = Some(format!("{before}not everything could be put back: {failure}"));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.state.finished {
            self.scene.let_go();
        }
    }
}

#[cfg(test)]
mod tests;

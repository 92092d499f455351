//! What a program has written to standard error so far.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use crate::wait::DEADLINE;

/// A log that grows while its program runs. Clones show the same log.
#[derive(Clone, Debug, Default)]
pub struct ProgramLog(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    text: String,
    has_ended: bool,
}

impl ProgramLog {
    /// Collects all that `output` gives, on a thread of its own that ends with the output.
    #[must_use]
    pub fn collect(output: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let collected = log.clone();
        thread::spawn(move || {
            let mut lines = BufReader::new(output);
            let mut line = Vec::new();
            while let Ok(1..) = lines.read_until(b'\n', &mut line) {
                collected.change(|state| state.text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
            collected.change(|state| state.has_ended = true);
        });
        log
    }

    /// All that was written so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.0.lock().unwrap().text.clone()
    }

    /// How many of the lines so far hold `part`.
    #[must_use]
    pub fn count(&self, part: &str) -> usize {
        self.text().lines().filter(|line| line.contains(part)).count()
    }

    /// All that was written, once the program has closed its standard error.
    #[must_use]
    pub fn whole(&self) -> String {
        self.wait("the program's end", |state| state.has_ended)
    }

    /// Waits until the text meets a condition.
    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: impl Fn(&str) -> bool) {
        self.wait(what, |state| condition(&state.text));
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl Fn(&State) -> bool) -> String {
        let (state, changed) = &*self.0;
        let deadline = Instant::now() + DEADLINE;
        let mut state = state.lock().unwrap();
        while !condition(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}; the log:\n{}", state.text);
            state = changed.wait_timeout(state, left).unwrap().0;
        }
        state.text.clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let (state, changed) = &*self.0;
        change(&mut state.lock().unwrap());
        changed.notify_all();
    }
}

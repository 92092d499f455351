//! Scenarios: a lesson in the terminal, beat by beat, with a question before each answer.
//!
//! On a terminal a person presses Enter between the beats and before each answer; a script gets it all at once. Ctrl-C
//! ends the lesson and puts everything back.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use protocol::TxId;
use protocol::event::Event;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use teaching::lessons::{self, Run, State, order};

use teaching::trace::{self, Diagram, Glyphs, Transfer, Witness};

use crate::commands::context::Context;
use crate::console::{BOLD, GREEN, RED, painted};
use crate::error::{ClientError, ExitStatus};
use crate::lesson_bank::{LessonBank, Recorded};
use crate::output::table;
use crate::surroundings::Input;

pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  bank-client scenarios
  bank-client scenarios --json";

pub(super) const EXAMPLES: &str = "\
Examples:
  bank-client scenario normal-transfer
  bank-client scenario lost-acknowledgement --json
  bank-client --port 9101 scenario the-old-way
  bank-client scenario one-hears-of-it-first --seed 3

It needs two branches that run with --teaching and know one another, some three; the one that is asked pays. On a terminal Enter
goes on, from a pipe it goes straight through. When a branch was killed you are told to start it again. Ctrl-C ends the
scenario and puts everything back. The exit status is 1 when a branch did something else than the scenario says.";

/// How long a line of text is at most, in columns. Tables are left as they are.
const TEXT_COLUMNS: usize = 96;
/// How often a wait for Enter looks whether a signal came.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Arguments of `scenario`.
#[derive(Args, Debug)]
pub struct ScenarioArguments {
    /// Which one
    #[arg(value_parser = PossibleValuesParser::new(lessons::all().into_iter().map(|lesson| lesson.name)))]
    name: String,
    /// Repeats the order of messages of a lesson that leaves it open
    #[arg(long, value_name = "NUMBER", default_value_t = order::DEFAULT_SEED, value_parser = clap::value_parser!(u64).range(..=order::SEED_MAX))]
    seed: u64,
}

/// Lists the scenarios. Needs no branch.
pub(super) fn list(context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let lessons = lessons::all();
    if context.out.json {
        let json = serde_json::to_vec(&lessons).map_err(|error| ClientError::Output(error.into()))?;
        context.out.document(&json)?;
    } else {
        let rows = lessons.iter().map(|lesson| [lesson.name.into(), lesson.teaches.into()]);
        context.out.text(&table(["Scenario", "What it teaches"], &[], rows))?;
    }
    Ok(ExitStatus::AllDone)
}

/// Runs a scenario.
pub(super) fn run(arguments: &ScenarioArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let interrupted = watch_signals()?;
    let bank = LessonBank::find(context.branch.again(), Arc::clone(&interrupted))?;
    let mut shown = Shown { recorded: bank.recorded(), ..Shown::default() };
    let enter = match context.input {
        Input::Person => Some(Enter::start()?),
        Input::Script => None,
    };
    let mut run = Run::start(&arguments.name, arguments.seed, Box::new(bank))
        .map_err(|failure| ClientError::Lesson(failure.text))?;
    loop {
        show(run.state(), &mut shown, context)?;
        if run.state().finished {
            return match (&run.state().error, signal(&interrupted)) {
                (None, _) => Ok(ExitStatus::AllDone),
                (Some(_), None) => Ok(ExitStatus::Refused),
                (Some(_), Some(number)) => Err(ClientError::Signal(number)),
            };
        }
        let goes_on = match &enter {
            Some(enter) => enter.wait(&interrupted)?,
            None => signal(&interrupted).is_none(),
        };
        if goes_on {
            run.advance();
            continue;
        }
        run.stop();
        show(run.state(), &mut shown, context)?;
        return signal(&interrupted).map_or(Ok(ExitStatus::AllDone), |number| Err(ClientError::Signal(number)));
    }
}

/// How much of a beat was written.
#[derive(Default)]
struct Shown {
    position: usize,
    answer: bool,
    error: bool,
    recorded: Recorded,
}

fn show(state: &State, shown: &mut Shown, context: &mut Context<'_>) -> Result<(), ClientError> {
    if context.out.json {
        let json = serde_json::to_vec(state).map_err(|error| ClientError::Output(error.into()))?;
        return context.out.document(&json);
    }
    let color = context.style.color;
    let mut text = String::new();
    if shown.position == 0 {
        text += &format!("{}\n", painted(BOLD, &state.title, color));
    }
    if shown.position != state.position {
        (shown.position, shown.answer, shown.error) = (state.position, false, false);
        text += &format!("\n{}/{}\n{}\n", state.position, state.of, wrapped(&state.say));
        if let Some(question) = &state.question {
            text += &format!("\n{}\n", painted_lines(BOLD, &format!("Question: {question}"), color));
        }
    }
    if let Some(answer) = &state.answer
        && !shown.answer
    {
        shown.answer = true;
        text += &format!("\n{}\n", painted_lines(GREEN, &format!("Answer: {answer}"), color));
        text += &drawn(state.txid.as_ref(), &shown.recorded);
    }
    if let Some(error) = &state.error
        && !shown.error
    {
        shown.error = true;
        text += &format!("\n{}\n", painted_lines(RED, &format!("This did not go as the lesson says: {error}"), color));
    }
    if let (true, Some(txid)) = (state.finished, &state.txid) {
        text += &format!("\nThe last transfer was {txid}; 'bank-client trace {txid}' shows how it went.\n");
    }
    context.out.raw(text.as_bytes())
}

/// The drawing of a transfer of the scratch bank: no branch could be asked for it. Nothing for any other.
fn drawn(txid: Option<&TxId>, recorded: &Recorded) -> String {
    let recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
    let events: Vec<Event> = recorded.iter().filter(|event| event.txid.as_ref() == txid).cloned().collect();
    match txid {
        Some(txid) if !events.is_empty() => {
            let branches: BTreeSet<&str> = events.iter().map(|event| event.branch.as_str()).collect();
            let witness = |branch: &&str| Witness {
                branch: branch.to_string(),
                addresses: Vec::new(),
                started_unix_ms: None,
                run: None,
                unreachable: None,
            };
            let witnesses = branches.iter().map(witness).collect();
            let transfer = Transfer::new(txid.clone(), None, witnesses, events);
            format!("\n{}", trace::text(&Diagram::new(&transfer), &Glyphs::UNICODE))
        }
        Some(_) | None => String::new(),
    }
}

fn painted_lines(code: &str, text: &str, color: bool) -> String {
    wrapped(text).lines().map(|line| painted(code, line, color).into_owned()).collect::<Vec<_>>().join("\n")
}

/// Lines no longer than [`TEXT_COLUMNS`], parted between words, without what could steer a terminal.
fn wrapped(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = crate::console::harmless(line);
        if line.chars().count() <= TEXT_COLUMNS {
            lines.push(line.into_owned());
            continue;
        }
        let mut current = String::new();
        for word in line.split(' ') {
            if !current.is_empty() && current.chars().count() + 1 + word.chars().count() > TEXT_COLUMNS {
                lines.push(std::mem::take(&mut current));
            }
            if !current.is_empty() {
                current.push(' ');
            }
            current += word;
        }
        lines.push(current);
    }
    lines.join("\n")
}

/// The number of the signal that asked the program to end; 0 without one. A second signal ends it at once.
fn watch_signals() -> Result<Arc<AtomicUsize>, ClientError> {
    let number = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order, so that the first signal finds the flag unset.
        flag::register_conditional_default(signal, Arc::clone(&seen)).map_err(ClientError::System)?;
        flag::register(signal, Arc::clone(&seen)).map_err(ClientError::System)?;
        let value = usize::try_from(signal).unwrap_or(usize::MAX);
        flag::register_usize(signal, Arc::clone(&number), value).map_err(ClientError::System)?;
    }
    Ok(number)
}

fn signal(interrupted: &AtomicUsize) -> Option<u8> {
    u8::try_from(interrupted.load(Ordering::SeqCst)).ok().filter(|&number| number != 0)
}

/// Waits for Enter while a signal may come. Its thread sits in a read that only the terminal can end, and is not
/// joined: the end of the program ends it.
struct Enter {
    requests: SyncSender<()>,
    lines: Receiver<io::Result<usize>>,
}

impl Enter {
    fn start() -> Result<Self, ClientError> {
        // One, because there is never more than one wait.
        let (requests, requested) = mpsc::sync_channel(1);
        let (line, lines) = mpsc::sync_channel(1);
        let read = move || {
            while requested.recv().is_ok() {
                let length = io::stdin().lock().read_until(b'\n', &mut Vec::new());
                if line.send(length).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("input".into()).spawn(read).map_err(ClientError::System)?;
        Ok(Self { requests, lines })
    }

    /// Whether Enter was pressed; else the input has ended or a signal came.
    fn wait(&self, interrupted: &AtomicUsize) -> Result<bool, ClientError> {
        eprint!("[Enter] ");
        // A thread that is gone has sent its last line already.
        let _ = self.requests.send(());
        loop {
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok(Ok(length)) => return Ok(length > 0),
                Ok(Err(error)) => return Err(ClientError::Input(error)),
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) if signal(interrupted).is_some() => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_parted_between_words_and_tables_are_left_alone() {
        let words = vec!["word"; 40].join(" ");
        let table = "             Rs\nMumbai/1001  1000.00";
        let shown = wrapped(&format!("{words}\n\n{table}"));
        assert!(shown.lines().all(|line| line.chars().count() <= TEXT_COLUMNS), "{shown}");
        assert!(shown.ends_with(table), "{shown}");
        assert_eq!(shown.split_whitespace().filter(|word| *word == "word").count(), 40);
    }

    #[test]
    fn what_could_steer_a_terminal_is_left_out() {
        assert_eq!(wrapped("a\u{1b}[2Jb"), "a[2Jb");
    }
}

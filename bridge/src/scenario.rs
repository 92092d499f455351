//! The scenario that is shown: one at a time, driven by requests, told to everybody who watches.
//!
//! The lessons themselves are `teaching::lessons`; here is what they need of a bank, and the one run. A step may take
//! half a minute, so it runs on a blocking thread, and another request meanwhile is told to wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use protocol::BranchName;
use protocol::event::Event;
use protocol::request::Action;
use serde_json::Value;
use teaching::lessons::{self, Failure, Run, State};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::branch::{Branch, Repeat};
use crate::bridge::Bridge;
use crate::error::Error;
use crate::limits::{CALL_TIMEOUT, LESSON_RESTART_TIME, LESSON_STEP_TIME, LET_GO_TIME, TRANSFER_TIMEOUT};
use crate::request_id::RequestId;
use crate::store::{Happened, Topic};
use crate::transcript::Transcript;

/// How often a branch that a person is to start is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Starts a scenario, and ends the one that is shown.
///
/// # Errors
/// [`Error::NotFound`], or why it can't be shown.
pub async fn start(bridge: &Arc<Bridge>, name: String, seed: u64) -> Result<State, Error> {
    if lessons::all().iter().all(|lesson| lesson.name != name) {
        return Err(Error::NotFound("there is no scenario of that name; GET /scenarios lists them".into()));
    }
    act(bridge, bridge.scenario.place()?, move |bridge, run| {
        if let Some(mut before) = run.take() {
            before.stop();
        }
        bridge.scenario.transcript.lock().begin();
        let bank = LessonBank { bridge: Arc::clone(bridge) };
        let started = Run::start(&name, seed, Box::new(bank)).map_err(refused)?;
        Ok(run.insert(started).state().clone())
    })
    .await
}

/// Goes one step on.
///
/// # Errors
/// [`Error::Conflict`] when none is shown, or another step is under way.
pub async fn next(bridge: &Arc<Bridge>) -> Result<State, Error> {
    let place = bridge.scenario.place()?;
    act(bridge, place, |_, run| Ok(run.as_mut().ok_or_else(none)?.advance().clone())).await
}

/// Ends the scenario that is shown, and puts everything back. A step under way is waited for, but not a person who is
/// to start a branch.
///
/// # Errors
/// As [`next`].
pub async fn stop(bridge: &Arc<Bridge>) -> Result<State, Error> {
    bridge.scenario.is_ending.store(true, Ordering::Relaxed);
    let place = timeout(LESSON_STEP_TIME, Arc::clone(&bridge.scenario.place).acquire_owned()).await;
    bridge.scenario.is_ending.store(false, Ordering::Relaxed);
    let place = match place {
        Ok(Ok(place)) => place,
        Ok(Err(_)) | Err(_) => bridge.scenario.place()?,
    };
    act(bridge, place, |_, run| Ok(run.as_mut().ok_or_else(none)?.stop().clone())).await
}

/// At the bridge's end: what the scenario has set at the branches is put back, as far as there is time.
pub fn let_go(bridge: &Arc<Bridge>) {
    let Some(run) = bridge.scenario.run.try_lock().and_then(|mut run| run.take()) else { return };
    let dropping = std::thread::Builder::new().name("let-go".into()).spawn(move || drop(run));
    let deadline = Instant::now() + LET_GO_TIME;
    if let Ok(dropping) = dropping {
        while !dropping.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

async fn act(
    bridge: &Arc<Bridge>,
    place: OwnedSemaphorePermit,
    act: impl FnOnce(&Arc<Bridge>, &mut Option<Run>) -> Result<State, Error> + Send + 'static,
) -> Result<State, Error> {
    let bridge = Arc::clone(bridge);
    let acting = tokio::task::spawn_blocking(move || {
        bridge.scenario.transcript.lock().look(&bridge.store);
        let state = act(&bridge, &mut bridge.scenario.run.lock());
        if let Ok(state) = &state {
            bridge.scenario.transcript.lock().take(state);
            tell(&bridge, state);
        }
        drop(place);
        state
    });
    acting.await.map_err(|error| Error::Internal(error.to_string()))?
}

fn tell(bridge: &Bridge, state: &State) {
    match serde_json::to_string(state) {
        Ok(json) => bridge.store.say(Topic::Scenario, &json),
        Err(error) => log::error!("the scenario's state can't be written: {error}"),
    }
}

/// What the class has seen of the scenario that is shown, or was shown last.
#[must_use]
pub fn transcript(bridge: &Bridge) -> Transcript {
    let mut transcript = bridge.scenario.transcript.lock();
    transcript.look(&bridge.store);
    transcript.clone()
}

/// There is no scenario.
#[must_use]
pub fn none() -> Error {
    Error::Conflict { code: "no_scenario", text: "no scenario is shown; POST /scenarios/NAME starts one".into() }
}

fn refused(failure: Failure) -> Error {
    let Failure { code, text } = failure;
    Error::Refused(protocol::answer::AnswerError { code, text, known_epoch: None })
}

/// What a lesson needs of the bank.
struct LessonBank {
    bridge: Arc<Bridge>,
}

impl LessonBank {
    fn branch(&self, name: &BranchName) -> Result<Arc<Branch>, Failure> {
        self.bridge.branches.by_name(name.as_str()).map_err(failure)
    }

    /// Asks whoever watches to start a branch, beside what the scenario says.
    fn ask_for_restart(&self, branch: &BranchName) {
        let shown = self.bridge.store.latest(&Topic::Scenario);
        let Some(Ok(mut state)) = shown.map(|json| serde_json::from_str::<Value>(&json)) else { return };
        let before = state.get("say").and_then(Value::as_str).unwrap_or_default();
        let asked = format!("{before}\n\nStart the branch {branch} again, where it ran, to go on.");
        state["say"] = Value::from(asked);
        self.bridge.store.say(Topic::Scenario, &state.to_string());
    }
}

impl lessons::Bank for LessonBank {
    fn branches(&self) -> Result<Vec<BranchName>, Failure> {
        let all = self.bridge.branches.all();
        let teaching = all.iter().filter(|branch| branch.state.is_teaching() && branch.open().is_ok());
        Ok(teaching.map(|branch| branch.name().clone()).collect())
    }

    fn call(&self, branch: &BranchName, action: Action, params: &Value, request_id: Option<&str>) -> lessons::Answered {
        let repeat = request_id.map_or(Repeat::Never, |id| Repeat::Write(RequestId::operator(id.to_string())));
        let params = lessons::leased(action, params, &self.bridge.lease());
        answered(&*self.branch(branch)?, action, &params, &repeat, CALL_TIMEOUT)
    }

    fn begin(&self, branch: &BranchName, params: &Value) -> Receiver<lessons::Answered> {
        let (sender, receiver) = channel();
        let begun = self.branch(branch).and_then(|branch| {
            let place = Arc::clone(&self.bridge.scenario.transfers).try_acquire_owned();
            let place = place.map_err(|_| Failure::refused("busy", "too many transfers of scenarios wait"))?;
            Ok((branch, place))
        });
        let (branch, place) = match begun {
            Ok(begun) => begun,
            Err(failure) => {
                // The receiver is in our hands yet.
                let _ = sender.send(Err(failure));
                return receiver;
            }
        };
        let params = params.clone();
        let begin = move || {
            let answer =
                answered(&branch, lessons::transfer_action(&params), &params, &Repeat::Never, TRANSFER_TIMEOUT);
            // A lesson that is over no longer listens. An answer that never came is none.
            if !answer.as_ref().is_err_and(|failure| failure.code == Failure::UNREACHABLE) {
                let _ = sender.send(answer);
            }
            drop(place);
        };
        if let Err(error) = std::thread::Builder::new().name("lesson-transfer".into()).spawn(begin) {
            log::error!("no thread for a lesson's transfer: {error}");
        }
        receiver
    }

    fn restart(&self, branch: &BranchName) -> Result<(), String> {
        let known = self.branch(branch).map_err(|failure| failure.text)?;
        match self.bridge.restarter.as_ref().filter(|restarter| restarter.runs(branch)) {
            Some(restarter) => restarter.restart(branch)?,
            None => self.ask_for_restart(branch),
        }
        let deadline = Instant::now() + LESSON_RESTART_TIME;
        while known.open().is_err() {
            if Instant::now() >= deadline {
                return Err(format!("the branch {branch} did not come back"));
            }
            let is_ending = self.bridge.scenario.is_ending.load(Ordering::Relaxed);
            if is_ending || self.bridge.stop.wait(LOOK_EVERY) {
                return Err(format!("the branch {branch} is still to be started"));
            }
        }
        known.state.poke();
        Ok(())
    }

    fn is_up(&self, branch: &BranchName) -> bool {
        self.branch(branch).is_ok_and(|branch| branch.open().is_ok())
    }

    fn record(&self, events: Vec<Event>) {
        let happened = events.into_iter().filter_map(|event| {
            let json = serde_json::to_string(&event).ok()?;
            Some(Happened { event, json: json.into() })
        });
        self.bridge.store.happened(happened.collect());
    }
}

fn answered(branch: &Branch, action: Action, params: &Value, repeat: &Repeat, limit: Duration) -> lessons::Answered {
    let reply = branch.call_blocking(action, params, repeat, limit);
    branch.state.poke();
    let reply = reply.map_err(failure)?;
    serde_json::from_str(&reply.result).map_err(|error| Failure::unreachable(error.to_string()))
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Refused(error) => Failure::refused(error.code, error.text),
        Error::Unreachable { .. } | Error::OutcomeUnknown { .. } => Failure::unreachable(error.to_string()),
        error => Failure::refused(error.code().to_string(), error.to_string()),
    }
}

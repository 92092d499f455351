//! The runner's own logic, on a bank that knows two accounts and whether its messages wait. What lessons claim of real
//! branches is tested on real branches.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

use protocol::BranchName;
use protocol::event::Event;
use protocol::request::Action;
use serde_json::{Value, json};

use super::*;
use crate::lessons::Answered;

/// What a branch was made to do, for the test to look at while the run holds the bank.
#[derive(Default)]
struct Seen {
    step_mode: BTreeMap<String, bool>,
    requests: Vec<String>,
}

/// Branches whose transfers are always refused.
struct ScriptedBank {
    names: &'static [&'static str],
    available: &'static str,
    seen: Arc<Mutex<Seen>>,
}

impl Bank for ScriptedBank {
    fn branches(&self) -> Result<Vec<BranchName>, Failure> {
        Ok(self.names.iter().map(|name| name.parse().unwrap()).collect())
    }

    fn call(&self, branch: &BranchName, action: Action, params: &Value, _: Option<&str>) -> Answered {
        let mut seen = self.seen.lock().unwrap();
        seen.requests.push(format!("{branch} {action} {params}"));
        let text = match action {
            Action::Balance => {
                format!(r#"{{"balance":{0},"available":{0},"name":"Asha"}}"#, self.available)
            }
            Action::Deposit => r#"{"balance":1007.00}"#.into(),
            Action::Audit => {
                r#"{"ok":true,"findings":[],"balances":0.00,"in_transit":0.00,"paid_in":0.00,"paid_out":0.00}"#.into()
            }
            Action::ListPending => "[]".into(),
            Action::Stage | Action::StepMode => {
                if let Some(on) = params["on"].as_bool() {
                    seen.step_mode.insert(branch.to_string(), on);
                }
                let is_on = seen.step_mode.get(branch.as_str()).copied().unwrap_or_default();
                json!({"step_mode": is_on, "protocol_clock_ms": 0, "waiting": [], "faults": [], "crash_at": null,
                    "crash_points": []})
                .to_string()
            }
            other => return Err(Failure::refused("unexpected", format!("nobody should ask for {other}"))),
        };
        Ok(serde_json::from_str(&text).unwrap())
    }

    fn begin(&self, _: &BranchName, _: &Value) -> Receiver<Answered> {
        let (answer, answers) = mpsc::channel();
        answer.send(Err(Failure::refused("no_such_account", "there is no account 1002 at this branch"))).unwrap();
        answers
    }

    fn restart(&self, branch: &BranchName) -> Result<(), String> {
        Err(format!("{branch} was not killed"))
    }

    fn is_up(&self, _: &BranchName) -> bool {
        true
    }

    fn record(&self, _: Vec<Event>) {}
}

fn start(
    name: &str,
    names: &'static [&'static str],
    available: &'static str,
) -> (Result<Run, Failure>, Arc<Mutex<Seen>>) {
    let seen = Arc::<Mutex<Seen>>::default();
    let bank = ScriptedBank { names, available, seen: Arc::clone(&seen) };
    (Run::start(name, 7, Box::new(bank)), seen)
}

const BOTH: &[&str] = &["Mumbai", "Delhi"];

fn is_stepped(seen: &Arc<Mutex<Seen>>) -> Vec<bool> {
    seen.lock().unwrap().step_mode.values().copied().collect()
}

#[test]
fn a_run_needs_a_scenario_and_two_branches() {
    let code = |name, names| start(name, names, "1000.00").0.map(|_| ()).unwrap_err().code;
    assert_eq!(code("nonsense", BOTH), Failure::NO_SUCH_SCENARIO);
    assert_eq!(code("normal-transfer", &["Mumbai"]), Failure::TWO_BRANCHES_NEEDED);
    assert_eq!(code("normal-transfer", &[]), Failure::TWO_BRANCHES_NEEDED);
}

#[test]
fn it_begins_with_the_first_beat_and_makes_messages_wait() {
    let (run, seen) = start("normal-transfer", BOTH, "1000.00");
    let run = run.unwrap();
    let state = run.state();
    assert_eq!((state.position, state.of, state.finished), (1, crate::lessons::all()[0].steps, false));
    assert!(state.say.contains("Mumbai/1001  1000.00"), "{}", state.say);
    assert_eq!((&state.question, &state.answer, &state.error), (&None, &None, &None));
    assert_eq!(is_stepped(&seen), [true, true]);
}

#[test]
fn a_payer_with_too_little_is_paid_something_first_and_that_is_said() {
    let (run, seen) = start("normal-transfer", BOTH, "7.00");
    assert!(run.unwrap().state().say.starts_with("Mumbai/1001 can spend only Rs 7.00"));
    let deposits = seen.lock().unwrap().requests.iter().filter(|request| request.contains("deposit")).count();
    assert_eq!(deposits, 1);
}

#[test]
fn what_fails_is_told_and_ends_the_run_with_everything_put_back() {
    let (run, seen) = start("normal-transfer", BOTH, "1000.00");
    let mut run = run.unwrap();
    let state = run.advance().clone();
    assert_eq!(state.error.as_deref(), Some("there is no account 1002 at this branch"));
    assert!(state.finished && state.question.is_none());
    assert_eq!(is_stepped(&seen), [false, false]);
    assert_eq!(*run.advance(), state, "it goes on no more");
}

#[test]
fn a_run_that_is_stopped_or_dropped_puts_everything_back() {
    let (run, seen) = start("normal-transfer", BOTH, "1000.00");
    let mut run = run.unwrap();
    assert!(run.stop().finished && run.state().error.is_none());
    assert_eq!(is_stepped(&seen), [false, false]);
    let (run, seen) = start("normal-transfer", BOTH, "1000.00");
    drop(run.unwrap());
    assert_eq!(is_stepped(&seen), [false, false]);
}

#[test]
fn a_question_stands_alone_before_its_answer() {
    const BEATS: &[Beat] = &[
        Beat { show: |_| Ok("first".into()), question: None },
        Beat {
            show: |_| Ok("second".into()),
            question: Some(scenarios::Question { asks: "Is {payer} alive?", answer: |_| Ok("yes".into()) }),
        },
    ];
    static SCENARIO: Scenario = Scenario { name: "test", title: "A test", teaches: "Order.", beats: BEATS };
    let (run, _seen) = start("normal-transfer", BOTH, "1000.00");
    let mut run = run.unwrap();
    run.scenario = &SCENARIO;
    run.state = State { position: 0, of: 2, ..run.state.clone() };
    let mut seen = Vec::new();
    while !run.state().finished {
        let State { say, question, answer, .. } = run.advance().clone();
        seen.push((say, question, answer));
    }
    let text = |text: &str| Some(text.to_string());
    let question = text("Is Mumbai alive?");
    let expected = [
        ("first".to_string(), None, None),
        ("second".to_string(), question.clone(), None),
        ("second".to_string(), question, text("yes")),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_state_is_the_documented_json_and_a_run_can_change_threads() {
    fn assert_send<T: Send>(_: &T) {}
    let (run, _seen) = start("normal-transfer", BOTH, "1000.00");
    let run = run.unwrap();
    assert_send(&run);
    let state = serde_json::to_value(run.state()).unwrap();
    let mut keys: Vec<_> = state.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    let expected =
        ["answer", "error", "finished", "name", "of", "position", "question", "say", "seed", "title", "txid"]
            .map(String::from);
    assert_eq!(keys, expected);
}

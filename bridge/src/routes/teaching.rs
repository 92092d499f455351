//! Lessons: what waits at a branch, which faults are set, and a crashed branch started again.
//!
//! The branch judges the parameters, and refuses when it was not started with `--teaching`. None of these requests
//! is sent twice: a step or a crash that was lost is to be looked at, not repeated. What is set here is held by the
//! bridge's lease, which the branch lets go of when the bridge was killed.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use protocol::actions::{Action, Kind};
use protocol::request::NoParams;
use protocol::teaching::{Crash, Fault, PassTime, Step, StepMode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer;
use crate::branch::{Branch, Repeat, Reply};
use crate::bridge::Bridge;
use crate::error::Error;
use crate::params::Params;
use crate::watchers::tell_stage;

type Shared = State<Arc<Bridge>>;

/// The point at which a branch crashes without an answer.
const NOW: &str = "now";

/// The paths of this file.
pub fn router() -> Router<Arc<Bridge>> {
    Router::new()
        .route("/teaching/{branch}", get(stage))
        .route("/teaching/{branch}/step_mode", post(step_mode))
        .route("/teaching/{branch}/step", post(step))
        .route("/teaching/{branch}/pass_time", post(pass_time))
        .route("/teaching/{branch}/fault", post(fault))
        .route("/teaching/{branch}/crash", post(crash))
        .route("/teaching/{branch}/restart", post(restart))
}

async fn stage(State(bridge): Shared, Path(name): Path<String>) -> Result<Reply, Error> {
    let branch = bridge.branches.by_name(&name)?;
    act(&bridge, &branch, Action::Stage, NoParams {}).await
}

async fn step_mode(State(bridge): Shared, Path(name): Path<String>, params: Params) -> Result<Reply, Error> {
    let branch = bridge.branches.by_name(&name)?;
    let on = params.flag("on")?.ok_or_else(|| Error::Input("the parameter on is missing".into()))?;
    act(&bridge, &branch, Action::StepMode, StepMode { on, lease: Some(bridge.lease()) }).await
}

async fn step(State(bridge): Shared, Path(name): Path<String>, params: Params) -> Result<Reply, Error> {
    let branch = bridge.branches.by_name(&name)?;
    let step: Step = typed(&params, &["how"], &["number", "delay_ms"])?;
    act(&bridge, &branch, Action::Step, step).await
}

async fn pass_time(State(bridge): Shared, Path(name): Path<String>, params: Params) -> Result<Reply, Error> {
    let branch = bridge.branches.by_name(&name)?;
    let milliseconds = params.parse_need("milliseconds")?;
    act(&bridge, &branch, Action::PassTime, PassTime { milliseconds }).await
}

async fn fault(State(bridge): Shared, Path(name): Path<String>, params: Params) -> Result<Reply, Error> {
    let branch = bridge.branches.by_name(&name)?;
    let fault: Fault = typed(&params, &["peer", "fault"], &["delay_ms"])?;
    let fault = Fault { lease: Some(bridge.lease()), ..fault };
    act(&bridge, &branch, Action::Fault, fault).await
}

async fn crash(State(bridge): Shared, Path(name): Path<String>, params: Params) -> Result<Response, Error> {
    let branch = bridge.branches.by_name(&name)?;
    let at = params.need("at")?.to_string();
    // Whoever watches the branch may see its end before we do.
    let is_to_end = at == NOW && branch.state.is_up();
    match act(&bridge, &branch, Action::Crash, Crash { at, lease: Some(bridge.lease()) }).await {
        // A branch that crashes gives no answer; that it is down will show.
        Err(Error::Unreachable { .. }) if is_to_end => {
            branch.state.poke();
            Ok(answer::raw("null", None))
        }
        Ok(reply) => Ok(answer::raw(&reply.result, None)),
        Err(error) => Err(error),
    }
}

async fn restart(State(bridge): Shared, Path(name): Path<String>) -> Result<Response, Error> {
    let branch = bridge.branches.by_name(&name)?;
    let Some(restarter) = bridge.restarter.clone().filter(|restarter| restarter.runs(branch.name())) else {
        return Err(Error::Conflict {
            code: "not_restartable",
            text: format!(
                "the bridge does not run the branch {name}: start it again where it ran, or use make demo, whose \
                 branches can be started from here"
            ),
        });
    };
    let started = Arc::clone(&branch);
    let restarted = tokio::task::spawn_blocking(move || restarter.restart(started.name())).await;
    let restarted = restarted.map_err(|error| Error::Internal(error.to_string()))?;
    restarted.map_err(|text| Error::Conflict { code: "restart_failed", text })?;
    branch.state.poke();
    answer::ok(&Value::Null)
}

/// Asks, and tells those who watch how the stage stands after it.
async fn act(
    bridge: &Bridge,
    branch: &Arc<Branch>,
    action: Action,
    params: impl Serialize + Send + 'static,
) -> Result<Reply, Error> {
    let repeat = if action.kind() == Kind::Read { Repeat::Read } else { Repeat::Never };
    let reply = branch.call(action, params, repeat).await?;
    tell_stage(bridge, branch, Some(&reply.result));
    // What was done may have consequences elsewhere at once.
    for other in bridge.branches.all().iter().filter(|other| other.state.is_teaching()) {
        other.state.poke();
    }
    Ok(reply)
}

/// The parameters of these names in the action's type.
fn typed<T: DeserializeOwned>(params: &Params, texts: &[&str], numbers: &[&str]) -> Result<T, Error> {
    let mut object = Map::new();
    for name in texts {
        object.insert((*name).into(), Value::from(params.need(name)?));
    }
    for name in numbers {
        if let Some(number) = params.parse::<u64>(name)? {
            object.insert((*name).into(), Value::from(number));
        }
    }
    serde_json::from_value(Value::Object(object)).map_err(|error| Error::Input(error.to_string()))
}

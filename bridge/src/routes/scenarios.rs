//! The scenarios: which there are, and the one that is shown.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use teaching::lessons::{self, order};

use super::{answer, pages};
use crate::bridge::Bridge;
use crate::error::Error;
use crate::params::Params;
use crate::scenario;
use crate::store::Topic;

type Shared = State<Arc<Bridge>>;

/// The paths of this file.
pub fn router() -> Router<Arc<Bridge>> {
    Router::new()
        .route("/scenarios", get(async || answer::ok(&lessons::all())))
        .route("/scenarios/current", get(current))
        .route("/scenarios/current/page", get(pages::lesson))
        .route("/scenarios/next", post(next))
        .route("/scenarios/stop", post(stop))
        .route("/scenarios/{name}", post(start))
}

/// `GET /scenarios/current`: how it stands, also while it does a step; null before the first.
async fn current(State(bridge): Shared) -> Response {
    answer::raw(bridge.store.latest(&Topic::Scenario).as_deref().unwrap_or("null"), None)
}

async fn start(State(bridge): Shared, Path(name): Path<String>, params: Params) -> Result<Response, Error> {
    params.only(&["seed"])?;
    let seed = params.parse("seed")?.unwrap_or(order::DEFAULT_SEED);
    if seed > order::SEED_MAX {
        return Err(Error::Input(format!("a seed is a number up to {}", order::SEED_MAX)));
    }
    answer::ok(&scenario::start(&bridge, name, seed).await?)
}

async fn next(State(bridge): Shared) -> Result<Response, Error> {
    answer::ok(&scenario::next(&bridge).await?)
}

async fn stop(State(bridge): Shared) -> Result<Response, Error> {
    answer::ok(&scenario::stop(&bridge).await?)
}

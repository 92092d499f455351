//! The paths. Each family has a file; who may ask for what is in `api`.

mod answer;
mod dashboard;
mod events;
mod history;
mod older;
mod pages;
mod pieces;
mod place;
mod scenarios;
mod sign_in;
mod teaching;
mod transfers;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};

use crate::bridge::Bridge;
use crate::error::Error;
use crate::guard::guard;
use crate::{assets, openapi};

/// The whole bridge as a service.
pub fn router(bridge: Arc<Bridge>) -> Router {
    let sessions = get(sign_in::session).post(sign_in::sign_in).delete(sign_in::sign_out);
    let pages = Router::new()
        .route("/", get(page))
        .route("/assets/{*file}", get(asset))
        .route("/healthz", get(dashboard::healthz))
        .route("/openapi.json", get(openapi::answer));
    let bank = Router::new()
        .route("/session", sessions)
        .route("/branches", get(dashboard::branches))
        .route("/balance", post(older::balance))
        .route("/deposit", post(older::deposit))
        .route("/withdraw", post(older::withdraw))
        .route("/transfer", post(older::transfer))
        .route("/get_logs", post(older::get_logs))
        .route("/list_accounts", get(older::list_accounts));
    pages
        .merge(bank)
        .merge(dashboard::router())
        .merge(teaching::router())
        .merge(scenarios::router())
        .fallback(async || Error::NotFound("there is no such path; GET /openapi.json lists them".into()))
        .method_not_allowed_fallback(async || Error::Method)
        .layer(from_fn_with_state(Arc::clone(&bridge), guard))
        .with_state(bridge)
}

async fn page(State(bridge): State<Arc<Bridge>>, headers: HeaderMap) -> Result<Response, Error> {
    assets::serve(bridge.config.assets.as_deref(), assets::PAGE, &headers)
}

async fn asset(
    State(bridge): State<Arc<Bridge>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    assets::serve(bridge.config.assets.as_deref(), &file, &headers)
}

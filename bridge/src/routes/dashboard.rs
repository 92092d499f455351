//! What the dashboard asks for: the branches, the books, accounts, transfers in doubt; and what machines ask for.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use protocol::TxId;
use protocol::answer::Pending;
use protocol::request::{Action, Amount, CreateAccount, NoParams, OneAccount, Resolve};
use serde::Serialize;
use serde_json::json;

use super::older::{ACCOUNT, write};
use super::place::{self, HERE};
use super::{answer, events, history, pages, transfers};
use crate::access::sees_all;
use crate::auditor;
use crate::branch::{Branch, Repeat, Reply};
use crate::bridge::Bridge;
use crate::error::Error;
use crate::guard::Caller;
use crate::metrics::Format;
use crate::params::Params;
use crate::who::Who;

type Shared = State<Arc<Bridge>>;

/// The paths of this file and those beside it.
pub fn router() -> Router<Arc<Bridge>> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/audit", get(audit))
        .route("/recent", get(recent))
        .route("/create_account", post(create_account))
        .route("/close_account", post(close_account))
        .route("/pending", get(pending))
        .route("/resolve", post(resolve))
        .route("/history", get(history::history))
        .route("/events", get(events::events))
        .route("/transfers", get(transfers::list))
        .route("/transfers/{txid}", get(transfers::one))
        .route("/transfers/{txid}/export", get(transfers::export))
        .route("/transfers/{txid}/page", get(pages::transfer))
}

/// `GET /healthz`: the bridge serves, and so many branches answer.
pub async fn healthz(State(bridge): Shared) -> Result<Response, Error> {
    let branches = bridge.branches.all();
    let up = branches.iter().filter(|branch| branch.state.is_up()).count();
    answer::ok(&json!({"branches": branches.len(), "up": up}))
}

/// `GET /branches`: the cards; names and states alone for those who may not see the whole bank.
pub async fn branches(State(bridge): Shared, Extension(caller): Extension<Caller>) -> Result<Response, Error> {
    let view = auditor::view(&bridge);
    if sees_all(&caller.who) { answer::ok(&view.branches) } else { answer::ok(&auditor::reduced_cards(&view)) }
}

/// `GET /metrics`: in the format that is asked for.
async fn metrics(State(bridge): Shared, headers: HeaderMap) -> Result<Response, Error> {
    let accepted: Vec<_> = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok()).collect();
    let format = Format::accepted(&accepted.join(","));
    let text = bridge.metrics.text(&auditor::view(&bridge), format);
    let text = text.map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept")], text).into_response())
}

/// `GET /audit`: all branches are asked anew.
async fn audit(State(bridge): Shared) -> Result<Response, Error> {
    let asked = Arc::clone(&bridge);
    let place = bridge.books.place().await?;
    let round = tokio::task::spawn_blocking(move || {
        auditor::round(&asked);
        drop(place);
    });
    round.await.map_err(|error| Error::Internal(error.to_string()))?;
    auditor::tell(&bridge);
    answer::ok(&auditor::whole(&bridge))
}

/// `GET /recent`: the last minutes, for charts.
async fn recent(State(bridge): Shared) -> Result<Response, Error> {
    answer::ok(&bridge.chart_history.points(Instant::now()))
}

async fn create_account(
    State(bridge): Shared,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Reply, Error> {
    let branch = place::branch(&bridge, &caller.who, &params, &HERE)?;
    let balance = match params.get("balance") {
        Some(text) => Some(text.parse::<protocol::Money>().map_err(|error| Error::Amount(error.to_string()))?),
        None => None,
    };
    let text = |name: &str| params.get(name).map(ToOwned::to_owned);
    let account = CreateAccount {
        account_no: params.account(ACCOUNT)?,
        name: params.need("name")?.to_string(),
        balance: balance.map(Amount::from),
        aadhar_num: text("aadhar_num"),
        phone_num: text("phone_num"),
        sms: params.flag("sms")?,
        password: text("password"),
    };
    write(&branch, Action::CreateAccount, account, Repeat::Write(params.request_id(&caller.who)?)).await
}

async fn close_account(
    State(bridge): Shared,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Reply, Error> {
    let branch = place::branch(&bridge, &caller.who, &params, &HERE)?;
    let account_no = place::account(&caller.who, &branch, &params, ACCOUNT)?;
    let repeat = Repeat::Write(params.request_id(&caller.who)?);
    let reply = write(&branch, Action::CloseAccount, OneAccount { account_no }, repeat).await?;
    bridge.sessions.end_all_of(&Who::Customer { branch: branch.name().clone(), account: account_no });
    Ok(reply)
}

/// A row of `GET /pending`.
#[derive(Serialize)]
struct PendingAt {
    branch: String,
    #[serde(flatten)]
    pending: Pending,
}

/// `GET /pending`: of all branches. Those that gave no answer are named beside the list, and those that have more in
/// doubt than one answer carries.
async fn pending(State(bridge): Shared, params: Params) -> Result<Response, Error> {
    place::only(&params, &[])?;
    let branches = match place::named(&bridge, &params, &HERE)? {
        Some(branch) => vec![branch],
        None => bridge.branches.all(),
    };
    let asked: Vec<_> = branches.into_iter().map(|branch| tokio::spawn(pending_at(branch))).collect();
    let (mut rows, mut missing, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for asked in asked {
        let (branch, found) = asked.await.map_err(|error| Error::Internal(error.to_string()))?;
        match found {
            Ok((found, next)) => {
                more.extend(next.map(|_| branch.name().to_string()));
                rows.extend(found.into_iter().map(|pending| PendingAt { branch: branch.name().to_string(), pending }))
            }
            Err(_) => missing.push(branch.name().to_string()),
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.pending.age_seconds));
    let body = json!({"status": "ok", "result": rows, "missing": missing, "more": more});
    Ok(axum::Json(body).into_response())
}

/// What is in doubt at a branch, and where its list goes on.
type PendingList = (Vec<Pending>, Option<String>);

async fn pending_at(branch: Arc<Branch>) -> (Arc<Branch>, Result<PendingList, Error>) {
    if !branch.state.is_up() {
        let cause = "it is down".to_string();
        let name = branch.name().to_string();
        return (branch, Err(Error::Unreachable { branch: name, cause }));
    }
    let found = branch.read::<Vec<Pending>>(Action::ListPending, NoParams {}).await;
    (branch, found)
}

async fn resolve(State(bridge): Shared, Extension(caller): Extension<Caller>, params: Params) -> Result<Reply, Error> {
    let branch = place::branch(&bridge, &caller.who, &params, &HERE)?;
    let txid: TxId = params.parse_need("txid")?;
    let outcome = match params.need("outcome")? {
        "commit" | "committed" => "commit",
        "abort" | "aborted" => "abort",
        _ => return Err(Error::Input("outcome is commit or abort".into())),
    };
    let reason = params.need("reason")?.to_string();
    let settled = Resolve { txid, outcome: outcome.into(), reason };
    write(&branch, Action::Resolve, settled, Repeat::Write(params.request_id(&caller.who)?)).await
}

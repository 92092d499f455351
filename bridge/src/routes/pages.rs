//! A run as one page that needs no server: a transfer, or the lesson that is shown, with its questions.
//!
//! The page is an attachment, so nothing of it runs in the bridge's origin.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use protocol::TxId;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::answer;
use super::transfers::find;
use crate::assets;
use crate::bridge::Bridge;
use crate::error::Error;
use crate::guard::Caller;
use crate::limits::PAGE_KIB;
use crate::offline_page;
use crate::scenario;
use crate::store::Happened;

type Shared = State<Arc<Bridge>>;

/// The form's name, as the lab reads it.
const FORMAT: &str = "bank-run-1";

/// A transfer of a run.
#[derive(Serialize)]
struct Told {
    txid: TxId,
    events: Vec<Box<RawValue>>,
}

/// `GET /transfers/{txid}/page`.
pub async fn transfer(
    State(bridge): Shared,
    Extension(caller): Extension<Caller>,
    Path(txid): Path<String>,
) -> Result<Response, Error> {
    let told = find(&bridge, &txid)?;
    let title = format!("Transfer {}", told.txid);
    let about = match told.missed {
        0 => None,
        count => Some(format!("The first {count} events of this transfer were forgotten.")),
    };
    let run = json!({
        "format": FORMAT, "title": title, "about": about, "shown": told.txid,
        "transfers": [{"txid": told.txid, "events": told.events}],
    });
    page(&bridge, &caller, &title, &told.txid.to_string(), &answer::to_json(&run)?).await
}

/// `GET /scenarios/current/page`: as far as it was shown.
pub async fn lesson(State(bridge): Shared, Extension(caller): Extension<Caller>) -> Result<Response, Error> {
    let transcript = scenario::transcript(&bridge);
    let title = transcript.title().ok_or_else(scenario::none)?.to_string();
    let raw = |happened: &Arc<Happened>| RawValue::from_string(happened.json.to_string()).ok();
    let told =
        |(txid, events): (TxId, Vec<Arc<Happened>>)| Told { txid, events: events.iter().filter_map(raw).collect() };
    let transfers: Vec<Told> = transcript.transfers(&bridge.store).into_iter().map(told).collect();
    // By way of texts: amounts keep their digits.
    let run = format!(
        r#"{{"format":"{FORMAT}","title":{},"transfers":{},"lesson":{}}}"#,
        answer::to_json(&title)?,
        answer::to_json(&transfers)?,
        answer::to_json(&transcript)?
    );
    page(&bridge, &caller, &title, transcript.name(), &run).await
}

async fn page(bridge: &Bridge, caller: &Caller, title: &str, name: &str, run: &str) -> Result<Response, Error> {
    let mut bytes = caller.quota.answer(PAGE_KIB + run.len() / 1_024).await?;
    let folder = bridge.config.assets.as_deref();
    let page = offline_page::page(title, run, &|file| assets::bytes(folder, file)).map_err(Error::Internal)?;
    bytes.shrink_to(page.len());
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_string()),
        // An id has letters, digits and few signs: `TxId`.
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.html\"")),
    ];
    let (head, body) = (headers, page).into_response().into_parts();
    Ok(Response::from_parts(head, bytes.with(body)))
}

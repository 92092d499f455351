//! Answers of the branch protocol as JSON: the only place where a result becomes text.

use protocol::answer::{push_ok, push_refused_epoch};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::limits::{ANSWER_LIST_BYTES, ERROR_TEXT_BYTES};
use crate::service::reports::Page;
use crate::service::transfers::TransferResult;

/// A result, and where a list goes on: both as JSON.
pub type ResultJson = (String, Option<String>);

/// A result as JSON.
///
/// # Panics
/// When it can't be written as JSON: the caller's mistake.
#[must_use]
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a result is always JSON")
}

/// A result that is no list.
///
/// # Errors
/// The result's own.
pub fn single(result: Result<impl Serialize>) -> Result<ResultJson> {
    result.map(|result| (to_json(&result), None))
}

/// The result of a transfer. Its fields stand in the order of the alphabet, as they always have on this wire.
#[must_use]
pub fn transfer_json(result: &TransferResult) -> ResultJson {
    (serde_json::to_value(result).expect("a result is always JSON").to_string(), None)
}

/// The first rows of a page, as many as an answer carries; `place` is where to go on behind a row.
#[must_use]
pub fn list<T: Serialize>(page: &Page<T>, place: impl Fn(&T) -> String) -> ResultJson {
    let mut json = String::from("[");
    let mut shown = 0;
    for row in &page.rows {
        let row_json = to_json(row);
        if json.len() + row_json.len() > ANSWER_LIST_BYTES {
            break;
        }
        if shown > 0 {
            json.push(',');
        }
        json.push_str(&row_json);
        shown += 1;
    }
    json.push(']');
    let is_all = shown == page.rows.len() && !page.has_more;
    let next = page.rows[..shown].last().filter(|_| !is_all).map(place);
    (json, next)
}

/// The body of an answer.
#[must_use]
pub fn body_of(result: Result<ResultJson>) -> Vec<u8> {
    match result {
        Ok((json, next)) => {
            let mut body = Vec::with_capacity(json.len() + 32);
            push_ok(&mut body, &json, next.as_deref());
            body
        }
        Err(error) => error_body(&error),
    }
}

/// The body of the answer that carries this result.
#[must_use]
pub fn result_body(result: &impl Serialize) -> Vec<u8> {
    body_of(Ok((to_json(result), None)))
}

/// The body of an error's answer.
#[must_use]
pub fn error_body(error: &Error) -> Vec<u8> {
    if error.is_failure() {
        log::error!("{error}");
    }
    let mut text = error.to_string();
    if text.len() > ERROR_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES));
        text.push('…');
    }
    // It may quote what was sent, which may be anything.
    text = text.replace(char::is_control, " ");
    let mut body = Vec::new();
    push_refused_epoch(&mut body, error.code(), &text, error.known_epoch());
    body
}

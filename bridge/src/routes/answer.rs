//! Answers that are no errors, in the shape that the branches' have: `{"status":"ok","result":…}`, and `next`.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use protocol::answer::push_ok;
use serde::Serialize;

use crate::branch::Reply;
use crate::error::Error;
use crate::quota::AnswerBytes;

/// An answer whose result is JSON already.
pub fn raw(result: &str, next: Option<&str>) -> Response {
    let mut body = Vec::with_capacity(result.len() + 64);
    push_ok(&mut body, result, next);
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// The same, of a long answer, whose bytes are held until they are sent.
pub fn long(result: &str, next: Option<&str>, mut bytes: AnswerBytes) -> Response {
    bytes.shrink_to(result.len());
    let (head, body) = raw(result, next).into_parts();
    Response::from_parts(head, bytes.with(body))
}

/// An answer with this result.
///
/// # Errors
/// [`Error::Internal`] when it can't be written as JSON.
pub fn ok(result: &impl Serialize) -> Result<Response, Error> {
    Ok(raw(&to_json(result)?, None))
}

/// JSON.
///
/// # Errors
/// [`Error::Internal`].
pub fn to_json(result: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(result).map_err(|error| Error::Internal(error.to_string()))
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        raw(&self.result, self.next.as_deref())
    }
}

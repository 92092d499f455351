//! Answers that are no errors, in the shape that the branches' have: `{"status":"ok","result":…}`, and `next`.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use protocol::answer::push_ok;
use serde::Serialize;

use crate::branch::Reply;
use crate::error::Error;

/// An answer whose result is JSON already.
pub fn raw(result: &str, next: Option<&str>) -> Response {
    let mut body = Vec::with_capacity(result.len() + 64);
    push_ok(&mut body, result, next);
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// An answer with this result.
///
/// # Errors
/// [`Error::Internal`] when it can't be written as JSON.
pub fn ok(result: &impl Serialize) -> Result<Response, Error> {
    Ok(raw(&to_json(result)?, None))
}

/// An answer with this list, and where it goes on.
///
/// # Errors
/// [`Error::Internal`] when it can't be written as JSON.
pub fn list(result: &impl Serialize, next: Option<&impl Serialize>) -> Result<Response, Error> {
    let next = next.map(to_json).transpose()?;
    Ok(raw(&to_json(result)?, next.as_deref()))
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

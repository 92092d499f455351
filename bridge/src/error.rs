//! The bridge's one error, and how each kind of it is told over HTTP.
//!
//! Every error is answered in the older bridge's shape, `{"status":"error","error":…,"code":…}`, with a proper
//! status. The text is for people and may change, the code is for programs and does not. A branch's refusal keeps
//! the branch's own code and words.

use std::fmt;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::answer::AnswerError;
use serde::Serialize;

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A parameter is missing or is not what it has to be.
    Input(String),
    /// The amount is not one.
    Amount(String),
    /// The body is neither a form nor a JSON object.
    Body(&'static str),
    /// The body is too long.
    BodyTooLong,
    /// The body took too long.
    BodyTooSlow,
    /// Nobody is signed in.
    NotSignedIn,
    /// Unknown account or wrong password; which of the two is not told.
    WrongLogin,
    /// Too many wrong passwords.
    TooManyLogins {
        /// When to try again, in seconds.
        retry_seconds: u64,
    },
    /// Who is signed in may not do this.
    NotAllowed(&'static str),
    /// The request comes from another site's page, or names another host.
    Foreign(&'static str),
    /// The request has a session's cookie but not its token.
    Csrf,
    /// The branch is not one that the bridge talks to.
    BranchNotAllowed(String),
    /// There is nothing of that name.
    NotFound(String),
    /// The path is there, and not for this method.
    Method,
    /// It can't be done as things stand.
    Conflict {
        /// The stable name.
        code: &'static str,
        /// One sentence.
        text: String,
    },
    /// The branch refused.
    Refused(AnswerError),
    /// The branch can't be reached, or gave no answer; nothing was changed.
    Unreachable {
        /// The branch.
        branch: String,
        /// What went wrong.
        cause: String,
    },
    /// A write got no answer; whether it was carried out is not known.
    OutcomeUnknown {
        /// The branch.
        branch: String,
        /// What went wrong.
        cause: String,
        /// With which id the request can be sent again without harm.
        request_id: String,
    },
    /// All places are taken.
    Busy(&'static str),
    /// The bridge's own failure.
    Internal(String),
}

impl Error {
    /// The stable name.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Input(_) => "invalid_params",
            Self::Amount(_) => "invalid_amount",
            Self::Body(_) => "invalid_body",
            Self::BodyTooLong => "body_too_long",
            Self::BodyTooSlow => "body_too_slow",
            Self::NotSignedIn => "not_signed_in",
            Self::WrongLogin => "wrong_login",
            Self::TooManyLogins { .. } => "too_many_attempts",
            Self::NotAllowed(_) => "not_allowed",
            Self::Foreign(_) => "foreign_request",
            Self::Csrf => "csrf",
            Self::BranchNotAllowed(_) => "branch_not_allowed",
            Self::NotFound(_) => "not_found",
            Self::Method => "method_not_allowed",
            Self::Conflict { code, .. } => code,
            Self::Refused(error) => &error.code,
            Self::Unreachable { .. } => "branch_unreachable",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::Busy(_) => "busy",
            Self::Internal(_) => "internal",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Input(_) | Self::Amount(_) => StatusCode::BAD_REQUEST,
            Self::Body(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NotSignedIn | Self::WrongLogin => StatusCode::UNAUTHORIZED,
            Self::TooManyLogins { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NotAllowed(_) | Self::Foreign(_) | Self::Csrf | Self::BranchNotAllowed(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Refused(error) => status_of_refusal(&error.code),
            Self::Unreachable { .. } | Self::OutcomeUnknown { .. } => StatusCode::BAD_GATEWAY,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The status for a branch's refusal, by its code. A code that is not listed is a refusal of the ledger's.
fn status_of_refusal(code: &str) -> StatusCode {
    match code {
        "bad_json" | "unknown_action" | "invalid_params" | "invalid_amount" | "invalid_request_id"
        | "frame_too_long" => StatusCode::BAD_REQUEST,
        "wrong_login" | "wrong_password" => StatusCode::UNAUTHORIZED,
        "locked_out" => StatusCode::TOO_MANY_REQUESTS,
        // The bridge may do all at a branch that shares its key, so this is the bridge's failure and not the client's.
        "not_allowed" => StatusCode::BAD_GATEWAY,
        "no_such_account" | "no_such_transfer" => StatusCode::NOT_FOUND,
        "branch_unreachable" => StatusCode::BAD_GATEWAY,
        "busy" | "stopping" | "disk_full" | "undecided" => StatusCode::SERVICE_UNAVAILABLE,
        "database" | "outcome_unknown" => StatusCode::BAD_GATEWAY,
        _ => StatusCode::CONFLICT,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(text) | Self::Amount(text) | Self::NotFound(text) | Self::Conflict { text, .. } => {
                f.write_str(text)
            }
            Self::Body(text) | Self::NotAllowed(text) | Self::Foreign(text) | Self::Busy(text) => f.write_str(text),
            Self::BodyTooLong => {
                write!(f, "the body of a request has at most {} bytes", crate::limits::BODY_BYTES)
            }
            Self::BodyTooSlow => f.write_str("the body of the request did not come in time"),
            Self::NotSignedIn => f.write_str("sign in first: by POST /session, or by HTTP Basic as in curl --user 0"),
            Self::WrongLogin => f.write_str("the account number or the password is wrong"),
            Self::TooManyLogins { retry_seconds } => {
                write!(f, "too many wrong passwords; try again in {retry_seconds} seconds")
            }
            Self::Csrf => f.write_str("the header X-CSRF-Token must be the csrf of GET /session"),
            Self::BranchNotAllowed(branch) => {
                write!(f, "{branch} is no branch of this bank that the bridge was told of (bank-bridge --branch)")
            }
            Self::Method => f.write_str("this path is not for this method"),
            Self::Refused(error) => error.fmt(f),
            Self::Unreachable { branch, cause } => write!(f, "the branch {branch} gives no answer: {cause}"),
            Self::OutcomeUnknown { branch, cause, request_id } => write!(
                f,
                "the branch {branch} gave no answer ({cause}), so it is not known whether this was carried out; \
                 the same request with request_id {request_id} does it once at most"
            ),
            Self::Internal(cause) => write!(f, "the bridge failed: {cause}"),
        }
    }
}

impl std::error::Error for Error {}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Out<'a> {
            status: &'static str,
            error: String,
            code: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: Option<&'a str>,
        }
        let request_id = match &self {
            Self::OutcomeUnknown { request_id, .. } => Some(request_id.as_str()),
            _ => None,
        };
        if let Self::Internal(cause) = &self {
            log::error!("{cause}");
        }
        let out = Out { status: "error", error: self.to_string(), code: self.code(), request_id };
        let mut response = (self.status(), Json(out)).into_response();
        let headers = response.headers_mut();
        match &self {
            Self::TooManyLogins { retry_seconds } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(*retry_seconds));
            }
            Self::Busy(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // Not `Basic`, at which a browser would open a window of its own over the dashboard's.
            Self::NotSignedIn | Self::WrongLogin => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Session realm=\"bank\""));
            }
            // What is left of the body is not read.
            Self::BodyTooLong | Self::BodyTooSlow => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_status_of_their_code() {
        let check = |code: &str, expected: u16| {
            let error = Error::Refused(AnswerError { code: code.into(), text: "no".into(), known_epoch: None });
            assert_eq!((error.status().as_u16(), error.code()), (expected, code));
        };
        check("insufficient_funds", 409);
        check("same_account", 409);
        check("no_such_account", 404);
        check("invalid_amount", 400);
        check("branch_unreachable", 502);
        check("busy", 503);
        check("a_code_of_tomorrow", 409);
    }
}

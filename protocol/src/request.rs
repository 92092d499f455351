//! Requests of the branch protocol: an action of the table, and its parameters.
//!
//! A request is `{"action": …, "params": {…}, "request_id": …}`. It is read in two steps: the envelope
//! first, which keeps `params` as raw text, then the parameters into the type of the action. Unknown fields
//! are ignored, so that newer clients can talk to older branches. Writing is the same in reverse, so client
//! and server can't disagree about a name.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use crate::actions::Action;
pub use crate::params::*;

/// The longest `request_id`, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// The rows of a list when the request names no limit.
pub const LIST_ROWS_DEFAULT: usize = 1_000;

/// A request as it stands in its frame, parameters unread.
#[derive(Debug, Deserialize)]
pub struct RequestFrame<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    request_id: Option<Cow<'a, str>>,
}

impl<'a> RequestFrame<'a> {
    /// Reads the envelope of one request.
    ///
    /// # Errors
    /// [`RequestError::Json`] when it is not one, [`RequestError::RequestId`] when its id is unfit.
    pub fn parse(body: &'a [u8]) -> Result<Self, RequestError> {
        if !is_object(body) {
            return Err(RequestError::Json("a JSON object is expected".into()));
        }
        let frame: Self = serde_json::from_slice(body).map_err(|error| RequestError::Json(error.to_string()))?;
        match frame.request_id.as_deref() {
            Some(id) if id.is_empty() || id.len() > REQUEST_ID_BYTES_MAX || id.chars().any(char::is_control) => {
                Err(RequestError::RequestId)
            }
            Some(_) | None => Ok(frame),
        }
    }

    /// What is asked for.
    ///
    /// # Errors
    /// [`RequestError::UnknownAction`].
    pub fn action(&self) -> Result<Action, RequestError> {
        Action::from_name(&self.action).ok_or_else(|| {
            let name: String = self.action.chars().take(64).collect();
            RequestError::UnknownAction(name)
        })
    }

    /// The parameters, in the type of the action. Missing ones are an empty object.
    ///
    /// # Errors
    /// [`RequestError::Params`] naming what is missing or of the wrong type.
    pub fn params<T: Deserialize<'a>>(&self) -> Result<T, RequestError> {
        let json = self.params.map_or("{}", RawValue::get);
        let json = if json == "null" { "{}" } else { json };
        if !is_object(json.as_bytes()) {
            return Err(RequestError::Params("a JSON object is expected".into()));
        }
        serde_json::from_str(json).map_err(|error| RequestError::Params(error.to_string()))
    }

    /// The raw text of the parameters, for comparing a repeated request with the first.
    #[must_use]
    pub fn params_text(&self) -> &'a str {
        self.params.map_or("{}", RawValue::get)
    }

    /// The id that makes a repeat of this request harmless.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }
}

/// Whether this JSON is an object. A list would be read as the fields in their order, which nobody was promised.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

/// Writes one request, without its frame.
///
/// # Errors
/// When the parameters can't be written as JSON.
pub fn write_request(
    action: Action,
    params: &impl Serialize,
    request_id: Option<&str>,
) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Out<'a, P> {
        action: &'static str,
        params: &'a P,
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<&'a str>,
    }
    serde_json::to_vec(&Out { action: action.name(), params, request_id })
}

/// Why a frame is not a request that can be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Not JSON, or not the JSON of a request.
    Json(String),
    /// There is no such action.
    UnknownAction(String),
    /// The parameters are not the action's.
    Params(String),
    /// The `request_id` is empty, too long or unprintable.
    RequestId,
}

impl RequestError {
    /// The stable name, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Json(_) => "bad_json",
            Self::UnknownAction(_) => "unknown_action",
            Self::Params(_) => "invalid_params",
            Self::RequestId => "invalid_request_id",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "this is not a request: {error}"),
            Self::UnknownAction(name) => write!(f, "there is no action {name:?}"),
            Self::Params(error) => write!(f, "the parameters are wrong: {error}"),
            Self::RequestId => write!(f, "a request_id has 1 to {REQUEST_ID_BYTES_MAX} printable bytes"),
        }
    }
}

impl std::error::Error for RequestError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{AccountNum, Money, MoneyError};

    #[test]
    fn a_request_of_the_documentation_is_read() {
        let body = br#"{"action":"deposit","params":{"account_no":"1001","amount":100},"request_id":"r1","later":1}"#;
        let frame = RequestFrame::parse(body).unwrap();
        assert_eq!(frame.action(), Ok(Action::Deposit));
        assert_eq!(frame.request_id(), Some("r1"));
        let params: AccountAmount = frame.params().unwrap();
        assert_eq!((params.account_no.get(), params.amount.to_move()), (1001, Ok(Money::from_rupees(100))));
    }

    #[test]
    fn missing_params_are_empty_and_wrong_ones_are_named() {
        let frame = RequestFrame::parse(br#"{"action":"list_accounts"}"#).unwrap();
        assert!(frame.params::<ListAccounts>().unwrap().after.is_none());
        let frame = RequestFrame::parse(br#"{"action":"balance","params":{}}"#).unwrap();
        let error = frame.params::<OneAccount>().unwrap_err();
        assert!(error.to_string().contains("account_no"), "{error}");
        for params in ["[1001]", "\"1001\"", "5"] {
            let body = format!(r#"{{"action":"balance","params":{params}}}"#);
            let frame = RequestFrame::parse(body.as_bytes()).unwrap();
            assert!(frame.params::<OneAccount>().is_err(), "{params}");
        }
        for body in [&b"[]"[..], b"[\"status\"]", b"{}", b"nope", b"{\"action\":1}", b"\xff", b""] {
            assert!(RequestFrame::parse(body).is_err(), "{body:?}");
        }
        for id in ["", &"x".repeat(129), "a\\u0007b"] {
            let body = format!(r#"{{"action":"status","request_id":"{id}"}}"#);
            assert_eq!(RequestFrame::parse(body.as_bytes()).unwrap_err(), RequestError::RequestId, "id {id:?}");
        }
    }

    #[test]
    fn a_filter_that_is_not_known_is_refused() {
        fn check<T: serde::de::DeserializeOwned>(params: &str, expected: bool) {
            let body = format!(r#"{{"action":"history","params":{params}}}"#);
            let frame = RequestFrame::parse(body.as_bytes()).unwrap();
            assert_eq!(frame.params::<T>().is_ok(), expected, "{params}");
        }
        check::<History>(r#"{"account":"1001"}"#, true);
        check::<History>(r#"{"account_no":1001,"limit":5}"#, true);
        check::<History>(r#"{"account":"1001","account_no":"1002"}"#, false);
        check::<History>(r#"{"accuont":"1001"}"#, false);
        check::<ListAccounts>(r#"{"name":"Asha"}"#, false);
        check::<Watch>(r#"{"txId":"T"}"#, false);
    }

    #[test]
    fn a_wrong_amount_says_what_is_wrong_with_it() {
        for (json, expected) in [
            ("0", Err(MoneyError::Zero)),
            ("-5", Err(MoneyError::Sign)),
            ("1.005", Err(MoneyError::TooManyDecimals)),
            ("1e3", Err(MoneyError::NotANumber)),
            ("null", Err(MoneyError::NotANumber)),
            ("\"12.5\"", Ok("12.50".parse().unwrap())),
        ] {
            let body = format!(r#"{{"action":"deposit","params":{{"account_no":1,"amount":{json}}}}}"#);
            let frame = RequestFrame::parse(body.as_bytes()).unwrap();
            assert_eq!(frame.params::<AccountAmount>().unwrap().amount.to_move(), expected, "{json}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let params = InterBranchTransfer {
            src_account_no: AccountNum::new(1001).unwrap(),
            dest_account_no: AccountNum::new(1002).unwrap(),
            amount: Money::from_rupees(50).into(),
            dest_branch: None,
            dest_host: Some("127.0.0.1".into()),
            dest_port: Some(9101),
        };
        let body = write_request(Action::InterBranchTransfer, &params, Some("id")).unwrap();
        let frame = RequestFrame::parse(&body).unwrap();
        let read: InterBranchTransfer = frame.params().unwrap();
        assert_eq!((read.dest_port, read.amount), (Some(9101), params.amount));
        let text_port = br#"{"action":"x","params":{"dest_port":"9101"}}"#;
        let read: Destination = RequestFrame::parse(text_port).unwrap().params().unwrap();
        assert_eq!(read.dest_port, Some(9101));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(frame) = RequestFrame::parse(&bytes) {
                let _ = frame.params::<SplitTransfer>();
            }
        }

        #[test]
        fn no_params_panic(json in "\\PC{0,80}") {
            let body = format!(r#"{{"action":"deposit","params":{json}}}"#);
            if let Ok(frame) = RequestFrame::parse(body.as_bytes()) {
                let _ = frame.params::<AccountAmount>();
                let _ = frame.params::<InterBranchTransfer>();
                let _ = frame.params::<Watch>();
            }
        }
    }
}

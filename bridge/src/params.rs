//! The parameters of a request: of its query, and of its body, which is a form or a JSON object.
//!
//! All are flat and kept as text; a JSON number keeps its digits, so no amount passes through a float. A parameter
//! that is given twice is refused, because programs disagree on which of the two counts. An empty one is as none.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use axum::Form;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Query, Request};
use axum::http::{Method, header};
use protocol::request::{Amount, REQUEST_ID_BYTES_MAX};
use protocol::{AccountNum, Money};
use serde_json::Value;

use crate::error::Error;
use crate::limits::{BODY_BYTES, BODY_TIMEOUT, PARAMETERS};

/// The parameters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// A parameter, if it was given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A parameter that is needed.
    ///
    /// # Errors
    /// [`Error::Input`] naming it.
    pub fn need(&self, name: &str) -> Result<&str, Error> {
        self.get(name).ok_or_else(|| Error::Input(format!("the parameter {name} is missing")))
    }

    /// A parameter in its type, if it was given.
    ///
    /// # Errors
    /// [`Error::Input`] saying what is wrong with it.
    pub fn parse<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, Error> {
        let parse = |text: &str| text.parse().map_err(|error| Error::Input(format!("{name}: {error}")));
        self.get(name).map(parse).transpose()
    }

    /// A parameter in its type that is needed.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub fn parse_need<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, Error> {
        self.need(name)?;
        self.parse(name)?.ok_or_else(|| Error::Input(format!("the parameter {name} is missing")))
    }

    /// The account under the first of these names that was given.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub fn account(&self, names: &[&str]) -> Result<Option<AccountNum>, Error> {
        for name in names {
            if let Some(account) = self.parse(name)? {
                return Ok(Some(account));
            }
        }
        Ok(None)
    }

    /// An amount to move.
    ///
    /// # Errors
    /// [`Error::Amount`] saying what is wrong with it, [`Error::Input`] when it is missing.
    pub fn amount(&self) -> Result<Amount, Error> {
        let amount = Money::parse_movement(self.need("amount")?).map_err(|error| Error::Amount(error.to_string()))?;
        Ok(Amount::from(amount))
    }

    /// A yes or no.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some("true" | "1" | "yes" | "on") => Ok(Some(true)),
            Some("false" | "0" | "no" | "off") => Ok(Some(false)),
            Some(_) => Err(Error::Input(format!("{name} is true or false"))),
        }
    }

    /// How many rows are wanted.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub fn limit(&self, default: usize, most: usize) -> Result<usize, Error> {
        Ok(self.parse::<usize>("limit")?.unwrap_or(default).clamp(1, most))
    }

    /// The id of a write: the one that was given, or a new one.
    ///
    /// # Errors
    /// [`Error::Input`], or [`Error::Internal`] when the system gives no random bytes.
    pub fn request_id(&self) -> Result<String, Error> {
        match self.get("request_id") {
            Some(id) if id.len() > REQUEST_ID_BYTES_MAX || id.chars().any(char::is_control) => {
                Err(Error::Input(format!("a request_id has 1 to {REQUEST_ID_BYTES_MAX} printable bytes")))
            }
            Some(id) => Ok(id.to_string()),
            None => {
                let mut random = [0; 16];
                getrandom::fill(&mut random).map_err(|error| Error::Internal(format!("no random bytes: {error}")))?;
                Ok(format!("bridge-{:032x}", u128::from_be_bytes(random)))
            }
        }
    }

    fn add(&mut self, name: String, text: String) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        if self.0.len() >= PARAMETERS {
            return Err(Error::Input(format!("a request has at most {PARAMETERS} parameters")));
        }
        match self.0.insert(name, text) {
            None => Ok(()),
            Some(_) => Err(Error::Input("a parameter is given twice".into())),
        }
    }

    fn add_json(&mut self, body: &[u8]) -> Result<(), Error> {
        let wrong = |error: serde_json::Error| Error::Input(format!("the body is no JSON object: {error}"));
        let object: serde_json::Map<String, Value> = serde_json::from_slice(body).map_err(wrong)?;
        for (name, value) in object {
            match value {
                Value::Null => {}
                Value::Bool(is) => self.add(name, is.to_string())?,
                // With serde_json's arbitrary_precision a number is the digits that were sent.
                Value::Number(number) => self.add(name, number.to_string())?,
                Value::String(text) => self.add(name, text)?,
                Value::Array(_) | Value::Object(_) => {
                    return Err(Error::Input(format!("{name} is to be a text, a number or true or false")));
                }
            }
        }
        Ok(())
    }
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let mut params = Self::default();
        let query = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
        let Query(query) = query.map_err(|error| Error::Input(error.body_text()))?;
        for (name, text) in query {
            params.add(name, text)?;
        }
        if *request.method() == Method::GET || *request.method() == Method::HEAD {
            return Ok(params);
        }
        let (parts, body) = request.into_parts();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let bytes = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES)).await;
        // The only other way to fail is a connection that broke, and then nobody reads the answer.
        let bytes = bytes.map_err(|_| Error::BodyTooSlow)?.map_err(|_| Error::BodyTooLong)?;
        match kind.as_str() {
            _ if bytes.is_empty() => {}
            "application/json" => params.add_json(&bytes)?,
            "application/x-www-form-urlencoded" => {
                let form =
                    Form::<Vec<(String, String)>>::from_request(Request::from_parts(parts, Body::from(bytes)), state);
                let Form(pairs) = form.await.map_err(|error| Error::Input(error.body_text()))?;
                for (name, text) in pairs {
                    params.add(name, text)?;
                }
            }
            _ => {
                return Err(Error::Body(
                    "the body is to be a form (application/x-www-form-urlencoded) or JSON (application/json)",
                ));
            }
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, uri: &str, kind: &str, body: impl Into<Body>) -> Result<Params, Error> {
        let request = Request::builder().method(method).uri(uri).header(header::CONTENT_TYPE, kind);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(Params::from_request(request.body(body.into()).unwrap(), &()))
    }

    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json; charset=utf-8";

    #[test]
    fn a_form_and_json_are_the_same() {
        let form = read("POST", "/deposit", FORM, "host=127.0.0.1&port=9100&account=1001&amount=100.50").unwrap();
        let json = r#"{"host":"127.0.0.1","port":9100,"account":"1001","amount":100.50,"sms":null}"#;
        assert_eq!(read("POST", "/deposit", JSON, json).unwrap(), form);
        assert_eq!(read("GET", "/x?host=127.0.0.1&port=9100&account=1001&amount=100.50", "", "").unwrap(), form);
        assert_eq!(form.amount().unwrap(), Amount::from("100.50".parse::<Money>().unwrap()));
        assert_eq!(form.account(&["account"]).unwrap().unwrap().get(), 1001);
        assert_eq!(form.parse::<u16>("port").unwrap(), Some(9100));
    }

    #[test]
    fn amounts_keep_their_digits() {
        let check = |number: &str, expected: Result<&str, &str>| {
            let params = read("POST", "/x", JSON, format!(r#"{{"amount":{number}}}"#)).unwrap();
            let got = params.amount().map(|amount| amount.get().unwrap().to_string());
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected),
                (Err(error), Err(code)) => assert_eq!(error.code(), code, "{number}"),
                (got, _) => panic!("{number}: {got:?}"),
            }
        };
        check("99999999999999.99", Ok("99999999999999.99"));
        check("0.1", Ok("0.10"));
        check("1e3", Err("invalid_amount"));
        check("0.001", Err("invalid_amount"));
        check("-1", Err("invalid_amount"));
        check("0", Err("invalid_amount"));
        check("\"\"", Err("invalid_params"));
    }

    #[test]
    fn what_is_not_flat_or_given_twice_is_refused() {
        let check = |kind: &str, uri: &str, body: &str, code: &str| {
            assert_eq!(read("POST", uri, kind, body.to_string()).unwrap_err().code(), code, "{uri} {body}");
        };
        check(JSON, "/", r#"{"account":[1]}"#, "invalid_params");
        check(JSON, "/", r#"{"account":{"a":1}}"#, "invalid_params");
        check(JSON, "/", "[]", "invalid_params");
        check(JSON, "/", "{", "invalid_params");
        check(FORM, "/", "account=1&account=2", "invalid_params");
        check(FORM, "/?account=1", "account=1", "invalid_params");
        check("text/plain", "/", "account=1", "invalid_body");
        check(FORM, "/", &"x".repeat(BODY_BYTES + 1), "body_too_long");
        let many: Vec<_> = (0..=PARAMETERS).map(|number| format!("p{number}=1")).collect();
        check(FORM, "/", &many.join("&"), "invalid_params");
    }

    #[test]
    fn an_id_is_drawn_when_none_is_given() {
        let params = Params::default();
        assert_ne!(params.request_id().unwrap(), params.request_id().unwrap());
        let given = read("POST", "/", FORM, "request_id=again").unwrap();
        assert_eq!(given.request_id().unwrap(), "again");
        let long = read("POST", "/", FORM, format!("request_id={}", "x".repeat(REQUEST_ID_BYTES_MAX + 1))).unwrap();
        assert!(long.request_id().is_err());
    }
}

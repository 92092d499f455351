//! The parameters of a request: of its query, and of its body, which is a form or a JSON object.
//!
//! All are flat and kept as text; a JSON number keeps its digits, so no amount passes through a float. A parameter
//! that is given twice, or under two names with different values, is refused, because programs disagree on which of
//! the two counts. An empty one is as none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use axum::Form;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Query, Request};
use axum::http::{HeaderMap, Method, header};
use protocol::request::{Amount, REQUEST_ID_BYTES_MAX};
use protocol::{AccountNum, Money};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::Value;

use crate::error::Error;
use crate::limits::{BODY_BYTES, BODY_TIMEOUT, PARAMETERS};
use crate::request_id::RequestId;
use crate::who::Who;

/// The parameter by which a write may be repeated,
const REQUEST_ID: &str = "request_id";
/// and its header (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The parameters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    given: BTreeMap<String, String>,
    /// All names that were there, also of those that were empty.
    names: BTreeSet<String>,
}

impl Params {
    /// A parameter, if it was given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// Refuses parameters under other names: who asks for less, by a filter that is not known here, must not get more.
    ///
    /// # Errors
    /// [`Error::Input`] naming one.
    pub fn only(&self, known: &[&str]) -> Result<(), Error> {
        match self.names.iter().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().filter(|character| !character.is_control()).take(64).collect();
                Err(Error::Input(format!("there is no parameter {name:?} here; there are {}", known.join(", "))))
            }
        }
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

    /// The account under one of these names, or under several that agree.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub fn account(&self, names: &[&str]) -> Result<Option<AccountNum>, Error> {
        let mut found: Option<(&str, AccountNum)> = None;
        for name in names {
            let Some(account) = self.parse(name)? else { continue };
            match found {
                Some((other, first)) if first != account => {
                    return Err(Error::Input(format!("{other} and {name} are two accounts")));
                }
                Some(_) | None => found = Some((name, account)),
            }
        }
        Ok(found.map(|(_, account)| account))
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

    /// The id of this person's write: the one that was given, or a new one.
    ///
    /// # Errors
    /// [`Error::Input`], or [`Error::Internal`] when the system gives no random bytes.
    pub fn request_id(&self, who: &Who) -> Result<RequestId, Error> {
        match self.get(REQUEST_ID) {
            Some(id) if id.len() > REQUEST_ID_BYTES_MAX || id.chars().any(char::is_control) => {
                Err(Error::Input(format!("a request_id has 1 to {REQUEST_ID_BYTES_MAX} printable bytes")))
            }
            Some(id) => Ok(RequestId::new(who, id)),
            None => RequestId::draw(who),
        }
    }

    fn add(&mut self, name: String, text: String) -> Result<(), Error> {
        if self.names.len() >= PARAMETERS {
            return Err(Error::Input(format!("a request has at most {PARAMETERS} parameters")));
        }
        if !self.names.insert(name.clone()) {
            return Err(Error::Input("a parameter is given twice".into()));
        }
        if !text.is_empty() {
            self.given.insert(name, text);
        }
        Ok(())
    }

    fn add_json(&mut self, body: &[u8]) -> Result<(), Error> {
        let wrong = |error: serde_json::Error| Error::Input(format!("the body is no JSON object: {error}"));
        let mut json = serde_json::Deserializer::from_slice(body);
        let fields = json.deserialize_map(Fields).map_err(wrong)?;
        json.end().map_err(wrong)?;
        for (name, value) in fields {
            let text = match value {
                Value::Null => String::new(),
                Value::Bool(is) => is.to_string(),
                // With serde_json's arbitrary_precision a number is the digits that were sent.
                Value::Number(number) => whole(number.to_string()),
                Value::String(text) => text,
                Value::Array(_) | Value::Object(_) => {
                    return Err(Error::Input(format!("{name} is to be a text, a number or true or false")));
                }
            };
            self.add(name, text)?;
        }
        Ok(())
    }

    /// Takes the header that stands for a `request_id`. It may be a quoted string, as its draft has it, or plain.
    fn add_idempotency_key(&mut self, headers: &HeaderMap) -> Result<(), Error> {
        let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(key) = keys.next() else { return Ok(()) };
        let wrong = || Error::Input("Idempotency-Key is one text of printable characters".into());
        let key = key.to_str().map_err(|_| wrong())?.trim();
        let quoted = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
        let key = quoted.map_or_else(|| key.to_string(), |key| key.replace("\\\"", "\"").replace("\\\\", "\\"));
        if key.is_empty() || keys.next().is_some() {
            return Err(wrong());
        }
        match self.get(REQUEST_ID) {
            Some(id) if id != key => {
                Err(Error::Input("the request_id and the header Idempotency-Key are two ids".into()))
            }
            Some(_) => Ok(()),
            None => {
                self.names.insert(REQUEST_ID.into());
                self.given.insert(REQUEST_ID.into(), key);
                Ok(())
            }
        }
    }
}

/// A whole number as programs write it that know floats alone: `1001.0` is the account 1001. Other digits stay.
fn whole(number: String) -> String {
    match number.split_once('.') {
        Some((whole, "0" | "00")) => whole.to_string(),
        Some(_) | None => number,
    }
}

/// Reads the fields of a JSON object in their order, also those of one name, of which a map would keep the last.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
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
        let headers = parts.headers.clone();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        // What is announced to be too long is not waited for.
        let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: usize| length > BODY_BYTES) {
            return Err(Error::BodyTooLong);
        }
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
        params.add_idempotency_key(&headers)?;
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, uri: &str, kind: &str, body: impl Into<Body>) -> Result<Params, Error> {
        read_with(&[], method, uri, kind, body)
    }

    fn read_with(
        headers: &[(&str, &str)],
        method: &str,
        uri: &str,
        kind: &str,
        body: impl Into<Body>,
    ) -> Result<Params, Error> {
        let mut request = Request::builder().method(method).uri(uri).header(header::CONTENT_TYPE, kind);
        for (name, text) in headers {
            request = request.header(*name, *text);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(Params::from_request(request.body(body.into()).unwrap(), &()))
    }

    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json; charset=utf-8";

    #[test]
    fn a_form_and_json_are_the_same() {
        let form = read("POST", "/deposit", FORM, "host=127.0.0.1&port=9100&account=1001&amount=100.50").unwrap();
        let json = r#"{"host":"127.0.0.1","port":9100,"account":"1001","amount":100.50,"sms":null}"#;
        assert_eq!(read("POST", "/deposit", JSON, json).unwrap().given, form.given);
        let query = read("GET", "/x?host=127.0.0.1&port=9100&account=1001&amount=100.50", "", "").unwrap();
        assert_eq!(query.given, form.given);
        assert_eq!(form.amount().unwrap(), Amount::from("100.50".parse::<Money>().unwrap()));
        assert_eq!(form.account(&["account"]).unwrap().unwrap().get(), 1001);
        assert_eq!(form.parse::<u16>("port").unwrap(), Some(9100));
        let floats = read("POST", "/deposit", JSON, r#"{"port":9100.0,"account":1001.0}"#).unwrap();
        assert_eq!(floats.parse::<u16>("port").unwrap(), Some(9100));
        assert_eq!(floats.account(&["account"]).unwrap().unwrap().get(), 1001);
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
        check("5.0", Ok("5.00"));
        check("5.000", Err("invalid_amount"));
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
        check(FORM, "/", "account=&account=1", "invalid_params");
        check(FORM, "/?amount=1", "account=1&amount=2", "invalid_params");
        check(JSON, "/", r#"{"amount":1,"account":"1","amount":2}"#, "invalid_params");
        check(JSON, "/", r#"{"amount":null,"amount":2}"#, "invalid_params");
        check(JSON, "/", r#"{"amount":1,"\u0061mount":2}"#, "invalid_params");
        check(JSON, "/", r#"{"amount":1}{"amount":2}"#, "invalid_params");
        check("text/plain", "/", "account=1", "invalid_body");
        check(FORM, "/", &"x".repeat(BODY_BYTES + 1), "body_too_long");
        let many: Vec<_> = (0..=PARAMETERS).map(|number| format!("p{number}=1")).collect();
        check(FORM, "/", &many.join("&"), "invalid_params");
    }

    #[test]
    fn two_names_of_one_thing_must_agree() {
        let account =
            |body: &str| read("POST", "/", FORM, body.to_string()).unwrap().account(&["account", "account_no"]);
        assert_eq!(account("account=1001&account_no=1001").unwrap().unwrap().get(), 1001);
        assert_eq!(account("account_no=1002").unwrap().unwrap().get(), 1002);
        assert_eq!(account("account=&account_no=1002").unwrap().unwrap().get(), 1002);
        assert_eq!(account("account=1001&account_no=1002").unwrap_err().code(), "invalid_params");
    }

    #[test]
    fn an_unknown_filter_is_named() {
        let params = read("GET", "/history?type=deposit&accuont=1001", "", "").unwrap();
        assert!(params.only(&["type", "account"]).unwrap_err().to_string().contains("\"accuont\""));
        assert!(params.only(&["type", "accuont"]).is_ok());
        assert!(read("GET", "/history?x=", "", "").unwrap().only(&[]).is_err(), "also an empty one");
    }

    #[test]
    fn an_id_is_drawn_when_none_is_given() {
        let (params, open) = (Params::default(), Who::Open);
        assert_ne!(params.request_id(&open).unwrap(), params.request_id(&open).unwrap());
        let given = read("POST", "/", FORM, "request_id=again").unwrap();
        assert_eq!(given.request_id(&open).unwrap().given(), "again");
        let long = read("POST", "/", FORM, format!("request_id={}", "x".repeat(REQUEST_ID_BYTES_MAX + 1))).unwrap();
        assert!(long.request_id(&open).is_err());
    }

    #[test]
    fn the_header_is_a_request_id() {
        let id = |keys: &[&str], body: &str| {
            let headers: Vec<_> = keys.iter().map(|key| ("Idempotency-Key", *key)).collect();
            let params = read_with(&headers, "POST", "/", FORM, body.to_string())?;
            params.request_id(&Who::Open).map(|id| id.given().to_string())
        };
        assert_eq!(id(&["one"], "amount=1").unwrap(), "one");
        assert_eq!(id(&["\"one\""], "amount=1").unwrap(), "one", "quoted, as its draft has it");
        assert_eq!(id(&["one"], "amount=1&request_id=one").unwrap(), "one");
        for (keys, body) in
            [(&["one"][..], "request_id=other"), (&["one", "one"], ""), (&[""], ""), (&["\"\""], ""), (&["é"], "")]
        {
            assert_eq!(id(keys, body).unwrap_err().code(), "invalid_params", "{keys:?} {body}");
        }
    }
}

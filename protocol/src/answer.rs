//! Answers of the branch protocol: how they stand in their frames. The types of their results are in `results`.
//!
//! An answer is `{"status":"ok","result":…}` (with `next` beside a list that goes on) or
//! `{"status":"error","error":…,"code":…}`. The text of an error is for people and may change; its code is
//! for programs and does not.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Epoch;
pub use crate::results::*;

/// An answer, as a client reads it.
#[derive(Debug, Deserialize)]
pub struct Answer {
    status: String,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    /// Where the list goes on, as the `after` of the next request.
    #[serde(default)]
    pub next: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    known_epoch: Option<i64>,
    #[serde(default)]
    known_epoch_id: String,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// When the bytes are no answer.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The result as raw JSON, or the refusal.
    ///
    /// # Errors
    /// What the branch refused with.
    pub fn result(&self) -> Result<&str, AnswerError> {
        if self.status == "ok" {
            Ok(self.result.as_deref().map_or("null", RawValue::get))
        } else {
            Err(AnswerError {
                code: self.code.clone().unwrap_or_else(|| "error".into()),
                text: self.error.clone().unwrap_or_else(|| "the branch gave no reason".into()),
                known_epoch: self.known_epoch.map(|number| Epoch::new(number, &self.known_epoch_id)),
            })
        }
    }
}

/// A branch's refusal, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnswerError {
    /// The stable name.
    pub code: String,
    /// One sentence for a person.
    pub text: String,
    /// Where a copy of a branch was refused for its epoch: the one that is known of its branch.
    #[serde(skip)]
    pub known_epoch: Option<Epoch>,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for AnswerError {}

/// Appends the body of an ok answer. `result` and `next` are JSON texts.
pub fn push_ok(out: &mut Vec<u8>, result: &str, next: Option<&str>) {
    out.extend_from_slice(br#"{"status":"ok","result":"#);
    out.extend_from_slice(result.as_bytes());
    if let Some(next) = next {
        out.extend_from_slice(br#","next":"#);
        out.extend_from_slice(next.as_bytes());
    }
    out.push(b'}');
}

/// Appends the body of an error answer.
pub fn push_error(out: &mut Vec<u8>, code: &str, text: &str) {
    push_refused_epoch(out, code, text, None);
}

/// Appends the body of an error answer to a copy of a branch that is refused for its epoch, with the one that is known.
pub fn push_refused_epoch(out: &mut Vec<u8>, code: &str, text: &str, known: Option<&Epoch>) {
    #[derive(Serialize)]
    struct Out<'a> {
        status: &'static str,
        error: &'a str,
        code: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        known_epoch: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        known_epoch_id: Option<&'a str>,
    }
    let (number, id) = (known.map(|known| known.number), known.map(|known| known.id.as_str()));
    let out_body = Out { status: "error", error: text, code, known_epoch: number, known_epoch_id: id };
    out.extend_from_slice(&serde_json::to_vec(&out_body).expect("strings are always JSON"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_back() {
        let mut body = Vec::new();
        push_ok(&mut body, r#"{"balance":1100.00}"#, Some("\"1002\""));
        assert_eq!(body, br#"{"status":"ok","result":{"balance":1100.00},"next":"1002"}"#);
        let answer = Answer::parse(&body).unwrap();
        assert_eq!(answer.result().unwrap(), r#"{"balance":1100.00}"#);
        assert_eq!(answer.next.unwrap().get(), "\"1002\"");
        let mut body = Vec::new();
        push_error(&mut body, "insufficient_funds", "too \"little\"");
        assert_eq!(body, br#"{"status":"error","error":"too \"little\"","code":"insufficient_funds"}"#);
        assert_eq!(Answer::parse(&body).unwrap().result().unwrap_err().code, "insufficient_funds");
    }
}

//! Why a party refuses: a stable code for programs, and a sentence for people.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Why something was refused: a stable code for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// A stable code, such as `insufficient_funds`. The ledger brings its own; the machines' are the constants here.
    pub code: Cow<'static, str>,
    /// One sentence for a person.
    pub text: Cow<'static, str>,
}

impl Refusal {
    /// Code: the transaction was aborted before.
    pub const ABORTED: &str = "transaction_aborted";
    /// Code: the transaction's id was used before, with other legs.
    pub const ID_REUSED: &str = "transaction_id_reused";
    /// Code: a branch coordinates the transaction, and nobody else decides it.
    pub const COORDINATED: &str = "coordinated";
    /// Code: the transaction has ended before.
    pub const SETTLED: &str = "transaction_settled";
    /// Code: no such transaction is prepared here.
    pub const NOT_PREPARED: &str = "not_prepared";
    /// Code: too many transactions are under way.
    pub const BUSY: &str = "busy";
    /// Code: the legs make no sense.
    pub const MALFORMED: &str = "malformed_transfer";

    /// A refusal from its code and its sentence.
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), text: text.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

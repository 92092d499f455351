//! Why a lesson can't go on: the one error type.

use std::fmt;

/// A branch's refusal, or what stands in for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A stable name: the branch's own, or one of the constants here.
    pub code: String,
    /// One sentence for a person.
    pub text: String,
}

impl Failure {
    /// Code: no answer came.
    pub const UNREACHABLE: &str = "unreachable";
    /// Code: there is no scenario of that name.
    pub const NO_SUCH_SCENARIO: &str = "no_such_scenario";
    /// Code: fewer than two branches take part.
    pub const TWO_BRANCHES_NEEDED: &str = "two_branches_needed";
    /// Code: fewer than three do, and the lesson is about three.
    pub const THREE_BRANCHES_NEEDED: &str = "three_branches_needed";
    /// Code: the branch did something else than the lesson says.
    pub const CLAIM_FAILED: &str = "claim_failed";
    /// Code: what was waited for did not happen in time.
    pub const TOO_LATE: &str = "too_late";
    /// Code: the machine on which the lesson runs refused something.
    pub const SYSTEM: &str = "system";

    /// A refusal with the branch's own code and sentence.
    #[must_use]
    pub fn refused(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into() }
    }

    /// No answer came.
    #[must_use]
    pub fn unreachable(text: impl Into<String>) -> Self {
        Self::refused(Self::UNREACHABLE, text)
    }

    pub(crate) fn claim(text: impl Into<String>) -> Self {
        Self::refused(Self::CLAIM_FAILED, text)
    }

    pub(crate) fn too_late(text: impl Into<String>) -> Self {
        Self::refused(Self::TOO_LATE, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

//! The id under which a write may be repeated, as its person gave it and as it is sent to the branch.
//!
//! For a branch every request of the bridge is one operator's, so the ids of all people would be one lot: a customer
//! could not use another's id, or would read that one's answer. What is sent is therefore a hash of the person and
//! the id. At an open bridge everybody is one, and the id is sent as it is: it is the operator's.

use std::fmt;

use protocol::proof::to_hex;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::who::Who;

/// The id of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    given: String,
    sent: String,
}

impl RequestId {
    /// This person's id.
    #[must_use]
    pub fn new(who: &Who, given: &str) -> Self {
        let owner = match who {
            Who::Open | Who::Nobody => return Self::operator(given.to_string()),
            Who::Administrator { branch } => format!("administrator {branch}"),
            Who::Customer { branch, account } => format!("customer {branch} {account}"),
        };
        let mut hasher = Sha256::new();
        hasher.update(owner);
        hasher.update([0]);
        hasher.update(given);
        Self { given: given.to_string(), sent: format!("bridge-{}", to_hex(&hasher.finalize())) }
    }

    /// A new id of this person's.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system gives no random bytes.
    pub fn draw(who: &Who) -> Result<Self, Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Error::Internal(format!("no random bytes: {error}")))?;
        Ok(Self::new(who, &format!("bridge-{:032x}", u128::from_be_bytes(random))))
    }

    /// An id of the bridge's own.
    #[must_use]
    pub fn operator(id: String) -> Self {
        Self { sent: id.clone(), given: id }
    }

    /// As the person knows it.
    #[must_use]
    pub fn given(&self) -> &str {
        &self.given
    }

    /// As the branch gets it.
    #[must_use]
    pub fn sent(&self) -> &str {
        &self.sent
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

#[cfg(test)]
mod tests {
    use protocol::AccountNum;
    use protocol::request::REQUEST_ID_BYTES_MAX;

    use super::*;

    #[test]
    fn an_id_belongs_to_its_person() {
        let customer = |branch: &str, account| Who::Customer {
            branch: branch.parse().unwrap(),
            account: AccountNum::new(account).unwrap(),
        };
        let administrator = Who::Administrator { branch: "Mumbai".parse().unwrap() };
        let people =
            [Who::Open, administrator, customer("Mumbai", 1001), customer("Mumbai", 1002), customer("Delhi", 1001)];
        let sent: Vec<_> = people.iter().map(|who| RequestId::new(who, "pay").sent().to_string()).collect();
        for (index, one) in sent.iter().enumerate() {
            assert!(sent[..index].iter().all(|other| other != one), "{people:?}: {sent:?}");
            assert!(one.len() <= REQUEST_ID_BYTES_MAX);
        }
        assert_eq!(RequestId::new(&people[2], "pay"), RequestId::new(&people[2].clone(), "pay"));
        assert_eq!(RequestId::new(&people[2], "pay").given(), "pay");
    }
}

//! The hash chain over `transactions`.
//!
//! Each row carries SHA-256 over the hash of the row before it and its own fields, so a row that is
//! changed, removed or slipped in behind the bank's back breaks the chain from there on, and `audit` names
//! the first row that doesn't fit. The chain shows tampering by someone who doesn't recompute it; whoever
//! can write the file can also write a whole new chain, so a branch that wants more keeps a copy of the
//! last hash elsewhere.

use std::fmt;
use std::str::FromStr;

use protocol::proof::{from_hex, to_hex};
use sha2::{Digest, Sha256};

use crate::dbs_exec::kind::Kind;

/// The fields of a row of `transactions` that the chain covers: all but the hash itself, and but for the pointers to the
/// rows before it of its two accounts. Those follow from the fields of all rows, so an audit recomputes them, as it does
/// balances, and a database of the time before they were keeps its hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainedRow<'a> {
    /// The row's number; rows are numbered 1, 2, 3, … without a gap.
    pub transaction_id: i64,
    /// The account that is debited.
    pub from_account: i64,
    /// The account that is credited.
    pub to_account: i64,
    /// Paise, above zero.
    pub amount_paise: i64,
    /// What sort of movement; the chain covers its name. None for a number that no kind has, which only somebody who
    /// went round the table's own checks can have written.
    pub kind: Option<Kind>,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub date_unix_ms: i64,
    /// The inter-branch transfer that this row is a leg of.
    pub txid: Option<&'a str>,
    /// Which leg of it.
    pub leg: Option<i64>,
    /// The branch at the other end.
    pub peer: Option<&'a str>,
    /// Why a person booked it, where a person did.
    pub note: Option<&'a str>,
}

/// The end of the chain: the last row's number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The last row's number, 0 when there is none.
    pub transaction_id: i64,
    /// The last row's hash, all zero when there is none.
    pub hash: [u8; 32],
}

impl ChainHead {
    /// The head of an empty chain.
    pub const GENESIS: Self = Self { transaction_id: 0, hash: [0; 32] };

    /// The head after `row`, whose number must be the next one.
    ///
    /// # Panics
    /// When `row` is not the next row: the caller's mistake.
    #[must_use]
    pub fn after(&self, row: &ChainedRow<'_>) -> Self {
        // The number is hashed, too: a row that was taken out can't be hidden by numbering the others anew.
        assert_eq!(row.transaction_id, self.transaction_id + 1, "rows are chained one after another");
        let mut hasher = Sha256::new();
        hasher.update(self.hash);
        for number in [row.transaction_id, row.from_account, row.to_account, row.amount_paise, row.date_unix_ms] {
            hasher.update(number.to_be_bytes());
        }
        // A text is preceded by its length, and a missing one is told from an empty one, so that no two
        // different rows feed the same bytes.
        for text in [row.kind.map(Kind::as_str), row.txid, row.peer] {
            match text {
                Some(text) => {
                    hasher.update([1]);
                    hasher.update((text.len() as u64).to_be_bytes());
                    hasher.update(text.as_bytes());
                }
                None => hasher.update([0]),
            }
        }
        hasher.update([u8::from(row.leg.is_some())]);
        hasher.update(row.leg.unwrap_or(0).to_be_bytes());
        // A row without a note has the hash that it had before there were notes. All before is of a length that its
        // own bytes tell, so what follows can't be taken for a part of it.
        if let Some(note) = row.note {
            hasher.update((note.len() as u64).to_be_bytes());
            hasher.update(note.as_bytes());
        }
        Self { transaction_id: row.transaction_id, hash: hasher.finalize().into() }
    }
}

impl fmt::Display for ChainHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transaction_id, to_hex(&self.hash))
    }
}

impl FromStr for ChainHead {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once(':').and_then(|(number, hash)| {
            let transaction_id = number.parse().ok().filter(|number| *number >= 0)?;
            Some(Self { transaction_id, hash: from_hex(hash)? })
        });
        parsed.ok_or_else(|| "the end of a chain is written as an audit prints it, NUMBER:HASH".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_changes_the_hash() {
        let row = ChainedRow {
            transaction_id: 1,
            from_account: -1,
            to_account: 1001,
            amount_paise: 100,
            kind: Some(Kind::Deposit),
            date_unix_ms: 5,
            txid: None,
            leg: None,
            peer: None,
            note: None,
        };
        let original = ChainHead::GENESIS.after(&row);
        for changed in [
            ChainedRow { from_account: -2, ..row.clone() },
            ChainedRow { to_account: 1002, ..row.clone() },
            ChainedRow { amount_paise: 101, ..row.clone() },
            ChainedRow { kind: Some(Kind::Opening), ..row.clone() },
            ChainedRow { kind: None, ..row.clone() },
            ChainedRow { date_unix_ms: 6, ..row.clone() },
            ChainedRow { txid: Some(""), ..row.clone() },
            ChainedRow { leg: Some(0), ..row.clone() },
            ChainedRow { peer: Some("Delhi"), ..row.clone() },
            ChainedRow { note: Some(""), ..row.clone() },
            ChainedRow { note: Some("agreed by letter"), ..row.clone() },
        ] {
            assert_ne!(ChainHead::GENESIS.after(&changed), original, "{changed:?}");
        }
        let head = ChainHead::GENESIS.after(&row);
        assert_eq!(head.to_string().parse(), Ok(head));
        let elsewhere = ChainHead { transaction_id: 0, hash: [1; 32] };
        assert_ne!(elsewhere.after(&row), original, "the row before counts too");
    }
}

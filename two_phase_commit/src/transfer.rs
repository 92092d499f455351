//! What a transaction moves: legs, each at one account of one branch, and the address of a party.
//!
//! A [`Transfer`] is the content of a transaction as one party sees it. The coordinator's holds all legs;
//! the one that a participant gets holds only its own. This file knows what makes a transfer well formed;
//! whether an account exists and has the money is the ledger's business.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use protocol::{AccountNum, BranchName, Money, Total, TxId};
use serde::{Deserialize, Serialize};

/// The most legs in one transfer: a split transfer of 100 receivers, each with a withdrawal of its own, fits.
pub const LEGS_MAX: usize = 256;

/// How the address of an outside program begins.
const PROGRAM: &str = "client/";

/// How a party is reached: a branch's name, `host:port`, or a driver's name for a client's connection.
///
/// The text means nothing to the machines, which only compare it. The driver chooses it, and must give a
/// message's sender under the same text under which it was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerAddr(Arc<str>);

impl PeerAddr {
    /// An address from its text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of one request of an outside program, where its answer goes.
    ///
    /// Whoever may drive the raw actions is an operator, so all of them are one caller here, whatever connection they
    /// come by. No branch can have this name, and no host: neither has a slash.
    #[must_use]
    pub fn program(request: u64) -> Self {
        Self::new(&format!("{PROGRAM}{request}"))
    }

    /// Whether it is an outside program's.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.0.starts_with(PROGRAM)
    }
}

impl From<&str> for PeerAddr {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<&BranchName> for PeerAddr {
    fn from(name: &BranchName) -> Self {
        Self::new(name.as_str())
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The direction in which a leg moves money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Out of the account. Prepared, the money is held.
    Withdraw,
    /// Into the account. Prepared, the account is pinned open and the room for the amount is reserved.
    Deposit,
}

/// One movement on one account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Leg {
    /// The leg's number, unique in its transaction at all branches: `transactions` is unique on (txid, leg).
    pub index: u32,
    /// Where the account is; `None` at the branch that holds this value.
    pub branch: Option<PeerAddr>,
    /// The account.
    pub account: AccountNum,
    /// How much; never zero.
    pub amount: Money,
    /// Which way.
    pub side: Side,
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, preposition) = match self.side {
            Side::Withdraw => ("withdraw", "from"),
            Side::Deposit => ("deposit", "to"),
        };
        write!(f, "{} {verb} {} {preposition} {}", self.index, self.amount, self.account)?;
        match &self.branch {
            Some(branch) => write!(f, " at {branch}"),
            None => Ok(()),
        }
    }
}

/// A transaction's content as one party knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Transfer {
    /// The transaction's id, the same at each party.
    pub txid: TxId,
    /// Who decides and can be asked; `None` when an outside program drives the raw actions (rule 10).
    pub coordinator: Option<PeerAddr>,
    /// The legs: all of them at the coordinator, its own at a participant.
    pub legs: Vec<Leg>,
    /// Free text that travels with the legs, for the books (such as who pays); never read here.
    pub note: Arc<str>,
    /// At a participant: whether an outside program had it prepared, with or without a coordinator's name in it.
    /// What the coordinator itself prepared is its transfer's own; what a program prepared in its name is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_program: bool,
}

impl Transfer {
    /// The legs at this branch.
    pub fn local_legs(&self) -> impl Iterator<Item = &Leg> {
        self.legs.iter().filter(|leg| leg.branch.is_none())
    }

    /// The other branches that take part, each once, in order.
    #[must_use]
    pub fn participants(&self) -> BTreeSet<PeerAddr> {
        self.legs.iter().filter_map(|leg| leg.branch.clone()).collect()
    }

    /// What `peer` is asked to prepare: its legs, which are local to it.
    #[must_use]
    pub fn part_of(&self, peer: &PeerAddr) -> Self {
        let its_own = self.legs.iter().filter(|leg| leg.branch.as_ref() == Some(peer));
        Self {
            txid: self.txid.clone(),
            // The participant has nobody else to ask when it is in doubt.
            coordinator: self.coordinator.clone(),
            // Its own disk and no other's: a participant has no use for what happens elsewhere, and can't check it.
            legs: its_own.map(|leg| Leg { branch: None, ..leg.clone() }).collect(),
            note: Arc::clone(&self.note),
            // The coordinator asks for it itself, so it is part of what the coordinator will decide.
            by_program: false,
        }
    }

    /// The legs at those branches, as their coordinator sees them.
    pub(crate) fn legs_at(&self, peers: &BTreeSet<PeerAddr>) -> Self {
        let theirs = self.legs.iter().filter(|leg| leg.branch.as_ref().is_some_and(|branch| peers.contains(branch)));
        Self { legs: theirs.cloned().collect(), ..self.clone() }
    }

    /// Checks a whole transfer, as a coordinator begins it.
    ///
    /// # Errors
    /// As [`Transfer::check_part`], and [`TransferError::Unbalanced`] when it would make or lose money.
    pub fn check_whole(&self) -> Result<(), TransferError> {
        check_legs(&self.legs)?;
        // In a wider type: 256 legs of the largest amount would overflow `Money`.
        let sum = |side| self.legs.iter().filter(|leg| leg.side == side).map(|leg| Total::from(leg.amount)).sum();
        let (withdrawn, deposited): (Total, Total) = (sum(Side::Withdraw), sum(Side::Deposit));
        // Across all branches: only the coordinator sees every leg, so nobody after it could notice that money is made
        // or lost.
        if withdrawn == deposited { Ok(()) } else { Err(TransferError::Unbalanced) }
    }

    /// Checks what a participant is asked to prepare. Its legs need not balance: the others' do with them.
    ///
    /// # Errors
    /// The first thing that is wrong with the legs.
    pub fn check_part(&self) -> Result<(), TransferError> {
        check_legs(&self.legs)?;
        // A promise for an account of another branch is none that this ledger could keep.
        if self.legs.iter().all(|leg| leg.branch.is_none()) { Ok(()) } else { Err(TransferError::Elsewhere) }
    }

    /// This transfer with the legs of `other` added, in the order of their numbers.
    pub(crate) fn joined_with(&self, other: &Self) -> Self {
        let mut legs = self.legs.clone();
        legs.extend(other.legs.iter().cloned());
        // A program may add them in any order. Sorted, the same legs are the same record, however they came.
        legs.sort_by_key(|leg| leg.index);
        Self { legs, ..self.clone() }
    }

    /// Whether `other` belongs to the same transaction of the same parties: named by the same coordinator, and asked
    /// for by it, or by a program, as this was.
    pub(crate) fn is_of_same_asker(&self, other: &Self) -> bool {
        self.coordinator == other.coordinator && self.by_program == other.by_program
    }

    /// Whether every leg of `other` is here, exactly as it is there.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        other.legs.iter().all(|leg| self.legs.contains(leg))
    }

    /// Whether no leg of `other` has the number of a leg here.
    pub(crate) fn is_apart_from(&self, other: &Self) -> bool {
        other.legs.iter().all(|leg| self.legs.iter().all(|own| own.index != leg.index))
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [", self.txid)?;
        for (position, leg) in self.legs.iter().enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{leg}")?;
        }
        f.write_str("]")
    }
}

fn check_legs(legs: &[Leg]) -> Result<(), TransferError> {
    if legs.is_empty() {
        return Err(TransferError::NoLegs);
    }
    // All legs of a branch are held in one transaction of its database, and other clients wait meanwhile.
    if legs.len() > LEGS_MAX {
        return Err(TransferError::TooManyLegs);
    }
    // It would be a row in the books for which nothing has moved.
    if legs.iter().any(|leg| leg.amount.is_zero()) {
        return Err(TransferError::ZeroAmount);
    }
    // The books have each leg at most once, by its number. Of two legs with one number the second could not be booked,
    // though it was promised.
    let indexes: BTreeSet<u32> = legs.iter().map(|leg| leg.index).collect();
    if indexes.len() == legs.len() { Ok(()) } else { Err(TransferError::SameIndex) }
}

/// What is wrong with a transfer's legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// There are none.
    NoLegs,
    /// There are more than [`LEGS_MAX`].
    TooManyLegs,
    /// One moves nothing.
    ZeroAmount,
    /// Two have the same number.
    SameIndex,
    /// Withdrawals and deposits differ.
    Unbalanced,
    /// A participant was sent a leg of another branch.
    Elsewhere,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLegs => "a transfer needs at least one leg",
            Self::TooManyLegs => "a transfer has at most 256 legs",
            Self::ZeroAmount => "the amount must be more than zero",
            Self::SameIndex => "two legs of the transfer have the same number",
            Self::Unbalanced => "the transfer's withdrawals and deposits differ",
            Self::Elsewhere => "the leg belongs to another branch",
        })
    }
}

impl std::error::Error for TransferError {}

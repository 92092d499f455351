//! The type of each action's result, in the order of the actions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::request::LoginNum;
use crate::{AccountNum, LegSum, Money, Total, TxId};

/// Result of `create_account`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Created {
    /// The new account.
    pub account_no: AccountNum,
}

/// Result of `close_account`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Closed {
    /// The closed account.
    pub account_no: AccountNum,
    /// What was paid out.
    pub paid_out: Money,
}

/// One row of `list_accounts`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AccountLine {
    /// The account.
    pub account_no: AccountNum,
    /// The customer's name.
    pub name: String,
    /// What it holds.
    pub balance: Money,
    /// How much of it is held.
    pub held: Money,
}

/// Result of `balance`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Balance {
    /// What the account holds.
    pub balance: Money,
    /// What of it can be spent.
    pub available: Money,
    /// The customer's name.
    pub name: String,
}

/// Result of `deposit` and `withdraw`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct NewBalance {
    /// What the account holds now.
    pub balance: Money,
}

/// One side of a local transfer, after it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TransferSide {
    /// The account.
    pub account: AccountNum,
    /// What it holds now.
    pub balance: Money,
}

/// Result of `local_transfer`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LocalTransferred {
    /// Who paid.
    pub from: TransferSide,
    /// Who was paid.
    pub to: TransferSide,
    /// How much.
    pub amount: Money,
}

/// How far a committed transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// Every branch has acknowledged it.
    Done,
    /// It is decided, and is being delivered.
    Pending,
}

impl Delivery {
    /// The text in an answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Pending => "pending",
        }
    }
}

/// Result of `inter_branch_transfer`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct InterBranchTransferred {
    /// `transfer_complete`.
    pub status: String,
    /// The transfer's id.
    pub txid: TxId,
    /// How much.
    pub amount: Money,
    /// Who paid, as `Mumbai:1001`.
    pub from: String,
    /// Who is paid, as `127.0.0.1:1002` or `Delhi:1002`.
    pub to: String,
    /// Whether the other branch has acknowledged it.
    pub delivery: Delivery,
}

/// One receiver in the result of `split_transfer`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SplitPaid {
    /// Who is paid, as `Delhi:1002`.
    pub to: String,
    /// How much.
    pub amount: Money,
}

/// Result of `split_transfer`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SplitTransferred {
    /// `transfer_complete`.
    pub status: String,
    /// The transfer's id.
    pub txid: TxId,
    /// How much in all.
    pub amount: Money,
    /// Who paid, as `Mumbai:1001`.
    pub from: String,
    /// What went where.
    pub to: Vec<SplitPaid>,
    /// Whether every branch has acknowledged it.
    pub delivery: Delivery,
}

/// Result of `check_password`, and of `password_versions` for each account.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PasswordVersionOf {
    /// Whose; 0 is the administrator.
    pub account_no: LoginNum,
    /// Changes with each password that is set, and tells nothing about it; none where there is no login.
    pub password_version: Option<String>,
}

/// Result of `tx_status`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TxStatus {
    /// `committed`, `aborted` or `undecided`.
    pub outcome: String,
}

/// One row of `list_pending`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Pending {
    /// The transfer.
    pub txid: TxId,
    /// `prepared` (in doubt here); `deciding`, `delivering` or `contradicted` (this branch coordinates; the last: another
    /// has said that it can't follow what was decided, and a person must settle it).
    pub state: String,
    /// Which branch can't follow, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it does here, such as `deposit 50.00 to 1002`.
    pub legs: Vec<String>,
    /// Who decides; none when an outside program does.
    pub coordinator: Option<String>,
    /// Whether the coordinator answers at present.
    pub coordinator_answers: bool,
    /// How long, in seconds.
    pub age_seconds: u64,
}

/// Result of `clear_suspense`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SuspenseCleared {
    /// The transaction that moved it.
    pub transaction_id: i64,
    /// The transfer whose difference it was.
    pub txid: TxId,
    /// How much was moved.
    pub amount: Money,
    /// Out of what: `suspense`, `cash` or an account.
    pub from: String,
    /// Into what.
    pub to: String,
    /// What of the transfer is in suspense still; negative where money is lacking.
    pub left: Total,
}

/// One row of `history`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HistoryLine {
    /// Its number.
    pub transaction_id: i64,
    /// When, ISO-8601 in UTC.
    pub date: String,
    /// `deposit`, `transfer`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Who paid.
    pub from_account: String,
    /// Who was paid.
    pub to_account: String,
    /// How much.
    pub amount: Money,
    /// The transfer between branches that it is a leg of.
    pub txid: Option<TxId>,
    /// Which leg of it: an even number pays, the next odd one is paid; below zero, a difference that was
    /// booked after a leg was settled by hand.
    #[serde(default)]
    pub leg: Option<i64>,
    /// The branch at the other end.
    pub peer: Option<String>,
    /// Why a person booked it, where a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Result of `status`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// The branch.
    pub name: String,
    /// `primary`, `replica`, or `fenced`: a primary that was replaced by a promoted replica.
    pub role: String,
    /// Open accounts.
    pub accounts: u64,
    /// Clients connected, at all ports.
    pub clients: u64,
    /// Transfers prepared here whose outcome is not known here.
    pub in_doubt: u64,
    /// Decisions that some branch has not acknowledged.
    pub undelivered: u64,
    /// Those of them that a branch has said it can't follow: each waits for a person, and is a finding of the audit.
    #[serde(default)]
    pub contradicted: u64,
    /// Rows of `transactions`.
    pub transactions: u64,
    /// Whether a class may step, break and crash it.
    #[serde(default)]
    pub teaching: bool,
    /// How long it has been running, in seconds.
    pub uptime_seconds: u64,
    /// Which run of the branch it is; missing from older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// The program's version.
    pub version: String,
    /// How often a replica of this branch was promoted, and one; missing where there never was a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// What was drawn at the promotion that began it; missing for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch_id: Option<String>,
    /// How far this replica is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
    /// More on replicas, where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<Replication>,
}

/// A run of a branch: from one start of the process, or of another role, to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Run {
    /// Its start, by the branch's own clock, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// The number before its first event, which no other run has: what has a higher one happened since.
    pub after_event: u64,
    /// From when on events are remembered, in milliseconds since 1970. A crash can have lost some all the same.
    pub remembers_from_unix_ms: u64,
}

/// How far a replica is behind its primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Lag {
    /// Group commits of the primary that it does not have; none, where nobody here can know: it is not connected.
    pub sequence: Option<i64>,
    /// How long ago it had all, in seconds; none when it has not had all since it was started.
    pub seconds: Option<u64>,
}

/// What a branch with replicas, or a replica, says of itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Replication {
    /// A primary's `alone`, `shipping` or `waiting for replicas`; a replica's `connecting`, `snapshot`, `following` or
    /// `diverged`; `fenced`, or `conflict` when the copy that it was fenced for has an epoch of the same number.
    pub state: String,
    /// The last group commit here.
    pub sequence: i64,
    /// The address of a replica's primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// A replica's trouble, or how it differs from its primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How many replicas must have a write before it is answered.
    #[serde(default)]
    pub sync_replicas: u64,
    /// The replicas that a primary has or expects.
    #[serde(default)]
    pub replicas: Vec<ReplicaLine>,
    /// How this copy became the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
}

/// One replica, as its primary sees it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ReplicaLine {
    /// Where it takes requests.
    pub address: String,
    /// `following`, `catching up`, `snapshot`, or `away`.
    pub state: String,
    /// How far it is behind; missing when it is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
}

/// Result of `promote`, and part of a promoted copy's status.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Promotion {
    /// The epoch that began.
    pub epoch: i64,
    /// What was drawn for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub epoch_id: String,
    /// The last group of the old primary that this copy had: what the old primary committed after it is not here.
    pub after_sequence: i64,
    /// The group that the old primary was last heard to have committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_sequence: Option<i64>,
    /// How long the old primary had been silent, in seconds: what it committed in that time is unknown here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_seconds: Option<u64>,
    /// When, ISO-8601 in UTC.
    pub at: String,
}

/// Result of `audit`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Audit {
    /// Whether there are no findings.
    pub ok: bool,
    /// What doesn't fit, one sentence each.
    pub findings: Vec<String>,
    /// What all customers hold together.
    pub balances: Total,
    /// Money on its way to other branches less money on its way from them, as this branch's books have it.
    pub in_transit: Total,
    /// Money paid in as cash, ever.
    pub paid_in: Total,
    /// Money paid out as cash, ever.
    pub paid_out: Total,
    /// What stands on the suspense account: differences settled by hand that turned out wrong.
    #[serde(default)]
    pub suspense: Total,
    /// Rows of `transactions`.
    #[serde(default)]
    pub transactions: i64,
    /// What each other branch owes this one by its books, by name; negative when this one owes.
    #[serde(default)]
    pub due: BTreeMap<String, Total>,
    /// The sum over what was booked with each other branch, by name: with that branch's own it adds up to zero when
    /// both have booked the same payments.
    #[serde(default)]
    pub leg_sums: BTreeMap<String, LegSum>,
    /// The branch whose books these are, by the books themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// `primary`, `replica` or `fenced`: only a primary's books are the branch's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its epoch: how often a replica was promoted in its place, and one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// The end of the chain of hashes over the transactions. Kept elsewhere, it shows later whether these rows are
    /// still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_head: Option<ChainHead>,
}

/// The number and the hash of a branch's last transaction.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ChainHead {
    /// The transaction's number, 0 when there is none.
    pub transaction_id: i64,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

/// One row of `branches`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// Where it takes requests, as `host:port`.
    pub address: String,
    /// `here`, `up`, `down`, or `unknown` when it was not tried yet.
    pub state: String,
}

/// Result of `link`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Linked {
    /// The branch that takes the link.
    pub branch: String,
    /// Which running process of that branch it is.
    pub instance: String,
    /// Its epoch: how often a replica was promoted in its place, and one.
    #[serde(default = "crate::request::first_epoch")]
    pub epoch: i64,
    /// The id of that epoch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub epoch_id: String,
}

/// Result of `hello`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Welcome {
    /// The branch that answers.
    pub branch: String,
    /// 32 random bytes of the branch's, in hexadecimal.
    pub nonce: String,
    /// The branch's proof that it holds the key, in hexadecimal.
    pub proof: String,
}

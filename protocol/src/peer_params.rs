//! The parameters by which a branch links itself to another one, and a copy of a branch follows or leads the others.

use serde::{Deserialize, Serialize};

use crate::BranchName;

/// Parameters of [`Action::Link`](crate::request::Action::Link).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Link {
    /// The branch that opens the link.
    pub branch: BranchName,
    /// The port on which that branch takes requests.
    pub port: u16,
    /// The address on which it takes them, where that is one: it may call from another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The epoch of the branch that asks: how often one of its replicas was promoted, and one.
    #[serde(default = "first_epoch")]
    pub epoch: i64,
    /// The id of that epoch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub epoch_id: String,
    /// The highest epoch of the branch that is asked, as far as the one that asks knows.
    #[serde(default)]
    pub your_epoch: i64,
    /// The id of that epoch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub your_epoch_id: String,
    /// Which running process of that branch it is: random text that tells two of one name apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// A branch that says nothing of epochs is of the first.
pub(crate) const fn first_epoch() -> i64 {
    1
}

/// Parameters of [`Action::Replicate`](crate::request::Action::Replicate).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Replicate {
    /// The branch of which the one that asks is a copy.
    pub branch: BranchName,
    /// The port on which the replica takes requests.
    pub port: u16,
    /// The highest epoch that it has heard of.
    pub heard_epoch: i64,
    /// The id of that epoch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub heard_epoch_id: String,
    /// The last group that it has; none when it needs a snapshot.
    pub position: Option<LogPosition>,
    /// The version of its tables.
    pub version: u32,
}

/// A place in the replication log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LogPosition {
    /// The group's number.
    pub sequence: i64,
    /// The epoch of the primary that wrote it.
    pub epoch: i64,
    /// The id of that epoch, where it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub epoch_id: String,
    /// SHA-256 over it and all before it, in hexadecimal.
    pub digest: String,
}

/// Result of [`Action::Replicate`](crate::request::Action::Replicate).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Replicating {
    /// The primary's epoch.
    pub epoch: i64,
    /// The id of that epoch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub epoch_id: String,
    /// The last group of its log.
    pub sequence: i64,
    /// `log`: groups follow; `snapshot`: a snapshot follows, then groups; `diverged`: nothing follows.
    pub mode: String,
    /// Where the primary's epoch began, when the replica's log is not a part of the primary's: the last group that the
    /// two may have in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common: Option<LogPosition>,
}

/// Parameters of [`Action::Follow`](crate::request::Action::Follow). With epoch 0, which no primary has, they only ask
/// what the other copy is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Follow {
    /// The branch.
    pub branch: BranchName,
    /// The port on which its primary takes requests.
    pub port: u16,
    /// The primary's epoch.
    pub epoch: i64,
    /// The id of that epoch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub epoch_id: String,
}

/// Result of [`Action::Follow`](crate::request::Action::Follow): what the copy that was told is now.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Following {
    /// `replica`, `fenced` or `primary`.
    pub role: String,
    /// The highest epoch that it has heard of.
    pub epoch: i64,
    /// The id of that epoch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub epoch_id: String,
    /// The last group of its log, and the epoch of which that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<LogPosition>,
}

/// Parameters of [`Action::Promote`](crate::request::Action::Promote).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Promote {
    /// Also when the primary still answers, when there is more than this copy has, or when it was replaced.
    #[serde(default)]
    pub force: bool,
}

/// Parameters of [`Action::Demote`](crate::request::Action::Demote).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Demote {
    /// The primary to follow, as `host:port`.
    pub to: String,
}

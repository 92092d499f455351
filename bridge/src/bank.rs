//! The whole bank at a glance, from what each branch said last: cards, sums, the verdict on the books.
//!
//! The sums are of figures that branches gave at different moments. Each branch's own identity holds at each of its
//! moments (balances + what it sent more than it received = paid in - paid out), so the sum of all is exact whatever
//! the moments were: money in all branches and between them does not move by a transfer.

use std::collections::BTreeMap;

use branch_client::audit::Whole;
use protocol::Total;
use protocol::answer::Audit;
use serde::Serialize;
use serde_json::Value;

use crate::branch::Branch;

/// The whole bank.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// The branches.
    pub branches: Vec<Card>,
    /// The sums over all branches that were audited.
    pub totals: Totals,
    /// What the audits say.
    pub verdict: Verdict,
    /// Rows that all branches booked in a second, over the last few; one decimal.
    pub transfers_per_second: Value,
}

/// One branch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// `up` or `down`.
    pub state: &'static str,
    /// `primary` or `replica`.
    pub role: Option<String>,
    /// Open accounts.
    pub accounts: Option<u64>,
    /// What its customers hold.
    pub balances: Option<Total>,
    /// Transfers in doubt.
    pub in_doubt: Option<u64>,
    /// Decisions that some branch has not acknowledged.
    pub undelivered: Option<u64>,
    /// Clients connected.
    pub clients: Option<u64>,
    /// Rows of `transactions`.
    pub transactions: Option<u64>,
    /// How long it has been running.
    pub uptime_seconds: Option<u64>,
    /// Whether it teaches.
    pub teaching: bool,
    /// Whether it can be started again from here.
    pub restartable: bool,
    /// How far it is behind its primary.
    pub lag: Option<Value>,
    /// How often a replica was promoted in its place, and one.
    pub epoch: Option<Value>,
    /// Its replicas, each with its address, state and lag, as the branch tells it.
    pub replicas: Vec<Value>,
}

/// Sums over all branches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// `balances` and `in_transit` together: what no transfer may move.
    pub money: Total,
    /// What customers hold.
    pub balances: Total,
    /// Money between the branches.
    pub in_transit: Total,
    /// Money paid in as cash, ever.
    pub paid_in: Total,
    /// Money paid out as cash, ever.
    pub paid_out: Total,
    /// What stands on the suspense accounts.
    pub suspense: Total,
}

/// What the audits say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Right, wrong, or not known because a branch could not be asked.
    pub ok: Option<bool>,
    /// Whether every branch was asked.
    pub complete: bool,
    /// What does not fit, one sentence each.
    pub findings: Vec<String>,
}

impl Card {
    /// The card of a branch that was last known like this.
    #[must_use]
    pub fn new(branch: &Branch, is_restartable: bool) -> Self {
        let state = &branch.state.snapshot();
        let of_status = |name: &str| state.status.as_ref().and_then(|status| status.get(name)).cloned();
        let live = |name: &str| of_status(name).filter(|value| state.is_up && !value.is_null());
        Self {
            name: branch.name().to_string(),
            address: branch.address().to_string(),
            state: if state.is_up { "up" } else { "down" },
            role: of_status("role").and_then(|role| role.as_str().map(ToOwned::to_owned)),
            accounts: state.count("accounts"),
            balances: state.audit.as_ref().map(|audit| audit.0.balances),
            in_doubt: state.count("in_doubt"),
            undelivered: state.count("undelivered"),
            clients: state.count("clients").filter(|_| state.is_up),
            transactions: state.count("transactions"),
            uptime_seconds: state.count("uptime_seconds").filter(|_| state.is_up),
            teaching: state.is_teaching(),
            restartable: is_restartable,
            lag: live("lag"),
            epoch: of_status("epoch").filter(|epoch| !epoch.is_null()),
            replicas: live("replication")
                .and_then(|replication| replication.get("replicas")?.as_array().cloned())
                .unwrap_or_default(),
        }
    }

    /// Whether it answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == "up"
    }
}

/// The sums over these books.
#[must_use]
pub fn totals(audits: &BTreeMap<String, Audit>) -> Totals {
    let Whole { balances, in_transit, suspense, paid_in, paid_out, .. } = branch_client::audit::sums(audits);
    Totals { money: balances + in_transit, balances, in_transit, paid_in, paid_out, suspense }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(rows: &[(&str, &str)]) -> BTreeMap<String, Audit> {
        rows.iter().map(|(name, json)| ((*name).to_string(), serde_json::from_str(json).unwrap())).collect()
    }

    const MUMBAI: &str = r#"{"ok":true,"findings":[],"balances":1950.00,"in_transit":50.00,"paid_in":2000.00,
        "paid_out":0.00,"due":{"Delhi":50.00}}"#;
    const DELHI: &str = r#"{"ok":true,"findings":[],"balances":2050.00,"in_transit":-50.00,"paid_in":2000.00,
        "paid_out":0.00,"due":{"Mumbai":-50.00}}"#;
    const DELHI_BEFORE: &str = r#"{"ok":true,"findings":[],"balances":2000.00,"in_transit":0.00,"paid_in":2000.00,
        "paid_out":0.00,"due":{}}"#;

    #[test]
    fn money_does_not_move_by_a_transfer() {
        for (delhi, in_transit) in [(DELHI, "0.00"), (DELHI_BEFORE, "50.00")] {
            let books = books(&[("Mumbai", MUMBAI), ("Delhi", delhi)]);
            let totals = totals(&books);
            assert_eq!(
                (totals.money.to_string(), totals.in_transit.to_string()),
                ("4000.00".into(), in_transit.into())
            );
            assert!(branch_client::audit::findings(&books).is_empty());
        }
    }
}

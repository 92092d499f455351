//! The rows of `transactions`, read once and in order: their chains, what each may be, and what they add up to.

use protocol::LegSum;
use protocol::leg_sum::payment_number;
use protocol::proof::to_hex;

use super::own_accounts::Role;
use super::{Auditing, Auditor, told_row};
use crate::bank::movements::Kind;
use crate::dbs_exec::{ChainHead, ChainedRow, Previous, Query, Row, params};
use crate::error::Result;
use crate::limits::AUDIT_PROGRESS_ROWS;

/// One side of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Customer,
    Own(Role),
    /// An own account that `own_accounts` doesn't have.
    Missing,
}

impl Auditor {
    /// Reads every row once, in order: sums it up, and checks its hash against the row before.
    pub(super) fn follow_the_chain(&mut self, query: &impl Query, auditing: Auditing<'_>) -> Result<()> {
        let Auditing { expected, mut progress } = auditing;
        let last = query
            .query_opt("SELECT max(transaction_id) FROM transactions", params![], |row| row.get::<_, Option<i64>>(0))?;
        let mut head = ChainHead::GENESIS;
        let mut expected = expected.filter(|expected| *expected != ChainHead::GENESIS);
        query.query_each(
            "SELECT transaction_id, from_account, to_account, amount, kind, date, txid, leg, peer, note, hash,
                    from_previous, to_previous
             FROM transactions ORDER BY transaction_id",
            params![],
            |row| {
                let chained = read_chained(row)?;
                let hash: [u8; 32] = row.get(10)?;
                if chained.transaction_id != head.transaction_id + 1 {
                    let (from, to) = (head.transaction_id + 1, chained.transaction_id - 1);
                    self.findings.add(format!("transactions {from} to {to} are missing"));
                } else if head.after(&chained).hash != hash {
                    // What follows an altered row is chained to the hash that was stored, so one finding says it.
                    let number = chained.transaction_id;
                    self.findings.add(format!("transaction {number} was altered: its hash does not fit"));
                }
                head = ChainHead { transaction_id: chained.transaction_id, hash };
                if let Some(kept) = expected.take_if(|kept| kept.transaction_id == head.transaction_id)
                    && kept.hash != head.hash
                {
                    self.findings.add(another_hash(&kept, &head));
                }
                self.take_row(&chained);
                self.follow_histories(&chained, Previous { from: row.get(11)?, to: row.get(12)? });
                if let Some(progress) = &mut progress
                    && self.transactions % AUDIT_PROGRESS_ROWS == 0
                {
                    progress(self.transactions.unsigned_abs(), last.flatten().unwrap_or(0).unsigned_abs());
                }
                Ok(())
            },
        )?;
        if let Some(kept) = expected {
            let (number, count) = (kept.transaction_id, head.transaction_id);
            self.findings.add(format!("transaction {number} was there once and is gone: the last one is {count}"));
        }
        self.head = Some(head);
        Ok(())
    }

    fn take_row(&mut self, row: &ChainedRow<'_>) {
        self.transactions += 1;
        let (kind, amount) = (row.kind, i128::from(row.amount_paise));
        for account in [row.from_account, row.to_account] {
            let closed_by = self.sums.get(&account).and_then(|sums| sums.closed_by);
            if let Some(closing) = closed_by {
                self.findings.add(format!(
                    "transaction {} moves money of account {account}, which transaction {closing} closed",
                    row.transaction_id
                ));
            }
        }
        let payer = self.sums.entry(row.from_account).or_default();
        payer.debited += amount;
        if kind == Some(Kind::Closing) {
            // The last movement that an account may have.
            payer.closed_by = Some(row.transaction_id);
        }
        self.sums.entry(row.to_account).or_default().credited += amount;
        let (from, to) = (self.party(row.from_account), self.party(row.to_account));
        if kind.is_none_or(|kind| !is_fit(kind, from, to)) {
            self.findings.add(format!(
                "transaction {} is no {} between these accounts: {} and {}",
                row.transaction_id,
                kind.map_or("unknown kind", Kind::as_str),
                row.from_account,
                row.to_account
            ));
        }
        let is_clearing = kind == Some(Kind::Settlement) && ![from, to].contains(&Party::Own(Role::Due));
        if is_clearing && row.note.is_none() {
            self.findings.add(format!("transaction {} was booked by hand, without a reason", row.transaction_id));
        }
        for (account, effect) in [(row.to_account, amount), (row.from_account, -amount)] {
            self.take_due(row, account, effect);
        }
    }

    /// Checks that a row points to the newest row before it of each of its customers. With the heads, which are compared
    /// with the accounts, it follows that every row is reached from its accounts, and once.
    fn follow_histories(&mut self, row: &ChainedRow<'_>, previous: Previous) {
        for (account, previous) in [(row.from_account, previous.from), (row.to_account, previous.to)] {
            // The branch's own accounts have no history, and so nothing to point to.
            let expected = match self.sums.get_mut(&account) {
                Some(sums) if account > 0 => sums.newest.replace(row.transaction_id),
                Some(_) | None => None,
            };
            if previous != expected {
                self.findings.add(format!(
                    "transaction {} comes after {} in the history of account {account}, but points to {}",
                    row.transaction_id,
                    told_row(expected),
                    told_row(previous)
                ));
            }
        }
    }

    /// Adds what a row does to what another branch owes, or to what stands in suspense.
    fn take_due(&mut self, row: &ChainedRow<'_>, account: i64, effect: i128) {
        let Some(own) = self.own_accounts.get(&account) else { return };
        let txid = row.txid.unwrap_or_default();
        match (own.role(), &own.peer) {
            (Role::Suspense, _) => *self.suspense.entry(txid.to_string()).or_default() += effect,
            (Role::Due, Some(peer)) => {
                if row.peer != Some(peer.as_str()) {
                    self.findings.add(format!(
                        "transaction {} is of {}, but stands on the account of {peer}",
                        row.transaction_id,
                        row.peer.unwrap_or("no branch")
                    ));
                }
                let due = self.due.entry(peer.clone()).or_default();
                due.0 += effect;
                due.1 += LegSum::of_row(txid, payment_number(row.leg.unwrap_or(0)), effect);
            }
            (Role::Cash | Role::Due | Role::Unknown, _) => {}
        }
    }

    fn party(&self, account: i64) -> Party {
        match self.own_accounts.get(&account) {
            Some(own) => Party::Own(own.role()),
            None if account < 0 => Party::Missing,
            None => Party::Customer,
        }
    }
}

/// Whether a movement of this kind may be between these two.
fn is_fit(kind: Kind, from: Party, to: Party) -> bool {
    use Party::{Customer, Own};
    match kind {
        Kind::Opening | Kind::Deposit => (from, to) == (Own(Role::Cash), Customer),
        Kind::Withdrawal | Kind::Closing => (from, to) == (Customer, Own(Role::Cash)),
        Kind::Transfer => (from, to) == (Customer, Customer),
        Kind::TransferOut => (from, to) == (Customer, Own(Role::Due)),
        Kind::TransferIn => (from, to) == (Own(Role::Due), Customer),
        // Into suspense and out of it again, to whom it belongs.
        Kind::Settlement => {
            let other = |party| matches!(party, Customer | Own(Role::Due | Role::Cash));
            (from == Own(Role::Suspense) && other(to)) || (other(from) && to == Own(Role::Suspense))
        }
    }
}

fn another_hash(kept: &ChainHead, found: &ChainHead) -> String {
    format!(
        "transaction {} had the hash {} once, and has {}: the books were written anew",
        kept.transaction_id,
        to_hex(&kept.hash),
        to_hex(&found.hash)
    )
}

fn read_chained<'r>(row: &'r Row<'_>) -> rusqlite::Result<ChainedRow<'r>> {
    Ok(ChainedRow {
        transaction_id: row.get(0)?,
        from_account: row.get(1)?,
        to_account: row.get(2)?,
        amount_paise: row.get(3)?,
        kind: Kind::from_number(row.get(4)?),
        date_unix_ms: row.get(5)?,
        txid: row.get_ref(6)?.as_str_or_null()?,
        leg: row.get(7)?,
        peer: row.get_ref(8)?.as_str_or_null()?,
        note: row.get_ref(9)?.as_str_or_null()?,
    })
}

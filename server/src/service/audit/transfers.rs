//! The records of two-phase commit against the books: what is under way reserves, what is committed is booked, and what
//! was given up is not.

use std::collections::BTreeMap;

use protocol::Money;
use two_phase_commit::{Leg, Side, Transfer};

use super::{Auditor, Findings};
use crate::dbs_exec::{Query, Row, params};
use crate::error::Result;
use crate::transfer::records::{self, Contradiction};

/// What a record says of its transfer's legs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// They are reserved, and not booked.
    Reserved,
    /// They are booked.
    Booked,
    /// They are neither.
    GivenUp,
}

/// A leg in the books: payer, receiver, paise.
type Booked = (i64, i64, i64);

/// One record with the rows of its transfer.
struct Record {
    txid: String,
    transfer: Option<String>,
    state: String,
    is_mixed: bool,
    rows: BTreeMap<i64, Booked>,
}

const COORDINATED: &str = "SELECT record.txid, record.transfer, record.state, 0, leg, from_account, to_account, amount
     FROM coordinated AS record LEFT JOIN transactions ON transactions.txid = record.txid ORDER BY record.txid";
const PREPARED: &str =
    "SELECT record.txid, record.transfer, record.state, mixed IS NOT NULL, leg, from_account, to_account, amount
     FROM prepared AS record LEFT JOIN transactions ON transactions.txid = record.txid ORDER BY record.txid";

impl Auditor {
    /// Compares each record with the books, and sums up what those under way reserve.
    pub(super) fn compare_transfers(&mut self, query: &impl Query) -> Result<()> {
        for sql in [COORDINATED, PREPARED] {
            // Rows of one transfer come one after another, so one record at a time is in memory, however many there
            // are.
            let mut under_hand: Option<Record> = None;
            query.query_each(sql, params![], |row| {
                let txid: String = row.get(0)?;
                if under_hand.as_ref().is_none_or(|record| record.txid != txid) {
                    let next = Record::read(row, txid)?;
                    if let Some(record) = under_hand.replace(next) {
                        self.compare_record(&record);
                    }
                }
                if let (Some(record), Some(leg)) = (&mut under_hand, row.get::<_, Option<i64>>(4)?) {
                    record.rows.insert(leg, (row.get(5)?, row.get(6)?, row.get(7)?));
                }
                Ok(())
            })?;
            if let Some(record) = under_hand {
                self.compare_record(&record);
            }
        }
        Ok(())
    }

    /// A decision that another branch can't follow is a finding until a person has settled it: the two have different
    /// books, and time alone mends nothing.
    pub(super) fn name_contradictions(&mut self, query: &impl Query) -> Result<()> {
        for Contradiction { transfer, ours, by, refusal, .. } in records::contradictions(query)? {
            self.findings.add(format!(
                "transfer {} is {ours} here, and branch {by} can't follow ({}): a person must settle it (list_pending, resolve)",
                transfer.txid, refusal.text
            ));
        }
        Ok(())
    }

    fn compare_record(&mut self, record: &Record) {
        let Record { txid, state, rows, .. } = record;
        let claim = match state.as_str() {
            "begun" | "prepared" => Claim::Reserved,
            "committed" | "ended" => Claim::Booked,
            _ => Claim::GivenUp,
        };
        let transfer = match record.transfer.as_deref().map(serde_json::from_str::<Transfer>) {
            Some(Ok(transfer)) if transfer.txid.as_str() == txid => transfer,
            Some(Ok(_) | Err(_)) => {
                return self.findings.add(format!("the record of transfer {txid} can't be read, or is another one's"));
            }
            // Settled before its prepare came: nothing of it can be here, or no record says what.
            None => {
                let is_booked = rows.keys().any(|leg| *leg >= 0);
                if is_booked != (claim == Claim::Booked) {
                    self.findings.add(told(txid, state, is_booked));
                }
                return;
            }
        };
        for leg in transfer.local_legs() {
            judge_leg(&mut self.findings, record, claim, leg);
            if claim == Claim::Reserved {
                let reserved = self.reserved.entry(leg.account.as_i64()).or_default();
                match leg.side {
                    Side::Withdraw => reserved.held += i128::from(leg.amount.paise()),
                    Side::Deposit => reserved.incoming += i128::from(leg.amount.paise()),
                }
            }
        }
    }
}

/// Compares one leg of a record with its row in the books, and with the row that corrects it.
fn judge_leg(findings: &mut Findings, record: &Record, claim: Claim, leg: &Leg) {
    let Record { txid, state, rows, is_mixed, .. } = record;
    let number = i64::from(leg.index);
    let row = rows.get(&number);
    // Booked without a commit, or committed and not booked: money was made or lost.
    if row.is_some() != (claim == Claim::Booked) {
        findings.add(told(txid, state, row.is_some()));
    }
    if let Some((from, to, paise)) = row {
        let customer = match leg.side {
            Side::Withdraw => from,
            Side::Deposit => to,
        };
        if *customer != leg.account.as_i64() || Money::from_paise(*paise) != Some(leg.amount) {
            findings.add(format!("the books have another leg {number} of transfer {txid} than its record"));
        }
    }
    let is_corrected = rows.contains_key(&(-1 - number));
    if is_corrected != *is_mixed {
        let (one, other) = if *is_mixed { ("has", "not") } else { ("has not", "all the same") };
        findings.add(format!(
            "transfer {txid} {one} been contradicted after it was settled by hand, and the difference is {other} in \
             suspense"
        ));
    }
}

fn told(txid: &str, state: &str, is_booked: bool) -> String {
    let books = if is_booked { "it stands in the books" } else { "it does not stand in the books" };
    format!("transfer {txid} is {state} by its record, but {books}")
}

impl Record {
    fn read(row: &Row<'_>, txid: String) -> rusqlite::Result<Self> {
        Ok(Self { txid, transfer: row.get(1)?, state: row.get(2)?, is_mixed: row.get(3)?, rows: BTreeMap::new() })
    }
}

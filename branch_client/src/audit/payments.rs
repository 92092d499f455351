//! Payments between two branches: which of them are in the books of one side alone.
//!
//! Each branch's audit has one number over all that it has booked with another ([`LegSum`]). Where the two numbers
//! of a pair add up to zero, both have booked the same, and no row need be read. Else the rows of both are read, the
//! newest first, until those of which a side is missing explain the difference: older ones cancel out, or they would
//! be a part of it. So an audit under load reads a page or two of each branch, and one of books that were put back
//! reads as far back as the mistake lies.

use std::collections::BTreeMap;

use protocol::answer::{Audit, HistoryLine};
use protocol::leg_sum::payment_number;
use protocol::{LegSum, Total, TxId};

/// Two branches, in the order of their names; or one and itself, for a split payment within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The first by name.
    pub one: String,
    /// The second.
    pub other: String,
}

/// One payment of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Payment {
    /// The transfer.
    pub txid: TxId,
    /// Which payment of it.
    pub number: i64,
}

/// By how much a payment raised what the other branch owes, in the books of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    one: Total,
    other: Total,
}

/// Payments of which a side is missing, or has another amount.
pub type Unmatched = BTreeMap<Payment, Effects>;

impl Pair {
    /// Whether both were heard.
    pub(crate) fn is_among(&self, audits: &BTreeMap<String, Audit>) -> bool {
        audits.contains_key(&self.one) && audits.contains_key(&self.other)
    }

    fn is_within(&self) -> bool {
        self.one == self.other
    }

    /// The branch at the other end.
    fn peer_of(&self, name: &str) -> &str {
        if name == self.one { &self.other } else { &self.one }
    }
}

impl Effects {
    /// Whether both sides have booked it alike.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.one + self.other == Total::ZERO
    }

    /// What does not fit, in a sentence.
    #[must_use]
    pub fn tell(&self, pair: &Pair, payment: &Payment) -> String {
        let Payment { txid, .. } = payment;
        let side = |effect: Total| match effect.cmp(&Total::ZERO) {
            std::cmp::Ordering::Greater => format!("has sent {effect}"),
            std::cmp::Ordering::Less => format!("has received {}", Total::ZERO - effect),
            std::cmp::Ordering::Equal => "has booked nothing".to_string(),
        };
        let Pair { one, other } = pair;
        if pair.is_within() {
            return format!("transfer {txid}: {one} {} within itself, and not the other side of it", side(self.one));
        }
        format!("transfer {txid} between {one} and {other}: {one} {}, {other} {}", side(self.one), side(self.other))
    }

    fn add(&mut self, pair: &Pair, name: &str, effect: Total) {
        if name == pair.one {
            self.one += effect;
        } else {
            self.other += effect;
        }
    }

    fn leg_sum(&self, payment: &Payment) -> LegSum {
        LegSum::of_row(payment.txid.as_str(), payment.number, (self.one + self.other).paise())
    }
}

/// All pairs of branches that were heard and have dealt with one another.
#[must_use]
pub fn pairs(audits: &BTreeMap<String, Audit>) -> Vec<Pair> {
    let mut found = Vec::new();
    for (one, audit) in audits {
        for (other, other_audit) in audits.range(one.clone()..) {
            if audit.due.contains_key(other) || other_audit.due.contains_key(one) {
                found.push(Pair { one: one.clone(), other: other.clone() });
            }
        }
    }
    found
}

/// What is still to be explained of a pair's difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The sums over both books are by so much not zero.
    By(LegSum),
    /// A branch of an older program has no such sum: everything is read.
    NotKnown,
}

/// By how much two branches differ; `None` when they agree.
#[must_use]
pub fn difference(audits: &BTreeMap<String, Audit>, pair: &Pair) -> Option<Difference> {
    let (one, other) = (audits.get(&pair.one)?, audits.get(&pair.other)?);
    let sum = |audit: &Audit, peer: &str| match (audit.leg_sums.get(peer), audit.due.contains_key(peer)) {
        (Some(sum), _) => Some(*sum),
        (None, false) => Some(LegSum::ZERO),
        (None, true) => None,
    };
    let theirs = if pair.is_within() { Some(LegSum::ZERO) } else { sum(other, &pair.one) };
    match (sum(one, &pair.other), theirs) {
        (Some(here), Some(there)) => Some(here + there).filter(|sum| !sum.is_zero()).map(Difference::By),
        (None, _) | (_, None) => Some(Difference::NotKnown),
    }
}

/// The newest rows of both branches of a pair, as far back as they have been read.
pub struct Window {
    pair: Pair,
    difference: Difference,
    /// Over all rows that were read.
    explained: LegSum,
    /// What stood before this audit, wherever its rows are.
    known: Unmatched,
    found: Unmatched,
    ends: BTreeMap<String, End>,
}

/// How far back one branch was read.
struct End {
    /// The next page is of rows below this; none when there is no more.
    below: Option<i64>,
    /// The date of the oldest row that was read; later than any before the first.
    date: String,
}

impl Window {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(audits: &BTreeMap<String, Audit>, pair: &Pair, difference: Difference, known: Unmatched) -> Self {
        // What was booked since the audit is none of its difference.
        let end = |name: &String| {
            let last = audits.get(name).map_or(0, |audit| audit.transactions);
            (name.clone(), End { below: (last > 0).then_some(last + 1), date: "~".into() })
        };
        let explained = known.iter().fold(LegSum::ZERO, |sum, (payment, effects)| sum + effects.leg_sum(payment));
        let ends = [&pair.one, &pair.other].into_iter().map(end).collect();
        Self { pair: pair.clone(), difference, explained, known, found: Unmatched::new(), ends }
    }

    /// Whether what was read is all of the difference.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        self.difference == Difference::By(self.explained)
    }

    /// The branch to be read next, and below which number; `None` when the difference is explained, or all is read.
    ///
    /// It is the one of which the newer rows are still to be read, so that both sides of a payment come soon after one
    /// another and few wait for their other side.
    #[must_use]
    pub fn next_page(&self) -> Option<(String, Option<i64>)> {
        if self.is_explained() {
            return None;
        }
        let (name, end) = self.ends.iter().filter(|(_, end)| end.below.is_some()).max_by_key(|(_, end)| &end.date)?;
        Some((name.clone(), end.below))
    }

    /// Takes a page.
    pub fn take(&mut self, name: &str, page: &[HistoryLine], next: Option<i64>) {
        for line in page {
            let Some((payment, effect)) = effect_of(line, self.pair.peer_of(name)) else { continue };
            if self.known.contains_key(&payment) {
                continue;
            }
            self.explained += LegSum::of_row(payment.txid.as_str(), payment.number, effect.paise());
            let effects = self.found.entry(payment.clone()).or_default();
            effects.add(&self.pair, name, effect);
            if effects.is_balanced() {
                self.found.remove(&payment);
            }
        }
        if let Some(end) = self.ends.get_mut(name) {
            end.below = next;
            if let Some(oldest) = page.last() {
                end.date.clone_from(&oldest.date);
            }
        }
    }

    /// The payments of which a side is missing.
    #[must_use]
    pub fn unmatched(self) -> Unmatched {
        let mut all = self.known;
        all.extend(self.found);
        all
    }
}

/// Adds what a branch has booked later to payments of which a side was missing.
pub fn add_later(payments: &mut Unmatched, pair: &Pair, name: &str, rows: &[HistoryLine]) {
    for line in rows {
        if let Some((payment, effect)) = effect_of(line, pair.peer_of(name))
            && let Some(effects) = payments.get_mut(&payment)
        {
            effects.add(pair, name, effect);
        }
    }
}

/// What a row does to what `peer` owes.
fn effect_of(line: &HistoryLine, peer: &str) -> Option<(Payment, Total)> {
    let (Some(txid), Some(leg)) = (&line.txid, line.leg) else { return None };
    if line.peer.as_deref() != Some(peer) {
        return None;
    }
    // The branch's own account that is due with the peer, as every branch names it.
    let is_due = |account: &str| account.strip_prefix("due ") == Some(peer);
    let amount = Total::from(line.amount);
    let effect = match (is_due(&line.from_account), is_due(&line.to_account)) {
        (false, true) => amount,
        (true, false) => Total::ZERO - amount,
        (true, true) | (false, false) => return None,
    };
    Some((Payment { txid: txid.clone(), number: payment_number(leg) }, effect))
}

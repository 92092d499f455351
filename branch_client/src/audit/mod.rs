//! The audit of all branches: each by itself, and all against one another.
//!
//! Every branch audits its own books. What only the whole shows is checked here:
//!
//! - *Who answers* ([`identity`]): whatever is at a branch's address is counted for the branch that it says and, where
//!   there is a key, proves it is; and only a primary speaks for its branch. A branch that isn't heard is named, the
//!   others are audited all the same, and the books are then not complete.
//! - *The sum*: the balances of all branches and the money between them are what was paid in less what was paid out.
//!   Each branch's figures are of one moment of its own, at which this holds for it alone; so it holds for the sum,
//!   whatever the moments were.
//! - *Every payment between two branches* ([`payments`]) has both its sides, of the same amount.
//!
//! # Right under load
//!
//! Branches go on working, and no two of them are looked at in the same instant. So a payment may be seen on one side
//! alone, and that is no mistake. It is one only when it stays so, and that is decided for each payment by itself, in
//! this order: (1) the books of both are looked at, and one side is missing; (2) both are asked what is under way;
//! (3) both are asked what they have booked since. In right books a payment of which (1) saw a side was decided before
//! (2). Then its coordinator lists it in (2), because some branch has not acknowledged it, or every branch has booked
//! it before it acknowledged, and (3) sees that. What is neither listed nor booked is a finding, however much else is
//! under way.
//!
//! This module knows no socket: it asks through [`Books`], which whoever can [`asked::Ask`] a branch has.

pub mod asked;
pub mod identity;
pub mod payments;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use protocol::answer::{Audit, HistoryLine, Pending};
use protocol::{Total, TxId};
use serde::Serialize;

use payments::{Pair, Payment, Unmatched, Window};

/// What stands for the branch at the other end when an outside program decides.
const OUTSIDE: &str = "outside";
/// How many payments that don't fit are named.
const NAMED_MAX: usize = 20;
/// Rows of the first page that is read; each further one is twice as long, because most differences are young,
const PAGE_ROWS_FIRST: usize = 50;
/// and this long at most.
const PAGE_ROWS_MAX: usize = 1_000;
/// How many pages are read to see whether what stood before explains a difference still.
const KNOWN_PAGES: usize = 4;

/// The books of one branch, to be asked. Why there is no answer is a sentence for a person.
pub trait Books: Send {
    /// Its own audit.
    ///
    /// # Errors
    /// Why there is none.
    fn audit(&mut self) -> Result<Audit, String>;

    /// A page of at most `rows` of its transactions with numbers below `below`, the newest first, and where the next
    /// page begins.
    ///
    /// # Errors
    /// Why there is none.
    fn history(&mut self, below: Option<i64>, rows: usize) -> Result<(Vec<HistoryLine>, Option<i64>), String>;

    /// Everything that is under way there.
    ///
    /// # Errors
    /// Why there is no answer.
    fn pending(&mut self) -> Result<Vec<Pending>, String>;
}

/// A branch of the bank, and where its books are asked for.
pub struct Source<B> {
    /// The branch that is expected there.
    pub name: String,
    /// Where, as a person reads it.
    pub address: String,
    /// The way to it.
    pub books: B,
}

/// What is remembered from one audit to the next: differences that stand, so that they need not be looked for again.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<Pair, Unmatched>);

/// The books of the whole bank.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Whole {
    /// Whether every branch was heard and nothing was found.
    pub ok: bool,
    /// What does not fit, one sentence each.
    pub findings: Vec<String>,
    /// Those of the findings that are between branches.
    #[serde(skip)]
    pub between: Vec<String>,
    /// What is on its way, one sentence each: differences that are none.
    pub under_way: Vec<String>,
    /// What customers hold.
    pub balances: Total,
    /// Money between the branches.
    pub in_transit: Total,
    /// What stands on the suspense accounts.
    pub suspense: Total,
    /// Money paid in as cash, ever.
    pub paid_in: Total,
    /// Money paid out as cash, ever.
    pub paid_out: Total,
    /// Each branch's own audit.
    pub branches: BTreeMap<String, Audit>,
    /// The branches that were not heard, and why.
    pub unreachable: BTreeMap<String, String>,
}

/// Audits the bank. All branches are asked at once.
pub fn audit_all<B: Books>(sources: &mut [Source<B>], memory: &mut Memory) -> Whole {
    let answers: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = sources.iter_mut().map(|source| scope.spawn(|| source.books.audit())).collect();
        let gone = |_| Err("the thread that asked it has ended".to_string());
        asked.into_iter().map(|asked| asked.join().unwrap_or_else(gone)).collect()
    });
    let expected = sources.iter().map(|source| (source.name.as_str(), source.address.as_str()));
    let heard = identity::judge(expected.zip(answers));
    let mut between = heard.findings;
    let mut unreachable = heard.missing;
    let sources_of = heard.audits.iter().map(|(name, (_, index))| (name.clone(), *index)).collect();
    let audits: BTreeMap<String, Audit> = heard.audits.into_iter().map(|(name, (audit, _))| (name, audit)).collect();
    let mut comparing = Comparing { sources, sources_of, audits: &audits, unreachable: &mut unreachable };
    let unmatched = comparing.unmatched(memory);
    let verdicts = comparing.judge(unmatched);
    between.extend(name_some(&verdicts.standing));
    memory.learn(&audits, verdicts.standing);
    let mut findings = findings(&audits);
    findings.extend(between.iter().cloned());
    Whole {
        ok: findings.is_empty() && unreachable.is_empty(),
        findings,
        between,
        under_way: name_some(&verdicts.under_way),
        unreachable,
        ..add_up(audits)
    }
}

/// What does not fit in these books by themselves, and in their sum, at whatever moments they were taken.
#[must_use]
pub fn findings(audits: &BTreeMap<String, Audit>) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, audit) in audits {
        findings.extend(audit.findings.iter().map(|finding| format!("{name}: {finding}")));
        if !audit.ok && audit.findings.is_empty() {
            findings.push(format!("{name}: its books are not right"));
        }
    }
    let Whole { balances, in_transit, suspense, paid_in, paid_out, .. } = sums(audits);
    if balances + in_transit + suspense != paid_in - paid_out {
        findings.push(format!(
            "the balances {balances}, {in_transit} in transit and {suspense} in suspense are not the {paid_in} paid in \
             less the {paid_out} paid out"
        ));
    }
    findings
}

/// These books and their sums.
#[must_use]
pub fn add_up(audits: BTreeMap<String, Audit>) -> Whole {
    let Whole { balances, in_transit, suspense, paid_in, paid_out, .. } = sums(&audits);
    Whole { balances, in_transit, suspense, paid_in, paid_out, branches: audits, ..Whole::default() }
}

/// The sums over these books.
#[must_use]
pub fn sums(audits: &BTreeMap<String, Audit>) -> Whole {
    let sum = |figure: fn(&Audit) -> Total| audits.values().map(figure).sum::<Total>();
    Whole {
        balances: sum(|audit| audit.balances),
        in_transit: sum(|audit| audit.in_transit),
        suspense: sum(|audit| audit.suspense),
        paid_in: sum(|audit| audit.paid_in),
        paid_out: sum(|audit| audit.paid_out),
        ..Whole::default()
    }
}

impl Memory {
    /// Takes what was found to stand. What could not be looked at stays as it was.
    fn learn(&mut self, audits: &BTreeMap<String, Audit>, standing: BTreeMap<Pair, Unmatched>) {
        self.0.retain(|pair, _| payments::difference(audits, pair).is_some() || !pair.is_among(audits));
        self.0.extend(standing);
        self.0.retain(|_, payments| !payments.is_empty());
    }
}

/// The comparison of all pairs.
struct Comparing<'a, B> {
    sources: &'a mut [Source<B>],
    /// Where each branch that was heard is among the sources.
    sources_of: BTreeMap<String, usize>,
    audits: &'a BTreeMap<String, Audit>,
    unreachable: &'a mut BTreeMap<String, String>,
}

/// Payments seen on one side alone, by what that means.
#[derive(Default)]
struct Verdicts {
    standing: BTreeMap<Pair, Unmatched>,
    under_way: BTreeMap<Pair, Unmatched>,
}

impl<B: Books> Comparing<'_, B> {
    /// Step (1): the payments of which a side is missing in the books as they were audited, by pair of branches.
    fn unmatched(&mut self, memory: &Memory) -> BTreeMap<Pair, Unmatched> {
        let audits = self.audits;
        let mut found = BTreeMap::new();
        for pair in payments::pairs(audits) {
            let Some(difference) = payments::difference(audits, &pair) else { continue };
            // What stood before is likely to stand still; else a page or two of each show that it doesn't.
            let known = memory.0.get(&pair).cloned().filter(|known| !known.is_empty());
            let explained = known.and_then(|known| {
                self.read(Window::new(audits, &pair, difference, known), KNOWN_PAGES).filter(Window::is_explained)
            });
            let window =
                explained.or_else(|| self.read(Window::new(audits, &pair, difference, Unmatched::new()), usize::MAX));
            // Without a window the branch that gave no answer is named as not heard.
            found.insert(pair, window.map(Window::unmatched).unwrap_or_default());
        }
        found
    }

    /// Reads back until the difference is explained, all is read, or so many pages are.
    fn read(&mut self, mut window: Window, pages_max: usize) -> Option<Window> {
        let mut rows = PAGE_ROWS_FIRST;
        for _ in 0..pages_max {
            let Some((name, below)) = window.next_page() else { break };
            let (page, next) = self.ask(&name, |books| books.history(below, rows))?;
            window.take(&name, &page, next);
            rows = (rows * 2).min(PAGE_ROWS_MAX);
        }
        Some(window)
    }

    /// Steps (2) and (3).
    fn judge(&mut self, unmatched: BTreeMap<Pair, Unmatched>) -> Verdicts {
        let concerned: BTreeSet<String> = unmatched
            .iter()
            .filter(|(_, unmatched)| !unmatched.is_empty())
            .flat_map(|(pair, _)| [pair.one.clone(), pair.other.clone()])
            .collect();
        let mut under_way: BTreeSet<(String, TxId)> = BTreeSet::new();
        for name in &concerned {
            for row in self.ask(name, |books| books.pending()).unwrap_or_default() {
                if is_under_way(&row.state) {
                    under_way.insert((name.clone(), row.txid));
                }
            }
        }
        let since: BTreeMap<String, Vec<HistoryLine>> =
            concerned.iter().map(|name| (name.clone(), self.booked_since(name))).collect();
        let mut verdicts = Verdicts::default();
        for (pair, mut payments) in unmatched {
            for name in [&pair.one, &pair.other] {
                let rows = since.get(name).map_or(&[][..], Vec::as_slice);
                payments::add_later(&mut payments, &pair, name, rows);
            }
            payments.retain(|_, effects| !effects.is_balanced());
            // Who can't be asked to the end is named as not heard, and nothing is said of its payments.
            if [&pair.one, &pair.other].iter().any(|name| self.unreachable.contains_key(*name)) {
                continue;
            }
            let is_listed = |payment: &Payment| {
                [&pair.one, &pair.other].iter().any(|name| under_way.contains(&((*name).clone(), payment.txid.clone())))
            };
            let (on_their_way, standing): (Unmatched, Unmatched) =
                payments.into_iter().partition(|(payment, _)| is_listed(payment));
            verdicts.under_way.insert(pair.clone(), on_their_way);
            verdicts.standing.insert(pair, standing);
        }
        verdicts
    }

    /// What a branch has booked since its audit.
    fn booked_since(&mut self, name: &str) -> Vec<HistoryLine> {
        let last = self.audits.get(name).map_or(0, |audit| audit.transactions);
        let (mut rows, mut below, mut page_rows) = (Vec::new(), None, PAGE_ROWS_FIRST);
        while let Some((page, next)) = self.ask(name, |books| books.history(below, page_rows)) {
            page_rows = (page_rows * 2).min(PAGE_ROWS_MAX);
            let is_end = page.iter().any(|line| line.transaction_id <= last);
            rows.extend(page.into_iter().filter(|line| line.transaction_id > last));
            below = next;
            if is_end || below.is_none() {
                break;
            }
        }
        rows
    }

    /// Asks a branch that was heard before; one that gives no answer any more is noted.
    fn ask<T>(&mut self, name: &str, ask: impl FnOnce(&mut B) -> Result<T, String>) -> Option<T> {
        let source = self.sources_of.get(name).and_then(|index| self.sources.get_mut(*index))?;
        match ask(&mut source.books) {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.unreachable.insert(name.to_string(), error);
                None
            }
        }
    }
}

/// Whether what a branch lists in this state goes on by itself. What was settled by hand, or contradicted, does not.
fn is_under_way(state: &str) -> bool {
    matches!(state, "prepared" | "deciding" | "delivering")
}

fn name_some(payments: &BTreeMap<Pair, Unmatched>) -> Vec<String> {
    let mut named: Vec<String> = payments
        .iter()
        .flat_map(|(pair, payments)| payments.iter().map(move |(payment, effects)| effects.tell(pair, payment)))
        .collect();
    if named.len() > NAMED_MAX {
        let more = named.len() - NAMED_MAX;
        named.truncate(NAMED_MAX);
        named.push(format!("and {more} more payments between branches"));
    }
    named
}

#[cfg(test)]
mod tests;

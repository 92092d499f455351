//! `audit`: the books of one branch, and with `--all` those of the whole bank.
//!
//! Each branch checks its own books. What only the whole shows is checked here: that the balances of all branches
//! and the money between them are the money paid in less the money paid out; that what one branch says it is owed by
//! another is what that one says it owes; and that every payment between branches has one debit and one credit, of
//! the same amount.
//!
//! The branches go on working meanwhile, and are asked one after the other. So a difference between two of them is
//! looked at again, and counts only when it stays although no transfer is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use clap::Args;
use protocol::answer::{Audit, HistoryLine, Pending};
use protocol::request::{Action, History, NoParams};
use protocol::{Total, TxId};
use serde::Serialize;

use crate::branch::Branch;
use crate::commands::{Session, books, two_phase};
use crate::error::{ClientError, ExitStatus};
use crate::output::{counted, table};
use crate::peers::{self, Peer};

pub(super) const EXAMPLES: &str = "\
Examples:
  bank-client audit
  bank-client audit --all
  bank-client audit --all --json

The exit status is 1 when the books are not right, and 2 when a branch could not be asked.";

/// How often differences that transfers under way may explain are looked at again.
const ROUNDS_MAX: u32 = 6;
/// How long such a transfer is given between two looks.
const ROUND_WAIT: Duration = Duration::from_millis(300);
/// How many transfers that don't fit are named.
const NAMED_MAX: usize = 20;

/// What stands for the branch at the other end when an outside program decides.
const OUTSIDE: &str = "outside";

/// Arguments of `audit`.
#[derive(Args, Debug)]
pub struct AuditArguments {
    /// Of all branches that the branch knows, and between them
    #[arg(long)]
    all: bool,
}

pub(super) fn audit(arguments: &AuditArguments, session: &mut Session<'_>) -> Result<ExitStatus, ClientError> {
    if arguments.all {
        return audit_all(session);
    }
    let reply = session.branch.ask(Action::Audit, &NoParams {})?;
    let is_ok = reply.result::<Audit>().map(|audit| audit.ok);
    let status = session.out.answer(&reply, |audit| books::tell_audit(&audit))?;
    Ok(if is_ok.unwrap_or(true) { status } else { ExitStatus::Refused })
}

fn audit_all(session: &mut Session<'_>) -> Result<ExitStatus, ClientError> {
    let mut peers = peers::all(session.branch.again())?;
    let mut round = 0;
    let combined = loop {
        let view = look(&mut peers)?;
        round += 1;
        if !view.may_be_under_way() || round == ROUNDS_MAX {
            break view.combine();
        }
        thread::sleep(ROUND_WAIT);
    };
    if session.out.json {
        let json = serde_json::to_vec(&combined).map_err(|error| ClientError::Output(error.into()))?;
        session.out.document(&json)?;
    } else {
        session.out.text(&tell_combined(&combined))?;
    }
    Ok(if !combined.unreachable.is_empty() {
        ExitStatus::ConnectionFailed
    } else if combined.ok {
        ExitStatus::AllDone
    } else {
        ExitStatus::Refused
    })
}

/// What all branches say at about the same time.
#[derive(Default)]
struct View {
    audits: BTreeMap<String, Audit>,
    unreachable: BTreeMap<String, String>,
    pending: BTreeSet<TxId>,
    transfers: Transfers,
}

/// Asks all branches. One that can't be reached is noted; one that refuses ends it.
fn look(peers: &mut [Peer]) -> Result<View, ClientError> {
    let mut view = View::default();
    for peer in peers {
        match look_at(&mut peer.branch, &mut view.transfers) {
            Ok((audit, pending)) => {
                view.pending.extend(pending.into_iter().map(|row| row.txid));
                view.audits.insert(peer.name.clone(), audit);
            }
            Err(error) if error.status() == ExitStatus::ConnectionFailed => {
                view.unreachable.insert(peer.name.clone(), error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(view)
}

fn look_at(branch: &mut Branch, transfers: &mut Transfers) -> Result<(Audit, Vec<Pending>), ClientError> {
    let audit: Audit = branch.ask(Action::Audit, &NoParams {})?.result()?;
    let mut params = History::default();
    loop {
        let reply = branch.ask(Action::History, &params)?;
        let page: Vec<HistoryLine> = reply.result()?;
        page.iter().for_each(|line| transfers.add(line));
        params.after = reply.next()?;
        if params.after.is_none() {
            break;
        }
    }
    // What is pending is asked for last: what was under way while the rest was read is still known as such, or the
    // next look finds it complete.
    Ok((audit, two_phase::all_pending(branch)?))
}

/// The pairs of legs whose debits and credits have not been found equal yet.
#[derive(Default)]
struct Transfers(BTreeMap<(TxId, i64), Pair>);

/// What was found of one payment: leg 2k of a transfer pays, and leg 2k + 1 is paid.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Pair {
    debits: usize,
    debited: Total,
    credits: usize,
    credited: Total,
}

impl Transfers {
    fn add(&mut self, line: &HistoryLine) {
        // Below zero are the settlements of what was done by hand, which are the business of their branch's audit.
        let (Some(txid), Some(leg @ 0..)) = (&line.txid, line.leg) else { return };
        // What an outside program does with the other half is beyond the bank's books.
        if line.peer.as_deref() == Some(OUTSIDE) {
            return;
        }
        let key = (txid.clone(), leg / 2);
        let pair = self.0.entry(key.clone()).or_default();
        let amount = Total::from(line.amount);
        if leg % 2 == 0 {
            pair.debits += 1;
            pair.debited += amount;
        } else {
            pair.credits += 1;
            pair.credited += amount;
        }
        // A third leg makes a new entry, and that is never whole.
        if pair.debits == 1 && pair.credits == 1 && pair.debited == pair.credited {
            self.0.remove(&key);
        }
    }
}

impl View {
    fn is_complete(&self) -> bool {
        self.unreachable.is_empty()
    }

    fn may_be_under_way(&self) -> bool {
        self.is_complete() && (!self.transfers.0.is_empty() || self.due_differences().next().is_some())
    }

    /// Pairs of branches that don't agree on what one owes the other, and by how much.
    fn due_differences(&self) -> impl Iterator<Item = (&str, &str, Total, Total)> {
        let due = |creditor: &Audit, debtor: &str| creditor.due.get(debtor).copied().unwrap_or_default();
        self.audits.iter().flat_map(move |(one, one_audit)| {
            self.audits.range::<String, _>((std::ops::Bound::Excluded(one), std::ops::Bound::Unbounded)).filter_map(
                move |(other, other_audit)| {
                    let (there, back) = (due(one_audit, other), due(other_audit, one));
                    (there + back != Total::ZERO).then_some((one.as_str(), other.as_str(), there, back))
                },
            )
        })
    }

    fn combine(self) -> Combined {
        let mut findings = Vec::new();
        for (name, audit) in &self.audits {
            findings.extend(audit.findings.iter().map(|finding| format!("{name}: {finding}")));
        }
        let sum = |figure: fn(&Audit) -> Total| self.audits.values().map(figure).sum::<Total>();
        let balances = sum(|audit| audit.balances);
        let in_transit = sum(|audit| audit.in_transit);
        let suspense = sum(|audit| audit.suspense);
        let (paid_in, paid_out) = (sum(|audit| audit.paid_in), sum(|audit| audit.paid_out));
        if balances + in_transit + suspense != paid_in - paid_out {
            findings.push(format!(
                "the balances {balances}, {in_transit} in transit and {suspense} in suspense are not the {paid_in} \
                 paid in less the {paid_out} paid out"
            ));
        }
        let mut under_way = Vec::new();
        for (one, other, there, back) in self.due_differences() {
            let told = format!("{one} says {other} owes it {there}; {other} says {one} owes it {back}");
            if self.pending.is_empty() { findings.push(told) } else { under_way.push(told) }
        }
        // Without all branches half of the legs are out of sight.
        if self.is_complete() {
            self.judge_transfers(&mut findings, &mut under_way);
        }
        let ok = findings.is_empty() && self.is_complete();
        let View { audits, unreachable, .. } = self;
        Combined {
            ok,
            findings,
            under_way,
            balances,
            in_transit,
            suspense,
            paid_in,
            paid_out,
            branches: audits,
            unreachable,
        }
    }

    fn judge_transfers(&self, findings: &mut Vec<String>, under_way: &mut Vec<String>) {
        let mut unnamed = 0;
        for ((txid, _), pair) in &self.transfers.0 {
            let told = format!(
                "transfer {txid} has {} of {} and {} of {}",
                counted(pair.debits, "debit", "debits"),
                pair.debited,
                counted(pair.credits, "credit", "credits"),
                pair.credited
            );
            if self.pending.contains(txid) {
                under_way.push(told);
            } else if findings.len() < NAMED_MAX {
                findings.push(told);
            } else {
                unnamed += 1;
            }
        }
        if unnamed > 0 {
            findings.push(format!("and {} more", counted(unnamed, "transfer", "transfers")));
        }
    }
}

/// The books of the whole bank.
#[derive(Serialize)]
struct Combined {
    ok: bool,
    findings: Vec<String>,
    under_way: Vec<String>,
    balances: Total,
    in_transit: Total,
    suspense: Total,
    paid_in: Total,
    paid_out: Total,
    branches: BTreeMap<String, Audit>,
    unreachable: BTreeMap<String, String>,
}

fn tell_combined(combined: &Combined) -> String {
    let figures = |name: &str, verdict: &str, figures: [Total; 5]| {
        let [balances, in_transit, suspense, paid_in, paid_out] = figures.map(|total| total.to_string());
        [name.into(), balances, in_transit, suspense, paid_in, paid_out, verdict.into()]
    };
    let mut rows: Vec<[String; 7]> = Vec::new();
    for (name, audit) in &combined.branches {
        let verdict = if audit.ok { "right".into() } else { counted(audit.findings.len(), "finding", "findings") };
        let totals = [audit.balances, audit.in_transit, audit.suspense, audit.paid_in, audit.paid_out];
        rows.push(figures(name, &verdict, totals));
    }
    for name in combined.unreachable.keys() {
        rows.push([name.as_str(), "?", "?", "?", "?", "?", "no answer"].map(Into::into));
    }
    let Combined { balances, in_transit, suspense, paid_in, paid_out, .. } = combined;
    rows.push(figures("All", "", [*balances, *in_transit, *suspense, *paid_in, *paid_out]));
    let header = ["Branch", "Balances", "Sent, net", "Suspense", "Paid in", "Paid out", "Books"];
    let mut text = table(header, &[1, 2, 3, 4, 5], rows);
    let mut add = |mark: &str, line: &str| {
        text.push('\n');
        text.push_str(mark);
        text.push_str(line);
    };
    if combined.unreachable.is_empty() {
        add("", &format!("In transit between the branches: Rs {in_transit}."));
    }
    combined.under_way.iter().for_each(|line| add("~ on its way: ", line));
    combined.findings.iter().for_each(|line| add("! ", line));
    combined.unreachable.iter().for_each(|(name, problem)| add("? ", &format!("{name}: {problem}")));
    let transactions = combined.branches.values().map(|audit| usize::try_from(audit.transactions).unwrap_or(0)).sum();
    let verdict = match (combined.ok, combined.findings.is_empty()) {
        (false, true) => "The books are not complete: not every branch could be asked.".into(),
        (is_ok, _) => books::verdict(is_ok, combined.findings.len(), transactions),
    };
    add("", &verdict);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(json: &str) -> Audit {
        serde_json::from_str(json).unwrap()
    }

    fn view(mumbai_due: &str, delhi_due: &str) -> View {
        let books = |balances: &str, in_transit: &str, due: &str| {
            audit(&format!(
                r#"{{"ok":true,"findings":[],"balances":{balances},"in_transit":{in_transit},"paid_in":2000.00,
                    "paid_out":0.00,"transactions":3,"due":{due}}}"#
            ))
        };
        let mut view = View::default();
        view.audits.insert("Mumbai".into(), books("1950.00", "50.00", mumbai_due));
        view.audits.insert("Delhi".into(), books("2050.00", "-50.00", delhi_due));
        view
    }

    fn line(txid: &str, leg: i64, amount: &str) -> HistoryLine {
        serde_json::from_str(&format!(
            r#"{{"transaction_id":1,"date":"","type":"","from_account":"","to_account":"","amount":{amount},
                "txid":"{txid}","leg":{leg},"peer":null}}"#
        ))
        .unwrap()
    }

    #[test]
    fn branches_that_agree_are_right() {
        let mut view = view(r#"{"Delhi":50.00}"#, r#"{"Mumbai":-50.00}"#);
        for (leg, amount) in [(1, "50.00"), (0, "50.00"), (-1, "9.00"), (2, "7.00"), (3, "7.00")] {
            view.transfers.add(&line("M-1", leg, amount));
        }
        assert!(!view.may_be_under_way());
        let told = tell_combined(&view.combine());
        let expected = "\
Branch  Balances  Sent, net  Suspense  Paid in  Paid out  Books
----------------------------------------------------------------
Delhi    2050.00     -50.00      0.00  2000.00      0.00  right
Mumbai   1950.00      50.00      0.00  2000.00      0.00  right
All      4000.00       0.00      0.00  4000.00      0.00  -
In transit between the branches: Rs 0.00.
The books are right: 6 transactions checked.";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_difference_is_a_finding_unless_a_transfer_is_under_way() {
        let mut view_at_rest = view(r#"{"Delhi":50.00}"#, "{}");
        view_at_rest.transfers.add(&line("M-1", 0, "50.00"));
        assert!(view_at_rest.may_be_under_way());
        let combined = view_at_rest.combine();
        assert!(!combined.ok);
        assert_eq!(combined.findings.len(), 2, "{:?}", combined.findings);
        assert_eq!(combined.findings[1], "transfer M-1 has 1 debit of 50.00 and 0 credits of 0.00");
        let mut view_under_way = view(r#"{"Delhi":50.00}"#, "{}");
        view_under_way.transfers.add(&line("M-1", 0, "50.00"));
        view_under_way.pending.insert("M-1".parse().unwrap());
        let combined = view_under_way.combine();
        assert!(combined.ok, "{:?}", combined.findings);
        assert_eq!(combined.under_way.len(), 2);
    }

    #[test]
    fn a_credit_twice_or_of_another_amount_shows() {
        let mut transfers = Transfers::default();
        for (txid, leg, amount) in [
            ("twice", 0, "5.00"),
            ("twice", 1, "5.00"),
            ("twice", 1, "5.00"),
            ("other", 0, "5.00"),
            ("other", 1, "4.99"),
            ("crossed", 0, "5.00"),
            ("crossed", 3, "5.00"),
        ] {
            transfers.add(&line(txid, leg, amount));
        }
        assert_eq!(transfers.0.len(), 4);
    }

    #[test]
    fn money_that_is_missing_in_the_sum_shows() {
        let mut view = view("{}", "{}");
        view.audits.get_mut("Delhi").unwrap().balances = Total::ZERO;
        let combined = view.combine();
        assert!(combined.findings[0].contains("paid in less"), "{:?}", combined.findings);
    }

    #[test]
    fn a_branch_that_is_down_leaves_the_books_incomplete() {
        let mut view = view(r#"{"Delhi":50.00}"#, r#"{"Mumbai":-50.00}"#);
        view.unreachable.insert("Pune".into(), "no bank answers".into());
        let combined = view.combine();
        assert!(!combined.ok);
        let told = tell_combined(&combined);
        assert!(told.contains("? Pune: no bank answers") && told.ends_with("could be asked."), "{told}");
    }
}

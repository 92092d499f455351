//! `audit`: the books of one branch, and with `--all` those of the whole bank.
//!
//! How the whole is audited stands in `branch_client::audit`; here the branches are found and asked, and what came of
//! it is told.

use branch_client::audit::{Memory, Source, Whole};
use clap::Args;
use protocol::Total;
use protocol::answer::Audit;
use protocol::request::{Action, NoParams};

use crate::commands::books;
use crate::commands::context::Context;
use crate::error::{ClientError, ExitStatus};
use crate::output::{counted, table};
use crate::peers;

pub(super) const EXAMPLES: &str = "\
Examples:
  bank-client audit
  bank-client audit --all
  bank-client audit --all --json

The exit status is 1 when the books are not right, and 2 when a branch of the bank could not be audited: it gave no
answer, or another branch or a replica answered at its address. docs/audits.md has what an audit finds.";

/// Arguments of `audit`.
#[derive(Args, Debug)]
pub struct AuditArguments {
    /// Of all branches that the branch knows, and between them
    #[arg(long)]
    all: bool,
}

pub(super) fn audit(arguments: &AuditArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    if arguments.all {
        return audit_all(context);
    }
    let reply = context.branch.ask(Action::Audit, &NoParams {})?;
    let is_ok = reply.result::<Audit>().map(|audit| audit.ok);
    let status = context.out.answer(&reply, |audit| books::tell_audit(&audit))?;
    Ok(if is_ok.unwrap_or(true) { status } else { ExitStatus::Refused })
}

fn audit_all(context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let source =
        |peer: peers::Peer| Source { name: peer.name, address: peer.branch.address().to_string(), books: peer.branch };
    let mut sources: Vec<_> = peers::all(context.branch.again())?.into_iter().map(source).collect();
    let whole = branch_client::audit::audit_all(&mut sources, &mut Memory::default());
    if context.out.json {
        let json = serde_json::to_vec(&whole).map_err(|error| ClientError::Output(error.into()))?;
        context.out.document(&json)?;
    } else {
        context.out.text(&tell_whole(&whole))?;
    }
    Ok(if !whole.unreachable.is_empty() {
        ExitStatus::ConnectionFailed
    } else if whole.ok {
        ExitStatus::AllDone
    } else {
        ExitStatus::Refused
    })
}

fn tell_whole(whole: &Whole) -> String {
    let figures = |name: &str, verdict: &str, figures: [Total; 5]| {
        let [balances, in_transit, suspense, paid_in, paid_out] = figures.map(|total| total.to_string());
        [name.into(), balances, in_transit, suspense, paid_in, paid_out, verdict.into()]
    };
    let mut rows: Vec<[String; 7]> = Vec::new();
    for (name, audit) in &whole.branches {
        let verdict = if audit.ok { "right".into() } else { counted(audit.findings.len(), "finding", "findings") };
        let totals = [audit.balances, audit.in_transit, audit.suspense, audit.paid_in, audit.paid_out];
        rows.push(figures(name, &verdict, totals));
    }
    for name in whole.unreachable.keys() {
        rows.push([name.as_str(), "?", "?", "?", "?", "?", "not heard"].map(Into::into));
    }
    let Whole { balances, in_transit, suspense, paid_in, paid_out, .. } = whole;
    rows.push(figures("All", "", [*balances, *in_transit, *suspense, *paid_in, *paid_out]));
    let header = ["Branch", "Balances", "Sent, net", "Suspense", "Paid in", "Paid out", "Books"];
    let mut text = table(header, &[1, 2, 3, 4, 5], rows);
    let mut add = |mark: &str, line: &str| {
        text.push('\n');
        text.push_str(mark);
        text.push_str(line);
    };
    if whole.unreachable.is_empty() {
        add("", &format!("In transit between the branches: Rs {in_transit}."));
    }
    whole.under_way.iter().for_each(|line| add("~ on its way: ", line));
    whole.findings.iter().for_each(|line| add("! ", line));
    whole.unreachable.iter().for_each(|(name, problem)| add("? ", &format!("{name}: {problem}")));
    let transactions = whole.branches.values().map(|audit| usize::try_from(audit.transactions).unwrap_or(0)).sum();
    let verdict = match (whole.ok, whole.findings.is_empty()) {
        (false, true) => "The books are not complete: not every branch could be audited.".into(),
        (is_ok, _) => books::verdict(is_ok, whole.findings.len(), transactions),
    };
    add("", &verdict);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Whole {
        let books = |balances: &str, in_transit: &str| {
            let json = format!(
                r#"{{"ok":true,"findings":[],"balances":{balances},"in_transit":{in_transit},"paid_in":2000.00,
                    "paid_out":0.00,"transactions":3}}"#
            );
            serde_json::from_str::<Audit>(&json).unwrap()
        };
        let audits = [("Mumbai".to_string(), books("1950.00", "50.00")), ("Delhi".into(), books("2050.00", "-50.00"))];
        let branches = audits.into_iter().collect();
        Whole { ok: true, ..branch_client::audit::add_up(branches) }
    }

    #[test]
    fn branches_that_agree_are_right() {
        let expected = "\
Branch  Balances  Sent, net  Suspense  Paid in  Paid out  Books
----------------------------------------------------------------
Delhi    2050.00     -50.00      0.00  2000.00      0.00  right
Mumbai   1950.00      50.00      0.00  2000.00      0.00  right
All      4000.00       0.00      0.00  4000.00      0.00  -
In transit between the branches: Rs 0.00.
The books are right: 6 transactions checked.";
        assert_eq!(tell_whole(&whole()), expected);
    }

    #[test]
    fn a_branch_that_was_not_heard_leaves_the_books_incomplete() {
        let unreachable = [("Pune".to_string(), "no bank answers".to_string())].into_iter().collect();
        let told = tell_whole(&Whole { ok: false, unreachable, ..whole() });
        assert!(told.contains("? Pune: no bank answers") && told.ends_with("could be audited."), "{told}");
        assert!(!told.contains("In transit between"), "who isn't heard may have any of it: {told}");
    }

    #[test]
    fn findings_and_what_is_on_its_way_are_told_apart() {
        let told = tell_whole(&Whole {
            ok: false,
            findings: vec!["transfer M-1 …".into()],
            under_way: vec!["transfer M-2 …".into()],
            ..whole()
        });
        assert!(told.contains("\n! transfer M-1 …\n") && told.contains("\n~ on its way: transfer M-2 …\n"), "{told}");
        assert!(told.ends_with("THE BOOKS ARE NOT RIGHT: 1 finding in 6 transactions."), "{told}");
    }
}

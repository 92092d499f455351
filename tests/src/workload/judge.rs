//! What the books have to say according to the clients.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use protocol::Total;

use super::{
    Fate, MOVING_FROM, NAMES, Operation, PASSING, RICH, RICH_PAISE, Row, SAMPLE_PAISE, assert_same, is_done, paise,
    refusal,
};
use crate::bank::Bank;
use crate::branch::Branch;
use crate::wait::DEADLINE;

/// Compares the books with what the clients know. Gives the money in all branches.
#[track_caller]
pub fn judge(branches: &[&Branch; 3], operations: &[Operation]) -> Total {
    let total = Bank::assert_exact(branches);
    let (mut there, mut closings, mut closed) = (BTreeMap::<Row, i64>::new(), BTreeMap::new(), BTreeSet::new());
    for (index, branch) in branches.iter().enumerate() {
        let books = branch.database();
        for ((kind, from, to, paise), count) in books.movements() {
            let known = ["opening", "deposit", "withdrawal", "transfer", "transfer_out", "transfer_in"];
            if kind == "closing" {
                assert_eq!(closings.insert((index, from), paise), None, "{from} was closed twice");
                assert_eq!(count, 1, "{from} was closed twice");
            } else if let Some(kind) = known.into_iter().find(|known| *known == kind) {
                // The sample accounts and what was deposited before the work are nobody's operation.
                if paise != RICH_PAISE && (kind != "opening" || to >= MOVING_FROM) {
                    there.insert((index, kind, from.max(0), to.max(0), paise), count);
                }
            }
        }
        let sql = "SELECT CAST(account_num AS TEXT) FROM customers WHERE status = 'closed'";
        closed.extend(books.texts(sql).into_iter().map(|account| (index, account.parse::<i64>().unwrap())));
    }
    for operation in operations {
        let counts: Vec<i64> = operation.rows.iter().map(|row| there.remove(row).unwrap_or(0)).collect();
        let is = |count: i64| counts.iter().all(|&found| found == count);
        let is_right = match operation.fate {
            Fate::Acknowledged(_) => is(1),
            Fate::Refused(_) => is(0),
            Fate::Unknown => is(0) || is(1),
        };
        assert!(is_right, "{operation:?} is in the books {counts:?} times");
    }
    assert!(there.is_empty(), "in the books, and nobody asked for it: {there:?}");
    // Of one account several closings may have been refused, and one at most was done.
    for operation in operations {
        let Some(account) = operation.closes.map(|account| (operation.home, account)) else { continue };
        match &operation.fate {
            Fate::Acknowledged(answer) => {
                let paid_out = closings.remove(&account).unwrap_or(0);
                assert!(closed.remove(&account) && paise(&answer["paid_out"]) == paid_out, "{operation:?}: {paid_out}");
            }
            Fate::Unknown => {
                closings.remove(&account);
                closed.remove(&account);
            }
            Fate::Refused(_) => {}
        }
    }
    assert!(closed.is_empty() && closings.is_empty(), "closed, and nobody was told: {closed:?}, {closings:?}");
    total
}

/// Asks again, under the same ids: what was acknowledged is answered alike and not done again, what is unknown becomes
/// known. Nothing that was sent before may still be on its way.
#[track_caller]
pub fn repeat(branches: &[&Branch; 3], operations: &mut [Operation]) {
    let mut connections = branches.map(Branch::connect);
    for operation in operations.iter_mut().rev() {
        let deadline = Instant::now() + DEADLINE;
        let reply = loop {
            if matches!(operation.fate, Fate::Refused(_)) {
                break None;
            }
            let reply = connections[operation.home].text(&operation.body);
            if !PASSING.contains(&refusal(&reply)) {
                break Some(reply);
            }
            assert!(Instant::now() < deadline, "{} at last: {}", operation.body, reply.text);
        };
        operation.fate = match (reply, &operation.fate) {
            (None, fate) => fate.clone(),
            (Some(reply), Fate::Acknowledged(answer)) => {
                assert!(is_done(&reply), "{} was done, and now it is told: {}", operation.body, reply.text);
                assert_same(answer, &reply.ok(), &operation.body);
                continue;
            }
            (Some(reply), Fate::Unknown | Fate::Refused(_)) if is_done(&reply) => Fate::Acknowledged(reply.ok()),
            (Some(reply), Fate::Unknown | Fate::Refused(_)) => Fate::Refused(refusal(&reply).into()),
        };
    }
}

/// What all branches have according to their clients, who know of everything what became of it.
#[must_use]
#[track_caller]
pub fn expected_total(operations: &[Operation]) -> Total {
    let mut total = i128::from(RICH_PAISE + SAMPLE_PAISE) * (NAMES.len() * RICH.len()) as i128;
    for operation in operations {
        let answer = match &operation.fate {
            Fate::Acknowledged(answer) => answer,
            Fate::Refused(_) => continue,
            Fate::Unknown => panic!("nobody knows what became of {operation:?}"),
        };
        for (_, kind, _, _, paise) in &operation.rows {
            total += match *kind {
                "opening" | "deposit" => i128::from(*paise),
                "withdrawal" => -i128::from(*paise),
                _ => 0,
            };
        }
        if operation.closes.is_some() {
            total -= i128::from(paise(&answer["paid_out"]));
        }
    }
    Total::from_paise(total)
}

//! The judge: what was asked and answered against what stands in the books.
//!
//! It looks at effects alone, and only at what anybody can see from outside: the rows of `history`, the balances of
//! `list_accounts`, what `audit` finds and `list_pending` shows. Since each amount of a run is another one, a row tells
//! which request it came of.

use std::collections::{BTreeMap, BTreeSet};

use branch_client::audit::{Memory, Source, Whole, audit_all};
use protocol::Money;
use protocol::answer::{Audit, HistoryLine, Pending};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::clients::{DoneAt, Leg, Request, Told, Want};
use super::copies::Setback;
use super::people::{Resolved, Stage};
use super::process::{Answer, Process};
use super::world::World;

/// How long people let the branches sort things out by themselves, once all has healed.
const PATIENCE_MS: u64 = 60_000;
/// When what the other side rejects for good must be shown as that.
const UNSEEN_MS: u64 = 50_000;

/// What the judge keeps while the run goes on.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    /// The last number that made an amount unique.
    pub next_unique: u64,
    /// Transfers that were heard of, and the branches that they are between.
    pub transfers: BTreeMap<String, Vec<usize>>,
    /// The same in the order in which they were heard of first.
    pub recent: Vec<String>,
    /// Amounts that strangers have named, and in which transfer.
    pub stranger_amounts: BTreeMap<u64, String>,
    violation: Option<String>,
}

/// A row of a branch's history.
#[derive(Clone, Debug)]
struct Row {
    kind: String,
    from: String,
    to: String,
    paise: u64,
    txid: Option<String>,
}

/// What one branch shows at the end.
#[derive(Debug, Default)]
struct Books {
    rows: Vec<Row>,
    accounts: BTreeMap<String, (u64, u64)>,
    findings: Vec<String>,
    is_right: bool,
    pending: Vec<String>,
}

impl Judge {
    /// A transfer is heard of.
    pub fn note_transfer(&mut self, txid: &str, parties: [usize; 2]) {
        if !self.transfers.contains_key(txid) {
            self.recent.push(txid.to_string());
        }
        self.transfers.entry(txid.to_string()).or_default().extend(parties);
    }

    /// Accuses the run of something; the first accusation stays.
    pub fn accuse(&mut self, text: String) {
        self.violation.get_or_insert(text);
    }

    /// Whether nothing was wrong so far.
    #[must_use]
    pub fn is_content(&self) -> bool {
        self.violation.is_none()
    }

    /// The first thing that was wrong.
    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }
}

impl World {
    /// What is not at its end; `None` when all is.
    pub(super) fn unfinished(&mut self) -> Option<String> {
        if let Some(copy) = (0..self.copies.len()).find(|copy| self.copies[*copy].process.is_none()) {
            return Some(format!("{} does not run", self.name_of(copy)));
        }
        if let Some(text) = self.put_copies_right() {
            return Some(text);
        }
        if let Some(request) = self.requests.iter().find(|request| request.next_ms.is_some()) {
            return Some(format!("request r{} has no answer", request.number));
        }
        if let Some(program) = self.programs.iter().find(|program| program.stage != Stage::Done) {
            return Some(format!("program {} is not done", program.txid));
        }
        if !self.network.is_quiet() {
            return Some("messages are under way".into());
        }
        for branch in 0..self.names.len() {
            let copy = self.serving[branch];
            let pending = self.shown_at(copy);
            let Some((txid, state)) = pending.first() else { continue };
            let healed_ms = self.now_ms - self.healed_ms;
            if healed_ms >= UNSEEN_MS && state == "delivering" {
                self.judge
                    .accuse(format!("{txid} is delivered for ever from {}, and nothing says so", self.names[branch]));
            }
            if healed_ms >= PATIENCE_MS && self.needs_a_person(txid) {
                let outcome = if self.rng.chance(500) { "commit" } else { "abort" };
                self.resolve(copy, txid, outcome);
            }
            return Some(format!("{txid} is pending at {}", self.names[branch]));
        }
        None
    }

    /// Whether only a person can end it: nobody coordinates it, or the one that is named never heard of it.
    fn needs_a_person(&self, txid: &str) -> bool {
        let is_program = self.programs.iter().any(|program| program.txid == txid);
        let is_meddled_with = self.judge.stranger_amounts.values().any(|other| other == txid);
        is_program || is_meddled_with || self.by_hand.contains(txid) || !self.setbacks.is_empty()
    }

    /// Compares everything that was asked with everything that stands in the books.
    pub(super) fn judge_all(&mut self) {
        let mut all = Vec::new();
        for branch in 0..self.names.len() {
            match self.read_books(branch) {
                Ok(books) => all.push(books),
                Err(error) => return self.judge.accuse(format!("the books of {}: {error}", self.names[branch])),
            }
        }
        let whole = self.audit_all();
        let verdict = self.weigh_books(&all, &whole);
        let verdict = verdict.or_else(|| self.clear_suspense());
        if let Some(text) = verdict {
            self.judge.accuse(text);
        }
    }

    /// People move what stands in suspense to where it belongs; then the books are right again.
    fn clear_suspense(&mut self) -> Option<String> {
        if self.by_hand.is_empty() || !self.setbacks.is_empty() {
            return None;
        }
        for branch in 0..self.names.len() {
            for txid in self.by_hand.clone() {
                let body = format!(
                    r#"{{"action":"clear_suspense","params":{{"txid":"{txid}","cash":true,"reason":"it is settled"}}}}"#
                );
                // Most of them have nothing there.
                self.ask(self.serving[branch], &body);
            }
        }
        let whole = self.audit_all();
        (!whole.ok).then(|| format!("what was in suspense is cleared, and the audit of all finds {:?}", whole.findings))
    }

    /// How many requests were carried out and refused, as their clients were told.
    pub(super) fn count(&self) -> (usize, usize) {
        let is_done = |request: &&Request| matches!(request.told, Told::Done(_));
        let is_refused = |request: &&Request| matches!(request.told, Told::Refused(_));
        (self.requests.iter().filter(is_done).count(), self.requests.iter().filter(is_refused).count())
    }

    fn read_books(&mut self, branch: usize) -> Result<Books, String> {
        let copy = self.serving[branch];
        let mut books = Books::default();
        for row in self.list(copy, "history")? {
            books.rows.push(Row {
                kind: text(&row["type"]),
                from: text(&row["from_account"]),
                to: text(&row["to_account"]),
                paise: paise(&row["amount"])?,
                txid: row["txid"].as_str().map(str::to_owned),
            });
        }
        for row in self.list(copy, "list_accounts")? {
            books.accounts.insert(text(&row["account_no"]), (paise(&row["balance"])?, paise(&row["held"])?));
        }
        let audit = self.look(copy, r#"{"action":"audit","params":{}}"#).ok_or("no answer")?;
        let audit = audit.result().ok_or_else(|| audit.body.to_string())?.clone();
        books.is_right = audit["ok"] == true;
        books.findings = audit["findings"].as_array().into_iter().flatten().map(text).collect();
        books.pending = self.pending_at(copy);
        Ok(books)
    }

    fn list(&mut self, copy: usize, action: &str) -> Result<Vec<Value>, String> {
        let mut rows = Vec::new();
        let mut after = String::new();
        loop {
            let body = format!(r#"{{"action":"{action}","params":{{"limit":500{after}}}}}"#);
            let answer = self.look(copy, &body).ok_or("no answer")?;
            let page = answer.result().and_then(Value::as_array).ok_or_else(|| answer.body.to_string())?;
            rows.extend(page.iter().cloned());
            match &answer.body["next"] {
                Value::Null => return Ok(rows),
                next => after = format!(r#","after":{next}"#),
            }
        }
    }

    /// The audit of all branches, as a client or the bridge makes it.
    fn audit_all(&self) -> Whole {
        let mut sources: Vec<Source<BooksOf<'_>>> = Vec::new();
        for (name, copy) in self.names.iter().zip(&self.serving) {
            let Some(process) = &self.copies[*copy].process else { continue };
            let address = format!("127.0.0.1:{}", self.copies[*copy].port);
            sources.push(Source { name: name.clone(), address, books: BooksOf(process) });
        }
        audit_all(&mut sources, &mut Memory::default())
    }

    fn weigh_books(&self, all: &[Books], whole: &Whole) -> Option<String> {
        let mut known = BTreeSet::new();
        for request in &self.requests {
            if let Some(text) = self.weigh_request(request, all, whole, &mut known) {
                return Some(text);
            }
        }
        for program in &self.programs {
            let [from, to] = &program.legs;
            known.insert(from.paise);
            let (out, into) =
                (count(&all[from.branch], "transfer_out", from), count(&all[to.branch], "transfer_in", to));
            let is_disturbed =
                self.by_hand.contains(&program.txid) || self.went_back(from.branch, 0) || self.went_back(to.branch, 0);
            if out > 1 || into > 1 || (out != into && !is_disturbed) {
                return Some(format!("program {} took {out} times and gave {into} times", program.txid));
            }
        }
        if let Some(text) = self.resolved.iter().find_map(|resolved| self.weigh_resolved(resolved, all)) {
            return Some(text);
        }
        let is_disturbed = !self.by_hand.is_empty() || !self.setbacks.is_empty();
        if !whole.ok && !is_disturbed {
            return Some(format!("the audit of all branches: {:?} {:?}", whole.findings, whole.unreachable));
        }
        for (name, books) in self.names.iter().zip(all) {
            if let Some(text) = self.weigh_branch(books, &known) {
                return Some(format!("{name}: {text}"));
            }
        }
        None
    }

    /// What a person was told to be settled is settled so: nothing overwrites it.
    fn weigh_resolved(&self, resolved: &Resolved, all: &[Books]) -> Option<String> {
        let Resolved { txid, branch, is_committed, done_at } = resolved;
        let name = &self.names[*branch];
        // A transfer that a branch coordinates may have been booked there before a person settled it.
        let is_own = txid.starts_with(&format!("{name}-"));
        let mut rows = all[*branch].rows.iter().filter(|row| row.txid.as_ref() == Some(txid));
        let is_wrong = match is_committed {
            true => rows.next().is_none(),
            false => !is_own && rows.any(|row| row.kind == "transfer_out" || row.kind == "transfer_in"),
        };
        let outcome = if *is_committed { "committed" } else { "aborted" };
        let is_excused = || self.may_be_undone(*branch, done_at.at_ms, *done_at);
        (is_wrong && !is_excused()).then(|| format!("{txid} was settled as {outcome} at {name}, and is not"))
    }

    fn weigh_request(
        &self,
        request: &Request,
        all: &[Books],
        whole: &Whole,
        known: &mut BTreeSet<u64>,
    ) -> Option<String> {
        let home = &all[request.branch];
        let local =
            |kind: &str, paise: u64| home.rows.iter().filter(|row| row.kind == kind && row.paise == paise).count();
        let (effects, what): (Vec<usize>, _) = match &request.want {
            Want::Deposit { paise, .. } => (vec![local("deposit", *paise)], *paise),
            Want::Withdraw { paise, .. } => (vec![local("withdrawal", *paise)], *paise),
            Want::Local { paise, .. } => (vec![local("transfer", *paise)], *paise),
            Want::Open { paise, .. } => (vec![local("opening", *paise)], *paise),
            Want::Close { account } => return self.weigh_closing(request, home, *account),
            Want::Transfer { legs, .. } => {
                known.extend(legs.iter().map(|leg| leg.paise));
                return self.weigh_transfer(request, legs, all, whole);
            }
        };
        known.insert(what);
        self.weigh_effects(request, &effects)
    }

    /// Whether what a client was told may not be so any more, because the branch's store came back older.
    fn may_be_lost(&self, request: &Request) -> bool {
        let Some(first_ms) = request.first_ms else { return false };
        match request.done_at {
            None => self.went_back(request.branch, first_ms),
            Some(done) => self.may_be_undone(request.branch, first_ms, done),
        }
    }

    /// Whether what was done at a branch may be so no more.
    fn may_be_undone(&self, branch: usize, first_ms: u64, done: DoneAt) -> bool {
        if !self.went_back(branch, first_ms) {
            return false;
        }
        let Some(position) = done.position else {
            // Without a log the time tells: what was done before the backup was made is in it.
            let lost = |setback: &Setback| {
                setback.branch == branch
                    && setback.at_ms >= first_ms
                    && setback.of_ms.is_none_or(|of_ms| of_ms <= done.at_ms)
            };
            return self.setbacks.iter().any(lost);
        };
        let Some(process) = &self.copies[self.serving[branch]].process else { return true };
        let here = process.core.dbs.position_at(position.sequence);
        here.is_ok_and(|here| here.is_none_or(|here| here.digest != position.digest))
    }

    fn weigh_transfer(&self, request: &Request, legs: &[Leg], all: &[Books], whole: &Whole) -> Option<String> {
        let first_ms = request.first_ms.unwrap_or(u64::MAX);
        let mut effects: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        let ends =
            legs.iter().flat_map(|leg| [(request.branch, "transfer_out", leg), (leg.branch, "transfer_in", leg)]);
        for (place, (branch, kind, leg)) in ends.enumerate() {
            for row in all[branch].rows.iter().filter(|row| row.kind == kind && row.paise == leg.paise) {
                effects.entry(row.txid.as_deref()).or_insert_with(|| vec![0; 2 * legs.len()])[place] += 1;
            }
        }
        let is_back =
            self.went_back(request.branch, first_ms) || legs.iter().any(|leg| self.went_back(leg.branch, first_ms));
        for (txid, effects) in &effects {
            let txid = txid.unwrap_or("?");
            let is_disturbed = is_back || self.by_hand.contains(txid);
            let is_whole = effects.iter().all(|times| *times == 1);
            // What an older store or a person has made of it may differ, and then an audit names it.
            // It names so many by their ids, and then says how many more there are.
            let names = |finding: &String| finding.contains(txid) || finding.contains("more payments between branches");
            let is_named = whole.findings.iter().any(names);
            if !is_whole && (!is_disturbed || !is_named || effects.iter().any(|times| *times > 1)) {
                let told = if is_named { "an audit names it" } else { "no audit names it" };
                return Some(format!(
                    "request r{}: {txid} has effects {effects:?}, and {told}: {:?}",
                    request.number, whole.findings
                ));
            }
        }
        if is_back || effects.keys().flatten().any(|txid| self.by_hand.contains(*txid)) {
            let is_lost = matches!(request.told, Told::Done(_)) && effects.is_empty() && !is_back;
            return is_lost.then(|| format!("request r{} was done, and nothing is left of it", request.number));
        }
        let effects: Vec<usize> = if effects.is_empty() { vec![0] } else { vec![effects.len()] };
        self.weigh_effects(request, &effects)
    }

    /// What was told against what was done: all of it once, or nothing.
    fn weigh_effects(&self, request: &Request, effects: &[usize]) -> Option<String> {
        let may_be_lost = self.may_be_lost(request);
        let is_right = effects.iter().all(|times| *times == effects[0])
            && match request.told {
                Told::Done(_) => effects[0] == 1 || (effects[0] == 0 && may_be_lost),
                Told::Refused(_) => effects[0] == 0 || (effects[0] == 1 && may_be_lost),
                Told::Nothing => effects[0] <= 1,
            };
        if is_right {
            return None;
        }
        let Request { number, want, told, .. } = request;
        Some(format!("request r{number} {want:?} was told {told:?} and had effects {effects:?}"))
    }

    fn weigh_closing(&self, request: &Request, home: &Books, account: u64) -> Option<String> {
        let is_open = home.accounts.contains_key(&account.to_string());
        let is_done = matches!(request.told, Told::Done(_));
        if is_done && is_open && !self.may_be_lost(request) {
            return Some(format!("request r{}: account {account} was closed, and is open", request.number));
        }
        None
    }

    fn weigh_branch(&self, books: &Books, known: &BTreeSet<u64>) -> Option<String> {
        for row in &books.rows {
            let is_foreign = !known.contains(&row.paise) && row.kind != "closing" && row.kind != "settlement";
            let by_hand = row.txid.as_ref().is_some_and(|txid| self.by_hand.contains(txid));
            if is_foreign && !by_hand {
                return Some(format!("nobody has asked for the row {row:?}"));
            }
        }
        for (number, (balance, held)) in &books.accounts {
            let into: u64 = books.rows.iter().filter(|row| row.to == *number).map(|row| row.paise).sum();
            let out: u64 = books.rows.iter().filter(|row| row.from == *number).map(|row| row.paise).sum();
            if into.checked_sub(out) != Some(*balance) {
                return Some(format!("account {number} has {balance} paise, and its rows say {into} less {out}"));
            }
            if *held > 0 {
                return Some(format!("{held} paise of account {number} are held by nothing"));
            }
        }
        if let Some(txid) = books.pending.first() {
            return Some(format!("{txid} is still pending"));
        }
        let known_of = |finding: &&String| {
            let by_hand = self.by_hand.iter().any(|txid| finding.contains(txid.as_str()));
            let is_back = !self.setbacks.is_empty() && self.judge.transfers.keys().any(|txid| finding.contains(txid));
            !by_hand && !is_back
        };
        if let Some(finding) = books.findings.iter().find(known_of) {
            return Some(format!("the audit finds: {finding}"));
        }
        if books.is_right != books.findings.is_empty() {
            return Some("the audit's verdict is not that of its findings".into());
        }
        None
    }
}

/// How often a leg stands in the books of a branch.
fn count(books: &Books, kind: &str, leg: &Leg) -> usize {
    books.rows.iter().filter(|row| row.kind == kind && row.paise == leg.paise).count()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn paise(value: &Value) -> Result<u64, String> {
    let text = text(value);
    let money: Money = text.parse().map_err(|error| format!("{text} is no amount: {error}"))?;
    u64::try_from(money.paise()).map_err(|error| error.to_string())
}

/// The books of a process, for the audit of all.
struct BooksOf<'p>(&'p Process);

impl branch_client::audit::Books for BooksOf<'_> {
    fn audit(&mut self) -> Result<Audit, String> {
        read(&self.0.ask(r#"{"action":"audit","params":{}}"#))
    }

    fn history(&mut self, below: Option<i64>, limit: usize) -> Result<(Vec<HistoryLine>, Option<i64>), String> {
        let after = below.map_or_else(String::new, |below| format!(r#","after":{below}"#));
        let answer = self.0.ask(&format!(r#"{{"action":"history","params":{{"limit":{limit}{after}}}}}"#));
        Ok((read(&answer)?, answer.body["next"].as_i64()))
    }

    fn pending(&mut self) -> Result<Vec<Pending>, String> {
        read(&self.0.ask(r#"{"action":"list_pending","params":{}}"#))
    }
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, String> {
    let result = answer.result().ok_or_else(|| answer.body.to_string())?;
    serde_json::from_str(&result.to_string()).map_err(|error| error.to_string())
}

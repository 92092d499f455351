//! The judge: what was asked and answered against what stands in the books.
//!
//! It looks at effects alone, and only at what anybody can see from outside: the rows of `history`, the balances of
//! `list_accounts`, what `audit` finds and `list_pending` shows. Since each amount of a run is another one, a row tells
//! which request it came of.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Money;
use serde_json::Value;

use super::clients::{Leg, Request, Told, Want};
use super::people::Stage;
use super::world::World;

/// What the judge keeps while the run goes on.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    /// The last number that made an amount unique.
    pub next_unique: u64,
    /// Transfers that were heard of, and the branches that they are between.
    pub transfers: BTreeMap<String, Vec<usize>>,
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
            for txid in self.pending_at(copy) {
                if self.needs_a_person(&txid) {
                    self.resolve(copy, &txid, "abort");
                }
                return Some(format!("{txid} is pending at {}", self.names[branch]));
            }
        }
        None
    }

    /// Whether only a person can end it: nobody coordinates it, or the one that is named never heard of it.
    fn needs_a_person(&self, txid: &str) -> bool {
        let is_program = self.programs.iter().any(|program| program.txid == txid);
        let is_meddled_with = self.judge.stranger_amounts.values().any(|other| other == txid);
        is_program || is_meddled_with || self.by_hand.contains(txid)
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
        let verdict = self.weigh_books(&all);
        if let Some(text) = verdict {
            self.judge.accuse(text);
        }
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
        let audit = self.ask(copy, r#"{"action":"audit","params":{}}"#).ok_or("no answer")?;
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
            let answer = self.ask(copy, &body).ok_or("no answer")?;
            let page = answer.result().and_then(Value::as_array).ok_or_else(|| answer.body.to_string())?;
            rows.extend(page.iter().cloned());
            match &answer.body["next"] {
                Value::Null => return Ok(rows),
                next => after = format!(r#","after":{next}"#),
            }
        }
    }

    fn weigh_books(&self, all: &[Books]) -> Option<String> {
        let mut known = BTreeSet::new();
        for request in &self.requests {
            if let Some(text) = self.weigh_request(request, all, &mut known) {
                return Some(text);
            }
        }
        for program in &self.programs {
            let [from, to] = &program.legs;
            known.insert(from.paise);
            let (out, into) =
                (count(&all[from.branch], "transfer_out", from), count(&all[to.branch], "transfer_in", to));
            if out > 1 || into > 1 || (out != into && !self.by_hand.contains(&program.txid)) {
                return Some(format!("program {} took {out} times and gave {into} times", program.txid));
            }
        }
        for (name, books) in self.names.iter().zip(all) {
            if let Some(text) = self.weigh_branch(books, &known) {
                return Some(format!("{name}: {text}"));
            }
        }
        None
    }

    fn weigh_request(&self, request: &Request, all: &[Books], known: &mut BTreeSet<u64>) -> Option<String> {
        let home = &all[request.branch];
        let local =
            |kind: &str, paise: u64| home.rows.iter().filter(|row| row.kind == kind && row.paise == paise).count();
        let (effects, what): (Vec<usize>, _) = match &request.want {
            Want::Deposit { paise, .. } => (vec![local("deposit", *paise)], *paise),
            Want::Withdraw { paise, .. } => (vec![local("withdrawal", *paise)], *paise),
            Want::Local { paise, .. } => (vec![local("transfer", *paise)], *paise),
            Want::Open { paise, .. } => (vec![local("opening", *paise)], *paise),
            Want::Close { account } => return weigh_closing(request, home, *account),
            Want::Transfer { legs, .. } => {
                known.extend(legs.iter().map(|leg| leg.paise));
                return self.weigh_transfer(request, legs, all);
            }
        };
        known.insert(what);
        weigh_effects(request, &effects)
    }

    fn weigh_transfer(&self, request: &Request, legs: &[Leg], all: &[Books]) -> Option<String> {
        let mut effects = Vec::new();
        let mut txid = request.txid().map(str::to_owned);
        for leg in legs {
            effects.push(count(&all[request.branch], "transfer_out", leg));
            effects.push(count(&all[leg.branch], "transfer_in", leg));
            let rows = all.iter().flat_map(|books| &books.rows);
            let found = rows.filter(|row| row.paise == leg.paise).find_map(|row| row.txid.clone());
            txid = txid.or(found);
        }
        let Some(txid) = txid else { return weigh_effects(request, &effects) };
        if !self.by_hand.contains(&txid) {
            return weigh_effects(request, &effects);
        }
        // A person has settled a part of it: that part may differ, and then the audit names it.
        if effects.iter().any(|times| *times > 1) {
            return Some(format!("request r{} had effects {effects:?} in {txid}", request.number));
        }
        let is_whole = effects.iter().all(|times| *times == effects[0]);
        let is_named = all.iter().flat_map(|books| &books.findings).any(|finding| finding.contains(&txid));
        if is_whole || is_named {
            return None;
        }
        Some(format!("{txid} was settled by hand, its effects are {effects:?}, and no audit names it"))
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
        let named = |finding: &&String| !self.by_hand.iter().any(|txid| finding.contains(txid.as_str()));
        if let Some(finding) = books.findings.iter().find(named) {
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

/// What was told against what was done: all of it once, or nothing.
fn weigh_effects(request: &Request, effects: &[usize]) -> Option<String> {
    let is_whole = effects.iter().all(|times| *times == effects[0]);
    let is_right = is_whole
        && match request.told {
            Told::Done(_) => effects[0] == 1,
            Told::Refused(_) => effects[0] == 0,
            Told::Nothing => effects[0] <= 1,
        };
    if is_right {
        return None;
    }
    let Request { number, want, told, .. } = request;
    Some(format!("request r{number} {want:?} was told {told:?} and had effects {effects:?}"))
}

fn weigh_closing(request: &Request, home: &Books, account: u64) -> Option<String> {
    let is_open = home.accounts.contains_key(&account.to_string());
    let is_done = matches!(request.told, Told::Done(_));
    if is_done && is_open {
        return Some(format!("request r{}: account {account} was closed, and is open", request.number));
    }
    None
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn paise(value: &Value) -> Result<u64, String> {
    let text = text(value);
    let money: Money = text.parse().map_err(|error| format!("{text} is no amount: {error}"))?;
    u64::try_from(money.paise()).map_err(|error| error.to_string())
}

//! `GET /history`: transactions of one branch or of all, filtered, as a page or as a download.
//!
//! Branches filter by account alone, so the rest is done here, on a bounded number of rows at a time; a page that
//! stops at that bound says where it goes on, like any other. Over several branches `next` names a place in each,
//! as `Mumbai:120,Delhi:88`.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use protocol::AccountNum;
use protocol::answer::HistoryLine;
use protocol::request::{Action, History};
use serde::Serialize;

use super::answer;
use super::older::ACCOUNT;
use super::pieces::{Pieces, pieces};
use super::place::{self, HERE};
use crate::access::own_account;
use crate::branch::Branch;
use crate::branches::shown;
use crate::bridge::Bridge;
use crate::error::Error;
use crate::guard::Caller;
use crate::limits::{
    DOWNLOAD_CHUNKS, DOWNLOAD_KIB, DOWNLOAD_ROWS, HISTORY_ROWS, LIST_ROWS, LIST_ROWS_DEFAULT, PAGE_ROWS, ROW_BYTES_MAX,
    ROW_BYTES_USUAL,
};
use crate::params::Params;
use crate::quota::AnswerBytes;
use crate::who::Who;

/// The first line of a download.
const CSV_HEAD: &str = "branch,transaction_id,date,type,from_account,to_account,amount,txid,leg,peer\r\n";

/// `GET /history`.
pub async fn history(
    State(bridge): State<Arc<Bridge>>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Response, Error> {
    place::only(&params, &["account", "account_no", "type", "from", "to", "after", "limit", "format"])?;
    let branches = match (place::named(&bridge, &params, &HERE)?, &caller.who) {
        (Some(branch), _) => vec![branch],
        (None, Who::Customer { branch, .. }) => vec![bridge.branches.by_name(branch.as_str())?],
        (None, Who::Open | Who::Administrator { .. } | Who::Nobody) => bridge.branches.all(),
    };
    let account = place::account_if_named(&caller.who, &params, ACCOUNT)?;
    if let Some(account) = account {
        for branch in &branches {
            own_account(&caller.who, branch.name(), account)?;
        }
    }
    let reader = Reader::new(branches, account, Filter::new(&params)?, params.get("after"))?;
    match params.get("format") {
        None | Some("json") => page(reader, &caller, params.limit(LIST_ROWS_DEFAULT, LIST_ROWS)?).await,
        Some("csv") => {
            let bytes = caller.quota.answer(DOWNLOAD_KIB).await?;
            Ok(download(reader, params.limit(DOWNLOAD_ROWS, DOWNLOAD_ROWS)?, bytes))
        }
        Some(_) => Err(Error::Input("format is json or csv".into())),
    }
}

/// A page as JSON: at most so many rows, and no more than fit into an answer.
async fn page(mut reader: Reader, caller: &Caller, limit: usize) -> Result<Response, Error> {
    let bytes = caller.quota.answer(limit * ROW_BYTES_USUAL / 1_024 + 2 * ROW_BYTES_MAX / 1_024).await?;
    let mut json = String::from("[");
    let mut left = HISTORY_ROWS;
    for count in 0..limit {
        if json.len() + ROW_BYTES_MAX > bytes.limit() {
            break;
        }
        let Some(row) = reader.next_row(&mut left).await? else { break };
        if count > 0 {
            json.push(',');
        }
        json.push_str(&answer::to_json(&row)?);
    }
    json.push(']');
    let next = reader.next().await?.map(|next| answer::to_json(&next)).transpose()?;
    Ok(answer::long(&json, next.as_deref(), bytes))
}

/// A row, with its branch.
#[derive(Clone, Debug, Serialize)]
struct Row {
    branch: String,
    #[serde(flatten)]
    line: HistoryLine,
}

/// Which rows are wanted.
#[derive(Clone, Debug, Default)]
struct Filter {
    kind: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl Filter {
    fn new(params: &Params) -> Result<Self, Error> {
        let date = |name: &str| match params.get(name) {
            Some(text) if !is_date(text) => {
                Err(Error::Input(format!("{name} is a date such as 2026-01-31 or 2026-01-31T12:30")))
            }
            date => Ok(date.map(ToOwned::to_owned)),
        };
        Ok(Self { kind: params.get("type").map(ToOwned::to_owned), from: date("from")?, to: date("to")? })
    }

    /// Dates are ISO-8601 in UTC on both sides, so they compare as texts; `to` means all of that day or minute.
    fn takes(&self, line: &HistoryLine) -> bool {
        let is_kind = self.kind.as_ref().is_none_or(|kind| line.kind.eq_ignore_ascii_case(kind));
        let is_late_enough = self.from.as_deref().is_none_or(|from| line.date.as_str() >= from);
        let is_early_enough = self.to.as_deref().is_none_or(|to| &line.date[..to.len().min(line.date.len())] <= to);
        is_kind && is_late_enough && is_early_enough
    }

    /// Whether no older row can be wanted after this one.
    fn ends_at(&self, line: &HistoryLine) -> bool {
        self.from.as_deref().is_some_and(|from| line.date.as_str() < from)
    }
}

/// The beginning of `2026-01-31T12:30:59.123Z`, from the day on.
fn is_date(text: &str) -> bool {
    const LIKE: &[u8] = b"dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(byte, like): (u8, &u8)| if *like == b'd' { byte.is_ascii_digit() } else { byte == *like };
    (10..=LIKE.len()).contains(&text.len()) && text.bytes().zip(LIKE).all(fits)
}

/// Reads rows of several branches, newest first.
struct Reader {
    sources: Vec<Source>,
    account: Option<AccountNum>,
    filter: Filter,
}

/// One branch's rows.
struct Source {
    branch: Arc<Branch>,
    /// The oldest row that was given on or passed over; rows older than that are still to come.
    after: Option<i64>,
    /// Rows that were fetched and not given on.
    page: VecDeque<HistoryLine>,
    /// Where the page after these begins; none when this was the last.
    next_page: Option<i64>,
    is_begun: bool,
}

impl Reader {
    fn new(
        branches: Vec<Arc<Branch>>,
        account: Option<AccountNum>,
        filter: Filter,
        after: Option<&str>,
    ) -> Result<Self, Error> {
        let wrong = || Error::Input("after is the next of the page before".into());
        let is_one = branches.len() == 1;
        let mut sources: Vec<_> = branches.into_iter().map(Source::new).collect();
        for place in after.into_iter().flat_map(|after| after.split(',')) {
            let (name, number) = match place.split_once(':') {
                Some((name, number)) => (Some(name), number),
                None if is_one => (None, place),
                None => return Err(wrong()),
            };
            let number = number.parse().map_err(|_| wrong())?;
            let is_named = |source: &&mut Source| name.is_none_or(|name| source.branch.name().as_str() == name);
            let unknown = || name.map_or_else(wrong, |name| Error::BranchNotAllowed(shown(name)));
            sources.iter_mut().find(is_named).ok_or_else(unknown)?.after = Some(number);
        }
        Ok(Self { sources, account, filter })
    }

    /// The next row that is wanted; none at the end, or when so many rows as are `left` were looked at.
    async fn next_row(&mut self, left: &mut usize) -> Result<Option<Row>, Error> {
        while *left > 0 {
            *left -= 1;
            for source in &mut self.sources {
                source.fill(self.account).await?;
            }
            let newest = |source: &&mut Source| source.page.front().map(|line| line.date.clone());
            let Some(source) = self.sources.iter_mut().filter(|source| !source.page.is_empty()).max_by_key(newest)
            else {
                return Ok(None);
            };
            let Some(line) = source.page.pop_front() else { return Ok(None) };
            source.after = Some(line.transaction_id);
            if self.filter.ends_at(&line) {
                source.page.clear();
                source.next_page = None;
            } else if self.filter.takes(&line) {
                return Ok(Some(Row { branch: source.branch.name().to_string(), line }));
            }
        }
        Ok(None)
    }

    /// Where it goes on; none at the end.
    async fn next(&mut self) -> Result<Option<String>, Error> {
        let mut is_more = false;
        for source in &mut self.sources {
            source.fill(self.account).await?;
            is_more |= !source.page.is_empty();
        }
        if !is_more {
            return Ok(None);
        }
        let place = |source: &Source| Some((source.branch.name().to_string(), source.after?));
        let places: Vec<_> = self.sources.iter().filter_map(place).collect();
        Ok(match places.as_slice() {
            [(_, number)] if self.sources.len() == 1 => Some(number.to_string()),
            places => {
                Some(places.iter().map(|(name, number)| format!("{name}:{number}")).collect::<Vec<_>>().join(","))
            }
        })
    }
}

impl Source {
    fn new(branch: Arc<Branch>) -> Self {
        Self { branch, after: None, page: VecDeque::new(), next_page: None, is_begun: false }
    }

    /// Fetches a page when none is left. A branch without that account has no rows of it.
    async fn fill(&mut self, account_no: Option<AccountNum>) -> Result<(), Error> {
        if !self.page.is_empty() || (self.is_begun && self.next_page.is_none()) {
            return Ok(());
        }
        let after = if self.is_begun { self.next_page } else { self.after };
        let params = History { account_no, after, limit: Some(PAGE_ROWS) };
        self.is_begun = true;
        let (page, next): (VecDeque<HistoryLine>, _) = self.branch.read(Action::History, params).await?;
        self.page = page;
        self.next_page = next.and_then(|next| next.trim_matches('"').parse().ok());
        Ok(())
    }
}

/// All of it, page by page. A body that can't be made to its end breaks off; one that is cut says so in its last line.
fn download(mut reader: Reader, limit: usize, bytes: AnswerBytes) -> Response {
    let (chunks, body) = pieces(DOWNLOAD_CHUNKS);
    tokio::spawn(async move {
        match write_csv(&mut reader, limit, &chunks).await {
            Ok(true) => chunks.end().await,
            // Whoever has gone needs no more of it.
            Ok(false) => {}
            Err(error) => log::warn!("a download broke off: {error}"),
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"transactions.csv\""),
    ];
    (headers, bytes.with(body)).into_response()
}

/// Returns whether the client took all of it.
async fn write_csv(reader: &mut Reader, limit: usize, chunks: &Pieces) -> Result<bool, Error> {
    let mut text = CSV_HEAD.to_string();
    let mut rows = 0;
    loop {
        let mut left = PAGE_ROWS;
        while rows < limit
            && let Some(row) = reader.next_row(&mut left).await?
        {
            push_csv(&mut text, &row);
            rows += 1;
        }
        let next = reader.next().await?;
        if let Some(next) = next.as_ref().filter(|_| rows == limit) {
            text.push_str(&quoted(&format!("# cut off after {rows} rows; the rest begins with after={next},")));
            text.push_str("\r\n");
        }
        let is_end = next.is_none() || rows == limit;
        if !chunks.send(std::mem::take(&mut text).into()).await {
            return Ok(false);
        }
        if is_end {
            return Ok(true);
        }
    }
}

fn push_csv(text: &mut String, row: &Row) {
    let line = &row.line;
    let optional = |value: Option<String>| value.unwrap_or_default();
    let cells = [
        row.branch.clone(),
        line.transaction_id.to_string(),
        line.date.clone(),
        line.kind.clone(),
        line.from_account.clone(),
        line.to_account.clone(),
        line.amount.to_string(),
        optional(line.txid.as_ref().map(ToString::to_string)),
        optional(line.leg.map(|leg| leg.to_string())),
        optional(line.peer.clone()),
    ];
    text.push_str(&cells.map(|cell| quoted(&cell)).join(","));
    text.push_str("\r\n");
}

/// A cell as RFC 4180 has it. One that a spreadsheet would take for a formula gets a mark in front.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '@', '\t']) || (cell.starts_with('-') && cell.parse::<i64>().is_err());
    let cell = if is_formula { format!("'{cell}") } else { cell.to_string() };
    if cell.contains([',', '"', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(date: &str, kind: &str) -> HistoryLine {
        serde_json::from_value(serde_json::json!({
            "transaction_id": 1, "date": date, "type": kind, "from_account": "1001", "to_account": "1002",
            "amount": 50, "txid": null, "leg": null, "peer": null,
        }))
        .unwrap()
    }

    #[test]
    fn rows_are_filtered_by_type_and_time() {
        let filter = |from: &str, to: &str, kind: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_string());
            Filter { kind: text(kind), from: text(from), to: text(to) }
        };
        let row = line("2026-01-31T12:30:00.000Z", "deposit");
        assert!(filter("", "", "").takes(&row));
        assert!(filter("2026-01-31", "2026-01-31", "Deposit").takes(&row));
        assert!(filter("2026-01-31T12:30", "2026-01-31T12:30", "").takes(&row));
        assert!(!filter("2026-02-01", "", "").takes(&row) && !filter("", "2026-01-30", "").takes(&row));
        assert!(!filter("", "", "transfer").takes(&row));
        assert!(filter("2026-02-01", "", "").ends_at(&row) && !filter("2026-01-31", "", "").ends_at(&row));
    }

    #[test]
    fn dates_are_checked() {
        for date in ["2026-01-31", "2026-01-31T12", "2026-01-31T12:30:59.123Z"] {
            assert!(is_date(date), "{date}");
        }
        for wrong in ["2026", "2026-1-31", "31.01.2026", "2026-01-31 12:30", "2026-01-31T12:30:59.123Z0", "é026-01-31"]
        {
            assert!(!is_date(wrong), "{wrong}");
        }
    }

    #[test]
    fn cells_are_quoted() {
        let check = |cell: &str, expected: &str| assert_eq!(quoted(cell), expected);
        check("due Delhi", "due Delhi");
        check("a,b", "\"a,b\"");
        check("say \"hi\"", "\"say \"\"hi\"\"\"");
        check("=1+1", "'=1+1");
        check("-1", "-1");
        check("-1+A1", "'-1+A1");
    }
}

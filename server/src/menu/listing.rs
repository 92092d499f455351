//! Long tables, page by page.
//!
//! A [`Listing`] asks for its first page, turns each reply into lines, and says which request fetches the
//! next page. The cursor is the last row seen, not a page number, so rows that come or go meanwhile are
//! neither doubled nor skipped.

use protocol::AccountNum;
use protocol::answer::Branch;
use protocol::menu_line::ServerLine;

use super::request::{Reply, Request};
use super::table;

/// A listing under way.
#[derive(Debug)]
pub struct Listing {
    kind: ListingKind,
    /// The rows of the pages so far.
    rows_shown: usize,
    /// The known branches, which only that listing has beside its rows.
    branches_shown: usize,
}

/// What is listed.
#[derive(Clone, Copy, Debug)]
pub enum ListingKind {
    /// A customer's own transactions.
    History(AccountNum),
    /// All accounts.
    Accounts,
    /// All transactions.
    Transactions,
    /// The known branches, then the transfers in doubt.
    Branches,
}

/// One page, and what fetches the next.
#[derive(Debug)]
#[must_use]
pub struct ListingPage {
    /// The page's table, or the sentence that there is nothing.
    pub lines: Vec<ServerLine>,
    /// The request for the next page, if there is more.
    pub next: Option<Request>,
}

impl Listing {
    /// A listing of which nothing has been shown.
    #[must_use]
    pub fn new(kind: ListingKind) -> Self {
        Self { kind, rows_shown: 0, branches_shown: 0 }
    }

    /// The request for the first page.
    #[must_use]
    pub fn first(kind: ListingKind) -> Request {
        match kind {
            ListingKind::History(account) => Request::History { account, before: None },
            ListingKind::Accounts => Request::Accounts { after: None },
            ListingKind::Transactions => Request::Transactions { before: None },
            ListingKind::Branches => Request::Branches { after: None },
        }
    }

    /// Takes the reply with the next page.
    ///
    /// # Panics
    /// If the reply is to another request.
    pub fn page(&mut self, reply: Reply) -> ListingPage {
        let is_first = self.rows_shown == 0;
        let (mut lines, rows, next) = match (self.kind, reply) {
            (ListingKind::History(account), Reply::Transactions(page)) => {
                let next = page.next(|row| Request::History { account, before: Some(row.transaction_id) });
                (table_of(&page.rows, table::transactions), page.rows.len(), next)
            }
            (ListingKind::Transactions, Reply::Transactions(page)) => {
                let next = page.next(|row| Request::Transactions { before: Some(row.transaction_id) });
                (table_of(&page.rows, table::transactions), page.rows.len(), next)
            }
            (ListingKind::Accounts, Reply::Accounts(page)) => {
                let next = page.next(|row| Request::Accounts { after: Some(row.number) });
                (table_of(&page.rows, table::accounts), page.rows.len(), next)
            }
            (ListingKind::Branches, Reply::Branches { branches, in_doubt }) => {
                let mut lines = if is_first { self.branches(&branches) } else { Vec::new() };
                lines.extend(table_of(&in_doubt.rows, table::in_doubt));
                let next = in_doubt.next(|row| Request::Branches { after: Some(row.txid.clone()) });
                (lines, in_doubt.rows.len(), next)
            }
            (kind, reply) => panic!("the listing {kind:?} got {reply:?}"),
        };
        if rows == 0 && is_first {
            lines.push(ServerLine::Text(self.nothing().to_string()));
        }
        self.rows_shown += rows;
        ListingPage { lines, next }
    }

    /// What was listed, such as `3 accounts`.
    #[must_use]
    pub fn summary(&self) -> String {
        match self.kind {
            ListingKind::History(_) | ListingKind::Transactions => counted(self.rows_shown, "transaction"),
            ListingKind::Accounts => counted(self.rows_shown, "account"),
            ListingKind::Branches => {
                let branches = if self.branches_shown == 1 { "branch" } else { "branches" };
                let transfers = counted(self.rows_shown, "transfer");
                format!("{} known {branches}, {transfers} in doubt", self.branches_shown)
            }
        }
    }

    fn branches(&mut self, rows: &[Branch]) -> Vec<ServerLine> {
        self.branches_shown = rows.len();
        let mut lines = table_of(rows, table::branches);
        if lines.is_empty() {
            lines.push(ServerLine::Text("No other branch is known.".to_string()));
        }
        lines.push(ServerLine::Text(String::new()));
        lines
    }

    fn nothing(&self) -> &'static str {
        match self.kind {
            ListingKind::History(_) | ListingKind::Transactions => "There are no transactions.",
            ListingKind::Accounts => "There are no accounts.",
            ListingKind::Branches => "No transfer is in doubt.",
        }
    }
}

/// A table of the rows, or nothing without any: a header alone says nothing.
fn table_of<R>(rows: &[R], table: impl Fn(&[R]) -> Vec<ServerLine>) -> Vec<ServerLine> {
    if rows.is_empty() { Vec::new() } else { table(rows) }
}

fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

//! The bridge's paths: one table, one row for each path and method. What is not in it is not answered.
//!
//! A row says who may ask for a path, and what it takes and answers. `access` decides by it, and the OpenAPI document
//! is made from it, so the two can't disagree. A customer's rows are about the own account at the own branch;
//! `access::own_account` holds that.
//!
//! What it leaves out: which function answers a path (`routes`), and how parameters are read (`params`).

use axum::http::Method;

use self::Answers::{Document, Json, JsonOr, Other};
use self::Schema::{Digits, Flag, Number, Shared, Text, Word};
use crate::access::Access;

/// One row.
#[derive(Debug)]
pub struct Operation {
    /// The method.
    pub method: Method,
    /// The path as the router has it.
    pub path: &'static str,
    /// Who may.
    pub access: Access,
    /// What a program that is generated from the document calls it.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What it takes beside what stands in the path: in the query of a GET, in the body of a POST.
    pub takes: &'static [Takes],
    /// What it answers when all is well.
    pub answers: Answers,
}

/// What an operation takes.
#[derive(Debug)]
pub enum Takes {
    /// A parameter.
    One(Parameter),
    /// A branch: by its name, or by its port and perhaps its host. What stands in front of these three names.
    Branch(&'static str),
    /// Milliseconds, `delay_ms`, if and only if the other parameter has this value.
    DelayOf(&'static str, &'static str),
}

/// A parameter.
#[derive(Debug)]
pub struct Parameter {
    /// What it is called.
    pub name: &'static str,
    /// Whether it has to be there.
    pub is_needed: bool,
    /// What it may be.
    pub schema: Schema,
    /// What it does, where its name and its type don't say it.
    pub description: &'static str,
}

/// What a parameter may be.
#[derive(Debug)]
pub enum Schema {
    /// A type that several have, under its name in the document.
    Shared(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Yes or no.
    Flag,
    /// A whole number between these two.
    Number(u64, u64),
    /// A text, of this many characters where a bound is not 0, of this form where there is one.
    Text {
        /// The fewest characters.
        least: u64,
        /// The most characters.
        most: u64,
        /// A regular expression.
        form: &'static str,
    },
    /// A number of at most 15 digits, as a number or a text; its least.
    Digits(u64),
}

/// What an operation answers.
#[derive(Debug)]
pub enum Answers {
    /// The result in the bridge's envelope.
    Json,
    /// The same, or this type of content where the parameter `format` asks for it.
    JsonOr(&'static str),
    /// The document of these paths itself.
    Document,
    /// Something else: what it is, and its types of content.
    Other(&'static str, &'static [&'static str]),
}

/// A whole number that every program reads digit for digit, also one that has floats alone.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

const HERE: Takes = Takes::Branch("");
const ACCOUNT: Takes = need("account", Shared("Account"), "");
const AMOUNT: Takes = need("amount", Shared("Amount"), "");
const REQUEST_ID: Takes = may("request_id", Shared("RequestId"), "");
const LIMIT: Takes = may("limit", Shared("Limit"), "");

const fn need(name: &'static str, schema: Schema, description: &'static str) -> Takes {
    Takes::One(Parameter { name, is_needed: true, schema, description })
}

const fn may(name: &'static str, schema: Schema, description: &'static str) -> Takes {
    Takes::One(Parameter { name, is_needed: false, schema, description })
}

const fn form(form: &'static str) -> Schema {
    Schema::Text { least: 0, most: 0, form }
}

macro_rules! operations {
    ($(
        $access:ident $method:ident $path:literal $name:literal $summary:literal
        [$($takes:expr),* $(,)?] $answers:expr;
    )*) => {
        /// The table.
        pub static OPERATIONS: &[Operation] = &[$(Operation {
            method: Method::$method,
            path: $path,
            access: Access::$access,
            name: $name,
            summary: $summary,
            takes: &[$($takes),*],
            answers: $answers,
        },)*];
    };
}

operations! {
    Anyone GET "/" "page" "The dashboard" [] Other("The page.", &["text/html"]);
    Anyone GET "/assets/{*file}" "asset" "A file of the dashboard" []
        Other("The file.", &["text/javascript", "text/css", "image/svg+xml", "text/html"]);
    Anyone GET "/healthz" "health" "Whether the bridge serves, and how many branches answer" [] Json;
    Anyone GET "/openapi.json" "document" "This document" [] Document;
    Anyone GET "/session" "session" "Who is signed in" [] Json;
    Anyone POST "/session" "signIn" "Sign in; sets the cookie bank_session" [
        may("branch", Shared("Branch"), ""),
        need("account", Digits(0), "0 is the administrator."),
        need("password", Shared("Password"), ""),
    ] Json;
    Anyone DELETE "/session" "signOut" "Sign out (with X-CSRF-Token)" [] Json;
    Anyone GET "/branches" "branches"
        "The branches; names and states alone for those who may not see the whole bank" [] Json;

    OwnAccount GET "/events" "events"
        "What happens, as server-sent events: bank, happened, stage, scenario, account, missed" [
        may("after", Shared("After"),
            "Go on after this id (or the header Last-Event-ID); 0 is all that is remembered."),
    ] Other("The stream.", &["text/event-stream"]);
    OwnAccount POST "/balance" "balance" "An account's balance" [HERE, ACCOUNT] Json;
    OwnAccount POST "/deposit" "deposit" "Pay cash in" [HERE, ACCOUNT, AMOUNT, REQUEST_ID] Json;
    OwnAccount POST "/withdraw" "withdraw" "Take cash out" [HERE, ACCOUNT, AMOUNT, REQUEST_ID] Json;
    OwnAccount POST "/transfer" "transfer" "Move money within a branch, or between two by two-phase commit" [
        Takes::Branch("src_"),
        need("src_account", Shared("Account"), ""),
        Takes::Branch("dest_"),
        need("dest_account", Shared("Account"), ""),
        AMOUNT,
        REQUEST_ID,
    ] Json;
    OwnAccount POST "/get_logs" "getLogs" "Transactions of a branch, newest first, as the branch lists them" [
        HERE,
        may("account", Shared("Account"), ""),
        may("after", Shared("After"), ""),
        LIMIT,
    ] Json;
    OwnAccount GET "/history" "history"
        "Transactions of one branch or of all, newest first, filtered; as a page or as CSV" [
        may("branch", Shared("Branch"), "Of this branch alone; of all without it."),
        may("account", Shared("Account"), ""),
        may("type", Text { least: 1, most: 64, form: "^[a-z_]+$" }, "deposit, withdrawal, transfer_out, …"),
        may("from", Shared("Date"), "From this date or time on."),
        may("to", Shared("Date"), "Up to and with this date or time."),
        may("after", form("^[A-Za-z0-9][A-Za-z0-9._-]{0,31}:[0-9]{1,15}$"),
            "The `next` of the page before: a place in each branch, as Mumbai:120,Delhi:88; of one branch a number \
             alone will do."),
        LIMIT,
        may("format", Word(&["json", "csv"]),
            "A download (csv) has up to a million rows and says so in its last line where it is cut."),
    ] JsonOr("text/csv");

    Administrator GET "/list_accounts" "listAccounts" "The open accounts of a branch" [
        need("branch", Shared("Branch"), "Or host and port."),
        may("after", Shared("AfterAccount"), ""),
        may("limit", Shared("Limit"), "Without it, as many as one answer carries."),
        may("q", Text { least: 1, most: 64, form: "" }, "Part of a name or a number."),
    ] Json;
    Administrator GET "/metrics" "metrics" "Figures for Prometheus; money in paise" []
        Other("In the format that Accept prefers.", &["text/plain", "application/openmetrics-text"]);
    Administrator GET "/audit" "audit" "The books of all branches, asked anew" [] Json;
    Administrator GET "/recent" "recent"
        "The last five minutes, the oldest point first: `age_ms` (how long ago), `transfers_per_second` (rows booked \
         at all branches) and `in_doubt`" [] Json;
    Administrator POST "/create_account" "createAccount" "Open an account" [
        HERE,
        may("account", Shared("Account"), ""),
        need("name", form("^[A-Za-z]([A-Za-z .'-]{0,62}[A-Za-z])?$"),
            "1 to 64 characters of any alphabet that can be seen."),
        may("balance", Shared("OpeningBalance"), ""),
        may("aadhar_num", form("^[0-9]{12}$"), ""),
        may("phone_num", form("^(\\+91)?[0-9]{10}$"), ""),
        may("sms", Flag, ""),
        may("password", Text { least: 4, most: 128, form: "^[ -~]+$" },
            "4 to 128 characters, none a control character."),
        REQUEST_ID,
    ] Json;
    Administrator POST "/close_account" "closeAccount" "Close an account and pay its balance out"
        [HERE, ACCOUNT, REQUEST_ID] Json;
    Administrator GET "/pending" "pending"
        "Transfers in doubt or under way, at all branches; `missing` names those that gave no answer"
        [may("branch", Shared("Branch"), "")] Json;
    Administrator POST "/resolve" "resolve" "Settle a transfer in doubt by hand" [
        HERE,
        need("txid", Shared("Txid"), ""),
        need("outcome", Word(&["commit", "abort"]), ""),
        need("reason", Text { least: 1, most: 500, form: "^[!-~][ -~]*$" }, "Why, in at most 500 bytes; recorded."),
        REQUEST_ID,
    ] Json;
    Administrator GET "/transfers" "transfers"
        "The transfers between branches that the bridge remembers, newest first" [LIMIT] Json;
    Administrator GET "/transfers/{txid}" "transferEvents"
        "The events of a transfer, no cause after its effect" [] Json;
    Administrator GET "/transfers/{txid}/export" "exportTransfer" "A transfer drawn"
        [may("format", Word(&["json", "shiviz", "mermaid", "text"]), "")] JsonOr("text/plain");
    Administrator GET "/transfers/{txid}/page" "transferPage" "A transfer as one page that plays without a server" []
        Other("The page.", &["text/html"]);

    Administrator GET "/teaching/{branch}" "stage" "What waits at a branch, and its faults" [] Json;
    Administrator POST "/teaching/{branch}/step_mode" "stepMode" "Have every message wait, or let all pass"
        [need("on", Flag, "")] Json;
    Administrator POST "/teaching/{branch}/step" "step" "Deliver, drop, double or delay a message that waits" [
        need("number", Number(1, NUMBER_MAX), ""),
        need("how", Word(&["deliver", "drop", "duplicate", "delay"]), ""),
        Takes::DelayOf("how", "delay"),
    ] Json;
    Administrator POST "/teaching/{branch}/pass_time" "passTime" "Let the protocol's clock go on"
        [need("milliseconds", Number(0, 3_600_000), "")] Json;
    Administrator POST "/teaching/{branch}/fault" "fault" "Cut, slow or heal the link to another branch" [
        need("peer", Shared("Branch"), ""),
        need("fault", Word(&["cut", "slow", "heal"]), ""),
        Takes::DelayOf("fault", "slow"),
    ] Json;
    Administrator POST "/teaching/{branch}/crash" "crash" "Crash the branch now or at a named point" [
        need("at", Word(&["now", "never", "before-prepared", "after-prepared", "after-vote", "before-decision",
            "after-decision", "after-first-delivery", "before-end"]), ""),
    ] Json;
    Administrator POST "/teaching/{branch}/restart" "restart"
        "Start a crashed branch again, where the bridge runs the branches (bank-bridge demo)" [] Json;
    Administrator GET "/scenarios" "scenarios" "The scenarios that there are" [] Json;
    Administrator GET "/scenarios/current" "currentScenario" "The scenario that is shown, or null" [] Json;
    Administrator GET "/scenarios/current/page" "scenarioPage"
        "The scenario with its questions, as far as it was shown, as one page that plays without a server" []
        Other("The page.", &["text/html"]);
    Administrator POST "/scenarios/next" "nextStep" "Go one step on" [] Json;
    Administrator POST "/scenarios/stop" "stopScenario" "End it and put everything back" [] Json;
    Administrator POST "/scenarios/{name}" "startScenario" "Start a scenario; ends another" [
        may("seed", Number(0, 999_999), "Repeats the order of messages of a scenario that leaves it open."),
    ] Json;
}

/// Who may ask for this path by this method; HEAD goes by GET's row. `None` where there is no such row.
#[must_use]
pub fn access(method: &Method, path: &str) -> Option<Access> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    OPERATIONS.iter().find(|row| row.method == method && row.path == path).map(|row| row.access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_table_has_no_access() {
        assert_eq!(access(&Method::GET, "/deposit"), None);
        assert_eq!(access(&Method::PUT, "/session"), None);
        assert_eq!(access(&Method::HEAD, "/audit"), Some(Access::Administrator));
    }

    #[test]
    fn each_row_and_each_name_stands_once() {
        for (index, row) in OPERATIONS.iter().enumerate() {
            let others = &OPERATIONS[..index];
            let is_same = |other: &Operation| (&other.method, other.path) == (&row.method, row.path);
            assert!(
                !others.iter().any(|other| is_same(other) || other.name == row.name),
                "{} {}",
                row.method,
                row.path
            );
        }
    }
}

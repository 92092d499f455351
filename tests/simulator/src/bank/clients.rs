//! What clients ask, in whatever notation, and what they make of the answers.
//!
//! Each amount of a run is another one, so that a row of the books tells by its amount alone which request it came of.

use bank_server::dbs_exec::Position;
use serde_json::Value;

use crate::rng::Rng;

/// One receiver of a transfer.
#[derive(Clone, Debug)]
pub struct Leg {
    /// The branch.
    pub branch: usize,
    /// The account.
    pub account: u64,
    /// How much.
    pub paise: u64,
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub enum Want {
    /// Cash into an account.
    Deposit {
        /// Whose.
        account: u64,
        /// How much.
        paise: u64,
    },
    /// Cash out of one.
    Withdraw {
        /// Whose.
        account: u64,
        /// How much.
        paise: u64,
    },
    /// From one customer to another of the same branch.
    Local {
        /// Who pays.
        from: u64,
        /// Who is paid.
        to: u64,
        /// How much.
        paise: u64,
    },
    /// From one customer to others anywhere.
    Transfer {
        /// Who pays.
        from: u64,
        /// Who is paid.
        legs: Vec<Leg>,
        /// Whether it is asked for as a split, which may have one leg, too.
        is_split: bool,
    },
    /// A new account; its number is asked for, or the branch's to choose.
    Open {
        /// The number, if it is not the branch's to choose.
        number: Option<u64>,
        /// With how much.
        paise: u64,
    },
    /// The end of one.
    Close {
        /// Which.
        account: u64,
    },
}

/// What the client knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Nothing yet.
    Nothing,
    /// It was carried out, with this result.
    Done(Value),
    /// It was refused for good, with this code.
    Refused(String),
}

/// One request, from the first try to what its client makes of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its number in the run.
    pub number: usize,
    /// The branch that is asked.
    pub branch: usize,
    /// What for.
    pub want: Want,
    /// Whether it has an id, so that it can be repeated.
    pub has_id: bool,
    /// When it is sent next; never again when there is none.
    pub next_ms: Option<u64>,
    /// How often it was sent.
    pub tries: u64,
    /// What the client was told last.
    pub told: Told,
    /// The copy that is asked, where it is not the one that serves its branch.
    pub copy: Option<usize>,
    /// When it was sent first.
    pub first_ms: Option<u64>,
    /// Where the copy's log ended that said it was done.
    pub done_at: Option<DoneAt>,
}

/// When and where a request was said to be done.
#[derive(Clone, Copy, Debug)]
pub struct DoneAt {
    /// When.
    pub at_ms: u64,
    /// Where the log of the copy ended then.
    pub position: Option<Position>,
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It was carried out.
    Done,
    /// It was not, and will not be by this request.
    Refused,
    /// Nobody knows yet, or this was the wrong moment or place to ask.
    Later,
    /// Nothing was done, but a repeat may do it.
    NotNow,
}

/// Weighs an answer.
#[must_use]
pub fn weigh(body: &Value) -> Worth {
    if body["status"] == "ok" {
        return Worth::Done;
    }
    match body["code"].as_str().unwrap_or("") {
        "undecided" | "stopping" | "unconfirmed" | "outcome_unknown" | "database" | "" | "request_repeated" => {
            Worth::Later
        }
        "busy" | "not_primary" | "fenced" | "not_ready" | "replicas_missing" | "disk_full" | "epoch_conflict" => {
            Worth::NotNow
        }
        _ => Worth::Refused,
    }
}

impl Request {
    /// A request that is sent then.
    #[must_use]
    pub fn new(number: usize, branch: usize, want: Want, has_id: bool, next_ms: Option<u64>) -> Self {
        let (copy, first_ms, done_at) = (None, None, None);
        Self { number, branch, want, has_id, next_ms, tries: 0, told: Told::Nothing, copy, first_ms, done_at }
    }

    /// The id of its transfer, once the client was told.
    #[must_use]
    pub fn txid(&self) -> Option<&str> {
        match &self.told {
            Told::Done(result) => result["txid"].as_str(),
            Told::Nothing | Told::Refused(_) => None,
        }
    }

    /// The request as it goes over the wire, in a notation that is drawn anew for each try.
    #[must_use]
    pub fn body(&self, names: &[String], rng: &mut Rng) -> String {
        let mut fields: Vec<(&str, String)> = Vec::new();
        let action = match &self.want {
            Want::Deposit { account, paise } => {
                fields.extend([("account_no", account_text(*account, rng)), ("amount", amount_text(*paise, rng))]);
                "deposit"
            }
            Want::Withdraw { account, paise } => {
                fields.extend([("account_no", account_text(*account, rng)), ("amount", amount_text(*paise, rng))]);
                "withdraw"
            }
            Want::Local { from, to, paise } => {
                fields.extend([
                    ("src_account_no", account_text(*from, rng)),
                    ("dest_account_no", account_text(*to, rng)),
                    ("amount", amount_text(*paise, rng)),
                ]);
                "local_transfer"
            }
            Want::Transfer { from, legs, is_split: false } => {
                fields.extend([
                    ("src_account_no", account_text(*from, rng)),
                    ("dest_account_no", account_text(legs[0].account, rng)),
                    ("dest_branch", format!("\"{}\"", names[legs[0].branch])),
                    ("amount", amount_text(legs[0].paise, rng)),
                ]);
                "inter_branch_transfer"
            }
            Want::Transfer { from, legs, is_split: true } => {
                let legs: Vec<String> = legs.iter().map(|leg| self.leg_text(leg, names, rng)).collect();
                fields
                    .extend([("src_account_no", account_text(*from, rng)), ("legs", format!("[{}]", legs.join(",")))]);
                "split_transfer"
            }
            Want::Open { number, paise } => {
                fields.extend([
                    ("name", format!("\"Customer {}\"", letters(self.number))),
                    ("balance", amount_text(*paise, rng)),
                ]);
                fields.extend(number.map(|number| ("account_no", account_text(number, rng))));
                "create_account"
            }
            Want::Close { account } => {
                fields.push(("account_no", account_text(*account, rng)));
                "close_account"
            }
        };
        let id = if self.has_id { format!(",\"request_id\":\"r{}\"", self.number) } else { String::new() };
        format!("{{\"action\":\"{action}\",\"params\":{}{id}}}", object(fields, rng))
    }

    fn leg_text(&self, leg: &Leg, names: &[String], rng: &mut Rng) -> String {
        let mut fields = vec![("account_no", account_text(leg.account, rng)), ("amount", amount_text(leg.paise, rng))];
        if leg.branch != self.branch {
            fields.push(("dest_branch", format!("\"{}\"", names[leg.branch])));
        }
        object(fields, rng)
    }
}

/// An object with its fields in any order.
fn object(mut fields: Vec<(&str, String)>, rng: &mut Rng) -> String {
    for last in (1..fields.len()).rev() {
        fields.swap(last, rng.index(last + 1));
    }
    let blank = if rng.chance(300) { " " } else { "" };
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\":{blank}{value}")).collect();
    format!("{{{}}}", fields.join(if rng.chance(300) { ", " } else { "," }))
}

fn account_text(account: u64, rng: &mut Rng) -> String {
    if rng.chance(500) { account.to_string() } else { format!("\"{account}\"") }
}

fn amount_text(paise: u64, rng: &mut Rng) -> String {
    let (rupees, rest) = (paise / 100, paise % 100);
    let number = match rest {
        0 if rng.chance(500) => rupees.to_string(),
        _ if rest % 10 == 0 && rng.chance(500) => format!("{rupees}.{}", rest / 10),
        _ => format!("{rupees}.{rest:02}"),
    };
    if rng.chance(300) { format!("\"{number}\"") } else { number }
}

/// A number in letters, for a name.
fn letters(number: usize) -> String {
    number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'A')).collect()
}

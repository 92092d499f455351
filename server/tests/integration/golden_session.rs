//! The menu's dialogue, as transcripts: each file of `golden_session/` is named for what it claims.
//!
//! A transcript holds what goes in and what came out; `UPDATE_GOLDEN=1` writes the latter anew. In:
//!
//! ```text
//! # a comment
//! menu login.txt          the lines after it that begin with `|` stand in place of that file
//! as customer             begin with account 1001 logged in (or: as administrator), not shown
//! > line                  the client's answer; `>` alone is an empty one
//! ! too long              a bad line: too long, not utf-8, control
//! <- deposited 1050.00    the bank's reply to the request before it (see `Replies`)
//! <+ ...                  one more row of that reply
//! ```
//!
//! Out: `-> Request` for what the bank is asked, lines with four blanks in front as they go to the client, and
//! `(end)`. Each step is also checked against what the session promises of every step.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bank_server::bank::accounts::Account;
use bank_server::menu::{Input, MenuSession, Next, Refusal, Reply, Step, Texts};
use bank_server::service::operations::OperationResult;
use bank_server::service::reports::Page;
use protocol::answer::{
    Audit, Branch, Closed, Delivery, HistoryLine, LocalTransferred, NewBalance, Pending, TransferSide,
};
use protocol::menu_line::{BadLine, ServerLine};
use protocol::{AccountNum, Money, Total};

#[test]
fn transcripts_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_session");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 30, "only {} transcripts in {}", paths.len(), folder.display());
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut failures = Vec::new();
    for path in &paths {
        let script = fs::read_to_string(path).unwrap();
        let transcript = Player::play(path, &script);
        if update {
            fs::write(path, &transcript).unwrap();
        } else if let Some(line) = first_difference(&script, &transcript) {
            failures.push(format!("{}:{line}", path.display()));
        }
    }
    assert!(failures.is_empty(), "these claims no longer hold:\n{}", failures.join("\n"));
}

/// The first line in which two texts differ, with both versions.
fn first_difference(expected: &str, actual: &str) -> Option<String> {
    if expected == actual {
        return None;
    }
    let mut lines = expected.lines().zip(actual.lines()).enumerate();
    let differing = lines.find(|(_, (expected, actual))| expected != actual);
    Some(match differing {
        Some((index, (expected, actual))) => format!("{}\n  expected {expected}\n  actual   {actual}", index + 1),
        None => format!(" {} lines expected, {} came", expected.lines().count(), actual.lines().count()),
    })
}

/// Plays one script.
struct Player {
    place: String,
    session: Option<MenuSession>,
    menus: BTreeMap<String, String>,
    /// What the session waits for.
    wants: Wants,
    transcript: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    Line,
    Reply,
    Nothing,
}

impl Player {
    fn play(path: &Path, script: &str) -> String {
        let mut player = Self {
            place: String::new(),
            session: None,
            menus: BTreeMap::new(),
            wants: Wants::Nothing,
            transcript: String::new(),
        };
        let is_input = |line: &&str| !line.is_empty() && !line.starts_with([' ', '-', '(']);
        let lines: Vec<&str> = script.lines().filter(is_input).collect();
        let mut index = 0;
        let mut menu = String::new();
        while let Some(&line) = lines.get(index) {
            player.place = format!("{}: {line}", path.display());
            index += 1;
            let row_count = lines[index..].iter().take_while(|line| line.starts_with("<+")).count();
            let rows = &lines[index..index + row_count];
            index += row_count;
            if let Some(name) = line.strip_prefix("menu ") {
                menu = name.to_string();
            } else if let Some(text) = line.strip_prefix('|') {
                player.menus.entry(menu.clone()).or_default().push_str(&format!("{}\n", text.trim_start()));
            } else if player.session.is_none() && !line.starts_with('#') {
                player.start(line);
            }
            if !line.starts_with("as ") {
                player.write(line);
            }
            rows.iter().for_each(|row| player.write(row));
            player.input(line, rows);
        }
        assert_ne!(player.transcript, "", "{} holds nothing", path.display());
        player.transcript
    }

    fn write(&mut self, line: &str) {
        self.transcript.push_str(line.trim_end());
        self.transcript.push('\n');
    }

    /// Starts the session, at the first line that is input to it.
    fn start(&mut self, line: &str) {
        let texts = if self.menus.is_empty() {
            Texts::built_in()
        } else {
            let folder = tempfile::tempdir().unwrap();
            for name in ["login.txt", "customer.txt", "admin.txt"] {
                let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../menus").join(name);
                let text = self.menus.get(name).cloned().unwrap_or_else(|| fs::read_to_string(built_in).unwrap());
                fs::write(folder.path().join(name), text).unwrap();
            }
            Texts::load(folder.path()).unwrap()
        };
        let mut session = MenuSession::new(Arc::new(texts), "Mumbai".parse().unwrap());
        let step = session.step(Input::Start);
        self.session = Some(session);
        match line {
            "as customer" => self.log_in(line, "1001"),
            "as administrator" => self.log_in(line, "0"),
            _ => self.show(step),
        }
    }

    /// Logs in and shows only the menu that this ends in.
    fn log_in(&mut self, line: &str, account: &str) {
        let session = self.session.as_mut().unwrap();
        for answer in ["a", account, "password"] {
            let _ = session.step(Input::Line(answer.into()));
        }
        let mut step = session.step(Input::Reply(Ok(Reply::LoggedIn)));
        if let Next::Dispatch(_) = step.next {
            step = session.step(Input::Reply(Replies::read("account 1000.00 0.00 Asha Rao", &[])));
        }
        self.write(line);
        self.show(step);
    }

    fn input(&mut self, line: &str, rows: &[&str]) {
        let (wanted, input) = if let Some(answer) = line.strip_prefix('>') {
            (Wants::Line, Input::Line(answer.strip_prefix(' ').unwrap_or(answer).to_string()))
        } else if let Some(bad) = line.strip_prefix("! ") {
            let bad = match bad {
                "too long" => BadLine::TooLong,
                "not utf-8" => BadLine::NotUtf8,
                "control" => BadLine::Control,
                other => panic!("{}: no bad line is called {other:?}", self.place),
            };
            (Wants::Line, Input::BadLine(bad))
        } else if let Some(reply) = line.strip_prefix("<- ") {
            (Wants::Reply, Input::Reply(Replies::read(reply, rows)))
        } else {
            let is_known = ["#", "|", "menu ", "as "].iter().any(|start| line.starts_with(start));
            assert!(is_known, "{}: what is this?", self.place);
            return;
        };
        assert_eq!(self.wants, wanted, "{}: the session waits for something else", self.place);
        let step = self.session.as_mut().unwrap().step(input);
        self.show(step);
    }

    /// Writes a step down, after checking what is promised of every step.
    fn show(&mut self, step: Step) {
        let place = &self.place;
        let is_question =
            |line: &ServerLine| matches!(line, ServerLine::Prompt(_) | ServerLine::Pass(_) | ServerLine::Pause(_));
        let questions = step.lines.iter().filter(|line| is_question(line)).count();
        let exits = step.lines.iter().filter(|line| matches!(line, ServerLine::Exit(_))).count();
        let clears = step.lines.iter().skip(1).filter(|line| **line == ServerLine::Clear).count();
        assert_eq!(clears, 0, "{place}: cleared in the middle");
        self.wants = match &step.next {
            Next::Answer => {
                assert!(
                    step.lines.last().is_some_and(is_question) && questions == 1 && exits == 0,
                    "{place}: {step:?}"
                );
                Wants::Line
            }
            Next::Dispatch(_) => {
                assert!(step.lines.is_empty(), "{place}: {step:?}");
                Wants::Reply
            }
            Next::End => {
                let exit_is_last = matches!(step.lines.last(), Some(ServerLine::Exit(_)));
                assert!(exit_is_last && questions == 0 && exits == 1, "{place}: {step:?}");
                Wants::Nothing
            }
        };
        if let Some(ServerLine::Prompt(text) | ServerLine::Pass(text)) = step.lines.last() {
            // A transcript has no blanks at the ends of its lines, so this one is checked here.
            let one_blank = text.ends_with(' ') && !text.ends_with("  ");
            assert!(text.is_ascii() && one_blank, "{place}: {text:?}");
        }
        for line in &step.lines {
            self.write(&format!("    {line}"));
        }
        match step.next {
            Next::Answer => {}
            Next::Dispatch(request) => self.write(&format!("-> {request:?}")),
            Next::End => self.write("(end)"),
        }
    }
}

/// Replies in a compact form: a name, then values in order; rows follow in lines of their own.
struct Replies;

impl Replies {
    fn read(text: &str, rows: &[&str]) -> Result<Reply, Refusal> {
        let rows: Vec<&str> = rows.iter().map(|row| row.trim_start_matches("<+").trim()).collect();
        let (text, next) = text.split_once(" next ").map_or((text, None), |(text, next)| (text, Some(next)));
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words.as_slice() {
            ["refused", "log", "in"] => return Err(Refusal::log_in()),
            ["refused", reason @ ..] => return Err(Refusal::new(reason.join(" "))),
            ["logged", "in"] => Reply::LoggedIn,
            ["logged", "out"] => Reply::LoggedOut,
            ["account", balance, held, name @ ..] => Reply::Account(Account {
                held: money(held),
                ..Self::account_of(account("1001"), &name.join(" "), balance)
            }),
            ["deposited", balance] => Reply::Done(OperationResult::NewBalance(NewBalance { balance: money(balance) })),
            ["withdrawn", balance] => Reply::Done(OperationResult::NewBalance(NewBalance { balance: money(balance) })),
            ["transferred", balance] => {
                let side = TransferSide { account: account("1001"), balance: money(balance) };
                let done = LocalTransferred { from: side.clone(), to: side, amount: Money::ZERO };
                Reply::Done(OperationResult::Transferred(done))
            }
            ["transferred", balance, delivery, txid] => {
                let delivery = if *delivery == "done" { Delivery::Done } else { Delivery::Pending };
                Reply::Transferred { balance: Some(money(balance)), txid: txid.parse().unwrap(), delivery }
            }
            ["password", "changed"] => Reply::PasswordChanged,
            ["opened", number, balance] => Reply::Opened { account: account(number), opening_balance: money(balance) },
            ["resolved"] => Reply::Resolved,
            ["closed", number, balance] => {
                let done = Closed { account_no: account(number), paid_out: money(balance) };
                Reply::Done(OperationResult::Closed(done))
            }
            ["accounts"] => {
                Reply::Accounts(page(many(&rows, Self::account), next, |row: &Account| row.number.to_string()))
            }
            ["transactions"] => {
                let place = |row: &HistoryLine| row.transaction_id.to_string();
                Reply::Transactions(page(many(&rows, Self::transaction), next, place))
            }
            ["audit", balances, in_transit, paid_in, paid_out] => Reply::Audit(Box::new(Audit {
                findings: rows.iter().map(ToString::to_string).collect(),
                balances: total(balances),
                in_transit: total(in_transit),
                paid_in: total(paid_in),
                paid_out: total(paid_out),
                ..Audit::default()
            })),
            ["branches"] => {
                let of = |kind| rows.iter().filter_map(move |row| row.strip_prefix(kind)).collect::<Vec<_>>();
                let in_doubt = of("doubt ").into_iter().map(Self::in_doubt).collect();
                Reply::Branches {
                    branches: of("branch ").into_iter().map(Self::branch).collect(),
                    in_doubt: page(in_doubt, next, |row: &Pending| row.txid.to_string()),
                }
            }
            _ => panic!("no reply is called {text:?}"),
        })
    }

    fn account_of(number: AccountNum, name: &str, balance: &str) -> Account {
        let (first_name, last_name) = name.split_once(' ').unwrap_or((name, ""));
        Account {
            number,
            first_name: first_name.into(),
            last_name: last_name.into(),
            aadhaar: None,
            phone: None,
            sms: false,
            balance: money(balance),
            held: Money::ZERO,
            incoming: Money::ZERO,
            is_open: true,
        }
    }

    fn account(row: &str) -> Account {
        let [number, name, aadhaar_masked, phone, sms, balance, held, status] = fields(row);
        // Of the number that is behind the mask only the last four digits are shown.
        let aadhaar = aadhaar_masked.strip_prefix("XXXX XXXX ").map(|last| format!("12345678{last}"));
        Account {
            aadhaar,
            phone: Some(phone).filter(|phone| !phone.is_empty()),
            sms: sms == "yes",
            held: money(&held),
            is_open: status == "open",
            ..Self::account_of(account(&number), &name, &balance)
        }
    }

    fn transaction(row: &str) -> HistoryLine {
        let [transaction_id, date, kind, from_account, to_account, amount, txid] = fields(row);
        HistoryLine {
            transaction_id: transaction_id.parse().unwrap(),
            date,
            kind,
            from_account,
            to_account,
            amount: money(&amount),
            txid: Some(txid).filter(|txid| !txid.is_empty()).map(|txid| txid.parse().unwrap()),
            leg: None,
            peer: None,
            note: None,
        }
    }

    fn branch(row: &str) -> Branch {
        let [name, address, state] = fields(row);
        Branch { name, address, state }
    }

    fn in_doubt(row: &str) -> Pending {
        let [txid, account, kind, amount, coordinator, answers, age_seconds] = fields(row);
        Pending {
            txid: txid.parse().unwrap(),
            state: "prepared".into(),
            why: None,
            legs: vec![format!("{kind} {amount} at {account}")],
            coordinator: Some(coordinator),
            coordinator_answers: answers == "yes",
            age_seconds: age_seconds.parse().unwrap(),
        }
    }
}

/// Reads rows. One that begins with `FIRST..LAST |` stands for as many rows, `{}` in it for each number.
fn many<T>(rows: &[&str], read: impl Fn(&str) -> T) -> Vec<T> {
    let mut all = Vec::new();
    for row in rows {
        let Some((first, last)) = row.split('|').next().and_then(|number| number.trim().split_once("..")) else {
            all.push(read(row));
            continue;
        };
        let (first, last): (i64, i64) = (first.parse().unwrap(), last.parse().unwrap());
        let numbers: Vec<i64> = if first <= last { (first..=last).collect() } else { (last..=first).rev().collect() };
        let rest = row.split_once('|').unwrap().1;
        all.extend(numbers.iter().map(|number| read(&format!("{number}|{}", rest.replace("{}", &number.to_string())))));
    }
    all
}

/// A page; with `next`, the place of its last row, the list goes on behind it.
fn page<T>(rows: Vec<T>, next: Option<&str>, place: impl Fn(&T) -> String) -> Page<T> {
    if let (Some(next), Some(last)) = (next, rows.last()) {
        assert_eq!(place(last), next, "a list goes on behind its last row");
    }
    Page { rows, has_more: next.is_some() }
}

fn fields<const N: usize>(row: &str) -> [String; N] {
    let fields: Vec<String> = row.split('|').map(|field| field.trim().to_string()).collect();
    fields.try_into().unwrap_or_else(|_| panic!("{row:?} has not {N} fields"))
}

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

fn total(text: &str) -> Total {
    serde_json::from_str(text).unwrap()
}

fn account(text: &str) -> AccountNum {
    text.parse().unwrap()
}

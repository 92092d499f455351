//! Golden scripts: each file under `golden/` is one claim, shown as inputs and what the machines put out.
//!
//! A block is some commands, `---`, and what they put out; `#` begins a comment. `UPDATE_GOLDEN=1` rewrites
//! the outputs. A command names the machine first:
//!
//! ```text
//! coordinator begin TXID LEG…                  a leg is -ACCOUNT=AMOUNT or +ACCOUNT=AMOUNT, with @BRANCH if elsewhere
//! coordinator from PEER vote TXID yes          or: no CODE TEXT…; ack TXID OUTCOME [mixed]; rejected TXID [CODE TEXT…]
//! coordinator from PEER inquiry TXID           [booked BRANCH… | booked unclear]
//! participant from PEER prepare TXID LEG…      [coordinator PEER|nobody] [disk committed|aborted|mixed]
//! participant from PEER decision TXID OUTCOME  [disk …]; undecided TXID
//! MACHINE resolve TXID OUTCOME REASON…
//! MACHINE written TXID | refused TXID CODE TEXT… | tick NOW | crash | recover | reconnected PEER
//! coordinator unreachable TXID PEER | cancel TXID TEXT… | status TXID
//! participant in_doubt
//! options NAME=NUMBER…                         before anything else
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::{Money, TxId};
use two_phase_commit::{
    Booked, Coordinator, Leg, Message, OnDisk, Options, Outcome, Output, Participant, PeerAddr, Record, Refusal, Side,
    Transfer, Vote,
};

#[test]
fn golden_scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 25, "{} scripts only", paths.len());
    let mut wrong = Vec::new();
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        let actual = run(&script, &path);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, actual).unwrap();
        } else if actual != script {
            wrong.push(format!("{}\n{}", path.display(), difference(&script, &actual)));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 accepts these:\n{}", wrong.join("\n"));
}

/// The lines from the first that differs on.
fn difference(expected: &str, actual: &str) -> String {
    let same = expected.lines().zip(actual.lines()).take_while(|(left, right)| left == right).count();
    let tail = |text: &str| text.lines().skip(same).take(6).collect::<Vec<_>>().join("\n    ");
    format!("  line {}\n  expected:\n    {}\n  actual:\n    {}", same + 1, tail(expected), tail(actual))
}

fn run(script: &str, path: &Path) -> String {
    let mut world = World::new();
    let mut text = String::new();
    for block in script.split("\n\n") {
        let input = block.split("\n---").next().unwrap().trim_matches('\n');
        if input.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        writeln!(text, "{input}").unwrap();
        let commands: Vec<&str> = input.lines().filter(|line| !line.starts_with('#')).collect();
        if commands.is_empty() {
            continue;
        }
        let mut shown = String::new();
        for command in &commands {
            let lines = world.command(command).unwrap_or_else(|| panic!("{}: {command}", path.display()));
            if commands.len() > 1 {
                writeln!(shown, "> {command}").unwrap();
            }
            for line in lines {
                writeln!(shown, "{line}").unwrap();
            }
        }
        write!(text, "---\n{shown}").unwrap();
    }
    text
}

struct World {
    options: Options,
    coordinator: Coordinator,
    participant: Participant,
    /// What is durable: the records of each output that was confirmed.
    log: Vec<Record>,
    /// What is being written, by machine and transaction.
    pending: BTreeMap<(String, TxId), Vec<Record>>,
}

impl World {
    fn new() -> Self {
        let mut options = Options::new("Mumbai".into());
        options.jitter_seed = 1;
        let mut world = Self {
            coordinator: Coordinator::new(options.clone()),
            participant: Participant::new(options.clone()),
            options,
            log: Vec::new(),
            pending: BTreeMap::new(),
        };
        let _ = world.coordinator.recover([]);
        let _ = world.participant.recover([]);
        world
    }

    fn command(&mut self, command: &str) -> Option<Vec<String>> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let lines = match words[..] {
            ["coordinator", ref words @ ..] => self.coordinate(words)?,
            ["participant", ref words @ ..] => self.participate(words)?,
            ["options", ref settings @ ..] => {
                settings.iter().try_for_each(|setting| self.set(setting))?;
                let log = std::mem::take(&mut self.log);
                *self = Self { options: self.options.clone(), log, ..Self::new() };
                self.coordinator = Coordinator::new(self.options.clone());
                self.participant = Participant::new(self.options.clone());
                let _ = self.coordinator.recover([]);
                let _ = self.participant.recover([]);
                vec!["ok".to_owned()]
            }
            _ => return None,
        };
        self.coordinator.check_invariants();
        self.participant.check_invariants();
        Some(lines)
    }

    fn set(&mut self, setting: &str) -> Option<()> {
        let (name, number) = setting.split_once('=')?;
        let number: u64 = number.parse().ok()?;
        match name {
            "vote_timeout" => self.options.vote_timeout_ticks = number,
            "commit_retention" => self.options.commit_retention_ticks = number,
            "settled_retention" => self.options.settled_retention_ticks = number,
            "coordinated_max" => self.options.coordinated_max = usize::try_from(number).ok()?,
            "prepared_max" => self.options.prepared_max = usize::try_from(number).ok()?,
            "retained_max" => self.options.retained_max = usize::try_from(number).ok()?,
            _ => return None,
        }
        Some(())
    }

    fn coordinate(&mut self, words: &[&str]) -> Option<Vec<String>> {
        let outputs = match words {
            ["begin", txid, legs @ ..] => {
                match self.coordinator.begin(txid.parse().ok()?, parse_legs(legs)?, "a note") {
                    Ok(output) => vec![output],
                    Err(error) => return Some(vec![format!("error  {error}")]),
                }
            }
            ["from", peer, "inquiry", txid, "booked", parties @ ..] => {
                let booked = match parties {
                    ["unclear"] => Booked::Unclear,
                    parties => Booked::Committed(parties.iter().map(|party| PeerAddr::new(party)).collect()),
                };
                let inquiry = Message::Inquiry { txid: txid.parse().ok()? };
                vec![self.coordinator.step(&PeerAddr::new(peer), &inquiry, &booked)]
            }
            ["from", peer, message @ ..] => {
                vec![self.coordinator.step(&PeerAddr::new(peer), &parse_message(message)?, &Booked::Nothing)]
            }
            ["resolve", txid, outcome, reason @ ..] => {
                let (txid, outcome) = (txid.parse().ok()?, parse_outcome(outcome)?);
                match self.coordinator.resolve_by_hand(&txid, outcome, &reason.join(" ")) {
                    Ok(output) => vec![output],
                    Err(error) => return Some(vec![format!("error  {error}")]),
                }
            }
            ["written", txid] => {
                let txid = self.confirm("coordinator", txid)?;
                vec![self.coordinator.on_durable(&txid)]
            }
            ["refused", txid, code, text @ ..] => {
                let txid = self.undo("coordinator", txid)?;
                vec![self.coordinator.on_hold_refused(&txid, parse_refusal(code, text))]
            }
            ["unreachable", txid, peer] => {
                vec![self.coordinator.unreachable(&txid.parse().ok()?, &PeerAddr::new(peer))]
            }
            ["cancel", txid, text @ ..] => vec![self.coordinator.cancel(&txid.parse().ok()?, &text.join(" "))],
            ["tick", now] => self.coordinator.tick(now.parse().ok()?),
            ["reconnected", peer] => {
                self.coordinator.reconnected(&PeerAddr::new(peer));
                vec![]
            }
            ["status", txid] => {
                return Some(vec![format!("status {:?}", self.coordinator.status(&txid.parse().ok()?))]);
            }
            ["crash"] => {
                self.pending.retain(|(machine, _), _| machine != "coordinator");
                self.coordinator = Coordinator::new(self.options.clone());
                return Some(vec!["memory is gone".to_owned()]);
            }
            ["recover"] => self.coordinator.recover(self.log.clone()),
            _ => return None,
        };
        let state = |world: &Self, txid: &TxId| format!("{:?}", world.coordinator.state(txid));
        Some(self.show("coordinator", outputs, state))
    }

    fn participate(&mut self, words: &[&str]) -> Option<Vec<String>> {
        let outputs = match words {
            ["from", peer, message @ ..] => {
                let (message, on_disk) = match message {
                    [message @ .., "disk", "committed"] => (message, OnDisk::Settled(Outcome::Committed)),
                    [message @ .., "disk", "aborted"] => (message, OnDisk::Settled(Outcome::Aborted)),
                    [message @ .., "disk", "mixed"] => (message, OnDisk::Mixed),
                    message => (message, OnDisk::Nothing),
                };
                vec![self.participant.step(&PeerAddr::new(peer), &parse_message(message)?, on_disk)]
            }
            ["written", txid] => {
                let txid = self.confirm("participant", txid)?;
                vec![self.participant.on_durable(&txid)]
            }
            ["refused", txid, code, text @ ..] => {
                let txid = self.undo("participant", txid)?;
                vec![self.participant.on_hold_refused(&txid, parse_refusal(code, text))]
            }
            ["resolve", txid, outcome, reason @ ..] => {
                let (txid, outcome) = (txid.parse().ok()?, parse_outcome(outcome)?);
                match self.participant.resolve_by_hand(&txid, outcome, &reason.join(" ")) {
                    Ok(output) => vec![output],
                    Err(error) => return Some(vec![format!("error  {error}")]),
                }
            }
            ["tick", now] => self.participant.tick(now.parse().ok()?),
            ["reconnected", peer] => {
                self.participant.reconnected(&PeerAddr::new(peer));
                vec![]
            }
            ["in_doubt"] => {
                let shown = self.participant.in_doubt().map(|doubt| {
                    let coordinator = doubt.transfer.coordinator.as_ref().map_or("nobody", PeerAddr::as_str);
                    let answers = if doubt.is_unanswered { "no answer" } else { "no question open" };
                    format!("doubt  {} since {}, coordinator {coordinator}, {answers}", doubt.transfer, doubt.since)
                });
                let lines: Vec<String> = shown.collect();
                return Some(if lines.is_empty() { vec!["nothing in doubt".to_owned()] } else { lines });
            }
            ["crash"] => {
                self.pending.retain(|(machine, _), _| machine != "participant");
                self.participant = Participant::new(self.options.clone());
                return Some(vec!["memory is gone".to_owned()]);
            }
            ["recover"] => self.participant.recover(self.log.clone()),
            _ => return None,
        };
        let state = |world: &Self, txid: &TxId| format!("{:?}", world.participant.state(txid));
        Some(self.show("participant", outputs, state))
    }

    /// The write for a transaction is durable from now on.
    fn confirm(&mut self, machine: &str, txid: &str) -> Option<TxId> {
        let txid: TxId = txid.parse().ok()?;
        let records = self.pending.remove(&(machine.to_owned(), txid.clone()))?;
        self.log.extend(records);
        Some(txid)
    }

    fn undo(&mut self, machine: &str, txid: &str) -> Option<TxId> {
        let txid: TxId = txid.parse().ok()?;
        self.pending.remove(&(machine.to_owned(), txid.clone()))?;
        Some(txid)
    }

    fn show(&mut self, machine: &str, outputs: Vec<Output>, state: impl Fn(&Self, &TxId) -> String) -> Vec<String> {
        let mut lines = Vec::new();
        for output in outputs {
            for record in &output.records {
                lines.push(format!("{}  {record}", if record.is_forced() { "force" } else { "write" }));
            }
            lines.extend(output.ledger_ops.iter().map(|op| format!("ledger {op}")));
            lines.extend(output.messages.iter().map(|envelope| format!("send   {envelope}")));
            lines.extend(output.notices.iter().map(|notice| format!("tell   {notice}")));
            lines.push(format!("state  {} {}", output.txid, state(self, &output.txid)));
            if output.needs_write() {
                let busy = self.pending.insert((machine.to_owned(), output.txid.clone()), output.records);
                assert!(busy.is_none(), "two writes under way for {}", output.txid);
            }
        }
        if lines.is_empty() {
            lines.push("nothing".to_owned());
        }
        lines
    }
}

fn parse_outcome(text: &str) -> Option<Outcome> {
    match text {
        "committed" => Some(Outcome::Committed),
        "aborted" => Some(Outcome::Aborted),
        _ => None,
    }
}

fn parse_refusal(code: &str, text: &[&str]) -> Refusal {
    Refusal::new(code.to_owned(), text.join(" "))
}

/// Reads `-1001=50` or `+1002@Delhi=50`, and numbers the legs; a leg may bring its number as `3:-1001=50`.
fn parse_legs(words: &[&str]) -> Option<Vec<Leg>> {
    let numbered = (0_u32..).zip(words);
    numbered
        .map(|(position, word)| {
            let (index, word) = match word.split_once(':') {
                Some((index, word)) => (index.parse().ok()?, word),
                None => (position, *word),
            };
            let side = if word.starts_with('-') { Side::Withdraw } else { Side::Deposit };
            let (place, amount) = word.get(1..)?.split_once('=')?;
            let (account, branch) = match place.split_once('@') {
                Some((account, branch)) => (account, Some(PeerAddr::new(branch))),
                None => (place, None),
            };
            let amount: Money = amount.parse().ok()?;
            Some(Leg { index, branch, account: account.parse().ok()?, amount, side })
        })
        .collect()
}

fn parse_message(words: &[&str]) -> Option<Message> {
    let txid = |text: &str| text.parse::<TxId>().ok();
    Some(match words {
        ["prepare", id, legs @ .., "coordinator", coordinator] => {
            let coordinator = (*coordinator != "nobody").then(|| PeerAddr::new(coordinator));
            let (legs, note) = (parse_legs(legs)?, "a note".into());
            Message::Prepare(Arc::new(Transfer { txid: txid(id)?, coordinator, legs, note, by_program: false }))
        }
        ["vote", id, "yes"] => Message::Vote { txid: txid(id)?, vote: Vote::Yes },
        ["vote", id, "no", code, text @ ..] => {
            Message::Vote { txid: txid(id)?, vote: Vote::No(parse_refusal(code, text)) }
        }
        ["decision", id, outcome] => Message::Decision { txid: txid(id)?, outcome: parse_outcome(outcome)? },
        ["ack", id, outcome] => {
            Message::Acknowledged { txid: txid(id)?, outcome: parse_outcome(outcome)?, mixed: false }
        }
        ["ack", id, outcome, "mixed"] => {
            Message::Acknowledged { txid: txid(id)?, outcome: parse_outcome(outcome)?, mixed: true }
        }
        ["inquiry", id] => Message::Inquiry { txid: txid(id)? },
        ["undecided", id] => Message::Undecided { txid: txid(id)? },
        ["rejected", id, code, text @ ..] => Message::Rejected { txid: txid(id)?, refusal: parse_refusal(code, text) },
        ["rejected", id] => {
            Message::Rejected { txid: txid(id)?, refusal: Refusal::new("not_prepared", "nothing is prepared") }
        }
        _ => return None,
    })
}

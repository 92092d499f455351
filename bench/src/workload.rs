//! What is asked of a branch: the mix of operations, as frames that are ready to send.
//!
//! A request is written once, by the protocol's own types, with placeholders where accounts and the
//! request's id stand. All account numbers of a benchmark have the same number of digits, so making the
//! next request is copying that text and filling in digits: the load costs the machine next to nothing,
//! which it shares with the branches.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::frame::{BATCH_FRAME_BYTES_MAX, FRAME_BYTES_MAX, HEADER_BYTES};
use protocol::request::{AccountAmount, Action, InterBranchTransfer, LocalTransfer, OneAccount, write_request};
use protocol::{AccountNum, Money};

use crate::random::Random;

/// The number of a benchmark's first account; those of people are far below.
const FIRST_ACCOUNT_NUM: u64 = 1_000_000;
/// The most accounts, so that each number has seven digits.
pub const ACCOUNTS_MAX: u64 = 9_000_000;
/// What a movement moves.
pub const AMOUNT: Money = match Money::from_paise(1) {
    Some(amount) => amount,
    None => panic!("a paisa is an amount"),
};
/// What an account starts with: enough for a billion movements of [`AMOUNT`].
pub const OPENING_BALANCE: Money = Money::from_rupees(10_000_000);

/// Digits of an account number.
const ACCOUNT_DIGITS: usize = 7;
/// Stands where the payer's number goes; has as many digits.
const SOURCE_PLACEHOLDER: u64 = 1_111_111;
/// Stands where the receiver's number goes.
const DESTINATION_PLACEHOLDER: u64 = 2_222_222;
/// Stands where the request's id goes: the time in milliseconds and a number, in hexadecimal, as the bank's own clients
/// draw it. A branch keeps answers in the order of their ids, so it matters to it that they grow with the time.
const ID_PLACEHOLDER: &str = "############################";
/// Those of them that are the time.
const ID_TIME_DIGITS: usize = 12;

/// The number of the account with that index, counted from 0.
pub const fn account_num(index: u64) -> u64 {
    FIRST_ACCOUNT_NUM + index
}

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Cash into an account.
    Deposit,
    /// A look at an account.
    Balance,
    /// Between two accounts of the branch.
    LocalTransfer,
    /// To an account of the other branch.
    InterBranchTransfer,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Deposit, Self::Balance, Self::LocalTransfer, Self::InterBranchTransfer];

    const fn name(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Balance => "balance",
            Self::LocalTransfer => "transfer",
            Self::InterBranchTransfer => "inter-branch",
        }
    }
}

/// How often each kind is drawn: `transfer`, or weights as in `transfer=7,balance=3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(Vec<(Kind, u64)>);

impl Mix {
    /// Nothing but that kind.
    pub fn only(kind: Kind) -> Self {
        Self(vec![(kind, 1)])
    }

    /// Whether another branch is needed.
    pub fn is_between_branches(&self) -> bool {
        self.0.iter().any(|(kind, _)| *kind == Kind::InterBranchTransfer)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (kind, weight)) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(f, "{comma}{}={weight}", kind.name())?;
        }
        Ok(())
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
                let names = Kind::ALL.map(Kind::name).join(", ");
                format!("there is no operation {name:?}: there are {names}")
            })?;
            let weight: u32 = weight.parse().map_err(|_| format!("{weight:?} is no weight, such as 3"))?;
            if weight > 0 {
                mix.push((kind, u64::from(weight)));
            }
        }
        if mix.is_empty() { Err("a mix needs an operation with a weight above 0".into()) } else { Ok(Self(mix)) }
    }
}

/// What the requests of one load have in common.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How often each kind is drawn.
    pub mix: Mix,
    /// Requests in one frame; above 1 they go as a `batch`.
    pub batch: usize,
    /// Accounts at each branch.
    pub accounts: u64,
    /// Whether each write carries a `request_id`.
    pub request_ids: bool,
    /// Host and port of the other branch, when the mix needs one.
    pub other_branch: Option<(String, u16)>,
}

/// Makes the frames of one connection.
pub struct Requests {
    templates: Vec<(Template, u64)>,
    weights: u64,
    batch: usize,
    accounts: u64,
    random: Random,
    /// The next request's number; each connection has a range of its own.
    next_id: u64,
}

/// One kind's request with the places of what changes.
struct Template {
    text: Vec<u8>,
    source: Option<usize>,
    destination: Option<usize>,
    id: Option<usize>,
}

impl Requests {
    /// Requests drawn by `seed`, which no other connection of the benchmark has.
    ///
    /// # Errors
    /// One sentence when the workload can't be written as requests.
    pub fn new(workload: &Workload, seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed);
        let templates = workload.mix.0.iter().map(|(kind, weight)| Ok((Template::new(*kind, workload)?, *weight)));
        let templates = templates.collect::<Result<Vec<_>, String>>()?;
        let weights = templates.iter().map(|(_, weight)| weight).sum();
        let next_id = random.next();
        let requests = Self { templates, weights, batch: workload.batch, accounts: workload.accounts, random, next_id };
        let longest = requests.templates.iter().map(|(template, _)| template.text.len() + 1).max().unwrap_or(0);
        let bytes_max = if workload.batch > 1 { BATCH_FRAME_BYTES_MAX } else { FRAME_BYTES_MAX };
        if longest * workload.batch + BATCH_HEAD.len() + BATCH_TAIL.len() > bytes_max {
            return Err(format!("a batch of {} requests is longer than a frame may be", workload.batch));
        }
        Ok(requests)
    }

    /// Appends the next frame.
    pub fn push_frame(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        if self.batch > 1 {
            out.extend_from_slice(BATCH_HEAD);
            for position in 0..self.batch {
                if position > 0 {
                    out.push(b',');
                }
                self.push_request(out);
            }
            out.extend_from_slice(BATCH_TAIL);
        } else {
            self.push_request(out);
        }
        let length = u32::try_from(out.len() - start - HEADER_BYTES).expect("a frame's length was checked");
        out[start..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    fn push_request(&mut self, out: &mut Vec<u8>) {
        let template = self.draw();
        let (source, destination) = self.random.pair(self.accounts);
        let (template, _) = &self.templates[template];
        let start = out.len();
        out.extend_from_slice(&template.text);
        for (place, index) in [(template.source, source), (template.destination, destination)] {
            if let Some(place) = place {
                write_digits(&mut out[start + place..][..ACCOUNT_DIGITS], account_num(index));
            }
        }
        if let Some(place) = template.id {
            let id = &mut out[start + place..][..ID_PLACEHOLDER.len()];
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            write_hex(&mut id[..ID_TIME_DIGITS], u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX));
            write_hex(&mut id[ID_TIME_DIGITS..], self.next_id);
            self.next_id = self.next_id.wrapping_add(1);
        }
    }

    /// The position of a template, by the weights.
    fn draw(&mut self) -> usize {
        if self.templates.len() == 1 {
            return 0;
        }
        let mut drawn = self.random.below(self.weights);
        for (position, (_, weight)) in self.templates.iter().enumerate() {
            if drawn < *weight {
                return position;
            }
            drawn -= weight;
        }
        unreachable!("what is drawn is below the sum of the weights")
    }
}

/// What stands before and after the requests of a `batch`.
const BATCH_HEAD: &[u8] = br#"{"action":"batch","params":{"requests":["#;
const BATCH_TAIL: &[u8] = b"]}}";

impl Template {
    fn new(kind: Kind, workload: &Workload) -> Result<Self, String> {
        let account = |number| AccountNum::new(number).expect("a placeholder is in range");
        let (source, destination) = (account(SOURCE_PLACEHOLDER), account(DESTINATION_PLACEHOLDER));
        let writes = kind != Kind::Balance;
        let id = (workload.request_ids && writes).then_some(ID_PLACEHOLDER);
        let amount = AMOUNT.into();
        let text = match kind {
            Kind::Deposit => write_request(Action::Deposit, &AccountAmount { account_no: source, amount }, id),
            Kind::Balance => write_request(Action::Balance, &OneAccount { account_no: source }, id),
            Kind::LocalTransfer => {
                let params = LocalTransfer { src_account_no: source, dest_account_no: destination, amount };
                write_request(Action::LocalTransfer, &params, id)
            }
            Kind::InterBranchTransfer => {
                let (host, port) =
                    workload.other_branch.clone().ok_or("a transfer between branches needs another branch")?;
                let params = InterBranchTransfer {
                    src_account_no: source,
                    dest_account_no: destination,
                    amount,
                    dest_branch: None,
                    dest_host: Some(host),
                    dest_port: Some(port),
                };
                write_request(Action::InterBranchTransfer, &params, id)
            }
        };
        let text = text.map_err(|error| error.to_string())?;
        Ok(Self {
            source: find(&text, &SOURCE_PLACEHOLDER.to_string()),
            destination: find(&text, &DESTINATION_PLACEHOLDER.to_string()),
            id: find(&text, ID_PLACEHOLDER),
            text,
        })
    }
}

fn find(text: &[u8], wanted: &str) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted.as_bytes())
}

fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789"[(number % 10) as usize];
        number /= 10;
    }
}

fn write_hex(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % 16) as usize];
        number /= 16;
    }
}

const _: () = assert!(FIRST_ACCOUNT_NUM + ACCOUNTS_MAX <= 10_000_000, "every account number has seven digits");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use protocol::frame::read_frame;
    use protocol::request::{Batch, RequestFrame};

    use super::*;

    fn workload(mix: &str, batch: usize) -> Workload {
        Workload {
            mix: mix.parse().unwrap(),
            batch,
            accounts: 10,
            request_ids: true,
            other_branch: Some(("127.0.0.1".into(), 9101)),
        }
    }

    /// The bodies of the first frames, as a branch reads them.
    fn bodies(workload: &Workload, frames: usize) -> Vec<Vec<u8>> {
        let mut requests = Requests::new(workload, 3).unwrap();
        let mut bytes = Vec::new();
        (0..frames).for_each(|_| requests.push_frame(&mut bytes));
        let mut reader = &bytes[..];
        let bodies = (0..frames).map(|_| {
            let mut body = Vec::new();
            assert!(read_frame(&mut reader, FRAME_BYTES_MAX, &mut body).unwrap());
            body
        });
        let bodies = bodies.collect();
        assert!(reader.is_empty());
        bodies
    }

    #[test]
    fn a_branch_reads_each_kind_with_fresh_accounts_and_ids() {
        let bodies = bodies(&workload("inter-branch", 1), 50);
        let mut ids = BTreeSet::new();
        for body in &bodies {
            let frame = RequestFrame::parse(body).unwrap();
            assert_eq!(frame.action(), Ok(Action::InterBranchTransfer));
            let params: InterBranchTransfer = frame.params().unwrap();
            for number in [params.src_account_no, params.dest_account_no] {
                assert!((account_num(0)..account_num(10)).contains(&number.get()), "account {number}");
            }
            assert_ne!(params.src_account_no, params.dest_account_no);
            assert_eq!((params.amount.get(), params.dest_port), (Ok(AMOUNT), Some(9101)));
            ids.insert(frame.request_id().unwrap().to_string());
        }
        assert_eq!(ids.len(), 50);
    }

    #[test]
    fn a_mix_draws_every_kind_about_as_often_as_it_should() {
        let mut counts = [0; 2];
        for body in bodies(&workload("balance=3,transfer", 1), 400) {
            let frame = RequestFrame::parse(&body).unwrap();
            match frame.action().unwrap() {
                Action::Balance => counts[0] += 1,
                Action::LocalTransfer => counts[1] += 1,
                other => panic!("{other} is not in the mix"),
            }
        }
        assert!(counts[1] > 50 && counts[0] > 2 * counts[1], "{counts:?}");
    }

    #[test]
    fn a_batch_holds_its_requests() {
        for body in bodies(&workload("deposit", 7), 2) {
            let frame = RequestFrame::parse(&body).unwrap();
            assert_eq!(frame.action(), Ok(Action::Batch));
            let batch: Batch<'_> = frame.params().unwrap();
            assert_eq!(batch.requests.len(), 7);
            let inner = RequestFrame::parse(batch.requests[6].get().as_bytes()).unwrap();
            assert_eq!(inner.action(), Ok(Action::Deposit));
        }
    }

    #[test]
    fn what_is_no_mix_is_refused() {
        for text in ["", "rob", "transfer=x", "transfer=0", "transfer=-1", "transfer,,balance"] {
            assert!(text.parse::<Mix>().is_err(), "mix {text:?}");
        }
        assert_eq!("transfer=7,balance".parse::<Mix>().unwrap().to_string(), "transfer=7,balance=1");
        assert!(Requests::new(&workload("deposit", 1_000_000), 1).is_err());
    }
}

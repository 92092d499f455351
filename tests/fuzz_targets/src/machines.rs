//! Both machines of two branches, against simple invariants.
//!
//! Each byte of the input is a step: a transfer is begun, a message is delivered, lost or doubled, time passes, a branch
//! crashes before a write is durable, after it, or at once. Then everything heals, and the two must agree: what one has
//! paid the other was paid, nothing is held, and the money is what it was. An input whose first byte is odd also has a
//! stranger at the network who says what nobody asked for, and persons who settle by hand; then the two need not agree,
//! and the machines' own invariants are what is looked at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use protocol::{AccountNum, Money, TxId};
use two_phase_commit::{
    Booked, LedgerAction, LedgerOp, Leg, Message, Notice, OnDisk, Options, Outcome, Output, PeerAddr, Record, Refusal,
    Role, Side, Site, Step, Tick, Transfer, Vote,
};

const NAMES: [&str; 2] = ["Mumbai", "Delhi"];
const ACCOUNTS: [u64; 2] = [1001, 1002];
const BALANCE_PAISE: i64 = 1_000;
/// What an account has room for.
const ROOM_PAISE: i64 = 1_500;
/// The most steps of an input, and the most messages under way.
const STEPS: usize = 400;
const MESSAGES: usize = 64;
/// How many rounds it may take until everything is settled once nothing goes wrong any more.
const ROUNDS: u32 = 2_000;
const ROUND_TICKS: Tick = 100;

/// A branch's disk.
#[derive(Default)]
struct Disk {
    log: Vec<Record>,
    balances: BTreeMap<AccountNum, i64>,
    holds: BTreeMap<(TxId, u32), Leg>,
    rows: BTreeMap<(TxId, u32), Leg>,
    suspense: BTreeMap<TxId, u32>,
}

impl Disk {
    /// One transaction of the database: all of it, or the refusal of a hold.
    fn write(&mut self, role: Role, output: &Output) -> Result<(), Refusal> {
        for op in &output.ledger_ops {
            self.operate(role, op)?;
        }
        self.log.extend(output.records.iter().cloned());
        Ok(())
    }

    fn operate(&mut self, role: Role, op: &LedgerOp) -> Result<(), Refusal> {
        let txid = &op.transfer.txid;
        let legs = || op.transfer.local_legs();
        match op.action {
            LedgerAction::Hold => {
                if role == Role::Participant && self.has_begun(txid) {
                    return Err(Refusal::new(Refusal::COORDINATED, "it is this branch's own"));
                }
                legs().try_for_each(|leg| self.check_hold(txid, leg))?;
                self.holds.extend(legs().map(|leg| ((txid.clone(), leg.index), leg.clone())));
            }
            LedgerAction::Apply => legs().for_each(|leg| {
                let key = (txid.clone(), leg.index);
                assert!(self.holds.remove(&key).is_some(), "{txid} is applied without a hold");
                assert!(self.rows.insert(key, leg.clone()).is_none(), "{txid} moves leg {} twice", leg.index);
                let paise = leg.amount.paise();
                let change = if leg.side == Side::Deposit { paise } else { -paise };
                *self.balances.entry(leg.account).or_default() += change;
            }),
            LedgerAction::Release => legs().for_each(|leg| {
                let held = self.holds.remove(&(txid.clone(), leg.index));
                assert!(held.is_some(), "{txid} is released without a hold");
            }),
            LedgerAction::Suspense { .. } | LedgerAction::SettleElsewhere { .. } => {
                *self.suspense.entry(txid.clone()).or_default() += 1;
            }
        }
        Ok(())
    }

    fn check_hold(&self, txid: &TxId, leg: &Leg) -> Result<(), Refusal> {
        let key = (txid.clone(), leg.index);
        if self.rows.contains_key(&key) || self.holds.contains_key(&key) {
            return Err(Refusal::new(Refusal::SETTLED, "the leg is in the books"));
        }
        let balance = self.balances.get(&leg.account).ok_or_else(|| Refusal::new("no_such_account", "none"))?;
        let own = self.holds.values().filter(|held| held.account == leg.account && held.side == leg.side);
        let reserved: i64 = own.map(|held| held.amount.paise()).sum::<i64>() + leg.amount.paise();
        let fits = match leg.side {
            Side::Withdraw => reserved <= *balance,
            Side::Deposit => balance + reserved <= ROOM_PAISE,
        };
        if fits { Ok(()) } else { Err(Refusal::new("insufficient_funds", "it does not fit")) }
    }

    fn has_begun(&self, txid: &TxId) -> bool {
        self.begun(txid).is_some()
    }

    fn begun(&self, txid: &TxId) -> Option<&Arc<Transfer>> {
        self.log.iter().find_map(|record| {
            if let Record::Begun(transfer) = record
                && transfer.txid == *txid
            {
                return Some(transfer);
            }
            None
        })
    }

    fn has_rows(&self, txid: &TxId) -> bool {
        self.rows.keys().any(|(other, _)| other == txid)
    }

    fn booked(&self, txid: &TxId) -> Booked {
        match self.begun(txid) {
            Some(transfer) if self.has_rows(txid) => Booked::Committed(transfer.participants()),
            Some(_) | None => Booked::Nothing,
        }
    }

    fn settled(&self, txid: &TxId) -> OnDisk {
        let is_abort = |record: &Record| matches!(record, Record::Settled { txid: other, outcome: Outcome::Aborted, .. } if other == txid);
        match txid {
            _ if self.suspense.contains_key(txid) => OnDisk::Mixed,
            _ if self.has_rows(txid) => OnDisk::Settled(Outcome::Committed),
            _ if self.log.iter().any(is_abort) => OnDisk::Settled(Outcome::Aborted),
            _ => OnDisk::Nothing,
        }
    }
}

/// When a branch dies.
#[derive(Clone, Copy, PartialEq)]
enum Dies {
    Never,
    BeforeTheWrite,
    AfterTheWrite,
}

struct World {
    sites: Vec<Site>,
    disks: Vec<Disk>,
    network: VecDeque<(usize, usize, Message)>,
    dies: Dies,
    now: Tick,
    begun: u32,
    crashes: u32,
    has_liars: bool,
}

fn peer(branch: usize) -> PeerAddr {
    NAMES[branch].into()
}

fn options(branch: usize) -> Options {
    Options { coordinated_max: 6, prepared_max: 6, retained_max: 12, ..Options::new(peer(branch)) }
}

fn txid(number: u8) -> TxId {
    format!("T{number}").parse().expect("it is an id")
}

fn leg(index: u32, branch: Option<PeerAddr>, account: u8, paise: u8, side: Side) -> Leg {
    let account = AccountNum::new(ACCOUNTS[usize::from(account % 2)]).expect("it is a number");
    let amount = Money::from_paise(i64::from(paise) * 3).expect("it is small");
    Leg { index, branch, account, amount, side }
}

impl World {
    fn new(has_liars: bool) -> Self {
        let disk = || Disk {
            balances: ACCOUNTS.iter().filter_map(|number| Some((AccountNum::new(*number)?, BALANCE_PAISE))).collect(),
            ..Disk::default()
        };
        let mut world = Self {
            sites: (0..2).map(|branch| Site::new(options(branch))).collect(),
            disks: vec![disk(), disk()],
            network: VecDeque::new(),
            dies: Dies::Never,
            now: 0,
            begun: 0,
            crashes: 0,
            has_liars,
        };
        (0..2).for_each(|branch| world.recover(branch));
        world
    }

    /// The four steps of the driver's contract.
    fn treat(&mut self, branch: usize, step: Step) {
        let Step { role, mut output, .. } = step;
        loop {
            if !output.needs_write() {
                break self.send(branch, &output);
            }
            if self.dies == Dies::BeforeTheWrite {
                return self.crash(branch);
            }
            if let Err(refusal) = self.disks[branch].write(role, &output) {
                output = self.sites[branch].on_hold_refused(role, &output.txid, refusal).output;
                continue;
            }
            if self.dies == Dies::AfterTheWrite {
                return self.crash(branch);
            }
            let next = self.sites[branch].on_durable(role, &output.txid);
            self.send(branch, &output);
            break if !next.output.is_empty() {
                self.treat(branch, next);
            };
        }
        self.sites[branch].check_invariants();
    }

    fn send(&mut self, branch: usize, output: &Output) {
        for envelope in &output.messages {
            let to = NAMES.iter().position(|name| *name == envelope.to.as_str());
            if let Some(to) = to.filter(|_| self.network.len() < MESSAGES) {
                self.network.push_back((branch, to, envelope.message.clone()));
            }
        }
        for notice in &output.notices {
            let is_wrong = matches!(notice, Notice::Mixed { .. } | Notice::Contradicted { .. });
            assert!(!is_wrong || self.has_liars, "nobody has lied: {notice}");
        }
    }

    fn crash(&mut self, branch: usize) {
        self.dies = Dies::Never;
        self.crashes += 1;
        self.sites[branch] = Site::new(options(branch));
        self.recover(branch);
    }

    fn recover(&mut self, branch: usize) {
        let _nothing = self.sites[branch].tick(self.now);
        let steps = self.sites[branch].recover(self.disks[branch].log.clone());
        steps.into_iter().for_each(|step| self.treat(branch, step));
    }

    fn deliver(&mut self, (from, to, message): (usize, usize, Message)) {
        let (site, disk) = (&mut self.sites[to], &self.disks[to]);
        let txid = message.txid();
        // A prepare of one that has ended finds its rows or its abort there too.
        let (on_disk, booked) = (disk.settled(txid), disk.booked(txid));
        let step = site.step(&peer(from), &message, on_disk, &booked);
        self.treat(to, step);
    }

    fn pass(&mut self, ticks: Tick) {
        self.now += ticks;
        for branch in 0..self.sites.len() {
            let crashes = self.crashes;
            for step in self.sites[branch].tick(self.now) {
                // What was due in a process that has died meanwhile died with it.
                if self.crashes == crashes {
                    self.treat(branch, step);
                }
            }
        }
    }

    fn begin(&mut self, branch: usize, paise: u8, accounts: u8) {
        let own = leg(0, None, accounts, paise, Side::Withdraw);
        let other = leg(1, Some(peer(1 - branch)), accounts >> 1, paise, Side::Deposit);
        let id: TxId = format!("{}-{}", NAMES[branch], self.begun).parse().expect("it is an id");
        self.begun += 1;
        if let Ok(step) = self.sites[branch].begin(id, vec![own, other], "") {
            self.treat(branch, step);
        }
    }

    /// Any of those that were begun.
    fn some_txid(&self, branch: usize, which: u8) -> TxId {
        let number = u32::from(which) % self.begun.max(1);
        format!("{}-{number}", NAMES[branch]).parse().expect("it is an id")
    }

    fn lie(&mut self, branch: usize, what: u8, which: u8) {
        let about = if which > 200 { txid(which) } else { self.some_txid(usize::from(which) % 2, which / 2) };
        let outcome = if which.is_multiple_of(3) { Outcome::Aborted } else { Outcome::Committed };
        let refusal = Refusal::new(Refusal::NOT_PREPARED, "so it is said");
        let message = match what % 8 {
            0 => Message::Vote { txid: about, vote: Vote::Yes },
            1 => Message::Vote { txid: about, vote: Vote::No(refusal) },
            2 => Message::Decision { txid: about, outcome },
            3 => Message::Acknowledged { txid: about, outcome, mixed: which.is_multiple_of(2) },
            4 => Message::Inquiry { txid: about },
            5 => Message::Undecided { txid: about },
            6 => Message::Rejected { txid: about, refusal },
            _ => {
                let legs = vec![leg(u32::from(which % 4), None, which, which, Side::Withdraw)];
                let coordinator = (!which.is_multiple_of(5)).then(|| peer(1 - branch));
                let by_program = which.is_multiple_of(7);
                Message::Prepare(Arc::new(Transfer { txid: about, coordinator, legs, note: "".into(), by_program }))
            }
        };
        self.deliver((1 - branch, branch, message));
    }

    fn by_hand(&mut self, branch: usize, which: u8) {
        let about = self.some_txid(usize::from(which) % 2, which / 2);
        let outcome = if which.is_multiple_of(3) { Outcome::Aborted } else { Outcome::Committed };
        if let Ok(step) = self.sites[branch].resolve_by_hand(&about, outcome, "a person says so") {
            self.treat(branch, step);
        }
    }

    fn act(&mut self, op: u8, bytes: &mut impl Iterator<Item = u8>) {
        let mut next = || bytes.next().unwrap_or(0);
        let branch = usize::from(op >> 7);
        let count = self.network.len().max(1);
        match op % 16 {
            0 | 1 => self.begin(branch, next().max(1), next()),
            2..=5 => {
                if let Some(message) = self.network.remove(usize::from(op >> 4) % count) {
                    self.deliver(message);
                }
            }
            6 => drop(self.network.remove(usize::from(op >> 4) % count)),
            7 => {
                if let Some(message) = self.network.get(usize::from(op >> 4) % count).cloned() {
                    self.network.push_back(message);
                }
            }
            8 | 9 => self.pass(Tick::from(next()) * 8),
            10 => self.crash(branch),
            11 => self.dies = if op & 16 == 0 { Dies::BeforeTheWrite } else { Dies::AfterTheWrite },
            12 => {
                let about = self.some_txid(branch, next());
                let step = self.sites[branch].cancel(&about, "it takes too long");
                self.treat(branch, step);
            }
            13 => {
                let about = self.some_txid(branch, next());
                let step = self.sites[branch].unreachable(&about, &peer(1 - branch));
                self.treat(branch, step);
            }
            14 if self.has_liars => self.lie(branch, next(), next()),
            15 if self.has_liars => self.by_hand(branch, next()),
            _ => self.sites[branch].reconnected(&peer(1 - branch)),
        }
        self.sites.iter().for_each(Site::check_invariants);
    }

    /// Nothing goes wrong any more.
    fn heal(&mut self) {
        self.dies = Dies::Never;
        for _ in 0..ROUNDS {
            while let Some(message) = self.network.pop_front() {
                self.deliver(message);
            }
            if self.disks.iter().all(|disk| disk.holds.is_empty()) && self.agree() {
                return;
            }
            self.pass(ROUND_TICKS);
        }
    }

    /// Whether each transfer has happened at both or at neither.
    fn agree(&self) -> bool {
        let own =
            |disk: &Disk| disk.rows.keys().map(|(txid, _)| txid.clone()).collect::<std::collections::BTreeSet<_>>();
        own(&self.disks[0]) == own(&self.disks[1])
    }
}

/// Goes through a story.
///
/// # Panics
/// When a machine finds itself wrong, money is lost or made, or something is held for ever.
pub fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let mut world = World::new(kind % 2 == 1);
    let mut bytes = bytes.iter().copied().take(STEPS);
    while let Some(op) = bytes.next() {
        world.act(op, &mut bytes);
    }
    world.heal();
    if world.has_liars {
        return;
    }
    assert!(world.agree(), "one has paid what the other was not paid");
    let held: usize = world.disks.iter().map(|disk| disk.holds.len()).sum();
    assert_eq!(held, 0, "something is held for ever");
    let total: i64 = world.disks.iter().flat_map(|disk| disk.balances.values()).sum();
    assert_eq!(total, 2 * BALANCE_PAISE * ACCOUNTS.len() as i64, "money was lost or made");
}

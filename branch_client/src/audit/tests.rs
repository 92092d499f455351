//! A bank that works while it is audited: between any two questions anything may happen that the protocol allows.

use std::sync::{Arc, Mutex};

use protocol::leg_sum::payment_number;
use protocol::{LegSum, Money};

use super::*;

/// A generator of numbers that is the same for each seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// How far a transfer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Begun,
    Prepared,
    Committed,
    Booked,
    Ended,
}

struct Transfer {
    txid: TxId,
    from: usize,
    to: usize,
    paise: i64,
    stage: Stage,
}

#[derive(Default)]
struct World {
    names: Vec<&'static str>,
    rows: Vec<Vec<HistoryLine>>,
    transfers: Vec<Transfer>,
    /// What a branch calls itself and is, where that isn't so.
    roles: BTreeMap<&'static str, (&'static str, &'static str)>,
    down: Vec<&'static str>,
    random: Option<Random>,
    clock: i64,
}

fn line(number: usize, clock: i64, txid: &TxId, leg: i64, paise: i64, peer: &str) -> HistoryLine {
    let due = format!("due {peer}");
    let (from_account, to_account) = if leg % 2 == 0 { ("1001".into(), due) } else { (due, "1001".into()) };
    HistoryLine {
        transaction_id: i64::try_from(number).unwrap(),
        date: format!("2026-01-01T00:00:{clock:09}"),
        kind: String::new(),
        from_account,
        to_account,
        amount: Money::from_paise(paise).unwrap(),
        txid: Some(txid.clone()),
        leg: Some(leg),
        peer: Some(peer.into()),
        note: None,
    }
}

impl World {
    fn of(names: &[&'static str]) -> Self {
        Self { names: names.to_vec(), rows: vec![Vec::new(); names.len()], ..Self::default() }
    }

    fn book(&mut self, branch: usize, peer: usize, txid: &TxId, leg: i64, paise: i64) {
        self.clock += 1;
        let number = self.rows[branch].len() + 1;
        self.rows[branch].push(line(number, self.clock, txid, leg, paise, self.names[peer]));
    }

    /// One transfer goes on by one step, or a new one begins.
    fn step(&mut self) {
        let Some(mut random) = self.random.take() else { return };
        let open: Vec<usize> =
            (0..self.transfers.len()).filter(|at| self.transfers[*at].stage != Stage::Ended).collect();
        if open.len() < 6 || random.below(3) == 0 {
            let from = random.below(self.names.len());
            let to = (from + 1 + random.below(self.names.len() - 1)) % self.names.len();
            let txid = format!("{}-{}", self.names[from], self.transfers.len()).parse().unwrap();
            let paise = i64::try_from(random.below(100) + 1).unwrap();
            self.transfers.push(Transfer { txid, from, to, paise, stage: Stage::Begun });
        } else {
            self.go_on(open[random.below(open.len())]);
        }
        self.random = Some(random);
    }

    fn go_on(&mut self, at: usize) {
        let Transfer { from, to, paise, stage, .. } = self.transfers[at];
        let txid = self.transfers[at].txid.clone();
        self.transfers[at].stage = match stage {
            Stage::Begun => Stage::Prepared,
            Stage::Prepared => {
                self.book(from, to, &txid, 0, paise);
                Stage::Committed
            }
            Stage::Committed => {
                self.book(to, from, &txid, 1, paise);
                Stage::Booked
            }
            Stage::Booked | Stage::Ended => Stage::Ended,
        };
    }

    fn finish(&mut self) {
        for at in 0..self.transfers.len() {
            while self.transfers[at].stage != Stage::Ended {
                self.go_on(at);
            }
        }
    }

    fn audit(&self, branch: usize) -> Audit {
        let mut due: BTreeMap<String, Total> = BTreeMap::new();
        let mut leg_sums: BTreeMap<String, LegSum> = BTreeMap::new();
        for row in &self.rows[branch] {
            let (leg, peer) = (row.leg.unwrap(), row.peer.clone().unwrap());
            let amount = Total::from(row.amount);
            let effect = if leg % 2 == 0 { amount } else { Total::ZERO - amount };
            *due.entry(peer.clone()).or_default() += effect;
            let txid = row.txid.as_ref().unwrap().as_str();
            *leg_sums.entry(peer).or_default() += LegSum::of_row(txid, payment_number(leg), effect.paise());
        }
        let in_transit: Total = due.values().copied().sum();
        let (name, role) = self.roles.get(self.names[branch]).copied().unwrap_or((self.names[branch], "primary"));
        Audit {
            ok: true,
            findings: Vec::new(),
            balances: Total::from_paise(1_000_000) - in_transit,
            in_transit,
            paid_in: Total::from_paise(1_000_000),
            paid_out: Total::ZERO,
            suspense: Total::ZERO,
            transactions: i64::try_from(self.rows[branch].len()).unwrap(),
            due,
            leg_sums,
            branch: Some(name.into()),
            role: Some(role.into()),
            epoch: Some(1),
            chain_head: None,
        }
    }

    fn pending(&self, branch: usize) -> Vec<Pending> {
        let state_at = |transfer: &Transfer| match (transfer.stage, branch == transfer.from, branch == transfer.to) {
            (Stage::Begun | Stage::Prepared, true, _) => Some("deciding"),
            (Stage::Committed | Stage::Booked, true, _) => Some("delivering"),
            (Stage::Prepared | Stage::Committed, _, true) => Some("prepared"),
            (_, _, _) => None,
        };
        let row = |transfer: &Transfer| {
            Some(Pending {
                txid: transfer.txid.clone(),
                state: state_at(transfer)?.into(),
                why: None,
                legs: Vec::new(),
                coordinator: None,
                coordinator_answers: true,
                age_seconds: 0,
            })
        };
        self.transfers.iter().filter_map(row).collect()
    }
}

struct Fake {
    world: Arc<Mutex<World>>,
    branch: usize,
}

impl Fake {
    /// Some steps happen, then the branch is looked at.
    fn look<T>(&self, look: impl FnOnce(&World) -> T) -> Result<T, String> {
        let mut world = self.world.lock().unwrap();
        for _ in 0..3 {
            world.step();
        }
        let name = world.names[self.branch];
        if world.down.contains(&name) { Err("it is down".into()) } else { Ok(look(&world)) }
    }
}

impl Books for Fake {
    fn audit(&mut self) -> Result<Audit, String> {
        self.look(|world| world.audit(self.branch))
    }

    fn history(&mut self, below: Option<i64>, rows_max: usize) -> Result<(Vec<HistoryLine>, Option<i64>), String> {
        self.look(|world| {
            let rows = &world.rows[self.branch];
            let below = usize::try_from(below.unwrap_or(i64::MAX)).unwrap().min(rows.len() + 1);
            let page: Vec<_> = rows[..below - 1].iter().rev().take(rows_max.min(7)).cloned().collect();
            let next = page.last().map(|line| line.transaction_id).filter(|last| *last > 1);
            (page, next)
        })
    }

    fn pending(&mut self) -> Result<Vec<Pending>, String> {
        self.look(|world| world.pending(self.branch))
    }
}

fn sources(world: World) -> (Arc<Mutex<World>>, Vec<Source<Fake>>) {
    let names = world.names.clone();
    let world = Arc::new(Mutex::new(world));
    let source = |(branch, name): (usize, &&'static str)| Source {
        name: (*name).to_string(),
        address: format!("127.0.0.1:910{branch}"),
        books: Fake { world: Arc::clone(&world), branch },
    };
    let sources = names.iter().enumerate().map(source).collect();
    (world, sources)
}

const BANK: [&str; 3] = ["Delhi", "Mumbai", "Pune"];

#[test]
fn right_books_are_right_whatever_happens_between_two_looks() {
    for seed in 0..60 {
        let (world, mut sources) = sources(World { random: Some(Random(seed)), ..World::of(&BANK) });
        let mut memory = Memory::default();
        let mut was_under_way = false;
        for _ in 0..10 {
            let whole = audit_all(&mut sources, &mut memory);
            assert!(whole.ok, "seed {seed}: {:?} {:?}", whole.findings, whole.unreachable);
            was_under_way |= !whole.under_way.is_empty();
        }
        assert!(was_under_way, "seed {seed} shows nothing");
        world.lock().unwrap().random = None;
        world.lock().unwrap().finish();
        let whole = audit_all(&mut sources, &mut memory);
        assert!(whole.ok && whole.under_way.is_empty(), "seed {seed}: {whole:?}");
    }
}

#[test]
fn a_standing_difference_is_named_beside_any_load_and_only_while_it_stands() {
    for seed in 0..40 {
        let mut bank = World { random: Some(Random(seed)), ..World::of(&BANK) };
        for _ in 0..seed {
            bank.step();
        }
        // Two that cancel out by amount: paid and never booked, and the same the other way.
        bank.book(0, 1, &"Delhi-lost".parse().unwrap(), 0, 70);
        bank.book(1, 0, &"Mumbai-lost".parse().unwrap(), 0, 70);
        for _ in 0..seed {
            bank.step();
        }
        let (world, mut sources) = sources(bank);
        let mut memory = Memory::default();
        for _ in 0..5 {
            let whole = audit_all(&mut sources, &mut memory);
            assert!(!whole.ok, "seed {seed}");
            let expected = [
                "transfer Delhi-lost between Delhi and Mumbai: Delhi has sent 0.70, Mumbai has booked nothing",
                "transfer Mumbai-lost between Delhi and Mumbai: Delhi has booked nothing, Mumbai has sent 0.70",
            ];
            assert_eq!(whole.findings, expected, "seed {seed}");
        }
        world.lock().unwrap().book(1, 0, &"Delhi-lost".parse().unwrap(), 1, 70);
        assert_eq!(audit_all(&mut sources, &mut memory).findings.len(), 1, "seed {seed}");
        world.lock().unwrap().book(0, 1, &"Mumbai-lost".parse().unwrap(), 1, 70);
        assert!(audit_all(&mut sources, &mut memory).ok, "seed {seed}");
    }
}

#[test]
fn a_side_of_another_amount_or_booked_twice_shows() {
    for (leg, paise) in [(1, 49), (1, 51), (2, 50)] {
        let mut bank = World::of(&BANK);
        bank.book(0, 1, &"T-1".parse().unwrap(), 0, 50);
        bank.book(1, 0, &"T-1".parse().unwrap(), leg, paise);
        let (_, mut sources) = sources(bank);
        assert!(!audit_all(&mut sources, &mut Memory::default()).ok, "leg {leg} of {paise}");
    }
}

#[test]
fn who_answers_is_counted_once_and_for_itself() {
    let whole_of = |roles: &[(&'static str, (&'static str, &'static str))], down: &[&'static str]| {
        let roles = roles.iter().copied().collect();
        let (_, mut sources) = sources(World { roles, down: down.to_vec(), ..World::of(&BANK) });
        audit_all(&mut sources, &mut Memory::default())
    };
    assert!(whole_of(&[], &[]).ok);
    let check = |whole: &Whole, heard: &[&str], missing: &[(&str, &str)]| {
        assert!(!whole.ok && whole.findings.is_empty(), "{whole:?}");
        assert_eq!(whole.branches.keys().collect::<Vec<_>>(), heard);
        assert_eq!(
            whole.unreachable.keys().collect::<Vec<_>>(),
            missing.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
        for (name, why) in missing {
            assert!(whole.unreachable[*name].contains(why), "{whole:?}");
        }
    };
    check(&whole_of(&[], &["Pune"]), &["Delhi", "Mumbai"], &[("Pune", "it is down")]);
    let taken = [("Pune", ("Delhi", "primary"))];
    check(&whole_of(&taken, &[]), &["Delhi", "Mumbai"], &[("Pune", "at 127.0.0.1:9102 answers the branch Delhi")]);
    check(&whole_of(&taken, &["Delhi"]), &["Delhi", "Mumbai"], &[("Pune", "answers the branch Delhi")]);
    for role in ["replica", "fenced"] {
        let copy = [("Delhi", ("Delhi", role))];
        check(&whole_of(&copy, &[]), &["Mumbai", "Pune"], &[("Delhi", "a copy of it that is no primary")]);
    }
}

#[test]
fn a_branch_that_only_the_books_know_is_missing() {
    let mut bank = World::of(&BANK);
    bank.names.push("Goa");
    bank.book(0, 3, &"T-1".parse().unwrap(), 0, 50);
    bank.names.pop();
    let (_, mut sources) = sources(bank);
    let whole = audit_all(&mut sources, &mut Memory::default());
    assert!(whole.unreachable["Goa"].starts_with("Delhi has booked payments with it"), "{whole:?}");
}

//! Before a run: the processes, their customers, and what will be asked and go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use bank_server::dbs_exec::check_copy;

use super::clients::{DoneAt, Leg, Request, Told, Want};
use super::config::Config;
use super::disks::Folder;
use super::host::{Shared, Station};
use super::judge::Judge;
use super::network::Network;
use super::people::{Program, Stranger};
use super::process::new_database;
use super::world::{Copy, Fault, World};
use crate::rng::Rng;
use crate::trace::Trace;

/// The largest balance, in paise.
const BALANCE_MAX_PAISE: u64 = 9_999_999_999_999_999;
/// How often it is looked whether something is in doubt, before what would be worst then happens all the same.
const LOOKS: u64 = 60;
/// The port of the first copy.
const PORT: u16 = 9100;

/// Where a copy of a branch is.
fn port(branch: usize, number: usize) -> u16 {
    PORT + (10 * branch + number) as u16
}

/// The world of a seed, before anything has happened.
pub fn build(seed: u64, with_text: bool) -> World {
    let mut rng = Rng::new(seed);
    let config = Config::draw(&mut rng);
    let names: Vec<String> = (0..config.branches).map(|branch| format!("B{branch}")).collect();
    World {
        shared: Shared::new(rng.bits()),
        rng,
        now_ms: 0,
        copies: Vec::new(),
        serving: (0..config.branches).collect(),
        names,
        network: Network::default(),
        requests: Vec::new(),
        programs: Vec::new(),
        strangers: Vec::new(),
        faults: BTreeMap::new(),
        judge: Judge::default(),
        trace: Trace::new(with_text),
        is_healed: false,
        healed_ms: 0,
        crashes: 0,
        by_hand: BTreeSet::new(),
        resolved: Vec::new(),
        folder: Folder::new().expect("a folder for temporary files can be made"),
        links: BTreeMap::new(),
        connections: 0,
        backups: BTreeMap::new(),
        setbacks: Vec::new(),
        newest_epochs: BTreeMap::new(),
        handed_over: BTreeMap::new(),
        waiting: Vec::new(),
        recorder: None,
        config,
    }
}

impl World {
    /// Opens the branches and their accounts, and draws what will happen.
    pub(super) fn set_up(&mut self) -> Result<(), String> {
        for branch in 0..self.names.len() {
            let path = self.folder.file(&format!("{}.db", self.names[branch]));
            std::fs::write(&path, self.empty_database(branch)?).map_err(|error| error.to_string())?;
            self.add_copy(branch, 0);
        }
        // Nobody dies before there is anything to lose.
        self.is_healed = true;
        (0..self.copies.len()).for_each(|copy| self.start(copy, true));
        self.add_replicas()?;
        self.is_healed = false;
        self.open_accounts()?;
        self.draw_requests();
        self.draw_people();
        self.draw_faults();
        Ok(())
    }

    fn add_copy(&mut self, branch: usize, number: usize) {
        let name = if number == 0 { self.names[branch].clone() } else { format!("{}-{number}", self.names[branch]) };
        let path = self.folder.file(&format!("{name}.db"));
        self.copies.push(Copy {
            branch,
            arguments: self.command_line(branch, number, &path),
            path,
            port: port(branch, number),
            process: None,
            start_ms: None,
            is_first: number == 0,
            starts: 0,
            prune_ms: self.rng.below(20_000),
            tend_ms: self.rng.below(1_000),
        });
    }

    /// Replicas begin with what their primary has.
    fn add_replicas(&mut self) -> Result<(), String> {
        for branch in 0..self.names.len() {
            for number in 1..=self.config.replicas[branch] {
                self.add_copy(branch, number);
                let copy = self.copies.len() - 1;
                let path = self.copies[copy].path.clone();
                let address = format!("127.0.0.1:{}", self.copies[branch].port);
                let primary = self.copies[branch].process.as_ref().ok_or("the primary does not run")?;
                primary.core.dbs.copy_to(&path, &|| false).map_err(|error| error.to_string())?;
                check_copy(&path, &self.names[branch], &address, &primary.core.dbs.copy_state())?;
                self.start(copy, true);
            }
        }
        // They connect.
        self.copies.iter_mut().for_each(|copy| copy.tend_ms = 0);
        self.tend_copies();
        Ok(())
    }

    fn command_line(&self, branch: usize, number: usize, path: &Path) -> Vec<String> {
        let others = (0..self.names.len()).filter(|other| *other != branch);
        let peers: Vec<String> =
            others.map(|other| format!("{}=127.0.0.1:{}", self.names[other], port(other, 0))).collect();
        let words = ["bank-server", "--open", "--name", &self.names[branch], "--peers", &peers.join(",")];
        let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
        words.extend(["--db".into(), path.display().to_string()]);
        words.extend(["--key".into(), self.folder.file("bank.key").display().to_string()]);
        let replicas = self.config.replicas[branch];
        if replicas > 0 {
            let copies = (0..=replicas).filter(|other| *other != number);
            let copies: Vec<String> = copies.map(|other| format!("127.0.0.1:{}", port(branch, other))).collect();
            words.extend(["--replicas".into(), copies.join(",")]);
            words.extend(["--sync-replicas".into(), self.config.sync_replicas[branch].to_string()]);
        }
        if number > 0 {
            words.extend(["--replica-of".into(), format!("127.0.0.1:{}", port(branch, 0))]);
        }
        words
    }

    /// A new database takes a password's hash, so each is made once for all runs.
    fn empty_database(&self, branch: usize) -> Result<Vec<u8>, String> {
        static MADE: OnceLock<Mutex<BTreeMap<String, Vec<u8>>>> = OnceLock::new();
        let name = &self.names[branch];
        let mut made = MADE.get_or_init(Mutex::default).lock().map_err(|error| error.to_string())?;
        if let Some(bytes) = made.get(name) {
            return Ok(bytes.clone());
        }
        let folder = Folder::new().map_err(|error| error.to_string())?;
        let path = folder.file(&format!("{name}.db"));
        let words = ["bank-server", "--open", "--name", name, "--db", &path.display().to_string()].map(String::from);
        let bytes = new_database(&path, &words, Station::new(&Shared::new(0), 0))?;
        made.insert(name.clone(), bytes.clone());
        Ok(bytes)
    }

    /// The customers that there are at the beginning, some of them with nearly the largest balance.
    fn open_accounts(&mut self) -> Result<(), String> {
        for branch in 0..self.names.len() {
            for account in 0..self.config.accounts {
                let is_rich = self.rng.chance(self.config.rich_per_mille);
                let paise = if is_rich {
                    BALANCE_MAX_PAISE / 1000 * 1000 - 1000 * self.rng.between(1, 300)
                } else {
                    1000 * self.rng.between(20, 400)
                };
                let want = Want::Open { number: Some(1001 + account), paise: self.unique(paise) };
                let number = self.requests.len();
                let mut request = Request::new(number, branch, want, false, None);
                (request.tries, request.first_ms) = (1, Some(self.now_ms));
                let body = request.body(&self.names, &mut self.rng);
                self.requests.push(request);
                let answer = self.ask(branch, &body).ok_or("no answer")?;
                let result = answer.result().ok_or_else(|| format!("{body}: {}", answer.body))?;
                self.requests[number].told = Told::Done(result.clone());
                let position = self.position_of(branch);
                self.requests[number].done_at = Some(DoneAt { at_ms: self.now_ms, position });
            }
        }
        Ok(())
    }

    /// An amount near this one that no other movement has.
    pub(super) fn unique(&mut self, paise: u64) -> u64 {
        self.judge.next_unique += 1;
        assert!(self.judge.next_unique < 1000, "a run has fewer than a thousand amounts");
        paise / 1000 * 1000 + self.judge.next_unique
    }

    fn some_amount(&mut self) -> u64 {
        let paise = if self.rng.chance(self.config.rich_per_mille / 4) {
            BALANCE_MAX_PAISE / 1000 * 1000 - 1000 * self.rng.between(1, 400)
        } else {
            1000 * self.rng.between(0, 90)
        };
        self.unique(paise)
    }

    fn some_account(&mut self) -> u64 {
        // One that there is not, now and then.
        let more = u64::from(self.rng.chance(50));
        1001 + self.rng.below(self.config.accounts + more)
    }

    fn draw_requests(&mut self) {
        for _ in 0..self.config.requests {
            let branch = self.rng.index(self.names.len());
            let want = self.draw_want(branch);
            let has_id = self.rng.chance(self.config.ids_per_mille);
            let next_ms = Some(self.rng.below(self.config.safety_ms * 4 / 5));
            let number = self.requests.len();
            self.requests.push(Request::new(number, branch, want, has_id, next_ms));
        }
    }

    fn draw_want(&mut self, branch: usize) -> Want {
        match self.rng.below(100) {
            0..8 => Want::Deposit { account: self.some_account(), paise: self.some_amount() },
            8..16 => Want::Withdraw { account: self.some_account(), paise: self.some_amount() },
            16..24 => Want::Local { from: self.some_account(), to: self.some_account(), paise: self.some_amount() },
            24..30 => {
                let number = self.rng.chance(500).then(|| 2001 + self.rng.below(4));
                Want::Open { number, paise: self.some_amount() }
            }
            30..34 => Want::Close { account: self.some_account() },
            34..45 => {
                let count = self.rng.between(1, 4);
                let legs = (0..count).map(|_| self.some_leg(None)).collect();
                Want::Transfer { from: self.some_account(), legs, is_split: true }
            }
            _ => {
                let legs = vec![self.some_leg(Some(branch))];
                Want::Transfer { from: self.some_account(), legs, is_split: false }
            }
        }
    }

    fn some_leg(&mut self, not_at: Option<usize>) -> Leg {
        let branch = loop {
            let branch = self.rng.index(self.names.len());
            if Some(branch) != not_at {
                break branch;
            }
        };
        Leg { branch, account: self.some_account(), paise: self.some_amount() }
    }

    fn draw_people(&mut self) {
        for number in 0..self.config.programs {
            let (from, to) = (self.some_leg(None), self.some_leg(None));
            let start_ms = self.rng.below(self.config.safety_ms);
            if from.branch != to.branch {
                self.programs.push(Program::new(number, from, to, start_ms, &self.names));
            }
        }
        for _ in 0..self.config.strangers {
            let at_ms = self.rng.below(self.config.safety_ms);
            self.strangers.push(Stranger { at_ms });
        }
        self.strangers.sort_by_key(|stranger| stranger.at_ms);
    }

    fn draw_faults(&mut self) {
        let counts = [
            (Fault::Kill, self.config.crashes / 2),
            (Fault::KillAtPoint, self.config.crashes - self.config.crashes / 2),
            (Fault::Cut, self.config.cuts),
            (Fault::Mend, self.config.cuts),
            (Fault::Leap, self.config.leaps),
            (Fault::Resolve, self.config.resolutions),
            (Fault::Promote, self.config.promotions),
            (Fault::Strand(LOOKS), self.config.strandings),
            (Fault::HandOver, self.config.hand_overs),
            (Fault::Backup(LOOKS), self.config.backups),
        ];
        for (fault, count) in counts {
            for _ in 0..count {
                let at_ms = self.rng.below(self.config.safety_ms);
                self.faults.insert((at_ms, self.faults.len()), fault);
            }
        }
    }
}

//! Copies of a branch: links between branches by the server's own rules of epochs, streams to replicas, promotions, and
//! stores that come back older.
//!
//! What goes over the wire is the server's: `link`, `replicate`, `follow`, `promote`, `demote`. What is done here is what
//! the server's threads do: they connect, move bytes, and try again.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use bank_server::cli::arguments::Arguments;
use bank_server::cli::backup::put_back;
use bank_server::dbs_exec::{CopyRole, Position, check_copy, newest_version, put_in_place};
use bank_server::error::Error;
use clap::Parser as _;
use protocol::connection::Connection;
use protocol::params::{LogPosition, Replicate};
use protocol::proof::to_hex;
use protocol::{Address, BranchName};
use two_phase_commit::PeerAddr;

use bank_server::peers::links::Inbox as _;
use bank_server::replication::Exchange as _;

use super::host::{SimulatedExchange, Stream};
use super::process::Process;
use super::world::{Fault, World};

/// A link that a process has to a process of another branch.
#[derive(Clone, Debug)]
pub struct Link {
    /// The copy at the other end.
    to: usize,
    /// Which process of it.
    to_start: u64,
    /// Which process here.
    from_start: u64,
}

/// A backup of a branch that has one copy.
#[derive(Clone, Debug)]
pub struct Backup {
    /// When it was made.
    pub at_ms: u64,
    /// The file.
    pub bytes: Vec<u8>,
}

/// A store came back older than it was, so that what its branch had promised may be lost.
#[derive(Clone, Debug)]
pub struct Setback {
    /// The branch.
    pub branch: usize,
    /// When; the last moment at which another copy may have gone on from what was left behind.
    pub at_ms: u64,
    /// Copies that may still do so.
    pub rivals: Vec<usize>,
    /// What it went back to was of this time, where that is known.
    pub of_ms: Option<u64>,
}

impl World {
    /// The copy of a branch that a copy's messages to it go to. Makes a link when there is none.
    pub(super) fn link_to(&mut self, from: usize, branch: usize) -> Option<usize> {
        let starts: Vec<Option<u64>> =
            self.copies.iter().map(|copy| copy.process.as_ref().map(|_| copy.starts)).collect();
        let shared = Arc::clone(&self.shared);
        let links = self.links.entry((from, branch)).or_default();
        links.retain(|link| {
            starts[link.to] == Some(link.to_start)
                && starts[from] == Some(link.from_start)
                && !shared.is_cut(from, link.to)
        });
        links.last().map(|link| link.to).or_else(|| self.dial(from, branch))
    }

    /// Makes a link to where a branch is known to be, or was last seen.
    fn dial(&mut self, from: usize, branch: usize) -> Option<usize> {
        let name: BranchName = self.names[branch].parse().ok()?;
        let shared = Arc::clone(&self.shared);
        let agreed = self.enter(from, |process| {
            let links = process.engine().links();
            let directory = links.directory();
            let exchange = SimulatedExchange { shared, copy: from };
            let known = directory.address_of(&name)?;
            let agree = |address: &Address| {
                let stream = exchange.connect(address).ok_or_else(|| Error::Unreachable("nobody is there".into()))?;
                links.agree(&name, address, &mut Connection::new(stream)).map(|_| address.clone())
            };
            links.reach_branch(&name, &known, agree).ok()
        })??;
        let to = self.copies.iter().position(|copy| copy.port == agreed.port)?;
        self.join(from, to);
        Some(to)
    }

    /// Both ends have a link now.
    fn join(&mut self, from: usize, to: usize) {
        self.note(from, "links to", &format!("{to}"));
        let own: Option<BranchName> = self.names[self.copies[from].branch].parse().ok();
        let address = Address::from((IpAddr::V4(Ipv4Addr::LOCALHOST), self.copies[from].port));
        self.enter(to, |process| own.map(|own| process.engine().links().directory().observe(&own, &address)));
        for (here, there) in [(from, to), (to, from)] {
            let link = Link { to: there, to_start: self.copies[there].starts, from_start: self.copies[here].starts };
            let branch = self.copies[there].branch;
            self.links.entry((here, branch)).or_default().push(link);
            let peer = PeerAddr::new(&self.names[branch]);
            self.enter(here, |process| process.engine().linked(&peer));
        }
    }

    /// Whether a process deals with what comes from a copy of another branch: with its epoch, as it was met.
    pub(super) fn deals_with(&self, copy: usize, from: usize) -> bool {
        let (Some(process), Some(sender)) = (&self.copies[copy].process, &self.copies[from].process) else {
            return self.copies[copy].process.is_some();
        };
        let Ok(name) = self.names[self.copies[from].branch].parse::<BranchName>() else { return false };
        process.engine().links().directory().deals_with(&name, &sender.core.dbs.copy_state().epoch)
    }

    /// What primaries and replicas do by themselves, now and then.
    pub(super) fn tend_copies(&mut self) {
        for index in 0..self.setbacks.len() {
            let mut rivals = std::mem::take(&mut self.setbacks[index].rivals);
            rivals.retain(|rival| matches!(self.role_of(*rival), Some(CopyRole::Primary) | None));
            if !rivals.is_empty() {
                self.setbacks[index].at_ms = self.now_ms;
            }
            self.setbacks[index].rivals = rivals;
        }
        for copy in 0..self.copies.len() {
            if self.copies[copy].tend_ms > self.now_ms {
                continue;
            }
            self.copies[copy].tend_ms = self.now_ms + 200 + self.rng.below(self.config.lag_max_ms);
            match self.role_of(copy) {
                Some(CopyRole::Primary) => self.announce(copy),
                Some(CopyRole::Replica) => self.follow(copy),
                Some(CopyRole::Fenced) | None => {}
            }
        }
    }

    /// What a copy is, while it runs.
    pub(super) fn role_of(&self, copy: usize) -> Option<CopyRole> {
        let process = self.copies[copy].process.as_ref()?;
        Some(process.core.service.replication.role())
    }

    /// A primary tells the other copies, and a promoted one links to all branches.
    fn announce(&mut self, copy: usize) {
        let has_copies = self.copies.iter().filter(|other| other.branch == self.copies[copy].branch).count() > 1;
        if !has_copies {
            return;
        }
        let epoch = self.enter(copy, |process| {
            process.core.service.replication.tell_once();
            process.core.dbs.copy_state().epoch.number
        });
        if epoch.is_some_and(|epoch| epoch > 1) {
            let own = self.copies[copy].branch;
            for branch in (0..self.names.len()).filter(|branch| *branch != own) {
                self.link_to(copy, branch);
            }
        }
    }

    /// A replica connects to its primary, or goes on with what comes.
    fn follow(&mut self, copy: usize) {
        let stream = self.shared.stream_to(copy);
        if let Some(stream) = stream
            && !self.shared.is_cut(stream.from, copy)
        {
            let bytes = if self.rng.chance(300) { 1 } else { 1 << 20 };
            if stream.flow(bytes) {
                return;
            }
        }
        self.shared.end_streams_to(copy);
        let Some(primary) = self.primary_of(copy) else { return };
        if self.shared.is_cut(primary, copy) || self.copies[primary].process.is_none() {
            return;
        }
        let Some(Some(body)) = self.enter(copy, wish_to_follow) else { return };
        let Some(answer) = self.enter(primary, |process| process.ask(&body)) else { return };
        self.note(copy, "follows", &format!("{primary}: {}", answer.body["result"]["mode"]));
        match answer.body["result"]["mode"].as_str() {
            Some("log") => self.open_stream(primary, copy),
            // Somebody orders a new copy, where the logs have parted.
            Some(_) => self.take_snapshot(primary, copy),
            None => {}
        }
    }

    /// The copy that a replica takes for its primary.
    pub(super) fn primary_of(&self, copy: usize) -> Option<usize> {
        let process = self.copies[copy].process.as_ref()?;
        let address: Address = process.core.dbs.copy_state().primary?.parse().ok()?;
        self.copies.iter().position(|other| other.port == address.port)
    }

    fn open_stream(&mut self, primary: usize, replica: usize) {
        let (Some(from), Some(to)) = (&self.copies[primary].process, &self.copies[replica].process) else { return };
        self.connections += 1;
        let stream = Stream {
            from: primary,
            to: replica,
            address: format!("127.0.0.1:{}", self.copies[replica].port),
            connection: self.connections,
            primary: Arc::downgrade(&from.core.dbs),
            replica: Arc::downgrade(&to.core.dbs),
        };
        let last = to.core.dbs.position().map_or(0, |last| last.sequence);
        from.core.dbs.feed().connected(&stream.address, stream.connection, last);
        self.shared.add_stream(stream);
    }

    fn take_snapshot(&mut self, primary: usize, replica: usize) {
        let file = self.folder.file(&format!("snapshot-{}", self.connections));
        self.connections += 1;
        let copied = self.enter(primary, |process| process.core.dbs.copy_to(&file, &|| false));
        let Some(Ok(Some(_))) = copied else { return };
        let Some(process) = self.copies[replica].process.take() else { return };
        let copy_state = process.core.dbs.copy_state();
        process.stop_cleanly();
        let address = format!("127.0.0.1:{}", self.copies[primary].port);
        let path = self.copies[replica].path.clone();
        let placed = check_copy(&file, &self.name_of(replica), &address, &copy_state)
            .and_then(|_| put_in_place(&file, &path, ".aside"));
        match placed {
            Ok(aside) => {
                // Nobody comes back to it here.
                aside.map(std::fs::remove_file);
                self.start(replica, false);
            }
            Err(error) => self.judge.accuse(format!("a snapshot could not be used: {error}")),
        }
    }

    /// How much is in doubt at a copy.
    pub(super) fn in_doubt_at(&self, copy: usize) -> u64 {
        self.copies[copy].process.as_ref().map_or(0, |process| process.engine().counts().in_doubt)
    }

    /// Makes a backup of a branch that has one copy, or has it back.
    pub(super) fn back_up_or_restore(&mut self, looks: u64) {
        let lonely = |branch: &usize| self.config.replicas[*branch] == 0;
        let branches: Vec<usize> = (0..self.names.len()).filter(lonely).collect();
        if branches.is_empty() {
            return;
        }
        let doubtful = branches.iter().copied().find(|branch| self.in_doubt_at(self.serving[*branch]) > 0);
        if doubtful.is_none() && looks > 0 && self.rng.chance(990) {
            self.later(self.config.tick_ms, Fault::Backup(looks - 1));
            return;
        }
        let branch = doubtful.unwrap_or(branches[self.rng.index(branches.len())]);
        let copies: Vec<usize> = (0..self.copies.len()).filter(|copy| self.copies[*copy].branch == branch).collect();
        let [copy] = copies[..] else { return };
        match self.backups.remove(&branch) {
            None => {
                let file = self.folder.file("backup");
                let copied = self.enter(copy, |process| process.core.dbs.copy_to(&file, &|| false));
                if let (Some(Ok(_)), Ok(bytes)) = (copied, std::fs::read(&file)) {
                    self.note(copy, "is backed up", "");
                    self.backups.insert(branch, Backup { at_ms: self.now_ms, bytes });
                }
                let _ = std::fs::remove_file(&file);
            }
            Some(backup) => {
                if self.rng.chance(300) {
                    // By then others have forgotten what they had with it.
                    self.later(1, Fault::Leap);
                }
                let log = self.log_file(copy);
                let left = std::fs::read(&log).ok();
                self.kill(copy);
                // Who is killed leaves a log behind, and an end in the same process would put it away.
                if let Some(left) = left {
                    let _ = std::fs::write(&log, left);
                }
                self.note(copy, "is restored", &format!("{}", backup.at_ms));
                let file = self.folder.file("backup");
                let put_back = std::fs::write(&file, &backup.bytes).map_err(|error| error.to_string()).and_then(|()| {
                    let arguments = Arguments::try_parse_from(&self.copies[copy].arguments);
                    let arguments = arguments.map_err(|error| error.to_string())?;
                    put_back(&arguments.database, &file, true)
                });
                match put_back {
                    Ok(restored) => {
                        // Both may be there, and nobody wants them here.
                        let _ = std::fs::remove_file(format!("{}-wal", restored.kept.display()));
                        let _ = std::fs::remove_file(restored.kept);
                    }
                    Err(error) => self.judge.accuse(format!("the backup could not be put in place: {error}")),
                }
                self.setbacks.push(Setback {
                    branch,
                    at_ms: self.now_ms,
                    rivals: Vec::new(),
                    of_ms: Some(backup.at_ms),
                });
            }
        }
    }

    /// The log of SQLite beside a database.
    fn log_file(&self, copy: usize) -> PathBuf {
        let mut name = self.copies[copy].path.clone().into_os_string();
        name.push("-wal");
        name.into()
    }

    /// Where a copy's log ends.
    pub(super) fn position_of(&self, copy: usize) -> Option<Position> {
        self.copies[copy].process.as_ref()?.core.dbs.position()
    }
}

/// A replica's wish to follow, as it goes over the wire.
fn wish_to_follow(process: &Process) -> Option<String> {
    let dbs = &process.core.dbs;
    let copy_state = dbs.copy_state();
    let epoch_id = |number| if number == copy_state.epoch.number { copy_state.epoch.id.clone() } else { String::new() };
    let position = dbs.position().map(|last| LogPosition {
        sequence: last.sequence,
        epoch: last.epoch,
        epoch_id: epoch_id(last.epoch),
        digest: to_hex(&last.digest),
    });
    let params = Replicate {
        branch: process.core.service.bank.name().clone(),
        port: process.core.service.address.port,
        heard_epoch: copy_state.heard.number,
        heard_epoch_id: copy_state.heard.id,
        position,
        version: newest_version(),
    };
    let params = serde_json::to_string(&params).ok()?;
    Some(format!(r#"{{"action":"replicate","params":{params}}}"#))
}

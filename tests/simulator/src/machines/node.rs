//! A branch: its two machines, and a disk that keeps what is durable and loses what is not.

use std::collections::VecDeque;

use protocol::TxId;
use two_phase_commit::{Booked, OnDisk, Options, Outcome, Output, PeerAddr, Record, Refusal, Role, Site, Step, Tick};

use crate::machines::ledger::{Cash, Ledger};

/// A branch.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, under which it is reached.
    pub address: PeerAddr,
    /// Whether it runs.
    pub phase: Phase,
    /// Its two machines.
    pub site: Site,
    /// Its disk, which survives a crash.
    pub disk: Disk,
    /// What it will delete from its log, and when. Forgotten by a crash, which does no harm.
    pub forgotten: Vec<(Tick, TxId)>,
}

/// Whether a branch runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It was killed and starts again then.
    Down(Tick),
    /// It listens, and will have read its log then.
    Recovering(Tick),
    /// It works.
    Up,
}

/// What a branch has written.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The accounts, as they are durable.
    pub ledger: Ledger,
    /// The log, as it is durable.
    pub log: Vec<Record>,
    /// What is being written, in order. A crash makes a first part of it durable and drops the rest.
    pub queue: VecDeque<Write>,
}

/// One transaction of the database on its way to the disk.
#[derive(Clone, Debug)]
pub struct Write {
    /// When it will be durable.
    pub ready_at: Tick,
    /// What it does.
    pub job: Job,
}

/// What a write does.
#[derive(Clone, Debug)]
pub enum Job {
    /// What a machine put out.
    Machine {
        /// Which machine.
        role: Role,
        /// What it put out.
        output: Output,
        /// Whether it was confirmed before it is durable, which is allowed when nothing in it is forced.
        is_confirmed: bool,
    },
    /// What a client asked for at this branch alone.
    Cash {
        /// Its id.
        txid: TxId,
        /// What it is.
        cash: Cash,
    },
}

impl Node {
    /// A branch that starts with an empty log.
    #[must_use]
    pub fn new(address: PeerAddr, options: Options, ledger: Ledger) -> Self {
        let disk = Disk { ledger, ..Disk::default() };
        Self { address, phase: Phase::Recovering(0), site: Site::new(options), disk, forgotten: Vec::new() }
    }

    /// Whether it takes requests.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// The process starts: memory is empty, and the clock is the wall's.
    pub fn start(&mut self, options: Options, now: Tick) {
        self.site = Site::new(options);
        let _ = self.site.tick(now);
        self.forgotten.clear();
    }

    /// Reads the log.
    pub fn recover(&mut self) -> Vec<Step> {
        self.site.recover(self.disk.log.clone())
    }

    /// Deletes from the log what nobody needs any more.
    pub fn sweep(&mut self, now: Tick) {
        let Self { disk, forgotten, .. } = self;
        forgotten.retain(|(after, txid)| {
            if *after < now {
                disk.log.retain(|record| record.txid() != txid);
            }
            *after >= now
        });
    }
}

impl Disk {
    /// Makes one write durable, all of it or nothing.
    ///
    /// # Errors
    /// The ledger's refusal; nothing was done.
    pub fn execute(&mut self, job: &Job) -> Result<(), Refusal> {
        match job {
            Job::Machine { output, .. } => {
                assert!(output.ledger_ops.len() <= 1, "an output has at most one ledger operation");
                output.ledger_ops.iter().try_for_each(|op| self.ledger.execute(op))?;
                self.log.extend(output.records.iter().cloned());
            }
            Job::Cash { txid, cash } => self.ledger.cash(txid, cash)?,
        }
        Ok(())
    }

    /// What the disk knows of a transaction that the coordinator does not remember.
    #[must_use]
    pub fn look_up_booked(&self, txid: &TxId) -> Booked {
        let begun = self.log.iter().find_map(|record| match record {
            Record::Begun(transfer) if transfer.txid == *txid => Some(transfer),
            Record::Begun(_)
            | Record::Contradicted { .. }
            | Record::Resolved { .. }
            | Record::Committed { .. }
            | Record::Aborted { .. }
            | Record::Ended { .. }
            | Record::Prepared(_)
            | Record::Settled { .. }
            | Record::Confirmed { .. }
            | Record::Mixed { .. } => None,
        });
        let mut rows = self.ledger.rows.range((txid.clone(), 0)..=(txid.clone(), u32::MAX));
        match begun {
            Some(transfer) if rows.next().is_some() => Booked::Committed(transfer.participants()),
            Some(_) | None => Booked::Nothing,
        }
    }

    /// What the disk knows of a transaction that the participant does not remember.
    #[must_use]
    pub fn look_up(&self, txid: &TxId) -> OnDisk {
        if self.ledger.suspense.contains_key(txid) {
            return OnDisk::Mixed;
        }
        if self.ledger.rows.range((txid.clone(), 0)..=(txid.clone(), u32::MAX)).next().is_some() {
            return OnDisk::Settled(Outcome::Committed);
        }
        let is_abort = |record: &Record| match record {
            Record::Settled { txid: settled, outcome, .. } => settled == txid && *outcome == Outcome::Aborted,
            Record::Begun(_)
            | Record::Contradicted { .. }
            | Record::Resolved { .. }
            | Record::Committed { .. }
            | Record::Aborted { .. }
            | Record::Ended { .. }
            | Record::Prepared(_)
            | Record::Confirmed { .. }
            | Record::Mixed { .. } => false,
        };
        if self.log.iter().any(is_abort) {
            return OnDisk::Settled(Outcome::Aborted);
        }
        OnDisk::Nothing
    }
}

//! Where other branches are: names and addresses, kept on disk so that a restart still knows whom to ask.
//!
//! An address comes from the command line (`--peers`) or from the branch itself, when a link is made: then
//! it has proved the bank's key and said its name. A newer address of a name takes the older one's place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::{Address, BranchName};

use crate::dbs_exec::{DbsExec, Query as _, params};
use crate::error::{Error, Result};
use crate::limits::BRANCHES;

/// The known branches.
///
/// Invariant: at most [`BRANCHES`] entries, the same in memory and on disk.
pub struct Directory {
    dbs: Arc<DbsExec>,
    known: Mutex<BTreeMap<BranchName, Address>>,
    /// The highest epoch that each branch was heard to have.
    epochs: Mutex<BTreeMap<BranchName, i64>>,
    /// Branches whose epoch could not be written yet.
    unwritten: Mutex<BTreeSet<BranchName>>,
}

impl Directory {
    /// Reads what is known from the disk.
    ///
    /// # Errors
    /// Trouble of the database.
    pub fn open(dbs: Arc<DbsExec>) -> Result<Self> {
        let rows = dbs.read(|reader| {
            reader.query_all("SELECT name, host, port, epoch FROM branches ORDER BY name", params![], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?))
            })
        })?;
        let (mut known, mut epochs) = (BTreeMap::new(), BTreeMap::new());
        for (name, host, port, epoch) in rows {
            let Ok(name) = name.parse::<BranchName>() else { continue };
            epochs.insert(name.clone(), epoch);
            known.insert(name, Address { host, port });
        }
        Ok(Self { dbs, known: Mutex::new(known), epochs: Mutex::new(epochs), unwritten: Mutex::default() })
    }

    /// The highest epoch that a branch was heard to have; 0 when nothing was heard.
    #[must_use]
    pub fn epoch_of(&self, name: &BranchName) -> i64 {
        self.epochs.lock().get(name).copied().unwrap_or(0)
    }

    /// Notes the epoch of a branch that was met, durably. An older one than is known is refused.
    ///
    /// # Errors
    /// [`Error::LowerEpoch`], or trouble of the database.
    pub fn learn_epoch(&self, name: &BranchName, epoch: i64) -> Result<()> {
        let known = self.epoch_of(name);
        if epoch < known {
            return Err(Error::LowerEpoch { branch: name.to_string(), known });
        }
        // That of a branch which never was replaced need not be kept.
        if (epoch == known && !self.unwritten.lock().contains(name)) || epoch <= 1 {
            return Ok(());
        }
        // In memory first: what is refused from now on is refused in any case.
        self.epochs.lock().insert(name.clone(), epoch);
        self.unwritten.lock().insert(name.clone());
        let row_name = name.to_string();
        self.dbs.execute(move |tx| {
            tx.execute("UPDATE branches SET epoch = ?2 WHERE name = ?1 AND epoch < ?2", params![row_name, epoch])
        })?;
        self.unwritten.lock().remove(name);
        Ok(())
    }

    /// Notes where a branch is.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many branches are known, or trouble of the database.
    pub fn learn(&self, name: &BranchName, address: &Address) -> Result<()> {
        {
            let mut known = self.known.lock();
            if known.get(name) == Some(address) {
                return Ok(());
            }
            if known.len() >= BRANCHES && !known.contains_key(name) {
                return Err(Error::Busy);
            }
            known.insert(name.clone(), address.clone());
        }
        let epoch = self.epoch_of(name);
        let (name, address) = (name.to_string(), address.clone());
        self.dbs.execute(move |tx| {
            tx.execute(
                "INSERT INTO branches (name, host, port, epoch) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET host = excluded.host, port = excluded.port",
                params![name, address.host, address.port, epoch],
            )
        })?;
        Ok(())
    }

    /// Where a branch is.
    #[must_use]
    pub fn address_of(&self, name: &BranchName) -> Option<Address> {
        self.known.lock().get(name).cloned()
    }

    /// Which branch is at an address, if one is known to be there.
    #[must_use]
    pub fn name_at(&self, address: &Address) -> Option<BranchName> {
        self.known.lock().iter().find(|(_, known)| *known == address).map(|(name, _)| name.clone())
    }

    /// Every known branch.
    #[must_use]
    pub fn all(&self) -> Vec<(BranchName, Address)> {
        self.known.lock().iter().map(|(name, address)| (name.clone(), address.clone())).collect()
    }
}

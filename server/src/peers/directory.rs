//! Where other branches are: names and addresses, kept on disk so that a restart still knows whom to ask.
//!
//! An address is *sure* when a person has given it (`--peers`) or when the branch was dialled there, proved the bank's
//! key and said its name. Where a branch calls from is not where to call: behind address translation, in a container,
//! on a machine with several addresses nobody may listen there. So what is only *observed* takes the place of nothing
//! that is sure; it is what is tried when the sure address no longer answers (`links` does that).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::{Address, BranchName, Epoch, EpochOrder};

use crate::dbs_exec::{DbsExec, Query as _, params};
use crate::error::{Error, Result};
use crate::limits::{ALIASES, BRANCHES};

/// The known branches.
///
/// Invariant: at most [`BRANCHES`] entries, the same in memory and on disk.
pub struct Directory {
    dbs: Arc<DbsExec>,
    known: Mutex<BTreeMap<BranchName, Address>>,
    /// Where branches have called from, which may be where they are; the latest of each.
    observed: Mutex<BTreeMap<BranchName, Address>>,
    /// Other addresses at which a branch was found, so that who names one, as a receiver's place or as a coordinator,
    /// means the branch and finds the link that is there.
    aliases: Mutex<BTreeMap<Address, BranchName>>,
    /// The highest epoch that each branch was heard to have.
    epochs: Mutex<BTreeMap<BranchName, Epoch>>,
    /// Branches whose epoch could not be written yet.
    unwritten: Mutex<BTreeSet<BranchName>>,
}

impl Directory {
    /// Reads what is known from the disk.
    ///
    /// # Errors
    /// A database error.
    pub fn open(dbs: Arc<DbsExec>) -> Result<Self> {
        let rows = dbs.read(|reader| {
            reader.query_all("SELECT name, host, port, epoch, epoch_id FROM branches ORDER BY name", params![], |row| {
                let epoch = Epoch { number: row.get(3)?, id: row.get(4)? };
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, epoch))
            })
        })?;
        let (mut known, mut epochs) = (BTreeMap::new(), BTreeMap::new());
        for (name, host, port, epoch) in rows {
            // Written by a version with other rules for names: the other branches are reached all the same.
            let Ok(name) = name.parse::<BranchName>() else { continue };
            epochs.insert(name.clone(), epoch);
            known.insert(name, Address { host, port });
        }
        let (observed, aliases) = Default::default();
        Ok(Self {
            dbs,
            known: Mutex::new(known),
            observed,
            aliases,
            epochs: Mutex::new(epochs),
            unwritten: Mutex::default(),
        })
    }

    /// The highest epoch that a branch was heard to have.
    #[must_use]
    pub fn epoch_of(&self, name: &BranchName) -> Epoch {
        self.epochs.lock().get(name).cloned().unwrap_or_default()
    }

    /// Whether a copy of a branch is of the epoch that this branch deals with, and not of an older or another one.
    #[must_use]
    pub fn deals_with(&self, name: &BranchName, epoch: &Epoch) -> bool {
        match self.epoch_of(name).stands_to(epoch) {
            // An older copy was replaced, and of two with one number this branch deals with the one that it met first.
            EpochOrder::Newer | EpochOrder::Conflict => false,
            EpochOrder::Same | EpochOrder::Older => true,
        }
    }

    /// Notes the epoch of a branch that was met, durably. One that is older than what is known is refused, and so is
    /// another of the same number: of two copies that were promoted side by side this branch deals with the first it
    /// met, until one of a higher number comes.
    ///
    /// # Errors
    /// [`Error::LowerEpoch`], [`Error::EpochConflict`], [`Error::Invalid`] for one that can't be, or a database
    /// error.
    pub fn learn_epoch(&self, name: &BranchName, epoch: &Epoch) -> Result<()> {
        // One lock over look and note: of two that come at once, one is the first.
        let mut epochs = self.epochs.lock();
        let known = epochs.get(name).cloned().unwrap_or_default();
        if !known.may_become(epoch) {
            return Err(Error::Invalid(format!("branch {name} can't be of epoch {epoch}: {known} is known here")));
        }
        match epoch.stands_to(&known) {
            EpochOrder::Older => return Err(Error::LowerEpoch { branch: name.to_string(), known }),
            EpochOrder::Conflict => return Err(Error::EpochConflict { branch: name.to_string(), known }),
            EpochOrder::Newer | EpochOrder::Same => {}
        }
        let later = known.clone().or_later(epoch.clone());
        // That of a branch which never was replaced need not be kept.
        if (later == known && !self.unwritten.lock().contains(name)) || epoch.number <= 1 {
            return Ok(());
        }
        if epochs.len() >= BRANCHES && !epochs.contains_key(name) {
            return Err(Error::Busy);
        }
        // In memory first: what is refused from now on is refused in any case.
        epochs.insert(name.clone(), later.clone());
        drop(epochs);
        self.unwritten.lock().insert(name.clone());
        let row_name = name.to_string();
        self.dbs.execute(move |tx| {
            tx.execute(
                "UPDATE branches SET epoch = ?2, epoch_id = ?3 WHERE name = ?1 AND (epoch < ?2 OR epoch = ?2 AND epoch_id = '')",
                params![row_name, later.number, later.id],
            )
        })?;
        self.unwritten.lock().remove(name);
        Ok(())
    }

    /// Notes where a branch has called from. Returns true when it is known to be somewhere else: somebody should look which
    /// of the two still answers.
    ///
    /// # Errors
    /// As [`Directory::learn`].
    pub fn observe(&self, name: &BranchName, address: &Address) -> Result<bool> {
        match self.address_of(name) {
            // An unsure address is better than none: without it the branch could answer and never ask.
            None => self.learn(name, address).map(|()| false),
            Some(known) if known == *address => Ok(false),
            Some(_) => {
                let mut observed = self.observed.lock();
                if observed.len() < BRANCHES || observed.contains_key(name) {
                    observed.insert(name.clone(), address.clone());
                }
                Ok(true)
            }
        }
    }

    /// Where a branch has called from, if it is known to be somewhere else.
    #[must_use]
    pub fn observed_at(&self, name: &BranchName) -> Option<Address> {
        self.observed.lock().get(name).cloned()
    }

    /// The branch that was found at an address that is not the one it is known to be at.
    #[must_use]
    pub fn alias_of(&self, address: &Address) -> Option<BranchName> {
        self.aliases.lock().get(address).cloned()
    }

    /// Notes another address of a branch, where it was dialled and has proved the key.
    pub fn learn_alias(&self, address: &Address, name: &BranchName) {
        let mut aliases = self.aliases.lock();
        if aliases.len() >= ALIASES {
            // They are found again as they are needed; which of them is still right nobody can tell.
            aliases.clear();
        }
        aliases.insert(address.clone(), name.clone());
    }

    /// Notes where a branch surely is.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many branches are known, or a database error.
    pub fn learn(&self, name: &BranchName, address: &Address) -> Result<()> {
        {
            let mut known = self.known.lock();
            // The sure address has been found, so the guess is of no more use.
            self.observed.lock().remove(name);
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
                "INSERT INTO branches (name, host, port, epoch, epoch_id) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (name) DO UPDATE SET host = excluded.host, port = excluded.port",
                params![name, address.host, address.port, epoch.number, epoch.id],
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
        let known = self.known.lock().iter().find(|(_, known)| *known == address).map(|(name, _)| name.clone());
        known.or_else(|| self.alias_of(address))
    }

    /// Every known branch.
    #[must_use]
    pub fn all(&self) -> Vec<(BranchName, Address)> {
        self.known.lock().iter().map(|(name, address)| (name.clone(), address.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sure_address_stays_whatever_address_its_branch_calls_from() {
        let folder = tempfile::tempdir().unwrap();
        let dbs = Arc::new(DbsExec::open(&folder.path().join("bank.db"), |_| {}).unwrap());
        let directory = Directory::open(Arc::clone(&dbs)).unwrap();
        let delhi: BranchName = "Delhi".parse().unwrap();
        let (sure, other): (Address, Address) = ("10.0.0.5:9100".parse().unwrap(), "10.0.0.9:9100".parse().unwrap());
        assert_eq!(directory.observe(&delhi, &other), Ok(false), "it is all that is known");
        assert_eq!(directory.address_of(&delhi), Some(other.clone()));
        directory.learn(&delhi, &sure).unwrap();
        assert_eq!(directory.observe(&delhi, &sure), Ok(false));
        assert_eq!(directory.observe(&delhi, &other), Ok(true), "somebody has to look");
        assert_eq!(
            (directory.address_of(&delhi), directory.observed_at(&delhi)),
            (Some(sure.clone()), Some(other.clone()))
        );
        assert_eq!(Directory::open(dbs).unwrap().address_of(&delhi), Some(sure.clone()), "after a restart too");
        directory.learn_alias(&other, &delhi);
        assert_eq!((directory.name_at(&other), directory.name_at(&sure)), (Some(delhi.clone()), Some(delhi.clone())));
        directory.learn(&delhi, &other).unwrap();
        assert_eq!((directory.address_of(&delhi), directory.observed_at(&delhi)), (Some(other), None));
    }
}

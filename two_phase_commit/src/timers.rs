//! When each transaction wants to be looked at again: an ordered set, so the next one is found at once.

use std::collections::BTreeSet;

use protocol::TxId;

use crate::options::Tick;

/// At most one timer for each transaction. Whoever owns the transaction remembers when it is due.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Timers {
    by_tick: BTreeSet<(Tick, TxId)>,
}

impl Timers {
    pub(crate) fn insert(&mut self, txid: &TxId, due: Option<Tick>) {
        if let Some(tick) = due {
            self.by_tick.insert((tick, txid.clone()));
        }
    }

    pub(crate) fn remove(&mut self, txid: &TxId, due: Option<Tick>) {
        if let Some(tick) = due {
            self.by_tick.remove(&(tick, txid.clone()));
        }
    }

    /// The transaction that is due first, if its time has come.
    pub(crate) fn first_due(&self, now: Tick) -> Option<TxId> {
        // By time, then by id: which of two goes first is the same in each run.
        self.by_tick.first().filter(|(tick, _)| *tick <= now).map(|(_, txid)| txid.clone())
    }

    pub(crate) fn first(&self) -> Option<Tick> {
        self.by_tick.first().map(|(tick, _)| *tick)
    }

    /// The transaction that is due first, whether its time has come or not.
    pub(crate) fn oldest(&self) -> Option<TxId> {
        self.by_tick.first().map(|(_, txid)| txid.clone())
    }

    pub(crate) fn len(&self) -> usize {
        self.by_tick.len()
    }
}

//! Links that are cut for a lesson, as a cable would be. Both sides notice only what a network would show them.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use two_phase_commit::PeerAddr;

use super::Links;
use crate::error::{Error, Result};

impl Links {
    /// Breaks the links to a peer and lets none come about, as a cut cable would, until it is mended. What is on its
    /// way to either side is lost.
    pub fn cut(&self, peer: &PeerAddr) {
        self.was_cut.store(true, Ordering::SeqCst);
        let mut peers = self.peers.lock();
        let known = peers.entry(peer.clone()).or_default();
        known.is_cut = true;
        for up in known.up.drain(..) {
            // An error means that it is closed already.
            let _ = up.stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends a cut and makes a link at once. Nothing changes at a peer that is not cut.
    pub fn mend(self: &Arc<Self>, peer: &PeerAddr) {
        {
            let mut peers = self.peers.lock();
            let known = peers.entry(peer.clone()).or_default();
            if !std::mem::take(&mut known.is_cut) {
                return;
            }
            // What failed while it was cut says nothing of the cable that is whole again.
            (known.failures, known.not_before) = (0, None);
        }
        self.greet(peer);
    }

    /// Whether the link to a peer is cut.
    #[must_use]
    pub fn is_cut(&self, peer: &PeerAddr) -> bool {
        // The flag first: outside of lessons no frame costs the lock.
        self.was_cut.load(Ordering::SeqCst) && self.peers.lock().get(peer).is_some_and(|known| known.is_cut)
    }

    /// Refuses a peer whose link is cut.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn refuse_cut(&self, peer: &PeerAddr) -> Result<()> {
        if self.is_cut(peer) {
            return Err(Error::Unreachable(format!("the link to {peer} is cut")));
        }
        Ok(())
    }
}

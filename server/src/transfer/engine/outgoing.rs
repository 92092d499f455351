//! Step four of the driver's contract: what stands on durable records is sent, and told.

use std::collections::BTreeMap;

use two_phase_commit::{Envelope, Notice, Output, PeerAddr};

use super::Engine;
use crate::peers::links::StampedMessage;
use crate::transfer::events::Happened;

impl Engine {
    /// Sends the messages of these outputs, and tells their notices. Neither waits for the network.
    pub(super) fn send_and_tell(&self, outputs: Vec<Output>) {
        // What was found on disk at the start may not have reached the replicas that must have it. Until it has,
        // everything is kept to oneself (rule 13); the machines send it again as soon as it has.
        let may_speak = self.parts.dbs.feed().is_start_confirmed();
        let mut notices = Vec::new();
        let mut mail: BTreeMap<PeerAddr, Vec<StampedMessage>> = BTreeMap::new();
        for output in outputs {
            for Envelope { to, message } in output.messages {
                // Kept by the peer alone, not by the message: what matters is made anew when the peer is told.
                if !may_speak {
                    self.kept_back.lock().insert(to);
                    continue;
                }
                // An outside program at this branch, which waits in a thread here: no link, and nothing for the events
                // between branches.
                if let Some(mailbox) = self.mailboxes.lock().get(&to) {
                    // An outside program that has given up waiting asks again.
                    let _ = mailbox.try_send(message);
                    continue;
                }
                let txid = message.txid().clone();
                // The number first and the sending afterwards, so that no branch can have received what is not noted
                // here as sent.
                let sent = Happened::Sent { to: to.clone(), message: message.clone() };
                let (number, clock) = self.events.add(&txid, sent);
                let stamped = StampedMessage { message, id: self.events.message_id(number), clock };
                mail.entry(to).or_default().push(stamped);
            }
            notices.extend(output.notices);
        }
        // One frame for each peer, whatever the transfers.
        for (to, messages) in mail {
            self.parts.carrier.carry(&to, messages);
        }
        notices.iter().for_each(|notice| self.tell(notice));
    }

    fn tell(&self, notice: &Notice) {
        match notice {
            // The client's thread waits for this.
            Notice::Decided { txid, decision } => {
                self.events.add(txid, Happened::Note(notice.to_string()));
                self.waiters.decided(txid, decision);
                if let Some(sms) = &self.parts.sms {
                    sms.notify();
                }
            }
            // It still waits a little for this, so as to be able to say "done".
            Notice::Delivered { txid, .. } => self.waiters.delivered(txid),
            // A person had settled it here, and was right: nothing is left to do, but they will want to know.
            Notice::Confirmed { txid } => {
                log::info!("transfer {txid}, settled by hand, is confirmed by its coordinator");
            }
            // A person was wrong. It is an error because money stands on the suspense account until people have sorted
            // it out.
            Notice::Mixed { txid, ours, theirs } => {
                log::error!(
                    "transfer {txid} was settled by hand as {ours}, but its coordinator says {theirs}: see the suspense account"
                );
                self.events.add(txid, Happened::Note(notice.to_string()));
            }
            // One of two branches has lost what it wrote (rule 14). That must not stay unnoticed, and no program can
            // mend it.
            Notice::Contradicted { txid, by, refusal } => {
                log::error!(
                    "transfer {txid}: {by} and this branch contradict one another ({refusal}); where list_pending shows it, resolve settles it"
                );
                self.events.add(txid, Happened::Note(notice.to_string()));
            }
            // Rows are deleted by their age.
            Notice::Forgotten { .. } => {}
        }
    }
}

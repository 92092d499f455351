//! What comes over the links: messages for the machines, and news of the links themselves.

use protocol::TxId;
use two_phase_commit::{Booked, InDoubt, Message, OnDisk, Outcome, PeerAddr, Role};

use super::{Engine, StopOnPanic, Task};
use crate::error::Result;
use crate::peers::links::{Inbox, StampedMessage};
use crate::transfer::events::Happened;
use crate::transfer::records;

impl Inbox for Engine {
    fn received(&self, from: &PeerAddr, messages: Vec<StampedMessage>) {
        if self.may_receive() {
            self.receive(from, messages);
        }
    }

    fn undeliverable(&self, to: &PeerAddr, messages: Vec<StampedMessage>) {
        let _guard = StopOnPanic(self);
        // A prepare that can't be delivered ends its transfer at once; anything else is sent again in its time.
        let prepares = messages.into_iter().filter(|stamped| matches!(stamped.message, Message::Prepare(_)));
        let tasks = prepares.map(|stamped| {
            let txid = stamped.message.txid();
            self.ask(|site| site.unreachable(txid, to))
        });
        let tasks = tasks.collect();
        self.carry_out_quietly(tasks);
    }

    fn linked(&self, peer: &PeerAddr) {
        let _guard = StopOnPanic(self);
        // Whoever is back may be a branch that was down for long, and a back-off would add to that.
        self.site.lock().reconnected(peer);
    }

    fn met_itself(&self, at: &PeerAddr) {
        let _guard = StopOnPanic(self);
        // This branch's coordinator gives ids of its own, and none of them is taken here: it has begun no such transfer.
        let waiting: Vec<TxId> = {
            let site = self.site.lock();
            let named = |in_doubt: &InDoubt<'_>| in_doubt.transfer.coordinator.as_ref() == Some(at);
            site.participant().in_doubt().filter(named).map(|in_doubt| in_doubt.transfer.txid.clone()).collect()
        };
        // "Aborted" is what its own coordinator would answer to an inquiry about each of them.
        let tasks = waiting.into_iter().map(|txid| {
            let decision = Message::Decision { txid, outcome: Outcome::Aborted };
            self.ask(|site| site.step(at, &decision, OnDisk::Nothing, &Booked::Nothing))
        });
        let tasks = tasks.collect();
        self.carry_out_quietly(tasks);
    }
}

impl Engine {
    /// Whether enough replicas are there. Without them nothing that comes of a message could be made durable where it
    /// must be, so it is dropped as a network might; it is sent again.
    #[must_use]
    pub fn may_receive(&self) -> bool {
        self.parts.dbs.feed().has_enough()
    }

    /// Hands messages to the machines, and carries out what they answer, as one batch: it shares one commit.
    pub fn receive(&self, from: &PeerAddr, messages: Vec<StampedMessage>) {
        let _guard = StopOnPanic(self);
        let mut tasks = Vec::new();
        for StampedMessage { message, id, clock } in messages {
            let txid = message.txid().clone();
            // Before the machine takes it, so that what the machine does stands after its cause.
            let happened = Happened::Received { from: from.clone(), message: message.clone(), id };
            self.events.add_received(&txid, happened, &clock);
            match self.step(from, &message) {
                Ok(task) => tasks.push(task),
                // As if the network had lost it: the peer sends again what matters.
                Err(error) => log::error!("a message of {from} about {txid} is dropped: {error}"),
            }
        }
        self.carry_out_quietly(tasks);
    }

    /// Hands a message to the machines, with what the disk says of its transaction where they don't remember it.
    ///
    /// Whether they do is asked under the lock under which they take it: one that is forgotten between the two would be
    /// taken for one that never was.
    pub(in crate::transfer) fn step(&self, from: &PeerAddr, message: &Message) -> Result<Task> {
        let from = &self.as_named(from, message);
        let remembered = self.try_ask(|site| {
            if site.needs_the_disk_for(message) {
                return Err(());
            }
            Ok(site.step(from, message, OnDisk::Nothing, &Booked::Nothing))
        });
        if let Ok(task) = remembered {
            return Ok(task);
        }
        // Without the lock, since the disk may be slow and other transfers go on. Should a message of the same
        // transaction come between, the machine has it in memory then, and passes over what the disk has said.
        let (own_name, txid) = (&self.parts.name, message.txid());
        let (on_disk, booked) = self.parts.dbs.read(|reader| match message.role() {
            Role::Coordinator => Ok((OnDisk::Nothing, records::booked(reader, own_name, txid)?)),
            Role::Participant => Ok((records::on_disk(reader, txid)?, Booked::Nothing)),
        })?;
        Ok(self.ask(|site| site.step(from, message, on_disk, &booked)))
    }

    /// The sender under the name that the transfer's prepare has for it: a program may have named the coordinator by
    /// its address.
    fn as_named(&self, from: &PeerAddr, message: &Message) -> PeerAddr {
        if message.role() == Role::Coordinator {
            // A coordinator asks by branch names alone, and a link's other end is known by its name.
            return from.clone();
        }
        let site = self.site.lock();
        let named = site.participant().coordinator_of(message.txid());
        named.filter(|named| self.parts.links.is_alias(named, from)).unwrap_or(from).clone()
    }
}

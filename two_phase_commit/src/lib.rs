//! Two-phase commit with presumed abort, as two pure state machines: a [`Coordinator`] and a [`Participant`]. A
//! [`Site`] is both of one branch.
//!
//! # The problem
//!
//! Mumbai is to take 50 rupees from account 1001, and Delhi is to give them to account 1002. Each branch has
//! a disk of its own, and either can stop between any two instructions. If both do their half, the money has
//! moved. If neither does, nothing has happened. If only one does, the bank has lost or made 50 rupees. No
//! single write to a single disk does both halves, so the branches must agree, and the agreement must survive
//! whatever happens to the machines and to the wire between them.
//!
//! # The two phases
//!
//! ```text
//!   client      Mumbai (coordinator)                    Delhi (participant)
//!     │ transfer     │                                        │
//!     ├─────────────▶█ begun + hold 50 at 1001                │          █ = forced to disk
//!     │              ├── prepare: deposit 50 to 1002 ────────▶│
//!     │              │                                        █ prepared + room for 50 at 1002
//!     │              │◀───────────────────────────── vote yes ┤ ┐
//!     │              █ committed + 1001 pays   ◀ commit point │ │ in doubt
//!     │◀── complete ─┤                                        │ │
//!     │              ├── decision: committed ────────────────▶│ ┘
//!     │              │                                        █ settled + 1002 is paid
//!     │              │◀───────────────────────── acknowledged ┤
//!     │              ▪ ended (not forced)                     │
//! ```
//!
//! *First phase: can you?* The coordinator writes down what it is about to do and holds the payer's money,
//! in one write. Then it asks each participant to prepare. A participant that can, reserves what it needs (the
//! money of a withdrawal, the room for a deposit), makes that durable together with a record of the promise,
//! and votes yes. From then on it can commit, whatever happens, and it has given up the right to change its
//! mind. A participant that can't, votes no and keeps nothing.
//!
//! *Second phase: do it.* When every vote is a yes, the coordinator writes the word "committed" into its log
//! together with its own half of the transfer. **That one write on one disk is the commit point**: a moment
//! before it nothing has happened, a moment after it everything has, even if no one else knows yet. Then it
//! tells the participants until each has acknowledged. If any vote is a no, or does not come in time, it aborts
//! instead: it releases its hold and tells those who may be waiting.
//!
//! # What is forced to disk before what is sent, and why
//!
//! Every forced write stands in front of a message that would be a lie without it:
//!
//! - *Begun and hold, before the first prepare* (rule 1). The hold must not outlive the memory of why it is
//!   there: after a crash the record says what to release. Without the hold someone else could spend the
//!   money between the vote and the commit, and a commit that can't be carried out is worth nothing.
//! - *Prepared and hold, before the vote* (rule 2). "Yes" means "I can, even if I crash now". A participant that
//!   voted first and crashed would come back knowing nothing of a transfer that the coordinator has committed.
//! - *Committed, before any decision is sent or told* (rule 3). A coordinator that told first and crashed would
//!   find an undecided transaction in its log and abort what Delhi has already paid out.
//! - *Settled, before the acknowledgement* (rule 6). The acknowledgement allows the coordinator to forget. If it
//!   came first, and then the crash, there would be nobody left to ask.
//!
//! Two records are *not* forced: the abort and the end. That is the presumption at work.
//!
//! # Presumed abort
//!
//! A coordinator that is asked about a transaction of which it knows nothing answers "aborted" (rule 5). So an
//! abort needs no forced record and no acknowledgement: forgetting it gives the right answer by itself. The
//! price is that a commit must *not* be forgotten as long as anyone may still ask. The textbooks keep its record until
//! every participant has acknowledged, and they assume that a participant never forgets its acknowledgement. Ours may:
//! it is restored from a backup, or a copy takes its place that lagged behind, and it is in doubt once more, long
//! after. So the memory of a commit has no end here: when log and memory have let it go, the books answer (rule 12).
//! A leg that is booked was committed, whoever has forgotten it. And not knowing counts only once the log has been
//! read: a coordinator that has just been started knows nothing of anything, and until [`Coordinator::recover`] is
//! done it answers no one.
//!
//! # What blocks, and why that can't be helped
//!
//! Between its vote and the decision a participant is *in doubt*. It may not commit, since another may have
//! voted no. It may not abort, since the decision to commit may have been taken, and told to others. Its money
//! stays held. If the coordinator is down, the participant waits until it is up (rule 6), and that may be long.
//! No timer may end the wait, for a timer knows nothing about the decision.
//!
//! This is not a weakness of this code. Among two parties over a wire that may lose messages, no protocol
//! can avoid some such moment (Gray 1978 tells it as the story of two generals). What can be done is to keep the
//! decision on more than one machine: Gray and Lamport (2006) show two-phase commit as the special case of
//! Paxos Commit with one acceptor, which tolerates no failure, and what 2F+1 acceptors buy. That takes more
//! machines and more messages than a bank of three branches wants to teach with. Here the way out is a person
//! (rule 9): an operator may settle a transaction whose coordinator is gone for good. It is recorded as settled
//! by hand; the participant goes on asking, and should the coordinator come back and say otherwise, the books
//! say so: *mixed*, with the difference on a suspense account. Nothing is overwritten.
//!
//! # Who may say what
//!
//! The decision is one party's, and each message is compared with who belongs (rule 11). A participant follows the
//! coordinator that its prepare names, and nobody else who says "commit". It takes a prepare from a branch in that
//! branch's own name alone. Legs join a prepared transaction only from whoever prepared its first: a coordinator asks
//! for all its legs itself, so what comes from another is not part of what it decides. And a coordinator tells an
//! outcome to the parties of that transfer alone; to anyone else it was never committed. An outside program may prepare
//! in a branch's name, but what it prepared so can only ever be aborted: a coordinator commits what it has asked for
//! itself.
//!
//! # When somebody has forgotten
//!
//! A participant that is told to commit what it has never prepared, or has aborted, can't follow. One of the two has
//! lost what it wrote. The coordinator makes a record of it, tells the decision again only now and then (a copy that
//! knows may come back), and waits for a person, for ever and in plain sight (rule 14). The same when the loss is its
//! own: what was undecided by its log at a restart it tells as aborted, for a while and until all have acknowledged;
//! whoever had followed a commit says so. [`Coordinator::resolve_by_hand`] ends it. What was decided stays; the part
//! that the other side didn't do goes to the suspense account, so that the two branches' books agree, and the other
//! side is told so should it ever ask.
//!
//! # The rules, and where each is kept
//!
//! 1. *Begin*: record and hold, then prepares. [`Coordinator::begin`]
//! 2. *Vote*: record and hold, then yes; a refusal leaves nothing. [`Participant::step`], [`Participant::on_hold_refused`]
//! 3. *Decide*: the commit record and the coordinator's own legs in one write. [`Coordinator::step`]
//! 4. *Deliver*: again and again, until all have acknowledged. [`Coordinator::tick`]
//! 5. *Presumed abort*: not knowing means aborted, but only after recovery. [`Coordinator::status`]
//! 6. *In doubt*: ask, never decide; durable, then acknowledged. [`Participant::tick`]
//! 7. *Restart*: undecided aborts, decided is delivered, prepared asks. [`Coordinator::recover`],
//!    [`Participant::recover`]
//! 8. *Once*: anything may be lost, doubled, late or overtaken. Every message is answered by what is known of
//!    its transaction, so a repeat gets the same answer and no second effect.
//! 9. *By hand*: recorded, never overwritten. [`Participant::resolve_by_hand`], [`Coordinator::resolve_by_hand`]
//! 10. *No coordinator*: an outside program prepares leg by leg, and settles. A prepare that names no
//!     coordinator never asks. Legs with one id join one transaction, which has one outcome at a branch. What a person
//!     settles of it waits for nobody any more.
//! 11. *Only the coordinator decides*, for its parties alone. [`Participant::step`], [`Coordinator::step`]
//! 12. *The books answer* before anything is presumed. [`Booked`], [`OnDisk`]
//! 13. *Speak after safe*: what is durable in more than one place is told when it is there. The driver's.
//! 14. *Nothing is stuck, nothing is silent*: what can't be followed is recorded, shown, and settled by a person.
//!     [`Coordinator::contradicted_by`]
//!
//! An abort may overtake its prepare. A participant remembers such an abort on disk, and votes no when the
//! prepare comes. It need not remember for ever. A coordinator sends no prepare after its abort, so only a copy
//! that was under way can come later, and no message is under way longer than
//! [`Options::settled_retention_ticks`]. And if one were: it would be prepared, its vote would find no
//! transaction, and the inquiry would be answered "aborted". Money would be held for a while, never lost.
//!
//! # The driver's contract
//!
//! The machines do nothing themselves: no socket, file, thread, clock or chance. Each input returns an
//! [`Output`], and whoever drives them (the server with threads and SQLite, the simulator with a seed) treats
//! **every** output by these four steps:
//!
//! 1. **Take.** Call the site, under whatever lock protects it, and let the lock go. Nothing below holds it.
//! 2. **Write.** If [`Output::needs_write`], do all its ledger operations and write all its records in *one*
//!    local transaction of the database. Three things can happen:
//!    - it is durable: go on;
//!    - the ledger refuses (only a [`LedgerAction::Hold`] may be refused): undo the transaction, call `on_hold_refused` with
//!      the reason, throw this output away, and treat the one that `on_hold_refused` returns from step 2 on;
//!    - it fails: memory and disk no longer agree. Stop the process, and recover from the disk.
//! 3. **Confirm.** Call `on_durable`. The machine now counts on the disk. It may return another output (what had
//!    arrived meanwhile and had to wait): treat that by these four steps too.
//! 4. **Send and tell.** Hand over the output's messages and notices. A message may be lost here; the machines
//!    send again what matters. Never wait for the network in this step.
//!
//! Confirmation comes before sending so that no answer can arrive at a machine that still waits for its disk. An
//! output without a write goes straight to step 4. An output whose records are all unforced
//! ([`Output::is_forced`]) may be confirmed before it is durable, if the disk keeps the order of writes.
//! Between an output and its confirmation a machine asks for no other write about the same transaction, so
//! writes about different transactions may share a commit and finish in any order.
//!
//! At a start: make the site, which takes nothing yet; `tick` it, unless its clock starts at 0; read the
//! log; `recover` once; treat the outputs.
//! Call `tick` at least every few ticks with the current one, or at `next_deadline`. Hand a message to
//! [`Site::step`] with its sender under the same [`PeerAddr`] under which it was addressed. A [`Notice::Decided`] answers the client; a [`Notice::Delivered`] soon after makes it "done", else
//! delivery is "pending". Each kind of record and how long to keep it is described at [`Record`]; a
//! [`Notice::Forgotten`] allows to delete a transaction's. For a transaction that a machine no longer remembers, the
//! rows in the books answer: see [`OnDisk`] and [`Booked`]. Coordinator and participant of one branch share the ids: the
//! ledger refuses to hold anything at the participant for an id that the coordinator has given. When a call panics, the
//! machine has found itself wrong, and the transaction is no longer in its map: the process stops at once.
//!
//! # What keeps it true
//!
//! States change only along two written tables, [`CoordinatorState::LEGAL`] and [`ParticipantState::LEGAL`], and
//! each transition asserts the invariants of the transaction that it touched, in release builds too. A machine
//! that finds itself wrong panics; the process stops and recovers from the disk, which is better than going on.
//! Maps are ordered and jitter is a function of the transaction and the tick, so the same inputs always give the
//! same outputs. The golden scripts show each claim; `stateright` goes through every state of small
//! configurations; the simulator goes through many states of larger ones.
//!
//! # What is left out
//!
//! - *Locks and isolation.* The ledger's holds are all the isolation that a transfer needs.
//! - *The read-only vote, and trees of coordinators*, both in R\*. Every participant here writes, and all are asked by
//!   the source branch directly.
//! - *Choosing another coordinator.* There is no election; a replica that is promoted brings the log along.
//! - *Liars.* A peer may be slow, dead, late or put back to an older state, but it holds the branch key and follows the
//!   protocol. Where it visibly doesn't, a [`Notice::Contradicted`] says so, and nothing is changed.
//!
//! # Sources
//!
//! - Jim Gray, *Notes on Data Base Operating Systems*, in Operating Systems: An Advanced Course, LNCS 60,
//!   Springer 1978: the protocol, the log, and why some wait is unavoidable.
//! - C. Mohan, Bruce Lindsay and Ron Obermarck, *Transaction Management in the R\* Distributed Database Management
//!   System*, ACM Transactions on Database Systems 11(4), 1986: presumed abort, what to force and what not.
//! - Jim Gray and Leslie Lamport, *Consensus on Transaction Commit*, ACM Transactions on Database Systems
//!   31(1), 2006: why two-phase commit blocks, and Paxos Commit, which does so only when a majority fails.

mod coordinator;
mod error;
mod message;
mod options;
mod output;
mod participant;
mod record;
mod refusal;
mod site;
mod timers;
mod transfer;

pub use coordinator::{Booked, Coordinator, CoordinatorState, Status};
pub use error::{BeginError, ResolveError};
pub use message::{Envelope, Message, Role, Vote};
pub use options::{Backoff, Options, Tick};
pub use output::{AbortReason, Decision, LedgerAction, LedgerOp, Notice, Output};
pub use participant::{InDoubt, OnDisk, Participant, ParticipantState};
pub use record::{Outcome, Record};
pub use refusal::Refusal;
pub use site::{PartyState, Site, Step, Transition};
pub use transfer::{LEGS_MAX, Leg, PeerAddr, Side, Transfer, TransferError};

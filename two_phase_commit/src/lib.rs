//! Two-phase commit.

mod coordinator;
mod message;
mod options;
mod output;
mod participant;
mod record;
mod timers;
mod transfer;

pub use coordinator::{BeginError, Coordinator, CoordinatorState, Status};
pub use message::{Envelope, Message, Refusal, Role, Vote};
#[cfg(feature = "sabotage")]
pub use options::Sabotage;
pub use options::{Backoff, Options, Tick};
pub use output::{AbortReason, Decision, LedgerAction, LedgerOp, Notice, Output};
pub use participant::{InDoubt, OnDisk, Participant, ParticipantState, ResolveError};
pub use record::{Outcome, Record};
pub use transfer::{LEGS_MAX, Leg, PeerAddr, Side, Transfer, TransferError};

//! The replication log: what each group commit wrote, as statements that another copy can execute.
//!
//! `log.rs` has the encoding, `feed.rs` its end in memory, `apply.rs` how a replica executes it, `copy_state.rs` whether
//! this copy is the primary, `compare.rs` how two copies are compared, `determinism.rs` what no statement may depend on.

pub(super) mod apply;
pub(super) mod compare;
pub(super) mod copy_state;
pub(super) mod feed;

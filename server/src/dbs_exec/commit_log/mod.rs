//! What a group commit is logged as: `group_log.rs` has the encoding of its statements, `determinism.rs` what no statement
//! may depend on.

pub(super) mod determinism;
pub(super) mod group_log;

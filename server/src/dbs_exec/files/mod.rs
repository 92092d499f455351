//! The files of a database: which one a name means, who holds it, whose log stands beside it, and how one is put in the
//! place of another. Nothing here knows what a table holds.

pub(super) mod database_file;
pub(super) mod file_lock;
pub(super) mod file_watch;
pub(super) mod read_only;
pub(super) mod replace;
pub(super) mod temporary_file;
pub(super) mod wal_ownership;

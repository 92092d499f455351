//! What a store of a shared log has to offer. One statement of a method is one try: it takes a bounded time, and says
//! honestly when its outcome is not known. Who tries again, and how often, is decided above.

use std::fmt;
use std::path::Path;

use crate::dbs_exec::{LogDigest, LogRow, Position};

/// Why the store gave no answer, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble(pub String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

/// How one try to append a row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It is in the log, safely.
    Appended,
    /// It was not inserted: this process is not the owner of this epoch, or the row before it is another.
    NotOwner,
    /// There is a row of this number.
    Taken,
    /// The store answered that it could not, and has nothing of it.
    Refused(String),
    /// It was never sent.
    NotSent(String),
    /// It may have been received, and the answer is missing or says too little.
    Unknown(String),
}

/// Who owns the branch, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The epoch.
    pub epoch: i64,
    /// The process; nothing when the last owner has left.
    pub id: String,
    /// Where it takes requests.
    pub address: String,
    /// How often it has beaten.
    pub beats: i64,
}

/// Which snapshot there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// Where it stands in the log.
    pub position: Position,
    /// How many pieces it has, numbered from 1.
    pub pieces: i32,
    /// How long all of them are together.
    pub bytes: u64,
    /// SHA-256 of them.
    pub digest: LogDigest,
}

/// The log as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Who owns the branch; none when its log was not begun.
    pub owner: Option<Owner>,
    /// The first row that is kept, and the last; 0 when there is none.
    pub first: i64,
    /// See `first`.
    pub last: i64,
    /// The number at which the newest whole snapshot stands; 0 when there is none.
    pub snapshot: i64,
}

/// What is found where a row is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Who owns the branch.
    pub owner: Option<Owner>,
    /// The digest of the row of that number, if there is one.
    pub digest: Option<LogDigest>,
}

/// A process of the branch, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The process.
    pub id: String,
    /// Where it takes requests.
    pub address: String,
    /// How far its copy is.
    pub sequence: i64,
    /// How long ago it was heard, by the store's clock, in milliseconds.
    pub silent_ms: i64,
}

/// A store of one branch's log, for one process. An error says that there is no answer; what was asked may have been
/// done all the same.
pub trait LogStore: Send + Sync {
    /// Where the store is, for people, without secrets.
    fn name(&self) -> String;

    /// What this process is called.
    fn id(&self) -> &str;

    /// Where this process takes requests.
    fn address(&self) -> &str;

    /// Appends a row behind the row `before`, if this process owns the row's epoch.
    fn append(&self, before: &Position, row: &LogRow) -> Tried;

    /// Writes something of its own that is safe when this returns, and then looks for a row; where there is one, writes
    /// once more. What is found is so known to be safe, too: a store may show a row that a failover takes back, but none
    /// that was there before a write that is safe.
    ///
    /// # Errors
    /// [`Trouble`].
    fn look(&self, sequence: i64) -> Result<Look, Trouble>;

    /// The owner of this epoch says that it is there. `false` when it is not the owner.
    ///
    /// # Errors
    /// [`Trouble`].
    fn beat(&self, epoch: i64) -> Result<bool, Trouble>;

    /// The log as a whole.
    ///
    /// # Errors
    /// [`Trouble`].
    fn view(&self) -> Result<View, Trouble>;

    /// Notes how far this process's copy is. What was read before it is safe when this returns.
    ///
    /// # Errors
    /// [`Trouble`].
    fn note(&self, sequence: i64) -> Result<(), Trouble>;

    /// Processes that were heard lately.
    ///
    /// # Errors
    /// [`Trouble`].
    fn members(&self) -> Result<Vec<Member>, Trouble>;

    /// Rows after a number, in order, at least one if there is any, and about so many bytes of them.
    ///
    /// # Errors
    /// [`Trouble`].
    fn rows_after(&self, sequence: i64, bytes: usize) -> Result<Vec<LogRow>, Trouble>;

    /// How long the bodies of all rows after a number are together.
    ///
    /// # Errors
    /// [`Trouble`].
    fn bytes_after(&self, sequence: i64) -> Result<u64, Trouble>;

    /// The row of a number.
    ///
    /// # Errors
    /// [`Trouble`].
    fn position_at(&self, sequence: i64) -> Result<Option<Position>, Trouble>;

    /// Makes this process the owner of the next epoch, above `least` too, if the owner is as given still.
    ///
    /// # Errors
    /// [`Trouble`]; the next view tells.
    fn claim(&self, owner: &Owner, least: i64) -> Result<bool, Trouble>;

    /// The owner of this epoch leaves.
    ///
    /// # Errors
    /// [`Trouble`].
    fn release(&self, epoch: i64) -> Result<(), Trouble>;

    /// Begins the branch's log, all or nothing: this process as the owner of an epoch, one row, and a snapshot of the
    /// books as they are with it. `false` when another process has.
    ///
    /// # Errors
    /// [`Trouble`]; the next view tells.
    fn begin(&self, epoch: i64, row: &LogRow, snapshot: &Path) -> Result<bool, Trouble>;

    /// Keeps a snapshot of the books, made by the owner of this epoch, and forgets what nobody needs then: older
    /// snapshots, and rows before the one before this. `false` when this process is not the owner.
    ///
    /// # Errors
    /// [`Trouble`].
    fn keep_snapshot(&self, epoch: i64, position: &Position, snapshot: &Path) -> Result<bool, Trouble>;

    /// What the snapshot is that stands at a number.
    ///
    /// # Errors
    /// [`Trouble`].
    fn snapshot(&self, sequence: i64) -> Result<Option<SnapshotHead>, Trouble>;

    /// A piece of it.
    ///
    /// # Errors
    /// [`Trouble`]; also when it was replaced by a newer one.
    fn snapshot_piece(&self, sequence: i64, piece: i32) -> Result<Vec<u8>, Trouble>;
}

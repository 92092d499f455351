//! The one error type of the server, and what each error means for whoever gets it.
//!
//! A *refusal* is an answer: the request was understood and nothing was changed. Everything else is
//! a failure of the branch itself. [`Error::code`] is the stable name that programs match on;
//! the `Display` text is one clear sentence for a person.

use std::fmt;

use protocol::request::RequestError;
use protocol::{AccountNum, AddressError, Epoch, Money, MoneyError, TxId};

use crate::lockout::Wait;

/// Short for a result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no open account with that number.
    NoSuchAccount(AccountNum),
    /// The account was closed.
    AccountClosed(AccountNum),
    /// An account with that number exists, or existed.
    AccountExists(AccountNum),
    /// Another open account has that Aadhaar number.
    DuplicateAadhaar,
    /// Another open account has that phone number.
    DuplicatePhone,
    /// More was asked for than is available.
    InsufficientFunds {
        /// The balance less what is held.
        available: Money,
    },
    /// The balance would pass the largest amount.
    BalanceLimit(AccountNum),
    /// Payer and receiver are the same account.
    SameAccount(AccountNum),
    /// Money of the account is held by a transfer under way.
    MoneyHeld(AccountNum),
    /// Unknown account or wrong password; which of the two is not told.
    WrongLogin,
    /// The password given to confirm an operation is wrong.
    WrongPassword,
    /// There were too many wrong passwords; nothing was looked at.
    LockedOut(Wait),
    /// Too many passwords of an account or from an address were hashed lately, right ones too.
    TooManyPasswords(Wait),
    /// The session was opened by a password that is no longer the account's, or newer sessions took its place.
    SessionEnded(&'static str),
    /// The amount is not one.
    Amount(MoneyError),
    /// The request could not be read.
    Request(RequestError),
    /// Some other input is not what it has to be; the text says what it is like.
    Invalid(String),
    /// There is no transfer with that id here.
    NoSuchTransfer(TxId),
    /// The transfer has ended here and can't be prepared again.
    TransferSettled(TxId),
    /// The id of the transfer is taken: this branch coordinates it, or has it in its books.
    TxIdReused(TxId),
    /// A branch coordinates the transfer; the text says which.
    Coordinated(String),
    /// The transfer can't be settled in this way; the text says why.
    CannotResolve(String),
    /// Nothing of this transfer stands on the suspense account.
    NothingInSuspense(TxId),
    /// A part of the program has found itself wrong; the process stops.
    Panicked(&'static str),
    /// The transfer between branches was aborted.
    Aborted {
        /// The stable name of the reason.
        code: String,
        /// One sentence.
        text: String,
    },
    /// The other branch is not known or can't be reached.
    Unreachable(String),
    /// Two branches have one name; the text says where.
    NameTaken(String),
    /// The outcome of a transfer between branches is not known yet.
    Undecided(TxId),
    /// The caller may not do this.
    NotAllowed(&'static str),
    /// A teaching action at a branch that was not started with `--teaching`.
    NotTeaching,
    /// The same request id came with other parameters.
    RequestIdReused,
    /// The same request is being carried out at this moment.
    RequestRepeated,
    /// This copy of the branch is a replica; writes and transfers go to its primary.
    NotPrimary {
        /// Where the primary is, as far as this replica knows.
        primary: Option<String>,
    },
    /// This copy was the primary until another one was promoted.
    Fenced {
        /// The epoch of the promoted one, or a lower bound of it.
        epoch: i64,
        /// Whether that has the number of this one's: two were promoted side by side.
        is_conflict: bool,
    },
    /// Someone of an older epoch was refused: another copy was promoted since.
    LowerEpoch {
        /// Whose epoch.
        branch: String,
        /// The epoch that is known here.
        known: Epoch,
    },
    /// Someone of the epoch that is known here, and of another id, was refused: two copies were promoted side by side.
    EpochConflict {
        /// Whose epoch.
        branch: String,
        /// The epoch that is known here.
        known: Epoch,
    },
    /// This replica has no copy of the books yet.
    NotReady,
    /// Fewer replicas are connected than must have a write before it is answered; nothing was changed.
    ReplicasMissing {
        /// How many follow.
        connected: usize,
        /// How many must.
        needed: usize,
    },
    /// The commit log, which is kept elsewhere, does not answer: nothing can be made durable, and this process can't be
    /// sure any more that it owns the branch.
    NoCommitLog,
    /// The operation is durable here, and replicas did not confirm it in time.
    Unconfirmed,
    /// This replica's books are not the primary's; the text says where they differ.
    Diverged(String),
    /// More operations are waiting than the branch takes.
    Busy,
    /// The branch is stopping.
    Stopping,
    /// The disk is full; nothing was changed.
    DiskFull,
    /// The database failed in a way that leaves open whether the operation is on disk.
    OutcomeUnknown(String),
    /// The database refused or failed; nothing was changed.
    Database(String),
}

impl Error {
    /// The code of [`Error::LowerEpoch`], by which a branch learns that it was replaced.
    pub const LOWER_EPOCH: &str = "lower_epoch";
    /// The code of [`Error::EpochConflict`], by which a branch learns that another copy has its number.
    pub const EPOCH_CONFLICT: &str = "epoch_conflict";
    /// The code of [`Error::RequestRepeated`], which comes back through an aborted transfer.
    pub const REQUEST_REPEATED: &str = "request_repeated";
    /// The code of [`Error::NotPrimary`].
    pub const NOT_PRIMARY: &str = "not_primary";
    /// The code of [`Error::NameTaken`], which a branch meets when it makes a link.
    pub const NAME_TAKEN: &str = "name_taken";

    /// The stable name of this error, for programs.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::NoSuchAccount(_) => "no_such_account",
            Self::AccountClosed(_) => "account_closed",
            Self::AccountExists(_) => "account_exists",
            Self::DuplicateAadhaar => "duplicate_aadhar",
            Self::DuplicatePhone => "duplicate_phone",
            Self::InsufficientFunds { .. } => "insufficient_funds",
            Self::BalanceLimit(_) => "balance_limit",
            Self::SameAccount(_) => "same_account",
            Self::MoneyHeld(_) => "money_held",
            Self::WrongLogin => "wrong_login",
            Self::WrongPassword => "wrong_password",
            Self::LockedOut(_) | Self::TooManyPasswords(_) => "locked_out",
            Self::SessionEnded(_) => "session_ended",
            Self::Amount(_) => "invalid_amount",
            Self::Request(error) => error.code(),
            Self::Invalid(_) => "invalid_params",
            Self::NoSuchTransfer(_) => "no_such_transfer",
            Self::TransferSettled(_) => "transaction_settled",
            Self::TxIdReused(_) => "transaction_id_reused",
            Self::Coordinated(_) => "coordinated",
            Self::CannotResolve(_) => "cannot_resolve",
            Self::NothingInSuspense(_) => "nothing_in_suspense",
            Self::Panicked(_) => "panicked",
            Self::Aborted { code, .. } => code,
            Self::Unreachable(_) => "branch_unreachable",
            Self::NameTaken(_) => Self::NAME_TAKEN,
            Self::Undecided(_) => "undecided",
            Self::NotAllowed(_) => "not_allowed",
            Self::NotTeaching => "not_teaching",
            Self::RequestIdReused => "request_id_reused",
            Self::RequestRepeated => Self::REQUEST_REPEATED,
            Self::NotPrimary { .. } => Self::NOT_PRIMARY,
            Self::Fenced { .. } => "fenced",
            Self::LowerEpoch { .. } => Self::LOWER_EPOCH,
            Self::EpochConflict { .. } => Self::EPOCH_CONFLICT,
            Self::NotReady => "not_ready",
            Self::ReplicasMissing { .. } => "replicas_missing",
            Self::NoCommitLog => "no_commit_log",
            Self::Unconfirmed => "unconfirmed",
            Self::Diverged(_) => "diverged",
            Self::Busy => "busy",
            Self::Stopping => "stopping",
            Self::DiskFull => "disk_full",
            Self::OutcomeUnknown(_) => "outcome_unknown",
            Self::Database(_) => "database",
        }
    }

    /// Whether a request that was carried out before may meet this when it is repeated: its answer is then still to be
    /// looked for, outside of a transaction.
    #[must_use]
    pub fn may_meet_a_repeat(&self) -> bool {
        matches!(
            self,
            Self::RequestRepeated
                | Self::NotPrimary { .. }
                | Self::Fenced { .. }
                | Self::ReplicasMissing { .. }
                | Self::NoCommitLog
                | Self::DiskFull
                | Self::Database(_)
        )
    }

    /// Where someone was refused for an epoch: the one that is known here.
    #[must_use]
    pub fn known_epoch(&self) -> Option<&Epoch> {
        if let Self::LowerEpoch { known, .. } | Self::EpochConflict { known, .. } = self { Some(known) } else { None }
    }

    /// Whether the branch itself has failed, which is to be logged as an error, rather than refused a request.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Panicked(_) | Self::DiskFull | Self::OutcomeUnknown(_) | Self::Database(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchAccount(account) => write!(f, "there is no account {account} at this branch"),
            Self::AccountClosed(account) => write!(f, "account {account} is closed"),
            Self::AccountExists(account) => write!(f, "account {account} exists already"),
            Self::DuplicateAadhaar => f.write_str("another account has this Aadhaar number"),
            Self::DuplicatePhone => f.write_str("another account has this phone number"),
            Self::InsufficientFunds { available } => {
                write!(f, "insufficient funds: Rs {available} is available")
            }
            Self::BalanceLimit(account) => {
                write!(f, "account {account} cannot hold so much: the largest balance is Rs {}", Money::MAX)
            }
            Self::SameAccount(account) => {
                write!(f, "payer and receiver are both account {account}; name another receiver")
            }
            Self::MoneyHeld(account) => {
                write!(f, "a transfer of account {account} is under way; try again when it is settled")
            }
            Self::WrongLogin => f.write_str("the account number or the password is wrong"),
            Self::WrongPassword => f.write_str("the password is wrong"),
            Self::LockedOut(wait) => write!(f, "too many wrong passwords; try again in {wait}"),
            Self::TooManyPasswords(wait) => {
                write!(f, "too many passwords of this account or from this address; try again in {wait}")
            }
            Self::Amount(error) => error.fmt(f),
            Self::Request(error) => error.fmt(f),
            Self::Invalid(text) => f.write_str(text),
            Self::NothingInSuspense(txid) => {
                write!(f, "nothing of transfer {txid} is in suspense here; the audit names what is")
            }
            Self::NoSuchTransfer(txid) => write!(f, "no transfer {txid} is prepared at this branch"),
            Self::TransferSettled(txid) => write!(f, "the transfer {txid} has ended at this branch"),
            Self::TxIdReused(txid) => {
                write!(f, "the transfer id {txid} was used before: this branch coordinates it, or has it in its books")
            }
            Self::Panicked(what) => {
                write!(
                    f,
                    "{what} found itself wrong, and the branch stops; the next start recovers from what is on disk"
                )
            }
            Self::Aborted { text, .. }
            | Self::Unreachable(text)
            | Self::NameTaken(text)
            | Self::Coordinated(text)
            | Self::CannotResolve(text) => f.write_str(text),
            Self::Undecided(txid) => {
                write!(
                    f,
                    "the transfer {txid} is not decided yet; ask again with the same request_id, or for its tx_status"
                )
            }
            Self::NotAllowed(what) | Self::SessionEnded(what) => f.write_str(what),
            Self::NotTeaching => f.write_str("this branch was not started with --teaching"),
            Self::RequestIdReused => {
                f.write_str("this request_id was used for another request; give each request an id of its own")
            }
            Self::RequestRepeated => f.write_str("this request is being carried out already; ask again in a moment"),
            Self::NotPrimary { primary: Some(primary) } => {
                write!(f, "this is a replica, which takes no orders; ask its primary at {primary}")
            }
            Self::NotPrimary { primary: None } => {
                f.write_str("this is a replica, which takes no orders, and it knows of no primary")
            }
            Self::Fenced { epoch, is_conflict: false } => write!(
                f,
                "this branch was replaced: another copy of it was promoted (epoch {epoch}); make this one its replica with bank-client demote --to host:port, or the primary again with bank-client promote --yes, if that one is gone"
            ),
            Self::Fenced { epoch, is_conflict: true } => write!(
                f,
                "two copies of this branch were promoted to epoch {epoch}, so neither takes writes: choose one of them with bank-client promote --yes, and make the other its replica with bank-client demote --to host:port"
            ),
            Self::LowerEpoch { branch, known } => write!(
                f,
                "another copy of branch {branch} was promoted: epoch {known} is known here, and this is an older one"
            ),
            Self::EpochConflict { branch, known } => write!(
                f,
                "another copy of branch {branch} was promoted beside this one: epoch {known} is known here, and this is another of that number"
            ),
            Self::NotReady => f.write_str("this replica has no copy of its primary's books yet; ask again in a while"),
            Self::ReplicasMissing { connected, needed } => write!(
                f,
                "{needed} replicas must have each write and {connected} follow; nothing was changed, try again when they are back"
            ),
            Self::NoCommitLog => f.write_str(
                "the branch's commit log does not answer; nothing was changed, try again in a while or ask another of its processes",
            ),
            Self::Unconfirmed => f.write_str(
                "this is durable here, but no replica has confirmed it in time; ask again with the same request_id",
            ),
            Self::Diverged(text) => f.write_str(text),
            Self::Busy => f.write_str("the bank is busy; try again in a moment"),
            Self::Stopping => f.write_str("the branch is stopping; try again when it is back"),
            Self::DiskFull => f.write_str("the branch's disk is full; nothing was changed"),
            Self::OutcomeUnknown(cause) => write!(
                f,
                "the branch's disk failed ({cause}) and the branch stops; whether this was carried out shows when it is back"
            ),
            Self::Database(cause) => write!(f, "the branch's database failed ({cause}); nothing was changed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<MoneyError> for Error {
    fn from(error: MoneyError) -> Self {
        Self::Amount(error)
    }
}

impl From<AddressError> for Error {
    fn from(error: AddressError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

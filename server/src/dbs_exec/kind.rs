//! What sort of movement a row of `transactions` is: a small integer in the table, a name everywhere else.
//!
//! A row is written once for each movement, so each byte of it is written to the log and forced to disk with every
//! payment; a name of twelve letters would be a sixth of the row. The names stand here. The table repeats them in its
//! computed column `type`, which is stored nowhere, so that whoever looks into the database with another program reads
//! words; a test of the schema holds the two together. The hash chain covers the name, as it did when that was stored.

/// The `kind` column of `transactions`.
///
/// Invariant: numbers are never given anew, because they stand in databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The balance that a new account starts with.
    Opening,
    /// Cash paid in.
    Deposit,
    /// Cash paid out.
    Withdrawal,
    /// From one customer of this branch to another.
    Transfer,
    /// The balance paid out when an account closes.
    Closing,
    /// To another branch.
    TransferOut,
    /// From another branch.
    TransferIn,
    /// A difference, after a transfer was settled by hand and its coordinator said otherwise.
    Settlement,
}

impl Kind {
    /// All of them, by number.
    pub const ALL: [Self; 8] = [
        Self::Opening,
        Self::Deposit,
        Self::Withdrawal,
        Self::Transfer,
        Self::Closing,
        Self::TransferOut,
        Self::TransferIn,
        Self::Settlement,
    ];

    /// The number that the table has.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::Opening => 1,
            Self::Deposit => 2,
            Self::Withdrawal => 3,
            Self::Transfer => 4,
            Self::Closing => 5,
            Self::TransferOut => 6,
            Self::TransferIn => 7,
            Self::Settlement => 8,
        }
    }

    /// The kind of that number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Its name, in answers and in the hash chain.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Deposit => "deposit",
            Self::Withdrawal => "withdrawal",
            Self::Transfer => "transfer",
            Self::Closing => "closing",
            Self::TransferOut => "transfer_out",
            Self::TransferIn => "transfer_in",
            Self::Settlement => "settlement",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

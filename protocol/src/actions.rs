//! The actions of the branch protocol: one table, one row for each.
//!
//! A row says what an action is called on the wire, who may ask for it, which copy of a branch can answer it, of which
//! kind it is, and what else is particular to it. Whoever decides by one of these asks the row: a new action has no
//! other list to be added to, and no default to fall under by mistake.
//!
//! What it leaves out: the parameters and results (`params`, `answer`), and what each action does.

use std::fmt;

/// Who may ask for an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone may, proved or not.
    Anyone,
    /// A customer may, for the own account alone; an anonymous caller may not.
    OwnAccount,
    /// Only who has proved the branch key: an operator, or another branch.
    KeyHolder,
}

/// Which copy of a branch can carry an action out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyNeeded {
    /// Any copy: the action is about the copy itself.
    Any,
    /// Any that has the books, however old. It looks.
    Books,
    /// The primary: it writes, or it says what only the primary knows.
    Primary,
}

/// Of which kind an action is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It says who the caller is.
    Session,
    /// It changes nothing.
    Read,
    /// It moves money or changes an account. A repeat under its request id can be answered by a copy that may not
    /// write, from what it knows of the first.
    Write,
    /// It holds other requests, each of which has its own row.
    Batch,
    /// It votes, decides or settles in a transfer that someone else began.
    TwoPhaseCommit,
    /// It steers a copy of the branch, or what a class does to it.
    Control,
    /// It makes the connection into something else than requests and answers.
    TakesOver,
}

/// What is particular to some actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// A repeat under the same `request_id` gets the first one's answer.
    RequestId,
    /// It may stand in a `batch`.
    InBatch,
    /// Nothing may follow it on its connection before it is answered: what the connection is may change.
    Last,
    /// Its answer is as long as the `limit` that is asked for.
    List,
    /// Its answer may be long.
    Long,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    access: Access,
    copy_needed: CopyNeeded,
    kind: Kind,
    properties: &'static [Property],
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident $name:literal $access:ident $copy:ident $kind:ident [$($property:ident)*])*) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $($(#[$doc])* $variant,)*
        }

        impl Action {
            /// Every action, in the order in which they are described.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            const fn row(self) -> Row {
                match self {
                    $(Self::$variant => Row {
                        name: $name,
                        access: Access::$access,
                        copy_needed: CopyNeeded::$copy,
                        kind: Kind::$kind,
                        properties: &[$(Property::$property),*],
                    },)*
                }
            }

            /// The action of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

actions! {
//  Action              its name                Who may     Which copy  Kind            What is particular

    /// Begin the mutual proof of the branch key.
    Hello               "hello"                 Anyone      Any         Session         []
    /// Finish it.
    Authenticate        "authenticate"          Anyone      Any         Session         []
    /// Log in as the customer of an account.
    Login               "login"                 Anyone      Books       Session         []
    /// Make this connection a link between two branches.
    Link                "link"                  KeyHolder   Primary     TakesOver       [Last]
    /// Open an account.
    CreateAccount       "create_account"        KeyHolder   Primary     Write           [RequestId InBatch]
    /// Close an account and pay its balance out.
    CloseAccount        "close_account"         KeyHolder   Primary     Write           [RequestId InBatch]
    /// The open accounts.
    ListAccounts        "list_accounts"         KeyHolder   Books       Read            [List]
    /// One account's balance.
    Balance             "balance"               OwnAccount  Books       Read            [InBatch]
    /// Cash in.
    Deposit             "deposit"               OwnAccount  Primary     Write           [RequestId InBatch]
    /// Cash out.
    Withdraw            "withdraw"              OwnAccount  Primary     Write           [RequestId InBatch]
    /// Between two accounts of this branch.
    LocalTransfer       "local_transfer"        OwnAccount  Primary     Write           [RequestId InBatch]
    /// To an account of another branch.
    InterBranchTransfer "inter_branch_transfer" OwnAccount  Primary     Write           [RequestId]
    /// From one payer to many receivers, all or nothing.
    SplitTransfer       "split_transfer"        OwnAccount  Primary     Write           [RequestId]
    /// Reserve money for a withdrawal that someone else decides.
    PrepareWithdraw     "prepare_withdraw"      KeyHolder   Primary     TwoPhaseCommit  []
    /// Reserve room for a deposit that someone else decides.
    PrepareDeposit      "prepare_deposit"       KeyHolder   Primary     TwoPhaseCommit  []
    /// Carry a prepared withdrawal out.
    CommitWithdraw      "commit_withdraw"       KeyHolder   Primary     TwoPhaseCommit  []
    /// Carry a prepared deposit out.
    CommitDeposit       "commit_deposit"        KeyHolder   Primary     TwoPhaseCommit  []
    /// Give a prepared withdrawal up.
    AbortWithdraw       "abort_withdraw"        KeyHolder   Primary     TwoPhaseCommit  []
    /// Give a prepared deposit up.
    AbortDeposit        "abort_deposit"         KeyHolder   Primary     TwoPhaseCommit  []
    /// What became of a transfer between branches. A replica that is behind would presume an abort.
    TxStatus            "tx_status"             KeyHolder   Primary     Read            []
    /// Transfers in doubt.
    ListPending         "list_pending"          KeyHolder   Primary     Read            [List]
    /// Settle a transfer in doubt by hand.
    Resolve             "resolve"               KeyHolder   Primary     TwoPhaseCommit  [RequestId]
    /// Move a difference out of suspense to whom it belongs.
    ClearSuspense       "clear_suspense"        KeyHolder   Primary     Write           [RequestId InBatch]
    /// Transactions, newest first.
    History             "history"               OwnAccount  Books       Read            [List]
    /// The older name of `history`.
    GetLogs             "get_logs"              OwnAccount  Books       Read            [List]
    /// Many requests in one. It may hold what only looks; a copy that is not written refuses each of the others.
    Batch               "batch"                 OwnAccount  Books       Batch           [RequestId Long]
    /// Health and counters.
    Status              "status"                Anyone      Any         Read            []
    /// Recompute the books.
    Audit               "audit"                 KeyHolder   Books       Read            [Long]
    /// The known branches.
    Branches            "branches"              KeyHolder   Any         Read            [Long]
    /// A stream of events. Requests that follow it end it.
    Watch               "watch"                 KeyHolder   Any         TakesOver       []
    /// Set the password of an account's menu login.
    SetPassword         "set_password"          OwnAccount  Primary     Write           [RequestId InBatch]
    /// Whether a password is right, for a program that lets people log in by itself.
    CheckPassword       "check_password"        KeyHolder   Books       Read            []
    /// Which passwords accounts have, so that such a program notices when one was changed.
    PasswordVersions    "password_versions"     KeyHolder   Books       Read            [Long]
    /// Replicas: make this connection the stream of a primary's log.
    Replicate           "replicate"             KeyHolder   Any         TakesOver       [Last]
    /// Replicas: a primary says that it is one.
    Follow              "follow"                KeyHolder   Any         Control         []
    /// Make this replica the primary.
    Promote             "promote"               KeyHolder   Any         Control         [Last]
    /// Make this copy the replica of another one.
    Demote              "demote"                KeyHolder   Any         Control         [Last]
    /// Have this replica take a new copy of the primary's books.
    Resync              "resync"                KeyHolder   Any         Control         []
    /// Teaching: what waits to be delivered here, and which faults are set.
    Stage               "stage"                 KeyHolder   Any         Read            [Long]
    /// Teaching: make every message wait, or let them all pass again.
    StepMode            "step_mode"             KeyHolder   Any         Control         []
    /// Teaching: deliver, drop, double or delay one waiting message.
    Step                "step"                  KeyHolder   Any         Control         []
    /// Teaching: let the protocol's clock go on by a stated time while every message waits.
    PassTime            "pass_time"             KeyHolder   Any         Control         []
    /// Teaching: cut, slow or heal the link to another branch.
    Fault               "fault"                 KeyHolder   Any         Control         []
    /// Teaching: crash now, or at a named point.
    Crash               "crash"                 KeyHolder   Any         Control         []
}

impl Action {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Who may ask for it.
    #[must_use]
    pub const fn access(self) -> Access {
        self.row().access
    }

    /// Which copy of a branch can carry it out.
    #[must_use]
    pub const fn copy_needed(self) -> CopyNeeded {
        self.row().copy_needed
    }

    /// Of which kind it is.
    #[must_use]
    pub const fn kind(self) -> Kind {
        self.row().kind
    }

    /// Whether its row names this property.
    #[must_use]
    pub fn has(self, wanted: Property) -> bool {
        self.row().properties.contains(&wanted)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The actions that the protocol's description promises to programs that are not ours.
    const DESCRIBED: [&str; 29] = [
        "create_account",
        "close_account",
        "list_accounts",
        "balance",
        "deposit",
        "withdraw",
        "local_transfer",
        "inter_branch_transfer",
        "split_transfer",
        "prepare_withdraw",
        "prepare_deposit",
        "commit_withdraw",
        "commit_deposit",
        "abort_withdraw",
        "abort_deposit",
        "tx_status",
        "list_pending",
        "resolve",
        "history",
        "get_logs",
        "batch",
        "status",
        "audit",
        "branches",
        "watch",
        "hello",
        "authenticate",
        "login",
        "promote",
    ];

    #[test]
    fn every_described_action_has_its_row() {
        for name in DESCRIBED {
            assert_eq!(Action::from_name(name).map(Action::name), Some(name));
        }
        assert_eq!(Action::from_name("rob"), None);
    }

    #[test]
    fn every_action_is_found_under_its_own_name() {
        for action in Action::ALL {
            assert_eq!(Action::from_name(action.name()), Some(*action));
        }
        let names: BTreeSet<_> = Action::ALL.iter().map(|action| action.name()).collect();
        assert_eq!(names.len(), Action::ALL.len());
    }

    #[test]
    fn rows_do_not_contradict_themselves() {
        for action in Action::ALL {
            let (kind, copy) = (action.kind(), action.copy_needed());
            // Nothing is written at a copy, and every write may be repeated without harm.
            assert!(kind != Kind::Write || copy == CopyNeeded::Primary && action.has(Property::RequestId), "{action}");
            assert!(kind != Kind::TwoPhaseCommit || copy == CopyNeeded::Primary, "{action}");
            // Looking twice does no harm, and should see what is there then.
            assert!(!(kind == Kind::Read && action.has(Property::RequestId)), "{action}");
            // A batch is one commit of what the ledger can do by itself.
            assert!(!action.has(Property::InBatch) || matches!(kind, Kind::Read | Kind::Write), "{action}");
            // Who has proved nothing changes nothing.
            assert!(action.access() != Access::Anyone || matches!(kind, Kind::Session | Kind::Read), "{action}");
            // A customer neither decides for others nor steers a copy.
            let is_customers = matches!(kind, Kind::Session | Kind::Read | Kind::Write | Kind::Batch);
            assert!(action.access() == Access::KeyHolder || is_customers, "{action}");
        }
    }
}

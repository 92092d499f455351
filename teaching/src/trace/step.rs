//! One step of a transfer's diagram, as the drawings need it.

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Milliseconds since the first event, by the clock of the branch.
    pub at_ms: i64,
    /// What.
    pub kind: StepKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A message.
    Message {
        /// The sender's lane.
        from: usize,
        /// The receiver's lane.
        to: usize,
        /// What it says, without the transfer's id.
        label: String,
        /// What is known of its way.
        way: Way,
    },
    /// Something at one branch.
    Mark {
        /// Its lane.
        lane: usize,
        /// What it is.
        mark: Mark,
        /// What it says, without the transfer's id.
        text: String,
    },
}

/// What is known of a message's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Sent and received.
    Whole,
    /// Sent; it is received further down, under this number.
    Departs(usize),
    /// Received; it was sent further up, under this number.
    Arrives(usize),
    /// Received once more.
    Again,
    /// Sent and thrown away on its way: lost for certain.
    Lost,
    /// Sent and never received, so far.
    Missing,
    /// Sent; the receiver can't say whether it came.
    Unseen,
    /// Received; the sender remembers nothing of it.
    Inferred,
}

/// What a mark on a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A record that was forced to disk.
    Forced,
    /// A record that was not.
    Unforced,
    /// The instant from which on the transfer is committed.
    CommitPoint,
    /// A change of state.
    State,
    /// A change of state after which this branch can't decide.
    InDoubt,
    /// Money.
    Money,
    /// The branch was started.
    Restart,
    /// Anything else.
    Note,
}

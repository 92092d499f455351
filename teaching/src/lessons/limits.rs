//! Every amount, interval and deadline of the lessons, with its reason.

use std::time::Duration;

use protocol::Money;

use crate::lessons::scene::Shares;

/// What most lessons move: easy to add up at the back of the room.
pub const AMOUNT: Money = Money::from_rupees(50);
/// What a lesson with three branches pays to the two others.
pub const SHARES: Shares = Shares { each: [Money::from_rupees(30), Money::from_rupees(20)] };
/// An account that no branch of a class has.
pub const NO_ACCOUNT: u64 = 999_999;
/// What the payer must be able to spend before a lesson begins: two transfers, and something left to look at.
pub const FUNDS_MIN: Money = Money::from_rupees(500);
/// What is paid in when there is less.
pub const TOP_UP: Money = Money::from_rupees(1_000);
/// The sample accounts of `--preload`, which pay and are paid.
pub const PAYER_ACCOUNT: u64 = 1001;
/// See [`PAYER_ACCOUNT`].
pub const RECEIVER_ACCOUNT: u64 = 1002;

/// How often a condition is looked at: well below what an eye notices, and no load on a branch.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a message may take to come to where it waits. A branch on a busy machine forces a record in a tenth of it.
pub const ARRIVAL_DEADLINE: Duration = Duration::from_secs(20);
/// How long a claim about money may take to come true, after the message that makes it true was let through.
pub const CLAIM_DEADLINE: Duration = Duration::from_secs(10);
/// How long a transfer may take to settle once everything is put back. Links that were cut are made anew with a
/// back-off of some seconds.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(30);
/// How far the protocol's clock is moved at once while a resend is waited for: as far as the shortest interval, so that
/// a class sees one message sent again and not five.
pub const PASS_TIME_MS: u64 = 250;
/// How long a resend may take to come across before the clock is moved again: a link that was down is made anew with
/// a back-off in real time.
pub const RESEND_ARRIVES_WITHIN: Duration = Duration::from_millis(300);
/// How long a participant in doubt is left alone to show that it does not decide: far beyond every time-out.
pub const IN_DOUBT_FOR_MS: u64 = 60_000;

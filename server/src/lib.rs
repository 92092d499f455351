//! One branch of the bank.

pub mod clock;
pub mod sms;

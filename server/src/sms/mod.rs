//! Text messages (SMS) to customers: the wording, the outbox's sender, and the channels that carry them.
//!
//! A movement on an account whose holder wants messages writes a row into the outbox in the same database
//! transaction, so there is a message exactly when there is a movement. Everything after that is here, on
//! threads of its own: the [`sender`] takes due rows, hands each to a [`Channel`], and records what became
//! of it. A movement never waits for a message and never fails for one; it only calls [`Notifier::notify`],
//! which doesn't block.
//!
//! What holds:
//! - *At least once.* A row leaves the outbox only after its channel took it or refused it for good (or it
//!   grew too old). A crash between the channel's yes and the record of it sends the message again.
//! - *Never on its own account.* No channel, however slow or broken, delays a stop for longer than
//!   [`limits::STOP_GRACE_MS`].
//! - *No secret shows.* Neither a log line nor a `Debug` text holds a token, a phone number or a message.
//!
//! This module doesn't know the database: it drives any [`Outbox`]. It doesn't read the process's
//! environment either: the lookup is passed in. It leaves out delivery receipts (Twilio's status
//! callbacks): "delivered" means that the channel accepted the message.
//!
//! - [`text`]: the wording, as pure functions.
//! - [`sender`]: the thread that delivers, with retry and back-off.
//! - [`file`](mod@file): the channel that appends one JSON line per message to a file.
//! - `twilio`: the channel over Twilio's REST API (cargo feature `twilio`).
//! - [`limits`]: every bound, with its reason.

pub mod file;
pub mod limits;
pub mod sender;
pub mod text;
#[cfg(feature = "twilio")]
pub mod twilio;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use sender::{Notifier, Pace, SmsSender};

/// The country code in front of every customer's ten digits: India's.
pub const COUNTRY_CODE: &str = "+91";

/// Where text messages go: the value of `--sms`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SmsSetting {
    /// Nowhere. Movements write no rows and there is no sender.
    #[default]
    Off,
    /// Appended to this file, one JSON line each.
    File(PathBuf),
    /// To the phone, through Twilio. Exists only in a program built with the cargo feature `twilio`.
    #[cfg(feature = "twilio")]
    Twilio,
}

impl SmsSetting {
    /// Whether messages are sent, and so whether movements write rows into the outbox.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self != Self::Off
    }

    /// Opens the channel that the setting names; `None` when it is off.
    ///
    /// `environment` looks up an environment variable by name; [`process_environment`] is the real one.
    ///
    /// # Errors
    /// [`SmsError`] with one sentence for the operator: the file can't be opened, or a variable for Twilio
    /// is missing or malformed. No message holds a value of a variable that is secret.
    pub fn open_channel(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Box<dyn Channel>>, SmsError> {
        #[cfg(not(feature = "twilio"))]
        let _ = environment;
        match self {
            Self::Off => Ok(None),
            Self::File(path) => Ok(Some(Box::new(file::FileChannel::open(path)?))),
            #[cfg(feature = "twilio")]
            Self::Twilio => Ok(Some(Box::new(twilio::TwilioChannel::new(
                twilio::TwilioSettings::from_environment(environment)?,
                std::time::Duration::from_millis(limits::TWILIO_TIMEOUT_MS),
            )))),
        }
    }
}

impl FromStr for SmsSetting {
    type Err = SmsError;

    fn from_str(text: &str) -> Result<Self, SmsError> {
        match text.split_once(':') {
            None if text == "off" => Ok(Self::Off),
            None if text == "file" => Err(SmsError::new("--sms file needs a path, as in --sms file:messages.jsonl")),
            None if text == "twilio" => twilio_setting(),
            Some(("file", "")) => Err(SmsError::new("--sms file: needs a path, as in --sms file:messages.jsonl")),
            Some(("file", path)) => Ok(Self::File(path.into())),
            Some(_) | None => Err(SmsError::new(format!("--sms is off, file:PATH or twilio, not {text:?}"))),
        }
    }
}

impl fmt::Display for SmsSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            #[cfg(feature = "twilio")]
            Self::Twilio => f.write_str("twilio"),
        }
    }
}

#[cfg(feature = "twilio")]
fn twilio_setting() -> Result<SmsSetting, SmsError> {
    Ok(SmsSetting::Twilio)
}

#[cfg(not(feature = "twilio"))]
fn twilio_setting() -> Result<SmsSetting, SmsError> {
    Err(SmsError::new(
        "this program was built without Twilio; build it with `cargo build --features twilio`, or use --sms file:PATH",
    ))
}

/// A variable of the process's environment; `None` when it is unset or not UTF-8.
#[must_use]
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Why text messages can't be set up: one sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmsError(String);

impl SmsError {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for SmsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SmsError {}

/// One message that waits in the outbox.
#[derive(Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// The row's id: unique, and growing with the movements.
    pub id: i64,
    /// The receiver's phone number: ten digits, without the country code.
    pub phone: String,
    /// The text, at most [`limits::BODY_CHARS_MAX`] characters.
    pub body: String,
    /// When the movement was made, in Unix milliseconds.
    pub created_unix_ms: i64,
    /// Deliveries that failed so far.
    pub attempts: u32,
    /// When the first of them failed, in the outbox's own time; none before.
    pub failing_since_unix_ms: Option<i64>,
}

impl OutboxMessage {
    /// The receiver's number in E.164 form, such as `+919876543210`.
    #[must_use]
    pub fn phone_e164(&self) -> String {
        format!("{COUNTRY_CODE}{}", self.phone)
    }
}

impl fmt::Debug for OutboxMessage {
    /// Leaves out the phone number and the text, which are the customer's own affair.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxMessage")
            .field("id", &self.id)
            .field("created_unix_ms", &self.created_unix_ms)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// The table of messages to send, as the sender sees it.
///
/// Each call is durable when it returns `Ok`. The `why` texts hold no phone number, message or secret.
pub trait Outbox: Send + 'static {
    /// The time by which messages fall due and grow old, in milliseconds: one that goes on only as time passes, and
    /// that no step of the wall clock moves.
    fn now_unix_ms(&self) -> i64;

    /// Messages due now, oldest due first, at most `limit`. Those delivered or given up are never due again.
    ///
    /// # Errors
    /// [`OutboxError`] when the table can't be read; the sender asks again later.
    fn due(&mut self, limit: usize) -> Result<Vec<OutboxMessage>, OutboxError>;

    /// Records that a message was taken by its channel.
    ///
    /// # Errors
    /// [`OutboxError`] when that can't be made durable; the sender tries to record it again.
    fn delivered(&mut self, id: i64) -> Result<(), OutboxError>;

    /// Records a failed delivery: `attempts` failures in all, the first of them now if there was none, due again at
    /// `at_unix_ms` of the outbox's time.
    ///
    /// # Errors
    /// As [`Outbox::delivered`].
    fn retry_at(&mut self, id: i64, attempts: u32, at_unix_ms: i64, why: &str) -> Result<(), OutboxError>;

    /// Records that a message will never be sent.
    ///
    /// # Errors
    /// As [`Outbox::delivered`].
    fn given_up(&mut self, id: i64, why: &str) -> Result<(), OutboxError>;

    /// When the next message falls due; `None` when none waits.
    ///
    /// # Errors
    /// As [`Outbox::due`].
    fn next_due_unix_ms(&mut self) -> Result<Option<i64>, OutboxError>;
}

/// Why the outbox failed, as its owner words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxError(String);

impl OutboxError {
    /// An error from its cause.
    pub fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl fmt::Display for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OutboxError {}

/// What carries a message away.
pub trait Channel: Send + 'static {
    /// Hands one message over. `Ok` means that the channel has taken it, durably as far as it can tell.
    ///
    /// It may block, but not without end: a request has a time limit.
    ///
    /// # Errors
    /// [`SendError::Transient`] when the same message may go through later, [`SendError::Permanent`] when
    /// it never will.
    fn send(&mut self, message: &OutboxMessage) -> Result<(), SendError>;
}

impl Channel for Box<dyn Channel> {
    fn send(&mut self, message: &OutboxMessage) -> Result<(), SendError> {
        (**self).send(message)
    }
}

/// Why a channel didn't take a message. The texts go to the log: they hold no secret, number or message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The message may go through later.
    Transient {
        /// What happened.
        why: String,
        /// How long the other side asked to wait at least, in milliseconds, if it did.
        retry_after_ms: Option<u64>,
    },
    /// The message will never go through.
    Permanent {
        /// What happened.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(text: &str, part: &str) {
        let error = text.parse::<SmsSetting>().unwrap_err().to_string();
        assert!(error.contains(part), "{text:?} gave {error:?}");
    }

    #[test]
    fn a_setting_is_off_a_file_or_twilio() {
        assert_eq!("off".parse(), Ok(SmsSetting::Off));
        assert_eq!("file:a b:c.jsonl".parse(), Ok(SmsSetting::File("a b:c.jsonl".into())));
        for text in ["off", "file:/tmp/x"] {
            assert_eq!(text.parse::<SmsSetting>().unwrap().to_string(), text);
        }
        assert!(!SmsSetting::default().is_on());
        assert!(SmsSetting::File("x".into()).is_on());
    }

    #[test]
    fn other_settings_are_refused_with_what_is_right() {
        check_refused("file", "needs a path");
        check_refused("file:", "needs a path");
        for text in ["", "on", "OFF", "Twilio", "off:", "twilio:x", "files:x", " off"] {
            check_refused(text, "off, file:PATH or twilio");
        }
    }

    #[cfg(not(feature = "twilio"))]
    #[test]
    fn twilio_without_its_feature_says_how_to_build_it() {
        check_refused("twilio", "cargo build --features twilio");
    }

    #[cfg(feature = "twilio")]
    #[test]
    fn twilio_needs_its_variables_at_start() {
        let setting: SmsSetting = "twilio".parse().unwrap();
        assert!(setting.is_on());
        assert_eq!(setting.to_string(), "twilio");
        let error = setting.open_channel(&|_| None).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("TWILIO_ACCOUNT_SID"), "{error}");
    }

    #[test]
    fn off_opens_no_channel_and_a_file_that_cannot_be_opened_is_named() {
        assert!(SmsSetting::Off.open_channel(&|_| None).unwrap().is_none());
        let folder = tempfile::tempdir().unwrap();
        let setting = SmsSetting::File(folder.path().join("none").join("x.jsonl"));
        let error = setting.open_channel(&|_| None).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("x.jsonl"), "{error}");
    }

    #[test]
    fn debug_shows_neither_number_nor_text() {
        let message = OutboxMessage {
            id: 7,
            phone: "9876543210".into(),
            body: "Your account".into(),
            created_unix_ms: 0,
            attempts: 0,
            failing_since_unix_ms: None,
        };
        let shown = format!("{message:?}");
        assert!(shown.contains("id: 7") && !shown.contains("98765") && !shown.contains("account"), "{shown}");
        assert_eq!(message.phone_e164(), "+919876543210");
    }
}

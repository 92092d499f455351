//! The channel over Twilio's REST API: one `POST` per message to the Messages resource.
//!
//! ```text
//! POST {base}/2010-04-01/Accounts/{AccountSid}/Messages.json
//! Authorization: Basic base64(AccountSid:AuthToken)
//! Content-Type: application/x-www-form-urlencoded
//!
//! From=%2B15005550006&To=%2B919876543210&Body=Your+account+XXX001+…
//! ```
//!
//! The source is Twilio's documentation of the Messages resource ("Create a Message") and of its errors.
//! How an answer is taken:
//!
//! - 2xx: taken, whatever else the answer says;
//! - 429 (too many requests), 408 (the server gave up waiting for the request) and 5xx: transient, and
//!   `Retry-After` in seconds is passed on (its form as a date is not read: Twilio sends seconds);
//! - any other, a redirect too: permanent. Redirects are not followed, for the next server has no business
//!   with the token;
//! - no answer (no connection, no name, no time left): transient. The request may have arrived all the
//!   same, and then the customer gets the message twice.
//!
//! *No secret shows.* The token is in no error, `Debug` text or log line. Of Twilio's answer only its error
//! number is kept, never its words, which can repeat what was sent. `ureq` leaves sensitive headers out of
//! its debug lines, but below it `ureq-proto` dumps raw bytes at the level *trace*; so the feature `twilio`
//! compiles trace lines out of the whole program (`log/max_level_debug`), and this file doesn't compile
//! without that. A base URL without TLS is refused unless it is on this machine.

use std::fmt;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;
use ureq::http::{StatusCode, Uri};
use ureq::{Agent, Body, Proxy};

use super::limits::TWILIO_ANSWER_BYTES_MAX;
use super::{Channel, OutboxMessage, SendError, SmsError};

/// The variable that names the account.
pub const ACCOUNT_SID_VARIABLE: &str = "TWILIO_ACCOUNT_SID";
/// The variable that holds the account's secret.
pub const AUTH_TOKEN_VARIABLE: &str = "TWILIO_AUTH_TOKEN";
/// The variable that holds the sender's number, or its name where the country allows one.
pub const FROM_VARIABLE: &str = "TWILIO_FROM";
/// The variable that replaces [`BASE_URL_DEFAULT`].
pub const BASE_URL_VARIABLE: &str = "TWILIO_BASE_URL";
/// Where Twilio's REST API is.
pub const BASE_URL_DEFAULT: &str = "https://api.twilio.com";

const _: () = assert!(
    log::STATIC_MAX_LEVEL as usize <= log::LevelFilter::Debug as usize,
    "the feature twilio must bring log/max_level_debug, or a trace line could hold the token"
);

/// The account to send from, and where its API is.
#[derive(Clone)]
pub struct TwilioSettings {
    account_sid: String,
    auth_token: String,
    from: String,
    /// Without a slash at its end.
    base_url: String,
}

impl TwilioSettings {
    /// Reads the settings from environment variables, by a lookup that gives each by its name.
    ///
    /// # Errors
    /// [`SmsError`] that names the first variable which is missing, empty or malformed. The token's value is
    /// in no message.
    pub fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, SmsError> {
        let needed = |name: &str| {
            let value = environment(name).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| SmsError::new(format!("--sms twilio needs {name} in the environment")))?;
            if value.chars().any(|c| c.is_control()) {
                return Err(SmsError::new(format!("{name} has a line break or another control character in it")));
            }
            Ok(value)
        };
        let account_sid = needed(ACCOUNT_SID_VARIABLE)?;
        let auth_token = needed(AUTH_TOKEN_VARIABLE)?;
        let from = needed(FROM_VARIABLE)?;
        // The account becomes a part of the path and the user of basic authentication, so neither '/' nor
        // ':' may be in it.
        if !account_sid.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            return Err(SmsError::new(format!("{ACCOUNT_SID_VARIABLE} is letters and digits, such as AC0123…")));
        }
        let base_url = environment(BASE_URL_VARIABLE).filter(|value| !value.is_empty());
        let base_url = checked_base_url(base_url.as_deref().unwrap_or(BASE_URL_DEFAULT))?;
        Ok(Self { account_sid, auth_token, from, base_url })
    }
}

impl fmt::Debug for TwilioSettings {
    /// Leaves out the token, and the account, which is half of what a thief needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TwilioSettings")
            .field("from", &self.from)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

/// Sends messages through Twilio.
pub struct TwilioChannel {
    agent: Agent,
    messages_url: String,
    authorization: String,
    from: String,
}

impl TwilioChannel {
    /// A channel that gives each request `timeout` in all. Connects only when there is a message.
    ///
    /// Over `https`, a proxy from the environment (`HTTPS_PROXY` and the like) is used, by a tunnel that
    /// the proxy can't look into; without TLS none is.
    #[must_use]
    pub fn new(settings: TwilioSettings, timeout: Duration) -> Self {
        let is_plain = settings.base_url.starts_with("http://");
        let proxy = if is_plain { None } else { Proxy::try_from_env() };
        Self::with_proxy(settings, timeout, proxy)
    }

    fn with_proxy(settings: TwilioSettings, timeout: Duration, proxy: Option<Proxy>) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .https_only(settings.base_url.starts_with("https://"))
            .proxy(proxy)
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("bank-server/", env!("CARGO_PKG_VERSION")))
            .accept("application/json");
        let TwilioSettings { account_sid, auth_token, from, base_url } = settings;
        Self {
            agent: config.build().new_agent(),
            messages_url: format!("{base_url}/2010-04-01/Accounts/{account_sid}/Messages.json"),
            authorization: format!("Basic {}", BASE64_STANDARD.encode(format!("{account_sid}:{auth_token}"))),
            from,
        }
    }
}

impl fmt::Debug for TwilioChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TwilioChannel").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Channel for TwilioChannel {
    fn send(&mut self, message: &OutboxMessage) -> Result<(), SendError> {
        let to = message.phone_e164();
        let form = [("From", self.from.as_str()), ("To", to.as_str()), ("Body", message.body.as_str())];
        let request = self.agent.post(&self.messages_url).header("Authorization", &self.authorization);
        match request.send_form(form) {
            Ok(mut response) => {
                let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
                let retry_after_ms = retry_after.and_then(retry_after_ms);
                judge(response.status(), error_number(response.body_mut()), retry_after_ms)
            }
            Err(error) => Err(SendError::Transient { why: unanswered(&error).into(), retry_after_ms: None }),
        }
    }
}

/// What a status means for the message.
fn judge(status: StatusCode, error_number: Option<u32>, retry_after_ms: Option<u64>) -> Result<(), SendError> {
    if status.is_success() {
        return Ok(());
    }
    let mut why = format!("Twilio answered {}", status.as_u16());
    if let Some(number) = error_number {
        why.push_str(&format!(", its error {number} (https://www.twilio.com/docs/api/errors/{number})"));
    }
    if status == StatusCode::UNAUTHORIZED {
        why.push_str(&format!("; check {ACCOUNT_SID_VARIABLE} and {AUTH_TOKEN_VARIABLE}"));
    }
    let is_transient =
        status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT;
    Err(if is_transient { SendError::Transient { why, retry_after_ms } } else { SendError::Permanent { why } })
}

/// Twilio's own number of an error, from the JSON of its answer, of which a bounded part is read. Reading it
/// to the end also lets the connection serve the next message.
fn error_number(body: &mut Body) -> Option<u32> {
    #[derive(Deserialize)]
    struct Answer {
        code: Option<u32>,
    }
    let bytes = body.with_config().limit(TWILIO_ANSWER_BYTES_MAX).read_to_vec().ok()?;
    serde_json::from_slice::<Answer>(&bytes).ok()?.code
}

/// A `Retry-After` in whole seconds, as milliseconds.
fn retry_after_ms(value: &str) -> Option<u64> {
    let seconds: u64 = value.trim().parse().ok()?;
    Some(seconds.saturating_mul(1000))
}

/// Why there was no answer, in words of our own: `ureq`'s may name the URL, and so the account.
fn unanswered(error: &ureq::Error) -> &'static str {
    match error {
        ureq::Error::Timeout(_) => "no answer from Twilio in time",
        ureq::Error::HostNotFound => "Twilio's host name was not found",
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => "no secure connection to Twilio",
        ureq::Error::ConnectionFailed | ureq::Error::Io(_) => "the connection to Twilio failed",
        ureq::Error::ConnectProxyFailed(_) | ureq::Error::InvalidProxyUrl => "the proxy refused the connection",
        _ => "Twilio's answer was not understood",
    }
}

/// A base URL that the token may be sent to: `https`, or `http` to this machine; without a slash at its end.
fn checked_base_url(url: &str) -> Result<String, SmsError> {
    let wrong = |why: &str| Err(SmsError::new(format!("{BASE_URL_VARIABLE} {why}, as in {BASE_URL_DEFAULT}")));
    let Ok(uri) = url.parse::<Uri>() else { return wrong("is not a URL") };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return wrong("needs a scheme and a host");
    };
    if authority.as_str().contains('@') || uri.query().is_some() || url.contains('#') {
        return wrong("has a scheme, a host and at most a path");
    }
    match scheme {
        "https" => {}
        "http" if matches!(authority.host(), "127.0.0.1" | "localhost" | "[::1]") => {}
        _ => return wrong("must be https; plain http is for this machine only"),
    }
    // `Uri` reads the scheme in either case and gives it in lower case, which the rest of this file expects.
    Ok(format!("{scheme}{}", url[scheme.len()..].trim_end_matches('/')))
}

#[cfg(test)]
mod tests;

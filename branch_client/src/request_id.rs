//! Ids of writes. A write that is repeated under its id is carried out once, so a lost answer costs nothing.
//!
//! An id is the time in milliseconds since 1970 and 64 random bits, in hexadecimal: ids sort by time in a log, and
//! two clients can't draw the same one. One command may send several writes; they share the id and are numbered,
//! so that the whole command can be given again under the one id.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::request::REQUEST_ID_BYTES_MAX;

/// The longest id that may be given by hand, in bytes: room is left for the number of a write.
pub const GIVEN_BYTES_MAX: usize = REQUEST_ID_BYTES_MAX - NUMBER_BYTES_MAX;
/// A dot and the digits of the largest number.
const NUMBER_BYTES_MAX: usize = 21;

/// The id of a command's writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// A new id.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn draw() -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self::from_parts(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX), u64::from_be_bytes(random)))
    }

    fn from_parts(unix_ms: u64, random: u64) -> Self {
        // Twelve digits of milliseconds last until the year 10889.
        Self(format!("{:012x}{random:016x}", unix_ms & 0xffff_ffff_ffff))
    }

    /// The id of the command's write of that number; the first write, number 0, has the id itself.
    #[must_use]
    pub fn of_write(&self, number: usize) -> String {
        if number == 0 { self.0.clone() } else { format!("{}.{number}", self.0) }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RequestId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > GIVEN_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(format!("a request id has 1 to {GIVEN_BYTES_MAX} printable bytes"));
        }
        Ok(Self(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_differ_within_a_millisecond() {
        let early = RequestId::from_parts(0x0199_0000_0000, u64::MAX);
        let late = RequestId::from_parts(0x0199_0000_0001, 0);
        assert_eq!(early.as_str(), "019900000000ffffffffffffffff");
        assert!(early.as_str() < late.as_str());
        let (one, other) = (RequestId::draw().unwrap(), RequestId::draw().unwrap());
        assert_eq!(one.as_str().len(), 28);
        assert_ne!(one, other);
    }

    #[test]
    fn writes_of_one_command_have_ids_of_their_own() {
        let id: RequestId = "again".parse().unwrap();
        assert_eq!((id.of_write(0), id.of_write(2)), ("again".into(), "again.2".into()));
        let longest: RequestId = "x".repeat(GIVEN_BYTES_MAX).parse().unwrap();
        assert!(longest.of_write(usize::MAX).len() <= REQUEST_ID_BYTES_MAX);
        for text in ["", "a\nb", &"x".repeat(GIVEN_BYTES_MAX + 1)] {
            assert!(text.parse::<RequestId>().is_err(), "{text:?}");
        }
    }
}

//! The operating system's errors in words for people.
//!
//! "Resource temporarily unavailable (os error 11)" is what a socket says whose time is over. Its number helps nobody
//! who reads an answer or a line of the log, and its words mislead. Here each error of which the cause is known is told
//! by that, and the others by the system's words without the number.

use std::fmt;
use std::io::{Error, ErrorKind};

/// An error of the operating system, as a part of a sentence.
#[derive(Debug)]
pub struct IoWords<'a>(pub &'a Error);

impl fmt::Display for IoWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = match self.0.kind() {
            // A socket with a time limit says either, by the system's whim.
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Some("it took too long"),
            ErrorKind::ConnectionRefused => Some("nobody listens there"),
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                Some("the other side ended the connection")
            }
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Some("there is no way to that host"),
            ErrorKind::AddrInUse => Some("another program has this address"),
            ErrorKind::AddrNotAvailable => Some("this machine has no such address"),
            ErrorKind::PermissionDenied => Some("permission is denied"),
            ErrorKind::NotFound if self.0.raw_os_error().is_some() => Some("it does not exist"),
            ErrorKind::StorageFull => Some("the disk is full"),
            _ => None,
        };
        match known {
            Some(words) if self.0.raw_os_error().is_some() || self.0.get_ref().is_none() => f.write_str(words),
            Some(_) | None => write_without_number(&self.0.to_string(), f),
        }
    }
}

fn write_without_number(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some((words, rest)) = text.split_once(" (os error ") else { return f.write_str(text) };
    let after = rest.split_once(')').map_or("", |(_, after)| after);
    write!(f, "{words}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_the_operating_system_is_told() {
        for number in 1..134 {
            let words = IoWords(&Error::from_raw_os_error(number)).to_string();
            assert!(!words.contains("os error") && !words.is_empty(), "{number}: {words}");
        }
        assert_eq!(IoWords(&Error::from(ErrorKind::TimedOut)).to_string(), "it took too long");
    }

    #[test]
    fn what_somebody_has_put_into_words_stays() {
        let told = Error::new(ErrorKind::PermissionDenied, "the certificate names another host");
        assert_eq!(IoWords(&told).to_string(), "the certificate names another host");
        let wrapped = Error::other("look-up: Cannot assign requested address (os error 99), twice");
        assert_eq!(IoWords(&wrapped).to_string(), "look-up: Cannot assign requested address, twice");
    }
}

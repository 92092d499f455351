//! Command lines as a POSIX shell takes them, for a person to give again.

use std::ffi::OsString;

/// An argument in a command line.
#[must_use]
pub fn quoted(argument: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=,@%+".contains(character);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        argument.to_string()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

/// These arguments as a command line, without a request id.
#[must_use]
pub fn without_request_id(arguments: impl IntoIterator<Item = OsString>) -> String {
    const FLAG: &str = "--request-id";
    let mut words = Vec::new();
    let mut skip = false;
    for argument in arguments {
        let argument = argument.to_string_lossy();
        if skip || argument == FLAG {
            skip = !skip;
        } else if !argument.strip_prefix(FLAG).is_some_and(|rest| rest.starts_with('=')) {
            words.push(quoted(&argument));
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        for (argument, expected) in [("1001", "1001"), ("Delhi/1002=50", "Delhi/1002=50"), ("a b", "'a b'"), ("", "''")]
        {
            assert_eq!(quoted(argument), expected);
        }
    }

    #[test]
    fn the_command_line_is_given_again_without_its_request_id() {
        let check = |line: &[&str], expected: &str| {
            assert_eq!(without_request_id(line.iter().map(OsString::from)), expected);
        };
        check(&["bank-client", "deposit", "1001", "5"], "bank-client deposit 1001 5");
        check(&["c", "--request-id", "x", "open", "Asha Rao"], "c open 'Asha Rao'");
        check(&["c", "open", "O'Neil", "--request-id=x", ""], r"c open 'O'\''Neil' ''");
    }
}

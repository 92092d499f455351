//! What a customer gives when an account is opened: Aadhaar number, phone number, names, password.
//!
//! Each is a newtype that is checked once, where it enters, by the menu and the branch protocol alike. What
//! must not be seen hides itself: an [`Aadhaar`] shows its last four digits alone, a [`NewPassword`] nothing.
//! Whether a number is already taken is the database's to say, and hashing is done elsewhere.

use std::fmt;
use std::str::FromStr;

use super::name_characters::{self, Fault};

/// The digits of an Aadhaar number.
pub const AADHAAR_DIGITS: usize = 12;
/// The digits of a phone number, without the country's prefix.
pub const PHONE_DIGITS: usize = 10;
/// What may stand in front of a phone number.
pub const PHONE_PREFIX: &str = "+91";
/// The longest first or last name, in characters. Longer ones break every table that shows them.
pub const NAME_CHARS_MAX: usize = 64;
/// The shortest new password, in characters: this is a teaching bank.
pub const PASSWORD_CHARS_MIN: usize = 4;
/// The longest new password, in characters. It bounds what is hashed.
pub const PASSWORD_CHARS_MAX: usize = 128;

const _: () = assert!(PASSWORD_CHARS_MIN < PASSWORD_CHARS_MAX);

/// An Aadhaar number: 12 digits. Shown masked, as `XXXX XXXX 1234`.
#[derive(Clone, PartialEq, Eq)]
pub struct Aadhaar(String);

impl Aadhaar {
    /// All 12 digits, for the database. Never for a listing or a log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Aadhaar {
    type Err = CustomerError;

    fn from_str(text: &str) -> Result<Self, CustomerError> {
        if is_digits(text, AADHAAR_DIGITS) {
            Ok(Self(text.to_string()))
        } else if text.chars().any(char::is_whitespace) {
            Err(CustomerError::AadhaarBlank)
        } else {
            Err(CustomerError::Aadhaar)
        }
    }
}

impl fmt::Display for Aadhaar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("XXXX XXXX {}", &self.0[AADHAAR_DIGITS - 4..]))
    }
}

impl fmt::Debug for Aadhaar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aadhaar({self})")
    }
}

/// A phone number: 10 digits, without the `+91` that may be typed in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phone(String);

impl Phone {
    /// The 10 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Phone {
    type Err = CustomerError;

    fn from_str(text: &str) -> Result<Self, CustomerError> {
        let digits = text.strip_prefix(PHONE_PREFIX).unwrap_or(text);
        if is_digits(digits, PHONE_DIGITS) {
            Ok(Self(digits.to_string()))
        } else if text.chars().any(char::is_whitespace) {
            Err(CustomerError::PhoneBlank)
        } else {
            Err(CustomerError::Phone)
        }
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A first or last name in any alphabet: 1 to 64 characters that can be seen, with single blanks between them.
///
/// Quotes and semicolons are as good as letters, because no name ever becomes part of a statement's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonName(String);

impl PersonName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PersonName {
    type Err = CustomerError;

    /// Blanks around the name are taken off, and those within become single ones: nobody sees a difference.
    fn from_str(text: &str) -> Result<Self, CustomerError> {
        // A blank of a typesetter (U+00A0, U+3000) is one for a person too; a line's end or a tab is none.
        let breaks = |character: char| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
        let is_blank = |character: char| character.is_whitespace() && !breaks(character);
        let words = text.trim().split(is_blank).filter(|word| !word.is_empty());
        let name = words.collect::<Vec<_>>().join(" ");
        if name.chars().count() > NAME_CHARS_MAX {
            return Err(CustomerError::NameTooLong);
        }
        match name_characters::check(&name) {
            Ok(()) => Ok(Self(name)),
            Err(Fault::Blank) => Err(CustomerError::NameBlank),
            Err(Fault::Control) => Err(CustomerError::NameControl),
            Err(Fault::Invisible) => Err(CustomerError::NameInvisible),
            Err(Fault::Marks) => Err(CustomerError::NameMarks),
        }
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A password that is to be set: 4 to 128 characters, exactly as typed. It has no text form but
/// [`NewPassword::as_str`].
#[derive(Clone)]
pub struct NewPassword(String);

impl NewPassword {
    /// The password, to be hashed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NewPassword {
    type Err = CustomerError;

    /// Control characters are refused, because the menu could never take such a password at a log-in.
    fn from_str(text: &str) -> Result<Self, CustomerError> {
        match text.chars().count() {
            0..PASSWORD_CHARS_MIN => Err(CustomerError::PasswordTooShort),
            PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX if text.chars().any(char::is_control) => {
                Err(CustomerError::PasswordControl)
            }
            PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX => Ok(Self(text.to_string())),
            _ => Err(CustomerError::PasswordTooLong),
        }
    }
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPassword(********)")
    }
}

/// Why something that a customer gave is refused. Each message is one sentence that says what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomerError {
    /// Not an Aadhaar number.
    Aadhaar,
    /// An Aadhaar number with blanks in it.
    AadhaarBlank,
    /// Not a phone number.
    Phone,
    /// A phone number with blanks in it.
    PhoneBlank,
    /// Nothing to see in the name.
    NameBlank,
    /// Over [`NAME_CHARS_MAX`].
    NameTooLong,
    /// A name with a control character, or one that turns the direction of the text around it.
    NameControl,
    /// A name with a character that can't be seen.
    NameInvisible,
    /// A name with a heap of marks on one letter.
    NameMarks,
    /// Under [`PASSWORD_CHARS_MIN`].
    PasswordTooShort,
    /// Over [`PASSWORD_CHARS_MAX`].
    PasswordTooLong,
    /// A password with a control character.
    PasswordControl,
}

impl fmt::Display for CustomerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aadhaar => write!(f, "an Aadhaar number has exactly {AADHAAR_DIGITS} digits"),
            Self::AadhaarBlank => write!(f, "an Aadhaar number is typed without blanks, as {AADHAAR_DIGITS} digits"),
            Self::Phone => {
                write!(f, "a phone number has exactly {PHONE_DIGITS} digits, and may have {PHONE_PREFIX} in front")
            }
            Self::PhoneBlank => write!(
                f,
                "a phone number is typed without blanks, as {PHONE_DIGITS} digits, and may have {PHONE_PREFIX} in front"
            ),
            Self::NameBlank => f.write_str("a name is needed"),
            Self::NameTooLong => write!(f, "a name has at most {NAME_CHARS_MAX} characters"),
            Self::NameControl => f.write_str("a name has no control characters"),
            Self::NameInvisible => f.write_str(
                "a name has only characters that can be seen: this one has one that is invisible, or a picture; type it again",
            ),
            Self::NameMarks => f.write_str("a name has no heaps of accents: at most four on one letter"),
            Self::PasswordTooShort | Self::PasswordTooLong => {
                write!(f, "a new password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters")
            }
            Self::PasswordControl => f.write_str("a password has no control characters"),
        }
    }
}

impl std::error::Error for CustomerError {}

fn is_digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check<T: FromStr<Err = CustomerError> + fmt::Debug>(text: &str, expected: CustomerError) {
        assert_eq!(text.parse::<T>().err(), Some(expected), "text {text:?}");
    }

    #[test]
    fn an_aadhaar_number_is_twelve_ascii_digits() {
        assert_eq!("123456789012".parse::<Aadhaar>().unwrap().as_str(), "123456789012");
        for text in ["", "12345678901", "1234567890123", "12345678901x", "-12345678901", "१२३४५६७८९०१२"]
        {
            check::<Aadhaar>(text, CustomerError::Aadhaar);
        }
        for text in ["1234 5678 9012", " 123456789012", "123456789012 "] {
            check::<Aadhaar>(text, CustomerError::AadhaarBlank);
        }
    }

    #[test]
    fn an_aadhaar_number_shows_its_last_four_digits_alone() {
        let aadhaar: Aadhaar = "123456789012".parse().unwrap();
        assert_eq!(aadhaar.to_string(), "XXXX XXXX 9012");
        assert_eq!(format!("{aadhaar:?}"), "Aadhaar(XXXX XXXX 9012)");
        assert_eq!(format!("{aadhaar:>16}"), "  XXXX XXXX 9012");
    }

    #[test]
    fn a_phone_number_is_ten_digits_and_loses_its_prefix() {
        for text in ["9876543210", "+919876543210"] {
            assert_eq!(text.parse::<Phone>().unwrap().as_str(), "9876543210", "text {text:?}");
        }
        for text in ["", "987654321", "98765432101", "919876543210", "+9876543210", "+91-9876543210", "+91", "+91+91"] {
            check::<Phone>(text, CustomerError::Phone);
        }
        for text in ["98765 43210", "+91 9876543210", " 9876543210"] {
            check::<Phone>(text, CustomerError::PhoneBlank);
        }
    }

    #[test]
    fn a_name_is_in_any_alphabet() {
        for text in ["Asha", "O'Neil", "'; DROP TABLE customers; --", "आशा", "किशोर", "李", "R2", "@EXIT"]
        {
            assert_eq!(text.parse::<PersonName>().unwrap().as_str(), text);
        }
        for text in ["  Asha Rani ", "Asha  Rani", "Asha\u{a0}Rani", "Asha \u{3000}Rani"] {
            assert_eq!(text.parse::<PersonName>().unwrap().as_str(), "Asha Rani");
        }
        assert!("अ".repeat(NAME_CHARS_MAX).parse::<PersonName>().is_ok());
    }

    #[test]
    fn a_name_is_neither_blank_nor_endless_nor_a_control_character() {
        for text in ["", " ", "\u{a0}", "\t", "\u{200b}", "\u{feff}"] {
            check::<PersonName>(text, CustomerError::NameBlank);
        }
        for text in ["A\u{7}", "A\nB", "\u{1b}[2J", "A\u{202e}B", "A\u{2028}B"] {
            check::<PersonName>(text, CustomerError::NameControl);
        }
        check::<PersonName>("As\u{200b}ha", CustomerError::NameInvisible);
        check::<PersonName>(&format!("A{}", "\u{301}".repeat(40)), CustomerError::NameMarks);
        for chars in [NAME_CHARS_MAX + 1, 10_000] {
            check::<PersonName>(&"x".repeat(chars), CustomerError::NameTooLong);
        }
    }

    #[test]
    fn a_new_password_is_taken_as_typed() {
        for text in ["root", "    ", " a b ", "पासवर्ड", &"x".repeat(PASSWORD_CHARS_MAX)] {
            assert_eq!(text.parse::<NewPassword>().unwrap().as_str(), text);
        }
        for text in ["", "abc", "आशा"] {
            check::<NewPassword>(text, CustomerError::PasswordTooShort);
        }
        check::<NewPassword>(&"x".repeat(PASSWORD_CHARS_MAX + 1), CustomerError::PasswordTooLong);
        check::<NewPassword>("pass\tword", CustomerError::PasswordControl);
    }

    #[test]
    fn a_new_password_is_hidden() {
        let password: NewPassword = "swordfish".parse().unwrap();
        assert_eq!(format!("{password:?}"), "NewPassword(********)");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<Aadhaar>();
            let _ = text.parse::<Phone>();
            let _ = text.parse::<PersonName>();
            let _ = text.parse::<NewPassword>();
        }

        #[test]
        fn a_name_that_is_taken_reads_back_the_same(text in any::<String>()) {
            if let Ok(name) = text.parse::<PersonName>() {
                prop_assert_eq!(name.as_str().parse::<PersonName>(), Ok(name.clone()));
            }
        }
    }
}

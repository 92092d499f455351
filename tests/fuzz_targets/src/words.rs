//! What people and programs write: amounts, account numbers, ids, names, addresses and lines of the menu.
//!
//! The input is one text. Whatever is taken has one text form, which is taken again as the same.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use protocol::menu_line::{ClientLine, LINE_BYTES_MAX, LineReader, ServerLine, check_line};
use protocol::request::{Amount, LoginNum, RequestFrame};
use protocol::{AccountNum, Address, BranchName, LegSum, Money, NamedAddress, TxId};

/// Gives one text to each reader.
///
/// # Panics
/// When something is taken that should not be, or is not what it was taken for.
pub fn run(bytes: &[u8]) {
    lines(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    amount(text);
    same_again::<AccountNum>(text);
    same_again::<TxId>(text);
    same_again::<BranchName>(text);
    same_again::<Address>(text);
    same_again::<NamedAddress>(text);
    same_again::<LegSum>(text);
    json(text);
}

/// What is read is written in a form that is read as the same.
fn same_again<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    let Ok(read) = text.parse::<T>() else { return };
    let written = read.to_string();
    assert!(!written.chars().any(|c| c.is_control() || c.is_whitespace()), "{written:?} stands in a line");
    assert_eq!(written.parse::<T>().expect("what is written is read"), read, "{text:?}");
}

/// An amount is its digits: no sign, no exponent, no blank, nothing rounded.
fn amount(text: &str) {
    let typed = Money::parse_typed(text);
    let Ok(read) = text.parse::<Money>() else {
        assert!(Money::parse_movement(text).is_err());
        if let Ok(typed) = typed {
            assert!(text.contains(','), "{text:?} is no amount without its commas");
            assert_eq!(text.replace(',', "").parse(), Ok(typed));
        }
        return;
    };
    assert_eq!(typed, Ok(read), "what a program may write a person may type");
    assert_eq!(Money::parse_movement(text).is_ok(), !read.is_zero());
    let (rupees, decimals) = text.split_once('.').unwrap_or((text, ""));
    assert!(!rupees.is_empty() && decimals.len() <= 2);
    let digits = format!("{rupees}{decimals:0<2}");
    assert_eq!(digits.parse::<i128>().expect("they are digits"), i128::from(read.paise()), "{text:?}");
    assert!((0..=Money::MAX_PAISE).contains(&read.paise()));
    same_again::<Money>(text);
}

/// The same as JSON, as a number or a text, and a whole request.
fn json(text: &str) {
    if let Ok(amount) = serde_json::from_str::<Amount>(text)
        && let Ok(money) = amount.get()
    {
        assert_eq!(serde_json::to_string(&amount).expect("an amount is written"), money.to_string());
        assert_eq!(text.trim().trim_matches('"').parse::<Money>().is_ok(), !text.contains('\\'), "{text}");
    }
    if let Ok(number) = serde_json::from_str::<LoginNum>(text) {
        let written = serde_json::to_string(&number).expect("a number is written");
        assert_eq!(serde_json::from_str::<LoginNum>(&written).expect("it is read again").as_i64(), number.as_i64());
    }
    if let Ok(frame) = RequestFrame::parse(text.as_bytes()) {
        let _ = (frame.action(), frame.request_id(), frame.params_text());
    }
}

/// A line is at most so long and holds no control character; one that the server writes stays one line.
fn lines(bytes: &[u8]) {
    let mut reader = LineReader::new();
    let mut rest = bytes;
    while let Ok(Some(line)) = reader.read_line(&mut rest) {
        if let ClientLine::Text(text) = line {
            assert!(text.len() <= LINE_BYTES_MAX && !text.chars().any(char::is_control));
            assert_eq!(check_line(text.as_bytes()), ClientLine::Text(text));
        }
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    for line in [ServerLine::Text(text.clone()), ServerLine::Fail(text.clone()), ServerLine::parse(&text)] {
        let written = line.to_string();
        assert!(!written.contains(['\n', '\r', '\u{1b}']), "{written:?}");
        let read = ServerLine::parse(&written);
        assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(&line), "{written:?}");
        assert_eq!(read.to_string(), written);
    }
}

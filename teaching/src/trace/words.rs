//! Events in words, one line each.

use protocol::event::EventKind;

/// What happened, in words, on one line.
#[must_use]
pub fn tell_event(kind: &EventKind) -> String {
    printable(&match kind {
        EventKind::Sent { to, text, .. } => format!("sent to {to}: {text}"),
        EventKind::Received { from, text, .. } => format!("received from {from}: {text}"),
        EventKind::Recorded { record, forced: true } => format!("on disk: {record}"),
        EventKind::Recorded { record, forced: false } => format!("recorded: {record}"),
        EventKind::State { role, from, to } => format!("{role}: {from} -> {to}"),
        EventKind::Moved { account, amount, what } => format!("account {account}: {amount} {}", what.name()),
        EventKind::Lost { from, text, .. } => format!("lost on its way from {from}: {text}"),
        EventKind::Asked { text } => format!("a client asks: {text}"),
        EventKind::Answered { text } => format!("the client is told: {text}"),
        EventKind::Note { text } => text.clone(),
    })
}

/// The text without what could end a line or steer a terminal: other branches and programs wrote it.
#[must_use]
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_in_words() {
        let check = |json: &str, expected: &str| {
            assert_eq!(tell_event(&serde_json::from_str(json).unwrap()), expected);
        };
        check(r#"{"sent":{"to":"Delhi","message":"vote","text":"vote yes","id":"Pune:3"}}"#, "sent to Delhi: vote yes");
        check(r#"{"recorded":{"record":"prepared","forced":true}}"#, "on disk: prepared");
        check(r#"{"state":{"role":"participant","from":"a","to":"b"}}"#, "participant: a -> b");
        check(r#"{"note":{"text":"a\nb\u001b[2J\u0085c\u007f"}}"#, "a b [2J c ");
        check(r#"{"moved":{"account":"1001","amount":50.00,"what":"held"}}"#, "account 1001: 50.00 held");
    }
}

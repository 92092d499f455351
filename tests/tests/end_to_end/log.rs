//! The log tells who did what and how it went, and never a password or an Aadhaar number.

use std::fs;

use bank_tests::{Branch, MenuConnection, Options, run_client};

/// Nothing else in a log looks like these.
const SECRETS: [&str; 7] = [
    "734512349876",
    "734512349875",
    "tamarind-one",
    "tamarind-two",
    "tamarind-wrong",
    "tamarind-admin",
    "tamarind-at-the-wrong-prompt",
];

/// Everything that takes a secret, right and wrong, and secrets typed where none was asked for.
const DIALOGUES: [&[&str]; 12] = [
    &["a", "0", "tamarind-wrong", ""],
    &["a", "0", "tamarind-admin"],
    &["a", "734512349876", "9876543210", "Asha", "Rao", "no", "tamarind-one", ""],
    &["a", "734512349876", "9876543211", "Asha", "Rao", "no", "tamarind-two", ""],
    &["a", "7345 1234 9875", ""],
    &["a", "734512349875", "734512349875", ""],
    &["b", "1001", "tamarind-wrong", ""],
    &["tamarind-at-the-wrong-prompt", "", "c", "", "d", "", "f", "", "e"],
    &["a", "tamarind-at-the-wrong-prompt", ""],
    &["a", "1001", "tamarind-one", "b", "tamarind-at-the-wrong-prompt", "", "b", "12.50", "", "c", "9999999", ""],
    &["d", "tamarind-at-the-wrong-prompt", "", "d", "1009", "tamarind-at-the-wrong-prompt", ""],
    &[
        "g",
        "tamarind-wrong",
        "tamarind-two",
        "tamarind-two",
        "",
        "g",
        "tamarind-one",
        "tamarind-two",
        "tamarind-two",
        "",
    ],
];

#[test]
fn the_log_holds_addresses_and_outcomes_and_no_secret_at_any_level() {
    for level in ["", "trace"] {
        let folder = tempfile::tempdir().unwrap();
        let messages = folder.path().join("messages.jsonl");
        let mut options = Options::empty()
            .lab()
            .variable("BANK_ADMIN_PASSWORD", "tamarind-admin")
            .value("--sms", format!("file:{}", messages.display()));
        if !level.is_empty() {
            options = options.variable("RUST_LOG", level);
        }
        let mut branch = Branch::start(options);
        let mut menu: MenuConnection = branch.menu();
        let address = menu.stream().local_addr().unwrap().to_string();
        for dialogue in DIALOGUES {
            for answer in dialogue {
                menu.answer(answer).unwrap();
            }
        }
        menu.send_bytes(b"tamarind-at-the-wrong-prompt\x07\n").unwrap();
        menu.turn().unwrap().expect_fail();
        menu.send_bytes(b"tamarind-at-the-wrong-prompt").unwrap();
        let log = branch.log().clone();
        assert_eq!(branch.stop(), Some(0));
        let log = log.whole();
        for secret in SECRETS {
            assert!(!log.contains(secret), "{secret} with RUST_LOG={level:?} in\n{log}");
        }
        for part in [
            "menu opened",
            "log in as administrator: refused",
            "log in as administrator: done",
            "opening of an account: done",
            "opening of an account: refused: another account has this Aadhaar number",
            "closing of account 1001: refused",
            "deposit of Rs 12.50 into 1001: done",
            "withdrawal of Rs 9999999.00 from 1001: refused",
            "new password of account 1001: refused",
            "new password of account 1001: done",
            "SIGTERM received",
        ] {
            assert!(log.contains(part), "{part:?} in\n{log}");
        }
        assert!(log.lines().filter(|line| line.contains(&address)).count() > 8, "{address} in\n{log}");
        assert!(!fs::read(branch.database_path()).unwrap().windows(12).any(|bytes| bytes == b"tamarind-two"));
    }
}

#[test]
fn the_clients_transcript_and_messages_hold_no_password() {
    let branch = Branch::start(Options::preloaded());
    let script = "a\n1001\ntamarind-wrong\na\n1001\n1001\ng\n1001\ntamarind-one\ntamarind-one\nf\nb\n";
    let transcript = run_client(&["--menu-port", &branch.menu_port().to_string()], script.as_bytes());
    assert!(transcript.stdout.contains("The password is changed."), "{transcript:?}");
    for output in [&transcript.stdout, &transcript.stderr] {
        assert!(!output.contains("tamarind"), "{output}");
    }
}

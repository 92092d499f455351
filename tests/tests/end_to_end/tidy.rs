//! What the house keeps tidy, beside what compiler and lints see to: no function longer than a screen, no file longer than a
//! sitting, a heading on every file, the field's words, no dead link in a document, and no name in one of a file, a
//! crate or a function that is not there.
//!
//! Where a function had better be longer, it is listed here with the reason; one that has become shorter has to leave the
//! list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// The most lines of a file of Rust.
const FILE_LINES_MAX: usize = 500;

/// Functions that may be longer.
const LONGER_FUNCTIONS: [(&str, &str, &str); 5] = [
    ("server/src/branch/dispatch.rs", "answer_alone", "one arm for each action that is answered by itself"),
    ("server/src/error.rs", "fmt", "one sentence for each error"),
    ("tests/tests/end_to_end/access.rs", "a_customer_sees_and_moves_the_own_account_alone", "one way after another"),
    ("tests/tests/end_to_end/branch_protocol.rs", "answers_to_the_letter", "a table of answers"),
    (
        "tests/tests/end_to_end/branch_protocol.rs",
        "wrong_parameters_are_refused_and_change_nothing",
        "a table of what is refused",
    ),
];

/// Words that have made room for the field's, each with the one to write. They are split here, lest this file holds them.
const BANNED_WORDS: [(&str, &str); 8] = [
    ("be|fell", "happened to"),
    ("by and| by", "later"),
    ("do|or", "port, listener or handler"),
    ("do|ors", "ports, listeners or handlers"),
    ("execute_|later", "execute_lazy"),
    ("execute_|owed", "execute_internal"),
    ("her|ald", "announce"),
    ("peer|ship", "peer info"),
];

/// What documents tell of that is no file of this tree.
const NOT_HERE: [&str; 1] = ["rust-toolchain.toml"];

/// A file of the tree, by its path from the top.
struct Source {
    path: String,
    text: String,
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every file of text, but for what is built, drawn or fuzzed.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&top(), &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(found.len() > 400, "{} files are not the whole tree", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    const NOT_OURS: [&str; 6] = ["target", ".git", "corpus", "artifacts", "seeds", "demo-bank"];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !NOT_OURS.contains(&name) {
                collect(&path, found);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push(Source { path: path.strip_prefix(top()).unwrap().to_str().unwrap().to_string(), text });
        }
    }
}

fn is_rust(source: &&Source) -> bool {
    source.path.ends_with(".rs")
}

fn is_document(source: &&Source) -> bool {
    source.path.ends_with(".md")
}

/// Panics with all that was found, so that one run shows everything.
#[track_caller]
fn expect_none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// The functions of a file that is formatted: each ends in a brace that stands below its beginning.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (begin, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let Some(name) = name_of_function(line.trim_start()) else { continue };
        // A declaration, or a body in the same line, ends before any other line does.
        if line.ends_with(';') || line.ends_with('}') {
            continue;
        }
        let closing = format!("{indent}}}");
        if let Some(end) = lines[begin..].iter().position(|line| *line == closing) {
            found.push((name.to_string(), end + 1));
        }
    }
    found
}

/// The name in the first line of a function.
fn name_of_function(line: &str) -> Option<&str> {
    let mut rest = line;
    for word in ["pub(crate) ", "pub(super) ", "pub ", "default ", "const ", "async ", "extern \"C\" "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let rest = rest.strip_prefix("fn ")?;
    Some(&rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?])
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut longer = BTreeSet::new();
    for source in sources().iter().filter(is_rust) {
        for (name, lines) in functions(&source.text) {
            if lines > FUNCTION_LINES_MAX {
                longer.insert((source.path.clone(), name));
            }
        }
    }
    let listed = LONGER_FUNCTIONS.map(|(path, name, _)| (path.to_string(), name.to_string())).into();
    let complaint = |(path, name): &(String, String)| format!("{path}: {name}");
    expect_none("longer than a screen", longer.difference(&listed).map(complaint).collect());
    expect_none("no longer too long, so no longer listed", listed.difference(&longer).map(complaint).collect());
}

#[test]
fn no_file_is_longer_than_a_sitting() {
    let sources = sources();
    let is_longer = |source: &&Source| source.text.lines().count() > FILE_LINES_MAX;
    let longer = sources.iter().filter(is_rust).filter(is_longer).map(|source| source.path.clone());
    expect_none("longer than a sitting", longer.collect());
}

#[test]
fn every_file_begins_by_saying_what_it_owns() {
    let sources = sources();
    let is_mute = |source: &&Source| !source.text.starts_with("//!");
    expect_none(
        "no heading",
        sources.iter().filter(is_rust).filter(is_mute).map(|source| source.path.clone()).collect(),
    );
}

#[test]
fn the_fields_words_are_used() {
    let mut found = Vec::new();
    for source in sources() {
        // The changelog tells of what is gone, and a golden file of what was sent.
        if source.path == "CHANGELOG.md" || source.path.contains("golden") {
            continue;
        }
        for (banned, instead) in BANNED_WORDS {
            let banned = banned.replace('|', "");
            for (number, line) in source.text.lines().enumerate() {
                if has_word(&line.to_lowercase(), &banned) {
                    found.push(format!("{}:{}: {instead:?} for {banned:?}", source.path, number + 1));
                }
            }
        }
    }
    expect_none("private words", found);
}

/// Whether a text has this word by itself; the parts of an identifier are words too.
fn has_word(text: &str, word: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
    text.match_indices(word).any(|(place, _)| {
        is_edge(text[..place].chars().next_back()) && is_edge(text[place + word.len()..].chars().next())
    })
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| -> String {
        let kept = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The targets of a document's links and pictures, outside of its blocks of code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for text in prose(text) {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        found.extend(targets.map(ToString::to_string));
        let pictures = text.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(target, _)| target);
        found.extend(pictures.map(ToString::to_string));
    }
    found
}

/// A document's paragraphs outside of its blocks of code, each in one line: links are wrapped, too.
fn prose(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    let mut is_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if line.trim().is_empty() || line.starts_with('|') {
            paragraphs.push(line.to_string());
        } else if !is_code {
            let paragraph = paragraphs.last_mut().expect("there is one");
            paragraph.push(' ');
            paragraph.push_str(line.trim());
        }
    }
    paragraphs
}

#[test]
fn no_link_in_a_document_is_dead() {
    let sources = sources();
    let documents: BTreeMap<&str, &str> =
        sources.iter().filter(is_document).map(|source| (source.path.as_str(), source.text.as_str())).collect();
    let mut dead = Vec::new();
    for (document, text) in &documents {
        for link in links(text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = Path::new(document).parent().unwrap();
            let target = if file.is_empty() { PathBuf::from(document) } else { flat(&folder.join(file)) };
            let has_anchor =
                || documents.get(target.to_str().unwrap()).is_some_and(|text| anchors(text).contains(anchor));
            if !top().join(&target).exists() || !(anchor.is_empty() || has_anchor()) {
                dead.push(format!("{document}: {link}"));
            }
        }
    }
    expect_none("dead links", dead);
}

/// A path without `..`.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." {
            flat.pop();
        } else {
            flat.push(part);
        }
    }
    flat
}

/// What a text names as a file between backticks.
fn named_files(text: &str) -> Vec<String> {
    const ENDINGS: [&str; 12] =
        [".rs", ".md", ".toml", ".json", ".js", ".mjs", ".css", ".html", ".yaml", ".yml", ".env", ".service"];
    let quoted = text.split('`').skip(1).step_by(2);
    let is_name = |name: &&str| {
        let is_file = ENDINGS.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending));
        (is_file || name.ends_with('/')) && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/@".contains(c))
    };
    quoted.filter(is_name).map(|name| name.trim_start_matches("./").to_string()).collect()
}

#[test]
fn no_text_names_a_file_that_is_not_there() {
    let sources = sources();
    let paths: Vec<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let is_there = |name: &str| {
        let is_path = |path: &&str| {
            let whole = format!("/{path}");
            whole.ends_with(&format!("/{name}")) || (name.ends_with('/') && whole.contains(&format!("/{name}")))
        };
        NOT_HERE.contains(&name) || name.starts_with('/') || paths.iter().any(is_path)
    };
    let mut gone = Vec::new();
    for source in &sources {
        let text = if is_rust(&source) {
            source.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
        } else if is_document(&source) && source.path != "CHANGELOG.md" {
            prose(&source.text).join("\n")
        } else {
            continue;
        };
        let names = named_files(&text).into_iter().filter(|name| !is_there(name));
        gone.extend(names.map(|name| format!("{}: {name}", source.path)));
    }
    expect_none("named, and not there", gone);
}

/// The parts of what a document names in code: `Type::function`, `a_function`, `A_LIMIT`; nothing where it is no such name.
fn identifier(text: &str) -> Vec<&str> {
    let text = text.trim_end_matches("()");
    let parts: Vec<&str> = text.split("::").collect();
    let is_name = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_long = parts.len() > 1 || (text.contains('_') && text.len() > 4);
    if is_long && parts.iter().all(is_name) { parts } else { Vec::new() }
}

#[test]
fn no_document_names_what_no_code_has() {
    let sources = sources();
    let of_code = |source: &&Source| !is_document(source) && !source.path.contains("golden");
    let mut words: BTreeSet<&str> = BTreeSet::new();
    let mut functions: BTreeSet<&str> = BTreeSet::new();
    for source in sources.iter().filter(of_code) {
        words.extend(source.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
        let names =
            |keyword| source.text.split(keyword).skip(1).filter_map(|rest| rest.split(['(', '<', ';', ' ']).next());
        functions.extend(names("fn ").chain(names("mod ")));
    }
    let mut unknown = Vec::new();
    for source in sources.iter().filter(is_document).filter(|source| source.path != "CHANGELOG.md") {
        for text in prose(&source.text).iter().flat_map(|text| text.split('`').skip(1).step_by(2)) {
            let parts = identifier(text);
            let is_function = parts.len() > 1 && parts.last().is_some_and(|part| part.starts_with(char::is_lowercase));
            let is_known = |part: &&&str| words.contains(**part);
            let is_there = !is_function || parts.last().is_some_and(|part| functions.contains(part));
            if !is_there || parts.iter().any(|part| !is_known(&part)) {
                unknown.push(format!("{}: {text}", source.path));
            }
        }
    }
    expect_none("named, and in no code", unknown);
}

#[test]
fn what_the_architecture_says_is_absent_is_absent() {
    const NO_MACHINE: [&str; 7] =
        ["std::net", "std::fs", "std::thread", "std::process", "SystemTime", "Instant::", "getrandom"];
    // Where, what, and where in there it may stand after all.
    let absent: [(&str, &[&str], &str); 5] = [
        ("two_phase_commit/src/", &NO_MACHINE, "-"),
        ("server/src/menu/session.rs", &NO_MACHINE, "-"),
        ("server/src/", &["rusqlite::Connection", "Connection::open"], "server/src/dbs_exec/"),
        ("server/src/", &["async fn", "tokio"], "server/src/shared_log/postgres/"),
        ("protocol/src/", &["std::net::Tcp", "std::thread", "SystemTime", "getrandom"], "-"),
    ];
    let mut found = Vec::new();
    for source in sources().iter().filter(is_rust).filter(|source| !source.path.contains("tests")) {
        for (place, words, but) in absent {
            if source.path.starts_with(place) && !source.path.starts_with(but) {
                let there = words.iter().filter(|word| source.text.contains(**word));
                found.extend(there.map(|word| format!("{}: {word}", source.path)));
            }
        }
    }
    expect_none("there, and ARCHITECTURE.md says that it is not", found);
}

#[test]
fn the_map_has_every_crate_and_nothing_else() {
    let page = fs::read_to_string(top().join("ARCHITECTURE.md")).unwrap();
    let map = page.split("## The map").nth(1).unwrap().split("\n## ").next().unwrap();
    let rooms = map.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let rooms: Vec<&str> = rooms.flat_map(|(names, _)| names.split('`').step_by(2)).collect();
    let gone = |name: &&&str| !top().join(name).exists() && !top().join("server/src").join(name).exists();
    expect_none("on the map, and not there", rooms.iter().filter(gone).map(ToString::to_string).collect());
    let manifest = fs::read_to_string(top().join("Cargo.toml")).unwrap();
    let members = manifest.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 10, "{members:?}");
    let is_missing = |member: &&&str| !map.contains(&format!("`{member}`")) && !map.contains(&format!("`{member}/src"));
    expect_none("not on the map", members.iter().filter(is_missing).map(ToString::to_string).collect());
}

#[test]
fn the_measure_measures() {
    let text = "impl A {\n    fn one(&self);\n    pub const fn two(\n        self,\n    ) -> u8 {\n        1\n    }\n}\nfn three() {}\n";
    assert_eq!(functions(text), [("two".to_string(), 5)]);
    assert!(has_word("self.the_word()", "word") && !has_word("passwords", "word"));
    assert_eq!(links("a [b](c.md) and [d\ne](f.md#g)\n```\n[h](i)\n```\n![j](k.png)"), ["c.md", "f.md#g", "k.png"]);
    assert!(anchors("## At the menu, and `x`!").contains("at-the-menu-and-x"));
    assert_eq!((identifier("A::b()").len(), identifier("a_b_c").len(), identifier("word").len()), (2, 1, 0));
    assert_eq!(named_files("`a/b.rs`, `c.rs` and `d.rs e`, `$f.md`, `g/`, `h`"), ["a/b.rs", "c.rs", "g/"]);
}

//! The documents' commands are run, and their output is what the programs print.
//!
//! Each page with commands is one session: a folder of its own, ports of its own, and a shell in which the blocks are
//! run in their order. A block of commands says by its marker how it is run, and one that is not run says why
//! (`page`). What differs from run to run may differ from what the page shows: ids, times and ages, ports, and what
//! the marker names (`compare`). An `…` in a page stands for anything.
//!
//! What is not looked at: blocks in other languages than `console`, and what a page says about its commands in prose.

mod compare;
mod page;
mod session;

use std::fs;
use std::path::{Path, PathBuf};

use protocol::actions::{Access, Action};

use page::{Block, Page, Run};
use session::Session;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every document for people, by its path from the top.
fn documents() -> Vec<String> {
    let mut found: Vec<String> =
        ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md"].map(String::from).into();
    for entry in fs::read_dir(top().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            found.push(format!("docs/{name}"));
        }
    }
    found.sort();
    found
}

fn read(document: &str) -> Page {
    Page::parse(document, &fs::read_to_string(top().join(document)).unwrap())
}

/// Runs a page's blocks in their order.
fn run(document: &str) {
    let page = read(document);
    let mut session = Session::start();
    for block in &page.blocks {
        session.run(block);
    }
}

#[test]
fn readme() {
    run("README.md");
}

#[test]
fn at_the_menu_and_on_the_command_line() {
    run("docs/using.md");
}

#[test]
fn teaching() {
    run("docs/teaching.md");
}

#[test]
fn operating() {
    run("docs/operating.md");
}

#[test]
fn over_http() {
    run("docs/http.md");
}

#[test]
fn a_lost_promise() {
    run("docs/lost-promises.md");
}

#[test]
fn every_block_of_commands_is_run_by_a_test_or_says_why_not() {
    let run_here = [
        "README.md",
        "docs/http.md",
        "docs/lost-promises.md",
        "docs/operating.md",
        "docs/teaching.md",
        "docs/using.md",
    ];
    for document in documents() {
        let page = read(&document);
        let is_run = |block: &Block| !matches!(block.run, Run::Not);
        for block in page.blocks.iter().filter(|block| is_run(block)) {
            assert!(run_here.contains(&document.as_str()), "{}: no test runs this page", block.place);
        }
        if run_here.contains(&document.as_str()) {
            assert!(page.blocks.iter().any(is_run), "{document}: nothing on this page is run");
        }
    }
}

#[test]
fn the_branch_protocols_page_has_every_action_and_every_code() {
    let page = fs::read_to_string(top().join("docs/branch-protocol.md")).unwrap();
    for action in Action::ALL {
        let row = page
            .lines()
            .find(|line| line.starts_with('|') && line.split('|').nth(1).unwrap().contains(&format!("`{action}`")));
        let row = row.unwrap_or_else(|| panic!("{action} has no row"));
        let who = match action.access() {
            Access::Anyone => "anyone",
            Access::OwnAccount => "own account",
            Access::KeyHolder => "key",
        };
        assert_eq!(row.split('|').nth(2).unwrap().trim(), who, "{action}");
    }
    let source = fs::read_to_string(top().join("server/src/error.rs")).unwrap();
    let codes = source.split("=> \"").skip(1).filter_map(|rest| rest.split_once("\",")).map(|(code, _)| code);
    let is_code = |code: &&str| code.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let codes: Vec<&str> = codes.filter(is_code).collect();
    assert!(codes.len() > 30, "{codes:?}");
    for code in codes {
        assert!(page.contains(&format!("`{code}`")), "{code} is not on the page");
    }
}

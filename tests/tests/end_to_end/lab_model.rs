//! The tests of the dashboard's lab that need no browser: its model, fed with events (`tests/dashboard/`).
//!
//! They are JavaScript and run by Node.js where there is one. A machine without it builds and serves the dashboard
//! all the same, so there the test says that it was skipped; the browser tests cover the page itself.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

/// The first version that reads a file with `import` in it as a module by itself.
const LEAST_NODE: (u32, u32) = (20, 19);

#[test]
fn the_lab_models_every_course_of_a_transfer() {
    let version = match Command::new("node").arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_string(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: the_lab_models_every_course_of_a_transfer, as there is no node here");
            return;
        }
        Err(error) => panic!("node can't be started: {error}"),
    };
    if !is_new_enough(&version) {
        eprintln!("skipped: the_lab_models_every_course_of_a_transfer, as node {version} is too old");
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard");
    let files = ["model.test.mjs", "run_file.test.mjs"].map(|name| folder.join(name));
    for file in &files {
        assert!(file.is_file(), "{} is missing", file.display());
    }
    let output = Command::new("node").arg("--test").args(&files).output().expect("node was started before");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("# pass ") || told.contains("ℹ pass "), "no test ran:\n{told}");
    assert!(!told.contains("# pass 0\n") && !told.contains("ℹ pass 0\n"), "no test ran:\n{told}");
}

/// Of `v20.19.5`, say. Node 21 and the first of 22 lack what 20.19 has.
fn is_new_enough(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split('.').map_while(|part| part.parse::<u32>().ok());
    match (parts.next(), parts.next()) {
        (Some(22), Some(minor)) => minor >= 12,
        (Some(21), _) => false,
        (Some(major), Some(minor)) => (major, minor) >= LEAST_NODE,
        (_, None) | (None, _) => false,
    }
}

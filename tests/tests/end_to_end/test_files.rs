//! No test is left out: one program holds a folder of tests, and a file that it doesn't name would never be compiled.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders, in this one and below, that have a `main.rs` of tests.
fn programs_of_tests(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !path.is_dir() || name == "target" || name.starts_with('.') {
            continue;
        }
        if folder.ends_with("tests") && path.join("main.rs").exists() {
            found.push(path.clone());
        }
        programs_of_tests(&path, found);
    }
}

#[test]
fn every_file_beside_a_main_of_tests_is_a_module_of_it() {
    let mut programs = Vec::new();
    programs_of_tests(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut programs);
    assert!(programs.len() >= 7, "{programs:?}");
    for program in programs {
        let main = fs::read_to_string(program.join("main.rs")).unwrap();
        for entry in fs::read_dir(&program).unwrap() {
            let path = entry.unwrap().path();
            let module = path.file_stem().unwrap().to_str().unwrap().to_string();
            let is_named = main.lines().any(|line| line == format!("mod {module};"));
            assert!(module == "main" || is_named, "{} is no module of its main.rs", path.display());
        }
    }
}

//! The proof that the judge of the whole bank can see: each fault of `faults/` is put back in turn, and is found.
//!
//! All of them are edited into one scratch copy of the project, which is built once; so what ships has nothing of them.
//! The copy's own simulator runs the seeds, one process for each fault. `FAULT=name` takes one alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// How many seeds a fault may take to be found, from seed 0 on.
const SEEDS: u64 = 400;
/// The edit that all others need.
const SWITCH: &str = "switch";

/// One change: in which file, what is there, and what takes its place.
struct Edit {
    file: String,
    from: String,
    to: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The faults, by name.
fn faults() -> Vec<(String, Vec<Edit>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("faults")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_string();
            found.push((name, read_edits(&std::fs::read_to_string(&path).unwrap())));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

fn read_edits(text: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    let (mut file, mut from, mut to) = (String::new(), String::new(), String::new());
    let mut into: Option<bool> = None;
    for line in text.lines() {
        match (line, into) {
            ("<<<", None) => into = Some(false),
            ("===", Some(false)) => into = Some(true),
            (">>>", Some(true)) => {
                into = None;
                edits.push(Edit { file: file.clone(), from: std::mem::take(&mut from), to: std::mem::take(&mut to) });
            }
            (line, Some(false)) => from.push_str(&format!("{line}\n")),
            (line, Some(true)) => to.push_str(&format!("{line}\n")),
            (line, None) => {
                if let Some(name) = line.strip_prefix("file: ") {
                    file = name.to_string();
                }
            }
        }
    }
    assert!(into.is_none() && !edits.is_empty(), "a fault has whole edits");
    edits
}

/// Copies what the project is built from, with the edits made.
fn scratch_copy(faults: &[(String, Vec<Edit>)]) -> PathBuf {
    let mut edited: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (name, edits) in faults {
        for Edit { file, from, to } in edits {
            let path = root().join(file);
            let read = || std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
            let text = edited.remove(&path).unwrap_or_else(read);
            assert_eq!(text.matches(from.as_str()).count(), 1, "{name}: in {file} this is not there once:\n{from}");
            edited.insert(path, text.replace(from.as_str(), to));
        }
    }
    let copy = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("faults");
    copy_sources(&root(), &copy, &edited);
    copy
}

/// Writes only what differs, so that what did not change is not built again.
fn copy_sources(from: &Path, to: &Path, edited: &BTreeMap<PathBuf, String>) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        let is_skipped = ["target", ".git", "docs"].iter().any(|skipped| entry.file_name() == *skipped);
        if is_skipped {
            continue;
        }
        if path.is_dir() {
            copy_sources(&path, &place, edited);
            continue;
        }
        let bytes = edited.get(&path).map_or_else(|| std::fs::read(&path).unwrap(), |text| text.clone().into_bytes());
        if std::fs::read(&place).ok().as_ref() != Some(&bytes) {
            std::fs::write(&place, bytes).unwrap();
        }
    }
}

/// Builds the copy's simulator, and gives its program.
fn build(copy: &Path) -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("faults-target");
    let built = Command::new(env!("CARGO"))
        .args(["build", "-q", "-p", "simulator", "--bin", "simulator"])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "--cap-lints=allow")
        .status();
    assert!(built.unwrap().success(), "the project with the faults in it can be built");
    target.join("debug/simulator")
}

/// Runs seeds with a fault until one goes wrong. Gives the seed, and what was wrong; the run is kept for the lab.
fn find(simulator: &Path, fault: &str) -> Option<String> {
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("failing-runs").join(fault);
    let _ = std::fs::remove_dir_all(&kept);
    let run = Command::new(simulator)
        .args(["bank", "--seeds", &SEEDS.to_string(), "--threads", "1", "--keep"])
        .arg(&kept)
        .env("BANK_FAULT", fault)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let wrong = text.lines().find(|line| line.starts_with("seed ")).map(str::to_owned);
    assert_eq!(wrong.is_none(), run.status.success(), "{fault}: {text}{}", String::from_utf8_lossy(&run.stderr));
    if let Some(wrong) = &wrong {
        let files: Vec<PathBuf> = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).collect();
        let file: serde_json::Value = serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap();
        assert_eq!(file["verdict"].as_str(), Some(wrong.as_str()), "the run that is kept went wrong in the same way");
    }
    wrong
}

/// Without a build, in each run of the tests: when a place is changed, its edit is brought along.
#[test]
fn every_fault_fits_where_it_was() {
    let faults = faults();
    assert!(faults.len() > 14, "{} faults only", faults.len());
    let _ = scratch_copy(&faults);
}

#[test]
#[ignore = "it builds the project once more and runs it for each fault: make sim-faults"]
fn every_fault_that_is_put_back_is_found() {
    let faults = faults();
    let simulator = build(&scratch_copy(&faults));
    let wanted = std::env::var("FAULT").ok();
    let names: Vec<&String> = faults
        .iter()
        .map(|(name, _)| name)
        .filter(|name| *name != SWITCH && wanted.as_ref().is_none_or(|wanted| wanted == *name))
        .collect();
    let (next, missed) = (Mutex::new(names.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(name) = next.lock().unwrap().next() else { return };
                    match find(&simulator, name) {
                        Some(wrong) => println!("{name}: {wrong}"),
                        None => missed.lock().unwrap().push(name.clone()),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
}

//! Every seed of every target, on the toolchain that builds everything else.

#![expect(clippy::unwrap_used, reason = "a test that finds something else than it expects must fail")]

use std::fs;
use std::path::{Path, PathBuf};

use fuzz_targets::TARGETS;

fn seeds(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut seeds: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    seeds
}

#[test]
fn no_seed_breaks_its_target() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in seeds {
            println!("{}", seed.display());
            target(&fs::read(seed).unwrap());
        }
    }
}

#[test]
fn every_folder_of_seeds_is_a_targets() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fuzz_targets::find(name.to_str().unwrap()).is_some(), "{name:?}");
    }
}

#[test]
fn no_input_is_too_short() {
    for (_, target) in TARGETS {
        for bytes in [&b""[..], b"\n", b"\0", b"a", b"O\n"] {
            target(bytes);
        }
    }
}

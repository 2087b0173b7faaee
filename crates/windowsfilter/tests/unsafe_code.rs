//! The workspace denies unsafe code, and every unsafe block without its reason (`Cargo.toml`). This shows who
//! is exempt: those that `ARCHITECTURE.md` names, and nobody else.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::fs;
use std::path::{Path, PathBuf};

/// Files that allow unsafe code, for themselves and the modules below them.
const EXEMPT: [&str; 3] = [
    "crates/hcs-standin/src/lib.rs",
    "crates/hcs/src/windows/mod.rs",
    "crates/windowsfilter/src/engine/portable/linux/sys.rs",
];

/// All sources and manifests below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "toml") {
            found.push(path);
        }
    }
    found
}

#[test]
fn unsafe_code_is_only_where_the_architecture_says() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // In two pieces: this file speaks of it.
    let lint = concat!("unsafe", "_code");
    let mut exempt = Vec::new();
    for path in ["crates", "xtask"].iter().flat_map(|dir| files(&repository.join(dir))) {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&repository).unwrap().to_string_lossy().replace('\\', "/");
        if text.contains(&format!("({lint}")) {
            exempt.push(name.clone());
        }
        if name.ends_with("Cargo.toml") {
            assert!(text.contains("[lints]\nworkspace = true"), "{name} has lints of its own");
        }
    }
    exempt.sort();
    assert_eq!(exempt, EXEMPT);
}

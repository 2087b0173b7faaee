//! Checks claims of `ARCHITECTURE.md` about the sources: the files with unsafe code, and the driver's
//! knowledge of engines.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::fs;
use std::path::{Path, PathBuf};

/// Files that allow unsafe code, for themselves and the modules below them.
const EXEMPT: [&str; 3] = [
    "crates/hcs-standin/src/lib.rs",
    "crates/hcs/src/windows/mod.rs",
    "crates/layer-mounts/src/linux/sys.rs",
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

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Lines of the driver above the engines that contain one of `words`, each behind its file.
fn driver_lines(words: &[&str]) -> Vec<String> {
    let source = repository().join("crates/windowsfilter/src");
    let mut found = Vec::new();
    for path in [vec![source.join("layer_store.rs")], files(&source.join("layer_store"))].concat() {
        let name = path.strip_prefix(&source).unwrap().to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| words.iter().any(|word| line.contains(word)));
        found.extend(lines.map(|line| format!("{name}: {}", line.trim())));
    }
    found
}

#[test]
fn the_driver_names_an_engine_only_where_one_is_chosen() {
    assert_eq!(
        driver_lines(&["engine::portable", "engine::hcs"]),
        [
            "layer_store.rs: use crate::engine::hcs::{Hcs, ImportProcess, check_home};",
            "layer_store.rs: use crate::engine::portable::{self, Portable};",
        ]
    );
    let words = ["ext4", "loop_device", "superblock", "erofs", "template"];
    let known: Vec<_> = driver_lines(&words).into_iter().filter(|line| !line.contains("//")).collect();
    assert_eq!(
        known,
        ["layer_store.rs: let engine = Arc::new(Portable::new(paths.templates(), paths.temporaries()));"]
    );
}

/// The size that the host chooses, layers without a record of ours, and the three ways to import a layer.
#[test]
fn the_driver_asks_in_few_places_where_layers_are_made() {
    let asked = driver_lines(&["is_in_place()", "placement()"]);
    let asked: Vec<_> = asked.iter().filter(|line| !line.contains("Paths::create(root")).collect();
    assert!(asked.len() <= 6, "{asked:#?}");
}

/// `cargo doc` of the crate fits one screen, and shows nothing of an engine.
#[test]
fn the_front_page_is_short() {
    let text = fs::read_to_string(repository().join("crates/windowsfilter/src/lib.rs")).unwrap();
    // Names that are exported at the root: those of `pub use` without indentation, over several lines or not.
    let exports = text.split("\npub use ").skip(1).filter_map(|rest| rest.split_once(';'));
    let names = exports.flat_map(|(path, _)| path.rsplit("::").next().unwrap().split(',')).count();
    let modules = text.lines().filter(|line| line.starts_with("pub mod ")).count();
    // One of the modules is hidden.
    assert!(names <= 18 && modules <= 10, "{names} names and {modules} modules");
    assert!(text.contains("\nmod engine;\n"));
}

#[test]
fn unsafe_code_is_only_where_the_architecture_says() {
    let repository = repository();
    // In two pieces, because this file is searched, too.
    let lint = concat!("unsafe", "_code");
    let mut exempt = Vec::new();
    for path in ["crates", "xtask"].iter().flat_map(|dir| files(&repository.join(dir))) {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&repository).unwrap().to_string_lossy().replace('\\', "/");
        if text.contains(&format!("allow({lint}")) {
            exempt.push(name.clone());
        }
        if name.ends_with("Cargo.toml") {
            assert!(text.contains("[lints]\nworkspace = true"), "{name} has lints of its own");
        }
    }
    exempt.sort();
    assert_eq!(exempt, EXEMPT);
}

//! `docs/fsck.md` describes every invariant, and names for each the tests that break it. This checks that
//! none is missing, and that the tests exist.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use windowsfilter::fsck::Invariant;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The other cells of each row, by the invariant's name.
fn rows() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(repository().join("docs/fsck.md")).unwrap();
    let mut rows = BTreeMap::new();
    let (invariants, _) = text.split_once("## What guards which file").unwrap();
    for line in invariants.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, rest @ ..] = &cells[..] else { panic!("{line}") };
        let rest: Vec<String> = rest.iter().map(|&cell| cell.to_owned()).collect();
        assert!(rest.len() == 4 && rest.iter().all(|cell| !cell.is_empty()), "{line}");
        assert!(rows.insert(name.trim_matches('`').to_owned(), rest).is_none(), "twice: {line}");
    }
    rows
}

#[test]
fn every_invariant_is_in_the_manual_and_nothing_else_is() {
    let mut names: Vec<&str> = Invariant::ALL.iter().map(|invariant| invariant.name()).collect();
    names.sort_unstable();
    assert_eq!(rows().keys().collect::<Vec<_>>(), names);
}

#[test]
fn every_invariant_is_broken_by_a_test() {
    for (name, cells) in rows() {
        let mut file = None;
        let mut tests = 0;
        for quoted in cells[3].split('`').skip(1).step_by(2) {
            if quoted.ends_with(".rs") {
                file = Some(fs::read_to_string(repository().join("crates").join(quoted)).unwrap());
            } else {
                let source = file.as_ref().unwrap_or_else(|| panic!("{name}: {quoted} is in no file"));
                assert!(source.contains(&format!("fn {quoted}(")), "{name}: there is no test {quoted}");
                tests += 1;
            }
        }
        assert!(tests > 0, "{name} is broken by no test");
    }
}

//! Everything in `vectors/` is tested: an added or lost case, or a file of a kind that no test reads, fails
//! here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod vectors;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vectors::{Case, cases, root};

/// For people, not for tests.
const NO_TEST: &str = "";

/// The files in `vectors/`, and the tests that read them.
const TOP: [(&str, &str); 9] = [
    ("README.md", NO_TEST),
    ("backupstream", "backupstream_vectors.rs"),
    ("backuptar", "backuptar_vectors.rs"),
    ("ea.json", "codec_vectors.rs"),
    ("paxtime.json", "codec_vectors.rs"),
    ("reparse.json", "codec_vectors.rs"),
    ("sddl.json", "codec_vectors.rs"),
    ("size-options.json", "../../windowsfilter/src/options.rs"),
    ("tar-split", "../../windowsfilter/tests/everywhere/tar_split.rs"),
];

#[test]
fn every_file_of_the_vectors_has_a_test() {
    let found = names(&root());
    let known: BTreeSet<String> = TOP.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known);
    for (name, test) in TOP.iter().filter(|(_, test)| *test != NO_TEST) {
        let source =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(test)).unwrap();
        let is_read =
            source.contains(&format!("\"{name}\"")) || source.contains(&format!("vectors/{name}\""));
        assert!(is_read, "{test} does not read {name}");
    }
}

#[test]
fn no_case_is_missing() {
    assert_eq!(cases("backuptar").len(), 88);
    assert_eq!(cases("backupstream").len(), 41);
    assert_eq!(names(&root().join("tar-split")).len(), 5);
}

/// The tests of the cases go through all directories and read the files that `entries.json` names. A file
/// that it does not name would not be read.
#[test]
fn every_file_of_a_case_is_named_in_it() {
    for case in cases("backuptar").into_iter().chain(cases("backupstream")) {
        assert_eq!(files(&case), named_files(&case), "{}", case.name);
    }
}

#[test]
fn every_case_says_only_what_the_tests_understand() {
    for case in cases("backuptar").into_iter().chain(cases("backupstream")) {
        let at = &case.name;
        for flag in case.json["flags"].as_object().unwrap().keys() {
            assert!(["ea_order", "informative", "wraps"].contains(&&**flag), "{at}: flag {flag}");
        }
        for export in case.exports() {
            assert!(["seekable", "non-seekable"].contains(&export["reader"].as_str().unwrap()), "{at}");
            assert!(["records", "copies"].contains(&export["hard_links"].as_str().unwrap()), "{at}");
        }
        for entry in case.entries() {
            let kind = entry["kind"].as_str().unwrap();
            assert!(["whiteout", "link", "symlink", "dir", "file"].contains(&kind), "{at}: kind {kind}");
        }
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

fn files(case: &Case) -> BTreeSet<String> {
    let mut files = names(&case.dir);
    if files.remove("streams") {
        files.extend(names(&case.dir.join("streams")).into_iter().map(|name| format!("streams/{name}")));
    }
    files
}

fn named_files(case: &Case) -> BTreeSet<String> {
    let streams = case.entries().iter().map(|entry| &entry["stream"]["file"]);
    let exports = case.exports().iter().map(|export| &export["file"]);
    let tar = std::iter::once(&case.json["in_tar"]["file"]);
    let named = streams.chain(exports).chain(tar).filter_map(|file| file.as_str().map(str::to_owned));
    named.chain(["entries.json".to_owned()]).collect()
}

//! containerd's own suite for snapshotters, and the same histories judged by what Windows layers have.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use super::process::Running;
use super::tools;

/// What the suite demands of modes and owners a Windows layer does not have, so these subtests fail where
/// they compare them. Their content is compared by `TestContent` of our own, which must pass.
const NEED_POSIX_MODES: &[&str] = &[
    "128LayersMount",
    "Basic",
    "Chown",
    "DeletedFilesInChildSnapshot",
    "DirectoryPermissionOnCommit",
    "LayerFileupdate",
    "MoveFileFromLowerLayer",
    "RemoveDirectoryInLowerLayer",
    "Rename",
];

/// The rest of the suite's 21 subtests.
const MUST_PASS: &[&str] = &[
    "CloseTwice",
    "PreareViewFailingtest",
    "Remove",
    "RemoveIntermediateSnapshot",
    "RootPermission",
    "StatActive",
    "StatComitted",
    "StatInWalk",
    "TransitivityTest",
    "Update",
    "ViewReadonly",
    "Walk",
];

/// 128 layers take a while on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs one of the suite's tests and returns how each subtest ended, and all it printed.
fn results(test: &str) -> (BTreeMap<String, bool>, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut suite = Command::new(tools::snapshotter_suite());
    suite.args(["-test.v", "-test.root", "-test.timeout=300s", "-test.run", test]).current_dir(dir.path());
    suite.env("WINDOWSFILTER", env!("CARGO_BIN_EXE_windowsfilter")).env("TMPDIR", dir.path());
    let ended = Running::start(&mut suite).end_within(PATIENCE);
    let text = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
    let mut results = BTreeMap::new();
    for line in text.lines() {
        let passed = match line.trim_start() {
            line if line.starts_with("--- PASS: ") => true,
            line if line.starts_with("--- FAIL: ") => false,
            _ => continue,
        };
        let name = line.split_whitespace().nth(2).unwrap_or_default();
        if let Some((_, subtest)) = name.split_once('/') {
            results.insert(subtest.to_owned(), passed);
        }
    }
    programs::mounts::unmount_below(dir.path());
    (results, text)
}

#[test]
fn containerds_own_suite_passes_as_far_as_windows_layers_can() {
    if !tools::available() {
        return;
    }
    let (results, text) = results("^TestSnapshotter$");
    let names: Vec<&str> = results.keys().map(String::as_str).collect();
    let mut known = [NEED_POSIX_MODES, MUST_PASS].concat();
    known.sort_unstable();
    assert_eq!(names, known, "the suite has other subtests:\n{text}");
    let failed: Vec<&str> = names.into_iter().filter(|name| !results[*name]).collect();
    println!("failed: {failed:?}");
    assert_eq!(failed, NEED_POSIX_MODES, "{text}");
}

#[test]
fn histories_of_the_suite_keep_names_content_and_deletions() {
    if !tools::available() {
        return;
    }
    let (results, text) = results("^TestContent$");
    let all_passed = NEED_POSIX_MODES.iter().map(|&name| (name.to_owned(), true)).collect();
    assert_eq!(results, all_passed, "{text}");
}

//! `docs/windows-engine.md` names the tests of each row. This checks that they exist, and that no function of
//! the original is missing.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The functions of the original driver (`windows.go`), in its order.
const FUNCTIONS: [&str; 35] = [
    "init",
    "IsMounted",
    "InitFilter",
    "String",
    "Status",
    "Exists",
    "CreateReadWrite",
    "Create",
    "create",
    "dir",
    "Remove",
    "GetLayerPath",
    "Get",
    "Put",
    "Cleanup",
    "Diff",
    "Changes",
    "ApplyDiff",
    "DiffSize",
    "GetMetadata",
    "writeTarFromLayer",
    "exportLayer",
    "writeBackupStreamFromTarAndSaveMutatedFiles",
    "writeLayerFromTar",
    "importLayer",
    "writeLayerReexec",
    "writeLayer",
    "resolveID",
    "setID",
    "getLayerChain",
    "setLayerChain",
    "fileGetCloserWithBackupPrivileges.Get",
    "fileGetCloserWithBackupPrivileges.Close",
    "DiffGetter",
    "parseStorageOpt",
];

/// The table of possible failures of each of them.
const FAILURES: &str = "## What can fail, function by function";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn documentation() -> String {
    fs::read_to_string(repository().join("docs/windows-engine.md")).unwrap()
}

/// The rows of the tables in `text` that have three cells: the original's, ours, the tests.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let rows = text.lines().filter(|line| line.starts_with("| ")).map(cells);
    rows.filter(|row: &Vec<String>| row.len() == 3 && row[0] != "original" && !row[0].starts_with("---"))
        .collect()
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// File and name of each test in the last cell of a row, as the documentation's opening explains it; a file
/// alone means all of its tests.
fn tests_of(cell: &str) -> Vec<(String, Option<String>)> {
    const RECORDED: &str = "windowsfilter/src/engine/hcs/tests";
    let mut tests = Vec::new();
    for part in cell.split("; ") {
        let mut names = quoted(part).peekable();
        let file = if part.starts_with("standin:") {
            "windowsfilter/tests/hcs_standin/main.rs".to_owned()
        } else if part.starts_with("fail_each ") {
            format!("{RECORDED}/failures.rs")
        } else {
            let file = names.next().filter(|name| name.ends_with(".rs"));
            let file = file.unwrap_or_else(|| panic!("{part:?} names no file: {cell}"));
            if file.contains('/') { file.to_owned() } else { format!("{RECORDED}/{file}") }
        };
        if names.peek().is_none() {
            tests.push((file, None));
        } else {
            tests.extend(names.map(|name| (file.clone(), Some(name.to_owned()))));
        }
    }
    tests
}

/// Names of the tests in `source`.
fn tests_in(source: &str) -> Vec<&str> {
    let mut is_test = false;
    let mut names = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("fn ") {
            if is_test {
                names.extend(rest.split('(').next());
            }
            is_test = false;
        } else if line == "#[test]" {
            is_test = true;
        } else if !line.starts_with('#') && !line.starts_with("//") {
            is_test = false;
        }
    }
    names
}

/// Whether `name` is one of `tests`. The end of a long name may be left out if only one test begins so.
fn is_among(tests: &[&str], name: &str) -> bool {
    match name.strip_suffix('…') {
        Some(start) => tests.iter().filter(|test| test.starts_with(start)).count() == 1,
        None => tests.contains(&name),
    }
}

#[test]
fn every_row_names_tests_that_exist() {
    let rows = rows(&documentation());
    assert!(rows.len() > 100, "only {} rows", rows.len());
    let mut sources = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in &rows {
        for (file, test) in tests_of(&row[2]) {
            let source = sources.entry(file.clone()).or_insert_with(|| {
                fs::read_to_string(repository().join("crates").join(&file)).unwrap_or_default()
            });
            let tests = tests_in(source);
            if test.as_ref().map_or(tests.is_empty(), |test| !is_among(&tests, test)) {
                wrong.push(format!("{}: crates/{file} has no test {}", row[0], test.unwrap_or_default()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_function_of_the_original_says_what_can_fail() {
    let text = documentation();
    let table = text.split(FAILURES).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = rows(table);
    let named = |function: &str| rows.iter().any(|row| quoted(&row[0]).any(|name| name == function));
    let missing: Vec<_> = FUNCTIONS.iter().filter(|function| !named(function)).collect();
    assert!(missing.is_empty(), "no row says what can fail in {missing:?}");
}

//! For every row of the original's behaviour, `docs/driver-contract.md` describes ours and names the tests.
//! This checks that no row is missing, and that the tests exist.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rows of the original's behaviour, lessons drawn from all of them, and rules by which layers merge, by the
/// start of their numbers.
const ROWS: [(&str, usize); 3] = [("", 75), ("h", 6), ("m", 12)];

/// The text of a row that needs Windows, instead of a test.
const WINDOWS: &str = "Windows engine: ";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The cells of each row, by its number.
fn rows() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(repository().join("docs/driver-contract.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<String> =
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        let number = cells[0].trim_start_matches(['h', 'm']);
        if number.parse::<usize>().is_ok() {
            assert_eq!(cells.len(), 3, "{line}");
            assert!(rows.insert(cells[0].clone(), cells).is_none(), "twice: {line}");
        }
    }
    rows
}

/// File and name of each test in the last cell of a row: `` `file.rs`: `test`, `test`; `other.rs`: `test` ``.
fn tests_of(cell: &str) -> Vec<(String, String)> {
    let mut file = None;
    let mut tests = Vec::new();
    for quoted in cell.split('`').skip(1).step_by(2) {
        if quoted.ends_with(".rs") {
            file = Some(quoted.to_owned());
        } else {
            let file = file.clone().unwrap_or_else(|| panic!("{quoted} has no file before it: {cell}"));
            tests.push((file, quoted.to_owned()));
        }
    }
    tests
}

/// Whether `source` has a test of that name: as a function under `#[test]`, or in the list of a suite.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_test = |at: usize| {
        let above =
            lines[..at].iter().rev().take_while(|line| line.starts_with('#') || line.starts_with("//"));
        above.into_iter().any(|line| *line == "#[test]")
    };
    let as_function = (0..lines.len()).any(|at| lines[at].starts_with(&format!("fn {name}(")) && is_test(at));
    // A test for every engine: the suite's own list has it.
    let in_suite = lines.iter().any(|line| line.starts_with(&format!("pub(crate) fn {name}<R: Rig")))
        && contract("suite.rs").contains(&format!("    \"{name}\",\n"));
    as_function || in_suite
}

/// A file of the contract's tests.
fn contract(file: &str) -> String {
    fs::read_to_string(repository().join("crates/windowsfilter/tests/contract").join(file)).unwrap()
}

#[test]
fn every_test_of_the_contract_runs_on_every_engine_or_says_why_not() {
    let text = fs::read_to_string(repository().join("docs/driver-contract.md")).unwrap();
    let (_, section) = text.split_once("## Which engine runs what").unwrap();
    let named: BTreeSet<(&str, &str)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .flat_map(|(file, rest)| {
            let tests = rest.split(" | ").next().unwrap_or_default();
            tests.split('`').skip(1).step_by(2).map(move |test| (file, test))
        })
        .collect();
    let dir = repository().join("crates/windowsfilter/tests/contract");
    let mut files: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let mut wrong = Vec::new();
    let mut found = BTreeSet::new();
    for file in &files {
        let source = contract(file);
        for name in
            source.split("#[test]").skip(1).filter_map(|rest| rest.split("fn ").nth(1)?.split('(').next())
        {
            if name.starts_with('$') || file == "suite.rs" {
                continue;
            }
            match named.iter().find(|(of, test)| of == file && *test == name) {
                Some(test) => drop(found.insert(*test)),
                None => wrong.push(format!("{file}: {name} is of one engine, and no row says why")),
            }
        }
    }
    wrong.extend(named.difference(&found).map(|(file, name)| format!("{file} has no test {name}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found.len() > 40, "only {}", found.len());
}

#[test]
fn every_row_of_the_original_is_in_the_table() {
    let rows = rows();
    let expected: Vec<String> =
        ROWS.iter().flat_map(|(start, count)| (1..=*count).map(move |row| format!("{start}{row}"))).collect();
    let missing: Vec<&String> = expected.iter().filter(|row| !rows.contains_key(*row)).collect();
    assert!(missing.is_empty(), "no row {missing:?}");
    assert_eq!(rows.len(), expected.len());
}

#[test]
fn every_row_has_a_test_that_exists_or_needs_windows() {
    let mut sources = BTreeMap::new();
    let mut wrong = Vec::new();
    for (row, cells) in rows() {
        if cells[2].starts_with(WINDOWS) {
            continue;
        }
        let tests = tests_of(&cells[2]);
        if tests.is_empty() {
            wrong.push(format!("row {row} has neither a test nor the reason why it needs Windows"));
        }
        for (file, test) in tests {
            let source = sources.entry(file.clone()).or_insert_with(|| {
                fs::read_to_string(repository().join("crates").join(&file)).unwrap_or_default()
            });
            if !has_test(source, &test) {
                wrong.push(format!("row {row}: crates/{file} has no test {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

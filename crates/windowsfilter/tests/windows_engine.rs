//! `docs/windows-engine.md` names the tests that show each row. This shows that there are such tests.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All sources below a directory, one behind the other.
fn sources(dir: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    text
}

/// The rows of the tables that have three cells: the original's, ours, the tests.
fn rows() -> Vec<Vec<String>> {
    let text = fs::read_to_string(repository().join("docs/windows-engine.md")).unwrap();
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let rows = text.lines().filter(|line| line.starts_with("| ")).map(cells);
    rows.filter(|row: &Vec<String>| row.len() == 3 && row[0] != "original" && !row[0].starts_with("---"))
        .collect()
}

#[test]
fn every_row_names_tests_that_exist() {
    let all = sources(&repository().join("crates"));
    let rows = rows();
    assert!(rows.len() > 60, "only {} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let quoted: Vec<&str> = row[2].split('`').skip(1).step_by(2).collect();
        let is_test = |name: &&&str| name.contains('_') && !name.contains(['.', ':']);
        for name in quoted.iter().filter(is_test) {
            // A long name may be cut.
            let exists = match name.strip_suffix('…') {
                Some(start) => all.contains(&format!("fn {start}")),
                None => all.contains(&format!("fn {name}(")),
            };
            if !exists {
                wrong.push(format!("there is no test {name}: {}", row[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

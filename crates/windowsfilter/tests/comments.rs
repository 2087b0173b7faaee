//! No comment in the repository is wider than the limit for code (`rustfmt.toml`), which `rustfmt` itself
//! checks only for code.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::fs;
use std::path::{Path, PathBuf};

/// The last column of a comment.
const WIDTH: usize = 110;

/// All sources below a directory, without the output of builds.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Whether a line is a comment or ends with one. Strings have `//` too, but not after an even number of
/// quotation marks.
fn has_comment(line: &str) -> bool {
    line.match_indices("//").any(|(at, _)| line[..at].matches('"').count().is_multiple_of(2))
}

#[test]
fn no_comment_is_wider_than_the_code() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut wide = Vec::new();
    for path in ["crates", "xtask", "fuzz"].iter().flat_map(|dir| sources(&repository.join(dir))) {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&repository).unwrap().display();
        for (number, line) in (1..).zip(text.lines()) {
            let width = line.chars().count();
            if width > WIDTH && has_comment(line) {
                wide.push(format!("{name}:{number} has {width} columns"));
            }
        }
    }
    assert!(wide.is_empty(), "comments wider than {WIDTH} columns:\n{}", wide.join("\n"));
}

#[test]
fn a_comment_is_told_from_text_in_a_string() {
    for line in ["// x", "    /// x", "let a = 1; // x", r#"let a = "b"; // x"#, "//! {\"a\": \"http://x\"}"]
    {
        assert!(has_comment(line), "{line}");
    }
    for line in ["let a = 1;", r#"let a = "http://x";"#, r#"f("a", "http://x")"#] {
        assert!(!has_comment(line), "{line}");
    }
}

//! Standard error: notes, and why a command failed.

use std::io::{self, Write};

/// The form in which the user reads standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stderr {
    json: bool,
    quiet: bool,
}

/// Why a command failed. With `--json` this is the document on standard error, `docs/json.md`.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Report {
    /// What failed.
    pub(crate) error: String,
    /// Why, each cause before its own cause.
    pub(crate) causes: Vec<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// The exit code that it stands for.
    pub(crate) code: i32,
}

impl Stderr {
    /// Failures as JSON, or as text; without notes if `quiet`.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether the user wants neither notes nor progress.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Prints something that the user should know and programs do not need: as text, always.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            write(&format!("note: {text}\n"));
        }
    }

    /// Prints why a command failed: lines of text, or one line of JSON.
    pub(crate) fn report(self, report: &Report) {
        match serde_json::to_string(report) {
            Ok(line) if self.json => write(&(line + "\n")),
            _ => write(&report.text()),
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.error);
        for cause in &self.causes {
            text += &format!("  caused by: {cause}\n");
        }
        if let Some(hint) = &self.hint {
            text += &format!("hint: {hint}\n");
        }
        text
    }
}

/// Where standard error cannot be written, as on a full disk, the command does its work all the same.
fn write(text: &str) {
    _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_for_each_part_or_is_one_line_of_json() {
        let report = Report {
            error: "cannot read \"a\"".into(),
            causes: vec!["no\nluck".into()],
            hint: None,
            code: 1,
        };
        assert_eq!(report.text(), "error: cannot read \"a\"\n  caused by: no\nluck\n");
        let json = r#"{"error":"cannot read \"a\"","causes":["no\nluck"],"hint":null,"code":1}"#;
        assert_eq!(serde_json::to_string(&report).unwrap(), json);
        let hinted = Report { causes: Vec::new(), hint: Some("try again".into()), ..report };
        assert_eq!(hinted.text(), "error: cannot read \"a\"\nhint: try again\n");
    }
}

//! Wrong usage as clap reports it, for `--json`.

use std::ffi::OsString;

use crate::error::USAGE;
use crate::stderr::Report;

/// Whether `--json` is among the arguments. clap does not say so of a command line that it refuses.
pub(crate) fn wants_json(arguments: impl IntoIterator<Item = OsString>) -> bool {
    arguments.into_iter().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// The parts of clap's message: the first paragraph says what is wrong. What to type instead is in its tips,
/// or else in the usage.
pub(crate) fn report(error: &clap::Error) -> Report {
    let text = error.render().to_string();
    let message = text
        .strip_prefix("error: ")
        .map_or("no command is given", |text| text.split("\n\n").next().unwrap_or(text));
    let tips: Vec<&str> = text.lines().filter_map(|line| line.trim_start().strip_prefix("tip: ")).collect();
    let usage = text.lines().find(|line| line.starts_with("Usage: ")).map(str::to_owned);
    let hint = if tips.is_empty() { usage } else { Some(tips.join("; ")) };
    Report { error: one_line(message), causes: Vec::new(), hint, code: i32::from(USAGE) }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> Report {
        let arguments = [&["windowsfilter"], arguments].concat();
        report(&crate::command().try_get_matches_from(arguments).unwrap_err())
    }

    #[test]
    fn the_parts_of_a_message_are_found() {
        let unknown = of(&["--json", "layer", "inspec"]);
        assert_eq!(unknown.error, "unrecognized subcommand 'inspec'");
        assert_eq!(unknown.hint.as_deref(), Some("a similar subcommand exists: 'inspect'"));
        let missing = of(&["commit", "--json"]);
        assert_eq!(missing.error, "the following required arguments were not provided: --ref <REF> <ID>");
        assert_eq!(missing.hint.as_deref(), Some("Usage: windowsfilter commit --ref <REF> --json <ID>"));
        let value = of(&["image", "export", "a", "b", "--format", "zip"]);
        assert_eq!(
            value.error,
            "invalid value 'zip' for '--format <FORMAT>' [possible values: oci, oci-archive, docker-archive]"
        );
        assert_eq!(of(&["image"]).error, "no command is given");
        assert_eq!((of(&["image"]).code, of(&[]).causes), (2, Vec::<String>::new()));
    }

    #[test]
    fn after_two_dashes_nothing_is_an_option() {
        let wants = |arguments: &[&str]| wants_json(arguments.iter().map(OsString::from));
        assert!(wants(&["windowsfilter", "ls", "--json"]));
        assert!(!wants(&["windowsfilter", "ls", "--", "--json"]));
        assert!(!wants(&["windowsfilter", "ls", "-j"]));
    }
}

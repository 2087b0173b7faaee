//! Writes a plan's script.
//!
//! Source for what it does: moby `daemon/graphdriver/windows/windows.go`, `Remove` and `Cleanup` (renamed to
//! `-removing`, then destroyed), `layer/filestore.go` (`Remove`: the entry of layerdb); hcsshim
//! `internal/wclayer/destroylayer.go` for the function, `layerutils.go` for its first argument; \[PowerShell
//! language specification\] 2.3.5.2 for strings in single quotes.

use std::fmt::Write as _;
use std::path::Path;

use super::super::{DockerStore, Layer, judge::short};

/// The parts of the script before and after the plan.
const BEFORE: &str = include_str!("before.ps1");
const AFTER: &str = include_str!("after.ps1");
/// Docker's default data root.
const DATA_ROOT: &str = r"C:\ProgramData\docker";

pub(super) fn write(store: &DockerStore, steps: &[&Layer], bytes: u64) -> String {
    let data_root = store.home.parent().unwrap_or(&store.home);
    let default = if cfg!(windows) { plain(data_root) } else { DATA_ROOT.to_owned() };
    let mut text = String::new();
    // Writing to a string cannot fail.
    _ = writeln!(
        text,
        "# Removes what nothing needs from the layer store of Docker on Windows: {} layers, {}.",
        steps.len(),
        size(bytes)
    );
    _ = writeln!(
        text,
        "# Written by `windowsfilter docker-store --plan`, which has read {}.",
        comment(&data_root.to_string_lossy())
    );
    text.push_str(&BEFORE.replace("'DATA_ROOT'", &quoted(&default)));
    text.push_str("\n$Plan = @(\n");
    for layer in steps {
        _ = writeln!(
            text,
            "    # {}, {}, {}: {}",
            comment(&short(&layer.id)),
            layer.kind.as_str(),
            size(layer.size),
            comment(&layer.why)
        );
        let records: Vec<String> = layer.records.iter().map(|record| quoted(record)).collect();
        _ = writeln!(
            text,
            "    @{{ Name = {}; Bytes = {}; Records = @({}) }}",
            quoted(&layer.id),
            layer.size,
            records.join(", ")
        );
    }
    text.push_str(")\n\n");
    text.push_str(AFTER);
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

/// A path in the form that Windows' own programs write.
fn plain(path: &Path) -> String {
    let text = path.to_string_lossy().into_owned();
    text.strip_prefix(r"\\?\").map_or(text.clone(), str::to_owned)
}

/// A PowerShell expression whose value is `text`. In single quotes only quotes are special, but PowerShell
/// counts typographic ones too. Anything but plain ASCII becomes a character code, since Windows PowerShell
/// reads a file in the system's code page.
pub(super) fn quoted(text: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut plain: Option<String> = None;
    for unit in text.encode_utf16() {
        match u8::try_from(unit).ok().filter(|byte| matches!(byte, b' '..=b'~')) {
            Some(byte) => {
                let plain = plain.get_or_insert_default();
                plain.push(char::from(byte));
                if byte == b'\'' {
                    plain.push('\'');
                }
            }
            None => {
                parts.extend(plain.take().map(|plain| format!("'{plain}'")));
                parts.push(format!("[char]0x{unit:04X}"));
            }
        }
    }
    parts.extend(plain.map(|plain| format!("'{plain}'")));
    match &parts[..] {
        [] => "''".to_owned(),
        [one] if one.starts_with('\'') => parts.remove(0),
        // Start with a string, so that `+` appends the others as text.
        [one, ..] if one.starts_with('\'') => format!("({})", parts.join(" + ")),
        _ => format!("('' + {})", parts.join(" + ")),
    }
}

/// `text` for a comment: on one line, in ASCII.
pub(super) fn comment(text: &str) -> String {
    text.chars()
        .flat_map(|character| match character {
            ' '..='~' => vec![character],
            other => other.escape_unicode().collect(),
        })
        .collect()
}

fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(bits, _)| bytes >> bits > 0) {
        Some((bits, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << bits) as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_quotes_or_means_something_in_them() {
        for (text, expected) in [
            ("", "''"),
            ("abc", "'abc'"),
            ("it's", "'it''s'"),
            ("'; Remove-Item C:\\ -Recurse; '", "'''; Remove-Item C:\\ -Recurse; '''"),
            ("$env:X `n $(rm)", "'$env:X `n $(rm)'"),
            ("a\nb", "('a' + [char]0x000A + 'b')"),
            ("\r\n", "('' + [char]0x000D + [char]0x000A)"),
            // PowerShell also ends a string at typographic quotes.
            ("a\u{2019}b", "('a' + [char]0x2019 + 'b')"),
            ("\u{201b}", "('' + [char]0x201B)"),
            ("\u{1f600}", "('' + [char]0xD83D + [char]0xDE00)"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn a_comment_stays_one_line_of_ascii() {
        assert_eq!(comment("a\n#> b\u{202e}'$x`"), r"a\u{a}#> b\u{202e}'$x`");
    }

    #[test]
    fn the_parts_of_every_script_are_ascii_and_have_their_place_for_the_path() {
        assert!(BEFORE.is_ascii() && AFTER.is_ascii());
        assert_eq!(BEFORE.matches("'DATA_ROOT'").count(), 1);
        for part in [BEFORE, AFTER] {
            for (open, close) in [('{', '}'), ('(', ')')] {
                assert_eq!(part.matches(open).count(), part.matches(close).count(), "{open}");
            }
        }
    }
}

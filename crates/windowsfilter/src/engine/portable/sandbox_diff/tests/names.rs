//! Names in a sandbox: case, shortened ones, and those that Windows cannot hold.

use super::*;

#[test]
fn a_new_name_that_differs_from_the_parents_only_in_case_is_that_file() {
    let upper = Upper::new();
    upper
        .folder("windows/SYSTEM32")
        .file("windows/SYSTEM32/new.dll", "")
        .file("windows/SYSTEM32/OLD.dll", "");
    let parent =
        Model::default().folder("Windows").folder("Windows/System32").file("Windows/System32/old.DLL");
    let expected = [
        "M Files/Windows",
        "M Files/Windows/System32",
        "A Files/Windows/System32/new.dll",
        "M Files/Windows/System32/old.DLL",
    ];
    assert_eq!(upper.changes(&parent), expected);
}

#[test]
fn a_file_renamed_only_in_case_keeps_its_new_spelling_and_is_not_deleted() {
    let upper = Upper::new();
    upper.whiteout("Readme").file("README", "");
    let parent = Model::default().file("Readme");
    assert_eq!(upper.names(&parent), ["Hives", "Files", "Files/README"]);
    assert_eq!(upper.changes(&parent), ["M Files/README"]);
}

#[test]
fn a_shortened_name_is_written_as_windows_knows_it() {
    let long = "long-".repeat(40);
    let metadata = |start: &str| Win32Metadata {
        true_name: Some(format!("{start}{}", "x".repeat(60)).into_bytes()),
        ..Default::default()
    };
    let shown = |start: &str| format!("{start}~0123456789abcdef");
    let (changed, moved, gone) = (format!("{long}1"), format!("{long}2"), format!("{long}3"));
    let upper = Upper::new();
    upper.file(&shown(&changed), "").metadata(&shown(&changed), &metadata(&changed)).whiteout(&shown(&gone));
    upper.folder("d").file(&format!("d/{}", shown(&moved)), "");
    upper.metadata(&format!("d/{}", shown(&moved)), &metadata(&moved));
    upper.file("renamed", "").metadata("renamed", &metadata(&changed));
    let parent = Model::default().file(&shown(&changed)).file(&shown(&gone));
    let parent = parent.with(&shown(&changed), metadata(&changed)).with(&shown(&gone), metadata(&gone));
    let x = "x".repeat(60);
    let expected = [
        "Hives".to_owned(),
        "Files".to_owned(),
        "Files/d".to_owned(),
        format!("Files/d/{moved}{x}"),
        format!("Files/{changed}{x}"),
        format!("Files/.wh.{gone}{x}"),
        "Files/renamed".to_owned(),
    ];
    assert_eq!(upper.problems(&parent).len(), 1, "the moved name is new and longer than Windows allows");
    std::fs::remove_file(upper.path(&format!("d/{}", shown(&moved)))).unwrap();
    let expected: Vec<_> = expected.into_iter().filter(|name| !name.starts_with("Files/d/")).collect();
    assert_eq!(upper.names(&parent), expected);
}

#[test]
fn everything_windows_cannot_hold_is_named_at_once_and_nothing_is_written() {
    let upper = Upper::new();
    upper.file("a:b", "").file("dot.", "").folder("nul").file(".wh.x", "").file("back\\slash", "");
    upper.node("pipe", FileType::Fifo, (0, 0)).node("null", FileType::CharacterDevice, (1, 3));
    upper.node("socket", FileType::Socket, (0, 0)).file("Twice", "").file("tWICE", "").file("good", "");
    let problems = upper.problems(&Model::default());
    let expected = [
        r#"".wh.x" has a name that starts with .wh., which means a deletion in a layer"#,
        r#""a:b" has a name that contains one of < > : " / \ | ? *"#,
        r#""back\\slash" has a name that contains one of < > : " / \ | ? *"#,
        r#""dot." has a name that ends in a dot"#,
        r#""nul" has a name that is a device name"#,
        r#""null" is a character device"#,
        r#""pipe" is a fifo"#,
        r#""socket" is a socket"#,
        r#""tWICE" differs only in case from another name beside it"#,
    ];
    assert_eq!(problems, expected);
}

#[test]
fn names_the_parent_has_already_are_taken_as_they_are() {
    let upper = Upper::new();
    upper.file("aux.h", "changed");
    assert_eq!(upper.names(&Model::default().file("aux.h")), ["Hives", "Files", "Files/aux.h"]);
}

#[test]
fn the_list_of_changes_does_not_depend_on_what_windows_can_hold() {
    let upper = Upper::new();
    upper.file("a:b", "").node("pipe", FileType::Fifo, (0, 0));
    assert_eq!(upper.changes(&Model::default()), ["A Files/a:b", "A Files/pipe"]);
}

#[test]
fn a_new_name_that_windows_would_take_for_something_of_another_kind_is_refused() {
    let parent = Model::default().folder("Windows").file("Windows/a").file("f").link("l", "f").folder("gone");
    let upper = Upper::new();
    upper.file("WINDOWS", "1").folder("F").folder("L").whiteout("gone").file("GONE", "may");
    let expected = [
        r#""F" differs only in case from a file of the parent"#,
        r#""L" differs only in case from a link of the parent"#,
        r#""WINDOWS" differs only in case from a directory of the parent"#,
    ];
    assert_eq!(upper.problems(&parent), expected);
}

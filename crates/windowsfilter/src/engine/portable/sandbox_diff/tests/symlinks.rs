//! Links made or copied up in a sandbox, as Windows' reparse points.

use super::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use wclayer::layer_tar::EntryKind;
use wclayer::reparse::{ReparsePoint, encode_go};

fn target(entry: &TarEntry) -> (String, u32) {
    let Some(ReparsePoint::Symlink { print, .. }) =
        entry.layer().reparse.as_ref().map(|buffer| ReparsePoint::decode(buffer).unwrap())
    else {
        panic!("no link: {entry:?}")
    };
    (String::from_utf8(print).unwrap(), entry.layer().attributes)
}

#[test]
fn links_made_on_linux_get_backslashes_and_stay_relative_or_become_rooted() {
    let upper = Upper::new();
    upper.folder("d").file("d/f", "").link("d/up", "../d/f").link("rooted", "/d/f").link("nowhere", "a/b");
    let parent = Model::default();
    assert_eq!(target(&upper.entry(&parent, "Files/d/up")), (r"..\d\f".into(), 0x400));
    assert_eq!(target(&upper.entry(&parent, "Files/rooted")), (r"\d\f".into(), 0x400));
    assert_eq!(target(&upper.entry(&parent, "Files/nowhere")), (r"a\b".into(), 0x400));
}

#[test]
fn links_to_directories_say_so_wherever_the_directory_is() {
    let upper = Upper::new();
    upper
        .folder("d")
        .link("to-upper", "d")
        .link("to-lower", "WINDOWS/system32")
        .link("d/to-root", "../../..");
    upper.link("through-lower-link", "Shortcut").link("through-link", "to-lower/.").whiteout("Gone");
    upper.link("to-deleted", "gone").link("loop", "loop").opaque("o").link("to-hidden", "o/sub");
    let parent = Model::default().folder("Windows").folder("Windows/System32").folder("Gone");
    let parent = parent.link("Shortcut", "Windows/System32").folder("o").folder("o/sub");
    for (name, attributes) in [
        ("to-upper", 0x410),
        ("to-lower", 0x410),
        ("d/to-root", 0x410),
        ("through-lower-link", 0x410),
        ("through-link", 0x410),
        ("to-deleted", 0x400),
        ("loop", 0x400),
        ("to-hidden", 0x400),
    ] {
        assert_eq!(target(&upper.entry(&parent, &format!("Files/{name}"))).1, attributes, "{name}");
    }
}

/// Linux takes any bytes as the text of a link; Windows wants UTF-16.
#[test]
fn links_whose_text_windows_cannot_have_are_listed_with_the_other_problems() {
    let upper = Upper::new();
    let halves = OsStr::from_bytes(b"a/\xED\xA0\xBD\xED\xB8\x80");
    for (name, target) in [("bytes", OsStr::from_bytes(b"d/\xFFx")), ("halves", halves)] {
        std::os::unix::fs::symlink(target, upper.path(name)).unwrap();
    }
    // A link's recorded data count, whatever its text.
    let recorded = Win32Metadata { reparse: Some(encode_go("there", false).unwrap()), ..Default::default() };
    std::os::unix::fs::symlink(OsStr::from_bytes(b"\xFF"), upper.path("recorded")).unwrap();
    upper.metadata("recorded", &recorded).node("pipe", FileType::Fifo, (0, 0));
    let parent = Model::default();
    let why = |at| {
        let reason = "substitute name of a link cannot be written: name is not WTF-8 at byte";
        format!("which no link on Windows can: {reason} {at}")
    };
    assert_eq!(
        upper.problems(&parent),
        [
            format!(r#""bytes" leads to "d/�x", {}"#, why(2)),
            format!(r#""halves" leads to "a/������", {}"#, why(5)),
            r#""pipe" is a fifo"#.to_owned(),
        ]
    );
    assert_eq!(upper.changes(&parent).len(), 4);
}

fn dacl(entry: &TarEntry) -> String {
    let descriptor = SecurityDescriptor::parse(entry.layer().security.as_ref().unwrap()).unwrap();
    SecurityDescriptor { owner: None, group: None, ..descriptor }.to_sddl().unwrap()
}

/// Directories and files inherit different ACEs here, so a link's descriptor tells what Windows takes it for.
#[test]
fn a_link_inherits_as_what_it_is_to_windows() {
    let root = SecurityDescriptor::from_sddl("D:AI(A;CI;FA;;;SY)(A;OI;FR;;;BU)").unwrap().to_bytes().unwrap();
    let junction = encode_go(r"D:\data", true).unwrap();
    let upper = Upper::new();
    upper.attribute("", "user.win32.sd", &root).folder("d").file("f", "");
    upper.link("to-upper", "d").link("to-lower", "windows").link("to-link", "to-lower").link("to-file", "f");
    upper.link("nowhere", "x").link("to-elsewhere", "Volume").link("mount", "x");
    upper.attribute("mount", "trusted.win32.reparse", &junction);
    let elsewhere = Win32Metadata { attributes: Some(0x410), ..Default::default() };
    let parent = Model::default().folder("Windows").link("Volume", "not here").with("Volume", elsewhere);
    let (directory, file) = ("D:AI(A;CIID;FA;;;SY)(A;OIIOID;FR;;;BU)", "D:AI(A;ID;FR;;;BU)");
    for (name, expected, attributes) in [
        ("d", directory, 0x10),
        ("to-upper", directory, 0x410),
        ("to-lower", directory, 0x410),
        ("to-link", directory, 0x410),
        ("to-elsewhere", directory, 0x410),
        ("mount", directory, 0x410),
        ("f", file, 0x20),
        ("to-file", file, 0x400),
        ("nowhere", file, 0x400),
    ] {
        let entry = upper.entry(&parent, &format!("Files/{name}"));
        assert_eq!((dacl(&entry).as_str(), entry.layer().attributes), (expected, attributes), "{name}");
    }
}

#[test]
fn a_copied_up_link_is_what_it_was_wherever_it_has_been_moved_to() {
    let buffer = encode_go(r"C:\Users", true).unwrap();
    let metadata =
        Win32Metadata { attributes: Some(0x2416), reparse: Some(buffer.clone()), ..Default::default() };
    let parent = Model::default().folder("Users").folder("d").link("same", "Users").link("other", "Users");
    let upper = Upper::new();
    // The result of `mv`: the same link elsewhere.
    upper.folder("d").link("same", "Users").metadata("same", &metadata).link("d/moved", "Users");
    upper.metadata("d/moved", &metadata).link("other", "elsewhere");
    for name in ["Files/same", "Files/d/moved"] {
        let link = upper.entry(&parent, name);
        assert_eq!((&link.layer().reparse, link.layer().attributes), (&Some(buffer.clone()), 0x2416));
        assert_eq!(
            link.layer().kind,
            EntryKind::Symlink { target: br"C:\Users".to_vec(), mount_point: true }
        );
    }
    // A link with another text is another link.
    assert_eq!(target(&upper.entry(&parent, "Files/other")).0, "elsewhere");
}

#[test]
fn names_of_links_are_no_hard_links() {
    let upper = Upper::new();
    upper.link("a", "x");
    rustix::fs::linkat(CWD, upper.path("a"), CWD, upper.path("b"), AtFlags::empty()).unwrap();
    let parent = Model::default();
    assert_eq!(target(&upper.entry(&parent, "Files/b")).0, "x");
}

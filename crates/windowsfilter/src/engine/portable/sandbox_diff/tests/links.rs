//! Links made or copied up in a sandbox, as Windows' reparse points.

use super::*;
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

#[test]
fn a_copied_up_link_is_what_it_was_wherever_it_has_been_moved_to() {
    let buffer = encode_go(r"C:\Users", true).unwrap();
    let metadata =
        Win32Metadata { attributes: Some(0x2416), reparse: Some(buffer.clone()), ..Default::default() };
    let parent = Model::default().folder("Users").folder("d").link("same", "Users").link("other", "Users");
    let upper = Upper::new();
    // What `mv` leaves: the same link elsewhere.
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

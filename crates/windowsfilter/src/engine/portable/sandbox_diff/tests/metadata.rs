//! Win32 metadata of what a sandbox changes: kept, or what Windows would give.

use super::*;
use crate::metadata::Origin;
use wclayer::ea::ExtendedAttribute;
use wclayer::security::Sid;

fn copied_up() -> Win32Metadata {
    Win32Metadata {
        attributes: Some(0x2022),
        created: Some(FileTime(100_000_000_000_000_001)),
        accessed: Some(FileTime(2)),
        changed: Some(FileTime(132_434_736_000_000_003)),
        security: Some(descriptor("O:SYG:SYD:P(A;;FA;;;SY)")),
        eas: vec![ExtendedAttribute { flags: 0x80, name: b"EA".to_vec(), value: b"v".to_vec() }],
        origin: Some(Origin { layer: Some(7), offset: 512 }),
        ..Default::default()
    }
}

fn descriptor(sddl: &str) -> Vec<u8> {
    SecurityDescriptor::from_sddl(sddl).unwrap().to_bytes().unwrap()
}

fn sddl(entry: &TarEntry) -> String {
    SecurityDescriptor::parse(entry.layer().security.as_ref().unwrap()).unwrap().to_sddl().unwrap()
}

#[test]
fn a_changed_file_keeps_everything_but_its_content_and_last_write_time() {
    let upper = Upper::new();
    upper.file("f", "new content").metadata("f", &copied_up());
    let entry = upper.entry(&Model::default().file("f"), "Files/f");
    let (layer, metadata) = (entry.layer(), copied_up());
    assert_eq!(entry.data, b"new content");
    assert_eq!(layer.last_write_time, FileTime::from_unix(1_600_000_000, 123_456_700));
    let times = [layer.creation_time, layer.last_access_time, layer.change_time].map(Some);
    assert_eq!(times, [metadata.created, metadata.accessed, metadata.changed]);
    assert_eq!(Some(layer.attributes), metadata.attributes);
    assert_eq!((&layer.security, &layer.eas), (&metadata.security, &metadata.eas));
}

#[test]
fn a_new_file_gets_what_windows_would_give_it() {
    let upper = Upper::new();
    let root = Win32Metadata {
        security: Some(descriptor("O:SYG:SYD:PAI(A;OICI;FA;;;SY)(A;CI;FR;;;BU)")),
        ..copied_up()
    };
    upper.metadata("", &root).file("f", "").folder("d").file("d/g", "");
    let parent = Model::default();
    let (file, folder, inner) =
        (upper.entry(&parent, "Files/f"), upper.entry(&parent, "Files/d"), upper.entry(&parent, "Files/d/g"));
    assert_eq!((file.layer().attributes, folder.layer().attributes), (0x20, 0x10));
    assert_eq!(sddl(&file), "O:BAG:BAD:AI(A;ID;FA;;;SY)");
    assert_eq!(sddl(&folder), "O:BAG:BAD:AI(A;OICIID;FA;;;SY)(A;CIID;FR;;;BU)");
    assert_eq!(sddl(&inner), "O:BAG:BAD:AI(A;ID;FA;;;SY)");
    let written = FileTime::from_unix(1_600_000_000, 123_456_700);
    let layer = file.layer();
    assert_eq!(
        [layer.creation_time, layer.last_access_time, layer.last_write_time, layer.change_time],
        [written; 4]
    );
}

/// Attributes 0x23 and the time 100 as Samba 4.17 records them.
const SAMBA: &[u8] = b"\0\0\x05\0\x05\0\0\0\x11\0\0\0\x23\0\0\0\x64\0\0\0\0\0\0\0";

#[test]
fn a_file_that_an_smb_server_made_is_new_and_has_what_the_server_was_told() {
    let upper = Upper::new();
    upper.file("f", "").attribute("f", "user.DOSATTRIB", SAMBA);
    let entry = upper.entry(&Model::default(), "Files/f");
    let layer = entry.layer();
    assert_eq!((layer.attributes, layer.creation_time), (0x23, FileTime(100)));
    assert_eq!(layer.last_access_time, layer.last_write_time);
    assert!(layer.security.is_some(), "what Windows would give a new file");
}

#[test]
fn a_file_of_the_parent_that_an_smb_server_changed_keeps_the_time_it_was_made() {
    let upper = Upper::new();
    upper.file("f", "").metadata("f", &copied_up()).attribute("f", "user.DOSATTRIB", SAMBA);
    let entry = upper.entry(&Model::default().file("f"), "Files/f");
    let layer = entry.layer();
    assert_eq!((layer.attributes, Some(layer.creation_time)), (0x23, copied_up().created));
}

#[test]
fn the_descriptor_of_a_root_nobody_described_is_that_of_windows_server() {
    let inherited =
        SecurityDescriptor::inherit(&root_descriptor(), false, &Sid::ADMINISTRATORS, &Sid::ADMINISTRATORS);
    let upper = Upper::new();
    upper.file("f", "");
    assert_eq!(
        upper.entry(&Model::default(), "Files/f").layer().security,
        Some(inherited.to_bytes().unwrap())
    );
}

#[test]
fn what_the_parent_had_no_descriptor_for_gets_none() {
    let upper = Upper::new();
    upper.file("f", "").metadata("f", &Win32Metadata { security: None, ..copied_up() });
    assert_eq!(upper.entry(&Model::default().file("f"), "Files/f").layer().security, None);
}

#[test]
fn a_file_written_under_another_spelling_keeps_attributes_times_and_descriptor() {
    let upper = Upper::new();
    upper.file("readme.TXT", "overwritten");
    let parent = Model::default().file("ReadMe.txt").with("ReadMe.txt", copied_up());
    let entry = upper.entry(&parent, "Files/ReadMe.txt");
    let metadata = copied_up();
    assert_eq!(Some(entry.layer().attributes), metadata.attributes);
    assert_eq!(Some(entry.layer().creation_time), metadata.created);
    assert_eq!(entry.layer().security, metadata.security);
    assert!(entry.layer().eas.is_empty());
}

#[test]
fn streams_follow_their_file_from_attributes_and_from_the_parents_tar() {
    let upper = Upper::new();
    let streams = vec![
        Stream { name: b"Zone.Identifier".to_vec(), content: StreamContent::Inline(b"zone".to_vec()) },
        Stream {
            name: b"big".to_vec(),
            content: StreamContent::InTar { origin: Origin { layer: Some(7), offset: 1024 }, size: 70_000 },
        },
    ];
    upper.file("f", "x").metadata("f", &Win32Metadata { streams, ..copied_up() }).file("g", "");
    let diff = upper.diff(&Model::default().file("f"));
    let names: Vec<_> = diff.iter().map(|entry| (entry.name.as_str(), entry.data.len())).collect();
    let expected = [
        ("Hives", 0),
        ("Files", 0),
        ("Files/f", 1),
        ("Files/f:Zone.Identifier", 4),
        ("Files/f:big", 70_000),
        ("Files/g", 0),
    ];
    assert_eq!(names, expected);
    assert!(diff[3].layer.is_none() && diff[4].layer.is_none());
}

#[test]
fn a_last_write_time_that_ext4_cannot_hold_is_taken_from_the_parent() {
    let (first, last) = super::super::entry::EXT4_SECONDS;
    for (clamped, original) in [(first, -11_644_473_600), (last, 900_000_000_000)] {
        let upper = Upper::new();
        upper.file("f", "").metadata("f", &copied_up()).touch("f", (clamped, 0));
        if upper.open().walk().unwrap().next().unwrap().unwrap().mtime.0 != clamped {
            continue; // A file system of another range.
        }
        let mut parent = Model::default().file("f");
        parent.0.get_mut("f").unwrap().mtime = (original, 100);
        let entry = upper.entry(&parent, "Files/f");
        assert_eq!(entry.layer().last_write_time, FileTime::from_unix(original, 100));
    }
}

#[test]
fn attributes_that_say_nothing_are_named_at_once_and_nothing_is_written() {
    let upper = Upper::new();
    let junk = [
        ("a", "user.DOSATTRIB", &b"&"[..]),
        ("b", "user.win32.crtime", b"yesterday"),
        ("c", "user.win32.eas", b"x"),
        ("d", "user.win32.sd", b"junk"),
        ("e", "user.win32.stream.0", b"0000000000000008:512:4:s"),
        ("f", "user.win32.stream.0", b"somewhere"),
        ("g", "user.win32.origin", b"here"),
        ("good", "user.DOSATTRIB", b"0x26"),
    ];
    for (name, attribute, value) in junk {
        upper.file(name, "").attribute(name, attribute, value);
    }
    upper.attribute("", "user.win32.atime", b"now").attribute("", "user.win32.sd", b"junk");
    let expected = [
        r#""" has an attribute user.win32.atime that is no number of 100 ns since 1601"#,
        r#""" has an attribute win32.sd that is no security descriptor"#,
        r#""a" has an attribute user.DOSATTRIB that is no number such as 0x20"#,
        r#""b" has an attribute user.win32.crtime that is no number of 100 ns since 1601"#,
        r#""c" has an attribute user.win32.eas that is no list of extended attributes"#,
        r#""d" has an attribute win32.sd that is no security descriptor"#,
        r#""e" has a stream "s" in a layer that is not below the sandbox"#,
        r#""f" has an attribute user.win32.stream.0 that is no place in a layer"#,
        r#""g" has an attribute user.win32.origin that is no place in a layer"#,
    ];
    assert_eq!(upper.problems(&Model::default()), expected);
}

#[test]
fn a_descriptor_that_came_with_the_parent_is_taken_as_it_is() {
    let upper = Upper::new();
    let odd = Win32Metadata { security: Some(b"junk".to_vec()), ..copied_up() };
    upper.file("f", "new").metadata("f", &odd).file("renamed", "").metadata("renamed", &odd);
    upper.file("over", "").metadata("over", &odd);
    let parent = Model::default().file("f").with("f", odd.clone()).file("over");
    for name in ["Files/f", "Files/renamed", "Files/over"] {
        assert_eq!(upper.entry(&parent, name).layer().security, odd.security);
    }
}

//! Win32 metadata of a sandbox's changes: kept, or as Windows would set them.

use super::*;
use crate::engine::portable::xattrs::Origin;
use wclayer::ea::ExtendedAttribute;
use wclayer::security::{Ace, Acl, AclSlot, Sid, ace_flags, ace_types};

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
    assert_eq!(sddl(&file), "O:BAG:SYD:AI(A;ID;FA;;;SY)");
    assert_eq!(sddl(&folder), "O:BAG:SYD:AI(A;OICIID;FA;;;SY)(A;CIID;FR;;;BU)");
    assert_eq!(sddl(&inner), "O:BAG:SYD:AI(A;ID;FA;;;SY)");
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

/// The root's descriptor is the one that `icacls C:\` prints in Windows Server's containers.
#[test]
fn the_descriptor_of_a_root_nobody_described_is_that_of_windows_server() {
    let upper = Upper::new();
    upper.file("f", "").folder("d");
    let parent = Model::default();
    assert_eq!(
        sddl(&upper.entry(&parent, "Files")),
        "O:SYG:SYD:PAI(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)(A;CI;LC;;;BU)\
         (A;CIIO;DC;;;BU)(A;;0x1200a9;;;WD)"
    );
    assert_eq!(
        sddl(&upper.entry(&parent, "Files/f")),
        "O:BAG:SYD:AI(A;ID;FA;;;BA)(A;ID;FA;;;SY)(A;ID;0x1200a9;;;BU)"
    );
    assert_eq!(
        sddl(&upper.entry(&parent, "Files/d")),
        "O:BAG:SYD:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)(A;OICIIOID;GA;;;CO)(A;OICIID;0x1200a9;;;BU)\
         (A;CIID;LC;;;BU)(A;CIID;DC;;;BU)"
    );
}

#[test]
fn where_nothing_is_inherited_an_administrator_and_system_have_all_rights() {
    let upper = Upper::new();
    let bare = Win32Metadata { security: Some(descriptor("O:BUG:BU")), ..copied_up() };
    upper.folder("d").metadata("d", &bare).file("d/f", "");
    assert_eq!(sddl(&upper.entry(&Model::default(), "Files/d/f")), "O:BAG:SYD:(A;;FA;;;BA)(A;;FA;;;SY)");
}

/// As many ACEs as fit, each of which a directory inherits twice.
fn long_list(flags: u8) -> Vec<u8> {
    let ace = |mask| Ace::plain(ace_types::ACCESS_ALLOWED, flags, mask, Sid::CREATOR_OWNER);
    let dacl = AclSlot::List(Acl::new((0..2600).map(ace).collect()));
    SecurityDescriptor { dacl, ..Default::default() }.to_bytes().unwrap()
}

#[test]
fn lists_that_outgrow_a_descriptor_are_named_with_all_that_is_wrong() {
    let both = ace_flags::OBJECT_INHERIT | ace_flags::CONTAINER_INHERIT;
    let with_list = |flags| Win32Metadata { security: Some(long_list(flags)), ..copied_up() };
    // The lists belong to directories of the parent, which the sandbox names in another case: not every file
    // system holds so long an attribute.
    let parent = Model::default().folder("Twice").with("Twice", with_list(both));
    let parent = parent.folder("Directories").with("Directories", with_list(ace_flags::CONTAINER_INHERIT));
    let upper = Upper::new();
    upper
        .folder("twice/sub")
        .file("twice/file", "")
        .link("twice/to-dir", "sub")
        .link("twice/to-file", "file");
    upper.folder("directories/sub").link("directories/to-dir", "sub").link("directories/to-file", "nowhere");
    upper.file("fifo?", "");
    let too_long = "inherits more than a security descriptor holds: number of bytes of an ACL would have 114408, at most \
                    65535 fit its field";
    let expected = [
        format!(r#""directories/sub" {too_long}"#),
        format!(r#""directories/to-dir" {too_long}"#),
        r#""fifo?" has a name that contains one of < > : " / \ | ? *"#.to_owned(),
        format!(r#""twice/sub" {too_long}"#),
        format!(r#""twice/to-dir" {too_long}"#),
    ];
    assert_eq!(upper.problems(&parent), expected);
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
fn what_was_said_of_a_file_under_another_spelling_counts() {
    let upper = Upper::new();
    let own = descriptor("O:BAG:SYD:P(A;;FA;;;BA)");
    upper.file("readme.TXT", "").attribute("readme.TXT", "user.win32.sd", &own);
    upper.attribute("readme.TXT", "user.win32.crtime", b"77").folder("DIR").attribute(
        "DIR",
        "user.win32.sd",
        &own,
    );
    upper.attribute("", "user.win32.sd", &own);
    let parent = Model::default().file("ReadMe.txt").with("ReadMe.txt", copied_up());
    let parent = parent.folder("Dir").with("Dir", copied_up());
    for name in ["Files/ReadMe.txt", "Files/Dir", "Files"] {
        assert_eq!(upper.entry(&parent, name).layer().security, Some(own.clone()), "{name}");
    }
    let file = upper.entry(&parent, "Files/ReadMe.txt");
    assert_eq!((file.layer().creation_time, file.layer().attributes), (FileTime(77), 0x2022));
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
fn streams_lose_the_nul_that_samba_puts_after_them_and_nothing_else() {
    let upper = Upper::new();
    upper.file("f", "");
    for (name, value) in [("samba", &b"hello\0"[..]), ("empty", b"\0"), ("nul", b"x\0\0"), ("setfattr", b"y")]
    {
        upper.attribute("f", &format!("user.DosStream.{name}:$DATA"), value);
    }
    let streams = |form| {
        let tar = upper.write(&Model::default(), form, &DiffOptions::default(), Vec::new()).unwrap();
        let entries = read(&tar).into_iter().filter(|entry| entry.layer.is_none());
        entries.map(|entry| (entry.name.replace("Files/f:", ""), entry.data)).collect::<Vec<_>>()
    };
    let of = |name: &str, data: &[u8]| (name.to_owned(), data.to_vec());
    assert_eq!(
        streams(StreamForm::Samba),
        [of("empty", b""), of("nul", b"x\0"), of("samba", b"hello"), of("setfattr", b"y")]
    );
    assert_eq!(
        streams(StreamForm::Plain),
        [of("empty", b"\0"), of("nul", b"x\0\0"), of("samba", b"hello\0"), of("setfattr", b"y")]
    );
}

#[test]
fn a_stream_that_samba_has_spread_over_several_attributes_is_refused() {
    let upper = Upper::new();
    upper.file("f", "").attribute("f", "user.DosStream.s:$DATA", b"start\x01");
    upper.attribute("f", "user.DosStreamExt.1.s:$DATA", b"end");
    let [problem] = &upper.problems(&Model::default())[..] else { panic!() };
    assert!(
        problem.contains("user.DosStreamExt.1.s:$DATA") && problem.contains("max xattrs per stream"),
        "{problem}"
    );
}

#[test]
fn attributes_that_no_layer_has_are_told_or_refused() {
    let upper = Upper::new();
    upper.file("f", "").attribute("f", "user.foo", b"123").folder("d").attribute("d", "trusted.bar", b"");
    upper.attribute("f", "user.DosStream.Zone.Identifier", b"x").attribute("f", "security.NTACL", b"acl");
    upper.link("l", "f").attribute("l", "trusted.baz", b"1").attribute("f", "security.selinux", b"label");
    upper.attribute("f", "user.DosStream.good:$DATA", b"s\0");
    let left_out = std::sync::Arc::new(crate::diff::LeftOut::default());
    let options = DiffOptions { left_out: Some(left_out.clone()), ..DiffOptions::default() };
    upper.write(&Model::default(), StreamForm::Samba, &options, Vec::new()).unwrap();
    let left_out = |path, name, bytes| {
        format!(
            "{path:?} has an attribute {name} ({bytes} bytes), which no layer has: it is left out (docs/attributes.md)"
        )
    };
    let notes = [
        left_out("d", "trusted.bar", 0),
        left_out("f", "security.NTACL", 3),
        left_out("f", "user.DosStream.Zone.Identifier", 1),
        left_out("f", "user.foo", 3),
        left_out("l", "trusted.baz", 1),
    ];
    assert_eq!(options.left_out.as_ref().unwrap().notes(), notes);
    let strict = DiffOptions { strict: true, ..DiffOptions::default() };
    let refused = upper.problems_with(&Model::default(), &strict);
    assert_eq!(refused.len(), notes.len(), "{refused:?}");
    assert_eq!(refused[3], r#""f" has an attribute user.foo, which no layer has"#);
}

#[test]
fn a_last_write_time_that_ext4_cannot_hold_is_taken_from_the_parent() {
    let (first, last) = super::super::entry::EXT4_SECONDS;
    for (clamped, original) in [(first, -11_644_473_600), (last, 900_000_000_000)] {
        let upper = Upper::new();
        upper.file("f", "").metadata("f", &copied_up()).touch("f", (clamped, 0));
        if upper.open().walk(|_| false, None).unwrap().next().unwrap().unwrap().mtime.0 != clamped {
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
        r#""" has an attribute win32.sd that is not a security descriptor"#,
        r#""a" has an attribute user.DOSATTRIB that is the byte 0x26, not the text "0x26": setfattr -n user.DOSATTRIB -v '"0x26"'"#,
        r#""b" has an attribute user.win32.crtime that is no number of 100 ns since 1601"#,
        r#""c" has an attribute user.win32.eas that is no list of extended attributes"#,
        r#""d" has an attribute win32.sd that is not a security descriptor"#,
        r#""e" has a stream "s" in a layer, where no file below the sandbox has it"#,
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

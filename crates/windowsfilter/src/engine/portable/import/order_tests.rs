//! The order of a tar's entries does not matter, as long as no two concern the same name and hard links come
//! behind their targets.

use std::io::Read;

use erofs_index::{FileType, Image};
use proptest::prelude::*;
use wclayer::tar::{NewEntry, Writer};

use super::*;
use crate::engine::portable::xattrs::{Origin, StreamContent, Win32Metadata};

/// Type, name, link target, data: everything a layer can have, in the order in which Windows would write it.
const ENTRIES: [(u8, &str, &str, &str); 18] = [
    (b'5', "Files", "", ""),
    (b'5', "Files/Windows", "", ""),
    (b'0', "Files/Windows/a.exe", "", "program"),
    (b'0', "Files/Windows/a.exe:Zone.Identifier", "", "[ZoneTransfer]"),
    (b'0', "Files/Windows/a.exe:second", "", "more"),
    (b'5', "Files/Windows/WinSxS", "", ""),
    (b'1', "Files/Windows/WinSxS/a.exe", "Files/Windows/a.exe", ""),
    (b'1', "Files/Windows/WinSxS/b.exe", "Files/Windows/WinSxS/a.exe", ""),
    (b'1', "Files/Windows/below", "Files/of a parent", ""),
    (b'2', "Files/Windows/link", "C:\\Windows\\a.exe", ""),
    (b'0', "Files/Windows/.wh.gone", "", ""),
    (b'5', "Files/Users", "", ""),
    (b'0', "Files/Users/.wh..wh..opq", "", ""),
    (b'0', "Files/Users/new/deep/file", "", "no entries for its directories"),
    (b'5', "Hives", "", ""),
    (b'0', "Hives/System_Delta", "", "regf"),
    (b'5', "UtilityVM/Files", "", ""),
    (b'0', "UtilityVM/Files/EFI/Microsoft/Boot/BCD", "", "boot"),
];

/// The content of the index, one line a name, without the places in the tar.
fn imported(order: &[usize]) -> Vec<String> {
    let mut writer = Writer::new(Vec::new());
    for &number in order {
        let (type_flag, name, link, data) = ENTRIES[number];
        let (name, link_name) = (name.as_bytes(), link.as_bytes());
        writer
            .begin(&NewEntry { type_flag, name, link_name, size: data.len() as u64, ..NewEntry::default() })
            .unwrap();
        writer.write_data(data.as_bytes()).unwrap();
    }
    let tar = writer.finish().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let blob: Box<dyn Read + Send> = Box::new(&tar[..]);
    let request = ImportRequest { blob, expect: Expect::default(), progress: &(), label: "test".into() };
    let imported = import(dir.path(), request, &Limits::default()).unwrap();
    let image = Image::open(std::fs::read(dir.path().join("layer.erofs")).unwrap()).unwrap();
    let mut lines = vec![format!("{:?} {} {}", imported.parent_links, imported.whiteouts, imported.size)];
    let mut first_names = std::collections::HashMap::new();
    let mut walk = image.walk();
    while let Some(entry) = walk.next() {
        let inode = entry.unwrap().inode;
        let path = String::from_utf8(walk.path().to_vec()).unwrap();
        let same_as = first_names.entry(inode.nid).or_insert_with(|| path.clone()).clone();
        let content = match inode.kind {
            FileType::Regular => image
                .extent(&inode)
                .unwrap()
                .map_or(Vec::new(), |extent| tar[extent.offset() as usize..][..inode.size as usize].to_vec()),
            FileType::Symlink => image.read_link(&inode).unwrap(),
            _ => Vec::new(),
        };
        let xattrs = image.xattrs(&inode).unwrap();
        let mut metadata =
            Win32Metadata::from_xattrs(xattrs.iter().map(|(_, name, value)| (&name[..], &value[..])));
        metadata.origin = None;
        metadata.streams.sort_by(|a, b| a.name.cmp(&b.name));
        for stream in &mut metadata.streams {
            if let StreamContent::InTar { origin, .. } = &mut stream.content {
                *origin = Origin { layer: None, offset: 0 };
            }
        }
        let marks: Vec<_> =
            xattrs.iter().filter(|(_, _, value)| value == b"y").map(|(_, name, _)| name).collect();
        let kind = inode.kind;
        lines.push(format!("{path} {kind:?} {same_as} {} {content:?} {metadata:?} {marks:?}", inode.nlink));
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shuffled_tar_imports_to_the_same_tree(
        shuffled in Just((0..ENTRIES.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let in_order: Vec<usize> = (0..ENTRIES.len()).collect();
        let is_link = |number: &usize| ENTRIES[*number].0 == b'1';
        let (links, others): (Vec<_>, Vec<_>) = in_order.iter().copied().partition(is_link);
        let shuffled = shuffled.into_iter().filter(|number| !is_link(number));
        let order: Vec<usize> = shuffled.chain(links).collect();
        prop_assert_eq!(order.len(), others.len() + 3);
        prop_assert_eq!(imported(&order), imported(&in_order));
    }
}

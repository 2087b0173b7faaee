//! The index of a chain: reproducible, with places in the right tars, and errors that name a layer's damaged
//! index.

use super::testing::{Chain, E};
use super::*;
use erofs_index::FileType;

#[test]
fn the_same_layers_give_the_same_bytes_and_other_layers_another_uuid() {
    let one = Chain::new(&[&[("Files/a", E::File("x"))], &[("Files/b", E::File("y"))]]);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    build_chain_index(&one.layers, StreamForm::Plain, &mut first).unwrap();
    build_chain_index(&one.layers, StreamForm::Plain, &mut second).unwrap();
    assert_eq!(first, second);
    let uuid = |layers| chain_uuid(layers, StreamForm::Plain);
    assert_ne!(uuid(&one.layers), uuid(&one.layers[..1]));
    assert_ne!(uuid(&one.layers), chain_uuid(&one.layers, StreamForm::Samba));
}

#[test]
fn places_in_tars_name_their_layer_and_markers_are_gone() {
    let chain = Chain::new(&[
        &[("Files/a", E::File("x")), ("Files/d/x", E::File("x"))],
        &[("Files/l", E::Symlink(b"a".to_vec())), ("Files/d", E::Opaque)],
    ]);
    let image = chain.image().unwrap();
    let mut walk = image.walk();
    while let Some(entry) = walk.next() {
        let inode = entry.unwrap().inode;
        let xattrs = image.xattrs(&inode).unwrap();
        assert!(xattrs.iter().all(|(_, name, _)| ![IMPLICIT, OPAQUE, NEW, LINK].contains(&&name[..])));
        let metadata = Win32Metadata::from_xattrs(xattrs.iter().map(|(_, n, v)| (&n[..], &v[..])));
        match walk.path() {
            b"Files/a" => {
                assert_eq!(metadata.origin.unwrap().layer, Some(chain.layers[0].tag()));
                assert!(xattrs.iter().any(|(_, name, _)| name == b"win32.stream.3"));
                assert_eq!(metadata.streams[0].name, b"zone");
            }
            b"Files/l" => {
                assert_eq!(inode.kind, FileType::Symlink);
                assert_eq!(metadata.origin.unwrap().layer, Some(chain.layers[1].tag()));
                assert!(xattrs.iter().all(|(namespace, _, _)| *namespace == Namespace::Trusted));
            }
            _ => {}
        }
    }
}

#[test]
fn a_tag_is_the_start_of_the_digest() {
    let chain = Chain::new(&[&[]]);
    assert!(chain.layers[0].diff_id.unwrap().0.hex().starts_with(&format!("{:016x}", chain.layers[0].tag())));
}

#[test]
fn a_damaged_layer_index_is_named_and_leaves_no_file_behind() {
    let chain = Chain::new(&[&[("Files/a", E::File("x"))], &[("Files/b", E::File("y"))]]);
    let index = chain.layers[1].dir.join("layer.erofs");
    let bytes = fs::read(&index).unwrap();
    let out = chain.folder.path().join("chain.erofs");
    fs::write(&index, &bytes[..700]).unwrap();
    assert!(
        matches!(write_chain_index(&chain.layers, &out, &chain.temporaries(), StreamForm::Plain), Err(Error::Index { id, .. }) if id.as_str() == "layer1")
    );
    fs::remove_file(&index).unwrap();
    assert!(
        matches!(write_chain_index(&chain.layers, &out, &chain.temporaries(), StreamForm::Plain), Err(Error::Io { path, .. }) if path == index)
    );
    assert!(!out.exists());
    assert_eq!(fs::read_dir(chain.temporaries().dir()).unwrap().count(), 0);
}

#[test]
fn damaged_bytes_in_a_layer_index_give_errors_not_panics() {
    let chain = Chain::new(&[&[
        ("Files/a", E::File("x")),
        ("Files/d/l", E::Symlink(b"..\\a".to_vec())),
        ("Files/w", E::Whiteout),
    ]]);
    let index = chain.layers[0].dir.join("layer.erofs");
    let bytes = fs::read(&index).unwrap();
    for position in (0..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x5a;
        fs::write(&index, &damaged).unwrap();
        let _ = build_chain_index(&chain.layers, StreamForm::Plain, Vec::new());
    }
}

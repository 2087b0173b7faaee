//! Which hard links into parents a published layer may have.

use std::io::read_to_string;

use wclayer::tar::{NewEntry, Writer, type_flag};

use crate::engine::Follow;
use crate::{Driver, Error, LayerId, LayerStore, StorageOptions};

fn id(text: &str) -> LayerId {
    LayerId::new(text).unwrap()
}

/// A layer with deletions and links `(name, target)`; without any, with the file `Files/f`.
fn layer(links: &[(&str, &str)], deletions: &[&str]) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    let mut put = |flag, name: &str, target: &str, data: &[u8]| {
        let (name, link_name) = (name.as_bytes(), target.as_bytes());
        let entry =
            NewEntry { type_flag: flag, name, link_name, size: data.len() as u64, ..Default::default() };
        tar.begin(&entry).unwrap();
        tar.write_data(data).unwrap();
    };
    if links.is_empty() && deletions.is_empty() {
        put(type_flag::FILE, "Files/f", "", b"content");
    }
    deletions.iter().for_each(|name| put(type_flag::FILE, name, "", b""));
    links.iter().for_each(|(name, target)| put(type_flag::LINK, name, target, b""));
    tar.finish().unwrap()
}

fn store() -> (tempfile::TempDir, LayerStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = LayerStore::open(dir.path(), StorageOptions::default()).unwrap();
    store.apply_diff(&id("base"), None, &mut &layer(&[], &[])[..]).unwrap();
    (dir, store)
}

#[test]
fn a_link_to_what_its_own_layer_deletes_has_its_content() {
    let (_dir, store) = store();
    let tar = layer(&[("Files/g", "Files/f")], &["Files/.wh.f"]);
    store.apply_diff(&id("l"), Some(&id("base")), &mut &tar[..]).unwrap();
    let view = store.view(&id("l")).unwrap();
    assert_eq!(view.lookup(b"f", Follow::OnTheWay).unwrap(), None);
    let node = view.lookup(b"G", Follow::OnTheWay).unwrap().unwrap();
    assert_eq!(read_to_string(view.open_file(&node).unwrap()).unwrap(), "content");
    // A child can link to it, too.
    let tar = layer(&[("Files/h", "Files/g")], &[]);
    store.apply_diff(&id("child"), Some(&id("l")), &mut &tar[..]).unwrap();
}

#[test]
fn a_link_to_nothing_is_refused_by_its_own_name_and_place() {
    let (_dir, store) = store();
    store.apply_diff(&id("middle"), Some(&id("base")), &mut &layer(&[], &["Files/.wh.f"])[..]).unwrap();
    let tar = layer(&[("Files/g", "Files/f")], &["Files/.wh.x"]);
    for parent in [None, Some(id("middle"))] {
        let error = store.apply_diff(&id("l"), parent.as_ref(), &mut &tar[..]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "entry \"Files/g\" at tar offset 0x200: layer l has a hard link here to \"Files/f\", which neither the \
             layer nor its parents have"
        );
    }
    assert_eq!(store.layers().unwrap(), ["base", "middle"].map(id));
    let missing = store.apply_diff(&id("l"), Some(&id("none")), &mut &tar[..]).unwrap_err();
    assert!(matches!(&missing, Error::MissingParent { .. }), "{missing}");
}

//! Reading a view without a mount, of whole and of damaged layers.

use super::*;
use crate::engine::Follow;
use crate::engine::portable::chain::testing::{Chain, E};
use crate::engine::portable::long_names::linux_name;

/// The view's name for one that is too long.
fn short() -> String {
    String::from_utf8(linux_name("ö".repeat(200).as_bytes())).unwrap()
}

fn chain() -> Chain {
    Chain::new(&[
        &[
            ("Files/Windows/System32/cmd.exe", E::File("cmd")),
            ("Files/Documents and Settings", E::Symlink(b"\\??\\C:\\USERS".to_vec())),
            ("Files/Users/me/a.txt", E::File("old")),
            ("Files/loop1", E::Symlink(b"loop2".to_vec())),
            ("Files/loop2", E::Symlink(b"loop1".to_vec())),
            (&format!("Files/{}", short()), E::Named("ö".repeat(200).into_bytes())),
            ("Hives/Sam_Base", E::File("hive")),
        ],
        &[("Files/users/me/A.txt", E::File("new")), ("Files/empty", E::File(""))],
    ])
}

fn content(view: &View, path: &str) -> String {
    let node = view.lookup(path.as_bytes(), Follow::Always).unwrap().unwrap_or_else(|| panic!("no {path}"));
    let mut text = String::new();
    view.open_file(&node).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn paths_are_windows_paths() {
    let chain = chain();
    let view = chain.view();
    for path in [
        "Windows/System32/cmd.exe",
        "C:\\WINDOWS\\system32\\CMD.EXE",
        "c:windows/System32\\.\\cmd.exe",
        "..\\..\\Windows\\x\\..\\System32\\cmd.exe",
        "/Windows//System32/cmd.exe",
    ] {
        assert_eq!(
            view.lookup(path.as_bytes(), Follow::OnTheWay).unwrap().unwrap().view_path,
            b"Windows/System32/cmd.exe",
            "{path}"
        );
    }
    for path in ["", "C:\\", "..", "/"] {
        assert_eq!(view.lookup(path.as_bytes(), Follow::Always).unwrap(), Some(view.root()), "{path}");
    }
    for path in ["nothing", "Windows\\System32\\cmd.exe\\x", "D:\\Windows"] {
        assert_eq!(view.lookup(path.as_bytes(), Follow::Always).unwrap(), None, "{path}");
    }
}

#[test]
fn contents_come_from_the_layer_that_has_them() {
    let chain = chain();
    let view = chain.view();
    assert_eq!(content(&view, "users\\ME\\a.TXT"), "new");
    assert_eq!(content(&view, "windows\\system32\\cmd.exe"), "cmd");
    assert_eq!(content(&view, "empty"), "");
    let layer = |path: &[u8]| {
        view.layer_of(&view.lookup(path, Follow::OnTheWay).unwrap().unwrap()).unwrap().as_str().to_owned()
    };
    assert_eq!(
        (layer(b"users/me/a.txt"), layer(b"Windows/System32/cmd.exe")),
        ("layer1".to_owned(), "layer0".to_owned())
    );
}

#[test]
fn links_on_the_way_are_followed_and_the_last_one_on_request() {
    let chain = chain();
    let view = chain.view();
    assert_eq!(content(&view, "documents and settings\\me\\a.txt"), "new");
    let link = view.lookup(b"Documents and Settings", Follow::OnTheWay).unwrap().unwrap();
    assert_eq!(view.link_target(&link).unwrap(), b"Users");
    let users = view.lookup(b"Documents and Settings", Follow::Always).unwrap().unwrap();
    assert_eq!((users.info.kind, &users.view_path[..]), (FileType::Directory, &b"Users"[..]));
    let error = view.lookup(b"loop1\\x", Follow::OnTheWay).unwrap_err();
    assert!(matches!(&error, Error::View { path, .. } if path == "loop1\\x"), "{error}");
}

#[test]
fn true_names_are_listed_and_found() {
    let chain = chain();
    let view = chain.view();
    let names: Vec<_> = view.list(&view.root()).unwrap().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"ö".repeat(200).into_bytes()) && names.contains(&b"Users".to_vec()));
    let found = view.lookup("Ö".repeat(200).as_bytes(), Follow::OnTheWay).unwrap().unwrap();
    assert_eq!(found.view_path, short().as_bytes());
}

#[test]
fn tar_names_lead_to_hives_too() {
    let chain = chain();
    let view = chain.view();
    assert_eq!(view.lookup_tar_name(b"files/USERS/me").unwrap().unwrap().view_path, b"Users/me");
    assert_eq!(view.lookup_tar_name(b"hives/SAM_base").unwrap().unwrap().view_path, b"Hives/Sam_Base");
    assert_eq!(view.lookup_tar_name(b"Hives/none").unwrap(), None);
    assert_eq!(view.lookup_tar_name(b"Files/Documents and Settings/me").unwrap(), None);
}

#[test]
fn streams_are_read_from_their_tar() {
    let chain = chain();
    let view = chain.view();
    let metadata =
        view.metadata(&view.lookup(b"Windows/System32/cmd.exe", Follow::OnTheWay).unwrap().unwrap()).unwrap();
    let mut bytes = Vec::new();
    view.open_stream(&metadata.streams[0]).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"cmd\0");
    let content = StreamContent::InTar { origin: Origin { layer: Some(7), offset: 0 }, size: 1 };
    assert!(view.open_stream(&Stream { name: b"x".to_vec(), content }).is_err());
}

#[test]
fn a_short_or_missing_tar_is_named_with_layer_and_path() {
    let chain = chain();
    let tar = chain.layers[1].dir.join("layer.tar");
    std::fs::write(&tar, [0; 512]).unwrap();
    let view = chain.view();
    let node = view.lookup(b"users/me/a.txt", Follow::OnTheWay).unwrap().unwrap();
    let error = view.open_file(&node).unwrap().read(&mut [0; 10]).unwrap_err().to_string();
    assert!(error.contains("Users/me/A.txt") && error.contains("layer1"), "{error}");
    // It holds index and tar open, and Wine neither replaces nor removes open files.
    drop(view);
    std::fs::remove_file(&tar).unwrap();
    let view = chain.view();
    assert!(matches!(view.open_file(&node).err(), Some(Error::Io { path, .. }) if path == tar));
}

#[test]
fn the_index_of_another_chain_is_refused() {
    let chain = chain();
    drop(chain.view());
    let index = chain.folder.path().join("chain.erofs");
    let id = LayerId::new("top").unwrap();
    assert!(matches!(View::open(id, &index, &chain.layers[..1]), Err(Error::Damaged { .. })));
}

#[test]
fn damaged_bytes_give_errors_not_panics() {
    let chain = chain();
    drop(chain.view());
    let index = chain.folder.path().join("chain.erofs");
    let bytes = std::fs::read(&index).unwrap();
    for position in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0xff;
        std::fs::write(&index, &damaged).unwrap();
        let Ok(view) = View::open(LayerId::new("top").unwrap(), &index, &chain.layers) else { continue };
        let _ = view.list(&view.root());
        for path in [&b"documents and settings/ME/A.txt"[..], b"long", b"Windows/System32/cmd.exe"] {
            if let Ok(Some(node)) = view.lookup(path, Follow::Always) {
                let _ = view.metadata(&node);
                let _ = view.layer_of(&node);
                let _ = view
                    .open_file(&node)
                    .map(|mut reader| io::copy(&mut reader.by_ref().take(1 << 20), &mut io::sink()));
            }
        }
    }
}

#[test]
fn a_view_can_be_used_by_several_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<View>();
}

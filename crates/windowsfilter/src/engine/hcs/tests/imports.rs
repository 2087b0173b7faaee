//! Importing layers.

use hcs::{Code, attribute};
use wclayer::backup_stream as backup;

use super::fake_tree::{content, record};
use super::layers::deep_tree;
use super::{Fixture, TIME, TestTar, base_tar, chain, delta_tar, guid, id, read_all};
use crate::{Driver, Error};

const PRIVILEGES: &str = "SeSecurityPrivilege, SeBackupPrivilege, SeRestorePrivilege";

#[test]
fn a_base_layer_is_restored_where_it_stays_and_finished_at_the_end() {
    let fixture = Fixture::new();
    fixture.host.forget();
    let applied = fixture.store.apply_diff(&id("base"), None, &mut &base_tar()[..]).unwrap();
    assert_eq!(
        applied.size,
        (b"MZ notepad".len() + b"read me".len() + b"boot store".len() + b"MZ kernel".len()) as u64
    );
    let calls = fixture.host.calls();
    let windows = |call: &String| !call.starts_with("BackupWrite");
    let calls: Vec<String> = calls.into_iter().filter(windows).collect();
    assert_eq!(
        calls,
        [
            format!("EnableProcessPrivileges({PRIVILEGES})"),
            "open tree(ROOT/home/base)".into(),
            "restore(ROOT/home/base/Files)".into(),
            "restore(ROOT/home/base/Files/Windows)".into(),
            "restore(ROOT/home/base/Files/Windows/notepad.exe)".into(),
            "restore(ROOT/home/base/Files/readme.txt)".into(),
            "restore(ROOT/home/base/UtilityVM)".into(),
            "restore(ROOT/home/base/UtilityVM/Files)".into(),
            "restore(ROOT/home/base/UtilityVM/Files/EFI)".into(),
            "restore(ROOT/home/base/UtilityVM/Files/EFI/Microsoft)".into(),
            "restore(ROOT/home/base/UtilityVM/Files/EFI/Microsoft/Boot)".into(),
            "restore(ROOT/home/base/UtilityVM/Files/EFI/Microsoft/Boot/BCD)".into(),
            "remove(ROOT/home/base/bcd.bak)".into(),
            "restore(ROOT/home/base/bcd.bak)".into(),
            "restore(ROOT/home/base/UtilityVM/Files/kernel.exe)".into(),
            // Children before their parents.
            "set times(ROOT/home/base/UtilityVM/Files/EFI/Microsoft/Boot)".into(),
            "set times(ROOT/home/base/UtilityVM/Files/EFI/Microsoft)".into(),
            "set times(ROOT/home/base/UtilityVM/Files/EFI)".into(),
            "set times(ROOT/home/base/UtilityVM/Files)".into(),
            "set times(ROOT/home/base/UtilityVM)".into(),
            "set times(ROOT/home/base/Files/Windows)".into(),
            "set times(ROOT/home/base/Files)".into(),
            "ProcessBaseImage(ROOT/home/base)".into(),
            "refuse reparse points(ROOT/home/base/UtilityVM)".into(),
            "ProcessUtilityImage(ROOT/home/base/UtilityVM)".into(),
            format!("DisableProcessPrivileges({PRIVILEGES})"),
            // Before the layer is visible, and after.
            "FlushFileBuffers(ROOT/home/base)".into(),
            "FlushFileBuffers(ROOT/home/base)".into(),
        ]
    );
    assert_eq!(content(&fixture.host, &fixture.home().join("base/Files/readme.txt")).unwrap(), b"read me");
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn the_boot_store_is_kept_as_it_came() {
    let fixture = Fixture::with_layers();
    let boot = "UtilityVM/Files/EFI/Microsoft/Boot/BCD";
    assert_eq!(
        content(&fixture.host, &fixture.home().join("base").join(boot)).unwrap(),
        b"changed boot store"
    );
    let getter = fixture.store.diff_getter(&id("base")).unwrap();
    assert_eq!(read_all(getter.get(boot.as_bytes()).unwrap()), b"boot store");
}

#[test]
fn a_diff_layer_goes_through_a_transport_directory_and_is_completed_after_its_import() {
    let fixture = Fixture::with_layers();
    // The file to delete exists only once the service has imported the layer.
    fixture.store.apply_diff(&id("delta"), Some(&id("app")), &mut &delta_tar()[..]).unwrap_err();
    // `app` has no utility VM to clone.
    let tar = TestTar::new().dir("Files").file("Files/x", b"x").dir("UtilityVM").dir("UtilityVM/Files").tar();
    fixture.store.apply_diff(&id("vm"), Some(&id("base")), &mut &tar[..]).unwrap();
    fixture.host.forget();
    fixture.store.apply_diff(&id("delta"), Some(&id("vm")), &mut &delta_tar()[..]).unwrap();
    let calls = fixture.host.calls();
    let at = |call: &str| {
        calls.iter().position(|other| other == call).unwrap_or_else(|| panic!("no {call} in {calls:#?}"))
    };
    let order = [
        "GetLayerMountPath(1, ROOT/home, vm)",
        &format!("EnableProcessPrivileges({PRIVILEGES})"),
        "create(TMP/Files.$wcidirs$)",
        "create(TMP/Files/new.txt)",
        "create(TMP/Files/junction.$wcidirs$)",
        "restore(TMP/Hives/System_Delta)",
        "mkdir(ROOT/home/delta/UtilityVM)",
        "link(ROOT/home/delta/UtilityVM/Files/kernel.exe, ROOT/home/vm/UtilityVM/Files/kernel.exe)",
        "restore(ROOT/home/delta/UtilityVM/Files/added.exe)",
        "remove(ROOT/home/delta/UtilityVM/Files/kernel.exe)",
        // A directory that is a reparse point is created last, so that no file is written through it.
        "mkdir(TMP/Files/junction)",
        "NameToGuid(vm)",
        "NameToGuid(base)",
        &format!(
            "ImportLayer(1, ROOT/home, delta, TMP, [{}:0:ROOT/home/vm, {}:0:ROOT/home/base])",
            guid("vm"),
            guid("base")
        ),
        "remove(ROOT/home/delta/Files/Windows/notepad.exe)",
        "remove(ROOT/home/delta/Files/same.txt)",
        "link(ROOT/home/delta/Files/same.txt, ROOT/home/delta/Files/new.txt)",
        "remove(ROOT/home/delta/Files/old.txt)",
        "link(ROOT/home/delta/Files/old.txt, ROOT/home/vm/Files/readme.txt)",
        "set times(ROOT/home/delta/Hives)",
        "set times(ROOT/home/delta/Files)",
        "refuse reparse points(ROOT/home/delta/UtilityVM)",
        "ProcessUtilityImage(ROOT/home/delta/UtilityVM)",
        &format!("DisableProcessPrivileges({PRIVILEGES})"),
    ];
    let positions: Vec<usize> = order.iter().map(|call| at(call)).collect();
    assert!(positions.is_sorted(), "{positions:?} in {calls:#?}");
    // The clone's boot store is a copy: changing it must not change the parent's.
    assert!(calls.contains(&"restore(ROOT/home/delta/UtilityVM/Files/EFI/Microsoft/Boot/BCD)".to_owned()));
    assert!(!calls.iter().any(|call| call.starts_with("ProcessBaseImage")));
    let delta = fixture.home().join("delta");
    assert_eq!(content(&fixture.host, &delta.join("Files/same.txt")).unwrap(), b"new");
    assert_eq!(content(&fixture.host, &delta.join("Files/old.txt")).unwrap(), b"read me");
    assert!(!delta.join("UtilityVM/Files/kernel.exe").exists());
    let junction = fixture.host.machine().nodes.at(&delta.join("Files/junction")).unwrap();
    assert!(record(&junction.stream.unwrap(), backup::REPARSE_DATA).is_some());
    assert_eq!(junction.info.last_write_time, TIME.cast_signed());
    assert_eq!(junction.info.attributes, attribute::DIRECTORY | attribute::REPARSE_POINT);
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn a_link_whose_file_nobody_has_is_found_out_before_the_import() {
    let fixture = Fixture::with_layers();
    let tar = TestTar::new().dir("Files").link("Files/a", "Files/nowhere").tar();
    let error = fixture.store.apply_diff(&id("l"), Some(&id("app")), &mut &tar[..]).unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
    assert!(!fixture.host.calls().iter().any(|call| call.starts_with("ImportLayer")));
    assert_eq!(fixture.names(), ["app", "base"]);
}

#[test]
fn what_a_layer_deletes_and_then_has_it_has() {
    let fixture = Fixture::with_layers();
    let tar = TestTar::new()
        .dir("Files")
        .whiteout("Files/readme.txt")
        .file("Files/readme.txt", b"another")
        .whiteout("Files/gone.txt")
        .tar();
    fixture.store.apply_diff(&id("l"), Some(&id("base")), &mut &tar[..]).unwrap();
    assert_eq!(content(&fixture.host, &fixture.home().join("l/Files/readme.txt")).unwrap(), b"another");
    let calls = fixture.host.calls();
    assert!(calls.contains(&"remove(ROOT/home/l/Files/gone.txt)".to_owned()));
    assert!(!calls.contains(&"remove(ROOT/home/l/Files/readme.txt)".to_owned()));
}

#[test]
fn a_deletion_of_something_the_utility_vm_does_not_have_is_an_error() {
    let fixture = Fixture::with_layers();
    let tar = TestTar::new().dir("Files").whiteout("UtilityVM/Files/nothing").tar();
    let error = fixture.store.apply_diff(&id("l"), Some(&id("base")), &mut &tar[..]).unwrap_err();
    let text = crate::engine::hcs::tests::failures::whole(&error);
    assert!(text.contains("nothing"), "{text}");
    assert_eq!(fixture.names(), ["app", "base"]);
}

#[test]
fn a_directory_of_the_utility_vm_that_becomes_a_link_loses_what_was_in_it() {
    let fixture = Fixture::with_layers();
    let tar = TestTar::new()
        .dir("Files")
        .dir("UtilityVM")
        .dir("UtilityVM/Files")
        .junction("UtilityVM/Files/EFI", r"C:\Windows")
        .tar();
    fixture.store.apply_diff(&id("l"), Some(&id("base")), &mut &tar[..]).unwrap();
    let dir = fixture.home().join("l/UtilityVM/Files/EFI");
    let node = fixture.host.machine().nodes.at(&dir).unwrap();
    assert!(record(&node.stream.unwrap(), backup::REPARSE_DATA).is_some());
    assert_eq!(super::names(&dir), Vec::<String>::new());
    assert!(fixture.home().join("base/UtilityVM/Files/EFI/Microsoft").exists());
}

#[test]
fn the_utility_vm_comes_before_what_is_in_it() {
    let fixture = Fixture::with_layers();
    let tar = TestTar::new().dir("Files").file("UtilityVM/Files/a.exe", b"a").tar();
    let error = fixture.store.apply_diff(&id("l"), Some(&id("base")), &mut &tar[..]).unwrap_err();
    let text = super::failures::whole(&error);
    assert!(text.contains("a.exe") && text.contains("UtilityVM"), "{text}");
}

#[test]
fn apply_after_create_fills_the_layer_that_the_service_made() {
    let fixture = Fixture::with_layers();
    fixture.store.create(&id("l"), Some(&id("app"))).unwrap();
    fixture.host.forget();
    let tar = TestTar::new().dir("Files").file("Files/x", b"x").tar();
    fixture.store.apply_diff(&id("l"), Some(&id("app")), &mut &tar[..]).unwrap();
    let import = format!("ImportLayer(1, ROOT/home, l, TMP, {})", chain());
    assert!(fixture.host.calls().contains(&import));
    assert_eq!(fixture.store.record(&id("l")).unwrap().kind, crate::LayerKind::Layer);
    let again = fixture.store.apply_diff(&id("l"), Some(&id("app")), &mut &tar[..]);
    assert!(matches!(again, Err(Error::LayerExists { .. })));
}

#[test]
fn an_apply_that_fails_after_create_leaves_the_empty_layer() {
    let fixture = Fixture::with_layers();
    fixture.store.create(&id("l"), Some(&id("app"))).unwrap();
    fixture.host.fail("ImportLayer", Code::DISK_FULL);
    let tar = TestTar::new().dir("Files").file("Files/x", b"x").tar();
    let error = fixture.store.apply_diff(&id("l"), Some(&id("app")), &mut &tar[..]).unwrap_err().to_string();
    assert!(error.contains("ImportLayer") && error.contains("layer l") && error.contains("0x70"), "{error}");
    let calls = fixture.host.service_calls();
    assert_eq!(
        calls[calls.len() - 3..],
        [
            "DestroyLayer(1, ROOT/home, l)",
            "GetLayerMountPath(1, ROOT/home, app)",
            r#"CreateLayer(1, ROOT/home, l, "app")"#
        ]
    );
    assert_eq!(fixture.store.record(&id("l")).unwrap().kind, crate::LayerKind::Empty);
    fixture.host.succeed();
    fixture.store.apply_diff(&id("l"), Some(&id("app")), &mut &tar[..]).unwrap();
}

#[test]
fn a_broken_stream_never_reaches_windows() {
    let fixture = Fixture::with_layers();
    let tar = base_tar();
    for parent in [None, Some(id("app"))] {
        fixture.host.forget();
        let cut = &tar[..tar.len() / 2 - 100];
        fixture.store.apply_diff(&id("l"), parent.as_ref(), &mut &cut[..]).unwrap_err();
        assert!(fixture.host.calls().is_empty());
        assert_eq!(fixture.names(), ["app", "base"]);
        assert!(fixture.leftovers().is_empty());
    }
}

#[test]
fn a_base_layer_that_deletes_is_refused_and_never_finished() {
    let fixture = Fixture::new();
    let tar = TestTar::new().dir("Files").whiteout("Files/x").tar();
    let error = fixture.store.apply_diff(&id("l"), None, &mut &tar[..]).unwrap_err();
    let text = super::failures::whole(&error);
    assert!(text.contains("nothing to delete"), "{text}");
    assert!(!fixture.host.calls().iter().any(|call| call.starts_with("ProcessBaseImage")));
    assert!(fixture.names().is_empty() && fixture.leftovers().is_empty());
}

#[test]
fn names_that_lead_out_of_the_layer_are_refused() {
    for name in ["Files/../../x", "../x", "layerchain.json", "Files/a:b"] {
        for parent in [None, Some(id("base"))] {
            let fixture = Fixture::with_layers();
            let tar = TestTar::new().dir("Files").file(name, b"x").tar();
            let result = fixture.store.apply_diff(&id("l"), parent.as_ref(), &mut &tar[..]);
            assert!(result.is_err(), "{name}");
            assert_eq!(fixture.names(), ["app", "base"], "{name}");
        }
    }
}

/// A global PAX header, for all entries after it, as `git archive` writes one.
fn global_header() -> Vec<u8> {
    const RECORD: &[u8] = b"52 comment=0123456789abcdef0123456789abcdef01234567\n";
    let mut blocks = vec![0; 1024];
    let mut set = |at: usize, bytes: &[u8]| blocks[at..at + bytes.len()].copy_from_slice(bytes);
    set(0, b"pax_global_header");
    set(100, b"0000666\0");
    set(124, format!("{:011o}\0", RECORD.len()).as_bytes());
    set(136, b"00000000000\0        g");
    set(257, b"ustar\x0000");
    set(512, RECORD);
    let sum: u32 = blocks[..512].iter().map(|&byte| u32::from(byte)).sum();
    blocks[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    blocks
}

#[test]
fn what_is_no_part_of_a_layer_but_of_its_tar_is_passed_over() {
    let layer = TestTar::new().dir("./").dir("Files").file("Files/x", b"x").tar();
    let tar = [global_header(), layer].concat();
    for parent in [None, Some(id("base"))] {
        let fixture = Fixture::with_layers();
        fixture.store.apply_diff(&id("l"), parent.as_ref(), &mut &tar[..]).unwrap();
        let getter = fixture.store.diff_getter(&id("l")).unwrap();
        assert_eq!(read_all(getter.get(b"Files/x").unwrap()), b"x");
        assert!(getter.get(b"pax_global_header").is_err());
        assert!(!fixture.home().join("l/pax_global_header").exists() && fixture.leftovers().is_empty());
    }
}

#[test]
fn two_imports_of_one_layer_exclude_each_other() {
    let fixture = Fixture::with_layers();
    let tar = TestTar::new().dir("Files").file("Files/x", b"x").tar();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| fixture.store.apply_diff(&id("l"), Some(&id("app")), &mut &tar[..])))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        results.iter().all(|result| matches!(result, Ok(_) | Err(Error::LayerExists { .. }))),
        "{results:?}"
    );
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn a_layer_whose_maker_died_is_seen_by_nobody_and_cleaned_up() {
    let fixture = Fixture::with_layers();
    std::fs::create_dir_all(fixture.home().join("half/Files")).unwrap();
    std::fs::write(fixture.home().join(".windowsfilter/incomplete/half"), b"").unwrap();
    assert_eq!(fixture.store.layers().unwrap(), [id("app"), id("base")]);
    assert!(!fixture.store.contains(&id("half")));
    assert_eq!(fixture.store.fsck(false).unwrap().len(), 1);
    fixture.store.cleanup().unwrap();
    assert_eq!(fixture.host.service_calls().last().unwrap(), "DestroyLayer(1, ROOT/home, half)");
    assert_eq!(fixture.names(), ["app", "base"]);
    assert_eq!(fixture.store.fsck(false).unwrap(), []);
}

#[test]
fn a_tree_of_300_character_paths_goes_in_and_out() {
    let fixture = Fixture::new();
    let deep = deep_tree();
    fixture.store.apply_diff(&id("base"), None, &mut &deep.tar[..]).unwrap();
    fixture.store.apply_diff(&id("app"), Some(&id("base")), &mut &deep.tar[..]).unwrap();
    for layer in ["base", "app"] {
        let getter = fixture.store.diff_getter(&id(layer)).unwrap();
        assert_eq!(read_all(getter.get(deep.file.as_bytes()).unwrap()), b"deep");
        let tar = read_all(fixture.store.diff(&id(layer), None).unwrap());
        fixture.store.apply_diff(&id("again"), Some(&id("base")), &mut &tar[..]).unwrap();
        let getter = fixture.store.diff_getter(&id("again")).unwrap();
        assert_eq!(read_all(getter.get(deep.file.as_bytes()).unwrap()), b"deep");
        fixture.store.remove(&id("again")).unwrap();
    }
}

/// The name of a layer, and the function that makes it.
type Maker = (&'static str, fn(&Fixture) -> Result<(), Error>);

/// For each kind of layer, a function that makes one.
fn make_each() -> Vec<Maker> {
    vec![
        ("fresh", |f| f.store.apply_diff(&id("fresh"), None, &mut &base_tar()[..]).map(drop)),
        ("fresh", |f| {
            let tar = TestTar::new().dir("Files").file("Files/x", b"x").tar();
            f.store.apply_diff(&id("fresh"), Some(&id("base")), &mut &tar[..]).map(drop)
        }),
        ("fresh", |f| f.store.create(&id("fresh"), Some(&id("app")))),
        ("fresh", |f| {
            f.store.create_read_write(&id("fresh"), Some(&id("app")), crate::StorageOptions::default(), "")
        }),
    ]
}

#[test]
fn a_layer_is_on_the_disk_before_it_is_seen_and_stays_seen() {
    for (name, make) in make_each() {
        let fixture = Fixture::with_layers();
        fixture.host.machine().flushes.clear();
        make(&fixture).unwrap();
        assert_eq!(fixture.host.machine().flushes, [vec![name.to_owned()], vec![]]);
        let calls = fixture.host.service_calls();
        let flush = |call: &String| call == "FlushFileBuffers(ROOT/home/fresh)";
        assert_eq!(calls.iter().position(flush), Some(calls.len() - 2), "{calls:?}");
    }
}

#[test]
fn what_cannot_be_flushed_is_never_seen_and_what_is_seen_stays() {
    for (name, make) in make_each() {
        let fixture = Fixture::with_layers();
        fixture.host.fail_times("FlushFileBuffers", Code::DISK_FULL, 1);
        let error = super::failures::whole(&make(&fixture).unwrap_err());
        assert!(error.contains("FlushFileBuffers") && error.contains("0x70"), "{error}");
        assert_eq!(fixture.names(), ["app", "base"]);
        assert!(fixture.leftovers().is_empty());
        // Only the second flush fails.
        fixture.host.succeed();
        fixture.host.machine().flush_failures = vec![None, Some(Code::DISK_FULL)];
        make(&fixture).unwrap();
        assert!(fixture.store.contains(&id(name)));
    }
}

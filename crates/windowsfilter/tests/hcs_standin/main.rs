//! The store on the Windows engine, with a stand-in for Microsoft's functions. The recording tests check the
//! engine's calls; these check the real foreign functions, file handles and backup streams. Under Wine, or on
//! any Windows.
#![cfg(windows)]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod answers;
mod contract;
mod layers;
#[allow(dead_code, reason = "what the rigs of other engines need")]
#[path = "../contract/suite.rs"]
mod suite;
mod support;

use std::fs;
use std::io::Read;

use hcs::{DriverInfo, Host};
use layers::{TestTar, base_tar, deep_tree, delta_tar};
use serde_json::json;
use support::{Windows, id, read_all};
use windowsfilter::driver::{ChangeKind, Presence};
use windowsfilter::{Driver, Error, StorageOptions};

/// With `base`, `app` on it, and the sandbox `box` on both.
fn with_sandbox() -> Windows {
    let windows = Windows::new();
    windows.store.apply_diff(&id("base"), None, &mut &base_tar()[..]).unwrap();
    windows.store.apply_diff(&id("app"), Some(&id("base")), &mut &delta_tar()[..]).unwrap();
    windows.store.create_read_write(&id("box"), Some(&id("app")), StorageOptions::default(), "").unwrap();
    windows.forget();
    windows
}

#[test]
fn a_base_layer_and_one_on_top_are_restored_linked_and_finished() {
    let windows = Windows::new();
    windows.store.apply_diff(&id("base"), None, &mut &base_tar()[..]).unwrap();
    assert_eq!(windows.functions(), ["ProcessBaseImage", "ProcessUtilityImage"]);
    let process = windows.calls().into_iter().find(|call| call["call"] == "ProcessBaseImage").unwrap();
    assert_eq!(process["args"]["path"], format!(r"\\?\{}", windows.path("base")));
    windows.forget();
    windows.store.apply_diff(&id("app"), Some(&id("base")), &mut &delta_tar()[..]).unwrap();
    assert_eq!(
        windows.functions(),
        ["GetLayerMountPath", "GetLayerMountPath", "NameToGuid", "ImportLayer", "ProcessUtilityImage"]
    );
    let import = windows.calls().into_iter().find(|call| call["call"] == "ImportLayer").unwrap();
    let guid = windows.guid("base");
    assert_eq!(import["args"]["flavour"], 1);
    assert_eq!(import["args"]["home"], "");
    assert_eq!(import["args"]["id"], format!(r"\\?\{}", windows.path("app")));
    assert_eq!(import["args"]["parents"], json!([{ "id": guid, "flags": 0, "path": windows.path("base") }]));
    let files = windows.home().join("app").join("Files");
    assert_eq!(fs::read(files.join("same.txt")).unwrap(), b"new");
    assert_eq!(fs::read(files.join("old.txt")).unwrap(), b"read me");
    let vm = windows.home().join(r"app\UtilityVM\Files");
    assert!(vm.join("added.exe").exists() && !vm.join("kernel.exe").exists());
    assert!(windows.home().join(r"base\UtilityVM\Files\kernel.exe").exists());
    let getter = windows.store.diff_getter(&id("base")).unwrap();
    assert_eq!(read_all(getter.get(b"UtilityVM/Files/EFI/Microsoft/Boot/BCD").unwrap()), b"boot store");
    assert_eq!(read_all(getter.get(b"Files/readme.txt").unwrap()), b"read me");
    assert!(matches!(getter.get(b"Files/none").err(), Some(Error::NoSuchFile { .. })));
    assert_eq!(windows.leftovers(), Vec::<String>::new());
}

/// A layer that deletes a directory with content.
#[test]
fn a_directory_that_a_layer_deletes_goes_with_what_is_in_it() {
    let windows = Windows::new();
    windows.store.apply_diff(&id("base"), None, &mut &base_tar()[..]).unwrap();
    let tar = TestTar::new().dir("Files").whiteout("Files/Windows").whiteout("Files/none").dir("Hives").tar();
    windows.store.apply_diff(&id("app"), Some(&id("base")), &mut &tar[..]).unwrap();
    let files = |layer: &str| windows.home().join(layer).join("Files");
    assert!(!files("app").join("Windows").exists() && files("app").join("readme.txt").exists());
    assert!(files("base").join(r"Windows\notepad.exe").exists());
    let changes = windows.store.changes(&id("app")).unwrap();
    let told: Vec<_> = changes.iter().map(|change| (&change.path[..], change.kind)).collect();
    assert!(told.contains(&(&b"Files/Windows"[..], ChangeKind::Delete)), "{told:?}");
    assert!(told.iter().all(|(path, _)| !path.ends_with(b"readme.txt")), "{told:?}");
    assert_eq!(windows.leftovers(), Vec::<String>::new());
}

#[test]
fn a_layer_of_which_a_file_is_open_is_in_use_and_one_whose_disk_is_attached_is_not() {
    let windows = with_sandbox();
    // The state that a dead process left.
    let info = DriverInfo::filter(&windows.home());
    windows.system().activate_layer(&info, "box").unwrap();
    windows.store.remove(&id("box")).unwrap();
    assert!(!windows.home().join("box").exists());
    let open = fs::File::open(windows.home().join(r"app\Files\new.txt")).unwrap();
    let refused = windows.store.remove(&id("app"));
    assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
    assert_eq!(windows.store.exists(&id("app")).unwrap(), Presence::Present);
    drop(open);
    windows.store.remove(&id("app")).unwrap();
    assert_eq!(windows.leftovers(), Vec::<String>::new());
}

#[test]
fn a_sandbox_lives_from_its_creation_to_its_removal() {
    let windows = with_sandbox();
    let view = windows.store.get(&id("box"), "").unwrap();
    assert_eq!(
        windows.functions(),
        [
            "ActivateLayer",
            "NameToGuid",
            "NameToGuid",
            "PrepareLayer",
            "GetLayerMountPath",
            "GetLayerMountPath"
        ]
    );
    let prepare = windows.calls().into_iter().find(|call| call["call"] == "PrepareLayer").unwrap();
    let parent = |name: &str| json!({ "id": windows.guid(name), "flags": 0, "path": windows.path(name) });
    assert_eq!(prepare["args"]["parents"], json!([parent("app"), parent("base")]));
    windows.forget();
    assert_eq!(windows.store.get(&id("box"), "").unwrap(), view);
    assert_eq!(windows.functions(), Vec::<String>::new());
    fs::write(view.join("made.txt"), b"made in the sandbox").unwrap();
    fs::remove_file(view.join("readme.txt")).unwrap();
    windows.forget();
    let mut tar = Vec::new();
    windows.store.diff(&id("box"), Some(&id("app"))).unwrap().read_to_end(&mut tar).unwrap();
    assert_eq!(
        windows.functions(),
        [
            "NameToGuid",
            "NameToGuid",
            "UnprepareLayer",
            "ExportLayer",
            "NameToGuid",
            "NameToGuid",
            "PrepareLayer"
        ]
    );
    fs::write(view.join("still.txt"), b"alive").unwrap();
    let changes = windows.store.changes(&id("box")).unwrap();
    let kind =
        |path: &str| changes.iter().find(|change| change.path == path.as_bytes()).map(|change| change.kind);
    assert_eq!(kind("Files/made.txt"), Some(ChangeKind::Modify), "{changes:?}");
    assert_eq!(kind("Files/readme.txt"), Some(ChangeKind::Delete), "{changes:?}");
    windows.store.put(&id("box")).unwrap();
    windows.forget();
    windows.store.put(&id("box")).unwrap();
    assert_eq!(windows.functions(), ["UnprepareLayer", "DeactivateLayer"]);
    windows.store.apply_diff(&id("layer"), Some(&id("app")), &mut &tar[..]).unwrap();
    let made = windows.home().join(r"layer\Files\made.txt");
    assert_eq!(fs::read(made).unwrap(), b"made in the sandbox");
    windows.forget();
    windows.store.remove(&id("box")).unwrap();
    assert_eq!(windows.functions(), ["HcsEnumerateComputeSystems", "DestroyLayer"]);
    assert!(!windows.home().join("box").exists());
    assert_eq!(windows.leftovers(), Vec::<String>::new());
}

#[test]
fn a_template_vm_that_ends_later_is_waited_for_and_closed() {
    let windows = with_sandbox();
    let path = windows.home().join("box").join("UtilityVM");
    windows.control(&json!({ "systems": [{
        "Id": "vm1", "SystemType": "VirtualMachine", "State": "Running", "RuntimeImagePath": path,
        "IsRuntimeTemplate": true, "standin": { "terminate": "pending", "exit": "0x00000000" }
    }] }));
    windows.store.remove(&id("box")).unwrap();
    assert_eq!(
        windows.functions(),
        [
            "HcsEnumerateComputeSystems",
            "HcsOpenComputeSystem",
            "HcsRegisterComputeSystemCallback",
            "HcsTerminateComputeSystem",
            "HcsUnregisterComputeSystemCallback",
            "HcsCloseComputeSystem",
            "DestroyLayer"
        ]
    );
}

#[test]
fn a_call_that_fails_is_named_with_its_layer_and_code_and_what_was_done_is_undone() {
    for (call, undone) in [
        ("ActivateLayer", &[][..]),
        ("PrepareLayer", &["DeactivateLayer"][..]),
        ("GetLayerMountPath", &["UnprepareLayer", "DeactivateLayer"][..]),
    ] {
        let windows = with_sandbox();
        windows.control(&json!({ "fail": [{ "call": call, "code": "0x80070005" }] }));
        let error = windows.store.get(&id("box"), "").unwrap_err().to_string();
        for part in [call, "box", "0x5"] {
            assert!(error.contains(part), "{call}: {part} is not in {error}");
        }
        let functions = windows.functions();
        assert!(
            functions.ends_with(&undone.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "{functions:?}"
        );
        windows.control(&json!({}));
        windows.store.get(&id("box"), "").unwrap();
    }
}

#[test]
fn an_import_that_fails_leaves_nothing_and_can_be_done_again() {
    let windows = with_sandbox();
    windows.control(&json!({ "fail": [{ "call": "ImportLayer", "code": "0x80070070" }] }));
    let error = windows.store.apply_diff(&id("l"), Some(&id("base")), &mut &delta_tar()[..]).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("ImportLayer") && error.contains("layer l") && error.contains("0x70"), "{error}");
    assert!(!windows.home().join("l").exists());
    assert_eq!(windows.leftovers(), Vec::<String>::new());
    windows.control(&json!({}));
    windows.store.apply_diff(&id("l"), Some(&id("base")), &mut &delta_tar()[..]).unwrap();
}

#[test]
fn a_tree_of_300_character_paths_goes_in_and_out() {
    let windows = Windows::new();
    let deep = deep_tree();
    windows.store.apply_diff(&id("base"), None, &mut &deep.tar[..]).unwrap();
    windows.store.apply_diff(&id("app"), Some(&id("base")), &mut &deep.tar[..]).unwrap();
    for layer in ["base", "app"] {
        let tar = read_all(windows.store.diff(&id(layer), None).unwrap());
        windows.store.apply_diff(&id("again"), Some(&id("base")), &mut &tar[..]).unwrap();
        let getter = windows.store.diff_getter(&id("again")).unwrap();
        assert_eq!(read_all(getter.get(deep.file.as_bytes()).unwrap()), b"deep");
        windows.store.remove(&id("again")).unwrap();
    }
}

#[test]
fn the_stand_in_answers_as_the_recorded_host_does() {
    let windows = Windows::new();
    let dir = tempfile::tempdir().unwrap();
    answers::check(windows.system(), dir.path());
}

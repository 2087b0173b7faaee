//! Get and put.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hcs::Code;

use super::fake_host::volume;
use super::{Fixture, chain, guid, id};
use crate::{Driver, Error};

fn prepare() -> Vec<String> {
    vec![
        "NameToGuid(app)".into(),
        "NameToGuid(base)".into(),
        format!("PrepareLayer(1, ROOT/home, box, {})", chain()),
    ]
}

fn get() -> Vec<String> {
    let mut calls = vec!["ActivateLayer(1, ROOT/home, box)".to_owned()];
    calls.extend(prepare());
    calls.push("GetLayerMountPath(1, ROOT/home, box)".into());
    calls
}

#[test]
fn get_activates_prepares_and_asks_for_the_path() {
    let fixture = Fixture::with_sandbox();
    let path = fixture.store.get(&id("box"), "label").unwrap();
    assert_eq!(fixture.host.calls(), get());
    // Callers append names to it, so it ends like the root of a volume.
    assert_eq!(path.to_string_lossy(), format!(r"{}\", volume("box")));
    assert!(!path.exists() && !Path::new(&volume("box")).exists());
}

#[test]
fn a_second_get_asks_windows_for_nothing() {
    let fixture = Fixture::with_sandbox();
    let first = fixture.store.get(&id("box"), "").unwrap();
    fixture.host.forget();
    assert_eq!(fixture.store.get(&id("box"), "").unwrap(), first);
    assert!(fixture.host.calls().is_empty());
    // Another process continues the count.
    let other = super::open(&fixture.home(), fixture.host.clone());
    fixture.host.forget();
    assert_eq!(other.get(&id("box"), "").unwrap(), first);
    assert!(fixture.host.calls().is_empty());
    assert_eq!(fixture.store.mounts(&id("box")).unwrap().count, 3);
}

#[test]
fn a_mount_recorded_by_the_name_that_the_service_gives_counts() {
    let fixture = Fixture::with_sandbox();
    fixture.store.get(&id("box"), "").unwrap();
    let record = fixture.home().join(".windowsfilter/mounts/box/state.json");
    let mut bare = fixture.store.mounts(&id("box")).unwrap();
    bare.path = Some(PathBuf::from(volume("box")));
    std::fs::write(&record, crate::sealed::seal(1, &bare).unwrap()).unwrap();
    fixture.host.forget();
    fixture.store.get(&id("box"), "").unwrap();
    assert!(fixture.host.calls().is_empty());
    assert_eq!(fixture.store.mounts(&id("box")).unwrap().count, 2);
}

#[test]
fn a_volume_that_cannot_be_looked_at_is_an_error_and_nothing_is_taken_off() {
    let fixture = Fixture::with_sandbox();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.forget();
    fixture.host.machine().volume_error = Some(Code::ACCESS_DENIED);
    let message = fixture.store.put(&id("box")).unwrap_err().to_string();
    assert!(message.contains("GetFileAttributes") && message.contains("0x5"), "{message}");
    fixture.store.get(&id("box"), "").unwrap_err();
    assert!(fixture.host.calls().is_empty());
    fixture.host.machine().volume_error = None;
    assert_eq!(fixture.store.mounts(&id("box")).unwrap().count, 1);
    fixture.store.put(&id("box")).unwrap();
}

#[test]
fn a_sandbox_whose_volume_went_counts_as_unmounted() {
    let fixture = Fixture::with_sandbox();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.machine().active.clear();
    fixture.host.machine().prepared.clear();
    assert_eq!(fixture.store.mounts(&id("box")).unwrap().count, 0);
    fixture.store.get(&id("box"), "").unwrap();
    assert_eq!(fixture.store.mounts(&id("box")).unwrap().count, 1);
}

#[test]
fn put_only_counts_and_the_last_put_unprepares_and_deactivates() {
    let fixture = Fixture::with_sandbox();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.forget();
    fixture.store.put(&id("box")).unwrap();
    assert!(fixture.host.calls().is_empty());
    fixture.store.put(&id("box")).unwrap();
    assert_eq!(
        fixture.host.calls(),
        ["UnprepareLayer(1, ROOT/home, box)", "DeactivateLayer(1, ROOT/home, box)"]
    );
    assert!(matches!(fixture.store.put(&id("box")), Err(Error::NotMounted { .. })));
    assert!(fixture.host.calls().is_empty());
}

#[test]
fn get_of_a_read_only_layer_gives_its_directory() {
    let fixture = Fixture::with_layers();
    let path = fixture.store.get(&id("app"), "").unwrap();
    assert_eq!(path, fixture.home().join("app"));
    let base = guid("base");
    assert_eq!(
        fixture.host.calls(),
        [
            "ActivateLayer(1, ROOT/home, app)".to_owned(),
            "NameToGuid(base)".into(),
            format!("PrepareLayer(1, ROOT/home, app, [{base}:0:ROOT/home/base])"),
            "GetLayerMountPath(1, ROOT/home, app)".into(),
        ]
    );
}

#[test]
fn a_layer_that_cannot_be_prepared_is_deactivated() {
    let fixture = Fixture::with_sandbox();
    fixture.host.fail("PrepareLayer", Code::ACCESS_DENIED);
    let message = fixture.store.get(&id("box"), "").unwrap_err().to_string();
    assert!(
        message.contains("PrepareLayer") && message.contains("box") && message.contains("0x5"),
        "{message}"
    );
    assert_eq!(fixture.host.calls().last().unwrap(), "DeactivateLayer(1, ROOT/home, box)");
    assert_eq!(fixture.store.mounts(&id("box")).unwrap().count, 0);
}

#[test]
fn a_layer_without_a_path_is_unprepared_and_deactivated() {
    let fixture = Fixture::with_sandbox();
    fixture.host.fail("GetLayerMountPath", Code::ELEMENT_NOT_FOUND);
    fixture.store.get(&id("box"), "").unwrap_err();
    let calls = fixture.host.calls();
    assert_eq!(
        calls[calls.len() - 2..],
        ["UnprepareLayer(1, ROOT/home, box)", "DeactivateLayer(1, ROOT/home, box)"]
    );
}

#[test]
fn what_cannot_be_undone_is_said_with_what_failed_first() {
    for (first, then) in [
        ("PrepareLayer", "DeactivateLayer"),
        ("GetLayerMountPath", "UnprepareLayer"),
        ("GetLayerMountPath", "DeactivateLayer"),
    ] {
        let fixture = Fixture::with_sandbox();
        fixture.host.fail(first, Code::ACCESS_DENIED);
        fixture.host.fail_too(then, Code::SHARING_VIOLATION);
        let message = super::failures::whole(&fixture.store.get(&id("box"), "").unwrap_err());
        for part in [first, "0x5", then, "0x20", "box"] {
            assert!(message.contains(part), "{first}, {then}: {part} is not in {message}");
        }
        fixture.host.succeed();
        fixture.store.get(&id("box"), "").unwrap();
        fixture.store.put(&id("box")).unwrap();
        assert!(fixture.host.machine().active.is_empty(), "{first}, {then}");
    }
}

#[test]
fn a_disk_that_is_not_ready_is_tried_five_times_from_the_beginning() {
    for code in [Code::NOT_READY, Code::DEVICE_NOT_CONNECTED] {
        let fixture = Fixture::with_sandbox();
        fixture.host.fail_times("PrepareLayer", code, 4);
        fixture.store.get(&id("box"), "").unwrap();
        let calls = fixture.host.calls();
        let again = [
            "DeactivateLayer(1, ROOT/home, box)",
            "pause(100 ms)",
            "ActivateLayer(1, ROOT/home, box)",
            &prepare()[2],
        ];
        assert_eq!(calls[..4], get()[..4]);
        assert_eq!(calls[4..20], [again; 4].concat());
        assert_eq!(calls[20..], get()[4..]);
    }
    let fixture = Fixture::with_sandbox();
    fixture.host.fail_times("PrepareLayer", Code::NOT_READY, 5);
    assert!(fixture.store.get(&id("box"), "").is_err());
    assert!(fixture.host.machine().active.is_empty());
}

#[test]
fn a_hundred_threads_share_one_mount_and_nothing_is_prepared_twice_at_once() {
    let fixture = Arc::new(Fixture::with_sandbox());
    for name in ["one", "two", "three"] {
        let options = crate::StorageOptions::default();
        fixture.store.create_read_write(&id(name), Some(&id("app")), options, "").unwrap();
    }
    fixture.host.forget();
    std::thread::scope(|scope| {
        for n in 0..100 {
            let name = ["box", "one", "two", "three"][n % 4];
            let fixture = Arc::clone(&fixture);
            scope.spawn(move || fixture.store.get(&id(name), "").unwrap());
        }
    });
    let calls = fixture.host.calls();
    assert_eq!(calls.iter().filter(|call| call.starts_with("PrepareLayer")).count(), 4);
}

#[test]
fn a_put_that_fails_half_way_goes_on_from_there() {
    let fixture = Fixture::with_sandbox();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.forget();
    fixture.host.fail_times("DeactivateLayer", Code::SHARING_VIOLATION, 1);
    let error = fixture.store.put(&id("box")).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::InUse);
    assert_eq!(fixture.store.mounts(&id("box")).unwrap().count, 1);
    fixture.host.forget();
    fixture.store.put(&id("box")).unwrap();
    assert_eq!(fixture.host.calls(), ["DeactivateLayer(1, ROOT/home, box)"]);
}

#[test]
fn a_get_after_a_put_that_failed_half_way_prepares_again() {
    let fixture = Fixture::with_sandbox();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.fail_times("DeactivateLayer", Code::SHARING_VIOLATION, 1);
    fixture.store.put(&id("box")).unwrap_err();
    fixture.host.forget();
    fixture.store.get(&id("box"), "").unwrap();
    assert_eq!(fixture.host.calls(), prepare());
}

#[test]
fn a_put_that_cannot_unprepare_keeps_the_layer_mounted_and_counted() {
    let fixture = Fixture::with_sandbox();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.fail_times("UnprepareLayer", Code::SHARING_VIOLATION, 1);
    fixture.store.put(&id("box")).unwrap_err();
    assert!(fixture.host.machine().prepared.contains("box"));
    assert_eq!(fixture.store.mounts(&id("box")).unwrap().count, 1);
    fixture.store.put(&id("box")).unwrap();
    assert!(fixture.host.machine().active.is_empty());
}

#[test]
fn mounts_of_another_boot_count_as_nothing_and_are_taken_off_first() {
    let fixture = Fixture::with_sandbox();
    fixture.store.get(&id("box"), "").unwrap();
    {
        let mut machine = fixture.host.machine();
        machine.boot = "boot 2".into();
        machine.active.clear();
        machine.prepared.clear();
    }
    fixture.host.forget();
    fixture.store.get(&id("box"), "").unwrap();
    let mut expected =
        vec!["UnprepareLayer(1, ROOT/home, box)".to_owned(), "DeactivateLayer(1, ROOT/home, box)".into()];
    expected.extend(get());
    assert_eq!(fixture.host.calls(), expected);
}

#[test]
fn what_a_dead_process_has_left_on_is_taken_off_by_the_first_that_can() {
    let fixture = Fixture::with_sandbox();
    fixture.store.get(&id("box"), "").unwrap();
    // Its record is lost with the process, and a file in it stays open for a while.
    std::fs::remove_file(fixture.home().join(".windowsfilter/mounts/box/state.json")).unwrap();
    fixture.host.fail("UnprepareLayer", Code::SHARING_VIOLATION);
    for _ in 0..2 {
        let error = fixture.store.get(&id("box"), "").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InUse, "{error}");
    }
    fixture.host.succeed();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.store.put(&id("box")).unwrap();
    assert!(fixture.host.machine().active.is_empty());
}

#[test]
fn what_somebody_else_has_on_is_left_on() {
    let fixture = Fixture::with_sandbox();
    // Docker uses the same home.
    fixture.host.machine().active.insert("box".into());
    for _ in 0..2 {
        let error = fixture.store.get(&id("box"), "").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InUse, "{error}");
        assert!(fixture.host.machine().active.contains("box"));
    }
}

//! Removing layers, and cleanup after interrupted removals.

use hcs::{Code, Termination};

use super::{Fixture, id};
use crate::{Driver, Error, ErrorKind};

fn system(id: &str, path: &str, template: bool) -> String {
    serde_json::json!({ "Id": id, "RuntimeImagePath": path, "IsRuntimeTemplate": template, "State": "Running" })
        .to_string()
}

fn rename(name: &str) -> String {
    format!("MoveFileEx(ROOT/home/{name}, ROOT/home/{name}-removing)")
}

#[test]
fn remove_looks_for_template_vms_renames_and_destroys() {
    let fixture = Fixture::with_sandbox();
    fixture.store.remove(&id("box")).unwrap();
    assert_eq!(
        fixture.host.calls(),
        [
            "HcsEnumerateComputeSystems({})".into(),
            rename("box"),
            "DestroyLayer(1, ROOT/home, box-removing)".into()
        ]
    );
    assert_eq!(fixture.names(), ["app", "base"]);
}

#[test]
fn remove_ends_the_template_vm_of_the_layer_and_no_other() {
    for (termination, waits) in
        [(Termination::Pending, true), (Termination::Done, true), (Termination::AlreadyStopped, false)]
    {
        let fixture = Fixture::with_layers();
        let systems = [
            system("template", r"C:\home\app\UtilityVM", true),
            system("longer", r"C:\home\app2\UtilityVM", true),
            system("container", r"C:\home\app\UtilityVM", false),
            r#"{"Id":"other"}"#.to_owned(),
            // Values that Go treats as missing.
            r#"{"Id":null,"RuntimeImagePath":null,"IsRuntimeTemplate":null}"#.to_owned(),
            "null".to_owned(),
        ];
        {
            let mut machine = fixture.host.machine();
            machine.systems = format!("[{}]", systems.join(","));
            machine.termination = termination;
        }
        fixture.store.remove(&id("app")).unwrap();
        let mut expected = vec![
            "HcsEnumerateComputeSystems({})".to_owned(),
            "HcsOpenComputeSystem(template)".into(),
            "HcsTerminateComputeSystem(template)".into(),
        ];
        if waits {
            expected.push("Wait(template)".into());
        }
        expected.extend([
            "HcsCloseComputeSystem(template)".into(),
            rename("app"),
            "DestroyLayer(1, ROOT/home, app-removing)".into(),
        ]);
        assert_eq!(fixture.host.calls(), expected);
    }
}

#[test]
fn a_template_vm_that_cannot_be_ended_keeps_the_layer() {
    for call in ["HcsOpenComputeSystem", "HcsTerminateComputeSystem", "Wait"] {
        let fixture = Fixture::with_layers();
        fixture.host.machine().systems = format!("[{}]", system("template", r"C:\home\app\UtilityVM", true));
        fixture.host.fail(call, Code::ACCESS_DENIED);
        let error = fixture.store.remove(&id("app")).unwrap_err().to_string();
        assert!(error.contains(call) && error.contains("app") && error.contains("0x5"), "{error}");
        assert_eq!(fixture.names(), ["app", "base"]);
        let closed = fixture.host.calls().contains(&"HcsCloseComputeSystem(template)".to_owned());
        assert_eq!(closed, call != "HcsOpenComputeSystem");
    }
}

#[test]
fn listing_is_tried_again_on_builds_where_it_fails_for_no_reason() {
    for code in [Code::INVALID_STATE, Code::ACCESS_DENIED] {
        let fixture = Fixture::with_sandbox();
        fixture.host.machine().build = 14_393;
        fixture.host.fail_times("HcsEnumerateComputeSystems", code, 500);
        fixture.store.remove(&id("box")).unwrap();
        let calls = fixture.host.calls();
        assert_eq!(calls.iter().filter(|call| *call == "pause(10 ms)").count(), 500);
        assert_eq!(calls.iter().filter(|call| call.starts_with("HcsEnumerate")).count(), 501);
    }
}

#[test]
fn listing_that_never_succeeds_is_an_error_and_removes_nothing() {
    let fixture = Fixture::with_sandbox();
    fixture.host.machine().build = 14_393;
    fixture.host.fail("HcsEnumerateComputeSystems", Code::INVALID_STATE);
    let error = fixture.store.remove(&id("box")).unwrap_err().to_string();
    assert!(
        error.contains("HcsEnumerateComputeSystems") && error.contains("box") && error.contains("0xc0370105")
    );
    assert_eq!(fixture.names(), ["app", "base", "box"]);
}

#[test]
fn listing_is_tried_once_on_newer_builds_and_for_other_errors() {
    for (build, code) in
        [(16_299, Code::INVALID_STATE), (20_348, Code::ACCESS_DENIED), (14_393, Code::DISK_FULL)]
    {
        let fixture = Fixture::with_sandbox();
        fixture.host.machine().build = build;
        fixture.host.fail("HcsEnumerateComputeSystems", code);
        fixture.store.remove(&id("box")).unwrap_err();
        assert_eq!(fixture.host.calls().len(), 1);
    }
}

#[test]
fn a_list_that_is_no_list_is_an_error() {
    let fixture = Fixture::with_sandbox();
    fixture.host.machine().systems = "{".to_owned();
    let error = fixture.store.remove(&id("box")).unwrap_err().to_string();
    assert!(error.contains("HcsEnumerateComputeSystems"), "{error}");
    fixture.host.machine().systems = "null".to_owned();
    fixture.store.remove(&id("box")).unwrap();
}

#[test]
fn a_sandbox_that_cannot_be_renamed_has_its_disk_detached_first() {
    let fixture = Fixture::with_sandbox();
    fixture.host.fail_times("MoveFileEx", Code::ACCESS_DENIED, 1);
    fixture.store.remove(&id("box")).unwrap();
    assert_eq!(
        fixture.host.calls(),
        [
            "HcsEnumerateComputeSystems({})".into(),
            rename("box"),
            "DetachVirtualDisk(ROOT/home/box/sandbox.vhdx)".into(),
            rename("box"),
            "DestroyLayer(1, ROOT/home, box-removing)".into(),
        ]
    );
}

#[test]
fn a_second_rename_that_fails_says_both_errors_and_keeps_the_sandbox() {
    let fixture = Fixture::with_sandbox();
    fixture.host.fail("MoveFileEx", Code::ACCESS_DENIED);
    let error = fixture.store.remove(&id("box")).unwrap_err().to_string();
    assert!(
        error.contains("MoveFileEx") && error.contains("with the disk detached") && error.contains("box"),
        "{error}"
    );
    assert_eq!(fixture.names(), ["app", "base", "box"]);
    fixture.host.succeed();
    fixture.store.remove(&id("box")).unwrap();
}

#[test]
fn a_disk_that_cannot_be_detached_says_both_errors_and_keeps_the_sandbox() {
    let fixture = Fixture::with_sandbox();
    fixture.host.fail("MoveFileEx", Code::ACCESS_DENIED);
    fixture.host.fail_too("DetachVirtualDisk", Code::SHARING_VIOLATION);
    let error = fixture.store.remove(&id("box")).unwrap_err().to_string();
    for part in ["DetachVirtualDisk", "0x20", "MoveFileEx", "0x5", "box"] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert_eq!(fixture.names(), ["app", "base", "box"]);
    fixture.host.succeed();
    fixture.store.remove(&id("box")).unwrap();
}

#[test]
fn a_layer_without_a_disk_that_cannot_be_renamed_is_an_error() {
    let fixture = Fixture::with_layers();
    fixture.host.fail("MoveFileEx", Code::ACCESS_DENIED);
    let error = fixture.store.remove(&id("app")).unwrap_err().to_string();
    assert!(error.contains("MoveFileEx") && error.contains("app") && error.contains("0x5"), "{error}");
    assert_eq!(fixture.names(), ["app", "base"]);
}

#[test]
fn a_layer_that_a_scanner_looks_at_is_renamed_when_it_is_done() {
    for code in [Code::ACCESS_DENIED, Code::SHARING_VIOLATION] {
        let fixture = Fixture::with_layers();
        fixture.host.fail_times("MoveFileEx", code, 4);
        fixture.store.remove(&id("app")).unwrap();
        assert_eq!(
            fixture.host.calls(),
            [
                "HcsEnumerateComputeSystems({})".into(),
                rename("app"),
                rename("app"),
                "pause(50 ms)".into(),
                rename("app"),
                "pause(100 ms)".into(),
                rename("app"),
                "pause(200 ms)".into(),
                rename("app"),
                "DestroyLayer(1, ROOT/home, app-removing)".into(),
            ]
        );
    }
    let fixture = Fixture::with_sandbox();
    fixture.host.fail_times("DestroyLayer", Code::SHARING_VIOLATION, 3);
    fixture.store.remove(&id("box")).unwrap();
    assert_eq!(fixture.names(), ["app", "base"]);
}

#[test]
fn a_layer_that_stays_open_is_in_use_and_says_by_whom() {
    for (layer, code) in [("app", Code::ACCESS_DENIED), ("app", Code::SHARING_VIOLATION)] {
        let fixture = Fixture::with_layers();
        fixture.host.fail("MoveFileEx", code);
        fixture.host.machine().holders =
            (1..=7).map(|number| format!("scanner.exe (process {number})")).collect();
        let error = fixture.store.remove(&id(layer)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        let text = error.to_string();
        for part in ["layer app is in use by scanner.exe (process 1), ", "5) and 2 more", "MoveFileEx"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let calls = fixture.host.calls();
        assert_eq!(calls.iter().filter(|call| call.starts_with("MoveFileEx")).count(), 7, "{calls:?}");
        assert_eq!(fixture.names(), ["app", "base"]);
    }
}

#[test]
fn what_is_denied_to_somebody_who_is_no_administrator_may_not_be_in_use() {
    let fixture = Fixture::with_layers();
    fixture.host.fail("MoveFileEx", Code::ACCESS_DENIED);
    // No process is known to have it open, but an administrator has all rights, so it must be in use.
    assert_eq!(fixture.store.remove(&id("app")).unwrap_err().kind(), ErrorKind::InUse);
    fixture.host.machine().user.is_administrator = false;
    let error = fixture.store.remove(&id("app")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    // Other errors are not retried.
    fixture.host.forget();
    fixture.host.fail("MoveFileEx", Code::DISK_FULL);
    fixture.store.remove(&id("app")).unwrap_err();
    assert_eq!(fixture.host.calls().last().unwrap(), &rename("app"));
}

#[test]
fn a_transport_directory_that_a_scanner_looks_at_goes_when_it_is_done_and_else_with_cleanup() {
    let tar = super::TestTar::new().dir("Files").file("Files/x", b"x").tar();
    let fixture = Fixture::with_layers();
    fixture.host.fail_times("remove directory", Code::SHARING_VIOLATION, 5);
    fixture.store.apply_diff(&id("new"), Some(&id("base")), &mut &tar[..]).unwrap();
    assert!(fixture.leftovers().is_empty());
    fixture.host.fail_times("remove directory", Code::SHARING_VIOLATION, 2);
    fixture.store.changes(&id("new")).unwrap();
    assert!(fixture.leftovers().is_empty());
    fixture.host.fail("remove directory", Code::SHARING_VIOLATION);
    fixture.store.changes(&id("new")).unwrap();
    fixture.host.succeed();
    assert_eq!(fixture.leftovers().len(), 1);
    fixture.store.cleanup().unwrap();
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn files_that_cannot_be_destroyed_are_said_and_cleaned_up_later() {
    let fixture = Fixture::with_sandbox();
    // Fails all attempts of the removal and of the next cleanup.
    fixture.host.fail_times("DestroyLayer", Code::SHARING_VIOLATION, 2 * 6);
    let error = fixture.store.remove(&id("box")).unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(
        text.contains("DestroyLayer") && text.contains("box-removing") && text.contains("0x20"),
        "{text}"
    );
    assert_eq!(fixture.names(), ["app", "base", "box-removing"]);
    assert!(matches!(fixture.store.remove(&id("box")), Err(Error::NoSuchLayer { .. })));
    // Like the original's, cleanup goes on after a failure.
    fixture.store.cleanup().unwrap();
    fixture.host.forget();
    fixture.store.cleanup().unwrap();
    assert_eq!(fixture.host.calls(), ["DestroyLayer(1, ROOT/home, box-removing)"]);
    assert_eq!(fixture.names(), ["app", "base"]);
}

#[test]
fn cleanup_removes_what_interrupted_work_has_left() {
    let fixture = Fixture::with_layers();
    let own = fixture.home().join(".windowsfilter");
    std::fs::create_dir(fixture.home().join("x-removing")).unwrap();
    std::fs::create_dir(own.join("staging/y-importing")).unwrap();
    std::fs::write(own.join("staging/y-importing/layer.tar"), b"half").unwrap();
    std::fs::create_dir(own.join("tmp/layerabc")).unwrap();
    std::fs::write(own.join("tmp/layerabc/file"), b"x").unwrap();
    assert_eq!(fixture.store.fsck(false).unwrap().len(), 3);
    fixture.store.cleanup().unwrap();
    assert_eq!(fixture.host.service_calls().last().unwrap(), "DestroyLayer(1, ROOT/home, x-removing)");
    assert_eq!(fixture.names(), ["app", "base"]);
    assert!(fixture.leftovers().is_empty());
    assert_eq!(fixture.store.fsck(false).unwrap(), []);
}

#[test]
fn a_home_that_cannot_be_listed_is_not_clean() {
    let fixture = Fixture::with_layers();
    std::fs::remove_dir_all(fixture.home()).unwrap();
    std::fs::write(fixture.home(), b"").unwrap();
    let error = fixture.store.cleanup().unwrap_err().to_string();
    assert!(error.contains("home"), "{error}");
}

#[test]
fn what_something_stands_on_is_not_removed_and_no_vm_is_ended_for_it() {
    let fixture = Fixture::with_sandbox();
    assert!(matches!(fixture.store.remove(&id("base")), Err(Error::HasChildren { .. })));
    assert!(fixture.host.calls().is_empty());
}

#[test]
fn a_mounted_layer_is_not_removed() {
    let fixture = Fixture::with_sandbox();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.forget();
    assert!(matches!(fixture.store.remove(&id("box")), Err(Error::Mounted { .. })));
    assert!(fixture.host.calls().is_empty());
}

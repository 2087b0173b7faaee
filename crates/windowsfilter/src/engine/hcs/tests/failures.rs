//! Lets every call fail, one after the other: the earlier steps are undone, and the error names call, layer
//! and code.

use std::path::Path;

use hcs::Code;

use super::{Fixture, TestTar, base_tar, delta_tar, id, read_all};
use crate::{Driver, Error, StorageOptions};

/// The error with its causes.
pub(super) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The state that must be restored: names in the home, mounts, attached disks and privileges.
fn state(fixture: &Fixture) -> (Vec<String>, Vec<String>, usize, usize) {
    let machine = fixture.host.machine();
    let mounted = machine.active.iter().chain(&machine.prepared).cloned().collect();
    let (attached, privileges) = (machine.attached, machine.privileges);
    drop(machine);
    (fixture.names(), mounted, attached, privileges)
}

/// Runs `act` once for each call that it makes, and each time lets another call fail. `tolerated` selects
/// calls whose failure does not fail `act`, or cannot be undone; the next attempt must still succeed.
fn fail_each_call(
    layer: &str,
    start: impl Fn() -> Fixture,
    act: impl Fn(&Fixture) -> Result<(), Error>,
    tolerated: impl Fn(&str) -> bool,
) {
    let fixture = start();
    fixture.host.forget();
    act(&fixture).unwrap();
    let calls = fixture.host.calls();
    assert!(!calls.is_empty());
    for (number, call) in calls.iter().enumerate() {
        let fixture = start();
        let before = state(&fixture);
        // A code that no caller handles.
        fixture.host.fail_number(number, Code(0xbad));
        let result = act(&fixture);
        fixture.host.succeed();
        if tolerated(call) {
            // At least another attempt must work.
            match act(&fixture) {
                Ok(()) | Err(Error::NoSuchLayer { .. } | Error::LayerExists { .. }) => continue,
                Err(error) => panic!("{call}, again: {}", whole(&error)),
            }
        }
        let error = result.expect_err(call);
        let text = whole(&error);
        let name = call.split('(').next().unwrap();
        for part in [name, layer, "0xbad"] {
            assert!(text.contains(part), "{call}: {part} is not in {text}");
        }
        assert_eq!(state(&fixture), before, "{call}: {text}");
        // Cleanup removes these later (`removal.rs`).
        if !call.starts_with("remove directory") {
            assert_eq!(fixture.leftovers(), Vec::<String>::new(), "{call}");
        }
        // And another attempt must succeed.
        act(&fixture).unwrap_or_else(|error| panic!("{call}, again: {}", whole(&error)));
    }
}

fn never(_: &str) -> bool {
    false
}

/// Cleanup removes a transport directory that could not be removed (`removal.rs`).
fn clearing_up(call: &str) -> bool {
    call.starts_with("remove directory")
}

/// If the second flush of the volume fails, the layer stays, since others may already use it (`imports.rs`).
fn flushing(call: &str) -> bool {
    call.starts_with("FlushFileBuffers")
}

/// Privileges that cannot be disabled stay enabled; the last test here checks what happens then.
fn privileges(call: &str) -> bool {
    call.starts_with("DisableProcessPrivileges") || flushing(call) || clearing_up(call)
}

#[test]
fn of_create() {
    fail_each_call("new", Fixture::with_layers, |f| f.store.create(&id("new"), Some(&id("app"))), flushing);
}

#[test]
fn of_create_read_write() {
    let create =
        |f: &Fixture| f.store.create_read_write(&id("box"), Some(&id("app")), StorageOptions::default(), "");
    fail_each_call("box", Fixture::with_layers, create, flushing);
}

#[test]
fn of_expand() {
    let expand = |f: &Fixture| f.store.expand(&id("box"), 200 << 30);
    fail_each_call("box", Fixture::with_sandbox, expand, never);
}

#[test]
fn of_exists() {
    fail_each_call("box", Fixture::with_sandbox, |f| f.store.exists(&id("box")).map(drop), never);
}

#[test]
fn of_get() {
    let get = |f: &Fixture| f.store.get(&id("box"), "").map(drop);
    fail_each_call("box", Fixture::with_sandbox, get, never);
}

#[test]
fn of_apply_diff_of_a_base_layer() {
    let tar = base_tar();
    let apply = |f: &Fixture| f.store.apply_diff(&id("fresh"), None, &mut &tar[..]).map(drop);
    // There is no backup of an earlier attempt, so removing it always fails with "not found".
    fail_each_call("fresh", Fixture::with_layers, apply, privileges);
}

#[test]
fn of_apply_diff_of_a_layer_with_everything() {
    let tar = delta_tar();
    let apply = |f: &Fixture| f.store.apply_diff(&id("fresh"), Some(&id("base")), &mut &tar[..]).map(drop);
    fail_each_call("fresh", Fixture::with_layers, apply, privileges);
}

fn mounted() -> Fixture {
    let fixture = Fixture::with_sandbox();
    fixture.store.get(&id("box"), "").unwrap();
    write_something(&fixture.home().join("box"), &fixture);
    fixture
}

fn unmounted() -> Fixture {
    let fixture = Fixture::with_sandbox();
    write_something(&fixture.home().join("box"), &fixture);
    fixture
}

fn write_something(dir: &Path, fixture: &Fixture) {
    let info = hcs::BasicInfo { attributes: 0x20, ..hcs::BasicInfo::default() };
    let stream = super::fake_tree::stream(wclayer::backup_stream::DATA, b"x");
    super::fake_tree::put(&fixture.host, &dir.join("Files/x"), info, stream);
}

fn read_diff(fixture: &Fixture) -> Result<(), Error> {
    read_diff_of(fixture, "box")
}

fn read_diff_of(fixture: &Fixture, layer: &str) -> Result<(), Error> {
    let mut diff = fixture.store.diff(&id(layer), None)?;
    std::io::Read::read_to_end(&mut diff, &mut Vec::new()).map(drop).map_err(|source| Error::Io {
        action: "read the diff of",
        path: layer.into(),
        source,
    })
}

#[test]
fn of_diff_of_a_mounted_sandbox() {
    // Failing to put the filter back is the only failure that cannot be undone.
    let last =
        |call: &str| call.starts_with("PrepareLayer") || call.starts_with("NameToGuid") || clearing_up(call);
    fail_each_call("box", mounted, read_diff, last);
}

#[test]
fn of_diff_of_a_sandbox_that_is_not_mounted() {
    // Likewise failing to take it off.
    let last = |call: &str| {
        call.starts_with("DeactivateLayer") || call.starts_with("UnprepareLayer") || clearing_up(call)
    };
    fail_each_call("box", unmounted, read_diff, last);
}

#[test]
fn of_diff_of_a_base_layer() {
    let last = |call: &str| call.starts_with("DeactivateLayer");
    fail_each_call("base", Fixture::with_layers, |f| read_diff_of(f, "base"), last);
}

#[test]
fn of_diff_size() {
    let last = |call: &str| {
        call.starts_with("DeactivateLayer") || call.starts_with("UnprepareLayer") || clearing_up(call)
    };
    fail_each_call("box", unmounted, |f| f.store.diff_size(&id("box"), None).map(drop), last);
}

#[test]
fn of_changes() {
    let last = |call: &str| {
        call.starts_with("DeactivateLayer") || call.starts_with("UnprepareLayer") || clearing_up(call)
    };
    let changes = |f: &Fixture| f.store.changes(&id("box")).map(drop);
    fail_each_call("box", unmounted, changes, last);
}

#[test]
fn of_remove() {
    // Errors of closing are ignored; a layer that cannot be destroyed is already removed from the store
    // (`removal.rs`).
    let tolerated =
        |call: &str| call.starts_with("HcsCloseComputeSystem") || call.starts_with("DestroyLayer");
    let start = || {
        let fixture = Fixture::with_sandbox();
        fixture.host.machine().systems =
            r#"[{"Id":"vm","RuntimeImagePath":"C:\\home\\box\\UtilityVM","IsRuntimeTemplate":true}]"#
                .to_owned();
        fixture
    };
    fail_each_call("box", start, |f| f.store.remove(&id("box")), tolerated);
}

#[test]
fn of_a_file_of_a_layer() {
    let read = |f: &Fixture| {
        let getter = f.store.diff_getter(&id("base"))?;
        read_all(getter.get(b"Files/readme.txt")?);
        Ok(())
    };
    fail_each_call("base", Fixture::with_layers, read, never);
}

#[test]
fn of_leaving_the_privileges_of_the_process() {
    let fixture = Fixture::with_layers();
    fixture.host.fail("DisableProcessPrivileges", Code::ACCESS_DENIED);
    let tar = TestTar::new().dir("Files").tar();
    let error = fixture.store.apply_diff(&id("fresh"), Some(&id("app")), &mut &tar[..]).unwrap_err();
    assert!(error.to_string().contains("DisableProcessPrivileges"), "{error}");
    assert_eq!(fixture.names(), ["app", "base"]);
}

#[test]
fn of_leaving_the_privileges_of_the_process_after_another_failure() {
    let fixture = Fixture::with_layers();
    fixture.host.fail("ImportLayer", Code::DISK_FULL);
    fixture.host.fail_too("DisableProcessPrivileges", Code::ACCESS_DENIED);
    let tar = TestTar::new().dir("Files").tar();
    let error = fixture.store.apply_diff(&id("fresh"), Some(&id("app")), &mut &tar[..]).unwrap_err();
    let text = whole(&error);
    for part in ["ImportLayer", "0x70", "DisableProcessPrivileges", "0x5", "fresh"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(fixture.names(), ["app", "base"]);
}

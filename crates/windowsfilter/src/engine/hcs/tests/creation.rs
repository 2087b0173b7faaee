//! Creating layers and sandboxes.

use hcs::Code;

use super::{Fixture, guid, id};
use crate::{Driver, Error, StorageOptions};

#[test]
fn create_asks_for_the_parents_path_and_makes_a_layer_on_its_id() {
    let fixture = Fixture::with_layers();
    fixture.store.create(&id("new"), Some(&id("app"))).unwrap();
    assert_eq!(
        fixture.host.calls(),
        [
            "GetLayerMountPath(1, ROOT/home, app)",
            r#"CreateLayer(1, ROOT/home, new, "app")"#,
            "FlushFileBuffers(ROOT/home/new)",
            "FlushFileBuffers(ROOT/home/new)",
        ]
    );
    assert_eq!(fixture.store.chain_ids(&id("new")).unwrap(), [id("app"), id("base")]);
}

#[test]
fn create_without_a_parent_makes_a_layer_on_nothing() {
    let fixture = Fixture::new();
    fixture.host.forget();
    fixture.store.create(&id("new"), None).unwrap();
    assert_eq!(fixture.host.calls()[0], r#"CreateLayer(1, ROOT/home, new, "")"#);
    let chain = std::fs::read_to_string(fixture.home().join("new/layerchain.json")).unwrap();
    assert_eq!(chain, "null");
}

fn sandbox_calls(size: u64) -> Vec<String> {
    let chain = format!("[{}:0:ROOT/home/app, {}:0:ROOT/home/base]", guid("app"), guid("base"));
    vec![
        "GetLayerMountPath(1, ROOT/home, app)".into(),
        "NameToGuid(app)".into(),
        "NameToGuid(base)".into(),
        format!("CreateSandboxLayer(1, ROOT/home, box, {chain})"),
        format!("ExpandSandboxSize(1, ROOT/home, box, {size})"),
        "AttachVirtualDisk(ROOT/home/box/sandbox.vhdx)".into(),
        "GetLayerMountPath(1, ROOT/home, box)".into(),
        format!("ExtendVolume({})", super::fake_host::volume("box")),
        "FlushFileBuffers(ROOT/home/box)".into(),
        "FlushFileBuffers(ROOT/home/box)".into(),
    ]
}

#[test]
fn create_read_write_without_a_size_makes_a_sandbox_of_127_gb() {
    let fixture = Fixture::with_layers();
    fixture
        .store
        .create_read_write(&id("box"), Some(&id("app")), StorageOptions::default(), "label")
        .unwrap();
    assert_eq!(fixture.host.calls(), sandbox_calls(127 << 30));
    assert_eq!(fixture.host.machine().attached, 0, "the disk stays attached");
}

#[test]
fn create_read_write_with_a_size_makes_a_sandbox_of_that_size() {
    let fixture = Fixture::with_layers();
    let options = StorageOptions { size: Some(30 << 30) };
    fixture.store.create_read_write(&id("box"), Some(&id("app")), options, "").unwrap();
    assert_eq!(fixture.host.calls(), sandbox_calls(30 << 30));
    assert_eq!(fixture.store.record(&id("box")).unwrap().sandbox_size, Some(30 << 30));
}

/// `InitFilter` and `create`: size 0 means the store's size, and for a store that sandboxes are not expanded.
#[test]
fn a_store_of_size_0_leaves_the_size_to_the_service() {
    let fixture = Fixture::with_layers();
    let none = StorageOptions { size: Some(0) };
    fixture.store.create_read_write(&id("box"), Some(&id("app")), none, "").unwrap();
    assert_eq!(fixture.host.calls(), sandbox_calls(127 << 30));
    fixture.host.forget();
    let store = super::open_with(&fixture.home(), none, fixture.host.clone());
    store.create_read_write(&id("small"), Some(&id("app")), none, "").unwrap();
    let calls = fixture.host.service_calls();
    assert!(
        calls.iter().any(|call| call.starts_with("CreateSandboxLayer(1, ROOT/home, small, ")),
        "{calls:?}"
    );
    assert!(!calls.iter().any(|call| call.starts_with("ExpandSandboxSize")), "{calls:?}");
    assert_eq!(store.record(&id("small")).unwrap().sandbox_size, None);
    fixture.host.forget();
    store
        .create_read_write(&id("large"), Some(&id("app")), StorageOptions { size: Some(30 << 30) }, "")
        .unwrap();
    assert!(fixture.host.service_calls().iter().any(|call| call.starts_with("ExpandSandboxSize")));
}

#[test]
fn a_parent_without_files_is_left_out_of_the_chain() {
    let fixture = Fixture::with_layers();
    let options = StorageOptions::default();
    fixture.store.create_read_write(&id("box-init"), Some(&id("app")), options, "").unwrap();
    fixture.host.forget();
    fixture.store.create_read_write(&id("box"), Some(&id("box-init")), options, "").unwrap();
    assert_eq!(fixture.host.calls(), sandbox_calls(127 << 30));
}

#[test]
fn the_chain_is_written_as_docker_reads_it() {
    let fixture = Fixture::with_sandbox();
    let chain = std::fs::read_to_string(fixture.home().join("box/layerchain.json")).unwrap();
    let home = fixture.home();
    let expected = serde_json::json!([home.join("app"), home.join("base")]);
    assert_eq!(chain, expected.to_string());
}

#[test]
fn a_missing_parent_is_an_error_before_windows_is_asked_for_anything() {
    let fixture = Fixture::new();
    fixture.host.forget();
    let missing = id("missing");
    for result in [
        fixture.store.create(&id("new"), Some(&missing)),
        fixture.store.create_read_write(&id("new"), Some(&missing), StorageOptions::default(), ""),
    ] {
        assert!(matches!(result, Err(Error::MissingParent { .. })), "{result:?}");
    }
    assert!(fixture.host.calls().is_empty() && fixture.names().is_empty() && fixture.leftovers().is_empty());
}

#[test]
fn what_exists_is_not_made_again() {
    let fixture = Fixture::with_sandbox();
    let again = fixture.store.create_read_write(&id("box"), None, StorageOptions::default(), "");
    assert!(matches!(again, Err(Error::LayerExists { .. })));
    assert!(matches!(fixture.store.create(&id("app"), None), Err(Error::LayerExists { .. })));
    assert!(fixture.host.calls().is_empty());
    assert_eq!(fixture.names(), ["app", "base", "box"]);
}

#[test]
fn a_sandbox_that_cannot_be_expanded_is_destroyed() {
    let fixture = Fixture::with_layers();
    fixture.host.fail("ExpandSandboxSize", Code::INVALID_PARAMETER);
    let made = fixture.store.create_read_write(&id("box"), Some(&id("app")), StorageOptions::default(), "");
    let message = made.unwrap_err().to_string();
    assert!(
        message.contains("ExpandSandboxSize") && message.contains("box") && message.contains("0x57"),
        "{message}"
    );
    assert_eq!(fixture.host.calls().last().unwrap(), "DestroyLayer(1, ROOT/home, box)");
    assert_eq!(fixture.names(), ["app", "base"]);
}

#[test]
fn a_layer_that_cannot_be_destroyed_either_says_both_and_is_seen_by_nobody() {
    let fixture = Fixture::with_layers();
    fixture.host.fail("DestroyLayer", Code::SHARING_VIOLATION);
    // An incomplete sandbox, whose maker died, is in the way.
    std::fs::create_dir(fixture.home().join("box")).unwrap();
    std::fs::write(fixture.home().join(".windowsfilter/incomplete/box"), b"").unwrap();
    let made = fixture.store.create_read_write(&id("box"), Some(&id("app")), StorageOptions::default(), "");
    let message = made.unwrap_err().to_string();
    assert!(message.contains("DestroyLayer") && message.contains("0x20"), "{message}");
    assert_eq!(fixture.store.layers().unwrap(), [id("app"), id("base")]);
    fixture.host.succeed();
    fixture.store.cleanup().unwrap();
    assert_eq!(fixture.names(), ["app", "base"]);
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn a_layer_whose_chain_cannot_be_written_is_destroyed() {
    let fixture = Fixture::with_layers();
    fixture.host.machine().obstacle = Some("layerchain.json");
    let (new, app) = (id("new"), id("app"));
    for writable in [false, true] {
        let made = if writable {
            fixture.store.create_read_write(&new, Some(&app), StorageOptions::default(), "")
        } else {
            fixture.store.create(&new, Some(&app))
        };
        let message = made.unwrap_err().to_string();
        assert!(message.contains("layerchain.json") && message.contains("new"), "{message}");
        assert_eq!(fixture.host.calls().last().unwrap(), "DestroyLayer(1, ROOT/home, new)");
        assert_eq!(fixture.names(), ["app", "base"]);
        assert!(fixture.leftovers().is_empty());
    }
    fixture.host.machine().obstacle = None;
    fixture.store.create(&id("new"), Some(&id("app"))).unwrap();
}

#[test]
fn expand_grows_disk_and_volume() {
    let fixture = Fixture::with_sandbox();
    fixture.store.expand(&id("box"), 200 << 30).unwrap();
    assert_eq!(fixture.host.calls(), sandbox_calls(200 << 30)[4..8]);
    assert_eq!(fixture.store.record(&id("box")).unwrap().sandbox_size, Some(200 << 30));
}

#[test]
fn a_home_on_refs_is_refused_before_it_is_made() {
    let host = super::FakeHost::default();
    host.machine().file_system = "ReFS";
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let opened =
        crate::LayerStore::open_hcs(&home, StorageOptions::default(), host, super::ImportProcess::Here);
    let message = opened.unwrap_err().to_string();
    assert!(message.contains("ReFS") && message.contains("home"), "{message}");
    assert!(!home.exists());
}

#[test]
fn a_home_whose_file_system_cannot_be_asked_for_is_refused_before_it_is_made() {
    let host = super::FakeHost::default();
    host.fail("GetVolumeInformation", Code::NOT_READY);
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let opened =
        crate::LayerStore::open_hcs(&home, StorageOptions::default(), host, super::ImportProcess::Here);
    let message = opened.unwrap_err().to_string();
    assert!(message.contains("GetVolumeInformation") && message.contains("home"), "{message}");
    assert!(!home.exists());
}

#[test]
fn a_home_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let home = dir.path().join("file").join("home");
    let host = super::FakeHost::default();
    let opened =
        crate::LayerStore::open_hcs(&home, StorageOptions::default(), host, super::ImportProcess::Here);
    let message = opened.unwrap_err().to_string();
    assert!(message.contains("create") && message.contains("home"), "{message}");
}

#[test]
fn the_drivers_name_and_status_are_known() {
    let fixture = Fixture::with_sandbox();
    assert_eq!(fixture.store.name(), "windowsfilter");
    let status = fixture.store.status().unwrap();
    assert!(status.contains(&("Engine".into(), "hcs".into())), "{status:?}");
    assert!(status.contains(&("Layers".into(), "2".into())), "{status:?}");
}

#[test]
fn exists_asks_the_service() {
    let fixture = Fixture::with_layers();
    assert_eq!(fixture.store.exists(&id("app")).unwrap(), crate::driver::Presence::Present);
    assert_eq!(fixture.host.calls(), ["LayerExists(1, ROOT/home, app)"]);
    assert_eq!(fixture.store.exists(&id("none")).unwrap(), crate::driver::Presence::Absent);
    fixture.host.fail("LayerExists", Code::ACCESS_DENIED);
    let message = fixture.store.exists(&id("app")).unwrap_err().to_string();
    assert!(
        message.contains("LayerExists") && message.contains("app") && message.contains("0x5"),
        "{message}"
    );
}

#[test]
fn metadata_gives_the_directory() {
    let fixture = Fixture::with_layers();
    let facts = fixture.store.get_metadata(&id("app")).unwrap();
    assert_eq!(facts["dir"], fixture.home().join("app").display().to_string());
    assert!(matches!(fixture.store.get_metadata(&id("none")), Err(Error::NoSuchLayer { .. })));
}

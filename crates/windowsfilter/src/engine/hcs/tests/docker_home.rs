//! Homes made by Docker.

use std::fs;
use std::path::Path;

use super::fake_tree::{put, stream};
use super::{Fixture, id, read_all};
use crate::driver::Presence;
use crate::fsck::Invariant;
use crate::{Driver, Error, LayerKind};
use hcs::BasicInfo;
use wclayer::backup_stream as backup;

/// A layer made by Docker: without a record, with a chain of paths, possibly of another home.
fn docker_layer(fixture: &Fixture, name: &str, chain: &str) {
    let dir = fixture.home().join(name);
    let file = dir.join("Files").join(format!("{name}.txt"));
    put(
        &fixture.host,
        &file,
        BasicInfo { attributes: 0x20, ..BasicInfo::default() },
        stream(backup::DATA, name.as_bytes()),
    );
    write_chain(&dir, chain);
}

fn write_chain(dir: &Path, chain: &str) {
    fs::write(dir.join("layerchain.json"), chain).unwrap();
}

fn docker_home() -> Fixture {
    let fixture = Fixture::new();
    docker_layer(&fixture, "one", "null");
    docker_layer(&fixture, "two", r#"["C:\\ProgramData\\docker\\windowsfilter\\one"]"#);
    let sandbox = fixture.home().join("sandbox");
    fs::create_dir(&sandbox).unwrap();
    fs::write(sandbox.join("sandbox.vhdx"), b"disk").unwrap();
    write_chain(&sandbox, r#"["D:\\moved\\two","D:\\moved\\one"]"#);
    fixture.host.forget();
    fixture
}

#[test]
fn layers_that_docker_made_are_known_with_their_chains() {
    let fixture = docker_home();
    let store = &fixture.store;
    assert_eq!(store.layers().unwrap(), [id("one"), id("sandbox"), id("two")]);
    assert_eq!(store.chain_ids(&id("sandbox")).unwrap(), [id("two"), id("one")]);
    let kinds = ["one", "two", "sandbox"].map(|name| store.record(&id(name)).unwrap().kind);
    assert_eq!(kinds, [LayerKind::Layer, LayerKind::Layer, LayerKind::Sandbox]);
    assert_eq!(store.exists(&id("sandbox")).unwrap(), Presence::Present);
    assert_eq!(store.fsck(false).unwrap(), []);
}

#[test]
fn a_layer_that_the_service_does_not_know_is_found() {
    let fixture = docker_home();
    fixture.host.machine().unknown.insert("two".to_owned());
    for repair in [false, true] {
        let found = fixture.store.fsck(repair).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].invariant, &found[0].id), (Invariant::HostKnowsLayer, &Some(id("two"))));
        assert!(!found[0].repaired);
    }
    fixture.host.machine().unknown.clear();
    assert_eq!(fixture.store.fsck(false).unwrap(), []);
    let needs_tars = fixture.store.verify_all(std::num::NonZeroUsize::MIN, &());
    assert!(matches!(needs_tars, Err(Error::Unsupported { .. })), "{needs_tars:?}");
}

#[test]
fn a_sandbox_that_docker_made_mounts_where_the_home_is_now() {
    let fixture = docker_home();
    fixture.store.get(&id("sandbox"), "").unwrap();
    let prepare = fixture.host.calls().into_iter().find(|call| call.starts_with("PrepareLayer")).unwrap();
    assert!(prepare.contains("ROOT/home/two, ") && prepare.contains("ROOT/home/one]"), "{prepare}");
    fixture.store.put(&id("sandbox")).unwrap();
}

#[test]
fn a_layer_on_top_of_dockers_is_written_so_that_docker_reads_it() {
    let fixture = docker_home();
    fixture.store.create(&id("mine"), Some(&id("two"))).unwrap();
    let chain = fs::read_to_string(fixture.home().join("mine/layerchain.json")).unwrap();
    let expected = serde_json::json!([fixture.home().join("two"), fixture.home().join("one")]);
    assert_eq!(chain, expected.to_string());
}

#[test]
fn a_layer_that_docker_made_has_a_diff_and_a_size() {
    let fixture = docker_home();
    assert!(!read_all(fixture.store.diff(&id("one"), None).unwrap()).is_empty());
    assert_eq!(fixture.store.diff_size(&id("one"), None).unwrap(), 3);
}

#[test]
fn a_missing_chain_is_damage_and_no_base_layer() {
    let fixture = docker_home();
    fs::remove_file(fixture.home().join("two/layerchain.json")).unwrap();
    assert!(matches!(fixture.store.get(&id("two"), ""), Err(Error::Damaged { .. })));
    assert!(matches!(fixture.store.exists(&id("two")).unwrap(), Presence::Damaged { .. }));
}

#[test]
fn a_chain_that_cannot_be_read_is_an_error_that_names_it() {
    for text in ["{", r#""one""#, "[1]"] {
        let fixture = docker_home();
        write_chain(&fixture.home().join("two"), text);
        for result in [
            fixture.store.get(&id("two"), "").map(drop),
            fixture.store.diff(&id("two"), None).map(drop),
            fixture.store.changes(&id("two")).map(drop),
            fixture.store.create(&id("new"), Some(&id("two"))),
        ] {
            let message = result.unwrap_err().to_string();
            assert!(message.contains("two") && message.contains("layerchain.json"), "{text}: {message}");
        }
        assert!(fixture.host.calls().is_empty());
    }
}

#[test]
fn a_parent_that_is_not_in_the_home_is_damage() {
    let fixture = docker_home();
    write_chain(&fixture.home().join("two"), r#"["C:\\elsewhere\\three"]"#);
    match fixture.store.exists(&id("two")).unwrap() {
        Presence::Damaged { reason } => assert!(reason.contains("three"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_alternate_id_is_followed() {
    let fixture = docker_home();
    fs::create_dir(fixture.home().join("alias")).unwrap();
    fs::write(fixture.home().join("alias/layerID"), "two").unwrap();
    fixture.store.get(&id("alias"), "").unwrap();
    assert!(fixture.host.calls().contains(&"ActivateLayer(1, ROOT/home, two)".to_owned()));
    fixture.store.put(&id("alias")).unwrap();
}

#[test]
fn an_alternate_id_that_cannot_be_read_is_an_error_that_names_it() {
    let fixture = docker_home();
    fs::create_dir_all(fixture.home().join("alias/layerID")).unwrap();
    for result in [
        fixture.store.get(&id("alias"), "").map(drop),
        fixture.store.put(&id("alias")),
        fixture.store.remove(&id("alias")),
        fixture.store.diff(&id("alias"), None).map(drop),
        fixture.store.diff_getter(&id("alias")).map(drop),
        fixture.store.create(&id("new"), Some(&id("alias"))),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains("alias") && message.contains("layerID"), "{message}");
    }
    assert!(fixture.store.exists(&id("alias")).is_err());
    assert!(fixture.host.calls().is_empty());
}

//! The store's records of layers: damage misleads nobody, and the status is visible.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

use windowsfilter::driver::Presence;
use windowsfilter::{Driver, Error, LayerStore, StorageOptions};

use crate::SMALL;
use crate::support::{TestLayer, TestStore, id};

const MIB: u64 = 1 << 20;

fn with_child() -> TestStore {
    let store = TestStore::with_base();
    let tar = TestLayer::new().dir("Files").file("Files/x", b"x").tar();
    store.apply_diff(&id("child"), Some(&id("base")), &mut &tar[..]).unwrap();
    store
}

/// The original takes a missing chain for "no parents", and trusts any other.
#[test]
fn no_damage_to_a_chain_gives_a_layer_other_parents_or_none() {
    let store = with_child();
    let path = store.layer_dir("child").join("layerchain.json");
    let good = fs::read(&path).unwrap();
    for bad in [
        &b""[..],
        b"null",
        b"[]",
        b"[\"other\"]",
        b"[\"child\"]",
        b"[\"base\",\"base\"]",
        b"[\"../base\"]",
        b"{}",
    ] {
        fs::write(&path, bad).unwrap();
        let shown = String::from_utf8_lossy(bad);
        assert!(matches!(store.exists(&id("child")).unwrap(), Presence::Damaged { .. }), "{shown}");
        let error = store.get(&id("child"), "").unwrap_err();
        assert!(error.to_string().contains("layer child: layerchain.json"), "{shown}: {error}");
        // It is unknown whether the base has children, so it stays.
        assert!(matches!(store.remove(&id("base")), Err(Error::MaybeNeeded { .. })), "{shown}");
    }
    fs::write(&path, good).unwrap();
    assert_eq!(store.chain_ids(&id("child")).unwrap(), [id("base")]);
}

#[test]
fn a_record_of_another_version_or_checksum_is_damaged_and_says_so() {
    let store = TestStore::with_base();
    let path = store.layer_dir("base").join("layer.json");
    let good = fs::read_to_string(&path).unwrap();
    for (from, to, words) in [
        ("\"version\": 1", "\"version\": 2", "its version is 2, this program reads 1"),
        ("\"size\": ", "\"size\": 9", "checksum"),
        ("{", "", "cannot be read"),
    ] {
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        match store.exists(&id("base")).unwrap() {
            Presence::Damaged { reason } => assert!(reason.contains(words), "{reason}"),
            other => panic!("{words}: {other:?}"),
        }
    }
}

/// The original leaves out a parent if looking for its `Files` fails, for any reason.
#[test]
fn a_damaged_parent_is_an_error_and_not_left_out_of_the_chain() {
    let store = with_child();
    fs::write(store.layer_dir("child").join("layer.json"), "{}").unwrap();
    let tar = TestLayer::new().dir("Files").tar();
    let attempts = [
        store.create_read_write(&id("x"), Some(&id("child")), SMALL, ""),
        store.create(&id("x"), Some(&id("child"))),
        store.apply_diff(&id("x"), Some(&id("child")), &mut &tar[..]).map(drop),
    ];
    for attempt in attempts {
        assert!(matches!(attempt, Err(Error::Damaged { .. })), "{attempt:?}");
    }
    assert_eq!(fs::read_dir(store.root().join("layers")).unwrap().count(), 2);
}

/// The original reads `layerID`, writes `layerId`, and follows any path in it.
#[test]
fn an_alternate_id_leads_to_its_layer_and_nowhere_else() {
    let store = TestStore::with_base();
    let alias = store.layer_dir("alias");
    fs::create_dir(&alias).unwrap();
    fs::write(alias.join("layerID"), "base\r\n").unwrap();
    assert!(store.get_metadata(&id("alias")).unwrap()["dir"].ends_with("layers/base"));
    let view = store.get(&id("alias"), "").unwrap();
    assert!(view.join("readme.txt").exists());
    store.put(&id("base")).unwrap();
    for bad in ["../base", "", "a/b", "\u{fffd}"] {
        fs::write(alias.join("layerID"), bad).unwrap();
        let error = store.get(&id("alias"), "").unwrap_err();
        assert!(error.to_string().starts_with("layer alias: layerID: "), "{bad:?}: {error}");
    }
    fs::remove_dir_all(alias).unwrap();
}

#[test]
fn the_size_of_a_call_beats_the_stores_and_none_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = StorageOptions::parse(["size=80MB"]).unwrap();
    let store = LayerStore::open(dir.path(), options).unwrap();
    let sizes = [
        ("one", &[][..], 80 * MIB),
        ("two", &["size=64MB"][..], 64 * MIB),
        ("three", &["size=0"][..], 80 * MIB),
    ];
    for (name, options, expected) in sizes {
        let options = StorageOptions::parse(options.iter().copied()).unwrap();
        store.create_read_write(&id(name), None, options, "").unwrap();
        assert_eq!(store.record(&id(name)).unwrap().sandbox_size, Some(expected), "{name}");
    }
}

#[test]
fn a_sandbox_costs_the_same_however_many_there_are() {
    let store = TestStore::with_base();
    let mut costs = Vec::new();
    for n in 0..20 {
        let before: u64 = store.fact("Allocated bytes").parse().unwrap();
        let name = format!("box{n}");
        store.create_read_write(&id(&name), Some(&id("base")), StorageOptions::default(), "").unwrap();
        costs.push(store.fact("Allocated bytes").parse::<u64>().unwrap() - before);
    }
    let (least, most) = (*costs.iter().min().unwrap(), *costs.iter().max().unwrap());
    assert!(most - least < MIB && most < 16 * MIB, "{costs:?}");
    assert_eq!(store.fact("Sandboxes"), "20");
}

#[test]
fn the_status_says_how_the_store_stands() {
    let store = with_child();
    store.create(&id("empty"), None).unwrap();
    store.create_read_write(&id("box"), Some(&id("child")), SMALL, "").unwrap();
    store.get(&id("child"), "").unwrap();
    for left in ["x-removing", "x.1-removing", "y-importing"] {
        fs::create_dir(store.layer_dir(left)).unwrap();
        fs::write(store.layer_dir(left).join("layer.tar"), [1; 4096]).unwrap();
    }
    fs::create_dir(store.layer_dir("broken")).unwrap();
    let mut status: serde_json::Map<String, serde_json::Value> =
        store.status().unwrap().into_iter().map(|(name, value)| (name, value.into())).collect();
    assert_eq!(status.remove("Root").unwrap(), store.root().to_str().unwrap());
    // These depend on the file system the test runs on.
    for place in ["Backing filesystem", "Allocated bytes", "Pending bytes"] {
        assert!(!status.remove(place).unwrap().as_str().unwrap().is_empty(), "{place}");
    }
    let tars =
        ["base", "child"].map(|layer| fs::metadata(store.layer_dir(layer).join("layer.tar")).unwrap().len());
    let golden = serde_json::json!({
        "Damaged": "1",
        "Empty layers": "1",
        "Engine": "portable",
        "Layer bytes": tars.iter().sum::<u64>().to_string(),
        "Layers": "2",
        "Mounted": "1",
        "Pending removals": "2",
        "Sandboxes": "1",
        "Unfinished imports": "1",
    });
    assert_eq!(serde_json::Value::from(status), golden);
    store.put(&id("child")).unwrap();
    store.cleanup().unwrap();
    assert_eq!((store.fact("Pending removals"), store.fact("Pending bytes")), ("0".into(), "0".into()));
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_mount_label_is_said_to_have_no_effect() {
    let store = TestStore::with_base();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        store.create_read_write(&id("quiet"), Some(&id("base")), SMALL, "").unwrap();
        assert!(log.0.lock().unwrap().is_empty());
        store.create_read_write(&id("box"), Some(&id("base")), SMALL, "system_u:object_r:x").unwrap();
        store.get(&id("box"), "system_u:object_r:y").unwrap();
        store.put(&id("box")).unwrap();
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for label in ["object_r:x", "object_r:y"] {
        let line = text.lines().find(|line| line.contains(label)).unwrap();
        assert!(line.contains("of box is ignored"), "{line}");
    }
}

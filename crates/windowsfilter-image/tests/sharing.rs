//! Layers are shared, and removed with the last image that needs them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;

use common::{Fixture, Layout, config, layer, sample};
use windowsfilter::{Driver, ErrorKind, LayerId};

fn import(fixture: &Fixture, name: &str, tars: &[Vec<u8>], leave_out: usize) {
    let mut layout = Layout::default();
    layout.image(&config("windows", "1", tars), tars, |_| {});
    for tar in &tars[..leave_out] {
        layout.files.remove(&format!("blobs/sha256/{}", windowsfilter::Digest::of(tar).hex()));
    }
    let path = fixture.path("image.tar");
    fs::write(&path, layout.archive()).unwrap();
    fixture.import(&path, Some(name)).unwrap();
}

#[test]
fn a_layer_that_is_there_is_not_read_again() {
    let fixture = Fixture::new();
    let (_, mut tars) = sample();
    import(&fixture, "one", &tars, 0);
    tars.push(layer(&[("new", b"x")]));
    import(&fixture, "two", &tars, 2);
    assert_eq!(fixture.store.layers().unwrap().len(), 3);
}

#[test]
fn removing_an_image_keeps_what_others_need() {
    let fixture = Fixture::new();
    let (_, tars) = sample();
    import(&fixture, "one", &tars[..1], 0);
    import(&fixture, "two", &tars, 0);
    fixture.images().tag("two", &"three:x".parse().unwrap()).unwrap();
    assert_eq!(fixture.images().remove("two").unwrap().layers, []);
    assert_eq!(fixture.images().remove("three:x").unwrap().layers.len(), 1);
    let child = LayerId::new("child").unwrap();
    let base = fixture.images().resolve("one").unwrap();
    fixture.store.apply_diff(&child, Some(&base), &mut &*layer(&[("c", b"x")])).unwrap();
    assert_eq!(fixture.images().remove("one").unwrap().layers, []);
    assert_eq!(fixture.images().remove("one").unwrap_err().kind(), ErrorKind::NotFound);
    let pruned = fixture.images().prune(true).unwrap();
    assert_eq!(pruned.layers, [child, base]);
    assert_eq!(fixture.store.layers().unwrap().len(), 2);
    assert_eq!(fixture.images().prune(false).unwrap(), pruned);
    fixture.assert_empty();
}

#[test]
fn two_imports_at_once_share_and_do_not_wait_for_each_other_forever() {
    let fixture = Fixture::new();
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |_| {});
    layout.write(&fixture.path("oci"));
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let fixture = &fixture;
            scope.spawn(move || fixture.import(&fixture.path("oci"), Some(name)).unwrap());
        }
    });
    assert_eq!(fixture.store.layers().unwrap().len(), 2);
    assert_eq!(fixture.images().list().unwrap().len(), 4);
}

#[test]
fn damage_to_a_document_is_found() {
    let fixture = Fixture::new();
    import(&fixture, "one", &sample().1, 0);
    let id = fixture.images().inspect("one").unwrap().image_id;
    fs::write(fixture.store.files().images_dir().join("blobs/sha256").join(id.hex()), "{}").unwrap();
    let findings = fixture.images().fsck(false).unwrap();
    assert!(findings.len() == 1 && findings[0].problem.contains("expected sha256:"), "{findings:?}");
    assert_eq!(fixture.images().inspect("one").unwrap_err().kind(), ErrorKind::Verify);
}

#[cfg(unix)]
#[test]
fn nobody_changes_images_while_fsck_looks_at_them() {
    use std::fs::{File, OpenOptions, TryLockError};

    let fixture = Fixture::new();
    let images = fixture.store.files().images_dir();
    drop(fixture.images());
    // Reading this record blocks until a writer opens the pipe.
    let record = images.join("refs/pipe.json");
    assert!(std::process::Command::new("mkfifo").arg(&record).status().unwrap().success());
    std::thread::scope(|scope| {
        let fsck = scope.spawn(|| fixture.images().fsck(false));
        let writer = OpenOptions::new().write(true).open(&record).unwrap();
        let change = File::open(images.join("lock")).unwrap().try_lock();
        drop(writer);
        assert!(matches!(change, Err(TryLockError::WouldBlock)), "{change:?}");
        assert_eq!(fsck.join().unwrap().unwrap().len(), 1);
    });
}

fn stage(fixture: &Fixture, name: &str, tar: &[u8]) -> windowsfilter::StagedLayer {
    let request = windowsfilter::import::ImportRequest {
        blob: Box::new(std::io::Cursor::new(tar.to_vec())),
        expect: windowsfilter::import::Expect::default(),
        progress: &(),
        label: name.to_owned(),
    };
    fixture.store.stage(&LayerId::new(name).unwrap(), request).unwrap()
}

#[test]
fn a_layer_that_another_program_brings_is_the_images_own_and_stays_until_neither_needs_it() {
    let fixture = Fixture::new();
    let (_, tars) = sample();
    import(&fixture, "one", &tars, 0);
    let layers = fixture.store.layers().unwrap();
    let images = fixture.images();
    let base = images.publish_shared(stage(&fixture, "a", &tars[0]), None, "other").unwrap();
    let top = images.publish_shared(stage(&fixture, "b", &tars[1]), Some(&base), "other").unwrap();
    assert_eq!(fixture.store.layers().unwrap(), layers);
    assert_eq!(images.remove("one").unwrap().layers, []);
    assert!(images.prune(false).unwrap().layers.is_empty());
    // A layer stays as long as it has children.
    assert_eq!(images.disown_shared(&base, "other").unwrap_err().kind(), ErrorKind::InUse);
    assert!(images.disown_shared(&top, "other").unwrap());
    assert!(images.disown_shared(&base, "other").unwrap());
    assert!(images.disown_shared(&base, "other").unwrap());
    fixture.store.cleanup().unwrap();
    assert!(fixture.store.layers().unwrap().is_empty());
}

#[test]
fn a_layer_of_an_image_outlives_the_program_that_shared_it() {
    let fixture = Fixture::new();
    let (_, tars) = sample();
    let images = fixture.images();
    let base = images.publish_shared(stage(&fixture, "a", &tars[0]), None, "other").unwrap();
    import(&fixture, "one", &tars, 1);
    assert!(!images.disown_shared(&base, "other").unwrap());
    assert_eq!(fixture.store.layers().unwrap().len(), 2);
    images.inspect("one").unwrap();
}

#[test]
fn only_the_layer_that_stands_on_the_given_parent_is_owned() {
    let fixture = Fixture::new();
    let (_, tars) = sample();
    import(&fixture, "one", &tars, 0);
    let images = fixture.images();
    let record = images.get(&"one".parse().unwrap()).unwrap();
    let [base, top] = &record.layers[..] else { panic!("two layers") };
    assert!(images.own_shared(top, Some(base), "other").unwrap());
    assert!(!images.own_shared(top, None, "other").unwrap());
    assert!(!images.own_shared(base, Some(top), "other").unwrap());
    let unknown = LayerId::new("f".repeat(64)).unwrap();
    assert!(!images.own_shared(&unknown, None, "other").unwrap());
    assert_eq!(fixture.store.owners(top).unwrap().len(), 1);
    assert!(fixture.store.owners(base).unwrap().is_empty());
}

#[test]
fn images_are_listed_while_others_come_and_go() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        let threads = ["a", "b", "c"].map(|name| {
            let tars: Vec<_> = (0..10).map(|n| layer(&[(&format!("{name}{n}"), b"x")])).collect();
            let mut layout = Layout::default();
            layout.image(&config("windows", "1", &tars), &tars, |_| {});
            let (fixture, path) = (&fixture, fixture.path(name));
            layout.write(&path);
            scope.spawn(move || {
                for _ in 0..20 {
                    fixture.import(&path, Some(name)).unwrap();
                    fixture.images().remove(name).unwrap();
                }
            })
        });
        while threads.iter().any(|thread| !thread.is_finished()) {
            fixture.images().list().unwrap();
        }
    });
    assert_eq!(fixture.images().list().unwrap().len(), 0);
}

#[test]
fn a_name_that_an_earlier_version_recorded_in_its_spelling_is_found_replaced_and_removed() {
    let fixture = Fixture::new();
    let (_, tars) = sample();
    let images = fixture.images();
    for (given, file, other) in [
        ("docker.io/two:1", "docker.io%2Ftwo%3A1.json", "two:1"),
        ("a..b:1", "docker.io%2Fa..b%3A1.json", "a..b:1"),
    ] {
        import(&fixture, "x:1", &tars, 0);
        let record = images.get(&"x:1".parse().unwrap()).unwrap();
        let old = windowsfilter_image::ImageRecord { reference: given.into(), ..record };
        let path = fixture.store.files().images_dir().join("refs").join(file);
        fs::write(&path, windowsfilter::support::sealed::seal(2, &old).unwrap()).unwrap();
        images.remove("x:1").unwrap();
        assert_eq!(images.lookup(other).unwrap(), old);
        assert_eq!(images.list().unwrap().len(), 1);
        if given != other {
            import(&fixture, other, &tars, 0);
            assert!(!path.exists());
        }
        images.remove(other).unwrap();
        assert_eq!(images.list().unwrap().len(), 0);
    }
}

/// CPU time of this thread, independent of the machine's load.
#[cfg(target_os = "linux")]
fn worked() -> std::time::Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    std::time::Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn an_image_of_many_layers_goes_quickly_and_nothing_of_it_stays() {
    let fixture = Fixture::new();
    let tars: Vec<_> = (0..300).map(|n| layer(&[("f", format!("{n}").as_bytes())])).collect();
    import(&fixture, "many", &tars, 0);
    let before = worked();
    let removed = fixture.images().remove("many").unwrap();
    // It was 10 s when each removal read all chains.
    let taken = worked() - before;
    assert!(taken < std::time::Duration::from_secs(4), "{taken:?}");
    assert_eq!(removed.layers.len(), 300);
    fixture.assert_empty();

    // The same with `prune`, and a sandbox that needs the lower half.
    import(&fixture, "many", &tars, 0);
    let layers = fixture.images().inspect("many").unwrap().layers;
    let middle = layers[149].id.clone();
    let child = LayerId::new("child").unwrap();
    fixture.store.create(&child, Some(&middle)).unwrap();
    let removed = fixture.images().remove("many").unwrap().layers;
    assert_eq!(removed.len(), 150);
    assert_eq!(fixture.store.layers().unwrap().len(), 151);
    fixture.store.remove(&child).unwrap();
    assert_eq!(fixture.images().prune(false).unwrap().layers.len(), 150);
    fixture.assert_empty();
}

//! Results of `docker_store` for intact homes, for homes with all of Docker's leftovers, and for
//! inconsistent ones.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

#[cfg(unix)]
mod hostile;
mod plan;

use std::fs;
use std::path::Path;

use sample_images::docker_store::{Home, chain, id};
use windowsfilter_image::Error;
use windowsfilter_image::docker_store::{DockerStore, Kind, Layer, Plan, State, read};

fn look(home: &Home) -> DockerStore {
    read(&home.root, &()).unwrap()
}

fn dir(word: &str) -> String {
    id(&format!("dir {word}"))
}

fn find<'a>(store: &'a DockerStore, name: &str) -> &'a Layer {
    store.layers.iter().find(|layer| layer.id == name).unwrap_or_else(|| panic!("no {name} in {store:#?}"))
}

/// Bytes of a layer without those of its `layerchain.json`.
fn content(home: &Home, store: &DockerStore, name: &str) -> u64 {
    let chain = fs::symlink_metadata(home.dir(name).join("layerchain.json"));
    find(store, name).size - chain.map_or(0, |chain| if chain.is_file() { chain.len() } else { 0 })
}

/// State and reason.
fn verdict<'a>(store: &'a DockerStore, name: &str) -> (State, &'a str) {
    let layer = find(store, name);
    (layer.state, &layer.why)
}

/// An image `app:1` of the layers `base` and `app`.
fn with_image(root: &Path) -> Home {
    let mut home = Home::new(root).unwrap();
    home.layer(&dir("base"), &[], 1000).unwrap();
    home.layer(&dir("app"), &[&dir("base")], 100).unwrap();
    home.image(Some("app:1"), &["base", "app"]).unwrap();
    home
}

#[test]
fn layers_of_images_and_containers_are_in_use_and_say_whose_they_are() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    home.sandbox(&dir("box"), &[&dir("app"), &dir("base")], 10).unwrap();
    home.mount(&id("container"), &dir("box"), &chain(&["base", "app"])[1]).unwrap();
    let store = look(&home);
    assert!(store.has_records && store.problems.is_empty() && store.lost.is_empty(), "{store:#?}");
    let base = find(&store, &dir("base"));
    assert_eq!(
        (base.kind, base.state, content(&home, &store, &dir("base"))),
        (Kind::Base, State::InUse, 1000)
    );
    assert_eq!((&base.images[..], &base.why[..]), (&["app:1".to_owned()][..], "image app:1 has it"));
    let app = find(&store, &dir("app"));
    assert_eq!((app.kind, app.state, &app.parents[..]), (Kind::Layer, State::InUse, &[dir("base")][..]));
    assert_eq!(app.chain_ids, [format!("sha256:{}", chain(&["base", "app"])[1])]);
    let sandbox = find(&store, &dir("box"));
    assert_eq!((sandbox.kind, sandbox.state), (Kind::Sandbox, State::InUse));
    assert_eq!(sandbox.containers, [id("container")]);
    assert!(sandbox.why.starts_with("container ") && sandbox.why.ends_with(" has it"), "{}", sandbox.why);
    assert_eq!(store.images[0].layers, [Some(dir("base")), Some(dir("app"))]);
    assert_eq!((store.summary.in_use.layers, store.summary.reclaimable), (3, 0));
}

#[test]
fn an_image_without_a_name_keeps_its_layers_and_a_container_those_of_a_removed_image() {
    let root = tempfile::tempdir().unwrap();
    let mut home = Home::new(root.path()).unwrap();
    home.layer(&dir("a"), &[], 1).unwrap();
    let image = home.image(None, &["a"]).unwrap();
    home.layer(&dir("b"), &[], 1).unwrap();
    home.record(&id("b"), &dir("b"), None).unwrap();
    home.mount(&id("container"), &dir("box"), &id("b")).unwrap();
    let store = look(&home);
    assert_eq!(verdict(&store, &dir("a")).0, State::InUse);
    assert_eq!(find(&store, &dir("a")).images, [format!("sha256:{image}")]);
    assert_eq!(verdict(&store, &dir("b")), (State::InUse, "a container stands on it"));
    assert!(store.lost[0].why.contains("cannot be started"), "{:?}", store.lost);
}

#[test]
fn what_nothing_refers_to_is_an_orphan_and_so_is_what_only_orphans_stand_on() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    home.layer(&dir("build"), &[&dir("base")], 30).unwrap();
    home.layer(&dir("top"), &[&dir("build"), &dir("base")], 5).unwrap();
    home.layer(&dir("old"), &[], 7).unwrap();
    home.record(&id("old"), &dir("old"), None).unwrap();
    let store = look(&home);
    let nothing = "no image, no container and no other layer refers to it";
    assert_eq!(verdict(&store, &dir("top")), (State::Orphan, nothing));
    let (state, why) = verdict(&store, &dir("build"));
    assert!(state == State::Orphan && why.starts_with("only ") && why.contains(&dir("top")[..12]), "{why}");
    let (state, why) = verdict(&store, &dir("old"));
    assert!(state == State::Orphan && why.contains("layerdb has it"), "{why}");
    let bytes: u64 = ["build", "top", "old"].iter().map(|word| content(&home, &store, &dir(word))).sum();
    assert_eq!((store.summary.orphan.layers, bytes), (3, 42));
    let sizes: u64 = ["build", "top", "old"].iter().map(|word| find(&store, &dir(word)).size).sum();
    assert_eq!(store.summary.reclaimable, sizes);
}

#[test]
fn what_was_removed_by_half_is_told_from_what_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    home.layer(&format!("{}-removing", dir("x")), &[&dir("base")], 11).unwrap();
    home.layer(&dir("no chain"), &[], 13).unwrap();
    fs::remove_file(home.dir(&dir("no chain")).join("layerchain.json")).unwrap();
    home.layer(&dir("marked"), &[], 17).unwrap();
    home.record(&format!("{}-123-removing", id("marked")), &dir("marked"), None).unwrap();
    let store = look(&home);
    for (name, words) in [
        (format!("{}-removing", dir("x")), "Docker renamed it"),
        (dir("no chain"), "no layerchain.json"),
        (dir("marked"), "Docker marked its record"),
    ] {
        let (state, why) = verdict(&store, &name);
        assert!(state == State::HalfRemoved && why.contains(words), "{name}: {state:?} {why}");
    }
    assert_eq!(find(&store, &format!("{}-removing", dir("x"))).kind, Kind::Removing);
    assert_eq!((store.summary.half_removed.layers, store.summary.orphan.layers), (3, 0));
    assert_eq!(store.summary.reclaimable, store.summary.half_removed.bytes);
}

#[test]
fn records_without_a_directory_say_which_image_is_broken() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    fs::rename(home.dir(&dir("app")), home.dir(&format!("{}-removing", dir("app")))).unwrap();
    home.record(&id("lost"), &dir("lost"), None).unwrap();
    let store = look(&home);
    assert_eq!(store.images[0].layers, [Some(dir("base")), None]);
    let why: Vec<&str> = store.lost.iter().map(|lost| lost.why.as_str()).collect();
    assert_eq!(why.len(), 2);
    assert!(why.iter().any(|why| why.contains("-removing is left; image app:1 cannot be used")), "{why:?}");
    assert!(why.iter().any(|why| why.contains("is missing; no image needs it")), "{why:?}");
}

#[test]
fn broken_chains_are_said_and_change_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    home.parents(&dir("app"), &[&dir("nowhere"), &dir("nowhere too")]).unwrap();
    let store = look(&home);
    let app = find(&store, &dir("app"));
    assert_eq!(app.problems, [format!("its parent {} is missing", dir("nowhere"))]);
    assert_eq!(app.state, State::InUse);
    fs::remove_file(home.dir(&dir("app")).join("layerchain.json")).unwrap();
    let store = look(&home);
    assert!(find(&store, &dir("app")).problems[0].contains("is missing"));
    assert_eq!(verdict(&store, &dir("app")).0, State::InUse);
}

#[test]
fn parents_are_found_in_any_case_and_by_whatever_path_they_had() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    let text = format!(r#"["D:\\Moved\\WindowsFilter\\{}"]"#, dir("base").to_uppercase());
    fs::write(home.dir(&dir("app")).join("layerchain.json"), text).unwrap();
    assert_eq!(find(&look(&home), &dir("app")).parents, [dir("base")]);
}

#[test]
fn an_init_layer_is_in_use_by_its_container() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    let init = format!("{}-init", dir("box"));
    fs::create_dir(home.dir(&init)).unwrap();
    home.parents(&init, &[&dir("app"), &dir("base")]).unwrap();
    home.sandbox(&dir("box"), &[&dir("app"), &dir("base")], 10).unwrap();
    home.mount(&id("container"), &dir("box"), &chain(&["base", "app"])[1]).unwrap();
    let file = home.image_dir().join("layerdb/mounts").join(id("container")).join("init-id");
    fs::write(file, &init).unwrap();
    let store = look(&home);
    assert_eq!((find(&store, &init).kind, find(&store, &init).state), (Kind::Init, State::InUse));
    assert_eq!(store.problems, []);
}

#[test]
fn the_directory_of_layers_alone_is_enough_for_all_but_who_needs_them() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    home.layer(&format!("{}-removing", dir("x")), &[], 11).unwrap();
    let store = read(&home.root.join("windowsfilter"), &()).unwrap();
    assert!(!store.has_records);
    let (state, why) = verdict(&store, &dir("app"));
    assert!(state == State::Unknown && why.contains("no records"), "{why}");
    assert_eq!(verdict(&store, &format!("{}-removing", dir("x"))).0, State::HalfRemoved);
    assert_eq!(store.summary.reclaimable, 11 + "null".len() as u64);
}

#[test]
fn a_record_that_cannot_be_read_makes_nobody_an_orphan() {
    let root = tempfile::tempdir().unwrap();
    let mut home = with_image(root.path());
    home.layer(&dir("other"), &[], 5).unwrap();
    let image = home.image(Some("other:1"), &["other"]).unwrap();
    home.layer(&dir("stray"), &[], 3).unwrap();
    let config = home.image_dir().join("imagedb/content/sha256").join(image);
    fs::write(&config, "{").unwrap();
    let store = look(&home);
    assert!(store.problems[0].problem.contains("not what its name says"), "{:?}", store.problems);
    assert_eq!(verdict(&store, &dir("other")).0, State::Unknown);
    // layerdb does not have it, so no image can use it.
    assert_eq!(verdict(&store, &dir("stray")).0, State::Orphan);
    fs::write(home.image_dir().join("layerdb/mounts").join("x"), "").unwrap();
    let store = look(&home);
    assert_eq!(verdict(&store, &dir("stray")).0, State::Unknown);
    assert_eq!(store.summary.reclaimable, 0);
}

#[test]
fn what_is_no_home_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let error = read(root.path(), &()).unwrap_err();
    assert!(matches!(error, Error::NotADockerStore { .. }), "{error}");
    let error = read(&root.path().join("none"), &()).unwrap_err();
    assert_eq!(error.kind(), windowsfilter::ErrorKind::NotFound);
    let home = Home::sample(&root.path().join("docker")).unwrap();
    let summary = look(&home).summary;
    assert_eq!((summary.in_use.layers, summary.orphan.layers, summary.half_removed.layers), (3, 3, 2));
    assert_eq!(summary.reclaimable / 100_000, 9);
}

/// Writes the config of an image whose only layer is the diff `base`, and names it `app:1`.
fn with_config(home: &Home, config: &str) {
    let image = windowsfilter::Digest::of(config.as_bytes()).hex();
    fs::write(home.image_dir().join("imagedb/content/sha256").join(&image), config).unwrap();
    let names =
        format!(r#"{{"REPOSITORIES":{{"app":{{"app:1":"sha256:{image}","app:null":null}},"gone":null}}}}"#);
    fs::write(home.image_dir().join("repositories.json"), names).unwrap();
}

#[test]
fn records_are_read_as_docker_reads_them() {
    let base = format!("[\"sha256:{}\"]", id("base"));
    for config in [
        format!(
            r#"{{"os":"windows","rootfS":{{"type":"layers","diff_ids":{base}}},"config":{{"cmd":null}}}}"#
        ),
        format!(r#"{{"history":7,"ROOTFS":{{"Diff_IDs":{base},"x":1e999}}}}"#),
        format!(r#"{{"rootfs":null,"rootfs":{{"diff_ids":{base}}},"x":"\ud800"}}"#),
    ] {
        let root = tempfile::tempdir().unwrap();
        let home = Home::new(root.path()).unwrap();
        home.layer(&dir("base"), &[], 1000).unwrap();
        home.record(&chain(&["base"])[0], &dir("base"), None).unwrap();
        home.layer(&dir("orphan"), &[], 10).unwrap();
        home.record(&id("orphan"), &dir("orphan"), None).unwrap();
        with_config(&home, &config);
        let store = look(&home);
        assert_eq!(verdict(&store, &dir("base")), (State::InUse, "image app:1 has it"), "{config}");
        assert_eq!(verdict(&store, &dir("orphan")).0, State::Orphan, "{config}");
    }
}

#[test]
fn a_config_that_says_no_layers_at_all_leaves_its_layers_in_doubt() {
    let root = tempfile::tempdir().unwrap();
    let home = Home::new(root.path()).unwrap();
    home.layer(&dir("base"), &[], 1000).unwrap();
    home.record(&chain(&["base"])[0], &dir("base"), None).unwrap();
    with_config(&home, r#"{"os":"windows","rootfs":null}"#);
    let store = look(&home);
    assert_eq!(verdict(&store, &dir("base")).0, State::Unknown);
    assert!(
        store.problems.iter().any(|p| p.problem.contains("missing field `rootfs`")),
        "{:?}",
        store.problems
    );
}

fn snapshot(root: &Path, id: &str, files: &[(&str, usize)]) {
    for (name, bytes) in files {
        let path = root.join("snapshots").join(id).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![1; *bytes]).unwrap();
    }
}

/// As in containerd's `plugins/snapshots/windows`.
fn snapshotter(root: &Path) {
    snapshot(root, "1", &[("Files/data", 500), ("blank.vhdx", 10)]);
    snapshot(root, "2", &[("Files/data", 50)]);
    snapshot(root, "10", &[("sandbox.vhdx", 5)]);
    snapshot(root, "rm-7", &[("sandbox.vhdx", 7)]);
    fs::write(root.join("metadata.db"), b"bolt").unwrap();
}

#[test]
fn a_root_of_containerds_is_listed_wherever_it_is_asked_for() {
    const NAME: &str = "io.containerd.snapshotter.v1.windows";
    for above in ["", "root", "containerd/daemon", "daemon"] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(above).join(NAME);
        snapshotter(&path);
        for asked in [root.path(), &path] {
            let store = read(asked, &()).unwrap();
            assert!(store.layers.is_empty() && store.problems.is_empty(), "{store:#?}");
            let [snapshotter] = &store.containerd[..] else { panic!("{above}: {store:#?}") };
            assert_eq!((&snapshotter.name[..], &snapshotter.path), ("windows", &path));
            let told = snapshotter.snapshots.iter().map(|s| (&s.id[..], s.kind, s.state, s.size));
            assert_eq!(
                told.collect::<Vec<_>>(),
                [
                    ("1", Kind::Base, State::Unknown, 510),
                    ("2", Kind::Layer, State::Unknown, 50),
                    ("10", Kind::Sandbox, State::Unknown, 5),
                    ("rm-7", Kind::Removing, State::HalfRemoved, 7),
                ]
            );
            assert_eq!((store.summary.unknown.layers, store.summary.half_removed.bytes), (3, 7));
            assert!(matches!(Plan::new(&store), Err(Error::NoPlan { .. })));
        }
    }
}

#[test]
fn a_home_whose_images_are_containerds_shows_both() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    snapshotter(&root.path().join("containerd/daemon/io.containerd.snapshotter.v1.windows"));
    let store = look(&home);
    assert_eq!(verdict(&store, &dir("base")).0, State::InUse);
    assert_eq!((store.containerd.len(), &store.problems[..]), (1, &[][..]));
    assert_eq!(Plan::new(&store).unwrap().steps.len(), 0, "containerd's are its own affair");
}

//! An untrusted Docker home: whatever its records contain, reading it terminates, lists each layer once,
//! and changes nothing.
#![no_main]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use windowsfilter_fuzz::files;
use windowsfilter_image::docker_store::{self, DockerStore, Layer, Plan, State};

fuzz_target!(|input: &[u8]| {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
    let root = dir.path().join("docker");
    fs::create_dir(&root).expect("a place in memory");
    files::read(input).iter().for_each(|file| file.make(&root));
    let before = tree(&root);
    if let Ok(store) = docker_store::read(&root, &()) {
        check(&store);
    }
    assert_eq!(tree(&root), before);
});

/// Checks that hold for every home.
fn check(store: &DockerStore) {
    let summary = &store.summary;
    let sums = [summary.in_use, summary.orphan, summary.half_removed, summary.unknown];
    let snapshots = store.containerd.iter().flat_map(|snapshotter| &snapshotter.snapshots);
    let all: Vec<&Layer> = store.layers.iter().chain(snapshots).collect();
    assert_eq!(sums.iter().map(|sum| sum.layers).sum::<u64>(), all.len() as u64);
    let bytes = all.iter().map(|layer| layer.size).sum::<u64>();
    assert_eq!(sums.iter().map(|sum| sum.bytes).sum::<u64>(), bytes);
    check_plan(store);
    let ids: HashSet<&str> = store.layers.iter().map(|layer| &layer.id[..]).collect();
    assert_eq!(ids.len(), store.layers.len(), "a layer is told twice");
    let labels: HashSet<String> = store.images.iter().map(|image| image.label()).collect();
    for layer in &store.layers {
        assert!(layer.parents.iter().all(|parent| ids.contains(&parent[..])), "{layer:?}");
        assert!(layer.images.iter().all(|image| labels.contains(image)), "{layer:?}");
    }
    for image in &store.images {
        assert!(image.layers.iter().flatten().all(|id| ids.contains(&id[..])), "{image:?}");
    }
}

/// A plan removes unneeded layers, each before its parents, and its script has names of layers only in
/// quotes and comments.
fn check_plan(store: &DockerStore) {
    let Ok(plan) = Plan::new(store) else { return };
    let mut gone = HashSet::new();
    for layer in &plan.steps {
        assert!(matches!(layer.state, State::Orphan | State::HalfRemoved), "{layer:?}");
        assert!(layer.parents.iter().all(|parent| !gone.contains(parent)), "{layer:?}");
        assert!(gone.insert(layer.id.clone()), "{layer:?}");
    }
    let script = plan.script();
    assert!(script.is_ascii());
    let own = script.split("$Plan = @(\r\n").nth(1).expect("every script has a plan");
    for line in own.split("\r\n").take_while(|line| *line != ")") {
        assert!(line.starts_with("    # ") || line.starts_with("    @{ Name = "), "{line:?}");
    }
}

/// Names and lengths of everything in `dir`, without following links.
fn tree(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("our own directory") {
            let entry = entry.expect("our own directory");
            let metadata = entry.metadata().expect("our own file");
            found.push((entry.path(), metadata.len()));
            if metadata.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

//! A home of Docker's that somebody else wrote: whatever its records say, looking into it ends, tells each layer once, and changes nothing.
//!
//! The input is a list of files, each `path NUL content NUL`. A path that ends in `/` is a directory; one that begins with `>` is a link to what
//! the content says. In both, `%` and a hexadecimal digit stand for 64 of that digit, which no chance would write, and `%%` in a path for the
//! digest of its content.
#![no_main]

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use windowsfilter::Digest;
use windowsfilter_image::docker_store::{self, DockerStore};

/// Files that are made of one input.
const MAX_FILES: usize = 64;

fuzz_target!(|input: &[u8]| {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
    let root = dir.path().join("docker");
    fs::create_dir(&root).expect("a place in memory");
    let mut pieces = input.split(|&byte| byte == 0);
    for _ in 0..MAX_FILES {
        let (Some(path), Some(content)) = (pieces.next(), pieces.next()) else { break };
        make(&root, path, &expand(content));
    }
    let before = tree(&root);
    if let Ok(store) = docker_store::read(&root, &()) {
        check(&store);
    }
    assert_eq!(tree(&root), before);
});

/// Makes one file, where its name can be had: some names are in each other's way.
fn make(root: &Path, path: &[u8], content: &[u8]) {
    let digest = Digest::of(content).hex();
    let path = String::from_utf8_lossy(path).replace("%%", &digest);
    let (is_link, path) = path.strip_prefix('>').map_or((false, &path[..]), |rest| (true, rest));
    let path = expand(path.as_bytes());
    let path = String::from_utf8_lossy(&path);
    let relative = Path::new(&*path);
    if !relative.components().all(|component| matches!(component, Component::Normal(_))) {
        return;
    }
    // What leads through a link made before would leave the home.
    if relative.ancestors().any(|above| root.join(above).is_symlink()) {
        return;
    }
    let place = root.join(relative);
    if path.ends_with('/') {
        _ = fs::create_dir_all(&place);
        return;
    }
    _ = place.parent().map(fs::create_dir_all);
    _ = match is_link {
        true => symlink(String::from_utf8_lossy(content).as_ref(), &place),
        false => fs::write(&place, content),
    };
}

/// Writes out the digits.
fn expand(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match bytes.next_if(|next| byte == b'%' && next.is_ascii_hexdigit()) {
            Some(digit) => out.extend([digit; 64]),
            None => out.push(byte),
        }
    }
    out
}

/// What is true of every home.
fn check(store: &DockerStore) {
    let summary = &store.summary;
    let sums = [summary.in_use, summary.orphan, summary.half_removed, summary.unknown];
    assert_eq!(sums.iter().map(|sum| sum.layers).sum::<u64>(), store.layers.len() as u64);
    assert_eq!(
        sums.iter().map(|sum| sum.bytes).sum::<u64>(),
        store.layers.iter().map(|layer| layer.size).sum::<u64>()
    );
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

/// Names and lengths of everything in `dir`; links are not followed.
fn tree(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
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

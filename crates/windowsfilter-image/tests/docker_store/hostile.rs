//! Homes with false records, loops, and links that lead elsewhere. Links and pipes need Unix.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use sample_images::docker_store::{Home, chain, id};

/// State that a write would change: mode, time of change and content.
type Picture = (u32, (i64, i64), Option<Vec<u8>>);

/// Every path below `dir` with its state.
fn picture(dir: &Path) -> BTreeMap<PathBuf, Picture> {
    let mut picture = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        let content = facts.is_file().then(|| fs::read(&path).unwrap());
        if facts.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        picture.insert(path, (facts.mode(), (facts.ctime(), facts.ctime_nsec()), content));
    }
    picture
}

#[test]
fn nothing_is_written_and_read_only_is_enough() {
    let root = tempfile::tempdir().unwrap();
    let home = Home::sample(&root.path().join("docker")).unwrap();
    let paths: Vec<PathBuf> = picture(&home.root).into_keys().collect();
    for path in &paths {
        let mode = if path.is_dir() { 0o555 } else { 0o444 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let before = picture(&home.root);
    look(&home);
    assert!(picture(&home.root) == before);
    for path in paths.iter().filter(|path| path.is_dir()) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn links_are_said_and_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    fs::create_dir_all(outside.join("Files")).unwrap();
    fs::write(outside.join("Files/secret"), vec![1; 5000]).unwrap();
    fs::write(outside.join("layerchain.json"), "null").unwrap();
    let home = with_image(&root.path().join("docker"));
    symlink(&outside, home.dir(&dir("link"))).unwrap();
    symlink(&outside, home.dir(&dir("app")).join("Files/out")).unwrap();
    symlink("..", home.dir(&dir("app")).join("Files/loop")).unwrap();
    fs::remove_file(home.dir(&dir("base")).join("layerchain.json")).unwrap();
    symlink(outside.join("layerchain.json"), home.dir(&dir("base")).join("layerchain.json")).unwrap();
    let store = look(&home);
    assert!(!store.layers.iter().any(|layer| layer.id == dir("link")));
    assert!(
        store.problems[0].path.ends_with(dir("link")) && store.problems[0].problem.contains("not followed")
    );
    assert_eq!(content(&home, &store, &dir("app")), 100);
    assert!(
        find(&store, &dir("base")).problems[0].contains("link"),
        "{:?}",
        find(&store, &dir("base")).problems
    );
    // The same for records: a link in place of their directory is an error, and makes no layer an orphan.
    fs::remove_dir_all(home.image_dir().join("imagedb")).unwrap();
    symlink(&outside, home.image_dir().join("imagedb")).unwrap();
    let store = look(&home);
    assert_eq!(verdict(&store, &dir("app")).0, State::Unknown);
}

#[test]
fn a_pipe_in_place_of_a_file_is_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    for path in [home.dir(&dir("app")).join("layerchain.json"), home.image_dir().join("repositories.json")] {
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    }
    let store = look(&home);
    assert!(find(&store, &dir("app")).problems[0].contains("not a file"));
    assert!(store.problems[0].problem.contains("no names"), "{:?}", store.problems);
    assert_eq!(verdict(&store, &dir("app")).0, State::InUse);
}

#[test]
fn chains_that_lie_are_said_and_end() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    let chain_of = |name: &str, text: &[u8]| fs::write(home.dir(name).join("layerchain.json"), text).unwrap();
    for (word, text, expected) in [
        ("own", format!(r#"["{}"]"#, dir("own")), "the layer itself"),
        ("twice", format!(r#"["{0}","{0}"]"#, dir("base")), "twice"),
        ("long", format!("[{}\"x\"]", "\"x\",".repeat(2000)), "2001 parents"),
        ("huge", format!("[\"{}\"]", "x".repeat(2 << 20)), "longer than"),
        ("deep", "[".repeat(100_000), "not a JSON array"),
        ("no json", "{".to_owned(), "not a JSON array"),
        ("dots", r#"["..","C:\\..\\..","/"]"#.to_owned(), "is missing"),
    ] {
        home.layer(&dir(word), &[], 1).unwrap();
        chain_of(&dir(word), text.as_bytes());
        let store = look(&home);
        let problems = &find(&store, &dir(word)).problems;
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{word}: {problems:?}");
        assert!(problems.iter().all(|problem| problem.len() < 500), "{word}");
    }
    // Two layers that are each other's parent, one of them in use.
    home.parents(&dir("base"), &[&dir("app")]).unwrap();
    assert_eq!(verdict(&look(&home), &dir("base")).0, State::InUse);
}

#[test]
fn records_that_lie_are_said_and_end() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    let layerdb = home.image_dir().join("layerdb");
    // A circular chain with a container on it.
    home.record(&id("a"), &dir("a"), Some(&id("b"))).unwrap();
    home.record(&id("b"), &dir("b"), Some(&id("a"))).unwrap();
    home.mount(&id("container"), &dir("box"), &id("a")).unwrap();
    // IDs that are paths.
    home.record(&id("path"), "../../../etc", None).unwrap();
    home.record(&id("cut"), "abc", None).unwrap();
    fs::create_dir(layerdb.join("sha256/not-a-chain")).unwrap();
    fs::create_dir(layerdb.join("sha256").join(id("empty"))).unwrap();
    fs::write(
        home.image_dir().join("repositories.json"),
        format!("{{\"Repositories\":{}", "{\"a\":".repeat(9000)),
    )
    .unwrap();
    let config = home.image_dir().join("imagedb/content/sha256").join(id("big"));
    fs::File::create(config).unwrap().set_len(1 << 40).unwrap();
    let store = look(&home);
    let problems: Vec<&str> = store.problems.iter().map(|problem| problem.problem.as_str()).collect();
    for words in
        ["cache-id is no ID", "its name is not a chain ID", "cache-id is missing", "no names", "longer than"]
    {
        assert!(problems.iter().any(|problem| problem.contains(words)), "{words}: {problems:?}");
    }
    assert_eq!(verdict(&store, &dir("app")).0, State::InUse);
    assert_eq!(store.images[0].layers.len(), chain(&["base", "app"]).len());
}

#[test]
fn hard_links_count_once_and_holes_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    let files = home.dir(&dir("base")).join("Files");
    for i in 0..5 {
        fs::hard_link(files.join("data.bin"), files.join(format!("link{i}"))).unwrap();
    }
    fs::File::create(files.join("sparse")).unwrap().set_len(1 << 42).unwrap();
    assert_eq!(content(&home, &look(&home), &dir("base")), 1000);
}

#[test]
fn a_tree_of_three_hundred_levels_is_counted_as_far_as_directories_can_be_open() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    let mut levels = home.dir(&dir("app")).join("Files");
    for _ in 0..300 {
        levels.push("d");
    }
    fs::create_dir_all(&levels).unwrap();
    let store = look(&home);
    let app = find(&store, &dir("app"));
    assert!(app.problems[0].contains("deeper than 250"), "{:?}", app.problems);
    assert_eq!((content(&home, &store, &dir("app")), app.state), (100, State::InUse));
}

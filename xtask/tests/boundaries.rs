//! The task runner stays small and depends on no crate of the product, since otherwise `cargo xtask` would
//! first build the product; and the product depends on nothing that only helps to build it.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use programs::process::output;
use programs::workspace::{cargo, root};
use serde_json::Value;

/// Most lines in all of `xtask/`.
const LINES: usize = 3000;
/// Code generators belong to `grpc-code`, whose output is kept in the repository.
const GENERATORS: [&str; 4] = ["prost-build", "protox", "tonic-build", "tonic-prost-build"];

/// A dependency's name, and whether only tests need it.
type Dependency = (String, bool);

/// A crate of this repository.
struct Member {
    /// Whether it belongs to the product: then it can be published.
    is_product: bool,
    dependencies: Vec<Dependency>,
}

fn members() -> BTreeMap<String, Member> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps", "--locked"])).unwrap();
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let member = |package: &Value| Member {
        is_product: package["publish"].is_null(),
        dependencies: package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|dependency| (name(dependency), dependency["kind"] == "dev"))
            .collect(),
    };
    metadata["packages"].as_array().unwrap().iter().map(|package| (name(package), member(package))).collect()
}

/// All crates of this repository that `name` needs, tests included.
fn needed_by(name: &str, members: &BTreeMap<String, Member>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        let below = members[&name].dependencies.iter().map(|(name, _)| name);
        for name in below.filter(|name| members.contains_key(*name)) {
            if found.insert(name.clone()) {
                open.push(name.clone());
            }
        }
    }
    found
}

#[test]
fn the_task_runner_depends_on_no_crate_of_the_product() {
    let members = members();
    let product: Vec<&String> =
        members.iter().filter(|(_, member)| member.is_product).map(|(name, _)| name).collect();
    assert!(product.iter().any(|name| *name == "windowsfilter-cli"), "{product:?}");
    let needed = needed_by("xtask", &members);
    let wrong: Vec<_> = product.into_iter().filter(|name| needed.contains(*name)).collect();
    assert!(wrong.is_empty(), "xtask depends on {wrong:?}");
}

#[test]
fn no_crate_depends_on_the_task_runner() {
    for (name, member) in members() {
        assert!(!member.dependencies.iter().any(|(below, _)| below == "xtask"), "{name}");
    }
}

#[test]
fn the_product_needs_no_helper_but_for_its_tests() {
    let members = members();
    for (name, member) in members.iter().filter(|(_, member)| member.is_product) {
        for (below, _) in member.dependencies.iter().filter(|(_, only_tests)| !only_tests) {
            let is_helper = members.get(below).is_some_and(|below| !below.is_product);
            assert!(!is_helper, "{name} depends on {below}, which is not published");
        }
        let generators = member.dependencies.iter().filter(|(below, _)| GENERATORS.contains(&&**below));
        assert_eq!(generators.count(), 0, "{name} generates code when it is built");
    }
}

/// Lines of all sources below a directory.
fn lines_below(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    entries
        .map(|path| match path.extension() {
            _ if path.is_dir() => lines_below(&path),
            Some(extension) if extension == "rs" => lines(&path),
            _ => 0,
        })
        .sum()
}

#[test]
fn the_task_runner_is_tasks() {
    let lines = lines_below(&root().join("xtask"));
    assert!(lines > 1000 && lines < LINES, "xtask has {lines} lines");
}

//! The modules of the command import each other in one direction: none imports itself through others.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The sources of all modules below `dir`, by path as in `commands::layer`; without their tests.
fn modules(dir: &Path, above: &[String], found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mut name = above.to_vec();
        name.extend(path.file_stem().map(|stem| stem.to_str().unwrap().to_owned()));
        if path.is_dir() {
            modules(&path, &name, found);
            continue;
        }
        if path.ends_with("mod.rs") {
            name.pop();
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        found.insert(name.join("::"), code.to_owned());
    }
}

/// The paths in `code` that begin with `root`, without it; one for each name in braces.
fn paths(code: &str, root: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    for (at, _) in code.match_indices(root) {
        let rest = &code[at + root.len()..];
        let (path, after) = rest.split_at(rest.find(|c| !is_path(c)).unwrap_or(rest.len()));
        match after.strip_prefix('{').and_then(|names| names.split_once('}')) {
            Some((names, _)) => found.extend(names.split(',').map(|name| format!("{path}{}", name.trim()))),
            None => found.push(path.to_owned()),
        }
    }
    found
}

/// The modules that `code` of the module `name` names.
fn imports(name: &str, code: &str, all: &BTreeMap<String, String>) -> BTreeSet<String> {
    let above = name.rsplit_once("::").map_or(String::new(), |(above, _)| format!("{above}::"));
    let from_above = paths(code, "super::").into_iter().map(|path| format!("{above}{path}"));
    let named = paths(code, "crate::").into_iter().chain(from_above);
    // The longest beginning of a path that is a module.
    let module = |path: String| {
        let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
        let beginnings: Vec<&str> = ends.map(|end| &path[..end]).collect();
        beginnings.into_iter().rev().find(|path| all.contains_key(*path)).map(str::to_owned)
    };
    named.filter_map(module).filter(|module| module != name).collect()
}

/// What is left of `uses` when modules that import nothing are taken away again and again: circles, and what
/// imports them.
fn circles(mut uses: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let before = uses.len();
        let left: BTreeSet<String> = uses.keys().cloned().collect();
        uses.values_mut().for_each(|imports| imports.retain(|module| left.contains(module)));
        uses.retain(|_, imports| !imports.is_empty());
        if uses.len() == before {
            return uses;
        }
    }
}

#[test]
fn no_module_imports_itself_through_others() {
    let mut all = BTreeMap::new();
    modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut all);
    let uses: BTreeMap<_, _> =
        all.iter().map(|(name, code)| (name.clone(), imports(name, code, &all))).collect();
    assert!(uses["commands::layer::rm"].contains("commands::several"), "{uses:#?}");
    assert!(uses["session"].contains("global"), "{uses:#?}");
    assert_eq!(circles(uses), BTreeMap::new());
}

#[test]
fn a_circle_is_found() {
    let source =
        [("a", "use crate::b::{X, Y};"), ("b", "crate::c::d()"), ("c", "use super::{e, a::Z};"), ("e", "")];
    let all: BTreeMap<String, String> = source.map(|(name, code)| (name.to_owned(), code.to_owned())).into();
    let uses: BTreeMap<_, _> =
        all.iter().map(|(name, code)| (name.clone(), imports(name, code, &all))).collect();
    let found: Vec<String> = circles(uses).into_keys().collect();
    assert_eq!(found, ["a", "b", "c"]);
}

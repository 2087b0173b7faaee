//! Plans: steps and their order, the script, and reasons for refusing a plan.

use std::fs;
use std::path::Path;

use windowsfilter_image::Error;
use windowsfilter_image::docker_store::{DockerStore, Plan, read};

use super::{dir, look, with_image};
use sample_images::docker_store::{Home, chain, id};

fn names(plan: &Plan<'_>) -> Vec<String> {
    plan.steps.iter().map(|layer| layer.id.clone()).collect()
}

fn reasons(store: &DockerStore) -> String {
    match Plan::new(store) {
        Err(Error::NoPlan { reasons, .. }) => reasons.join("\n"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_stands_on_a_layer_goes_before_it_and_what_is_needed_stays() {
    let root = tempfile::tempdir().unwrap();
    let home = Home::sample(root.path()).unwrap();
    let store = look(&home);
    let plan = Plan::new(&store).unwrap();
    let names = names(&plan);
    let place =
        |name: &str| names.iter().position(|planned| planned == name).unwrap_or_else(|| panic!("{name}"));
    assert!(place(&dir("build on build")) < place(&dir("build")));
    // Layers that Docker has begun to remove come first.
    assert_eq!(place(&format!("{}-removing", dir("gone"))).min(place(&dir("cut"))), 0);
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(["base", "app", "box"].iter().all(|word| !names.contains(&dir(word))));
    assert_eq!(plan.bytes(), store.summary.reclaimable);
    // Recursion must not grow with the length of a chain.
    for n in 0..300 {
        let parents: Vec<String> = (0..n).rev().map(|n| id(&format!("deep {n}"))).collect();
        let parents: Vec<&str> = parents.iter().map(String::as_str).collect();
        home.layer(&id(&format!("deep {n}")), &parents, 1).unwrap();
    }
    let store = look(&home);
    let deep: Vec<String> = Plan::new(&store).unwrap().steps.iter().map(|layer| layer.id.clone()).collect();
    let expected: Vec<String> = (0..300).rev().map(|n| id(&format!("deep {n}"))).collect();
    let deep: Vec<String> = deep.into_iter().filter(|name| expected.contains(name)).collect();
    assert_eq!(deep, expected);
}

#[test]
fn the_script_has_each_layer_with_its_size_its_reason_and_its_entries_of_layerdb() {
    let root = tempfile::tempdir().unwrap();
    let home = Home::sample(root.path()).unwrap();
    home.record(&format!("{}-3-removing", id("half")), &dir("half"), None).unwrap();
    home.layer(&dir("half"), &[], 10).unwrap();
    let store = look(&home);
    let plan = Plan::new(&store).unwrap();
    let script = plan.script();
    assert!(script.is_ascii() && script.matches('\n').count() == script.matches("\r\n").count());
    for layer in &plan.steps {
        let records: Vec<String> = layer.records.iter().map(|record| format!("'{record}'")).collect();
        let line = format!(
            "@{{ Name = '{}'; Bytes = {}; Records = @({}) }}",
            layer.id,
            layer.size,
            records.join(", ")
        );
        assert!(script.contains(&line), "{line} is not in {script}");
        assert!(script.contains(&layer.why), "{}", layer.why);
    }
    assert!(script.contains(&format!("Records = @('{}-3-removing')", id("half"))));
    assert!(script.contains(&format!("Records = @('{}')", id("old"))));
    let order: Vec<usize> =
        plan.steps.iter().map(|layer| script.find(&format!("Name = '{}'", layer.id)).unwrap()).collect();
    assert!(order.is_sorted());
    // All checks come before the first removal.
    let (checks, removal) = (script.rfind("Assert-NotPlanned").unwrap(), script.find("Remove-Item").unwrap());
    assert!(checks < removal && script.find("Get-Process -Name 'dockerd'").unwrap() < removal);
    assert_eq!(script.matches("Remove-Item").count(), 1, "files are for DestroyLayer to remove");
}

// Windows does not allow such names.
#[cfg(not(windows))]
#[test]
fn a_hostile_name_is_a_text_to_the_script_or_no_plan_is_made() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(&root.path().join("it's $HOME `\n#> data"));
    let names = ["it's", "$env;rm", "a`b", "x y", "[a]", "{1}", "\u{2019}; rm", "-removing", "\u{202e}x"];
    for name in names {
        home.layer(name, &[], 10).unwrap();
    }
    let store = read(&home.root, &()).unwrap();
    let plan = Plan::new(&store).unwrap();
    let script = plan.script();
    for quoted in ["'it''s'", "'$env;rm'", "'a`b'", "'[a]'", "('' + [char]0x2019 + '; rm')"] {
        assert!(script.contains(&format!("Name = {quoted};")), "{quoted}: {script}");
    }
    // Each of the plan's own lines is a comment, an entry, or one of the list's brackets.
    let own = script.split("$Plan = @(\r\n").nth(1).unwrap().split("\r\n)\r\n").next().unwrap();
    for line in own.split("\r\n") {
        assert!(line.starts_with("    # ") || line.starts_with("    @{ Name = "), "{line:?}");
    }
    let head = script.split("#Requires").next().unwrap();
    assert!(head.split("\r\n").all(|line| line.is_empty() || line.starts_with('#')), "{head}");
    for name in ["..\\evil", "C:x", "a\nb", "con", "dot."] {
        if cfg!(windows) {
            break;
        }
        home.layer(name, &[], 10).unwrap();
        let reasons = reasons(&read(&home.root, &()).unwrap());
        assert!(reasons.contains("its name is none on Windows"), "{name:?}: {reasons}");
        fs::remove_dir_all(home.dir(name)).unwrap();
    }
}

#[test]
fn no_plan_is_made_where_a_record_could_not_be_read() {
    type Damage = fn(&Home);
    let damages: [(&str, Damage); 8] = [
        ("no records", |home| fs::remove_dir_all(home.root.join("image")).unwrap()),
        ("a config", |home| {
            let path = home.image_dir().join("imagedb/content/sha256").join("0".repeat(64));
            fs::write(path, "{}").unwrap();
        }),
        ("an entry of layerdb", |home| {
            fs::write(home.image_dir().join("layerdb/sha256").join(id("old")).join("cache-id"), "?").unwrap();
        }),
        ("a container", |home| {
            let dir = home.image_dir().join("layerdb/mounts").join(id("container"));
            fs::write(dir.join("mount-id"), "?").unwrap();
        }),
        ("the names", |home| fs::write(home.image_dir().join("repositories.json"), "?").unwrap()),
        ("the chain of what is in use", |home| {
            fs::write(home.dir(&dir("box")).join("layerchain.json"), "?").unwrap();
        }),
        ("no chain of what is in use", |home| {
            fs::remove_file(home.dir(&dir("app")).join("layerchain.json")).unwrap();
        }),
        ("what stands for another", |home| {
            fs::create_dir(home.dir(&dir("box")).join("layerID")).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let root = tempfile::tempdir().unwrap();
        let home = Home::sample(root.path()).unwrap();
        Plan::new(&look(&home)).unwrap();
        damage(&home);
        let reasons = reasons(&look(&home));
        assert!(!reasons.is_empty(), "{what}");
    }
    // With the layers alone, nothing shows what is needed.
    let root = tempfile::tempdir().unwrap();
    let home = Home::sample(root.path()).unwrap();
    let alone = read(&home.root.join("windowsfilter"), &()).unwrap();
    assert!(reasons(&alone).contains("no records"));
}

#[test]
fn chains_that_go_in_circles_have_no_order() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    home.layer(&dir("a"), &[&dir("b")], 1).unwrap();
    home.layer(&dir("b"), &[&dir("a")], 1).unwrap();
    assert!(reasons(&look(&home)).contains("stands on what stands on it"));
}

#[test]
fn a_plan_of_a_store_that_has_nothing_left_over_is_empty_and_the_store_stays_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let home = with_image(root.path());
    let listed = |root: &Path| {
        let mut all: Vec<_> = walk(root);
        all.sort();
        all
    };
    let before = listed(root.path());
    let store = look(&home);
    let plan = Plan::new(&store).unwrap();
    assert!(plan.steps.is_empty() && plan.bytes() == 0);
    assert_eq!(listed(root.path()), before);
    assert_eq!(store.images[0].layers.len(), chain(&["base", "app"]).len());
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { [walk(&path), vec![path]].concat() } else { vec![path] })
        .collect()
}

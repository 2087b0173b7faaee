//! `docs/json.md` says what commands print with `--json`. This runs every command on a small store and
//! compares the fields of what it prints with those of the page. Needs root, to mount.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;

use common::Store;
use serde_json::{Value, json};
use wclayer::attributes::FILE_ATTRIBUTE_ARCHIVE;
use wclayer::ea::ExtendedAttribute;
use wclayer::security::SecurityDescriptor;

static PAGE: LazyLock<String> =
    LazyLock::new(|| fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/json.md")).unwrap());
/// Printed as the image has it.
const OPAQUE: &str = "config";

/// The fields of a document, by path as in `layers[].id`, and of which types their values are. `null` has no
/// type of its own: any field may be null where the page says so.
type Fields = BTreeMap<String, BTreeSet<&'static str>>;

fn add_fields(fields: &mut Fields, path: &str, value: &Value) {
    let kind = match value {
        Value::Null => None,
        Value::Bool(_) => Some("bool"),
        Value::Number(_) => Some("number"),
        Value::String(_) => Some("string"),
        Value::Object(map) if map.len() == 1 && map.contains_key("bytes") => Some("string"),
        _ if path == OPAQUE => Some("any"),
        Value::Array(elements) => {
            elements.iter().for_each(|element| add_fields(fields, &format!("{path}[]"), element));
            Some("array")
        }
        Value::Object(map) => {
            let below = |key: &String| if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            map.iter().for_each(|(key, value)| add_fields(fields, &below(key), value));
            Some("object")
        }
    };
    fields.entry(path.to_owned()).or_default().extend(kind);
}

/// The names among paths: `refs` for `refs` and `refs[]`, none for the document itself.
fn names<'a>(paths: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    let names =
        paths.into_iter().map(|path| path.trim_start_matches("[].").trim_end_matches("[]").to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// A section of the page: its text up to the next heading.
fn section(command: &str) -> &'static str {
    let heading = format!("`{command}`");
    let sections = PAGE.split("\n### ");
    let found = sections.skip(1).find(|section| {
        let title = section.lines().next().unwrap();
        title.split(", ").any(|name| name == heading)
    });
    found.unwrap_or_else(|| panic!("docs/json.md has no section for `{command}`"))
}

/// The documents that a section shows.
fn examples(section: &str) -> impl Iterator<Item = Value> {
    let blocks = section.split("```json\n").skip(1);
    blocks.map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap())
}

/// The command whose fields a section has too.
fn inherited(section: &str) -> Option<&str> {
    let (_, rest) =
        section.split_once("ields are those of `").or_else(|| section.split_once("All fields of `"))?;
    rest.split('`').next()
}

/// The fields that a section explains, a row each.
fn explained(section: &str) -> BTreeSet<String> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let own = rows.map(|row| row.split('`').next().unwrap().to_owned());
    let others = inherited(section).map(|command| explained(self::section(command)));
    own.chain(others.into_iter().flatten()).collect()
}

/// What the runs of this test have printed, by the title of their section.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, Vec<Value>>);

impl Seen {
    /// Runs a command that prints a document of the section `title`, and exits with `code`.
    fn run_to(&mut self, store: &Store, title: &'static str, code: i32, args: &[&str]) -> Value {
        let output = store.run(&[&["--json"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        let document: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}, {said}"));
        self.0.entry(title).or_default().push(document.clone());
        document
    }

    fn run(&mut self, store: &Store, title: &'static str, args: &[&str]) -> Value {
        self.run_to(store, title, 0, args)
    }

    /// Compares them with the page.
    fn check(&self) {
        for title in self.0.keys() {
            let section = section(title);
            let (mut real, mut shown) = (Fields::new(), Fields::new());
            for title in std::iter::once(*title).chain(inherited(section)) {
                self.0[title].iter().for_each(|document| add_fields(&mut real, "", document));
                examples(self::section(title)).for_each(|example| add_fields(&mut shown, "", &example));
            }
            assert_eq!(names(shown.keys()), names(real.keys()), "{title}: the example has, it prints");
            assert_eq!(explained(section), names(real.keys()), "{title}: the table has, it prints");
            for (path, types) in shown.iter().filter(|(_, types)| !types.is_empty()) {
                // What is empty in one of them has no elements there.
                let real = real.get(path).filter(|types| !types.is_empty());
                assert!(real.is_none_or(|real| real == types), "{title}: {path} is {real:?}, not {types:?}");
            }
        }
    }
}

/// A layer with a file that has all that `stat` shows, a link, and two names that are no text.
fn layer() -> Vec<u8> {
    let layer = common::small_layer().dir("Files").dir("Files/Users");
    let mut file = layer.entry("Files/Users/notes.txt", FILE_ATTRIBUTE_ARCHIVE);
    file.security =
        Some(SecurityDescriptor::from_sddl("O:BAG:BAD:(A;;FA;;;SY)").unwrap().to_bytes().unwrap());
    file.eas = vec![ExtendedAttribute { flags: 0, name: b"ORIGIN".into(), value: b"here".into() }];
    layer
        .put(file, b"hello\n")
        .stream("Zone.Identifier", b"ZoneId=3\r\n")
        .symlink("Files/Users/latest", r"..\Windows")
        .file(b"Files/Users/odd\xfe", b"x")
        .file(b"Files/Users/odd\xff", b"x")
        .tar()
}

/// A store with an image `app:1`, whose `Users` has all sorts of things.
fn store(seen: &mut Seen) -> Store {
    let store = Store::new();
    let config = json!({
        "created": "2026-08-01T12:00:00Z",
        "config": { "Cmd": ["app.exe"] },
        "history": [{ "created_by": "cmd /S /C #(nop) CMD", "empty_layer": true }, { "comment": "base" }, {}],
    });
    common::write_image_with(&store.path("app"), &[layer(), common::layer(&["app.exe"], b"x")], config);
    seen.run(&store, "image import", &["image", "import", "app", "--ref", "app:1"]);
    store
}

/// From an image to a sandbox to another image, and out again.
fn work_with_images(store: &Store, seen: &mut Seen) {
    seen.run(store, "create", &["create", "app:1", "--name", "box", "--size", "64MB"]);
    let mounted = seen.run(store, "mount", &["mount", "box"]);
    let mounted = mounted["path"].as_str().unwrap();
    fs::write(format!("{mounted}/new.txt"), "new").unwrap();
    fs::remove_file(format!("{mounted}/Users/notes.txt")).unwrap();
    seen.run(store, "layer ls", &["layer", "ls"]);
    seen.run(store, "layer inspect", &["layer", "inspect", "box"]);
    seen.run(store, "umount", &["umount", "box"]);
    seen.run(store, "layer changes", &["layer", "changes", "box"]);
    let commit = ["commit", "box", "--ref", "app:2", "--author", "me", "--message", "new", "--created", "0"];
    seen.run(store, "commit", &commit);
    seen.run(store, "layer expand", &["layer", "expand", "box", "128MB"]);
    seen.run(store, "layer rm", &["layer", "rm", "box"]);
    seen.run(store, "image inspect", &["image", "inspect", "app:2"]);
    seen.run(store, "image export", &["image", "export", "app:2", "out"]);
    let edit = ["image", "edit", "app:2", "--ref", "app:3", "--env", "MODE=fast", "--created", "0"];
    seen.run(store, "image edit", &edit);
    seen.run(store, "image tag", &["image", "tag", "app:2", "app:latest"]);
}

fn work_with_layers(store: &Store, seen: &mut Seen) {
    fs::write(store.path("base.tar"), layer()).unwrap();
    seen.run(store, "layer apply", &["layer", "apply", "base", "base.tar"]);
    seen.run(store, "layer inspect", &["layer", "inspect", "base"]);
    seen.run(store, "layer verify", &["layer", "verify", "base"]);
    seen.run(store, "layer diff -o", &["layer", "diff", "base", "-o", "again.tar"]);
    seen.run(store, "ls", &["ls", "app:1:Users"]);
    seen.run(store, "stat", &["stat", "app:1:Users/notes.txt"]);
    seen.run(store, "stat", &["stat", "app:1:Users/latest"]);
    seen.run(store, "cp", &["cp", "-r", "app:1:Users", "users"]);
}

/// What is found where something is wrong.
fn damage_the_store(store: &Store, seen: &mut Seen) {
    let damaged = store.import("damaged:1").pop().unwrap();
    fs::write(store.layer_file(&damaged, "layer.json"), "?").unwrap();
    seen.run(store, "image ls", &["image", "ls"]);
    seen.run_to(store, "fsck", 5, &["fsck"]);
    seen.run_to(store, "layer verify --all", 5, &["layer", "verify", "--all"]);
}

/// A home of Docker's with one of everything.
fn look_at_docker(store: &Store, seen: &mut Seen) {
    let docker = store.path("docker");
    sample_images::docker_store::write(&docker).unwrap();
    fs::create_dir(docker.join("windowsfilter").join(OsStr::from_bytes(b"odd\xff"))).unwrap();
    let snapshotter = docker.join("containerd/daemon/io.containerd.snapshotter.v1.windows");
    fs::create_dir_all(snapshotter.join("snapshots/1/Files")).unwrap();
    fs::write(snapshotter.join("metadata.db"), "bolt").unwrap();
    seen.run(store, "docker-store", &["docker-store", "docker"]);
    fs::remove_dir(docker.join("windowsfilter").join(OsStr::from_bytes(b"odd\xff"))).unwrap();
    seen.run(store, "docker-store --plan", &["docker-store", "docker", "--plan", "remove.ps1"]);
}

/// The commands of a program, as they are typed.
fn commands(command: &clap::Command, above: &str) -> Vec<String> {
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    let named = shown.map(|command| (command, format!("{above}{}", command.get_name())));
    named
        .flat_map(|(command, name)| match command.has_subcommands() {
            true => commands(command, &format!("{name} ")),
            false => vec![name],
        })
        .collect()
}

#[test]
fn the_page_has_every_field_of_every_document_and_no_other() {
    let mut seen = Seen::default();
    let store = store(&mut seen);
    work_with_images(&store, &mut seen);
    work_with_layers(&store, &mut seen);
    seen.run(&store, "image rm", &["image", "rm", "app:latest"]);
    seen.run(&store, "image rm", &["image", "rm", "app:2"]);
    seen.run(&store, "prune", &["prune", "--dry-run"]);
    seen.run(&store, "cleanup", &["cleanup"]);
    damage_the_store(&store, &mut seen);
    look_at_docker(&store, &mut seen);
    seen.check();

    let titles = seen.0.keys().map(|title| title.split(" -").next().unwrap());
    let (_, without) = PAGE.split_once("\n## Without").unwrap();
    let without = without.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next());
    let known: BTreeSet<&str> = titles.chain(without).collect();
    for command in commands(&windowsfilter_cli::command(), "") {
        assert!(known.contains(&*command), "no run of `{command}` is compared with docs/json.md");
    }
    let sections = PAGE.split("\n### ").skip(1).flat_map(|section| {
        let title = section.lines().next().unwrap();
        title.split(", ").map(|name| name.trim_matches('`')).collect::<Vec<_>>()
    });
    let never: Vec<&str> = sections.filter(|title| !seen.0.contains_key(title)).collect();
    assert!(never.is_empty(), "docs/json.md describes what nothing prints: {never:?}");
}

#[test]
fn of_several_names_documents_are_a_list() {
    let store = Store::new();
    store.apply("one");
    store.apply("two");
    for reference in ["a:1", "b:1"] {
        store.import(reference);
    }
    for args in [
        &["layer", "verify", "one", "two"][..],
        &["layer", "rm", "one", "two"],
        &["image", "rm", "a:1", "b:1"],
    ] {
        let (title, document) = (args[..2].join(" "), store.json(args));
        let (mut real, mut shown) = (Fields::new(), Fields::new());
        assert_eq!(document.as_array().unwrap().len(), 2, "{document}");
        add_fields(&mut real, "", &document);
        examples(section(&title)).for_each(|example| add_fields(&mut shown, "", &example));
        assert_eq!(names(real.keys()), names(shown.keys()));
        assert!(section(&title).contains("an array of these"), "{title}");
    }
}

/// The lines that a command that fails prints on standard error, each as JSON.
fn failures(store: &Store, args: &[&str]) -> (i32, String, Vec<Value>) {
    let output = store.run(&[&["--json"], args].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    let reports = said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}")));
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), reports.collect())
}

#[test]
fn errors_are_lines_of_json_with_the_exit_code() {
    let store = Store::new();
    store.apply("base");
    store.text(&["create", "base", "--name", "box", "--size", "64MB"]);
    store.text(&["mount", "box"]);
    for (args, code) in [
        (&["layer", "apply", "base", "base.tar"][..], 1),
        (&["image", "import", "base.tar"], 1),
        (&["layer", "lss"], 2),
        (&["layer"], 2),
        (&["mount"], 2),
        (&["create", "base", "--size", "1zz"], 2),
        (&["layer", "verify"], 2),
        (&["cat", "base:file.txt"], 2),
        (&["completions", "bash"], 2),
        (&["layer", "diff", "base"], 2),
        (&["image", "export", "a:1", "-"], 2),
        (&["docker-store", ".", "--plan", "-"], 1),
        (&["serve", "--print-config", "2"], 2),
        (&["stat", "bse:/file.txt"], 3),
        (&["stat", "base:nothing"], 3),
        (&["layer", "rm", "box"], 4),
    ] {
        let (exited, printed, reports) = failures(&store, args);
        assert_eq!((exited, printed.as_str()), (code, ""), "{args:?}: {reports:?}");
        let [report] = reports.as_slice() else { panic!("{args:?}: {reports:?}") };
        let fields: BTreeSet<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, BTreeSet::from(["error", "causes", "hint", "code"]));
        assert_eq!(report["code"], code, "{args:?}: {report}");
        assert!(report["error"].is_string() && report["causes"].is_array(), "{report}");
        assert!(report["hint"].is_string() || report["hint"].is_null(), "{report}");
    }
    store.text(&["umount", "box"]);
    let (_, _, reports) = failures(&store, &["stat", "bse:/file.txt"]);
    assert_eq!(
        (&reports[0]["error"], &reports[0]["hint"]),
        (&"no image or layer \"bse\"".into(), &"did you mean \"base\"?".into())
    );
    let (_, _, reports) = failures(&store, &["layer", "apply", "next", "missing.tar"]);
    let causes = reports[0]["causes"].as_array().unwrap();
    assert!(causes[0].as_str().unwrap().contains("No such file"), "{reports:?}");
}

#[test]
fn of_several_failures_each_has_a_line_and_the_first_has_the_exit_code() {
    let store = Store::new();
    store.apply("base");
    fs::write(store.path("app.tar"), common::layer(&["app"], b"x")).unwrap();
    store.text(&["layer", "apply", "app", "--parent", "base", "app.tar"]);
    let (code, printed, reports) = failures(&store, &["layer", "rm", "base", "none", "app"]);
    let codes: Vec<&Value> = reports.iter().map(|report| &report["code"]).collect();
    assert_eq!((code, codes), (4, vec![&3.into(), &4.into()]), "{reports:?}");
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), json!([{ "id": "app" }]));
}

#[test]
fn the_error_that_the_page_shows_has_the_fields_of_errors() {
    let (_, errors) = PAGE.split_once("\n## Errors").unwrap();
    let errors = errors.split("\n## ").next().unwrap();
    let mut shown = Fields::new();
    examples(errors).for_each(|example| add_fields(&mut shown, "", &example));
    let expected = BTreeSet::from(["error", "causes", "hint", "code"].map(str::to_owned));
    assert_eq!(names(shown.keys()), expected);
    assert_eq!(explained(errors), expected);
    for args in [&["--help"][..], &["layer", "--help"], &["--version"]] {
        let (code, printed, reports) = failures(&Store::new(), args);
        assert!(code == 0 && !printed.is_empty() && reports.is_empty(), "{args:?}");
    }
}

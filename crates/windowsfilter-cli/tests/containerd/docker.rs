//! Images that Docker's BuildKit builds, with our snapshotter as Docker's store: what a user gets who follows
//! `docs/buildkit.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testbed::containerd::SNAPSHOTTER;
use testbed::containerd::daemon::Daemon;

use super::images::Image;
use super::process::run;
use super::registry::Registry;
use super::rig::{Rig, ask};
use super::tools::{self, Version};

with_each_containerd!(an_image_of_several_stages_is_built, what_was_built_elsewhere_is_built_upon);

/// A Docker on the rig's containerd. Dropping it ends it.
struct Docker {
    dir: PathBuf,
    _daemon: Daemon,
}

impl Docker {
    fn start(rig: &Rig) -> Self {
        let dir = rig.path("docker");
        fs::create_dir(&dir).unwrap();
        let config = dir.join("daemon.json");
        let text = format!(
            r#"{{"features": {{"containerd-snapshotter": true}}, "storage-driver": "{SNAPSHOTTER}",
                 "bridge": "none", "iptables": false, "ip6tables": false, "userland-proxy": false}}"#
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(tools::docker().join("dockerd"));
        command.arg("--config-file").arg(&config).arg("--containerd").arg(rig.socket());
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(option).arg(dir.join(name));
        }
        // BuildKit looks for runc, though nothing runs.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", tools::docker().display()));
        command.args(["--host", &socket(&dir)]);
        let mut daemon = Daemon::start("dockerd", &mut command, &dir.join("log")).unwrap();
        daemon.wait_until(|log| log.contains("API listen on").then_some(())).unwrap();
        Self { dir, _daemon: daemon }
    }

    /// Builds an image of `context` for Windows into an OCI archive, with BuildKit's `options`.
    fn build(&self, context: &Path, options: &[&str]) -> PathBuf {
        let archive = self.dir.join("built.tar");
        let mut build = Command::new(tools::docker().join("docker-buildx"));
        build.args(["build", "--platform", "windows/amd64", "--provenance=false", "--progress=plain"]);
        build.arg("--output").arg(format!("type=oci,dest={}", archive.display())).args(options).arg(context);
        build.env("DOCKER_HOST", socket(&self.dir)).env("DOCKER_CONFIG", self.dir.join("config"));
        run(&mut build).success();
        archive
    }
}

fn socket(dir: &Path) -> String {
    format!("unix://{}", dir.join("s").display())
}

/// What is built from, with a Dockerfile.
fn context(dir: &Path, dockerfile: &str) -> PathBuf {
    fs::create_dir_all(dir.join("site")).unwrap();
    fs::write(dir.join("site/index.html"), "<h1>Hello</h1>").unwrap();
    fs::write(dir.join("hosts"), "127.0.0.1 build.example").unwrap();
    fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
    dir.to_owned()
}

/// The diffIDs of an image that our own command imports into a store of its own.
fn diff_ids(store: &Path, archive: &Path, reference: &str) -> Vec<String> {
    ask(store, &["image", "import", &archive.to_string_lossy(), "--ref", reference]);
    let image = ask(store, &["image", "inspect", reference]);
    let layers = image["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["diff_id"].as_str().unwrap().to_owned()).collect()
}

/// The layer that nothing stands on and that has most below it: of the last step.
fn top(rig: &Rig) -> Value {
    let layers = rig.ask(&["layer", "ls"]);
    let layers = layers.as_array().unwrap().iter().filter(|layer| layer["kind"] == "layer");
    layers.max_by_key(|layer| layer["parents"].as_array().unwrap().len()).unwrap().clone()
}

fn stat(store: &Path, place: &str) -> Value {
    ask(store, &["stat", place])
}

fn an_image_of_several_stages_is_built(version: Version) {
    if !tools::docker_available() {
        return;
    }
    let rig = Rig::start_with(version, &["--buildkit", "moby"]);
    let registry = Registry::start(&rig.path(""));
    // Its upper layers have hard links to files of the base.
    let base = Image::sample(&rig.path("images"), "base", 600, 3);
    let name = registry.put(&base, "base");
    let docker = Docker::start(&rig);
    let dockerfile = format!(
        "FROM {name} AS files\nWORKDIR /files\nCOPY site/ .\n\
         FROM {name}\nWORKDIR /app\nCOPY --from=files /files/ .\n\
         COPY hosts /Windows/System32/drivers/etc/hosts\n"
    );
    let archive = docker.build(&context(&rig.path("context"), &dockerfile), &[]);

    let reference = rig.path("reference");
    let built = diff_ids(&reference, &archive, "built:1");
    assert_eq!(built[..3], base.diff_ids, "the base's layers go out as they came");
    assert_eq!(built.len(), 6);
    let index = ask(&reference, &["ls", r"built:1:C:\app"]);
    assert!(index.to_string().contains("index.html"), "{index}");

    // The base in the store is the one that was pulled, and so are the layers that stand on it.
    ask(&reference, &["image", "import", &base.archive.to_string_lossy(), "--ref", "base:1"]);
    let id = top(&rig)["id"].as_str().unwrap().to_owned();
    for path in [r"C:\Windows", r"C:\Windows\System32\drivers", r"C:\Windows\notepad.exe", r"C:\Users"] {
        let (expected, seen) =
            (stat(&reference, &format!("base:1:{path}")), stat(&rig.store(), &format!("{id}:{path}")));
        for field in ["sddl", "attributes", "created", "streams"] {
            assert_eq!(seen[field], expected[field], "{path}: {field}");
        }
    }
    let thrown = rig.store().join("containerd/default/thrown");
    assert_eq!(fs::read_dir(thrown).unwrap().count(), 0);
    rig.check_store();
}

/// An image on top of one that was built here, made by another builder, whose layers are not those of our
/// snapshots.
fn what_was_built_elsewhere_is_built_upon(version: Version) {
    if !tools::docker_available() {
        return;
    }
    let rig = Rig::start_with(version, &["--buildkit", "moby"]);
    let registry = Registry::start(&rig.path(""));
    let base = Image::sample(&rig.path("images"), "base", 400, 2);
    let name = registry.put(&base, "base");
    let docker = Docker::start(&rig);
    let first = format!("FROM {name}\nCOPY site/ /app/\n");
    let archive = docker.build(&context(&rig.path("context"), &first), &[]);

    let elsewhere = rig.path("elsewhere");
    diff_ids(&elsewhere, &archive, "first:1");
    ask(&elsewhere, &["create", "first:1", "--name", "box"]);
    let view = ask(&elsewhere, &["mount", "box"]);
    fs::write(Path::new(view["path"].as_str().unwrap()).join("elsewhere.txt"), "elsewhere").unwrap();
    run(&mut super::rig::tool(&elsewhere, &["umount", "box"])).success();
    ask(&elsewhere, &["commit", "box", "--ref", "second:1"]);
    let layout = rig.path("second");
    ask(&elsewhere, &["image", "export", "second:1", &layout.to_string_lossy()]);
    let second = registry.put_layout(&layout, "second:1", "second");

    let third = format!("FROM {second}\nCOPY hosts /hosts\n");
    let archive = docker.build(&context(&rig.path("context"), &third), &[]);
    assert_eq!(diff_ids(&elsewhere, &archive, "third:1").len(), 5);
    let files = ask(&elsewhere, &["ls", r"third:1:C:\"]).to_string();
    for file in ["hosts", "elsewhere.txt", "app"] {
        assert!(files.contains(file), "{file}: {files}");
    }
    rig.check_store();
}

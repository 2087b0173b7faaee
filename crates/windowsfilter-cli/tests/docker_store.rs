//! `docker-store` on a home that has one of everything, word for word.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::path::Path;
use std::process::Command;

use snapbox::{assert_data_eq, str};

fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windowsfilter"));
    let out = command.arg("docker-store").args(arguments).current_dir(dir).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code(), text(out.stdout), text(out.stderr))
}

#[test]
fn a_home_is_shown_as_recorded() {
    let dir = tempfile::tempdir().unwrap();
    sample_images::docker_store::write(&dir.path().join("docker")).unwrap();
    let (code, out, err) = run(dir.path(), &["docker"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_data_eq!(
        out,
        str![[r#"
LAYER                  KIND      STATE              SIZE  PARENTS  WHY
062552885d84           layer     orphan        195.4 KiB        1  only a8d0d83c895e stands on it, which nothing needs either
20cbf1102905-removing  removing  half removed  146.6 KiB        1  Docker renamed it to remove it and did not get to the end; it tries again when it starts
5d3384127a26           base      in use        878.9 KiB        0  image app:1.0 has it
81da923b1fb2           layer     in use         68.5 KiB        1  image app:1.0 has it
99769046650d           base      orphan        390.6 KiB        0  layerdb has it as sha256:cba06b5736fa, but no image and no container needs that
a8d0d83c895e           layer     orphan         97.9 KiB        2  no image, no container and no other layer refers to it
d72ebcb95d26           layer     half removed   48.8 KiB        0  it has no layerchain.json and nothing refers to it: it was made or removed by half
d9fb8abf12e7           sandbox   in use        293.2 KiB        2  container a42d519714d6 has it

PROBLEMS
d72ebcb95d26: layerchain.json is missing; Docker takes that for a layer without parents
layerdb sha256:76f75e6129fe: its directory 5424fcfbb462 is missing; no image needs it

in use:           3     1.2 MiB
orphan:           3   683.9 KiB
half removed:     2   195.4 KiB
reclaimable:          879.3 KiB

"#]]
    );
}

#[test]
fn json_is_one_document_with_whole_ids() {
    let dir = tempfile::tempdir().unwrap();
    sample_images::docker_store::write(&dir.path().join("docker")).unwrap();
    let (_, out, _) = run(dir.path(), &["docker", "--json"]);
    let store: serde_json::Value = serde_json::from_str(&out).unwrap();
    let layers = store["layers"].as_array().unwrap();
    let in_state = |state: &str| layers.iter().filter(|layer| layer["state"] == state).count();
    assert_eq!((in_state("in-use"), in_state("orphan"), in_state("half-removed")), (3, 3, 2));
    assert!(layers.iter().all(|layer| layer["id"].as_str().unwrap().len() >= 64));
    let bytes = |name: &str| store["summary"][name]["bytes"].as_u64().unwrap();
    assert_eq!(store["summary"]["reclaimable"], bytes("orphan") + bytes("half_removed"));
    assert_eq!(store["images"][0]["names"][0], "app:1.0");
    assert_eq!(store["lost"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_no_home_is_said_and_no_store_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = run(dir.path(), &["."]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("neither Docker's data root"), "{err}");
    let (code, _, err) = run(dir.path(), &["none"]);
    assert_eq!(code, Some(3), "{err}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_plan_is_a_script_in_a_file_of_its_own_and_nothing_else_changes() {
    let dir = tempfile::tempdir().unwrap();
    sample_images::docker_store::write(&dir.path().join("docker")).unwrap();
    let (_, listed, _) = run(dir.path(), &["docker"]);
    let (code, out, err) = run(dir.path(), &["docker", "--plan", "remove.ps1"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, format!("{listed}plan:             5  written to remove.ps1\n"));
    let script = std::fs::read_to_string(dir.path().join("remove.ps1")).unwrap();
    assert_data_eq!(
        script.split("param(").next().unwrap().replace("\r\n", "\n"),
        str![[r#"
# Removes what nothing needs from the layer store of Docker on Windows: 5 layers, 879.3 KiB.
# Written by `windowsfilter docker-store --plan`, which has read docker.
#
# Read it before you run it. Stop Docker first (Stop-Service docker), and run it as an administrator:
#
#     powershell -ExecutionPolicy Bypass -File FILE -DryRun    # says what it would remove
#     powershell -ExecutionPolicy Bypass -File FILE
#
# It removes nothing unless Docker is stopped and still nothing needs any of these layers. It ends at the first
# thing that fails, and can be run again: what is gone is passed over.
#
#Requires -RunAsAdministrator

"#]]
    );
    assert!(script.contains(r"[string] $DataRoot = 'C:\ProgramData\docker',"), "{script}");
    let (code, out, _) = run(dir.path(), &["docker", "--plan", "-"]);
    assert_eq!((code, out), (Some(0), script));
    let (_, out, _) = run(dir.path(), &["docker", "--plan", "again.ps1", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["plan"]["path"], &told["plan"]["layers"]), (&"again.ps1".into(), &5.into()));
    assert_eq!(told["plan"]["bytes"], told["summary"]["reclaimable"]);
    assert_eq!(run(dir.path(), &["docker"]).1, listed);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn a_plan_is_refused_where_a_record_cannot_be_read_and_in_the_store_itself() {
    let dir = tempfile::tempdir().unwrap();
    let docker = dir.path().join("docker");
    sample_images::docker_store::write(&docker).unwrap();
    let (code, out, err) = run(dir.path(), &["docker", "--plan", "docker/windowsfilter/plan.ps1"]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("it is inside the store that the plan is for"), "{err}");
    std::fs::write(docker.join("image/windowsfilter/repositories.json"), "?").unwrap();
    let (code, out, err) = run(dir.path(), &["docker", "--plan", "remove.ps1"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("docker/windowsfilter: no plan is written") && err.contains("repositories.json"),
        "{err}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn containerds_snapshots_are_a_table_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root/io.containerd.snapshotter.v1.windows");
    for (file, bytes) in [("1/Files/data", 2048), ("1/blank.vhdx", 1024), ("rm-2/sandbox.vhdx", 4096)] {
        let path = root.join("snapshots").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![1; bytes]).unwrap();
    }
    std::fs::write(root.join("metadata.db"), "bolt").unwrap();
    let (code, out, err) = run(dir.path(), &["root"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_data_eq!(
        out,
        str![[r#"
containerd, windows: root/io.containerd.snapshotter.v1.windows
LAYER  KIND      STATE            SIZE  PARENTS  WHY
1      base      unknown       3.0 KiB        0  containerd's metadata.db says what needs it, which is not read
rm-2   removing  half removed  4.0 KiB        0  containerd renamed it to remove it and did not get to the end

half removed:     1     4.0 KiB
unknown:          1     3.0 KiB
reclaimable:            4.0 KiB

"#]]
    );
    let (code, _, err) = run(dir.path(), &["root", "--plan", "-"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("there are no records of images and containers here"), "{err}");
}

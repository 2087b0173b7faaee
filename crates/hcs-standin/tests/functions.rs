//! Tests of the stand-in, called as the project calls Windows.
#![cfg(windows)]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use hcs::windows::System;
use hcs::{
    BackupTarget, BasicInfo, Code, DriverInfo, Host, LayerDescriptor, Privilege, RelativePath, Termination,
    Tree,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A Windows of a test's own.
struct Windows {
    dir: TempDir,
    system: System,
    info: DriverInfo,
}

impl Windows {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let built = std::env::current_exe().unwrap().with_file_name("hcs_standin.dll");
        let library = dir.path().join("hcs_standin.dll");
        fs::copy(built, &library).unwrap();
        let home = dir.path().join("layers");
        fs::create_dir(&home).unwrap();
        let system = System::with_stand_in(&library).unwrap();
        Self { info: DriverInfo::filter(&home), dir, system }
    }

    fn control(&self, control: &Value) {
        fs::write(self.dir.path().join("control.json"), control.to_string()).unwrap();
    }

    fn calls(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("calls.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn layer(&self, id: &str) -> PathBuf {
        self.info.layer(id)
    }

    fn descriptor(&self, id: &str) -> LayerDescriptor {
        LayerDescriptor { id: self.system.name_to_guid(id).unwrap(), flags: 0, path: self.layer(id) }
    }

    /// A read-only layer with these files.
    fn base(&self, files: &[(&str, &str)]) {
        let root = self.layer("base").join("Files");
        for (name, content) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }
}

/// Files below a directory with their content, directories with none.
fn tree(root: &Path) -> Vec<(String, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            found.push((name, (!path.is_dir()).then(|| fs::read(&path).unwrap())));
            if path.is_dir() {
                left.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn calls_are_recorded_with_their_arguments_and_fail_when_they_are_to() {
    let windows = Windows::new();
    windows.base(&[("a.txt", "a")]);
    let parents = [windows.descriptor("base")];
    windows.control(&json!({"fail": [{"call": "ActivateLayer", "nth": 2, "code": "0x80070005"}]}));
    windows.system.create_sandbox_layer(&windows.info, "c", &parents).unwrap();
    windows.system.activate_layer(&windows.info, "c").unwrap();
    let error = windows.system.activate_layer(&windows.info, "c").unwrap_err();
    assert_eq!(error.code, Code::ACCESS_DENIED);
    let again = windows.system.activate_layer(&windows.info, "c").unwrap_err();
    assert_eq!(again.code, Code::SHARING_VIOLATION, "it failed before it did anything");
    let calls = windows.calls();
    let names: Vec<&str> = calls.iter().map(|call| call["call"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["NameToGuid", "CreateSandboxLayer", "ActivateLayer", "ActivateLayer", "ActivateLayer"]
    );
    let create = &calls[1];
    assert_eq!(create["args"]["flavour"], 1);
    assert_eq!(create["args"]["parents"][0]["id"], parents[0].id.to_string());
    assert!(create["args"]["parents"][0]["path"].as_str().unwrap().ends_with(r"layers\base"));
    assert_eq!([&calls[3]["nth"], &calls[3]["result"]], [&json!(2), &json!("0x80070005")]);
}

#[test]
fn a_sandbox_shows_its_parents_and_its_export_imports_again() {
    let windows = Windows::new();
    windows.base(&[("same.txt", "same"), (r"Windows\old.exe", "old"), (r"Windows\gone.exe", "gone")]);
    let (system, info) = (&windows.system, &windows.info);
    let parents = [windows.descriptor("base")];
    system.create_sandbox_layer(info, "c", &parents).unwrap();
    assert_eq!(system.prepare_layer(info, "c", &parents).unwrap_err().code, Code(5023), "not active");
    system.activate_layer(info, "c").unwrap();
    system.prepare_layer(info, "c", &parents).unwrap();
    let volume = system.layer_mount_path(info, "c").unwrap().unwrap();
    assert_eq!(fs::read(volume.join(r"windows\OLD.exe")).unwrap(), b"old");
    fs::write(volume.join(r"Windows\old.exe"), "new").unwrap();
    fs::create_dir(volume.join("dir")).unwrap();
    fs::remove_file(volume.join(r"Windows\gone.exe")).unwrap();
    let target = windows.dir.path().join("export");
    let denied = |result: hcs::Result<()>| assert_eq!(result.unwrap_err().code, Code(1314));
    denied(system.export_layer(info, "c", &target, &parents));
    let both = [Privilege::Backup, Privilege::Restore];
    system.enable_process_privileges(&both).unwrap();
    system.enable_process_privileges(&both).unwrap();
    system.disable_process_privileges(&both).unwrap();
    // Another user that has enabled the privileges still needs them.
    assert_eq!(system.export_layer(info, "c", &target, &parents).unwrap_err().code, Code(5023), "prepared");
    system.disable_process_privileges(&both).unwrap();
    denied(system.export_layer(info, "c", &target, &parents));
    let backup = system.thread_privileges(&[Privilege::Backup]).unwrap();
    assert_eq!(system.export_layer(info, "c", &target, &parents).unwrap_err().code, Code(5023), "prepared");
    denied(system.import_layer(info, "c", &target, &parents));
    denied(system.process_base_image(&windows.layer("base")));
    drop(backup);
    let _privileges = system.thread_privileges(&[Privilege::Backup, Privilege::Restore]).unwrap();
    system.unprepare_layer(info, "c").unwrap();
    system.export_layer(info, "c", &target, &parents).unwrap();
    let exported = tree(&target);
    let names: Vec<&str> =
        exported.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with(r"Files\")).collect();
    let expected = [
        r"Files\Windows",
        r"Files\Windows.$wcidirs$",
        r"Files\Windows\old.exe",
        r"Files\dir",
        r"Files\dir.$wcidirs$",
    ];
    assert_eq!(names, expected);
    let tombstones = fs::read_to_string(target.join("tombstones.txt")).unwrap();
    assert_eq!(tombstones, "\u{feff}Version 1.0\r\n\\Windows\\gone.exe\r\n");

    system.create_layer(info, "layer", "base").unwrap();
    system.import_layer(info, "layer", &target, &parents).unwrap();
    assert_eq!(fs::read(windows.layer("layer").join(r"Files\Windows\old.exe")).unwrap(), b"new");
    // The parent's files exist as well, so a deletion has something to delete.
    fs::remove_file(windows.layer("layer").join(r"Files\Windows\gone.exe")).unwrap();
    let again = windows.dir.path().join("again");
    system.export_layer(info, "layer", &again, &parents).unwrap();
    assert_eq!(tree(&again), exported);

    let parents = [windows.descriptor("layer"), windows.descriptor("base")];
    system.create_sandbox_layer(info, "d", &parents).unwrap();
    system.activate_layer(info, "d").unwrap();
    system.prepare_layer(info, "d", &parents).unwrap();
    let volume = system.layer_mount_path(info, "d").unwrap().unwrap();
    assert_eq!(fs::read(volume.join("same.txt")).unwrap(), b"same");
    assert_eq!(fs::read(volume.join(r"Windows\old.exe")).unwrap(), b"new");
    assert!(!volume.join(r"Windows\gone.exe").exists());
    assert_eq!(system.destroy_layer(info, "d").unwrap_err().code, Code::SHARING_VIOLATION);
    system.detach_virtual_disk(&windows.layer("d").join("sandbox.vhdx")).unwrap();
    system.destroy_layer(info, "d").unwrap();
    assert!(!system.layer_exists(info, "d").unwrap());
}

/// A backup stream of the streams `(id, attributes, name, content)`.
fn backup_stream(streams: &[(u32, u32, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, attributes, name, content) in streams {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        bytes.extend(id.to_le_bytes());
        bytes.extend(attributes.to_le_bytes());
        bytes.extend((content.len() as u64).to_le_bytes());
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend(name);
        bytes.extend(*content);
    }
    bytes
}

#[test]
fn a_backup_stream_comes_back_byte_for_byte_from_every_name_of_the_file() {
    let windows = Windows::new();
    let root = windows.system.open_tree(windows.dir.path()).unwrap();
    let [name, link] = ["file", "link"].map(|name| RelativePath::from_text(name).unwrap());
    let stream = backup_stream(&[
        (2, 0, "", b"extended attributes"),
        (1, 0, "", &vec![7; 200_000]),
        (4, 0, ":stream:$DATA", b"alternate"),
    ]);
    let info = BasicInfo {
        creation_time: 131_000_000_000_000_000,
        last_access_time: 131_000_000_000_000_001,
        last_write_time: 131_000_000_000_000_002,
        change_time: 131_000_000_000_000_003,
        attributes: 0x2022,
    };
    let mut writer = root.backup_write(&name, BackupTarget::NewFile, &info, false).unwrap();
    // Cut into pieces anywhere, even inside headers.
    for piece in stream.chunks(7_001).flat_map(|piece| piece.chunks(13)) {
        assert_eq!(writer.write(piece).unwrap(), piece.len());
    }
    drop(writer);
    assert_eq!(fs::read(windows.dir.path().join("file")).unwrap(), vec![7; 200_000]);
    root.link(&link, &root, &name).unwrap();
    for name in [&name, &link] {
        let mut bytes = Vec::new();
        root.backup_read(name, false).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes == stream, "{name}: {} bytes", bytes.len());
    }
}

#[test]
fn a_backup_stream_that_breaks_off_in_a_header_is_not_taken_for_data() {
    let windows = Windows::new();
    let root = windows.system.open_tree(windows.dir.path()).unwrap();
    let name = RelativePath::from_text("file").unwrap();
    let mut writer = root.backup_write(&name, BackupTarget::NewFile, &BasicInfo::default(), false).unwrap();
    writer.write_all(&backup_stream(&[(1, 0, "", b"data")])).unwrap();
    let error = writer.write_all(&[0xFF; 20]).unwrap_err();
    drop(writer);
    assert!(error.to_string().contains("BackupWrite"), "{error}");
    assert_eq!(fs::read(windows.dir.path().join("file")).unwrap(), b"data");
}

#[test]
fn a_compute_system_ends_at_once_later_or_had_ended() {
    let windows = Windows::new();
    let system = |id: &str, terminate: &str| json!({"Id": id, "State": "Running", "standin": {"terminate": terminate}});
    windows.control(&json!({"systems": [
        system("now", "done"), system("later", "pending"), system("before", "already-stopped")
    ]}));
    let listed: Value =
        serde_json::from_str(&windows.system.enumerate_compute_systems("{}").unwrap()).unwrap();
    assert_eq!(listed[1], json!({"Id": "later", "State": "Running"}));
    let ends = [
        ("now", Termination::Done),
        ("later", Termination::Pending),
        ("before", Termination::AlreadyStopped),
    ];
    for (id, expected) in ends {
        let open = windows.system.open_compute_system(id).unwrap();
        assert_eq!(open.terminate().unwrap(), expected, "{id}");
        if expected == Termination::Pending {
            open.wait().unwrap();
        }
    }
    assert_eq!(windows.system.enumerate_compute_systems("{}").unwrap(), "[]");
    let gone = windows.system.open_compute_system("now").map(drop).unwrap_err();
    assert_eq!(gone.code, Code::SYSTEM_NOT_FOUND);
}

/// An operation that calls the function of that name.
type Operation = fn(&Windows, &DriverInfo) -> hcs::Result<()>;

/// Runs `work` with the disk of the sandbox `c` attached.
fn extend(windows: &Windows, info: &DriverInfo) -> hcs::Result<()> {
    let _attached = windows.system.attach_virtual_disk(&info.layer("c").join("sandbox.vhdx"))?;
    let volume = windows.system.layer_mount_path(info, "c")?.unwrap();
    windows.system.extend_volume(&volume)
}

fn open_system(windows: &Windows) -> hcs::Result<Box<dyn hcs::ComputeSystem>> {
    windows.system.open_compute_system("vm")
}

fn write(windows: &Windows) -> hcs::Result<()> {
    let name = RelativePath::from_text("file").unwrap();
    let root = windows.system.open_tree(windows.dir.path())?;
    let mut writer = root.backup_write(&name, BackupTarget::NewFile, &BasicInfo::default(), false)?;
    writer.write_all(&backup_stream(&[(1, 0, "", b"data")])).map_err(source)
}

fn read(windows: &Windows) -> hcs::Result<()> {
    let root = windows.system.open_tree(windows.dir.path())?;
    let mut reader = root.backup_read(&RelativePath::from_text("control.json").unwrap(), false)?;
    reader.read_to_end(&mut Vec::new()).map(drop).map_err(source)
}

/// The error inside that of readers and writers.
fn source(error: std::io::Error) -> hcs::Error {
    *error.into_inner().unwrap().downcast().unwrap()
}

/// Each function that can fail and is looked up at run time, with an operation that calls it.
const OPERATIONS: [(&str, Operation); 28] = [
    ("ActivateLayer", |w, i| w.system.activate_layer(i, "c")),
    ("DeactivateLayer", |w, i| w.system.deactivate_layer(i, "c")),
    ("PrepareLayer", |w, i| w.system.prepare_layer(i, "c", &[])),
    ("UnprepareLayer", |w, i| w.system.unprepare_layer(i, "c")),
    ("CreateLayer", |w, i| w.system.create_layer(i, "new", "base")),
    ("CreateSandboxLayer", |w, i| w.system.create_sandbox_layer(i, "new", &[])),
    ("ExpandSandboxSize", |w, i| w.system.expand_sandbox_size(i, "c", 1)),
    ("DestroyLayer", |w, i| w.system.destroy_layer(i, "c")),
    ("ExportLayer", |w, i| w.system.export_layer(i, "c", w.dir.path(), &[])),
    ("ImportLayer", |w, i| w.system.import_layer(i, "c", w.dir.path(), &[])),
    ("GetLayerMountPath", |w, i| w.system.layer_mount_path(i, "c").map(drop)),
    ("LayerExists", |w, i| w.system.layer_exists(i, "c").map(drop)),
    ("GetBaseImages", |w, _| w.system.base_images().map(drop)),
    ("NameToGuid", |w, _| w.system.name_to_guid("c").map(drop)),
    ("ProcessBaseImage", |w, i| w.system.process_base_image(&i.layer("c"))),
    ("ProcessUtilityImage", |w, i| w.system.process_utility_image(&i.layer("c"))),
    ("GrantVmAccess", |w, i| w.system.grant_vm_access("vm", &i.layer("c"))),
    ("HcsEnumerateComputeSystems", |w, _| w.system.enumerate_compute_systems("{}").map(drop)),
    ("HcsOpenComputeSystem", |w, _| open_system(w).map(drop)),
    ("HcsRegisterComputeSystemCallback", |w, _| open_system(w).map(drop)),
    ("HcsTerminateComputeSystem", |w, _| open_system(w)?.terminate().map(drop)),
    ("OpenVirtualDisk", |w, i| w.system.detach_virtual_disk(&i.layer("c").join("sandbox.vhdx"))),
    ("AttachVirtualDisk", extend),
    ("DetachVirtualDisk", |w, i| w.system.detach_virtual_disk(&i.layer("c").join("sandbox.vhdx"))),
    ("DeviceIoControl", extend),
    ("FlushFileBuffers", |w, _| w.system.flush_volume(w.dir.path())),
    ("BackupRead", |w, _| read(w)),
    ("BackupWrite", |w, _| write(w)),
];

#[test]
fn every_function_that_fails_is_named_with_its_code() {
    for (function, operation) in OPERATIONS {
        let windows = Windows::new();
        windows.base(&[("a.txt", "a")]);
        let parents = [windows.descriptor("base")];
        windows.system.create_sandbox_layer(&windows.info, "c", &parents).unwrap();
        windows.control(&json!({
            "systems": [{"Id": "vm"}], "fail": [{"call": function, "code": "0x80070522"}]
        }));
        let error = operation(&windows, &windows.info).unwrap_err();
        assert_eq!(error.code, Code(0x522), "{function}: {error}");
        let text = error.to_string();
        assert!(text.contains(function) && text.contains("0x522"), "{function}: {text}");
        // Everything opened on the way is closed: the layer can be removed.
        windows.control(&json!({}));
        windows.system.destroy_layer(&windows.info, "c").unwrap();
    }
}

#[test]
fn closing_a_compute_system_is_not_asked_for_its_success() {
    let windows = Windows::new();
    windows.control(&json!({
        "systems": [{"Id": "vm"}],
        "fail": [
            {"call": "HcsCloseComputeSystem", "code": "0x80070522"},
            {"call": "HcsUnregisterComputeSystemCallback", "code": "0x80070522"},
        ]
    }));
    open_system(&windows).unwrap().terminate().unwrap();
}

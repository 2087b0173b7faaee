//! Test double of Microsoft's part of the Host Compute Service.
//!
//! A library to load instead of `vmcompute.dll` and `virtdisk.dll`, and instead of those functions of
//! `kernel32.dll` that Wine lacks or that lose metadata of NTFS. Layers are plain directories. It has none of
//! the project's own logic: its functions behave as Microsoft's do for their callers (hcsshim, go-winio).
//!
//! # State directory
//!
//! `HCS_STANDIN_DIR`, or else the directory that the library was loaded from. A test that copies the library
//! into a directory of its own therefore shares nothing with other tests.
//!
//! # `calls.jsonl`
//!
//! Written in the state directory, or to the file that `HCS_STANDIN_CALLS` names. One JSON object for each
//! call, when it returns, on one line:
//!
//! ```json
//! {"call":"PrepareLayer","nth":1,"args":{"flavour":1,"home":"","id":"Z:\\store\\c",
//!  "parents":[{"id":"…","flags":0,"path":"Z:\\store\\b"}]},"result":"0x00000000"}
//! ```
//!
//! `nth` counts the calls of one function since the file was last removed. `result` is what the function
//! returned: an `HRESULT`, or the Win32 error of those that return one or leave it in `GetLastError`.
//! Arguments, besides `flavour`, `home` and `id` of the layer functions: `parent`, `parents`, `path`, `size`,
//! `buffer` (whether one is passed), `name`, `vm`, `query`, `options`, `access`, `flags`, `code`.
//! `BackupRead` and `BackupWrite` leave one record for each file, at the first call, with `path` and
//! `security`; the other file functions leave none.
//!
//! # `control.json`
//!
//! Read from the state directory at every call; every field is optional:
//!
//! ```json
//! {
//!   "fail": [{"call": "ExportLayer", "nth": 1, "code": "0x80070005"}],
//!   "systems": [{"Id": "vm", "SystemType": "VirtualMachine",
//!                "standin": {"terminate": "pending", "exit": "0x00000000"}}],
//!   "base_images": "{\"Images\":[]}",
//!   "partition_length": 21474836480,
//!   "mount_path": ""
//! }
//! ```
//!
//! * `fail`: the call fails with the code and does nothing else; without `nth`, every call of the function.
//! * `systems`: the result of `HcsEnumerateComputeSystems`, without `standin`, which is the result of
//!   terminating the system: `done` (the default), `pending` (the callback comes later, with the status
//!   `exit`), `already-stopped`. A system that has ended is not listed.
//! * `base_images`: the result of `GetBaseImages`.
//! * `partition_length`: bytes of a volume's partition, instead of the size that its sandbox was expanded to.
//! * `mount_path`: the result of `GetLayerMountPath`, instead of the layer's path.
//!
//! # Layers
//!
//! A read-only layer has `Files`, including the parents' files that are not deleted, `Hives`, and
//! `standin.parents`, which lists the files from the parents. A sandbox has `sandbox.vhdx`, which is empty,
//! `sandbox.state` and a volume (`volumes.rs`); preparing it for the first time copies the files of the
//! nearest parent's `Files` into it. Functions that are called in the wrong order fail with
//! `ERROR_INVALID_STATE`, but always succeed for a read-only layer (docker/for-win 1546, moby 32330).
//! Exporting requires the backup privilege, importing and finishing also the restore privilege. Trees with
//! paths of 260 characters and more require a path that begins with `\\?\`, or a process that is long-path
//! aware, depending on the function (`long_paths.rs`). Metadata that a plain directory cannot hold (exact
//! times, attributes, streams, reparse points) are kept by file ID in the state directory's `metadata`.
#![allow(unsafe_code, reason = "foreign functions")]
#![allow(non_snake_case, reason = "the names are those of the functions it stands in for")]
#![cfg(windows)]

mod backup;
mod call;
mod code;
mod disks;
mod file_info;
mod layers;
mod long_paths;
mod metadata;
mod privileges;
mod renaming;
mod sandbox;
mod state;
mod streams;
mod systems;
mod text;
mod transport;
mod tree;
mod volumes;

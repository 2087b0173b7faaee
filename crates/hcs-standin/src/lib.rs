//! Test double of Microsoft's side of the Host Compute Service.
//!
//! A library to be loaded in the place of `vmcompute.dll` and `virtdisk.dll`, and of those functions of
//! `kernel32.dll` that Wine lacks or that lose what an NTFS volume keeps. Layers are plain directories. None
//! of the project's own logic is in here: what the functions do is what Microsoft's are seen to do by their
//! callers (hcsshim, go-winio).
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
//! `buffer` (whether there is one), `name`, `vm`, `query`, `options`, `access`, `flags`, `code`. `BackupRead`
//! and `BackupWrite` leave one record for each file, at the first call, with `path` and `security`; the other
//! file functions leave none.
//!
//! # `control.json`
//!
//! Read from the state directory at every call; everything in it may be left out:
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
//! * `fail`: the call fails with the code and does nothing else; every call of the function where `nth` is
//!   left out.
//! * `systems`: what `HcsEnumerateComputeSystems` gives, without `standin`, which says what becomes of
//!   terminating it: `done` (the default), `pending` (the callback comes later, with the status `exit`),
//!   `already-stopped`. One that has ended is in no list.
//! * `base_images`: what `GetBaseImages` gives.
//! * `partition_length`: bytes that a volume could have, instead of what its sandbox was expanded to.
//! * `mount_path`: what `GetLayerMountPath` gives, instead of the layer's.
//!
//! # Layers
//!
//! A read-only layer has `Files`, with what its parents have unless it has been deleted, `Hives`, and
//! `standin.parents`, which lists what came from the parents. A sandbox has `sandbox.vhdx`, which is empty,
//! `sandbox.state` and a volume (`volumes.rs`); preparing it for the first time copies into it what the
//! nearest parent's `Files` has. Functions that come in the wrong order fail with `ERROR_INVALID_STATE`; of a
//! read-only layer all of them succeed (docker/for-win 1546, moby 32330). Exporting takes the backup
//! privilege, importing and finishing the restore privilege as well. Trees with paths of 260 characters and
//! more take a path that begins with `\\?\`, or a process that is long-path aware, as the function wants it
//! (`long_paths.rs`). What a plain directory cannot hold (exact times, attributes, streams, reparse points)
//! is kept by file ID in the state directory's `metadata`.
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

//! Volumes: their names and directories, opening a volume's device, and flushing it.
//!
//! The service names a volume `\\?\Volume{GUID}`, without a backslash at its end: that is the device, not a
//! directory. `\\?\Volume{GUID}\` is its root. Wine has such names for as many directories as
//! `cargo xtask windows` has prepared (`HCS_STANDIN_VOLUMES`): each name leads to a directory there, and
//! exists only while the directory does. On other systems a sandbox's volume is a directory in the sandbox.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::IntoRawHandle;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::json;
use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE, SetLastError};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_BACKUP_SEMANTICS, GetFileAttributesW, INVALID_FILE_ATTRIBUTES,
};
use windows_sys::core::BOOL;

use crate::backup::path_of;
use crate::call::call;
use crate::code::Code;
use crate::state::{self, fatal};
use crate::text::{read, wide};
use crate::tree;

/// The volume's directory in a sandbox, if there are no prepared ones.
const VOLUME: &str = "sandbox.volume";
/// The file in a sandbox with the number of its volume.
const NUMBER: &str = "sandbox.volume-number";
/// The number of volumes. The same in `xtask`.
const VOLUMES: u32 = 1_000;
/// The name of the volume for all paths outside sandboxes.
const HOST_VOLUME: &str = r"\\?\Volume{7374616e-642d-696e-0000-000000000000}";
/// `SHARE_READ | SHARE_WRITE | SHARE_DELETE`.
const SHARE_ALL: u32 = 7;

/// Handles of devices of volumes, with the sandbox and the directory. See `disks::OPEN`.
static OPEN: Mutex<BTreeMap<usize, (PathBuf, PathBuf)>> = Mutex::new(BTreeMap::new());

/// The directory of the volumes that have names.
fn all() -> Option<PathBuf> {
    std::env::var_os("HCS_STANDIN_VOLUMES").map(PathBuf::from)
}

/// The number of a sandbox's volume, unique among sandboxes.
fn number(layer: &Path, all: &Path) -> io::Result<u32> {
    match fs::read_to_string(layer.join(NUMBER)) {
        Ok(text) => return text.parse().map_err(io::Error::other),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    for number in 0..VOLUMES {
        match File::create_new(all.join(format!("{number:04}.owner"))) {
            Ok(mut owner) => {
                owner.write_all(layer.to_string_lossy().as_bytes())?;
                fs::write(layer.join(NUMBER), number.to_string())?;
                return Ok(number);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    fatal(&format!("all {VOLUMES} volumes in {} are taken", all.display()))
}

/// The volume's directory while it has its name, and the one otherwise.
fn places(layer: &Path) -> io::Result<Option<(PathBuf, PathBuf)>> {
    let Some(all) = all() else { return Ok(None) };
    let number = number(layer, &all)?;
    Ok(Some((all.join(format!("{number:04}")), all.join(format!("{number:04}.hidden")))))
}

/// The directory with the content of a sandbox's volume; created if missing.
pub(crate) fn directory(layer: &Path) -> io::Result<PathBuf> {
    let dir = match places(layer)? {
        Some((shown, _)) if shown.is_dir() => return Ok(shown),
        Some((_, hidden)) => hidden,
        None => layer.join(VOLUME),
    };
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Gives the volume its name.
pub(crate) fn show(layer: &Path) -> io::Result<()> {
    let dir = directory(layer)?;
    match places(layer)? {
        Some((shown, hidden)) if dir == hidden => fs::rename(hidden, shown),
        _ => Ok(()),
    }
}

/// Removes the volume's name.
pub(crate) fn hide(layer: &Path) -> io::Result<()> {
    match places(layer)? {
        Some((shown, hidden)) if shown.is_dir() => fs::rename(shown, hidden),
        _ => Ok(()),
    }
}

/// Removes the volume, before its sandbox is removed.
pub(crate) fn remove(layer: &Path) -> io::Result<()> {
    if !layer.join(NUMBER).exists() {
        return Ok(());
    }
    let Some((shown, hidden)) = places(layer)? else { return Ok(()) };
    for dir in [&shown, &hidden] {
        if dir.exists() {
            tree::remove(dir, true)?;
        }
    }
    fs::remove_file(shown.with_extension("owner"))
}

/// The volume's name, as the service returns it.
pub(crate) fn name(layer: &Path) -> io::Result<String> {
    match places(layer)? {
        Some((shown, _)) => Ok(volume_name(&shown)),
        None => Ok(layer.join(VOLUME).to_string_lossy().into_owned()),
    }
}

/// The name of the volume in a directory: the names of the directory and of its parent make the GUID.
fn volume_name(shown: &Path) -> String {
    let last = |path: Option<&Path>| {
        path.and_then(Path::file_name).map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    format!(r"\\?\Volume{{{}-0000-0000-0000-00000000{}}}", last(shown.parent()), last(Some(shown)))
}

/// The sandbox whose volume has this name, and the volume's directory.
fn owner(name: &str) -> Option<(PathBuf, PathBuf)> {
    let all = all()?;
    let number = name.strip_suffix('}')?.rsplit_once('-')?.1.get(8..)?.to_owned();
    let shown = all.join(&number);
    if !shown.is_dir() || volume_name(&shown) != name {
        return None;
    }
    Some((PathBuf::from(fs::read_to_string(all.join(format!("{number}.owner"))).ok()?), shown))
}

/// The sandbox whose volume's device this handle has opened, if any.
///
/// # Safety
/// `handle` is an open file's handle.
pub(crate) unsafe fn sandbox_of(handle: HANDLE) -> Option<PathBuf> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: see the function.
    let path = PathBuf::from(unsafe { path_of(handle) });
    if path.ends_with(VOLUME) {
        return path.parent().map(Path::to_owned);
    }
    let (layer, dir) = open.get(&(handle as usize))?;
    // A handle whose number was reused has another path.
    (path.file_name() == dir.file_name()).then(|| layer.clone())
}

/// The result of functions that return TRUE, or FALSE and an error code.
fn answer(result: i32) -> BOOL {
    if result == 0 {
        return 1;
    }
    // SAFETY: takes a number.
    unsafe { SetLastError(Code(result.cast_unsigned()).to_win32()) };
    0
}

/// # Safety
/// As the function of kernel32.dll: `root` is a text, `buffer` has `length` units.
#[unsafe(no_mangle)]
unsafe extern "system" fn standin_get_volume_name(root: *const u16, buffer: *mut u16, length: u32) -> BOOL {
    // SAFETY: see the function.
    let root = unsafe { read(root) };
    let name = wide(&format!(r"{HOST_VOLUME}\"));
    // The name of a mount point ends in a backslash.
    if !root.to_string_lossy().ends_with('\\') || (length as usize) < name.len() {
        return answer(Code::INVALID_PARAMETER.hresult());
    }
    // SAFETY: there is room for all of it.
    unsafe { buffer.copy_from_nonoverlapping(name.as_ptr(), name.len()) };
    1
}

/// Opens the device of a volume; passes everything else to the real function.
///
/// # Safety
/// As the function of kernel32.dll.
#[unsafe(no_mangle)]
unsafe extern "system" fn standin_create_file(
    name: *const u16,
    access: u32,
    share: u32,
    security: *const SECURITY_ATTRIBUTES,
    disposition: u32,
    flags: u32,
    template: HANDLE,
) -> HANDLE {
    // SAFETY: see the function.
    let path = unsafe { read(name) }.to_string_lossy().into_owned();
    let sandbox = owner(&path);
    let dir = match &sandbox {
        Some((_, dir)) => dir.clone(),
        None if path == HOST_VOLUME => state::dir().clone(),
        // SAFETY: the caller's arguments are those of the real function.
        None => return unsafe { CreateFileW(name, access, share, security, disposition, flags, template) },
    };
    let open = OpenOptions::new()
        .read(true)
        .share_mode(SHARE_ALL)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
        .open(&dir);
    match open {
        Ok(file) => {
            let handle = file.into_raw_handle();
            if let Some(sandbox) = sandbox {
                OPEN.lock().unwrap_or_else(PoisonError::into_inner).insert(handle as usize, sandbox);
            }
            handle
        }
        Err(error) => {
            answer(Code::from(error).hresult());
            INVALID_HANDLE_VALUE
        }
    }
}

/// The device of a volume is not a directory and has no attributes, unlike in Wine.
///
/// # Safety
/// As the function of kernel32.dll: `name` is a text.
#[unsafe(no_mangle)]
unsafe extern "system" fn standin_get_file_attributes(name: *const u16) -> u32 {
    // SAFETY: see the function.
    let path = unsafe { read(name) }.to_string_lossy().into_owned();
    if path.starts_with(r"\\?\Volume{") && path.ends_with('}') {
        answer(Code::INVALID_PARAMETER.hresult());
        return INVALID_FILE_ATTRIBUTES;
    }
    // SAFETY: the caller's argument is that of the real function.
    unsafe { GetFileAttributesW(name) }
}

/// # Safety
/// As the function of kernel32.dll: `file` is an open file's handle.
#[unsafe(no_mangle)]
unsafe extern "system" fn standin_flush_file_buffers(file: HANDLE) -> BOOL {
    // SAFETY: see the function.
    let path = unsafe { path_of(file) };
    answer(call("FlushFileBuffers", json!({"path": path}), || Ok(())))
}

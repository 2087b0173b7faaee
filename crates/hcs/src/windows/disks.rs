//! Virtual disks and volumes.
//!
//! Source: go-winio `vhd/vhd.go`, hcsshim `internal/wclayer/expandscratchsize.go`.

use std::ffi::OsString;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::ptr;

use windows_sys::Win32::Storage::FileSystem::{
    GetDiskFreeSpaceExW, GetVolumeInformationW, GetVolumePathNameW,
};
use windows_sys::Win32::Storage::Vhd::{OPEN_VIRTUAL_DISK_PARAMETERS, VIRTUAL_STORAGE_TYPE};
use windows_sys::Win32::System::Ioctl::{FSCTL_EXTEND_VOLUME, IOCTL_DISK_GET_LENGTH_INFO};

use super::files::open_volume;
use super::handle::{check, owned};
use super::strings::{from_io, long, plain, text, wide};
use super::table::Table;
use crate::CALL_LOG;
use crate::error::{Code, Error, Result};

/// `OPEN_VIRTUAL_DISK_FLAG_CACHED_IO` and `OPEN_VIRTUAL_DISK_FLAG_IGNORE_RELATIVE_PARENT_LOCATOR`. Source:
/// virtdisk.h.
const OPEN_FLAGS: i32 = 0x08 | 0x80;
/// `ATTACH_VIRTUAL_DISK_FLAG_BYPASS_DEFAULT_ENCRYPTION_POLICY`.
const BYPASS_DEFAULT_ENCRYPTION_POLICY: i32 = 0x20;
/// `OPEN_VIRTUAL_DISK_VERSION_2`.
const VERSION_2: i32 = 2;
/// Bytes of NTFS' cluster and of a disk's sector, as hcsshim assumes them.
const CLUSTER: u64 = 4096;
const SECTOR: u64 = 512;

/// A virtual disk that is attached as long as this is held.
#[derive(Debug)]
pub struct AttachedDisk {
    _handle: OwnedHandle,
}

fn failed(code: u32, call: &'static str, path: &Path) -> Result<()> {
    tracing::trace!(target: CALL_LOG, "called {call}({}): {code:#010x}", path.display());
    if code == 0 { Ok(()) } else { Err(Error::new(call, path.display().to_string(), Code(code))) }
}

fn open(table: &Table, path: &Path, flags: i32) -> Result<OwnedHandle> {
    const CALL: &str = "OpenVirtualDisk";
    let function = table.OpenVirtualDisk.get()?;
    let name = wide(CALL, plain(path))?;
    // Any type of any vendor: Windows takes it from the file.
    let storage = VIRTUAL_STORAGE_TYPE::default();
    let parameters = OPEN_VIRTUAL_DISK_PARAMETERS { Version: VERSION_2, ..Default::default() };
    let mut handle = ptr::null_mut();
    // SAFETY: the name ends in zero, the structures have the given version, and all outlive the call.
    let code = unsafe {
        function(&raw const storage, name.as_ptr(), 0, flags, &raw const parameters, &raw mut handle)
    };
    failed(code, CALL, path)?;
    owned(handle, CALL, || path.display().to_string())
}

pub(super) fn detach(table: &Table, path: &Path) -> Result<()> {
    let function = table.DetachVirtualDisk.get()?;
    let handle = open(table, path, OPEN_FLAGS)?;
    // SAFETY: the disk is open.
    failed(unsafe { function(handle.as_raw_handle(), 0, 0) }, "DetachVirtualDisk", path)
}

pub(super) fn attach(table: &Table, path: &Path) -> Result<AttachedDisk> {
    let function = table.AttachVirtualDisk.get()?;
    let handle = open(table, path, 0)?;
    // SAFETY: the disk is open. Without parameters, of which older Windows know only version 1, the defaults
    // apply; without an overlapped structure the call returns when it is done.
    let code = unsafe {
        function(
            handle.as_raw_handle(),
            ptr::null_mut(),
            BYPASS_DEFAULT_ENCRYPTION_POLICY,
            0,
            ptr::null(),
            ptr::null(),
        )
    };
    failed(code, "AttachVirtualDisk", path)?;
    Ok(AttachedDisk { _handle: handle })
}

/// Sends one request to a volume.
fn control<I, O>(
    table: &Table,
    volume: &OwnedHandle,
    code: u32,
    input: Option<&I>,
    output: Option<&mut O>,
    name: impl FnOnce() -> String,
) -> Result<()> {
    let function = table.DeviceIoControl.get()?;
    let (input_pointer, input_size) =
        input.map_or((ptr::null(), 0), |input| (ptr::from_ref(input), size_of::<I>()));
    let (output_pointer, output_size) =
        output.map_or((ptr::null_mut(), 0), |output| (ptr::from_mut(output), size_of::<O>()));
    let mut count = 0;
    // SAFETY: both buffers have the given sizes and outlive the call, which returns when it is done.
    let result = unsafe {
        function(
            volume.as_raw_handle(),
            code,
            input_pointer.cast(),
            input_size as u32,
            output_pointer.cast(),
            output_size as u32,
            &raw mut count,
            ptr::null_mut(),
        )
    };
    check(result, "DeviceIoControl", name)
}

pub(super) fn extend_volume(table: &Table, volume: &Path) -> Result<()> {
    // Opening a volume needs its name without the backslash, and querying its space the name with it.
    let shown = volume.to_string_lossy();
    let bare = PathBuf::from(shown.trim_end_matches('\\'));
    let handle = open_volume(table, &bare)?;
    let mut partition = 0u64;
    let ask = || format!("IOCTL_DISK_GET_LENGTH_INFO, {}", volume.display());
    control::<(), _>(table, &handle, IOCTL_DISK_GET_LENGTH_INFO, None, Some(&mut partition), ask)?;
    let clusters = partition / CLUSTER;
    let root = wide("GetDiskFreeSpaceEx", format!(r"{}\", bare.display()))?;
    let mut size = 0;
    // SAFETY: the name ends in zero; only the total is requested.
    let result =
        unsafe { GetDiskFreeSpaceExW(root.as_ptr(), ptr::null_mut(), &raw mut size, ptr::null_mut()) };
    check(result, "GetDiskFreeSpaceEx", || volume.display().to_string())?;
    // NTFS keeps one cluster to itself; a volume without room to grow calls the request invalid.
    if size / CLUSTER + 1 < clusters {
        let sectors = clusters * (CLUSTER / SECTOR);
        let ask = || format!("FSCTL_EXTEND_VOLUME, {}, {sectors}", volume.display());
        control::<_, ()>(table, &handle, FSCTL_EXTEND_VOLUME, Some(&sectors), None, ask)?;
    }
    Ok(())
}

/// The root of the volume that `path` is on: a drive letter, or the directory where it is mounted.
fn volume_root(path: &Path) -> Result<OsString> {
    const CALL: &str = "GetVolumePathName";
    let mut existing = std::path::absolute(path).map_err(|error| from_io(CALL, path, &error))?;
    // A path that does not exist yet will be on the volume of its nearest existing parent.
    while !existing.exists() {
        if !existing.pop() {
            return Err(Error::new(CALL, path.display().to_string(), Code::PATH_NOT_FOUND));
        }
    }
    let name = long(CALL, &existing)?;
    let mut buffer = vec![0; name.len() + 64];
    // SAFETY: the name ends in zero, and the buffer has the given length.
    let found = unsafe { GetVolumePathNameW(name.as_ptr(), buffer.as_mut_ptr(), buffer.len() as u32) };
    check(found, CALL, || path.display().to_string())?;
    Ok(text(&buffer))
}

pub(super) fn file_system(path: &Path) -> Result<String> {
    let root = wide("GetVolumeInformation", volume_root(path)?)?;
    let mut buffer = [0; 64];
    // SAFETY: the name ends in zero, the buffer has the given length, and nothing else is requested.
    let result = unsafe {
        GetVolumeInformationW(
            root.as_ptr(),
            ptr::null_mut(),
            0,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            buffer.as_mut_ptr(),
            buffer.len() as u32,
        )
    };
    check(result, "GetVolumeInformation", || path.display().to_string())?;
    Ok(text(&buffer).to_string_lossy().into_owned())
}

/// The device of the volume that `path` is on: `\\?\Volume{GUID}`, without the backslash of its root.
fn volume_name(table: &Table, path: &Path) -> Result<PathBuf> {
    const CALL: &str = "GetVolumeNameForVolumeMountPoint";
    let function = table.GetVolumeNameForVolumeMountPointW.get()?;
    let root = wide(CALL, volume_root(path)?)?;
    let mut buffer = [0; 64];
    // SAFETY: the name ends in a backslash and zero, and the buffer has the given length.
    let found = unsafe { function(root.as_ptr(), buffer.as_mut_ptr(), buffer.len() as u32) };
    check(found, CALL, || path.display().to_string())?;
    Ok(PathBuf::from(text(&buffer).to_string_lossy().trim_end_matches('\\')))
}

/// An administrator may open a volume, and flushing it flushes every file on it. Source: Microsoft,
/// `FlushFileBuffers`.
pub(super) fn flush_volume(table: &Table, path: &Path) -> Result<()> {
    let function = table.FlushFileBuffers.get()?;
    let volume = open_volume(table, &volume_name(table, path)?)?;
    // SAFETY: the volume is open for writing.
    let flushed = unsafe { function(volume.as_raw_handle()) };
    check(flushed, "FlushFileBuffers", || path.display().to_string())
}

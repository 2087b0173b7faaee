//! `virtdisk.dll`, and the control codes of volumes. A disk is an existing file; attaching it is a state of
//! its sandbox.
//!
//! Source: go-winio `vhd/vhd.go`, hcsshim `internal/wclayer/expandscratchsize.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_void;
use std::fs::OpenOptions;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::IntoRawHandle;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::json;
use windows_sys::Win32::Foundation::{HANDLE, SetLastError};
use windows_sys::Win32::System::IO::{DeviceIoControl, OVERLAPPED};
use windows_sys::core::BOOL;

use crate::call::{call, call_win32};
use crate::code::Code;
use crate::sandbox::{DISK, State};
use crate::state::control;
use crate::text::read;
use crate::volumes;

const IOCTL_DISK_GET_LENGTH_INFO: u32 = 0x0007_405C;
const FSCTL_EXTEND_VOLUME: u32 = 0x0009_00F0;
/// `SHARE_READ | SHARE_WRITE | SHARE_DELETE`.
const SHARE_ALL: u32 = 7;

/// Paths of open disks. Handles are real ones, which their owner closes; the next file with the same number
/// replaces the entry.
static OPEN: Mutex<BTreeMap<usize, PathBuf>> = Mutex::new(BTreeMap::new());

/// Handles of disks that were attached. They stay attached until the handle is closed, which is not reported
/// to us.
static ATTACHED: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// Whether the disk of a sandbox is attached: one of its handles is open still.
pub(crate) fn is_attached(layer: &Path) -> bool {
    let attached = ATTACHED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_disk = |handle: &usize| {
        let handle = *handle as HANDLE;
        // SAFETY: a closed handle has no path; one whose number was reused has another.
        let now = unsafe { crate::backup::path_of(handle) };
        path_of(handle).is_some_and(|path| path == layer.join(DISK)) && now.ends_with(DISK)
    };
    attached.iter().any(is_disk)
}

fn path_of(handle: HANDLE) -> Option<PathBuf> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).get(&(handle as usize)).cloned()
}

fn shown(path: Option<&Path>) -> serde_json::Value {
    json!(path.map(Path::to_string_lossy))
}

/// # Safety
/// As the function of virtdisk.dll: `path` ends in zero, `handle` leads to a handle. So for all of these.
#[unsafe(no_mangle)]
unsafe extern "system" fn OpenVirtualDisk(
    _kind: *const c_void,
    path: *const u16,
    access: i32,
    flags: i32,
    _parameters: *const c_void,
    handle: *mut HANDLE,
) -> u32 {
    // SAFETY: see the function.
    let path = PathBuf::from(unsafe { read(path) });
    let args = json!({"path": path.to_string_lossy(), "access": access, "flags": flags});
    call_win32("OpenVirtualDisk", args, || {
        let file = OpenOptions::new().read(true).share_mode(SHARE_ALL).open(&path)?;
        let new = file.into_raw_handle();
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).insert(new as usize, path);
        // SAFETY: see the function.
        unsafe { *handle = new };
        Ok(())
    })
}

/// # Safety
/// See [`OpenVirtualDisk`].
#[unsafe(no_mangle)]
unsafe extern "system" fn AttachVirtualDisk(
    handle: HANDLE,
    _security: *const c_void,
    flags: i32,
    _provider: u32,
    _parameters: *const c_void,
    _overlapped: *const OVERLAPPED,
) -> u32 {
    let path = path_of(handle);
    call_win32("AttachVirtualDisk", json!({"path": shown(path.as_deref()), "flags": flags}), || {
        path.ok_or(Code::INVALID_PARAMETER)?;
        ATTACHED.lock().unwrap_or_else(PoisonError::into_inner).insert(handle as usize);
        Ok(())
    })
}

/// # Safety
/// See [`OpenVirtualDisk`].
#[unsafe(no_mangle)]
unsafe extern "system" fn DetachVirtualDisk(handle: HANDLE, flags: i32, _provider: u32) -> u32 {
    let path = path_of(handle);
    call_win32("DetachVirtualDisk", json!({"path": shown(path.as_deref()), "flags": flags}), || {
        let path = path.ok_or(Code::INVALID_PARAMETER)?;
        let layer = path.parent().filter(|_| path.ends_with(DISK)).ok_or(Code::NOT_READY)?;
        let state = State::load(layer)?.filter(|state| state.active).ok_or(Code::NOT_READY)?;
        volumes::hide(layer)?;
        Ok(State { active: false, prepared: false, ..state }.store(layer)?)
    })
}

/// Handles control codes of volumes; passes everything else to the real function.
///
/// # Safety
/// As the function of kernel32.dll.
#[unsafe(no_mangle)]
unsafe extern "system" fn standin_device_io_control(
    handle: HANDLE,
    code: u32,
    input: *const c_void,
    input_size: u32,
    output: *mut c_void,
    output_size: u32,
    returned: *mut u32,
    overlapped: *mut OVERLAPPED,
) -> BOOL {
    // SAFETY: see the function.
    let sandbox = unsafe { volumes::sandbox_of(handle) };
    let Some(sandbox) = sandbox.filter(|_| matches!(code, IOCTL_DISK_GET_LENGTH_INFO | FSCTL_EXTEND_VOLUME))
    else {
        // SAFETY: the caller's arguments are those of the real function.
        return unsafe {
            DeviceIoControl(handle, code, input, input_size, output, output_size, returned, overlapped)
        };
    };
    let args = json!({"path": shown(Some(&sandbox)), "code": code});
    let result = call("DeviceIoControl", args, || {
        if code == IOCTL_DISK_GET_LENGTH_INFO {
            let size = State::load(&sandbox)?.map_or(0, |state| state.size);
            if (output_size as usize) < size_of::<u64>() {
                return Err(Code::INVALID_PARAMETER);
            }
            // SAFETY: the buffer has room for the number.
            unsafe { output.cast::<u64>().write_unaligned(control().partition_length.unwrap_or(size)) };
        }
        Ok(())
    });
    if result == 0 {
        return 1;
    }
    // SAFETY: takes a number.
    unsafe { SetLastError(Code(result.cast_unsigned()).to_win32()) };
    0
}

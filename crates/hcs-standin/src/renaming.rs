//! Renaming directories, which NTFS refuses while something in them is open. Wine allows it, but honours the
//! share modes of open files, by which we find them.

use std::fs::OpenOptions;
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::{ERROR_SHARING_VIOLATION, SetLastError};
use windows_sys::Win32::Storage::FileSystem::MoveFileExW;
use windows_sys::core::BOOL;

use crate::code::Code;
use crate::sandbox::State;
use crate::text::read;
use crate::{disks, tree};

/// # Safety
/// As the function of kernel32.dll: both names are texts.
#[unsafe(no_mangle)]
unsafe extern "system" fn standin_move_file(from: *const u16, to: *const u16, flags: u32) -> BOOL {
    // SAFETY: see the function.
    let name = unsafe { read(from) }.to_string_lossy().into_owned();
    let path = PathBuf::from(name.strip_prefix(r"\\?\").unwrap_or(&name));
    let refused = match is_open(&path) {
        // SAFETY: the caller's arguments are those of the real function.
        Ok(false) => return unsafe { MoveFileExW(from, to, flags) },
        Ok(true) => Code::ACCESS_DENIED,
        Err(error) => error.into(),
    };
    // SAFETY: takes a number.
    unsafe { SetLastError(refused.to_win32()) };
    0
}

/// Whether a disk in a directory is attached, or a file in it is open.
fn is_open(path: &Path) -> io::Result<bool> {
    if !path.is_dir() {
        return Ok(false);
    }
    if State::load(path)?.is_some_and(|state| state.active) || disks::is_attached(path) {
        return Ok(true);
    }
    for entry in tree::walk(path)?.iter().filter(|entry| !entry.is_directory) {
        match OpenOptions::new().read(true).share_mode(0).open(path.join(&entry.path)) {
            Err(error) if error.raw_os_error() == Some(ERROR_SHARING_VIOLATION.cast_signed()) => {
                return Ok(true);
            }
            _ => {}
        }
    }
    Ok(false)
}

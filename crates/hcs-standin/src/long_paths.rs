//! Windows' limit of 260 characters.
//!
//! Source: hcsshim 357aec7e5, which gives `ImportLayer` and `ProcessBaseLayer` paths with the prefix because
//! they fail without it ("The filename or extension is too long (0xce)", moby 22449, 23976); Go
//! `runtime/os_windows.go`, `initLongPathSupport`, for the others.

use std::path::Path;

use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};

use crate::call::Outcome;
use crate::code::Code;
use crate::tree;

/// `MAX_PATH`.
const MAX_PATH: usize = 260;

/// The length of the longest path in a directory, if the directory is named by this path.
fn longest(dir: &Path) -> Result<usize, Code> {
    let length = |path: &Path| path.as_os_str().len();
    let entries = if dir.is_dir() { tree::walk(dir)? } else { Vec::new() };
    let deepest = entries.iter().map(|entry| length(&entry.path) + 1).max().unwrap_or(0);
    Ok(length(dir) + deepest)
}

/// For functions that accept long paths only with the prefix.
pub(crate) fn check(dir: &Path) -> Outcome {
    let has_prefix = dir.to_string_lossy().starts_with(r"\\?\");
    if has_prefix || longest(dir)? < MAX_PATH { Ok(()) } else { Err(Code::FILENAME_EXCED_RANGE) }
}

/// For functions that get plain paths, as from hcsshim, whose process is long-path aware.
pub(crate) fn check_process(dir: &Path) -> Outcome {
    if is_aware() || longest(dir)? < MAX_PATH { Ok(()) } else { Err(Code::PATH_NOT_FOUND) }
}

/// `IsLongPathAwareProcess` of this process.
fn is_aware() -> bool {
    // SAFETY: both names end in zero; the library is in every process.
    let function = unsafe {
        GetProcAddress(GetModuleHandleA(c"ntdll.dll".as_ptr().cast()), c"RtlGetCurrentPeb".as_ptr().cast())
    };
    let Some(function) = function else { return false };
    // SAFETY: the function takes nothing and returns the address of this process's block, which has the bit
    // field at its fourth byte.
    unsafe {
        let function = std::mem::transmute::<
            unsafe extern "system" fn() -> isize,
            unsafe extern "system" fn() -> *const u8,
        >(function);
        function().add(3).read_volatile() & 0x80 != 0
    }
}

//! `GetFileInformationByHandleEx` and `SetFileInformationByHandle`: times and attributes as NTFS keeps them;
//! the real functions handle everything else.

use std::ffi::c_void;

use windows_sys::Win32::Foundation::{HANDLE, SetLastError};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ATTRIBUTE_TAG_INFO, FILE_BASIC_INFO, FileAttributeTagInfo, FileBasicInfo,
    GetFileInformationByHandleEx, SetFileInformationByHandle,
};
use windows_sys::core::BOOL;

use crate::code::Code;
use crate::metadata::{self, Info};

/// Returns a `BOOL`, and sets the error for `GetLastError`.
fn answer(result: std::io::Result<()>) -> BOOL {
    match result {
        Ok(()) => 1,
        Err(error) => {
            // SAFETY: takes a number.
            unsafe { SetLastError(Code::from(error).to_win32()) };
            0
        }
    }
}

/// # Safety
/// As the real function.
#[unsafe(no_mangle)]
unsafe extern "system" fn standin_get_file_information(
    file: HANDLE,
    class: i32,
    out: *mut c_void,
    size: u32,
) -> BOOL {
    // SAFETY: the caller's arguments are those of the real function.
    let real = unsafe { GetFileInformationByHandleEx(file, class, out, size) };
    if real == 0 || (class != FileBasicInfo && class != FileAttributeTagInfo) {
        return real;
    }
    // SAFETY: the real function has accepted the handle as an open file and the buffer as large enough for
    // the class.
    answer(unsafe { metadata::info(file) }.map(|info| unsafe {
        if class == FileBasicInfo {
            out.cast::<FILE_BASIC_INFO>().write_unaligned(info.to_raw());
        } else {
            let tag = FILE_ATTRIBUTE_TAG_INFO { FileAttributes: info.attributes, ReparseTag: 0 };
            out.cast::<FILE_ATTRIBUTE_TAG_INFO>().write_unaligned(tag);
        }
    }))
}

/// # Safety
/// As the real function.
#[unsafe(no_mangle)]
unsafe extern "system" fn standin_set_file_information(
    file: HANDLE,
    class: i32,
    information: *const c_void,
    size: u32,
) -> BOOL {
    if class != FileBasicInfo || (size as usize) < size_of::<FILE_BASIC_INFO>() {
        // SAFETY: the caller's arguments are those of the real function.
        return unsafe { SetFileInformationByHandle(file, class, information, size) };
    }
    // SAFETY: the information has the size that the class has.
    let raw = unsafe { information.cast::<FILE_BASIC_INFO>().read_unaligned() };
    // SAFETY: the handle is the caller's open file.
    answer(unsafe { metadata::set_info(file, Info::from_raw(&raw)) })
}

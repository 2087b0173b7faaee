//! Texts of Windows' functions.

use std::ffi::OsString;
use std::os::windows::ffi::OsStringExt;

use windows_sys::Win32::System::Com::CoTaskMemAlloc;

/// The text at `pointer`; empty for null.
///
/// # Safety
/// `pointer` is null or leads to units that end in zero.
pub(crate) unsafe fn read(pointer: *const u16) -> OsString {
    if pointer.is_null() {
        return OsString::new();
    }
    // SAFETY: there are units up to and with the zero.
    let length = (0..).take_while(|&at| unsafe { *pointer.add(at) } != 0).count();
    // SAFETY: see above.
    OsString::from_wide(unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// [`read`], for the record.
///
/// # Safety
/// As for [`read`].
pub(crate) unsafe fn shown(pointer: *const u16) -> String {
    // SAFETY: the caller guarantees it.
    unsafe { read(pointer) }.to_string_lossy().into_owned()
}

pub(crate) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// A copy of `text` that its receiver frees with `CoTaskMemFree`.
pub(crate) fn allocated(text: &str) -> *mut u16 {
    let units = wide(text);
    // SAFETY: allocates as many bytes as the units have.
    let memory = unsafe { CoTaskMemAlloc(units.len() * 2) }.cast::<u16>();
    if !memory.is_null() {
        // SAFETY: the memory is new and has room for all units.
        unsafe { memory.copy_from_nonoverlapping(units.as_ptr(), units.len()) };
    }
    memory
}

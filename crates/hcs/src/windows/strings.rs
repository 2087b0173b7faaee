//! Converts text for Windows and back.

use std::ffi::{OsStr, OsString};
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::ptr;

use windows_sys::Win32::System::Com::CoTaskMemFree;
use windows_sys::core::PWSTR;

use crate::error::{Code, Error, Result};
use crate::long_path;

/// UTF-16 with a zero at the end.
///
/// Text with a zero inside would be cut there, so it is refused.
pub(super) fn wide(call: &'static str, text: impl AsRef<OsStr>) -> Result<Vec<u16>> {
    let text = text.as_ref();
    let mut units: Vec<u16> = text.encode_wide().collect();
    if units.contains(&0) {
        return Err(Error::new(call, text.to_string_lossy(), Code::INVALID_NAME));
    }
    units.push(0);
    Ok(units)
}

/// A path for functions that accept any length; made absolute.
pub(super) fn long(call: &'static str, path: &Path) -> Result<Vec<u16>> {
    let absolute = std::path::absolute(path).map_err(|e| from_io(call, path, &e))?;
    match absolute.to_str() {
        Some(text) => wide(call, long_path::add_prefix(text)),
        // Not proper UTF-16, so nobody typed it: use it as it is.
        None => wide(call, absolute),
    }
}

/// A path for functions of the compute service, which get no prefix.
pub(super) fn plain(path: &Path) -> OsString {
    path.to_str().map_or_else(|| path.as_os_str().to_owned(), |text| long_path::strip_prefix(text).into())
}

pub(super) fn from_io(call: &'static str, path: &Path, error: &std::io::Error) -> Error {
    let code = error.raw_os_error().map_or(Code::INVALID_NAME, |code| Code(code.cast_unsigned()));
    Error { text: error.to_string(), ..Error::new(call, path.display().to_string(), code) }
}

/// The text in a buffer, up to its zero.
pub(super) fn text(buffer: &[u16]) -> OsString {
    let end = buffer.iter().position(|&unit| unit == 0).unwrap_or(buffer.len());
    OsString::from_wide(&buffer[..end])
}

/// Text that a function allocated for its caller.
pub(super) struct TaskString(PWSTR);

impl TaskString {
    /// No text yet; a function fills it in.
    pub(super) fn empty() -> Self {
        Self(ptr::null_mut())
    }

    /// The pointer for the function to set.
    pub(super) fn out(&mut self) -> *mut PWSTR {
        &raw mut self.0
    }

    /// The text, if any.
    pub(super) fn take(self) -> Option<String> {
        if self.0.is_null() {
            return None;
        }
        let mut length = 0;
        // SAFETY: the function returned text that ends in zero; the loop stops at the zero.
        while unsafe { *self.0.add(length) } != 0 {
            length += 1;
        }
        // SAFETY: these units were just read, and no other code has the memory.
        let units = unsafe { std::slice::from_raw_parts(self.0, length) };
        Some(String::from_utf16_lossy(units))
    }
}

impl Drop for TaskString {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: allocated by the function for its caller to free this way, and freed once.
            unsafe { CoTaskMemFree(self.0.cast_const().cast()) };
        }
    }
}

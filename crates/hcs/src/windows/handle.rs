//! Errors of the functions that report by "last error", and handles that close themselves.

use std::os::windows::io::{FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{GetLastError, HANDLE, INVALID_HANDLE_VALUE};

use crate::CALL_LOG;
use crate::error::{Code, Error, Result};

/// The error of this thread's last call. It is read before the arguments are formatted, which may change it.
pub(super) fn last_error(call: &'static str, arguments: impl FnOnce() -> String) -> Error {
    // SAFETY: takes nothing, and cannot fail.
    let code = Code(unsafe { GetLastError() });
    Error::new(call, arguments(), code)
}

/// For functions that return FALSE on failure.
pub(super) fn check(result: i32, call: &'static str, arguments: impl FnOnce() -> String) -> Result<()> {
    if result == 0 {
        return Err(last_error(call, arguments));
    }
    Ok(())
}

/// For functions that return an HRESULT. Logs every call ([`CALL_LOG`]).
pub(super) fn check_result(result: i32, call: &'static str, arguments: impl Fn() -> String) -> Result<()> {
    tracing::trace!(target: CALL_LOG, "called {call}({}): {result:#010x}", arguments());
    Code::of_hresult(result).map_or(Ok(()), |code| Err(Error::new(call, arguments(), code)))
}

/// Logs the output of a function that succeeded.
pub(super) fn answered(call: &'static str, answer: &str) {
    tracing::trace!(target: CALL_LOG, "answer of {call}: {answer}");
}

/// Wraps a handle that a function returned for its caller to close.
pub(super) fn owned(
    handle: HANDLE,
    call: &'static str,
    arguments: impl FnOnce() -> String,
) -> Result<OwnedHandle> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(last_error(call, arguments));
    }
    // SAFETY: the function returned this open handle to its caller, and nobody else closes it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

//! `BackupRead` and `BackupWrite`: a file as one stream with all its metadata.
//!
//! Source: go-winio `backup.go`.

use std::ffi::c_void;
use std::io::{self, Read, Write};
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::Arc;

use super::handle::check;
use super::table::Table;

/// A file's backup stream.
#[derive(Debug)]
pub struct BackupReader {
    state: State,
}

/// Restores a file from its backup stream.
#[derive(Debug)]
pub struct BackupWriter {
    state: State,
}

#[derive(Debug)]
struct State {
    table: Arc<Table>,
    file: OwnedHandle,
    path: String,
    security: bool,
    /// The function's own state between calls.
    context: *mut c_void,
}

// SAFETY: the context belongs to the file and is used by one call at a time, on any thread.
unsafe impl Send for State {}

impl BackupReader {
    pub(super) fn new(table: Arc<Table>, file: OwnedHandle, path: String, security: bool) -> Self {
        Self { state: State { table, file, path, security, context: ptr::null_mut() } }
    }
}

impl BackupWriter {
    pub(super) fn new(table: Arc<Table>, file: OwnedHandle, path: String, security: bool) -> Self {
        Self { state: State { table, file, path, security, context: ptr::null_mut() } }
    }
}

/// As much of a buffer as one call takes.
fn length(buffer: &[u8]) -> u32 {
    u32::try_from(buffer.len()).unwrap_or(u32::MAX)
}

impl Read for BackupReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let state = &mut self.state;
        let function = state.table.BackupRead.get()?;
        let mut count = 0;
        // SAFETY: the file is open, the buffer has the given length, and the context is that of the previous
        // calls.
        let result = unsafe {
            function(
                state.file.as_raw_handle(),
                buffer.as_mut_ptr(),
                length(buffer),
                &raw mut count,
                0,
                i32::from(state.security),
                &raw mut state.context,
            )
        };
        check(result, "BackupRead", || state.path.clone())?;
        Ok(count as usize)
    }
}

impl Write for BackupWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let state = &mut self.state;
        let function = state.table.BackupWrite.get()?;
        let mut count = 0;
        // SAFETY: the file is open, the buffer has the given length, and the context is that of the previous
        // calls.
        let result = unsafe {
            function(
                state.file.as_raw_handle(),
                buffer.as_ptr(),
                length(buffer),
                &raw mut count,
                0,
                i32::from(state.security),
                &raw mut state.context,
            )
        };
        check(result, "BackupWrite", || state.path.clone())?;
        Ok(count as usize)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BackupReader {
    fn drop(&mut self) {
        let state = &mut self.state;
        if state.context.is_null() {
            return;
        }
        if let Ok(function) = state.table.BackupRead.get() {
            let mut count = 0;
            // SAFETY: the file is open; with "abort" set the function frees the context and reads nothing
            // else.
            unsafe {
                function(
                    state.file.as_raw_handle(),
                    ptr::null_mut(),
                    0,
                    &raw mut count,
                    1,
                    0,
                    &raw mut state.context,
                )
            };
        }
    }
}

impl Drop for BackupWriter {
    fn drop(&mut self) {
        let state = &mut self.state;
        if state.context.is_null() {
            return;
        }
        if let Ok(function) = state.table.BackupWrite.get() {
            let mut count = 0;
            // SAFETY: the file is open; with "abort" set the function frees the context and reads nothing
            // else.
            unsafe {
                function(
                    state.file.as_raw_handle(),
                    ptr::null(),
                    0,
                    &raw mut count,
                    1,
                    0,
                    &raw mut state.context,
                )
            };
        }
    }
}

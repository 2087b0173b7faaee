//! The programs that have files open, from the Restart Manager, which installers use for the same question.
//!
//! Source: Microsoft, "Using Restart Manager with a Primary Installer"; restartmanager.h.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::ptr;

use windows_sys::Win32::Foundation::ERROR_MORE_DATA;
use windows_sys::Win32::System::RestartManager::{CCH_RM_SESSION_KEY, RM_PROCESS_INFO};

use super::strings::{long, text};
use super::table::Table;
use crate::error::{Code, Error, Result};

/// Most files to ask about: the Restart Manager takes seconds for many thousand.
const MOST_FILES: usize = 1_000;
/// How often to ask again for a list that has grown meanwhile.
const ATTEMPTS: usize = 4;

fn check(code: u32, call: &'static str, path: &Path) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(Error::new(call, path.display().to_string(), Code(code))) }
}

/// A session; dropping this ends it.
struct Session<'a> {
    table: &'a Table,
    handle: u32,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Ok(end) = self.table.RmEndSession.get() {
            // SAFETY: the session is open and ended once.
            unsafe { end(self.handle) };
        }
    }
}

/// Programs that have a file in the directory `dir` open.
pub(super) fn of(table: &Table, dir: &Path) -> Result<Vec<String>> {
    let files = files_in(dir);
    let names = files.iter().map(|file| long("RmRegisterResources", file)).collect::<Result<Vec<_>>>()?;
    let pointers: Vec<_> = names.iter().map(Vec::as_ptr).collect();
    if pointers.is_empty() {
        return Ok(Vec::new());
    }
    let (start, register) = (table.RmStartSession.get()?, table.RmRegisterResources.get()?);
    let mut handle = 0;
    let mut key = [0u16; CCH_RM_SESSION_KEY as usize + 1];
    // SAFETY: the key has as many units as the function writes, with the zero.
    check(unsafe { start(&raw mut handle, 0, key.as_mut_ptr()) }, "RmStartSession", dir)?;
    let session = Session { table, handle };
    // SAFETY: the count of names is right, each ends in zero and outlives the call; no processes and no
    // services.
    let registered =
        unsafe { register(handle, pointers.len() as u32, pointers.as_ptr(), 0, ptr::null(), 0, ptr::null()) };
    check(registered, "RmRegisterResources", dir)?;
    list(&session, dir)
}

fn list(session: &Session<'_>, dir: &Path) -> Result<Vec<String>> {
    const CALL: &str = "RmGetList";
    let get = session.table.RmGetList.get()?;
    let mut found: Vec<RM_PROCESS_INFO> = Vec::new();
    for _ in 0..ATTEMPTS {
        let (mut needed, mut count, mut reasons) = (0, found.len() as u32, 0);
        // SAFETY: the list has room for the given count.
        let code = unsafe {
            get(session.handle, &raw mut needed, &raw mut count, found.as_mut_ptr(), &raw mut reasons)
        };
        if code != ERROR_MORE_DATA {
            check(code, CALL, dir)?;
            found.truncate(count as usize);
            return Ok(found.iter().map(shown).collect());
        }
        found.resize(needed as usize, RM_PROCESS_INFO::default());
    }
    Err(Error::new(CALL, dir.display().to_string(), Code(ERROR_MORE_DATA)))
}

fn shown(program: &RM_PROCESS_INFO) -> String {
    let name = text(&program.strAppName);
    format!("{} (process {})", name.to_string_lossy(), program.Process.dwProcessId)
}

/// Files in a directory and below, the upper ones first, as far as they can be listed.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    let (mut directories, mut files) = (VecDeque::from([dir.to_owned()]), Vec::new());
    while let Some(dir) = directories.pop_front() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            match entry.file_type() {
                _ if files.len() == MOST_FILES => return files,
                Ok(kind) if kind.is_dir() => directories.push_back(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

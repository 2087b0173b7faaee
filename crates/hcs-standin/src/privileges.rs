//! Checks that a caller has enabled the privileges that a function needs.

use std::ptr;

use windows_sys::Win32::Foundation::{CloseHandle, LUID};
use windows_sys::Win32::Security::{
    LUID_AND_ATTRIBUTES, LookupPrivilegeValueW, PRIVILEGE_SET, PrivilegeCheck, TOKEN_QUERY,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, OpenProcessToken, OpenThreadToken,
};

use crate::call::Outcome;
use crate::code::Code;
use crate::text::wide;

/// `PRIVILEGE_SET_ALL_NECESSARY` (winnt.h).
const ALL_NECESSARY: u32 = 1;
const BACKUP: &str = "SeBackupPrivilege";
const RESTORE: &str = "SeRestorePrivilege";

/// To export a layer. Source: hcsshim `internal/wclayer/exportlayer.go`, `ExportLayer`.
pub(crate) fn need_backup() -> Outcome {
    need(BACKUP)
}

/// To import or finish a layer. Source: hcsshim `internal/wclayer/importlayer.go`, `ImportLayer`.
pub(crate) fn need_backup_and_restore() -> Outcome {
    need(BACKUP).and_then(|()| need(RESTORE))
}

/// Fails unless the privilege is enabled for the thread or, without a token of its own, for the process.
fn need(name: &str) -> Outcome {
    let mut token = ptr::null_mut();
    // SAFETY: the handles of this thread and process need no closing; the token is closed below.
    let opened = unsafe {
        OpenThreadToken(GetCurrentThread(), TOKEN_QUERY, 1, &raw mut token) != 0
            || OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) != 0
    };
    let (mut luid, mut is_on, name) = (LUID::default(), 0, wide(name));
    // SAFETY: the name ends in zero; null is this machine.
    if !opened || unsafe { LookupPrivilegeValueW(ptr::null(), name.as_ptr(), &raw mut luid) } == 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let mut set = PRIVILEGE_SET {
        PrivilegeCount: 1,
        Control: ALL_NECESSARY,
        Privilege: [LUID_AND_ATTRIBUTES { Luid: luid, Attributes: 0 }],
    };
    // SAFETY: the token is open; the set has one privilege, as it says.
    let checked = unsafe { PrivilegeCheck(token, &raw mut set, &raw mut is_on) };
    // SAFETY: the token is open, and is not used again.
    unsafe { CloseHandle(token) };
    if checked != 0 && is_on != 0 { Ok(()) } else { Err(Code::PRIVILEGE_NOT_HELD) }
}

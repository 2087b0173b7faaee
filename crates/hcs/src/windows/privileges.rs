//! Enables privileges for the process, or for one thread and no longer than needed.
//!
//! All threads share the privileges of the process, and threads that enable or disable one disturb each
//! other. So a thread that works for the layer store gets a token of its own. Source: go-winio
//! `privilege.go`.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use windows_sys::Win32::Foundation::{GetLastError, HANDLE, LUID};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, ImpersonateSelf, LUID_AND_ATTRIBUTES, LookupPrivilegeValueW, RevertToSelf,
    SE_PRIVILEGE_ENABLED, SecurityImpersonation, TOKEN_ADJUST_PRIVILEGES, TOKEN_PRIVILEGES, TOKEN_QUERY,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, OpenProcessToken, OpenThreadToken,
};

use super::handle::{check, owned};
use super::strings::wide;
use crate::error::{Code, Error, Result};
use crate::host::Privilege;

fn names(privileges: &[Privilege]) -> String {
    privileges.iter().map(|privilege| privilege.name()).collect::<Vec<_>>().join(", ")
}

/// Enables or disables one privilege.
fn adjust_one(token: HANDLE, privilege: Privilege, attributes: u32) -> Result<()> {
    let name = wide("LookupPrivilegeValue", privilege.name())?;
    let mut luid = LUID::default();
    // SAFETY: the name ends in zero; null is this machine.
    let found = unsafe { LookupPrivilegeValueW(ptr::null(), name.as_ptr(), &raw mut luid) };
    check(found, "LookupPrivilegeValue", || privilege.name().to_owned())?;
    let state = TOKEN_PRIVILEGES {
        PrivilegeCount: 1,
        Privileges: [LUID_AND_ATTRIBUTES { Luid: luid, Attributes: attributes }],
    };
    // SAFETY: the token is open for adjusting; the state holds one privilege, as its count says; the old
    // state is not requested.
    let adjusted =
        unsafe { AdjustTokenPrivileges(token, 0, &raw const state, 0, ptr::null_mut(), ptr::null_mut()) };
    check(adjusted, "AdjustTokenPrivileges", || privilege.name().to_owned())?;
    // SAFETY: takes nothing. If the user does not hold the privilege, the function succeeds and only sets
    // this error.
    match unsafe { GetLastError() } {
        0 => Ok(()),
        code => Err(Error::new("AdjustTokenPrivileges", privilege.name(), Code(code))),
    }
}

fn adjust(token: HANDLE, privileges: &[Privilege], attributes: u32) -> Result<()> {
    privileges.iter().try_for_each(|&privilege| adjust_one(token, privilege, attributes))
}

/// The number of users of each privilege of the process: if one no longer needs it, another still may.
static USES: Mutex<BTreeMap<&'static str, usize>> = Mutex::new(BTreeMap::new());

/// Sets privileges of the whole process. A privilege is disabled when its last user disables it.
pub(super) fn set_for_process(privileges: &[Privilege], enable: bool) -> Result<()> {
    let mut uses = USES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut token = ptr::null_mut();
    // SAFETY: takes nothing; the handle it returns needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: the process is this one; the token is closed by its owner.
    let opened = unsafe { OpenProcessToken(process, TOKEN_ADJUST_PRIVILEGES | TOKEN_QUERY, &raw mut token) };
    check(opened, "OpenProcessToken", || names(privileges))?;
    let token = owned(token, "OpenProcessToken", || names(privileges))?;
    if enable {
        adjust(token.as_raw_handle(), privileges, SE_PRIVILEGE_ENABLED)?;
        for privilege in privileges {
            *uses.entry(privilege.name()).or_default() += 1;
        }
        return Ok(());
    }
    let mut unused = Vec::new();
    for &privilege in privileges {
        let users = uses.entry(privilege.name()).or_default();
        *users = users.saturating_sub(1);
        if *users == 0 {
            unused.push(privilege);
        }
    }
    adjust(token.as_raw_handle(), &unused, 0)
}

/// Privileges of this thread. Dropping this ends them; the type ensures that this happens on the same thread.
#[derive(Debug)]
pub struct ThreadPrivileges {
    _token: OwnedHandle,
    _this_thread: PhantomData<*const ()>,
}

impl ThreadPrivileges {
    pub(super) fn enable(privileges: &[Privilege]) -> Result<Self> {
        // SAFETY: gives this thread a copy of the process's token, until it reverts.
        let impersonated = unsafe { ImpersonateSelf(SecurityImpersonation) };
        check(impersonated, "ImpersonateSelf", || names(privileges))?;
        Self::adjusted(privileges).inspect_err(|_| revert())
    }

    fn adjusted(privileges: &[Privilege]) -> Result<Self> {
        let mut token = ptr::null_mut();
        // SAFETY: takes nothing; the handle it returns needs no closing.
        let thread = unsafe { GetCurrentThread() };
        // SAFETY: the thread is this one; the token is closed by its owner.
        let opened =
            unsafe { OpenThreadToken(thread, TOKEN_ADJUST_PRIVILEGES | TOKEN_QUERY, 0, &raw mut token) };
        check(opened, "OpenThreadToken", || names(privileges))?;
        let token = owned(token, "OpenThreadToken", || names(privileges))?;
        adjust(token.as_raw_handle(), privileges, SE_PRIVILEGE_ENABLED)?;
        Ok(Self { _token: token, _this_thread: PhantomData })
    }
}

impl Drop for ThreadPrivileges {
    fn drop(&mut self) {
        revert();
    }
}

/// Ends impersonation. Aborts on failure: the thread must not keep the rights.
fn revert() {
    // SAFETY: takes nothing.
    if unsafe { RevertToSelf() } == 0 {
        std::process::abort();
    }
}

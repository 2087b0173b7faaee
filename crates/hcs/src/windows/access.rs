//! Security descriptors of directories, and the user of this process.
//!
//! Source: go-winio `sd.go`; moby `daemon/internal/system/filesys_windows.go`, `mkdirWithACL`.

use std::ffi::c_void;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{
    CheckTokenMembership, CreateWellKnownSid, DACL_SECURITY_INFORMATION, GetKernelObjectSecurity,
    GetTokenInformation, OWNER_SECURITY_INFORMATION, SECURITY_ATTRIBUTES, SECURITY_MAX_SID_SIZE, TOKEN_QUERY,
    TOKEN_USER, TokenUser, WinBuiltinAdministratorsSid,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateDirectoryW, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, READ_CONTROL,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};
use windows_sys::core::PWSTR;

use super::files::{SHARE_ALL, open_path};
use super::handle::{check, last_error, owned};
use super::strings::{long, wide};
use crate::access::{AccessControl, User};
use crate::error::{Code, Result};

/// Access control of this Windows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Access;

impl AccessControl for Access {
    fn create_directory(&self, path: &Path, sddl: &str) -> Result<()> {
        create_directory(path, sddl)
    }

    fn security_descriptor(&self, path: &Path) -> Result<Vec<u8>> {
        security_descriptor(path)
    }

    fn user(&self) -> Result<User> {
        user()
    }
}

/// Memory that a function gave to its caller.
struct Local(*mut c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: allocated by a function for its caller to free this way, and freed once.
        unsafe { LocalFree(self.0) };
    }
}

fn create_directory(path: &Path, sddl: &str) -> Result<()> {
    const CALL: &str = "CreateDirectory";
    let (name, text) = (long(CALL, path)?, wide(CALL, sddl)?);
    let mut descriptor = ptr::null_mut();
    // SAFETY: the text ends in zero; the function returns memory to free, and its size is not requested.
    let converted = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &raw mut descriptor,
            ptr::null_mut(),
        )
    };
    check(converted, "ConvertStringSecurityDescriptorToSecurityDescriptor", || sddl.to_owned())?;
    let descriptor = Local(descriptor);
    let attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor.0,
        bInheritHandle: 0,
    };
    // SAFETY: the name ends in zero, the attributes say their size, and both outlive the call.
    let created = unsafe { CreateDirectoryW(name.as_ptr(), &raw const attributes) };
    check(created, CALL, || format!("{}, {sddl}", path.display()))
}

fn security_descriptor(path: &Path) -> Result<Vec<u8>> {
    const CALL: &str = "GetKernelObjectSecurity";
    let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
    let handle = open_path(path, READ_CONTROL, SHARE_ALL, flags)?;
    let wanted = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION;
    let mut descriptor: Vec<u8> = Vec::new();
    let mut size = 0u32;
    loop {
        // SAFETY: the buffer has the given size; the function writes a self-relative descriptor, or its size.
        let result = unsafe {
            GetKernelObjectSecurity(
                handle.as_raw_handle(),
                wanted,
                descriptor.as_mut_ptr().cast(),
                descriptor.len() as u32,
                &raw mut size,
            )
        };
        if result != 0 {
            descriptor.truncate(size as usize);
            return Ok(descriptor);
        }
        let error = last_error(CALL, || path.display().to_string());
        // It may grow in between.
        if error.code != Code(ERROR_INSUFFICIENT_BUFFER) || size as usize <= descriptor.len() {
            return Err(error);
        }
        descriptor = vec![0u8; size as usize];
    }
}

fn user() -> Result<User> {
    Ok(User { sid: user_sid()?, is_administrator: is_administrator()? })
}

fn user_sid() -> Result<String> {
    const CALL: &str = "GetTokenInformation";
    let token = process_token()?;
    // A TOKEN_USER with its SID behind it; in words, for its alignment.
    let mut buffer = [0usize; 32];
    let mut size = 0;
    // SAFETY: the buffer has the given size.
    let result = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            buffer.as_mut_ptr().cast(),
            size_of_val(&buffer) as u32,
            &raw mut size,
        )
    };
    check(result, CALL, String::new)?;
    // SAFETY: the function has put a TOKEN_USER there, which the buffer is aligned for.
    let sid = unsafe { (*buffer.as_ptr().cast::<TOKEN_USER>()).User.Sid };
    let mut text: PWSTR = ptr::null_mut();
    // SAFETY: the SID is in the buffer; the function returns text to free.
    let result = unsafe { ConvertSidToStringSidW(sid, &raw mut text) };
    check(result, "ConvertSidToStringSid", String::new)?;
    let memory = Local(text.cast());
    let mut length = 0;
    // SAFETY: the function returned text that ends in zero; the loop stops at the zero.
    while unsafe { *memory.0.cast::<u16>().add(length) } != 0 {
        length += 1;
    }
    // SAFETY: these units were just read, and no other code has the memory.
    Ok(String::from_utf16_lossy(unsafe { std::slice::from_raw_parts(memory.0.cast::<u16>(), length) }))
}

fn process_token() -> Result<OwnedHandle> {
    let mut token = ptr::null_mut();
    // SAFETY: the pseudo-handle of this process needs no closing; that of the token is owned.
    let opened = unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) };
    check(opened, "OpenProcessToken", String::new)?;
    owned(token, "OpenProcessToken", String::new)
}

fn is_administrator() -> Result<bool> {
    let mut sid = [0u32; SECURITY_MAX_SID_SIZE as usize / size_of::<u32>()];
    let mut size = size_of_val(&sid) as u32;
    // SAFETY: the buffer has the given size, and is aligned for a SID.
    let made = unsafe {
        CreateWellKnownSid(
            WinBuiltinAdministratorsSid,
            ptr::null_mut(),
            sid.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    check(made, "CreateWellKnownSid", String::new)?;
    let mut is_member = 0;
    // SAFETY: without a token it is this thread's; the SID was just made.
    let result =
        unsafe { CheckTokenMembership(ptr::null_mut(), sid.as_mut_ptr().cast(), &raw mut is_member) };
    check(result, "CheckTokenMembership", String::new)?;
    Ok(is_member != 0)
}

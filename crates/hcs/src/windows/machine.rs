//! What this machine is, and when it was started.

use std::ptr;

use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_DWORD, RegGetValueW};
use windows_sys::Win32::System::SystemInformation::OSVERSIONINFOW;

use super::strings::wide;
use crate::error::{Code, Error, Result};

/// The true build; `GetVersionEx` gives an older one to programs that are not declared for this Windows.
pub(super) fn os_build() -> Result<u32> {
    let mut version =
        OSVERSIONINFOW { dwOSVersionInfoSize: size_of::<OSVERSIONINFOW>() as u32, ..Default::default() };
    // SAFETY: the structure says its size.
    match unsafe { RtlGetVersion(&raw mut version) } {
        0 => Ok(version.dwBuildNumber),
        status => Err(Error::new("RtlGetVersion", "", Code(status.cast_unsigned()))),
    }
}

/// Windows counts its starts.
pub(super) fn boot() -> Option<String> {
    let key = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters";
    let (key, value) = (wide("RegGetValue", key).ok()?, wide("RegGetValue", "BootId").ok()?);
    let mut count = 0u32;
    let mut size = size_of::<u32>() as u32;
    // SAFETY: both names end in zero; only a number of the size that is said is asked for.
    let code = unsafe {
        RegGetValueW(
            HKEY_LOCAL_MACHINE,
            key.as_ptr(),
            value.as_ptr(),
            RRF_RT_REG_DWORD,
            ptr::null_mut(),
            (&raw mut count).cast(),
            &raw mut size,
        )
    };
    (code == 0).then(|| format!("boot {count}"))
}

//! The machine's build, boot and long paths.

use std::ptr;

use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Registry::{
    HKEY_LOCAL_MACHINE, KEY_QUERY_VALUE, RRF_RT_REG_DWORD, RegCloseKey, RegGetValueW, RegOpenKeyExW,
    RegQueryInfoKeyW,
};
use windows_sys::Win32::System::SystemInformation::OSVERSIONINFOW;

use super::strings::wide;
use super::table;
use crate::error::{Code, Error, Result};

/// The true build; `GetVersionEx` reports an older one to programs that do not declare support for this
/// Windows.
pub(super) fn os_build() -> Result<u32> {
    let mut version =
        OSVERSIONINFOW { dwOSVersionInfoSize: size_of::<OSVERSIONINFOW>() as u32, ..Default::default() };
    // SAFETY: the structure holds its size.
    match unsafe { RtlGetVersion(&raw mut version) } {
        0 => Ok(version.dwBuildNumber),
        status => Err(Error::new("RtlGetVersion", "", Code(status.cast_unsigned()))),
    }
}

/// An ID of the current boot: Windows' count of boots, or the time when it made the part of the registry that
/// describes the machine, which is in memory only.
///
/// The count comes from the prefetcher, which a server may lack.
pub(super) fn boot() -> Option<String> {
    boot_count().map(|count| format!("boot {count}")).or_else(|| {
        let time = written(r"HARDWARE\DESCRIPTION")?;
        Some(format!("started {time:#x}"))
    })
}

fn boot_count() -> Option<u32> {
    let key = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters";
    let (key, value) = (wide("RegGetValue", key).ok()?, wide("RegGetValue", "BootId").ok()?);
    let mut count = 0u32;
    let mut size = size_of::<u32>() as u32;
    // SAFETY: both names end in zero; only a number of the given size is requested.
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
    (code == 0).then_some(count)
}

/// When an entry directly in a key of the machine was last written, as a FILETIME.
fn written(key: &str) -> Option<u64> {
    let key = wide("RegOpenKeyEx", key).ok()?;
    let mut opened = ptr::null_mut();
    // SAFETY: the name ends in zero; the handle is closed below.
    let code =
        unsafe { RegOpenKeyExW(HKEY_LOCAL_MACHINE, key.as_ptr(), 0, KEY_QUERY_VALUE, &raw mut opened) };
    if code != 0 {
        return None;
    }
    let mut time = FILETIME::default();
    // SAFETY: the key was opened above; only the time is requested.
    let code = unsafe {
        RegQueryInfoKeyW(
            opened,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut time,
        )
    };
    // SAFETY: opened above, and closed once.
    unsafe { RegCloseKey(opened) };
    let time = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    (code == 0 && time != 0).then_some(time)
}

/// `IsLongPathAwareProcess` in the bit field of the process environment block, and the offset of the field.
const LONG_PATH_AWARE: u8 = 0x80;
const BIT_FIELD_OFFSET: usize = 3;
/// Before this build the bit has another meaning. Source: Go `runtime/os_windows.go`, `initLongPathSupport`.
const FIRST_BUILD_WITH_LONG_PATHS: u32 = 15_063;

/// Lets this process use paths of more than 260 characters, also in the compute service's library, which gets
/// plain paths. A manifest has the same effect, but only if the administrator has enabled `LongPathsEnabled`;
/// so Go sets the bit in all its programs, including those with hcsshim.
///
/// Source: Go `runtime/os_windows.go`, `initLongPathSupport`.
pub(super) fn take_long_paths() {
    if os_build().is_ok_and(|build| build < FIRST_BUILD_WITH_LONG_PATHS) {
        return;
    }
    let Some(current_peb) = table::system_function("ntdll.dll", "RtlGetCurrentPeb\0") else { return };
    // SAFETY: the function takes nothing and returns the address of this process's block.
    let current_peb = unsafe {
        std::mem::transmute::<unsafe extern "system" fn() -> isize, unsafe extern "system" fn() -> *mut u8>(
            current_peb,
        )
    };
    // SAFETY: the block lives as long as the process. Other threads may read the bit meanwhile, but do not
    // set other bits of this byte, which are all set once, when the process starts.
    unsafe {
        let bits = current_peb().add(BIT_FIELD_OFFSET);
        bits.write_volatile(bits.read_volatile() | LONG_PATH_AWARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_from_others_with_and_without_a_count() {
        assert!(boot().is_some_and(|boot| !boot.is_empty()));
        let time = written(r"HARDWARE\DESCRIPTION");
        assert!(time.is_some() && time == written(r"hardware\description"));
        assert_eq!(written(r"HARDWARE\NONE OF WINDOWS"), None);
    }
}

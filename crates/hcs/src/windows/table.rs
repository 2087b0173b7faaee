//! Functions that are looked up at run time. `vmcompute.dll` and `virtdisk.dll` are missing if their Windows
//! features are not installed; and a stand-in library can replace all of these functions.

use std::fmt;
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Foundation::{HANDLE, HMODULE};
use windows_sys::Win32::Security::{PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES};
use windows_sys::Win32::Storage::Vhd::{
    ATTACH_VIRTUAL_DISK_PARAMETERS, OPEN_VIRTUAL_DISK_PARAMETERS, VIRTUAL_STORAGE_TYPE,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::LibraryLoader::{
    GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LOAD_WITH_ALTERED_SEARCH_PATH, LoadLibraryExW,
};
use windows_sys::Win32::System::RestartManager::{RM_PROCESS_INFO, RM_UNIQUE_PROCESS};
use windows_sys::core::{BOOL, HRESULT, PCWSTR, PWSTR};

use super::layers::{RawDescriptor, RawDriverInfo};
use super::strings::wide;
use super::systems::NotificationCallback;
use crate::error::{Code, Error, Result};
use crate::guid::Guid;

/// A function that may be missing.
#[derive(Clone, Copy)]
pub(super) struct Entry<F> {
    name: &'static str,
    library: &'static str,
    function: Option<F>,
}

impl<F: Copy> Entry<F> {
    /// The function.
    pub(super) fn get(&self) -> Result<F> {
        self.function.ok_or_else(|| {
            Error::new(
                "GetProcAddress",
                format!("{}, {}", self.library, self.name),
                Code::PROCEDURE_NOT_FOUND,
            )
        })
    }
}

macro_rules! table {
    ($($library:literal: $(fn $name:ident($($argument:ty),*) -> $result:ty;)*)*) => {
        /// The functions, each under its name.
        #[allow(non_snake_case, reason = "the names are those of the functions")]
        pub(super) struct Table {
            $($(pub(super) $name: Entry<unsafe extern "system" fn($($argument),*) -> $result>,)*)*
        }

        impl Table {
            /// Names of the functions that are missing.
            pub(super) fn missing(&self) -> Vec<&'static str> {
                let missing = [$($(self.$name.function.is_none().then_some(self.$name.name),)*)*];
                missing.into_iter().flatten().collect()
            }

            fn find(sources: &Sources) -> Self {
                Self {
                    $($($name: Entry {
                        name: stringify!($name),
                        library: $library,
                        function: sources.address($library, concat!(stringify!($name), "\0")).map(|address| {
                            // SAFETY: the address is that of the function with this name, whose signature is
                            // the one declared here.
                            unsafe {
                                std::mem::transmute::<
                                    unsafe extern "system" fn() -> isize,
                                    unsafe extern "system" fn($($argument),*) -> $result,
                                >(address)
                            }
                        }),
                    },)*)*
                }
            }
        }
    };
}

// Signatures: hcsshim `internal/wclayer/wclayer.go` and `internal/vmcompute/vmcompute.go`; virtdisk.h;
// winbase.h; ioapiset.h.
table! {
    "vmcompute.dll":
    fn ActivateLayer(*const RawDriverInfo, PCWSTR) -> HRESULT;
    fn DeactivateLayer(*const RawDriverInfo, PCWSTR) -> HRESULT;
    fn PrepareLayer(*const RawDriverInfo, PCWSTR, *const RawDescriptor, usize) -> HRESULT;
    fn UnprepareLayer(*const RawDriverInfo, PCWSTR) -> HRESULT;
    fn CreateLayer(*const RawDriverInfo, PCWSTR, PCWSTR) -> HRESULT;
    fn CreateSandboxLayer(*const RawDriverInfo, PCWSTR, PCWSTR, *const RawDescriptor, usize) -> HRESULT;
    fn ExpandSandboxSize(*const RawDriverInfo, PCWSTR, u64) -> HRESULT;
    fn DestroyLayer(*const RawDriverInfo, PCWSTR) -> HRESULT;
    fn ExportLayer(*const RawDriverInfo, PCWSTR, PCWSTR, *const RawDescriptor, usize) -> HRESULT;
    fn ImportLayer(*const RawDriverInfo, PCWSTR, PCWSTR, *const RawDescriptor, usize) -> HRESULT;
    fn GetLayerMountPath(*const RawDriverInfo, PCWSTR, *mut usize, PWSTR) -> HRESULT;
    fn LayerExists(*const RawDriverInfo, PCWSTR, *mut u32) -> HRESULT;
    fn GetBaseImages(*mut PWSTR) -> HRESULT;
    fn NameToGuid(PCWSTR, *mut Guid) -> HRESULT;
    fn ProcessBaseImage(PCWSTR) -> HRESULT;
    fn ProcessUtilityImage(PCWSTR) -> HRESULT;
    fn GrantVmAccess(PCWSTR, PCWSTR) -> HRESULT;
    fn HcsEnumerateComputeSystems(PCWSTR, *mut PWSTR, *mut PWSTR) -> HRESULT;
    fn HcsOpenComputeSystem(PCWSTR, *mut HANDLE, *mut PWSTR) -> HRESULT;
    fn HcsTerminateComputeSystem(HANDLE, PCWSTR, *mut PWSTR) -> HRESULT;
    fn HcsCloseComputeSystem(HANDLE) -> HRESULT;
    fn HcsRegisterComputeSystemCallback(HANDLE, NotificationCallback, *const core::ffi::c_void, *mut HANDLE) -> HRESULT;
    fn HcsUnregisterComputeSystemCallback(HANDLE) -> HRESULT;
    "virtdisk.dll":
    fn OpenVirtualDisk(*const VIRTUAL_STORAGE_TYPE, PCWSTR, i32, i32, *const OPEN_VIRTUAL_DISK_PARAMETERS, *mut HANDLE) -> u32;
    fn AttachVirtualDisk(HANDLE, PSECURITY_DESCRIPTOR, i32, u32, *const ATTACH_VIRTUAL_DISK_PARAMETERS, *const OVERLAPPED) -> u32;
    fn DetachVirtualDisk(HANDLE, i32, u32) -> u32;
    "rstrtmgr.dll":
    fn RmStartSession(*mut u32, u32, PWSTR) -> u32;
    fn RmRegisterResources(u32, u32, *const PCWSTR, u32, *const RM_UNIQUE_PROCESS, u32, *const PCWSTR) -> u32;
    fn RmGetList(u32, *mut u32, *mut u32, *mut RM_PROCESS_INFO, *mut u32) -> u32;
    fn RmEndSession(u32) -> u32;
    "kernel32.dll":
    fn BackupRead(HANDLE, *mut u8, u32, *mut u32, BOOL, BOOL, *mut *mut core::ffi::c_void) -> BOOL;
    fn BackupWrite(HANDLE, *const u8, u32, *mut u32, BOOL, BOOL, *mut *mut core::ffi::c_void) -> BOOL;
    fn GetFileInformationByHandleEx(HANDLE, i32, *mut core::ffi::c_void, u32) -> BOOL;
    fn SetFileInformationByHandle(HANDLE, i32, *const core::ffi::c_void, u32) -> BOOL;
    fn CreateFileW(PCWSTR, u32, u32, *const SECURITY_ATTRIBUTES, u32, u32, HANDLE) -> HANDLE;
    fn FlushFileBuffers(HANDLE) -> BOOL;
    fn GetFileAttributesW(PCWSTR) -> u32;
    fn GetVolumeNameForVolumeMountPointW(PCWSTR, PWSTR, u32) -> BOOL;
    fn MoveFileExW(PCWSTR, PCWSTR, u32) -> BOOL;
    fn DeviceIoControl(HANDLE, u32, *const core::ffi::c_void, u32, *mut core::ffi::c_void, u32, *mut u32, *mut OVERLAPPED) -> BOOL;
}

impl Table {
    /// The functions of this Windows.
    pub(super) fn system() -> Self {
        Self::find(&Sources { stand_in: None })
    }

    /// The functions of the library at `path`; those it lacks come from Windows.
    pub(super) fn stand_in(path: &Path) -> Result<Self> {
        let name = wide("LoadLibraryEx", path)?;
        // SAFETY: the name ends in zero and outlives the call. The library is never freed, so its functions
        // stay.
        let library =
            unsafe { LoadLibraryExW(name.as_ptr(), ptr::null_mut(), LOAD_WITH_ALTERED_SEARCH_PATH) };
        if library.is_null() {
            return Err(super::handle::last_error("LoadLibraryEx", || path.display().to_string()));
        }
        Ok(Self::find(&Sources { stand_in: Some(library) }))
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Table")
    }
}

/// The libraries to search for functions.
struct Sources {
    stand_in: Option<HMODULE>,
}

impl Sources {
    /// `name` ends in zero.
    fn address(&self, library: &str, name: &'static str) -> Option<unsafe extern "system" fn() -> isize> {
        debug_assert!(name.ends_with('\0'));
        // SAFETY: the name ends in zero, and the libraries stay loaded.
        let find = |module| unsafe { GetProcAddress(module, name.as_ptr()) };
        self.stand_in.and_then(find).or_else(|| system_library(library).and_then(find))
    }
}

/// Loads a library from the system's own directory only, so that nobody can plant another one.
fn system_library(name: &str) -> Option<HMODULE> {
    let name = wide("LoadLibraryEx", Path::new(name)).ok()?;
    // SAFETY: the name ends in zero and outlives the call.
    let library = unsafe { LoadLibraryExW(name.as_ptr(), ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32) };
    (!library.is_null()).then_some(library)
}

/// A function of such a library; its name ends in zero.
pub(super) fn system_function(
    library: &str,
    name: &'static str,
) -> Option<unsafe extern "system" fn() -> isize> {
    Sources { stand_in: None }.address(library, name)
}

//! Result codes: `HRESULT`s, and the Win32 errors that they wrap.

use std::io;

/// An `HRESULT` that is a failure. Source: winerror.h, hcsshim `internal/hcs/errors.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) u32);

impl Code {
    pub(crate) const FILE_NOT_FOUND: Self = Self::win32(2);
    pub(crate) const PATH_NOT_FOUND: Self = Self::win32(3);
    pub(crate) const ACCESS_DENIED: Self = Self::win32(5);
    pub(crate) const INVALID_DATA: Self = Self::win32(13);
    pub(crate) const NOT_READY: Self = Self::win32(21);
    pub(crate) const SEEK: Self = Self::win32(25);
    pub(crate) const SHARING_VIOLATION: Self = Self::win32(32);
    pub(crate) const INVALID_PARAMETER: Self = Self::win32(87);
    pub(crate) const FILENAME_EXCED_RANGE: Self = Self::win32(206);
    pub(crate) const NOT_FOUND: Self = Self::win32(1168);
    pub(crate) const PRIVILEGE_NOT_HELD: Self = Self::win32(1314);
    pub(crate) const INVALID_STATE: Self = Self::win32(5023);
    pub(crate) const SYSTEM_NOT_FOUND: Self = Self(0xC037_010E);
    pub(crate) const SYSTEM_ALREADY_STOPPED: Self = Self(0xC037_0110);
    pub(crate) const OPERATION_PENDING: Self = Self(0xC037_0103);

    /// `HRESULT_FROM_WIN32`.
    pub(crate) const fn win32(error: u32) -> Self {
        Self(0x8007_0000 | error)
    }

    /// The Win32 error; a code that wraps none is one itself, from the control file.
    pub(crate) const fn to_win32(self) -> u32 {
        if self.0 & 0xFFFF_0000 == 0x8007_0000 { self.0 & 0xFFFF } else { self.0 }
    }

    pub(crate) const fn hresult(self) -> i32 {
        self.0.cast_signed()
    }
}

impl From<io::Error> for Code {
    fn from(error: io::Error) -> Self {
        // Errors of invalid data have no code.
        error.raw_os_error().map_or(Self::INVALID_DATA, |code| Self::win32(code.cast_unsigned()))
    }
}

//! Failed calls: the function, its arguments and the reason.

use std::fmt;
use std::io;

/// The result of a call to Windows.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A Win32 error code, or an HRESULT. An HRESULT that wraps a Win32 code is stored as that code, as in
/// hcsshim `internal/interop`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The meaning of the code, if it is one of those named here.
            pub fn text(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

// Values: winerror.h; those of the compute service: hcsshim `internal/hcs/errors.go`.
codes! {
    /// `ERROR_FILE_NOT_FOUND`.
    FILE_NOT_FOUND = 2, "the system cannot find the file specified";
    /// `ERROR_PATH_NOT_FOUND`.
    PATH_NOT_FOUND = 3, "the system cannot find the path specified";
    /// `ERROR_ACCESS_DENIED`.
    ACCESS_DENIED = 5, "access is denied";
    /// `ERROR_INVALID_HANDLE`.
    INVALID_HANDLE = 6, "the handle is invalid";
    /// `ERROR_INVALID_DATA`.
    INVALID_DATA = 13, "the data is invalid";
    /// `ERROR_NOT_READY`.
    NOT_READY = 21, "the device is not ready";
    /// `ERROR_SHARING_VIOLATION`.
    SHARING_VIOLATION = 32, "the file is being used by another process";
    /// `ERROR_NOT_SUPPORTED`.
    NOT_SUPPORTED = 50, "the request is not supported";
    /// `ERROR_FILE_EXISTS`.
    FILE_EXISTS = 80, "the file exists";
    /// `ERROR_INVALID_PARAMETER`.
    INVALID_PARAMETER = 87, "the parameter is incorrect";
    /// `ERROR_DISK_FULL`.
    DISK_FULL = 112, "there is not enough space on the disk";
    /// `ERROR_INVALID_NAME`.
    INVALID_NAME = 123, "the filename, directory name, or volume label syntax is incorrect";
    /// `ERROR_MOD_NOT_FOUND`.
    MODULE_NOT_FOUND = 126, "the library could not be found";
    /// `ERROR_PROC_NOT_FOUND`.
    PROCEDURE_NOT_FOUND = 127, "the library has no such function";
    /// `ERROR_DIR_NOT_EMPTY`.
    DIR_NOT_EMPTY = 145, "the directory is not empty";
    /// `ERROR_ALREADY_EXISTS`.
    ALREADY_EXISTS = 183, "cannot create a file when that file already exists";
    /// `ERROR_DEVICE_NOT_CONNECTED`.
    DEVICE_NOT_CONNECTED = 1167, "the device is not connected";
    /// `ERROR_NOT_FOUND`, which the compute service returns for a system or process that has ended already.
    ELEMENT_NOT_FOUND = 1168, "element not found";
    /// `ERROR_NOT_ALL_ASSIGNED`.
    NOT_ALL_ASSIGNED = 1300, "not all privileges are held";
    /// `ERROR_TIMEOUT`.
    TIMEOUT = 1460, "the operation did not complete in time";
    /// `ERROR_REPARSE_POINT_ENCOUNTERED`.
    REPARSE_POINT_ENCOUNTERED = 4395, "a reparse point is in the way";
    /// `HCS_E_OPERATION_PENDING` of the first version of the interface.
    OPERATION_PENDING = 0xc037_0103, "the operation is pending";
    /// `HCS_E_INVALID_STATE` of the first version of the interface.
    INVALID_STATE = 0xc037_0105, "the compute system is not in a valid state for the operation";
    /// `HCS_E_UNEXPECTED_EXIT`: the compute system ended on its own.
    UNEXPECTED_EXIT = 0xc037_0106, "the compute system exited unexpectedly";
    /// `HCS_E_SYSTEM_NOT_FOUND`.
    SYSTEM_NOT_FOUND = 0xc037_010e, "the compute system does not exist";
    /// `HCS_E_ALREADY_STOPPED` of the first version of the interface.
    ALREADY_STOPPED = 0xc037_0110, "the compute system has stopped already";
    /// `HCS_E_SYSTEM_ALREADY_STOPPED`.
    SYSTEM_ALREADY_STOPPED = 0x8037_0110, "the compute system has stopped already";
    /// `HCS_E_PROCESS_ALREADY_STOPPED`.
    PROCESS_ALREADY_STOPPED = 0x8037_011f, "the process has stopped already";
    /// The service went away; not a code of Windows.
    SERVICE_DISCONNECTED = 0xe037_0001, "the connection to the compute service was lost";
}

impl Code {
    /// The code of a failed HRESULT; `None` for success.
    pub fn of_hresult(result: i32) -> Option<Self> {
        // An HRESULT is a bit field: FACILITY_WIN32 is 7, see `HRESULT_FACILITY` in winerror.h.
        let bits = result.cast_unsigned();
        match result {
            0.. => None,
            _ if bits & 0x1fff_0000 == 0x0007_0000 => Some(Self(bits & 0xffff)),
            _ => Some(Self(bits)),
        }
    }

    /// Whether the system or process had stopped before the call.
    pub fn is_already_stopped(self) -> bool {
        matches!(
            self,
            Self::ALREADY_STOPPED
                | Self::SYSTEM_ALREADY_STOPPED
                | Self::PROCESS_ALREADY_STOPPED
                | Self::ELEMENT_NOT_FOUND
                | Self::SYSTEM_NOT_FOUND
        )
    }

    fn kind(self) -> io::ErrorKind {
        match self {
            Self::FILE_NOT_FOUND | Self::PATH_NOT_FOUND => io::ErrorKind::NotFound,
            Self::ACCESS_DENIED | Self::NOT_ALL_ASSIGNED => io::ErrorKind::PermissionDenied,
            Self::FILE_EXISTS | Self::ALREADY_EXISTS => io::ErrorKind::AlreadyExists,
            Self::INVALID_NAME => io::ErrorKind::InvalidFilename,
            Self::DISK_FULL => io::ErrorKind::StorageFull,
            Self::NOT_SUPPORTED | Self::PROCEDURE_NOT_FOUND | Self::MODULE_NOT_FOUND => {
                io::ErrorKind::Unsupported
            }
            _ => io::ErrorKind::Other,
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({:#x})", self.0)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}({arguments}) failed: {text} ({code})")]
pub struct Error {
    /// The function.
    pub call: &'static str,
    /// Its arguments.
    pub arguments: String,
    /// The reason.
    pub code: Code,
    /// The text of the code, and the service's own message.
    pub text: String,
}

impl Error {
    /// A failure with the text that is known for `code`.
    pub fn new(call: &'static str, arguments: impl Into<String>, code: Code) -> Self {
        let text = code.text().map_or_else(|| system_text(code), str::to_owned);
        Self { call, arguments: arguments.into(), code, text }
    }

    /// A failure that Windows has no code for.
    pub fn invalid(call: &'static str, arguments: impl Into<String>, text: impl Into<String>) -> Self {
        Self { call, arguments: arguments.into(), code: Code::INVALID_DATA, text: text.into() }
    }

    /// Whether a file or directory does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code.kind() == io::ErrorKind::NotFound
    }

    /// Whether a directory could not be removed because it is not empty.
    pub fn is_not_empty(&self) -> bool {
        self.code == Code::DIR_NOT_EMPTY
    }

    /// Whether the file or directory to be made exists already.
    pub fn is_already_there(&self) -> bool {
        self.code.kind() == io::ErrorKind::AlreadyExists
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.code.kind(), error)
    }
}

/// The operating system's text for a code.
fn system_text(code: Code) -> String {
    if cfg!(windows) {
        // Without the number, which the message has already.
        let text = io::Error::from_raw_os_error(code.0.cast_signed()).to_string();
        return text.rsplit_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned());
    }
    "no text is known for this code".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hresult_that_wraps_a_win32_code_is_that_code() {
        assert_eq!(Code::of_hresult(0), None);
        assert_eq!(Code::of_hresult(1), None);
        assert_eq!(Code::of_hresult(0x8007_0005_u32.cast_signed()), Some(Code::ACCESS_DENIED));
        assert_eq!(Code::of_hresult(0xc037_0103_u32.cast_signed()), Some(Code::OPERATION_PENDING));
        assert_eq!(Code::of_hresult(0x8007_0490_u32.cast_signed()), Some(Code::ELEMENT_NOT_FOUND));
    }

    #[test]
    fn an_error_says_call_arguments_text_and_code() {
        let error = Error::new("ActivateLayer", r"C:\home\one", Code::ACCESS_DENIED);
        assert_eq!(error.to_string(), r"ActivateLayer(C:\home\one) failed: access is denied (0x5)");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn pending_and_stopped_are_told_apart() {
        assert!(!Code::OPERATION_PENDING.is_already_stopped());
        assert!(Code::SYSTEM_ALREADY_STOPPED.is_already_stopped());
        assert!(!Code::ACCESS_DENIED.is_already_stopped());
    }
}

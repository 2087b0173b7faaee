//! Files below a directory that is held open. The kernel itself refuses reparse points on the way
//! (`OBJ_DONT_REPARSE`), so no name in a layer can lead out of it, even if links are planted there while it
//! is being written.
//!
//! Source: hcsshim `internal/safefile/safeopen.go`, go-winio `backup.go` and `fileinfo.go`.

use std::ffi::c_void;
use std::fs::File;
use std::io::Read;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::{
    FILE_CREATE, FILE_DIRECTORY_FILE, FILE_LINK_INFORMATION, FILE_OPEN, FILE_OPEN_FOR_BACKUP_INTENT,
    FILE_OPEN_REPARSE_POINT, FILE_SEQUENTIAL_ONLY, FILE_SYNCHRONOUS_IO_NONALERT,
    FileDispositionInformationEx, FileLinkInformation, NtCreateFile, NtSetInformationFile,
};
use windows_sys::Win32::Foundation::{
    ERROR_NO_MORE_FILES, GENERIC_READ, GENERIC_WRITE, RtlNtStatusToDosError, UNICODE_STRING,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, DELETE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_NORMAL, FILE_ATTRIBUTE_READONLY,
    FILE_BASIC_INFO, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, FILE_ID_INFO,
    FILE_INFO_BY_HANDLE_CLASS, FILE_LIST_DIRECTORY, FILE_READ_ATTRIBUTES, FILE_SHARE_DELETE, FILE_SHARE_READ,
    FILE_SHARE_WRITE, FILE_STANDARD_INFO, FILE_WRITE_ATTRIBUTES, FileBasicInfo, FileFullDirectoryInfo,
    FileIdInfo, FileStandardInfo, INVALID_FILE_ATTRIBUTES, OPEN_EXISTING, SYNCHRONIZE, WRITE_DAC,
    WRITE_OWNER,
};
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;

use super::backup::{BackupReader, BackupWriter};
use super::handle::{check, last_error, owned};
use super::strings::{from_io, long, text};
use super::table::Table;
use crate::error::{Code, Error, Result};
use crate::host::{BackupTarget, BasicInfo, FileStatus, Tree};
use crate::relative_path::{RelativePath, StreamName};

/// `OBJ_DONT_REPARSE`. Source: ntdef.h.
const OBJ_DONT_REPARSE: u32 = 0x1000;
/// `ACCESS_SYSTEM_SECURITY`. Source: winnt.h.
const ACCESS_SYSTEM_SECURITY: u32 = 0x0100_0000;
/// `FILE_DISPOSITION_DELETE`. Source: ntifs.h.
const DISPOSITION_DELETE: u32 = 1;
/// `FILE_DISPOSITION_IGNORE_READONLY_ATTRIBUTE`, from Windows Server 2019 on. Source: ntifs.h.
const DISPOSITION_IGNORE_READ_ONLY: u32 = 0x10;
/// Lets others do everything with the file meanwhile.
pub(super) const SHARE_ALL: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
/// Access rights for restoring a file with its security descriptor.
const WITH_SECURITY: u32 = WRITE_DAC | WRITE_OWNER | ACCESS_SYSTEM_SECURITY;

/// A directory, held open.
#[derive(Debug)]
pub struct Directory {
    table: Arc<Table>,
    path: PathBuf,
    handle: OwnedHandle,
}

/// How a file is opened.
#[derive(Clone, Copy)]
struct Open {
    access: u32,
    share: u32,
    disposition: u32,
    options: u32,
}

impl Open {
    /// Opens an existing file itself, not a link's target, and lets others do everything with it.
    fn existing(access: u32) -> Self {
        Self { access, share: SHARE_ALL, disposition: FILE_OPEN, options: FILE_OPEN_REPARSE_POINT }
    }
}

fn status_error(call: &'static str, arguments: String, status: i32) -> Error {
    // SAFETY: takes a number and returns one.
    Error::new(call, arguments, Code(unsafe { RtlNtStatusToDosError(status) }))
}

impl Directory {
    pub(super) fn open(table: Arc<Table>, path: &Path) -> Result<Self> {
        let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
        let handle = open_path(path, GENERIC_READ, SHARE_ALL, flags)?;
        Ok(Self { table, path: path.to_owned(), handle })
    }

    fn name(&self, path: &RelativePath) -> String {
        if path.is_root() {
            self.path.display().to_string()
        } else {
            format!(r"{}\{path}", self.path.display())
        }
    }

    /// Opens or makes the file or directory at `path`.
    fn open_relative(&self, path: &RelativePath, how: Open) -> Result<OwnedHandle> {
        self.open_units(path.units(), how, || self.name(path))
    }

    /// Opens or makes `units`: a relative path, or one followed by the name of a stream.
    fn open_units(&self, units: &[u16], how: Open, name: impl Fn() -> String) -> Result<OwnedHandle> {
        let shown = name;
        let Ok(length) = u16::try_from(units.len() * 2) else {
            return Err(Error::new("NtCreateFile", shown(), Code::INVALID_NAME));
        };
        let name =
            UNICODE_STRING { Length: length, MaximumLength: length, Buffer: units.as_ptr().cast_mut() };
        let attributes = OBJECT_ATTRIBUTES {
            Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
            RootDirectory: self.handle.as_raw_handle(),
            ObjectName: &raw const name,
            Attributes: OBJ_DONT_REPARSE,
            SecurityDescriptor: ptr::null(),
            SecurityQualityOfService: ptr::null(),
        };
        let mut handle = ptr::null_mut();
        let mut block = IO_STATUS_BLOCK::default();
        // SAFETY: the structures and the name live until the call returns, which is when it is done, since
        // the file is opened for synchronous use. The name's length is right, and it is only read.
        let status = unsafe {
            NtCreateFile(
                &raw mut handle,
                how.access | SYNCHRONIZE,
                &raw const attributes,
                &raw mut block,
                ptr::null(),
                0,
                how.share,
                how.disposition,
                FILE_OPEN_FOR_BACKUP_INTENT | FILE_SYNCHRONOUS_IO_NONALERT | how.options,
                ptr::null(),
                0,
            )
        };
        if status != 0 {
            return Err(status_error("NtCreateFile", shown(), status));
        }
        owned(handle, "NtCreateFile", shown)
    }

    /// Sets times and attributes of a new file or directory; removes it if that fails.
    fn with_info(
        &self,
        path: &RelativePath,
        handle: OwnedHandle,
        info: &BasicInfo,
        is_new: bool,
    ) -> Result<OwnedHandle> {
        match set_basic_info(&self.table, &handle, info, || self.name(path)) {
            Ok(()) => Ok(handle),
            Err(error) => {
                drop(handle);
                if is_new {
                    // The first error is more useful than one from cleaning up.
                    _ = self.remove(path);
                }
                Err(error)
            }
        }
    }

    fn delete_on_close(&self, handle: &OwnedHandle, path: &RelativePath, more: u32) -> Result<()> {
        let mut block = IO_STATUS_BLOCK::default();
        let flags = DISPOSITION_DELETE | more;
        // SAFETY: the file is open for deletion; the information is the 4 bytes of
        // FILE_DISPOSITION_INFORMATION_EX.
        let status = unsafe {
            NtSetInformationFile(
                handle.as_raw_handle(),
                &raw mut block,
                (&raw const flags).cast(),
                size_of::<u32>() as u32,
                FileDispositionInformationEx,
            )
        };
        if status == 0 {
            Ok(())
        } else {
            Err(status_error("NtSetInformationFile(delete)", self.name(path), status))
        }
    }
}

impl Tree for Directory {
    type File = File;
    type BackupReader = BackupReader;
    type BackupWriter = BackupWriter;

    fn root(&self) -> &Path {
        &self.path
    }

    fn status(&self, path: &RelativePath) -> Result<FileStatus> {
        let handle = self.open_relative(path, Open::existing(FILE_READ_ATTRIBUTES))?;
        let info = basic_info(&self.table, &handle, || self.name(path))?;
        let standard: FILE_STANDARD_INFO = query(&self.table, &handle, FileStandardInfo, || self.name(path))?;
        let links = standard.NumberOfLinks;
        // Not every file system has IDs, and a file with one name needs none.
        let id = match links {
            0 | 1 => [0; 16],
            _ => {
                query::<FILE_ID_INFO>(&self.table, &handle, FileIdInfo, || self.name(path))?.FileId.Identifier
            }
        };
        Ok(FileStatus { info, size: standard.EndOfFile.cast_unsigned(), links, id })
    }

    fn list(&self, path: &RelativePath) -> Result<Vec<Vec<u16>>> {
        let how = Open { options: FILE_DIRECTORY_FILE, ..Open::existing(FILE_LIST_DIRECTORY) };
        let handle = self.open_relative(path, how)?;
        list(&self.table, &handle, || self.name(path))
    }

    fn make_directory(&self, path: &RelativePath) -> Result<()> {
        let how =
            Open { access: 0, share: SHARE_ALL, disposition: FILE_CREATE, options: FILE_DIRECTORY_FILE };
        self.open_relative(path, how).map(drop)
    }

    fn create_file(&self, path: &RelativePath, info: &BasicInfo) -> Result<File> {
        let how = Open {
            access: GENERIC_READ | GENERIC_WRITE,
            share: FILE_SHARE_READ,
            disposition: FILE_CREATE,
            options: 0,
        };
        let handle = self.open_relative(path, how)?;
        self.with_info(path, handle, info, true).map(File::from)
    }

    fn open_file(&self, path: &RelativePath) -> Result<File> {
        let how = Open { share: FILE_SHARE_READ, ..Open::existing(GENERIC_READ) };
        self.open_relative(path, how).map(File::from)
    }

    fn backup_read(&self, path: &RelativePath, security: bool) -> Result<BackupReader> {
        let access = GENERIC_READ | if security { ACCESS_SYSTEM_SECURITY } else { 0 };
        let handle = self.open_relative(path, Open { share: FILE_SHARE_READ, ..Open::existing(access) })?;
        Ok(BackupReader::new(Arc::clone(&self.table), handle, self.name(path), security))
    }

    fn backup_write(
        &self,
        path: &RelativePath,
        target: BackupTarget,
        info: &BasicInfo,
        security: bool,
    ) -> Result<BackupWriter> {
        let (disposition, options) = match target {
            BackupTarget::NewFile => (FILE_CREATE, 0),
            BackupTarget::NewDirectory => (FILE_CREATE, FILE_DIRECTORY_FILE),
            BackupTarget::Existing => (FILE_OPEN, FILE_OPEN_REPARSE_POINT),
        };
        let access = GENERIC_READ | GENERIC_WRITE | if security { WITH_SECURITY } else { 0 };
        let handle =
            self.open_relative(path, Open { access, share: FILE_SHARE_READ, disposition, options })?;
        let handle = self.with_info(path, handle, info, target != BackupTarget::Existing)?;
        Ok(BackupWriter::new(Arc::clone(&self.table), handle, self.name(path), security))
    }

    fn set_directory_info(&self, path: &RelativePath, info: &BasicInfo) -> Result<()> {
        let how = Open {
            access: GENERIC_READ | GENERIC_WRITE,
            share: FILE_SHARE_READ,
            disposition: FILE_OPEN,
            options: FILE_DIRECTORY_FILE | FILE_OPEN_REPARSE_POINT,
        };
        let handle = self.open_relative(path, how)?;
        set_basic_info(&self.table, &handle, info, || self.name(path))
    }

    fn link(&self, path: &RelativePath, from: &Self, target: &RelativePath) -> Result<()> {
        let how = Open { options: 0, ..Open::existing(FILE_WRITE_ATTRIBUTES) };
        let file = from.open_relative(target, how)?;
        let both = || format!("{}, {}", from.name(target), self.name(path));
        let Some((parent_path, name)) = path.split() else {
            return Err(Error::new("link", both(), Code::INVALID_NAME));
        };
        let how =
            Open { options: FILE_DIRECTORY_FILE | FILE_OPEN_REPARSE_POINT, ..Open::existing(GENERIC_READ) };
        let parent = self.open_relative(&parent_path, how)?;
        if basic_info(&self.table, &parent, both)?.attributes & crate::attribute::REPARSE_POINT != 0 {
            return Err(Error::new("link", both(), Code::REPARSE_POINT_ENCOUNTERED));
        }
        let information = link_information(parent.as_raw_handle(), name.units());
        let mut block = IO_STATUS_BLOCK::default();
        // SAFETY: the file is open; the information is a FILE_LINK_INFORMATION followed by its name, of the
        // given length. It has only a name in an open directory, so no path can lead elsewhere.
        let status = unsafe {
            NtSetInformationFile(
                file.as_raw_handle(),
                &raw mut block,
                information.words.as_ptr().cast(),
                information.length,
                FileLinkInformation,
            )
        };
        if status == 0 { Ok(()) } else { Err(status_error("NtSetInformationFile(link)", both(), status)) }
    }

    fn remove(&self, path: &RelativePath) -> Result<()> {
        let access = FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES | DELETE;
        let handle = self.open_relative(path, Open::existing(access))?;
        // Keep the attribute: it belongs to all names of the file, and another one may be the parent's.
        match self.delete_on_close(&handle, path, DISPOSITION_IGNORE_READ_ONLY) {
            // Windows Server 2016 does not support this.
            Err(error) if matches!(error.code, Code::INVALID_PARAMETER | Code::ACCESS_DENIED) => {}
            other => return other,
        }
        match self.delete_on_close(&handle, path, 0) {
            Err(error) if error.code == Code::ACCESS_DENIED => {
                clear_read_only(&self.table, &handle, || self.name(path))?;
                self.delete_on_close(&handle, path, 0)
            }
            other => other,
        }
    }

    /// The cache drops the data after they are read (moby, VSO 9900466).
    fn open_sequential(&self, path: &RelativePath) -> Result<Box<dyn Read + Send>> {
        let how = Open {
            access: GENERIC_READ,
            share: FILE_SHARE_READ,
            disposition: FILE_OPEN,
            options: FILE_SEQUENTIAL_ONLY,
        };
        Ok(Box::new(File::from(self.open_relative(path, how)?)))
    }

    fn open_stream(&self, path: &RelativePath, stream: &StreamName) -> Result<Box<dyn Read + Send>> {
        let how = Open {
            access: GENERIC_READ,
            share: FILE_SHARE_READ,
            disposition: FILE_OPEN,
            options: FILE_SEQUENTIAL_ONLY | FILE_OPEN_REPARSE_POINT,
        };
        let name = || format!("{}:{stream}", self.name(path));
        Ok(Box::new(File::from(self.open_units(&stream.of(path), how, name)?)))
    }

    fn refuse_reparse_point(&self, path: &RelativePath) -> Result<()> {
        self.open_relative(path, Open { options: 0, ..Open::existing(0) }).map(drop)
    }
}

/// `FILE_LINK_INFORMATION` in words, for its alignment.
struct LinkInformation {
    words: Vec<usize>,
    length: u32,
}

fn link_information(parent: *mut c_void, name: &[u16]) -> LinkInformation {
    // ReplaceIfExists (FALSE), the directory, the name's length in bytes, the name. Source: ntifs.h.
    let name_offset = 2 * size_of::<usize>() + size_of::<u32>();
    let mut bytes = vec![0; size_of::<usize>()];
    bytes.extend((parent as usize).to_ne_bytes());
    bytes.extend(((name.len() * 2) as u32).to_ne_bytes());
    bytes.extend(name.iter().flat_map(|unit| unit.to_ne_bytes()));
    debug_assert_eq!(bytes.len(), name_offset + name.len() * 2);
    // The kernel refuses anything shorter than the structure, whose padding makes it longer than a name of
    // one unit needs.
    let length = bytes.len().max(size_of::<FILE_LINK_INFORMATION>()) as u32;
    bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
    let word = |chunk: &[u8]| usize::from_ne_bytes(chunk.try_into().unwrap_or_default());
    LinkInformation { words: bytes.chunks_exact(size_of::<usize>()).map(word).collect(), length }
}

/// Opens an absolute path.
pub(super) fn open_path(path: &Path, access: u32, share: u32, flags: u32) -> Result<OwnedHandle> {
    let name = long("CreateFile", path)?;
    // SAFETY: the name ends in zero; nothing else is pointed to.
    let handle = unsafe {
        CreateFileW(name.as_ptr(), access, share, ptr::null(), OPEN_EXISTING, flags, ptr::null_mut())
    };
    owned(handle, "CreateFile", || path.display().to_string())
}

/// Opens a volume for queries; without a volume, a directory will do.
pub(super) fn open_volume(table: &Table, path: &Path) -> Result<OwnedHandle> {
    const CALL: &str = "CreateFile";
    let function = table.CreateFileW.get()?;
    let name = long(CALL, path)?;
    let (access, share) = (GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE);
    let flags = FILE_FLAG_BACKUP_SEMANTICS;
    // SAFETY: the name ends in zero; nothing else is pointed to.
    let handle =
        unsafe { function(name.as_ptr(), access, share, ptr::null(), OPEN_EXISTING, flags, ptr::null_mut()) };
    owned(handle, CALL, || path.display().to_string())
}

/// Codes of a volume that is gone, with its disk or during the query.
const IS_GONE: [Code; 4] =
    [Code::FILE_NOT_FOUND, Code::PATH_NOT_FOUND, Code::NOT_READY, Code::DEVICE_NOT_CONNECTED];

pub(super) fn is_directory(table: &Table, path: &Path) -> Result<bool> {
    const CALL: &str = "GetFileAttributes";
    let function = table.GetFileAttributesW.get()?;
    let name = long(CALL, path)?;
    // SAFETY: the name ends in zero and outlives the call.
    let attributes = unsafe { function(name.as_ptr()) };
    if attributes != INVALID_FILE_ATTRIBUTES {
        return Ok(attributes & FILE_ATTRIBUTE_DIRECTORY != 0);
    }
    let error = last_error(CALL, || path.display().to_string());
    if IS_GONE.contains(&error.code) { Ok(false) } else { Err(error) }
}

pub(super) fn rename(table: &Table, from: &Path, to: &Path) -> Result<()> {
    const CALL: &str = "MoveFileEx";
    let call = table.MoveFileExW.get()?;
    let (old, new) = (long(CALL, from)?, long(CALL, to)?);
    // SAFETY: both names end in zero and outlive the call. Without flags an existing target is not replaced.
    let moved = unsafe { call(old.as_ptr(), new.as_ptr(), 0) };
    check(moved, CALL, || format!("{}, {}", from.display(), to.display()))
}

pub(super) fn remove_directory(path: &Path) -> Result<()> {
    const CALL: &str = "remove directory";
    // The standard library follows no links when it removes a tree.
    match std::fs::remove_dir_all(text(&long(CALL, path)?)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(from_io(CALL, path, &error)),
        _ => Ok(()),
    }
}

/// Queries one of the fixed-size structures of `GetFileInformationByHandleEx`.
fn query<T: Default>(
    table: &Table,
    handle: &OwnedHandle,
    class: FILE_INFO_BY_HANDLE_CLASS,
    name: impl Fn() -> String,
) -> Result<T> {
    let function = table.GetFileInformationByHandleEx.get()?;
    let mut value = T::default();
    // SAFETY: the caller names the class of the structure, and its size is passed.
    let result =
        unsafe { function(handle.as_raw_handle(), class, (&raw mut value).cast(), size_of::<T>() as u32) };
    check(result, "GetFileInformationByHandleEx", name)?;
    Ok(value)
}

fn basic_info(table: &Table, handle: &OwnedHandle, name: impl Fn() -> String) -> Result<BasicInfo> {
    let info: FILE_BASIC_INFO = query(table, handle, FileBasicInfo, name)?;
    Ok(BasicInfo {
        creation_time: info.CreationTime,
        last_access_time: info.LastAccessTime,
        last_write_time: info.LastWriteTime,
        change_time: info.ChangeTime,
        attributes: info.FileAttributes,
    })
}

fn set_basic_info(
    table: &Table,
    handle: &OwnedHandle,
    info: &BasicInfo,
    name: impl FnOnce() -> String,
) -> Result<()> {
    let function = table.SetFileInformationByHandle.get()?;
    let raw = FILE_BASIC_INFO {
        CreationTime: info.creation_time,
        LastAccessTime: info.last_access_time,
        LastWriteTime: info.last_write_time,
        ChangeTime: info.change_time,
        FileAttributes: info.attributes,
    };
    // SAFETY: the class belongs to the structure, and its size is passed.
    let result = unsafe {
        function(
            handle.as_raw_handle(),
            FileBasicInfo,
            (&raw const raw).cast(),
            size_of::<FILE_BASIC_INFO>() as u32,
        )
    };
    check(result, "SetFileInformationByHandle", name)
}

fn clear_read_only(table: &Table, handle: &OwnedHandle, name: impl Fn() -> String) -> Result<()> {
    let attributes = basic_info(table, handle, &name)?.attributes;
    let cleared = match attributes & !FILE_ATTRIBUTE_READONLY {
        0 => FILE_ATTRIBUTE_NORMAL,
        rest => rest,
    };
    set_basic_info(table, handle, &BasicInfo { attributes: cleared, ..BasicInfo::default() }, name)
}

/// Bytes of the buffer for names.
const LIST_BUFFER: usize = 64 << 10;
/// Offsets in `FILE_FULL_DIR_INFO` of the name's length in bytes, and of the name. Source: winbase.h.
const NAME_LENGTH_OFFSET: usize = 60;
const NAME_OFFSET: usize = 68;

fn list(table: &Table, handle: &OwnedHandle, name: impl Fn() -> String) -> Result<Vec<Vec<u16>>> {
    let function = table.GetFileInformationByHandleEx.get()?;
    let mut names = Vec::new();
    // In words, for its alignment.
    let mut buffer = vec![0u64; LIST_BUFFER / size_of::<u64>()];
    loop {
        // SAFETY: the buffer has the given length.
        let result = unsafe {
            function(
                handle.as_raw_handle(),
                FileFullDirectoryInfo,
                buffer.as_mut_ptr().cast(),
                LIST_BUFFER as u32,
            )
        };
        if result == 0 {
            let error = last_error("GetFileInformationByHandleEx", name);
            return if error.code == Code(ERROR_NO_MORE_FILES) { Ok(names) } else { Err(error) };
        }
        let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
        collect_names(&bytes, &mut names)
            .ok_or_else(|| Error::invalid("GetFileInformationByHandleEx", name(), "an entry does not fit"))?;
    }
}

/// Collects the names of a chain of `FILE_FULL_DIR_INFO`; `None` if an entry leads out of the buffer.
fn collect_names(bytes: &[u8], names: &mut Vec<Vec<u16>>) -> Option<()> {
    let number = |at: usize| {
        let field = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(field.try_into().ok()?) as usize)
    };
    let mut start = 0;
    loop {
        let length = number(start + NAME_LENGTH_OFFSET)?;
        let name = bytes.get(start + NAME_OFFSET..start + NAME_OFFSET + length)?;
        let units: Vec<u16> =
            name.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]])).collect();
        let dot = u16::from(b'.');
        if units != [dot] && units != [dot, dot] {
            names.push(units);
        }
        match number(start)? {
            0 => return Some(()),
            next => start += next,
        }
    }
}

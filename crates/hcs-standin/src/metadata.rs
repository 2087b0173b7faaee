//! Metadata that NTFS keeps of a file and a plain directory cannot. Stored by file ID, because names come, go
//! and are shared.

use std::fs::{self, File};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use windows_sys::Win32::Foundation::{GENERIC_READ, GENERIC_WRITE, HANDLE};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_ATTRIBUTE_DIRECTORY, FILE_BASIC_INFO, FILE_FLAG_BACKUP_SEMANTICS,
    FileBasicInfo, GetFileInformationByHandle, GetFileInformationByHandleEx, SetFileInformationByHandle,
};

use crate::state;
use crate::streams::{REPARSE, Stream};

pub(crate) const ATTRIBUTE_REPARSE_POINT: u32 = 0x400;
pub(crate) const ATTRIBUTE_DIRECTORY: u32 = 0x10;

/// Times and attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Info {
    pub(crate) creation: i64,
    pub(crate) access: i64,
    pub(crate) write: i64,
    pub(crate) change: i64,
    pub(crate) attributes: u32,
}

impl Info {
    pub(crate) fn from_raw(raw: &FILE_BASIC_INFO) -> Self {
        Self {
            creation: raw.CreationTime,
            access: raw.LastAccessTime,
            write: raw.LastWriteTime,
            change: raw.ChangeTime,
            attributes: raw.FileAttributes,
        }
    }

    pub(crate) fn to_raw(self) -> FILE_BASIC_INFO {
        FILE_BASIC_INFO {
            CreationTime: self.creation,
            LastAccessTime: self.access,
            LastWriteTime: self.write,
            ChangeTime: self.change,
            FileAttributes: self.attributes,
        }
    }
}

/// The record of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) is_directory: bool,
    pub(crate) info: Option<Info>,
    /// The last write time of the plain file when `info` was set; a different one means that the file was
    /// changed. `None` for a file whose times were set while it was being made: on NTFS, further writes
    /// through the same handle do not change them.
    pub(crate) seen_write: Option<i64>,
    pub(crate) streams: Vec<Stream>,
}

/// The file behind a handle.
pub(crate) struct Identity {
    key: String,
    pub(crate) is_directory: bool,
    pub(crate) size: u64,
}

impl Identity {
    /// # Safety
    /// `file` is an open file's handle.
    pub(crate) unsafe fn of(file: HANDLE) -> io::Result<Self> {
        let mut info = BY_HANDLE_FILE_INFORMATION::default();
        // SAFETY: the caller guarantees it; the structure is of the function's type.
        if unsafe { GetFileInformationByHandle(file, &raw mut info) } == 0 {
            return Err(io::Error::last_os_error());
        }
        let number = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let index = number(info.nFileIndexHigh, info.nFileIndexLow);
        Ok(Self {
            key: format!("{:08x}-{index:016x}", info.dwVolumeSerialNumber),
            is_directory: info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY != 0,
            size: number(info.nFileSizeHigh, info.nFileSizeLow),
        })
    }

    fn path(&self) -> PathBuf {
        state::dir().join("metadata").join(&self.key)
    }

    /// The file's record; empty if the ID belonged to a file of another kind before.
    pub(crate) fn load(&self) -> io::Result<Record> {
        let record: Record = match fs::read(self.path()) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(e) => return Err(e),
        };
        let fits = record.is_directory == self.is_directory;
        Ok(if fits { record } else { Record { is_directory: self.is_directory, ..Record::default() } })
    }

    pub(crate) fn store(&self, record: &Record) -> io::Result<()> {
        let path = self.path();
        fs::create_dir_all(state::dir().join("metadata"))?;
        let record = Record { is_directory: self.is_directory, ..record.clone() };
        fs::write(path, serde_json::to_vec(&record).map_err(io::Error::from)?)
    }

    /// Forgets the file; the next file with its ID starts without a record.
    pub(crate) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.path()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// The metadata of the plain file.
///
/// # Safety
/// `file` is an open file's handle.
pub(crate) unsafe fn plain_info(file: HANDLE) -> io::Result<Info> {
    let mut raw = FILE_BASIC_INFO::default();
    // SAFETY: the caller guarantees it; the structure is that of the class.
    let result = unsafe {
        GetFileInformationByHandleEx(file, FileBasicInfo, (&raw mut raw).cast(), size_of_val(&raw) as u32)
    };
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(Info::from_raw(&raw)) }
}

/// The metadata that NTFS would report.
///
/// # Safety
/// `file` is an open file's handle.
pub(crate) unsafe fn info(file: HANDLE) -> io::Result<Info> {
    // SAFETY: the caller guarantees it.
    let (identity, plain) = unsafe { (Identity::of(file)?, plain_info(file)?) };
    let record = identity.load()?;
    // Reading a file does not change its times: NTFS on a server does not record access.
    let mut info = Info { access: plain.write, ..plain };
    if let Some(kept) = record.info {
        info = kept;
        if record.seen_write.is_some_and(|seen| seen != plain.write) {
            (info.write, info.change) = (plain.write, plain.change);
        }
    }
    if record.streams.iter().any(|stream| stream.id == REPARSE) {
        info.attributes |= ATTRIBUTE_REPARSE_POINT;
    }
    if identity.is_directory {
        info.attributes |= ATTRIBUTE_DIRECTORY;
    }
    Ok(info)
}

/// Sets the metadata that NTFS would report from now on; fields that are 0 do not change.
///
/// # Safety
/// `file` is an open file's handle.
pub(crate) unsafe fn set_info(file: HANDLE, new: Info) -> io::Result<()> {
    // SAFETY: the caller guarantees it.
    let (identity, old) = unsafe { (Identity::of(file)?, info(file)?) };
    let raw = new.to_raw();
    // Also set what the plain file can hold, for programs that look at it directly. SAFETY: the caller's
    // word; the structure is that of the class.
    let set = unsafe {
        SetFileInformationByHandle(file, FileBasicInfo, (&raw const raw).cast(), size_of_val(&raw) as u32)
    };
    if set == 0 {
        return Err(io::Error::last_os_error());
    }
    // -1 means "do not update this automatically", which does not happen here anyway.
    let or = |new: i64, old: i64| if new > 0 { new } else { old };
    let kept = Info {
        creation: or(new.creation, old.creation),
        access: or(new.access, old.access),
        write: or(new.write, old.write),
        change: or(new.change, old.change),
        attributes: if new.attributes == 0 { old.attributes } else { new.attributes }
            & !ATTRIBUTE_REPARSE_POINT,
    };
    let is_new = identity.size == 0 && !identity.is_directory;
    // SAFETY: the caller guarantees it.
    let seen_write = if is_new { None } else { Some(unsafe { plain_info(file)? }.write) };
    let record = identity.load()?;
    identity.store(&Record { info: Some(kept), seen_write, ..record })
}

/// Opens a file or directory for its metadata.
pub(crate) fn open(path: &Path, write: bool) -> io::Result<File> {
    let access = if write { GENERIC_READ | GENERIC_WRITE } else { GENERIC_READ };
    fs::OpenOptions::new().access_mode(access).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path)
}

/// All metadata that NTFS would report for `path`.
pub(crate) fn of_path(path: &Path) -> io::Result<(Info, Vec<Stream>)> {
    let file = open(path, false)?;
    // SAFETY: the file is open.
    unsafe { Ok((info(file.as_raw_handle())?, Identity::of(file.as_raw_handle())?.load()?.streams)) }
}

/// Sets times, attributes and streams of the file at `path`.
pub(crate) fn set_at(path: &Path, info: Info, streams: Vec<Stream>) -> io::Result<()> {
    // The read-only attribute is only in the record: the plain file must stay writable.
    let file = open(path, true)?;
    // SAFETY: the file is open.
    unsafe {
        let identity = Identity::of(file.as_raw_handle())?;
        identity.store(&Record { streams, ..Record::default() })?;
        set_info(file.as_raw_handle(), Info { attributes: info.attributes & !1, ..info })?;
        let record = identity.load()?;
        let seen_write = Some(plain_info(file.as_raw_handle())?.write);
        identity.store(&Record { info: Some(info), seen_write, ..record })
    }
}

//! `BackupRead`, `BackupWrite`, `BackupSeek`.
//!
//! A file's data are in the file; its other streams are kept beside it (`metadata.rs`) and read back in the
//! order in which they were written. Source: go-winio `backup.go`; the functions' documentation.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::windows::fs::FileExt;
use std::os::windows::io::{FromRawHandle, RawHandle};

use serde_json::json;
use windows_sys::Wdk::Foundation::{NtQueryObject, ObjectBasicInformation};
use windows_sys::Win32::Foundation::{HANDLE, SetLastError};
use windows_sys::Win32::Storage::FileSystem::GetFinalPathNameByHandleW;
use windows_sys::core::BOOL;

use crate::call::{Outcome, call};
use crate::code::Code;
use crate::metadata::{self, Identity, Record};
use crate::streams::{Content, DATA, Event, Parser, SECURITY, SPARSE_BLOCK, Stream};

/// The target of a context pointer.
enum Context {
    Reading(Reader),
    Writing(Writer),
}

struct Reader {
    parts: Vec<Part>,
    part: usize,
    position: u64,
}

/// A part of the stream that is read: seeking skips content, but never headers.
enum Part {
    Header(Vec<u8>),
    Content(Content),
}

impl Part {
    fn size(&self) -> u64 {
        match self {
            Self::Header(bytes) | Self::Content(Content::Stored(bytes)) => bytes.len() as u64,
            Self::Content(Content::InFile { size, .. }) => *size,
        }
    }
}

struct Writer {
    parser: Parser,
    record: Record,
    security: bool,
}

/// The file as a `File` of the standard library, which does not close it.
///
/// # Safety
/// `file` is an open file's handle.
unsafe fn borrowed(file: HANDLE) -> ManuallyDrop<File> {
    // SAFETY: the handle is open, and this never closes it.
    ManuallyDrop::new(unsafe { File::from_raw_handle(file as RawHandle) })
}

/// Access rights for setting owner and DACL: `WRITE_DAC`, `WRITE_OWNER`.
const WITH_SECURITY: u32 = 0x4_0000 | 0x8_0000;

/// Whether a file was opened with all of these rights.
///
/// # Safety
/// `file` is an open file's handle.
unsafe fn may(file: HANDLE, access: u32) -> bool {
    // PUBLIC_OBJECT_BASIC_INFORMATION: attributes, the access that was granted, and more.
    let mut information = [0u32; 14];
    // SAFETY: the buffer has the given size.
    let status = unsafe {
        NtQueryObject(
            file,
            ObjectBasicInformation,
            information.as_mut_ptr().cast(),
            size_of_val(&information) as u32,
            std::ptr::null_mut(),
        )
    };
    status == 0 && information[1] & access == access
}

/// # Safety
/// `file` is an open file's handle.
pub(crate) unsafe fn path_of(file: HANDLE) -> String {
    let mut buffer = vec![0u16; 32_768];
    // SAFETY: the buffer has the given length.
    let length =
        unsafe { GetFinalPathNameByHandleW(file, buffer.as_mut_ptr(), buffer.len() as u32, 0) } as usize;
    String::from_utf16_lossy(&buffer[..length.min(buffer.len())])
}

impl Reader {
    /// # Safety
    /// `file` is an open file's handle.
    unsafe fn new(file: HANDLE, security: bool) -> io::Result<Self> {
        // SAFETY: the caller guarantees it.
        let identity = unsafe { Identity::of(file)? };
        let mut streams = identity.load()?.streams;
        let has = |streams: &[Stream], id| streams.iter().any(|stream| stream.id == id);
        if security && !has(&streams, SECURITY) {
            streams.insert(0, Stream::default_security());
        }
        streams.retain(|stream| security || stream.id != SECURITY);
        if !has(&streams, DATA) && !has(&streams, SPARSE_BLOCK) && !identity.is_directory && identity.size > 0
        {
            streams.push(Stream::data(identity.size));
        }
        let sparse = has(&streams, SPARSE_BLOCK);
        for stream in &mut streams {
            // The file may have grown or shrunk since.
            if let (DATA, Content::InFile { size, .. }, false) = (stream.id, &mut stream.content, sparse) {
                *size = identity.size;
            }
        }
        let parts = streams.into_iter().flat_map(|s| [Part::Header(s.header()), Part::Content(s.content)]);
        Ok(Self { parts: parts.collect(), part: 0, position: 0 })
    }

    /// # Safety
    /// `file` is an open file's handle.
    unsafe fn read(&mut self, file: HANDLE, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(part) = self.parts.get(self.part) {
            let left = part.size() - self.position;
            if left == 0 {
                (self.part, self.position) = (self.part + 1, 0);
                continue;
            }
            if done == buffer.len() {
                break;
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len() - done);
            let target = &mut buffer[done..done + count];
            let count = match part {
                Part::Header(bytes) | Part::Content(Content::Stored(bytes)) => {
                    let at = self.position as usize;
                    target.copy_from_slice(&bytes[at..at + count]);
                    count
                }
                // SAFETY: the caller guarantees it.
                Part::Content(Content::InFile { offset, .. }) => unsafe {
                    borrowed(file).seek_read(target, offset + self.position)?
                },
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            done += count;
            self.position += count as u64;
        }
        Ok(done)
    }

    /// Skips content of the current stream, at most to its end.
    fn seek(&mut self, wanted: u64) -> u64 {
        match self.parts.get(self.part) {
            Some(part @ Part::Content(_)) => {
                let count = wanted.min(part.size() - self.position);
                self.position += count;
                count
            }
            _ => 0,
        }
    }
}

impl Writer {
    /// # Safety
    /// `file` is an open file's handle.
    unsafe fn new(file: HANDLE, security: bool) -> io::Result<Self> {
        // SAFETY: the caller guarantees it.
        let identity = unsafe { Identity::of(file)? };
        let mut record = identity.load()?;
        if identity.size == 0 && !identity.is_directory {
            // The file is new: a record under its ID belongs to a file that was removed.
            record.streams.clear();
        }
        Ok(Self { parser: Parser::default(), record, security })
    }

    /// # Safety
    /// `file` is an open file's handle.
    unsafe fn write(&mut self, file: HANDLE, bytes: &[u8]) -> Outcome {
        let Self { parser, record, security } = self;
        let mut changed = false;
        parser.feed(bytes, |event| match event {
            Event::Write { mut offset, bytes } => {
                let mut bytes = &bytes[..];
                while !bytes.is_empty() {
                    // SAFETY: the caller guarantees it.
                    let count = unsafe { borrowed(file) }.seek_write(bytes, offset)?;
                    bytes = &bytes[count..];
                    offset += count as u64;
                }
                Ok(())
            }
            Event::Done(stream) if stream.id == SECURITY && !*security => Ok(()),
            // SAFETY: the caller guarantees it.
            Event::Done(stream) if stream.id == SECURITY && !unsafe { may(file, WITH_SECURITY) } => {
                Err(Code::ACCESS_DENIED)
            }
            Event::Done(stream) => {
                changed = true;
                if let (SPARSE_BLOCK, Content::InFile { offset, size: 0 }) = (stream.id, &stream.content) {
                    // The last one of them sets the end of the file. SAFETY: the caller guarantees it.
                    let file = unsafe { borrowed(file) };
                    if file.metadata()?.len() < *offset {
                        file.set_len(*offset)?;
                    }
                }
                let place = |s: &Stream| {
                    (
                        s.id,
                        s.name.clone(),
                        if let Content::InFile { offset, .. } = s.content { offset } else { 0 },
                    )
                };
                match record.streams.iter_mut().find(|old| place(old) == place(&stream)) {
                    Some(old) => *old = stream,
                    None => record.streams.push(stream),
                }
                Ok(())
            }
        })?;
        if !changed {
            return Ok(());
        }
        // SAFETY: the caller guarantees it.
        unsafe {
            let identity = Identity::of(file)?;
            let kept: Record = identity.load()?;
            identity.store(&Record { streams: self.record.streams.clone(), ..kept.clone() })?;
            if let (Some(_), Some(info)) = (kept.seen_write, kept.info) {
                // NTFS keeps times that were set through the same handle.
                metadata::set_info(file, info)?;
            }
        }
        Ok(())
    }
}

/// Runs one of the functions. A null context means a new file, whose first call is recorded.
///
/// # Safety
/// The arguments are those of the functions.
unsafe fn run(
    name: &str,
    file: HANDLE,
    abort: BOOL,
    security: BOOL,
    context: *mut *mut c_void,
    make: impl FnOnce() -> io::Result<Context>,
    work: impl FnOnce(&mut Context) -> Outcome,
) -> BOOL {
    // SAFETY: the context is null or from an earlier call.
    let outcome = unsafe {
        if abort != 0 {
            if !(*context).is_null() {
                drop(Box::from_raw((*context).cast::<Context>()));
                *context = std::ptr::null_mut();
            }
            Ok(())
        } else if (*context).is_null() {
            let first = || {
                let made = Box::into_raw(Box::new(make()?));
                *context = made.cast();
                work(&mut *made)
            };
            match call(name, json!({"path": path_of(file), "security": security != 0}), first) {
                0 => Ok(()),
                code => Err(Code(code.cast_unsigned())),
            }
        } else {
            work(&mut *(*context).cast::<Context>())
        }
    };
    match outcome {
        Ok(()) => 1,
        Err(code) => {
            // SAFETY: takes a number.
            unsafe { SetLastError(code.to_win32()) };
            0
        }
    }
}

/// # Safety
/// As `BackupRead`.
#[unsafe(no_mangle)]
unsafe extern "system" fn standin_backup_read(
    file: HANDLE,
    buffer: *mut u8,
    size: u32,
    read: *mut u32,
    abort: BOOL,
    security: BOOL,
    context: *mut *mut c_void,
) -> BOOL {
    // SAFETY: the arguments are those of the function: the buffer has the given size, the file is open.
    unsafe {
        let make = || Ok(Context::Reading(Reader::new(file, security != 0)?));
        run("BackupRead", file, abort, security, context, make, |context| {
            let Context::Reading(reader) = context else { return Err(Code::INVALID_PARAMETER) };
            *read = reader.read(file, std::slice::from_raw_parts_mut(buffer, size as usize))? as u32;
            Ok(())
        })
    }
}

/// # Safety
/// As `BackupWrite`.
#[unsafe(no_mangle)]
unsafe extern "system" fn standin_backup_write(
    file: HANDLE,
    buffer: *const u8,
    size: u32,
    written: *mut u32,
    abort: BOOL,
    security: BOOL,
    context: *mut *mut c_void,
) -> BOOL {
    // SAFETY: the arguments are those of the function: the buffer has the given size, the file is open.
    unsafe {
        let make = || Ok(Context::Writing(Writer::new(file, security != 0)?));
        run("BackupWrite", file, abort, security, context, make, |context| {
            let Context::Writing(writer) = context else { return Err(Code::INVALID_PARAMETER) };
            writer.write(file, std::slice::from_raw_parts(buffer, size as usize))?;
            *written = size;
            Ok(())
        })
    }
}

/// # Safety
/// As `BackupSeek`.
#[unsafe(no_mangle)]
unsafe extern "system" fn standin_backup_seek(
    _file: HANDLE,
    low: u32,
    high: u32,
    low_done: *mut u32,
    high_done: *mut u32,
    context: *mut *mut c_void,
) -> BOOL {
    let wanted = u64::from(high) << 32 | u64::from(low);
    // SAFETY: the context is null or from an earlier call; the results have room.
    let done = unsafe {
        let done = match (*context).cast::<Context>().as_mut() {
            Some(Context::Reading(reader)) => reader.seek(wanted),
            _ => 0,
        };
        *low_done = done as u32;
        *high_done = (done >> 32) as u32;
        done
    };
    if done == wanted {
        return 1;
    }
    // SAFETY: takes a number.
    unsafe { SetLastError(Code::SEEK.to_win32()) };
    0
}

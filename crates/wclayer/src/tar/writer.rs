//! Writes an archive, byte for byte as Go's `archive/tar` does.
//!
//! Values that do not fit a header block go into a PAX header before it. The choice of these fields, their
//! order, and the values in the block instead affect a layer's digest, so Go's rules are followed exactly
//! (`common.go` `allowedFormats`, `writer.go`; Go 1.24). Its GNU dialect is never written: nothing that a
//! layer can hold needs it.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use crate::pax_time::{self, PaxTime};

use super::block::{self, BLOCK_SIZE, Block};
use super::error::{TarError, lossy};
use super::header::{Header, is_header_only, type_flag};
use super::pax::{self, PaxRecords};
use super::{MAX_SPECIAL_SIZE, path};

/// For padding.
const ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];
/// Longest USTAR prefix.
const PREFIX_SIZE: usize = block::USTAR_PREFIX.end - block::USTAR_PREFIX.start;
const NAME_SIZE: usize = block::NAME.end - block::NAME.start;

/// An entry to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewEntry<'a> {
    /// See [`type_flag`]; 0 stands for a file, or a directory if the name ends in a slash.
    pub type_flag: u8,
    /// The name. That of a file must not end in a slash.
    pub name: &'a [u8],
    /// The target of a link.
    pub link_name: &'a [u8],
    /// Bytes of data that will follow. Types without data may have a size, but no data.
    pub size: u64,
    /// At most 21 bits.
    pub mode: i64,
    /// Owner.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// Owner's name.
    pub uname: &'a [u8],
    /// Group's name.
    pub gname: &'a [u8],
    /// At most 21 bits.
    pub dev_major: i64,
    /// At most 21 bits.
    pub dev_minor: i64,
    /// Last write; `None` is written as 1970-01-01.
    pub mtime: Option<PaxTime>,
    /// Last access; always a PAX record.
    pub atime: Option<PaxTime>,
    /// Last change of metadata; always a PAX record.
    pub ctime: Option<PaxTime>,
    /// Vendor records. Those with the key of a standard or sparse record are left out.
    pub records: Option<&'a PaxRecords>,
}

impl<'a> From<&'a Header> for NewEntry<'a> {
    fn from(header: &'a Header) -> Self {
        Self {
            type_flag: header.type_flag,
            name: &header.name,
            link_name: &header.link_name,
            size: header.size,
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            uname: &header.uname,
            gname: &header.gname,
            dev_major: header.dev_major,
            dev_minor: header.dev_minor,
            mtime: header.mtime,
            atime: header.atime,
            ctime: header.ctime,
            records: (!header.pax.is_empty()).then_some(&header.pax),
        }
    }
}

/// Writes entries one after the other.
///
/// [`begin`](Self::begin) writes a header; then exactly as many bytes of data as it announced have to follow.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
    position: u64,
    /// The entry being written, for errors.
    name: Vec<u8>,
    size: u64,
    left: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Writes to `inner`, unbuffered: a header is one write.
    pub fn new(inner: W) -> Self {
        Self { inner, position: 0, name: Vec::new(), size: 0, left: 0, padding: 0 }
    }

    /// Writes the header of the next entry.
    ///
    /// # Errors
    /// [`TarError::DataMissing`] if the previous entry is not complete, [`TarError::Unwritable`],
    /// [`TarError::Write`].
    pub fn begin(&mut self, entry: &NewEntry<'_>) -> Result<(), TarError> {
        self.complete()?;
        let mut entry = *entry;
        if entry.type_flag == 0 {
            let is_directory = entry.name.last() == Some(&b'/');
            entry.type_flag = if is_directory { type_flag::DIRECTORY } else { type_flag::FILE };
        }
        let headers = headers(&entry)?;
        self.name.clear();
        self.name.extend_from_slice(entry.name);
        self.put(&headers)?;
        self.size = if is_header_only(entry.type_flag) { 0 } else { entry.size };
        self.left = self.size;
        self.padding = block::padding(self.size) as usize;
        Ok(())
    }

    /// Writes data of the current entry.
    ///
    /// # Errors
    /// [`TarError::DataTooLong`] if there is more than the header announced (nothing is written then),
    /// [`TarError::Write`].
    pub fn write_data(&mut self, data: &[u8]) -> Result<(), TarError> {
        match self.left.checked_sub(data.len() as u64) {
            Some(left) => self.left = left,
            None => return Err(TarError::DataTooLong { entry: lossy(&self.name), size: self.size }),
        }
        self.put(data)
    }

    /// Writes all of `data`. `Ok(Err(_))` is an error of `data`, `Err` one of the archive.
    pub fn copy(&mut self, data: &mut (impl Read + ?Sized)) -> Result<io::Result<u64>, TarError> {
        // Large enough to be worth a call, small enough for a cache.
        let mut buffer = vec![0; 64 << 10];
        let mut copied = 0;
        loop {
            match data.read(&mut buffer) {
                Ok(0) => return Ok(Ok(copied)),
                Ok(count) => self.write_data(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(error)),
            }
            copied = self.size - self.left;
        }
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the current entry's data that have not been written.
    pub fn missing(&self) -> u64 {
        self.left
    }

    /// Writes the end of the archive: two blocks of zeros, without padding to a tape's record.
    ///
    /// # Errors
    /// [`TarError::DataMissing`] if the last entry is not complete, [`TarError::Write`].
    pub fn finish(mut self) -> Result<W, TarError> {
        self.complete()?;
        self.name.clear();
        self.put(&[0; 2 * BLOCK_SIZE])?;
        Ok(self.inner)
    }

    fn complete(&mut self) -> Result<(), TarError> {
        if self.left > 0 {
            return Err(TarError::DataMissing { entry: lossy(&self.name), missing: self.left });
        }
        let padding = std::mem::take(&mut self.padding);
        self.put(&ZEROS[..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.position += bytes.len() as u64;
        self.inner.write_all(bytes).map_err(|source| TarError::Write { entry: lossy(&self.name), source })
    }
}

/// The header of an entry: a PAX header if it needs one, then its block.
fn headers(entry: &NewEntry<'_>) -> Result<Vec<u8>, TarError> {
    let bad = |problem| TarError::Unwritable { entry: lossy(entry.name), problem };
    check(entry).map_err(bad)?;
    if let Some((prefix, name)) = ustar_name(entry) {
        let mut block = entry_block(&NewEntry { name, ..*entry });
        put_text(&mut block[block::USTAR_PREFIX], prefix);
        block::seal(&mut block);
        return Ok(block.to_vec());
    }
    let mut records = records(entry);
    records.sort_unstable();
    records.dedup_by(|later, kept| later.0 == kept.0);
    let mut data = Vec::new();
    for (key, value) in records {
        if !pax::is_valid(key, &value) {
            return Err(bad(
                "a PAX record has an empty key, an equals sign in it, or a NUL where none may be",
            ));
        }
        pax::append_record(&mut data, key, &value);
    }
    if data.len() as u64 > MAX_SPECIAL_SIZE {
        return Err(bad("its PAX records are more than 1 MiB"));
    }
    let mut out = Vec::with_capacity(3 * BLOCK_SIZE + data.len());
    if !data.is_empty() {
        out.extend_from_slice(&pax_block(entry.name, data.len()));
        out.extend_from_slice(&data);
        out.resize(out.len().next_multiple_of(BLOCK_SIZE), 0);
    }
    let mut block = entry_block(entry);
    block::seal(&mut block);
    out.extend_from_slice(&block);
    Ok(out)
}

/// Refuses entries that neither USTAR nor PAX can hold.
fn check(entry: &NewEntry<'_>) -> Result<(), &'static str> {
    let numbers = [entry.mode, entry.dev_major, entry.dev_minor];
    if numbers.iter().any(|&number| !block::fits_octal(8, number)) {
        return Err("its mode or device number has more than 21 bits");
    }
    if i64::try_from(entry.size).is_err() {
        return Err("its size has more than 63 bits");
    }
    match entry.type_flag {
        type_flag::FILE
        | type_flag::CHAR_DEVICE
        | type_flag::BLOCK_DEVICE
        | type_flag::FIFO
        | type_flag::GNU_SPARSE
            if entry.name.last() == Some(&b'/') =>
        {
            Err("the name of a file ends in a slash")
        }
        type_flag::PAX | type_flag::GLOBAL | type_flag::GNU_LONG_NAME | type_flag::GNU_LONG_LINK => {
            Err("its type is that of a header")
        }
        _ => Ok(()),
    }
}

/// The prefix and name fields of an entry that a header block alone can hold.
fn ustar_name<'a>(entry: &NewEntry<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let time_fits = |time: PaxTime| time.nanos == 0 && block::fits_octal(12, time.secs);
    let fits = entry.records.is_none_or(PaxRecords::is_empty)
        && entry.atime.is_none()
        && entry.ctime.is_none()
        && entry.mtime.is_none_or(time_fits)
        && is_ascii(entry.link_name, NAME_SIZE)
        && is_ascii(entry.uname, 32)
        && is_ascii(entry.gname, 32)
        && block::fits_octal(8, entry.uid)
        && block::fits_octal(8, entry.gid)
        && block::fits_octal(12, entry.size as i64);
    match fits {
        true if is_ascii(entry.name, NAME_SIZE) => Some((b"", entry.name)),
        true => split_name(entry.name),
        false => None,
    }
}

/// Splits a name between the prefix and the name field, at the last slash that the prefix allows.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if !is_ascii(name, usize::MAX) {
        return None;
    }
    let mut end = name.len();
    if end > PREFIX_SIZE + 1 {
        end = PREFIX_SIZE + 1;
    } else if name.last() == Some(&b'/') {
        end -= 1;
    }
    let slash = name[..end].iter().rposition(|&byte| byte == b'/')?;
    let rest = &name[slash + 1..];
    (slash > 0 && !rest.is_empty() && rest.len() <= NAME_SIZE).then_some((&name[..slash], rest))
}

/// Whether a text field of `width` bytes can hold `text`.
fn is_ascii(text: &[u8], width: usize) -> bool {
    text.len() <= width && text.is_ascii() && !text.contains(&0)
}

/// The records of the PAX header, unsorted; the first record of a key counts. Standard fields come before
/// vendor records.
fn records<'a>(entry: &NewEntry<'a>) -> Vec<(&'a [u8], Cow<'a, [u8]>)> {
    let mut records: Vec<(&[u8], Cow<'_, [u8]>)> = Vec::new();
    for (key, text, width) in [
        (&b"path"[..], entry.name, NAME_SIZE),
        (b"linkpath", entry.link_name, NAME_SIZE),
        (b"uname", entry.uname, 32),
        (b"gname", entry.gname, 32),
    ] {
        if !is_ascii(text, width) {
            records.push((key, text.into()));
        }
    }
    for (key, number, width) in
        [(&b"uid"[..], entry.uid, 8), (b"gid", entry.gid, 8), (b"size", entry.size as i64, 12)]
    {
        if !block::fits_octal(width, number) {
            records.push((key, number.to_string().into_bytes().into()));
        }
    }
    let needs_record = |time: &PaxTime| time.nanos != 0 || !block::fits_octal(12, time.secs);
    for (key, time) in
        [(&b"mtime"[..], entry.mtime.filter(needs_record)), (b"atime", entry.atime), (b"ctime", entry.ctime)]
    {
        if let Some(time) = time {
            records.push((key, pax_time::format(time).into_bytes().into()));
        }
    }
    let vendor = entry.records.into_iter().flat_map(PaxRecords::iter);
    records.extend(vendor.filter(|(key, _)| is_vendor(key)).map(|(key, value)| (key, value.into())));
    records
}

/// Whether a record does not correspond to a field of the entry.
fn is_vendor(key: &[u8]) -> bool {
    let standard: [&[u8]; 10] =
        [b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname", b"mtime", b"atime", b"ctime"];
    !standard.contains(&key) && !key.starts_with(b"GNU.sparse.")
}

/// The block of the entry itself, not sealed. Values that do not fit are cut: a PAX record has them whole.
fn entry_block(entry: &NewEntry<'_>) -> Block {
    let mut block = [0; BLOCK_SIZE];
    block[block::TYPE_FLAG] = entry.type_flag;
    put_text(&mut block[block::NAME], entry.name);
    put_text(&mut block[block::LINK_NAME], entry.link_name);
    block::put_octal(&mut block[block::MODE], entry.mode);
    block::put_octal(&mut block[block::UID], entry.uid);
    block::put_octal(&mut block[block::GID], entry.gid);
    block::put_octal(&mut block[block::SIZE], entry.size as i64);
    block::put_octal(&mut block[block::MTIME], entry.mtime.map_or(0, |time| time.secs));
    put_text(&mut block[block::UNAME], entry.uname);
    put_text(&mut block[block::GNAME], entry.gname);
    block::put_octal(&mut block[block::DEV_MAJOR], entry.dev_major);
    block::put_octal(&mut block[block::DEV_MINOR], entry.dev_minor);
    block
}

/// The block before the PAX records. Its name is for tools that do not know PAX and unpack it as a file.
fn pax_block(name: &[u8], size: usize) -> Block {
    let (dir, file) = path::split(name);
    let mut name = ascii(&path::join(&[dir, b"PaxHeaders.0", file])).into_owned();
    name.truncate(NAME_SIZE);
    while name.last() == Some(&b'/') {
        name.pop();
    }
    let mut block = [0; BLOCK_SIZE];
    block[block::TYPE_FLAG] = type_flag::PAX;
    put_text(&mut block[block::NAME], &name);
    for field in [block::MODE, block::UID, block::GID, block::MTIME] {
        block::put_octal(&mut block[field], 0);
    }
    block::put_octal(&mut block[block::SIZE], size as i64);
    block::seal(&mut block);
    block
}

/// `text` without NULs and everything that is not ASCII.
fn ascii(text: &[u8]) -> Cow<'_, [u8]> {
    if is_ascii(text, usize::MAX) {
        return text.into();
    }
    text.iter().copied().filter(|&byte| byte.is_ascii() && byte != 0).collect()
}

/// Writes as much of `text` as fits.
///
/// Go: some readers take a file for a directory if the cut name happens to end in a slash, so a NUL goes
/// there.
fn put_text(field: &mut [u8], text: &[u8]) {
    let text = ascii(text);
    let count = text.len().min(field.len());
    field[..count].copy_from_slice(&text[..count]);
    if text.len() > field.len() && field.last() == Some(&b'/') {
        let end = field.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        field[end] = 0;
    }
}

//! Writes a layer tar, entry by entry, from metadata.
//!
//! Source: go-winio `backuptar/tar.go` (`BasicInfoHeader`, `WriteTarFileFromBackupStream`), hcsshim
//! `pkg/ociwclayer/export.go` (whiteouts, hard links).

use std::collections::HashSet;
use std::io::{Read, Write};

use crate::attributes::FILE_ATTRIBUTE_DIRECTORY;
use crate::ea::{self, ExtendedAttribute};
use crate::pax_time;
use crate::reparse;
use crate::tar::{self, NewEntry, PaxRecords, path, type_flag};

use super::entry::{FileInfo, LayerEntry, WHITEOUT_PREFIX, windows_path};
use super::error::LayerTarError;
use super::loss::{Loss, Lost};
use super::records;

/// `S_IFDIR`, as the reference puts it in the mode field.
const MODE_DIRECTORY: i64 = 0o040_000;
/// `S_IFREG`.
const MODE_FILE: i64 = 0o100_000;
/// `S_IFLNK`.
const MODE_SYMLINK: i64 = 0o120_000;
/// The reference's mode of hard links.
const MODE_LINK: i64 = 0o644;

/// Writes a layer tar.
///
/// A writer from [`new`](Self::new) writes the bytes of go-winio on Go's `archive/tar`, and reports the
/// losses of that in [`losses`](Self::losses). One from [`extended`](Self::extended) adds records to entries
/// that would lose something, so other readers see the same files and ours sees everything; entries that lose
/// nothing have the same bytes either way.
#[derive(Debug)]
pub struct Writer<W> {
    pub(super) tar: tar::Writer<W>,
    pub(super) extended: bool,
    losses: Vec<Loss>,
}

/// The header of a file.
pub(super) struct Head {
    pub(super) name: Vec<u8>,
    info: FileInfo,
    pub(super) mode: i64,
    pub(super) type_flag: u8,
    link_name: Vec<u8>,
    pub(super) size: u64,
    records: PaxRecords,
}

impl<W: Write> Writer<W> {
    /// A tar as the reference writes it.
    pub fn new(inner: W) -> Self {
        Self { tar: tar::Writer::new(inner), extended: false, losses: Vec::new() }
    }

    /// A tar that also keeps what the reference would lose.
    pub fn extended(inner: W) -> Self {
        Self { extended: true, ..Self::new(inner) }
    }

    /// Writes a file, directory or reparse point with its data; its streams have to follow, see
    /// [`write_stream`](Self::write_stream).
    ///
    /// `data` is read to its end and must have [`LayerEntry::size`] bytes; it is not read if the entry has
    /// none.
    ///
    /// # Errors
    /// [`LayerTarError::Reparse`] for reparse points that the reference has no form for (not if extended),
    /// [`LayerTarError::Data`] if `data` fails, and those of the tar.
    pub fn write_file(&mut self, entry: &LayerEntry, data: &mut dyn Read) -> Result<(), LayerTarError> {
        let head = self.head_of(entry)?;
        self.begin(&head)?;
        if !entry.has_data() {
            return Ok(());
        }
        let copied = self.tar.copy(data)?;
        copied.map_err(|source| LayerTarError::Data { entry: entry.display_name(), source })?;
        self.expect_complete(entry)
    }

    /// Writes a named stream of `host`, which must be the last file written (other streams of it may lie
    /// between). `stream` is the name between the colons.
    ///
    /// The reference reads streams of every kind of file, but writes none of directories and reparse points;
    /// this writes them all.
    ///
    /// # Errors
    /// [`LayerTarError::Data`] if `data` fails, and those of the tar.
    pub fn write_stream(
        &mut self,
        host: &LayerEntry,
        stream: &[u8],
        size: u64,
        data: &mut dyn Read,
    ) -> Result<(), LayerTarError> {
        let head = self.head_of(host)?;
        self.begin_stream(&head, &[b":", stream].concat(), size)?;
        let copied = self.tar.copy(data)?;
        copied.map_err(|source| LayerTarError::Data { entry: host.display_name(), source })?;
        self.expect_complete(host)
    }

    /// Writes a deletion of `path` (slashes or backslashes).
    ///
    /// # Errors
    /// Those of the tar.
    pub fn write_whiteout(&mut self, path: &[u8]) -> Result<(), LayerTarError> {
        let path = slashes(path);
        let base = [WHITEOUT_PREFIX, path::base(&path)].concat();
        let name = path::join(&[&path::dir(&path), &base]);
        Ok(self.tar.begin(&NewEntry { name: &name, ..NewEntry::default() })?)
    }

    /// Writes a hard link [`LayerEntry::name`] to the file that was written as `target`. Attributes and times
    /// are those of the file.
    ///
    /// # Errors
    /// Those of the tar.
    pub fn write_link(&mut self, entry: &LayerEntry, target: &[u8]) -> Result<(), LayerTarError> {
        let mut head = Head::new(&entry.name, 0, entry.info());
        head.mode = MODE_LINK;
        head.type_flag = type_flag::LINK;
        head.link_name = slashes(target);
        self.begin(&head)
    }

    /// The losses so far, in order.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Returns [`losses`](Self::losses) and clears them.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        std::mem::take(&mut self.losses)
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.tar.position()
    }

    /// Writes the end of the tar.
    ///
    /// # Errors
    /// Those of the tar.
    pub fn finish(self) -> Result<W, LayerTarError> {
        Ok(self.tar.finish()?)
    }

    pub(super) fn lose(&mut self, entry: &[u8], what: Lost) {
        self.losses.push(Loss { entry: entry.to_vec(), what });
    }

    pub(super) fn begin(&mut self, head: &Head) -> Result<(), LayerTarError> {
        let entry = NewEntry {
            type_flag: head.type_flag,
            name: &head.name,
            link_name: &head.link_name,
            size: head.size,
            mode: head.mode,
            records: Some(&head.records),
            ..times(&head.info)
        };
        Ok(self.tar.begin(&entry)?)
    }

    /// Begins a stream; `suffix` follows the file's name.
    pub(super) fn begin_stream(
        &mut self,
        head: &Head,
        suffix: &[u8],
        size: u64,
    ) -> Result<(), LayerTarError> {
        let name = [&head.name, suffix].concat();
        let type_flag = type_flag::FILE;
        Ok(self.tar.begin(&NewEntry {
            type_flag,
            name: &name,
            size,
            mode: head.mode,
            ..times(&head.info)
        })?)
    }

    fn head_of(&mut self, entry: &LayerEntry) -> Result<Head, LayerTarError> {
        let mut head = Head::new(&entry.name, entry.size, entry.info());
        if entry.has_data() {
            head.mode |= MODE_FILE;
        }
        if let Some(security) = &entry.security {
            head.set_security(security);
        }
        if let Some(buffer) = &entry.reparse {
            self.set_reparse(&mut head, buffer)?;
        }
        self.add_eas(&mut head, &entry.eas)?;
        Ok(head)
    }

    /// Makes the file a link. Buffers that are not a link, or more than one, need an extended tar.
    pub(super) fn set_reparse(&mut self, head: &mut Head, buffer: &[u8]) -> Result<(), LayerTarError> {
        let target = match reparse::decode_go(buffer) {
            Ok(target) => target,
            Err(_) if self.extended => {
                // Write it as a link, so that readers without our record, such as go-winio, see a link.
                if let Some(target) = reparse::lx_target(buffer).filter(|_| head.can_be_a_link()) {
                    head.become_link(target.to_vec());
                }
                head.records.insert(records::RAW_REPARSE, records::encode_base64(buffer).as_bytes());
                return Ok(());
            }
            Err(source) => return Err(LayerTarError::Reparse { entry: head.display_name(), source }),
        };
        head.become_link(target.target.into_bytes());
        if target.is_mount_point {
            head.records.insert(records::MOUNT_POINT, b"1");
        }
        let read_back = reparse::encode_go(windows_path(&head.link_name), target.is_mount_point);
        if read_back.is_ok_and(|read_back| read_back == buffer) {
            return Ok(());
        }
        if self.extended {
            head.records.insert(records::RAW_REPARSE, records::encode_base64(buffer).as_bytes());
        } else {
            self.lose(&head.name.clone(), Lost::ReparseDetails);
        }
        Ok(())
    }

    /// Adds extended attributes, which may come in several parts. A repeated name gets the new value.
    pub(super) fn add_eas(
        &mut self,
        head: &mut Head,
        eas: &[ExtendedAttribute],
    ) -> Result<(), LayerTarError> {
        // A name that cannot be in a record's key is an error of the tar, unless the whole chain goes into
        // one record.
        for ea in eas.iter().filter(|ea| !self.extended || is_key(&ea.name)) {
            let key = [records::EA_PREFIX, &ea.name].concat();
            head.records.insert(&key, records::encode_base64(&ea.value).as_bytes());
        }
        if self.extended && !records_say_all(eas) {
            let error = |source| LayerTarError::EaData { entry: head.display_name(), source };
            let raw = ea::encode(eas).map_err(error)?;
            head.records.insert(records::RAW_EA, records::encode_base64(&raw).as_bytes());
        } else if !self.extended {
            let mut names = HashSet::new();
            for ea in eas {
                if ea.flags != 0 {
                    self.lose(&head.name, Lost::EaFlags { name: ea.name.clone(), flags: ea.flags });
                }
                if !names.insert(&ea.name) {
                    self.lose(&head.name, Lost::RepeatedEa { name: ea.name.clone() });
                }
            }
        }
        Ok(())
    }

    fn expect_complete(&self, entry: &LayerEntry) -> Result<(), LayerTarError> {
        match self.tar.missing() {
            0 => Ok(()),
            missing => Err(tar::TarError::DataMissing { entry: entry.display_name(), missing }.into()),
        }
    }
}

/// Whether single records, which will be sorted by name, give the same chain back.
fn records_say_all(eas: &[ExtendedAttribute]) -> bool {
    eas.iter().all(|ea| ea.flags == 0 && is_key(&ea.name))
        && eas.windows(2).all(|pair| pair[0].name < pair[1].name)
}

/// Whether the name of an attribute can be part of a record's key.
fn is_key(name: &[u8]) -> bool {
    !name.contains(&b'=') && !name.contains(&0)
}

impl Head {
    /// The reference's `BasicInfoHeader`.
    pub(super) fn new(name: &[u8], size: u64, info: FileInfo) -> Self {
        let is_directory = info.attributes & FILE_ATTRIBUTE_DIRECTORY != 0;
        let creation_time = pax_time::format(info.creation_time.to_pax());
        Self {
            name: slashes(name),
            info,
            mode: if is_directory { MODE_DIRECTORY } else { 0 },
            type_flag: if is_directory { type_flag::DIRECTORY } else { type_flag::FILE },
            link_name: Vec::new(),
            size: if is_directory { 0 } else { size },
            records: PaxRecords::from_iter([
                (records::FILE_ATTRIBUTES, info.attributes.to_string().as_bytes()),
                (records::CREATION_TIME, creation_time.as_bytes()),
            ]),
        }
    }

    pub(super) fn set_security(&mut self, descriptor: &[u8]) {
        self.records.insert(records::RAW_SECURITY, records::encode_base64(descriptor).as_bytes());
    }

    fn become_link(&mut self, target: Vec<u8>) {
        self.mode |= MODE_SYMLINK;
        self.type_flag = type_flag::SYMLINK;
        self.link_name = target;
    }

    /// Whether the entry can be a symbolic link without loss: in a tar, links have no data and cannot be
    /// directories.
    fn can_be_a_link(&self) -> bool {
        self.size == 0 && self.type_flag != type_flag::DIRECTORY
    }

    pub(super) fn set_has_data(&mut self) {
        self.mode |= MODE_FILE;
    }

    pub(super) fn display_name(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// An entry with nothing but times.
fn times(info: &FileInfo) -> NewEntry<'static> {
    NewEntry {
        mtime: Some(info.last_write_time.to_pax()),
        atime: Some(info.last_access_time.to_pax()),
        ctime: Some(info.change_time.to_pax()),
        ..NewEntry::default()
    }
}

/// A path for the tar: backslashes become slashes.
pub(super) fn slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect()
}

//! One entry of a layer: a header with its parsed records.

use crate::attributes::FILE_ATTRIBUTE_DIRECTORY;
use crate::ea::{self, ExtendedAttribute};
use crate::filetime::FileTime;
use crate::pax_time::{self, PaxTime};
use crate::reparse;
use crate::security::{SecurityDescriptor, Sid};
use crate::tar::{Header, path, type_flag};

use super::error::LayerTarError;
use super::records;

/// Start of the last path element of a deletion.
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The meaning of an entry in a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A deletion of any type: its last path element starts with `.wh.`.
    Whiteout {
        /// The path that is deleted; slashes, cleaned.
        target: Vec<u8>,
    },
    /// Another name of a file.
    Link {
        /// The file's name, as in the header.
        target: Vec<u8>,
    },
    /// A symbolic link or mount point.
    Symlink {
        /// Its target, as in the header; Windows gets it with backslashes.
        target: Vec<u8>,
        /// A mount point rather than a symbolic link.
        mount_point: bool,
    },
    /// Has the directory attribute.
    Directory,
    /// Anything else, entries of unknown types too.
    File,
}

/// Attributes and times: Windows' `FILE_BASIC_INFO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileInfo {
    /// `FILE_ATTRIBUTE_*`.
    pub attributes: u32,
    /// When the file was created.
    pub creation_time: FileTime,
    /// When it was last read.
    pub last_access_time: FileTime,
    /// When its data was last written.
    pub last_write_time: FileTime,
    /// When its data or metadata were last changed.
    pub change_time: FileTime,
}

/// One entry of a layer, with everything from its header. Its data stays in the tar.
///
/// Of whiteouts and hard links, which have no metadata of their own, only name, kind, offsets and times are
/// read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerEntry {
    /// The name as in the header: slashes, not cleaned, any bytes.
    pub name: Vec<u8>,
    /// Its meaning in a layer.
    pub kind: EntryKind,
    /// Its type in tar, see [`type_flag`]. Only [`type_flag::FILE`] has data; contiguous files are of this
    /// type, too.
    pub type_flag: u8,
    /// Bytes of data; 0 for types without.
    pub size: u64,
    /// `FILE_ATTRIBUTE_*`.
    pub attributes: u32,
    /// When the file was created; the last write if there is no record.
    pub creation_time: FileTime,
    /// When it was last read; [`FileTime::ABSENT`] if there is no record.
    pub last_access_time: FileTime,
    /// When its data was last written.
    pub last_write_time: FileTime,
    /// When its data or metadata were last changed; [`FileTime::ABSENT`] if there is no record.
    pub change_time: FileTime,
    /// Security descriptor, self-relative, not checked. Never empty.
    pub security: Option<Vec<u8>>,
    /// Extended attributes, in the order of their records.
    pub eas: Vec<ExtendedAttribute>,
    /// The reparse buffer, header included.
    pub reparse: Option<Vec<u8>>,
    /// Tar offset of its first block.
    pub offset: u64,
    /// Tar offset of its data.
    pub data_offset: u64,
    /// The optional times that have a record.
    pub recorded: RecordedTimes,
}

/// The times of an entry that come from a record of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordedTimes {
    /// `LIBARCHIVE.creationtime`.
    pub creation: bool,
    /// `atime`.
    pub last_access: bool,
    /// `ctime`.
    pub change: bool,
}

impl LayerEntry {
    /// Reads an entry that is not a stream of the one before it. Call [`attached_stream`] first: the records
    /// of streams do not count, and may be broken.
    ///
    /// # Errors
    /// The same as in the reference: a record that cannot be parsed, or does not fit a backup stream.
    pub fn from_header(header: &Header) -> Result<LayerEntry, LayerTarError> {
        let mut entry = Self::without_records(header);
        if entry.has_metadata() {
            entry.read_info(header)?;
            entry.security = security(header)?;
            entry.eas = extended_attributes(header)?;
            entry.reparse = reparse_buffer(header, &entry.kind)?;
        }
        Ok(entry)
    }

    /// A file without data, to build entries that come from no tar.
    pub fn new(name: impl Into<Vec<u8>>, info: FileInfo) -> LayerEntry {
        let is_directory = info.attributes & FILE_ATTRIBUTE_DIRECTORY != 0;
        LayerEntry {
            name: name.into(),
            kind: if is_directory { EntryKind::Directory } else { EntryKind::File },
            type_flag: if is_directory { type_flag::DIRECTORY } else { type_flag::FILE },
            size: 0,
            attributes: info.attributes,
            creation_time: info.creation_time,
            last_access_time: info.last_access_time,
            last_write_time: info.last_write_time,
            change_time: info.change_time,
            security: None,
            eas: Vec::new(),
            reparse: None,
            offset: 0,
            data_offset: 0,
            recorded: RecordedTimes { creation: true, last_access: true, change: true },
        }
    }

    /// Whether it can have metadata and streams: everything but deletions and hard links.
    pub fn has_metadata(&self) -> bool {
        !matches!(self.kind, EntryKind::Whiteout { .. } | EntryKind::Link { .. })
    }

    /// Whether its backup stream has a record for the data, which may be empty.
    pub fn has_data(&self) -> bool {
        self.type_flag == type_flag::FILE && self.has_metadata()
    }

    /// Attributes and times.
    pub fn info(&self) -> FileInfo {
        FileInfo {
            attributes: self.attributes,
            creation_time: self.creation_time,
            last_access_time: self.last_access_time,
            last_write_time: self.last_write_time,
            change_time: self.change_time,
        }
    }

    /// The name for an error message.
    pub fn display_name(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    fn without_records(header: &Header) -> LayerEntry {
        let last_write_time = filetime(header.mtime);
        LayerEntry {
            name: header.name.clone(),
            kind: kind(header),
            type_flag: if is_file(header.type_flag) { type_flag::FILE } else { header.type_flag },
            size: if is_file(header.type_flag) { header.size } else { 0 },
            attributes: 0,
            creation_time: last_write_time,
            last_access_time: filetime(header.atime),
            last_write_time,
            change_time: filetime(header.ctime),
            security: None,
            eas: Vec::new(),
            reparse: None,
            offset: header.offset,
            data_offset: header.data_offset,
            recorded: RecordedTimes {
                creation: false,
                last_access: header.atime.is_some(),
                change: header.ctime.is_some(),
            },
        }
    }

    fn read_info(&mut self, header: &Header) -> Result<(), LayerTarError> {
        self.attributes = match header.pax.get(records::FILE_ATTRIBUTES) {
            Some(text) => records::decode_u32(text).ok_or_else(|| LayerTarError::Attributes {
                entry: header.display_name(),
                offset: header.offset,
                value: String::from_utf8_lossy(text).into_owned(),
            })?,
            None if header.type_flag == type_flag::DIRECTORY => FILE_ATTRIBUTE_DIRECTORY,
            None => 0,
        };
        if self.kind == EntryKind::File && self.attributes & FILE_ATTRIBUTE_DIRECTORY != 0 {
            self.kind = EntryKind::Directory;
        }
        if let Some(text) = header.pax.get(records::CREATION_TIME) {
            let time = pax_time::parse(text).map_err(|source| LayerTarError::CreationTime {
                entry: header.display_name(),
                offset: header.offset,
                source,
            })?;
            self.creation_time = filetime(Some(time));
            self.recorded.creation = true;
        }
        Ok(())
    }
}

/// A time of a header. Go programs without a time write their zero time, the first second of year 1, which
/// counts as none here too.
fn filetime(time: Option<PaxTime>) -> FileTime {
    const GO_ZERO: PaxTime = PaxTime { secs: -62_135_596_800, nanos: 0 };
    time.filter(|time| *time != GO_ZERO).map_or(FileTime::ABSENT, |time| FileTime::from_pax(&time))
}

/// Whether an entry of this type is a file with its bytes. The reference drops those of contiguous files.
pub fn is_file(type_flag: u8) -> bool {
    matches!(type_flag, type_flag::FILE | type_flag::CONTIGUOUS)
}

/// The kind, as far as the attributes do not decide it.
fn kind(header: &Header) -> EntryKind {
    if let Some(target) = whiteout_target(&header.name) {
        return EntryKind::Whiteout { target };
    }
    match header.type_flag {
        type_flag::LINK => EntryKind::Link { target: header.link_name.clone() },
        type_flag::SYMLINK => EntryKind::Symlink {
            target: header.link_name.clone(),
            mount_point: header.pax.get(records::MOUNT_POINT).is_some(),
        },
        _ => EntryKind::File,
    }
}

/// The path that a whiteout deletes. A trailing slash is ignored when a whiteout is recognised, but not when
/// its path is split, so `d/.wh.x/` deletes `d/.wh.x/x`; `.wh.` alone deletes its directory. The reference
/// does the same.
fn whiteout_target(name: &[u8]) -> Option<Vec<u8>> {
    let deleted = path::base(name).strip_prefix(WHITEOUT_PREFIX)?;
    Some(path::join(&[&path::dir(name), deleted]))
}

fn security(header: &Header) -> Result<Option<Vec<u8>>, LayerTarError> {
    let descriptor = match (header.pax.get(records::RAW_SECURITY), header.pax.get(records::SDDL)) {
        (Some(text), _) => base64_record(header, records::RAW_SECURITY, text)?,
        (None, Some(text)) => from_sddl(header, text)?,
        (None, None) => Vec::new(),
    };
    Ok((!descriptor.is_empty()).then_some(descriptor))
}

/// Old layers have the descriptor as text. Aliases of domain accounts refer to the domain of the reading
/// computer; a layer has none, so they get the domain S-1-5-21-0-0-0, as in Wine.
fn from_sddl(header: &Header, text: &[u8]) -> Result<Vec<u8>, LayerTarError> {
    let (entry, offset) = (header.display_name(), header.offset);
    // Text that is not UTF-8 is not SDDL either; let the parser report it.
    let text = String::from_utf8_lossy(text);
    let descriptor = match Sid::new(5, &[21, 0, 0, 0]) {
        Some(domain) => SecurityDescriptor::from_sddl_in_domain(&text, &domain),
        None => SecurityDescriptor::from_sddl(&text),
    };
    match descriptor {
        Ok(descriptor) => {
            descriptor.to_bytes().map_err(|source| LayerTarError::Security { entry, offset, source })
        }
        Err(source) => Err(LayerTarError::Sddl { entry, offset, source }),
    }
}

fn extended_attributes(header: &Header) -> Result<Vec<ExtendedAttribute>, LayerTarError> {
    let error = |source| LayerTarError::ExtendedAttributes {
        entry: header.display_name(),
        offset: header.offset,
        source,
    };
    let mut eas = Vec::new();
    for (key, value) in header.pax.iter() {
        if let Some(name) = key.strip_prefix(records::EA_PREFIX) {
            let value = base64_record(header, key, value)?;
            eas.push(ExtendedAttribute { flags: 0, name: name.to_vec(), value });
        }
    }
    if let Some(text) = header.pax.get(records::RAW_EA) {
        eas = ea::decode(&base64_record(header, records::RAW_EA, text)?).map_err(error)?;
    }
    // Find names and values that are too long here, where the entry is known.
    ea::encode(&eas).map_err(error)?;
    Ok(eas)
}

fn reparse_buffer(header: &Header, kind: &EntryKind) -> Result<Option<Vec<u8>>, LayerTarError> {
    if let Some(text) = header.pax.get(records::RAW_REPARSE) {
        return base64_record(header, records::RAW_REPARSE, text).map(Some);
    }
    let EntryKind::Symlink { target, mount_point } = kind else { return Ok(None) };
    reparse::encode_go(windows_path(target), *mount_point).map(Some).map_err(|source| {
        LayerTarError::LinkTarget { entry: header.display_name(), offset: header.offset, source }
    })
}

fn base64_record(header: &Header, key: &[u8], text: &[u8]) -> Result<Vec<u8>, LayerTarError> {
    records::decode_base64(text).map_err(|source| LayerTarError::Base64 {
        entry: header.display_name(),
        offset: header.offset,
        key: String::from_utf8_lossy(key).into_owned(),
        source,
    })
}

/// The stream name (without the colon) if `header` is a stream of `host`, the entry before it (other streams
/// of `host` may lie between).
///
/// The spelling has to match exactly: `F:s` is not a stream of `f`, nor `d:s` of `d/`. Such an entry is a
/// file of its own.
pub fn attached_stream<'h>(host: &LayerEntry, header: &'h Header) -> Option<&'h [u8]> {
    if !host.has_metadata() || !is_file(header.type_flag) {
        return None;
    }
    header.name.strip_prefix(&host.name[..])?.strip_prefix(b":")
}

/// The name beside `UtilityVM` under which an importer keeps a copy of a file's data, because starting the
/// utility VM changes the file itself, its boot store. The spelling has to match exactly.
///
/// Source: hcsshim `pkg/ociwclayer/import.go`, `mutatedFiles`.
pub fn backup_name(name: &[u8]) -> Option<&'static str> {
    match name.strip_prefix(b"UtilityVM/Files/EFI/Microsoft/Boot/")? {
        b"BCD" => Some("bcd.bak"),
        b"BCD.LOG" => Some("bcd.log.bak"),
        b"BCD.LOG1" => Some("bcd.log1.bak"),
        b"BCD.LOG2" => Some("bcd.log2.bak"),
        _ => None,
    }
}

/// A path for Windows: slashes become backslashes, and nothing else changes.
pub fn windows_path(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'/' { b'\\' } else { byte }).collect()
}

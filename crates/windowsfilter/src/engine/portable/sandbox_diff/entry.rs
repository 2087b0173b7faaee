//! Win32 metadata of a sandbox's entries: those that copy-up carried, and those that Windows would give a new
//! file.

use layer_mounts::linux::upper::{Attribute, UpperKind};

use crate::engine::portable::xattrs::{self, Stream, StreamForm, Win32Metadata};
use crate::error::{Error, shown};
use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{EntryKind, FileInfo, LayerEntry};
use wclayer::reparse;
use wclayer::tar::type_flag;

use super::parent::{Parent, ParentKind};
use super::plan::Entry;
use super::security::{Inheritance, inherits};
use super::source::Upper;
use super::symlinks::{self, Links};
use super::tree::{Tree, TreeNode};

/// First and last second ext4 can hold in its 256-byte inodes: 1901 and 2446. Copy-up moves times beyond them
/// there.
pub(super) const EXT4_SECONDS: (i64, i64) = (i32::MIN as i64, i32::MAX as i64 + (3 << 32));

/// Reads the extended attributes of an upper entry.
pub(super) fn metadata_of(xattrs: &[Attribute]) -> Win32Metadata {
    let attributes = xattrs.iter().filter_map(|(name, value)| Some((windows_attribute(name)?, &value[..])));
    Win32Metadata::from_xattrs(attributes)
}

/// Reads the extended attributes of the entry at `path`. Streams of the sandbox have the form `streams`.
pub(super) fn read_metadata(
    upper: &impl Upper,
    path: &[u8],
    streams: StreamForm,
) -> Result<Win32Metadata, Error> {
    let mut xattrs = upper.attributes(path, is_windows_attribute)?;
    make_plain(streams, &mut xattrs);
    Ok(metadata_of(&xattrs))
}

/// Converts streams among the attributes from the form `streams` to plain.
pub(super) fn make_plain(streams: StreamForm, xattrs: &mut [Attribute]) {
    for (name, value) in xattrs {
        if let Some(name) = windows_attribute(name) {
            streams.take(name, value);
        }
    }
}

/// Whether an attribute of this full name is part of the Windows metadata. Others are not read: there may be
/// any number.
pub(super) fn is_windows_attribute(name: &[u8]) -> bool {
    windows_attribute(name).is_some_and(|name| xattrs::Attribute::of(name).is_some())
}

/// The name of an attribute without its namespace: `trusted.` of a link, `user.` of the rest.
pub(super) fn windows_attribute(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(b"user.").or_else(|| name.strip_prefix(b"trusted."))
}

/// An entry as it goes into the tar, with its streams.
pub(super) struct Described {
    pub(super) entry: LayerEntry,
    pub(super) streams: Vec<Stream>,
}

/// The entry to describe.
pub(super) struct Subject<'a> {
    pub(super) item: &'a Entry,
    pub(super) node: &'a TreeNode,
    /// Its path in the sandbox.
    pub(super) path: Vec<u8>,
    /// Its name in the tar.
    pub(super) name: Vec<u8>,
    /// The metadata in its attributes.
    pub(super) own: Win32Metadata,
}

impl Subject<'_> {
    fn is_root(&self) -> bool {
        self.item.node == Tree::ROOT
    }
}

/// Everything of an entry but its data. `directory` is the inheritance of its directory.
pub(super) fn describe<P: Parent>(
    subject: &Subject<'_>,
    parent: &P,
    links: &mut Links<'_, P>,
    directory: &Inheritance,
) -> Result<Described, Error> {
    let mut metadata = recorded(parent, subject)?;
    let is_new = metadata.origin.is_none();
    let last_write = last_write(subject, is_new);
    let unrecorded = if is_new { last_write } else { FileTime::ABSENT };
    let mut entry = LayerEntry::new(
        subject.name.clone(),
        FileInfo {
            attributes: attributes(&subject.node.kind, metadata.attributes),
            creation_time: metadata.created.unwrap_or(last_write),
            last_access_time: metadata.accessed.unwrap_or(unrecorded),
            last_write_time: last_write,
            change_time: metadata.changed.unwrap_or(unrecorded),
        },
    );
    match &subject.node.kind {
        UpperKind::File { size } => entry.size = *size,
        UpperKind::Symlink { target } => {
            make_link(links, subject, target, &metadata, &mut entry)?;
            metadata.reparse = entry.reparse.take();
        }
        _ => {}
    }
    if inherits(&metadata) {
        // Windows treats a link to a directory as a directory: it is made with FILE_DIRECTORY_FILE, which
        // decides what is inherited ("Assigning Security to a New File on IRP_MJ_CREATE", Windows driver
        // documentation).
        let is_directory = entry.attributes & FILE_ATTRIBUTE_DIRECTORY != 0;
        let inherited = directory.of_new(is_directory).map_err(|error| entry_error(&subject.name, error))?;
        metadata.security = Some(inherited.to_vec());
    }
    entry.security = metadata.security.filter(|bytes| !bytes.is_empty());
    entry.eas = metadata.eas;
    entry.reparse = metadata.reparse;
    Ok(Described { entry, streams: metadata.streams })
}

/// The recorded metadata of an entry. A file written under another spelling is the parent's file with new
/// content.
pub(super) fn recorded(parent: &impl Parent, subject: &Subject<'_>) -> Result<Win32Metadata, Error> {
    let own = subject.own.clone();
    let Some(lower) = &subject.item.lower else { return Ok(own) };
    if own.attributes.is_some()
        || lower.kind == ParentKind::Symlink
        || !same_kind(&subject.node.kind, lower.kind)
        || !(subject.is_root() || subject.item.is_same_in_other_case(subject.node))
    {
        return Ok(own);
    }
    let kept = parent.metadata(lower)?;
    // Overwriting a file drops its streams, extended attributes and reparse data.
    let is_kept = lower.kind == ParentKind::Directory;
    let stays = |own_is_empty: bool| is_kept && own_is_empty;
    Ok(Win32Metadata {
        streams: if stays(own.streams.is_empty()) { kept.streams } else { own.streams },
        eas: if stays(own.eas.is_empty()) { kept.eas } else { own.eas },
        reparse: if stays(own.reparse.is_none()) { kept.reparse } else { own.reparse },
        security: own.security.or(kept.security),
        created: own.created.or(kept.created),
        accessed: own.accessed.or(kept.accessed),
        changed: own.changed.or(kept.changed),
        attributes: kept.attributes,
        true_name: kept.true_name,
        origin: kept.origin,
    })
}

pub(super) fn same_kind(upper: &UpperKind, lower: ParentKind) -> bool {
    match upper {
        UpperKind::Directory { .. } => lower == ParentKind::Directory,
        UpperKind::File { .. } => lower == ParentKind::File,
        UpperKind::Symlink { .. } => lower == ParentKind::Symlink,
        _ => false,
    }
}

/// The recorded attributes or those of a new file, adjusted to the kind of file.
fn attributes(kind: &UpperKind, recorded: Option<u32>) -> u32 {
    match kind {
        UpperKind::Directory { .. } => recorded.unwrap_or(0) | FILE_ATTRIBUTE_DIRECTORY,
        UpperKind::Symlink { .. } => recorded.unwrap_or(0) | FILE_ATTRIBUTE_REPARSE_POINT,
        _ => recorded.unwrap_or(FILE_ATTRIBUTE_ARCHIVE) & !FILE_ATTRIBUTE_DIRECTORY,
    }
}

/// The inode's time, or the parent's if copy-up had to clamp that.
fn last_write(subject: &Subject<'_>, is_new: bool) -> FileTime {
    let (seconds, nanos) = subject.node.mtime;
    if let Some(lower) = subject.item.lower.as_ref().filter(|_| !is_new) {
        let (first, last) = EXT4_SECONDS;
        let clamped =
            (seconds == first && lower.mtime.0 < first) || (seconds == last && lower.mtime.0 > last);
        if clamped {
            return FileTime::from_unix(lower.mtime.0, lower.mtime.1);
        }
    }
    FileTime::from_unix(seconds, nanos)
}

/// Makes an entry a link: the recorded one, or a new one. The text of a link cannot change, so its recorded
/// data stay valid wherever it is moved, even if its text leads elsewhere from there: on Windows the target
/// of a junction stays as well.
fn make_link<P: Parent>(
    links: &mut Links<'_, P>,
    subject: &Subject<'_>,
    text: &[u8],
    recorded: &Win32Metadata,
    entry: &mut LayerEntry,
) -> Result<(), Error> {
    entry.type_flag = type_flag::SYMLINK;
    if recorded.origin.is_none() || recorded.reparse.is_none() {
        entry.attributes &= !FILE_ATTRIBUTE_DIRECTORY;
        if leads_to_directory(links, subject.node, text, recorded)? {
            entry.attributes |= FILE_ATTRIBUTE_DIRECTORY;
        }
    }
    let buffer = match &recorded.reparse {
        Some(buffer) => buffer.clone(),
        None => symlinks::reparse_data(text).map_err(|error| entry_error(&subject.name, &error))?,
    };
    if let Ok(target) = reparse::decode_go(&buffer) {
        entry.kind =
            EntryKind::Symlink { target: target.target.into_bytes(), mount_point: target.is_mount_point };
    }
    entry.reparse = Some(buffer);
    Ok(())
}

/// Whether Windows treats a link as a directory: recorded data say so or, without them, its text leads to
/// one.
pub(super) fn leads_to_directory<P: Parent>(
    links: &mut Links<'_, P>,
    node: &TreeNode,
    text: &[u8],
    recorded: &Win32Metadata,
) -> Result<bool, Error> {
    let Some(buffer) = &recorded.reparse else {
        return links.leads_to_directory(node.parent, text);
    };
    let is_mount_point = reparse::decode_go(buffer).is_ok_and(|target| target.is_mount_point);
    Ok(is_mount_point || says_directory(recorded))
}

/// Whether the recorded attributes of a link mark it as a directory.
pub(super) fn says_directory(metadata: &Win32Metadata) -> bool {
    metadata.attributes.is_some_and(|bits| bits & FILE_ATTRIBUTE_DIRECTORY != 0)
}

pub(super) fn entry_error(name: &[u8], reason: &dyn std::fmt::Display) -> Error {
    Error::Entry { entry: shown(name), offset: 0, reason: reason.to_string() }
}

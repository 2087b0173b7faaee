//! Win32 metadata of what a sandbox has: what copy-up carried, and what Windows would give a new file.

use crate::engine::portable::linux::upper::{UpperEntry, UpperKind};
use crate::error::Error;
use crate::metadata::{Stream, Win32Metadata};
use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{EntryKind, FileInfo, LayerEntry};
use wclayer::reparse;
use wclayer::tar::type_flag;

use super::links;
use super::parent::{Parent, ParentKind};
use super::plan::Entry;
use super::security::{Inheritance, inherits};
use super::tree::Tree;

/// First and last second ext4 can hold in its 256-byte inodes: 1901 and 2446. Copy-up moves times beyond them there.
pub(super) const EXT4_SECONDS: (i64, i64) = (i32::MIN as i64, i32::MAX as i64 + (3 << 32));

/// What the extended attributes of an upper entry say.
pub(super) fn metadata_of(entry: &UpperEntry) -> Win32Metadata {
    let attributes =
        entry.xattrs.iter().filter_map(|(name, value)| Some((windows_attribute(name)?, &value[..])));
    Win32Metadata::from_xattrs(attributes)
}

/// The name of an attribute without its namespace: `trusted.` of a link, `user.` of the rest.
pub(super) fn windows_attribute(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(b"user.").or_else(|| name.strip_prefix(b"trusted."))
}

/// An entry as it goes into the tar, and what follows from it for what is in it.
pub(super) struct Described {
    pub(super) entry: LayerEntry,
    pub(super) streams: Vec<Stream>,
}

/// Everything of an entry but its data. `directory` is what it inherits from the directory it is in.
pub(super) fn describe(
    tree: &Tree,
    parent: &impl Parent,
    item: &Entry<'_>,
    directory: &Inheritance,
) -> Result<Described, Error> {
    let mut metadata = recorded(parent, item)?;
    let is_new = metadata.origin.is_none();
    let last_write = last_write(item, is_new);
    let unrecorded = if is_new { last_write } else { FileTime::ABSENT };
    let mut entry = LayerEntry::new(
        item.name.clone(),
        FileInfo {
            attributes: attributes(&item.upper.kind, metadata.attributes),
            creation_time: metadata.created.unwrap_or(last_write),
            last_access_time: metadata.accessed.unwrap_or(unrecorded),
            last_write_time: last_write,
            change_time: metadata.changed.unwrap_or(unrecorded),
        },
    );
    match &item.upper.kind {
        UpperKind::File { size } => entry.size = *size,
        UpperKind::Symlink { target } => {
            make_link(tree, parent, item, target, &metadata, &mut entry)?;
            metadata.reparse = entry.reparse.take();
        }
        _ => {}
    }
    if inherits(&metadata) {
        // To Windows a link to a directory is a directory: it is made with FILE_DIRECTORY_FILE, which decides what is inherited
        // ("Assigning Security to a New File on IRP_MJ_CREATE", Windows driver documentation).
        let is_directory = entry.attributes & FILE_ATTRIBUTE_DIRECTORY != 0;
        let inherited = directory.of_new(is_directory).map_err(|error| entry_error(item, error))?;
        metadata.security = Some(inherited.to_vec());
    }
    entry.security = metadata.security.filter(|bytes| !bytes.is_empty());
    entry.eas = metadata.eas;
    entry.reparse = metadata.reparse;
    Ok(Described { entry, streams: metadata.streams })
}

/// What was recorded of an entry. A file written under another spelling is the parent's file with new content.
pub(super) fn recorded(parent: &impl Parent, item: &Entry<'_>) -> Result<Win32Metadata, Error> {
    let own = metadata_of(item.upper);
    let is_root = item.upper.path.is_empty();
    let Some(lower) = &item.lower else { return Ok(own) };
    if own.attributes.is_some()
        || lower.kind == ParentKind::Symlink
        || !same_kind(&item.upper.kind, lower.kind)
        || !(is_root || item.is_same_in_other_case())
    {
        return Ok(own);
    }
    let kept = parent.metadata(&lower.spelled)?;
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

/// The recorded attributes, or those of a new file; either way those the kind of file demands.
fn attributes(kind: &UpperKind, recorded: Option<u32>) -> u32 {
    match kind {
        UpperKind::Directory { .. } => recorded.unwrap_or(0) | FILE_ATTRIBUTE_DIRECTORY,
        UpperKind::Symlink { .. } => recorded.unwrap_or(0) | FILE_ATTRIBUTE_REPARSE_POINT,
        _ => recorded.unwrap_or(FILE_ATTRIBUTE_ARCHIVE) & !FILE_ATTRIBUTE_DIRECTORY,
    }
}

/// The inode's time, unless copy-up had to change what the parent has.
fn last_write(item: &Entry<'_>, is_new: bool) -> FileTime {
    let (seconds, nanos) = item.upper.mtime;
    if let Some(lower) = item.lower.as_ref().filter(|_| !is_new) {
        let (first, last) = EXT4_SECONDS;
        let clamped =
            (seconds == first && lower.mtime.0 < first) || (seconds == last && lower.mtime.0 > last);
        if clamped {
            return FileTime::from_unix(lower.mtime.0, lower.mtime.1);
        }
    }
    FileTime::from_unix(seconds, nanos)
}

/// Makes an entry a link: the recorded one, or a new one. Nobody can change the text of a link, so what was recorded of it holds wherever
/// it has been moved to, though its text may lead elsewhere from there: on Windows the target of a junction stays as well.
fn make_link(
    tree: &Tree,
    parent: &impl Parent,
    item: &Entry<'_>,
    text: &[u8],
    recorded: &Win32Metadata,
    entry: &mut LayerEntry,
) -> Result<(), Error> {
    entry.type_flag = type_flag::SYMLINK;
    if recorded.origin.is_none() || recorded.reparse.is_none() {
        entry.attributes &= !FILE_ATTRIBUTE_DIRECTORY;
        if leads_to_directory(tree, parent, item, text, recorded)? {
            entry.attributes |= FILE_ATTRIBUTE_DIRECTORY;
        }
    }
    let buffer = match &recorded.reparse {
        Some(buffer) => buffer.clone(),
        None => links::reparse_data(text).map_err(|error| entry_error(item, &error))?,
    };
    if let Ok(target) = reparse::decode_go(&buffer) {
        entry.kind =
            EntryKind::Symlink { target: target.target.into_bytes(), mount_point: target.is_mount_point };
    }
    entry.reparse = Some(buffer);
    Ok(())
}

/// Whether a link is a directory to Windows: that of a new one leads to one, or it has been given data that say so.
pub(super) fn leads_to_directory(
    tree: &Tree,
    parent: &impl Parent,
    item: &Entry<'_>,
    text: &[u8],
    recorded: &Win32Metadata,
) -> Result<bool, Error> {
    let Some(buffer) = &recorded.reparse else {
        return links::leads_to_directory(tree, parent, &item.upper.path, text);
    };
    let is_mount_point = reparse::decode_go(buffer).is_ok_and(|target| target.is_mount_point);
    Ok(is_mount_point || recorded.attributes.is_some_and(|bits| bits & FILE_ATTRIBUTE_DIRECTORY != 0))
}

fn entry_error(item: &Entry<'_>, reason: &dyn std::fmt::Display) -> Error {
    Error::Entry {
        entry: String::from_utf8_lossy(&item.name).into_owned(),
        offset: 0,
        reason: reason.to_string(),
    }
}

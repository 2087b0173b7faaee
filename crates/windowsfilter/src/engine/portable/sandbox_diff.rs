//! What a sandbox changed, as a list and as a layer tar.
//!
//! Only the upper directory is walked, so this costs what changed and not what exists. The tar is what Windows would
//! export: `Hives`, `Files`, then everything depth-first by name; deletions stand where the name they delete would. Two
//! runs over the same sandbox give the same bytes. What a Windows layer cannot hold is found before the first byte is
//! written, all of it.

mod entry;
mod links;
mod parent;
mod plan;
mod problems;
mod security;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};

use crate::diff_options::DiffOptions;
use crate::driver::{Change, ChangeKind};
use crate::engine::portable::linux::upper::{UpperDirectory, UpperKind};
use crate::engine::portable::view::View;
use crate::error::Error;
use crate::metadata::{StreamContent, StreamForm};
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{FileInfo, LayerEntry, Writer};

use entry::{Described, describe};
use parent::Parent;
use plan::{Entry, Item, Plan, is_linked_file, plan};
use security::Directories;
use tree::Tree;

/// Bytes of file content in an upper directory; hard links count once, streams not at all.
///
/// # Errors
/// What the walk of the directory meets.
pub fn content_size(upper: &UpperDirectory) -> Result<u64, Error> {
    let mut size = 0;
    let mut seen = HashSet::new();
    for entry in upper.walk()? {
        let entry = entry?;
        match entry.kind {
            UpperKind::File { size: bytes } if !is_linked_file(&entry) || seen.insert(entry.inode) => {
                size += bytes;
            }
            _ => {}
        }
    }
    Ok(size)
}

/// What the sandbox of `upper` adds, modifies and deletes in `parent`, sorted by path. Its root is not listed.
///
/// # Errors
/// What the walk of the directory meets, a damaged parent.
pub fn changes(upper: &UpperDirectory, parent: &View, streams: StreamForm) -> Result<Vec<Change>, Error> {
    changes_from(upper, parent, streams)
}

/// Writes the layer that makes `parent` what the sandbox of `upper` is, and gives `out` back. Streams in the sandbox have the form `streams`.
///
/// # Errors
/// [`Error::NotPortable`] with everything a Windows layer cannot hold, before anything is written; as [`changes`], and
/// what `out` meets.
pub fn write_diff<W: Write>(
    upper: &UpperDirectory,
    parent: &View,
    streams: StreamForm,
    options: &DiffOptions,
    out: W,
) -> Result<W, Error> {
    write_diff_from(upper, parent, streams, options, out)
}

fn changes_from(
    upper: &UpperDirectory,
    parent: &impl Parent,
    streams: StreamForm,
) -> Result<Vec<Change>, Error> {
    let tree = Tree::read(upper, streams)?;
    let mut changes: Vec<_> =
        plan(&tree, parent, &DiffOptions::default())?.items.into_iter().filter_map(change).collect();
    changes.sort();
    Ok(changes)
}

fn change(item: Item<'_>) -> Option<Change> {
    match item {
        Item::Whiteout(path) => Some(Change { path, kind: ChangeKind::Delete }),
        Item::Entry(entry) if entry.upper.path.is_empty() => None,
        Item::Entry(entry) => {
            let kind = if entry.lower.is_some() { ChangeKind::Modify } else { ChangeKind::Add };
            Some(Change { path: entry.name, kind })
        }
    }
}

fn write_diff_from<W: Write>(
    upper: &UpperDirectory,
    parent: &impl Parent,
    streams: StreamForm,
    options: &DiffOptions,
    out: W,
) -> Result<W, Error> {
    let tree = Tree::read(upper, streams)?;
    let Plan { items, problems } = plan(&tree, parent, options)?;
    problems.into_result()?;
    let mut writer = DiffWriter {
        upper,
        tree: &tree,
        parent,
        newest: options.newest,
        tar: Writer::extended(out),
        files: HashMap::new(),
        directories: Directories::new(),
    };
    writer.write_hives()?;
    for (number, item) in items.iter().enumerate() {
        match item {
            Item::Whiteout(path) => writer.tar.write_whiteout(path)?,
            Item::Entry(entry) => writer.write_entry(number, entry)?,
        }
    }
    Ok(writer.tar.finish()?)
}

struct DiffWriter<'a, P, W> {
    upper: &'a UpperDirectory,
    tree: &'a Tree,
    parent: &'a P,
    /// No time may be later.
    newest: Option<FileTime>,
    tar: Writer<W>,
    /// Tar name of each file with several names that is written already, by inode.
    files: HashMap<u64, Vec<u8>>,
    directories: Directories,
}

impl<P: Parent, W: Write> DiffWriter<'_, P, W> {
    /// A sandbox made on Linux changes no registry, but a layer has the directory.
    fn write_hives(&mut self) -> Result<(), Error> {
        let (seconds, nanos) = self.tree.nodes[Tree::ROOT].entry.mtime;
        let time = self.capped(FileTime::from_unix(seconds, nanos));
        let info = FileInfo {
            attributes: FILE_ATTRIBUTE_DIRECTORY,
            creation_time: time,
            last_access_time: time,
            last_write_time: time,
            change_time: time,
        };
        Ok(self.tar.write_file(&LayerEntry::new(*b"Hives", info), &mut io::empty())?)
    }

    fn write_entry(&mut self, number: usize, item: &Entry<'_>) -> Result<(), Error> {
        let mut described = describe(self.tree, self.parent, item, self.directories.of(item.directory))?;
        self.cap_times(&mut described.entry);
        if matches!(item.upper.kind, UpperKind::Directory { .. }) {
            self.directories.enter(number, described.entry.security.as_deref());
        }
        if is_linked_file(item.upper) {
            if let Some(first) = self.files.get(&item.upper.inode) {
                return Ok(self.tar.write_link(&described.entry, first)?);
            }
            self.files.insert(item.upper.inode, item.name.clone());
        }
        self.write_data(item, &described.entry)?;
        self.write_streams(&described)
    }

    fn capped(&self, time: FileTime) -> FileTime {
        self.newest.map_or(time, |newest| time.min(newest))
    }

    fn cap_times(&self, entry: &mut LayerEntry) {
        let LayerEntry { creation_time, last_access_time, last_write_time, change_time, .. } = entry;
        for time in [creation_time, last_access_time, last_write_time, change_time] {
            *time = self.capped(*time);
        }
    }

    fn write_data(&mut self, item: &Entry<'_>, entry: &LayerEntry) -> Result<(), Error> {
        match item.upper.kind {
            UpperKind::File { size } => {
                let mut data = self.upper.open_file(&item.upper.path)?.take(size);
                Ok(self.tar.write_file(entry, &mut data)?)
            }
            _ => Ok(self.tar.write_file(entry, &mut io::empty())?),
        }
    }

    fn write_streams(&mut self, described: &Described) -> Result<(), Error> {
        for stream in &described.streams {
            let mut data: Box<dyn Read + '_> = match &stream.content {
                StreamContent::Inline(bytes) => Box::new(&bytes[..]),
                StreamContent::InTar { .. } => self.parent.open_stream(stream)?,
            };
            self.tar.write_stream(&described.entry, &stream.name, stream.content.size(), &mut data)?;
        }
        Ok(())
    }
}

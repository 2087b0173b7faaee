//! The tar of a plan, written entry by entry.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use layer_mounts::linux::upper::UpperKind;

use crate::engine::portable::xattrs::StreamContent;
use crate::engine::tar_size::{self, TarSize};
use crate::error::Error;
use crate::limits::DiffLimits;
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{FileInfo, LayerEntry, Writer};

use super::entry::{Described, Subject, describe, read_metadata};
use super::parent::Parent;
use super::plan::{Entry, Item, Plan};
use super::security::Directories;
use super::source::Upper;
use super::symlinks::Links;
use super::tree::Tree;

/// The plan and the sources to write the tar from.
pub(super) struct DiffWriter<'a, U, P, W> {
    pub(super) upper: &'a U,
    pub(super) tree: &'a Tree,
    pub(super) parent: &'a P,
    pub(super) plan: &'a Plan,
    pub(super) links: Links<'a, P>,
    /// Later times are clamped to this.
    pub(super) newest: Option<FileTime>,
    pub(super) limits: DiffLimits,
    pub(super) tar: Writer<W>,
    /// Files with several names that are written already: inode to item.
    files: HashMap<u64, usize>,
    directories: Directories,
}

impl<'a, U: Upper, P: Parent, W: Write> DiffWriter<'a, U, P, W> {
    pub(super) fn new(
        (upper, tree): (&'a U, &'a Tree),
        parent: &'a P,
        plan: &'a Plan,
        (newest, limits): (Option<FileTime>, DiffLimits),
        out: W,
    ) -> Self {
        Self {
            upper,
            tree,
            parent,
            plan,
            links: Links::new(tree, parent),
            newest,
            limits,
            tar: Writer::extended(out),
            files: HashMap::new(),
            directories: Directories::new(),
        }
    }

    /// Writes everything and returns `out`.
    pub(super) fn write(mut self) -> Result<W, Error> {
        self.write_hives()?;
        for (number, item) in self.plan.items.iter().enumerate() {
            match item {
                Item::Whiteout { .. } => {
                    let path = self.plan.path(number);
                    self.check_size(&path, 0)?;
                    self.tar.write_whiteout(&path)?;
                }
                Item::Entry(entry) => self.write_entry(number, entry)?,
            }
        }
        Ok(self.tar.finish()?)
    }

    /// A sandbox on Linux does not change the registry, but every layer has the directory.
    fn write_hives(&mut self) -> Result<(), Error> {
        let (seconds, nanos) = self.tree.nodes[Tree::ROOT].mtime;
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

    fn write_entry(&mut self, number: usize, item: &Entry) -> Result<(), Error> {
        let node = &self.tree.nodes[item.node];
        let (name, path) = (self.plan.path(number), self.tree.path(item.node));
        let own = read_metadata(self.upper, &path, self.tree.streams)?;
        let subject = Subject { item, node, path, name, own };
        let directory = self.directories.of(item.directory);
        let mut described = describe(&subject, self.parent, &mut self.links, directory)?;
        let Subject { path, name, .. } = subject;
        self.cap_times(&mut described.entry);
        if node.is_directory() {
            self.directories.enter(number, &name, described.entry.security.as_deref())?;
        }
        if node.is_linked_file() {
            if let Some(&first) = self.files.get(&node.inode) {
                self.check_size(&name, 0)?;
                return Ok(self.tar.write_link(&described.entry, &self.plan.path(first))?);
            }
            self.files.insert(node.inode, number);
        }
        self.write_data(&node.kind, &path, &described.entry)?;
        self.write_streams(&described)
    }

    /// Refuses to write `content` bytes behind a header if the tar would become too large. Reading the tree
    /// checked the sizes known then; the sizes of headers are known only now.
    fn check_size(&self, name: &[u8], content: u64) -> Result<(), Error> {
        let offset = self.tar.position();
        tar_size::check(&self.limits, name, offset, offset.saturating_add(content))
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

    fn write_data(&mut self, kind: &UpperKind, path: &[u8], entry: &LayerEntry) -> Result<(), Error> {
        match *kind {
            UpperKind::File { size } => {
                self.check_size(&entry.name, TarSize::of_data(size))?;
                let mut data = self.upper.open_file(path)?.take(size);
                Ok(self.tar.write_file(entry, &mut data)?)
            }
            _ => {
                self.check_size(&entry.name, 0)?;
                Ok(self.tar.write_file(entry, &mut io::empty())?)
            }
        }
    }

    fn write_streams(&mut self, described: &Described) -> Result<(), Error> {
        for stream in &described.streams {
            self.check_size(&described.entry.name, TarSize::of_stream(stream.content.size()))?;
            let mut data: Box<dyn Read + '_> = match &stream.content {
                StreamContent::Inline(bytes) => Box::new(&bytes[..]),
                StreamContent::InTar { .. } => self.parent.open_stream(stream)?,
            };
            self.tar.write_stream(&described.entry, &stream.name, stream.content.size(), &mut data)?;
        }
        Ok(())
    }
}

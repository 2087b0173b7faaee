//! Writes a layer's tree as an EROFS image whose file data lie in the tar.
//!
//! [`crate::metadata`] describes the attributes.

use std::collections::HashMap;

use erofs_index::{
    BLOCK_SIZE, BuildError, DeviceId, Extent, ImageBuilder, Inode, InodeId, Kind, Namespace, Options,
    SYMLINK_MAX, XattrSetId,
};
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;

use super::IndexFile;
use super::layer_tree::{Entry, EntryId, LayerTree, Node, NodeId, NodeKind, entry_error};
use crate::digest::{DiffId, Digest};
use crate::engine::portable::long_names::{self, is_long, linux_name};
use crate::engine::portable::xattrs::{IMPLICIT, LINK, NEW, OPAQUE, Origin, Stream, Win32Metadata, Xattr};
use crate::error::Error;

/// Writes the index. Returns its digest and the targets of hard links to be resolved in the layers below.
pub(super) fn write(
    tree: LayerTree,
    diff_id: DiffId,
    tar_size: u64,
    index: IndexFile<'_>,
) -> Result<(Option<Digest>, Vec<Vec<u8>>), Error> {
    let parent_links = tree.open_links();
    if matches!(index, IndexFile::None) {
        return Ok((None, parent_links));
    }
    // A layer that is in the store already stays readable without a mount, so rebuild its index all the same.
    if matches!(index, IndexFile::New(_)) {
        check_last_block(&tree, tar_size)?;
    }
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&diff_id.0.as_bytes()[..16]);
    let mut builder = ImageBuilder::new(Options { uuid, ..Options::default() });
    let tar = builder.add_device(tar_size.div_ceil(BLOCK_SIZE as u64)).map_err(build)?;
    builder.reserve(tree.len(), 16);
    Indexer { tree: &tree, builder: &mut builder, tar, long_names: HashMap::new() }.add_all()?;
    drop(tree);
    let digest = index.write(|file| {
        builder.write(std::io::BufWriter::with_capacity(1 << 16, file)).map(|_| ()).map_err(build)
    })?;
    Ok((digest, parent_links))
}

/// Linux reads a file from its tar in whole blocks; a block that the tar has only in part is an I/O error.
fn check_last_block(tree: &LayerTree, tar_size: u64) -> Result<(), Error> {
    let part = tar_size % BLOCK_SIZE as u64;
    let in_part = |entry: &Entry| {
        entry.kind == NodeKind::File && entry.size > 0 && entry.data_offset + entry.size > tar_size - part
    };
    let file =
        tree.live().find_map(|(id, node)| Some((id, tree.entry(&node).filter(|entry| in_part(entry))?)));
    match file.filter(|_| part > 0) {
        None => Ok(()),
        Some((id, entry)) => Err(entry_error(
            &tree.path(id),
            entry.offset,
            "the tar ends inside the padding behind it, and Linux could not read the end of the file: fill the tar up with zeros to \
             whole blocks of 512 bytes",
        )),
    }
}

fn build(error: BuildError) -> Error {
    Error::BuildIndex(error.into())
}

struct Indexer<'a> {
    tree: &'a LayerTree,
    builder: &'a mut ImageBuilder,
    tar: DeviceId,
    /// The nodes whose names Linux cannot hold, by the inode that they name.
    long_names: HashMap<Named, Vec<NodeId>>,
}

/// The source of an inode.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Named {
    Entry(EntryId),
    /// A directory without an entry, a deletion.
    Node(NodeId),
}

impl Indexer<'_> {
    fn named(&self, id: NodeId, node: &Node) -> Named {
        self.tree.entry_id(node).map_or(Named::Node(id), Named::Entry)
    }

    /// The names of an inode that Linux cannot hold, as the attribute's value.
    fn true_names(&self, id: NodeId, node: &Node) -> Option<Vec<u8>> {
        let nodes = self.long_names.get(&self.named(id, node))?;
        long_names::join(nodes.iter().map(|&node| self.tree.name(node)))
    }

    fn add_all(&mut self) -> Result<(), Error> {
        for (id, node) in self.tree.live().filter(|(id, _)| is_long(self.tree.name(*id))) {
            self.long_names.entry(self.named(id, &node)).or_default().push(id);
        }
        let mut by_node = vec![None; self.tree.len()];
        by_node[NodeId::ROOT.index()] = Some(InodeId::ROOT);
        let mut by_entry = vec![None; self.tree.entry_count()];
        for (id, node) in self.tree.live() {
            let offset = self.tree.entry(&node).map_or(0, |entry| entry.offset);
            let fail = |error: &BuildError| entry_error(&self.tree.path(id), offset, &reason(error));
            let shared = self.tree.entry_id(&node).and_then(|entry| by_entry[entry.index()]);
            let inode = match shared {
                Some(inode) => Some(inode),
                None => self.inode(id, &node).map_err(|error| fail(&error))?,
            };
            by_node[id.index()] = inode;
            if let Some(entry) = self.tree.entry_id(&node) {
                by_entry[entry.index()] = inode;
            }
            // Directories come before their entries.
            if let (Some(directory), Some(inode)) = (by_node[node.parent.index()], inode) {
                let name = linux_name(self.tree.name(id));
                self.builder.link(directory, &name, inode).map_err(|error| fail(&error))?;
            }
        }
        Ok(())
    }

    /// The inode of a node; `None` if the node is not visible.
    fn inode(&mut self, id: NodeId, node: &Node) -> Result<Option<InodeId>, BuildError> {
        let entry = self.tree.entry(node);
        let (kind, mode) = match (node.kind, entry) {
            (NodeKind::Absent, _) if node.whiteout => (Kind::WHITEOUT, 0o644),
            (NodeKind::Absent, _) => return Ok(None),
            (NodeKind::Implicit | NodeKind::Directory, _) => (Kind::Directory, 0o755),
            (NodeKind::File, Some(entry)) => (self.file(entry), 0o644),
            (NodeKind::Symlink, Some(entry)) => (Kind::Symlink(symlink_text(entry.target())), 0o777),
            (NodeKind::Link | NodeKind::File | NodeKind::Symlink, _) => (Kind::CharDevice { rdev: 0 }, 0o644),
        };
        let xattrs = self.xattrs(id, node)?;
        let mtime = entry.map_or((0, 0), |entry| entry.written.to_unix());
        self.builder.add_inode(Inode { kind, mode, uid: 0, gid: 0, mtime, xattrs }).map(Some)
    }

    fn file(&self, entry: &Entry) -> Kind {
        let block = entry.data_offset / BLOCK_SIZE as u64;
        let extent = (entry.size > 0).then_some(Extent { device: self.tar, block });
        Kind::File { extent, size: entry.size }
    }

    fn xattrs(&mut self, id: NodeId, node: &Node) -> Result<XattrSetId, BuildError> {
        let true_name = self.true_names(id, node);
        let mut xattrs = match (node.kind, self.tree.entry(node)) {
            (NodeKind::Absent, _) => return Ok(XattrSetId::EMPTY),
            (NodeKind::Link, Some(entry)) => {
                let origin = Some(Origin { layer: None, offset: entry.offset });
                let metadata = Win32Metadata { origin, true_name, ..Win32Metadata::default() };
                let mut xattrs = metadata.to_xattrs(Namespace::Trusted);
                xattrs.push(mark(LINK, entry.target()));
                xattrs
            }
            (NodeKind::Symlink, Some(entry)) => self.metadata(entry, true_name).to_xattrs(Namespace::Trusted),
            (NodeKind::Directory | NodeKind::File, Some(entry)) => {
                self.metadata(entry, true_name).to_xattrs(Namespace::User)
            }
            _ => {
                let attributes = Some(FILE_ATTRIBUTE_DIRECTORY);
                let metadata = Win32Metadata { attributes, true_name, ..Win32Metadata::default() };
                let mut xattrs = metadata.to_xattrs(Namespace::User);
                xattrs.push(mark(IMPLICIT, b"y"));
                xattrs
            }
        };
        let is_directory = matches!(node.kind, NodeKind::Implicit | NodeKind::Directory);
        if node.opaque && is_directory {
            xattrs.push(mark(OPAQUE, b"y"));
        }
        if node.whiteout && is_directory {
            xattrs.push(mark(NEW, b"y"));
        }
        let borrowed: Vec<_> =
            xattrs.iter().map(|(space, name, value): &Xattr| (*space, &name[..], &value[..])).collect();
        self.builder.xattr_set(&borrowed)
    }

    fn metadata(&self, entry: &Entry, true_name: Option<Vec<u8>>) -> Win32Metadata {
        let stream = |record: &super::streams::StreamRecord| Stream {
            name: record.name.clone(),
            content: record.content.clone(),
        };
        Win32Metadata {
            attributes: Some(entry.attributes),
            created: Some(entry.created),
            accessed: Some(entry.accessed),
            changed: Some(entry.changed),
            security: self.tree.security(entry).map(<[u8]>::to_vec),
            eas: entry.eas().to_vec(),
            streams: entry.streams().iter().map(stream).collect(),
            reparse: entry.reparse().map(<[u8]>::to_vec),
            true_name,
            origin: Some(Origin { layer: None, offset: entry.offset }),
        }
    }
}

/// A mark that only merging reads.
fn mark(name: &[u8], value: &[u8]) -> Xattr {
    (Namespace::Trusted, name.to_vec(), value.to_vec())
}

/// The message of the index's writer as a reason.
fn reason(error: &BuildError) -> String {
    format!("it cannot be indexed: {error}")
}

/// A readable text that leads nowhere: a single component, with Windows' separators. The view computes the
/// real target from the reparse data.
fn symlink_text(target: &[u8]) -> Vec<u8> {
    let separators = |&byte: &u8| match byte {
        b'/' => b'\\',
        0 => b'?',
        other => other,
    };
    let mut text: Vec<u8> = target.iter().map(separators).take(SYMLINK_MAX).collect();
    match &text[..] {
        b"" => text.push(b'.'),
        b".." => text.push(b'\\'),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_index_lead_nowhere() {
        assert_eq!(symlink_text(b"../../etc/passwd"), b"..\\..\\etc\\passwd");
        assert_eq!(symlink_text(b".."), b"..\\");
        assert_eq!(symlink_text(b""), b".");
        assert_eq!(symlink_text(b"/"), b"\\");
        assert_eq!(symlink_text(&[b'a'; 9000]).len(), SYMLINK_MAX);
    }
}

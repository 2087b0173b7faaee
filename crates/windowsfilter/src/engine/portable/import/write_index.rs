//! A layer's tree as an EROFS image whose files lie in the tar.
//!
//! What the attributes mean is said in [`crate::metadata`].

use std::collections::HashMap;

use erofs_index::{
    BLOCK_SIZE, BuildError, DeviceId, Extent, ImageBuilder, Inode, InodeId, Kind, Namespace, Options,
    SYMLINK_MAX, XattrSetId,
};
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;

use super::IndexFile;
use super::layer_tree::{LayerTree, Node, NodeId, NodeKind, entry_error};
use super::links::Links;
use crate::digest::{DiffId, Digest};
use crate::engine::portable::long_names::{self, is_long, linux_name};
use crate::error::Error;
use crate::metadata::{IMPLICIT, LINK, OPAQUE, Origin, Stream, Win32Metadata, Xattr};

/// Writes the index and gives its digest, and the targets of hard links that are not in the tar.
pub(super) fn write(
    mut tree: LayerTree,
    diff_id: DiffId,
    tar_size: u64,
    index: IndexFile<'_>,
) -> Result<(Option<Digest>, Vec<Vec<u8>>), Error> {
    let links = Links::resolve(&mut tree)?;
    let parent_links = links.parent_targets(&tree);
    if matches!(index, IndexFile::None) {
        return Ok((None, parent_links));
    }
    // What is in the store already stays readable without a mount, so its index is made all the same.
    if matches!(index, IndexFile::New(_)) {
        check_last_block(&tree, tar_size)?;
    }
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&diff_id.0.as_bytes()[..16]);
    let mut builder = ImageBuilder::new(Options { uuid, ..Options::default() });
    let tar = builder.add_device(tar_size.div_ceil(BLOCK_SIZE as u64)).map_err(build)?;
    builder.reserve(tree.len(), 16);
    Indexer { tree: &tree, links: &links, builder: &mut builder, tar, long_names: HashMap::new() }
        .add_all()?;
    drop((tree, links));
    let digest = index.write(|file| {
        builder.write(std::io::BufWriter::with_capacity(1 << 16, file)).map(|_| ()).map_err(build)
    })?;
    Ok((digest, parent_links))
}

/// Linux reads a file from its tar in whole blocks, and gives an I/O error for one that the tar has only in part.
fn check_last_block(tree: &LayerTree, tar_size: u64) -> Result<(), Error> {
    let part = tar_size % BLOCK_SIZE as u64;
    let in_part = |node: &Node| {
        node.kind == NodeKind::File && node.size > 0 && node.data_offset + node.size > tar_size - part
    };
    match tree.live().find(|(_, node)| part > 0 && in_part(node)) {
        None => Ok(()),
        Some((id, node)) => Err(entry_error(
            &tree.path(id),
            node.offset,
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
    links: &'a Links,
    builder: &'a mut ImageBuilder,
    tar: DeviceId,
    /// By inode, the nodes whose names Linux cannot hold.
    long_names: HashMap<usize, Vec<NodeId>>,
}

impl Indexer<'_> {
    /// The node whose inode a node is a name of.
    fn end(&self, id: NodeId, node: &Node) -> NodeId {
        if node.kind == NodeKind::Link { self.links.end(id) } else { id }
    }

    /// The names of an inode that Linux cannot hold, as the attribute has them.
    fn true_names(&self, id: NodeId) -> Option<Vec<u8>> {
        let nodes = self.long_names.get(&id.index())?;
        long_names::join(nodes.iter().map(|&node| self.tree.name(node)))
    }

    fn add_all(&mut self) -> Result<(), Error> {
        for (id, node) in self.tree.live().filter(|(id, _)| is_long(self.tree.name(*id))) {
            self.long_names.entry(self.end(id, &node).index()).or_default().push(id);
        }
        let mut inodes = vec![None; self.tree.len()];
        inodes[NodeId::ROOT.index()] = Some(InodeId::ROOT);
        for (id, node) in self.tree.live() {
            let known = self.end(id, &node) != id;
            if !known {
                inodes[id.index()] = self
                    .inode(id, &node)
                    .map_err(|error| entry_error(&self.tree.path(id), node.offset, &reason(&error)))?;
            }
        }
        for (id, node) in self.tree.live() {
            let end = self.end(id, &node);
            if let (Some(directory), Some(inode)) = (inodes[node.parent.index()], inodes[end.index()]) {
                let name = linux_name(self.tree.name(id));
                self.builder
                    .link(directory, &name, inode)
                    .map_err(|error| entry_error(&self.tree.path(id), node.offset, &reason(&error)))?;
            }
        }
        Ok(())
    }

    /// The inode of a node; none if there is nothing to see of it.
    fn inode(&mut self, id: NodeId, node: &Node) -> Result<Option<InodeId>, BuildError> {
        let (kind, mode) = match node.kind {
            NodeKind::Absent if node.whiteout => (Kind::WHITEOUT, 0o644),
            NodeKind::Absent => return Ok(None),
            NodeKind::Implicit | NodeKind::Directory => (Kind::Directory, 0o755),
            NodeKind::File => (self.file(node), 0o644),
            NodeKind::Symlink => {
                let target = self.tree.rare(node).map_or(&[][..], |rare| &rare.target);
                (Kind::Symlink(symlink_text(target)), 0o777)
            }
            NodeKind::Link => (Kind::CharDevice { rdev: 0 }, 0o644),
        };
        let xattrs = self.xattrs(id, node)?;
        let (secs, nanos) = match node.kind {
            NodeKind::Absent | NodeKind::Implicit => (0, 0),
            _ => node.written.to_unix(),
        };
        self.builder.add_inode(Inode { kind, mode, uid: 0, gid: 0, mtime: (secs, nanos), xattrs }).map(Some)
    }

    fn file(&self, node: &Node) -> Kind {
        let block = node.data_offset / BLOCK_SIZE as u64;
        let extent = (node.size > 0).then_some(Extent { device: self.tar, block });
        Kind::File { extent, size: node.size }
    }

    fn xattrs(&mut self, id: NodeId, node: &Node) -> Result<XattrSetId, BuildError> {
        let mut xattrs = match node.kind {
            NodeKind::Absent => return Ok(XattrSetId::EMPTY),
            NodeKind::Symlink => self.metadata(id, node).to_xattrs(Namespace::Trusted),
            NodeKind::Directory | NodeKind::File => self.metadata(id, node).to_xattrs(Namespace::User),
            NodeKind::Implicit => {
                let true_name = self.true_names(id);
                let attributes = Some(FILE_ATTRIBUTE_DIRECTORY);
                Win32Metadata { attributes, true_name, ..Win32Metadata::default() }.to_xattrs(Namespace::User)
            }
            NodeKind::Link => {
                let origin = Some(Origin { layer: None, offset: node.offset });
                let true_name = self.true_names(id);
                Win32Metadata { origin, true_name, ..Win32Metadata::default() }.to_xattrs(Namespace::Trusted)
            }
        };
        let mut mark = |name: &[u8], value: &[u8]| -> () {
            xattrs.push((Namespace::Trusted, name.to_vec(), value.to_vec()));
        };
        if node.kind == NodeKind::Implicit {
            mark(IMPLICIT, b"y");
        }
        if node.opaque || node.whiteout {
            mark(OPAQUE, b"y");
        }
        if node.kind == NodeKind::Link {
            mark(LINK, self.tree.rare(node).map_or(&[][..], |rare| &rare.target));
        }
        let borrowed: Vec<_> =
            xattrs.iter().map(|(space, name, value): &Xattr| (*space, &name[..], &value[..])).collect();
        self.builder.xattr_set(&borrowed)
    }

    fn metadata(&self, id: NodeId, node: &Node) -> Win32Metadata {
        let rare = self.tree.rare(node);
        let stream = |record: &super::streams::StreamRecord| Stream {
            name: record.name.clone(),
            content: record.content.clone(),
        };
        Win32Metadata {
            attributes: Some(node.attributes),
            created: Some(node.created),
            accessed: Some(node.accessed),
            changed: Some(node.changed),
            security: self.tree.security(node).map(<[u8]>::to_vec),
            eas: rare.map(|rare| rare.eas.clone()).unwrap_or_default(),
            streams: rare.map(|rare| rare.streams.iter().map(stream).collect()).unwrap_or_default(),
            reparse: rare.and_then(|rare| rare.reparse.clone()),
            true_name: self.true_names(id),
            origin: Some(Origin { layer: None, offset: node.offset }),
        }
    }
}

/// The message of the index's writer as a reason.
fn reason(error: &BuildError) -> String {
    format!("it cannot be indexed: {error}")
}

/// Something to read that leads nowhere: a single component, where the target's separators are Windows'. Where a link
/// leads is for the view to say, from the reparse data.
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

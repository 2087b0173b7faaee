//! Hard links whose target is not before them in their tar: names of a file of a lower layer.
//!
//! A layer can link to a file and delete or replace it at once, and the link keeps the content. So a target
//! is looked up in the layers below as they were before this layer hid anything. Only if they have no such
//! name, it is looked up among the later entries of the tar.

use std::collections::HashMap;

use erofs_index::{Namespace, Nid};
use wclayer::name;

use super::{Kind, Layer, TOP, Tree};
use crate::engine::portable::xattrs::Win32Metadata;
use crate::error::{Error, shown};

/// The place of the link's own entry in the tar.
const ORIGIN: &[u8] = b"win32.origin";
/// A link whose file is not looked up yet.
pub(super) struct OpenLink {
    pub(super) node: u32,
    /// Its inode in the layer's index.
    pub(super) nid: Nid,
    pub(super) target: Vec<u8>,
}

/// Nodes of the layers below that this layer has hidden, by directory and folded name.
type Hidden = HashMap<(u32, Vec<u8>), u32>;

impl Tree<'_> {
    /// Gives every open link the inode of its target, through links to links.
    pub(super) fn close_links(&mut self, layer: &Layer, open: &[OpenLink]) -> Result<(), Error> {
        if open.is_empty() {
            return Ok(());
        }
        let hidden = self.hidden();
        // For each link, the open link from which it was last reached. So each is followed once, however long
        // the chains are.
        let mut met_from = vec![None; open.len()];
        for (number, first) in open.iter().enumerate() {
            let mut chain = vec![first.node];
            let mut link = first;
            met_from[number] = Some(number);
            let inode = loop {
                let fail = |reason: &str| Err(self.link_error(layer, first, &link.target, reason));
                let found = self.find_below(&hidden, &link.target).or_else(|| self.find_path(&link.target));
                let Some(found) = found else {
                    return fail("which neither the layer nor its parents have");
                };
                match self.kind(found) {
                    Kind::Directory => return fail("which is a directory"),
                    Kind::File | Kind::Symlink => break self.nodes[found as usize].inode,
                    Kind::Open(next) => {
                        let next = next as usize;
                        if met_from[next].replace(number) == Some(number) {
                            return fail("which leads back to itself");
                        }
                        chain.push(found);
                        link = &open[next];
                    }
                }
            };
            for node in chain {
                self.nodes[node as usize].inode = inode;
            }
        }
        Ok(())
    }

    fn hidden(&self) -> Hidden {
        let hidden = self.hidden.iter().map(|&number| (number, &self.nodes[number as usize]));
        hidden.map(|(number, node)| ((node.parent, name::fold(node.key())), number)).collect()
    }

    fn find_path(&self, path: &[u8]) -> Option<u32> {
        components(path).try_fold(TOP, |directory, name| self.find(directory, name))
    }

    /// Like [`find_path`](Self::find_path), but in the layers below as they were before this one.
    fn find_below(&self, hidden: &Hidden, path: &[u8]) -> Option<u32> {
        components(path).try_fold(TOP, |directory, name| {
            let still_there = || self.find(directory, name).filter(|&node| node < self.first);
            hidden.get(&(directory, name::fold(name))).copied().or_else(still_there)
        })
    }

    fn link_error(&self, layer: &Layer, link: &OpenLink, target: &[u8], reason: &str) -> Error {
        let origin = layer.image.inode(link.nid).and_then(|inode| {
            let origin = layer.image.xattr(&inode, Namespace::Trusted, ORIGIN)?;
            Ok(origin.and_then(|value| Win32Metadata::from_xattrs([(ORIGIN, &value[..])]).origin))
        });
        Error::Entry {
            entry: shown(&self.path(link.node)),
            // The index was readable when the link was found; if it no longer is, say 0.
            offset: origin.ok().flatten().map_or(0, |origin| origin.offset),
            reason: format!("layer {} has a hard link here to {:?}, {reason}", layer.id, shown(target)),
        }
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".")
}

//! Symbolic links made on Linux, as Windows links.
//!
//! Windows wants to know of a link whether it leads to a directory, so targets are followed here, in the sandbox and the
//! parent together and without regard to case. The root of an absolute link is the sandbox's, `C:\`.

use crate::engine::portable::linux::upper::UpperKind;
use crate::error::Error;
use crate::metadata::Win32Metadata;
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;
use wclayer::layer_tar::windows_path;
use wclayer::name;
use wclayer::reparse::{ReparseError, ReparsePoint, encode_go};

use super::entry::metadata_of;
use super::parent::{Parent, ParentKind};
use super::tree::Tree;

/// Links followed before a target counts as a loop; what Linux does (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// The reparse buffer of a link with this text.
pub(super) fn reparse_data(text: &[u8]) -> Result<Vec<u8>, ReparseError> {
    let target = windows_path(text);
    if std::str::from_utf8(&target).is_ok() {
        return encode_go(&target, false);
    }
    ReparsePoint::Symlink { substitute: target.clone(), print: target, relative: true }.encode()
}

/// Whether a link leads to a directory. `path` is the link's in the sandbox; a link to nowhere leads to no directory.
pub(super) fn leads_to_directory(
    tree: &Tree,
    parent: &impl Parent,
    path: &[u8],
    text: &[u8],
) -> Result<bool, Error> {
    let mut at = Place { tree, parent, names: names(path).map(<[u8]>::to_vec).collect() };
    at.names.pop();
    let mut todo: Vec<Vec<u8>> = Vec::new();
    at.follow(text, &mut todo);
    let mut links = 0;
    while let Some(name) = todo.pop() {
        match &name[..] {
            b"." => continue,
            b".." => {
                at.names.pop();
                continue;
            }
            _ => at.names.push(name),
        }
        match at.look()? {
            Found::Directory => {}
            // A link that Windows knows as a directory is one, wherever it leads: a mount point of another volume, say.
            Found::DirectoryLink(_) if todo.is_empty() => {}
            Found::Link(text) | Found::DirectoryLink(text) if links < MAX_LINKS => {
                links += 1;
                at.names.pop();
                at.follow(&text, &mut todo);
            }
            Found::Link(_) | Found::DirectoryLink(_) | Found::NoDirectory => return Ok(false),
        }
    }
    Ok(true)
}

enum Found {
    Directory,
    Link(Vec<u8>),
    /// A link that came with a layer, which says that it is a directory.
    DirectoryLink(Vec<u8>),
    NoDirectory,
}

impl Found {
    fn link(text: Vec<u8>, metadata: &Win32Metadata) -> Self {
        match metadata.attributes {
            Some(bits) if bits & FILE_ATTRIBUTE_DIRECTORY != 0 => Self::DirectoryLink(text),
            _ => Self::Link(text),
        }
    }
}

/// Where following a link has come to.
struct Place<'a, P> {
    tree: &'a Tree,
    parent: &'a P,
    /// From the root; each but the last is a directory.
    names: Vec<Vec<u8>>,
}

impl<P: Parent> Place<'_, P> {
    /// Puts the names of a link's text before what is still to do (last name first).
    fn follow(&mut self, text: &[u8], todo: &mut Vec<Vec<u8>>) {
        if text.first() == Some(&b'/') {
            self.names.clear();
        }
        let names: Vec<_> = names(text).map(<[u8]>::to_vec).collect();
        todo.extend(names.into_iter().rev());
    }

    /// What is here.
    fn look(&self) -> Result<Found, Error> {
        let path = self.names.join(&b'/');
        let folded = name::fold(&path);
        if let Some(node) = self.tree.find(&folded) {
            return Ok(match &node.entry.kind {
                UpperKind::Directory { .. } => Found::Directory,
                UpperKind::Symlink { target } => Found::link(target.clone(), &metadata_of(&node.entry)),
                _ => Found::NoDirectory,
            });
        }
        if self.is_hidden(&folded) {
            return Ok(Found::NoDirectory);
        }
        let Some(node) = self.parent.lookup(&path)? else { return Ok(Found::NoDirectory) };
        Ok(match node.kind {
            ParentKind::Directory => Found::Directory,
            ParentKind::Symlink => {
                Found::link(self.parent.link_target(&node.spelled)?, &self.parent.metadata(&node.spelled)?)
            }
            ParentKind::File => Found::NoDirectory,
        })
    }

    /// Whether a directory of the sandbox on the way hides what the parent has here.
    fn is_hidden(&self, folded: &[u8]) -> bool {
        let slashes = folded.iter().enumerate().filter(|&(_, &byte)| byte == b'/');
        self.tree.nodes[Tree::ROOT].is_opaque()
            || slashes
                .map(|(at, _)| &folded[..at])
                .any(|above| self.tree.find(above).is_some_and(super::tree::TreeNode::is_opaque))
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
}

//! What one committed layer changes, told from its own index and what is below it.

use std::collections::HashSet;
use std::fs::File;

use erofs_index::{Cached, FileType, Image, InodeInfo};

use super::layer_files::open_index;
use super::long_names::true_name;
use super::view::{Node, View};
use crate::driver::{Change, ChangeKind};
use crate::engine::Place;
use crate::error::Error;
use crate::metadata;

/// The layer's changes, sorted by path.
pub(super) fn list(layer: &Place, below: Option<&View>) -> Result<Vec<Change>, Error> {
    let image = open_index(layer)?;
    list_layer_changes(&image, below).map_err(|e| match e {
        Error::BuildIndex(source) => Error::Index { id: layer.id.clone(), source },
        other => other,
    })
}

/// Every entry of the layer's own index, judged by whether the parent has it.
fn list_layer_changes(image: &Image<Cached<File>>, parent: Option<&View>) -> Result<Vec<Change>, Error> {
    let read = |e: erofs_index::ReadError| Error::BuildIndex(e.into());
    let in_parent = |path: &[u8]| match parent {
        Some(view) => view.lookup_tar_name(path),
        None => Ok(None),
    };
    let mut changes = Vec::new();
    // The depth of a directory that hides what the parent has in it, while the walk is there: directories in it hide as well.
    let mut hiding = None;
    let mut walk = image.walk();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(read)?;
        if walk.path().is_empty() {
            continue;
        }
        let path = tar_name(image, walk.path()).map_err(read)?;
        let marked = |name| image.xattr(&entry.inode, erofs_index::Namespace::Trusted, name).map_err(read);
        hiding = hiding.filter(|&depth| entry.depth > depth);
        if hiding.is_none() && (marked(metadata::OPAQUE)?.is_some() || marked(metadata::NEW)?.is_some()) {
            hiding = Some(entry.depth);
        }
        let below = in_parent(&path)?;
        if let (Some(view), Some(node), Some(_)) = (parent, &below, hiding) {
            list_hidden(image, &entry.inode, &path, view, node, &mut changes)?;
        }
        if marked(metadata::IMPLICIT)?.is_some() {
            continue;
        }
        let whiteout = entry.inode.kind == FileType::CharDevice && marked(metadata::LINK)?.is_none();
        if whiteout {
            changes.extend(below.map(|_| Change { path, kind: ChangeKind::Delete }));
            continue;
        }
        let kind = if below.is_some() { ChangeKind::Modify } else { ChangeKind::Add };
        changes.push(Change { path, kind });
    }
    changes.sort();
    Ok(changes)
}

/// A path of the index with the names that the tar has.
fn tar_name(image: &Image<Cached<File>>, path: &[u8]) -> Result<Vec<u8>, erofs_index::ReadError> {
    if !path.contains(&b'~') {
        return Ok(path.to_vec());
    }
    let mut names = Vec::new();
    let mut inode = image.inode(image.root())?;
    for name in path.split(|&byte| byte == b'/') {
        // The walk has just been there; a name that is missing all the same stays as it is.
        let Some(nid) = image.lookup(&inode, name)? else { return Ok(path.to_vec()) };
        names.push(true_name(image, nid, name)?.unwrap_or_else(|| name.to_vec()));
        inode = image.inode(nid)?;
    }
    Ok(names.join(&b'/'))
}

/// Deletions that a directory stands for that hides what is below it: the parent's names in it that the layer does not bring back.
fn list_hidden(
    image: &Image<Cached<File>>,
    dir: &InodeInfo,
    path: &[u8],
    view: &View,
    node: &Node,
    changes: &mut Vec<Change>,
) -> Result<(), Error> {
    if dir.kind != FileType::Directory || node.info.kind != FileType::Directory {
        return Ok(());
    }
    let mut own = HashSet::new();
    for entry in image.read_dir(dir).map_err(|e| Error::BuildIndex(e.into()))? {
        own.insert(wclayer::name::fold(&entry.map_err(|e| Error::BuildIndex(e.into()))?.name));
    }
    for (name, _) in view.list(node)? {
        if !own.contains(&wclayer::name::fold(&name)) {
            changes.push(Change { path: [path, b"/", &name[..]].concat(), kind: ChangeKind::Delete });
        }
    }
    Ok(())
}

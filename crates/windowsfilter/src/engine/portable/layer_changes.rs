//! The changes of one committed layer, from its own index and the view below it.

use std::collections::HashSet;
use std::fs::File;

use erofs_index::{Cached, FileType, Image, InodeInfo};

use super::entry_memory::Memory;
use super::layer_files::open_index;
use super::long_names::true_name;
use super::view::{Node, View};
use crate::driver::{Change, ChangeKind};
use crate::engine::Place;
use crate::engine::portable::xattrs;
use crate::error::{Error, shown};

/// The layer's changes, sorted by path.
pub(super) fn list(layer: &Place, below: Option<&View>) -> Result<Vec<Change>, Error> {
    let image = open_index(layer)?;
    list_layer_changes(&image, below).map_err(|e| match e {
        Error::BuildIndex(source) => Error::Index { id: layer.id.clone(), source },
        other => other,
    })
}

/// Every entry of the layer's own index, added or modified by whether the parent has it.
fn list_layer_changes(image: &Image<Cached<File>>, parent: Option<&View>) -> Result<Vec<Change>, Error> {
    let mut changes = Changes { image, parent, list: Vec::new(), memory: Memory::default(), hiding: None };
    let mut path = Vec::new();
    // The directories above: the length of their path, and the parent's node in their place.
    let mut above: Vec<(usize, Option<Node>)> = Vec::new();
    for entry in image.walk() {
        let entry = entry.map_err(read)?;
        above.truncate(entry.depth);
        let below = match above.last() {
            None => parent.map(View::top).transpose()?,
            Some((length, directory)) => {
                path.truncate(*length);
                if !path.is_empty() {
                    path.push(b'/');
                }
                // The name as the tar has it.
                let name = true_name(image, entry.inode.nid, &entry.name).map_err(read)?;
                let name = name.unwrap_or(entry.name);
                path.extend_from_slice(&name);
                let below = match (parent, directory) {
                    (Some(view), Some(directory)) => view.tar_child(directory, &name)?,
                    _ => None,
                };
                changes.add(&path, &entry.inode, entry.depth, below.as_ref())?;
                below
            }
        };
        if entry.inode.kind == FileType::Directory {
            above.push((path.len(), below));
        }
    }
    changes.list.sort();
    Ok(changes.list)
}

fn read(error: erofs_index::ReadError) -> Error {
    Error::BuildIndex(error.into())
}

/// The changes of a layer so far.
struct Changes<'a> {
    image: &'a Image<Cached<File>>,
    parent: Option<&'a View>,
    list: Vec<Change>,
    memory: Memory,
    /// The depth of the directory in which the walk is and that hides the parent's content: directories in it
    /// hide as well.
    hiding: Option<usize>,
}

impl Changes<'_> {
    /// Adds the change that an entry of the layer makes. `below` is the parent's node of this name.
    fn add(
        &mut self,
        path: &[u8],
        inode: &InodeInfo,
        depth: usize,
        below: Option<&Node>,
    ) -> Result<(), Error> {
        let image = self.image;
        let marked = |name| image.xattr(inode, erofs_index::Namespace::Trusted, name).map_err(read);
        self.hiding = self.hiding.filter(|&hiding| depth > hiding);
        if self.hiding.is_none() && (marked(xattrs::OPAQUE)?.is_some() || marked(xattrs::NEW)?.is_some()) {
            self.hiding = Some(depth);
        }
        if let (Some(view), Some(node), Some(_)) = (self.parent, below, self.hiding) {
            self.add_hidden(inode, path, view, node)?;
        }
        if marked(xattrs::IMPLICIT)?.is_some() {
            return Ok(());
        }
        let whiteout = inode.kind == FileType::CharDevice && marked(xattrs::LINK)?.is_none();
        if whiteout {
            return if below.is_some() { self.push(path.to_vec(), ChangeKind::Delete) } else { Ok(()) };
        }
        self.push(path.to_vec(), if below.is_some() { ChangeKind::Modify } else { ChangeKind::Add })
    }

    fn push(&mut self, path: Vec<u8>, kind: ChangeKind) -> Result<(), Error> {
        self.memory.take(size_of::<Change>() + path.len());
        self.memory.check().map_err(|reason| Error::Entry { entry: shown(&path), offset: 0, reason })?;
        self.list.push(Change { path, kind });
        Ok(())
    }

    /// Adds the deletions that a hiding directory implies: the parent's names in it that the layer does not
    /// have.
    fn add_hidden(&mut self, dir: &InodeInfo, path: &[u8], view: &View, node: &Node) -> Result<(), Error> {
        if dir.kind != FileType::Directory || node.info.kind != FileType::Directory {
            return Ok(());
        }
        let mut own = HashSet::new();
        for entry in self.image.read_dir(dir).map_err(read)? {
            own.insert(wclayer::name::fold(&entry.map_err(read)?.name));
        }
        for (name, hidden) in view.list(node)? {
            if !own.contains(&wclayer::name::fold(hidden.shown_name())) {
                self.push([path, b"/", &name[..]].concat(), ChangeKind::Delete)?;
            }
        }
        Ok(())
    }
}

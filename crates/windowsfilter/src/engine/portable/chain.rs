//! The index of a whole chain: one image over the tars of all its layers, so that depth costs nothing.
//!
//! `merge.rs` computes its content and `link_targets.rs` the targets of its links; this file reads the
//! layers' own indexes and writes the result. The image has one device per layer, base first, and the same
//! layers always give the same bytes. It leaves out the markers that only merging needs (`win32.implicit`,
//! `.opaque`, `.new`, `.link`), and every place in a tar names its layer.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use erofs_index::{
    BuildError, DeviceId, FileType, Image, ImageBuilder, Inode, InodeId, InodeInfo, Namespace, Options,
    Xattr, XattrSetId,
};
use sha2::{Digest as _, Sha256};

use super::link_targets::{self, Links};
use super::long_names::{self, TRUE_NAME};
use super::merge::{Kind, Layer, Merged, Source, TOP, Tree};
use crate::digest::{Digest, Hashed};
use crate::engine::ChainLayer;
use crate::engine::portable::xattrs::{self, IMPLICIT, LINK, NEW, OPAQUE, StreamForm, Win32Metadata};
use crate::error::{Error, IoContext};
use crate::store::file;
use crate::temporary::Temporaries;

impl ChainLayer {
    /// The layer's name in `win32.origin`: the first eight bytes of its diffID.
    pub(crate) fn tag(&self) -> u64 {
        let digest = self.digest();
        let (first, _) = digest.split_at(8);
        first.iter().fold(0, |tag, &byte| tag << 8 | u64::from(byte))
    }

    /// The diffID's bytes. Every layer that this engine makes has one.
    fn digest(&self) -> [u8; 32] {
        self.diff_id.map_or([0; 32], |id| *id.0.as_bytes())
    }

    fn read(&self) -> Result<Layer, Error> {
        let path = self.dir.join(file::INDEX);
        let bytes = fs::read(&path).at("read", &path)?;
        let image = Image::open(bytes).map_err(|e| Error::Index { id: self.id.clone(), source: e.into() })?;
        Ok(Layer { id: self.id.clone(), tag: self.tag(), image })
    }
}

/// Volume UUID of a chain's index: the first half of the SHA-256 over the diffIDs, base first, and the form
/// of streams, if they are not plain.
pub(crate) fn chain_uuid(chain: &[ChainLayer], form: StreamForm) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for layer in chain {
        hasher.update(layer.digest());
    }
    if form != StreamForm::Plain {
        hasher.update(form.to_string());
    }
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hasher.finalize()[..16]);
    uuid
}

/// Writes the index of `chain` (base first, maybe empty) to `out`: whole and synced, or not at all.
///
/// # Errors
/// An unreadable index of a layer, a hard link without its target, or failed writing.
pub(crate) fn write_chain_index(
    chain: &[ChainLayer],
    out: &Path,
    temporaries: &Temporaries,
    form: StreamForm,
) -> Result<(), Error> {
    temporaries.cancel().check()?;
    let mut new = temporaries.file()?;
    build_chain_index(chain, form, BufWriter::with_capacity(1 << 18, new.as_file_mut()))?;
    new.persist(out)?;
    Ok(())
}

/// The form of streams in the index of `chain` with this UUID; `None` if it belongs to another chain.
pub(crate) fn form_of(uuid: [u8; 16], chain: &[ChainLayer]) -> Option<StreamForm> {
    StreamForm::NAMES.into_iter().map(|(_, form)| form).find(|form| chain_uuid(chain, *form) == uuid)
}

/// [`form_of`] for the index in a file.
pub(crate) fn form_of_file(path: &Path, chain: &[ChainLayer]) -> Option<StreamForm> {
    let image = Image::open(File::open(path).ok()?).ok()?;
    form_of(image.uuid(), chain)
}

/// Returns the path of a chain's index; writes it if it is missing or belongs to another chain. It is in the
/// directory of the chain's nearest layer: everything on top of the chain shares it. An empty chain has an
/// (empty) index in `fallback`.
///
/// # Errors
/// Those of [`write_chain_index`].
pub(crate) fn ready(
    chain: &[ChainLayer],
    fallback: &Path,
    temporaries: &Temporaries,
) -> Result<PathBuf, Error> {
    ready_in_form(chain, fallback, temporaries, StreamForm::Samba)
}

/// Like [`ready`], with streams in the form of a mounted view.
///
/// # Errors
/// Those of [`write_chain_index`].
pub(crate) fn ready_in_form(
    chain: &[ChainLayer],
    fallback: &Path,
    temporaries: &Temporaries,
    form: StreamForm,
) -> Result<PathBuf, Error> {
    let path = chain.last().map_or(fallback, |nearest| &nearest.dir).join(index_file(form));
    // Only the superblock is checked: it has to name exactly these layers.
    if form_of_file(&path, chain) != Some(form) {
        write_chain_index(chain, &path, temporaries, form)?;
    }
    Ok(path)
}

/// The file name of a chain's index with streams in this form.
pub(crate) fn index_file(form: StreamForm) -> &'static str {
    match form {
        StreamForm::Samba => file::CHAIN_INDEX,
        StreamForm::Plain => file::PLAIN_CHAIN_INDEX,
    }
}

/// Writes the index of `chain` (base first, maybe empty) to `w` and flushes it.
///
/// # Errors
/// An unreadable index of a layer, a hard link without its target, or failed writing.
pub(crate) fn build_chain_index(
    chain: &[ChainLayer],
    form: StreamForm,
    mut w: impl Write,
) -> Result<(), Error> {
    let layers = chain.iter().map(ChainLayer::read).collect::<Result<Vec<_>, _>>()?;
    let mut builder = ImageBuilder::new(Options { uuid: chain_uuid(chain, form), build_time: (0, 0) });
    let devices =
        layers.iter().map(|layer| add_device(&mut builder, layer)).collect::<Result<Vec<_>, _>>()?;
    let tree = Tree::merge(&layers)?;
    let mut long_names = HashMap::<_, Vec<_>>::new();
    for node in tree.nodes().filter(|&node| tree.true_name_of(node).is_some()) {
        long_names.entry(tree.inode(node).0).or_default().push(node);
    }
    let mut emitter = Emitter {
        layers: &layers,
        devices,
        tree: &tree,
        links: Links::new(&tree),
        builder,
        long_names,
        form,
    };
    emitter.add_nodes()?;
    emitter.builder.write(&mut w).map_err(erofs_index::Error::from)?;
    w.flush().at("write", Path::new(index_file(form)))
}

/// Checks that the layers can be shown on top of each other: every hard link has its file.
///
/// # Errors
/// An unreadable index of a layer, or a hard link without its target.
pub(crate) fn check(chain: &[ChainLayer]) -> Result<(), Error> {
    let layers = chain.iter().map(ChainLayer::read).collect::<Result<Vec<_>, _>>()?;
    Tree::merge(&layers).map(drop)
}

/// The digest that a chain's index has if it is written now.
///
/// # Errors
/// Those of [`build_chain_index`].
pub(crate) fn chain_index_digest(chain: &[ChainLayer], form: StreamForm) -> Result<Digest, Error> {
    let mut hashed = Hashed::new(io::sink());
    build_chain_index(chain, form, &mut hashed)?;
    Ok(hashed.finish().0)
}

fn add_device(builder: &mut ImageBuilder, layer: &Layer) -> Result<DeviceId, Error> {
    let [device] = layer.image.devices() else {
        let reason = format!("has {} devices instead of one", layer.image.devices().len());
        return Err(Error::Damaged { id: layer.id.clone(), file: file::INDEX, reason });
    };
    builder.add_tagged_device(device.blocks, device.tag()).map_err(build_error)
}

fn build_error(error: BuildError) -> Error {
    Error::BuildIndex(error.into())
}

struct Emitter<'a> {
    layers: &'a [Layer],
    /// The device of each layer.
    devices: Vec<DeviceId>,
    tree: &'a Tree<'a>,
    links: Links<'a, Tree<'a>>,
    builder: ImageBuilder,
    /// The nodes whose names Linux cannot hold, by inode.
    long_names: HashMap<usize, Vec<u32>>,
    form: StreamForm,
}

impl Emitter<'_> {
    fn add_nodes(&mut self) -> Result<(), Error> {
        let tree = self.tree;
        let mut written: Vec<Option<InodeId>> = vec![None; tree.inode_count()];
        written[0] = Some(InodeId::ROOT);
        for node in tree.nodes() {
            let (number, merged) = tree.inode(node);
            let inode = match written[number] {
                // The text of a link depends on its place, so each name gets an inode of its own.
                Some(inode) if merged.kind != Kind::Symlink => inode,
                _ => self.add_inode(node, merged)?,
            };
            written[number] = Some(inode);
            let (parent, _) = tree.inode(link_targets::Names::parent(tree, node));
            // Parents come first, so the parent's inode exists.
            let parent = written[parent].unwrap_or(InodeId::ROOT);
            self.builder
                .link(parent, link_targets::Names::spelling(tree, node), inode)
                .map_err(build_error)?;
        }
        Ok(())
    }

    fn add_inode(&mut self, node: u32, merged: Merged) -> Result<InodeId, Error> {
        let Some(source) = merged.source else {
            let kind = erofs_index::Kind::Directory;
            let bare = Inode { kind, mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: XattrSetId::EMPTY };
            return self.builder.add_inode(bare).map_err(build_error);
        };
        let layer = &self.layers[usize::from(source.layer)];
        let info = layer.image.inode(source.nid).map_err(|e| layer.index_error(e))?;
        let kind = self.kind(node, source, &info)?;
        let xattrs = self.xattrs(node, layer, &info)?;
        let InodeInfo { mode, uid, gid, mtime, .. } = info;
        self.builder.add_inode(Inode { kind, mode, uid, gid, mtime, xattrs }).map_err(build_error)
    }

    fn kind(&mut self, node: u32, source: Source, info: &InodeInfo) -> Result<erofs_index::Kind, Error> {
        let layer = &self.layers[usize::from(source.layer)];
        Ok(match info.kind {
            FileType::Directory => erofs_index::Kind::Directory,
            FileType::Symlink => erofs_index::Kind::Symlink(self.link_text(node)?),
            FileType::CharDevice => erofs_index::Kind::CharDevice { rdev: info.rdev },
            FileType::Regular => {
                let extent = layer.image.extent(info).map_err(|e| layer.index_error(e))?;
                let device = self.devices[usize::from(source.layer)];
                let extent = extent.map(|extent| erofs_index::Extent { device, ..extent });
                erofs_index::Kind::File { extent, size: info.size }
            }
        })
    }

    fn link_text(&mut self, node: u32) -> Result<Vec<u8>, Error> {
        // The tree numbers its inodes in 32 bits.
        let target = self.links.target(self.tree.inode(node).0 as u32)?;
        Ok(match self.view_root(node) {
            Some(root) => self.links.text(root, node, &target),
            None => link_targets::foreign(&[]),
        })
    }

    /// The directory that is `C:\` for `node`: `Files`, or `UtilityVM/Files`.
    fn view_root(&self, node: u32) -> Option<u32> {
        let files = self.tree.find(TOP, b"Files");
        let utility_vm = self.tree.find(TOP, b"UtilityVM").and_then(|vm| self.tree.find(vm, b"Files"));
        let mut at = node;
        while at != TOP {
            at = link_targets::Names::parent(self.tree, at);
            if Some(at) == files || Some(at) == utility_vm {
                return Some(at);
            }
        }
        None
    }

    fn xattrs(&mut self, node: u32, layer: &Layer, info: &InodeInfo) -> Result<XattrSetId, Error> {
        let mut xattrs = layer.image.xattrs(info).map_err(|e| layer.index_error(e))?;
        let marker = |name: &[u8]| [IMPLICIT, OPAQUE, NEW, LINK].contains(&name);
        xattrs.retain(|(namespace, name, _)| *namespace != Namespace::Trusted || !marker(name));
        for xattr in &mut xattrs {
            set_layer(xattr, layer.tag);
            self.form.show(&mut xattr.1, &mut xattr.2);
        }
        self.set_true_names(node, info.kind, &mut xattrs);
        let borrowed: Vec<_> =
            xattrs.iter().map(|(namespace, name, value)| (*namespace, &name[..], &value[..])).collect();
        self.builder.xattr_set(&borrowed).map_err(build_error)
    }

    /// Names may come from other layers than the metadata: those of merged directories and further names of
    /// files.
    fn set_true_names(&self, node: u32, kind: FileType, xattrs: &mut Vec<Xattr>) {
        xattrs.retain(|(_, other, _)| other != TRUE_NAME);
        let nodes = match self.long_names.get(&self.tree.inode(node).0) {
            None => return,
            // Each name of a link has an inode of its own.
            Some(_) if kind == FileType::Symlink => std::slice::from_ref(&node),
            Some(nodes) => nodes,
        };
        let namespace = if kind == FileType::Symlink { Namespace::Trusted } else { Namespace::User };
        let names = long_names::join(nodes.iter().filter_map(|&node| self.tree.true_name_of(node)));
        xattrs.extend(names.map(|names| (namespace, TRUE_NAME.to_vec(), names)));
    }
}

/// Adds the layer to a place in a tar; leaves other attributes alone.
fn set_layer((namespace, name, value): &mut Xattr, layer: u64) {
    if name.starts_with(b"win32.stream.") {
        if let Some(placed) = xattrs::set_layer_of_streams(value, layer) {
            *value = placed;
        }
    } else if name == b"win32.origin" {
        let mut metadata = Win32Metadata::from_xattrs([(&name[..], &value[..])]);
        metadata.set_layer(layer);
        if let Some((_, _, named)) = metadata.to_xattrs(*namespace).pop() {
            *value = named;
        }
    }
}

#[cfg(test)]
#[path = "chain/testing.rs"]
pub(super) mod testing;
#[cfg(test)]
#[path = "chain/tests.rs"]
mod tests;

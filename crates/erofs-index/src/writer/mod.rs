//! The writer: collects a tree, then writes it in one pass.
//!
//! [`ImageBuilder`] takes inodes and names in any order and keeps them in a few long arrays: 56 bytes per
//! inode, 16 bytes and the name itself per link (twice while writing), and per attribute the memory that
//! `xattrs` names. Writing is four steps, each in its file: `tree` sorts the links and walks them, `layout`
//! assigns all places, `dirents` packs names into directory blocks, `emit` writes front to back without
//! seeking.
//!
//! The same calls give the same bytes.

mod dirents;
mod emit;
mod error;
mod layout;
mod tree;
mod xattrs;

use std::io::Write;

pub use error::BuildError;
use error::shown;
pub use xattrs::XattrSetId;
use xattrs::{XattrTable, count_u32};

use crate::format::{self, BLOCK_SIZE, SUPERBLOCK_OFFSET, SuperBlock};
use crate::{DeviceId, Extent, Namespace};

/// An inode of a builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(u32);

impl InodeId {
    /// The root directory, which every builder has from the start.
    pub const ROOT: Self = Self(0);

    /// 0 for the root, then one more for each added inode.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The image's own metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Identifies the volume; random or derived from the content, as the caller likes.
    pub uuid: [u8; 16],
    /// When the image was made: seconds since 1970 and nanoseconds. Inodes have their own times.
    pub build_time: (i64, u32),
}

/// An inode to add to the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// The type and what belongs to it.
    pub kind: Kind,
    /// Permissions: the lower 12 bits of `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification: seconds since 1970, which may be negative, and nanoseconds below 10⁹.
    pub mtime: (i64, u32),
    /// Extended attributes, from [`ImageBuilder::xattr_set`].
    pub xattrs: XattrSetId,
}

/// The type of an inode and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory. [`ImageBuilder::link`] fills it.
    Directory,
    /// A regular file.
    File {
        /// The place of its bytes; `None` reads as zeros.
        extent: Option<Extent>,
        /// Bytes.
        size: u64,
    },
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Device number in Linux' 32-bit encoding (`new_encode_dev`): major in bits 8 to 19, minor in the
        /// rest.
        rdev: u32,
    },
}

impl Kind {
    /// Character device 0:0, overlayfs' mark of a deleted name.
    pub const WHITEOUT: Self = Self::CharDevice { rdev: 0 };
}

/// Counts of a written image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Bytes of the image.
    pub bytes: u64,
    /// Inodes, the root included.
    pub inodes: u64,
    /// Names, hard links counted each, `.` and `..` not.
    pub names: u64,
    /// Bytes of the area of shared attributes.
    pub shared_xattr_bytes: u64,
}

/// Collects a tree and writes it as an image.
///
/// Failed calls leave the builder as it was. [`write`](Self::write) checks that every inode has a name, and
/// that no directory has a name twice.
#[derive(Debug)]
pub struct ImageBuilder {
    options: Options,
    devices: Vec<DeviceRecord>,
    nodes: Vec<Node>,
    links: Vec<Link>,
    names: Vec<u8>,
    targets: Vec<u8>,
    xattrs: XattrTable,
}

#[derive(Clone, Copy, Debug)]
struct DeviceRecord {
    blocks: u32,
    tag: [u8; 64],
}

#[derive(Clone, Copy, Debug)]
struct Node {
    payload: Payload,
    mtime: i64,
    nanos: u32,
    uid: u32,
    gid: u32,
    xattrs: XattrSetId,
    /// Links to it; a directory: its subdirectories + 2.
    nlink: u32,
    /// Its number in the image, once it has a place.
    nid: u32,
    permissions: u16,
}
const _: () = assert!(size_of::<Node>() <= 56);

/// The data of a node's type, in 16 bytes.
#[derive(Clone, Copy, Debug)]
enum Payload {
    /// `first` and `count` select its entries among the sorted links.
    Directory {
        parent: u32,
        first: u32,
        count: u32,
    },
    /// Device 0: none, reads as zeros.
    File {
        device: u16,
        block: u32,
        size: u64,
    },
    /// Part of `targets`.
    Symlink {
        length: u16,
        start: u32,
    },
    CharDevice {
        rdev: u32,
    },
}
const _: () = assert!(size_of::<Payload>() == 16);

/// A directory that has no name yet; also the root's parent until it is its own.
const NO_PARENT: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    directory: u32,
    child: u32,
    /// The name's place in `names`.
    start: u32,
    length: u8,
}
const _: () = assert!(size_of::<Link>() == 16);

impl Link {
    fn name(self, names: &[u8]) -> &[u8] {
        &names[self.start as usize..][..usize::from(self.length)]
    }
}

/// Most devices: the root inode follows their table and must have a 16-bit number.
const DEVICES_MAX: usize =
    (u16::MAX as usize * format::INODE_SLOT - SUPERBLOCK_OFFSET - size_of::<SuperBlock>() - BLOCK_SIZE)
        / size_of::<format::DeviceTableSlot>();

impl ImageBuilder {
    /// An image with only a root directory: mode 0755, owner 0:0, modified at 0.
    pub fn new(options: Options) -> Self {
        let payload = Payload::Directory { parent: 0, first: 0, count: 0 };
        let xattrs = XattrTable::new();
        let root = Node {
            payload,
            mtime: 0,
            nanos: 0,
            uid: 0,
            gid: 0,
            xattrs: XattrSetId::EMPTY,
            nlink: 2,
            nid: 0,
            permissions: 0o755,
        };
        let (devices, links, names, targets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { options, devices, nodes: vec![root], links, names, targets, xattrs }
    }

    /// Makes room for this many more inodes, each with one name of `name_bytes` on average, to save
    /// reallocation.
    pub fn reserve(&mut self, inodes: usize, name_bytes: usize) {
        self.nodes.reserve(inodes);
        self.links.reserve(inodes);
        self.names.reserve(inodes.saturating_mul(name_bytes));
    }

    /// Adds a device of `blocks` × 512 bytes. The first is number 1; a mount gives its `device=` options in
    /// this order.
    pub fn add_device(&mut self, blocks: u64) -> Result<DeviceId, BuildError> {
        self.add_tagged_device(blocks, b"")
    }

    /// Adds a device with a tag of up to 64 bytes that identifies it, such as a SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// More than 16,370 devices, 2³² − 1 blocks or 64 bytes of tag.
    pub fn add_tagged_device(&mut self, blocks: u64, tag: &[u8]) -> Result<DeviceId, BuildError> {
        if self.devices.len() >= DEVICES_MAX {
            return Err(BuildError::TooManyDevices { limit: DEVICES_MAX });
        }
        let limit = u64::from(u32::MAX);
        let count = u32::try_from(blocks).map_err(|_| BuildError::DeviceTooLarge { blocks, limit })?;
        let mut padded = [0; 64];
        let Some(start) = padded.get_mut(..tag.len()) else {
            return Err(BuildError::TagLength { tag: shown(tag), actual: tag.len(), limit: padded.len() });
        };
        start.copy_from_slice(tag);
        self.devices.push(DeviceRecord { blocks: count, tag: padded });
        Ok(DeviceId(self.devices.len() as u16))
    }

    /// The set of exactly these attributes (namespace, name without prefix, value), for [`Inode::xattrs`].
    ///
    /// Equal sets give equal identifiers, whatever the order. An attribute that several inodes have is stored
    /// once.
    ///
    /// # Errors
    /// A name that is empty, contains NUL, comes twice or exceeds 255 bytes with its prefix; a value above
    /// 65,535 bytes; names above 64 KiB together; more than 262,148 bytes in all, where up to 255 attributes
    /// above 512 bytes count 4 bytes each.
    pub fn xattr_set(&mut self, attributes: &[(Namespace, &[u8], &[u8])]) -> Result<XattrSetId, BuildError> {
        self.xattrs.set(attributes)
    }

    /// Sets the metadata of the root directory; the kind must be [`Kind::Directory`].
    pub fn set_root(&mut self, root: Inode) -> Result<(), BuildError> {
        if root.kind != Kind::Directory {
            return Err(BuildError::RootNotADirectory);
        }
        let old = self.nodes[0];
        let new = self.node(&root)?;
        self.xattrs.release_set(old.xattrs);
        self.nodes[0] = Node { payload: old.payload, nlink: old.nlink, ..new };
        Ok(())
    }

    /// Adds an inode. It needs a name before [`write`](Self::write).
    ///
    /// # Errors
    /// An unknown device or attribute set, an extent that leaves its device, a file above 2 TiB − 512, a
    /// target of 0 or above 4,095 bytes or with a NUL, mode bits besides permissions, 10⁹ nanoseconds or
    /// more.
    pub fn add_inode(&mut self, inode: Inode) -> Result<InodeId, BuildError> {
        let id = count_u32(self.nodes.len(), "inodes")?;
        let node = self.node(&inode)?;
        self.nodes.push(node);
        Ok(InodeId(id))
    }

    /// Puts `child` into `directory` under this name. Anything but a directory can have several names: hard
    /// links.
    ///
    /// # Errors
    /// A name that is empty, above 255 bytes, `.` or `..`, or contains `/` or NUL; a `directory` that is not
    /// a directory; a second name for a directory.
    pub fn link(&mut self, directory: InodeId, name: &[u8], child: InodeId) -> Result<(), BuildError> {
        check_name(name)?;
        count_u32(self.links.len(), "names")?;
        let start = count_u32(self.names.len(), "bytes of names")?;
        self.check_known(directory)?;
        self.check_known(child)?;
        if !matches!(self.nodes[directory.index()].payload, Payload::Directory { .. }) {
            return Err(BuildError::NotADirectory { inode: directory, name: shown(name) });
        }
        let node = &mut self.nodes[child.index()];
        match &mut node.payload {
            Payload::Directory { parent, .. } if *parent == NO_PARENT => {
                *parent = directory.0;
                self.nodes[directory.index()].nlink += 1;
            }
            Payload::Directory { .. } => {
                return Err(BuildError::DirectoryLinkedTwice { inode: child, name: shown(name) });
            }
            _ => node.nlink += 1,
        }
        self.names.extend_from_slice(name);
        let length = name.len() as u8; // `check_name` has seen it
        self.links.push(Link { directory: directory.0, child: child.0, start, length });
        Ok(())
    }

    /// Writes the image, front to back; `writer` gets large pieces and is flushed at the end.
    ///
    /// # Errors
    /// Inodes that no path reaches, names that a directory has twice, an image above 2 TiB, and errors of
    /// `writer`.
    pub fn write<W: Write>(mut self, writer: W) -> Result<Summary, BuildError> {
        let order = tree::sort(&mut self)?;
        let layout = layout::place(&mut self, &order)?;
        emit::image(&self, &order, &layout, writer)
    }

    fn node(&mut self, inode: &Inode) -> Result<Node, BuildError> {
        if inode.mode & !0o7777 != 0 {
            return Err(BuildError::Mode { mode: inode.mode });
        }
        let (mtime, nanos) = inode.mtime;
        if nanos >= 1_000_000_000 {
            return Err(BuildError::Nanoseconds { nanos });
        }
        let nlink = if inode.kind == Kind::Directory { 2 } else { 0 };
        let payload = self.payload(&inode.kind)?;
        self.xattrs.use_set(inode.xattrs)?;
        if let Kind::Symlink(target) = &inode.kind {
            self.targets.extend_from_slice(target);
        }
        let (uid, gid, xattrs, permissions) = (inode.uid, inode.gid, inode.xattrs, inode.mode);
        Ok(Node { payload, mtime, nanos, uid, gid, xattrs, nlink, nid: 0, permissions })
    }

    fn payload(&self, kind: &Kind) -> Result<Payload, BuildError> {
        Ok(match kind {
            Kind::Directory => Payload::Directory { parent: NO_PARENT, first: 0, count: 0 },
            Kind::File { extent, size } => self.file(*extent, *size)?,
            Kind::Symlink(target) => {
                let (actual, limit) = (target.len(), format::SYMLINK_MAX);
                if target.is_empty() || actual > limit {
                    return Err(BuildError::TargetLength { target: shown(target), actual, limit });
                }
                if target.contains(&0) {
                    return Err(BuildError::TargetNul { target: shown(target) });
                }
                let start = count_u32(self.targets.len(), "bytes of symbolic link targets")?;
                Payload::Symlink { length: actual as u16, start }
            }
            Kind::CharDevice { rdev } => Payload::CharDevice { rdev: *rdev },
        })
    }

    fn file(&self, extent: Option<Extent>, size: u64) -> Result<Payload, BuildError> {
        let limit = u64::from(u32::MAX) * BLOCK_SIZE as u64;
        if size > limit {
            return Err(BuildError::FileTooLarge { size, limit });
        }
        let Some(Extent { device, block }) = extent.filter(|_| size > 0) else {
            return Ok(Payload::File { device: 0, block: 0, size });
        };
        let count = self.devices.len();
        let record = self.devices.get(device.index()).ok_or(BuildError::UnknownDevice { device, count })?;
        let blocks = u64::from(record.blocks);
        let needed = size.div_ceil(BLOCK_SIZE as u64);
        match u32::try_from(block) {
            Ok(first) if block + needed <= blocks => {
                Ok(Payload::File { device: device.0, block: first, size })
            }
            _ => Err(BuildError::ExtentBeyondDevice { device, block, size, blocks }),
        }
    }

    fn check_known(&self, inode: InodeId) -> Result<(), BuildError> {
        match self.nodes.len() {
            count if inode.index() < count => Ok(()),
            count => Err(BuildError::UnknownInode { inode, count }),
        }
    }
}

fn check_name(name: &[u8]) -> Result<(), BuildError> {
    let (actual, limit) = (name.len(), format::NAME_MAX);
    if name.is_empty() || actual > limit {
        return Err(BuildError::NameLength { name: shown(name), actual, limit });
    }
    if matches!(name, b"." | b"..") || name.iter().any(|&byte| byte == b'/' || byte == 0) {
        return Err(BuildError::NameReserved { name: shown(name) });
    }
    Ok(())
}

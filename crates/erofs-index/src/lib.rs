//! EROFS images that index tars.
//!
//! An image written here holds a tree of names, metadata and attributes, but no file data: every file points
//! at 512-byte blocks of another *device*, typically an uncompressed tar (whose data always begins on such a
//! block). The Linux kernel mounts the image with the tars as its devices and serves the files at native
//! speed; [`Image`] reads the same tree without privileges, on any system. This crate does not know what the
//! trees mean.
//!
//! [`ImageBuilder`] collects a tree and writes it in one sequential pass, the same bytes for the same calls.
//! [`Image`] trusts nothing: a hostile image gives errors that name the place, never a panic or an endless
//! loop. The format, its limits and their reasons: `docs/erofs-index.md`.
//!
//! ```
//! use erofs_index::{Extent, Image, ImageBuilder, Inode, InodeId, Kind, Namespace, Options, XattrSetId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut builder = ImageBuilder::new(Options::default());
//! let tar = builder.add_device(20)?;
//! let hidden = builder.xattr_set(&[(Namespace::User, b"DOSATTRIB", b"0x2")])?;
//! let file = builder.add_inode(Inode {
//!     kind: Kind::File { extent: Some(Extent { device: tar, block: 1 }), size: 700 },
//!     mode: 0o644,
//!     uid: 0,
//!     gid: 0,
//!     mtime: (1_700_000_000, 0),
//!     xattrs: hidden,
//! })?;
//! builder.link(InodeId::ROOT, b"boot.ini", file)?;
//! let mut bytes = Vec::new();
//! builder.write(&mut bytes)?;
//!
//! let image = Image::open(bytes)?;
//! let root = image.inode(image.root())?;
//! let nid = image.lookup(&root, b"boot.ini")?.ok_or("not found")?;
//! assert_eq!(image.inode(nid)?.size, 700);
//! # Ok(())
//! # }
//! ```

mod device;
mod error;
mod format;
mod reader;
mod writer;
mod xattr;

pub use device::{DeviceId, Extent};
pub use error::Error;
pub use format::{
    BLOCK_SIZE, NAME_MAX, SYMLINK_MAX, XATTR_BODY_MAX, XATTR_LIST_MAX, XATTR_NAME_MAX, XATTR_VALUE_MAX,
};
pub use reader::{
    Cached, DeviceSlot, DirEntry, DirPlace, FileType, Image, InodeInfo, Nid, ReadAt, ReadDir, ReadError,
    Walk, WalkEntry, Xattr,
};
pub use writer::{BuildError, ImageBuilder, Inode, InodeId, Kind, Options, Summary, XattrSetId};
pub use xattr::Namespace;

//! What the difference asks of the layers below a sandbox.

use std::io::Read;

use erofs_index::FileType;

use crate::engine::portable::view::{Node, View};
use crate::error::Error;
use crate::metadata::{Stream, Win32Metadata};

/// What a name of the view is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParentKind {
    Directory,
    Symlink,
    File,
}

impl ParentKind {
    pub(super) fn with_article(self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::Symlink => "a link",
            Self::File => "a file",
        }
    }
}

/// Something the view has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParentNode {
    /// Path in the view, from its root, as the view spells it.
    pub(super) spelled: Vec<u8>,
    pub(super) kind: ParentKind,
    /// Last write: seconds since 1970 and nanoseconds.
    pub(super) mtime: (i64, u32),
}

impl ParentNode {
    pub(super) fn is_directory(&self) -> bool {
        self.kind == ParentKind::Directory
    }

    /// The last name of the path.
    pub(super) fn name(&self) -> &[u8] {
        last_name(&self.spelled)
    }
}

/// The view a sandbox stands on. Paths are relative to its root (`C:\`), with slashes; the root's is empty.
pub(super) trait Parent {
    /// What has this path, in any case. Links are not followed.
    fn lookup(&self, path: &[u8]) -> Result<Option<ParentNode>, Error>;
    /// The names in a directory.
    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Error>;
    /// What Windows knows of this path, which exists.
    fn metadata(&self, path: &[u8]) -> Result<Win32Metadata, Error>;
    /// Text of the link at this path, as Linux sees it.
    fn link_target(&self, path: &[u8]) -> Result<Vec<u8>, Error>;
    /// Whether a stream that metadata name is here.
    fn has_stream(&self, stream: &Stream) -> bool;
    /// The content of a stream that metadata name.
    fn open_stream<'a>(&'a self, stream: &'a Stream) -> Result<Box<dyn Read + 'a>, Error>;
}

impl Parent for View {
    fn lookup(&self, path: &[u8]) -> Result<Option<ParentNode>, Error> {
        // To Linux a backslash is a letter; nothing in a view has it.
        if path.contains(&b'\\') {
            return Ok(None);
        }
        let Some(node) = self.lookup_tar_name(&join(b"Files", path))? else { return Ok(None) };
        let kind = match node.info.kind {
            FileType::Directory => ParentKind::Directory,
            FileType::Symlink => ParentKind::Symlink,
            _ => ParentKind::File,
        };
        Ok(Some(ParentNode { spelled: node.view_path, kind, mtime: node.info.mtime }))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        Ok(View::list(self, &existing(self, path)?)?.into_iter().map(|(name, _)| name).collect())
    }

    fn metadata(&self, path: &[u8]) -> Result<Win32Metadata, Error> {
        View::metadata(self, &existing(self, path)?)
    }

    fn link_target(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        View::link_target(self, &existing(self, path)?)
    }

    fn has_stream(&self, stream: &Stream) -> bool {
        View::has_stream(self, stream)
    }

    fn open_stream<'a>(&'a self, stream: &'a Stream) -> Result<Box<dyn Read + 'a>, Error> {
        Ok(Box::new(View::open_stream(self, stream)?))
    }
}

/// What a lookup found before.
fn existing(view: &View, path: &[u8]) -> Result<Node, Error> {
    view.lookup_tar_name(&join(b"Files", path))?.ok_or_else(|| Error::NoSuchFile {
        id: view.id().clone(),
        path: String::from_utf8_lossy(path).into_owned(),
    })
}

pub(super) fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// A path one name longer.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

//! The layers below a sandbox, as the diff reads them.

use std::io::Read;

use erofs_index::FileType;

use crate::engine::portable::view::{Node, View};
use crate::engine::portable::xattrs::{Stream, Win32Metadata};
use crate::error::Error;

/// The kind of an entry of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentKind {
    /// A directory.
    Directory,
    /// A symbolic link on Linux; on Windows any kind of link.
    Symlink,
    /// A file.
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

/// An entry of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentNode {
    /// The parent's handle to find it again.
    pub id: u64,
    /// Its name, as the view spells it; empty for the root.
    pub name: Vec<u8>,
    /// Its kind.
    pub kind: ParentKind,
    /// Last write: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
}

impl ParentNode {
    pub(super) fn is_directory(&self) -> bool {
        self.kind == ParentKind::Directory
    }
}

/// The view below a sandbox. It may be damaged, so every call can fail.
#[allow(clippy::missing_errors_doc, reason = "said above")]
pub trait Parent {
    /// Its root, `C:\`.
    fn root(&self) -> Result<ParentNode, Error>;
    /// The entry of this name in a directory, without regard to case.
    fn child(&self, directory: &ParentNode, name: &[u8]) -> Result<Option<ParentNode>, Error>;
    /// The entries of a directory.
    fn list(&self, directory: &ParentNode) -> Result<Vec<ParentNode>, Error>;
    /// Its Win32 metadata.
    fn metadata(&self, node: &ParentNode) -> Result<Win32Metadata, Error>;
    /// The text of a link on Linux.
    fn link_target(&self, node: &ParentNode) -> Result<Vec<u8>, Error>;
    /// Whether a file here has exactly this stream.
    fn has_stream(&self, stream: &Stream) -> Result<bool, Error>;
    /// The content of a stream in a node's metadata.
    fn open_stream<'a>(&'a self, stream: &'a Stream) -> Result<Box<dyn Read + 'a>, Error>;
}

impl Parent for View {
    fn root(&self) -> Result<ParentNode, Error> {
        Ok(found(&self.root()))
    }

    fn child(&self, directory: &ParentNode, name: &[u8]) -> Result<Option<ParentNode>, Error> {
        // On Linux a backslash is an ordinary character; no name of a view has one.
        if name.contains(&b'\\') {
            return Ok(None);
        }
        Ok(View::child(self, &again(self, directory)?, name)?.as_ref().map(found))
    }

    fn list(&self, directory: &ParentNode) -> Result<Vec<ParentNode>, Error> {
        Ok(View::list(self, &again(self, directory)?)?.iter().map(|(_, node)| found(node)).collect())
    }

    fn metadata(&self, node: &ParentNode) -> Result<Win32Metadata, Error> {
        View::metadata(self, &again(self, node)?)
    }

    fn link_target(&self, node: &ParentNode) -> Result<Vec<u8>, Error> {
        View::link_target(self, &again(self, node)?)
    }

    fn has_stream(&self, stream: &Stream) -> Result<bool, Error> {
        View::has_stream(self, stream)
    }

    fn open_stream<'a>(&'a self, stream: &'a Stream) -> Result<Box<dyn Read + 'a>, Error> {
        Ok(Box::new(View::open_stream(self, stream)?))
    }
}

fn found(node: &Node) -> ParentNode {
    let kind = match node.info.kind {
        FileType::Directory => ParentKind::Directory,
        FileType::Symlink => ParentKind::Symlink,
        _ => ParentKind::File,
    };
    ParentNode { id: node.info.nid.0, name: node.shown_name().to_vec(), kind, mtime: node.info.mtime }
}

/// Finds a node again. Its path is only its name, for messages.
fn again(view: &View, node: &ParentNode) -> Result<Node, Error> {
    view.node(node.id, node.name.clone())
}

pub(super) fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

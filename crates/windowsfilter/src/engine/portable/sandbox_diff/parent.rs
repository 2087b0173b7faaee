//! What the difference asks of the layers below a sandbox.

use std::io::Read;

use erofs_index::FileType;

use crate::engine::portable::view::{Node, View};
use crate::engine::portable::xattrs::{Stream, Win32Metadata};
use crate::error::Error;

/// What a name of the view is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentKind {
    /// A directory.
    Directory,
    /// A symbolic link, whatever Windows calls it.
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

/// Something the view has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentNode {
    /// By which the parent finds it again.
    pub id: u64,
    /// Its name, as the view spells it; empty for the root.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: ParentKind,
    /// Last write: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
}

impl ParentNode {
    pub(super) fn is_directory(&self) -> bool {
        self.kind == ParentKind::Directory
    }
}

/// The view a sandbox stands on. Every call may meet a damaged one.
#[allow(clippy::missing_errors_doc, reason = "said above")]
pub trait Parent {
    /// Its root, `C:\`.
    fn root(&self) -> Result<ParentNode, Error>;
    /// What has this name in a directory, in any case.
    fn child(&self, directory: &ParentNode, name: &[u8]) -> Result<Option<ParentNode>, Error>;
    /// What is in a directory.
    fn list(&self, directory: &ParentNode) -> Result<Vec<ParentNode>, Error>;
    /// What Windows knows of it.
    fn metadata(&self, node: &ParentNode) -> Result<Win32Metadata, Error>;
    /// Text of a link, as Linux sees it.
    fn link_target(&self, node: &ParentNode) -> Result<Vec<u8>, Error>;
    /// Whether a stream that metadata name is exactly one that a file here has.
    fn has_stream(&self, stream: &Stream) -> Result<bool, Error>;
    /// The content of a stream that metadata name.
    fn open_stream<'a>(&'a self, stream: &'a Stream) -> Result<Box<dyn Read + 'a>, Error>;
}

impl Parent for View {
    fn root(&self) -> Result<ParentNode, Error> {
        Ok(found(&self.root()))
    }

    fn child(&self, directory: &ParentNode, name: &[u8]) -> Result<Option<ParentNode>, Error> {
        // To Linux a backslash is a letter; nothing in a view has it.
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

/// What was found before. Its path is no more than its name: it is for messages only.
fn again(view: &View, node: &ParentNode) -> Result<Node, Error> {
    view.node(node.id, node.name.clone())
}

pub(super) fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

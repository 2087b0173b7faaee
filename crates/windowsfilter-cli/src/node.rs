//! What Windows takes a file of a view for.

use erofs_index::FileType;
use wclayer::reparse::ReparsePoint;
use windowsfilter::{Error, JsonName, Node, View, Win32Metadata};

/// `file`, `directory`, `symlink` or `mountpoint`; `deleted` for a mark of a deletion, of which a whole index
/// shows none.
pub(crate) fn type_of(node: &Node, metadata: &Win32Metadata) -> &'static str {
    match node.info.kind {
        FileType::Regular => "file",
        FileType::Directory => "directory",
        FileType::CharDevice => "deleted",
        FileType::Symlink => match metadata.reparse.as_deref().map(ReparsePoint::decode) {
            Some(Ok(ReparsePoint::MountPoint { .. })) => "mountpoint",
            _ => "symlink",
        },
    }
}

/// Bytes of a file's content; 0 for anything else.
pub(crate) fn size_of(node: &Node) -> u64 {
    if node.info.kind == FileType::Regular { node.info.size } else { 0 }
}

/// Where a link leads: what Windows shows, or else what Windows follows, or else what the view has. `None`
/// for anything but a link.
pub(crate) fn link_target(
    view: &View,
    node: &Node,
    metadata: &Win32Metadata,
) -> Result<Option<JsonName>, Error> {
    if node.info.kind != FileType::Symlink {
        return Ok(None);
    }
    let name = match metadata.reparse.as_deref().map(ReparsePoint::decode) {
        Some(Ok(
            ReparsePoint::Symlink { substitute, print, .. } | ReparsePoint::MountPoint { substitute, print },
        )) => Some(if print.is_empty() { substitute } else { print }),
        _ => None,
    };
    let name = name.map_or_else(|| view.link_target(node), Ok)?;
    Ok(Some(name.into()))
}

//! What Windows takes a file of a view for.

use wclayer::reparse::ReparsePoint;
use windowsfilter::metadata::Win32Metadata;
use windowsfilter::support::JsonName;
use windowsfilter::{Error, Node, NodeKind, View};

/// `file`, `directory`, `symlink` or `mountpoint`; `deleted` for a mark of a deletion, of which a whole index
/// shows none.
pub(crate) fn type_of(node: &Node, metadata: &Win32Metadata) -> &'static str {
    match node.kind() {
        NodeKind::File => "file",
        NodeKind::Directory => "directory",
        NodeKind::Link => match metadata.reparse.as_deref().map(ReparsePoint::decode) {
            Some(Ok(ReparsePoint::MountPoint { .. })) => "mountpoint",
            _ => "symlink",
        },
        _ => "deleted",
    }
}

/// Where a link leads: what Windows shows, or else what Windows follows, or else what the view has. `None`
/// for anything but a link.
pub(crate) fn link_target(
    view: &View,
    node: &Node,
    metadata: &Win32Metadata,
) -> Result<Option<JsonName>, Error> {
    if node.kind() != NodeKind::Link {
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

//! Where hard links lead. Their targets may come later in the tar, be spelled in another case, be links themselves, or be
//! in a parent layer.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::layer_tree::{LayerTree, NodeId, NodeKind, entry_error};
use crate::error::Error;

/// The end of every hard link of a tar.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The node that has the data; the link itself if that is not in this tar. `None`: being followed.
    ends: HashMap<NodeId, Option<NodeId>>,
}

impl Links {
    /// Follows every link.
    pub(super) fn resolve(tree: &mut LayerTree) -> Result<Self, Error> {
        let mut links = Self::default();
        for link in tree.link_nodes() {
            links.follow(tree, link)?;
        }
        Ok(links)
    }

    /// Each link is followed once, however long the chains are.
    fn follow(&mut self, tree: &mut LayerTree, link: NodeId) -> Result<(), Error> {
        let mut chain = Vec::new();
        let mut current = link;
        let end = loop {
            let node = tree.node(current);
            if node.kind != NodeKind::Link {
                break current;
            }
            match self.ends.get(&current) {
                Some(Some(end)) => break *end,
                Some(None) => return Err(error(tree, link, "it is a hard link that leads back to itself")),
                None => {}
            }
            self.ends.insert(current, None);
            chain.push(current);
            let target = tree.rare(&node).map(|rare| rare.target.clone()).unwrap_or_default();
            match tree.find(&target) {
                Some(next) => match tree.node(next).kind {
                    NodeKind::Absent => break current,
                    NodeKind::Directory | NodeKind::Implicit => {
                        return Err(error(tree, current, "it is a hard link to a directory"));
                    }
                    NodeKind::File | NodeKind::Symlink | NodeKind::Link => current = next,
                },
                None => break current,
            }
        };
        for link in chain {
            self.ends.insert(link, Some(end));
        }
        Ok(())
    }

    /// The node that has a link's data; the link itself, or another one, if that is not in this tar.
    pub(super) fn end(&self, link: NodeId) -> NodeId {
        self.ends.get(&link).copied().flatten().unwrap_or(link)
    }

    /// The targets that are not in this tar.
    pub(super) fn parent_targets(&self, tree: &LayerTree) -> Vec<Vec<u8>> {
        let targets: BTreeSet<Vec<u8>> = self
            .ends
            .iter()
            .filter(|(link, end)| Some(**link) == **end)
            .filter_map(|(link, _)| tree.rare(&tree.node(*link)).map(|rare| rare.target.clone()))
            .collect();
        targets.into_iter().collect()
    }
}

fn error(tree: &LayerTree, link: NodeId, reason: &str) -> Error {
    entry_error(&tree.path(link), tree.node(link).offset, reason)
}

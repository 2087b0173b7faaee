//! Sorts links into a tree: entries in the format's order, inodes in the order of the image.

use super::error::{BuildError, shown};
use super::{ImageBuilder, InodeId, Link, NO_PARENT, Payload};

/// Sorts the links by directory and name, assigns them to their directories, and returns the inodes in the
/// order of the image: breadth first, a directory's children together in the order of their names, so that
/// listing one touches few blocks. An inode with several names is in the place of the first.
pub(super) fn sort(builder: &mut ImageBuilder) -> Result<Vec<u32>, BuildError> {
    group_by_directory(builder);
    for node in 0..builder.nodes.len() {
        if let Payload::Directory { first, count, .. } = builder.nodes[node].payload {
            let entries = &mut builder.links[first as usize..][..count as usize];
            let names = &builder.names;
            entries.sort_unstable_by(|a, b| a.name(names).cmp(b.name(names)));
            let twice = entries
                .windows(2)
                .find(|pair| pair[0].name(names) == pair[1].name(names))
                .map(|pair| pair[0]);
            if let Some(link) = twice {
                let directory = path_of(builder, link.directory);
                return Err(BuildError::NameTwice { directory, name: shown(link.name(&builder.names)) });
            }
        }
    }
    breadth_first(builder)
}

/// Counting sort: the links of one directory together, directories in the order of their identifiers.
fn group_by_directory(builder: &mut ImageBuilder) {
    for link in &builder.links {
        if let Payload::Directory { count, .. } = &mut builder.nodes[link.directory as usize].payload {
            *count += 1;
        }
    }
    let mut next = 0;
    for node in &mut builder.nodes {
        if let Payload::Directory { first, count, .. } = &mut node.payload {
            *first = next;
            next += *count;
            *count = 0;
        }
    }
    let mut sorted = builder.links.clone();
    for &link in &builder.links {
        if let Payload::Directory { first, count, .. } = &mut builder.nodes[link.directory as usize].payload {
            sorted[(*first + *count) as usize] = link;
            *count += 1;
        }
    }
    builder.links = sorted;
}

fn breadth_first(builder: &ImageBuilder) -> Result<Vec<u32>, BuildError> {
    let mut seen = vec![false; builder.nodes.len()];
    let mut order = Vec::with_capacity(builder.nodes.len());
    seen[0] = true;
    order.push(0);
    let mut next = 0;
    while let Some(&node) = order.get(next) {
        for link in builder.entries(node) {
            if !std::mem::replace(&mut seen[link.child as usize], true) {
                order.push(link.child);
            }
        }
        next += 1;
    }
    match seen.iter().position(|&seen| !seen) {
        None => Ok(order),
        Some(index) => Err(BuildError::Unreachable { inode: InodeId(index as u32) }),
    }
}

/// The path of a directory, for messages. Ends even in a loop of directories.
fn path_of(builder: &ImageBuilder, mut directory: u32) -> String {
    let mut names = Vec::new();
    while names.len() < builder.nodes.len() {
        let Payload::Directory { parent, .. } = builder.nodes[directory as usize].payload else { break };
        if directory == 0 || parent == NO_PARENT {
            break;
        }
        let link = builder.links.iter().find(|link| link.child == directory);
        names.push(link.map_or_else(String::new, |link| shown(link.name(&builder.names))));
        directory = parent;
    }
    names.reverse();
    names.join("/")
}

impl ImageBuilder {
    /// A directory's entries by name; nothing for other inodes. Valid after `sort`.
    pub(super) fn entries(&self, node: u32) -> &[Link] {
        match self.nodes[node as usize].payload {
            Payload::Directory { first, count, .. } => &self.links[first as usize..][..count as usize],
            _ => &[],
        }
    }
}

//! What a sandbox changed, as a list and as a layer tar.
//!
//! Only the upper directory is walked, so this costs what changed and not what exists. The tar is what
//! Windows would export: `Hives`, `Files`, then everything depth-first by name; deletions stand where the
//! name they delete would. Two runs over the same sandbox give the same bytes. What a Windows layer cannot
//! hold is found before the first byte is written, all of it.

mod entry;
mod parent;
mod plan;
mod problems;
mod security;
mod source;
mod symlinks;
#[cfg(test)]
mod tests;
mod tree;
mod writer;

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use layer_mounts::linux::upper::UpperKind;

use crate::diff_options::DiffOptions;
use crate::driver::{Change, ChangeKind};
use crate::engine::portable::entry_memory::Memory;
use crate::engine::portable::xattrs::StreamForm;
use crate::error::{Error, IoContext, shown};
use crate::limits::DiffLimits;

pub use parent::{Parent, ParentKind, ParentNode};
pub use source::{Upper, Walk};

use plan::{Item, Plan, is_linked, plan};
use problems::Problems;
use tree::Tree;
use writer::DiffWriter;

/// Bytes of file content in an upper directory; hard links count once, streams not at all.
///
/// # Errors
/// What the walk of the directory meets; more entries than `limits` allow.
pub fn content_size(upper: &impl Upper, limits: &DiffLimits) -> Result<u64, Error> {
    let mut size = 0_u64;
    let mut seen = HashSet::new();
    for entry in upper.walk(|_| false, limits.entries)? {
        let entry = entry?;
        match entry.kind {
            UpperKind::File { size: bytes }
                if !is_linked(entry.links, &entry.kind) || seen.insert(entry.inode) =>
            {
                size = size.saturating_add(bytes);
            }
            _ => {}
        }
    }
    Ok(size)
}

/// What the sandbox of `upper` adds, modifies and deletes in `parent`, sorted by path. Its root is not
/// listed.
///
/// # Errors
/// What the walk of the directory meets, a damaged parent, more entries than `limits` allow.
pub fn changes(
    upper: &impl Upper,
    parent: &impl Parent,
    streams: StreamForm,
    limits: &DiffLimits,
) -> Result<Vec<Change>, Error> {
    let (mut memory, mut problems) = (Memory::default(), Problems::new(&DiffOptions::default()));
    // A list is no tar.
    let limits = DiffLimits { entries: limits.entries, ..DiffLimits::default() };
    let tree = Tree::read(upper, parent, (streams, &limits), &mut memory, &mut problems, &mut || Ok(()))?;
    let plan = plan(&tree, upper, parent, &mut memory, &mut problems)?;
    let mut changes = Vec::new();
    for (number, item) in plan.items.iter().enumerate() {
        if let Some(kind) = change(number, item) {
            let path = plan.path(number);
            memory.take(path.len());
            memory.check().map_err(|reason| Error::Entry { entry: shown(&path), offset: 0, reason })?;
            changes.push(Change { path, kind });
        }
    }
    changes.sort();
    Ok(changes)
}

fn change(number: usize, item: &Item) -> Option<ChangeKind> {
    match item {
        Item::Entry(_) if number == Plan::ROOT => None,
        Item::Whiteout { .. } => Some(ChangeKind::Delete),
        Item::Entry(entry) if entry.lower.is_some() => Some(ChangeKind::Modify),
        Item::Entry(_) => Some(ChangeKind::Add),
    }
}

/// Writes the layer that makes `parent` what the sandbox of `upper` is, and gives `out` back. Streams in the
/// sandbox have the form `streams`.
///
/// # Errors
/// [`Error::NotPortable`] with everything a Windows layer cannot hold, and [`Error::Limit`] for what is more
/// than `options` allow as far as that can be known, before anything is written; as [`changes`], and what
/// `out` meets.
pub fn write_diff<W: Write>(
    upper: &impl Upper,
    parent: &impl Parent,
    streams: StreamForm,
    options: &DiffOptions,
    mut out: W,
) -> Result<W, Error> {
    let (mut memory, mut problems) = (Memory::default(), Problems::new(options));
    // A walk may be long, and nothing is written meanwhile that would fail.
    let mut is_wanted = || out.flush().at("write", Path::new("the diff"));
    let tree =
        Tree::read(upper, parent, (streams, &options.limits), &mut memory, &mut problems, &mut is_wanted)?;
    let plan = plan(&tree, upper, parent, &mut memory, &mut problems)?;
    problems.into_result()?;
    DiffWriter::new((upper, &tree), parent, &plan, (options.newest, options.limits), out).write()
}

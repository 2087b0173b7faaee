//! The changes of a sandbox, as a list and as a layer tar.
//!
//! Only the upper directory is walked, so the cost depends on the changes, not on the size of the view. The
//! tar is what Windows would export: `Hives`, `Files`, then everything depth-first by name; a deletion stands
//! where the deleted name would. Two runs over the same sandbox give the same bytes. All entries that a
//! Windows layer cannot hold are found before the first byte is written.

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

/// Bytes of file content in an upper directory. Hard links count once; streams do not count.
///
/// # Errors
/// The walk of the directory fails, or meets more entries than `limits` allow.
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

/// Lists what the sandbox of `upper` adds, modifies and deletes in `parent`, sorted by path, without the
/// root.
///
/// # Errors
/// The walk of the directory fails, the parent is damaged, or there are more entries than `limits` allow.
pub fn changes(
    upper: &impl Upper,
    parent: &impl Parent,
    streams: StreamForm,
    limits: &DiffLimits,
) -> Result<Vec<Change>, Error> {
    let (mut memory, mut problems) = (Memory::default(), Problems::new(&DiffOptions::default()));
    // A list needs none of the limits of a tar.
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

/// Writes the layer that turns `parent` into the sandbox of `upper`, and returns `out`. Streams in the
/// sandbox have the form `streams`.
///
/// # Errors
/// [`Error::NotPortable`] with everything a Windows layer cannot hold, before anything is written.
/// [`Error::Limit`] for what exceeds `options`, before anything is written as far as it can be known then.
/// Those of [`changes`], and those of writing to `out`.
pub fn write_diff<W: Write>(
    upper: &impl Upper,
    parent: &impl Parent,
    streams: StreamForm,
    options: &DiffOptions,
    mut out: W,
) -> Result<W, Error> {
    let (mut memory, mut problems) = (Memory::default(), Problems::new(options));
    // A long walk writes nothing, so it would not notice that the reader is gone: flush to find out.
    let mut is_wanted = || out.flush().at("write", Path::new("the diff"));
    let tree =
        Tree::read(upper, parent, (streams, &options.limits), &mut memory, &mut problems, &mut is_wanted)?;
    let plan = plan(&tree, upper, parent, &mut memory, &mut problems)?;
    problems.into_result()?;
    DiffWriter::new((upper, &tree), parent, &plan, (options.newest, options.limits), out).write()
}

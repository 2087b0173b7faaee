//! Resolves the hard links of a layer.
//!
//! Source: `AddLink` in hcsshim `internal/wclayer/legacy.go`, except that a target may also come later in the
//! tar.

use std::collections::HashMap;

use hcs::{RelativePath, Tree};
use wclayer::name;
use wclayer::transport::Link;

use super::{UTILITY_VM_FILES, paths};

/// A link with the layer that has its file.
#[derive(Debug)]
pub(super) struct ResolvedLink<'a, T> {
    pub(super) path: RelativePath,
    pub(super) from: &'a T,
    pub(super) target: RelativePath,
}

impl<T> Clone for ResolvedLink<'_, T> {
    fn clone(&self) -> Self {
        Self { path: self.path.clone(), from: self.from, target: self.target.clone() }
    }
}

/// Finds the file of each link: an earlier one of this layer, else that of the nearest parent (for the
/// utility VM, of the clone), else a later one of this layer. Fails before the service imports anything.
pub(super) fn resolve<'a, T: Tree>(
    links: &[Link],
    layer: &'a T,
    parents: &'a [T],
) -> hcs::Result<Vec<ResolvedLink<'a, T>>> {
    let numbers: HashMap<Vec<u8>, usize> =
        links.iter().enumerate().map(|(number, link)| (name::fold(&link.path), number)).collect();
    let mut resolved: Vec<Option<ResolvedLink<'a, T>>> = links.iter().map(|_| None).collect();
    for number in 0..links.len() {
        // Links to links that come later, each followed once.
        let mut chain = vec![number];
        let found = loop {
            let last = chain[chain.len() - 1];
            if let Some(found) = &resolved[last] {
                break (found.from, found.target.clone());
            }
            let link = &links[last];
            if let Some(found) = in_reach(link, layer, parents)? {
                break found;
            }
            let Some(later) = &link.later else { return Err(missing(link, NEITHER)) };
            match numbers.get(&name::fold(later)) {
                None => break (layer, paths::relative(later)?),
                Some(next) if resolved[*next].is_none() && chain.len() > links.len() => {
                    return Err(missing(link, "the link leads back to itself"));
                }
                Some(next) => chain.push(*next),
            }
        };
        for number in chain {
            let (from, target) = found.clone();
            resolved[number] =
                Some(ResolvedLink { path: paths::relative(&links[number].path)?, from, target });
        }
    }
    Ok(resolved.into_iter().flatten().collect())
}

const NEITHER: &str = "neither the layer nor its parents have the link's file";

/// The file of a link, unless only this layer has it, and only later.
fn in_reach<'a, T: Tree>(
    link: &Link,
    layer: &'a T,
    parents: &'a [T],
) -> hcs::Result<Option<(&'a T, RelativePath)>> {
    let target = paths::relative(&link.target)?;
    if link.is_in_layer {
        return Ok(Some((layer, target)));
    }
    // A later file of the utility VM has already replaced the parent's in the clone.
    let in_clone = paths::is_below(&link.target, UTILITY_VM_FILES) && link.later.is_none();
    for from in in_clone.then_some(layer).into_iter().chain(parents) {
        match from.status(&target) {
            Ok(status) => return Ok((!status.is_directory()).then_some((from, target))),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        if is_below_a_file(from, &link.target)? {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Whether a layer has a file where `path` has a directory. It hides the path in the layers below.
fn is_below_a_file<T: Tree>(layer: &T, path: &[u8]) -> hcs::Result<bool> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'\\').map(|(end, _)| end);
    for end in ends {
        match layer.status(&paths::relative(&path[..end])?) {
            Ok(status) if status.is_directory() => {}
            Ok(_) => return Ok(true),
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn missing(link: &Link, text: &str) -> hcs::Error {
    let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let both = format!("{}, {}", shown(&link.path), shown(&link.target));
    hcs::Error { text: text.into(), ..hcs::Error::new("link", both, hcs::Code::FILE_NOT_FOUND) }
}

//! Where a Windows link leads, as a Linux symbolic link that stays inside the view.
//!
//! Windows stores link targets as NT paths (`\??\C:\x`), as rooted paths or relative to the link. Linux reads the
//! text of a symbolic link byte by byte, in the mount namespace of whoever follows it: a text that starts with `/`, or
//! has one `..` too many, would name a file of the host. So a target is first made a path from the view's root, by
//! names alone and with `..` stopping there, and then written as exactly as many `../` as lead from the link to that
//! root, followed by plain names. Each name is spelled as the view spells it, since Linux compares case.
//!
//! What lies outside `C:` (other drives, UNC, volume GUIDs, devices) becomes one name that does not exist.

use erofs_index::{NAME_MAX, SYMLINK_MAX};
use wclayer::reparse::ReparsePoint;

/// Links followed for one target; Linux' own limit (`MAXSYMLINKS`).
pub(crate) const HOPS_MAX: usize = 40;
/// Names looked up for one target. More cannot be in a text that Linux takes.
const STEPS_MAX: usize = SYMLINK_MAX;
/// Start of the name a target outside the view gets.
const FOREIGN: &[u8] = b".windows-target~";

/// Where a link leads, by its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// From the root of `C:`.
    Absolute(Vec<Vec<u8>>),
    /// From the directory of the link.
    Relative(Vec<Vec<u8>>),
    /// Out of `C:`; the text as Windows shows it.
    Foreign(Vec<u8>),
}

/// A tree of names in which targets are looked up.
pub(crate) trait Names {
    /// The entry of this name in any case.
    fn child(&self, directory: u32, name: &[u8]) -> Option<u32>;
    /// The directory an entry is in; the top's is itself.
    fn parent(&self, node: u32) -> u32;
    /// The name as the view spells it.
    fn spelling(&self, node: u32) -> &[u8];
    /// Where the entry leads if it is a link.
    fn target(&self, node: u32) -> Option<Target>;
}

impl Target {
    /// The target that a reparse buffer names; `None` for tags that are no links, and for damaged buffers.
    pub(crate) fn of_reparse(buffer: &[u8]) -> Option<Self> {
        match ReparsePoint::decode(buffer).ok()? {
            ReparsePoint::Symlink { substitute, print, .. } => {
                Some(Self::parse(first_of(&substitute, &print)))
            }
            ReparsePoint::MountPoint { substitute, print } => {
                Some(match Self::parse(first_of(&substitute, &print)) {
                    Self::Relative(names) => Self::Absolute(names),
                    other => other,
                })
            }
            ReparsePoint::Other { .. } => None,
        }
    }

    /// Reads a target in any of Windows' forms; either slash separates.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let path: Vec<u8> = text.iter().map(|&b| if b == b'/' { b'\\' } else { b }).collect();
        let absolute = |rest: &[u8]| Self::Absolute(split(rest));
        if let Some(rest) = strip_namespace(&path) {
            return match drive(rest) {
                Some((b'C' | b'c', rest)) => absolute(rest),
                _ => Self::Foreign(rest.to_vec()),
            };
        }
        match drive(&path) {
            Some((b'C' | b'c', rest)) => absolute(rest),
            Some(_) => Self::Foreign(path),
            None if path.is_empty() || path.starts_with(b"\\\\") || has_prefix(&path, b"\\Device\\") => {
                Self::Foreign(path)
            }
            None if path.starts_with(b"\\") => absolute(&path),
            None => Self::Relative(split(&path)),
        }
    }
}

fn first_of<'a>(substitute: &'a [u8], print: &'a [u8]) -> &'a [u8] {
    if substitute.is_empty() { print } else { substitute }
}

fn has_prefix(path: &[u8], prefix: &[u8]) -> bool {
    path.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// What follows one of the prefixes that lead into the object manager's directory of DOS devices.
fn strip_namespace(path: &[u8]) -> Option<&[u8]> {
    const PREFIXES: [&[u8]; 5] = [b"\\??\\", b"\\\\?\\", b"\\\\.\\", b"\\DosDevices\\", b"\\GLOBAL??\\"];
    PREFIXES.iter().find(|prefix| has_prefix(path, prefix)).map(|prefix| &path[prefix.len()..])
}

fn drive(path: &[u8]) -> Option<(u8, &[u8])> {
    match path {
        [letter, b':', rest @ ..] if letter.is_ascii_alphabetic() => Some((*letter, rest)),
        _ => None,
    }
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|&b| b == b'\\').filter(|name| !name.is_empty() && *name != b".");
    // A NUL would end the text early; no Windows name has one.
    names.map(|name| name.iter().map(|&b| if b == 0 { b'~' } else { b }).collect()).collect()
}

/// The text of the Linux symbolic link `node`, which leads to `target`, in the view whose top is `root`.
pub(crate) fn link_text(names: &impl Names, root: u32, node: u32, target: &Target) -> Vec<u8> {
    let shown = |target: &Target| match target {
        Target::Foreign(text) => foreign(text),
        Target::Absolute(path) | Target::Relative(path) => foreign(&path.join(&b'\\')),
    };
    let (Some(depth), Some(path)) = (directories(names, root, node), absolute(names, root, node, target))
    else {
        return shown(target);
    };
    let mut parts = vec![b"..".to_vec(); depth.len()];
    parts.extend(spell(names, root, path));
    let text = parts.join(&b'/');
    match text.len() {
        0 => b".".to_vec(),
        1..=SYMLINK_MAX => text,
        _ => shown(target),
    }
}

/// One name, which no view has, for what cannot be reached.
pub(crate) fn foreign(text: &[u8]) -> Vec<u8> {
    let mut name = FOREIGN.to_vec();
    name.extend(text.iter().map(|b| if matches!(b, b'\\' | b'/' | 0) { b'~' } else { *b }));
    name.truncate(NAME_MAX);
    name
}

/// Names of the directories between `root` and `node`, both left out; `None` where they are too many for a
/// text, or `node` is not below `root`.
fn directories(names: &impl Names, root: u32, node: u32) -> Option<Vec<Vec<u8>>> {
    let mut path = Vec::new();
    let mut at = names.parent(node);
    while at != root {
        let parent = names.parent(at);
        if parent == at || path.len() * 3 > SYMLINK_MAX {
            return None;
        }
        path.push(names.spelling(at).to_vec());
        at = parent;
    }
    path.reverse();
    Some(path)
}

/// The target of `node` as names from `root` on, without `..`.
fn absolute(names: &impl Names, root: u32, node: u32, target: &Target) -> Option<Vec<Vec<u8>>> {
    let (mut path, rest) = match target {
        Target::Foreign(_) => return None,
        Target::Absolute(rest) => (Vec::new(), rest),
        Target::Relative(rest) => (directories(names, root, node)?, rest),
    };
    for name in rest {
        if name == b".." {
            path.pop();
        } else {
            path.push(name.clone());
        }
    }
    Some(path)
}

/// `path` as the view spells it; what is not there stays as written.
fn spell(names: &impl Names, root: u32, mut path: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut at = Some(root);
    let mut budget = Budget { hops: HOPS_MAX, steps: STEPS_MAX };
    for name in &mut path {
        let Some(directory) = at else { break };
        let Some(found) = names.child(directory, name) else { break };
        *name = names.spelling(found).to_vec();
        at = follow(names, root, found, &mut budget);
    }
    path
}

struct Budget {
    hops: usize,
    steps: usize,
}

/// What `node` is, or leads to through any number of links; `None` where that is nothing, or too far.
fn follow(names: &impl Names, root: u32, node: u32, budget: &mut Budget) -> Option<u32> {
    let mut at = node;
    let mut rest: Vec<Vec<u8>> = Vec::new();
    loop {
        budget.steps = budget.steps.checked_sub(1)?;
        if let Some(target) = names.target(at) {
            budget.hops = budget.hops.checked_sub(1)?;
            rest.extend(absolute(names, root, at, &target)?.into_iter().rev());
            at = root;
        }
        match rest.pop() {
            None => return Some(at),
            Some(name) => at = names.child(at, &name)?,
        }
    }
}

#[cfg(test)]
#[path = "links/tests.rs"]
mod tests;

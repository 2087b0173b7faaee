//! Translates the target of a Windows link to a Linux symbolic link that stays inside the view.
//!
//! Windows stores link targets as NT paths (`\??\C:\x`), as rooted paths or relative to the link. Linux takes
//! the text of a symbolic link literally, in the mount namespace of the process that follows it: a text that
//! starts with `/`, or has one `..` too many, would name a file of the host. So a target is first turned into
//! a path from the view's root, by names alone and with `..` stopping there. Then it is written as exactly as
//! many `../` as lead from the link to that root, followed by plain names. Each name is spelled as in the
//! view, since Linux compares case.
//!
//! A target outside `C:` (other drives, UNC, volume GUIDs, devices) becomes one name that does not exist.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use erofs_index::{NAME_MAX, SYMLINK_MAX};
use wclayer::reparse::{self, ReparsePoint};

use crate::error::Error;

/// Links followed for one target; Linux' own limit (`MAXSYMLINKS`).
pub(crate) const HOPS_MAX: usize = 40;
/// Names looked up for one target: as many as a text on Linux can have.
const STEPS_MAX: usize = SYMLINK_MAX;
/// Start of the name that stands for a target outside the view.
const FOREIGN: &[u8] = b".windows-target~";

/// The target that a link names. The text can be long for a short path, so it is parsed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    start: Start,
    /// Names from there on, none of them `..`, with `/` between them.
    path: Vec<u8>,
    /// How many names these are.
    names: usize,
    /// The name that stands for the target if it cannot be reached.
    shown: Vec<u8>,
}

/// Where the names of a target begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// At the root of `C:`.
    Root,
    /// `up` directories above the one of the link.
    Directory { up: usize },
    /// Out of `C:`.
    Elsewhere,
}

/// A tree of names in which targets are looked up.
pub(crate) trait Names {
    /// The entry of this name, without regard to case.
    fn child(&self, directory: u32, name: &[u8]) -> Option<u32>;
    /// The directory an entry is in; the top's is itself.
    fn parent(&self, node: u32) -> u32;
    /// The name as the view spells it.
    fn spelling(&self, node: u32) -> &[u8];
    /// The link that this entry is a name of, if it is a link.
    fn link(&self, node: u32) -> Option<u32>;
    /// The target of a link.
    fn target(&self, link: u32) -> Result<Target, Error>;
}

impl Target {
    /// The target in a reparse buffer; `None` for tags other than links', and for damaged buffers.
    pub(crate) fn of_reparse(buffer: &[u8]) -> Option<Self> {
        match ReparsePoint::decode(buffer).ok()? {
            ReparsePoint::Symlink { substitute, print, .. } => {
                Some(Self::parse(first_of(&substitute, &print)))
            }
            ReparsePoint::MountPoint { substitute, print } => {
                let mut target = Self::parse(first_of(&substitute, &print));
                if let Start::Directory { .. } = target.start {
                    target.start = Start::Root;
                }
                Some(target)
            }
            // In Linux' spelling; its root is that of WSL or MSYS2, not `C:`.
            ReparsePoint::Other { .. } => reparse::lx_target(buffer).map(|target| match target {
                [b'/', ..] => Self::elsewhere(target),
                _ => Self::inside(Start::Directory { up: 0 }, &wclayer::layer_tar::windows_path(target)),
            }),
        }
    }

    /// Parses a target in any of Windows' forms; either slash separates.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let path: Vec<u8> = text.iter().map(|&b| if b == b'/' { b'\\' } else { b }).collect();
        let absolute = |rest: &[u8]| Self::inside(Start::Root, rest);
        if let Some(rest) = strip_namespace(&path) {
            return match drive(rest) {
                Some((b'C' | b'c', rest)) => absolute(rest),
                _ => Self::elsewhere(rest),
            };
        }
        match drive(&path) {
            Some((b'C' | b'c', rest)) => absolute(rest),
            Some(_) => Self::elsewhere(&path),
            None if path.is_empty() || path.starts_with(b"\\\\") || has_prefix(&path, b"\\Device\\") => {
                Self::elsewhere(&path)
            }
            None if path.starts_with(b"\\") => absolute(&path),
            None => Self::inside(Start::Directory { up: 0 }, &path),
        }
    }

    /// A target outside `C:`; `text` is the one that Windows shows.
    pub(crate) fn elsewhere(text: &[u8]) -> Self {
        Self { start: Start::Elsewhere, path: Vec::new(), names: 0, shown: foreign(text) }
    }

    fn inside(start: Start, text: &[u8]) -> Self {
        let names = text.split(|&b| b == b'\\').filter(|name| !name.is_empty() && *name != b".");
        let names: Vec<&[u8]> = names.collect();
        let shown = foreign(&names.join(&b'\\'));
        let (mut up, mut kept, mut path) = (0, 0_usize, Vec::new());
        for name in names {
            if name != b".." {
                separate(&mut path);
                // A NUL would end the text early; no Windows name has one.
                path.extend(name.iter().map(|&b| if b == 0 { b'~' } else { b }));
                kept += 1;
            } else if kept > 0 {
                path.truncate(path.iter().rposition(|&b| b == b'/').unwrap_or(0));
                kept -= 1;
            } else {
                up += 1;
            }
        }
        let start = if start == Start::Root { start } else { Start::Directory { up } };
        Self { start, path, names: kept, shown }
    }
}

fn first_of<'a>(substitute: &'a [u8], print: &'a [u8]) -> &'a [u8] {
    if substitute.is_empty() { print } else { substitute }
}

fn has_prefix(path: &[u8], prefix: &[u8]) -> bool {
    path.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The rest of `path` after a prefix that names the object manager's directory of DOS devices.
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

/// Appends a separator unless `path` is empty.
fn separate(path: &mut Vec<u8>) {
    if !path.is_empty() {
        path.push(b'/');
    }
}

/// A name that no view has, for a target that cannot be reached.
pub(crate) fn foreign(text: &[u8]) -> Vec<u8> {
    let mut name = FOREIGN.to_vec();
    name.extend(text.iter().map(|b| if matches!(b, b'\\' | b'/' | 0) { b'~' } else { *b }));
    name.truncate(NAME_MAX);
    name
}

/// The directories between `root` and `node`, without the two; `None` if there are too many for a text, or
/// `node` is not below `root`.
fn directories(names: &impl Names, root: u32, node: u32) -> Option<Vec<u32>> {
    let mut path = Vec::new();
    let mut at = names.parent(node);
    while at != root {
        let parent = names.parent(at);
        if parent == at || path.len() * 3 > SYMLINK_MAX {
            return None;
        }
        path.push(at);
        at = parent;
    }
    path.reverse();
    Some(path)
}

/// The target of `node` as names from `root` on, without `..`.
fn absolute(names: &impl Names, root: u32, node: u32, target: &Target) -> Option<Vec<u8>> {
    let up = match target.start {
        Start::Elsewhere => return None,
        Start::Root => return Some(target.path.clone()),
        Start::Directory { up } => up,
    };
    let above = directories(names, root, node)?;
    let mut path = Vec::new();
    for &directory in &above[..above.len().saturating_sub(up)] {
        separate(&mut path);
        path.extend(names.spelling(directory));
    }
    if !target.path.is_empty() {
        separate(&mut path);
        path.extend(&target.path);
    }
    Some(path)
}

/// The links of a tree. Each is parsed and followed once, since any number of others may lead through it.
pub(crate) struct Links<'a, N> {
    names: &'a N,
    targets: HashMap<u32, Rc<Target>>,
    /// Where each link ends; `None`: nowhere, too far away, or still being followed.
    ends: HashMap<u32, Option<Way>>,
}

impl<'a, N: Names> Links<'a, N> {
    pub(crate) fn new(names: &'a N) -> Self {
        Self { names, targets: HashMap::new(), ends: HashMap::new() }
    }

    /// The target of a link.
    pub(crate) fn target(&mut self, link: u32) -> Result<Rc<Target>, Error> {
        if let Some(target) = self.targets.get(&link) {
            return Ok(Rc::clone(target));
        }
        let target = Rc::new(self.names.target(link)?);
        self.targets.insert(link, Rc::clone(&target));
        Ok(target)
    }

    /// The text of the Linux symbolic link `node`, which leads to `target`, in the view whose top is `root`.
    pub(crate) fn text(&mut self, root: u32, node: u32, target: &Target) -> Vec<u8> {
        let Some(depth) = directories(self.names, root, node).map(|path| path.len()) else {
            return target.shown.clone();
        };
        // However short they are, so many names make a text that is too long.
        if 3 * depth + 2 * target.names > SYMLINK_MAX + 1 {
            return target.shown.clone();
        }
        let Some(path) = absolute(self.names, root, node, target) else { return target.shown.clone() };
        let mut text = [&b".."[..]].repeat(depth).join(&b'/');
        self.spell(root, &path, &mut text);
        match text.len() {
            0 => b".".to_vec(),
            1..=SYMLINK_MAX => text,
            _ => target.shown.clone(),
        }
    }

    /// Adds `path` to `text` in the view's spelling. Names that do not exist stay as written.
    fn spell(&mut self, root: u32, path: &[u8], text: &mut Vec<u8>) {
        let mut way = Some(Way { to: root, hops: 0, steps: 0 });
        for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            let found = way.and_then(|way| self.names.child(way.to, name));
            separate(text);
            text.extend(found.map_or(name, |found| self.names.spelling(found)));
            way = match (way, found) {
                (Some(way), Some(found)) => self.follow(root, found).and_then(|next| way.and(next)),
                _ => None,
            };
        }
    }

    /// `node` itself or, if it is a link, its end through any number of links; `None` if it leads nowhere or
    /// too far.
    fn follow(&mut self, root: u32, node: u32) -> Option<Way> {
        if let Some(end) = self.end(node) {
            return end;
        }
        // Each walk waits for the one behind it. If one leads nowhere, neither do those before it. So `ends`
        // has `None` for all of them until they arrive, which also ends loops.
        let mut walks = VecDeque::from([self.set_out(root, node)?]);
        while let Some(walk) = walks.back_mut() {
            let rest = walk.path.get(walk.done..).unwrap_or_default();
            let name = rest.split(|&b| b == b'/').next().unwrap_or_default();
            if name.is_empty() {
                let Walk { node, way, .. } = walks.pop_back()?;
                self.ends.insert(node, Some(way));
                if let Some(waiting) = walks.back_mut() {
                    waiting.way = waiting.way.and(way)?;
                }
                continue;
            }
            walk.done += name.len() + 1;
            let child = self.names.child(walk.way.to, name)?;
            match self.end(child) {
                Some(end) => walk.way = walk.way.and(end?)?,
                None => walks.push_back(self.set_out(root, child)?),
            }
            if walks.len() > HOPS_MAX {
                // The first of the waiting walks has too many links to follow; the others may still arrive.
                walks.pop_front();
            }
        }
        self.ends.get(&node).copied().flatten()
    }

    /// The end of `node`, if it is known.
    fn end(&self, node: u32) -> Option<Option<Way>> {
        match self.names.link(node) {
            None => Some(Some(Way { to: node, hops: 0, steps: 1 })),
            Some(_) => self.ends.get(&node).copied(),
        }
    }

    /// Begins to follow the link `node`. An unreadable one leads nowhere here; writing it reports the error.
    fn set_out(&mut self, root: u32, node: u32) -> Option<Walk> {
        self.ends.insert(node, None);
        let target = self.target(self.names.link(node)?).ok()?;
        let path = absolute(self.names, root, node, &target)?;
        Some(Walk { node, path, done: 0, way: Way { to: root, hops: 1, steps: 1 } })
    }
}

/// Where a walk arrived, and through how many links and names.
#[derive(Clone, Copy)]
struct Way {
    to: u32,
    hops: usize,
    steps: usize,
}

impl Way {
    /// This way and the `next`; `None` if both together are too far.
    fn and(self, next: Self) -> Option<Self> {
        let way = Self { to: next.to, hops: self.hops + next.hops, steps: self.steps + next.steps };
        (way.hops <= HOPS_MAX && way.steps <= STEPS_MAX).then_some(way)
    }
}

/// A link that is being followed.
struct Walk {
    node: u32,
    /// Its target, from the root.
    path: Vec<u8>,
    /// Bytes of `path` that are done.
    done: usize,
    way: Way,
}

#[cfg(test)]
#[path = "link_targets/tests.rs"]
mod tests;

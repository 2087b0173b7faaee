//! Symbolic links made on Linux, as Windows links.
//!
//! On Windows a link records whether it leads to a directory, so targets are followed here, in the sandbox
//! and the parent together and without regard to case. The root of an absolute link is the sandbox's, `C:\`.
//!
//! Any number of links may lead through the same directories and through each other. So results are
//! remembered: a *place* is an entry with a name in another place, and the end of each link is looked up
//! once.

use std::collections::{HashMap, VecDeque};

use layer_mounts::linux::upper::UpperKind;

use crate::error::Error;
use wclayer::layer_tar::windows_path;
use wclayer::name;
use wclayer::reparse::{ReparseError, ReparsePoint, encode_go};

use super::entry::says_directory;
use super::parent::{Parent, ParentKind, ParentNode};
use super::tree::{Tree, TreeNode};

/// Links followed before a target counts as a loop; Linux' limit (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;
/// Names looked up on the way, through all links: as many as a text on Linux can have (`PATH_MAX`).
const MAX_STEPS: usize = 4095;
/// Places to remember, some 300 bytes each. If there are more, all are forgotten before the next link.
const MAX_PLACES: usize = 1 << 16;

/// The reparse buffer of a link with this text.
pub(super) fn reparse_data(text: &[u8]) -> Result<Vec<u8>, ReparseError> {
    let target = windows_path(text);
    if std::str::from_utf8(&target).is_ok() {
        return encode_go(&target, false);
    }
    ReparsePoint::Symlink { substitute: target.clone(), print: target, relative: true }.encode()
}

/// Follows links of a sandbox.
pub(super) struct Links<'a, P> {
    tree: &'a Tree,
    parent: &'a P,
    places: Vec<Place>,
    /// Where a link ends; `None`: nowhere, too far away, or still being followed.
    ends: HashMap<PlaceId, Option<Way>>,
    /// The directory of the previous link, and its place: links come directory by directory.
    last: Option<(usize, PlaceId)>,
    folded: Vec<u8>,
}

type PlaceId = u32;

const ROOT: PlaceId = 0;

/// The meaning of a name in the sandbox and the parent together.
struct Place {
    /// The directory it is in; the root's is itself.
    up: PlaceId,
    /// The sandbox's entry.
    node: Option<usize>,
    /// The parent's entry, if it is visible.
    lower: Option<ParentNode>,
    kind: ParentKind,
    /// A link that Windows knows as a directory.
    is_directory_link: bool,
    /// Its entries that were looked up, by folded name.
    children: HashMap<Box<[u8]>, PlaceId, foldhash::quality::RandomState>,
}

impl Place {
    fn is_directory(&self) -> bool {
        self.kind == ParentKind::Directory || self.is_directory_link
    }
}

/// Where a walk arrived, and through how many links and names.
#[derive(Clone, Copy)]
struct Way {
    to: PlaceId,
    links: usize,
    steps: usize,
}

impl Way {
    /// This way and the `next`; `None` if both together are too far.
    fn and(self, next: Self) -> Option<Self> {
        let way = Self { to: next.to, links: self.links + next.links, steps: self.steps + next.steps };
        (way.links <= MAX_LINKS && way.steps <= MAX_STEPS).then_some(way)
    }
}

/// A link's text that is being followed.
struct Walk {
    /// The link that has this text.
    link: Option<PlaceId>,
    text: Vec<u8>,
    /// Bytes of it that are done.
    done: usize,
    way: Way,
}

impl Walk {
    /// Sets out from `directory`.
    fn new(link: Option<PlaceId>, text: Vec<u8>, directory: PlaceId) -> Self {
        let to = if text.first() == Some(&b'/') { ROOT } else { directory };
        let links = usize::from(link.is_some());
        Self { link, text, done: 0, way: Way { to, links, steps: 0 } }
    }

    /// Whether names are left.
    fn has_more(&self) -> bool {
        self.text.get(self.done..).is_some_and(|rest| rest.iter().any(|&byte| byte != b'/'))
    }

    /// The next name of the text.
    fn next_name(&mut self) -> Option<&[u8]> {
        loop {
            let rest = self.text.get(self.done..).filter(|rest| !rest.is_empty())?;
            let length = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            let start = self.done;
            self.done += length + 1;
            if length > 0 {
                return Some(&self.text[start..start + length]);
            }
        }
    }
}

impl<'a, P: Parent> Links<'a, P> {
    pub(super) fn new(tree: &'a Tree, parent: &'a P) -> Self {
        Self { tree, parent, places: Vec::new(), ends: HashMap::new(), last: None, folded: Vec::new() }
    }

    /// Whether a link with this text, in the tree's node `directory`, leads to a directory. A dangling link
    /// does not.
    pub(super) fn leads_to_directory(&mut self, directory: usize, text: &[u8]) -> Result<bool, Error> {
        if self.places.len() > MAX_PLACES || self.places.is_empty() {
            self.start_anew()?;
        }
        let from = self.place_of(directory)?;
        let mut walks = VecDeque::from([Walk::new(None, text.to_vec(), from)]);
        let mut too_far = false;
        while let Some(walk) = walks.back_mut() {
            let at = walk.way.to;
            // A walk may end at a link that Windows treats as a directory. It is followed only if a name
            // comes behind it.
            if walk.has_more() && self.places[at as usize].kind == ParentKind::Symlink {
                if !self.follow(at, &mut walks, &mut too_far)? {
                    return Ok(false);
                }
                continue;
            }
            let Some(name) = walk.next_name() else {
                let Some(Walk { link, way, .. }) = walks.pop_back() else { break };
                if let Some(link) = link {
                    self.ends.insert(link, Some(way));
                }
                match walks.back_mut().map(|waiting| (waiting.way.and(way), waiting)) {
                    None => return Ok(!too_far && self.places[way.to as usize].is_directory()),
                    Some((None, _)) => return Ok(false),
                    Some((Some(way), waiting)) => waiting.way = way,
                }
                continue;
            };
            let Some(found) = self.step(at, name)? else { return Ok(false) };
            walk.way.steps += 1;
            let place = &self.places[found as usize];
            match place.kind {
                _ if walk.way.steps > MAX_STEPS => return Ok(false),
                ParentKind::File => return Ok(false),
                ParentKind::Directory => walk.way.to = found,
                // A directory wherever it leads: a mount point of another volume, for example.
                ParentKind::Symlink if place.is_directory_link && !walk.has_more() => walk.way.to = found,
                ParentKind::Symlink => {
                    if !self.follow(found, &mut walks, &mut too_far)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Moves the last of `walks` to the end of `link`, or pushes a walk that finds the end first. Returns
    /// `false` if the link is known to lead nowhere.
    fn follow(
        &mut self,
        link: PlaceId,
        walks: &mut VecDeque<Walk>,
        too_far: &mut bool,
    ) -> Result<bool, Error> {
        let Some(walk) = walks.back_mut() else { return Ok(false) };
        if let Some(end) = self.ends.get(&link) {
            let Some(way) = end.and_then(|end| walk.way.and(end)) else { return Ok(false) };
            walk.way = way;
            return Ok(true);
        }
        // If it leads nowhere, neither do the walks that wait for it. So all count as leading nowhere until
        // they arrive, which also ends loops.
        self.ends.insert(link, None);
        let directory = self.places[link as usize].up;
        walks.push_back(Walk::new(Some(link), self.text(link)?, directory));
        if walks.len() > MAX_LINKS + 1 {
            // The first of the waiting walks has too many links to follow; the others may still arrive.
            walks.pop_front();
            *too_far = true;
        }
        Ok(true)
    }

    fn start_anew(&mut self) -> Result<(), Error> {
        self.places.clear();
        self.ends.clear();
        self.last = None;
        let root = &self.tree.nodes[Tree::ROOT];
        let lower = if root.is_opaque() { None } else { Some(self.parent.root()?) };
        self.places.push(Place {
            up: ROOT,
            node: Some(Tree::ROOT),
            lower,
            kind: ParentKind::Directory,
            is_directory_link: false,
            children: HashMap::default(),
        });
        Ok(())
    }

    /// The place of a directory of the sandbox.
    fn place_of(&mut self, directory: usize) -> Result<PlaceId, Error> {
        if let Some((_, place)) = self.last.filter(|&(last, _)| last == directory) {
            return Ok(place);
        }
        let mut above = Vec::new();
        let mut at = directory;
        while at != Tree::ROOT {
            above.push(at);
            at = self.tree.nodes[at].parent;
        }
        let tree = self.tree;
        let mut place = ROOT;
        for node in above.into_iter().rev() {
            match self.step(place, &tree.nodes[node].name)? {
                Some(found) => place = found,
                // Another name beside it is the same to Windows: no layer is made of that.
                None => break,
            }
        }
        self.last = Some((directory, place));
        Ok(place)
    }

    /// Looks up one name in a place.
    fn step(&mut self, at: PlaceId, name: &[u8]) -> Result<Option<PlaceId>, Error> {
        match name {
            b"." => return Ok(Some(at)),
            b".." => return Ok(Some(self.places[at as usize].up)),
            _ => {}
        }
        self.folded.clear();
        name::fold_into(name, &mut self.folded);
        if let Some(&known) = self.places[at as usize].children.get(&self.folded[..]) {
            return Ok(Some(known));
        }
        let Some(place) = self.look(at, name)? else { return Ok(None) };
        let id = self.places.len() as u32; // not many more than are remembered
        self.places.push(place);
        self.places[at as usize].children.insert(self.folded.clone().into(), id);
        Ok(Some(id))
    }

    fn look(&self, at: PlaceId, name: &[u8]) -> Result<Option<Place>, Error> {
        let place = &self.places[at as usize];
        let own = place.node.map(|node| self.tree.named(node, name)).unwrap_or_default();
        let node = own.node.map(|node| &self.tree.nodes[node]);
        let hidden = own.deleted || node.is_some_and(TreeNode::is_opaque);
        let lower = match &place.lower {
            Some(lower) if lower.is_directory() && !hidden => self.parent.child(lower, name)?,
            _ => None,
        };
        let kind = match (node.map(|node| &node.kind), &lower) {
            (Some(UpperKind::Directory { .. }), _) => ParentKind::Directory,
            (Some(UpperKind::Symlink { .. }), _) => ParentKind::Symlink,
            (Some(_), _) => ParentKind::File,
            (None, Some(lower)) => lower.kind,
            (None, None) => return Ok(None),
        };
        // A directory of the sandbox merges with the parent's directory of the same name and hides anything
        // else.
        let lower = lower.filter(|lower| own.node.is_none() || (kind == lower.kind && lower.is_directory()));
        let is_directory_link = match (node, &lower) {
            _ if kind != ParentKind::Symlink => false,
            (Some(node), _) => node.says_directory,
            (None, Some(lower)) => says_directory(&self.parent.metadata(lower)?),
            (None, None) => false,
        };
        let children = HashMap::default();
        Ok(Some(Place { up: at, node: own.node, lower, kind, is_directory_link, children }))
    }

    /// The text of a link.
    fn text(&self, link: PlaceId) -> Result<Vec<u8>, Error> {
        let place = &self.places[link as usize];
        match (place.node.map(|node| &self.tree.nodes[node].kind), &place.lower) {
            (Some(UpperKind::Symlink { target }), _) => Ok(target.clone()),
            (_, Some(lower)) => self.parent.link_target(lower),
            _ => Ok(Vec::new()),
        }
    }
}

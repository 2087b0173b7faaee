//! Plans the names of a sandbox's layer: additions, changes and deletions, in Windows' spelling.
//!
//! Linux tells `a` from `A`, Windows does not. So each upper name is compared with its neighbours and with
//! the parent's names without regard to case:
//!
//! * a name that the parent has in another case is the parent's, and gets the parent's spelling, unless the
//!   sandbox deleted that;
//! * a deleted name that came back, in any case, is a replacement and not a deletion, because a layer can
//!   have only one of both for a name;
//! * the names that a replaced or opaque directory hides are deleted one by one, all the way down, because
//!   Windows layers have no opaque directories.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use layer_mounts::linux::upper::UpperKind;

use crate::engine::portable::entry_memory::Memory;
use crate::engine::portable::long_names::linux_name;
use crate::engine::portable::xattrs::Win32Metadata;
use crate::error::{Error, shown};
use wclayer::name;

use super::entry::{Subject, read_metadata};
use super::parent::{Parent, ParentNode};
use super::problems::Problems;
use super::security::Directories;
use super::source::Upper;
use super::symlinks::Links;
use super::tree::{Tree, TreeNode};

/// The items to write, in order.
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
}

/// One name of the layer.
#[derive(Debug)]
pub(super) enum Item {
    /// Deletes the parent's file of this name.
    Whiteout {
        name: Vec<u8>,
        /// Item of the directory it is in.
        directory: usize,
    },
    /// An entry of the sandbox.
    Entry(Entry),
}

/// An entry of the sandbox, with the parent's entry of the same name.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name in the tar, the last of its path.
    pub(super) name: Vec<u8>,
    /// Its node in the tree.
    pub(super) node: usize,
    /// The parent's entry of this name, hidden or not.
    pub(super) lower: Option<ParentNode>,
    /// The sandbox deleted the parent's file before it made this one.
    pub(super) replaced: bool,
    /// Windows takes another name beside it for the same, so no layer can be made.
    twin: bool,
    /// Item of the directory it is in; its own for the root.
    pub(super) directory: usize,
}

impl Entry {
    /// Whether this is the parent's file in another case: on Linux a new file, on Windows the same one.
    pub(super) fn is_same_in_other_case(&self, node: &TreeNode) -> bool {
        !self.replaced && self.lower.as_ref().is_some_and(|lower| *lower.name != *node.name)
    }
}

impl Item {
    fn name_and_directory(&self) -> (&[u8], usize) {
        match self {
            Self::Whiteout { name, directory } => (name, *directory),
            Self::Entry(entry) => (&entry.name, entry.directory),
        }
    }
}

impl Plan {
    /// Number of the root in [`Plan::items`].
    pub(super) const ROOT: usize = 0;

    /// The path of an item in the tar, `Files/…`.
    pub(super) fn path(&self, item: usize) -> Vec<u8> {
        path_of(&self.items, item)
    }
}

fn path_of(items: &[Item], item: usize) -> Vec<u8> {
    let mut names = Vec::new();
    let mut at = item;
    loop {
        let (name, directory) = items[at].name_and_directory();
        names.push(name);
        if at == directory {
            break;
        }
        at = directory;
    }
    names.reverse();
    names.join(&b'/')
}

/// Plans the layer of `tree`, which was read from `upper`. Adds to `problems` what a Windows layer cannot
/// hold.
pub(super) fn plan(
    tree: &Tree,
    upper: &impl Upper,
    parent: &impl Parent,
    memory: &mut Memory,
    problems: &mut Problems,
) -> Result<Plan, Error> {
    let mut planning = Planning { tree, upper, parent, memory, problems, items: Vec::new() };
    let (mut directories, mut links) = (Directories::new(), Links::new(tree, parent));
    let root = Entry {
        name: b"Files".to_vec(),
        node: Tree::ROOT,
        lower: Some(parent.root()?),
        replaced: false,
        twin: false,
        directory: Plan::ROOT,
    };
    planning.check_security(Tree::ROOT, root.lower.as_ref())?;
    // A stack: the next item is the last one.
    let mut coming = vec![Item::Entry(root)];
    while let Some(item) = coming.pop() {
        let number = planning.items.len();
        planning.items.push(item);
        let Item::Entry(entry) = &planning.items[number] else { continue };
        let node = &tree.nodes[entry.node];
        let read = || {
            let path = tree.path(entry.node);
            let own = read_metadata(upper, &path, tree.streams)?;
            Ok(Subject { item: entry, node, name: path_of(&planning.items, number), path, own })
        };
        directories.check((number, entry, node), parent, &mut links, planning.problems, read)?;
        if tree.nodes[entry.node].is_directory() {
            let mut inside = planning.inside(number)?;
            inside.sort_by(|a, b| b.name_and_directory().0.cmp(a.name_and_directory().0));
            coming.extend(inside);
        }
    }
    Ok(Plan { items: planning.items })
}

/// A plan that is being made.
struct Planning<'a, U, P> {
    tree: &'a Tree,
    upper: &'a U,
    parent: &'a P,
    memory: &'a mut Memory,
    problems: &'a mut Problems,
    items: Vec<Item>,
}

impl<U: Upper, P: Parent> Planning<'_, U, P> {
    /// The items in the directory that is item `number`.
    fn inside(&mut self, number: usize) -> Result<Vec<Item>, Error> {
        let Item::Entry(entry) = &self.items[number] else { return Ok(Vec::new()) };
        let (tree, parent, index) = (self.tree, self.parent, entry.node);
        let node = &tree.nodes[index];
        let lower = entry.lower.clone().filter(ParentNode::is_directory);
        // The parent's entries are deleted only once, even if the directory has a twin.
        let hides = (entry.replaced || node.is_opaque()) && !entry.twin;
        let (gone, live): (Vec<usize>, Vec<usize>) =
            node.children.iter().partition(|&&child| tree.nodes[child].is_whiteout());
        let gone: HashMap<Vec<u8>, usize> =
            gone.into_iter().map(|child| (name::fold(&tree.nodes[child].name), child)).collect();
        let below = |name: &[u8]| match &lower {
            Some(lower) => parent.child(lower, name),
            None => Ok(None),
        };

        let mut inside = Vec::with_capacity(node.children.len());
        let mut taken = HashSet::new();
        for child in live {
            let node = &tree.nodes[child];
            let folded = name::fold(&node.name);
            let lower = below(&node.name)?;
            let replaced = hides || gone.contains_key(&folded);
            let name = match &lower {
                Some(lower) if !replaced || *lower.name == *node.name => self.lower_name(lower)?,
                _ => node.windows_name().to_vec(),
            };
            let path = || tree.path(child);
            self.problems.check(node, path, &name, lower.is_none());
            self.check_security(child, lower.as_ref())?;
            let twin = !taken.insert(folded);
            if twin {
                self.problems.add(&path(), "differs only in case from another name beside it");
            } else if let Some(lower) = lower.as_ref().filter(|_| !replaced) {
                self.problems.check_case(node, path, lower);
            }
            self.remember(&name, lower.as_ref(), number)?;
            inside.push(Item::Entry(Entry { name, node: child, lower, replaced, twin, directory: number }));
        }
        let deleted = match &lower {
            Some(lower) if hides => parent.list(lower)?,
            _ => {
                let names = gone.values().map(|&child| below(&tree.nodes[child].name));
                names.filter_map(Result::transpose).collect::<Result<_, _>>()?
            }
        };
        for lower in deleted.into_iter().filter(|lower| !taken.contains(&name::fold(&lower.name))) {
            let name = self.lower_name(&lower)?;
            self.remember(&name, None, number)?;
            inside.push(Item::Whiteout { name, directory: number });
        }
        Ok(inside)
    }

    /// Counts the memory of an item.
    fn remember(&mut self, name: &[u8], lower: Option<&ParentNode>, directory: usize) -> Result<(), Error> {
        self.memory.take(size_of::<Item>() + name.len() + lower.map_or(0, |lower| lower.name.len()));
        self.memory.check().map_err(|reason| {
            let path = [&path_of(&self.items, directory), &b"/"[..], name].concat();
            Error::Entry { entry: shown(&path), offset: 0, reason }
        })
    }

    /// The Windows name of an entry of the view.
    fn lower_name(&self, lower: &ParentNode) -> Result<Vec<u8>, Error> {
        if !lower.name.contains(&b'~') {
            return Ok(lower.name.clone());
        }
        Ok(true_name(&lower.name, &self.parent.metadata(lower)?).into_owned())
    }

    /// Reports a security descriptor that cannot be parsed, unless it came from the parent, under this name
    /// or another.
    fn check_security(&mut self, node: usize, lower: Option<&ParentNode>) -> Result<(), Error> {
        if !self.tree.nodes[node].odd_security {
            return Ok(());
        }
        let path = self.tree.path(node);
        let own = read_metadata(self.upper, &path, self.tree.streams)?;
        let lower = lower.map(|lower| self.parent.metadata(lower)).transpose()?;
        let is_kept = match lower {
            Some(lower) if lower.origin == own.origin => lower.security == own.security,
            _ => own.origin.is_some(),
        };
        if !is_kept {
            self.problems.add(&path, "has an attribute win32.sd that is not a security descriptor");
        }
        Ok(())
    }
}

/// The true name of a shortened one. The view shortens a name to its start, `~` and a hash. The attribute
/// with the true name may have been moved to another file along with it; that file's own name counts then.
pub(super) fn true_name<'a>(shown: &'a [u8], metadata: &Win32Metadata) -> Cow<'a, [u8]> {
    let start = shown.iter().rposition(|&byte| byte == b'~').map(|tilde| &shown[..tilde]);
    match (&metadata.true_name, start) {
        (Some(names), Some(start)) => {
            let mut names = names.split(|&byte| byte == b'/');
            let one = |name: &[u8]| linux_name(name) == shown;
            let found =
                names.clone().find(|name| one(name)).or_else(|| names.find(|name| name.starts_with(start)));
            found.map_or(Cow::Borrowed(shown), |name| Cow::Owned(name.to_vec()))
        }
        _ => Cow::Borrowed(shown),
    }
}

/// Whether something with so many names can be a further name of a file.
pub(super) fn is_linked(links: u64, kind: &UpperKind) -> bool {
    links > 1 && matches!(kind, UpperKind::File { .. })
}

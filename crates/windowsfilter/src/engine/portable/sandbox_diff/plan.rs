//! Which names a sandbox's layer has: what is added, changed and deleted, spelled as Windows would find it.
//!
//! Linux tells `a` from `A`, Windows does not. So each upper name is compared with its neighbours and with the parent's
//! names without regard to case:
//!
//! * a name the parent has in another case is the parent's, and gets its spelling, unless the sandbox deleted that;
//! * a deleted name that came back, in whatever case, is a replacement and no deletion, as a layer can say only one
//!   thing of a name;
//! * what a replaced or opaque directory hides is deleted name by name, all the way down, as Windows layers have no
//!   opaque directories.

use std::collections::{HashMap, HashSet};

use crate::diff_options::DiffOptions;
use crate::engine::portable::linux::upper::{UpperEntry, UpperKind};
use crate::engine::portable::long_names::linux_name;
use crate::error::Error;
use crate::metadata::Win32Metadata;
use wclayer::name;
use wclayer::security::SecurityDescriptor;

use super::entry::metadata_of;
use super::parent::{Parent, ParentNode, join};
use super::problems::Problems;
use super::security::Directories;
use super::tree::Tree;

/// Up to so many names of a directory are looked up one by one.
const FEW_NAMES: usize = 4;

/// Names by their folded form.
type Names = HashMap<Vec<u8>, Vec<u8>>;

/// What is to be written, in order.
pub(super) struct Plan<'t> {
    pub(super) items: Vec<Item<'t>>,
    /// What a Windows layer cannot hold.
    pub(super) problems: Problems,
}

/// One name of the layer.
pub(super) enum Item<'t> {
    /// The parent's file of this tar name is deleted.
    Whiteout(Vec<u8>),
    /// Something the sandbox has.
    Entry(Entry<'t>),
}

/// Something the sandbox has, and what the parent has in its place.
pub(super) struct Entry<'t> {
    /// Tar name, `Files/…`.
    pub(super) name: Vec<u8>,
    pub(super) upper: &'t UpperEntry,
    /// What the parent has under this name, hidden or not.
    pub(super) lower: Option<ParentNode>,
    /// The parent's file was deleted before this one took its name.
    pub(super) replaced: bool,
    /// Item of the directory it is in; its own for the root.
    pub(super) directory: usize,
}

impl Entry<'_> {
    /// Whether this is the parent's file under another spelling, written without looking for that.
    pub(super) fn is_same_in_other_case(&self) -> bool {
        let upper = super::parent::last_name(&self.upper.path);
        !self.replaced && self.lower.as_ref().is_some_and(|lower| lower.name() != upper)
    }
}

/// A directory whose entries are still to be planned, or an item that is next in order.
enum Step {
    Whiteout(Vec<u8>),
    Visit { node: usize, name: Vec<u8>, lower: Option<ParentNode>, replaced: bool, directory: usize },
}

/// Plans the layer of everything in `tree`.
pub(super) fn plan<'t>(
    tree: &'t Tree,
    parent: &impl Parent,
    options: &DiffOptions,
) -> Result<Plan<'t>, Error> {
    let mut plan = Plan { items: Vec::new(), problems: Problems::new(options) };
    let top = parent.lookup(b"")?;
    check_metadata(parent, &tree.nodes[Tree::ROOT].entry, top.as_ref(), &mut plan.problems)?;
    let root =
        Step::Visit { node: Tree::ROOT, name: b"Files".to_vec(), lower: top, replaced: false, directory: 0 };
    let mut steps = vec![root];
    let mut directories = Directories::new();
    while let Some(step) = steps.pop() {
        match step {
            Step::Whiteout(name) => plan.items.push(Item::Whiteout(name)),
            Step::Visit { node, name, lower, replaced, directory } => {
                let entry = Entry { name, upper: &tree.nodes[node].entry, lower, replaced, directory };
                directories.check(tree, parent, plan.items.len(), &entry, &mut plan.problems)?;
                if tree.nodes[node].is_directory() {
                    let inside = Directory { tree, parent, node, entry: &entry, item: plan.items.len() };
                    let mut below = inside.steps(&mut plan.problems)?;
                    below.sort_by(|(a, _), (b, _)| b.cmp(a));
                    steps.extend(below.into_iter().map(|(_, step)| step));
                }
                plan.items.push(Item::Entry(entry));
            }
        }
    }
    Ok(plan)
}

/// Looks at what Windows is to know of something. What came from the parent, from under this name or another, is taken as it is.
fn check_metadata(
    parent: &impl Parent,
    upper: &UpperEntry,
    lower: Option<&ParentNode>,
    problems: &mut Problems,
) -> Result<(), Error> {
    problems.check_attributes(upper);
    let own = metadata_of(upper);
    for stream in own.streams.iter().filter(|stream| !parent.has_stream(stream)) {
        let name = String::from_utf8_lossy(&stream.name);
        problems.add(&upper.path, &format!("has a stream {name:?} in a layer that is not below the sandbox"));
    }
    let Some(security) = own.security.filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
    if SecurityDescriptor::parse(&security).is_err() {
        let lower = lower.map(|lower| parent.metadata(&lower.spelled)).transpose()?;
        let is_kept = match lower {
            Some(lower) if lower.origin == own.origin => lower.security == Some(security),
            _ => own.origin.is_some(),
        };
        if !is_kept {
            problems.add(&upper.path, "has an attribute win32.sd that is no security descriptor");
        }
    }
    Ok(())
}

/// A directory of the sandbox whose names are being compared.
struct Directory<'a, 't, P> {
    tree: &'t Tree,
    parent: &'a P,
    node: usize,
    entry: &'a Entry<'t>,
    /// Its place in the plan.
    item: usize,
}

impl<P: Parent> Directory<'_, '_, P> {
    /// What is in it, each with the name to sort by.
    fn steps(&self, problems: &mut Problems) -> Result<Vec<(Vec<u8>, Step)>, Error> {
        let node = &self.tree.nodes[self.node];
        let lower = self.entry.lower.as_ref().filter(|lower| lower.is_directory());
        let hides = self.entry.replaced || node.is_opaque();
        let (gone, live): (Vec<usize>, Vec<usize>) =
            node.children.iter().partition(|&&child| self.tree.nodes[child].is_whiteout());
        let gone: HashMap<Vec<u8>, usize> =
            gone.into_iter().map(|child| (name::fold(self.tree.nodes[child].name()), child)).collect();

        let known = self.known(lower, node.children.len())?;
        let mut steps = Vec::with_capacity(node.children.len());
        let mut taken = HashSet::new();
        for child in live {
            let linux_name = self.tree.nodes[child].name();
            let folded = name::fold(linux_name);
            let below = self.below(lower, known.as_ref(), linux_name)?;
            let replaced = hides || gone.contains_key(&folded);
            let last = self.windows_name(child, below.as_ref(), replaced)?;
            let upper = &self.tree.nodes[child].entry;
            problems.check(upper, &last, below.is_none());
            check_metadata(self.parent, upper, below.as_ref(), problems)?;
            if !taken.insert(folded) {
                problems.add(&upper.path, "differs only in case from another name beside it");
            } else if let Some(lower) = below.as_ref().filter(|_| !replaced) {
                problems.check_case(upper, lower);
            }
            let name = join(&self.entry.name, &last);
            steps.push((
                last,
                Step::Visit { node: child, name, lower: below, replaced, directory: self.item },
            ));
        }
        let deleted = match lower {
            Some(lower) if hides => self.parent.list(&lower.spelled)?,
            _ => gone.values().map(|&child| self.tree.nodes[child].name().to_vec()).collect(),
        };
        for linux_name in deleted {
            if taken.contains(&name::fold(&linux_name)) {
                continue;
            }
            if let Some(below) = self.below(lower, known.as_ref(), &linux_name)? {
                let last = self.lower_name(&below)?;
                let name = join(&self.entry.name, &last);
                steps.push((last, Step::Whiteout(name)));
            }
        }
        Ok(steps)
    }

    /// The parent's names with case folded, where so many will be asked for that looking at all once costs less: a view
    /// finds a name in its own spelling at once, but has to look at all to know that none is spelled otherwise.
    fn known(&self, lower: Option<&ParentNode>, wanted: usize) -> Result<Option<Names>, Error> {
        let Some(lower) = lower.filter(|_| wanted > FEW_NAMES) else { return Ok(None) };
        let names = self.parent.list(&lower.spelled)?;
        Ok(Some(names.into_iter().map(|name| (name::fold(&name), name)).collect()))
    }

    fn below(
        &self,
        lower: Option<&ParentNode>,
        known: Option<&Names>,
        name: &[u8],
    ) -> Result<Option<ParentNode>, Error> {
        let Some(lower) = lower else { return Ok(None) };
        let spelled = match known {
            None => name,
            Some(known) => match known.get(&name::fold(name)) {
                Some(spelled) => spelled,
                None => return Ok(None),
            },
        };
        self.parent.lookup(&join(&lower.spelled, spelled))
    }

    /// What Windows will call a name of the sandbox.
    fn windows_name(
        &self,
        child: usize,
        lower: Option<&ParentNode>,
        replaced: bool,
    ) -> Result<Vec<u8>, Error> {
        let node = &self.tree.nodes[child];
        match lower {
            Some(lower) if !replaced || lower.name() == node.name() => self.lower_name(lower),
            _ => Ok(true_name(node.name(), &metadata_of(&node.entry))),
        }
    }

    /// What Windows calls a name of the view.
    fn lower_name(&self, lower: &ParentNode) -> Result<Vec<u8>, Error> {
        if !lower.name().contains(&b'~') {
            return Ok(lower.name().to_vec());
        }
        Ok(true_name(lower.name(), &self.parent.metadata(&lower.spelled)?))
    }
}

/// The name a shortened one stands for. The view shortens a name to its start, `~` and a hash; metadata that say the
/// true name may have been carried to another file, which then has a name of its own.
fn true_name(shown: &[u8], metadata: &Win32Metadata) -> Vec<u8> {
    let start = shown.iter().rposition(|&byte| byte == b'~').map(|tilde| &shown[..tilde]);
    match (&metadata.true_name, start) {
        (Some(names), Some(start)) => {
            let mut names = names.split(|&byte| byte == b'/');
            let one = |name: &[u8]| linux_name(name) == shown;
            let found =
                names.clone().find(|name| one(name)).or_else(|| names.find(|name| name.starts_with(start)));
            found.unwrap_or(shown).to_vec()
        }
        _ => shown.to_vec(),
    }
}

/// Whether an entry can be a further name of a file.
pub(super) fn is_linked_file(entry: &UpperEntry) -> bool {
    entry.links > 1 && matches!(entry.kind, UpperKind::File { .. })
}

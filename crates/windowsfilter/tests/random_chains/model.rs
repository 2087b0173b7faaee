//! Random layers, entry by entry, and a naive model of the merge rules, which computes their view. The model
//! reads a layer in the order of its tar, and knows nothing of indexes, transport directories or the host.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use wclayer::name::fold;

/// An entry of a layer's tar: its path and its operation.
pub(crate) type Entry = (Vec<String>, Op);

/// The operation of an entry.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    File(u16),
    Directory,
    /// Another name of a file that the layer has now or later, or that its parents have.
    Link(Index),
    Deletion,
    Opaque,
}

/// An entry as it is written to the tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    File(String),
    Directory,
    Link(String),
    Deletion,
    Opaque,
}

/// A name in a view.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) spelling: String,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Content; names with the same content are names of one file.
    File(String),
    /// With the number of the layer that its entry is from, and its names.
    Directory { entry: Option<usize>, names: Tree },
}

/// By folded name.
pub(crate) type Tree = BTreeMap<Vec<u8>, Shown>;

/// Names that collide often, in several spellings; one is too long for Linux.
fn spelling() -> impl Strategy<Value = String> {
    let long = |letter: &str| letter.repeat(200);
    let names = ["a", "A", "b", "B", "ü", "Ü", "x.txt", "X.TXT"].map(str::to_owned);
    select(names.into_iter().chain([long("ä"), long("Ä")]).collect::<Vec<_>>())
}

/// Layers, base first.
pub(crate) fn layers() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    let op = prop_oneof![
        6 => any::<u16>().prop_map(Op::File),
        4 => Just(Op::Directory),
        4 => any::<Index>().prop_map(Op::Link),
        4 => Just(Op::Deletion),
        1 => Just(Op::Opaque),
    ];
    vec(vec((vec(spelling(), 1..4), op), 0..16), 1..5)
}

/// A layer's own state of a name.
#[derive(Clone, Debug, Default)]
struct Own {
    spelling: String,
    deleted: bool,
    /// Deletions concern the layers below, so both of these stay when the layer gets an entry of that name.
    opaque: bool,
    what: OwnWhat,
}

#[derive(Clone, Debug, Default)]
enum OwnWhat {
    #[default]
    Nothing,
    File(String),
    /// A link to a name that neither the parents nor, so far, the layer have.
    Wanted(Vec<Vec<u8>>),
    Directory {
        entry: bool,
        names: OwnTree,
    },
}

type OwnTree = BTreeMap<Vec<u8>, Own>;

fn folded(path: &[String]) -> Vec<Vec<u8>> {
    path.iter().map(|name| fold(name.as_bytes())).collect()
}

fn own<'t>(tree: &'t OwnTree, path: &[Vec<u8>]) -> Option<&'t OwnWhat> {
    let (last, directories) = path.split_last()?;
    let mut tree = tree;
    for name in directories {
        match tree.get(name).map(|own| &own.what) {
            Some(OwnWhat::Directory { names, .. }) => tree = names,
            _ => return None,
        }
    }
    tree.get(last).map(|own| &own.what)
}

fn shown<'t>(tree: &'t Tree, path: &[Vec<u8>]) -> Option<&'t What> {
    let (last, directories) = path.split_last()?;
    let mut tree = tree;
    for name in directories {
        match tree.get(name).map(|shown| &shown.what) {
            Some(What::Directory { names, .. }) => tree = names,
            _ => return None,
        }
    }
    tree.get(last).map(|shown| &shown.what)
}

/// The place of a name; creates the directories on the way. `None` if a file is on the way.
fn place<'t>(tree: &'t mut OwnTree, path: &[String]) -> Option<&'t mut Own> {
    for end in 1..path.len() {
        if matches!(own(tree, &folded(&path[..end])), Some(OwnWhat::File(_) | OwnWhat::Wanted(_))) {
            return None;
        }
    }
    let (last, directories) = path.split_last()?;
    let mut tree = tree;
    for name in directories {
        let at = tree.entry(fold(name.as_bytes())).or_default();
        if let OwnWhat::Nothing = at.what {
            at.spelling.clone_from(name);
            at.what = OwnWhat::Directory { entry: false, names: OwnTree::new() };
        }
        let OwnWhat::Directory { names, .. } = &mut at.what else { return None };
        tree = names;
    }
    Some(
        tree.entry(fold(last.as_bytes())).or_insert_with(|| Own { spelling: last.clone(), ..Own::default() }),
    )
}

fn own_files(tree: &OwnTree, path: &str, out: &mut Vec<String>) {
    for Own { spelling, what, .. } in tree.values() {
        let path = format!("{path}/{spelling}");
        match what {
            OwnWhat::File(_) | OwnWhat::Wanted(_) => out.push(path),
            OwnWhat::Directory { names, .. } => own_files(names, &path, out),
            OwnWhat::Nothing => {}
        }
    }
}

fn shown_files(tree: &Tree, path: &str, out: &mut Vec<String>) {
    for Shown { spelling, what } in tree.values() {
        let path = format!("{path}/{spelling}");
        match what {
            What::File(_) => out.push(path),
            What::Directory { names, .. } => shown_files(names, &path, out),
        }
    }
}

/// Possible targets of a link at this place of the tar: names of the layer so far, of its parents, or later
/// in the layer.
fn targets(tree: &OwnTree, lower: &Tree, later: &[Entry]) -> Vec<String> {
    let mut targets = Vec::new();
    own_files(tree, "Files", &mut targets);
    shown_files(lower, "Files", &mut targets);
    let is_file = |(path, op): &Entry| matches!(op, Op::File(_)).then(|| format!("Files/{}", path.join("/")));
    targets.extend(later.iter().filter_map(is_file));
    targets
}

/// A layer while its tar is read.
struct Reading<'a> {
    lower: &'a Tree,
    layer: usize,
    tree: OwnTree,
}

impl Reading<'_> {
    /// Reads one entry; `None` if it is not valid here.
    fn read(&mut self, path: &[String], op: &Op, later: &[Entry]) -> Option<Written> {
        match op {
            Op::File(number) => {
                // A content that no other file of the chain has.
                let content = format!("{} {number} {}", self.layer, path.join("/"));
                let own = place(&mut self.tree, path)?;
                (own.spelling, own.what) = (path.last()?.clone(), OwnWhat::File(content.clone()));
                Some(Written::File(content))
            }
            Op::Directory => {
                let own = place(&mut self.tree, path)?;
                match &mut own.what {
                    OwnWhat::Directory { entry, .. } => *entry = true,
                    other => {
                        *other = OwnWhat::Directory { entry: true, names: OwnTree::new() };
                        own.spelling = path.last()?.clone();
                    }
                }
                Some(Written::Directory)
            }
            Op::Link(index) => self.link(path, index, later),
            Op::Deletion => {
                place(&mut self.tree, path)?.deleted = true;
                Some(Written::Deletion)
            }
            Op::Opaque => {
                let own = place(&mut self.tree, path)?;
                match &mut own.what {
                    OwnWhat::Directory { .. } => {}
                    OwnWhat::Nothing => {
                        own.what = OwnWhat::Directory { entry: false, names: OwnTree::new() };
                        own.spelling = path.last()?.clone();
                    }
                    OwnWhat::File(_) | OwnWhat::Wanted(_) => return None,
                }
                own.opaque = true;
                Some(Written::Opaque)
            }
        }
    }

    fn link(&mut self, path: &[String], index: &Index, later: &[Entry]) -> Option<Written> {
        let targets = targets(&self.tree, self.lower, later);
        if targets.is_empty() {
            return None;
        }
        let mut target = index.get(&targets).clone();
        let names: Vec<String> = target.split('/').skip(1).map(str::to_owned).collect();
        let wanted = folded(&names);
        if index.index(2) == 0 {
            target = target.to_ascii_uppercase().replace('/', "\\");
        }
        let what = match own(&self.tree, &wanted) {
            Some(OwnWhat::Directory { .. }) => return None,
            Some(what @ (OwnWhat::File(_) | OwnWhat::Wanted(_))) => what.clone(),
            Some(OwnWhat::Nothing) | None => match shown(self.lower, &wanted) {
                Some(What::File(content)) => OwnWhat::File(content.clone()),
                Some(What::Directory { .. }) => return None,
                None => OwnWhat::Wanted(wanted),
            },
        };
        let own = place(&mut self.tree, path)?;
        (own.spelling, own.what) = (path.last()?.clone(), what);
        Some(Written::Link(target))
    }
}

/// The final file of a link to a later name.
fn found<'t>(tree: &'t OwnTree, mut wanted: &'t [Vec<u8>]) -> Option<&'t str> {
    for _ in 0..100 {
        match own(tree, wanted)? {
            OwnWhat::File(content) => return Some(content),
            OwnWhat::Wanted(next) => wanted = next,
            _ => return None,
        }
    }
    None
}

/// Merges a layer into the layers below it.
fn put(lower: &mut Tree, own: &OwnTree, whole: &OwnTree, layer: usize) -> Result<(), ()> {
    for (key, Own { spelling, deleted, opaque, what }) in own {
        if *deleted {
            lower.remove(key);
        }
        let file = |content: &str| Shown { spelling: spelling.clone(), what: What::File(content.to_owned()) };
        match what {
            OwnWhat::Nothing => {}
            OwnWhat::File(content) => {
                lower.insert(key.clone(), file(content));
            }
            OwnWhat::Wanted(wanted) => {
                lower.insert(key.clone(), file(found(whole, wanted).ok_or(())?));
            }
            OwnWhat::Directory { entry: has_entry, names: own } => {
                if !matches!(lower.get(key), Some(Shown { what: What::Directory { .. }, .. })) {
                    let what = What::Directory { entry: None, names: Tree::new() };
                    lower.insert(key.clone(), Shown { spelling: spelling.clone(), what });
                }
                let Some(Shown { what: What::Directory { entry, names }, .. }) = lower.get_mut(key) else {
                    return Err(());
                };
                if *opaque {
                    names.clear();
                }
                if *has_entry {
                    *entry = Some(layer);
                }
                put(names, own, whole, layer)?;
            }
        }
    }
    Ok(())
}

/// Merges a layer into the layers below it; returns its valid entries as they are written.
pub(crate) fn apply(lower: &mut Tree, entries: &[Entry], layer: usize) -> Vec<(String, Written)> {
    let mut entries = entries.to_vec();
    loop {
        let mut reading = Reading { lower, layer, tree: OwnTree::new() };
        let mut written = Vec::new();
        let mut last_link = None;
        for (number, (path, op)) in entries.iter().enumerate() {
            if let Some(entry) = reading.read(path, op, &entries[number + 1..]) {
                if matches!(entry, Written::Link(_)) {
                    last_link = Some(number);
                }
                written.push((format!("Files/{}", path.join("/")), entry));
            }
        }
        let own = reading.tree;
        let mut merged = lower.clone();
        match put(&mut merged, &own, &own, layer) {
            Ok(()) => {
                *lower = merged;
                return written;
            }
            // The target of a link has not come: drop a link.
            Err(()) => drop(entries.remove(last_link.expect("only links can want something"))),
        }
    }
}

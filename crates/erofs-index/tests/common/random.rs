//! Random trees: names that sort around `.`, directories of many blocks, shared and lonely attributes, hard
//! links.

use erofs_index::Namespace;
use proptest::prelude::*;
use proptest::sample::Index;

use super::model::{Content, Model, Node, Xattrs, device};

/// One step of growing a tree.
#[derive(Clone, Debug)]
enum Step {
    Add {
        directory: Index,
        name: Vec<u8>,
        node: NodeSeed,
    },
    /// Many empty files, for directories of several blocks.
    Fill {
        directory: Index,
        prefix: Vec<u8>,
        count: u16,
    },
    Link {
        directory: Index,
        name: Vec<u8>,
        node: Index,
    },
}

#[derive(Clone, Debug)]
struct NodeSeed {
    what: Seed,
    mode: u16,
    owner: (u32, u32),
    mtime: (i64, u32),
    xattrs: Vec<(u8, Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Seed {
    Directory,
    File { place: Option<(Index, Index)>, size: Index },
    Symlink(Vec<u8>),
    CharDevice(u32),
}

/// Trees over up to three devices.
pub fn models() -> impl Strategy<Value = Model> {
    let devices = prop::collection::vec((any::<u32>(), 0..12_u32), 0..4);
    let steps = prop::collection::vec(step(), 0..40);
    (devices, node(), steps).prop_map(|(devices, root, steps)| {
        let mut model = Model::new(devices.into_iter().map(|(seed, blocks)| device(seed, blocks)).collect());
        let (directory, what) = (NodeSeed { what: Seed::Directory, ..root }, model.nodes[0].what.clone());
        model.nodes[0] = Node { what, ..grown(&model, directory) };
        for step in steps {
            apply(&mut model, step);
        }
        model
    })
}

fn apply(model: &mut Model, step: Step) {
    let directories: Vec<usize> =
        (0..model.nodes.len()).filter(|&node| model.children(node).is_some()).collect();
    let free = |model: &Model, directory, name: &[u8]| !model.children(directory).unwrap().contains_key(name);
    match step {
        Step::Add { directory, name, node } => {
            let directory = *directory.get(&directories);
            if free(model, directory, &name) {
                let node = grown(model, node);
                model.add(directory, &name, node);
            }
        }
        Step::Fill { directory, prefix, count } => {
            let directory = *directory.get(&directories);
            for number in 0..count {
                let name = [&prefix[..prefix.len().min(240)], number.to_string().as_bytes()].concat();
                if free(model, directory, &name) {
                    model.add(directory, &name, Node::new(Content::File(None, 0)));
                }
            }
        }
        Step::Link { directory, name, node } => {
            let directory = *directory.get(&directories);
            let node = node.index(model.nodes.len());
            if free(model, directory, &name) && model.children(node).is_none() {
                model.link(directory, &name, node);
            }
        }
    }
}

fn grown(model: &Model, seed: NodeSeed) -> Node {
    let what = match seed.what {
        Seed::Directory => Content::Directory(Default::default()),
        Seed::Symlink(target) => Content::Symlink(target),
        Seed::CharDevice(rdev) => Content::CharDevice(rdev),
        Seed::File { place, size } => match place {
            Some((device, block)) if !model.devices.is_empty() => {
                let device = device.index(model.devices.len());
                let blocks = model.devices[device].len() / 512;
                let block = block.index(blocks + 1);
                Content::File(Some((device, block as u64)), size.index((blocks - block) * 512 + 1) as u64)
            }
            _ => Content::File(None, size.index(10_000) as u64),
        },
    };
    let only_trusted = matches!(what, Content::Symlink(_) | Content::CharDevice(_));
    let (mode, owner, mtime) = (seed.mode, seed.owner, seed.mtime);
    Node { what, mode, owner, mtime, xattrs: xattrs(seed.xattrs, only_trusted) }
}

/// Linux allows `user.` on files and directories only.
fn xattrs(seeds: Vec<(u8, Vec<u8>, Vec<u8>)>, only_trusted: bool) -> Xattrs {
    let mut xattrs = Xattrs::new();
    for (space, name, value) in seeds {
        let space = match space {
            0 if !only_trusted => Namespace::User,
            1 => Namespace::Security,
            _ => Namespace::Trusted,
        };
        if !xattrs.iter().any(|(other, taken, _)| (*other, taken) == (space, &name)) {
            xattrs.push((space, name, value));
        }
    }
    xattrs
}

fn step() -> impl Strategy<Value = Step> {
    let directory = any::<Index>;
    prop_oneof![
        8 => (directory(), name(), node()).prop_map(|(directory, name, node)| Step::Add { directory, name, node }),
        1 => (directory(), name(), 0..80_u16)
            .prop_map(|(directory, prefix, count)| Step::Fill { directory, prefix, count }),
        2 => (directory(), name(), any::<Index>())
            .prop_map(|(directory, name, node)| Step::Link { directory, name, node }),
    ]
}

fn node() -> impl Strategy<Value = NodeSeed> {
    let mtime = (prop_oneof![any::<i64>(), -12_000_000_000..910_000_000_000_i64], 0..1_000_000_000_u32);
    let owner = prop_oneof![Just((0, 0)), (0..u32::MAX, 0..u32::MAX)];
    (seed(), 0..0o10_000_u16, owner, mtime, xattr_seeds())
        .prop_map(|(what, mode, owner, mtime, xattrs)| NodeSeed { what, mode, owner, mtime, xattrs })
}

fn seed() -> impl Strategy<Value = Seed> {
    let place = prop::option::weighted(0.8, any::<(Index, Index)>());
    prop_oneof![
        3 => Just(Seed::Directory),
        4 => (place, any::<Index>()).prop_map(|(place, size)| Seed::File { place, size }),
        2 => prop::collection::vec(1..=255_u8, 1..40).prop_map(Seed::Symlink),
        1 => prop::collection::vec(1..=255_u8, 350..1200).prop_map(Seed::Symlink),
        1 => prop_oneof![Just(0), any::<u32>()].prop_map(Seed::CharDevice),
    ]
}

fn xattr_seeds() -> impl Strategy<Value = Vec<(u8, Vec<u8>, Vec<u8>)>> {
    let name = prop_oneof![
        8 => prop::sample::select(vec!["a", "win32.sd", "DOSATTRIB", "win32.origin"]).prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::collection::vec(1..=255_u8, 1..240),
    ];
    let value = prop_oneof![
        4 => (0..4_u8).prop_map(|n| vec![n; usize::from(n) * 70]),
        2 => prop::collection::vec(any::<u8>(), 0..30),
        1 => prop::collection::vec(any::<u8>(), 400..1500),
    ];
    prop::collection::vec((0..4_u8, name, value), 0..5)
}

/// Valid names, often close to `.`, `..` and each other.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let close = prop::collection::vec(prop::sample::select(b".!-a\xff ".to_vec()), 1..5);
    let any_name = prop::collection::vec(1..=255_u8, 1..30);
    let long = prop::collection::vec(b'a'..=b'c', 230..=255);
    let possible = |name: &Vec<u8>| !name.contains(&b'/') && name != b"." && name != b"..";
    prop_oneof![4 => close, 3 => any_name, 1 => long].prop_filter("a name that Linux has", possible)
}

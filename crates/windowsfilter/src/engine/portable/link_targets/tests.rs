//! The targets of Windows links in a view: each form, and that none leads out.

use super::*;
use crate::engine::portable::chain::testing::{Chain, E};
use proptest::prelude::*;
use wclayer::name;

fn text_of(lines: &[String], path: &str) -> String {
    let start = format!("{path} -> ");
    lines
        .iter()
        .find_map(|line| line.strip_prefix(&start))
        .unwrap_or_else(|| panic!("no {path} in {lines:?}"))
        .to_owned()
}

/// The text that a link `Files/Users/Public/link` with this target gets.
fn text(target: &str) -> String {
    let chain = Chain::new(&[&[
        ("Files/Users/Public/Desktop/x", E::File("x")),
        ("Files/Users/Public/link", E::Symlink(target.as_bytes().to_vec())),
        ("Files/Windows/System32/drivers", E::Dir),
        ("Files/Win", E::Symlink(b"\\??\\c:\\WINDOWS".to_vec())),
        ("Files/Users/up", E::Symlink(b"..\\win".to_vec())),
        ("Files/loop1", E::Symlink(b"loop2".to_vec())),
        ("Files/loop2", E::Symlink(b"loop1".to_vec())),
    ]]);
    text_of(&chain.lines(), "Files/Users/Public/link")
}

#[test]
fn every_form_of_a_path_on_drive_c_leads_to_the_views_root() {
    for target in [
        "C:\\windows\\system32",
        "c:/windows/SYSTEM32",
        "\\??\\C:\\windows\\system32",
        "\\\\?\\C:\\windows\\system32",
        "\\windows\\system32",
        "..\\..\\windows\\.\\system32",
        "\\DosDevices\\C:\\windows\\x\\..\\system32\\",
    ] {
        assert_eq!(text(target), "../../Windows/System32", "{target}");
    }
    assert_eq!(text("C:\\"), "../..");
    assert_eq!(text("\\??\\c:"), "../..");
}

#[test]
fn relative_targets_start_at_the_links_directory() {
    assert_eq!(text("desktop\\X"), "../../Users/Public/Desktop/x");
    assert_eq!(text("."), "../../Users/Public");
}

#[test]
fn a_link_of_wsl_leads_where_it_says_unless_its_root_is_meant() {
    let target = |text: &[u8]| {
        let data = [&[2, 0, 0, 0], text].concat();
        Target::of_reparse(&ReparsePoint::Other { tag: 0xA000_001D, data }.encode().unwrap())
    };
    assert_eq!(target(b"../bin/sh"), Some(Target::parse(b"..\\bin\\sh")));
    assert_eq!(target(b"/usr/bin/sh"), Some(Target::elsewhere(b"/usr/bin/sh")));
    assert_eq!(target(b""), None);
}

#[test]
fn dot_dot_stops_at_the_root() {
    assert_eq!(text("..\\..\\..\\..\\..\\etc\\passwd"), "../../etc/passwd");
    assert_eq!(text("C:\\..\\..\\windows"), "../../Windows");
}

#[test]
fn links_on_the_way_are_followed_for_the_spelling_of_the_rest() {
    assert_eq!(text("C:\\WIN\\SYSTEM32\\DRIVERS"), "../../Win/System32/drivers");
    assert_eq!(text("C:\\users\\UP\\SYSTEM32"), "../../Users/up/System32");
}

#[test]
fn what_is_not_there_and_what_loops_stays_as_written() {
    assert_eq!(text("C:\\windows\\Nothing\\here"), "../../Windows/Nothing/here");
    assert_eq!(text("C:\\LOOP1\\Windows"), "../../loop1/Windows");
}

#[test]
fn targets_outside_drive_c_are_one_name_that_is_nowhere() {
    for (target, name) in [
        ("D:\\data", ".windows-target~D:~data"),
        ("\\??\\D:\\data", ".windows-target~D:~data"),
        ("\\\\server\\share", ".windows-target~~~server~share"),
        ("\\??\\UNC\\server\\share", ".windows-target~UNC~server~share"),
        ("\\??\\Volume{0}\\x", ".windows-target~Volume{0}~x"),
        ("\\Device\\HarddiskVolume1", ".windows-target~~Device~HarddiskVolume1"),
    ] {
        assert_eq!(text(target), name, "{target}");
    }
}

#[test]
fn a_mount_point_is_absolute_and_a_name_of_a_link_never_the_text_of_another() {
    let chain = Chain::new(&[&[
        ("Files/a/b/one", E::Symlink(b"x".to_vec())),
        ("Files/two", E::Same("Files/a/b/one")),
        ("Files/a/mount", E::MountPoint("\\??\\C:\\A\\b")),
    ]]);
    let lines = chain.lines();
    assert_eq!(text_of(&lines, "Files/a/mount"), "../a/b");
    assert_eq!(text_of(&lines, "Files/a/b/one"), "../../a/b/x");
    assert_eq!(text_of(&lines, "Files/two"), "x");
}

#[test]
fn links_of_the_utility_vm_stay_in_its_own_files() {
    let chain = Chain::new(&[&[
        ("UtilityVM/Files/Windows", E::Dir),
        ("UtilityVM/Files/d/link", E::Symlink(b"C:\\WINDOWS".to_vec())),
        ("UtilityVM/loose", E::Symlink(b"..\\..\\..\\etc".to_vec())),
        ("Hives/link", E::Symlink(b"C:\\x".to_vec())),
    ]]);
    let lines = chain.lines();
    assert_eq!(text_of(&lines, "UtilityVM/Files/d/link"), "../Windows");
    assert_eq!(text_of(&lines, "UtilityVM/loose"), ".windows-target~");
    assert_eq!(text_of(&lines, "Hives/link"), ".windows-target~");
}

#[test]
fn a_link_to_the_directory_it_is_in_at_the_root_is_a_dot() {
    let chain = Chain::new(&[&[("Files/here", E::Symlink(b"C:\\".to_vec()))]]);
    assert_eq!(text_of(&chain.lines(), "Files/here"), ".");
}

#[test]
fn a_text_linux_could_not_hold_becomes_a_short_name() {
    let target = ["x".repeat(200).as_bytes(); 30].join(&b'\\');
    let chain = Chain::new(&[&[("Files/d/link", E::Symlink(target))]]);
    let text = text_of(&chain.lines(), "Files/d/link");
    assert!(text.starts_with(".windows-target~xxx") && text.len() == NAME_MAX);
}

/// A tree for the property: nodes are (parent, name, target).
#[derive(Debug)]
struct Random(Vec<(u32, Vec<u8>, Option<Vec<u8>>)>);

impl Names for Random {
    fn child(&self, directory: u32, wanted: &[u8]) -> Option<u32> {
        let same = |(index, node): &(usize, &(u32, Vec<u8>, _))| {
            *index != 0 && node.0 == directory && name::eq(&node.1, wanted)
        };
        self.0.iter().enumerate().find(same).map(|(index, _)| index as u32)
    }
    fn parent(&self, node: u32) -> u32 {
        self.0[node as usize].0
    }
    fn spelling(&self, node: u32) -> &[u8] {
        &self.0[node as usize].1
    }
    fn link(&self, node: u32) -> Option<u32> {
        self.0[node as usize].2.is_some().then_some(node)
    }
    fn target(&self, link: u32) -> Result<Target, Error> {
        Ok(Target::parse(self.0[link as usize].2.as_deref().unwrap()))
    }
}

/// The texts of all links, computed one after the other.
fn texts(tree: &Random, root: u32) -> Vec<Option<Vec<u8>>> {
    let mut links = Links::new(tree);
    let mut text = |node| {
        let link = tree.link(node)?;
        let target = links.target(link).unwrap();
        Some(links.text(root, node, &target))
    };
    (0..tree.0.len() as u32).map(&mut text).collect()
}

/// Follows texts as Linux does; `false` as soon as a path leaves `root`.
fn stays_inside(tree: &Random, texts: &[Option<Vec<u8>>], root: u32, link: u32) -> bool {
    let text_of = |node: u32| texts[node as usize].clone();
    let Some(first) = text_of(link) else { return true };
    let mut at = tree.parent(link);
    let mut todo = vec![first];
    let mut rest: Vec<Vec<u8>> = Vec::new();
    for _ in 0..HOPS_MAX {
        let Some(text) = todo.pop() else { return true };
        if text.is_empty() || text.starts_with(b"/") || text.contains(&0) || text.len() > SYMLINK_MAX {
            return false;
        }
        rest.extend(text.split(|&b| b == b'/').rev().map(<[u8]>::to_vec));
        while let Some(name) = rest.pop() {
            match &name[..] {
                b"" | b"." => {}
                b".." if at == root => return false,
                b".." => at = tree.parent(at),
                // Linux compares bytes.
                name => match tree.child(at, name).filter(|&node| tree.spelling(node) == name) {
                    None => return true,
                    Some(node) => match text_of(node) {
                        Some(text) => {
                            todo.push(text);
                            break;
                        }
                        None => at = node,
                    },
                },
            }
        }
    }
    true
}

/// The text of a link, with every link on the way followed as if for the first time.
fn plain_text(tree: &Random, root: u32, node: u32) -> Option<Vec<u8>> {
    let target = tree.target(tree.link(node)?).unwrap();
    let (Some(depth), Some(path)) = (directories(tree, root, node), absolute(tree, root, node, &target))
    else {
        return Some(target.shown);
    };
    let mut parts = vec![b"..".to_vec(); depth.len()];
    let (mut at, mut hops, mut steps) = (Some(root), HOPS_MAX, STEPS_MAX);
    for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
        let found = at.and_then(|directory| tree.child(directory, name));
        parts.push(found.map_or(name, |found| tree.spelling(found)).to_vec());
        at = found.and_then(|found| plain_follow(tree, root, found, &mut hops, &mut steps));
    }
    let text = parts.join(&b'/');
    Some(if text.is_empty() { b".".to_vec() } else { text })
}

fn plain_follow(tree: &Random, root: u32, mut at: u32, hops: &mut usize, steps: &mut usize) -> Option<u32> {
    let mut rest: Vec<Vec<u8>> = Vec::new();
    loop {
        *steps = steps.checked_sub(1)?;
        if tree.link(at).is_some() {
            *hops = hops.checked_sub(1)?;
            let path = absolute(tree, root, at, &tree.target(at).unwrap())?;
            rest.extend(path.rsplit(|&b| b == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec));
            at = root;
        }
        match rest.pop() {
            None => return Some(at),
            Some(name) => at = tree.child(at, &name)?,
        }
    }
}

/// Links `c0`, `c1` and so on in the view's root, each to the next, and the last to a directory with a `zz`.
fn chained(count: usize) -> Random {
    let mut nodes = vec![(0, Vec::new(), None), (0, b"Files".to_vec(), None)];
    nodes.extend((0..count).map(|n| {
        // Names that `..` takes back are not looked up, so they cost only the reading.
        let target = format!("C:\\{}c{}", "x\\..\\".repeat(n % 3), n + 1);
        (1, format!("c{n}").into_bytes(), Some(target.into_bytes()))
    }));
    let end = nodes.len() as u32;
    nodes.push((1, format!("c{count}").into_bytes(), None));
    nodes.push((end, b"zz".to_vec(), None));
    Random(nodes)
}

#[test]
fn forty_links_on_the_way_are_followed_and_no_more() {
    for backwards in [false, true] {
        let mut tree = chained(100);
        let users: Vec<_> = (0..100)
            .map(|n| (1, format!("u{n}").into_bytes(), Some(format!("C:\\C{n}\\ZZ").into_bytes())))
            .collect();
        let first = tree.0.len();
        match backwards {
            false => tree.0.extend(users),
            true => tree.0.extend(users.into_iter().rev()),
        }
        let texts = texts(&tree, 1);
        for ((_, name, _), text) in tree.0.iter().zip(&texts).skip(first) {
            let n: usize = String::from_utf8_lossy(&name[1..]).parse().unwrap();
            let end = if 100 - n <= HOPS_MAX { "zz" } else { "ZZ" };
            assert_eq!(text.as_deref(), Some(format!("c{n}/{end}").as_bytes()));
        }
    }
}

/// Counts the calls of a tree.
struct Counting<'a>(&'a Random, std::cell::Cell<usize>);

impl Names for Counting<'_> {
    fn child(&self, directory: u32, name: &[u8]) -> Option<u32> {
        self.1.set(self.1.get() + 1);
        self.0.child(directory, name)
    }
    fn parent(&self, node: u32) -> u32 {
        self.0.parent(node)
    }
    fn spelling(&self, node: u32) -> &[u8] {
        self.0.spelling(node)
    }
    fn link(&self, node: u32) -> Option<u32> {
        self.0.link(node)
    }
    fn target(&self, link: u32) -> Result<Target, Error> {
        self.1.set(self.1.get() + 1);
        self.0.target(link)
    }
}

/// Names looked up and targets read for the texts of all links.
fn work(tree: &Random) -> usize {
    let counting = Counting(tree, Default::default());
    let mut links = Links::new(&counting);
    for node in (0..tree.0.len() as u32).filter(|&node| tree.link(node).is_some()) {
        let target = links.target(node).unwrap();
        links.text(1, node, &target);
    }
    counting.1.get()
}

#[test]
fn links_that_lead_through_a_chain_of_links_follow_it_once() {
    for chain in [39, 400] {
        let mut tree = chained(chain);
        let users = |n| (1, format!("u{n}").into_bytes(), Some(b"C:\\c0\\zz".to_vec()));
        tree.0.extend((0..300).map(users));
        // Each link costs its own target and names, and each of its users one name more.
        assert!(work(&tree) <= 3 * chain + 3 * 300, "{}", work(&tree));
    }
}

fn target_strategy() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just("C:".to_owned()),
        Just("\\??\\".to_owned()),
        Just("d:".to_owned()),
        Just("\\\\".to_owned()),
        Just("/".to_owned()),
        Just("\0".to_owned()),
        Just(String::new()),
        "[a-cA-C]",
        "\\PC{0,3}"
    ];
    let slash = prop_oneof![Just("\\"), Just("/"), Just("")];
    prop::collection::vec((part, slash), 0..9).prop_map(|parts| {
        parts.into_iter().map(|(part, slash)| part + slash).collect::<String>().into_bytes()
    })
}

prop_compose! {
    /// Nodes 0 and 1 are the host's root and the view's.
    fn random_tree()(
        nodes in prop::collection::vec((any::<prop::sample::Index>(), "[a-cA-C]{1,2}", prop::option::of(target_strategy())), 1..20)
    ) -> Random {
        let mut tree = Random(vec![(0, Vec::new(), None), (0, b"Files".to_vec(), None)]);
        for (parent, name, target) in nodes {
            let directories: Vec<u32> =
                (1..tree.0.len()).filter(|&n| tree.0[n].2.is_none()).map(|n| n as u32).collect();
            let parent = directories[parent.index(directories.len())];
            if tree.child(parent, name.as_bytes()).is_none() {
                tree.0.push((parent, name.into_bytes(), target));
            }
        }
        tree
    }
}

proptest! {
    #[test]
    fn no_link_text_ever_leads_out_of_the_view(tree in random_tree()) {
        let texts = texts(&tree, 1);
        for node in 2..tree.0.len() as u32 {
            prop_assert!(stays_inside(&tree, &texts, 1, node));
        }
    }

    #[test]
    fn no_link_text_depends_on_the_links_before_it(tree in random_tree()) {
        let texts = texts(&tree, 1);
        for node in 2..tree.0.len() as u32 {
            prop_assert_eq!(&texts[node as usize], &plain_text(&tree, 1, node));
        }
    }
}

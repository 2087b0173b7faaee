//! The merge rules, a test for each.

use crate::engine::Follow;
use crate::engine::portable::chain::testing::{Chain, E};
use crate::engine::portable::long_names::linux_name;
use crate::error::Error;

fn merged(layers: &[&[(&str, E)]]) -> Vec<String> {
    Chain::new(layers).lines()
}

#[test]
fn files_is_there_even_in_an_empty_chain() {
    assert_eq!(merged(&[]), ["Files/ 0"]);
    assert_eq!(
        merged(&[&[("Hives/Sam_Base", E::File("sam"))]]),
        ["Files/ 0", "Hives/ 0", "Hives/Sam_Base = sam"]
    );
}

#[test]
fn an_upper_file_replaces_the_lower_one_in_any_case_and_brings_its_spelling() {
    let lines = merged(&[&[("Files/Readme.TXT", E::File("old"))], &[("Files/README.txt", E::File("new"))]]);
    assert_eq!(lines, ["Files/ 0", "Files/README.txt = new"]);
}

#[test]
fn directories_merge_under_the_first_spelling_and_the_uppers_metadata() {
    let lines = merged(&[
        &[("Files/Windows", E::Dir), ("Files/Windows/a", E::File("a"))],
        &[("Files/WINDOWS", E::Dir), ("Files/WINDOWS/b", E::File("b"))],
    ]);
    assert_eq!(lines, ["Files/ 0", "Files/Windows/ 1", "Files/Windows/a = a", "Files/Windows/b = b"]);
}

#[test]
fn a_directory_without_an_entry_of_its_own_leaves_the_lower_metadata() {
    let lines = merged(&[&[("Files/d", E::Dir)], &[("Files", E::Dir), ("Files/D", E::Implicit)]]);
    assert_eq!(lines, ["Files/ 1", "Files/d/ 0"]);
}

#[test]
fn an_entry_gives_metadata_to_a_directory_that_had_none() {
    assert_eq!(
        merged(&[&[("Files/d/x", E::File("x"))], &[("Files/d", E::Dir)]]),
        ["Files/ 0", "Files/d/ 1", "Files/d/x = x"]
    );
}

#[test]
fn a_whiteout_hides_lower_names_in_any_case() {
    let lines = merged(&[
        &[("Files/A/x", E::File("x")), ("Files/grüße", E::File("y"))],
        &[("Files/a", E::Whiteout), ("Files/GRÜßE", E::Whiteout), ("Files/nothing", E::Whiteout)],
    ]);
    assert_eq!(lines, ["Files/ 0"]);
}

#[test]
fn a_whiteout_hides_nothing_of_its_own_layer_or_above() {
    let lines = merged(&[
        &[("Files/a/x", E::File("x"))],
        &[("Files/z", E::Whiteout), ("Files/A", E::File("mine")), ("Files/a", E::Whiteout)],
        &[("Files/Z", E::File("later"))],
    ]);
    assert_eq!(lines, ["Files/ 0", "Files/A = mine", "Files/Z = later"]);
}

#[test]
fn an_opaque_directory_hides_all_that_is_below_it() {
    let lines = merged(&[
        &[("Files/Data/deep/x", E::File("x")), ("Files/Data/y", E::File("y"))],
        &[("Files/data", E::Opaque), ("Files/data/y2", E::File("y2"))],
    ]);
    assert_eq!(lines, ["Files/ 0", "Files/Data/ 1", "Files/Data/y2 = y2"]);
}

#[test]
fn a_file_replaces_a_directory_and_a_directory_a_file() {
    let lines = merged(&[
        &[("Files/a/x", E::File("x")), ("Files/b", E::File("b"))],
        &[("Files/A", E::File("a")), ("Files/B/y", E::File("y"))],
    ]);
    assert_eq!(lines, ["Files/ 0", "Files/A = a", "Files/B/ 1", "Files/B/y = y"]);
}

#[test]
fn names_of_one_inode_in_a_layer_stay_one_inode() {
    let chain = Chain::new(&[&[("Files/a", E::File("x")), ("Files/d/b", E::Same("Files/a"))]]);
    let view = chain.view();
    let (a, b) = (
        view.lookup(b"a", Follow::OnTheWay).unwrap().unwrap(),
        view.lookup(b"d/b", Follow::OnTheWay).unwrap().unwrap(),
    );
    assert_eq!((a.info.nid, a.info.nlink), (b.info.nid, 2));
}

#[test]
fn hard_links_share_an_inode_across_layers() {
    let chain = Chain::new(&[
        &[("Files/WinSxS/File", E::File("x"))],
        &[("Files/one", E::Link("Files/winsxs/FILE")), ("Files/two", E::Link("Files/ONE"))],
    ]);
    let view = chain.view();
    for path in ["one", "two", "WinSxS/File"] {
        let node = view.lookup(path.as_bytes(), Follow::OnTheWay).unwrap().unwrap();
        assert_eq!(node.info.nlink, 3, "{path}");
        assert_eq!(view.layer_of(&node).unwrap().as_str(), "layer0");
    }
}

#[test]
fn a_hard_link_finds_what_its_own_layer_has_later_only_if_no_parent_has_it() {
    let base: &[(&str, E)] = &[("Files/a", E::File("old"))];
    let top: &[(&str, E)] = &[
        ("Files/link", E::Link("Files/A")),
        ("Files/later", E::Link("Files/n")),
        ("Files/chain", E::Link("Files/LATER")),
        ("Files/A", E::File("new")),
        ("Files/N", E::File("n")),
    ];
    let lines = merged(&[base, top]);
    assert_eq!(
        lines[1..],
        ["Files/A = new", "Files/N = n", "Files/chain = n", "Files/later = n", "Files/link = old"]
    );
    assert_eq!(
        Chain::new(&[base, top]).view().lookup(b"n", Follow::OnTheWay).unwrap().unwrap().info.nlink,
        3
    );
    let lines = merged(&[top]);
    assert_eq!(
        lines[1..],
        ["Files/A = new", "Files/N = n", "Files/chain = n", "Files/later = n", "Files/link = new"]
    );
}

#[test]
fn a_long_chain_of_links_to_later_ones_is_followed_once() {
    let mut chain = Chain::new(&[]);
    let names: Vec<String> = (0..20_000).map(|number| format!("Files/{number:05}")).collect();
    let target = |number: usize| E::Link(Box::leak(names[number + 1].clone().into_boxed_str()));
    let links = (0..19_999).map(|number| (names[number].clone().into_bytes(), target(number)));
    chain.push(&links.chain([(names[19_999].clone().into_bytes(), E::File("x"))]).collect::<Vec<_>>());
    assert_eq!(chain.view().lookup(b"00000", Follow::OnTheWay).unwrap().unwrap().info.nlink, 20_000);
}

#[test]
fn a_directory_that_is_deleted_and_there_again_is_a_new_one_with_its_own_spelling() {
    let lines = merged(&[
        &[("Files/web", E::Dir), ("Files/web/index", E::File("x")), ("Files/web/sub/y", E::File("y"))],
        &[("Files/WEB", E::New), ("Files/WEB/home", E::File("home")), ("Files/WEB/SUB", E::Implicit)],
        &[("Files/web", E::Dir), ("Files/web/more", E::File("more"))],
    ]);
    assert_eq!(
        lines,
        ["Files/ 0", "Files/WEB/ 2", "Files/WEB/SUB/ 1", "Files/WEB/home = home", "Files/WEB/more = more"]
    );
    // The layer that hides a file can still link to it.
    let base: &[(&str, E)] = &[("Files/d/x", E::File("x"))];
    let lines = merged(&[base, &[("Files/D", E::New), ("Files/l", E::Link("Files/d/x"))]]);
    assert_eq!(lines[1..], ["Files/D/ 1", "Files/l = x"]);
    // Over no lower directory, it is like any other.
    assert_eq!(merged(&[&[("Files/D", E::New)], &[("Files/d", E::Dir)]]), ["Files/ 0", "Files/D/ 1"]);
    assert_eq!(merged(&[&[("Files/d", E::File("f"))], &[("Files/D", E::New)]]), ["Files/ 0", "Files/D/ 1"]);
}

#[test]
fn a_hard_link_replaces_what_lower_layers_have_there() {
    let lines = merged(&[
        &[("Files/a", E::File("a")), ("Files/d/x", E::File("x"))],
        &[("Files/D", E::Link("Files/a"))],
    ]);
    assert_eq!(lines, ["Files/ 0", "Files/D = a", "Files/a = a"]);
}

#[test]
fn a_hard_link_keeps_what_its_own_layer_hides() {
    let base: &[(&str, E)] = &[
        ("Files/f", E::File("f")),
        ("Files/d/x", E::File("x")),
        ("Files/o/y", E::File("y")),
        ("Files/r/z", E::File("z")),
    ];
    let top: &[(&str, E)] = &[
        ("Files/F", E::Whiteout),
        ("Files/one", E::Link("Files/f")),
        ("Files/other", E::Link("files/F")),
        ("Files/D", E::Whiteout),
        ("Files/two", E::Link("Files/d/X")),
        ("Files/o", E::Opaque),
        ("Files/o/new", E::File("new")),
        ("Files/three", E::Link("Files/O/y")),
        ("Files/r", E::File("r")),
        ("Files/four", E::Link("Files/r/z")),
    ];
    let shown = [
        "Files/ 0",
        "Files/four = z",
        "Files/o/ 1",
        "Files/o/new = new",
        "Files/one = f",
        "Files/other = f",
        "Files/r = r",
        "Files/three = y",
        "Files/two = x",
    ];
    assert_eq!(merged(&[base, top]), shown);
    let chain = Chain::new(&[base, top]);
    let one = chain.view().lookup(b"one", Follow::OnTheWay).unwrap().unwrap();
    assert_eq!(one.info.nlink, 2);
    // A third layer on top hides entries of both.
    assert_eq!(merged(&[base, top, &[("Files/f", E::File("late"))]])[1], "Files/f = late");
}

#[test]
fn a_hard_link_without_a_file_to_share_names_layer_and_path() {
    for (target, why) in [
        ("Files/none", "neither"),
        ("Files/dir", "directory"),
        ("Files/link", "itself"),
        ("Files/gone", "neither"),
    ] {
        let chain = Chain::new(&[
            &[("Files/dir", E::Dir), ("Files/gone", E::File("x"))],
            &[("Files/gone", E::Whiteout)],
            &[("Files/a", E::File("a")), ("Files/link", E::Link(target))],
        ]);
        let error = chain.image().unwrap_err();
        assert!(
            matches!(&error, Error::Entry { entry, offset: 1024, reason }
            if entry == "Files/link" && reason.contains("layer2") && reason.contains(target) && reason.contains(why)),
            "{error}"
        );
    }
}

#[test]
fn hives_and_utility_vm_merge_like_files() {
    let lines = merged(&[
        &[("Hives/Sam_Base", E::File("1")), ("UtilityVM/Files/EFI/x", E::File("1"))],
        &[("Hives/SAM_BASE", E::File("2")), ("UtilityVM/Files/efi/y", E::File("2"))],
    ]);
    let expected = [
        "Files/ 0",
        "Hives/ 0",
        "Hives/SAM_BASE = 2",
        "UtilityVM/ 0",
        "UtilityVM/Files/ 0",
        "UtilityVM/Files/EFI/ 0",
    ];
    assert_eq!(lines[..6], expected);
    assert_eq!(lines[6..], ["UtilityVM/Files/EFI/x = 1", "UtilityVM/Files/EFI/y = 2"]);
}

#[test]
fn long_names_compare_by_the_name_windows_knows() {
    let (lower, upper) = ("ä".repeat(200).into_bytes(), "Ä".repeat(200).into_bytes());
    let short = |name: &[u8]| format!("Files/{}", String::from_utf8(linux_name(name)).unwrap());
    let (small, capital) = (short(&lower), short(&upper));
    let base = [(&*small, E::Named(lower))];
    let lines = merged(&[&base, &[(&*capital, E::Named(upper))]]);
    assert_eq!(lines, ["Files/ 0".to_owned(), format!("{capital} = named")]);
    assert_eq!(merged(&[&base, &[(&*capital, E::Whiteout)]]), ["Files/ 0"]);
}

#[test]
fn depth_and_many_layers_cost_no_stack() {
    let deep = |n: usize| (0..n).fold(b"Files".to_vec(), |path, _| [&path[..], b"/d"].concat());
    let mut chain = Chain::new(&[]);
    chain.push(&[(deep(3000), E::Dir)]);
    for number in 1..125 {
        chain.push(&[(format!("Files/f{number}").into_bytes(), E::File("x")), (deep(number), E::Dir)]);
    }
    let image = chain.image().unwrap();
    assert_eq!(image.devices().len(), 125);
    assert_eq!(image.inode_count(), 2 + 3000 + 124);
}

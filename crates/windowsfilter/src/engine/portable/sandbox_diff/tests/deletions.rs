//! Deletions in a sandbox, as whiteouts in its layer.

use super::*;

#[test]
fn a_deletion_is_a_whiteout_in_the_parents_spelling_where_its_name_would_stand() {
    let upper = Upper::new();
    upper.folder("windows").whiteout("windows/b.txt").file("windows/a", "").file("windows/c", "");
    let parent = Model::default().folder("Windows").file("Windows/B.TXT");
    let expected =
        ["Hives", "Files", "Files/Windows", "Files/Windows/.wh.B.TXT", "Files/Windows/a", "Files/Windows/c"];
    assert_eq!(upper.names(&parent), expected);
}

#[test]
fn a_whiteout_of_what_the_parent_does_not_have_is_nothing() {
    let upper = Upper::new();
    upper.whiteout("x").folder("new").whiteout("new/y");
    assert_eq!(upper.names(&Model::default()), ["Hives", "Files", "Files/new"]);
}

#[test]
fn an_opaque_directory_deletes_what_it_hides_name_by_name() {
    let upper = Upper::new();
    upper.opaque("d").file("d/KEPT", "").whiteout("d/gone");
    let parent = Model::default().folder("d").file("d/gone").file("d/kept").folder("d/sub").file("d/sub/x");
    assert_eq!(upper.changes(&parent), ["M Files/d", "M Files/d/KEPT", "D Files/d/gone", "D Files/d/sub"]);
    let expected = ["Hives", "Files", "Files/d", "Files/d/KEPT", "Files/d/.wh.gone", "Files/d/.wh.sub"];
    assert_eq!(upper.names(&parent), expected);
}

#[test]
fn directories_in_an_opaque_one_hide_what_the_parent_has_in_them_too() {
    let upper = Upper::new();
    upper.opaque("d").folder("d/sub").file("d/sub/new", "");
    let parent = Model::default().folder("d").folder("d/sub").file("d/sub/old");
    assert_eq!(
        upper.changes(&parent),
        ["M Files/d", "M Files/d/sub", "A Files/d/sub/new", "D Files/d/sub/old"]
    );
}

#[test]
fn a_directory_that_replaces_one_of_another_case_hides_what_was_in_it() {
    let upper = Upper::new();
    upper.whiteout("Docs").folder("docs").file("docs/new", "");
    let parent = Model::default().folder("Docs").file("Docs/old");
    assert_eq!(upper.changes(&parent), ["M Files/docs", "A Files/docs/new", "D Files/docs/old"]);
}

#[test]
fn a_file_that_replaces_a_directory_needs_no_whiteouts() {
    let upper = Upper::new();
    upper.file("d", "now a file");
    let parent = Model::default().folder("d").file("d/x");
    assert_eq!(upper.names(&parent), ["Hives", "Files", "Files/d"]);
}

#[test]
fn an_opaque_root_deletes_everything_else() {
    let upper = Upper::new();
    upper.opaque("").file("mine", "");
    let parent = Model::default().folder("Windows").file("Windows/x").file("mine");
    assert_eq!(upper.changes(&parent), ["D Files/Windows", "M Files/mine"]);
}

#[test]
fn many_names_are_compared_as_few_are() {
    let upper = Upper::new();
    for name in ["a", "B", "new1", "new2", "new3"] {
        upper.file(name, "");
    }
    upper.whiteout("C").whiteout("absent");
    let parent = Model::default().file("a").file("b").file("c").file("d");
    let expected = ["M Files/a", "M Files/b", "D Files/c", "A Files/new1", "A Files/new2", "A Files/new3"];
    assert_eq!(upper.changes(&parent), expected);
}

//! Reads everything in a view.

use std::io::Read;

use windowsfilter::{Follow, Node, NodeKind, View};

/// Most nodes to visit: inputs are small, but a file can have many names.
const MOST_NODES: usize = 5_000;
/// Most bytes to read of a file: a small tar can claim endless holes.
const MOST_BYTES: u64 = 1 << 20;

/// Visits every name, and finds each again by its path.
pub fn read_everything(view: &View) {
    let mut directories = vec![view.root()];
    let mut visited = 0;
    while let Some(directory) = directories.pop() {
        let children = view.list(&directory).expect("a directory of the view");
        for (_, node) in children {
            visited += 1;
            if visited > MOST_NODES {
                return;
            }
            let found = view.lookup(&node.view_path, Follow::OnTheWay).expect("an index that is whole");
            assert_eq!(found.as_ref(), Some(&node));
            read(view, &node);
            if node.is_directory() {
                directories.push(node);
            }
        }
    }
}

fn read(view: &View, node: &Node) {
    let metadata = view.metadata(node).expect("a node of the view");
    // A directory may exist only because it contains something.
    let is_directory = node.is_directory();
    assert!(is_directory || metadata.origin.is_some(), "every file comes from a layer");
    for stream in &metadata.streams {
        let length = measure(view.open_stream(stream).expect("a stream of the view"));
        assert_eq!(length, stream.content.size().min(MOST_BYTES));
    }
    match node.kind() {
        NodeKind::File => {
            let length = measure(view.open_file(node).expect("a file of the view"));
            assert_eq!(length, node.size().min(MOST_BYTES));
        }
        NodeKind::Link => {
            view.link_target(node).expect("a link of the view");
            // It may lead nowhere, or in a circle.
            _ = view.lookup(&node.view_path, Follow::Always);
        }
        _ => {}
    }
}

fn measure(content: impl Read) -> u64 {
    std::io::copy(&mut content.take(MOST_BYTES), &mut std::io::sink()).expect("content in the layers' tars")
}
